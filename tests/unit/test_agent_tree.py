"""The agent's tree: which paths it has, what a path asks for, and how that is written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from telemetryd.agent.encode import JSON, JSON_IETF, PROTO, Encoder
from telemetryd.agent.interfaces import INTERFACE, MODEL, speed
from telemetryd.agent.model import (
    CONFIG_ROLES,
    OPERATIONAL_ROLES,
    STATE_ROLES,
    Kind,
    Leaf,
    ListNode,
    Model,
    PathRefusedError,
    Role,
)
from telemetryd.agent.tree import Branch, Selection, Snapshot
from telemetryd.ingest.gnmi.path import Elem, elems_of, parse, text_of
from telemetryd.proto import gnmi_pb2
from tests.agent_tree import ETH0, LO, flat, snapshot
from tests.gnmi_messages import NOW_NS

pytestmark = pytest.mark.no_twins

BOTH = snapshot({"eth0": ETH0, "lo": LO})


def selected(path: str, **options: Any) -> dict[str, Any]:
    selection = Selection(parse(path), **options)
    return flat([(branch, selection.pick(branch).leaves) for branch in BOTH.branches.values()])


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/interfaces",
        "/interfaces/interface",
        "/interfaces/interface[name=any]/state/counters/in-octets",
        "/*/interface[name=*]/state",
        "/interfaces/*[name=eth0]",
        "/interfaces/.../in-octets",
        "/...",
        "/interfaces/interface/...",
        "/interfaces/interface/*/state/port-speed/...",
    ],
)
def test_paths_of_the_model(path: str) -> None:
    """What some node could have, or will have once it is there, is asked for rightly."""
    MODEL.check(parse(path).elems)


@pytest.mark.parametrize(
    ("path", "message", "is_malformed"),
    [
        ("/system", '/system: this target has no "system" below /', False),
        (
            "/interfaces/interface[name=eth0]/state/mut",
            '/interfaces/interface[name=eth0]/state/mut: this target has no "mut" below '
            "/interfaces/interface[name=eth0]/state",
            False,
        ),
        ("/interfaces/interface/name/x", '/interfaces/interface/name/x: this target has no "x"', False),
        ("/interfaces/.../nothing", '"nothing"', False),
        ("/interfaces/interface[id=1]", '"interface" is a list by name', True),
        ("/interfaces[name=1]/interface", '"interfaces" is no list and has no keys', True),
    ],
)
def test_paths_of_no_model(path: str, message: str, is_malformed: bool) -> None:
    """What no node can have is refused, with the path and the place in it."""
    with pytest.raises(PathRefusedError) as refused:
        MODEL.check(parse(path).elems)
    assert message in str(refused.value)
    assert refused.value.is_malformed == is_malformed


def test_what_a_path_asks_for() -> None:
    """A node with all below it; a key that is left out, ``*`` and ``...`` stand for any."""
    everything = {
        f"[name={name}]/{way}": value for name, of in (("eth0", ETH0), ("lo", LO)) for way, value in of.items()
    }
    assert selected("/") == selected("/interfaces") == selected("/interfaces/interface[name=*]") == everything
    assert selected("/interfaces/interface[name=lo]/state/counters") == {"[name=lo]/state/counters/in-octets": 5}
    octets = {"[name=eth0]/state/counters/in-octets": 2**64 - 1, "[name=lo]/state/counters/in-octets": 5}
    assert selected("/interfaces/interface/state/counters/in-octets") == octets
    assert selected("/interfaces/.../in-octets") == selected("/.../counters/in-octets") == octets
    assert selected("/interfaces/interface[name=none]") == {}


def test_types_and_levels() -> None:
    """A Get may want configuration or state only, or no more than some levels."""
    assert selected("/", roles=CONFIG_ROLES).keys() == {"[name=eth0]/name", "[name=eth0]/config/name", "[name=lo]/name"}
    state = selected("/", roles=STATE_ROLES)
    operational = selected("/", roles=OPERATIONAL_ROLES)
    assert state.keys() == {key for key in selected("/") if "/state/" in key}
    assert "[name=eth0]/state/name" in state.keys() - operational.keys()
    assert "[name=eth0]/state/counters/in-octets" in operational
    assert selected("/interfaces/interface", levels=1).keys() == {"[name=eth0]/name", "[name=lo]/name"}
    assert "[name=lo]/state/counters/in-octets" not in selected("/interfaces/interface", levels=2)
    assert "[name=lo]/state/counters/in-octets" in selected("/interfaces/interface", levels=3)


def trees(path: str, encoding: int, data: Snapshot = BOTH, model: Model = MODEL, **options: Any) -> dict[str, Any]:
    selection = Selection(parse(path), **options)
    found = [(branch, selection.pick(branch)) for branch in data.branches.values()]
    notification = Encoder(model, encoding, "gw1").trees(NOW_NS, found)
    assert (notification.timestamp, notification.prefix.target) == (NOW_NS, "gw1")
    field = "json_ietf_val" if encoding == JSON_IETF else "json_val"
    return {text_of(elems_of(one.path)): json.loads(getattr(one.val, field)) for one in notification.update}


def test_json_by_rfc_7951() -> None:
    """Names have their module where it is another than above, 64 bits are texts, identities have their module."""
    (path, tree) = next(iter(trees("/interfaces/interface[name=eth0]", JSON_IETF).items()))
    assert path == "/interfaces/interface[name=eth0]"
    assert tree == {
        "openconfig-interfaces:name": "eth0",
        "openconfig-interfaces:config": {"name": "eth0"},
        "openconfig-interfaces:state": {
            "name": "eth0",
            "type": "iana-if-type:ethernetCsmacd",
            "enabled": True,
            "ifindex": 2,
            "oper-status": "UP",
            "counters": {"in-octets": "18446744073709551615", "out-octets": "7"},
        },
        "openconfig-if-ethernet:ethernet": {"state": {"port-speed": "openconfig-if-ethernet:SPEED_10GB"}},
    }


def test_json_of_old() -> None:
    """Without modules, and numbers are numbers."""
    assert trees("/interfaces/interface[name=eth0]/state/counters", JSON) == {
        "/interfaces/interface[name=eth0]/state/counters": {"in-octets": 2**64 - 1, "out-octets": 7}
    }
    assert trees("/interfaces/.../port-speed", JSON) == {
        "/interfaces/interface[name=eth0]/ethernet/state/port-speed": "SPEED_10GB"
    }


def test_lists_in_json() -> None:
    """A list is an array whose entries have their keys, though something else was asked for; a wildcard gives nodes."""
    tree = trees("/", JSON_IETF, roles=OPERATIONAL_ROLES)["/"]
    names = [entry["name"] for entry in tree["openconfig-interfaces:interfaces"]["interface"]]
    assert names == ["eth0", "lo"]
    assert trees("/interfaces/interface[name=*]/state/oper-status", JSON_IETF) == {
        "/interfaces/interface[name=eth0]/state/oper-status": "UP",
        "/interfaces/interface[name=lo]/state/oper-status": "UNKNOWN",
    }


def test_a_list_in_a_list() -> None:
    """Branches of several lists come together in one tree, whatever their order."""
    leaf = Leaf(("state", "rate"), Kind.UINT64, Role.OPERATIONAL)
    outer = ListNode(("a", "b"), ("name",), (leaf,))
    inner = ListNode(("a", "b", "cs", "c"), ("x", "y"), (leaf,))
    model = Model([], [outer, inner], {("a",): "one", ("a", "b", "cs", "c", "state"): "two"})
    b = (Elem("a"), Elem("b", (("name", "1"),)))
    c = (*b, Elem("cs"), Elem("c", (("x", "2"), ("y", "3"))))
    branches = {elems: Branch(node, elems, (9,)) for elems, node in ((c, inner), (b, outer))}
    assert trees("/", JSON_IETF, Snapshot(NOW_NS, 0.0, branches), model)["/"] == {
        "one:a": {
            "b": [
                {
                    "name": "1",
                    "cs": {"c": [{"x": "2", "y": "3", "two:state": {"rate": "9"}}]},
                    "state": {"rate": "9"},
                }
            ]
        }
    }
    with pytest.raises(PathRefusedError, match="x, y"):
        model.check(parse("/a/b/cs/c[z=1]").elems)


def test_a_leaf_an_update() -> None:
    """A branch's leaves share its path as the prefix, with what the request named; every type has its field."""
    selection = Selection(parse("/interfaces/interface[name=eth0]"))
    (branch, *_) = BOTH.branches.values()
    octets = Encoder(MODEL, PROTO, "gw1", "openconfig").update(NOW_NS, (branch, selection.pick(branch).leaves))
    message = gnmi_pb2.SubscribeResponse.FromString(octets).update
    assert text_of(elems_of(message.prefix)) == "/interfaces/interface[name=eth0]"
    assert (message.prefix.target, message.prefix.origin, message.timestamp) == ("gw1", "openconfig", NOW_NS)
    values = {text_of(elems_of(one.path)): (one.val.WhichOneof("value"), one.val) for one in message.update}
    assert len(values) == len(ETH0)
    assert values["/state/counters/in-octets"] == ("uint_val", gnmi_pb2.TypedValue(uint_val=2**64 - 1))
    assert values["/state/enabled"] == ("bool_val", gnmi_pb2.TypedValue(bool_val=True))
    assert values["/state/type"] == ("string_val", gnmi_pb2.TypedValue(string_val="ethernetCsmacd"))


def test_speeds() -> None:
    """A speed is an identity; one without a name is unknown."""
    assert speed(2500) == "openconfig-if-ethernet:SPEED_2500MB"
    assert speed(None) == speed(1234) == "openconfig-if-ethernet:SPEED_UNKNOWN"


def test_leaves_are_named_once() -> None:
    """A leaf has one place in its list."""
    ways = [leaf.names for leaf in INTERFACE.leaves]
    assert len(ways) == len(set(ways))
