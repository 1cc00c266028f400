"""The divergence guard on real nodes: handlers that are not deterministic, and ones that are."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.process.cluster import Cluster, Node, eventually
from tests.worker.test_differential import FAMILIES, Dealer

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
    node.data["first"] = next(iter({f"name{number}" for number in range(100)}))
    return True


def do_version(node, words):
    node.data[words[1]] = os.environ["HANDLER_VERSION"]
    return True


def do_sound(node, words):
    drawn = {"now": node.now(), "dice": node.random.random()}
    node.data["sound"] = drawn
    return [node.nid, time.time()]  # an answer may differ; data may not


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


def deal(cluster: Cluster, seed: int, turns: int) -> None:
    """Random commands of every data type, through any node; errors are part of it."""
    dealer = Dealer(seed)
    clients = [node.client(decode_responses=False) for node in cluster.running()]
    for turn in range(turns):
        command = dealer.dice.choice(FAMILIES)(dealer) if turn % 20 else ["sound"]
        client = dealer.dice.choice(clients)
        try:
            client.execute_command(*(str(w).encode("utf-8", "surrogateescape") for w in command))
        except redis.ResponseError as error:
            assert "UNCERTAIN" not in str(error)


def agree(cluster: Cluster) -> None:
    """Await that all voters are known by each to have the same data, up to the very end."""

    def agreed() -> bool:
        found = [node.info() for node in cluster.running()]
        ends = {info["raft_applied_index"] for info in found}
        return len(ends) == 1 and all(i["raft_digests_agreed_by_all"] in ends for i in found)

    eventually(agreed, 30, cluster.tails)


@pytest.mark.parametrize("mode", ["all", "sampled"])
def test_deterministic_handlers_are_never_accused(made: Made, mode: str) -> None:
    """Not across a restart, a lost folder and its snapshot, nor a rolling restart."""
    cluster = made("--digests", mode, "--log-max", "150")
    deal(cluster, 1, 500)
    agree(cluster)
    follower = cluster.follower()
    follower.stop()
    deal(cluster, 2, 200)
    follower.start()
    cluster.wait_ready()
    deal(cluster, 3, 200)
    agree(cluster)
    follower.stop()
    shutil.rmtree(follower.folder)
    follower.folder.mkdir()
    deal(cluster, 4, 300)
    follower.start()
    cluster.wait_ready()
    agree(cluster)
    for number, node in enumerate(cluster.nodes):
        node.stop()
        node.start()
        cluster.wait_ready()
        deal(cluster, 5 + number, 100)
    agree(cluster)
    assert len(cluster.running()) == 3
    for node in cluster.nodes:
        assert not re.search(r"other data|data differ|Traceback", node.text()), cluster.tails()


def test_modes_are_changed_by_a_rolling_restart(made: Made) -> None:
    cluster = made("--digests", "off", "--log-max", "100")
    deal(cluster, 1, 250)
    for mode in ("sampled", "all"):
        for node in cluster.nodes:
            node.stop()
            node.start(*(mode if flag in ("off", "sampled") else flag for flag in node.flags))
            cluster.wait_ready()
            deal(cluster, 2, 60)
        agree(cluster)
    assert len(cluster.running()) == 3
    for node in cluster.nodes:
        assert not re.search(r"other data|data differ|Traceback", node.text()), cluster.tails()


def test_a_wrong_node_stays_down_until_its_files_are_deleted(
    made: Made,
) -> None:
    cluster = made("--digests", "sampled", "--log-max", "10", versions="112")
    odd, steady = cluster.nodes[2], cluster.nodes[0]
    while press(steady, ["version", "key"], most=20) and cluster.running()[-1] is odd:
        continue
    assert "handler 'version'" in end_of(odd)
    odd.env["HANDLER_VERSION"] = "1"  # mended, but the data of its snapshot are still wrong
    odd.start()
    eventually(lambda: odd.process and odd.process.poll() == 1, 20, odd.text)
    assert "was stopped since its data were wrong" in odd.text().splitlines()[-1]
    shutil.rmtree(odd.folder)
    odd.folder.mkdir()
    odd.start()
    cluster.wait_ready()
    press(steady, ["version", "key"], most=40)
    agree(cluster)
