"""Rounds of: write under load, kill -9 one node or all, restart, check.

Every acknowledged write must be there on every node, and their data must be identical. CI runs
10 rounds; `make crash ROUNDS=200` runs the long form with the same code.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.process.cluster import Cluster, Node, eventually, moment

ROUNDS = int(os.environ.get("PYRAFT_FAST_CRASH_ROUNDS", "10"))
SEED = int(os.environ.get("PYRAFT_FAST_CRASH_SEED", "20261123"))
WRITERS = 6
WRITES_BEFORE_KILL = 150


class Load(threading.Thread):
    """One client: sets unique keys, appends to a list and counts, through whichever node answers.

    What was acknowledged must survive. What was not (an error, a broken connection) may or may
    not have happened, so it is only checked for having happened at most once.
    """

    def __init__(self, name: str, nodes: list[Node], dice: random.Random) -> None:
        super().__init__(name=name)
        self.nodes = nodes
        self.dice = dice
        self.ended = threading.Event()
        self.acknowledged: list[str] = []
        self.attempted: set[str] = set()
        self.pushed: list[str] = []
        self.failures = 0

    def run(self) -> None:
        number = 0
        client: redis.Redis | None = None
        while not self.ended.is_set():
            if client is None:
                client = self.dice.choice(self.nodes).client()
            number += 1
            value = f"{self.name}:{number}"
            self.attempted.add(value)
            try:
                if number % 2:
                    client.set(value, value)
                    self.acknowledged.append(value)
                else:
                    client.rpush(f"list:{self.name}", value)
                    self.pushed.append(value)
            except redis.RedisError:
                self.failures += 1
                client.close()
                client = None


def dump(node: Node) -> dict[str, object]:
    """Everything that a node holds, read through the client port with local reads."""
    with node.client() as client:
        held: dict[str, object] = {}
        for key in client.keys("*"):
            kind = client.type(key)
            held[key] = client.get(key) if kind == "string" else client.lrange(key, 0, -1)
        return held


def check_lists(held: dict[str, object], load: Load) -> None:
    pushed = held.get(f"list:{load.name}", [])
    assert isinstance(pushed, list)
    assert len(pushed) == len(set(pushed)), "a write took effect twice"
    assert set(pushed) <= load.attempted
    kept = [value for value in pushed if value in set(load.pushed)]
    assert kept == load.pushed, "an acknowledged push is missing or out of order"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, 3)
    yield made.start("--log-max", "3000")
    made.cleanup()


def one_round(cluster: Cluster, number: int, dice: random.Random) -> tuple[int, int]:
    """Returns how many writes were acknowledged and how many failed."""
    loads = [
        Load(f"{number}-{n}", cluster.nodes, random.Random(dice.random())) for n in range(WRITERS)
    ]
    for load in loads:
        load.start()
    try:
        eventually(
            lambda: sum(len(load.acknowledged) for load in loads) > WRITES_BEFORE_KILL,
            30,
            lambda: f"writes of round {number}\n{cluster.tails()}",
        )
        victims = dice.choice([[dice.choice(cluster.nodes)], list(cluster.nodes)])
        moment(dice)
        for node in victims:
            node.kill()
        for node in victims:
            node.start()
        before = sum(len(load.acknowledged) for load in loads)
        eventually(
            lambda: sum(len(load.acknowledged) for load in loads) > before + 20,
            30,
            lambda: f"writes after the kill of round {number}\n{cluster.tails()}",
        )
    finally:
        for load in loads:
            load.ended.set()
        for load in loads:
            load.join(30)
    check_round(cluster, loads, number)
    return sum(len(load.acknowledged) + len(load.pushed) for load in loads), sum(
        load.failures for load in loads
    )


def check_round(cluster: Cluster, loads: list[Load], number: int) -> None:
    for node in cluster.nodes:
        eventually(lambda n=node: n.answers() and n.client().get("x") is None, 30)
    held = [eventually(lambda n=node: dump(n), 30) for node in cluster.nodes]
    for other in held[1:]:
        assert other == held[0], f"round {number}: the data of two nodes differs"
    for load in loads:
        for key in load.acknowledged:
            assert held[0].get(key) == key, f"round {number}: acknowledged write {key} is lost"
        check_lists(held[0], load)
    with cluster.leader().client() as client:
        client.flushall()


@pytest.mark.timeout(60 + 60 * ROUNDS)
def test_no_acknowledged_write_is_lost(cluster: Cluster) -> None:
    dice = random.Random(SEED)
    written = failed = 0
    for number in range(ROUNDS):
        acknowledged, failures = one_round(cluster, number, dice)
        written += acknowledged
        failed += failures
    print(f"{ROUNDS} rounds, seed {SEED}: {written} writes acknowledged, {failed} not")
    assert written > ROUNDS * WRITES_BEFORE_KILL
