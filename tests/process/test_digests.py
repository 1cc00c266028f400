"""The divergence guard on real nodes: handlers that are not deterministic, and ones that are."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.process.cluster import Cluster, Node, eventually

EXIT_DIVERGED = 4
PROGRAM = """
import os
import random
import time

from pyraft_fast import raft


def do_stamp(node, words):
    node.data[words[1]] = time.time_ns()
    return True


def do_pick(node, words):
    node.data.setdefault("picked", []).append(random.random())
    return True


def do_first(node, words):
    return next(iter({f"name{number}" for number in range(100)}))


def do_version(node, words):
    node.data[words[1]] = os.environ["HANDLER_VERSION"]
    return True


def do_sound(node, words):
    drawn = {"now": node.now(), "dice": node.random.random()}
    node.data["sound"] = drawn
    return sorted({f"name{number}" for number in range(10)})


node = raft.make_default_node()
for name in ("stamp", "pick", "first", "version", "sound"):
    node.worker.handler[name] = [globals()["do_" + name], "we", 0, 1]
node.start()
node.join()
raise SystemExit(node.exit_status)
"""

Made = Callable[..., Cluster]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    """Make and start a cluster of three with own handlers."""
    clusters: list[Cluster] = []

    def make(*flags: str, versions: str = "111") -> Cluster:
        path = tmp_path / "my_node.py"
        path.write_text(PROGRAM)
        cluster = Cluster(tmp_path, 3, program=[str(path)])
        clusters.append(cluster)
        for node, version in zip(cluster.nodes, versions, strict=True):
            node.env = {"HANDLER_VERSION": version, "PYTHONHASHSEED": node.nid}
        return cluster.start(*flags)

    yield make
    for cluster in clusters:
        cluster.cleanup()


def press(node: Node, *commands: list[str], most: int = 400) -> int:
    """Send commands one by one, round and round, until the node serves no more; how many."""
    client = node.client()
    for number in range(most):
        try:
            client.execute_command(*commands[number % len(commands)])
        except (redis.RedisError, OSError):
            return number
    return most


def end_of(node: Node) -> str:
    """Await the end of a node; its last words."""
    assert node.process is not None
    assert node.process.wait(20) == EXIT_DIVERGED, node.text()
    return next(line for line in node.text().splitlines() if "this node stops" in line)


@pytest.mark.parametrize("mode", ["sampled", "all"])
@pytest.mark.parametrize("handler", ["stamp", "pick", "first"])
def test_a_handler_that_is_not_deterministic_is_caught(made: Made, mode: str, handler: str) -> None:
    cluster = made("--digests", mode)
    press(cluster.leader(), ["set", "key", "value"], [handler, "key"])
    ended = [node for node in cluster.nodes if node.process and node.process.poll() is not None]
    eventually(lambda: len(cluster.running()) < 2, 20, cluster.tails)
    ended = [node for node in cluster.nodes if node.process and node.process.poll() is not None]
    for node in ended:
        said = end_of(node)
        assert re.search(rf"since entry \d+: handler '{handler}' \(command \d+ of", said), said
        assert "delete them and start the node again" in said


@pytest.mark.parametrize("mode", ["sampled", "all"])
def test_the_one_node_with_another_handler_stops_alone(made: Made, mode: str) -> None:
    cluster = made("--digests", mode, versions="112")
    odd = cluster.nodes[2]
    others = cluster.nodes[:2]
    steady = cluster.nodes[0]
    stop = time.monotonic() + 20
    while odd.process and odd.process.poll() is None and time.monotonic() < stop:
        press(steady, ["sound"], ["version", "key"], most=20)
    said = end_of(odd)
    assert "handler 'version'" in said and "than on nodes 1, 2" in said, said
    assert "those of the majority" in said
    eventually(lambda: press(cluster.leader(), ["sound"], most=20) == 20, 20, cluster.tails)
    assert all(node in cluster.running() for node in others)
    for node in others:
        assert re.search(r"node 3 has other data than this node since entry \d+", node.text())
