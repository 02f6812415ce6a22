"""The tables that find a packet's class: hooks, and what the classifiers of all interfaces become.

    ip, forward 10       packets that leave by a port with a policy, through the classifier of where they came in: the
    ip6                  priority becomes the class
    ip, forward 11       only where one class has other numbers on other ports, or the DSCP is set
    ip6
    netdev, ingress 0    of each interface whose input has a policy: the same, for classes of the device behind it
    netdev, ingress 1    on to that device

At forward both ends are known whatever is translated: a source is rewritten later, a destination was before. The
packet's mark is not touched; the priority is where everything is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from telemetryd.agent.qos.classify import Program, compile_terms
from telemetryd.agent.qos.config import Attached, Configuration
from telemetryd.agent.qos.netlink import HANDLE
from telemetryd.agent.qos.rules import Chain, Map, Rule, Table, classid
from telemetryd.agent.qos.terms import Classifier, Term, classifier_of, queue_of
from telemetryd.agent.qos.tree import Tree

#: Numbers of what is more than a class: queues with other numbers elsewhere, and marks to set.
_INDIRECT: Final = 0x0300 << 16
#: Tables for packets that are forwarded, by the number of the family.
FAMILIES: Final = {4: "ip", 6: "ip6"}
_FORWARD, _QUEUE = "classify", "assign"


class Compiled(NamedTuple):
    """The tables by their families.

    Attributes
    ----------
    terms:
        (family, chain, position of the rule) -> path of a term, of rules that count.
    """

    tables: dict[str, Table]
    terms: dict[tuple[str, str, int], str]


def compile_tables(config: Configuration, attached: Sequence[Attached], trees: Iterable[Tree]) -> Compiled:
    """Return the tables for some trees.

    Raises
    ------
    RefusedError
        If a classifier cannot be realised.
    """
    trees = list(trees)
    classifiers: dict[tuple[str, int], Classifier] = {}
    for one in attached:
        for number, name in one.classifiers.items():
            if (name, number) not in classifiers:
                where = f"{one.path}/input/classifiers/classifier[type=IPV{number}]/config/name"
                classifiers[name, number] = classifier_of(config, name, number, where)
    tables: dict[str, Table] = {}
    terms: dict[tuple[str, str, int], str] = {}
    outputs = [tree for tree in trees if tree.direction == "output"]
    inputs = [tree for tree in trees if tree.direction == "input"]
    for number, family in FAMILIES.items():
        own = {key: found for key, found in classifiers.items() if key[1] == number}
        if own and (outputs or any(term.mark is not None for found in own.values() for term in found.terms)):
            build = _Tables(config, family, "oifname", {tree.device: tree for tree in outputs})
            build.forward(number, attached, own)
            tables[family] = build.table()
            terms.update({(family, *where): path for where, path in build.terms.items()})
    if inputs:
        build = _Tables(config, "netdev", "iifname", {tree.interface: tree for tree in inputs})
        build.ingress(attached, classifiers)
        tables["netdev"] = build.table()
        terms.update({("netdev", *where): path for where, path in build.terms.items()})
    return Compiled(tables, terms)


class _Tables:
    def __init__(self, config: Configuration, family: str, field: str, trees: Mapping[str, Tree]) -> None:
        self._config, self._family, self._field, self._trees = config, family, field, trees
        self._numbers = {name: tree.numbers for name, tree in trees.items()}
        self._taken = {name: set(own.values()) for name, own in self._numbers.items()}
        self._direct: dict[str, int | None] = {}
        self._actions: dict[tuple[str, int | None], int] = {}
        self._chains: dict[str, Chain] = {}
        self._maps: dict[str, Map] = {}
        self._queues: dict[str, str] = {}
        self.terms: dict[tuple[str, int], str] = {}

    def table(self) -> Table:
        """Return what has come together."""
        return Table(self._family, self._maps, self._chains)

    def forward(
        self, number: int, attached: Sequence[Attached], classifiers: Mapping[tuple[str, int], Classifier]
    ) -> None:
        """Add the chains for packets that are forwarded; `number` is 4 or 6."""
        entries = self._programs(classifiers)
        inputs = {
            _quoted(one.name): entries[one.classifiers[number], number] for one in attached if number in one.classifiers
        }
        if any(mark is not None for _, mark in self._actions):
            fields: tuple[str, ...] = ("iifname",)
            elements = {name: f"jump {entry}" for name, entry in inputs.items()}
        else:
            # Packets that leave by other ports are left alone.
            fields = ("iifname", "oifname")
            elements = {
                f"{name} . {_quoted(output)}": f"jump {entry}"
                for name, entry in inputs.items()
                for output in self._trees
            }
        self._maps["ports"] = Map(fields, "verdict", False, elements)
        rules = [Rule("jump", map="ports", fields=fields).text]
        self._chains[_FORWARD] = Chain(tuple(rules), "type filter hook forward priority 10; policy accept;")
        last = self._indirect()
        if last:
            self._chains[_QUEUE] = Chain(tuple(last), "type filter hook forward priority 11; policy accept;")

    def ingress(self, attached: Sequence[Attached], classifiers: Mapping[tuple[str, int], Classifier]) -> None:
        """Add the chains for packets that come in."""
        here = {name for one in attached if one.name in self._trees for name in one.classifiers.items()}
        entries = self._programs({own: one for own, one in classifiers.items() if (own[1], own[0]) in here})
        # A DSCP is set where packets are forwarded: what only comes in keeps its own.
        last = self._indirect(with_marks=False)
        for one in attached:
            tree = self._trees.get(one.name)
            if tree is None:
                continue
            short = hashlib.sha256(one.name.encode()).hexdigest()[:8]
            rules = [
                f"meta protocol {_ETHERTYPE[family]} jump {entries[name, family]}"
                for family, name in sorted(one.classifiers.items())
            ]
            hook = f'type filter hook ingress device "{one.name}" priority'
            self._chains[f"in-{short}"] = Chain(tuple(rules), f"{hook} 0; policy accept;")
            to = [*last, f'meta protocol {{ 0x0800, 0x86dd }} fwd to "{tree.device}"']
            self._chains[f"to-{short}"] = Chain(tuple(to), f"{hook} 1; policy accept;")

    def _programs(self, classifiers: Mapping[tuple[str, int], Classifier]) -> dict[tuple[str, int], str]:
        """Compile classifiers; return their entries."""
        self._number(classifiers.values())
        entries: dict[tuple[str, int], str] = {}
        for own, classifier in classifiers.items():
            program: Program = compile_terms(classifier, self._action)
            entries[own] = program.entry
            self._maps.update(program.maps)
            for name, rules in program.chains.items():
                texts = [rule.text for rule in rules]
                if name == program.entry:
                    # What the priority was before has no meaning here, nor has a mark beyond.
                    texts = [_NO_CLASS, *texts, _NO_CLASS]
                self._chains[name] = Chain(tuple(texts))
            self.terms.update({(name, place + 1): path for (name, place), path in program.terms.items()})
        return entries

    def _queue(self, group: str) -> str:
        queue = self._queues.get(group)
        if queue is None:
            queue = self._queues[group] = queue_of(self._config, group) if group else ""
        return queue

    def _number(self, classifiers: Iterable[Classifier]) -> None:
        """Find the actions that need a number of their own."""
        every = {(self._queue(term.group), term.mark) for one in classifiers for term in one.terms}
        used: set[int] = set()
        for queue, mark in sorted(every, key=lambda one: (one[0], -1 if one[1] is None else one[1])):
            if mark is None and self._class(queue) is not None:
                continue
            value = int.from_bytes(hashlib.sha256(f"{queue}\0{mark}".encode()).digest()[:2], "big") or 1
            while value in used:
                value = value % 0xFFFF + 1
            used.add(value)
            self._actions[queue, mark] = _INDIRECT | value

    def _class(self, queue: str) -> int | None:
        """Return the class of a queue if it is the same everywhere, 0 for none; None where it differs."""
        if queue not in self._direct:
            numbers = {own[queue] for own in self._numbers.values() if queue in own}
            value: int | None = None
            if not numbers:
                value = 0
            elif len(numbers) == 1:
                number = next(iter(numbers))
                others = (name for name, own in self._numbers.items() if queue not in own)
                if not any(number in self._taken[name] for name in others):
                    value = HANDLE | number
            self._direct[queue] = value
        return self._direct[queue]

    def _action(self, term: Term) -> int:
        queue = self._queue(term.group)
        found = self._actions.get((queue, term.mark))
        return found if found is not None else self._class(queue) or 0

    def _indirect(self, *, with_marks: bool = True) -> list[str]:
        """Return the rules that turn actions into marks and classes."""
        if not self._actions:
            return []
        rules = []
        for mark in sorted({mark for _, mark in self._actions if mark is not None and with_marks}):
            own = {classid(value): "" for (_, other), value in self._actions.items() if other == mark}
            self._maps[f"mark-{mark}"] = Map(("meta priority",), "", False, own)
            rules.append(f"meta priority @mark-{mark} {self._family} dscp set 0x{mark:02x}")
        elements = {
            f"{_quoted(name)} . {classid(value)}": classid(HANDLE | numbers[queue]) if queue in numbers else "none"
            for name, numbers in self._numbers.items()
            for (queue, _), value in self._actions.items()
        }
        fields = (self._field, "meta priority")
        if elements:
            self._maps["queues"] = Map(fields, "meta priority", False, elements)
            rules.append(Rule("load", map="queues", fields=fields).text)
        self._maps["actions"] = Map(
            ("meta priority",), "", False, {classid(value): "" for value in self._actions.values()}
        )
        rules.append(f"meta priority @actions {_NO_CLASS}")
        return rules


_NO_CLASS: Final = "meta priority set none"
_ETHERTYPE: Final = {4: "0x0800", 6: "0x86dd"}


def _quoted(name: str) -> str:
    return f'"{name}"'
