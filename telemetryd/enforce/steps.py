"""How far a gateway goes in one period: where its plan is further away than a rate may change, part of the way.

What a port has and what it shall have are both trees in which children never have more together than their parent.
Whatever lies on the straight line between them is one as well, rounded down; so all rates of a port go the same part
of their way.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import floor
from typing import Final

from telemetryd.enforce.gateway import GatewayNode, GatewayPlan, GatewayPort
from telemetryd.enforce.limits import Limits
from telemetryd.enforce.names import Leaves, Value
from telemetryd.enforce.rounding import down

_WHOLE: Final = Fraction(1)


def toward(have: Leaves, plan: GatewayPlan, limits: Limits) -> GatewayPlan:
    """Return the plan, or one on the way to it in which no rate changes by more than the limits say.

    Where rates cannot even begin to move (a step of the device is more than may change), or one of them is not there
    yet, it is the plan itself: the limits refuse it, and say why.
    """
    leaves: dict[str, Value] = dict(plan.leaves)
    ports = [_toward(have, port, plan.capability.rate_step_bps, limits, leaves) for port in plan.ports]
    return replace(plan, leaves=leaves, ports=tuple(ports)) if leaves != plan.leaves else plan


def _toward(have: Leaves, port: GatewayPort, step_bps: int, limits: Limits, leaves: dict[str, Value]) -> GatewayPort:
    """Return a port on its way; its rates are put into the leaves."""
    olds: list[tuple[int, int]] = []
    for node in port.nodes:
        rate, ceiling = (have.get(path) for path in _paths(node))
        if not isinstance(rate, int) or not isinstance(ceiling, int):
            return port
        olds.append((rate, ceiling))
    part = min(
        _part(old, new, step_bps, limits)
        for node, (rate, ceiling) in zip(port.nodes, olds, strict=True)
        for old, new in ((rate, node.rate_bps), (ceiling, node.ceiling_bps))
    )
    if not 0 < part < 1:
        return port
    nodes = [
        replace(
            node,
            rate_bps=_between(rate, node.rate_bps, part, step_bps),
            ceiling_bps=_between(ceiling, node.ceiling_bps, part, step_bps),
        )
        for node, (rate, ceiling) in zip(port.nodes, olds, strict=True)
    ]
    if all((node.rate_bps, node.ceiling_bps) == old for node, old in zip(nodes, olds, strict=True)):
        return port
    for node in nodes:
        leaves.update(zip(_paths(node), (node.rate_bps, node.ceiling_bps), strict=True))
    return replace(port, nodes=tuple(nodes))


def _paths(node: GatewayNode) -> tuple[str, str]:
    entry = f"{node.path}/two-rate-three-color/config"
    return f"{entry}/cir", f"{entry}/pir"


def _part(old: int, new: int, step_bps: int, limits: Limits) -> Fraction:
    """Return which part of its way a rate may go; a falling one keeps a step for the rounding."""
    percent = limits.change_percent
    if 100 * abs(new - old) <= percent * max(old, new):
        return _WHOLE
    if new > old:
        return Fraction(old * percent, (100 - percent) * (new - old))
    return Fraction(old * percent - 100 * step_bps, 100 * (old - new))


def _between(old: int, new: int, part: Fraction, step_bps: int) -> int:
    return old if old == new else down(floor(old + (new - old) * part), step_bps)
