"""Terms of a classifier as the configuration has them."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

from telemetryd.agent.qos.config import CLASSIFIERS, GROUPS, Configuration, invalid, text, unimplemented
from telemetryd.agent.tree import Value

Range = tuple[int, int]
#: Protocols that have ports, by their numbers: TCP, UDP, DCCP, SCTP, UDP-Lite.
WITH_PORTS: Final = (6, 17, 33, 132, 136)
_PROTOCOLS: Final = {
    "IP_ICMP": 1,
    "IP_IGMP": 2,
    "IP_TCP": 6,
    "IP_UDP": 17,
    "IP_RSVP": 46,
    "IP_GRE": 47,
    "IP_AUTH": 51,
    "IP_PIM": 103,
    "IP_L2TP": 115,
}
_PORTS: Final = re.compile(r"(\d+)\.\.(\d+)")


class Term(NamedTuple):
    """A term; conditions that are left out hold for every packet.

    Attributes
    ----------
    source, destination:
        Names of where its ends are, keys of :attr:`Classifier.places`; "" for anywhere.
    group:
        Its forwarding group; "" where it names none.
    mark:
        The DSCP to set, if any.
    """

    path: str
    source: str = ""
    destination: str = ""
    protocol: int | None = None
    source_ports: Range | None = None
    destination_ports: Range | None = None
    dscp: tuple[int, ...] = ()
    hops: int | None = None
    group: str = ""
    mark: int | None = None


class Classifier(NamedTuple):
    """A classifier of a family of addresses: its terms in the order of their ids, and the places that they name."""

    name: str
    family: int
    terms: tuple[Term, ...]
    places: dict[str, tuple[Range, ...]]


def classifier_of(config: Configuration, name: str, family: int, where: str) -> Classifier:
    """Return a classifier.

    Parameters
    ----------
    family:
        As it is attached: 4 or 6.
    where:
        The leaf that attaches it.

    Raises
    ------
    RefusedError
        If something in it is not realised here, or does not belong to this family.
    """
    path = config.of_list(CLASSIFIERS).get(name)
    if path is None:
        raise invalid(where, f"there is no classifier {name}")
    kind = config.entry(path).get("config/type", f"IPV{family}")
    if kind != f"IPV{family}":
        raise invalid(where, f"the classifier {name} is of type {kind}")
    places: dict[str, tuple[Range, ...]] = {}
    entries = config.of_list(f"{path}/terms/term")
    terms = tuple(_term(config, entries[id], family, places) for id in sorted(entries))
    return Classifier(name, family, terms, places)


def queue_of(config: Configuration, group: str) -> str:
    """Return the queue of a forwarding group; "" where it has none."""
    own = config.entry(config.of_list(GROUPS).get(group, ""))
    for leaf in ("config/output-queue", "config/unicast-output-queue"):
        if leaf in own:
            return text(own[leaf])
    return ""


def _term(config: Configuration, path: str, family: int, places: dict[str, tuple[Range, ...]]) -> Term:
    found = Term(path)
    other = f"conditions/ipv{10 - family}/"
    for leaf, value in config.entry(path).items():
        name = leaf.rpartition("/config/")[2]
        if leaf.startswith(f"conditions/ipv{family}/config/"):
            found = _address_condition(config, found, path, leaf, name, value, family, places)
        elif leaf.startswith("conditions/transport/config/"):
            if name not in ("source-port", "destination-port"):
                raise unimplemented(f"{path}/{leaf}", "is not realised on Linux")
            ports = _ports(f"{path}/{leaf}", value)
            if name == "source-port":
                found = found._replace(source_ports=ports)
            else:
                found = found._replace(destination_ports=ports)
        elif leaf == "actions/config/target-group":
            found = found._replace(group=text(value))
        elif leaf == "actions/remark/config/set-dscp":
            found = found._replace(mark=int(value))  # type: ignore[arg-type]
        elif leaf.startswith(other):
            raise invalid(f"{path}/{leaf}", f"a classifier of IPv{family} looks at no address of IPv{10 - family}")
        elif leaf not in ("config/id", "id"):
            raise unimplemented(f"{path}/{leaf}", "is not realised on Linux")
    return found


def _address_condition(
    config: Configuration,
    found: Term,
    path: str,
    leaf: str,
    name: str,
    value: Value,
    family: int,
    places: dict[str, tuple[Range, ...]],
) -> Term:
    match name:
        case "source-address" | "destination-address":
            place = text(value)
            if place not in places:
                places[place] = _ranges(f"{path}/{leaf}", (place,), family)
            return _at(found, f"{path}/{leaf}", name, place)
        case "source-address-prefix-set" | "destination-address-prefix-set":
            place = f"@{text(value)}"
            if place not in places:
                places[place] = _set(config, f"{path}/{leaf}", text(value), family)
            return _at(found, f"{path}/{leaf}", name, place)
        case "dscp":
            return found._replace(dscp=(int(value),))  # type: ignore[arg-type]
        case "dscp-set":
            return found._replace(dscp=tuple(sorted(map(int, value))) if isinstance(value, tuple) else ())
        case "protocol":
            return found._replace(protocol=_protocol(f"{path}/{leaf}", value))
        case "hop-limit":
            return found._replace(hops=int(value))  # type: ignore[arg-type]
        case _:
            raise unimplemented(f"{path}/{leaf}", "is not realised on Linux")


def _at(found: Term, path: str, name: str, place: str) -> Term:
    is_source = name.startswith("source")
    if found.source if is_source else found.destination:
        raise unimplemented(path, "a prefix and a prefix set at one end are not realised on Linux")
    return found._replace(source=place) if is_source else found._replace(destination=place)


def _set(config: Configuration, where: str, name: str, family: int) -> tuple[Range, ...]:
    kind = f"ipv{family}-prefix-set"
    path = config.of_list(f"/defined-sets/{kind}s/{kind}").get(name)
    if path is None:
        raise invalid(where, f"there is no {kind} {name}")
    prefixes = config.entry(path).get("config/prefix", ())
    texts = tuple(map(str, prefixes)) if isinstance(prefixes, tuple) else (text(prefixes),)
    return _ranges(f"{path}/config/prefix", texts, family)


def _ranges(path: str, prefixes: tuple[str, ...], family: int) -> tuple[Range, ...]:
    """Return what prefixes hold as ranges that do not touch, in order."""
    spans = []
    for one in prefixes:
        try:
            network = ipaddress.ip_network(one, strict=False)
        except ValueError:
            raise invalid(path, f"{one} is no prefix") from None
        if network.version != family:
            raise invalid(path, f"{one} is no prefix of IPv{family}")
        spans.append((int(network.network_address), int(network.broadcast_address)))
    spans.sort()
    merged: list[Range] = []
    for first, last in spans:
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return tuple(merged)


def _protocol(path: str, value: Value) -> int:
    if isinstance(value, int):
        return value
    name = text(value).rpartition(":")[2]
    if name in _PROTOCOLS:
        return _PROTOCOLS[name]
    if name.isdigit():
        return int(name)
    raise unimplemented(path, f"the protocol {name} has no number here")


def _ports(path: str, value: Value) -> Range | None:
    """Return the first and last port; None for any."""
    if isinstance(value, int):
        return value, value
    found = _PORTS.fullmatch(text(value))
    if found is not None:
        first, last = int(found[1]), int(found[2])
        if first > last:
            raise invalid(path, f"{text(value)} is no range")
        return first, last
    if text(value) == "ANY":
        return None
    if text(value).isdigit():
        return int(text(value)), int(text(value))
    raise unimplemented(path, f"{text(value)} is not realised on Linux")
