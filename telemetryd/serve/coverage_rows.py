"""Coverage as the control service shows it: with the device, its clock's skew and what was lost of its datagrams."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from telemetryd.aggregate.coverage import Verdict
from telemetryd.aggregate.link_growth import Place
from telemetryd.aggregate.reconcile import Coverage
from telemetryd.live import AgentCounters
from telemetryd.registry.models import Registry
from telemetryd.schema import CounterSource
from telemetryd.serve.messages import Coverage as CoverageRow
from telemetryd.subscriber import TargetCounters


def coverage_rows(
    coverages: Iterable[Coverage],
    places: Mapping[str, Place],
    targets: Iterable[TargetCounters],
    agents: Mapping[str, AgentCounters],
    registry: Registry,
) -> list[CoverageRow]:
    """Return a row for each link and direction.

    Parameters
    ----------
    places:
        Link -> (device, interface).
    agents:
        Counts by the agent's address.
    """
    skews = {one.name: one.state.delay_ns for one in targets}
    losses = _losses(agents, registry)
    return [_row(one, places.get(one.link, ("", "")), skews, losses) for one in coverages]


def _row(one: Coverage, place: Place, skews: Mapping[str, int | None], losses: Mapping[str, float]) -> CoverageRow:
    is_gnmi = one.rank == CounterSource.GNMI
    has_ratio = not math.isnan(one.ratio)
    return {
        "link": one.link,
        "device": place[0],
        "interface": place[1],
        "direction": one.direction.name.lower(),
        "coverage": one.ratio if has_ratio else None,
        "low": one.low if has_ratio else None,
        "high": one.high if has_ratio else None,
        "alarm": "" if one.verdict == Verdict.OK else one.verdict.name.lower(),
        "since_ns": one.since_ns,
        "seconds": one.seconds,
        "interval_s": one.interval_s,
        "counter_octets": one.octets,
        "estimated_octets": one.estimated_octets,
        "source": "gnmi" if is_gnmi else "sflow",
        "skew_ns": skews.get(place[0]) if is_gnmi else None,
        "loss_share": losses.get(place[0]),
    }


def _losses(agents: Mapping[str, AgentCounters], registry: Registry) -> dict[str, float]:
    """Return what was lost of the datagrams of each device, as a share; an agent that is no device by its address."""
    owner = {str(address): device.name for device in registry.devices for address in device.agents}
    sent: dict[str, int] = {}
    lost: dict[str, int] = {}
    for address, one in agents.items():
        device = owner.get(address, address)
        sent[device] = sent.get(device, 0) + one.received + one.lost_outside
        lost[device] = lost.get(device, 0) + one.lost_outside + one.shed + one.capped
    return {device: lost[device] / count for device, count in sent.items() if count}
