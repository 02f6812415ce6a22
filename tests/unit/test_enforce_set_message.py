"""A SetRequest: new entries as one JSON value each, single leaves as they are, lists replaced, and nothing at /qos."""

from __future__ import annotations

import json

import pytest

from telemetryd.enforce.diff import Write, diff
from telemetryd.enforce.names import Value
from telemetryd.enforce.reading import read_notifications
from telemetryd.enforce.set_message import set_request
from telemetryd.ingest.gnmi.path import elems_of, text_of
from telemetryd.proto import gnmi_pb2
from tests.transaction_case import plan

ODD = r"/qos/interfaces/interface[interface-id=a[b/1\]\\]/output/scheduler-policy/config"


def read(octets: bytes) -> dict[str, Value]:
    """Return the leaves that a request writes."""
    request = gnmi_pb2.SetRequest.FromString(octets)
    notification = gnmi_pb2.Notification(update=[*request.replace, *request.update])
    return dict(read_notifications([notification]).config)


@pytest.mark.parametrize("is_json", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_a_request_holds_what_is_written(seed: int, is_json: bool) -> None:
    """Whatever the encoding: the same leaves come out again; no path is /qos; JSON is a value an entry."""
    want = plan(seed)
    octets = set_request(diff({}, want).writes, is_json=is_json)
    assert read(octets) == want
    request = gnmi_pb2.SetRequest.FromString(octets)
    paths = [text_of(elems_of(one.path)) for one in request.update]
    assert "/qos" not in paths
    assert (len(paths) < len(want) / 5) == is_json


def test_odd_keys_and_few_leaves() -> None:
    """Brackets and backslashes in a key; a single leaf is no tree; uint64 is a text in JSON."""
    writes = [Write(f"{ODD}/name", "telemetryd-x"), Write(f"{ODD}/other", 1)]
    assert read(set_request(writes, is_json=True)) == {f"{ODD}/name": "telemetryd-x", f"{ODD}/other": 1}
    path = "/qos/scheduler-policies/scheduler-policy[name=a]/schedulers/scheduler[sequence=1]/two-rate-three-color/config/cir"
    (update,) = gnmi_pb2.SetRequest.FromString(set_request([Write(path, 5, 4)], is_json=True)).update
    assert (text_of(elems_of(update.path)), json.loads(update.val.json_ietf_val)) == (path, "5")


def test_a_list_is_replaced_and_a_node_deleted() -> None:
    """An update would add to a leaf-list that is there."""
    path = "/qos/classifiers/classifier[name=telemetryd-ipv4]/terms/term[id=1]/conditions/ipv4/config/dscp-set"
    request = gnmi_pb2.SetRequest.FromString(
        set_request(
            [Write(path, (1, 2), (1,)), Write("/qos/queues/queue[name=telemetryd-q1]", None)],
            is_json=True,
            origin="openconfig",
        )
    )
    assert [text_of(elems_of(one.path)) for one in request.replace] == [path]
    assert [text_of(elems_of(one)) for one in request.delete] == ["/qos/queues/queue[name=telemetryd-q1]"]
    assert request.prefix.origin == "openconfig"
