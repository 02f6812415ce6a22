"""Sequence, restart and sample-pool tracking of sFlow sources (twin: telemetryd.ingest.sflow.sequence).

Terms are those of the sFlow v5 specification, section 5: a datagram carries the sequence number and
the uptime (ms) of its sub-agent; a flow sample carries the sequence number, the sample pool and the
drops of its source. All of them are 32-bit counters that wrap.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free

from _hash cimport mix

import numpy as np

# The limits below are those of the twin; a test compares them.
cdef extern from *:
    """
    #define telemetryd_prefetch(p) __builtin_prefetch(p, 1, 3)
    """
    void telemetryd_prefetch(const void* p) noexcept nogil

cdef enum:
    BLOCK = 64                  # rows whose cache misses overlap
    SLOTS = 65536               # agents and sources; slot 0 is "other"
    INDEX_SIZE = 262144         # open addressing, a quarter full at most
    INDEX_MASK = INDEX_SIZE - 1
    RECENT = 64                 # datagrams remembered one by one
    REORDERED_DATAGRAMS = 1024  # further back is a renumbering
    REORDERED_SAMPLES = 1024
    REORDERED_RUN = 64          # so many samples behind in a row are a restart
    LARGEST_JUMP = 1048576      # further ahead is a renumbering, not a loss
    UPTIME_SLACK_MS = 2000      # reordering moves the uptime back by less
    UPTIME_WRAP_MS = 3600000    # the last and the first hour of the 49.7 days that uptime counts
    PLAUSIBLE_GROWTH = 67108864     # packets between two samples that are believed at any rate
    PLAUSIBLE_RATIO = 256       # above that: at most so many times what the stated rate implies

POOL_UNKNOWN = 0
POOL_KNOWN = 1
POOL_DUPLICATE = 2
limits = {
    "slots": SLOTS,
    "recent": RECENT,
    "reordered_datagrams": REORDERED_DATAGRAMS,
    "reordered_samples": REORDERED_SAMPLES,
    "reordered_run": REORDERED_RUN,
    "largest_jump": LARGEST_JUMP,
    "uptime_slack_ms": UPTIME_SLACK_MS,
    "uptime_wrap_ms": UPTIME_WRAP_MS,
    "plausible_growth": PLAUSIBLE_GROWTH,
    "plausible_ratio": PLAUSIBLE_RATIO,
}

cdef enum Pool:
    UNKNOWN = 0
    KNOWN = 1
    DUPLICATE = 2


cdef struct Agent:
    uint64_t hi
    uint64_t lo
    uint64_t datagrams
    uint64_t lost
    uint64_t reordered
    uint64_t duplicates
    uint64_t restarts
    uint64_t recent             # bit i: sequence number - i has been seen
    uint32_t sub_agent_id
    uint32_t sequence
    uint32_t uptime
    uint32_t epoch              # grows at each restart: the sources' references are void
    uint8_t version
    uint8_t is_numbered         # the sequence number has advanced at least once


cdef struct Source:             # one cache line
    uint32_t source_class
    uint32_t index
    uint16_t agent
    uint16_t behind             # samples behind the reference, in a row
    uint32_t epoch
    uint32_t sequence
    uint32_t pool
    uint32_t drops
    uint32_t rate
    uint32_t restarts
    uint32_t duplicates
    uint64_t samples
    uint64_t lost
    uint64_t dropped


cdef struct Verdict:            # on a datagram
    uint32_t agent
    uint32_t epoch
    bint is_repeated


cdef struct Columns:            # of the bound batches
    const uint64_t* hi
    const uint64_t* lo
    const uint8_t* version
    const uint32_t* sub
    const uint32_t* sequence
    const uint32_t* uptime
    const uint32_t* s_datagram
    const uint32_t* s_sequence
    const uint32_t* s_class
    const uint32_t* s_index
    const uint32_t* s_rate
    const uint32_t* s_pool
    const uint32_t* s_drops
    uint32_t* source
    uint32_t* growth
    uint8_t* valid


cdef bint track_datagram(Agent* agent, uint32_t sequence, uint32_t uptime) noexcept nogil:
    """Account for one datagram; return whether it repeats one that was seen."""
    cdef int32_t ahead
    cdef uint32_t back
    cdef uint32_t uptime_back = 0
    agent.datagrams += 1
    if agent.datagrams == 1:
        agent.sequence = sequence
        agent.uptime = uptime
        agent.recent = 1
        return False
    ahead = <int32_t>(sequence - agent.sequence)
    if uptime < agent.uptime and not (
        uptime < UPTIME_WRAP_MS and agent.uptime > <uint32_t>0xFFFFFFFF - UPTIME_WRAP_MS
    ):
        uptime_back = agent.uptime - uptime
    if ahead > 0 and ahead <= LARGEST_JUMP:
        agent.lost += <uint32_t>ahead - 1
        agent.recent = (agent.recent << ahead | 1) if ahead < RECENT else 1
        agent.is_numbered = 1
        agent.sequence = sequence
        agent.uptime = uptime
        return False
    if ahead > LARGEST_JUMP or ahead < -REORDERED_DATAGRAMS or uptime_back > UPTIME_SLACK_MS:
        agent.restarts += 1
        if ahead <= 0 and uptime_back > UPTIME_SLACK_MS:
            agent.epoch += 1
        agent.sequence = sequence
        agent.uptime = uptime
        agent.recent = 1
        return False
    if not agent.is_numbered and ahead == 0:  # an agent that does not number its datagrams
        agent.uptime = uptime
        return False
    back = <uint32_t>-ahead
    if back < RECENT:
        if agent.recent >> back & 1:
            agent.duplicates += 1
            return True
        agent.recent |= <uint64_t>1 << back
    agent.reordered += 1
    if agent.lost:
        agent.lost -= 1
    return False


cdef inline bint is_plausible(uint32_t growth, uint32_t samples, uint32_t rate) noexcept nogil:
    if growth <= PLAUSIBLE_GROWTH:
        return True
    if growth >= <uint32_t>0x80000000:
        return False
    return growth <= <uint64_t>PLAUSIBLE_RATIO * samples * rate


cdef Pool track_sample(Source* source, uint32_t epoch, bint is_repeated, uint32_t sequence, uint32_t pool,
                       uint32_t drops, uint32_t rate, uint32_t* growth) noexcept nogil:
    """Account for one flow sample; say whether the growth of the sample pool is known."""
    cdef int32_t ahead, grown
    cdef Pool status = UNKNOWN
    growth[0] = 0
    if source.samples == 0:
        source.samples = 1
        source.epoch = epoch
        source.sequence = sequence
        source.pool = pool
        source.drops = drops
        source.rate = rate
        return UNKNOWN
    ahead = <int32_t>(sequence - source.sequence)
    grown = <int32_t>(pool - source.pool)
    if ahead <= 0 and ahead >= -REORDERED_SAMPLES and grown <= 0 and source.epoch == epoch:
        if is_repeated:
            source.duplicates += 1
            return DUPLICATE
        if ahead < 0 and source.behind < REORDERED_RUN:
            # Its packets are in the growth of the newer sample already: it adds a sample and no packet.
            source.samples += 1
            source.behind += 1
            if source.lost:
                source.lost -= 1
            return KNOWN
    source.samples += 1
    if source.epoch != epoch or source.behind >= REORDERED_RUN or (
        ahead > LARGEST_JUMP or ahead < -REORDERED_SAMPLES
    ):
        source.restarts += 1
    else:
        if is_plausible(pool - source.pool, <uint32_t>ahead if ahead > 1 else 1, max(rate, source.rate)):
            status = KNOWN
            growth[0] = pool - source.pool
        if ahead > 0:
            source.lost += <uint32_t>ahead - 1
        if <int32_t>(drops - source.drops) > 0:
            source.dropped += drops - source.drops
    source.epoch = epoch
    source.behind = 0
    source.sequence = sequence
    source.pool = pool
    source.drops = drops
    source.rate = rate
    return status


cdef class Tracker:
    """Follow every (agent, sub-agent) and every sample source through the batches; see the .pyi file."""

    cdef object _datagrams, _samples, _track
    cdef list _views            # keep the memory of the columns alive
    cdef Columns columns
    cdef Py_ssize_t max_datagrams, max_samples
    cdef Agent* agent_slots
    cdef Source* source_slots   # aligned, inside source_memory
    cdef void* source_memory
    cdef uint32_t* agent_index
    cdef uint32_t* source_index
    cdef Verdict* verdicts
    cdef uint32_t n_agent_slots, n_source_slots

    def __cinit__(self, datagrams, samples, track):
        # calloc of this much takes pages of zeros from the kernel: what is not used costs nothing.
        self.agent_slots = <Agent*>calloc(SLOTS, sizeof(Agent))
        self.source_memory = calloc(SLOTS + 1, sizeof(Source))
        self.source_slots = <Source*>((<uintptr_t>self.source_memory + 63) & ~<uintptr_t>63)
        self.agent_index = <uint32_t*>calloc(INDEX_SIZE, sizeof(uint32_t))
        self.source_index = <uint32_t*>calloc(INDEX_SIZE, sizeof(uint32_t))
        self.max_datagrams = datagrams.capacity
        self.max_samples = samples.capacity
        self.verdicts = <Verdict*>calloc(max(self.max_datagrams, 1), sizeof(Verdict))
        if not (self.agent_slots and self.source_memory and self.agent_index and self.source_index
                and self.verdicts):
            raise MemoryError("no memory for the tables of sFlow sources")
        self.n_agent_slots = 1
        self.n_source_slots = 1

    def __init__(self, datagrams, samples, track):
        if track.capacity < samples.capacity:
            raise ValueError("the track batch is smaller than the sample batch")
        if datagrams.capacity < 1 or samples.capacity < 1:
            raise ValueError("the batches hold no row")
        cdef const uint64_t[::1] hi = datagrams["agent_hi"], lo = datagrams["agent_lo"]
        cdef const uint8_t[::1] version = datagrams["agent_version"]
        cdef uint32_t[::1] source = track["source"], growth = track["pool_growth"]
        cdef uint8_t[::1] valid = track["pool_valid"]
        self._datagrams, self._samples, self._track = datagrams, samples, track
        self._views = [hi, lo, version, source, growth, valid]
        self.columns.hi, self.columns.lo, self.columns.version = &hi[0], &lo[0], &version[0]
        self.columns.source, self.columns.growth, self.columns.valid = &source[0], &growth[0], &valid[0]
        self.columns.sub = self.words(datagrams, "sub_agent_id")
        self.columns.sequence = self.words(datagrams, "sequence_number")
        self.columns.uptime = self.words(datagrams, "uptime")
        self.columns.s_datagram = self.words(samples, "datagram")
        self.columns.s_sequence = self.words(samples, "sequence_number")
        self.columns.s_class = self.words(samples, "source_class")
        self.columns.s_index = self.words(samples, "source_index")
        self.columns.s_rate = self.words(samples, "sampling_rate")
        self.columns.s_pool = self.words(samples, "sample_pool")
        self.columns.s_drops = self.words(samples, "drops")

    cdef const uint32_t* words(self, batch, name) except NULL:
        cdef const uint32_t[::1] view = batch[name]
        self._views.append(view)
        return &view[0]

    def __dealloc__(self):
        free(self.agent_slots)
        free(self.source_memory)
        free(self.agent_index)
        free(self.source_index)
        free(self.verdicts)

    @property
    def n_sources(self):
        """Number of source slots in use, slot 0 included."""
        return self.n_source_slots

    cdef uint32_t find_agent(self, uint8_t version, uint64_t hi, uint64_t lo, uint32_t sub) noexcept nogil:
        cdef uint64_t place = mix(lo ^ mix(hi ^ mix(<uint64_t>sub << 8 | version)))
        cdef uint32_t slot
        cdef Agent* agent
        while True:
            place &= INDEX_MASK
            slot = self.agent_index[place]
            if slot == 0:
                break
            agent = &self.agent_slots[slot]
            if agent.lo == lo and agent.hi == hi and agent.sub_agent_id == sub and agent.version == version:
                return slot
            place += 1
        if self.n_agent_slots == SLOTS:
            return 0
        slot = self.n_agent_slots
        self.n_agent_slots += 1
        self.agent_index[place] = slot
        agent = &self.agent_slots[slot]
        agent.version, agent.hi, agent.lo, agent.sub_agent_id = version, hi, lo, sub
        return slot

    cdef uint32_t find_source(self, uint64_t place, uint32_t agent, uint32_t source_class,
                              uint32_t index) noexcept nogil:
        cdef uint32_t slot
        cdef Source* source
        while True:
            place &= INDEX_MASK
            slot = self.source_index[place]
            if slot == 0:
                break
            source = &self.source_slots[slot]
            if source.index == index and source.agent == agent and source.source_class == source_class:
                return slot
            place += 1
        if self.n_source_slots == SLOTS:
            return 0
        slot = self.n_source_slots
        self.n_source_slots += 1
        self.source_index[place] = slot
        source = &self.source_slots[slot]
        source.agent, source.source_class, source.index = <uint16_t>agent, source_class, index
        return slot

    def track(self):
        """Track the valid rows of the batches, in order; fill the track batch."""
        cdef Py_ssize_t n_datagrams = self._datagrams.n
        cdef Py_ssize_t n_samples = self._samples.n
        if not (0 <= n_datagrams <= self.max_datagrams and 0 <= n_samples <= self.max_samples):
            raise ValueError("a batch claims more rows than it holds")
        self._track.n = n_samples
        with nogil:
            self.track_datagrams(n_datagrams)
            self.track_samples(n_datagrams, n_samples)

    cdef void track_datagrams(self, Py_ssize_t n) noexcept nogil:
        """Leave a verdict on every datagram."""
        cdef Columns c = self.columns
        cdef Py_ssize_t d
        cdef uint32_t slot = 0
        cdef Agent* agent
        cdef Verdict* verdict
        for d in range(n):
            agent = &self.agent_slots[slot]
            if slot == 0 or not (agent.lo == c.lo[d] and agent.hi == c.hi[d]
                                 and agent.sub_agent_id == c.sub[d] and agent.version == c.version[d]):
                slot = self.find_agent(c.version[d], c.hi[d], c.lo[d], c.sub[d])
                agent = &self.agent_slots[slot]
            verdict = &self.verdicts[d]
            verdict.is_repeated = False
            if slot:
                verdict.is_repeated = track_datagram(agent, c.sequence[d], c.uptime[d])
            else:
                agent.datagrams += 1
            verdict.agent = slot
            verdict.epoch = agent.epoch

    cdef void track_samples(self, Py_ssize_t n_datagrams, Py_ssize_t n) noexcept nogil:
        """Find the sources of a block of rows, then account for the rows in order."""
        cdef Columns c = self.columns
        cdef uint64_t places[BLOCK]
        cdef Py_ssize_t first = 0, row, end
        cdef uint32_t slot, growth
        cdef Verdict verdict, nobody
        cdef Source* source
        cdef Pool status
        nobody.agent = 0
        while first < n:
            end = min(first + BLOCK, n)
            for row in range(first, end):
                slot = self.verdicts[c.s_datagram[row]].agent if c.s_datagram[row] < n_datagrams else 0
                places[row - first] = mix(<uint64_t>c.s_class[row] << 32 ^ c.s_index[row] ^ mix(slot))
                telemetryd_prefetch(&self.source_index[places[row - first] & INDEX_MASK])
            for row in range(first, end):
                slot = self.source_index[places[row - first] & INDEX_MASK]
                telemetryd_prefetch(&self.source_slots[slot])
            for row in range(first, end):
                verdict = self.verdicts[c.s_datagram[row]] if c.s_datagram[row] < n_datagrams else nobody
                slot = 0
                if verdict.agent:
                    slot = self.find_source(places[row - first], verdict.agent, c.s_class[row], c.s_index[row])
                source = &self.source_slots[slot]
                status = UNKNOWN
                growth = 0
                if slot:
                    status = track_sample(source, verdict.epoch, verdict.is_repeated, c.s_sequence[row],
                                          c.s_pool[row], c.s_drops[row], c.s_rate[row], &growth)
                else:
                    source.samples += 1
                    source.rate = c.s_rate[row]
                c.source[row] = slot
                c.growth[row] = growth
                c.valid[row] = status
            first = end

    def agents(self):
        """Describe the agent slots as columns of shape (a,)."""
        cdef Py_ssize_t n = self.n_agent_slots, i
        cdef Agent* agent
        columns = {name: np.zeros(n, np.uint64) for name in (
            "agent_hi", "agent_lo", "datagrams", "lost", "reordered", "duplicates", "restarts")}
        columns |= {"agent_version": np.zeros(n, np.uint8)}
        columns |= {name: np.zeros(n, np.uint32) for name in ("sub_agent_id", "sequence_number", "uptime")}
        cdef uint64_t[::1] hi = columns["agent_hi"], lo = columns["agent_lo"]
        cdef uint64_t[::1] seen = columns["datagrams"], lost = columns["lost"]
        cdef uint64_t[::1] reordered = columns["reordered"], duplicates = columns["duplicates"]
        cdef uint64_t[::1] restarts = columns["restarts"]
        cdef uint8_t[::1] version = columns["agent_version"]
        cdef uint32_t[::1] sub = columns["sub_agent_id"], sequence = columns["sequence_number"]
        cdef uint32_t[::1] uptime = columns["uptime"]
        for i in range(n):
            agent = &self.agent_slots[i]
            hi[i], lo[i], version[i], sub[i] = agent.hi, agent.lo, agent.version, agent.sub_agent_id
            seen[i], lost[i], reordered[i] = agent.datagrams, agent.lost, agent.reordered
            duplicates[i], restarts[i] = agent.duplicates, agent.restarts
            sequence[i], uptime[i] = agent.sequence, agent.uptime
        return columns

    def sources(self):
        """Describe the source slots as columns of shape (s,)."""
        cdef Py_ssize_t n = self.n_source_slots, i
        cdef Source* source
        columns = {name: np.zeros(n, np.uint32) for name in (
            "agent", "source_class", "source_index", "sampling_rate")}
        columns |= {name: np.zeros(n, np.uint64) for name in (
            "samples", "lost", "drops", "duplicates", "restarts")}
        cdef uint32_t[::1] agent = columns["agent"], source_class = columns["source_class"]
        cdef uint32_t[::1] index = columns["source_index"], rate = columns["sampling_rate"]
        cdef uint64_t[::1] samples = columns["samples"], lost = columns["lost"]
        cdef uint64_t[::1] dropped = columns["drops"], duplicates = columns["duplicates"]
        cdef uint64_t[::1] restarts = columns["restarts"]
        for i in range(n):
            source = &self.source_slots[i]
            agent[i], source_class[i], index[i] = source.agent, source.source_class, source.index
            rate[i], samples[i], lost[i] = source.rate, source.samples, source.lost
            dropped[i], duplicates[i], restarts[i] = source.dropped, source.duplicates, source.restarts
        return columns
