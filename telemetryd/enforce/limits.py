"""How much harm one step may do: what is refused before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from telemetryd.config.units import spell_rate
from telemetryd.enforce.diff import Write
from telemetryd.errors import TelemetrydError


class LimitError(TelemetrydError):
    """A change that is more than the settings allow."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one transaction may do at most.

    Attributes
    ----------
    devices_per_step:
        Devices that are written to at a time.
    change_percent:
        Most that a rate changes, as a part of the greater of old and new.
    least_rate_bps:
        No rate falls below it.
    switch_sets_per_day:
        Sets that a switch takes in a day.
    """

    devices_per_step: int = 8
    change_percent: int = 95
    least_rate_bps: int = 64_000
    switch_sets_per_day: int = 24


def without_percent(limits: Limits) -> Limits:
    """Return limits under which rates change by any part: of what the calendar, a baseline or an operator changes."""
    return replace(limits, change_percent=100)


def exceeded(
    writes: Collection[Write], protected: Collection[str] | Mapping[str, int], limits: Limits
) -> Iterator[str]:
    """Yield what writes do that they must not.

    Parameters
    ----------
    protected:
        Schedulers of protected classes, as paths of their entries: their rates never fall; where each has a rate in
        bit/s, they never fall below it.
    """
    floors = protected if isinstance(protected, Mapping) else {}
    made = {write.path for write in writes if write.value is not None}
    for path, value, old in writes:
        owner = next((one for one in protected if path.startswith(one)), None)
        if value is None:
            if path in protected and not any(one.startswith(f"{path}/") for one in made):
                yield f"{path} is of a protected class, and would go"
            continue
        if not path.endswith(("/config/cir", "/config/pir")) or not isinstance(value, int):
            continue
        if value < limits.least_rate_bps and not isinstance(old, int):
            continue  # a class that has nothing yet: the plan's rounding sees to its least
        if isinstance(old, int):
            is_kept = owner is not None and value >= floors.get(owner, old)
            if owner is not None and value < old and path.endswith("/config/cir") and not is_kept:
                yield f"{path} is of a protected class, and would fall from {spell_rate(old)} to {spell_rate(value)}"
            if value < limits.least_rate_bps <= old:
                yield f"{path} would fall to {spell_rate(value)}, below {spell_rate(limits.least_rate_bps)}"
            percent = 100 * abs(value - old) / max(value, old, 1)
            if percent > limits.change_percent:
                yield (
                    f"{path} would change by {percent:.0f} %, from {spell_rate(old)} to {spell_rate(value)}: "
                    f"more than {limits.change_percent} %"
                )


def over_budget(sets: Mapping[str, int], today: Mapping[str, int], limits: Limits) -> Iterator[str]:
    """Yield the switches that would be written to too often today; `sets` is how many more each would take."""
    for device, count in sets.items():
        had = today.get(device, 0)
        if had + count > limits.switch_sets_per_day:
            yield (
                f"{device} had {had} Sets today, and {count} more would be above {limits.switch_sets_per_day} "
                "(enforce.switch_writes_per_day)"
            )
