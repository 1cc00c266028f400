"""Bugs about joining, addresses and starting that others published, on real nodes.

Every test is named after the report; the docstring tells in our words what went wrong there. Those
about elections and membership are in tests/core/test_published_bugs.py. Nodes that no test changes
are shared, since starting them is what takes time.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import redis

from tests.process.cluster import ROOT, Cluster, Node, connect, eventually, free_port


def peers(node: Node) -> dict[str, str]:
    """Addresses of the others, as a node knows them."""
    with node.client() as client:
        known = json.loads(client.execute_command("raft", "info"))
    return {nid: peer["addr"] for nid, peer in known["peers"].items()}


def voters(node: Node) -> str:
    return node.info()["raft_voters"]


def fails(*words: str, folder: Path) -> str:
    """Start a node that cannot start: it ends by itself, at once, with one line and status 1."""
    ended = subprocess.run(
        [sys.executable, "-m", "pyraft_fast", *words],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert ended.returncode == 1, ended
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("[INFO]")]
    assert len(lines) == 1, ended.stderr
    return lines[0]


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node without any other, which no test changes."""
    node = Node("1", tmp_path_factory.mktemp("lone") / "n1")
    try:
        eventually(node.start().answers, what=node.text)
        yield node
    finally:
        node.cleanup()


@pytest.fixture(scope="module")
def wanderers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes whose addresses change from test to test."""
    cluster = Cluster(tmp_path_factory.mktemp("wanderers"), 3)
    try:
        yield cluster.start()
    finally:
        cluster.cleanup()


# Alone, and growing from there


def test_pysyncobj_77_one_node_serves_alone(lone: Node) -> None:
    """A user started one node of a cluster and its counter stayed 0 without a word, as if nothing
    had been asked. A node that lists nobody is a cluster of one and serves.
    """
    with lone.client() as client:
        assert [client.incr("counter") for _ in range(3)] == [1, 2, 3]
        assert client.get("counter") == "3"
    assert voters(lone) == "1"


def test_pysyncobj_77_a_node_whose_partners_are_away_says_so(nodes: Callable[..., Node]) -> None:
    """And one that lists partners is no cluster by itself: it refuses clearly instead of taking
    writes that go nowhere, and names whom it waits for.
    """
    node, nowhere = nodes("1"), f"127.0.0.1:{free_port()}"
    node.start("-e", f"2/{nowhere}")
    eventually(node.answers, what=node.text)
    with node.client() as client, pytest.raises(redis.exceptions.ResponseError) as caught:
        client.incr("counter")
    assert type(caught.value).__name__ in ("ClusterDownError", "TryAgainError"), caught.value
    eventually(lambda: nowhere in node.text(), what=node.text)
    assert node.role() != "leader"


def test_pysyncobj_51_a_cluster_of_one_goes_on_while_it_grows(nodes: Callable[..., Node]) -> None:
    """Adding a node to a cluster of one got stuck. Here every write is answered meanwhile, and the
    second has them all.
    """
    first, second = nodes("1").start(), nodes("2")
    eventually(first.answers, what=first.text)
    second.start("-e", first.addr)
    with first.client() as client:

        def has_grown() -> bool:
            assert client.incr("counter"), "no write fails while a node joins"
            return voters(first) == "1,2"

        eventually(has_grown, what=second.text)
        count = client.get("counter")
        with second.client() as other:
            assert eventually(lambda: other.get("counter") == count, what=second.text)
            assert other.incr("counter") == int(count) + 1


def test_pysyncobj_50_and_185_a_node_joins_by_being_started_and_knows_one_peer(
    nodes: Callable[..., Node],
) -> None:
    """A node had to be announced by a command before it was launched (50), and had to be given all
    others (185). Here 3 knows only 2, which is not even the leader, and nobody runs a command.
    """
    first, second, third = nodes("1"), nodes("2"), nodes("3")
    eventually(first.start().answers, what=first.text)
    with first.client() as client:
        client.mset({f"key{number}": number for number in range(500)})
    second.start("-e", first.addr)
    eventually(lambda: voters(first) == "1,2", what=second.text)
    third.start("-e", second.addr)
    eventually(lambda: voters(first) == "1,2,3", what=third.text)
    eventually(lambda: peers(third) == {"1": first.addr, "2": second.addr}, what=third.text)
    assert "learner" in third.text(), "it had no vote at first"
    with third.client() as client:
        assert client.get("key499") == "499"
        assert client.set("key", "through it")


def test_pysyncobj_89_a_port_is_bound_before_anybody_is_asked(lone: Node, tmp_path: Path) -> None:
    """The cluster added a node under an address which another program had taken when the node came
    to bind it: a member that could never be, and no majority to remove it.
    """
    port = free_port()
    for taken in (port, port + 1):
        with socket.create_server(("127.0.0.1", taken)):
            line = fails(
                "-i", "2", "-a", f"127.0.0.1:{port}", "-e", lone.addr, "--dir", "d",
                folder=tmp_path,
            )  # fmt: skip
        assert str(taken) in line
    assert peers(lone) == {}
    assert voters(lone) == "1"
    with lone.client() as client:
        assert client.set("key", "value")


# Addresses that change


def test_rqlite_818_a_node_resumes_at_another_address(wanderers: Cluster) -> None:
    """A node that came back with its files under a new address started an election and could not
    join: the cluster went on calling the old one.
    """
    leader, node = wanderers.leader(), wanderers.follower()
    term = leader.info()["raft_term"]
    assert node.stop() == 0
    node.port = free_port()
    node.start()
    eventually(lambda: peers(leader).get(node.nid) == node.addr, what=wanderers.tails)
    with node.client() as client:
        assert eventually(lambda: client.set("key", "from there"), what=wanderers.tails)
    assert leader.info()["raft_term"] == term, "and nobody was disturbed"


def test_rqlite_695_and_1293_all_nodes_restart_at_new_addresses(wanderers: Cluster) -> None:
    """All pods came back under new IPs. The node that had led called addresses which were no more
    (695), or one node of three was never reached again (1293). Who is who is said by the nodes
    themselves; the flags are only hints where to call.
    """
    with wanderers.leader().client() as client:
        client.set("key", "value")
    for node in wanderers.nodes:
        node.kill()
        node.port = free_port()
    for node in wanderers.nodes:
        others = [other.addr for other in wanderers.nodes if other is not node]
        node.start("-e", ",".join(others))
    known = {node.nid: node.addr for node in wanderers.nodes}

    def are_known() -> bool:
        return all({**peers(node), node.nid: node.addr} == known for node in wanderers.nodes)

    eventually(are_known, what=wanderers.tails)
    for node in wanderers.nodes:
        with node.client() as client:
            assert eventually(partial(client.get, "key"), what=wanderers.tails) == "value"
    assert voters(wanderers.leader()) == "1,2,3"


def test_rqlite_991_names_stay_names(nodes: Callable[..., Node]) -> None:
    """What is remembered is the name that was given, not the IP that it had on that day."""
    first, second = nodes("1"), nodes("2")
    first.start("-a", f"localhost:{first.port}")
    eventually(first.answers, what=first.text)
    second.start("-a", f"localhost:{second.port}", "-e", f"localhost:{first.port}")
    eventually(lambda: peers(first) == {"2": f"localhost:{second.port}"}, what=second.text)
    eventually(lambda: peers(second) == {"1": f"localhost:{first.port}"}, what=second.text)


# Starting


def test_patroni_1705_bind_and_advertised_address_are_two(nodes: Callable[..., Node]) -> None:
    """Behind NAT the address that others call cannot be bound: there was no way to say both, and
    the failed bind was not even logged.
    """
    node = nodes("1").start("--bind", "127.0.0.2")
    with connect(node.port, host="127.0.0.2") as client:
        assert eventually(lambda: client.set("key", "value"), what=node.text)
        assert client.info("raft")["raft_leader_addr"] == node.addr
    with pytest.raises(redis.ConnectionError), node.client() as client:
        client.ping()  # the advertised address is somebody else's business


def test_patroni_1705_an_address_that_cannot_be_bound_ends_the_node(tmp_path: Path) -> None:
    """192.0.2.1 is nobody's (RFC 5737)."""
    line = fails("-a", f"192.0.2.1:{free_port()}", "--dir", "d", folder=tmp_path)
    assert "192.0.2.1" in line
    assert "--bind" in line, "it says what to do"


def test_patroni_1759_a_second_instance_ends_at_once(lone: Node, tmp_path: Path) -> None:
    """A second instance on the same port retried the bind in a tight loop at 100 % CPU, without a
    line in the log; and two on the same files could spoil them.
    """
    port = free_port()
    with lone.client() as client:
        client.set("key", "first")
    same_files = ("-i", "1", "-a", f"127.0.0.1:{port}", "--dir", str(lone.folder))
    assert str(lone.folder) in fails(*same_files, folder=tmp_path)
    same_port = ("-i", "1", "-a", lone.addr, "--dir", "other")
    assert str(lone.port) in fails(*same_port, folder=tmp_path)
    with lone.client() as client:
        assert client.get("key") == "first"
        assert client.set("key", "still")
