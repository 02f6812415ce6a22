"""Keep what is applied from following every twitch: dead band, hysteresis, hold, cool-down, largest step.

What is damped is the demand, never the allocation. The allocator is a pure function, so that each applied division is
still one that it gives, with everything that always holds of it: guarantees, ceilings, the capacity. Damped allocations
would have to be made to fit again. Nor does it delay what policies say: a guarantee, a schedule or the end of an
override reaches the allocator directly. And a burst does not wait, since devices lend what others leave at once.

For each class, x is applied and y is the estimate:

    dead band     y within ``dead_band`` of x changes nothing
    hysteresis    a class that began to move goes on until it is within ``release x dead_band``
    hold          a class changes at most once in ``hold_s``
    cool-down     it does not fall within ``cool_down_s`` of its last rise; to rise is urgent, to fall is not
    largest step  it rises by ``most_rise`` of what it has at most, and falls by ``most_fall``
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NS: Final = 1_000_000_000
_LONG_AGO: Final = -(2**62)


@dataclass(frozen=True, slots=True)
class StabilitySettings:
    """How demands are damped; docs/demand.md has the ranges that were tried, and that nothing oscillated in them.

    Attributes
    ----------
    dead_band:
        Part of what a class has that a change must exceed to begin, 0 to 0.2.
    release:
        Part of the dead band within which a change ends, 0 to 1.
    hold_s:
        Least time between two changes of a class, 0 to 3600.
    cool_down_s:
        Least time from a rise of a class to its next fall, 0 to 7200.
    most_rise, most_fall:
        Largest change at once, as part of what the class has; 0.05 to 4, and 0.05 to 1.
    least_bps:
        Parts are of this at least, so that a class can leave 0.

    Raises
    ------
    ValueError
        If one is out of its range.
    """

    dead_band: float = 0.05
    release: float = 0.25
    hold_s: float = 30.0
    cool_down_s: float = 300.0
    most_rise: float = 1.0
    most_fall: float = 0.25
    least_bps: int = 1_000_000

    def __post_init__(self) -> None:
        ranges = {
            "dead_band": (0, 0.2),
            "release": (0, 1),
            "hold_s": (0, 3600),
            "cool_down_s": (0, 7200),
            "most_rise": (0.05, 4),
            "most_fall": (0.05, 1),
            "least_bps": (1, 2**50),
        }
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must lie between {least:g} and {most:g}")


@dataclass(frozen=True, slots=True, eq=False)
class Damped:
    """What is applied, and what is known of its past; for n classes, shape (n,) each.

    Attributes
    ----------
    bps:
        The demand to divide by.
    is_moving:
        Whether a change of the class is under way.
    changed_ns, risen_ns:
        When it changed last, and when it rose last.
    """

    bps: Floats
    is_moving: NDArray[np.bool_]
    changed_ns: NDArray[np.int64]
    risen_ns: NDArray[np.int64]


def begin(demand_bps: Floats) -> Damped:
    """Return the state in which the first estimate is applied as it is."""
    n = len(demand_bps)
    long_ago = np.full(n, _LONG_AGO, np.int64)
    return Damped(demand_bps.astype(np.float64), np.zeros(n, np.bool_), long_ago, long_ago.copy())


def carry(state: Damped, demand_bps: Floats, old: NDArray[np.int64], new: NDArray[np.int64]) -> Damped:
    """Return the state of the same classes at other places, where others came or left.

    Parameters
    ----------
    demand_bps:
        Estimates of all classes at their new places, shape (n,): those who come new begin with theirs.
    old, new:
        Places of the classes that stay, shape (c,) each.
    """
    moved = begin(demand_bps)
    for name in ("bps", "is_moving", "changed_ns", "risen_ns"):
        getattr(moved, name)[new] = getattr(state, name)[old]
    return moved


def damp(
    state: Damped,
    demand_bps: Floats,
    now_ns: int,
    settings: StabilitySettings,
    at_once: NDArray[np.bool_] | None = None,
) -> Damped:
    """Return what to apply instead of new estimates.

    Parameters
    ----------
    state:
        What is applied.
    demand_bps:
        The estimates, shape (n,).
    now_ns:
        Their time; not before that of the state.
    settings:
        How.
    at_once:
        Classes that take their estimate without any delay, shape (n,): those whose terms a policy has just changed.

    Raises
    ------
    ValueError
        If there are not as many estimates as classes.
    """
    if demand_bps.shape != state.bps.shape:
        raise ValueError(f"there are {demand_bps.shape} estimates for {state.bps.shape} classes")
    x = state.bps
    unit = np.maximum(x, settings.least_bps)
    gap = demand_bps - x
    band = np.where(state.is_moving, settings.release, 1.0) * settings.dead_band * unit
    moving = np.abs(gap) > band
    held = now_ns - state.changed_ns < round(settings.hold_s * NS)
    cooling = (gap < 0) & (now_ns - state.risen_ns < round(settings.cool_down_s * NS))
    change = np.clip(gap, -settings.most_fall * unit, settings.most_rise * unit)
    moved = moving & ~held & ~cooling
    if at_once is not None:
        moved |= at_once
        change = np.where(at_once, gap, change)
    moved &= change != 0
    applied = np.maximum(np.where(moved, x + change, x), 0.0)
    return Damped(
        bps=applied,
        is_moving=moving,
        changed_ns=np.where(moved, now_ns, state.changed_ns),
        risen_ns=np.where(moved & (change > 0), now_ns, state.risen_ns),
    )
