"""How a gateway knows the packets of each leaf: prefix sets, and terms that name them.

Two families of sets, the members of each of which do not overlap, so that one look-up finds an address in all of them:

    telemetryd-DEPARTMENT               addresses of a department, by the longest prefix
    telemetryd-served.APPLICATION...    addresses where the same applications are served

A term looks at a set at one end, or at one at each end, and at protocol and port at the serving end. The first term by
its id counts; ids begin with the rank:

    10  protected classes, by either end
    20  an application at one end, a department's users at the other; users that no leaf of the application names count
        with its owner's
    30  an application: one port    32  some ports    34  a protocol    36  any
    50  a department and the marks of a service class    60  a department
    70  the marks of a service class
    99  the rest

The odd rank beside it is the same seen from the source.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final, NamedTuple

from telemetryd.enforce.gateway_tree import REST, TreeNode
from telemetryd.enforce.match import Match, Ports, dscp_matches, protected_matches
from telemetryd.enforce.names import PREFIX, Value, digest
from telemetryd.enforce.openconfig_qos import add_conditions
from telemetryd.policy.outline import PROTECTED
from telemetryd.registry.fields import Address, Network
from telemetryd.registry.models import Registry, Serve

_OTHER: Final = {"source": "destination", "destination": "source"}
_NAMED: Final = 3


class Term(NamedTuple):
    """A term: its rank, its conditions, the leaf that its packets belong to, and the DSCP to set, if any.

    Of two with the same conditions the one with the smaller ``claim`` counts: that of the longer prefix.
    """

    rank: int
    match: Match
    leaf: tuple[str, ...]
    dscp: int | None
    claim: int = 0

    @property
    def id(self) -> str:
        """Its id: the rank, and a digest of the conditions."""
        return f"{self.rank:02}-{digest(repr(self.match))}"


@dataclass(slots=True)
class PrefixSets:
    """Sets of one family of addresses.

    Attributes
    ----------
    prefixes:
        Name of a set -> its prefixes, in the order of their texts.
    departments:
        Department -> name of its set.
    served:
        (application, place of the entry in ``serves``) -> (name of the set, how many claim its addresses with a longer
        prefix), of each in which it is served there.
    outside:
        Sets in which nobody's department is.
    """

    prefixes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    departments: dict[str, str] = field(default_factory=dict)
    served: dict[tuple[str, int], list[tuple[str, int]]] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)


def prefix_sets(registry: Registry, family: int, applications: Iterable[str]) -> PrefixSets:
    """Return the sets of a family, with those where some applications are served."""
    owners = _owners(registry, family)
    sets = PrefixSets()
    spans = flatten(owners)
    starts = [int(ipaddress.ip_address(low)) for low, _, _ in spans]
    by_owner: dict[str, list[str]] = {}
    for low, high, name in spans:
        by_owner.setdefault(name, []).extend(_cut(low, high))
    for name in sorted(by_owner):
        own = sets.departments[name] = f"{PREFIX}{name}"
        sets.prefixes[own] = tuple(sorted(by_owner[name]))
    places = sorted(
        (
            (prefix, (name, place))
            for name in applications
            for place, serve in enumerate(registry.application[name].serves)
            for prefix in _served_at(serve, registry, family)
        ),
        key=lambda one: (-one[0].prefixlen, one[1]),
    )
    groups: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for prefix, claims in _layers(places):
        groups.setdefault(claims, []).append(str(prefix))
    for claims, prefixes in sorted(groups.items()):
        name = _served_name(claims, registry)
        sets.prefixes[name] = tuple(sorted(prefixes))
        for claim, one in enumerate(claims):
            sets.served.setdefault(one, []).append((name, claim))
        first = int(ipaddress.ip_network(prefixes[0])[0])
        at = bisect_right(starts, first) - 1
        if at < 0 or int(ipaddress.ip_address(spans[at][1])) < first:
            sets.outside.add(name)
    return sets


def terms_of(
    leaves: Iterable[tuple[TreeNode, Sequence[str]]], registry: Registry, notes: list[str]
) -> tuple[list[Term], dict[int, PrefixSets]]:
    """Return the terms of the leaves of all ports in the order of their ids, and the sets of each family.

    Parameters
    ----------
    leaves:
        Each with the ends of a packet at which whose it is can be seen (:func:`telemetryd.enforce.match.ends_of`).
    notes:
        What is not told apart is added here.
    """
    leaves = list(leaves)
    wanted = {name for leaf, _ in leaves for level, name in leaf.levels if level == "application"}
    wanted &= registry.application.keys()
    sets = {family: prefix_sets(registry, family, sorted(wanted)) for family in (4, 6)}
    found: dict[Match, Term] = {}
    for leaf, ends in leaves:
        is_known = False
        for term in _terms(leaf, ends, registry, sets):
            is_known = True
            first = found.setdefault(term.match, term)
            if first.leaf != term.leaf:
                if term.claim < first.claim:
                    found[term.match], term, first = term, first, term
                notes.append(f"{'/'.join(term.leaf)}: {'/'.join(first.leaf)} has its packets already")
        if not is_known and leaf.names != (REST,):
            notes.append(f"{'/'.join(leaf.names)}: the registry does not say how its packets are known")
    return sorted(found.values(), key=lambda term: term.id), sets


def term_leaves(
    terms: Iterable[Term], groups: Mapping[tuple[str, ...], str], rest: str, remark: bool
) -> dict[str, Value]:
    """Return the leaves of both classifiers.

    Parameters
    ----------
    groups:
        Names of a leaf -> its forwarding group.
    rest:
        Forwarding group of what nothing matches.
    remark:
        Whether a term can set the DSCP.
    """
    leaves: dict[str, Value] = {}
    terms = list(terms)
    for family in (4, 6):
        name = f"{PREFIX}ipv{family}"
        path = f"/qos/classifiers/classifier[name={name}]"
        leaves[f"{path}/config/name"] = name
        leaves[f"{path}/config/type"] = f"IPV{family}"
        for term in terms:
            if term.match.family != family:
                continue
            own = f"{path}/terms/term[id={term.id}]"
            leaves[f"{own}/config/id"] = term.id
            add_conditions(leaves, own, term.match)
            leaves[f"{own}/actions/config/target-group"] = groups[term.leaf]
            if term.dscp is not None and remark:
                leaves[f"{own}/actions/remark/config/set-dscp"] = term.dscp
        own = f"{path}/terms/term[id=99-rest]"
        leaves[f"{own}/config/id"] = "99-rest"
        leaves[f"{own}/actions/config/target-group"] = rest
    return leaves


def set_leaves(sets: Mapping[int, PrefixSets], terms: Iterable[Term]) -> dict[str, Value]:
    """Return the leaves of the sets that terms name."""
    used = {name for term in terms for name in (term.match.source_set, term.match.destination_set)}
    leaves: dict[str, Value] = {}
    for family, own in sets.items():
        for name, prefixes in own.prefixes.items():
            if name in used:
                path = f"/defined-sets/ipv{family}-prefix-sets/ipv{family}-prefix-set[name={name}]/config"
                leaves[f"{path}/name"] = name
                leaves[f"{path}/prefix"] = prefixes
    return leaves


def _terms(leaf: TreeNode, ends: Sequence[str], registry: Registry, sets: Mapping[int, PrefixSets]) -> Iterator[Term]:
    names = dict(leaf.levels)
    if PROTECTED in names:
        for one in leaf.leaves:
            for match in protected_matches(dict(one.levels).get("application", ""), registry):
                is_source = bool(match.source or match.source_ports)
                yield Term(10 + is_source, match, leaf.names, leaf.dscp)
        return
    department = names.get("department", "")
    if names.get("application"):
        for family, own in sets.items():
            yield from _application_terms(leaf, names["application"], department, ends, registry, family, own)
        return
    marks = dscp_matches(names.get("service_class", ""), registry)
    dscp = marks[0].dscp if marks else ()
    if department:
        for family, own in sets.items():
            if department in own.departments:
                for end in ends:
                    match = _at(Match(family, dscp), end, own.departments[department])
                    yield Term((50 if dscp else 60) + (end == "source"), match, leaf.names, leaf.dscp)
    elif dscp:
        for match in marks:
            yield Term(70, match, leaf.names, leaf.dscp)


def _application_terms(
    leaf: TreeNode,
    application: str,
    department: str,
    ends: Sequence[str],
    registry: Registry,
    family: int,
    sets: PrefixSets,
) -> Iterator[Term]:
    known = registry.application.get(application)
    if known is None:
        return
    users = sets.departments.get(department, "")
    for place, serve in enumerate(known.serves):
        for name, claim in sets.served.get((application, place), ()):
            sides: Sequence[str] = ends
            if len(ends) == 2:
                # Inside the network the department is the user, at the other end.
                others = {users} if users else set()
                if department in ("", known.owner):
                    others.add("")
            elif name in sets.outside:
                sides, others = (_OTHER[ends[0]],), {users}
            else:
                # The serving end belongs to the owner, whoever runs the server.
                others = {""} if department in ("", known.owner) else set()
            for user, side, ports in product(sorted(others), sides, serve.port_ranges or (None,)):
                match = _served(Match(family, protocol=serve.protocol_number), side, name, ports)
                rank = 20 if user else 30 + _width(match)
                if user:
                    match = _at(match, _OTHER[side], user)
                yield Term(rank + (side == "source"), match, leaf.names, leaf.dscp, claim)


def _at(match: Match, end: str, name: str) -> Match:
    return match._replace(source_set=name) if end == "source" else match._replace(destination_set=name)


def _served(match: Match, end: str, name: str, ports: Ports | None) -> Match:
    if end == "source":
        return match._replace(source_set=name, source_ports=ports)
    return match._replace(destination_set=name, destination_ports=ports)


def _width(match: Match) -> int:
    ports = match.source_ports or match.destination_ports
    if ports is not None:
        return 0 if ports[0] == ports[1] else 2
    return 4 if match.protocol is not None else 6


def _served_name(own: Sequence[tuple[str, int]], registry: Registry) -> str:
    """Name a set by the applications that are served in it; where one has several entries, or many are, by a digest."""
    names = list(dict.fromkeys(name for name, _ in own))
    whole = len(names) == 1 and len(own) == len(registry.application[names[0]].serves)
    shown = ".".join(names[:_NAMED])
    return f"{PREFIX}served.{shown}" + ("" if whole else f".{digest(repr(own))}")


def _served_at(serve: Serve, registry: Registry, family: int) -> list[Network]:
    """Return where an entry is served in the default instance."""
    default = registry.default_instance
    found: list[Network] = []
    if (serve.instance or default) == default:
        found += serve.prefixes
    for name in serve.servers:
        server = registry.server[name]
        if (server.instance or default) == default:
            found += [ipaddress.ip_network(address) for address in server.addresses]
    return [prefix for prefix in found if prefix.version == family]


def _owners(registry: Registry, family: int) -> list[tuple[Network, str]]:
    default = registry.default_instance
    found: list[tuple[Network, str]] = [
        (one.prefix, one.department)
        for one in registry.networks
        if one.department is not None and one.prefix.version == family and (one.instance or default) == default
    ]
    for server in registry.servers:
        if server.department is not None and (server.instance or default) == default:
            own = (ipaddress.ip_network(address) for address in server.addresses)
            found += [(prefix, server.department) for prefix in own if prefix.version == family]
    return found


def _layers(
    places: Sequence[tuple[Network, tuple[str, int]]],
) -> list[tuple[Network, tuple[tuple[str, int], ...]]]:
    """Return prefixes that do not overlap, each with all that is served there, the longest prefix first.

    Parameters
    ----------
    places:
        The longest prefixes first.
    """
    by_prefix: dict[Network, list[tuple[str, int]]] = {}
    for prefix, claim in places:
        by_prefix.setdefault(prefix, []).append(claim)
    lengths = sorted({prefix.prefixlen for prefix in by_prefix}, reverse=True)
    below: dict[Network, list[Network]] = {}
    result: list[tuple[Network, tuple[tuple[str, int], ...]]] = []
    for prefix, own in by_prefix.items():
        every = list(own)
        above = None
        for length in lengths:
            if length < prefix.prefixlen:
                wider = prefix.supernet(new_prefix=length)
                if wider in by_prefix:
                    every += by_prefix[wider]
                    above = above or wider
        if above is not None:
            below.setdefault(above, []).append(prefix)
        result.append((prefix, tuple(every)))
    return sorted(
        ((part, own) for prefix, own in result for part in _without(prefix, below.get(prefix, ()))),
        key=lambda one: int(one[0].network_address),
    )


def _without(prefix: Network, holes: Sequence[Network]) -> list[Network]:
    """Return what is left of a prefix without some that lie in it and do not overlap."""
    at, last = int(prefix.network_address), int(prefix.broadcast_address)
    result: list[Network] = []
    make = type(prefix.network_address)
    for hole in sorted(holes, key=lambda hole: int(hole.network_address)):
        if int(hole.network_address) > at:
            result += _summarised(make(at), make(int(hole.network_address) - 1))
        at = int(hole.broadcast_address) + 1
    if at <= last:
        result += _summarised(make(at), make(last))
    return result


def _cut(low: str, high: str) -> list[str]:
    """Write a range of addresses as prefixes."""
    return [str(prefix) for prefix in _summarised(ipaddress.ip_address(low), ipaddress.ip_address(high))]


def _summarised(first: Address, last: Address) -> list[Network]:
    return list(ipaddress.summarize_address_range(first, last))


def flatten(owners: Iterable[tuple[Network, str]]) -> list[tuple[str, str, str]]:
    """Return (first address, last address, owner) of ranges that do not overlap; the longest prefix owns an address."""
    ordered = sorted(dict(owners).items(), key=lambda one: (int(one[0][0]), one[0].prefixlen))
    result: list[tuple[int, int, str]] = []
    stack: list[tuple[int, str]] = []
    at = 0

    def fill(until: int) -> None:
        """Give what is left below an address to whoever is on the stack."""
        nonlocal at
        while stack and at < until:
            last, name = stack[-1]
            end = min(until, last + 1)
            if end > at:
                if result and result[-1][2] == name and result[-1][1] == at - 1:
                    result[-1] = (result[-1][0], end - 1, name)
                else:
                    result.append((at, end - 1, name))
                at = end
            if last < until:
                stack.pop()

    make = type(ordered[0][0][0]) if ordered else ipaddress.IPv4Address
    for prefix, name in ordered:
        first = int(prefix[0])
        fill(first)
        while stack and stack[-1][0] < first:
            stack.pop()
        at = first
        stack.append((int(prefix[-1]), name))
    if ordered:
        fill(max(last for last, _ in stack) + 1)
    return [(str(make(low)), str(make(high)), name) for low, high, name in result]
