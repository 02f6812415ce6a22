"""Sums per key, source and window, in Python: the specification of ext/accumulate.pyx."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.keys import CODE_LIMITS
from telemetryd.ingest.sflow.sequence import POOL_DUPLICATE, POOL_KNOWN
from telemetryd.schema import Batch

_MASK: Final = 0xFFFFFFFFFFFFFFFF
_KEY_COLUMNS: Final = (("key0", np.uint64), ("key1", np.uint64), ("key2", np.uint64))
_SUM_COLUMNS: Final = (
    ("samples", np.uint64),
    ("octets", np.uint64),
    ("squares", np.float64),
    ("largest", np.uint32),
)
_SOURCE_COLUMNS: Final = (
    ("source", np.uint32),
    ("samples", np.uint64),
    ("growth", np.uint64),
    ("grown", np.uint64),
    ("stated", np.uint64),
    ("stated_grown", np.uint64),
    ("largest", np.uint32),
)
_TALKER_COLUMNS: Final = (
    ("address_hi", np.uint64),
    ("address_lo", np.uint64),
    ("ip_version", np.uint8),
    ("protocol", np.uint8),
    ("port", np.uint16),
    ("samples", np.uint64),
    ("octets", np.uint64),
    ("scaled_octets", np.uint64),
)
_SAMPLE_NAMES: Final = (
    "datagram",
    "sampling_rate",
    "frame_length",
    "source_hi",
    "source_lo",
    "destination_hi",
    "destination_lo",
    "ip_version",
    "protocol",
    "source_port",
    "destination_port",
)

_Row = dict[str, int]


def _columns(table: tuple[tuple[str, Any], ...], rows: list[list[Any]]) -> dict[str, NDArray[Any]]:
    return {name: np.array([row[i] for row in rows], dtype) for i, (name, dtype) in enumerate(table)}


def _pack(row: _Row) -> tuple[int, int, int]:
    """Pack the key of a row; the layout is drawn in :mod:`telemetryd.aggregate.keys`."""
    return (
        row["source"] << 48 | row["link_in"] << 24 | row["link_out"],
        row["department"] << 44 | row["peer_department"] << 24 | row["application"] << 4 | row["direction"],
        row["metering_point"] << 40 | row["source_zone"] << 24 | row["destination_zone"] << 8 | row["service_class"],
    )


class _Table:
    """One window: sums per key and per source, in order of appearance."""

    def __init__(self) -> None:
        self.keys: dict[tuple[int, int, int], list[Any]] = {}
        self.sources: dict[int, list[int]] = {}

    def add(self, row: _Row) -> None:
        length, rate = row["frame_length"], row["sampling_rate"]
        sums = self.keys.setdefault(_pack(row), [0, 0, 0.0, 0])
        sums[0] += 1
        sums[1] += length
        sums[2] += float(length) * float(length)
        sums[3] = max(sums[3], length)
        of_source = self.sources.setdefault(row["source"], [0, 0, 0, 0, 0, 0])
        of_source[0] += 1
        if row["pool_valid"] == POOL_KNOWN:
            of_source[1] += row["pool_growth"]
            of_source[2] += 1
            of_source[4] += rate
        of_source[3] += rate
        of_source[5] = max(of_source[5], length)


class Accumulator:
    """Sum the rows of the bound batches per key, source and window of event time.

    The event time of a row is the time stamp of its datagram. Windows are numbered ``ts_ns //
    window_ns``; a ring of them is open at once. Nothing is open until :meth:`open`.

    Parameters
    ----------
    datagrams, samples, track, classes:
        Batches of the schema's columns, bound once; their valid rows are read by each :meth:`add`.
    windows:
        Number of windows that can be open at once, 2..4096.
    window_ns:
        Length of a window, ns.
    talkers:
        Number of (server address, protocol, service port) told apart among the unclassified rows.

    Raises
    ------
    ValueError
        If a number is out of its range, or a batch is smaller than ``samples``.
    """

    def __init__(
        self,
        datagrams: Batch,
        samples: Batch,
        track: Batch,
        classes: Batch,
        *,
        windows: int = 16,
        window_ns: int = 1_000_000_000,
        talkers: int = 16384,
    ) -> None:
        if not 2 <= windows <= 4096:
            raise ValueError("the number of open windows must be in 2..4096")
        if window_ns <= 0:
            raise ValueError("the length of a window must be positive")
        if not 1 <= talkers <= 1 << 24:
            raise ValueError("the number of talkers must be in 1..16777216")
        if track.capacity < samples.capacity or classes.capacity < samples.capacity:
            raise ValueError("the track or the class batch is smaller than the sample batch")
        if datagrams.capacity < 1 or samples.capacity < 1:
            raise ValueError("the batches hold no row")
        self._datagrams, self._samples = datagrams, samples
        self._names = {name: samples[name] for name in _SAMPLE_NAMES} | track.columns | classes.columns
        self._n_windows, self._window_ns, self._max_talkers = windows, window_ns, talkers
        self._first: int | None = None
        self._tables: dict[int, _Table] = {}
        self._late = [0, 0]
        self._duplicates = 0
        self._talkers: dict[tuple[int, int, int, int, int], list[int]] = {}
        self._other = [0, 0, 0]

    @property
    def windows(self) -> int:
        """Number of windows that can be open at once."""
        return self._n_windows

    @property
    def window_ns(self) -> int:
        """Length of a window, ns."""
        return self._window_ns

    @property
    def first_window(self) -> int | None:
        """Number of the oldest open window, None before :meth:`open`."""
        return self._first

    @property
    def is_empty(self) -> bool:
        """Whether no open window holds a row."""
        return not self._tables

    def counts(self) -> dict[str, int]:
        """Rows that were not added: ``late_samples``, ``late_octets``, ``duplicate_samples``."""
        return {
            "late_samples": self._late[0],
            "late_octets": self._late[1],
            "duplicate_samples": self._duplicates,
        }

    def open(self, window: int) -> None:
        """Make ``window`` the oldest open one.

        Raises
        ------
        ValueError
            If a window holds rows, or ``window`` was closed before.
        """
        if self._tables:
            raise ValueError("an open window holds rows: close it first")
        if self._first is not None and window < self._first:
            raise ValueError("a closed window cannot be opened again")
        self._first = window

    def add(self, first_row: int) -> int:
        """Add rows from ``first_row`` on; return the row that stopped it, or the number of rows.

        It stops at a row whose window lies beyond the open ones (close some, then call again). A row
        before the oldest open window is late, a repeated one is not to be counted: both are skipped.

        Raises
        ------
        ValueError
            If the rows are not in the batch, a code is beyond CODE_LIMITS, or a row refers to no
            datagram: the callers before made a mistake.
        """
        n = self._samples.n
        if not (0 <= n <= self._samples.capacity and 0 <= first_row <= n):
            raise ValueError("the rows are not in the batch")
        if self._first is None:
            return first_row
        columns = {name: array[first_row:n].tolist() for name, array in self._names.items()}
        ts_ns = self._datagrams["ts_ns"].tolist()
        for number in range(n - first_row):
            row: _Row = {name: values[number] for name, values in columns.items()}
            if row["datagram"] >= len(ts_ns):
                raise ValueError(f"row {first_row + number} refers to no datagram of the batch")
            window = ts_ns[row["datagram"]] // self._window_ns
            if window >= self._first + self._n_windows:
                return first_row + number
            if window < self._first:
                self._late[0] += 1
                self._late[1] += row["frame_length"]
            elif row["pool_valid"] == POOL_DUPLICATE:
                self._duplicates += 1
            elif any(row[name] > limit for name, limit in CODE_LIMITS.items()):
                raise ValueError(f"row {first_row + number} has a code beyond telemetryd.aggregate.keys.CODE_LIMITS")
            else:
                self._tables.setdefault(window, _Table()).add(row)
                if row["application"] == 0:
                    self._add_talker(row)
        return n

    def _add_talker(self, row: _Row) -> None:
        """Count an unclassified row under its server side: the end with the lower non-zero port."""
        a, b = row["source_port"], row["destination_port"]
        side, port = ("source", a) if a != 0 and (b == 0 or a < b) else ("destination", b)
        key = (row[f"{side}_hi"], row[f"{side}_lo"], row["ip_version"], row["protocol"], port)
        if key in self._talkers or len(self._talkers) < self._max_talkers:
            sums = self._talkers.setdefault(key, [0, 0, 0])
        else:
            sums = self._other
        sums[0] += 1
        sums[1] += row["frame_length"]
        sums[2] = (sums[2] + row["frame_length"] * row["sampling_rate"]) & _MASK

    def close(self) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Hand out the oldest open window as columns, empty it, and open one more at the end.

        Returns
        -------
        columns, sources:
            Of shape (k,), a row a key: ``key0``, ``key1``, ``key2`` (:mod:`telemetryd.aggregate.keys`),
            ``samples``, ``octets``, ``squares`` (sum of squared frame lengths), ``largest``. Of shape
            (s,), a row a source: ``source`` (slot), ``samples``, ``growth`` (of the sample pool),
            ``grown`` (samples whose growth is known), ``stated`` and ``stated_grown`` (sums of the
            stated rates of all and of the grown samples), ``largest``.

        Raises
        ------
        ValueError
            If no window is open.
        """
        if self._first is None:
            raise ValueError("no window is open")
        table = self._tables.pop(self._first, None) or _Table()
        self._first += 1
        return (
            _columns(_KEY_COLUMNS + _SUM_COLUMNS, [[*key, *sums] for key, sums in table.keys.items()]),
            _columns(_SOURCE_COLUMNS, [[slot, *sums] for slot, sums in table.sources.items()]),
        )

    def unclassified(self) -> dict[str, NDArray[Any]]:
        """Describe the unclassified rows; columns of shape (1 + t,), row 0 holds what did not fit.

        ``address_hi``, ``address_lo``, ``ip_version`` (of the server side), ``protocol``, ``port``, in
        order of appearance; ``samples``, ``octets`` as sampled, ``scaled_octets`` (times stated rates).
        """
        return _columns(
            _TALKER_COLUMNS,
            [[0, 0, 0, 0, 0, *self._other], *([*key, *sums] for key, sums in self._talkers.items())],
        )

    def clear_unclassified(self) -> None:
        """Forget the unclassified talkers."""
        self._talkers.clear()
        self._other = [0, 0, 0]
