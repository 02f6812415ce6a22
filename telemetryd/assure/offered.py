"""Traffic to try policies on: who would send how much over which link, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from telemetryd.allocate.demand_file import Demand

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Offered:
    """What k classes of traffic would send in t steps.

    Attributes
    ----------
    keys:
        Whose traffic each column is; the rates of the keys themselves do not count.
    start_ns:
        Begin of the first step, ns since the epoch.
    step_s:
        Length of a step.
    bps:
        bit/s, shape (t, k).
    elastic:
        Whether a class comes back for what it did not get (TCP), or that is lost (voice, video, a flood), shape (k,).
    known:
        Whether there are data of a step; where not, nothing is offered, shape (t,).
    samples:
        Samples that each rate is estimated from, shape (t, k); None where that is not known, or nothing was sampled.
    """

    keys: tuple[Demand, ...]
    start_ns: int
    step_s: float
    bps: Floats
    elastic: NDArray[np.bool_]
    known: NDArray[np.bool_]
    samples: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.bps.shape != (len(self.known), len(self.keys)) or self.elastic.shape != (len(self.keys),):
            raise ValueError("the columns of offered traffic differ in length")

    @property
    def times_ns(self) -> NDArray[np.int64]:
        """Begin of each step, shape (t,)."""
        return self.start_ns + np.arange(len(self.known), dtype=np.int64) * round(self.step_s * 1e9)

    def columns_of(self, link: str, direction: str) -> NDArray[np.intp]:
        """Return the columns of one link and direction."""
        return np.array(
            [place for place, key in enumerate(self.keys) if (key.link, key.direction) == (link, direction)], np.intp
        )

    def plus(self, key: Demand, bps: Floats, is_elastic: bool) -> Offered:
        """Return the traffic with one more class."""
        return replace(
            self,
            keys=(*self.keys, key),
            bps=np.column_stack((self.bps, bps)),
            elastic=np.append(self.elastic, is_elastic),
            samples=None,
        )


def join(parts: Sequence[Offered]) -> Offered:
    """Return the classes of several links side by side; their steps are the same.

    Raises
    ------
    ValueError
        If they are not.
    """
    first = parts[0]
    if any(
        (one.start_ns, one.step_s, len(one.known)) != (first.start_ns, first.step_s, len(first.known)) for one in parts
    ):
        raise ValueError("only traffic of the same steps can be joined")
    return Offered(
        tuple(key for one in parts for key in one.keys),
        first.start_ns,
        first.step_s,
        np.column_stack([one.bps for one in parts]),
        np.concatenate([one.elastic for one in parts]),
        np.logical_or.reduce([one.known for one in parts]),
        np.column_stack(samples) if (samples := [one.samples for one in parts if one.samples is not None]) else None,
    )
