"""Charts: their geometry once, drawn as SVG here and in the PDF by its renderer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Final

from telemetryd.store.report import text
from telemetryd.store.report.page import Chart

COLOURS: Final = ("#1f6fb4", "#d9772b")
LEVEL_COLOURS: Final = ("#b3261e", "#5f6b76")
GRID: Final = "#dfe4e8"
INK: Final = "#5f6b76"
LEFT: Final = 74.0
BOTTOM: Final = 18.0
TOP: Final = 20.0
RIGHT: Final = 8.0

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart in its coordinates: x to the right, y **down** from the top.

    Attributes
    ----------
    lines:
        For each series, its stretches without a gap.
    levels:
        (name, y) of the horizontal lines.
    rows:
        (label, y) of the grid.
    days:
        (label, x) below the axis.
    """

    width: float
    height: float
    lines: list[list[list[Point]]]
    levels: list[tuple[str, float]]
    rows: list[tuple[str, float]]
    days: list[tuple[str, float]]


def draw(chart: Chart, width: float, height: float) -> Drawing:
    """Place a chart into a rectangle."""
    known = [value for _, values in chart.series for value in values if value is not None]
    highest = max([*known, *(level for _, level in chart.levels), 1.0])
    step = _step(highest)
    top = math.ceil(highest / step - 1e-9) * step
    length = max((len(values) for _, values in chart.series), default=1)

    def x(place: float) -> float:
        return round(LEFT + (width - LEFT - RIGHT) * place / max(length - 1, 1), 1)

    def y(value: float) -> float:
        return round(height - BOTTOM - (height - BOTTOM - TOP) * value / top, 1)

    lines = []
    for _, values in chart.series:
        stretches: list[list[Point]] = [[]]
        for place, value in enumerate(values):
            if value is not None:
                stretches[-1].append((x(place), y(value)))
            elif stretches[-1]:
                stretches.append([])
        lines.append([stretch for stretch in stretches if stretch])
    rows = [(text.rate(step * k), y(step * k)) for k in range(round(top / step) + 1)]
    slots = length / chart.days
    days = [(str(day + 1), x(day * slots)) for day in range(chart.days) if day % 5 == 0 and day < 30]
    return Drawing(width, height, lines, [(name, y(level)) for name, level in chart.levels], rows, days)


def _step(highest: float) -> float:
    """Return a round distance of grid lines that gives three to six of them."""
    power = 10.0 ** math.floor(math.log10(highest / 4))
    return next(power * k for k in (1, 2, 2.5, 5, 10) if highest / (power * k) <= 5)


def svg(chart: Chart, width: float = 760.0, height: float = 200.0) -> str:
    """Draw a chart as an SVG element; every text in it is escaped."""
    drawing = draw(chart, width, height)
    right = width - RIGHT
    parts = [
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(chart.title)}" '
        f'xmlns="http://www.w3.org/2000/svg" font-size="10" fill="{INK}">'
    ]
    for label, y in drawing.rows:
        parts.append(f'<line x1="{LEFT:g}" x2="{right:g}" y1="{y:g}" y2="{y:g}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 6:g}" y="{y + 3:g}" text-anchor="end">{escape(label)}</text>')
    for label, x in drawing.days:
        parts.append(f'<text x="{x:g}" y="{height - 4:g}">{escape(label)}</text>')
    for colour, stretches in zip(COLOURS, drawing.lines, strict=False):
        for stretch in stretches:
            points = " ".join(f"{x:g},{y:g}" for x, y in stretch)
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.4" '
                'stroke-linejoin="round" stroke-linecap="round"/>'
            )
    for colour, (_, y) in zip(LEVEL_COLOURS, drawing.levels, strict=False):
        parts.append(
            f'<line x1="{LEFT:g}" x2="{right:g}" y1="{y:g}" y2="{y:g}" stroke="{colour}" stroke-dasharray="5 3"/>'
        )
    place = LEFT
    for colour, name in legend(chart):
        parts.append(f'<line x1="{place:g}" x2="{place + 16:g}" y1="8" y2="8" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{place + 20:g}" y="11.5">{escape(name)}</text>')
        place += 34 + text_width(name)
    return "".join([*parts, "</svg>"])


def legend(chart: Chart) -> list[tuple[str, str]]:
    """Return (colour, name) of everything drawn."""
    return [
        *((colour, name) for colour, (name, _) in zip(COLOURS, chart.series, strict=False)),
        *(
            (colour, f"{name} {text.rate(level)}")
            for colour, (name, level) in zip(LEVEL_COLOURS, chart.levels, strict=False)
        ),
    ]


def text_width(name: str, size: float = 10.0) -> float:
    """Return about how wide a text is: a Chinese character is as wide as the type is high."""
    return sum(size if ord(character) > 0x2E7F else 0.55 * size for character in name)
