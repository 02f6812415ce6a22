"""Many targets whose QoS can be set, in another process: each has what it was given, also after it came back."""

from __future__ import annotations

import asyncio
import json

import pytest

from telemetryd.ingest.gnmi.grpc_aio import unary
from telemetryd.ingest.gnmi.path import parse, to_proto
from telemetryd.proto import gnmi_pb2
from tests.agent_setting import qos, set_request
from tests.gnmi_client import TIMEOUT_S, endpoint
from tests.gnmi_fleet import HOST, Fleet

pytestmark = pytest.mark.no_twins

CIR = (
    "/qos/scheduler-policies/scheduler-policy[name=telemetryd-out-Ethernet1]/schedulers/scheduler[sequence=1]"
    "/two-rate-three-color/config/cir"
)


def test_targets_that_can_be_set() -> None:
    """A tree for each, another rate for each; a target that was cut off has it still."""

    async def ask(port: int, method: str, request: gnmi_pb2.SetRequest | gnmi_pb2.GetRequest) -> bytes:
        return await unary(
            endpoint(port, "grpc", host=HOST), f"/gnmi.gNMI/{method}", request.SerializeToString(), TIMEOUT_S
        )

    async def rate(port: int) -> int:
        request = gnmi_pb2.GetRequest(path=[to_proto(parse(CIR))], encoding=gnmi_pb2.JSON_IETF)
        answer = gnmi_pb2.GetResponse.FromString(await ask(port, "Get", request))
        return int(json.loads(answer.notification[0].update[0].val.json_ietf_val))

    async def story(fleet: Fleet) -> None:
        await asyncio.gather(*(ask(port, "Set", set_request(replace={"/": qos()})) for port in fleet.ports))
        for number, port in enumerate(fleet.ports):
            await ask(port, "Set", set_request(update={CIR: 1000 + number}))
        await asyncio.to_thread(fleet.kill, 2)
        await asyncio.to_thread(fleet.revive)
        assert [await rate(port) for port in fleet.ports] == [1000 + number for number in range(len(fleet.ports))]

    with Fleet(4, 4, can_be_set=True) as fleet:
        asyncio.run(story(fleet))
