"""The compiled sFlow decoder beside its Python twin: same datagrams, same rows, same counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetryd._ext import sflow as compiled
from telemetryd.ingest.sflow import columns as twin
from telemetryd.ingest.sflow.limits import MOST_COUNTERS, MOST_SAMPLES
from telemetryd.schema import COUNTER_COLUMNS, DATAGRAM_COLUMNS, SAMPLE_COLUMNS, Batch

Packed = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def batches() -> tuple[Batch, Batch, Batch]:
    return (
        Batch(DATAGRAM_COLUMNS, 64),
        Batch(SAMPLE_COLUMNS, MOST_SAMPLES),
        Batch(COUNTER_COLUMNS, MOST_COUNTERS),
    )


def pack(datagrams: Sequence[bytes]) -> Packed:
    """Return (buffer, offsets, lengths, ts_ns); the buffer ends where the last datagram ends."""
    lengths = np.array([len(d) for d in datagrams], dtype=np.uint32)
    offsets = np.zeros(len(datagrams), dtype=np.uint64)
    offsets[1:] = np.cumsum(lengths[:-1], dtype=np.uint64)
    ts_ns = np.arange(len(datagrams), dtype=np.int64) * 1000 + 1_795_375_727_000_000_000
    return np.frombuffer(b"".join(datagrams), dtype=np.uint8).copy(), offsets, lengths, ts_ns


class Pair:
    """Both decoders, each with batches of its own."""

    def __init__(self, decapsulate: bool) -> None:
        self.decapsulate = decapsulate
        self.fast, self.slow = batches(), batches()
        self.compiled = compiled.Decoder(*self.fast, decapsulate=decapsulate)
        self.twin = twin.Decoder(*self.slow, decapsulate=decapsulate)
        self.rows = 0

    def differences(self, datagrams: Sequence[bytes]) -> list[str]:
        """Decode with both and say where they differ."""
        found: list[str] = []
        packed = pack(datagrams)
        first = 0
        while first < len(datagrams) and not found:
            stop = self.compiled.decode(*packed, first)
            if stop != self.twin.decode(*packed, first):
                found.append("they stop at different datagrams")
            found += self._compare()
            first = stop
        if self.compiled.stats() != self.twin.stats():
            found.append(f"stats {self.compiled.stats()} != {self.twin.stats()}")
        return found

    def _compare(self) -> list[str]:
        found = []
        for fast, slow in zip(self.fast, self.slow, strict=True):
            if fast.n != slow.n:
                found.append(f"{fast.n} rows != {slow.n}")
                continue
            self.rows += fast.n
            for name, values in fast.rows().items():
                if not np.array_equal(values, slow.rows()[name]):
                    found.append(f"{name} {values} != {slow.rows()[name]}")
        return found


def check(datagrams: Sequence[bytes], decapsulate: bool) -> int:
    """Assert that both agree, naming the datagram where they do not; return the rows compared."""
    pair = Pair(decapsulate)
    if pair.differences(datagrams):
        for octets in datagrams:
            found = Pair(decapsulate).differences([octets])
            assert not found, f"{octets.hex()}: {found}"
        raise AssertionError("they differ on these datagrams together, but on none alone")
    return pair.rows
