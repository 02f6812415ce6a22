"""The compiled gNMI decoder and its twin, which is made of protobuf's own classes, agree on any octets."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetryd._ext import is_disabled
from telemetryd.ingest.gnmi import gnmi_wire_reference as twin
from telemetryd.ingest.gnmi import values
from telemetryd.proto import gnmi_pb2
from tests.gnmi_messages import COUNTERS, NOW_NS, Reading, damage, notification, seeds, update

if is_disabled():
    pytest.skip("TELEMETRYD_NO_EXT=1: there is nothing to compare", allow_module_level=True)

from telemetryd._ext import gnmi_wire as compiled

SECOND_NS = 1_000_000_000
#: Texts, among them those that a path has to escape and that only look like numbers.
TEXTS = st.sampled_from(
    ["", "1", "-0", "01", "1.5", "-7", "eth0", "a]b\\", "18446744073709551616", "1e3", "城"]
) | st.text(max_size=6)
NAMES = st.sampled_from(
    ["counters", "in-octets", "state", "description", "output-power", "m:x", "interface", "", "a/b", "@x"]
)
PATHS = st.builds(
    lambda elems, origin, target: gnmi_pb2.Path(
        elem=[gnmi_pb2.PathElem(name=name, key=keys) for name, keys in elems], origin=origin, target=target
    ),
    st.lists(st.tuples(NAMES, st.dictionaries(TEXTS, TEXTS, max_size=2)), max_size=3),
    st.sampled_from(["", "openconfig", "cli"]),
    st.sampled_from(["", "other"]),
) | st.builds(
    lambda elements: gnmi_pb2.Path(element=elements), st.lists(st.sampled_from(["a", "b[k=v]", "[", ""]), max_size=3)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXTS, inner, max_size=4),
    max_leaves=8,
)
JSON_OCTETS = st.builds(
    lambda tree, ascii, indent: json.dumps(tree, ensure_ascii=ascii, indent=indent).encode("utf-8", "surrogatepass"),
    JSON,
    st.booleans(),
    st.sampled_from([None, 1]),
) | st.sampled_from(
    [b"", b" ", b"01", b"-", b"1.", b'"\x01"', b'"\xff"', b"{,}", b'{"a":1,}', b"nul", b"NaN", b"[1", b"{" * 99]
)
FLOATS = st.floats(width=32)
VALUES = st.one_of(
    st.builds(lambda v: gnmi_pb2.TypedValue(string_val=v), TEXTS),
    st.builds(lambda v: gnmi_pb2.TypedValue(ascii_val=v), TEXTS),
    st.builds(lambda v: gnmi_pb2.TypedValue(int_val=v), st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda v: gnmi_pb2.TypedValue(uint_val=v), st.integers(0, 2**64 - 1)),
    st.builds(lambda v: gnmi_pb2.TypedValue(bool_val=v), st.booleans()),
    st.builds(lambda v: gnmi_pb2.TypedValue(float_val=v), FLOATS),
    st.builds(lambda v: gnmi_pb2.TypedValue(double_val=v), st.floats()),
    st.builds(
        lambda d, p: gnmi_pb2.TypedValue(decimal_val=gnmi_pb2.Decimal64(digits=d, precision=p)),
        st.integers(-(2**63), 2**63 - 1) | st.integers(-9999, 9999),
        st.integers(0, 20) | st.just(2**32 - 1),
    ),
    st.builds(lambda v: gnmi_pb2.TypedValue(bytes_val=v), st.binary(max_size=5)),
    st.builds(lambda v: gnmi_pb2.TypedValue(proto_bytes=v), st.binary(max_size=5)),
    st.builds(lambda v: gnmi_pb2.TypedValue(json_val=v), JSON_OCTETS),
    st.builds(lambda v: gnmi_pb2.TypedValue(json_ietf_val=v), JSON_OCTETS),
    st.builds(
        lambda v: gnmi_pb2.TypedValue(leaflist_val=gnmi_pb2.ScalarArray(element=v)),
        st.lists(st.builds(lambda t: gnmi_pb2.TypedValue(string_val=t), TEXTS), max_size=2),
    ),
    st.just(gnmi_pb2.TypedValue()),
)
UPDATES = st.builds(
    lambda path, value, duplicates: gnmi_pb2.Update(path=path, val=value, duplicates=duplicates),
    PATHS | st.none(),
    VALUES | st.none(),
    st.sampled_from([0, 0, 3]),
)
TIMES = st.sampled_from([NOW_NS, NOW_NS + SECOND_NS, NOW_NS // 10**9, NOW_NS // 10**6, 0, -1, 2**63 - 1]) | st.integers(
    -(2**63), 2**63 - 1
)
NOTIFICATIONS = st.builds(
    lambda ts, prefix, updates, deletes, atomic: gnmi_pb2.SubscribeResponse(
        update=gnmi_pb2.Notification(timestamp=ts, prefix=prefix, update=updates, delete=deletes, atomic=atomic)
    ),
    TIMES,
    PATHS | st.none(),
    st.lists(UPDATES, max_size=4),
    st.lists(PATHS, max_size=2),
    st.booleans(),
)
SUBSCRIPTIONS = [
    ("/interfaces/interface[name=*]/state/counters", SECOND_NS),
    ("/counters", 10 * SECOND_NS),
    ("/state", 0),
]


def refusals_in_one(counts: dict[str, int]) -> dict[str, int]:
    """Both refuse the same messages; which of two mistakes of one message is named may differ."""
    counts = dict(counts)
    if refused := counts.pop("malformed", 0) + counts.pop("not_utf8", 0):
        counts["refused"] = refused
    return counts


def agree(one: Reading, other: Reading, *messages: bytes, received_ns: int = NOW_NS) -> None:
    rows = one.read(*messages, received_ns=received_ns), other.read(*messages, received_ns=received_ns)
    assert rows[0] == rows[1], messages
    assert refusals_in_one(one.counted()) == refusals_in_one(other.counted()), messages
    assert one.decoder.error == other.decoder.error
    assert one.decoder.take_delay() == other.decoder.take_delay()


@settings(deadline=None)
@given(messages=st.lists(NOTIFICATIONS, min_size=1, max_size=4), wrapped=st.booleans())
def test_whatever_a_target_sends(messages: list[Any], wrapped: bool) -> None:
    """Rows, counts, delays and intervals are those of the twin, for every kind of value, path, time and JSON."""
    pair = [Reading(module, SUBSCRIPTIONS, is_wrapped=wrapped, asked_target="sw1") for module in (compiled, twin)]
    agree(*pair, *(message.SerializeToString() for message in messages))


def test_every_seed() -> None:
    """The known kinds of messages are read alike, alone and one after the other."""
    pair = [Reading(module) for module in (compiled, twin)]
    for message in seeds():
        agree(*(Reading(module) for module in (compiled, twin)), message)
        agree(*pair, message)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32))
def test_damaged_messages(seed: int) -> None:
    """What is damaged is taken or refused alike, and refusals leave nothing behind."""
    rng, kinds = random.Random(seed), seeds()
    pair = [Reading(module) for module in (compiled, twin)]
    for _ in range(30):
        agree(*pair, damage(rng, rng.choice(kinds)))


@pytest.mark.long
def test_many_damaged_messages() -> None:
    """The same, a million times."""
    rng, kinds = random.Random(20261126), seeds()
    for _ in range(5000):
        pair = [Reading(module) for module in (compiled, twin)]
        for _ in range(200):
            agree(*pair, damage(rng, rng.choice(kinds)))


@settings(deadline=None, max_examples=50)
@given(capacity=st.integers(1, 12), number=st.integers(1, 30), broken=st.booleans())
def test_messages_larger_than_a_batch(capacity: int, number: int, broken: bool) -> None:
    """A message that no batch holds comes in parts, each row and count once; a damaged one does not come at all."""
    updates = [update(f"/x/y[k={i}]", string_val="v" * (i % 7)) for i in range(number)]
    updates[number // 2 : number // 2] = [
        update("/j", json_val=json.dumps({f"m{i}": str(i) for i in range(number)}).encode()),
        update("/j", json_val=b'{"a":1,"b":2,"c":{"d":3,"e":'),
        update("/j", json_val=b'{"a":1,"b":[2],"c":{"d":3,"e":4}}'),
    ]
    message = notification(*updates, deletes=["/x"], prefix="/p", atomic=True)
    if broken:
        message = message[:-1]
    pair = [Reading(module, capacity=capacity, text_capacity=1 << 16) for module in (compiled, twin)]
    agree(*pair, message, notification(update("/z", int_val=1)))
    assert pair[0].counted()["messages"] == 2
    assert pair[0].counted().get("bad_json", 0) == (0 if broken else 1)


@settings(deadline=None, max_examples=50)
@given(steps=st.lists(st.integers(-2, 40), min_size=1, max_size=30), asked=st.sampled_from([1, 10, 0]))
def test_intervals(steps: list[int], asked: int) -> None:
    """How far apart values of a leaf are is measured alike, whatever order they come in."""
    pair = [Reading(module, [(COUNTERS, asked * SECOND_NS)]) for module in (compiled, twin)]
    ts = NOW_NS
    for step in steps:
        ts += step * SECOND_NS // 4
        agree(*pair, notification(update(f"{COUNTERS}/in-octets", uint_val=1), timestamp=ts), received_ns=ts)
    found = [reading.decoder.take_intervals() for reading in pair]
    for name in found[0]:
        assert found[0][name].tolist() == found[1][name].tolist(), name
        assert not pair[0].decoder.take_intervals()[name].any()


def test_a_long_message_is_not_read_again_for_each_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python has to read of it is read once to see whether it is sound, and at most once more."""
    calls = {"json_values": 0, "read": 0}

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            calls[name] += 1
            return function(*arguments)

        return call

    monkeypatch.setattr(values, "json_values", counted("json_values", values.json_values))
    monkeypatch.setattr(twin.Reader, "read", counted("read", twin.Reader.read))
    lists = [json.dumps({"interface": [{"name": f"e{i}", "mtu": i, "up": True} for i in range(n)]}) for n in (40, 60)]
    sent = [
        notification(
            *(update(f"/{name}", json_ietf_val=text.encode()) for name, text in zip("ab", lists, strict=True))
        ),
        notification(*(update(f"/a[k={i}]", leaflist_val=gnmi_pb2.ScalarArray()) for i in range(200))),
        notification(*(update(f"/a[k={i}]", uint_val=i) for i in range(200)), deletes=["/c", "/d"], atomic=True),
    ]
    whole, parts = (Reading(compiled, capacity=capacity) for capacity in (4096, 7))
    for message in sent:
        assert whole.read(message) == parts.read(message)
    assert parts.batches > 3 * 200 / 7
    assert whole.counted() == parts.counted()
    assert calls["json_values"] <= 2 + 4
    assert calls["read"] <= 1 + 2
