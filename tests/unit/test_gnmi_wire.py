"""What the gNMI decoder makes of messages: the rules that compiled module and twin both keep."""

from __future__ import annotations

import json
from types import ModuleType

import numpy as np
import pytest

from telemetryd import _ext
from telemetryd.ingest.gnmi import gnmi_wire_reference
from telemetryd.ingest.gnmi.paths import PathTable, Resolver
from telemetryd.proto import gnmi_pb2
from telemetryd.schema import UpdateBatch, UpdateFlag, ValueKind
from tests.gnmi_messages import COUNTERS, NOW_NS, Reading, leaves, notification, packed, seeds, sync, update, value

SECOND_NS = 1_000_000_000
MODULES = [gnmi_wire_reference] if _ext.is_disabled() else [_ext.load("gnmi_wire", ""), gnmi_wire_reference]
pytestmark = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rsplit(".", 1)[-1])
K = ValueKind


def read(module: ModuleType, *messages: bytes) -> list[tuple[object, ...]]:
    return leaves(Reading(module).read(*messages))


def test_counters_one_a_notification(module: ModuleType) -> None:
    """A leaf gives a row with target, path, the device's time and ours, and its value whole."""
    reading = Reading(module)
    rows = reading.read(notification(update(f"{COUNTERS}/in-octets", uint_val=2**64 - 1)), received_ns=NOW_NS + 5)
    assert rows == [(f"{COUNTERS}/in-octets", K.UINT, 2**64 - 1, NOW_NS, 0)]
    assert reading.decoder.take_delay() == (1, 5, 5)
    assert reading.decoder.take_delay() == (0, 0, 0)


def test_paths_are_read_once(module: ModuleType) -> None:
    """The same octets are looked up, not read again: the resolver is asked once for each spelling."""
    reading = Reading(module)
    asked = []
    wire = reading.resolver.wire
    reading.resolver.wire = lambda *octets: asked.append(octets) or wire(*octets)  # type: ignore[method-assign, func-returns-value]
    message = notification(update("in-octets", uint_val=1), update("out-octets", uint_val=2), prefix=COUNTERS)
    for _ in range(3):
        reading.read(message, message)
    assert len(asked) == 2
    assert len(reading.rows) == 12


def test_json_counters_as_texts(module: ModuleType) -> None:
    """RFC 7951 writes 64-bit numbers as texts; they become numbers, texts that only look like numbers do not."""
    tree = {"oc-if:in-octets": "18446744073709551615", "x": {"delta": "-3", "code": "007", "version": "1.10"}}
    message = notification(update(COUNTERS, json_ietf_val=json.dumps(tree).encode()))
    assert read(module, message) == [
        (f"{COUNTERS}/in-octets", K.UINT, 2**64 - 1),
        (f"{COUNTERS}/x/delta", K.INT, -3),
        (f"{COUNTERS}/x/code", K.TEXT, "007"),
        (f"{COUNTERS}/x/version", K.TEXT, "1.10"),
    ]


def test_hints_decide_what_a_text_is(module: ModuleType) -> None:
    """A description stays a text, a temperature is a number, a power is a float, whatever the encoding."""
    rows = read(
        module,
        notification(
            update(
                "/c/state",
                json_ietf_val=b'{"description":"100","output-power":"QEj1ww==","temperature":{"instant":"45.5"}}',
            ),
            update("/c/state/temperature/avg", string_val="40"),
            update("/c/state/output-power", bytes_val=b"\x40\x48\xf5\xc3"),
            update("/c/state/name", string_val="40"),
            update("/c/state/mac", bytes_val=b"\x40\x48\xf5\xc3"),
        ),
    )
    pi = pytest.approx(3.14, rel=1e-6)
    assert rows == [
        ("/c/state/description", K.TEXT, "100"),
        ("/c/state/output-power", K.DOUBLE, pi),
        ("/c/state/temperature/instant", K.DOUBLE, 45.5),
        ("/c/state/temperature/avg", K.UINT, 40),
        ("/c/state/output-power", K.DOUBLE, pi),
        ("/c/state/name", K.TEXT, "40"),
        ("/c/state/mac", K.BYTES, b"\x40\x48\xf5\xc3"),
    ]


def test_json_is_taken_whole_or_not_at_all(module: ModuleType) -> None:
    """A value that is no JSON gives no row and is counted; the other values of its message stay."""
    for broken in (
        b'{"a":1,"b":',
        b"{'a':1}",
        b'{"a":01}',
        b'{"a":1}x',
        b"",
        b'{"a":"\xff"}',
        b'{"a":[1,{]}',
        b'{"a":NaN}',
    ):
        reading = Reading(module)
        rows = leaves(reading.read(notification(update("/x", json_ietf_val=broken), update("/y", int_val=1))))
        assert rows == [("/y", K.INT, 1)], broken
        assert reading.counted() == {"messages": 1, "notifications": 1, "updates": 1, "bad_json": 1}


def test_deletes_come_before_updates(module: ModuleType) -> None:
    """A notification's deletes are older than its updates; an atomic one replaces all below its prefix first."""
    rows = read(module, notification(update("/a", int_val=1), prefix="/top", deletes=["b", ""], atomic=True))
    assert rows == [
        ("/top", K.REPLACE, None),
        ("/top/b", K.DELETE, None),
        ("/top", K.DELETE, None),
        ("/top/a", K.INT, 1),
    ]


def test_sync_keeps_its_place(module: ModuleType) -> None:
    """sync_response is a row, so that it stands behind the values that came before it."""
    rows = read(module, notification(update("/a", int_val=1)), sync(), notification(update("/a", int_val=2)))
    assert [kind for _, kind, _ in rows] == [K.INT, K.SYNC, K.INT]


@pytest.mark.parametrize(
    ("timestamp", "expected", "count"),
    [
        (0, NOW_NS, "timestamp_missing"),
        (-7, NOW_NS, "timestamp_missing"),
        (2**63 - 1, NOW_NS, "timestamp_missing"),
        (NOW_NS // 10**9, NOW_NS, "timestamp_rescaled"),
        (NOW_NS // 10**6, NOW_NS, "timestamp_rescaled"),
        (NOW_NS // 10**3, NOW_NS, "timestamp_rescaled"),
        (NOW_NS + 61 * SECOND_NS, NOW_NS + 61 * SECOND_NS, "timestamp_ahead"),
        (NOW_NS - 10**8 * SECOND_NS, NOW_NS - 10**8 * SECOND_NS, None),
    ],
)
def test_times(module: ModuleType, timestamp: int, expected: int, count: str | None) -> None:
    """Times in other units are scaled, those that are none are replaced by ours; all of it is counted."""
    reading = Reading(module)
    ((_, _, _, ts_ns, flags),) = reading.read(notification(update("/a", int_val=1), timestamp=timestamp))
    assert ts_ns == expected
    assert flags == (UpdateFlag.RECEIVED_TIME if count == "timestamp_missing" else 0)
    counted = reading.counted()
    assert {name for name in counted if name.startswith("timestamp")} == ({count} if count else set())


def test_damage_costs_one_message(module: ModuleType) -> None:
    """A damaged message is counted and gives nothing; those around it are read."""
    good = notification(update("/a", int_val=1))
    reading = Reading(module)
    not_utf8 = notification(update("/a", bytes_val=b"\xff")).replace(b"*\x01\xff", b"\x0a\x01\xff")
    assert len(reading.read(good, good[:-1], b"\x07", not_utf8, good)) == 2
    assert reading.counted() == {"messages": 5, "notifications": 2, "updates": 2, "malformed": 2, "not_utf8": 1}


def test_every_end_is_survived(module: ModuleType) -> None:
    """A message that ends anywhere is refused or read, never an exception; a decoder goes on afterwards."""
    reading = Reading(module)
    for message in seeds():
        reading.read(*(message[:end] for end in range(len(message))))
    assert len(reading.read(notification(update("/a", int_val=1)))) == 1


def test_paths_without_bound_are_bounded(module: ModuleType) -> None:
    """Paths beyond a target's share are counted and left out, known ones go on; so are spellings without end."""
    reading = Reading(module, most_paths=10)
    for i in range(40):
        reading.read(notification(update(f"/a[k={i}]", int_val=i)))
    assert reading.counted()["path_overflow"] == 30
    assert len(reading.paths) == 10
    for i in range(1000):  # an unknown field in a path is another spelling of it
        path = gnmi_pb2.Path.FromString(b"\xfa\x01\x04%04d" % i)
        path.elem.add(name="a", key={"k": "1"})
        message = gnmi_pb2.Notification(timestamp=NOW_NS, update=[gnmi_pb2.Update(path=path, val=value(int_val=1))])
        reading.read(gnmi_pb2.SubscribeResponse(update=message).SerializeToString())
    assert reading.counted()["path_overflow"] > 900
    assert len(reading.read(notification(update("/a[k=1]", int_val=1)))) == 1


def test_values_without_bound_are_bounded(module: ModuleType) -> None:
    """A text that is longer than 64 KiB is counted and left out."""
    reading = Reading(module)
    rows = reading.read(notification(update("/a", string_val="x" * 65537), update("/b", string_val="y" * 65536)))
    assert [path for path, *_ in rows] == ["/b"]
    assert reading.counted()["value_too_long"] == 1


def test_full_batches_lose_nothing(module: ModuleType) -> None:
    """Whatever the batch holds, every row comes once, and messages that fit are not torn apart."""
    messages = [notification(*(update(f"/a[k={i}]", uint_val=i) for i in range(n))) for n in range(1, 40)]
    rows = [Reading(module, capacity=capacity).read(*messages) for capacity in (4096, 64, 7, 1)]
    assert rows[0] == rows[1] == rows[2] == rows[3]
    assert len(rows[0]) == sum(range(1, 40))


def test_batches_are_shared(module: ModuleType) -> None:
    """Decoders of several targets fill one batch, one after the other."""
    paths, batch = PathTable(), UpdateBatch(16, 1 << 16)
    decoders = [module.Decoder(batch, i, Resolver(paths), np.zeros(0, np.int64)) for i in range(3)]
    for i, decoder in enumerate(decoders):
        decoder.decode(*packed([notification(update("/a", string_val=f"v{i}"))]), 0, NOW_NS)
    assert batch["target"][: batch.n].tolist() == [0, 1, 2]
    assert batch["path"][: batch.n].tolist() == [1, 1, 1]
    assert [batch.value(row) for row in range(3)] == ["v0", "v1", "v2"]


def test_intervals_are_measured(module: ModuleType) -> None:
    """How far values of a leaf are apart, against what was asked for; the first one and repeats do not count."""
    reading = Reading(module, [("/a", SECOND_NS), ("/b", 0)])
    for seconds in (0, 1, 1, 2, 5):
        ts = NOW_NS + seconds * SECOND_NS
        reading.read(notification(update("/a", int_val=1), update("/b", int_val=1), timestamp=ts), received_ns=ts)
    found = reading.decoder.take_intervals()
    assert found["n"].tolist() == [3, 0]
    assert found["sum_ns"].tolist() == [5 * SECOND_NS, 0]
    assert found["most_ns"].tolist() == [3 * SECOND_NS, 0]
    assert {place: int(n) for place, n in enumerate(found["histogram"][0]) if n} == {8: 2, 24: 1}


def test_the_caller_is_checked(module: ModuleType) -> None:
    """Messages outside of the octets, and batches that are too small, are refused."""
    reading = Reading(module)
    octets = np.zeros(4, np.uint8)
    for offset, length in ((0, 5), (-1, 2), (4, 1), (2, -1)):
        with pytest.raises(ValueError, match="outside"):
            reading.decoder.decode(octets, np.array([offset]), np.array([length]), 0, NOW_NS)
    with pytest.raises(ValueError, match="65536"):
        module.Decoder(UpdateBatch(4, 100), 0, Resolver(PathTable()), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="interval"):
        module.Decoder(reading.batch, 0, reading.resolver, np.zeros(1, np.int64))


def test_the_text_of_an_error_is_kept(module: ModuleType) -> None:
    """What a target says in the deprecated Error is there to be shown."""
    reading = Reading(module)
    reading.read(gnmi_pb2.SubscribeResponse(error=gnmi_pb2.Error(message="no such path")).SerializeToString())
    assert (reading.decoder.error, reading.counted()) == ("no such path", {"messages": 1, "errors": 1})
