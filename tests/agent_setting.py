"""A target whose QoS can be set, in this process and without a kernel, and the requests that it is given."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from telemetryd.agent.ask import Asker
from telemetryd.agent.audit import Caller
from telemetryd.agent.config_source import ConfigSource
from telemetryd.agent.encode import Encoder
from telemetryd.agent.realise import NoKernel, Realiser
from telemetryd.agent.refusal import RefusedError
from telemetryd.agent.running import Running
from telemetryd.agent.service import answer_to
from telemetryd.agent.simulated import SimulatedInterfaces
from telemetryd.ingest.gnmi.path import parse, to_proto
from telemetryd.proto import gnmi_ext_pb2, gnmi_pb2

#: A value that is sent as JSON by RFC 7951, one without these rules, or one as it is.
Given = Any


class Json(dict[str, Any]):
    """A value that is sent as json_val."""


def typed(value: Given) -> gnmi_pb2.TypedValue:
    """Return a value as a Set has it: objects as JSON by RFC 7951, else scalars."""
    match value:
        case gnmi_pb2.TypedValue():
            return value
        case bool():
            return gnmi_pb2.TypedValue(bool_val=value)
        case int():
            return gnmi_pb2.TypedValue(uint_val=value)
        case str():
            return gnmi_pb2.TypedValue(string_val=value)
        case tuple():
            return gnmi_pb2.TypedValue(leaflist_val=gnmi_pb2.ScalarArray(element=map(typed, value)))
        case Json():
            return gnmi_pb2.TypedValue(json_val=json.dumps(value).encode())
        case _:
            return gnmi_pb2.TypedValue(json_ietf_val=json.dumps(value).encode())


def set_request(
    *deletes: str,
    update: Mapping[str, Given] | None = None,
    replace: Mapping[str, Given] | None = None,
    union: Mapping[str, Given] | None = None,
    prefix: gnmi_pb2.Path | None = None,
    **extensions: Any,
) -> gnmi_pb2.SetRequest:
    """Return a SetRequest; extensions by the names of their fields."""
    request = gnmi_pb2.SetRequest(delete=[to_proto(parse(path)) for path in deletes], prefix=prefix)
    for given, field in ((update, request.update), (replace, request.replace), (union, request.union_replace)):
        for path, value in (given or {}).items():
            field.add(path=to_proto(parse(path)), val=typed(value))
    for name, value in extensions.items():
        request.extension.append(gnmi_ext_pb2.Extension(**{name: value}))
    return request


class Target:
    """A target of interfaces Ethernet1 ... Ethernet4."""

    def __init__(self, realiser: Realiser, **options: Any) -> None:
        self.source = ConfigSource(SimulatedInterfaces(0, 4), realiser)
        self.running = Running(self.source, realiser, **options)

    async def set(self, *deletes: str, who: str = "tester", **operations: Any) -> gnmi_pb2.SetResponse:
        octets = set_request(*deletes, **operations).SerializeToString()
        return gnmi_pb2.SetResponse.FromString(await self.running.set(octets, Caller(who)))

    async def refuses(self, *deletes: str, status: str = "INVALID_ARGUMENT", **operations: Any) -> str:
        """Check that a Set is refused and changes nothing; return the message."""
        before = self.leaves()
        with pytest.raises(RefusedError) as refusal:
            await self.set(*deletes, **operations)
        assert refusal.value.status.name == status, refusal.value
        assert self.leaves() == before
        return str(refusal.value)

    async def get(self, path: str, kind: str = "CONFIG", encoding: int = gnmi_pb2.JSON_IETF) -> Any:
        """Return the JSON of a Get of one path; of PROTO the notification."""
        request = gnmi_pb2.GetRequest(path=[to_proto(parse(path))], encoding=encoding, type=kind)  # type: ignore[arg-type]
        encoder: Encoder
        encoder, (selection,) = Asker(self.source.model).get(request.SerializeToString())
        snapshot = await self.source.read(asyncio.get_running_loop().time())
        notification = answer_to(encoder, selection, snapshot, self.source.model)
        if encoding == gnmi_pb2.PROTO:
            return notification
        (update,) = notification.update
        return json.loads(update.val.json_ietf_val or update.val.json_val)

    def leaves(self) -> dict[str, Any]:
        """Return the configuration."""
        return dict(self.running.leaves())


@asynccontextmanager
async def target(realiser: Realiser | None = None, **options: Any) -> AsyncIterator[Target]:
    """Run a target."""
    made = Target(realiser or NoKernel(), **options)
    running = asyncio.create_task(made.running.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait([running])


def qos(**lists: Any) -> dict[str, Any]:
    """Return a small tree that can be set at the root: an interface with a policy of two queues, and a classifier."""
    queues = ["telemetryd-q0", "telemetryd-q1"]
    policy = "telemetryd-out-Ethernet1"
    tree = {
        "queues": {"queue": [{"name": name, "config": {"name": name}} for name in queues]},
        "forwarding-groups": {
            "forwarding-group": [
                {
                    "name": name.replace("-q", "-g"),
                    "config": {"name": name.replace("-q", "-g"), "output-queue": name},
                }
                for name in queues
            ]
        },
        "classifiers": {
            "classifier": [
                {
                    "name": "telemetryd-ipv4",
                    "config": {"name": "telemetryd-ipv4", "type": "IPV4"},
                    "terms": {
                        "term": [
                            {
                                "id": "10-a",
                                "config": {"id": "10-a"},
                                "conditions": {
                                    "ipv4": {
                                        "config": {
                                            "destination-address-prefix-set": "telemetryd-hrss",
                                            "protocol": 6,
                                        }
                                    },
                                    "transport": {"config": {"destination-port": 443}},
                                },
                                "actions": {"config": {"target-group": "telemetryd-g0"}},
                            },
                            {
                                "id": "99-rest",
                                "config": {"id": "99-rest"},
                                "conditions": {"ipv4": {"config": {"dscp-set": [10, 12]}}},
                                "actions": {"config": {"target-group": "telemetryd-g1"}},
                            },
                        ]
                    },
                }
            ]
        },
        "scheduler-policies": {
            "scheduler-policy": [
                {
                    "name": policy,
                    "config": {"name": policy},
                    "schedulers": {"scheduler": [scheduler(n, name) for n, name in enumerate(queues, 1)]},
                }
            ]
        },
        "interfaces": {
            "interface": [
                {
                    "interface-id": "Ethernet1",
                    "config": {"interface-id": "Ethernet1"},
                    "interface-ref": {"config": {"interface": "Ethernet1"}},
                    "input": {
                        "classifiers": {
                            "classifier": [
                                {"type": "IPV4", "config": {"type": "IPV4", "name": "telemetryd-ipv4"}},
                            ]
                        }
                    },
                    "output": {"scheduler-policy": {"config": {"name": policy}}},
                }
            ]
        },
    }
    sets = [
        {"name": "telemetryd-hrss", "config": {"name": "telemetryd-hrss", "prefix": ["10.1.0.0/16", "10.7.0.0/16"]}}
    ]
    return {
        "openconfig-qos:qos": tree | lists,
        "openconfig-defined-sets:defined-sets": {"ipv4-prefix-sets": {"ipv4-prefix-set": sets}},
    }


def scheduler(sequence: int, queue: str, cir: int = 1_000_000, pir: int = 9_000_000) -> dict[str, Any]:
    """Return an entry of a scheduler policy."""
    return {
        "sequence": sequence,
        "config": {"sequence": sequence, "type": "openconfig-qos-types:TWO_RATE_THREE_COLOR"},
        "inputs": {"input": [{"id": queue, "config": {"id": queue, "input-type": "QUEUE", "queue": queue}}]},
        "output": {"config": {"output-type": "INTERFACE"}},
        "two-rate-three-color": {"config": {"cir": str(cir), "pir": str(pir), "bc": 16000, "be": 16000}},
    }
