"""SubscribeResponse messages to rows of a batch, by the generated protobuf classes: the twin of ext/gnmi_wire.pyx.

What is in a message, by field numbers (proto/gnmi/gnmi.proto)::

    SubscribeResponse   1 update: Notification | 3 sync_response | 4 error; 5 extension, left unread
    Notification        1 timestamp  2 prefix: Path  4 update: Update ...  5 delete: Path ...  6 atomic
    Update              1 path: Path  3 val: TypedValue  (2 value, deprecated)  4 duplicates
    Path                3 elem: PathElem ... (1 element, deprecated)  2 origin  4 target

A message gives rows in this order: REPLACE, if it is atomic; a DELETE for each of its deletes; a row for each leaf.
It is taken whole or, where it is damaged, not at all, except that a message that one batch cannot hold comes in parts.
A value in JSON is taken whole or not at all too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from telemetryd.ingest.gnmi.paths import SPELLINGS_A_PATH, UNASKED, Known, Refusal, Resolver
from telemetryd.ingest.gnmi.values import Found, Value, json_values, typed
from telemetryd.proto import gnmi_pb2
from telemetryd.schema import UpdateBatch, UpdateFlag, ValueKind

SECOND_NS: Final = 1_000_000_000
#: Times before 2000 and after 2099 are no times of this network's.
EARLIEST_NS: Final = 946_684_800 * SECOND_NS
LATEST_NS: Final = 4_102_444_800 * SECOND_NS
#: A target whose clock is so far ahead of ours is counted.
AHEAD_NS: Final = 60 * SECOND_NS
LONGEST_VALUE: Final = 64 << 10
#: Of the histogram of intervals: a bin is an eighth of the interval that was asked for, the last one holds the rest.
BINS: Final = 32
BINS_AN_INTERVAL: Final = 8

COUNTS: Final = (
    "messages",  # all of them
    "notifications",
    "updates",  # rows of leaves
    "deletes",
    "syncs",
    "empty",  # notifications with nothing in them: some targets send them as signs of life
    "duplicates",  # values that the target left out because they came too fast
    "valueless",  # updates without a value
    "errors",  # messages of the deprecated kind Error
    "malformed",  # messages that are no protobuf messages, refused
    "not_utf8",  # messages with a text that is not UTF-8, refused
    "bad_json",  # values refused
    "bad_value",
    "value_too_long",
    "path_overflow",  # updates and deletes left out, see Refusal
    "bad_path",
    "path_too_long",
    "annotation",
    "timestamp_missing",  # notifications: the time of reception was taken
    "timestamp_rescaled",  # in s, ms or us instead of ns
    "timestamp_ahead",
)
OF_REFUSAL: Final = {
    Refusal.PATH_OVERFLOW: "path_overflow",
    Refusal.BAD_PATH: "bad_path",
    Refusal.PATH_TOO_LONG: "path_too_long",
    Refusal.ANNOTATION: "annotation",
}


class MalformedError(Exception):
    """The message is refused, for the count of this name."""


def usable_time(timestamp: int, received_ns: int) -> tuple[int, str | None]:
    """Return a notification's time in ns since the epoch, and what had to be done to it (a count's name)."""
    if EARLIEST_NS <= timestamp < LATEST_NS:
        return timestamp, "timestamp_ahead" if timestamp > received_ns + AHEAD_NS else None
    for factor in (1_000, 1_000_000, SECOND_NS):
        if EARLIEST_NS <= timestamp * factor < LATEST_NS:
            return timestamp * factor, "timestamp_rescaled"
    return received_ns, "timestamp_missing"


def without_extensions(octets: bytes) -> bytes:
    """Return a message without its field 5, whose content is nobody's business here."""
    kept, at = b"", 0
    while at < len(octets):
        start = at
        tag, at = _varint(octets, at)
        match tag & 7:
            case 0:
                _, at = _varint(octets, at)
            case 1:
                at += 8
            case 2:
                length, at = _varint(octets, at)
                at += length
            case 5:
                at += 4
            case _:
                return octets  # the parser knows what to do with it
        if at > len(octets):
            return octets
        if tag != 5 << 3 | 2:
            kept += octets[start:at]
    return kept


def _varint(octets: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(octets):
        value |= (octets[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not octets[at - 1] & 0x80:
            return value, at
    return value, len(octets) + 1


class Row(NamedTuple):
    """A row before it is in a batch."""

    known: Known
    ts_ns: int
    flags: int
    value: Value


class Read(NamedTuple):
    """What a message holds.

    Attributes
    ----------
    counts:
        Name -> number, without those that are counted by rows.
    delay_ns:
        Time of reception less the target's, None where it gave no usable one.
    error:
        The text of a message of the deprecated kind Error.
    """

    rows: list[Row]
    counts: dict[str, int]
    delay_ns: int | None = None
    error: str = ""


class Reader:
    """Reads messages one by one, with protobuf's classes.

    Parameters
    ----------
    resolver:
        Knows the target's paths.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._known: dict[tuple[bytes, bytes], Known] = {}

    def read(self, octets: bytes, received_ns: int) -> Read:
        """Read a message.

        Raises
        ------
        MalformedError
            If it is none.
        """
        try:
            message = gnmi_pb2.SubscribeResponse.FromString(without_extensions(octets))
        except DecodeError as error:
            raise MalformedError("not_utf8" if "UTF-8" in str(error) else "malformed") from None
        match message.WhichOneof("response"):
            case "update":
                return self._notification(message.update, received_ns)
            case "sync_response":
                return Read([Row(Known(0), received_ns, 0, Value(ValueKind.SYNC))], {"syncs": 1})
            case "error":
                return Read([], {"errors": 1}, error=message.error.message)
            case _:
                return Read([], {})

    def _notification(self, notification: gnmi_pb2.Notification, received_ns: int) -> Read:
        rows: list[Row] = []
        counts = {"notifications": 1}
        ts_ns, remark = usable_time(notification.timestamp, received_ns)
        if remark:
            _count(counts, remark)
        is_usable = remark != "timestamp_missing"
        flags = 0 if is_usable else UpdateFlag.RECEIVED_TIME
        if not notification.update and not notification.delete and not notification.atomic:
            _count(counts, "empty")
        prefix = notification.prefix.SerializeToString(deterministic=True)
        removed = [(ValueKind.REPLACE, gnmi_pb2.Path())] if notification.atomic else []
        removed += [(ValueKind.DELETE, path) for path in notification.delete]
        for kind, path in removed:
            if known := self._place(prefix, path, counts):
                rows.append(Row(known, ts_ns, flags, Value(kind)))
        for update in notification.update:
            _count(counts, "duplicates", update.duplicates)
            if known := self._place(prefix, update.path, counts):
                rows += (Row(place, ts_ns, flags, value) for place, value in self._values(update, known, counts))
        return Read(rows, counts, received_ns - ts_ns if is_usable else None)

    def _place(self, prefix: bytes, path: gnmi_pb2.Path, counts: dict[str, int]) -> Known | None:
        octets = path.SerializeToString(deterministic=True)
        known = self._known.get((prefix, octets))
        if known is None:
            if len(self._known) >= SPELLINGS_A_PATH * self._resolver.most_paths:
                known = Known(0, Refusal.PATH_OVERFLOW)
            else:
                known = self._known[prefix, octets] = self._resolver.wire(prefix, octets)
        return None if _is_refused(known, counts) else known

    def _values(self, update: gnmi_pb2.Update, known: Known, counts: dict[str, int]) -> Iterator[tuple[Known, Value]]:
        value = update.val
        if value.WhichOneof("value") is None and update.HasField("value"):
            value = _of_deprecated(update.value)
        field = value.WhichOneof("value")
        is_json = field in ("json_val", "json_ietf_val")
        try:
            if is_json:
                found = json_values(getattr(value, field), known, self._resolver)
            else:
                one = typed(value, known.hint)
                _count(counts, "valueless", one is None)
                found = [] if one is None else [Found(known, one)]
        except ValueError:
            _count(counts, "bad_json" if is_json else "bad_value")
            return
        for place, leaf in found:
            if leaf is None:
                _is_refused(place, counts)
            elif isinstance(leaf.content, bytes) and len(leaf.content) > LONGEST_VALUE:
                _count(counts, "value_too_long")
            else:
                yield place, leaf


class Decoder:
    """Reads what one target sends into a batch, which may be shared with other targets.

    Parameters
    ----------
    batch:
        Receives the rows; its owner empties it.
    target:
        The target's number in the rows.
    resolver:
        Knows the target's paths.
    asked_ns:
        The interval that each subscription asks for, 0 where it asks for none, shape (s,).
    """

    def __init__(self, batch: UpdateBatch, target: int, resolver: Resolver, asked_ns: NDArray[np.int64]) -> None:
        if len(batch.text) < LONGEST_VALUE:
            raise ValueError(f"a batch's text holds {LONGEST_VALUE} octets at least")
        if len(asked_ns) != resolver.n_subscriptions:
            raise ValueError("every subscription has an interval")
        self._batch, self._target = batch, target
        self._reader = Reader(resolver)
        self._asked_ns = asked_ns.tolist()
        self._counts = dict.fromkeys(COUNTS, 0)
        self._last_ns: dict[int, int] = {}
        self._skip = 0  # rows of the message that an earlier batch has
        self._error = ""
        self._intervals = no_intervals(len(asked_ns))
        self._delay = (0, 0, 0)

    @property
    def counts(self) -> dict[str, int]:
        """Return what came, and what was left out and why: name (see COUNTS) -> number."""
        return dict(self._counts)

    @property
    def error(self) -> str:
        """Return the text of the last message of the deprecated kind Error."""
        return self._error

    def decode(
        self,
        octets: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        lengths: NDArray[np.int64],
        first: int,
        received_ns: int,
    ) -> int:
        """Read messages into the batch until it is full.

        Parameters
        ----------
        octets:
            Where they are, shape (octets,).
        offsets, lengths:
            Where in it each begins and how long it is, shape (n,) each.
        first:
            The message to begin with.
        received_ns:
            When they were received.

        Returns
        -------
        int
            The message to go on with once the batch is empty, n where all were read. Whoever gets less must come back
            with the same messages.

        Raises
        ------
        ValueError
            If a message lies outside of the octets.
        """
        check_spans(len(octets), offsets, lengths)
        batch = self._batch
        for number in range(first, len(offsets)):
            start, length = int(offsets[number]), int(lengths[number])
            room, text_room = batch.capacity - batch.n, len(batch.text) - batch.text_n
            if batch.n and (room < length // 2 or text_room < length):
                return number
            if not self._message(octets[start : start + length].tobytes(), received_ns):
                return number
        return len(offsets)

    def take_intervals(self) -> dict[str, NDArray[np.int64]]:
        """Return how far apart values of the same leaf were, per subscription, since the last call.

        ``n``, ``sum_ns`` and ``most_ns`` have the shape (s,), ``histogram`` (s, BINS). Only subscriptions that ask for
        an interval count.
        """
        found, self._intervals = self._intervals, no_intervals(len(self._asked_ns))
        return found

    def take_delay(self) -> tuple[int, int, int]:
        """Return notifications with a usable time since the last call, and the least and the greatest delay in ns.

        The delay is the time of reception less the target's: its clock's error and the way are both in it.
        """
        found, self._delay = self._delay, (0, 0, 0)
        return found

    def _message(self, octets: bytes, received_ns: int) -> bool:
        """Read a message; return False where the batch is full and the rest has to follow."""
        try:
            read = self._reader.read(octets, received_ns)
        except MalformedError as reason:
            read = Read([], {str(reason): 1})
        for done in range(self._skip, len(read.rows)):
            if not self._append(read.rows[done], received_ns):
                self._skip = done
                return False
        self._skip = 0
        self._counts["messages"] += 1
        for name, count in read.counts.items():
            self._counts[name] += count
        self._error = read.error or self._error
        if read.delay_ns is not None:
            n, least, most = self._delay
            self._delay = (
                n + 1,
                min(least, read.delay_ns) if n else read.delay_ns,
                max(most, read.delay_ns) if n else read.delay_ns,
            )
        return True

    def _append(self, row: Row, received_ns: int) -> bool:
        known, ts_ns, flags, (kind, content) = row
        batch = self._batch
        if batch.n == batch.capacity:
            return False
        if isinstance(content, bytes):
            start, end = batch.text_n, batch.text_n + len(content)
            if end > len(batch.text):
                return False
            batch.text[start:end] = np.frombuffer(content, np.uint8)
            batch.text_n = end
            content = start | len(content) << 32
        cells = (self._target, known.path, ts_ns, received_ns, kind, flags, content)
        for column, cell in zip(batch.columns.values(), cells, strict=True):
            column[batch.n] = cell
        batch.n += 1
        if kind < ValueKind.DELETE:
            self._counts["updates"] += 1
            self._measure(known, ts_ns)
        elif kind == ValueKind.DELETE:
            self._counts["deletes"] += 1
        return True

    def _measure(self, known: Known, ts_ns: int) -> None:
        """Take note of how long after the leaf's last value this one is."""
        last_ns = self._last_ns.get(known.path)
        if last_ns is not None and ts_ns <= last_ns:
            return
        self._last_ns[known.path] = ts_ns
        if last_ns is None or known.subscription == UNASKED:
            return
        asked_ns = self._asked_ns[known.subscription]
        if asked_ns > 0:
            passed_ns, found, of = ts_ns - last_ns, self._intervals, known.subscription
            found["n"][of] += 1
            found["sum_ns"][of] += passed_ns
            found["most_ns"][of] = max(found["most_ns"][of], passed_ns)
            found["histogram"][of, min(int(passed_ns * (BINS_AN_INTERVAL / asked_ns)), BINS - 1)] += 1


def no_intervals(n: int) -> dict[str, NDArray[np.int64]]:
    """Return what :meth:`Decoder.take_intervals` gives where nothing came, for so many subscriptions."""
    names = ("n", "sum_ns", "most_ns")
    return {name: np.zeros(n, np.int64) for name in names} | {"histogram": np.zeros((n, BINS), np.int64)}


def check_spans(octets: int, offsets: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
    """Raise ValueError unless every span lies within so many octets."""
    if len(offsets) != len(lengths):
        raise ValueError("every message has an offset and a length")
    if len(offsets) and (offsets.min() < 0 or lengths.min() < 0 or (offsets + lengths).max() > octets):
        raise ValueError("a message lies outside of the octets")


def _of_deprecated(value: gnmi_pb2.Value) -> gnmi_pb2.TypedValue:
    """Return the value of an update as targets sent it before there was TypedValue."""
    match value.type:
        case gnmi_pb2.Encoding.JSON:
            return gnmi_pb2.TypedValue(json_val=value.value)
        case gnmi_pb2.Encoding.JSON_IETF:
            return gnmi_pb2.TypedValue(json_ietf_val=value.value)
        case _:
            return gnmi_pb2.TypedValue(bytes_val=value.value)


def _is_refused(known: Known, counts: dict[str, int]) -> bool:
    if known.path:
        return False
    if known.hint == Refusal.MALFORMED:
        raise MalformedError("malformed")
    _count(counts, OF_REFUSAL[Refusal(known.hint)])
    return True


def _count(counts: dict[str, int], name: str, number: int = 1) -> None:
    counts[name] = counts.get(name, 0) + number
