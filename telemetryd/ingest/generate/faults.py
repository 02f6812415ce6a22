"""Damage that datagrams meet on their way, on request: loss, doubling, reordering, strangers.

Restarts, changes of the sampling rate, drops in the agent and 32-bit wraps are the exporters' own:
see :class:`telemetryd.ingest.generate.traffic.Traffic`. None of this changes what was really sent.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.ingest.generate.traffic import join
from telemetryd.ingest.generate.wire import Datagrams


def lose(datagrams: Datagrams, rng: np.random.Generator, share: float) -> Datagrams:
    """Return the datagrams without a random ``share`` of them."""
    return datagrams.take(np.flatnonzero(rng.random(len(datagrams)) >= share))


def duplicate(datagrams: Datagrams, rng: np.random.Generator, share: float) -> Datagrams:
    """Return the datagrams with a random ``share`` of them twice, one right after the other."""
    times = 1 + (rng.random(len(datagrams)) < share)
    return datagrams.take(np.repeat(np.arange(len(datagrams)), times))


def reorder(datagrams: Datagrams, rng: np.random.Generator, share: float, distance: int = 4) -> Datagrams:
    """Return the datagrams with a random ``share`` of them arriving up to ``distance`` places later.

    Time stamps belong to the places, not to the datagrams: a late one is stamped late.
    """
    delay = np.where(rng.random(len(datagrams)) < share, rng.integers(1, distance + 1, len(datagrams)), 0)
    order = np.argsort(np.arange(len(datagrams)) + delay + (delay > 0) * 0.5, kind="stable")
    moved = datagrams.take(order)
    return Datagrams(moved.buffer, moved.offsets, moved.lengths, datagrams.ts_ns, moved.agent)


@dataclass(frozen=True, slots=True)
class Strangers:
    """Datagrams with hostile ones among them, and how many of each kind there are.

    ``counts`` has the reasons of the decoder (``telemetryd.ingest.sflow.reasons``) by name. No
    hostile datagram holds a sample that can be decoded, so what is measured stays the same.
    """

    datagrams: Datagrams
    counts: Counter[str]


def mix_hostile(datagrams: Datagrams, rng: np.random.Generator, share: float) -> Strangers:
    """Return the datagrams with broken and foreign ones added, about ``share`` of their number."""
    count = round(len(datagrams) * share)
    kinds = rng.integers(0, len(_HOSTILE), count)
    contents = [_HOSTILE[kind][1] for kind in kinds]
    lengths = np.array([len(content) for content in contents], np.uint32)
    places = np.sort(rng.integers(0, max(len(datagrams), 1), count))
    ends = np.cumsum(lengths, dtype=np.uint64)
    if not len(datagrams):
        raise ValueError("hostile datagrams need others to hide among")
    added = Datagrams(
        np.frombuffer(b"".join(contents), np.uint8),
        ends - lengths,
        lengths,
        datagrams.ts_ns[places],
        np.full(count, -1, np.intp),
    )
    both = join([datagrams, added])
    order = np.argsort(np.concatenate([np.arange(len(datagrams)), places]), kind="stable")
    names = Counter(_HOSTILE[kind][0] for kind in kinds.tolist())
    return Strangers(both.take(np.asarray(order, np.intp)), names)


def _words(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "big") for word in words)


# an agent that no registry knows: 192.0.2.66, sub-agent 0, sequence 1, uptime 1000 ms
_HEADER: Final = (5, 1, 0xC000_0242, 0, 1, 1000)
_MANY: Final = 0xFFFF_FFFF

_HOSTILE: Final[tuple[tuple[str, bytes], ...]] = (
    ("datagram_short", _words(*_HEADER[:4])),
    ("datagram_short", b"\0\0\0\5"),
    ("version_unsupported", _words(0x0005_0001, 0, 0, 0, 0, 0, 0, 0, 0)),  # NetFlow v5
    ("version_unsupported", _words(0x0009_0001, 0, 0, 0, 0, 0, 0, 0, 0)),  # NetFlow v9
    ("version_unsupported", _words(2, 1, 0xC000_0242, 1, 1000, 0)),  # sFlow v2
    ("agent_address_type", _words(5, 7, 0xC000_0242, 0, 1, 1000, 0)),
    # claims 2^32 - 1 samples and ends
    ("sample_overrun", _words(*_HEADER, _MANY)),
    # a flow sample longer than the datagram
    ("sample_overrun", _words(*_HEADER, 1, 1, 0x7FFF_FFFC)),
    # a sample's header is cut
    ("sample_overrun", _words(*_HEADER, 1, 1)),
    # the fixed part of a flow sample does not fit
    ("sample_short", _words(*_HEADER, 1, 1, 12, 1, 5, 2048)),
    ("sample_short", _words(*_HEADER, 1, 3, 8, 1, 0)),
)


def hostile_datagrams() -> list[NDArray[np.uint8]]:
    """Return one of each hostile datagram, as arrays of their exact size."""
    return [np.frombuffer(content, np.uint8).copy() for _, content in _HOSTILE]
