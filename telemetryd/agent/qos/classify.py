"""From terms to maps: the first term by its id counts, and it is found in a few look-ups however many there are.

Terms that follow each other and look at the same things make a *run*. What a run has at one end becomes a map from
addresses to a number that stands for the places an address is in (its *mark*), kept in the packet's priority; then
mark . protocol . port gives the class. Places of few addresses need no mark: the address itself is looked up.

    ip daddr -> mark                              load
    mark . protocol . port -> class, done         find      (one port; ranges beside it)
    mark . protocol -> class, done                find
    mark -> class, done                           find

Where terms look at both ends, one end has the mark. The other one is an address of the key, or, where its places are
large, leads to a chain for them:

    ip saddr -> mark                              load
    mark . ip daddr . protocol . port -> class    find

    ip daddr -> a chain for the places            jump
        mark . protocol . port -> class, done     find

Marks do not move when terms come or go: they are digests. What has no such form, and all terms where there are few,
become rules of their own, which count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Final, NamedTuple

from telemetryd.agent.qos.addresses import signatures, span
from telemetryd.agent.qos.config import unimplemented
from telemetryd.agent.qos.rules import Map, Rule, classid
from telemetryd.agent.qos.terms import WITH_PORTS, Classifier, Range, Term

#: Ranges of ports up to this size become single ports, which a hash finds.
SINGLE_PORTS: Final = 16
#: Marks have this major number, which no class has.
_MARKS: Final = 0x0200 << 16
_MARK_COUNT: Final = 1 << 24
#: So many terms are rules of their own: they cost little, and count.
FEW_TERMS: Final = 16
#: Rules of their own and elements that a classifier may need.
MOST_RULES: Final = 4096
MOST_ELEMENTS: Final = 1_000_000
#: Places of so many addresses at most are looked up address by address.
FEW_ADDRESSES: Final = 16


class Program(NamedTuple):
    """What a classifier becomes.

    Attributes
    ----------
    entry:
        The chain that a packet goes through.
    terms:
        (chain, position of a rule) -> path of the term that it is, of rules that count.
    """

    entry: str
    chains: dict[str, list[Rule]]
    maps: dict[str, Map]
    terms: dict[tuple[str, int], str]


class _Shape(NamedTuple):
    """What terms of a run look at.

    Attributes
    ----------
    end:
        "source", "destination", "both" or "".
    ports:
        The end whose ports they look at; "" where they look at none.
    """

    end: str
    ports: str
    has_dscp: bool


def compile_terms(classifier: Classifier, action: Callable[[Term], int]) -> Program:
    """Return the chains and maps of a classifier.

    Parameters
    ----------
    action:
        What the priority becomes where a term matches.

    Raises
    ------
    RefusedError
        If it has more terms without a common form than rules should be gone through.
    """
    return _Compiler(classifier, action).compile()


class _Compiler:
    def __init__(self, classifier: Classifier, action: Callable[[Term], int]) -> None:
        self._classifier = classifier
        self._action = action
        self._name = f"c{classifier.family}-{_digest(classifier.name)}"
        self._chains: dict[str, list[Rule]] = {self._name: []}
        self._maps: dict[str, Map] = {}
        self._terms: dict[tuple[str, int], str] = {}
        self._used_marks: set[int] = set()
        self._loaded = ""
        self._address = "ip" if classifier.family == 4 else "ip6"
        #: (end, places) -> name of the map of marks, and the signatures with their marks.
        self._marks: dict[tuple[str, frozenset[str]], tuple[str, dict[frozenset[str], int]]] = {}

    def compile(self) -> Program:
        terms = self._classifier.terms
        runs = list(_runs(terms)) if len(terms) > FEW_TERMS else [(None, list(terms))]
        wanted = [
            (end, _places(run, end))
            for shape, run in runs
            if shape is not None
            for end in ("source", "destination")
            if not (shape.end == end and self._has_few(run, end))
        ]
        # Runs whose places are among those of another one share its map.
        self._groups = sorted({one for one in wanted if one[1]}, key=lambda one: -len(one[1]))
        for i, (shape, run) in enumerate(runs):
            if shape is None:
                for term in run:
                    self._rule(term)
            elif not shape.end:
                self._find(self._name, f"{self._name}-{i}", [("", run)], shape, ())
            elif shape.end == "both":
                self._both(f"{self._name}-{i}", run, shape)
            elif self._has_few(run, shape.end):
                held = self._by_address(run, shape.end)
                self._find(self._name, f"{self._name}-{i}", held, shape, (self._field(shape.end),))
            else:
                marks = self._load(shape.end, _places(run, shape.end))
                held = _by_signature(run, shape.end, marks)
                self._find(self._name, f"{self._name}-{i}", held, shape, ("meta priority",))
        if sum(len(rules) for rules in self._chains.values()) > MOST_RULES:
            raise unimplemented(
                f"/qos/classifiers/classifier[name={self._classifier.name}]",
                f"it needs more than {MOST_RULES} rules: terms that look at the same things should follow each other",
            )
        if sum(len(one.elements) for one in self._maps.values()) > MOST_ELEMENTS:
            raise unimplemented(
                f"/qos/classifiers/classifier[name={self._classifier.name}]",
                f"it needs more than {MOST_ELEMENTS} elements of maps: let prefix sets not overlap",
            )
        return Program(self._name, self._chains, self._maps, self._terms)

    def _load(self, end: str, places: frozenset[str]) -> dict[frozenset[str], int]:
        """Make sure that the mark of an end is known; return the marks by the places that an address is in."""
        every = next(own for side, own in self._groups if side == end and places <= own)
        found = self._marks.get((end, every))
        if found is None:
            name = f"{self._name}-{end[0]}{len(self._marks)}"
            spans = signatures({place: self._classifier.places[place] for place in every})
            marks = self._new_marks(end, {signature for _, _, signature in spans})
            elements = {self._span(first, last): classid(marks[signature]) for first, last, signature in spans}
            self._maps[name] = Map((self._field(end),), "meta priority", True, elements)
            found = self._marks[end, every] = name, marks
        if self._loaded != found[0]:
            self._chains[self._name].append(Rule("load", map=found[0], fields=(self._field(end),)))
            self._loaded = found[0]
        return found[1]

    def _new_marks(self, end: str, every: set[frozenset[str]]) -> dict[frozenset[str], int]:
        marks: dict[frozenset[str], int] = {}
        for signature in sorted(every, key=sorted):
            text = "\0".join((end, *sorted(signature)))
            value = int.from_bytes(hashlib.sha256(text.encode()).digest()[:3], "big")
            while value in self._used_marks:
                value = (value + 1) % _MARK_COUNT
            self._used_marks.add(value)
            marks[signature] = _MARKS | value
        return marks

    def _has_few(self, run: Iterable[Term], end: str) -> bool:
        """Tell whether the places at an end are small enough to be looked up address by address."""
        return all(
            sum(last - first + 1 for first, last in self._classifier.places[place]) <= FEW_ADDRESSES
            for place in _places(run, end)
        )

    def _by_address(self, run: Iterable[Term], end: str) -> Iterator[tuple[str, list[Term]]]:
        """Yield for each address at an end its terms, in order."""
        found: dict[int, list[Term]] = {}
        for term in run:
            for first, last in self._classifier.places[_place(term, end)]:
                for address in range(first, last + 1):
                    found.setdefault(address, []).append(term)
        for address, own in found.items():
            yield self._span(address, address), own

    def _both(self, name: str, run: Sequence[Term], shape: _Shape) -> None:
        near = shape.ports or "destination"
        if not self._has_few(run, near) and self._has_few(run, _OTHER[near]):
            near = _OTHER[near]
        far = _OTHER[near]
        marks = self._load(far, _places(run, far))
        if self._has_few(run, near):
            held = (
                (f"{mark} . {address}", own)
                for mark, terms in _by_signature(run, far, marks)
                for address, own in self._by_address(terms, near)
            )
            self._find(self._name, name, held, shape, ("meta priority", self._field(near)))
            return
        by_place: dict[str, list[Term]] = {}
        for term in run:
            by_place.setdefault(_place(term, near), []).append(term)
        spans = signatures({place: self._classifier.places[place] for place in by_place})
        chains: dict[frozenset[str], str] = {}
        order = {term.path: i for i, term in enumerate(run)}
        for signature in sorted({one for _, _, one in spans}, key=sorted):
            chain = chains[signature] = f"{name}-{_digest(chr(0).join(sorted(signature)))}"
            self._chains[chain] = []
            terms = sorted((term for place in signature for term in by_place[place]), key=lambda one: order[one.path])
            self._find(chain, chain, _by_signature(terms, far, marks), shape, ("meta priority",))
        elements = {self._span(first, last): f"jump {chains[signature]}" for first, last, signature in spans}
        self._maps[name] = Map((self._field(near),), "verdict", True, elements)
        self._chains[self._name].append(Rule("jump", map=name, fields=(self._field(near),)))

    def _find(
        self,
        chain: str,
        name: str,
        held: Iterable[tuple[str, Sequence[Term]]],
        shape: _Shape,
        first: tuple[str, ...],
    ) -> None:
        """Add the look-ups of terms, by the fields and the text of where they are (nothing: anywhere)."""
        by_dscp: dict[int | None, list[tuple[str, Sequence[Term]]]] = {}
        for where, terms in held:
            if not shape.has_dscp:
                by_dscp.setdefault(None, []).append((where, terms))
                continue
            for value in sorted({value for term in terms for value in term.dscp}):
                by_dscp.setdefault(value, []).append((where, [term for term in terms if value in term.dscp]))
        tables: dict[tuple[tuple[tuple[str, str], ...], ...], list[int]] = {}
        content: dict[tuple[tuple[tuple[str, str], ...], ...], _Found] = {}
        for number, own in by_dscp.items():
            found = _resolve(own, self._action)
            key = found.key
            content[key] = found
            tables.setdefault(key, []).append(-1 if number is None else number)
        for key, values in tables.items():
            guard = () if values == [-1] else ((f"{self._address} dscp", _dscp(values)),)
            own_name = name if len(tables) == 1 else f"{name}-d{values[0]}"
            self._tables(chain, own_name, content[key], shape, first, guard)

    def _tables(
        self,
        chain: str,
        name: str,
        found: _Found,
        shape: _Shape,
        first: tuple[str, ...],
        guard: tuple[tuple[str, str], ...],
    ) -> None:
        port = "th sport" if shape.ports == "source" else "th dport"
        for suffix, fields, elements, is_interval in (
            ("p", (*first, "meta l4proto", port), found.ports, False),
            ("r", (*first, "meta l4proto", port), found.ranges, True),
            ("l", (*first, "meta l4proto"), found.protocols, False),
            ("a", first, found.any, False),
        ):
            if not elements:
                continue
            if not fields:
                self._chains[chain].append(Rule("fix", guard, value=next(iter(elements.values()))))
                continue
            own = f"{name}-{suffix}"
            self._maps[own] = Map(
                fields, "meta priority", is_interval, {key: classid(value) for key, value in elements.items()}
            )
            self._chains[chain].append(Rule("find", guard, map=own, fields=fields))

    def _rule(self, term: Term) -> None:
        """Add a term as a rule of its own."""
        guard: list[tuple[str, str]] = []
        for end in ("source", "destination"):
            place = _place(term, end)
            if place:
                guard.append((self._field(end), self._set(end, place)))
        both = []
        for end, ports in (("sport", term.source_ports), ("dport", term.destination_ports)):
            if ports is not None:
                both.append((end, str(ports[0]) if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"))
        protocols: tuple[int | None, ...] = (term.protocol,) if term.protocol is not None or not both else WITH_PORTS
        marks = [(f"{self._address} dscp", _dscp(term.dscp))] if term.dscp else []
        if term.hops is not None:
            marks.append(("ip ttl" if self._classifier.family == 4 else "ip6 hoplimit", str(term.hops)))
        for protocol in protocols:
            own = list(guard)
            if protocol is not None and not both:
                own.append(("meta l4proto", str(protocol)))
            elif protocol in _HEADERS:
                own += [(f"{_HEADERS[protocol]} {end}", wanted) for end, wanted in both]
            elif both:
                continue  # no such packet has ports
            where = self._name, len(self._chains[self._name])
            self._terms[where] = term.path
            rule = Rule("fix", (*own, *marks), value=self._action(term), is_counted=True)
            self._chains[self._name].append(rule)

    def _set(self, end: str, place: str) -> str:
        """Return the name of a set of addresses, made where it is not there yet."""
        name = f"{self._name}-{end[0]}-{_digest(place)}"
        if name not in self._maps:
            elements = {self._span(first, last): "" for first, last in self._classifier.places[place]}
            self._maps[name] = Map((self._field(end),), "", True, elements)
        return f"@{name}"

    def _field(self, end: str) -> str:
        return f"{self._address} {end[0]}addr"

    def _span(self, first: int, last: int) -> str:
        return span(first, last, self._classifier.family)


_OTHER: Final = {"source": "destination", "destination": "source"}
#: Headers with ports as nft calls them.
_HEADERS: Final = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}


# --- runs ------------------------------------------------------------------------------------------------


def _runs(terms: Sequence[Term]) -> Iterator[tuple[_Shape | None, list[Term]]]:
    """Yield terms that follow each other and have one form, with the form; None where they have none.

    Terms without ports belong to either end: they are joined to what is before or behind them.
    """
    shapes = [_shape(term) for term in terms]
    for (is_mapped, end, has_dscp), group in groupby(
        zip(shapes, terms, strict=True), key=lambda one: (one[0] is not None, *_frame(one[0]))
    ):
        if not is_mapped:
            yield None, [term for _, term in group]
            continue
        held: list[Term] = []
        ports = ""
        for shape, term in group:
            assert shape is not None
            if shape.ports and ports and shape.ports != ports:
                yield _Shape(end, ports, has_dscp), held
                held, ports = [], ""
            ports = ports or shape.ports
            held.append(term)
        yield _Shape(end, ports, has_dscp), held


def _frame(shape: _Shape | None) -> tuple[str, bool]:
    return (shape.end, shape.has_dscp) if shape is not None else ("", False)


def _shape(term: Term) -> _Shape | None:
    if term.hops is not None or (term.source_ports and term.destination_ports):
        return None
    end = "both" if term.source and term.destination else "source" if term.source else ""
    end = end or ("destination" if term.destination else "")
    ports = "source" if term.source_ports else "destination" if term.destination_ports else ""
    return _Shape(end, ports, bool(term.dscp))


def _places(run: Iterable[Term], end: str) -> frozenset[str]:
    return frozenset(place for term in run if (place := _place(term, end)))


def _place(term: Term, end: str) -> str:
    return term.source if end == "source" else term.destination


def _by_signature(run: Sequence[Term], end: str, marks: dict[frozenset[str], int]) -> Iterator[tuple[str, list[Term]]]:
    """Yield for each mark the terms whose place is among its places, in order."""
    by_place: dict[str, list[tuple[int, Term]]] = {}
    for i, term in enumerate(run):
        by_place.setdefault(_place(term, end), []).append((i, term))
    for signature, mark in marks.items():
        own = [one for place in signature for one in by_place.get(place, ())]
        if own:
            if len(signature) > 1:
                own.sort(key=lambda one: one[0])
            yield classid(mark), [term for _, term in own]


# --- terms of one place ----------------------------------------------------------------------------------


class _Found(NamedTuple):
    """Elements of maps by their keys as nft lists them; from the narrowest to the widest."""

    ports: dict[str, int]
    ranges: dict[str, int]
    protocols: dict[str, int]
    any: dict[str, int]

    @property
    def key(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """What is equal where the elements are."""
        return tuple(tuple((key, str(value)) for key, value in own.items()) for own in self)


def _resolve(held: Iterable[tuple[str, Sequence[Term]]], action: Callable[[Term], int]) -> _Found:
    """Return the elements that give each packet the first term: what a wider one before it covers is left out."""
    found = _Found({}, {}, {}, {})
    for where, terms in held:
        first = f"{where} . " if where else ""
        spans: dict[int, list[tuple[Range, int]]] = {}
        wide: dict[int, int] = {}
        rest: int | None = None
        for term in terms:
            ports = term.source_ports or term.destination_ports
            value = action(term)
            if ports is None and term.protocol is None:
                rest = value
                break
            protocols = (term.protocol,) if term.protocol is not None else WITH_PORTS
            for protocol in protocols:
                if protocol in wide:
                    continue
                if ports is None:
                    wide[protocol] = value
                elif protocol in WITH_PORTS:
                    spans.setdefault(protocol, []).append((ports, value))
        for protocol, own in spans.items():
            for (low, high), value in _flatten(own):
                if high - low < SINGLE_PORTS:
                    found.ports.update((f"{first}{protocol} . {port}", value) for port in range(low, high + 1))
                else:
                    found.ranges[f"{first}{protocol} . {low}-{high}"] = value
        for protocol, value in wide.items():
            found.protocols[f"{first}{protocol}"] = value
        if rest is not None:
            found.any[where] = rest
    return found


def _flatten(spans: Sequence[tuple[Range, int]]) -> list[tuple[Range, int]]:
    """Return ranges that do not overlap, each with the value of the first that held it."""
    if len(spans) == 1:
        return list(spans)
    if all(low == high for (low, high), _ in spans):
        first: dict[Range, int] = {}
        for own, value in spans:
            first.setdefault(own, value)
        return list(first.items())
    edges = sorted({edge for (low, high), _ in spans for edge in (low, high + 1)})
    result: list[tuple[Range, int]] = []
    for low, after in pairwise(edges):
        values = [value for (first_port, last), value in spans if first_port <= low <= last]
        if not values:
            continue
        value = values[0]
        if result and result[-1][1] == value and result[-1][0][1] == low - 1:
            result[-1] = (result[-1][0][0], after - 1), value
        else:
            result.append(((low, after - 1), value))
    return result


def _dscp(values: Iterable[int]) -> str:
    own = [f"0x{value:02x}" for value in values]
    return own[0] if len(own) == 1 else f"{{ {', '.join(own)} }}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
