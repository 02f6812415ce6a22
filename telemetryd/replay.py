"""Replay captures: read them in the order of time, run the pipeline, store the windows as they close."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.rollup import RollUp
from telemetryd.aggregate.sflow_reconcile import SampledReconciler
from telemetryd.aggregate.windows import TOLERANCE_NS
from telemetryd.ingest.capture import Capture, DatagramBatch, open_capture
from telemetryd.pipeline import Pipeline
from telemetryd.schema import UsageWindow
from telemetryd.store.embedded import Store
from telemetryd.store.reconciled import FigureWindows, counters_origin

APPEND_ROWS: Final = 250_000
APPEND_SECONDS: Final = 2.0
PACED_BATCH: Final = 64
PACED_SLICE_NS: Final = 100_000_000
MERGE_SLACK_NS: Final = 500_000_000
HEAD_OCTETS: Final = 1 << 20
#: Counters samples that a piece of a capture may hold.
COUNTER_ROWS: Final = 1 << 20


@dataclass(slots=True)
class Stored:
    """What went into the store."""

    batches: int = 0
    rows: int = 0
    windows: int = 0
    skipped: int = 0


@dataclass(slots=True)
class Replay:
    """One run over captures.

    Attributes
    ----------
    files:
        The captures; they may overlap in time.
    pipeline:
        Where the datagrams go. With several captures its windows must wait for :meth:`run` to move the
        watermark (``tolerance_ns=None``).
    port:
        UDP port of the datagrams; None takes everything that parses as sFlow.
    speed:
        Event seconds a second; None is as fast as it goes.
    counters:
        Holds the windows against the exporters' counters samples, which the pipeline keeps (``counter_rows``).
    store:
        Where closed windows are kept.
    append_rows:
        Rows gathered before they are appended; they are also appended when they have waited for 2 s.
    on_window, on_progress, on_stored:
        Called with each closed window; with (octets read, octets in all); after each append
        (with the end of the last window of 1 s in it).
    """

    files: Sequence[Path]
    pipeline: Pipeline
    port: int | None = 6343
    speed: float | None = None
    counters: SampledReconciler | None = None
    store: Store | None = None
    append_rows: int = APPEND_ROWS
    on_window: Callable[[UsageWindow], None] = lambda window: None
    on_progress: Callable[[int, int], None] = lambda done, total: None
    on_stored: Callable[[Stored, int], None] = lambda stored, until_ns: None
    captures: list[Capture] = field(default_factory=list)
    stored: Stored = field(default_factory=Stored)
    first_ns: int | None = None
    last_ns: int | None = None
    windows: int = 0
    _pending: list[UsageWindow] = field(default_factory=list)
    _pending_rows: int = 0
    _appended_at: float = 0.0
    _origin: str = ""
    _roll_up: RollUp = field(default_factory=RollUp)
    _figures: FigureWindows = field(default_factory=FigureWindows)

    def run(self) -> None:
        """Replay everything. A damaged capture is read up to the damage; see ``captures[i].stats.damage``.

        Raises
        ------
        InputError, CaptureError
            If a file cannot be opened or is no capture.
        StoreError
            If the store cannot be written.
        """
        with ExitStack() as stack:
            batch = PACED_BATCH if self.speed else 4096
            for file in self.files:
                capture = open_capture(file, port=self.port, lenient=True, batch_datagrams=batch)
                self.captures.append(stack.enter_context(capture))
            if self.store is not None:
                self._origin = origin_of(self.files)
            total = sum(capture.stats.octets_total for capture in self.captures)
            self._appended_at = time.monotonic()
            started, event_start = time.monotonic(), 0
            for piece, watermark_ns in self._pieces():
                if self.speed:
                    event_start = event_start or int(piece[3][0])
                    due = started + (int(piece[3][0]) - event_start) / 1e9 / self.speed
                    time.sleep(max(0.0, due - time.monotonic()))
                closed = self.pipeline.add(*piece)
                if self.counters is not None:
                    self.counters.add_counters(self.pipeline.take_counters())
                self._take(closed)
                if len(self.files) > 1:
                    self._take(self.pipeline.windows.advance(watermark_ns - TOLERANCE_NS))
                self.on_progress(sum(capture.stats.octets_read for capture in self.captures), total)
            self._take(self.pipeline.windows.flush())
            if self.counters is not None:
                self._figures.add(self.counters.flush())
                self._figures.flush()
            self._append(self._roll_up.flush())
            self.on_progress(total, total)

    def _pieces(self) -> Iterator[tuple[tuple[NDArray[Any], ...], int]]:
        """Yield (buffer, offsets, lengths, ts_ns) in the order of time, each with the watermark behind it."""
        heads = [_Head(iter(capture)) for capture in self.captures]
        while live := [head for head in heads if head.batch is not None]:
            head = min(live, key=lambda candidate: candidate.next_ns)
            others = [other.next_ns for other in live if other is not head]
            limit = min(others) + MERGE_SLACK_NS if others else None
            if self.speed:
                paced = head.next_ns + PACED_SLICE_NS
                limit = paced if limit is None else min(limit, paced)
            yield head.take(limit), min([head.next_ns, *others])
            head.advance()

    def _take(self, windows: list[UsageWindow]) -> None:
        for window in windows:
            if self.first_ns is None:
                self.first_ns = window.start_ns
            self.last_ns = window.start_ns + window.span_ns
            self.windows += 1
            self.on_window(window)
            if self.counters is not None:
                self._figures.add(self.counters.add_window(window))
            if self.store is not None:
                self._pending.append(window)
                self._pending.extend(self._roll_up.add(window))
                self._pending_rows += len(window.columns["samples"])
        late = time.monotonic() - self._appended_at > APPEND_SECONDS
        if self._pending and (self._pending_rows >= self.append_rows or late):
            self._append([])

    def _append(self, last: list[UsageWindow]) -> None:
        windows, self._pending, self._pending_rows = [*self._pending, *last], [], 0
        self._appended_at = time.monotonic()
        if self.store is None or not windows:
            return
        appended = self.store.append(windows, self._origin)
        self.stored.batches += appended.batch > 0
        self.stored.rows += appended.rows
        self.stored.skipped += appended.skipped
        self.stored.windows += len(windows) - appended.skipped
        figures, rows = self._figures.take()
        if figures:
            self.store.append(figures, counters_origin(self._origin), rows)
        assert self.last_ns is not None
        self.on_stored(self.stored, self.last_ns)


class _Head:
    """One capture's current batch and how much of it is still to be taken."""

    def __init__(self, batches: Iterator[DatagramBatch]) -> None:
        self._batches = batches
        self.batch: DatagramBatch | None = None
        self._first = 0
        self._next()

    def _next(self) -> None:
        self._first = 0
        self.batch = next((batch for batch in self._batches if batch.n), None)

    @property
    def next_ns(self) -> int:
        """Time stamp of the first datagram that was not taken."""
        assert self.batch is not None
        return int(self.batch.ts_ns[min(self._first, self.batch.n - 1)])

    def take(self, limit_ns: int | None) -> tuple[NDArray[Any], ...]:
        """Take the datagrams up to a time, at least one."""
        assert self.batch is not None
        batch, first = self.batch, self._first
        last = batch.n
        if limit_ns is not None:
            beyond = np.flatnonzero(batch.ts_ns[first + 1 :] > limit_ns)
            last = first + 1 + int(beyond[0]) if len(beyond) else batch.n
        self._first = last
        return batch.buffer, batch.offsets[first:last], batch.lengths[first:last], batch.ts_ns[first:last]

    def advance(self) -> None:
        """Go to the next batch when this one is used up."""
        if self.batch is not None and self._first >= self.batch.n:
            self._next()


def origin_of(files: Sequence[Path]) -> str:
    """Identify captures by their content, so that a second run over them stores nothing twice.

    Sizes and the first mebibyte of each file; the order does not matter. A pipe is new every time.
    """
    digests = []
    for file in files:
        if not file.is_file():
            digests.append(uuid.uuid4().hex)
            continue
        with file.open("rb") as stream:
            head = hashlib.sha256(stream.read(HEAD_OCTETS))
        head.update(str(file.stat().st_size).encode())
        digests.append(head.hexdigest())
    return "replay:" + hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()[:16]
