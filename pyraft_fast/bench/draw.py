"""Curves as SVG, in one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Sequence

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 76, 20, 20, 52
LEGEND_ROW, LEGEND_COLUMNS = 20, 2
COLORS = ("#2f6fde", "#d9622b", "#2a9d5c", "#9a4fd0", "#c7a008", "#d1427f", "#4aa3b5", "#7a7a7a")
DASHES = ("", "7 4", "2 3")
TICKS_MIN, TICKS_MAX = 3, 8
STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --soft: #5c6675; --line: #d9dee6; --page: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebf0; --soft: #9aa5b5; --line: #353d4a; --page: #14181f }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 76em; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.1em; margin: 2em 0 .3em }
p, figcaption { color: var(--soft); margin: .2em 0 .6em }
figure { margin: 0 } figcaption code { font-size: .85em; overflow-wrap: anywhere }
pre { font: 12px/1.5 ui-monospace, monospace; overflow-x: auto; border-top: 1px solid var(--line);
  padding: 1em 0 }
svg { width: 100%; max-width: 60em; height: auto; font: 12px system-ui, sans-serif }
.grid { stroke: var(--line); stroke-width: 1 } .axis { stroke: var(--soft); stroke-width: 1 }
svg text { fill: var(--soft) } svg .name { fill: var(--ink) }
"""


@dataclasses.dataclass
class Chart:
    """Several lines over one axis; logarithmic where the range wants it."""

    title: str
    caption: str  # what was measured, in words
    command: str  # and the command that measures it
    x_label: str
    y_label: str
    series: dict[str, list[tuple[float, float]]]
    y_log: bool = False
    x_ticks: Sequence[float] | None = None  # where the values are few and known
    x_bytes: bool = False
    kinds: int = 1  # lines of one colour that follow each other, told apart by their dashes


class Axis:
    """Values to places between two ends of the picture."""

    def __init__(self, low: float, high: float, begin: float, end: float, log: bool) -> None:
        self.log = log and low > 0
        if self.log:
            low, high = low / 1.05, high * 1.05
        else:
            low, high = min(0.0, low), high * 1.05 or 1.0
        self.low, self.high, self.begin, self.end = low, high, begin, end

    def place(self, value: float) -> float:
        """Where a value is drawn."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Round values within the axis."""
        found = log_ticks(self.low, self.high) if self.log else []
        return found if len(found) >= TICKS_MIN else even_ticks(self.low, self.high)


def even_ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, TICKS_MAX at most."""
    span = high - low
    step = 10.0 ** math.floor(math.log10(span)) / 10 if span > 0 else 1.0
    while not span / step <= TICKS_MAX:
        lead = round(step / 10.0 ** math.floor(math.log10(step) + 1e-9))
        step *= 2.5 if lead == 2 else 2
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 times them where that is not too many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for leads in ((1, 2, 5), (1, 3), (1,)):
        found = [lead * 10.0**d for d in decades for lead in leads]
        found = [value for value in found if low <= value <= high]
        if len(found) <= TICKS_MAX:
            break
    return found


def label_of(value: float, as_bytes: bool = False) -> str:
    """A tick's text: 20k, 1.5M, 0.05; or 4 KiB."""
    steps = ((1 << 20, " MiB"), (1 << 10, " KiB")) if as_bytes else ((1e6, "M"), (1e3, "k"))
    for size, letter in steps:
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}" + (" B" if as_bytes else "")


def svg(chart: Chart) -> str:
    """One picture. Points whose value is unknown have to be left out by the caller."""
    points = [point for line in chart.series.values() for point in line]
    if not points:
        return ""
    rows = -(-len(chart.series) // LEGEND_COLUMNS)
    height = HEIGHT + rows * LEGEND_ROW
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_log = min(xs) > 0 and max(xs) / min(xs) > 20
    x_axis = Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT, x_log)
    y_axis = Axis(min(ys), max(ys), HEIGHT - BOTTOM, TOP, chart.y_log)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{html.escape(chart.title)}</title>",
        *_grid(chart, x_axis, y_axis),
    ]
    for place, (name, line) in enumerate(chart.series.items()):
        color = COLORS[place // chart.kinds % len(COLORS)]
        dash = DASHES[
            place % chart.kinds if chart.kinds > 1 else place // len(COLORS) % len(DASHES)
        ]
        parts += _line(line, x_axis, y_axis, color, dash)
        parts += _legend(place, name, color, dash)
    parts.append("</svg>")
    return "\n".join(parts)


def _grid(chart: Chart, x_axis: Axis, y_axis: Axis) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in y_axis.ticks():
        y = y_axis.place(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{label_of(value)}</text>'
        )
    for value in chart.x_ticks or x_axis.ticks():
        x = x_axis.place(value)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">'
            f"{label_of(value, chart.x_bytes)}</text>"
        )
    middle = (LEFT + right) / 2
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}" fill="none"/>')
    parts.append(
        f'<text class="name" x="{middle}" y="{bottom + 40}" text-anchor="middle">'
        f"{html.escape(chart.x_label)}</text>"
    )
    y = (TOP + bottom) / 2
    parts.append(
        f'<text class="name" x="16" y="{y}" text-anchor="middle" transform="rotate(-90 16 {y})">'
        f"{html.escape(chart.y_label)}</text>"
    )
    return parts


def _look(color: str, dash: str) -> str:
    return f'stroke="{color}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _line(
    line: list[tuple[float, float]], x_axis: Axis, y_axis: Axis, color: str, dash: str
) -> list[str]:
    spots = [(x_axis.place(x), y_axis.place(y), x, y) for x, y in sorted(line)]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y, *_ in spots)
    parts = [f'<path d="M{path}" fill="none" stroke-width="2" {_look(color, dash)}/>']
    parts += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}">'
        f"<title>{label_of(at)}: {value:,.3f}</title></circle>"
        for x, y, at, value in spots
    ]
    return parts


def _legend(place: int, name: str, color: str, dash: str) -> list[str]:
    x = LEFT + (place % LEGEND_COLUMNS) * (WIDTH - LEFT - RIGHT) / LEGEND_COLUMNS
    y = HEIGHT + (place // LEGEND_COLUMNS) * LEGEND_ROW + 4
    return [
        f'<path d="M{x} {y}h22" stroke-width="3" {_look(color, dash)}/>',
        f'<text class="name" x="{x + 30}" y="{y + 4}">{html.escape(name)}</text>',
    ]


def page(title: str, about: str, charts: Sequence[Chart], text: str) -> str:
    """The whole report: charts, then the tables as they were printed."""
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1><p>{html.escape(about)}</p>",
    ]
    for chart in charts:
        picture = svg(chart)
        if picture:
            parts.append(
                f"<h2>{html.escape(chart.title)}</h2><figure>{picture}<figcaption>"
                f"{html.escape(chart.caption)}<br/><code>{html.escape(chart.command)}</code>"
                "</figcaption></figure>"
            )
    parts.append(f"<h2>Tables</h2><pre>{html.escape(text)}</pre></body></html>\n")
    return "\n".join(parts)
