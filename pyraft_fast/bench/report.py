"""Figures as text tables and as JSON."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from pyraft_fast.bench.model import GENERATOR_BUSY, Figure, Point, Results
from pyraft_fast.bench.suites import Suite
from pyraft_fast.bench.targets import TARGETS
from pyraft_fast.version import VERSION

REFERENCES = ("redis-always", "redis", "ours-1")  # the first that was measured is 1.00
NAME_WIDTH = 42
MAKERS = {"redis-benchmark": "redis-b.", "generator": "own", "driver": "inside"}
HEAD = (
    f"{'':{NAME_WIDTH}}{'op/s':>10}{'ratio':>7}{'p50 ms':>10}{'p99 ms':>10}{'p99.9':>10}"
    f"{'CPU µs/op':>11}{'wakes/s':>9}{'fsync/s':>9}{'cmd/batch':>10}{'load':>6}  by"
)


def number(value: float | None, width: int = 0, digits: int = 2) -> str:
    """A figure for a column, `-` when it was not measured."""
    text = "-" if value is None else f"{value:,.{digits}f}"
    return f"{text:>{width}}"


def describe(point: Point) -> str:
    """What a point was, in a few words."""
    words = [point.work, f"P={point.pipeline}", f"{point.clients} clients", f"{point.size} B"]
    if point.filled:
        words.append(f"{point.filled:,} keys")
    if point.share:
        words.append(f"at {point.share:.0%} of the highest rate")
    if point.via != "leader":
        words.append(f"to a {point.via}")
    return ", ".join(words)


def machine() -> dict[str, Any]:
    """What the figures belong to. Which build of Python it is makes a tenth of difference."""
    build = f"{platform.python_compiler()}, {os.path.realpath(sys.executable)}"
    return {
        "version": VERSION,
        "python": f"{platform.python_version()} ({build})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": len(os.sched_getaffinity(0)),
    }


def table(suite: Suite, results: Results, titles: dict[str, str]) -> list[str]:
    """The medians of one suite as lines."""
    medians = results.medians(suite.name)
    lines = ["", f"{suite.title} ({suite.name})", HEAD]
    last = ""
    for figure in sorted(medians, key=lambda f: _order(suite, f)):
        what = describe(figure.point)
        if what != last:
            lines.append(f"  {what}")
            last = what
        if figure.error:
            lines.append(f"    {titles[figure.server]:{NAME_WIDTH - 4}} failed: {figure.error}")
        else:
            base = None if figure.point.share else _reference(medians, figure)
            lines.append(_row(titles[figure.server], figure, base))
    return lines


def _order(suite: Suite, figure: Figure) -> int:
    """Points in the suite's order, then servers as they came (sorting is stable)."""
    for place, point in enumerate(suite.points):
        if describe(point) == describe(figure.point):
            return place
    return len(suite.points)


def _reference(medians: Sequence[Figure], figure: Figure) -> float | None:
    """The rate of the reference server at the same point."""
    same = {
        f.server: f.rate for f in medians if describe(f.point) == describe(figure.point)
    }  # fmt: skip
    return next((same[name] for name in REFERENCES if same.get(name)), None)


def _row(title: str, figure: Figure, base: float | None) -> str:
    shared = figure.rate / base if figure.rate and base else None
    busy = "-" if figure.generator_cpu is None else f"{figure.generator_cpu:.0%}"
    if figure.generator_cpu is not None and figure.generator_cpu > GENERATOR_BUSY:
        busy += "*"
    return (
        f"    {title:{NAME_WIDTH - 4}}{number(figure.rate, 10, 0)}{number(shared, 7)}"
        f"{number(figure.p50_ms, 10, 3)}{number(figure.p99_ms, 10, 3)}"
        f"{number(figure.p999_ms, 10, 3)}"
        f"{number(figure.cpu_total_us, 11, 1)}{number(figure.wakeups_s, 9, 0)}"
        f"{number(figure.fsyncs_s, 9, 0)}{number(figure.commands_per_batch, 10, 1)}{busy:>6}"
        f"  {MAKERS.get(figure.generator, figure.generator)}"
    )


def processes(results: Results, titles: dict[str, str]) -> list[str]:
    """CPU µs an operation by process, where a server has several."""
    lines: list[str] = []
    for figure in results.medians("table"):
        if len(figure.cpu_us) > 1:
            shares = (f"{label} {us:.1f}" for label, us in sorted(figure.cpu_us.items()))
            lines.append(
                f"  {titles[figure.server]}, {describe(figure.point)}: {', '.join(shares)}"
            )
    return ["", "CPU µs an operation, by process", *lines] if lines else []


def facts(results: Results, titles: dict[str, str]) -> list[str]:
    """What is not a rate."""
    seen = dict.fromkeys((fact.name, fact.server, fact.unit, fact.how) for fact in results.facts)
    lines = []
    for name, server, unit, how in seen:
        value = results.fact(name, server)
        if unit == "bytes" and value is not None and value > 1 << 20:
            value, unit = value / (1 << 20), "MiB"
        lines.append(f"  {name:32}{titles[server]:28}{number(value, 10)} {unit}   ({how})")
    return ["", "Memory, pauses, starts", *dict.fromkeys(lines)] if lines else []


def targets(results: Results) -> list[str]:
    """The ratios wanted and reached, of those that this run can tell."""
    lines = []
    for target in TARGETS:
        reached = target.reach(results)
        if reached is not None:
            sign = "<=" if target.most else ">="
            lines.append(
                f"  {target.name:66}{number(reached, 9)} {target.unit:3}"
                f" {sign} {target.target:g} / {target.stretch:g}  {target.verdict(reached)}"
            )
    if not lines:
        return []
    head = f"  {'':66}{'reached':>9}      target / stretch"
    return ["", "Targets", head, *lines]


def commands(results: Results, starts: dict[str, list[str]]) -> list[str]:
    """How to repeat what was measured: how servers are started, and each load."""
    lines = ["", "To repeat a figure by hand, start a server:"]
    for title, started in starts.items():
        lines += [f"  {title}:", *(f"    {line}" for line in started)]
    lines += ["and send it a load (the same for all servers but for port, requests and rate):"]
    seen = dict.fromkeys(
        (describe(f.point), f.generator, f.command) for f in results.figures if f.command
    )
    told: set[tuple[str, str]] = set()
    for what, generator, command in seen:
        if (what, generator) not in told:
            told.add((what, generator))
            lines.append(f"  {what}:\n    {command}")
    return lines


def notes(results: Results, extra: Sequence[str]) -> list[str]:
    """What to keep in mind while reading."""
    lines = [
        "ratio: of the rate, to the first of redis appendfsync always, redis, 1 node in the table",
        "wakes/s: voluntary context switches; load: of one processor, used by the load generator",
        "latencies are a closed loop's, in which a pause shows once a client; in suite latency it"
        " counts for every request that was due",
        "by: what made the load: redis-benchmark, our own generator, or the server inside itself",
    ]
    figures = [f for f in results.medians() if (f.generator_cpu or 0) > GENERATOR_BUSY]
    if figures:
        lines.append("*: the load generator was as busy as it can be: the server could do more")
    late = [
        f for f in results.medians() if f.lag_p99_ms and f.p99_ms and f.lag_p99_ms > f.p99_ms / 2
    ]
    lines += [
        f"{f.server}, {describe(f.point)}: the generator itself was late by {f.lag_p99_ms:.2f} ms"
        " (p99), so that the latency is partly its own"
        for f in late
    ]
    lines += extra
    return ["", *(f"- {line}" for line in lines)]


def as_json(
    results: Results, argv: Sequence[str], starts: dict[str, list[str]], extra: Sequence[str]
) -> str:
    """Everything, for programs."""
    reached = [
        {"name": t.name, "unit": t.unit, "target": t.target, "stretch": t.stretch,
         "reached": t.reach(results)}
        for t in TARGETS
    ]  # fmt: skip
    whole = {
        "command": command_line(argv),
        "machine": machine(),
        "servers": starts,
        "targets": reached,
        "notes": list(extra),
        **results.to_json(),
    }
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"


def command_line(argv: Sequence[str]) -> str:
    """The command that makes such a report again."""
    return shlex.join(["pyraft-fast", "bench", *argv])
