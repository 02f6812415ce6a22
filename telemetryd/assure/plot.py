"""A simulation as one SVG: load, what is missing, and who wins and who loses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Any, Final

import numpy as np

from telemetryd.assure.closed_loop import Floats
from telemetryd.assure.outcome import totals
from telemetryd.assure.simulate import LinkCourse, class_sums
from telemetryd.policy.outline import PROTECTED

WIDTH: Final = 860.0
LEFT: Final = 84.0
RIGHT: Final = 16.0
PANEL: Final = 190.0
BAR: Final = 17.0
POINTS: Final = 760
OLD: Final = "#d9772b"
NEW: Final = "#1f6fb4"
INK: Final = "#46525d"
PALE: Final = "#8a949d"
GRID: Final = "#dfe4e8"
LIMIT: Final = "#b3261e"
_UNITS: Final = ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s"))


def draw(course: LinkCourse, figures: dict[str, Any], begin: datetime, step_s: float, names: tuple[str, str]) -> str:
    """Return the SVG of one link.

    Parameters
    ----------
    figures:
        Its row of :func:`telemetryd.assure.outcome.outcome`.
    begin:
        Local time of the first step.
    names:
        What the old and the new side are called.
    """
    sums = totals(course)
    bars = _most(figures["departments"])
    height = 2 * (PANEL + 46) + 40 + BAR * max(len(bars), 1) + 26
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" width="{WIDTH:g}" '
        f'font-family="sans-serif" font-size="11" fill="{INK}" role="img">',
        f'<rect width="{WIDTH:g}" height="{height:g}" fill="#ffffff"/>',
    ]
    old, new = names
    where = f"{course.link} {course.direction}"
    load = [
        ("offered", "#8a949d", sums["offered"]),
        (old, OLD, sums["delivered_old"]),
        (new, NEW, sums["delivered_new"]),
    ]
    parts += _lines(10, f"{where}: offered and delivered", load, course.capacity_bps.astype(np.float64), begin, step_s)
    title, lacks = _missing(course)
    missing = [(old, OLD, lacks[0]), (new, NEW, lacks[1])]
    parts += _lines(PANEL + 56, f"{where}: {title}", missing, None, begin, step_s)
    parts += _bars(2 * (PANEL + 46) + 10, f"{where}: mean gain or loss in contended minutes, {new} against {old}", bars)
    return "\n".join([*parts, "</svg>\n"])


def _missing(course: LinkCourse) -> tuple[str, tuple[Floats, Floats]]:
    """Return what is missing under each side, shape (t,), of all but the least important: that is what a policy moves.

    In total about the same is missing whatever the policy: a full link is full.
    """
    by_side = [class_sums(course, one.wanted - one.delivered) for one in course.courses]
    levels = sorted({level for level, _ in by_side[0] if level != PROTECTED})
    last = levels[-1] if len(levels) > 1 else ""
    nothing = np.zeros(len(course.offered))
    old, new = (
        np.sum([values for (level, _), values in sums.items() if level != last] or [nothing], axis=0)
        for sums in by_side
    )
    return f"missing{f', but for importance {last}' if last else ''}", (old, new)


def _lines(
    top: float,
    title: str,
    series: Sequence[tuple[str, str, Floats]],
    limit: Floats | None,
    begin: datetime,
    step_s: float,
) -> list[str]:
    """Draw a panel of lines over time; of many steps the highest of each point is shown."""
    folded = [(name, colour, _fold(values)) for name, colour, values in series]
    highest = max([float(values.max(initial=0.0)) for _, _, values in folded], default=0.0)
    if limit is not None:
        highest = max(highest, float(limit.max(initial=0.0)))
    step, scale, unit = _grid(highest)
    most = max(math.ceil(highest / step - 1e-9), 1) * step
    width, bottom = WIDTH - LEFT - RIGHT, top + 24 + PANEL - 24

    def points(values: Floats) -> str:
        xs = LEFT + width * np.arange(len(values)) / max(len(values) - 1, 1)
        ys = bottom - (PANEL - 24) * values / most
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))

    parts = [f'<text x="{LEFT:g}" y="{top + 10:g}" font-weight="bold">{escape(title)}</text>']
    for number in range(round(most / step) + 1):
        y = bottom - (PANEL - 24) * number * step / most
        parts.append(f'<line x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        label = f"{number * step / scale:g} {unit}"
        parts.append(f'<text x="{LEFT - 6:g}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    steps = len(series[0][2])
    for place, label in _ticks(begin, steps, step_s):
        x = LEFT + width * place / max(steps - 1, 1)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:g}" y2="{bottom + 4:g}" stroke="{INK}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15:g}" text-anchor="middle">{label}</text>')
    place = LEFT + 330
    for name, colour, values in folded:
        parts.append(f'<polyline points="{points(values)}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
        parts += _legend(place, top, colour, name)
        place += 30 + 6.2 * len(name)
    if limit is not None:
        parts.append(f'<polyline points="{points(_fold(limit))}" fill="none" stroke="{LIMIT}" stroke-dasharray="5 3"/>')
        parts += _legend(place, top, LIMIT, "capacity")
    return parts


def _bars(top: float, title: str, rows: Sequence[tuple[str, float]]) -> list[str]:
    parts = [f'<text x="{LEFT:g}" y="{top + 10:g}" font-weight="bold">{escape(title)}</text>']
    if not rows:
        return [*parts, f'<text x="{LEFT:g}" y="{top + 30:g}">nobody gains or loses</text>']
    most = max(abs(value) for _, value in rows)
    middle, reach = LEFT + (WIDTH - LEFT - RIGHT) / 2, (WIDTH - LEFT - RIGHT) / 2 - 110
    for number, (name, value) in enumerate(rows):
        y, length = top + 20 + BAR * number, reach * abs(value) / most
        x = middle if value >= 0 else middle - length
        colour = NEW if value >= 0 else OLD
        parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{length:.1f}" height="{BAR - 4:g}" fill="{colour}"/>')
        side, anchor = (middle - 6, "end") if value >= 0 else (middle + 6, "start")
        parts.append(f'<text x="{side:.1f}" y="{y + 10:.1f}" text-anchor="{anchor}">{escape(name)}</text>')
        end, anchor = (x + length + 5, "start") if value >= 0 else (x - 5, "end")
        parts.append(f'<text x="{end:.1f}" y="{y + 10:.1f}" text-anchor="{anchor}">{value / 1e6:+,.1f} Mbit/s</text>')
    return parts


def _legend(x: float, top: float, colour: str, name: str) -> list[str]:
    return [
        f'<line x1="{x:.1f}" x2="{x + 14:.1f}" y1="{top + 6:g}" y2="{top + 6:g}" stroke="{colour}" stroke-width="2"/>',
        f'<text x="{x + 18:.1f}" y="{top + 10:g}">{escape(name)}</text>',
    ]


def _most(rows: Sequence[dict[str, Any]], each: int = 8) -> list[tuple[str, float]]:
    """Return the greatest winners and losers; who has less than 0.05 Mbit/s either way is left out."""
    named = [(row["department"] or "(none)", row["gain_bps"]) for row in rows if abs(row["gain_bps"]) >= 5e4]
    return named if len(named) <= 2 * each else [*named[:each], *named[-each:]]


def _fold(values: Floats) -> Floats:
    if len(values) <= POINTS:
        return values
    edges = np.linspace(0, len(values), POINTS, endpoint=False).astype(np.intp)
    return np.asarray(np.maximum.reduceat(values, edges), np.float64)


def _grid(highest: float) -> tuple[float, float, str]:
    """Return the distance of grid lines, and scale and unit of their labels."""
    highest = max(highest, 1.0)
    power = 10.0 ** math.floor(math.log10(highest / 4))
    step = next(power * k for k in (1, 2, 2.5, 5, 10) if highest / (power * k) <= 5)
    scale, unit = next((scale, unit) for scale, unit in _UNITS if highest >= scale)
    return step, scale, unit


def _ticks(begin: datetime, steps: int, step_s: float) -> list[tuple[float, str]]:
    """Return places and labels of up to about ten round times."""
    hours = steps * step_s / 3600
    distance = next((h for h in (0.25, 0.5, 1, 2, 4, 6, 12) if hours / h <= 10), 24 * max(math.ceil(hours / 240), 1))
    midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    first = math.ceil((begin - midnight).total_seconds() / 3600 / distance - 1e-9) * distance
    found: list[tuple[float, str]] = []
    while True:
        at = midnight + timedelta(hours=first)
        place = (at - begin).total_seconds() / step_s
        if place > 0.97 * steps:  # its label would not fit
            return found
        found.append(
            (place, f"{at:%a %d %b}" if distance >= 24 else f"{at:%H:%M}" if hours <= 24 else f"{at:%a %H:%M}")
        )
        first += distance
