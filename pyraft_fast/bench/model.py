"""What is measured, what came out, and how many runs become one figure.

Rates are operations a second, latencies milliseconds, CPU microseconds an operation, memory bytes.
A figure that could not be taken is None, never zero.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Point:
    """One load: which command, by how many clients, how deep, on how much data.

    `rate` 0 means a closed loop: each client sends again when it was answered. Otherwise requests
    are due at that rate, whatever the server does, for `requests / rate` seconds.
    """

    suite: str
    work: str
    clients: int = 50
    pipeline: int = 1
    size: int = 64  # bytes of a value
    keys: int = 100_000  # keys are drawn from that many
    requests: int = 100_000
    rate: int = 0
    via: str = "leader"  # or "follower"
    filled: int = 0  # keys the server was filled with before, one after the other
    share: float = 0.0  # of the highest rate, set where the rate was derived from it


@dataclasses.dataclass
class Figure:
    """What one run of a point on one server gave."""

    server: str
    point: Point
    round: int = 0
    rate: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    cpu_us: dict[str, float] = dataclasses.field(default_factory=dict)  # by process
    wakeups_s: float | None = None
    fsyncs_s: float | None = None
    commands_per_batch: float | None = None
    generator: str = ""  # which program made the load
    generator_cpu: float | None = None  # share of one processor it used
    lag_p99_ms: float | None = None  # how late the generator itself was
    command: str = ""
    error: str = ""

    @property
    def cpu_total_us(self) -> float | None:
        """CPU of all processes of the server, an operation."""
        return sum(self.cpu_us.values()) if self.cpu_us else None


@dataclasses.dataclass
class Fact:
    """One figure that is no load's: memory, a pause, a start."""

    name: str
    server: str
    value: float | None
    unit: str
    how: str  # what was done, for people who want to repeat it
    round: int = 0
    error: str = ""


FIGURES = (
    "rate", "p50_ms", "p99_ms", "p999_ms", "wakeups_s", "fsyncs_s", "commands_per_batch",
    "generator_cpu", "lag_p99_ms",
)  # fmt: skip
GENERATOR_BUSY = 0.9  # of one processor: above it, the load is what was measured


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value at `share` (0 to 1) of sorted values, by nearest rank. Needs at least one."""
    rank = max(1, -(-len(ordered) * round(share * 10_000) // 10_000))  # ceil, without float dust
    return ordered[min(rank, len(ordered)) - 1]


def median_of(values: Iterable[float | None]) -> float | None:
    """Median of what was measured; None when nothing was."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def median_figure(figures: Sequence[Figure]) -> Figure:
    """One figure of several rounds of one point on one server: each column's median.

    The error of a round stays in sight only when no round succeeded.
    """
    good = [figure for figure in figures if not figure.error] or list(figures)
    result = dataclasses.replace(good[-1], cpu_us={})
    for name in FIGURES:
        setattr(result, name, median_of(getattr(figure, name) for figure in good))
    for label in {label for figure in good for label in figure.cpu_us}:
        share = median_of(figure.cpu_us.get(label) for figure in good)
        result.cpu_us[label] = share or 0.0
    return result


class Results:
    """All that was measured, in the order it was."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.facts: list[Fact] = []

    def medians(self, suite: str | None = None) -> list[Figure]:
        """Medians over the rounds, in the order of first measurement."""
        groups: dict[tuple[str, Point], list[Figure]] = defaultdict(list)
        for figure in self.figures:
            if suite is None or figure.point.suite == suite:
                groups[figure.server, _across_rounds(figure.point)].append(figure)
        return [median_figure(group) for group in groups.values()]

    def find(self, suite: str, server: str, **wanted: Any) -> Figure | None:
        """The median of the first point of a suite on a server that has all `wanted` fields."""
        for figure in self.medians(suite):
            point = figure.point
            if figure.server == server and all(
                getattr(point, name) == value for name, value in wanted.items()
            ):
                return figure if not figure.error else None
        return None

    def fact(self, name: str, server: str) -> float | None:
        """The median of a fact over its rounds; None when it was not measured."""
        found = [f for f in self.facts if f.name == name and f.server == server]
        return median_of(fact.value for fact in found)

    def suites(self) -> list[str]:
        """Suites with figures, in order."""
        return list(dict.fromkeys(figure.point.suite for figure in self.figures))

    def to_json(self) -> dict[str, Any]:
        """Plain data of everything, single runs too."""
        return {
            "medians": [_plain(figure) for figure in self.medians()],
            "runs": [_plain(figure) for figure in self.figures],
            "facts": [dataclasses.asdict(fact) for fact in self.facts],
        }


def _across_rounds(point: Point) -> Point:
    """The same load in every round: how many requests and which rate a round may choose."""
    rate = 1 if point.share else point.rate
    return dataclasses.replace(point, rate=rate, requests=0)


def _plain(figure: Figure) -> dict[str, Any]:
    plain = dataclasses.asdict(figure)
    plain["cpu_us_total"] = figure.cpu_total_us
    return plain
