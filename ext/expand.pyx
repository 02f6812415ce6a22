"""From accumulated keys to rows of the result tables (twin: telemetryd.aggregate.expand).

One pass over the keys of a window: each is estimated once, and added to the row of the link that its packets came
in by, to that of the link they left by, and to that of the metering point. Rows are found by their two key words in
one hash table, and lie whole in memory, in a region a kind; at the end they are written out as columns. Within a
kind, the order of rows and of additions is that of the twin, so that the sums are equal to the last bit.

The layout of the key words is drawn in telemetryd/aggregate/keys.py.
"""

from libc.math cimport sqrt
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from _hash cimport mix

import numpy as np

from telemetryd.schema import USAGE_COLUMNS

cdef extern from *:
    """
    #define telemetryd_prefetch_row(p) __builtin_prefetch(p, 1, 3)
    """
    void telemetryd_prefetch_row(const void* p) noexcept nogil

cdef enum:
    BLOCK = 64              # keys whose cache misses overlap
    LINK_IN = 1             # LinkDirection
    LINK_OUT = 2
    TOTALS = 1              # Table
    TABLE_SHIFT = 3
    LINK_SHIFT = 40
    LINK_MASK = 0xFFFFFF
    KINDS = 3               # in, out, totals: the order of the rows

cdef uint64_t ENDS_MASK = ~<uint64_t>0xF
cdef uint64_t BELOW_LINK = (<uint64_t>1 << LINK_SHIFT) - 1


cdef struct Sums:
    const uint64_t* key0
    const uint64_t* key1
    const uint64_t* key2
    const uint64_t* samples
    const uint64_t* octets
    const double* squares
    const uint32_t* largest
    const double* rate          # per source
    const uint8_t* is_stated
    const double* correction


cdef struct Row:
    uint64_t word1
    uint64_t word2
    uint64_t samples
    uint64_t stated
    double octets
    double packets
    double octets_variance
    double packets_variance
    double octets_largest
    double packets_largest


cdef struct Table:
    Row* rows                   # of each kind from kind * room on
    uint64_t room
    uint64_t n[KINDS]
    uint64_t* index             # 32 bits of hash, 32 bits of row + 1; 0 is free
    uint64_t mask


cdef struct Pending:            # an estimated key on its way to one row
    uint64_t word1
    uint64_t word2
    uint64_t hashed
    uint32_t kind
    uint32_t key                # within the block


cdef struct Columns:
    uint8_t* table
    uint32_t* link
    uint8_t* direction
    uint32_t* department
    uint32_t* peer_department
    uint32_t* application
    uint32_t* source_zone
    uint32_t* destination_zone
    uint8_t* service_class
    uint64_t* samples
    double* octets
    double* packets
    double* octets_variance
    double* packets_variance
    double* octets_largest
    double* packets_largest
    uint64_t* stated_rate_samples


cdef inline void estimate(Row* of, const Sums* s, uint64_t k) noexcept nogil:
    # telemetryd.aggregate.expand.estimate, for one key.
    cdef uint64_t source = s.key0[k] >> 48
    cdef double rate = s.rate[source], correction = s.correction[source]
    cdef double spread = rate * (rate - 1.0), deviation = sqrt(spread)
    cdef double n = <double>s.samples[k], octets = <double>s.octets[k]
    cdef double corrected = octets + correction * n
    cdef double squares = s.squares[k] + correction * (2.0 * octets + correction * n)
    cdef double largest = <double>s.largest[k] + correction
    of.samples = s.samples[k]
    of.stated = s.samples[k] & (0 - <uint64_t>(s.is_stated[source] != 0))
    of.octets = rate * (corrected if corrected > 0.0 else 0.0)
    of.packets = rate * n
    of.octets_variance = spread * (squares if squares > 0.0 else 0.0)
    of.packets_variance = spread * n
    of.octets_largest = deviation * (largest if largest > 0.0 else 0.0)
    of.packets_largest = deviation


cdef inline void add(Row* row, const Row* of) noexcept nogil:
    row.samples += of.samples
    row.stated += of.stated
    row.octets += of.octets
    row.packets += of.packets
    row.octets_variance += of.octets_variance
    row.packets_variance += of.packets_variance
    if of.octets_largest > row.octets_largest:
        row.octets_largest = of.octets_largest
    if of.packets_largest > row.packets_largest:
        row.packets_largest = of.packets_largest


cdef inline void find_and_add(Table* t, const Pending* p, const Row* of) noexcept nogil:
    cdef uint64_t slot = p.hashed & t.mask, word
    cdef Row* row
    while True:
        word = t.index[slot]
        if not word:
            word = p.kind * t.room + t.n[p.kind]
            t.n[p.kind] += 1
            t.index[slot] = (p.hashed & <uint64_t>0xFFFFFFFF00000000) | (word + 1)
            row = &t.rows[word]
            row[0] = of[0]
            row.word1, row.word2 = p.word1, p.word2
            return
        if (word ^ p.hashed) >> 32 == 0:
            row = &t.rows[<uint32_t>word - 1]
            if row.word1 == p.word1 and row.word2 == p.word2:
                add(row, of)
                return
        slot = (slot + 1) & t.mask


cdef inline uint32_t aim(Table* t, Pending* pending, uint32_t filled, uint32_t kind, uint32_t key, uint64_t word1,
                         uint64_t word2) noexcept nogil:
    cdef Pending* p = &pending[filled]
    p.word1, p.word2, p.kind, p.key = word1, word2, kind, key
    p.hashed = mix(mix(word1) ^ word2)
    telemetryd_prefetch_row(&t.index[p.hashed & t.mask])
    return filled + 1


cdef uint64_t fill(Table* t, const Sums* s, uint64_t n_keys) noexcept nogil:
    """Add every key to its rows; return the samples that are in neither table."""
    cdef Pending pending[KINDS * BLOCK]
    cdef Row estimates[BLOCK]
    cdef uint64_t first = 0, k, key1, key2, link_in, link_out, point, word, unplaced = 0
    cdef uint32_t i, filled
    while first < n_keys:
        filled = 0
        for i in range(<uint32_t>min(BLOCK, n_keys - first)):
            k = first + i
            estimate(&estimates[i], s, k)
            key1, key2 = s.key1[k], s.key2[k]
            link_in, link_out, point = s.key0[k] >> 24 & LINK_MASK, s.key0[k] & LINK_MASK, key2 >> LINK_SHIFT
            if link_in:
                filled = aim(t, pending, filled, 0, i, (key1 & ENDS_MASK) | LINK_IN,
                             (key2 & BELOW_LINK) | link_in << LINK_SHIFT)
            if link_out:
                filled = aim(t, pending, filled, 1, i, (key1 & ENDS_MASK) | LINK_OUT,
                             (key2 & BELOW_LINK) | link_out << LINK_SHIFT)
            if point:
                filled = aim(t, pending, filled, 2, i, key1 | <uint64_t>(TOTALS << TABLE_SHIFT), key2)
            elif not link_in and not link_out:
                unplaced += s.samples[k]
        for i in range(filled):
            word = t.index[pending[i].hashed & t.mask]
            if word:
                telemetryd_prefetch_row(&t.rows[<uint32_t>word - 1])
        for i in range(filled):
            find_and_add(t, &pending[i], &estimates[pending[i].key])
        first += BLOCK
    return unplaced


cdef void write_out(const Columns* columns, const Row* rows, uint64_t n, uint64_t first) noexcept nogil:
    """Write rows to the columns from place ``first`` on."""
    cdef Columns c = columns[0]     # a copy that no store below can change
    cdef uint64_t i, at
    cdef const Row* row
    for i in range(n):
        row, at = &rows[i], first + i
        c.table[at] = <uint8_t>(row.word1 >> TABLE_SHIFT & 1)
        c.link[at] = <uint32_t>(row.word2 >> LINK_SHIFT)
        c.direction[at] = <uint8_t>(row.word1 & 7)
        c.department[at] = <uint32_t>(row.word1 >> 44)
        c.peer_department[at] = <uint32_t>(row.word1 >> 24 & 0xFFFFF)
        c.application[at] = <uint32_t>(row.word1 >> 4 & 0xFFFFF)
        c.source_zone[at] = <uint32_t>(row.word2 >> 24 & 0xFFFF)
        c.destination_zone[at] = <uint32_t>(row.word2 >> 8 & 0xFFFF)
        c.service_class[at] = <uint8_t>(row.word2 & 0xFF)
        c.samples[at] = row.samples
        c.octets[at] = row.octets
        c.packets[at] = row.packets
        c.octets_variance[at] = row.octets_variance
        c.packets_variance[at] = row.packets_variance
        c.octets_largest[at] = row.octets_largest
        c.packets_largest[at] = row.packets_largest
        c.stated_rate_samples[at] = row.stated


cdef uint8_t* u8(uint8_t[::1] view) noexcept:
    return &view[0] if view.shape[0] else NULL


cdef uint32_t* u32(uint32_t[::1] view) noexcept:
    return &view[0] if view.shape[0] else NULL


cdef uint64_t* u64(uint64_t[::1] view) noexcept:
    return &view[0] if view.shape[0] else NULL


cdef double* f64(double[::1] view) noexcept:
    return &view[0] if view.shape[0] else NULL


# Scratch arrays, reused: fresh memory for a window's rows costs more than filling it. A call takes a set
# and gives it back, so that threads which close windows at the same time have one each.
cdef list idle = []


cdef object room(dict scratch, str name, uint64_t count):
    """Return a scratch array of at least ``count`` words."""
    array = scratch.get(name)
    if array is None or len(array) < count:
        array = scratch[name] = np.empty(max(1024, count + count // 4), np.uint64)
    return array


cdef dict make_columns(Columns* c, uint64_t count):
    """Make the result columns in one block of memory, which takes few page faults."""
    cdef uint64_t octets = 0
    places = {}
    for column in USAGE_COLUMNS:
        places[column.name] = octets
        octets += (count * np.dtype(column.dtype).itemsize + 63) // 64 * 64
    block = np.empty(octets, np.uint8)
    out = {}
    for column in USAGE_COLUMNS:
        dtype, place = np.dtype(column.dtype), places[column.name]
        out[column.name] = block[place : place + count * dtype.itemsize].view(dtype)
    c.table, c.link, c.direction = u8(out["table"]), u32(out["link"]), u8(out["direction"])
    c.department, c.peer_department = u32(out["department"]), u32(out["peer_department"])
    c.application, c.service_class = u32(out["application"]), u8(out["service_class"])
    c.source_zone, c.destination_zone = u32(out["source_zone"]), u32(out["destination_zone"])
    c.samples, c.stated_rate_samples = u64(out["samples"]), u64(out["stated_rate_samples"])
    c.octets, c.packets = f64(out["octets"]), f64(out["packets"])
    c.octets_variance, c.packets_variance = f64(out["octets_variance"]), f64(out["packets_variance"])
    c.octets_largest, c.packets_largest = f64(out["octets_largest"]), f64(out["packets_largest"])
    return out


def expand(columns, rates, corrections):
    """Make the result rows of a closed window; see telemetryd.aggregate.expand.expand."""
    cdef Sums s
    cdef Table t
    cdef Columns c
    cdef uint64_t count, unplaced, placed, first = 0, slots = 16, greatest = 0
    cdef int kind
    key0, key1, key2 = columns["key0"], columns["key1"], columns["key2"]
    count = len(key0)
    for name in ("key1", "key2", "samples", "octets", "squares", "largest"):
        if len(columns[name]) != count:
            raise ValueError("the columns differ in length")
    if count:
        greatest = int(key0.max()) >> 48
    is_stated = rates.is_stated.view(np.uint8)
    if count and not (greatest < len(rates.rate) and greatest < len(is_stated) and greatest < len(corrections)):
        raise ValueError("a key's source has no rate")
    if count >= 0xFFFFFFFF // KINDS:
        raise ValueError("too many keys in one window")
    s.key0, s.key1, s.key2 = u64(key0), u64(key1), u64(key2)
    s.samples, s.octets = u64(columns["samples"]), u64(columns["octets"])
    s.squares, s.largest = f64(columns["squares"]), u32(columns["largest"])
    s.rate, s.is_stated, s.correction = f64(rates.rate), u8(is_stated), f64(corrections)
    placed = count_rows(&s, count)
    while slots < 2 * placed:
        slots *= 2
    scratch = idle.pop() if idle else {}
    rows = room(scratch, "rows", KINDS * count * sizeof(Row) // sizeof(uint64_t))
    index = room(scratch, "index", slots)
    t.rows, t.room, t.index, t.mask = <Row*>u64(rows), count, u64(index), slots - 1
    memset(t.n, 0, sizeof(t.n))
    with nogil:
        memset(t.index, 0, slots * sizeof(uint64_t))
        unplaced = fill(&t, &s, count)
    out = make_columns(&c, t.n[0] + t.n[1] + t.n[2])
    with nogil:
        for kind in range(KINDS):
            write_out(&c, &t.rows[kind * t.room], t.n[kind], first)
            first += t.n[kind]
    idle.append(scratch)
    return out, int(unplaced)


cdef uint64_t count_rows(const Sums* s, uint64_t count) noexcept nogil:
    """Count the rows that the keys make before they are merged."""
    cdef uint64_t k, rows = 0
    for k in range(count):
        rows += (s.key0[k] >> 24 & LINK_MASK != 0) + (s.key0[k] & LINK_MASK != 0) + (s.key2[k] >> LINK_SHIFT != 0)
    return rows
