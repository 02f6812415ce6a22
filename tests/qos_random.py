"""Random QoS configurations of a target with the interfaces Ethernet1 ... Ethernet4, valid ones and broken ones."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, Final

from tests import street as case
from tests.street import POLICY, Tree

M: Final = 10**6
QUEUES: Final = tuple(f"telemetryd-q{i}" for i in range(12))
SETS: Final = ("hrss", "tax", "edu")
INTERFACES: Final = tuple(f"Ethernet{i}" for i in range(1, 5))


class Generator:
    """Makes configurations, one after the other: most of the next is as the last."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        #: What each interface and each classifier has: its own seed, which a step may change.
        self._seeds: dict[str, int] = {name: self.random.randrange(10**9) for name in (*INTERFACES, "4", "6", "sets")}

    def next(self) -> Tree:
        """Return another valid configuration."""
        for name in self.random.sample(sorted(self._seeds), self.random.randint(1, 2)):
            self._seeds[name] = self.random.randrange(10**9)
        leaves: Tree = {}
        for name in QUEUES:
            case.queue(leaves, name)
        for family in (4, 6):
            self._sets(leaves, family, Random(self._seeds["sets"] + family))
            self._classifier(leaves, family, Random(self._seeds[str(family)]))
        for name in INTERFACES:
            self._interface(leaves, name, Random(self._seeds[name]))
        return leaves

    def _sets(self, leaves: Tree, family: int, random: Random) -> None:
        for name in SETS:
            prefixes = {
                f"10.{random.randrange(8)}.{random.randrange(4) * 64}.0/18"
                if family == 4
                else f"2001:db8:{random.randrange(9)}::/48"
                for _ in range(random.randint(1, 4))
            }
            case.prefix_set(leaves, family, f"telemetryd-{name}", *sorted(prefixes))

    def _classifier(self, leaves: Tree, family: int, random: Random) -> None:
        for number in range(random.randint(0, 14)):
            conditions: dict[str, Any] = {}
            for end in ("source", "destination"):
                match random.randrange(5):
                    case 0 | 1:
                        conditions[f"{end}_address_prefix_set"] = f"telemetryd-{random.choice(SETS)}"
                    case 2:
                        conditions[f"{end}_address"] = "10.3.0.1/32" if family == 4 else "2001:db8:3::1/128"
                    case _:
                        pass
            if random.random() < 0.6:
                conditions["protocol"] = random.choice(("IP_TCP", "IP_UDP", "IP_ICMP", 132))
            if random.random() < 0.5:
                first = random.randrange(1000)
                conditions[f"{random.choice(('source', 'destination'))}_port"] = random.choice(
                    (first, f"{first}..{first + 5}", f"{first}..{first + 500}")
                )
            if random.random() < 0.3:
                conditions["dscp_set"] = tuple(sorted(random.sample(range(64), random.randint(1, 3))))
            if random.random() < 0.2:
                conditions["hop_limit"] = random.randrange(256)
            if random.random() < 0.1:
                conditions["set_dscp"] = random.randrange(64)
            case.term(leaves, "telemetryd-ipv", family, f"{number:02}-x", random.choice(QUEUES), **conditions)
        case.term(leaves, "telemetryd-ipv", family, "99-rest", QUEUES[0])

    def _interface(self, leaves: Tree, name: str, random: Random) -> None:
        output = input = ""
        self._number = 0x100
        if random.random() < 0.8:
            output = f"telemetryd-out-{name}"
            capacity = random.choice((100, 200, 1000)) * M
            case.two_rates(leaves, output, 1, capacity, capacity, child=f"{output}._port")
            self._policy(leaves, f"{output}._port", capacity, list(random.sample(QUEUES, 8)), random, 0)
        if random.random() < 0.5:
            input = f"telemetryd-in-{name}"
            for i, queue in enumerate(random.sample(QUEUES, random.randint(1, 4))):
                rate = random.randrange(1, 100) * M
                case.two_rates(leaves, input, i + 1, rate, rate + random.randrange(50) * M, queue=queue)
        case.attach(
            leaves, name, output=output, input=input, classifier="telemetryd-ipv" if random.random() < 0.8 else ""
        )

    def _policy(self, leaves: Tree, policy: str, capacity: int, queues: list[str], random: Random, depth: int) -> None:
        """Add a policy whose rates fit: of nodes with two rates, or of strict and weighted queues."""
        if random.random() < 0.25:
            # Strict ones below others would need more priorities than HTB has.
            self._shared(leaves, policy, queues[: random.randint(1, 6)], random, has_strict=depth == 0)
            return
        count = random.randint(1, 4)
        is_explicit = random.random() < 0.5
        for i in range(min(count, len(queues))):
            rate = capacity // count * random.randrange(1, 11) // 10
            self._number += 1
            sequence = random.randrange(1, 8) << 16 | self._number if is_explicit else i + 1
            pir = rate + random.randrange(2) * (capacity - rate)
            if depth < 3 and len(queues) > count and random.random() < 0.4:
                own = [queues.pop() for _ in range(min(3, len(queues) - 1))]
                child = f"{policy}.{i}"
                case.two_rates(leaves, policy, sequence, rate, pir, child=child)
                self._policy(leaves, child, rate, own, random, depth + 1)
            else:
                case.two_rates(leaves, policy, sequence, rate, pir, queue=queues.pop(0))
            if not queues:
                break

    def _shared(self, leaves: Tree, policy: str, queues: list[str], random: Random, *, has_strict: bool) -> None:
        leaves[f"{POLICY}[name={policy}]/config/name"] = policy
        cut = random.randint(0, len(queues)) if has_strict else 0
        for sequence, members in ((1, queues[:cut]), (2, queues[cut:])):
            if not members:
                continue
            path = f"{POLICY}[name={policy}]/schedulers/scheduler[sequence={sequence}]"
            leaves[f"{path}/config/sequence"] = sequence
            if sequence == 1:
                leaves[f"{path}/config/priority"] = "STRICT"
            for i, queue in enumerate(members):
                case.add_input(leaves, path, queue, i + 1 if sequence == 1 else random.randrange(1, 65))

    def broken(self, leaves: Tree) -> tuple[str, dict[str, Any]]:
        """Return a write that makes a configuration invalid: a path and its value, or a value of a whole subtree."""
        random = self.random
        queue, name = random.choice(QUEUES), f"telemetryd-bad{random.randrange(100)}"
        policies = sorted({path.split("]")[0] for path in leaves if path.startswith(f"{POLICY}[") and "_port" in path})
        port = f"/qos/interfaces/interface[interface-id={random.choice(INTERFACES)}]"
        node = f"{POLICY}[name={name}]/schedulers/scheduler[sequence=1]"
        own: Tree = {}
        kind = random.randrange(12)
        if kind == 0 and policies:
            path = f"{random.choice(policies)}]/schedulers/scheduler[sequence=777]"
            case.two_rates(own, policies[0], 1, 1, 1)
            return "more than the port has", {
                f"{path}/config/sequence": 777,
                f"{path}/config/type": "TWO_RATE_THREE_COLOR",
                f"{path}/two-rate-three-color/config/cir": 2000 * M,
                f"{path}/two-rate-three-color/config/pir": 3000 * M,
                f"{path}/inputs/input[id={name}]/config/id": name,
                f"{path}/inputs/input[id={name}]/config/queue": name,
                f"/qos/queues/queue[name={name}]/config/name": name,
            }
        if kind == 1:
            case.two_rates(own, name, 1, M, M, child=name)
            return "a policy above itself", {**own, f"{port}/output/scheduler-policy/config/name": name}
        if kind == 2:
            case.two_rates(own, name, 1, M, M, queue=queue)
            case.two_rates(own, name, 2, M, M, queue=queue)
            return "a queue in two places", {**own, f"{port}/output/scheduler-policy/config/name": name}
        if kind == 3:
            case.two_rates(own, name, 1 << 16 | 0x33, M, M, queue=QUEUES[0])
            case.two_rates(own, name, 2 << 16 | 0x33, M, M, queue=QUEUES[1])
            return "a number twice", {**own, f"{port}/output/scheduler-policy/config/name": name}
        if kind == 4:
            case.two_rates(own, name, 1, M, M, queue=queue)
            own[f"{node}/output/config/output-type"] = "FWD_GROUP"
            return "a forwarding group", {**own, f"{port}/output/scheduler-policy/config/name": name}
        if kind == 5:
            case.two_rates(own, name, 1, M, M, queue=queue)
            own[f"{node}/two-rate-three-color/exceed-action/config/set-dscp"] = 10
            return "a mark by a policer", {**own, f"{port}/output/scheduler-policy/config/name": name}
        if kind == 6:
            for depth in range(9):
                case.two_rates(own, f"{name}.{depth}", 1, M, M, child=f"{name}.{depth + 1}")
            case.two_rates(own, f"{name}.9", 1, M, M, queue=queue)
            return "too deep", {**own, f"{port}/output/scheduler-policy/config/name": f"{name}.0"}
        if kind == 7:
            case.two_rates(own, name, 1, 2 * M, M, queue=queue)
            return "a ceiling below the rate", {**own, f"{port}/output/scheduler-policy/config/name": name}
        if kind == 8:
            return "no such policy", {f"{port}/output/scheduler-policy/config/name": name}
        term = "/qos/classifiers/classifier[name=telemetryd-ipv4]/terms/term[id=99-rest]"
        if kind == 9:
            return "no DSCP", {f"{term}/conditions/ipv4/config/dscp-set": (64,)}
        if kind == 10:
            return "a length", {
                f"{term}/conditions/ipv4/config/length": 100,
                f"{port}/config/interface-id": port[44:-1],
            }
        return "no such leaf", {f"{term}/conditions/ipv4/config/colour": 1}


def difference(old: Tree, new: Tree) -> tuple[list[str], dict[str, Any]]:
    """Return what to delete and what to write to go from one configuration to another."""
    gone_entries = sorted(_entries(old) - _entries(new), key=len)
    roots: list[str] = []
    for entry in gone_entries:
        if not any(entry.startswith(f"{root}/") or entry == root for root in roots):
            roots.append(entry)
    deleted = [path for path in old if path not in new and not any(path.startswith(f"{root}/") for root in roots)]
    return [*roots, *deleted], {path: value for path, value in new.items() if old.get(path) != value}


def _entries(leaves: Mapping[str, Any]) -> set[str]:
    found = set()
    for path in leaves:
        at = path.find("]")
        while at > 0:
            found.add(path[: at + 1])
            at = path.find("]", at + 1)
    return found
