"""Send the same samples again and again as if the exporters went on: their numbers continue.

Encoding costs more than sending. A benchmark that must out-run a receiver encodes a stretch once; every
repetition then continues the sequence numbers, the sample pools and the uptimes where the last one ended.
Counters samples continue their sequence only: traffic for this should have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.ingest.generate.walk import COUNTERS_FORMATS, FLOW_FORMATS, Exporter, read_word, walk
from telemetryd.ingest.generate.wire import Datagrams

#: (exporter, source class, source index) -> packets that pass in one stretch
Growth = Mapping[tuple[Exporter, int, int], int]

_EXPANDED: Final = (3, 4)
_WORD: Final = 4


class Repetition:
    """A stretch of datagrams that can be had again and again.

    Parameters
    ----------
    datagrams:
        What is repeated; copied.
    pool_growth:
        By how much each source's sample pool grows in one stretch. A source that is not named is taken to
        go on with the mean distance of its samples (the sampling rate, if it has just one).
    span_ns:
        How long a stretch lasts; by default until the latest of its time stamps.

    Attributes
    ----------
    datagrams:
        The current repetition; :meth:`advance` changes it in place.
    repetitions:
        How often it was advanced.
    walk:
        What lies in the datagrams; it is the same in every repetition.
    """

    def __init__(self, datagrams: Datagrams, pool_growth: Growth | None = None, span_ns: int | None = None) -> None:
        self.datagrams = _aligned(datagrams)
        self.repetitions = 0
        self._words = self.datagrams.buffer.view(">u4")
        self.walk = walk(self.datagrams)
        stamps = self.datagrams.ts_ns
        self.span_ns = span_ns if span_ns is not None else int(stamps[-1] - stamps[0]) if len(stamps) else 0
        places, growths = zip(*self._numbers(pool_growth or {}), strict=True)
        self._places = np.concatenate(places) // _WORD
        self._growth = np.concatenate(growths)
        self._values = self._words[self._places].astype(np.uint32)

    def advance(self) -> None:
        """Go on to the next repetition."""
        self._values += self._growth
        self._words[self._places] = self._values
        self.datagrams.ts_ns[:] += self.span_ns
        self.repetitions += 1

    def _numbers(self, pool_growth: Growth) -> list[tuple[NDArray[np.int64], NDArray[np.uint32]]]:
        """Return where the numbers that grow lie, and by how much each grows."""
        buffer, found = self.datagrams.buffer, self.walk
        rows = np.flatnonzero(found.exporter >= 0)
        sequence = found.header[rows] + _WORD
        uptime_ms = np.full(len(rows), self.span_ns // 1_000_000 & 0xFFFF_FFFF, np.uint32)
        numbers = [
            (sequence, _span(buffer, sequence, found.exporter[rows])),
            (found.header[rows] + 2 * _WORD, uptime_ms),
        ]
        for formats, is_flow in ((FLOW_FORMATS, True), (COUNTERS_FORMATS, False)):
            samples = np.flatnonzero(np.isin(found.format, formats))
            if not len(samples):
                continue
            at = found.position[samples]
            is_expanded = np.isin(found.format[samples], _EXPANDED)
            source = read_word(buffer, at + _WORD).astype(np.int64)
            index = read_word(buffer, at + 2 * _WORD)
            source[is_expanded] = source[is_expanded] << 32 | index[is_expanded]
            compact = ~is_expanded  # source_id: class in the high octet
            source[compact] = (source[compact] >> 24) << 32 | source[compact] & 0xFF_FFFF
            keys = np.stack([found.exporter[found.datagram[samples]], source], axis=1)
            names, group = np.unique(keys, axis=0, return_inverse=True)
            group = group.reshape(-1)
            numbers.append((at, _span(buffer, at, group)))
            if is_flow:
                pool = at + np.where(is_expanded, 4, 3) * _WORD
                growth = _span(buffer, pool, group, mean=True)
                for number, (row, name) in enumerate(names.tolist()):
                    key = (found.exporters[row], name >> 32, name & 0xFFFF_FFFF)
                    if key in pool_growth:
                        growth[group == number] = pool_growth[key] & 0xFFFF_FFFF
                numbers.append((pool, growth))
        return numbers


def _span(
    buffer: NDArray[np.uint8], place: NDArray[np.int64], group: NDArray[np.intp], mean: bool = False
) -> NDArray[np.uint32]:
    """Return by how much the numbers at ``place`` go on in one stretch, by group, shape of ``place``.

    A sequence goes from the first to one behind the last; with ``mean``, to one mean step behind the last,
    and the step of a lone sample pool is the sampling rate in the word before it.
    """
    if not len(place):
        return np.empty(0, np.uint32)
    value = read_word(buffer, place)
    count = np.bincount(group)
    order = np.argsort(group, kind="stable")
    last_at = np.cumsum(count) - 1
    first, last = order[last_at - count + 1], order[last_at]
    distance = (value[last] - value[first]).astype(np.int64)  # 32-bit arithmetic: over the wrap
    if mean:
        stated = read_word(buffer, place[first] - _WORD).astype(np.int64)
        step = np.where(count > 1, np.round(distance / np.maximum(count - 1, 1)).astype(np.int64), stated)
    else:
        step = np.ones(len(count), np.int64)
    return np.asarray(((distance + step) & 0xFFFF_FFFF)[group], np.uint32)


def _aligned(datagrams: Datagrams) -> Datagrams:
    """Copy datagrams one behind the other, each at a multiple of four octets."""
    lengths = datagrams.lengths.astype(np.int64)
    room = (lengths + _WORD - 1) // _WORD * _WORD
    offsets = np.cumsum(room) - room
    buffer = np.zeros(int(room.sum()), np.uint8)
    for start, length, to in zip(datagrams.offsets.tolist(), lengths.tolist(), offsets.tolist(), strict=True):
        buffer[to : to + length] = datagrams.buffer[start : start + length]
    return Datagrams(buffer, offsets.astype(np.uint64), datagrams.lengths, datagrams.ts_ns.copy(), datagrams.agent)
