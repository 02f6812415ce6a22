"""The OpenConfig driver: queues with rates become leaves of /qos (openconfig-qos 2.2.0 and its predecessors).

Guarantee and ceiling are written as two-rate-three-color: cir = rate, pir = ceiling; at an output shaped, at an input
policed, what violates is dropped. A device without it gets what it has, and :data:`LOST` says what that cannot do:

    output    two-rate-shape, else weighted (protected classes strict), else one-rate-shape, else strict
    input     two-rate-police, else one-rate-police

A term's id is its rank and a digest of its conditions, so that a new term renames no other; a burst follows the port's
capacity or the policy, not the rate: then a changed rate is one leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from telemetryd.enforce.capability import Capability
from telemetryd.enforce.match import Match, Ports
from telemetryd.enforce.names import PORT, PREFIX, Value, digest, escaped

_POLICIES: Final = "/qos/scheduler-policies/scheduler-policy"
#: Encodings by preference.
OUTPUT: Final = ("two-rate-shape", "weighted", "one-rate-shape", "strict")
INPUT: Final = ("two-rate-police", "one-rate-police")
LOST: Final = {
    "two-rate-shape": "",
    "two-rate-police": "",
    "weighted": "ceilings are not held, and rates only as near as weights come",
    "one-rate-shape": "no class borrows what others leave: its rate is its ceiling",
    "one-rate-police": "no class borrows what others leave: its rate is its ceiling",
    "strict": "no rate is held: less important classes may starve",
}
#: A default bucket holds what a port sends in this time.
BURST_MS: Final = 10
_LEAST_BURST: Final = 16_000


class QueueRate(NamedTuple):
    """What a queue gets on a port.

    Attributes
    ----------
    queue:
        Its number, 0 is served first.
    cir_bps, pir_bps:
        Rate and ceiling.
    burst_octets:
        As the policy says; None for the default.
    weight:
        For the weighted encoding.
    is_protected:
        Served before the weighted ones.
    """

    queue: int
    cir_bps: int
    pir_bps: int
    burst_octets: int | None = None
    weight: int = 1
    is_protected: bool = False


def encoding(direction: str, capability: Capability) -> str | None:
    """Return the kind of scheduler for a direction; None where the device has none for it."""
    return next((one for one in (OUTPUT if direction == "out" else INPUT) if one in capability.schedulers), None)


def queue_name(number: int, capability: Capability) -> str:
    """Return the name of a queue."""
    return capability.queue_names[number] if capability.queue_names else f"{PREFIX}q{number}"


def group_name(number: int) -> str:
    """Return the name of a queue's forwarding group."""
    return f"{PREFIX}g{number}"


def policy_path(policy: str) -> str:
    """Return the path of a scheduler policy."""
    return f"{_POLICIES}[name={escaped(policy)}]"


def queue_leaves(count: int, capability: Capability) -> dict[str, Value]:
    """Return the leaves of queues and forwarding groups; queues with fixed names are the device's and only used."""
    leaves: dict[str, Value] = {}
    for number in range(count):
        name = queue_name(number, capability)
        if not capability.queue_names:
            path = f"/qos/queues/queue[name={name}]/config"
            leaves[f"{path}/name"] = name
            if capability.queue_ids != "unsupported":
                leaves[f"{path}/queue-id"] = capability.queues - 1 - number if capability.queues <= 256 else number
        path = f"/qos/forwarding-groups/forwarding-group[name={group_name(number)}]/config"
        leaves[f"{path}/name"] = group_name(number)
        leaves[f"{path}/output-queue"] = name
    return leaves


def classifier_leaves(
    terms: Sequence[tuple[Match, int, int | None]], rest: int, capability: Capability
) -> dict[str, Value]:
    """Return the leaves of both classifiers.

    Parameters
    ----------
    terms:
        Conditions, number of the queue, and the DSCP to set, if any.
    rest:
        Number of the queue of what nothing matches.
    """
    leaves: dict[str, Value] = {}
    for family in (4, 6):
        name = f"{PREFIX}ipv{family}"
        path = f"/qos/classifiers/classifier[name={name}]"
        leaves[f"{path}/config/name"] = name
        leaves[f"{path}/config/type"] = f"IPV{family}"
        for match, queue, dscp in sorted(terms, key=lambda term: (term[0].rank, repr(term[0]))):
            if match.family != family:
                continue
            own = f"{match.rank:02}-{digest(repr(match))}"
            term = f"{path}/terms/term[id={own}]"
            leaves[f"{term}/config/id"] = own
            add_conditions(leaves, term, match)
            leaves[f"{term}/actions/config/target-group"] = group_name(queue)
            if dscp is not None and capability.remark:
                leaves[f"{term}/actions/remark/config/set-dscp"] = dscp
        term = f"{path}/terms/term[id=99-rest]"
        leaves[f"{term}/config/id"] = "99-rest"
        leaves[f"{term}/actions/config/target-group"] = group_name(rest)
    return leaves


def add_conditions(leaves: dict[str, Value], term: str, match: Match) -> None:
    """Add the leaves of a term's conditions."""
    path = f"{term}/conditions/ipv{match.family}/config"
    if match.source:
        leaves[f"{path}/source-address"] = match.source
    if match.destination:
        leaves[f"{path}/destination-address"] = match.destination
    if match.source_set:
        leaves[f"{path}/source-address-prefix-set"] = match.source_set
    if match.destination_set:
        leaves[f"{path}/destination-address-prefix-set"] = match.destination_set
    if match.dscp:
        leaves[f"{path}/dscp-set"] = match.dscp
    if match.protocol is not None:
        leaves[f"{path}/protocol"] = match.protocol
    path = f"{term}/conditions/transport/config"
    if match.source_ports:
        leaves[f"{path}/source-port"] = _ports(match.source_ports)
    if match.destination_ports:
        leaves[f"{path}/destination-port"] = _ports(match.destination_ports)


def _ports(ports: Ports) -> Value:
    return ports[0] if ports[0] == ports[1] else f"{ports[0]}..{ports[1]}"


def scheduler_leaves(
    policy: str, kind: str, rates: Sequence[QueueRate], capacity_bps: int, capability: Capability
) -> dict[str, Value]:
    """Return the leaves of one scheduler policy."""
    path = policy_path(policy)
    leaves: dict[str, Value] = {f"{path}/config/name": policy}
    if kind in ("weighted", "strict"):
        _shared(leaves, path, kind, rates, capability)
        return leaves
    burst = max(_LEAST_BURST, capacity_bps * BURST_MS // 8000)
    is_input, has_two = kind.endswith("police"), kind.startswith("two")
    for one in rates:
        name, own = queue_name(one.queue, capability), f"{path}/schedulers/scheduler[sequence={one.queue + 1}]"
        octets = min(one.burst_octets or burst, capability.most_burst_octets)
        leaves[f"{own}/config/sequence"] = one.queue + 1
        leaves[f"{own}/config/type"] = "TWO_RATE_THREE_COLOR" if has_two else "ONE_RATE_TWO_COLOR"
        entry = f"{own}/inputs/input[id={name}]/config"
        leaves[f"{entry}/id"] = name
        leaves[f"{entry}/input-type"] = "QUEUE"
        leaves[f"{entry}/queue"] = name
        leaves[f"{own}/output/config/output-type"] = "INTERFACE"
        if has_two:
            entry = f"{own}/two-rate-three-color/config"
            leaves[f"{entry}/cir"] = one.cir_bps
            leaves[f"{entry}/pir"] = one.pir_bps
            leaves[f"{entry}/bc"] = octets
            leaves[f"{entry}/be"] = octets
            if is_input:
                leaves[f"{own}/two-rate-three-color/violate-action/config/drop"] = True
        else:
            leaves[f"{own}/one-rate-two-color/config/cir"] = one.cir_bps
            leaves[f"{own}/one-rate-two-color/config/bc"] = octets
            leaves[f"{own}/one-rate-two-color/config/queuing-behavior"] = "POLICE" if is_input else "SHAPE"
            if is_input:
                leaves[f"{own}/one-rate-two-color/exceed-action/config/drop"] = True
    return leaves


def _shared(leaves: dict[str, Value], path: str, kind: str, rates: Sequence[QueueRate], capability: Capability) -> None:
    """Add schedulers that several queues share: strict ones in the order of queues, then by weight."""
    all_strict = kind == "strict"
    strict = [one for one in rates if all_strict or (one.is_protected and "strict" in capability.schedulers)]
    for sequence, members in ((1, strict), (2, [one for one in rates if one not in strict])):
        if not members:
            continue
        own = f"{path}/schedulers/scheduler[sequence={sequence}]"
        leaves[f"{own}/config/sequence"] = sequence
        if sequence == 1:
            leaves[f"{own}/config/priority"] = "STRICT"
        leaves[f"{own}/output/config/output-type"] = "INTERFACE"
        for one in members:
            name = queue_name(one.queue, capability)
            entry = f"{own}/inputs/input[id={name}]/config"
            leaves[f"{entry}/id"] = name
            leaves[f"{entry}/input-type"] = "QUEUE"
            leaves[f"{entry}/queue"] = name
            # Of strict inputs the weight is the priority, higher first.
            leaves[f"{entry}/weight"] = one.weight if sequence == 2 else capability.queues - one.queue


def port_leaves(
    interface: str, policies: Sequence[tuple[str, str]], classify: bool, queues: int, capability: Capability
) -> dict[str, Value]:
    """Return the leaves of one interface: what is attached to it.

    Parameters
    ----------
    policies:
        (direction, name of the scheduler policy).
    queues:
        How many queues it serves at its output.
    """
    path = f"{PORT}{escaped(interface)}]"
    leaves: dict[str, Value] = {f"{path}/config/interface-id": interface}
    if capability.interface_ref != "unsupported":
        leaves[f"{path}/interface-ref/config/interface"] = interface
    if classify:
        for family in (4, 6):
            entry = f"{path}/input/classifiers/classifier[type=IPV{family}]/config"
            leaves[f"{entry}/type"] = f"IPV{family}"
            leaves[f"{entry}/name"] = f"{PREFIX}ipv{family}"
    for direction, policy in policies:
        side = "output" if direction == "out" else "input"
        leaves[f"{path}/{side}/scheduler-policy/config/name"] = policy
        if direction == "out":
            for number in range(queues):
                name = queue_name(number, capability)
                leaves[f"{path}/output/queues/queue[name={name}]/config/name"] = name
    return leaves
