"""What was really sent: exact packets and octets per key and window, to hold results against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

TOTALS_NAMES: Final = ("metering_point", "direction", "department", "peer_department", "application")
LINK_NAMES: Final = ("link", "direction", "department", "peer_department", "application")


class KeyTable:
    """Keys by name, each with a code: its row.

    ``names`` are the parts of a key; ``rows`` holds one tuple of names per key.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.rows: list[tuple[str, ...]] = []
        self._codes: dict[tuple[str, ...], int] = {}

    def code(self, *key: str) -> int:
        """Return the code of ``key``, adding it when new."""
        code = self._codes.setdefault(key, len(self.rows))
        if code == len(self.rows):
            self.rows.append(key)
        return code

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class TruthTable:
    """True packets and octets (layer 2 with FCS) per key, int64 of shape (k,) each."""

    keys: KeyTable
    packets: NDArray[np.int64]
    octets: NDArray[np.int64]

    def totals(self, by: Iterable[str] | None = None) -> dict[tuple[str, ...], tuple[int, int]]:
        """Return (packets, octets) per key, or summed over all parts but ``by``; zero keys are left out."""
        parts = [self.keys.names.index(name) for name in (by if by is not None else self.keys.names)]
        sums: dict[tuple[str, ...], tuple[int, int]] = {}
        for row, packets, octets in zip(self.keys.rows, self.packets.tolist(), self.octets.tolist(), strict=True):
            if packets:
                key = tuple(row[part] for part in parts)
                have = sums.get(key, (0, 0))
                sums[key] = (have[0] + packets, have[1] + octets)
        return sums

    def plus(self, other: TruthTable) -> TruthTable:
        """Return the sum of two spans over the same keys."""
        return TruthTable(self.keys, self.packets + other.packets, self.octets + other.octets)


@dataclass(frozen=True, slots=True)
class TrafficTruth:
    """The truth of one span of event time [start_ns, start_ns + span_ns).

    Attributes
    ----------
    totals:
        Keys of :data:`TOTALS_NAMES`: what passed the metering points. ``direction`` is inbound,
        outbound, internal or transit.
    link_usage:
        Keys of :data:`LINK_NAMES`: what passed the links. ``direction`` is in or out.
    """

    start_ns: int
    span_ns: int
    totals: TruthTable
    link_usage: TruthTable

    def plus(self, following: TrafficTruth) -> TrafficTruth:
        """Return the truth of this span and the ``following`` one together."""
        return TrafficTruth(
            self.start_ns,
            self.span_ns + following.span_ns,
            self.totals.plus(following.totals),
            self.link_usage.plus(following.link_usage),
        )
