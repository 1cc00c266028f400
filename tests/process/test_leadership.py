"""Leaders that end, move or are cut off, and followers that fell far behind."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from pyraft_fast.limits import APPEND_BYTES_MAX, INFLIGHT_BYTES_MAX, KIB, MIB
from tests.process.cluster import Cluster, Node, cluster, eventually
from tests.process.faults import stopped

NO_MAJORITY = ("ClusterDownError:", "TryAgainError:", "UNCERTAIN")


class Writer(threading.Thread):
    """A client that writes one key after another to one node, and remembers what it was told."""

    def __init__(self, node: Node, name: str) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.name = name
        self.acknowledged: list[str] = []
        self.errors: list[str] = []
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        with self.node.client() as client:
            number = 0
            while not self.over.is_set():
                number += 1
                key = f"{self.name}:{number}"
                try:
                    client.set(key, number)
                    self.acknowledged.append(key)
                except redis.RedisError as error:
                    self.errors.append(f"{type(error).__name__}: {error}")


class Load:
    """Several writers on some nodes."""

    def __init__(self, nodes: list[Node], each: int = 3) -> None:
        self.writers = [Writer(node, f"{node.nid}-{n}") for node in nodes for n in range(each)]

    def goes_on(self, count: int, what: Callable[[], str]) -> None:
        """Await `count` more acknowledged writes of every writer."""
        marks = [len(writer.acknowledged) + count for writer in self.writers]
        for writer, mark in zip(self.writers, marks, strict=True):
            eventually(lambda w=writer, m=mark: len(w.acknowledged) >= m, 20, what)

    def stop(self) -> list[str]:
        """End the load; returns every error that a writer met."""
        for writer in self.writers:
            writer.over.set()
        for writer in self.writers:
            writer.join(10)
            assert not writer.is_alive()
        return [error for writer in self.writers for error in writer.errors]

    def missing(self, node: Node) -> list[str]:
        """Acknowledged keys that a node does not have."""
        keys = [key for writer in self.writers for key in writer.acknowledged]
        with node.client() as client:
            held = client.mget(keys)
        wanted = [key.partition(":")[2] for key in keys]
        return [key for key, have, want in zip(keys, held, wanted, strict=True) if have != want]


def both(node: Node, number: int) -> None:
    """Send a signal to both processes of a node."""
    for pid in (node.consensus_pid(), node.pid):
        os.kill(pid, number)


def test_sigterm_of_the_leader_under_load_is_seen_by_nobody(three: Cluster) -> None:
    leader = three.leader()
    others = [node for node in three.nodes if node is not leader]
    load = Load(others)
    load.goes_on(50, three.tails)
    assert leader.stop(signal.SIGTERM, seconds=2) == 0
    load.goes_on(50, three.tails)
    errors = load.stop()
    heir = three.leader()
    assert heir is not leader
    assert errors == []
    for node in others:
        assert load.missing(node) == []
    assert "Traceback" not in leader.text()


def test_kill_9_of_the_leader_under_load_loses_nothing(three: Cluster) -> None:
    leader = three.leader()
    others = [node for node in three.nodes if node is not leader]
    load = Load(others)
    load.goes_on(50, three.tails)
    leader.kill()
    load.goes_on(50, three.tails)
    errors = load.stop()
    assert three.leader() is not leader
    assert errors == []
    for node in others:
        assert load.missing(node) == []
    leader.start()
    eventually(lambda: load.missing(leader) == [], what=three.tails)


def test_transfer_moves_leadership_to_who_is_named(three: Cluster) -> None:
    leader, follower = three.leader(), three.follower()
    load = Load(three.nodes, each=1)
    load.goes_on(20, three.tails)
    with three.nodes[0].client() as client:
        assert client.execute_command("raft", "transfer", follower.nid)
    eventually(lambda: follower.role() == "leader", 5, three.tails)
    assert three.leader() is follower
    load.goes_on(20, three.tails)
    # Any node passes the wish on, and without a name the most up to date gets it
    with leader.client() as client:
        assert client.execute_command("raft", "transfer")
        eventually(lambda: follower.role() == "follower", 5, three.tails)
        eventually(three.leader, 5, three.tails)
        with pytest.raises(redis.ResponseError, match="nobody"):
            client.execute_command("raft", "transfer", "nobody")
    load.goes_on(20, three.tails)
    assert load.stop() == []


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_node_without_a_majority_says_so_in_time_and_recovers(three: Cluster, role: str) -> None:
    alone = three.leader() if role == "leader" else three.follower()
    with alone.client() as client:
        client.set("before", "1")
    others = [node for node in three.nodes if node is not alone]
    for node in others:
        both(node, signal.SIGSTOP)
    answers: dict[str, tuple[float, str]] = {}

    def ask(*words: str) -> None:
        began = time.monotonic()
        with alone.client() as client:
            try:
                said = repr(client.execute_command(*words))
            except (redis.exceptions.ClusterDownError, redis.exceptions.TryAgainError) as error:
                said = f"{type(error).__name__}: {error}"  # redis-py drops their code words
            except redis.RedisError as error:
                said = str(error)
        answers[words[0]] = (time.monotonic() - began, said)

    for _ in range(2 if role == "leader" else 1):  # at once, and when it knows that it is alone
        asked = [("set", "during", "2"), ("get", "before"), ("ping",), ("info", "raft")]
        threads = [threading.Thread(target=ask, args=words) for words in asked]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        for word in ("set", "get"):
            seconds, said = answers[word]
            assert seconds < 5, answers
            assert said.split()[0] in NO_MAJORITY, answers
        assert answers["get"][1].split()[0] != "UNCERTAIN", "a read changes nothing"
        assert answers["ping"][1] in ("True", "'PONG'")
        assert answers["info"][0] < 2
    if role == "leader":
        assert answers["set"][1].startswith("ClusterDownError"), "it was never sent"
    assert alone.role() == "candidate"
    for node in others:
        both(node, signal.SIGCONT)
    with alone.client() as client:
        assert eventually(lambda: client.set("after", "3"), 10, three.tails)
        assert client.get("before") == "1"
    for node in others:
        with node.client() as client:
            assert eventually(lambda c=client: c.get("after") == "3")


def test_a_value_larger_than_the_ring_reaches_every_node(three: Cluster) -> None:
    value = os.urandom(1 << 20) * 20
    wanted = hashlib.sha256(value).hexdigest()
    leader = three.leader()
    terms = {node.info()["raft_term"] for node in three.nodes}
    with three.follower().client(decode_responses=False, socket_timeout=30) as client:
        assert client.set("large", value)
    for node in three.nodes:
        with node.client(decode_responses=False, socket_timeout=30) as client:
            assert hashlib.sha256(client.get("large")).hexdigest() == wanted
    with three.follower().client() as client:
        assert client.set("small", "after it")
    assert three.leader() is leader
    assert {node.info()["raft_term"] for node in three.nodes} == terms


def test_a_stopped_follower_slows_nobody_and_costs_a_bounded_window(three: Cluster) -> None:
    """All that is acknowledged meanwhile is several times what is sent ahead to the stopped one."""
    leader, follower = three.leader(), three.follower()
    count, value = 5 * INFLIGHT_BYTES_MAX // MIB, "v" * MIB

    def peer() -> dict[str, str]:
        lines = [line for name, line in leader.info().items() if name.startswith("raft_peer")]
        found = [dict(pair.split("=", 1) for pair in line.split(",")) for line in lines]
        return next(fields for fields in found if fields["nid"] == follower.nid)

    with stopped(follower.pid, follower.consensus_pid()), leader.client() as client:
        for number in range(count):
            assert client.set(f"key{number % 10}", value)
        eventually(lambda: int(peer()["lag"]) >= count, what=three.tails)
        assert int(peer()["inflight_bytes"]) < INFLIGHT_BYTES_MAX + APPEND_BYTES_MAX + KIB
        assert int(peer()["queued_bytes"]) < INFLIGHT_BYTES_MAX + 2 * APPEND_BYTES_MAX
    eventually(lambda: peer()["lag"] == "0", what=three.tails)
    assert three.leader() is leader


def test_a_follower_that_fell_behind_the_log_gets_a_snapshot(tmp_path: Path) -> None:
    with cluster(tmp_path, 3, "--log-max", "300", "--fsync", "never") as three:
        leader, absent = three.leader(), three.follower()
        with leader.client() as client:
            client.set("first", "1")
            client.rpush("list", "a", "b")
            client.set("expires", "x", ex=1000)
        eventually(
            lambda: absent.info()["raft_applied_index"] == leader.info()["raft_applied_index"]
        )
        behind = int(absent.info()["raft_applied_index"])
        assert absent.stop() == 0
        load = Load(three.running(), each=4)
        load.goes_on(450, three.tails)
        assert load.stop() == []
        with leader.client() as client:
            client.rpush("list", "c")
            wanted = client.dbsize()
        eventually(
            lambda: int(leader.info()["raft_snapshot_index"]) > behind + 1000, what=three.tails
        )
        absent.start()
        eventually(lambda: absent.client().dbsize() == wanted, what=three.tails)
        assert load.missing(absent) == []
        with absent.client() as client:
            assert client.lrange("list", 0, -1) == ["a", "b", "c"]
            assert 0 < client.ttl("expires") <= 1000
        assert "snapshot" in absent.text(), absent.text()
        # What it got is its own now
        assert absent.stop() == 0
        absent.start()
        eventually(lambda: absent.client().dbsize() == wanted, what=three.tails)
        assert load.missing(absent) == []
