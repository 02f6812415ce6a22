"""Demands of the present, estimated from the usage of the last steps: what a policy would divide now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.allocate.demand import DemandEstimate, DemandSettings, Seen, cause_names, estimate
from telemetryd.assure.division import Division
from telemetryd.assure.offered import Offered
from telemetryd.assure.simulate import FULL
from telemetryd.policy.admission import capacity_bps
from telemetryd.policy.loaded import Policies
from telemetryd.registry.models import Registry

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def estimate_demands(
    policies: Policies, registry: Registry, offered: Offered, settings: DemandSettings
) -> list[dict[str, Any]]:
    """Estimate the demands of every class on the links that policies rule, at the end of the steps.

    No share is known to be in force: on a full link whoever sends counts as throttled, and its demand as censored. The
    tree is that of the last step. Steps without data are left out.

    Returns
    -------
    list
        A row a class: ``link``, ``direction``, ``department``, ``application``, ``usage_bps`` of the last step,
        ``highest_bps`` of the window, ``demand_bps``, ``censored``, ``causes`` (now) and ``folded``.
    """
    return [
        row
        for _, link, direction in policies.ruled()
        for row in _of_link(policies, registry, offered, link, direction, settings)
    ]


def _of_link(
    policies: Policies, registry: Registry, offered: Offered, link: str, direction: str, settings: DemandSettings
) -> Iterator[dict[str, Any]]:
    columns, steps = offered.columns_of(link, direction), np.flatnonzero(offered.known)
    if not len(columns) or not len(steps):
        return
    keys = [offered.keys[column] for column in columns]
    capacity = capacity_bps(link, direction, registry)
    last = offered.times_ns[steps[-1:]]
    state = Division(policies, registry, link, direction, keys, last, np.array([capacity])).states[0]

    def spread(values: NDArray[Any]) -> NDArray[Any]:
        """Put values of the classes at their places in the tree."""
        result = np.zeros(len(state.tree), values.dtype)
        np.add.at(result, state.leaf, values)
        return result

    found: DemandEstimate | None = None
    for step in steps.tolist():
        usage = offered.bps[step, columns]
        samples = None if offered.samples is None else spread(offered.samples[step, columns])
        seen = Seen(spread(usage), samples, is_full=bool(usage.sum() >= FULL * capacity))
        found = estimate(state.tree, seen, None if found is None else found.state, capacity, settings)
    assert found is not None, "there is a step"
    highest = found.state.usage_bps.max(axis=0)
    for key, place in zip(keys, state.leaf.tolist(), strict=True):
        yield {
            "link": link,
            "direction": direction,
            "department": key.department,
            "application": key.application,
            "usage_bps": float(found.usage_bps[place]),
            "highest_bps": float(highest[place]),
            "demand_bps": int(found.whole_bps[place]),
            "censored": bool(found.censored[place]),
            "causes": cause_names(int(found.causes[place])),
            "folded": bool(found.folded[place]),
        }


def end_of(offered: Offered) -> datetime:
    """Return the end of the last step with data, in UTC."""
    steps = np.flatnonzero(offered.known)
    last = int(offered.times_ns[steps[-1]]) if len(steps) else offered.start_ns
    return _EPOCH + timedelta(microseconds=last // 1000) + timedelta(seconds=offered.step_s)
