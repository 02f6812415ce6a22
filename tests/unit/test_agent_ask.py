"""What clients may send: whatever it is, it is read or refused, and a refusal has a status."""

from __future__ import annotations

import random
from typing import Any

import pytest

from telemetryd.agent.ask import Asker
from telemetryd.agent.interfaces import MODEL
from telemetryd.agent.refusal import RefusedError
from telemetryd.ingest.gnmi.path import parse, to_proto
from telemetryd.proto import gnmi_ext_pb2, gnmi_pb2
from tests.agent_tree import ETH0, snapshot
from tests.gnmi_messages import damage

pytestmark = pytest.mark.no_twins

ASKER = Asker(MODEL, "gw1")
DATA = snapshot({"eth0": ETH0})
PATHS = [to_proto(parse(path)) for path in ("/interfaces/interface[name=eth0]/state", "/.../in-octets", "")]
OLD = gnmi_pb2.Path(element=["interfaces", "interface[name=eth0]", "state"])
DEPTH = gnmi_ext_pb2.Extension(depth=gnmi_ext_pb2.Depth(level=2))
GETS = [
    gnmi_pb2.GetRequest(path=PATHS, encoding=gnmi_pb2.PROTO, extension=[DEPTH]),
    gnmi_pb2.GetRequest(prefix=gnmi_pb2.Path(target="gw1"), path=[OLD], type="STATE", encoding=gnmi_pb2.JSON_IETF),
    gnmi_pb2.GetRequest(use_models=[gnmi_pb2.ModelData(name="openconfig-interfaces")]),
]
SUBSCRIBES = [
    gnmi_pb2.SubscribeRequest(
        subscribe=gnmi_pb2.SubscriptionList(
            encoding=gnmi_pb2.PROTO,
            subscription=[
                gnmi_pb2.Subscription(
                    path=PATHS[0], mode=gnmi_pb2.SAMPLE, sample_interval=10**9, heartbeat_interval=10**9
                ),
                gnmi_pb2.Subscription(path=OLD, mode=gnmi_pb2.ON_CHANGE),
                gnmi_pb2.Subscription(path=PATHS[1]),
            ],
        )
    )
]


@pytest.mark.parametrize("number", range(2))
def test_requests_of_old_and_new_form(number: int) -> None:
    """Paths of elements and of texts ask for the same."""
    _, selections = ASKER.get(GETS[number].SerializeToString())
    (branch,) = DATA.branches.values()
    picked = {branch.node.leaves[i].names[-1] for i in selections[0].pick(branch).leaves}
    assert {"oper-status", "in-octets"} <= picked


def test_parts_of_a_stream() -> None:
    """A subscription is a part, and one whose mode is left to us is two."""
    asked = ASKER.subscribe(SUBSCRIBES[0].SerializeToString())
    assert [(part.trigger.sample_s, part.trigger.heartbeat_s) for part in asked.parts] == [
        (1.0, 1.0),
        (0.0, 0.0),
        (10.0, 0.0),
        (0.0, 0.0),
    ]


@pytest.mark.parametrize(
    ("messages", "read"), [(GETS, ASKER.get), (SUBSCRIBES, ASKER.subscribe)], ids=["get", "subscribe"]
)
def test_damaged_requests(messages: list[Any], read: Any) -> None:
    """Octets that were changed, cut and repeated are read or refused, never an exception of another kind."""
    rng = random.Random(7)
    whole = [message.SerializeToString() for message in messages]
    outcomes = {"read": 0, "refused": 0}
    for _ in range(3000):
        try:
            read(damage(rng, rng.choice(whole)))
            outcomes["read"] += 1
        except RefusedError as refusal:
            assert refusal.status.name in ("INVALID_ARGUMENT", "UNIMPLEMENTED", "NOT_FOUND")
            assert str(refusal)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 10
