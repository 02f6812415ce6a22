"""Intents and capabilities for tests of enforcement, and a device's configuration as JSON."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import strategies as st

from telemetryd.enforce.capability import Capability
from telemetryd.enforce.intent import ClassIntent, DeviceIntent, PortIntent, apportion
from telemetryd.enforce.match import Match
from telemetryd.enforce.names import PREFIX, Value
from telemetryd.enforce.plan import DevicePlan
from telemetryd.ingest.gnmi.path import parse

M = 1_000_000
STEP = 8_000
LEAST = 64_000

POLICY = re.compile(
    r"/qos/scheduler-policies/scheduler-policy\[name=([^]]*)\]/schedulers/scheduler\[sequence=(\d+)\]/.*"
)
#: What somebody else has configured.
FOREIGN: dict[str, Value] = {
    "/qos/queues/queue[name=NC1]/config/name": "NC1",
    "/qos/scheduler-policies/scheduler-policy[name=lab]/config/name": "lab",
    "/qos/scheduler-policies/scheduler-policy[name=lab]/schedulers/scheduler[sequence=0]/config/priority": "STRICT",
    "/qos/interfaces/interface[interface-id=eth9/1]/config/interface-id": "eth9/1",
    "/qos/interfaces/interface[interface-id=eth9/1]/output/scheduler-policy/config/name": "lab",
    "/qos/interfaces/interface[interface-id=eth0/1]/config/interface-id": "eth0/1",
    "/qos/interfaces/interface[interface-id=eth0/1]/output/queues/queue[name=NC1]/config/name": "NC1",
}


def capability(**changes: Any) -> Capability:
    """Return a capable device, with changes."""
    facts: dict[str, Any] = {
        "device": "SW1",
        "vendor": "lab",
        "model": "lab",
        "firmware": "1",
        "driver": "openconfig",
        "queues": 8,
        "queue_names": (),
        "queue_ids": "optional",
        "schedulers": frozenset(
            ("two-rate-shape", "two-rate-police", "one-rate-shape", "one-rate-police", "weighted", "strict")
        ),
        "conditions": frozenset(("dscp", "ipv4-prefix", "ipv6-prefix", "protocol", "ports")),
        "terms": 256,
        "policers": 8,
        "weights": (1, 255),
        "least_rate_bps": LEAST,
        "rate_step_bps": STEP,
        "most_burst_octets": 16 * M,
        "interface_ref": "optional",
        "commit_confirmed": False,
        "remark": True,
        "encodings": ("JSON_IETF",),
    }
    return Capability(**(facts | changes))


def cls(name: str, rate: int, promise: int = 0, **changes: Any) -> ClassIntent:
    """Return a class that is known by a mark of its own, of which one digit of its name tells."""
    number = int("".join(sign for sign in name if sign.isdecimal()) or 0)
    facts: dict[str, Any] = {
        "importance": 3,
        "is_protected": False,
        "load_bps": rate,
        "ceiling_bps": 10_000 * M,
        "matches": (Match(4, (number,)), Match(6, (number,))),
    }
    return ClassIntent(name=name, rate_bps=rate, promise_bps=promise, **(facts | changes))


def device(*ports: PortIntent, inputs: tuple[str, ...] = ()) -> DeviceIntent:
    """Return a device's intent."""
    return DeviceIntent("SW1", ports, inputs)


@st.composite
def devices(draw: st.DrawFn, most_classes: int = 12, direction: str | None = None) -> DeviceIntent:
    """Generate ports whose classes fit, some of them full, with promises up to 90 % of a rate."""
    count = draw(st.integers(1, most_classes))
    ports = []
    for number in range(draw(st.integers(1, 3))):
        capacity = draw(st.integers(100, 10_000)) * M
        shares = draw(st.lists(st.integers(0, 100), min_size=count, max_size=count))
        used = capacity * draw(st.integers(1, 100)) // 100 if sum(shares) else 0
        classes = []
        for place, rate in enumerate(apportion(used, shares) if used else [0] * count):
            kind, more = draw(st.integers(0, 15)), draw(st.integers(0, 300))
            classes.append(
                cls(
                    f"c{place}",
                    rate,
                    promise=rate * draw(st.integers(0, 90)) // 100 if kind & 1 else 0,
                    importance=1 + kind % 5,
                    is_protected=place == 0 and bool(kind & 8),
                    load_bps=rate if kind & 2 else rate + rate * more // 100,
                    ceiling_bps=min(capacity, rate + rate * more // 100) if kind & 4 else capacity,
                    is_hard=kind == 15,
                )
            )
        way = direction or draw(st.sampled_from(("in", "out")))
        ports.append(PortIntent(f"eth{number}/1", way, capacity, tuple(classes)))
    return device(*ports, inputs=("eth0/1", "eth7/1"))


def as_json(leaves: dict[str, Value], top: str = "qos") -> dict[str, Any]:
    """Write leaves as a device answers a Get of /qos: JSON_IETF, with module names, lists and 64-bit numbers as texts.

    Of another container, what is in it.
    """
    root: dict[str, Any] = {}
    for text, value in leaves.items():
        node = root
        elems = parse(text).elems
        for elem in elems[:-1]:
            if not elem.keys:
                node = node.setdefault(elem.name, {})
                continue
            entries = node.setdefault(elem.name, [])
            keys = dict(elem.keys)
            found = next((one for one in entries if all(one[key] == keys[key] for key in keys)), None)
            if found is None:
                found = dict(keys)
                entries.append(found)
            node = found
        name = elems[-1].name
        if name in ("cir", "pir", "weight"):
            node[name] = str(value)
        elif name in ("type", "output-type", "input-type") and isinstance(value, str):
            node[name] = f"openconfig-qos-types:{value}"
        else:
            node[name] = list(value) if isinstance(value, tuple) else value
    if top != "qos":
        return dict(json.loads(json.dumps(root.get(top, {}))))
    qos = root.get("qos", {})
    return json.loads(json.dumps({"openconfig-qos:qos": {**qos, "interfaces": {**qos.get("interfaces", {})}}}))


def rates(leaves: dict[str, Value], name: str) -> dict[str, dict[int, int]]:
    """Return policy -> sequence -> value of a rate leaf."""
    found: dict[str, dict[int, int]] = {}
    for path, value in leaves.items():
        match = POLICY.fullmatch(path)
        if match is not None and path.endswith(f"/config/{name}") and isinstance(value, int):
            found.setdefault(match[1], {})[int(match[2])] = value
    return found


def dangling(leaves: dict[str, Value]) -> list[str]:
    """Return the leaves of ours that refer to what is not there."""
    lists = {
        "/target-group": "/qos/forwarding-groups/forwarding-group",
        "/output-queue": "/qos/queues/queue",
        "/config/queue": "/qos/queues/queue",
        "put/scheduler-policy/config/name": "/qos/scheduler-policies/scheduler-policy",
    }
    found = []
    for path, value in leaves.items():
        for end, target in lists.items():
            if path.endswith(end) and f"{target}[name={value}]/config/name" not in leaves:
                found.append(path)
        classifier = f"/qos/classifiers/classifier[name={value}]/config/name"
        if "/input/classifiers/" in path and path.endswith("/name") and classifier not in leaves:
            found.append(path)
    return found


def capacities(plan: DevicePlan) -> dict[str, int]:
    """Return policy -> capacity of its port."""
    return {f"{PREFIX}{way}-{port.replace('/', '-')}": bps for (port, way), bps in plan.capacities.items()}
