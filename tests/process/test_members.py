"""Flags and addresses of nodes, and members that come, go, move and come back."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from pyraft_fast import raft
from pyraft_fast.node import RaftNode
from tests.process.cluster import Cluster, Node, connect, eventually, free_port

# Flags


@pytest.fixture
def handlers_kept() -> Iterator[None]:
    """parse_default_args sets up logging; leave it as it was."""
    logger = logging.getLogger("pyraft_fast")
    before, level = list(logger.handlers), logger.level
    yield
    for handler in set(logger.handlers) - set(before):
        handler.close()
    logger.handlers[:] = before
    logger.setLevel(level)


@pytest.mark.usefixtures("handlers_kept")
def test_a_program_adds_flags_of_its_own(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=float, default=5.0)
    argv = ["-a", "127.0.0.1:5010", "-e", "b/127.0.0.1:5020,127.0.0.1:5030", "--every", "0.5"]
    args = raft.parse_default_args(parser, [*argv, "-loglevel", "warning", "-o"])
    assert (args.every, args.nid, args.addr) == (0.5, "127.0.0.1:5010", "127.0.0.1:5010")
    assert args.ensemble_map["b"] == "127.0.0.1:5020"
    assert list(args.ensemble_map.values()) == ["127.0.0.1:5020", "127.0.0.1:5030"]
    assert args.overwrite_peer is True
    node = RaftNode(args.nid, args.addr, args.ensemble_map, **raft.settings_of(args))
    assert node.overwrite_peer is True
    assert node.ensemble == args.ensemble_map
    other = raft.make_default_node(
        argparse.ArgumentParser(),
        ["-a", ":5010", "-i", "HOSTNAME", "-logfile", str(tmp_path / "log"), "-loglevel", "error"],
    )
    assert other.nid == socket.gethostname()
    assert other.addr.endswith(":5010")
    assert not other.addr.startswith(":")
    assert other.args.load is None


@pytest.mark.usefixtures("handlers_kept")
@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["-a", "nonsense"],
        ["-a", "127.0.0.1:0"],
        ["-a", "127.0.0.1:5010", "-loglevel", "loud"],
        ["-a", "127.0.0.1:5010", "-e", "a/127.0.0.1"],
        ["-a", "127.0.0.1:5010", "-i", "two words"],
    ],
)
def test_flags_that_cannot_be_used_end_with_status_2(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        raft.parse_default_args(argparse.ArgumentParser(), flags)
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_port_only_and_host_name(nodes: Callable[..., Node]) -> None:
    node = nodes("1")
    node.start("-a", f":{node.port}", "-i", "HOSTNAME")
    own = socket.gethostbyname(socket.gethostname())
    with redis.Redis(host=own, port=node.port, decode_responses=True) as client:
        eventually(lambda: client.set("key", "value"), what=node.text)
        info = client.info("raft")
        assert str(info["raft_node_id"]) == socket.gethostname()
        assert info["raft_leader_addr"] == f"{own}:{node.port}"


def test_bind_and_advertised_address_differ(nodes: Callable[..., Node]) -> None:
    node, other = nodes("1"), nodes("2")
    node.start("--bind", "0.0.0.0")
    with redis.Redis(host="127.0.0.2", port=node.port, decode_responses=True) as client:
        eventually(lambda: client.set("key", "value"), what=node.text)
    assert node.info()["raft_leader_addr"] == node.addr
    other.start("-e", node.addr, "--bind", "0.0.0.0")
    with redis.Redis(host="127.0.0.2", port=other.port, decode_responses=True) as client:
        eventually(lambda: client.get("key") == "value", what=other.text)
    assert members(node) == {"2": other.addr}


# Members

REMOVED = "this node was removed from the cluster"


def members(node: Node) -> dict[str, str]:
    """Addresses of the others, as a node knows them."""
    with node.client() as client:
        known = json.loads(client.execute_command("raft", "info"))
    return {nid: peer["addr"] for nid, peer in known["peers"].items()}


def others_of(cluster: Cluster, node: Node) -> list[Node]:
    return [other for other in cluster.nodes if other is not node]


def moved(cluster: Cluster, node: Node) -> str:
    """Give a stopped node another port; returns its old address."""
    old, node.port = node.addr, free_port()
    return old


def test_a_member_that_restarts_elsewhere_is_known_there(three: Cluster) -> None:
    """With its files it needs no flag: it is the same node."""
    node = three.follower()
    assert node.stop() == 0
    with three.leader().client() as client:
        client.set("key", "while away")
    moved(three, node)
    node.start()
    for other in others_of(three, node):
        eventually(lambda o=other: members(o)[node.nid] == node.addr, what=three.tails)
    with node.client() as client:
        assert eventually(lambda: client.get("key")) == "while away"
        assert client.set("key", "from there")
    three.wait_ready()


def test_a_member_that_lost_its_files_and_moved_is_replaced_with_o_only(three: Cluster) -> None:
    node = three.follower()
    flags = list(node.flags)
    with three.leader().client() as client:
        client.set("key", "value")
    node.kill()
    shutil.rmtree(node.folder)
    node.folder.mkdir()
    old = moved(three, node)
    node.start()
    eventually(
        lambda: f"node id {node.nid} is taken by {old}; start with -o" in node.text(),
        what=three.tails,
    )
    assert set(members(three.leader()).values()) | {three.leader().addr} >= {old}
    node.kill()
    shutil.rmtree(node.folder)
    node.folder.mkdir()
    node.start(*flags, "-o")
    for other in others_of(three, node):
        eventually(lambda o=other: members(o)[node.nid] == node.addr, what=three.tails)
    three.wait_ready()
    with node.client() as client:
        assert client.get("key") == "value"


def test_a_removed_member_says_so_and_can_come_back_as_a_new_one(three: Cluster) -> None:
    node, leader = three.follower(), three.leader()
    with leader.client() as client:
        client.set("key", "value")
        assert client.execute_command("del_node", node.nid)
        eventually(lambda: node.nid not in members(leader), what=three.tails)
        with pytest.raises(redis.ResponseError, match="nobody"):
            client.execute_command("del_node", "nobody")
    eventually(lambda: REMOVED in node.text(), what=three.tails)
    assert node.role() == "removed"
    with node.client() as client:
        with pytest.raises(redis.exceptions.ClusterDownError):
            client.set("key", "through it")
        assert client.ping()
    assert node.stop() == 0
    with leader.client() as client:
        assert client.set("key", "without it")
    node.start()  # the same files: it stays out
    eventually(lambda: node.text().count(REMOVED) == 2, what=three.tails)
    assert node.nid not in members(leader)
    node.cleanup()
    shutil.rmtree(node.folder)
    node.folder.mkdir()
    node.start()
    eventually(lambda: node.nid in members(leader), what=three.tails)
    three.wait_ready()
    with node.client() as client:
        assert client.get("key") == "without it"


def test_the_leader_can_be_removed(three: Cluster) -> None:
    leader = three.leader()
    rest = others_of(three, leader)
    with rest[0].client() as client:
        client.set("key", "value")
        assert client.execute_command("raft", "node", "remove", leader.nid)
        eventually(lambda: leader.nid not in members(rest[1]), what=three.tails)
        eventually(lambda: client.set("key", "after"), what=three.tails)
    with rest[1].client() as client:
        assert client.get("key") == "after"


def test_a_node_that_waits_is_let_in_by_add_node(nodes: Callable[..., Node]) -> None:
    first, waiting = nodes("1").start(), nodes("2")
    eventually(first.answers)
    with first.client() as client:
        client.set("key", "value")
        with pytest.raises(redis.ResponseError, match="does not answer"):
            client.execute_command("add_node", "2", waiting.addr)
        waiting.start("-e", f"127.0.0.1:{free_port()}")  # nobody there
        eventually(waiting.answers, what=waiting.text)
        with pytest.raises(redis.ResponseError, match="is 2, not 3"):
            client.execute_command("add_node", "3", waiting.addr)
        assert client.execute_command("add_node", "2", waiting.addr)
        with pytest.raises(redis.ResponseError, match="member already"):
            client.execute_command("add_node", "2", waiting.addr)
    with connect(waiting.port) as client:
        assert eventually(lambda: client.get("key"), what=waiting.text) == "value"
    eventually(lambda: first.info()["raft_voters"] == "1,2")


def test_add_node_and_del_node_of_the_node_object(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    one = RaftNode("1", f"127.0.0.1:{ports[0]}", folder=str(tmp_path / "1"))
    nowhere = f"127.0.0.1:{free_port()}"
    two = RaftNode("2", f"127.0.0.1:{ports[1]}", {"9": nowhere}, folder=str(tmp_path / "2"))
    try:
        one.start()
        assert one.request("set", "key", "value") is True
        assert one.add_node("2", two.addr) is False, "it does not run yet"
        two.start()
        assert one.add_node("2", two.addr) is True
        eventually(lambda: one.info_facts()["voters"] == ["1", "2"])
        assert two.request("get", "key") == "value"
        assert list(one.peers) == ["2"]
        assert one.del_node("nobody") is False
        assert one.del_node("2") is True
        eventually(lambda: not one.peers)
        assert one.request("set", "key", "alone") is True
        eventually(lambda: two.engine.role == "removed" or two.shutdown_flag)
    finally:
        one.shutdown()
        two.shutdown()
        assert one.join(10)
        assert two.join(10)
