"""Links as devices divide them: policies folded into queues (telemetryd.enforce), for simulations and explanations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from telemetryd.errors import InputError

if TYPE_CHECKING:
    from telemetryd.allocate.place import Placed
    from telemetryd.assure.folded import FoldedPort
    from telemetryd.enforce.capability import Answer, Capability
    from telemetryd.enforce.capability_table import Table
    from telemetryd.enforce.plan import DevicePlan
    from telemetryd.policy.loaded import Policies
    from telemetryd.registry.models import Registry

Folded = Annotated[
    bool | None,
    typer.Option(
        "--fold/--unfolded",
        help="Folded into the devices' queues, or as the policy says. Default: folded where devices are known.",
        show_default=False,
    ),
]
Capabilities = Annotated[
    Path | None,
    typer.Option(
        "--capabilities",
        metavar="DIR",
        help='Answers to Capabilities, DEVICE.json each: "telemetryd gnmi capabilities TARGET --json".',
        show_default=False,
    ),
]
Deviations = Annotated[
    list[Path] | None,
    typer.Option("--deviations", help="Your table on top of the shipped one; repeat for more.", show_default=False),
]

#: A thousandth of a link is left for rates that are rounded up.
ROUNDING = 1000
#: (link, direction) -> plans of its members' devices; None where one of them is not folded.
Plans = dict[tuple[str, str], "list[tuple[str, DevicePlan]] | None"]


@dataclass(slots=True)
class Folder:
    """Fold the links of some policies for their devices (:data:`telemetryd.assure.folded.Fold`).

    Devices get what `telemetryd enforce plan` plans for them without a demand: the shares under full contention. A link
    is folded where what all of its devices can do is known, or assumed on request. Gateways are not: they have a class
    for each node of the policy's tree.

    Attributes
    ----------
    capabilities:
        Directory with the answers to Capabilities, DEVICE.json each.
    is_assumed:
        Whether what a device can do is taken from the tables where it was never asked.
    notes:
        What to tell people: what is folded, and what is not and why.
    """

    policies: Policies
    registry: Registry
    table: Table
    capabilities: Path | None = None
    is_assumed: bool = False
    notes: dict[str, None] = field(default_factory=dict)
    _plans: dict[object, Plans] = field(default_factory=dict)

    def __call__(
        self, placed: Placed, nodes: list[tuple[str, ...]], at: datetime, down: frozenset[str]
    ) -> tuple[FoldedPort, ...] | None:
        """Return the ports of a link with the queue of each class; None where it is not folded."""
        from telemetryd.policy.outline import active_at

        when = tuple(active_at(one, at.astimezone(one.zone).replace(tzinfo=None)) for one in self.policies.policies)
        plans = self._plans.get((when, down))
        if plans is None:
            plans = self._plans[when, down] = self._plan(at, down)
        found = plans.get((placed.link, placed.direction))
        return None if found is None else _ports(placed, found, nodes, self.registry, down)

    def _plan(self, at: datetime, down: frozenset[str]) -> Plans:
        """Plan all devices at a time."""
        from telemetryd.allocate.place import place
        from telemetryd.enforce.contention import full_demands
        from telemetryd.enforce.intent import OVERLOAD, intents, members_of
        from telemetryd.enforce.plan import plan_device
        from telemetryd.policy.admission import capacity_bps

        placed, _ = place(self.policies, self.registry, full_demands(self.policies, self.registry, at), at)
        divided = []
        for one in placed:
            whole = capacity_bps(one.link, one.direction, self.registry, down)
            # Where promises alone fill the link, as with a member down, rounding to a device's steps needs some room.
            one.capacity_bps = whole - whole // ROUNDING
            allocation = one.allocate()
            one.capacity_bps = whole
            divided.append((one, allocation))
        plans: dict[str, DevicePlan] = {}
        for intent in intents(divided, self.registry, OVERLOAD, down):
            capability = self._capability(intent.device)
            if capability is not None:
                try:
                    plans[intent.device] = plan_device(intent, capability)
                except InputError as error:
                    self.notes[f"not folded: {error}"] = None
        result: Plans = {}
        for one in placed:
            devices = [
                self.registry.link[member].device
                for member in members_of(one.link, self.registry)
                if member not in down
            ]
            is_whole = bool(devices) and all(device in plans for device in devices)
            result[one.link, one.direction] = [(device, plans[device]) for device in devices] if is_whole else None
        return result

    def _capability(self, device: str) -> Capability | None:
        """Return what a device can do; None where its links are not folded."""
        from telemetryd.enforce.capability import resolve

        answer = answer_of(self.capabilities, device)
        capability = resolve(self.registry.device[device], self.registry, answer, self.table)
        if capability.driver != "openconfig":
            self.notes[f"{device} is a gateway: it has a class for every node of the policy, nothing is folded"] = None
            return None
        if answer is None and capability.export_only and not self.is_assumed:
            self.notes[
                f"what {device} can do is not known: its links are divided as the policy says "
                "(--fold takes it to do what the tables say)"
            ] = None
            return None
        known = "assumed" if answer is None else "known"
        self.notes[f"{device}: folded into its {capability.queues} queues ({known} capabilities)"] = None
        return capability


def folder(
    policies: Policies | None,
    registry: Registry,
    is_folded: bool | None,
    capabilities: Path | None,
    deviations: Sequence[Path] | None,
) -> Folder | None:
    """Return what folds the links of some policies, by the options; None where they are divided as the policies say."""
    from telemetryd.enforce.capability_table import load_table

    if policies is None or is_folded is False:
        return None
    return Folder(policies, registry, load_table(deviations or ()), capabilities, is_assumed=bool(is_folded))


def answer_of(directory: Path | None, device: str) -> Answer | None:
    """Return a device's answer to Capabilities, from DEVICE.json in a directory; None where there is none."""
    import json

    from telemetryd.enforce.capability import answer_from_document

    path = directory / f"{device}.json" if directory is not None else None
    if path is None or not path.exists():
        return None
    try:
        return answer_from_document(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _ports(
    placed: Placed,
    plans: Sequence[tuple[str, DevicePlan]],
    nodes: Sequence[tuple[str, ...]],
    registry: Registry,
    down: frozenset[str],
) -> tuple[FoldedPort, ...] | None:
    import numpy as np

    from telemetryd.assure.folded import FoldedPort, FoldedQueue
    from telemetryd.enforce.intent import members_of

    side = 0 if placed.direction == "in" else 1
    members = [registry.link[name] for name in members_of(placed.link, registry) if name not in down]
    total = sum(registry.usable_bps(member)[side] for member in members)
    ports = []
    for member, (device, plan) in zip(members, plans, strict=True):
        place = member.interface, placed.direction
        if place not in plan.capacities:
            return None  # the device has no scheduler there
        rest = next(group.number for group in plan.groups if group.is_rest)
        classes = {
            tuple("" if part == "-" else part for part in name.split("/")): group.number
            for group in plan.groups
            for name in group.classes
        }
        queues = tuple(FoldedQueue(group.queue, *group.rates[place]) for group in plan.groups)
        queue_of = np.array([queue_of_node(node, classes, rest) for node in nodes], np.intp)
        share = registry.usable_bps(member)[side] / total if total else 0.0
        ports.append(FoldedPort(device, member.interface, share, queues, queue_of))
    return tuple(ports)


def queue_of_node(node: tuple[str, ...], classes: dict[tuple[str, ...], int], rest: int) -> int:
    """Return the queue of a leaf: that of the class that names most of it, or what nothing matches.

    Parameters
    ----------
    classes:
        Names from the link down, empty for anybody -> queue.
    """
    names = [
        tuple("" if is_any else name for name, is_any in zip(node, mask, strict=True)) for mask in _masks(len(node))
    ]
    return next((classes[one] for one in names if one in classes), rest)


def _masks(length: int) -> Iterable[tuple[bool, ...]]:
    """Yield which names are left open, the fewest and the deepest first."""
    masks = [tuple(bool(number >> place & 1) for place in reversed(range(length))) for number in range(1 << length)]
    return sorted(masks, key=lambda mask: (sum(mask), [not one for one in reversed(mask)]))
