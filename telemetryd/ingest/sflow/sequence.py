"""Sequence, restart and sample-pool tracking of sFlow sources, in Python: the specification of ext/track.pyx.

Terms are those of the sFlow v5 specification, section 5: a datagram carries the sequence number and
the uptime (ms) of its sub-agent; a flow sample carries the sequence number, the sample pool and the
drops of its source. All of them are 32-bit counters that wrap.

The growth of the sample pool since the previous sample of a source is what the effective sampling
rate is made of (telemetryd.aggregate.scaling). It is

- the difference of the pools, modulo 2^32, from one sample to a newer one, however many were lost;
- 0 for a sample that arrives behind a newer one: that one's growth holds its packets already;
- unknown for the first sample of a source, after a restart, and where the jump is beyond belief.

A sample that arrives twice (its datagram was repeated on the way) is marked, and not to be counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.schema import Batch

POOL_UNKNOWN: Final = 0
POOL_KNOWN: Final = 1
POOL_DUPLICATE: Final = 2

limits: Final[dict[str, int]] = {
    "slots": 65536,  # agents and sources; slot 0 is "other"
    "recent": 64,  # datagrams remembered one by one
    "reordered_datagrams": 1024,  # further back is a renumbering
    "reordered_samples": 1024,
    "reordered_run": 64,  # so many samples behind in a row are a restart
    "largest_jump": 1 << 20,  # further ahead is a renumbering, not a loss
    "uptime_slack_ms": 2000,  # reordering moves the uptime back by less
    "uptime_wrap_ms": 3_600_000,  # the last and the first hour of the 49.7 days that uptime counts
    "plausible_growth": 1 << 26,  # packets between two samples that are believed at any rate
    "plausible_ratio": 256,  # above that: at most so many times what the stated rate implies
}
_WORD: Final = 0xFFFFFFFF
_RECENT_MASK: Final = 0xFFFFFFFFFFFFFFFF


def _difference(new: int, old: int) -> int:
    """Return new - old as a signed 32-bit number."""
    return ((new - old + 0x80000000) & _WORD) - 0x80000000


@dataclass(slots=True)
class _Agent:
    version: int = 0
    hi: int = 0
    lo: int = 0
    sub_agent_id: int = 0
    sequence: int = 0
    uptime: int = 0
    epoch: int = 0
    recent: int = 0
    is_numbered: bool = False
    datagrams: int = 0
    lost: int = 0
    reordered: int = 0
    duplicates: int = 0
    restarts: int = 0

    def track(self, sequence: int, uptime: int) -> bool:
        """Account for one datagram; return whether it repeats one that was seen."""
        self.datagrams += 1
        if self.datagrams == 1:
            self.sequence, self.uptime, self.recent = sequence, uptime, 1
            return False
        ahead = _difference(sequence, self.sequence)
        wrapped = uptime < limits["uptime_wrap_ms"] and self.uptime > _WORD - limits["uptime_wrap_ms"]
        uptime_back = 0 if wrapped else max(self.uptime - uptime, 0)
        is_younger = uptime_back > limits["uptime_slack_ms"]
        if 0 < ahead <= limits["largest_jump"]:
            self.lost += ahead - 1
            self.recent = (self.recent << ahead | 1) & _RECENT_MASK if ahead < limits["recent"] else 1
            self.is_numbered = True
            self.sequence, self.uptime = sequence, uptime
            return False
        if ahead > limits["largest_jump"] or ahead < -limits["reordered_datagrams"] or is_younger:
            self.restarts += 1
            if ahead <= 0 and is_younger:
                self.epoch += 1
            self.sequence, self.uptime, self.recent = sequence, uptime, 1
            return False
        if not self.is_numbered and ahead == 0:  # an agent that does not number its datagrams
            self.uptime = uptime
            return False
        if -ahead < limits["recent"]:
            if self.recent >> -ahead & 1:
                self.duplicates += 1
                return True
            self.recent |= 1 << -ahead
        self.reordered += 1
        self.lost = max(self.lost - 1, 0)
        return False


@dataclass(slots=True)
class _Source:
    agent: int = 0
    source_class: int = 0
    index: int = 0
    epoch: int = 0
    sequence: int = 0
    pool: int = 0
    drops: int = 0
    rate: int = 0
    behind: int = 0
    restarts: int = 0
    samples: int = 0
    lost: int = 0
    dropped: int = 0
    duplicates: int = 0

    def _refer(self, epoch: int, sequence: int, pool: int, drops: int, rate: int) -> None:
        self.epoch, self.sequence, self.pool = epoch, sequence, pool
        self.drops, self.rate, self.behind = drops, rate, 0

    def track(self, epoch: int, is_repeated: bool, sequence: int, pool: int, drops: int, rate: int) -> tuple[int, int]:
        """Account for one flow sample; return its growth and whether that is known."""
        if self.samples == 0:
            self.samples = 1
            self._refer(epoch, sequence, pool, drops, rate)
            return 0, POOL_UNKNOWN
        ahead = _difference(sequence, self.sequence)
        growth = (pool - self.pool) & _WORD
        is_behind = -limits["reordered_samples"] <= ahead <= 0 and _difference(pool, self.pool) <= 0
        if is_behind and self.epoch == epoch:
            if is_repeated:
                self.duplicates += 1
                return 0, POOL_DUPLICATE
            if ahead < 0 and self.behind < limits["reordered_run"]:
                # Its packets are in the growth of the newer sample already: a sample more, no packet.
                self.samples += 1
                self.behind += 1
                self.lost = max(self.lost - 1, 0)
                return 0, POOL_KNOWN
        self.samples += 1
        status = POOL_UNKNOWN
        if (
            self.epoch != epoch
            or self.behind >= limits["reordered_run"]
            or not -limits["reordered_samples"] <= ahead <= limits["largest_jump"]
        ):
            self.restarts += 1
        else:
            if _is_plausible(growth, max(ahead, 1), max(rate, self.rate)):
                status = POOL_KNOWN
            self.lost += max(ahead - 1, 0)
            self.dropped += max(_difference(drops, self.drops), 0)
        self._refer(epoch, sequence, pool, drops, rate)
        return (growth if status == POOL_KNOWN else 0), status


def _is_plausible(growth: int, samples: int, rate: int) -> bool:
    if growth <= limits["plausible_growth"]:
        return True
    return growth < 1 << 31 and growth <= limits["plausible_ratio"] * samples * rate


class Tracker:
    """Follow every (agent, sub-agent) and every sample source through the batches.

    The batches are bound once; :meth:`track` reads their valid rows each time. Slots are given in
    order of appearance, from 1; slot 0, "other", takes what comes after 65,535 agents or sources:
    counted, not followed.

    Parameters
    ----------
    datagrams, samples:
        Batches of DATAGRAM_COLUMNS and SAMPLE_COLUMNS; the samples are in order of their datagram.
    track:
        Batch of TRACK_COLUMNS that receives one row a sample: ``source``, ``pool_growth`` and
        ``pool_valid`` (:data:`POOL_UNKNOWN`, :data:`POOL_KNOWN`, or :data:`POOL_DUPLICATE` for a row
        that must not be counted).

    Raises
    ------
    ValueError
        If ``track`` is smaller than ``samples``, or a batch has no room for a row.
    """

    def __init__(self, datagrams: Batch, samples: Batch, track: Batch) -> None:
        if track.capacity < samples.capacity:
            raise ValueError("the track batch is smaller than the sample batch")
        if datagrams.capacity < 1 or samples.capacity < 1:
            raise ValueError("the batches hold no row")
        self._datagrams, self._samples, self._track = datagrams, samples, track
        self._agents = [_Agent()]
        self._sources = [_Source()]
        self._agent_slots: dict[tuple[int, int, int, int], int] = {}
        self._source_slots: dict[tuple[int, int, int], int] = {}

    @property
    def n_sources(self) -> int:
        """Number of source slots in use, slot 0 included."""
        return len(self._sources)

    def _agent_slot(self, version: int, hi: int, lo: int, sub_agent_id: int) -> int:
        key = (version, hi, lo, sub_agent_id)
        slot = self._agent_slots.get(key, 0)
        if slot == 0 and len(self._agents) < limits["slots"]:
            slot = self._agent_slots[key] = len(self._agents)
            self._agents.append(_Agent(version, hi, lo, sub_agent_id))
        return slot

    def _source_slot(self, agent: int, source_class: int, index: int) -> int:
        key = (agent, source_class, index)
        slot = self._source_slots.get(key, 0)
        if slot == 0 and len(self._sources) < limits["slots"]:
            slot = self._source_slots[key] = len(self._sources)
            self._sources.append(_Source(agent, source_class, index))
        return slot

    def track(self) -> None:
        """Track the valid rows of the batches, in order; fill the track batch.

        Raises
        ------
        ValueError
            If a batch claims more rows than it holds.
        """
        n_samples = self._samples.n
        if not (0 <= self._datagrams.n <= self._datagrams.capacity and 0 <= n_samples <= self._samples.capacity):
            raise ValueError("a batch claims more rows than it holds")
        columns = self._datagrams.rows()
        names = ("agent_version", "agent_hi", "agent_lo", "sub_agent_id", "sequence_number", "uptime")
        verdicts: list[tuple[int, int, bool]] = []
        for *identity, sequence, uptime in zip(*(columns[name].tolist() for name in names), strict=True):
            slot = self._agent_slot(*identity)
            agent = self._agents[slot]
            is_repeated = False
            if slot:
                is_repeated = agent.track(sequence, uptime)
            else:
                agent.datagrams += 1
            verdicts.append((slot, agent.epoch, is_repeated))
        columns = self._samples.rows()
        fields = (
            "datagram",
            "source_class",
            "source_index",
            "sequence_number",
            "sample_pool",
            "drops",
            "sampling_rate",
        )
        self._track.n = n_samples
        for row, values in enumerate(zip(*(columns[name].tolist() for name in fields), strict=True)):
            datagram, source_class, source_index, *counters = values
            agent_slot, epoch, is_repeated = verdicts[datagram] if datagram < len(verdicts) else (0, 0, False)
            slot = self._source_slot(agent_slot, source_class, source_index) if agent_slot else 0
            source = self._sources[slot]
            growth, status = 0, POOL_UNKNOWN
            if slot:
                growth, status = source.track(epoch, is_repeated, *counters)
            else:
                source.samples += 1
                source.rate = counters[3]
            self._track["source"][row] = slot
            self._track["pool_growth"][row] = growth
            self._track["pool_valid"][row] = status

    def agents(self) -> dict[str, NDArray[Any]]:
        """Describe the agent slots as columns of shape (a,).

        ``agent_version``, ``agent_hi``, ``agent_lo``, ``sub_agent_id``, the last ``sequence_number`` and
        ``uptime`` (ms), and the counts ``datagrams``, ``lost``, ``reordered``, ``duplicates``, ``restarts``.
        """
        fields = {
            "agent_hi": ("hi", np.uint64),
            "agent_lo": ("lo", np.uint64),
            "datagrams": ("datagrams", np.uint64),
            "lost": ("lost", np.uint64),
            "reordered": ("reordered", np.uint64),
            "duplicates": ("duplicates", np.uint64),
            "restarts": ("restarts", np.uint64),
            "agent_version": ("version", np.uint8),
            "sub_agent_id": ("sub_agent_id", np.uint32),
            "sequence_number": ("sequence", np.uint32),
            "uptime": ("uptime", np.uint32),
        }
        return {
            name: np.array([getattr(a, field) for a in self._agents], dtype) for name, (field, dtype) in fields.items()
        }

    def sources(self) -> dict[str, NDArray[Any]]:
        """Describe the source slots as columns of shape (s,).

        ``agent`` (slot), ``source_class``, ``source_index``, the ``sampling_rate`` last stated, and the
        counts ``samples`` (duplicates not included), ``lost`` (gaps of the sample sequence: an upper bound
        where an agent numbers the samples of all its sources in one sequence), ``drops`` (by the agent's
        own count), ``duplicates``, ``restarts``.
        """
        fields = {
            "agent": ("agent", np.uint32),
            "source_class": ("source_class", np.uint32),
            "source_index": ("index", np.uint32),
            "sampling_rate": ("rate", np.uint32),
            "samples": ("samples", np.uint64),
            "lost": ("lost", np.uint64),
            "drops": ("dropped", np.uint64),
            "duplicates": ("duplicates", np.uint64),
            "restarts": ("restarts", np.uint64),
        }
        return {
            name: np.array([getattr(s, field) for s in self._sources], dtype) for name, (field, dtype) in fields.items()
        }
