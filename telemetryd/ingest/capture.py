"""Read sFlow datagrams out of captures: pcap and pcapng, plain, gzip or Zstandard.

The octets come through a sliding window (:mod:`telemetryd.ingest.capture_source`), a compiled scanner
finds the UDP payloads in it, and a batch hands out where they lie: no Python object a packet, no copy.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from os import PathLike, fspath
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from telemetryd._ext import load
from telemetryd.errors import CaptureError, InputError
from telemetryd.ingest.capture_codes import DAMAGE_TEXT, FILE_MAGICS, Damage, Skip, Status
from telemetryd.ingest.capture_source import Source, open_source

SFLOW_PORT: Final = 6343
BATCH_DATAGRAMS: Final = 4096
# Reassembled datagrams are copied here, and what comes behind them until it is nearly full.
SIDE_OCTETS: Final = 1024 * 1024


class DatagramBatch:
    """UDP datagrams of a capture, in its order; one object, valid until the next iteration.

    Attributes
    ----------
    buffer:
        uint8 array that holds the payloads; usually read-only mapped memory.
    n:
        Number of datagrams.
    offsets, lengths:
        uint64 and uint32 arrays of shape (n,): where the payload lies in `buffer`, and its octets (as
        captured: fewer than were sent where the snap length cut it).
    ts_ns:
        int64 array of shape (n,): capture time, ns since the epoch.
    source_hi, source_lo, source_version:
        uint64, uint64 and uint8 arrays of shape (n,): the sender; IPv4 (version 4) in the low 32 bits of
        `source_lo`.
    """

    __slots__ = ("buffer", "lengths", "n", "offsets", "source_hi", "source_lo", "source_version", "ts_ns")

    buffer: NDArray[Any]
    offsets: NDArray[Any]
    lengths: NDArray[Any]
    ts_ns: NDArray[Any]
    source_hi: NDArray[Any]
    source_lo: NDArray[Any]
    source_version: NDArray[Any]
    n: int

    def __init__(self) -> None:
        self._set(np.zeros(0, dtype=np.uint8), _rows(0), 0)

    def _set(self, buffer: NDArray[Any], rows: dict[str, NDArray[Any]], n: int) -> None:
        self.buffer = buffer
        self.n = n
        for name, array in rows.items():
            setattr(self, name, array[:n])

    def payload(self, row: int) -> bytes:
        """Copy one datagram out; for people and tests, not for the hot path."""
        start = int(self.offsets[row])
        return bytes(self.buffer[start : start + int(self.lengths[row])])


def _rows(capacity: int) -> dict[str, NDArray[Any]]:
    return {
        "offsets": np.zeros(capacity, dtype=np.uint64),
        "lengths": np.zeros(capacity, dtype=np.uint32),
        "ts_ns": np.zeros(capacity, dtype=np.int64),
        "source_hi": np.zeros(capacity, dtype=np.uint64),
        "source_lo": np.zeros(capacity, dtype=np.uint64),
        "source_version": np.zeros(capacity, dtype=np.uint8),
    }


@dataclass(frozen=True, slots=True)
class CaptureStats:
    """What was read so far.

    ``packets == datagrams - reassembled + fragments + sum(skipped.values())`` once the capture is read;
    before, fragments that wait for the rest of their datagram are in `packets` only.

    Attributes
    ----------
    octets_total, octets_read:
        Size of the file as it lies on disk (0 for a pipe), and how much of it is consumed.
    skipped:
        Packets that gave no datagram, by :class:`telemetryd.ingest.capture_codes.Skip` in lower case; only
        those that occurred.
    truncated:
        Datagrams cut by the snap length; what was captured of them was handed out.
    fragments, reassembled:
        IP fragments that went into datagrams, and those datagrams.
    first_ts_ns, last_ts_ns:
        Least and greatest time stamp of a datagram, None before the first.
    damage:
        Offset and nature of what ended the capture before its time. In a compressed capture the offset
        counts decompressed octets.
    """

    packets: int
    datagrams: int
    octets_total: int
    octets_read: int
    skipped: dict[str, int]
    truncated: int
    fragments: int
    reassembled: int
    first_ts_ns: int | None
    last_ts_ns: int | None
    damage: tuple[int, str] | None


class Capture:
    """An open capture: a context manager and, once, an iterator of :class:`DatagramBatch`."""

    def __init__(
        self,
        source: Source,
        scanner: Any,
        name: str,
        *,
        lenient: bool = False,
        batch_datagrams: int = BATCH_DATAGRAMS,
        side_octets: int = SIDE_OCTETS,
    ) -> None:
        self._source = source
        self._scanner = scanner
        self._name = name
        self._lenient = lenient
        self._rows = _rows(batch_datagrams)
        self._side = np.zeros(side_octets, dtype=np.uint8)
        self._position = 0
        self._octets_read = 0
        self._damage: tuple[int, str] | None = None
        self._batches = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[DatagramBatch]:
        return self._batches

    def close(self) -> None:
        """Let go of the file; batches are no longer valid."""
        self._batches.close()
        self._source.close()

    @property
    def stats(self) -> CaptureStats:
        """Count what was read so far."""
        scanner = self._scanner
        seen = scanner.datagrams > 0
        return CaptureStats(
            packets=scanner.packets,
            datagrams=scanner.datagrams,
            octets_total=self._source.size,
            octets_read=self._octets_read,
            skipped={Skip(i).name.lower(): count for i, count in enumerate(scanner.skipped) if count},
            truncated=scanner.truncated,
            fragments=scanner.fragments,
            reassembled=scanner.reassembled,
            first_ts_ns=scanner.first_ts_ns if seen else None,
            last_ts_ns=scanner.last_ts_ns if seen else None,
            damage=self._damage,
        )

    def _read(self) -> Generator[DatagramBatch, None, None]:
        source, scanner, rows = self._source, self._scanner, self._rows
        batch = DatagramBatch()
        position = 0
        while True:
            status = scanner.scan(source.window, position, *rows.values(), self._side)
            position = scanner.position
            self._octets_read = source.octets_read(position)
            if scanner.rows:
                batch._set(self._side if scanner.in_side else source.window, rows, scanner.rows)
                yield batch
            if status == Status.DAMAGED:
                self._damage = (source.base + position, DAMAGE_TEXT[Damage(scanner.damage)])
                break
            if status == Status.MORE:
                at = source.base + position
                if not self._slide(position, scanner.needed):
                    self._end(at, at - source.base)
                    break
                position = at - source.base
        scanner.finish()
        if self._damage is not None and not self._lenient:
            offset, what = self._damage
            where = f"offset {offset}" + (" of the decompressed capture" if source.is_compressed else "")
            raise CaptureError(
                f"{self._name}: {where}: {what}; the {scanner.datagrams} datagrams before it were read "
                "- pass --lenient to accept the capture as far as it goes"
            )

    def _slide(self, position: int, needed: int) -> bool:
        try:
            return self._source.slide(position, needed)
        except OSError as error:
            raise CaptureError(f"{self._name}: cannot read the capture: {error.strerror}") from None

    def _end(self, offset: int, position: int) -> None:
        """Note what is wrong where the octets end at a place (`position` of the window) that wants more."""
        left = self._source.window.size - position
        if self._source.damage is not None:
            self._damage = (offset + left, self._source.damage)
        elif left:
            self._damage = (offset, "the capture is cut off inside a packet")


def open_capture(
    path: str | PathLike[str],
    *,
    port: int | None = SFLOW_PORT,
    lenient: bool = False,
    batch_datagrams: int = BATCH_DATAGRAMS,
    window_octets: int | None = None,
) -> Capture:
    """Open a pcap or pcapng capture, plain or compressed by gzip or Zstandard.

    Parameters
    ----------
    path:
        A file, or a pipe such as ``/dev/stdin``. What it is is told by its content, not by its name.
    port:
        UDP destination port of the datagrams; None takes every UDP payload that starts like an sFlow v5
        datagram: version word 5, agent address type 0..2, no more samples than it has room for.
    lenient:
        End normally where the capture is cut off or damaged, with ``stats.damage`` set.
    batch_datagrams:
        Most datagrams a batch.
    window_octets:
        Octets of the file mapped at once (64 MiB), or of the block it is decompressed into (4 MiB).

    Returns
    -------
    Capture
        Iterate over it for its batches; close it, or use it as a context manager.

    Raises
    ------
    InputError
        If `path` cannot be opened.
    CaptureError
        If it is no capture; while iterating, where it is damaged and `lenient` is False.

    Examples
    --------
    >>> with open_capture("day.pcap") as capture:  # doctest: +SKIP
    ...     for batch in capture:
    ...         decoder.decode(batch.buffer, batch.offsets, batch.lengths, batch.ts_ns, 0)
    """
    name = fspath(path)
    try:
        file = io.FileIO(name)
    except OSError as error:
        raise InputError(f"{name}: cannot open the capture: {error.strerror}") from None
    try:
        source = open_source(file, window_octets=window_octets)
        _check_magic(source, name)
    except OSError as error:
        file.close()
        raise CaptureError(f"{name}: cannot read the capture: {error.strerror}") from None
    except CaptureError:
        file.close()
        raise
    scanner = load("capture", "telemetryd.ingest.capture_reference").Scanner(port)
    return Capture(source, scanner, name, lenient=lenient, batch_datagrams=batch_datagrams)


def _check_magic(source: Source, name: str) -> None:
    head = bytes(source.window[:4])
    if head in FILE_MAGICS:
        return
    if head:
        found = f"its first octets are {head.hex(' ')}"
    elif source.damage is not None:
        found = source.damage
    else:
        found = "it is empty"
    raise CaptureError(f"{name}: not a pcap or pcapng capture: {found}")
