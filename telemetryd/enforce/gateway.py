"""The driver of Linux gateways: trees of schedulers, prefix sets and ranked terms, as leaves of OpenConfig.

For each port and direction:

    policy telemetryd-out-eth1          attached at the port: one scheduler, cir = pir = capacity, which leads to
    policy telemetryd-out-eth1._port    the nodes directly below the port
    policy telemetryd-out-eth1.CORE     the nodes below CORE, and so on

A scheduler is a node: cir = its rate, pir = its ceiling. A leaf has the queue of its class as its input, an inner node
leads to the policy of the nodes below it. Its sequence is priority << 16 | number, so that neither moves when others
come. A class has one queue and one forwarding group on all ports of a device, since classifiers do not know where a
packet will leave.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from telemetryd.enforce import openconfig_qos as driver
from telemetryd.enforce.capability import Capability
from telemetryd.enforce.gateway_terms import set_leaves, term_leaves, terms_of
from telemetryd.enforce.gateway_tree import REST, ROOT, TreeNode, grow, numbers
from telemetryd.enforce.intent import DeviceIntent, PortIntent
from telemetryd.enforce.names import PORT, PREFIX, Value, digest, escaped, plain
from telemetryd.errors import InputError
from telemetryd.registry.models import Registry

#: Name of the nodes directly below the port, which no registry can hold.
TOP: Final = "_port"


@dataclass(frozen=True, slots=True)
class GatewayNode:
    """A node of a port's tree: what it gets, and where that is written.

    Attributes
    ----------
    names:
        From the port down; () for the port.
    number:
        The same on all ports of a device.
    queue:
        Of a leaf; "" of an inner node.
    classes:
        Names of the classes in a leaf.
    path:
        Of its scheduler.
    """

    names: tuple[str, ...]
    number: int
    priority: int
    rate_bps: int
    ceiling_bps: int
    promise_bps: int
    queue: str
    classes: tuple[str, ...]
    path: str


@dataclass(frozen=True, slots=True)
class GatewayPort:
    """The tree of one direction of an interface; nodes from the port down."""

    interface: str
    direction: str
    capacity_bps: int
    nodes: tuple[GatewayNode, ...]

    @property
    def queues(self) -> dict[str, GatewayNode]:
        """Queue -> its leaf."""
        return {node.queue: node for node in self.nodes if node.queue}


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """Everything of ours on a gateway.

    Attributes
    ----------
    leaves:
        Path -> value, in the order of writing.
    rest:
        Queue of what nothing matches.
    terms:
        How many terms both classifiers have.
    notes:
        What is not as the policy says.
    """

    device: str
    capability: Capability
    leaves: dict[str, Value]
    ports: tuple[GatewayPort, ...] = ()
    rest: str = ""
    terms: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Classified:
    """How the packets of all leaves are known: leaves of prefix sets and classifiers, how many terms, and notes."""

    leaves: dict[str, Value]
    terms: int
    notes: tuple[str, ...]


class Memo:
    """What was found for the leaves of the last plan."""

    def __init__(self) -> None:
        self._key: object = None
        self._found = Classified({}, 0, ())

    def classified(
        self,
        leaves: Sequence[tuple[TreeNode, Sequence[str]]],
        queue: Mapping[tuple[str, ...], str],
        registry: Registry,
        *,
        remark: bool,
    ) -> Classified:
        """Return how the packets of leaves are known, each given with the ends of a packet that tell whose it is."""
        key = (
            id(registry),
            remark,
            tuple(
                (
                    leaf.names,
                    leaf.levels,
                    leaf.dscp,
                    tuple(ends),
                    leaf.is_protected and leaf_names(leaf),
                    queue[leaf.names],
                )
                for leaf, ends in leaves
            ),
        )
        if key != self._key:
            notes: list[str] = []
            terms, sets = terms_of(leaves, registry, notes)
            found = set_leaves(sets, terms) | term_leaves(terms, queue, queue[REST,], remark)
            self._key, self._found = key, Classified(found, len(terms) + 2, tuple(notes))
        return self._found


def leaf_names(leaf: TreeNode) -> tuple[str, ...]:
    """Return the names of the classes in a leaf."""
    return tuple(one.name for one in leaf.leaves)


def plan_gateway(
    intent: DeviceIntent,
    capability: Capability,
    registry: Registry,
    kept: Mapping[tuple[str, ...], int] | None = None,
    memo: Memo | None = None,
) -> GatewayPlan:
    """Plan a gateway.

    Parameters
    ----------
    kept:
        Numbers in force, by names.
    memo:
        Keeps the terms from one plan to the next in the same registry: they change only with who there is.

    Raises
    ------
    InputError
        If guarantees do not fit a port, or it has more classes than the gateway takes.
    """
    if not intent.ports:
        return GatewayPlan(intent.device, capability, {})
    notes: list[str] = []
    grown = [(port, _grow(port, capability)) for port in intent.ports]
    every = {node.names for _, root in grown for node in root.walk() if node.names}
    number = {(): ROOT} | numbers(every, kept)
    queue = _queues(names for names in number if names)
    short = plain(port.interface for port in intent.ports)
    leaves: dict[str, Value] = {}
    found = [(node, port.ends) for port, root in grown for node in root.walk() if not node.children]
    for names in sorted({node.names for node, _ in found}):
        _add_queue(leaves, queue[names])
    known = (memo if memo is not None else Memo()).classified(found, queue, registry, remark=capability.remark)
    leaves.update(known.leaves)
    notes += known.notes
    ports = []
    policies: dict[str, list[tuple[str, str]]] = {}
    for port, root in grown:
        policy = f"{PREFIX}{port.direction}-{short[port.interface]}"
        policies.setdefault(port.interface, []).append((port.direction, policy))
        nodes = _add_tree(leaves, policy, root, number, queue)
        ports.append(GatewayPort(port.interface, port.direction, port.capacity_bps, nodes))
    for interface in dict.fromkeys((*intent.inputs, *policies)):
        leaves.update(driver.port_leaves(interface, policies.get(interface, ()), True, 0, capability))
        for one in ports:
            if one.interface == interface:
                _add_queues_of_port(leaves, one)
    return GatewayPlan(
        intent.device, capability, leaves, tuple(ports), queue[REST,], known.terms, tuple(dict.fromkeys(notes))
    )


def _grow(port: PortIntent, capability: Capability) -> TreeNode:
    root = grow(port, capability.rate_step_bps, capability.least_rate_bps)
    if (count := sum(1 for _ in root.walk())) > capability.queues:
        raise InputError(
            f"{port.interface} {port.direction}: {count} classes are more than the {capability.queues} that it "
            "takes - name fewer applications, the others share a rest class"
        )
    return root


def _queues(names: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Return the name of each node's queue; where two would be the same, with a digest."""
    every = sorted(names)
    spelled: dict[str, int] = {}
    for one in every:
        spelled[".".join(one)] = spelled.get(".".join(one), 0) + 1
    return {
        one: PREFIX + (text if spelled[text] == 1 else f"{text}.{digest(repr(one))}")
        for one in every
        for text in (".".join(one),)
    }


def _add_queue(leaves: dict[str, Value], name: str) -> None:
    leaves[f"/qos/queues/queue[name={name}]/config/name"] = name
    path = f"/qos/forwarding-groups/forwarding-group[name={name}]/config"
    leaves[f"{path}/name"] = name
    leaves[f"{path}/output-queue"] = name


def _add_tree(
    leaves: dict[str, Value],
    policy: str,
    root: TreeNode,
    number: Mapping[tuple[str, ...], int],
    queue: Mapping[tuple[str, ...], str],
) -> tuple[GatewayNode, ...]:
    """Add the policies of a port's tree, those below before what leads to them; return its nodes from the port down."""
    nodes: list[GatewayNode] = []

    def holding(names: tuple[str, ...]) -> str:
        """Return the name of the policy that holds the nodes below one."""
        return f"{policy}.{queue[names].removeprefix(PREFIX)}" if names else f"{policy}.{TOP}"

    def add(node: TreeNode, within: str) -> None:
        sequence = ROOT if not node.names else node.priority << 16 | number[node.names]
        path = f"{driver.policy_path(within)}/schedulers/scheduler[sequence={sequence}]"
        own_queue = "" if node.children else queue[node.names]
        nodes.append(
            GatewayNode(
                node.names,
                number[node.names],
                node.priority if node.names else 0,
                node.rate_bps,
                node.ceiling_bps,
                node.promise_bps,
                own_queue,
                leaf_names(node),
                path,
            )
        )
        if node.children:
            child = holding(node.names)
            leaves[f"{driver.policy_path(child)}/config/name"] = child
            for one in node.children:
                add(one, child)
        _add_scheduler(leaves, path, sequence, node, own_queue or holding(node.names))

    leaves[f"{driver.policy_path(policy)}/config/name"] = policy
    add(root, policy)
    return tuple(nodes)


def _add_scheduler(leaves: dict[str, Value], path: str, sequence: int, node: TreeNode, below: str) -> None:
    """Add the scheduler of a node; below it is a queue, or the policy of other nodes."""
    leaves[f"{path}/config/sequence"] = sequence
    leaves[f"{path}/config/type"] = "TWO_RATE_THREE_COLOR"
    if node.children:
        leaves[f"{path}/output/config/output-type"] = "SCHEDULER"
        leaves[f"{path}/output/config/child-scheduler"] = below
    else:
        entry = f"{path}/inputs/input[id={below}]/config"
        leaves[f"{entry}/id"] = below
        leaves[f"{entry}/input-type"] = "QUEUE"
        leaves[f"{entry}/queue"] = below
        leaves[f"{path}/output/config/output-type"] = "INTERFACE"
    burst, most = node.buckets
    entry = f"{path}/two-rate-three-color/config"
    leaves[f"{entry}/cir"] = node.rate_bps
    leaves[f"{entry}/pir"] = node.ceiling_bps
    leaves[f"{entry}/bc"] = burst
    leaves[f"{entry}/be"] = most


def _add_queues_of_port(leaves: dict[str, Value], port: GatewayPort) -> None:
    side = "output" if port.direction == "out" else "input"
    for queue in sorted(port.queues):
        path = f"{PORT}{escaped(port.interface)}]/{side}/queues/queue[name={queue}]/config"
        leaves[f"{path}/name"] = queue
