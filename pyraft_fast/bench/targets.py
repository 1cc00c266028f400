"""The ratios this project wants, and how each is computed from what one run measured.

A ratio is always of two servers that were measured in turn in the same suite, medians of rounds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

from pyraft_fast.bench.model import Figure, Results
from pyraft_fast.bench.works import COMMANDS

Reach = Callable[[Results], "float | None"]


@dataclasses.dataclass(frozen=True)
class Target:
    """One line of the table: `target` has to be reached, `stretch` would be fine."""

    name: str
    suites: tuple[str, ...]  # what has to be run for it
    target: float
    stretch: float
    reach: Reach
    unit: str = "x"
    most: bool = False  # whether less is better

    def verdict(self, reached: float) -> str:
        """`stretch`, `yes` or `no`."""
        for word, bound in (("stretch", self.stretch), ("yes", self.target)):
            if reached <= bound if self.most else reached >= bound:
                return word
        return "no"


def ratio(over: float | None, under: float | None) -> float | None:
    """A quotient; None when one of both is not known."""
    return over / under if over is not None and under else None


def _rate(figure: Figure | None) -> float | None:
    return None if figure is None else figure.rate


def _rates(
    suite: str, ours: str, theirs: str, work: str, depth: int, their_work: str = ""
) -> Reach:
    def reach(results: Results) -> float | None:
        one = results.find(suite, ours, work=work, pipeline=depth)
        two = results.find(suite, theirs, work=their_work or work, pipeline=depth)
        return ratio(_rate(one), _rate(two))

    return reach


def _worst_command(depth: int) -> Reach:
    def reach(results: Results) -> float | None:
        found = [_rates("commands", "ours-3", "redis-always", w, depth)(results) for w in COMMANDS]
        known = [value for value in found if value is not None]
        return min(known) if len(known) == len(COMMANDS) else None

    return reach


def _cpu(depth: int) -> Reach:
    def reach(results: Results) -> float | None:
        found = results.find("table", "ours-3", work="SET", pipeline=depth)
        return None if found is None else found.cpu_total_us

    return reach


def _tail(results: Results) -> float | None:
    found = results.find("latency", "ours-3", share=0.5)
    return None if found is None else ratio(found.p99_ms, found.p50_ms)


def _follower(depth: int) -> Reach:
    def find(results: Results, via: str) -> Figure | None:
        return results.find("follower", "ours-3", work="SET", pipeline=depth, via=via)

    def reach(results: Results) -> float | None:
        one, two = find(results, "follower"), find(results, "leader")
        return ratio(_rate(one), _rate(two))

    return reach


def _fact(name: str, server: str) -> Reach:
    return lambda results: results.fact(name, server)


def _memory(results: Results) -> float | None:
    return ratio(results.fact("memory", "ours-1"), results.fact("memory", "redis"))


def _each(
    name: str, suite: str, reach: Callable[[int], Reach], *rows: tuple[int, float, float],
    unit: str = "x", most: bool = False,
) -> list[Target]:  # fmt: skip
    """A target a depth of the pipeline: (depth, target, stretch)."""
    return [
        Target(f"{name}, P={depth}", (suite,), target, stretch, reach(depth), unit, most)
        for depth, target, stretch in rows
    ]


TARGETS: Final[tuple[Target, ...]] = (
    *_each("1 node: SET / redis appendfsync always", "table",
           lambda p: _rates("table", "ours-1", "redis-always", "SET", p),
           (1, 0.9, 1.1), (16, 1.0, 1.5)),
    *_each("3 nodes: SET / redis appendfsync always", "table",
           lambda p: _rates("table", "ours-3", "redis-always", "SET", p),
           (1, 0.6, 1.0), (16, 0.7, 1.0)),
    *_each("3 nodes: linearizable GET / redis", "table",
           lambda p: _rates("table", "ours-3", "redis", "GET", p), (1, 0.6, 0.9), (16, 0.6, 0.9)),
    *_each("3 nodes: linearizable GET / redis appendfsync always", "table",
           lambda p: _rates("table", "ours-3", "redis-always", "GET", p),
           (1, 0.6, 0.9), (16, 0.6, 0.9)),
    *_each("3 nodes: GET by lease / redis", "reads",
           lambda p: _rates("reads", "ours-3-lease", "redis", "GET", p),
           (1, 0.95, 1.05), (16, 0.9, 1.2)),
    *_each("3 nodes: local GET / redis", "reads",
           lambda p: _rates("reads", "ours-3-local", "redis", "GET", p),
           (1, 0.95, 1.05), (16, 0.9, 1.2)),
    *_each("3 nodes: slowest other command / redis appendfsync always", "commands",
           _worst_command, (1, 0.4, 0.7), (16, 0.4, 0.7)),
    *_each("3 nodes: CAS in plain Python / own SET", "custom",
           lambda p: _rates("custom", "cas-3", "cas-3", "CAS", p, "SET"),
           (1, 0.8, 0.95), (16, 0.8, 0.95)),
    *_each("3 nodes: CPU of all processes a SET", "table", _cpu, (1, 40, 25), (16, 6, 4),
           unit="µs", most=True),
    Target("3 nodes: p99 / p50 of SET at half of the highest rate", ("latency",), 4, 2.5, _tail,
           most=True),
    Target("3 nodes: longest pause of the leader in a snapshot under load", ("million",), 50, 10,
           _fact("longest pause, snapshot", "ours-3"), "ms", most=True),
    Target("1 node: memory of all keys / redis", ("million",), 3, 2, _memory, most=True),
    Target("1 node: restart until ready", ("million",), 5, 2, _fact("restart", "ours-1"), "s",
           most=True),
    *_each("3 nodes: SET on a follower / on the leader", "follower", _follower, (16, 0.7, 0.9)),
    Target("1 node: import and start until listening", ("start",), 0.5, 0.25,
           _fact("start", "ours-1"), "s", most=True),
)  # fmt: skip
