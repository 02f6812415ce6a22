"""Whether a device has what it was told: config leaf by leaf, and what it says in state that it does.

Devices round rates in state, drop a leaf without a word, or serve no state at all. Config has to be as written. A rate
in state may be rounded; a leaf that is missing in a container that state has was dropped; a container that state has
not is not served, unless the device's traits say that it serves all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from telemetryd.enforce.device import Reading, Traits
from telemetryd.enforce.names import Value

#: Part of itself by which a rate in state may be off.
ROUNDING: Final = 0.01
_RATES: Final = ("/cir", "/pir")
_BUCKETS: Final = ("/bc", "/be")


class Mismatch(NamedTuple):
    """A leaf that is not as it was written; `where` is ``config`` or ``state``, `found` None for nothing."""

    path: str
    where: str
    wanted: Value | None
    found: Value | None

    def __str__(self) -> str:
        shown = "nothing" if self.found is None else self.found
        return f"{self.where} of {self.path} is {shown}, not {'nothing' if self.wanted is None else self.wanted}"


@dataclass(frozen=True, slots=True)
class Compared:
    """What comparing found.

    Attributes
    ----------
    mismatches:
        What is wrong.
    roundings:
        Rates and buckets that state has a little different.
    unserved:
        How many leaves state says nothing of.
    """

    mismatches: tuple[Mismatch, ...] = ()
    roundings: tuple[Mismatch, ...] = ()
    unserved: int = 0


def compare(wanted: Mapping[str, Value | None], reading: Reading, traits: Traits) -> Compared:
    """Compare leaves with what a device says.

    Parameters
    ----------
    wanted:
        Path -> value, None where nothing may be.
    """
    mismatches: list[Mismatch] = []
    roundings: list[Mismatch] = []
    unserved = 0
    config, state = reading.config, reading.state
    served = {path[: path.rindex("/")] for path in state} if traits.state == "optional" else frozenset()
    for path, value in wanted.items():
        found = config.get(path)
        if found != value:
            mismatches.append(Mismatch(path, "config", value, found))
            continue
        if traits.state == "unsupported" or value is None:
            continue
        shown = state.get(path)
        if shown == value:
            continue
        if shown is None:
            if traits.state == "required" or path[: path.rindex("/")] in served:
                mismatches.append(Mismatch(path, "state", value, None))
            else:
                unserved += 1
        elif _is_rounded(path, value, shown, traits):
            roundings.append(Mismatch(path, "state", value, shown))
        else:
            mismatches.append(Mismatch(path, "state", value, shown))
    return Compared(tuple(mismatches), tuple(roundings), unserved)


def _is_rounded(path: str, value: Value, shown: Value, traits: Traits) -> bool:
    if not isinstance(value, int) or not isinstance(shown, int):
        return False
    if path.endswith(_RATES):
        return abs(value - shown) <= max(traits.rate_step_bps, value * ROUNDING)
    # Buckets come in the device's own cells.
    return path.endswith(_BUCKETS) and abs(value - shown) <= value / 2
