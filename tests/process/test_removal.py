"""Members that are removed, come back or move while clients write: told, kept out, let in again."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from tests.process.cluster import Cluster, Node, eventually, free_port
from tests.process.history import Load, final_reads
from tests.process.linearizability import Outcome, judge

REFUSED = "this node was removed from the cluster"
AT_ONCE_SECONDS = 1.0  # of the 4 that a command may wait for a leader


def others_of(cluster: Cluster, node: Node) -> list[Node]:
    return [other for other in cluster.nodes if other is not node]


def empty(node: Node) -> None:
    shutil.rmtree(node.folder)
    node.folder.mkdir()


def voters(node: Node) -> str:
    return node.info()["raft_voters"]


def await_voters(nodes: list[Node], voting: list[Node]) -> None:
    wanted = ",".join(sorted(node.nid for node in voting))
    for node in nodes:
        eventually(lambda n=node: voters(n) == wanted, what=node.text)


def assert_out(node: Node) -> None:
    """It says that it is removed, and everything is refused at once."""
    eventually(lambda: node.role() == "removed", what=node.text)
    assert node.nid not in voters(node).split(",")
    with node.client() as client:
        for words in (["set", "key", "value"], ["get", "key"]):
            begun = time.monotonic()
            with pytest.raises(redis.exceptions.ClusterDownError, match=REFUSED):
                client.execute_command(*words)
            assert time.monotonic() - begun < AT_ONCE_SECONDS
        assert client.execute_command("ROLE")[3] == "removed"
        assert "cluster_my_role:removed" in str(client.execute_command("CLUSTER", "INFO"))
        assert client.ping()


@contextmanager
def judged(cluster: Cluster, nodes: list[Node], name: str) -> Iterator[Load]:
    """Load on these nodes; its history must be linearizable, all nodes' last answers included."""
    with Load(name, nodes, random.Random(name)) as load:
        progress(load, cluster)
        yield load
        progress(load, cluster)
    assert judge([*load.operations(), *final_reads(nodes, load.keys)]) == []


def progress(load: Load, cluster: Cluster) -> None:
    wanted = load.acknowledged + 100
    eventually(lambda: load.check() and load.acknowledged >= wanted, what=cluster.tails)


def test_a_removed_node_is_told_and_answers_at_once(three: Cluster) -> None:
    node = three.follower()
    with judged(three, others_of(three, node), "remove"), three.leader().client() as client:
        assert client.execute_command("raft", "node", "remove", node.nid)
        assert_out(node)
    await_voters(others_of(three, node), others_of(three, node))


def test_a_node_that_was_down_when_it_was_removed(three: Cluster) -> None:
    """It comes back, asks, is told and stays out; emptied, it is a new member of that name."""
    node = three.follower()
    rest = others_of(three, node)
    with judged(three, rest, "down"), three.leader().client() as client:
        node.kill()
        eventually(lambda: client.execute_command("raft", "node", "remove", node.nid))
        await_voters(rest, rest)
        node.start()
        assert_out(node)
        with pytest.raises(redis.ResponseError, match="was removed from its cluster; stop it, em"):
            client.execute_command("add_node", node.nid, node.addr)
        assert node.stop() == 0
        node.start("-e", rest[0].addr, "-o")  # no flag lets the old files in again
        assert_out(node)
        await_voters(rest, rest)
        assert node.stop() == 0
        empty(node)
        node.start("-e", rest[0].addr)
        await_voters(three.nodes, three.nodes)
    with rest[0].client() as client, node.client() as other:
        assert client.set("key", "value")
        assert other.get("key") == "value"


def test_a_leader_that_removes_itself_hands_over_without_a_failed_command(three: Cluster) -> None:
    leader = three.leader()
    rest = others_of(three, leader)
    with judged(three, rest, "leader") as load, leader.client() as client:
        assert client.execute_command("raft", "node", "remove", leader.nid)
        assert_out(leader)
    await_voters(rest, rest)
    assert {op.outcome for op in load.operations()} == {Outcome.OK}


def test_a_node_moves_with_its_files_under_load(three: Cluster) -> None:
    node = three.follower()
    with judged(three, three.nodes, "move"):
        assert node.stop() == 0
        node.port = free_port()
        node.start()
        await_voters(three.nodes, three.nodes)
        for other in others_of(three, node):
            eventually(lambda o=other: f"addr={node.addr}," in str(o.info()), what=three.tails)


def test_a_leader_moves_with_its_files_under_load(three: Cluster) -> None:
    node = three.leader()
    with judged(three, three.nodes, "move-leader"):
        node.kill()
        node.port = free_port()
        node.start()
        for other in others_of(three, node):
            eventually(lambda o=other: f"addr={node.addr}," in str(o.info()), what=three.tails)


def test_a_node_without_its_files_is_replaced_at_a_new_address_under_load(
    three: Cluster, nodes: Callable[..., Node]
) -> None:
    """The old incarnation comes back later, at the old address: it is told that it is out."""
    old = three.follower()
    rest = others_of(three, old)
    with judged(three, rest, "replace"):
        old.kill()
        new = nodes(old.nid).start("-e", rest[0].addr, "-o")
        await_voters([*rest, new], three.nodes)
        for other in rest:
            eventually(lambda o=other: f"addr={new.addr}," in str(o.info()), what=three.tails)
        old.start()
        assert_out(old)
        await_voters([*rest, new], three.nodes)
        assert new.role() != "removed"
    with new.client() as client:
        assert client.set("key", "through the new one")
