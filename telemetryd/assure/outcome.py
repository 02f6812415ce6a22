"""Who wins and who loses: figures of a simulation by importance, department and application."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.assure.closed_loop import Floats
from telemetryd.assure.simulate import LinkCourse, Simulation, class_sums, group_sums, numbered
from telemetryd.policy.outline import PROTECTED

Row = dict[str, Any]

#: Less than this part of what is wanted, and more than this rate, must be missing for a shortfall.
SHORT: Final = 0.01
SHORT_BPS: Final = 10_000.0
WORST_S: Final = 300.0
_SIDES: Final = ("old", "new")


def outcome(simulation: Simulation) -> list[Row]:
    """Return the figures of every link and direction that the new policies rule.

    Each has ``minutes`` (simulated), ``contended_minutes`` (in which anything was missing under either side), and rows
    by importance, class (node below the link), department and application. In a row ``delivered_bps`` are means over
    the contended minutes, by side, and ``gain_bps`` the difference; ``short_minutes`` those in which more than 1 % (and
    10 kbit/s) of what was wanted is missing, ``lost_octets`` what was lost or given up.
    """
    return [_link(simulation, course) for course in simulation.links]


def contended(course: LinkCourse) -> NDArray[np.bool_]:
    """Return the steps in which something was missing under either side, shape (t,)."""
    missing = [one.wanted.sum(axis=1) - one.delivered.sum(axis=1) for one in course.courses]
    wanted = [one.wanted.sum(axis=1) for one in course.courses]
    short = [(lack > SHORT_BPS) & (lack > SHORT / 100 * want) for lack, want in zip(missing, wanted, strict=True)]
    return np.asarray(short[0] | short[1])


def totals(course: LinkCourse) -> dict[str, Floats]:
    """Return offered, and delivered and missing by side, of the whole link, shape (t,) each."""
    found = {"offered": course.offered.sum(axis=1)}
    for side, one in zip(_SIDES, course.courses, strict=True):
        found[f"delivered_{side}"] = one.delivered.sum(axis=1)
        found[f"missing_{side}"] = one.wanted.sum(axis=1) - found[f"delivered_{side}"]
    return found


def worst_steps(course: LinkCourse, step_s: float, side: int) -> slice:
    """Return the five minutes in which most is missing under a side; one step where steps are longer."""
    missing = course.courses[side].wanted.sum(axis=1) - course.courses[side].delivered.sum(axis=1)
    width = min(max(round(WORST_S / step_s), 1), len(missing))
    sums = np.convolve(missing, np.ones(width), "valid")
    first = int(np.argmax(sums))
    return slice(first, first + width)


def _link(simulation: Simulation, course: LinkCourse) -> Row:
    offered = simulation.offered
    minutes = offered.step_s / 60
    crowded = contended(course)
    keys = [offered.keys[column] for column in course.columns]
    both = course.courses
    figures: Row = {
        "link": course.link,
        "direction": course.direction,
        "minutes": len(crowded) * minutes,
        "contended_minutes": int(crowded.sum()) * minutes,
        "recorded_full_minutes": int(course.recorded_full.sum()) * minutes,
        "capacity_bps": int(course.capacity_bps.max(initial=0)),
        "least_capacity_bps": int(course.capacity_bps.min(initial=2**62)) if len(crowded) else 0,
        "peak_offered_bps": float(course.offered.sum(axis=1).max(initial=0.0)),
    }

    def rows(names: Sequence[Row], codes: NDArray[np.intp]) -> list[Row]:
        count = len(names)
        wanted, delivered = (
            [group_sums(getattr(one, what), codes, count) for one in both] for what in ("wanted", "delivered")
        )
        lost = [np.bincount(codes, one.lost_bits, count) for one in both]
        offer = group_sums(course.offered, codes, count)
        return [
            {**name, **_figures(offer[:, n], [w[:, n] for w in wanted], [d[:, n] for d in delivered], crowded, minutes)}
            | {"lost_octets": {side: float(bits[n]) / 8 for side, bits in zip(_SIDES, lost, strict=True)}}
            for n, name in enumerate(names)
        ]

    departments, by_department = numbered(key.department for key in keys)
    applications, by_application = numbered((key.department, key.application) for key in keys)
    figures["importance"] = list(_classes(course, crowded, minutes, by_class=False))
    figures["classes"] = list(_classes(course, crowded, minutes, by_class=True))
    figures["departments"] = _ranked(rows([{"department": name} for name in departments], by_department))
    figures["applications"] = _ranked(
        rows([{"department": one, "application": other} for one, other in applications], by_application)
    )
    figures["total"] = rows([{}], np.zeros(len(keys), np.intp))[0]
    figures["broken_guarantees"] = {
        side: [
            {"node": list(names), "minutes": steps * minutes}
            for names, steps in sorted(division.broken.items(), key=lambda one: (-one[1], one[0]))
        ]
        for side, division in zip(_SIDES, course.sides, strict=True)
    }
    figures["worst"] = {side: _worst(simulation, course, number) for number, side in enumerate(_SIDES)}
    return figures


def _classes(course: LinkCourse, crowded: NDArray[np.bool_], minutes: float, *, by_class: bool) -> Iterator[Row]:
    """Yield the rows by importance, or by importance and class, the most important first."""

    def sums(values: Floats) -> dict[tuple[str, ...], Floats]:
        found: dict[tuple[str, ...], Floats] = {}
        for name, series in class_sums(course, values).items():
            key = name if by_class else name[:1]
            found[key] = found[key] + series if key in found else series
        return found

    offer = sums(course.offered)
    wanted, delivered = ([sums(getattr(one, what)) for one in course.courses] for what in ("wanted", "delivered"))
    for name in sorted(offer, key=lambda name: ("0" if name[0] == PROTECTED else name[0], *name[1:])):
        named = dict(zip(("importance", "class"), name, strict=False))
        yield named | _figures(
            offer[name], [one[name] for one in wanted], [one[name] for one in delivered], crowded, minutes
        )


def _figures(
    offer: Floats, wanted: list[Floats], delivered: list[Floats], crowded: NDArray[np.bool_], minutes: float
) -> Row:
    """Return the figures of one row; each of shape (t,)."""
    any_crowded = bool(crowded.any())
    means = [float(one[crowded].mean()) if any_crowded else 0.0 for one in delivered]
    short = [
        int((((want - got) > SHORT * want) & (want - got > SHORT_BPS)).sum()) * minutes
        for want, got in zip(wanted, delivered, strict=True)
    ]
    return {
        "offered_bps": float(offer[crowded].mean()) if any_crowded else 0.0,
        "delivered_bps": dict(zip(_SIDES, means, strict=True)),
        "gain_bps": means[1] - means[0],
        "short_minutes": dict(zip(_SIDES, short, strict=True)),
        "mean_bps": {side: float(one.mean()) for side, one in zip(_SIDES, delivered, strict=True)},
    }


def _ranked(rows: list[Row]) -> list[Row]:
    """Return rows with the greatest winners first and the greatest losers last."""
    return sorted(
        rows, key=lambda row: (-row["gain_bps"], *(str(row.get(name)) for name in ("department", "application")))
    )


def _worst(simulation: Simulation, course: LinkCourse, side: int) -> Row:
    """Return the worst five minutes of a side: when, what was missing, whose, and the same under the other."""
    offered = simulation.offered
    steps = worst_steps(course, offered.step_s, side)
    wanted = [one.wanted[steps].mean(axis=0) for one in course.courses]
    delivered = [one.delivered[steps].mean(axis=0) for one in course.courses]
    missing = [float((want - got).sum()) for want, got in zip(wanted, delivered, strict=True)]
    leaves = []
    for place in np.argsort(-(wanted[side] - delivered[side]), kind="stable").tolist():
        key = offered.keys[course.columns[place]]
        leaves.append(
            {
                "department": key.department,
                "application": key.application,
                "wanted_bps": {name: float(want[place]) for name, want in zip(_SIDES, wanted, strict=True)},
                "delivered_bps": {name: float(got[place]) for name, got in zip(_SIDES, delivered, strict=True)},
            }
        )
    return {
        "from_ns": int(offered.times_ns[steps.start]),
        "seconds": (steps.stop - steps.start) * offered.step_s,
        "missing_bps": dict(zip(_SIDES, missing, strict=True)),
        "leaves": leaves,
    }
