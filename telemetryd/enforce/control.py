"""What the control loop of gateways decides, without touching anything: demands in, plans of gateways out.

A pure function of policies, registry, demands, time and members that are down. The structure of a plan follows from the
policy alone (:func:`telemetryd.enforce.contention.standing_demands`), so that from one period to the next only rates
differ, unless the policy, a schedule that brings new nodes, or the registry changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from telemetryd.allocate.demand_file import Demand
from telemetryd.allocate.divide import Allocation
from telemetryd.allocate.place import Placed, place
from telemetryd.enforce.capability import Answer, Capability, resolve
from telemetryd.enforce.capability_table import Table
from telemetryd.enforce.contention import full_demands, stand, standing_demands
from telemetryd.enforce.diff import Difference, Write, diff
from telemetryd.enforce.gateway import GatewayPlan, Memo, plan_gateway
from telemetryd.enforce.gateway_tree import REST
from telemetryd.enforce.intent import OVERLOAD, intents, members_of
from telemetryd.enforce.names import Leaves, Value, ours
from telemetryd.enforce.plan import DevicePlan, plan_device
from telemetryd.enforce.protected import of_switch
from telemetryd.enforce.single import CHANGEABLE
from telemetryd.policy.admission import capacity_bps
from telemetryd.policy.loaded import Policies
from telemetryd.policy.outline import active_at
from telemetryd.registry.models import Registry

Node = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Promise:
    """What the policy and the allocator say of one leaf of a link's tree; bit/s."""

    guarantee_bps: int
    ceiling_bps: int
    demand_bps: int
    allocation_bps: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What shall be on all gateways now.

    Attributes
    ----------
    plans:
        Device -> plan.
    promises:
        (link or group, direction) -> class of a device -> what is promised and allocated to it: a class is a leaf of a
        gateway's tree, and of a rest leaf the node above it.
    at, down:
        What it was decided for.
    """

    plans: Mapping[str, GatewayPlan]
    promises: Mapping[tuple[str, str], Mapping[Node, Promise]]
    at: datetime
    down: frozenset[str] = frozenset()


@dataclass(slots=True)
class Planner:
    """Decides for the gateways of some policies.

    Attributes
    ----------
    policies, registry, table:
        What is decided by.
    answers:
        Device -> its answer to Capabilities.
    links:
        Links and groups that are wholly on gateways and ruled by a policy.
    places:
        (device, interface, direction) -> (link or group, direction).
    member_ports:
        (device, interface) of members of groups.
    protected:
        Switch -> schedulers of protected classes in its last plan, as paths of their entries.
    """

    policies: Policies
    registry: Registry
    table: Table
    answers: Mapping[str, Answer] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    places: dict[tuple[str, str, str], tuple[str, str]] = field(default_factory=dict)
    member_ports: set[tuple[str, str]] = field(default_factory=set)
    protected: dict[str, frozenset[str]] = field(default_factory=dict)
    _memos: dict[str, Memo] = field(default_factory=dict)
    _numbers: dict[str, dict[Node, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        links: dict[str, None] = {}
        for _, link, direction in self.policies.ruled():
            members = [self.registry.link[name] for name in members_of(link, self.registry)]
            if all(self.capability(member.device).driver == "linux" for member in members):
                links[link] = None
                for member in members:
                    self.places[member.device, member.interface, direction] = link, direction
                    if len(members) > 1:
                        self.member_ports.add((member.device, member.interface))
        self.links = tuple(links)

    @property
    def devices(self) -> tuple[str, ...]:
        """Gateways that a policy rules."""
        return tuple(dict.fromkeys(device for device, _, _ in self.places))

    @property
    def digest(self) -> str:
        """What stands for the policies in the audit: their names, and a digest of what they say."""
        policies = self.policies.policies
        text = "\n".join(repr((policy.file, policy.calendar)) for policy in policies)
        names = ",".join(policy.name for policy in policies)
        return f"{names} {hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def capability(self, device: str) -> Capability:
        """Return what a device can do."""
        return resolve(self.registry.device[device], self.registry, self.answers.get(device), self.table)

    def terms_at(self, at: datetime) -> object:
        """Return what stands for the terms at a time: another one where a schedule, event or override changes."""
        return tuple(active_at(one, at.astimezone(one.zone).replace(tzinfo=None)) for one in self.policies.policies)

    def switches(
        self, at: datetime, names: Collection[str], keep: Mapping[str, DevicePlan] | None = None
    ) -> dict[str, DevicePlan]:
        """Plan switches for the terms of a time: by what everybody gets when all ask for all, and not by demand.

        Parameters
        ----------
        names:
            Which.
        keep:
            Plans before: classes stay in their queues while that is nearly as good.

        Raises
        ------
        InputError
            If guarantees do not fit a port.
        """
        placed, _ = place(self.policies, self.registry, full_demands(self.policies, self.registry, at), at)
        others = [(one, one.allocate()) for one in placed if one.link not in self.links]
        found = {}
        for intent in intents(others, self.registry, OVERLOAD):
            if intent.device in names:
                before = (keep or {}).get(intent.device)
                groups = [frozenset(group.classes) for group in before.groups] if before is not None else None
                plan = found[intent.device] = plan_device(intent, self.capability(intent.device), groups)
                self.protected[intent.device], _ = of_switch(intent, plan)
        return found

    def decide(self, demands: Iterable[Demand], at: datetime, down: Collection[str] = ()) -> Decision:
        """Divide every link of the gateways, and plan them.

        Parameters
        ----------
        demands:
            Of any links; without any the plans are the baseline: guarantees as rates, ceilings as ceilings.
        at:
            The moment, with a time zone.
        down:
            Links that carry nothing: the other members of their groups share what there is.

        Raises
        ------
        InputError
            If guarantees do not fit a port.
        """
        if not self.links:
            return Decision({}, {}, at, frozenset(down))
        standing = standing_demands(self.policies, self.registry, at, self.links)
        placed, _ = place(self.policies, self.registry, [*demands, *standing], at)
        divided: list[tuple[Placed, Allocation]] = []
        promises: dict[tuple[str, str], dict[Node, Promise]] = {}
        for one in placed:
            if one.link not in self.links:
                continue
            lost = frozenset(members_of(one.link, self.registry)) & frozenset(down)
            if lost:
                one.capacity_bps = capacity_bps(one.link, one.direction, self.registry, lost)
                if not one.capacity_bps:
                    continue  # nothing is left of it, and nothing to divide
            wanted = dict(one.bps)
            stand(one)
            allocation = one.allocate()
            divided.append((one, allocation))
            promises[one.link, one.direction] = _promises(one, allocation, wanted)
        plans = {}
        for intent in intents(divided, self.registry, down=down, is_matched=False):
            memo = self._memos.setdefault(intent.device, Memo())
            kept = self._numbers.get(intent.device)
            plan = plan_gateway(intent, self.capability(intent.device), self.registry, kept, memo)
            self._numbers[intent.device] = {
                node.names: node.number for port in plan.ports for node in port.nodes if node.names
            }
            plans[intent.device] = plan
        return Decision(
            plans, {key: _by_class(own, plans, self.places, key) for key, own in promises.items()}, at, frozenset(down)
        )

    def failures(self, demands: Sequence[Demand], at: datetime) -> dict[str, Decision]:
        """Return member -> what shall be on all gateways when it is lost, for each member of a group on them."""
        found = {}
        for link in self.links:
            members = members_of(link, self.registry)
            if len(members) > 1:
                for member in members:
                    found[member] = self.decide(demands, at, (member,))
        return found


def _promises(placed: Placed, allocation: Allocation, wanted: Mapping[int, int]) -> dict[Node, Promise]:
    """Return what each leaf of a link's tree is promised and gets."""
    tree = allocation.tree
    found = {}
    for number, names in enumerate(placed.names):
        if number and tree.is_leaf[tree.place[number]]:
            rule = placed.rules[number]
            found[names] = Promise(
                min(rule.guarantee_bps, rule.ceiling_bps),
                min(rule.ceiling_bps, placed.capacity_bps),
                wanted.get(number, 0),
                int(allocation.bps[tree.place[number]]),
            )
    return found


def class_of(names: Node) -> Node:
    """Return the class that a leaf of a gateway's tree is: of a rest leaf the node above it."""
    return names[:-1] if names and names[-1] == REST else names


def _by_class(
    leaves: Mapping[Node, Promise],
    plans: Mapping[str, GatewayPlan],
    places: Mapping[tuple[str, str, str], tuple[str, str]],
    key: tuple[str, str],
) -> dict[Node, Promise]:
    """Sum the leaves of a link's tree up to the classes that devices have."""
    classes = {
        class_of(node.names): node.ceiling_bps
        for plan in plans.values()
        for port in plan.ports
        if places.get((plan.device, port.interface, port.direction)) == key
        for node in port.nodes
        if node.queue
    }
    sums = {name: [0, 0, 0] for name in classes}
    for names, one in leaves.items():
        depth = next((d for d in range(len(names), -1, -1) if names[:d] in sums), None)
        if depth is not None:
            own = sums[names[:depth]]
            own[0] += one.guarantee_bps
            own[1] += one.demand_bps
            own[2] += one.allocation_bps
    return {name: Promise(own[0], classes[name], own[1], own[2]) for name, own in sums.items()}


@dataclass(frozen=True, slots=True)
class Change:
    """How a gateway gets from what it has to what it shall have.

    Attributes
    ----------
    difference:
        All of it.
    rates:
        Path -> value, where nothing but rates differs: then single leaves are written. Else a transaction is needed.
    """

    difference: Difference
    rates: Mapping[str, Value] | None

    @property
    def writes(self) -> list[Write]:
        """All writes, in order."""
        return self.difference.writes


def change(have: Leaves, plan: GatewayPlan) -> Change:
    """Compare what a gateway has with its plan."""
    difference = diff(have, plan.leaves)
    writes = difference.writes
    only_rates = not difference.conflicts and all(
        write.path.endswith(CHANGEABLE) and write.value is not None and write.old is not None for write in writes
    )
    return Change(difference, {write.path: plan.leaves[write.path] for write in writes} if only_rates else None)


def rates_of(leaves: Leaves) -> dict[str, Value]:
    """Return the leaves of ours that single writes may change."""
    return {path: value for path, value in ours(leaves).items() if path.endswith(CHANGEABLE)}
