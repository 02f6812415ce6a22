"""Random Sets: what a target then has is what a reference of plain texts and a dict has; what is wrong changes nothing.

The reference knows nothing of the agent: a configuration is a dict of leaves by their paths, deletes are by the
beginnings of texts, and a few rules say which configurations are right.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import pytest

from telemetryd.agent.audit import Caller
from telemetryd.agent.realise import NoKernel
from telemetryd.agent.refusal import RefusedError
from telemetryd.proto import gnmi_pb2
from tests.agent_setting import Target, set_request, target

pytestmark = pytest.mark.no_twins

Flat = dict[str, Any]
QUEUES, GROUPS = "/qos/queues/queue", "/qos/forwarding-groups/forwarding-group"
CLASSIFIERS, POLICIES = "/qos/classifiers/classifier", "/qos/scheduler-policies/scheduler-policy"
PORTS, SETS = "/qos/interfaces/interface", "/defined-sets/ipv4-prefix-sets/ipv4-prefix-set"
LISTS = (QUEUES, GROUPS, CLASSIFIERS, POLICIES, PORTS, SETS)
WIDE = ("cir", "pir", "weight")
FOREIGN = {f"{QUEUES}[name=theirs]/config/name": "theirs", f"{QUEUES}[name=theirs]/config/queue-id": 7}


class Entry:
    """An entry of a list, with some leaves: by the ways to them."""

    def __init__(self, list_path: str, key: str, value: str | int, leaves: Flat) -> None:
        self.list_path, self.key, self.value = list_path, key, value
        self.path = f"{list_path}[{key}={value}]"
        self.leaves = {f"config/{key}": value, **leaves}

    def json(self, *, is_ietf: bool) -> dict[str, Any]:
        return {self.key: self.value, **nested(self.leaves, is_ietf=is_ietf)}


def nested(leaves: Flat, *, is_ietf: bool) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for way, value in leaves.items():
        *above, last = way.split("/")
        node = tree
        for name in above:
            node = node.setdefault(name, {})
        node[last] = list(value) if isinstance(value, tuple) else str(value) if is_ietf and last in WIDE else value
    return tree


def random_entry(rng: Random) -> Entry:
    """Return an entry whose references may lead somewhere or not."""
    number = rng.randrange(4)
    queue, group, policy = (f"{what}{rng.randrange(4)}" for what in "qgp")
    match rng.randrange(9):
        case 0:
            return Entry(QUEUES, "name", f"q{number}", maybe(rng, {"config/queue-id": rng.randrange(256)}))
        case 1:
            return Entry(GROUPS, "name", f"g{number}", maybe(rng, {"config/output-queue": queue}))
        case 2:
            kind = rng.choice(["IPV4", "IPV6"])
            return Entry(CLASSIFIERS, "name", f"c{number % 2}", maybe(rng, {"config/type": kind}))
        case 3:
            conditions = {
                "conditions/ipv4/config/dscp-set": tuple(rng.sample(range(64), rng.randint(1, 4))),
                "conditions/ipv4/config/dscp": rng.randrange(64),
                "conditions/ipv4/config/protocol": rng.choice([6, 17, "IP_TCP"]),
                "conditions/ipv4/config/source-address-prefix-set": f"s{rng.randrange(3)}",
                "conditions/transport/config/destination-port": rng.choice([80, "80..90", "ANY"]),
                "actions/config/target-group": group,
                "actions/remark/config/set-dscp": rng.randrange(64),
            }
            return Entry(
                f"{CLASSIFIERS}[name=c{number % 2}]/terms/term", "id", f"t{rng.randrange(3)}", maybe(rng, conditions)
            )
        case 4:
            prefixes = tuple(f"10.{one}.0.0/16" for one in rng.sample(range(9), rng.randint(1, 4)))
            return Entry(SETS, "name", f"s{number % 3}", maybe(rng, {"config/prefix": prefixes}))
        case 5:
            return Entry(POLICIES, "name", f"p{number}", {})
        case 6:
            child = {"output/config/output-type": "SCHEDULER", "output/config/child-scheduler": policy}
            rates = {
                "config/type": rng.choice(["ONE_RATE_TWO_COLOR", "TWO_RATE_THREE_COLOR"]),
                "two-rate-three-color/config/cir": rng.randrange(100),
                "two-rate-three-color/config/pir": rng.randrange(200),
                "two-rate-three-color/config/bc": rng.randrange(2**32),
            }
            leaves = maybe(rng, rates) | (child if rng.random() < 0.4 else {"output/config/output-type": "INTERFACE"})
            return Entry(f"{POLICIES}[name=p{number}]/schedulers/scheduler", "sequence", rng.randrange(3), leaves)
        case 7:
            above = f"{POLICIES}[name=p{number}]/schedulers/scheduler[sequence={rng.randrange(3)}]/inputs/input"
            leaves = maybe(
                rng, {"config/input-type": "QUEUE", "config/queue": queue, "config/weight": rng.randrange(2**64)}
            )
            return Entry(above, "id", f"i{rng.randrange(2)}", leaves)
        case _:
            name = f"Ethernet{rng.randint(1, 3)}"
            return Entry(PORTS, "interface-id", name, maybe(rng, {"output/scheduler-policy/config/name": policy}))


def maybe(rng: Random, leaves: Flat) -> Flat:
    return {way: value for way, value in leaves.items() if rng.random() < 0.7}


# --- the reference ----------------------------------------------------------------------------------------------------


def without(flat: Flat, path: str) -> Flat:
    return {one: value for one, value in flat.items() if one != path and not one.startswith((f"{path}/", f"{path}["))}


def parents(path: str) -> Flat:
    """Return the keys of the entries that a path leads through."""
    found: Flat = {}
    at = 0
    while (at := path.find("]", at) + 1) > 0:
        key, _, value = path[path.rindex("[", 0, at) + 1 : at - 1].partition("=")
        found[f"{path[:at]}/config/{key}"] = int(value) if key == "sequence" else value
    return found


def added(flat: Flat, leaves: Flat) -> Flat:
    result = dict(flat)
    for path, value in leaves.items():
        old = result.get(path)
        result[path] = tuple(dict.fromkeys((*old, *value))) if isinstance(value, tuple) and old else value
    return result


def is_right(flat: Flat) -> bool:
    """Tell whether a configuration obeys the rules."""
    below: dict[str, set[str]] = {}
    for path, value in flat.items():
        way = path[path.rfind("]") + 2 :]
        for ends, list_path in (
            (("output-queue", "config/queue"), QUEUES),
            (("target-group",), GROUPS),
            (("prefix-set",), SETS),
            (("output/scheduler-policy/config/name", "child-scheduler"), POLICIES),
        ):
            if way.endswith(ends) and f"{list_path}[name={value}]/config/name" not in flat:
                return False
        if way.endswith("config/dscp") and f"{path}-set" in flat:
            return False
        if way.endswith("/cir") and value > flat.get(path.removesuffix("cir") + "pir", value):
            return False
        if way.endswith("child-scheduler"):
            if flat.get(path.replace("child-scheduler", "output-type"), "SCHEDULER") != "SCHEDULER":
                return False
            below.setdefault(path[len(POLICIES) + 6 : path.index("]")], set()).add(value)
    return all(levels(one, below, 8) for one in below)


def levels(policy: str, below: Mapping[str, set[str]], left: int) -> bool:
    return left > 0 and all(levels(one, below, left - 1) for one in below.get(policy, ()))


class RandomSet:
    """Operations for a request, and what they do to the reference."""

    def __init__(self, rng: Random, flat: Flat) -> None:
        self.rng, self.flat = rng, dict(flat)
        self.deletes: list[str] = []
        self.replace: dict[str, Any] = {}
        self.update: dict[str, Any] = {}
        for _ in range(rng.choice([0, 0, 1, 2])):
            self._delete()
        for _ in range(rng.choice([0, 0, 1, 2])):
            self._write(self.replace, self._replaced)
        for _ in range(rng.choice([0, 1, 2, 4])):
            self._write(self.update, self._updated)

    def _delete(self) -> None:
        rng = self.rng
        path = rng.choice([*self.flat, QUEUES + "[name=nobody]"])
        if rng.random() < 0.8 and "]" in path:
            ends = [at + 1 for at, one in enumerate(path) if one == "]"]
            path = path[: rng.choice(ends)]
        elif path.rpartition("/config/")[2] in ("name", "id", "sequence", "interface-id"):
            path = rng.choice(LISTS)
        if path in (QUEUES, f"{QUEUES}[name=theirs]") or path.startswith(f"{QUEUES}[name=theirs]/"):
            return
        self.deletes.append(path)
        self.flat = without(self.flat, path)

    def _write(self, field: dict[str, Any], apply: Callable[[str, Flat], None]) -> None:
        rng, entry = self.rng, random_entry(self.rng)
        is_ietf = rng.random() < 0.5
        whole = {f"{entry.path}/{way}": value for way, value in entry.leaves.items()}
        match rng.randrange(3):
            case 0:
                path, value = entry.path, entry.json(is_ietf=is_ietf)
            case 1:
                path, value = entry.list_path, [entry.json(is_ietf=is_ietf)]
                if field is self.replace and path == QUEUES:
                    return
            case _:
                path = rng.choice([*whole])
                value = whole[path]
                whole = {path: value}
        if path in field:
            return
        field[path] = value if isinstance(value, str | int | tuple) else as_value(value, is_ietf=is_ietf)
        apply(path, whole)

    def _replaced(self, path: str, leaves: Flat) -> None:
        self.flat = without(self.flat, path) | parents(next(iter(leaves))) | leaves

    def _updated(self, path: str, leaves: Flat) -> None:
        self.flat = added(self.flat, parents(next(iter(leaves))) | leaves)


def as_value(value: Any, *, is_ietf: bool) -> gnmi_pb2.TypedValue:
    octets = json.dumps(value).encode()
    return gnmi_pb2.TypedValue(json_ietf_val=octets) if is_ietf else gnmi_pb2.TypedValue(json_val=octets)


# --- the properties ---------------------------------------------------------------------------------------------------


def comparable(flat: Mapping[str, Any]) -> Flat:
    return {path: tuple(sorted(value)) if isinstance(value, tuple) else value for path, value in flat.items()}


async def agree(seed: int, sets: int) -> tuple[int, int]:
    """Carry out Sets that are right or wrong as it comes; return how many of them were which."""
    rng, realiser, counts = Random(seed), NoKernel(), [0, 0]
    async with target(realiser) as one:
        flat: Flat = dict(FOREIGN)
        await one.set(update=dict(FOREIGN))
        theirs = await foreign(one)
        while sum(counts) < sets:
            wanted = RandomSet(rng, flat)
            request = set_request(*wanted.deletes, replace=wanted.replace, update=wanted.update)
            right = is_right(wanted.flat)
            try:
                await one.running.set(request.SerializeToString(), Caller("tester"))
            except RefusedError as refusal:
                assert not right, (str(refusal), request)
                assert refusal.status.name == "INVALID_ARGUMENT"
                assert str(refusal).startswith(("/qos/", "/defined-sets/"))
            else:
                assert right, request
                flat = wanted.flat
            counts[right] += 1
            assert comparable(one.leaves()) == comparable(flat), request
            assert comparable(realiser.leaves) == comparable(flat)
            assert await foreign(one) == theirs
    return counts[1], counts[0]


async def foreign(one: Target) -> str:
    return json.dumps(await one.get(f"{QUEUES}[name=theirs]", "ALL"))


def test_random_sets() -> None:
    """A target agrees with the reference after every one of some Sets, of which some are wrong."""
    right, wrong = asyncio.run(agree(1, 150))
    assert right > 20 and wrong > 20


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_thousands_of_random_sets() -> None:
    """1,000 that are right and 1,000 that are wrong, at least."""
    right = wrong = seed = 0
    while right < 1000 or wrong < 1000:
        seed += 1
        done = asyncio.run(agree(seed, 400))
        right, wrong = right + done[0], wrong + done[1]


BAD: list[tuple[str, Any]] = [
    (f"{QUEUES}[name=q0]/config/queue-id", 256),
    (f"{QUEUES}[name=q0]/config/queue-id", "1"),
    (f"{QUEUES}[name=q0]/config/queue-id", gnmi_pb2.TypedValue(json_ietf_val=b"null")),
    (f"{QUEUES}[name=q0]/config/queue-id", gnmi_pb2.TypedValue(int_val=1)),
    (f"{QUEUES}[name=q0]/config/size", 1),
    (f"{QUEUES}[name=q0]/state/queue-id", 1),
    (f"{QUEUES}[name=q0]", {"state": {"queue-id": 1}}),
    (f"{QUEUES}[name=q0]", {"name": "q1"}),
    (f"{QUEUES}[id=q0]/config/queue-id", 1),
    (QUEUES, [{"config": {"name": "q0"}}]),
    (f"{POLICIES}[name=p0]/schedulers/scheduler[sequence=1]/two-rate-three-color/config", {"cir": 5}),
    (f"{POLICIES}[name=p0]/schedulers/scheduler[sequence=x]/config/priority", "STRICT"),
    (f"{POLICIES}[name=p0]/schedulers/scheduler[sequence=1]/config/type", "SLOW"),
    (f"{CLASSIFIERS}[name=c0]/terms/term[id=t]/conditions/ipv4/config/dscp-set", (64,)),
    (f"{SETS}[name=s0]/config/prefix", ("10.0.0.256/8",)),
    (f"{PORTS}[interface-id=Ethernet77]/config/interface-id", "Ethernet77"),
    ("/interfaces/interface[name=Ethernet1]/config/mtu", 1),
    ("/qos/nothing", {}),
]


async def spoil(seed: int, sets: int) -> None:
    """Add something wrong to Sets that are right otherwise."""
    rng, realiser = Random(seed), NoKernel()
    async with target(realiser) as one:
        flat: Flat = dict(FOREIGN)
        await one.set(update=dict(FOREIGN))
        done = 0
        while done < sets:
            wanted = RandomSet(rng, flat)
            if not is_right(wanted.flat):
                continue
            path, value = rng.choice(BAD)
            field = rng.choice([wanted.replace, wanted.update])
            if path in field:
                continue
            spoilt = {**field, path: value} if rng.random() < 0.5 else {path: value, **field}
            replace, update = (spoilt, wanted.update) if field is wanted.replace else (wanted.replace, spoilt)
            before, whole = one.leaves(), json.dumps(await one.get("/", "ALL"))
            await one.refuses(*wanted.deletes, replace=replace, update=update)
            assert one.leaves() == before
            assert realiser.leaves == before
            assert without_counters(json.dumps(await one.get("/", "ALL"))) == without_counters(whole)
            done += 1
            await one.set(*wanted.deletes, replace=wanted.replace, update=wanted.update)
            flat = wanted.flat


def without_counters(text: str) -> Any:
    document = json.loads(text)
    document.pop("openconfig-interfaces:interfaces")
    return document


def test_spoilt_sets() -> None:
    """One wrong thing anywhere in a Set: INVALID_ARGUMENT, and octet by octet what there was."""
    asyncio.run(spoil(1, 60))


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_thousand_spoilt_sets() -> None:
    """The same a thousand times."""
    asyncio.run(spoil(2, 1000))
