"""Rates as a device takes them: multiples of a step, not below a least one, within the link, no promise broken."""

from __future__ import annotations

from collections.abc import Sequence

from telemetryd.config.units import spell_rate
from telemetryd.errors import InputError


def down(rate_bps: int, step_bps: int) -> int:
    """Round down to a multiple."""
    return rate_bps // step_bps * step_bps


def up(rate_bps: int, step_bps: int) -> int:
    """Round up to a multiple."""
    return -(-rate_bps // step_bps) * step_bps


def fit(rates: Sequence[int], promises: Sequence[int], capacity_bps: int, step_bps: int, least_bps: int) -> list[int]:
    """Return a rate for each class: its own rounded down, or up where rounding down would break its promise.

    Where that is more than the capacity, those with the most above their promises give it up. So a rate changes only
    when its own allocation does, unless the link is full to the last step.

    Raises
    ------
    InputError
        If the promises do not fit, rounded up.
    """
    needs = [max(up(least_bps, step_bps), up(promise, step_bps)) for promise in promises]
    result = [max(down(rate, step_bps), need) for rate, need in zip(rates, needs, strict=True)]
    over = sum(result) - capacity_bps
    if over > 0:
        over = up(over, step_bps)
        for place in sorted(range(len(result)), key=lambda i: (needs[i] - result[i], i)):
            given = min(over, result[place] - needs[place])
            result[place] -= given
            over -= given
        if over > 0:
            raise InputError(
                f"{len(rates)} classes with promises need {spell_rate(sum(needs))} in steps of {spell_rate(step_bps)}, "
                f"the port has {spell_rate(capacity_bps)} - lower guarantees, or manage fewer classes there"
            )
    return result


def weights(
    rates: Sequence[int], promises: Sequence[int], capacity_bps: int, least: int, most: int
) -> tuple[list[int], list[int]]:
    """Return weights in proportion to rates, and what each class surely has of the capacity with them, in bit/s.

    A weight is raised while its class would have less than its promise; where the range is too small for that, the
    second list says so.
    """
    largest = max((*rates, *promises, 1))
    found = [min(most, max(least, round(rate * most / largest))) for rate in rates]
    for _ in range(most * len(found)):
        total = sum(found)
        short = [
            i for i, promise in enumerate(promises) if found[i] < most and found[i] * capacity_bps < promise * total
        ]
        if not short:
            break
        worst = min(short, key=lambda i: (found[i] * capacity_bps / (promises[i] * total), i))
        found[worst] += 1
    total = sum(found)
    return found, [weight * capacity_bps // total for weight in found]
