"""The stage for faults: a cluster under load, one round on it, and the verdict.

A fault is a function of the scene that does something to the cluster and heals it again: it returns
when every node runs and sees the others. Whether all was well is judged at the end of the round.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.process.cluster import Cluster, Node, eventually
from tests.process.history import Load, final_reads, longest_silence
from tests.process.linearizability import judge
from tests.process.namespaces import Namespaces
from tests.process.partition import Network
from tests.process.rig import Rig


@dataclass
class Scene:
    """What a fault works on; `stall_seconds` are the shortest and the longest stall."""

    cluster: Cluster
    load: Load
    dice: random.Random
    stall_seconds: tuple[float, float]
    notes: list[str] = field(default_factory=list)  # figures for people

    def progress(self, writes: int = 20, seconds: float = 20.0) -> None:
        """Until that many more writes were acknowledged."""
        goal = self.load.acknowledged + writes
        eventually(
            lambda: self.load.check() and self.load.acknowledged >= goal,
            seconds,
            lambda: f"{writes} more writes\n{self.cluster.tails()}",
        )

    def voters(self, count: int) -> None:
        """Until every node counts so many voters."""
        eventually(
            lambda: all(
                len(node.info()["raft_voters"].split(",")) == count for node in self.cluster.nodes
            ),
            30,
            lambda: f"{count} voters\n{self.cluster.tails()}",
        )

    def writes_a_second(self) -> float:
        """How many writes are acknowledged a second, over the time of a stall."""
        before, began = self.load.acknowledged, time.monotonic()
        self.stall()
        return (self.load.acknowledged - before) / (time.monotonic() - began)

    def stall(self) -> None:
        """The time a stall lasts; clients go on meanwhile."""
        until = time.monotonic() + self.dice.uniform(*self.stall_seconds)
        eventually(lambda: time.monotonic() >= until, 60)

    def leader(self) -> Node:
        return self.cluster.leader(30)

    def follower(self) -> Node:
        leader = self.leader()
        return self.dice.choice([node for node in self.cluster.nodes if node is not leader])

    @property
    def rig(self) -> Rig:
        """The cluster, where it has a network that can be cut."""
        assert isinstance(self.cluster, Rig), "this fault needs a Rig"
        return self.cluster

    @property
    def network(self) -> Network | Namespaces:
        """What lies between the nodes."""
        return self.rig.network


ANSWER_SECONDS_MAX: Final = 4.5  # 4 s are promised; something for a busy machine
PATIENCE_SECONDS: Final = 8.0  # of clients that measure it, and hear what comes late
HASTE_SECONDS: Final = 1.5  # of clients that try elsewhere
SILENCE_SECONDS_MAX: Final = 15.0  # between two writes: a failover that works takes far less

Fault = Callable[[Scene], None]


def by_name(*faults: Fault) -> dict[str, Fault]:
    """Faults by the names of their functions."""
    return {fault.__name__: fault for fault in faults}


@dataclass
class Verdict:
    """What one round found; `wrong` is empty when all is well."""

    wrong: list[str]
    operations: int
    unknown: int
    silence_seconds: float
    slowest_seconds: float
    notes: list[str]

    def row(self, fault: str) -> str:
        """A line of the table at the end of a test run."""
        line = f"{fault:31}{self.operations:11}{self.unknown:9}"
        line += f"{self.silence_seconds:8.2f} s{self.slowest_seconds:8.2f} s"
        return "  ".join([line, *self.notes])


Judged = Callable[[str, Verdict, Cluster], None]  # the fixture: a fault's verdict must be good


def everything(node: Node) -> dict[str, str | None]:
    """All data of a node, each value read there."""
    with node.client() as client:
        return {key: client.get(key) for key in sorted(client.keys("*"))}


def one_round(
    cluster: Cluster,
    name: str,
    faults: Sequence[Fault],
    dice: random.Random,
    stall_seconds: tuple[float, float],
    timely: bool = False,
) -> Verdict:
    """Load, faults one after the other, healing, and the judge's word.

    `timely` also asks that every command was answered in time: no fault may stop a whole node.
    """
    patience = (PATIENCE_SECONDS,) if timely else (HASTE_SECONDS, PATIENCE_SECONDS)
    load = Load(name, cluster.nodes, dice, answer_seconds=patience)
    with load:
        scene = Scene(cluster, load, dice, stall_seconds)
        scene.progress()
        begin = time.monotonic()
        for fault in faults:
            fault(scene)
        scene.progress()
        end = time.monotonic()
    cluster.leader(30)
    for node in cluster.nodes:
        eventually(lambda n=node: n.client().get("x") is None, 30, f"node {node.nid} reads")
        eventually(lambda n=node: len(list(n.folder.glob("*.dat"))) <= 3, 30, "old snapshots gone")
    history = load.operations()
    silence = longest_silence(history, begin, end)
    wrong = judge([*history, *final_reads(cluster.nodes, load.keys)])
    held = [everything(node) for node in cluster.nodes]
    for node, data in zip(cluster.nodes[1:], held[1:], strict=True):
        for key in sorted(held[0].keys() | data.keys()):
            if held[0].get(key) != data.get(key):
                wrong.append(f"key {key} differs on nodes {cluster.nodes[0].nid} and {node.nid}")
    if timely and load.slowest_seconds > ANSWER_SECONDS_MAX:
        wrong.append(f"a command was answered after {load.slowest_seconds:.1f} s only")
    unknown = sum(op.outcome.value == "unknown" for op in history)
    return Verdict(wrong, len(history), unknown, silence, load.slowest_seconds, scene.notes)
