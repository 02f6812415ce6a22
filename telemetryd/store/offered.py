"""Stored windows as traffic to try policies on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from telemetryd.allocate.demand_file import Demand
from telemetryd.assure.offered import Offered, join
from telemetryd.assure.sources import counted, is_elastic
from telemetryd.errors import InputError
from telemetryd.registry.models import Registry
from telemetryd.store.embedded import Snapshot, Store
from telemetryd.store.select import Found, Selection, make_plan, sum_by

MOST_STEPS: Final = 50_000


def stored(
    store: Store,
    registry: Registry,
    places: Sequence[tuple[str, str, str]],
    from_ns: int | None,
    to_ns: int | None,
    step_ns: int,
) -> Offered:
    """Return what was sent over some links, in the whole steps of a range.

    Parameters
    ----------
    places:
        (link, direction, whose traffic: ``department`` or ``peer_department``).
    from_ns, to_ns:
        Half-open range; None means from the first data, up to the newest.
    step_ns:
        Length of a step, a multiple of the spans that the store holds there.

    Raises
    ------
    InputError
        If the range holds no whole step or too many, or nothing finer than a step.
    """

    def read(snapshot: Snapshot) -> Offered:
        plan = make_plan(snapshot, Selection(from_ns=from_ns, to_ns=to_ns), step_ns)
        start = -(-plan.from_ns // step_ns) * step_ns
        steps = (plan.to_ns - start) // step_ns
        if steps < 1:
            raise InputError("the range holds no whole step: widen it, or take shorter steps")
        if steps > MOST_STEPS:
            raise InputError(f"the range has {steps:,} steps, more than {MOST_STEPS:,}: take longer ones")
        span = start, start + steps * step_ns
        return join([_part(snapshot, registry, place, span, step_ns) for place in places])

    return store.read(read)


def _part(
    snapshot: Snapshot, registry: Registry, place: tuple[str, str, str], span: tuple[int, int], step_ns: int
) -> Offered:
    link, direction, whose = place
    where = counted(registry, link, direction)
    every = Selection(where.table, span[0], span[1])
    steps = (span[1] - span[0]) // step_ns
    known = np.zeros(steps, np.bool_)
    known[_steps(sum_by(snapshot, (), every, step_ns), span[0], step_ns)] = True
    chosen = Selection(where.table, *span, {"link": where.links, "direction": (where.direction,)})
    found = sum_by(snapshot, (whose, "application"), chosen, step_ns, may_be_empty=True)
    bps, samples = np.zeros((steps, len(found.names))), np.zeros((steps, len(found.names)), np.int64)
    cells = _steps(found, span[0], step_ns), found.codes
    np.add.at(bps, cells, found.sums.octets * 8e9 / step_ns)
    np.add.at(samples, cells, found.sums.samples.astype(np.int64))
    keys = tuple(Demand(link, direction, department, application, 0) for department, application in found.names)
    elastic = np.array([is_elastic(registry, key.application) for key in keys], np.bool_)
    return Offered(keys, span[0], step_ns / 1e9, bps, elastic, known, samples)


def _steps(found: Found, start_ns: int, step_ns: int) -> np.ndarray:
    return np.asarray((found.bucket_ns - start_ns) // step_ns, np.intp)
