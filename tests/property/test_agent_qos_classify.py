"""What terms become finds each packet's first term, as a walk through the terms does."""

from __future__ import annotations

import ipaddress
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import strategies as st

from telemetryd.agent.qos.addresses import signatures, span
from telemetryd.agent.qos.classify import Program, compile_terms
from telemetryd.agent.qos.rules import Map, Rule, classid
from telemetryd.agent.qos.terms import WITH_PORTS, Classifier, Range, Term
from tests.trees import for_any

LONG = 5000
BASE = 0x0A000000
PLACES = ("p0", "p1", "p2", "p3", "10.0.0.4/30", "10.0.0.16")
PROTOCOLS = (1, 6, 17, 132)


class Packet(NamedTuple):
    source: int
    destination: int
    protocol: int
    source_port: int
    destination_port: int
    dscp: int
    hops: int
    is_fragment: bool


def ranges() -> st.SearchStrategy[tuple[Range, ...]]:
    """Generate what a place holds, within 32 addresses."""

    def merged(numbers: set[int]) -> tuple[Range, ...]:
        found: list[Range] = []
        for one in sorted(numbers):
            if found and one == found[-1][1] + 1:
                found[-1] = found[-1][0], one
            else:
                found.append((one, one))
        return tuple((BASE + low, BASE + high) for low, high in found)

    return st.sets(st.integers(0, 31), min_size=1, max_size=20).map(merged)


def some_ports() -> st.SearchStrategy[Range | None]:
    edges = st.integers(0, 60)
    return st.none() | st.tuples(edges, edges).map(lambda one: (min(one), max(one))) | edges.map(lambda one: (one, one))


@st.composite
def classifiers(draw: st.DrawFn) -> Classifier:
    """Generate a classifier whose terms come in runs of one form, or mixed."""
    places = {name: draw(ranges()) for name in PLACES}
    terms: list[Term] = []
    for _ in range(draw(st.integers(0, 5))):
        has = draw(st.fixed_dictionaries({name: st.booleans() for name in ("source", "destination", "dscp", "hops")}))
        side = draw(st.sampled_from(("", "source", "destination", "both")))
        for _ in range(draw(st.integers(1, 6))):
            ports = draw(some_ports())
            terms.append(
                Term(
                    path=f"/term[id={len(terms)}]",
                    source=draw(st.sampled_from(PLACES)) if has["source"] else "",
                    destination=draw(st.sampled_from(PLACES)) if has["destination"] else "",
                    protocol=draw(st.none() | st.sampled_from(PROTOCOLS)),
                    source_ports=ports if side in ("source", "both") else None,
                    destination_ports=ports if side in ("destination", "both") else None,
                    dscp=tuple(sorted(draw(st.sets(st.sampled_from((0, 10, 46)), min_size=1)))) if has["dscp"] else (),
                    hops=draw(st.sampled_from((None, 1, 64))) if has["hops"] and draw(st.integers(0, 3)) == 0 else None,
                    group=str(draw(st.integers(1, 5))),
                )
            )
    return Classifier("any", 4, tuple(terms), places)


def packets() -> st.SearchStrategy[list[Packet]]:
    address = st.integers(BASE, BASE + 33)
    port = st.integers(0, 61)
    one = st.builds(
        Packet,
        address,
        address,
        st.sampled_from(PROTOCOLS),
        port,
        port,
        st.sampled_from((0, 10, 46)),
        st.sampled_from((1, 2, 64)),
        st.integers(0, 9).map(lambda n: n == 0),
    )
    return st.lists(one, min_size=20, max_size=60)


def first_match(classifier: Classifier, packet: Packet) -> int:
    """Walk through the terms."""
    has_ports = packet.protocol in WITH_PORTS and not packet.is_fragment

    def is_at(place: str, address: int) -> bool:
        return not place or any(low <= address <= high for low, high in classifier.places[place])

    def is_in(ports: Range | None, port: int) -> bool:
        return ports is None or (has_ports and ports[0] <= port <= ports[1])

    for term in classifier.terms:
        if (
            is_at(term.source, packet.source)
            and is_at(term.destination, packet.destination)
            and term.protocol in (None, packet.protocol)
            and is_in(term.source_ports, packet.source_port)
            and is_in(term.destination_ports, packet.destination_port)
            and (not term.dscp or packet.dscp in term.dscp)
            and term.hops in (None, packet.hops)
        ):
            return int(term.group)
    return 0


class Machine:
    """Goes through chains as the kernel does, by the texts of keys."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.looks = 0

    def run(self, packet: Packet) -> int:
        """Return the priority that a packet gets; 0 where nothing is done with it."""
        self.packet, self.priority, self.is_done, self.looks = packet, 0, False, 0
        self._chain(self.program.entry)
        return self.priority if self.is_done else 0

    def _chain(self, name: str) -> None:
        for rule in self.program.chains[name]:
            self._rule(rule)
            if self.is_done:
                return

    def _rule(self, rule: Rule) -> None:
        if not all(self._holds(field, wanted) for field, wanted in rule.guard):
            return
        if rule.kind == "fix":
            self.priority, self.is_done = rule.value, True
            return
        value = self._look(self.program.maps[rule.map])
        if value is None:
            return
        if rule.kind == "jump":
            self._chain(value.removeprefix("jump "))
            return
        high, _, low = value.partition(":")
        self.priority = 0 if value == "none" else int(high, 16) << 16 | int(low, 16)
        self.is_done = rule.kind == "find"

    def _look(self, own: Map) -> str | None:
        self.looks += 1
        values = [self._field(field) for field in own.fields]
        if None in values:
            return None
        found = [value for key, value in own.elements.items() if all(map(holds, key.split(" . "), values))]
        assert len(found) <= 1, "elements overlap"
        return found[0] if found else None

    def _holds(self, field: str, wanted: str) -> bool:
        value = self._field(field)
        if value is None:
            return False
        if wanted.startswith("@"):
            return any(holds(key, value) for key in self.program.maps[wanted[1:]].elements)
        return any(holds(one, value) for one in wanted.strip("{ }").split(", "))

    def _field(self, field: str) -> Any:
        packet = self.packet
        has_ports = packet.protocol in WITH_PORTS and not packet.is_fragment
        header, _, name = field.partition(" ")
        match field:
            case "meta priority":
                return classid(self.priority)
            case "meta l4proto":
                return packet.protocol
            case "ip saddr":
                return ipaddress.ip_address(packet.source)
            case "ip daddr":
                return ipaddress.ip_address(packet.destination)
            case "ip dscp":
                return packet.dscp
            case "ip ttl":
                return packet.hops
            case _:
                assert name in ("sport", "dport")
        numbers = {"th": packet.protocol, "tcp": 6, "udp": 17, "sctp": 132, "dccp": 33, "udplite": 136}
        if not has_ports or numbers[header] != packet.protocol:
            return None
        return packet.source_port if name == "sport" else packet.destination_port


def holds(key: str, value: Any) -> bool:
    """Tell whether a value is what an element's text says."""
    if isinstance(value, str):
        return key == value
    if isinstance(value, int):
        low, _, high = key.partition("-")
        return int(low, 0) <= value <= int(high or low, 0)
    low, _, high = key.partition("-")
    if high:
        return bool(ipaddress.ip_address(low) <= value <= ipaddress.ip_address(high))
    return value in ipaddress.ip_network(low)


@for_any(classifiers(), packets(), long=LONG)
def test_the_first_term_counts(classifier: Classifier, sent: list[Packet]) -> None:
    """Whatever the terms look at, each packet gets what its first term says."""
    machine = Machine(compile_terms(classifier, lambda term: int(term.group)))
    for packet in sent:
        assert machine.run(packet) == first_match(classifier, packet), packet


@for_any(st.dictionaries(st.sampled_from("abcde"), ranges()))
def test_places_are_told_apart(places: dict[str, tuple[Range, ...]]) -> None:
    """Each address has exactly the places that hold it; ranges do not overlap."""
    found = signatures(places)
    assert all(one[1] < two[0] for one, two in pairwise(found))
    for address in range(BASE, BASE + 33):
        own = {name for name, held in places.items() if any(low <= address <= high for low, high in held)}
        signature = next((own for low, high, own in found if low <= address <= high), frozenset())
        assert signature == own


@for_any(st.integers(0, 2**32 - 1), st.integers(0, 300))
def test_ranges_are_written_as_they_are_read(first: int, length: int) -> None:
    """A prefix where it is one, else both ends."""
    last = min(first + length, 2**32 - 1)
    text = span(first, last, 4)
    if "-" in text:
        low, _, high = text.partition("-")
        assert (int(ipaddress.ip_address(low)), int(ipaddress.ip_address(high))) == (first, last)
    else:
        network = ipaddress.ip_network(text)
        assert (int(network[0]), int(network[-1])) == (first, last)


@pytest.mark.parametrize("count", [100, 4200])
def test_look_ups_do_not_grow(count: int) -> None:
    """Departments by applications at both ends: a look-up of one address, and one of the rest, however many terms there are."""
    departments, applications = 10, count // 10
    places: dict[str, tuple[Range, ...]] = {
        **{f"d{i}": ((BASE + i * 256, BASE + i * 256 + 255),) for i in range(departments)},
        **{f"s{i}": ((BASE + 0x100000 + i, BASE + 0x100000 + i),) for i in range(applications)},
    }
    terms = tuple(
        Term(f"/term[id={d}-{s}]", f"d{d}", f"s{s}", 6, None, (443, 443), group=str(1 + (d * 7 + s) % 1000))
        for d in range(departments)
        for s in range(applications)
    )
    machine = Machine(compile_terms(Classifier("any", 4, terms, places), lambda term: int(term.group)))
    packet = Packet(BASE + 3 * 256 + 9, BASE + 0x100000 + 5, 6, 50_000, 443, 0, 64, False)
    assert machine.run(packet) == 1 + (3 * 7 + 5) % 1000
    assert machine.looks == 2
