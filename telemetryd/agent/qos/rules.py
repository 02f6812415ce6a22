"""Tables of nftables as data: how they are written, read back, and changed in one transaction.

Texts are those in which ``nft --numeric`` lists them, so that what is read back compares equal.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

#: Name of our table in every family.
TABLE: Final = "telemetryd"
#: Elements of a command: libnftables reads a long one slowly.
_ELEMENTS: Final = 4096


class Rule(NamedTuple):
    """A rule of ours; of all kinds, `guard` are conditions that come first.

    Attributes
    ----------
    kind:
        ``load``: the priority becomes what a map has for some fields, and it goes on;
        ``find``: the same, and the packet is done; ``jump``: on in the chain that a map has for a field;
        ``fix``: the priority becomes `value`, and the packet is done; ``text``: `guard` as it stands.
    guard:
        Fields and what they have to be, such as ("ip dscp", "0x2e").
    map:
        Its name.
    fields:
        What is looked up, such as ("meta priority", "meta l4proto", "th dport").
    """

    kind: str
    guard: tuple[tuple[str, str], ...] = ()
    map: str = ""
    fields: tuple[str, ...] = ()
    value: int = 0
    is_counted: bool = False

    @property
    def text(self) -> str:
        """Return it as nft lists it."""
        parts = [f"{name} {wanted}" for name, wanted in self.guard]
        if self.is_counted:
            parts.append("counter")
        match self.kind:
            case "load" | "find":
                parts.append(f"meta priority set {' . '.join(self.fields)} map @{self.map}")
            case "jump":
                parts.append(f"{' . '.join(self.fields)} vmap @{self.map}")
            case "fix":
                parts.append(f"meta priority set {classid(self.value)}")
            case _:
                return " ".join(parts)
        if self.kind in ("find", "fix"):
            parts.append("accept")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Map:
    """A map or a set.

    Attributes
    ----------
    fields:
        What its keys are made of.
    gives:
        ``meta priority``, ``verdict``, or nothing where it is a set.
    elements:
        Key -> value, as texts; of a set the values are empty.
    """

    fields: tuple[str, ...]
    gives: str
    is_interval: bool
    elements: Mapping[str, str]

    @property
    def kind(self) -> str:
        """Return what nft calls it."""
        return "map" if self.gives else "set"

    @property
    def head(self) -> str:
        """Return its definition without elements."""
        gives = f" : {self.gives}" if self.gives else ""
        flags = " flags interval;" if self.is_interval else ""
        return f"typeof {' . '.join(self.fields)}{gives};{flags}"


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; `hook` is empty where only jumps lead to it."""

    rules: tuple[str, ...]
    hook: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Our table of a family (inet, netdev)."""

    family: str
    maps: Mapping[str, Map] = field(default_factory=dict)
    chains: Mapping[str, Chain] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(one.elements) for one in self.maps.values())


def classid(value: int) -> str:
    """Write a priority as nft lists it."""
    return f"{value >> 16:x}:{value & 0xFFFF:x}" if value else "none"


# --- changing --------------------------------------------------------------------------------------------


def script(family: str, have: Table | None, want: Table | None) -> str:
    """Return the commands that make one table out of another, in one transaction; nothing where they are equal."""
    name = f"{family} {TABLE}"
    if have == want:
        return ""
    if want is None:
        return f"delete table {name}\n"
    if have is None or not _fits(have, want):
        gone = f"delete table {name}\n" if have is not None else ""
        return gone + "".join(_whole(name, want))
    return "".join(_changes(name, have, want))


def _fits(have: Table, want: Table) -> bool:
    """Tell whether what both have differs in elements and rules only."""
    return all(
        (own := have.maps.get(name)) is None or (own.head, own.kind) == (one.head, one.kind)
        for name, one in want.maps.items()
    ) and all(
        (known := have.chains.get(name)) is None or known.hook == chain.hook for name, chain in want.chains.items()
    )


def _whole(name: str, table: Table) -> Iterator[str]:
    yield f"add table {name}\n"
    yield from _add_chains(name, table.chains)
    for own, one in table.maps.items():
        yield f"add {one.kind} {name} {own} {{ {one.head} }}\n"
    for own, one in table.maps.items():
        yield from _elements("add", name, own, one.elements.items())
    for own, chain in table.chains.items():
        yield from (f"add rule {name} {own} {rule}\n" for rule in chain.rules)


def _add_chains(name: str, chains: Mapping[str, Chain]) -> Iterator[str]:
    for own, chain in chains.items():
        hook = f" {{ {chain.hook} }}" if chain.hook else ""
        yield f"add chain {name} {own}{hook}\n"


def _changes(name: str, have: Table, want: Table) -> Iterator[str]:
    yield from _add_chains(name, {own: one for own, one in want.chains.items() if own not in have.chains})
    for own, one in want.maps.items():
        if own not in have.maps:
            yield f"add {one.kind} {name} {own} {{ {one.head} }}\n"
            yield from _elements("add", name, own, one.elements.items())
    changed = [own for own, one in have.chains.items() if one.rules and want.chains.get(own) != one]
    yield from (f"flush chain {name} {own}\n" for own in changed)
    for own, one in want.maps.items():
        old = have.maps.get(own)
        if old is None or old.elements == one.elements:
            continue
        if one.is_interval:
            # Intervals that overlap what goes in the same transaction are refused by some versions.
            yield f"flush {one.kind} {name} {own}\n"
            yield from _elements("add", name, own, one.elements.items())
            continue
        gone = [(key, "") for key, value in old.elements.items() if one.elements.get(key) != value]
        new = [(key, value) for key, value in one.elements.items() if old.elements.get(key) != value]
        yield from _elements("delete", name, own, gone)
        yield from _elements("add", name, own, new)
    for own, chain in want.chains.items():
        if have.chains.get(own) != chain:
            yield from (f"add rule {name} {own} {rule}\n" for rule in chain.rules)
    # Maps of verdicts lead to chains: they go first.
    gone_maps = sorted(have.maps.keys() - want.maps.keys(), key=lambda own: have.maps[own].gives != "verdict")
    yield from (f"flush {have.maps[own].kind} {name} {own}\n" for own in gone_maps)
    yield from (f"delete {have.maps[own].kind} {name} {own}\n" for own in gone_maps)
    yield from (f"delete chain {name} {own}\n" for own in have.chains if own not in want.chains)


def _elements(verb: str, name: str, own: str, elements: Iterable[tuple[str, str]]) -> Iterator[str]:
    texts = [f"{key} : {value}" if value else key for key, value in elements]
    for start in range(0, len(texts), _ELEMENTS):
        yield f"{verb} element {name} {own} {{ {', '.join(texts[start : start + _ELEMENTS])} }}\n"


# --- reading ---------------------------------------------------------------------------------------------

_BLOCK: Final = re.compile(r"^\t(map|set|chain) (\S+) \{\n(.*?)^\t\}$", re.DOTALL | re.MULTILINE)
_HELD: Final = re.compile(r"elements = \{(.*?)\}$", re.DOTALL | re.MULTILINE)
_COUNTER: Final = re.compile(r"counter packets (\d+) bytes (\d+)")


class Listed(NamedTuple):
    """A table as it is, and the counters of its rules: (chain, position of the rule) -> (packets, octets)."""

    table: Table
    counters: Mapping[tuple[str, int], tuple[int, int]]


def parse(family: str, text: str) -> Listed:
    """Read what ``nft --numeric list table`` prints."""
    maps: dict[str, Map] = {}
    chains: dict[str, Chain] = {}
    counters: dict[tuple[str, int], tuple[int, int]] = {}
    for found in _BLOCK.finditer(text):
        kind, name, body = found.groups()
        if kind == "chain":
            hook = ""
            rules: list[str] = []
            for line in body.splitlines():
                own = line.strip()
                if own.startswith("type "):
                    hook = own
                elif own:
                    for packets, octets in _COUNTER.findall(own):
                        counters[name, len(rules)] = int(packets), int(octets)
                    rules.append(_COUNTER.sub("counter", own))
            chains[name] = Chain(tuple(rules), hook)
        else:
            maps[name] = _map(kind, body)
    return Listed(Table(family, maps, chains), counters)


def _map(kind: str, body: str) -> Map:
    head, _, rest = body.partition("elements = {")
    lines = [line.strip() for line in head.splitlines()]
    keys = next((line for line in lines if line.startswith("typeof ")), "typeof ").removeprefix("typeof ")
    fields, _, gives = keys.partition(" : ")
    elements: dict[str, str] = {}
    if rest:
        held = rest[: rest.rindex("}")]
        for one in held.split(","):
            own = one.strip()
            if own:
                key, _, value = own.rpartition(" : ") if kind == "map" else (own, "", "")
                elements[key] = value
    is_interval = any(line.startswith("flags ") and "interval" in line for line in lines)
    return Map(tuple(fields.split(" . ")), gives, is_interval, _canonical(elements) if is_interval else elements)


def _canonical(elements: dict[str, str]) -> dict[str, str]:
    """Write IPv6 addresses as Python does: C libraries differ where IPv4 is mapped into them."""
    return {
        "-".join(map(_plain, key.split("-"))) if "." in key and "::" in key and " " not in key else key: value
        for key, value in elements.items()
    }


def _plain(key: str) -> str:
    address, slash, length = key.partition("/")
    return f"{ipaddress.ip_address(address)}{slash}{length}"
