"""Which curves are drawn of which suite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pyraft_fast.bench.draw import Chart
from pyraft_fast.bench.model import Figure, Results
from pyraft_fast.bench.report import command_line
from pyraft_fast.bench.suites import Suite

LABELS: Final = {
    "clients": "clients",
    "pipeline": "commands in a pipeline",
    "size": "bytes of a value",
    "filled": "keys held",
    "nodes": "nodes",
}
FIXED_TICKS: Final = {"clients", "pipeline", "size", "nodes"}


def charts_of(
    suite: Suite, results: Results, titles: dict[str, str], argv: Sequence[str]
) -> list[Chart]:
    """The curves of one suite; none for a suite that is a table."""
    figures = [f for f in results.medians(suite.name) if not f.error]
    command = _command(suite, argv)
    if not figures or not suite.axis:
        return []
    if suite.axis == "rate":
        return [_latency(suite, figures, titles, command)]
    charts = [_scaling(suite, figures, titles, command, "rate")]
    if suite.axis in {"clients", "pipeline"}:
        charts.append(_scaling(suite, figures, titles, command, "p99_ms"))
    return charts


def _command(suite: Suite, argv: Sequence[str]) -> str:
    """The command that measures this suite alone."""
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word in {"--only", "--json", "--html"}:
            next(words, None)
        elif not word.startswith(("--only=", "--json=", "--html=")):
            rest.append(word)
    return command_line(["--only", suite.name, *rest])


def _latency(suite: Suite, figures: list[Figure], titles: dict[str, str], command: str) -> Chart:
    series: dict[str, list[tuple[float, float]]] = {}
    for figure in figures:
        for name, value in (("p50", figure.p50_ms), ("p99", figure.p99_ms)):
            if figure.rate and value:
                line = series.setdefault(f"{titles[figure.server]}: {name}", [])
                line.append((figure.rate, value))
    point = suite.points[0]
    caption = (
        f"{point.clients} clients, {point.size}-byte values; each request is due at its time, and"
        " its latency counts from then. Shares of each server's own highest rate."
    )
    labels = ("SETs a second", "latency, ms")
    return Chart(suite.title, caption, command, *labels, series, y_log=True, kinds=2)


def _scaling(
    suite: Suite, figures: list[Figure], titles: dict[str, str], command: str, column: str
) -> Chart:
    series: dict[str, list[tuple[float, float]]] = {}
    works = {f.point.work for f in figures}
    depths = {f.point.pipeline for f in figures} if suite.axis != "pipeline" else set()
    for figure in figures:
        point = figure.point
        value = getattr(figure, column)
        if not value:
            continue
        words = [] if suite.axis == "nodes" else [titles[figure.server]]
        words += [point.work] if len(works) > 1 else []
        words += [f"P={point.pipeline}"] if len(depths) > 1 else []
        at = _nodes(figure) if suite.axis == "nodes" else getattr(point, suite.axis)
        series.setdefault(", ".join(words), []).append((float(at), value))
    point = suite.points[0]
    fixed = [] if suite.axis == "clients" else [f"{point.clients} clients"]
    fixed += [f"pipelines of {min(depths)}"] if len(depths) == 1 else []
    fixed += [] if suite.axis == "size" else [f"{point.size}-byte values"]
    ticks = sorted({x for line in series.values() for x, _ in line})
    return Chart(
        suite.title + (": p99" if column == "p99_ms" else ""),
        ", ".join(fixed) + "; closed loop",
        command,
        LABELS[suite.axis],
        "p99 latency, ms" if column == "p99_ms" else "commands a second",
        series,
        y_log=column == "p99_ms" or suite.axis in {"size", "pipeline"},
        x_ticks=ticks if suite.axis in FIXED_TICKS and len(ticks) <= 10 else None,
        x_bytes=suite.axis == "size",
    )


def _nodes(figure: Figure) -> int:
    return int(figure.server.split("-")[1])
