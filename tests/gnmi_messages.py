"""SubscribeResponse messages for tests: paths, notifications, and damaged ones; and decoders with what they read."""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetryd.ingest.gnmi.path import parse, to_proto
from telemetryd.ingest.gnmi.paths import PathTable, Resolver
from telemetryd.proto import gnmi_pb2
from telemetryd.schema import UpdateBatch, ValueKind

SECOND_NS = 1_000_000_000
NOW_NS = 1_790_000_000 * SECOND_NS
COUNTERS = "/interfaces/interface[name=eth0]/state/counters"


def value(**field: Any) -> gnmi_pb2.TypedValue:
    return gnmi_pb2.TypedValue(**field)


def update(path: str, **field: Any) -> gnmi_pb2.Update:
    return gnmi_pb2.Update(path=to_proto(parse(path)), val=value(**field) if field else None)


def notification(
    *updates: gnmi_pb2.Update,
    prefix: str = "",
    target: str = "",
    deletes: Sequence[str] = (),
    timestamp: int = NOW_NS,
    atomic: bool = False,
) -> bytes:
    """Return a message with a notification."""
    before = to_proto(parse(prefix), target) if prefix or target else None
    message = gnmi_pb2.Notification(
        timestamp=timestamp,
        prefix=before,
        update=updates,
        delete=[to_proto(parse(path)) for path in deletes],
        atomic=atomic,
    )
    return bytes(gnmi_pb2.SubscribeResponse(update=message).SerializeToString())


def sync() -> bytes:
    return bytes(gnmi_pb2.SubscribeResponse(sync_response=True).SerializeToString())


def packed(messages: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Return messages as a transport hands them on, in a buffer of exactly their size."""
    lengths = np.array([len(message) for message in messages], np.int64)
    offsets = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64) if messages else lengths
    return np.frombuffer(b"".join(messages), np.uint8).copy(), offsets, lengths


class Reading:
    """A decoder of its own, and the rows that it has read."""

    def __init__(
        self,
        module: ModuleType,
        subscriptions: Sequence[tuple[str, int]] = (),
        *,
        capacity: int = 4096,
        text_capacity: int = 1 << 17,
        target: int = 7,
        **options: Any,
    ) -> None:
        self.paths = PathTable()
        asked = [parse(path) for path, _ in subscriptions]
        self.resolver = Resolver(self.paths, asked, **options)
        self.batch = UpdateBatch(capacity, text_capacity)
        intervals = np.array([ns for _, ns in subscriptions], np.int64)
        self.decoder = module.Decoder(self.batch, target, self.resolver, intervals)
        self.rows: list[tuple[Any, ...]] = []
        self.batches = 0

    def read(self, *messages: bytes, received_ns: int = NOW_NS) -> list[tuple[Any, ...]]:
        """Read messages and return their rows: (path, kind, value, ts_ns, flags)."""
        already = len(self.rows)
        octets, offsets, lengths = packed(messages)
        first = 0
        while (first := self.decoder.decode(octets, offsets, lengths, first, received_ns)) < len(messages):
            assert self.batch.n
            self.take()
        self.take()
        return self.rows[already:]

    def take(self) -> None:
        """Empty the batch."""
        batch = self.batch
        self.batches += bool(batch.n)
        for row in range(batch.n):
            assert batch["target"][row] == 7
            kind = ValueKind(int(batch["kind"][row]))
            number = int(batch["path"][row])
            held = batch.value(row)
            self.rows.append(
                (
                    self.paths.text(number),
                    kind,
                    held if not isinstance(held, float) else np.float64(held).tobytes(),
                    int(batch["ts_ns"][row]),
                    int(batch["flags"][row]),
                )
            )
        batch.clear()

    def counted(self) -> dict[str, int]:
        """Return the counts that are not 0."""
        return {name: count for name, count in self.decoder.counts.items() if count}


def leaves(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return path, kind and value of rows, floats as floats."""
    return [
        (path, kind, float(np.frombuffer(held, np.float64)[0]) if kind is ValueKind.DOUBLE else held)
        for path, kind, held, *_ in rows
    ]


def seeds() -> list[bytes]:
    """Return messages of every kind that targets send."""
    counters = {"in-octets": "18446744073709551615", "out-octets": 12, "in-errors": None, "rate": 0.25, "up": True}
    import json

    text = json.dumps(counters).encode()
    nested = json.dumps({"openconfig-interfaces:state": {"counters": counters, "name": "1", "enabled": False}}).encode()
    listed = json.dumps({"interface": [{"name": "eth0", "state": {"mtu": 1500}}, {"state": {"mtu": "9000"}}]}).encode()
    old = gnmi_pb2.Notification(timestamp=NOW_NS)
    old.update.add(path=gnmi_pb2.Path(element=["a", "b[k=v]"]), val=value(int_val=-5))
    oldest = gnmi_pb2.Notification(timestamp=NOW_NS)
    oldest.update.add(path=gnmi_pb2.Path(element=["a"]), value=gnmi_pb2.Value(value=b"1", type=gnmi_pb2.JSON))
    extended = gnmi_pb2.SubscribeResponse(update=old)
    extended.extension.add().registered_ext.msg = b"\xff\x01"
    scalars = [
        value(string_val="a\u4e2d"),
        value(int_val=-1),
        value(decimal_val=gnmi_pb2.Decimal64(digits=5, precision=1)),
    ]
    return [
        sync(),
        notification(update(f"{COUNTERS}/in-octets", uint_val=2**64 - 1)),
        notification(update("in-octets", uint_val=7), update("out-octets", uint_val=8), prefix=COUNTERS, target="sw1"),
        notification(update("/a/b", int_val=-(2**63))),
        notification(update("/a/b", bool_val=True), update("/a/c", bool_val=False)),
        notification(update("/a/b", string_val="UP"), update("/a/\u57ce", string_val="\u57ce\u5e02")),
        notification(update("/a/b", double_val=1.5), update("/a/c", float_val=0.1)),
        notification(update("/a/b", decimal_val=gnmi_pb2.Decimal64(digits=-12345, precision=2))),
        notification(update("/a/b", decimal_val=gnmi_pb2.Decimal64(digits=2**60 + 1, precision=18))),
        notification(update("/a/b", decimal_val=gnmi_pb2.Decimal64(digits=1, precision=99))),
        notification(update("/p/state/output-power", bytes_val=b"\x40\x48\xf5\xc3")),
        notification(update("/p/state/mac", bytes_val=b"\x40\x48\xf5\xc3"), update("/p/x", bytes_val=b"")),
        notification(update("/a/b", leaflist_val=gnmi_pb2.ScalarArray(element=scalars))),
        notification(update("/a/b", ascii_val="show"), update("/a/c", proto_bytes=b"\0\1")),
        notification(update(COUNTERS, json_ietf_val=text)),
        notification(update(COUNTERS, json_val=text), update("/x", json_val=b' "5" '), update("/y", json_val=b"[1,2]")),
        notification(update("/interfaces/interface[name=eth0]", json_ietf_val=nested)),
        notification(update("/interfaces", json_ietf_val=listed)),
        notification(update("/x", json_ietf_val=b'{"a":"\\u57ce","b":[null],"c":{"@d":1,"e":{}}}')),
        notification(update("/x", json_ietf_val=b'{"a":1,"b":}'), update("/y", int_val=1)),
        notification(update("/x", json_ietf_val=b'{"temperature":{"instant":"45.5"},"description":"100"}')),
        notification(update("/x")),
        notification(deletes=["/a/b", "/interfaces/interface", ""]),
        notification(update("/a", uint_val=1), prefix="/top", deletes=["b"], atomic=True),
        notification(),
        notification(update("cli:/show", string_val="text"), timestamp=0),
        notification(update("/a", uint_val=1), timestamp=NOW_NS // 1_000_000),
        notification(update("/a", uint_val=1), timestamp=NOW_NS + 3600 * SECOND_NS),
        notification(update("/a", uint_val=1), timestamp=-5),
        bytes(gnmi_pb2.SubscribeResponse(update=old).SerializeToString()),
        bytes(gnmi_pb2.SubscribeResponse(update=oldest).SerializeToString()),
        bytes(gnmi_pb2.SubscribeResponse(error=gnmi_pb2.Error(code=3, message="no")).SerializeToString()),
        bytes(extended.SerializeToString()),
        b"",
    ]


def damage(rng: random.Random, message: bytes) -> bytes:
    """Return a message with octets changed, cut out, put in or repeated."""
    octets = bytearray(message)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(octets) + 1)
        match rng.randrange(5):
            case 0 if octets:
                octets[at % len(octets)] = rng.randrange(256)
            case 1 if octets:
                octets[at % len(octets)] ^= 1 << rng.randrange(8)
            case 2:
                del octets[at : at + rng.randint(1, 8)]
            case 3:
                octets[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 4)))
            case _:
                octets[at:at] = octets[at : at + rng.randint(1, 16)]
    return bytes(octets)
