"""When each datagram is due: at a set rate, at the speed of its time stamps, or at once; with bursts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from telemetryd.errors import InputError

NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Burst:
    """In the first ``on_s`` of every ``every_s`` seconds everything goes ``factor`` times as fast."""

    factor: float
    on_s: float
    every_s: float

    def warp(self, nominal_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return when what is due at ``nominal_s`` without bursts is due with them."""
        of_burst = self.factor * self.on_s
        whole, rest = np.divmod(nominal_s, of_burst + self.every_s - self.on_s)
        inside = np.where(rest < of_burst, rest / self.factor, rest - of_burst + self.on_s)
        return np.asarray(whole * self.every_s + inside, np.float64)


def parse_burst(text: str) -> Burst:
    """Read ``FACTORx:ON/EVERY``, such as ``4x:0.5/10``.

    Raises
    ------
    InputError
        If it is something else.
    """
    try:
        factor, times = text.split(":")
        on_s, every_s = (float(part.removesuffix("s")) for part in times.split("/"))
        burst = Burst(float(factor.removesuffix("x")), on_s, every_s)
    except ValueError:
        burst = Burst(0, 0, 0)
    if not (0 < burst.factor <= 1000 and 0 < burst.on_s <= burst.every_s <= 86_400):
        raise InputError(
            f"--burst {text}: use FACTORx:ON/EVERY in seconds, such as 4x:0.5/10 - four times the rate in the "
            "first half second of every ten"
        )
    return burst


@dataclass(slots=True)
class Pace:
    """The schedule of a run, datagram after datagram.

    Attributes
    ----------
    samples_per_s:
        Flow samples a second; None where ``speed`` counts.
    speed:
        Event seconds a second; None is as fast as it goes.
    burst:
        When it goes faster.
    """

    samples_per_s: float | None = None
    speed: float | None = None
    burst: Burst | None = None
    _samples: int = 0
    _first_ns: int | None = field(default=None)
    _latest_s: float = 0.0

    def due(
        self, ts_ns: NDArray[np.int64], flow_samples: NDArray[np.int64], start_ns: int | None = None
    ) -> NDArray[np.int64]:
        """Return when the next datagrams are due, ns since the run began, ascending, shape (d,).

        Parameters
        ----------
        ts_ns, flow_samples:
            Time stamp and number of flow samples of each datagram, shape (d,).
        start_ns:
            Event time at which the run began, if that was before the first time stamp; of the first call.
        """
        if not len(ts_ns):
            return np.empty(0, np.int64)
        if self.samples_per_s is not None:
            # a datagram is due once the samples before it had their time: paced by count, not by clock
            before = self._samples + np.cumsum(flow_samples) - flow_samples
            self._samples += int(flow_samples.sum())
            nominal = before / self.samples_per_s
        elif self.speed is not None:
            if self._first_ns is None:
                self._first_ns = int(ts_ns[0]) if start_ns is None else start_ns
            nominal = (ts_ns - self._first_ns) / NS / self.speed
        else:
            nominal = np.zeros(len(ts_ns))
        nominal = np.maximum.accumulate(np.maximum(nominal, self._latest_s))  # a late stamp delays nothing
        self._latest_s = float(nominal[-1])
        # rounded down: what is stamped just before a second ends is due before it ends
        return np.floor((self.burst.warp(nominal) if self.burst else nominal) * NS).astype(np.int64)
