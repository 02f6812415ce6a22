"""Which schedulers and queues of a plan are of protected classes, such as network control."""

from __future__ import annotations

from telemetryd.enforce.gateway import GatewayPlan
from telemetryd.enforce.intent import DeviceIntent
from telemetryd.enforce.names import PREFIX, Leaves, plain
from telemetryd.enforce.openconfig_qos import policy_path
from telemetryd.enforce.plan import DevicePlan

Found = tuple[frozenset[str], tuple[str, ...]]


def of_switch(intent: DeviceIntent, plan: DevicePlan) -> Found:
    """Return the entries of schedulers, and the queues of outputs as ``interface/queue``."""
    short = plain(port.interface for port in intent.ports)
    entries, queues = set(), []
    for port in intent.ports:
        kept = {one.name for one in port.classes if one.is_protected}
        for group in plan.groups:
            if not kept or not set(group.classes) <= kept:
                continue
            policy = f"{PREFIX}{port.direction}-{short[port.interface]}"
            entries.add(f"{policy_path(policy)}/schedulers/scheduler[sequence={group.number + 1}]")
            if port.direction == "out":
                queues.append(f"{port.interface}/{group.queue}")
    return frozenset(entries), tuple(queues)


def of_gateway(plan: GatewayPlan) -> Found:
    """Return no entries, as rates of a gateway follow the demand, and the queues as ``interface/queue``."""
    queues = [
        f"{port.interface}/{queue}"
        for port in plan.ports
        if port.direction == "out"
        for queue, node in port.queues.items()
        if node.priority == 0
    ]
    return frozenset(), tuple(queues)


def floors_of(plan: GatewayPlan, baseline: Leaves) -> dict[str, int]:
    """Return the entries of a gateway's protected schedulers, and the rates that they never fall below, in bit/s.

    A protected class has what it demands, and at least what it has in the baseline.
    """
    found = {}
    for port in plan.ports:
        for node in port.nodes:
            rate = baseline.get(f"{node.path}/two-rate-three-color/config/cir")
            if node.names and node.priority == 0 and isinstance(rate, int):
                found[node.path] = rate
    return found
