"""Windows of event time: from classified batches to closed windows of usage.

A window is closed when the watermark passes its end. By default the watermark follows the greatest
event time seen, some seconds behind; where several captures are merged, the caller says it. A row that
comes after its window was closed is late: counted, not added.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd._ext import load
from telemetryd.aggregate.scaling import Scaling, SourceRates, unseen_largest
from telemetryd.schema import Batch, Names, UsageWindow

Accumulator = load("accumulate", "telemetryd.aggregate.accumulate_reference").Accumulator
expand = load("expand", "telemetryd.aggregate.expand").expand

WINDOW_NS: Final = 1_000_000_000
TOLERANCE_NS: Final = 2_000_000_000
OPEN_WINDOWS: Final = 16


class Windows:
    """Accumulate the rows of the bound batches; hand out windows as they close.

    Parameters
    ----------
    datagrams, samples, track, classes:
        The batches that decoding, tracking and classification fill, bound once.
    names:
        Gives the dictionary of the codes; asked once for each closed window.
    corrections:
        Gives the octets to add to each packet, per source slot, float64 of shape (n,), when called with n.
    agents:
        Gives the agent's slot of every source slot, integers of shape (n,), when called with n
        (:class:`telemetryd.aggregate.scaling.Scaling`).
    tolerance_ns:
        How far the watermark stays behind the greatest event time; None where only :meth:`advance`
        moves it.
    open_windows:
        How many windows may be open at once.

    Raises
    ------
    ValueError
        If the tolerance does not fit into the open windows.
    """

    def __init__(
        self,
        datagrams: Batch,
        samples: Batch,
        track: Batch,
        classes: Batch,
        *,
        names: Callable[[], Names],
        corrections: Callable[[int], NDArray[np.float64]],
        agents: Callable[[int], NDArray[Any]] = np.arange,
        tolerance_ns: int | None = TOLERANCE_NS,
        open_windows: int = OPEN_WINDOWS,
    ) -> None:
        back = 2 if tolerance_ns is None else -(-tolerance_ns // WINDOW_NS)
        if back < 0 or back + 1 > open_windows:
            raise ValueError("the late tolerance does not fit into the open windows")
        self._datagrams, self._samples = datagrams, samples
        self._names, self._corrections = names, corrections
        self._tolerance_ns = tolerance_ns
        self._back = back  # windows kept open before the first row
        self._accumulator = Accumulator(datagrams, samples, track, classes, windows=open_windows, window_ns=WINDOW_NS)
        self._scaling = Scaling(agents)
        self._greatest_ns: int | None = None
        self._forced = 0
        self._unplaced = 0

    def add(self) -> list[UsageWindow]:
        """Add the valid rows of the batches; return the windows that this closed, oldest first."""
        closed: list[UsageWindow] = []
        row = 0
        while (row := self._accumulator.add(row)) < self._samples.n:
            self._make_room(int(self._datagrams["ts_ns"][self._samples["datagram"][row]]), closed)
        if self._tolerance_ns is not None and self._datagrams.n:
            newest = int(self._datagrams["ts_ns"][: self._datagrams.n].max())
            if self._greatest_ns is None or newest > self._greatest_ns:
                self._greatest_ns = newest
            closed += self.advance(self._greatest_ns - self._tolerance_ns)
        return closed

    def advance(self, watermark_ns: int) -> list[UsageWindow]:
        """Close every window that ends at or before ``watermark_ns``; return those that held rows."""
        closed: list[UsageWindow] = []
        self._close_before(watermark_ns // WINDOW_NS, closed)
        return closed

    def flush(self) -> list[UsageWindow]:
        """Close every open window."""
        closed: list[UsageWindow] = []
        first = self._accumulator.first_window
        if first is not None:
            self._close_before(first + self._accumulator.windows, closed)
        return closed

    def rates(self) -> SourceRates:
        """Return the effective sampling rates as of the last closed window."""
        return self._scaling.rates()

    def counts(self) -> dict[str, int]:
        """Count what is in no window.

        ``late_samples``, ``late_octets`` (came after their window was closed), ``duplicate_samples``,
        ``unplaced_samples`` (crossed no known link and no metering point), and ``forced_windows``
        (closed before the watermark because too many were open).
        """
        counts: dict[str, int] = self._accumulator.counts()
        return counts | {"unplaced_samples": self._unplaced, "forced_windows": self._forced}

    def unclassified(self) -> dict[str, NDArray[np.uint64]]:
        """Describe the samples without application: columns of shape (1 + t,), row 0 what did not fit.

        ``address_hi``, ``address_lo``, ``ip_version`` (of the server side), ``protocol``, ``port``,
        ``samples``, ``octets`` (as sampled) and ``scaled_octets`` (times the stated rates).
        """
        columns: dict[str, NDArray[np.uint64]] = self._accumulator.unclassified()
        return columns

    def clear_unclassified(self) -> None:
        """Start the table of :meth:`unclassified` anew."""
        self._accumulator.clear_unclassified()

    def _make_room(self, ts_ns: int, closed: list[UsageWindow]) -> None:
        """Open the ring at the row that did not fit, closing as few windows as possible."""
        window = ts_ns // WINDOW_NS
        if self._accumulator.first_window is None:
            self._accumulator.open(window - self._back)
            return
        if self._tolerance_ns is not None:
            self._close_before((ts_ns - self._tolerance_ns) // WINDOW_NS, closed)
            return
        before = len(closed)
        self._close_before(window - self._accumulator.windows + 1, closed)
        self._forced += len(closed) - before

    def _close_before(self, window: int, closed: list[UsageWindow]) -> None:
        """Close the windows before number ``window``."""
        while self._accumulator.first_window is not None and self._accumulator.first_window < window:
            if self._accumulator.is_empty:
                self._accumulator.open(window)
            else:
                self._close_oldest(closed)

    def _close_oldest(self, closed: list[UsageWindow]) -> None:
        window: int = self._accumulator.first_window
        columns, sources = self._accumulator.close()
        if len(columns["samples"]) == 0:
            return
        rates = self._scaling.add(window, sources)
        columns["largest"] = unseen_largest(columns, rates)
        usage, unplaced = expand(columns, rates, self._corrections(self._scaling.n_sources))
        self._unplaced += unplaced
        closed.append(UsageWindow(window * WINDOW_NS, WINDOW_NS, usage, self._names()))
