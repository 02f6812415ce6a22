"""From accumulated keys to rows of the result tables (twin: telemetryd.aggregate.expand).

Three passes over the keys of a window: the links that packets came in by, those that they left by, and the
metering points. Each emits rows that are merged by their two key words in a hash table on the way; the
passes and the order of additions are those of the twin, so that the sums are equal to the last bit.

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
    #define telemetryd_prefetch_index(p) __builtin_prefetch(p, 1, 3)
    """
    void telemetryd_prefetch_index(const void* p) noexcept nogil

cdef enum:
    BLOCK = 64              # rows whose cache misses overlap
    LINK_IN = 1             # LinkDirection
    LINK_OUT = 2
    TOTALS = 1              # Table
    TABLE_SHIFT = 3
    LINK_SHIFT = 40
    LINK_MASK = 0xFFFFFF

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


cdef struct Rows:
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
    uint64_t* word1
    uint64_t* word2
    uint64_t n
    uint64_t* index             # 32 bits of hash, 32 bits of row + 1; 0 is free
    uint64_t mask


cdef inline void open_row(Rows* r, uint64_t row, uint64_t word1, uint64_t word2) noexcept nogil:
    r.word1[row] = word1
    r.word2[row] = word2
    r.table[row] = <uint8_t>(word1 >> TABLE_SHIFT & 1)
    r.link[row] = <uint32_t>(word2 >> LINK_SHIFT)
    r.direction[row] = <uint8_t>(word1 & 7)
    r.department[row] = <uint32_t>(word1 >> 44)
    r.peer_department[row] = <uint32_t>(word1 >> 24 & 0xFFFFF)
    r.application[row] = <uint32_t>(word1 >> 4 & 0xFFFFF)
    r.source_zone[row] = <uint32_t>(word2 >> 24 & 0xFFFF)
    r.destination_zone[row] = <uint32_t>(word2 >> 8 & 0xFFFF)
    r.service_class[row] = <uint8_t>(word2 & 0xFF)
    r.samples[row] = 0
    r.octets[row] = 0
    r.packets[row] = 0
    r.octets_variance[row] = 0
    r.packets_variance[row] = 0
    r.octets_largest[row] = 0
    r.packets_largest[row] = 0
    r.stated_rate_samples[row] = 0


cdef inline void add_key(Rows* r, const Sums* s, uint64_t row, uint64_t k) noexcept nogil:
    # telemetryd.aggregate.expand.estimate, for one key.
    cdef uint64_t source = s.key0[k] >> 48
    cdef double rate = s.rate[source], correction = s.correction[source]
    cdef double spread = rate * (rate - 1.0), deviation = sqrt(spread)
    cdef double n = <double>s.samples[k], octets = <double>s.octets[k]
    cdef double corrected = octets + correction * n
    cdef double squares = s.squares[k] + correction * (2.0 * octets + correction * n)
    cdef double largest = <double>s.largest[k] + correction
    corrected = corrected if corrected > 0.0 else 0.0
    squares = squares if squares > 0.0 else 0.0
    largest = deviation * (largest if largest > 0.0 else 0.0)
    r.samples[row] += s.samples[k]
    r.octets[row] += rate * corrected
    r.packets[row] += rate * n
    r.octets_variance[row] += spread * squares
    r.packets_variance[row] += spread * n
    if largest > r.octets_largest[row]:
        r.octets_largest[row] = largest
    if deviation > r.packets_largest[row]:
        r.packets_largest[row] = deviation
    if s.is_stated[source]:
        r.stated_rate_samples[row] += s.samples[k]


cdef inline uint64_t find_row(Rows* r, uint64_t hashed, uint64_t word1, uint64_t word2) noexcept nogil:
    cdef uint64_t slot = hashed & r.mask, word, row
    while True:
        word = r.index[slot]
        if not word:
            row = r.n
            r.n = row + 1
            r.index[slot] = (hashed & <uint64_t>0xFFFFFFFF00000000) | (row + 1)
            open_row(r, row, word1, word2)
            return row
        if (word ^ hashed) >> 32 == 0:
            row = <uint32_t>word - 1
            if r.word1[row] == word1 and r.word2[row] == word2:
                return row
        slot = (slot + 1) & r.mask


cdef uint64_t run(Rows* r, const Sums* s, uint64_t k_keys) noexcept nogil:
    # Return the samples that are in neither table.
    cdef uint64_t i, k, j, filled, link, unplaced = 0
    cdef int which
    cdef uint64_t keys[BLOCK]
    cdef uint64_t first[BLOCK]
    cdef uint64_t second[BLOCK]
    cdef uint64_t hashes[BLOCK]
    for which in range(3):
        i = 0
        while i < k_keys:
            filled = 0
            while i < k_keys and filled < BLOCK:
                k = i
                i += 1
                if which == 0:
                    link = s.key0[k] >> 24 & LINK_MASK
                elif which == 1:
                    link = s.key0[k] & LINK_MASK
                else:
                    link = s.key2[k] >> LINK_SHIFT
                    if not link and not s.key0[k] & <uint64_t>0xFFFFFFFFFFFF:
                        unplaced += s.samples[k]
                if not link:
                    continue
                if which == 2:
                    first[filled] = s.key1[k] | <uint64_t>(TOTALS << TABLE_SHIFT)
                    second[filled] = s.key2[k]
                else:
                    first[filled] = (s.key1[k] & ENDS_MASK) | <uint64_t>(LINK_IN if which == 0 else LINK_OUT)
                    second[filled] = (s.key2[k] & BELOW_LINK) | link << LINK_SHIFT
                keys[filled] = k
                hashes[filled] = mix(mix(first[filled]) ^ second[filled])
                telemetryd_prefetch_index(&r.index[hashes[filled] & r.mask])
                filled += 1
            for j in range(filled):
                add_key(r, s, find_row(r, hashes[j], first[j], second[j]), keys[j])
    return unplaced


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


cdef object room(dict scratch, str name, dtype, uint64_t count):
    """Return a scratch array of at least ``count`` items."""
    array = scratch.get(name)
    if array is None or len(array) < count:
        array = scratch[name] = np.empty(max(1024, count + count // 4), dtype)
    return array


cdef dict keep(dict out, uint64_t count):
    """Copy the first ``count`` rows of every column into one block of memory, which takes few page faults."""
    cdef uint64_t octets = 0
    places = {}
    for name, column in out.items():
        places[name] = octets
        octets += (count * column.itemsize + 63) // 64 * 64
    block = np.empty(octets, np.uint8)
    kept = {}
    for name, column in out.items():
        kept[name] = block[places[name] : places[name] + count * column.itemsize].view(column.dtype)
        kept[name][:] = column[:count]
    return kept


def expand(columns, rates, corrections):
    """Make the result rows of a closed window; see telemetryd.aggregate.expand.expand."""
    cdef Sums s
    cdef Rows r
    cdef uint64_t count, unplaced, placed, most, greatest = 0
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
    placed = (np.count_nonzero(key0 & np.uint64(0xFFFFFF000000)) + np.count_nonzero(key0 & np.uint64(0xFFFFFF))
              + np.count_nonzero(key2 >> np.uint64(LINK_SHIFT)))
    if placed >= 0xFFFFFFFF:
        raise ValueError("too many rows in one window")
    s.key0, s.key1, s.key2 = u64(key0), u64(key1), u64(key2)
    s.samples, s.octets = u64(columns["samples"]), u64(columns["octets"])
    s.squares, s.largest = f64(columns["squares"]), u32(columns["largest"])
    s.rate, s.is_stated, s.correction = f64(rates.rate), u8(is_stated), f64(corrections)
    scratch = idle.pop() if idle else {}
    out = {column.name: room(scratch, column.name, column.dtype, placed) for column in USAGE_COLUMNS}
    words = room(scratch, "word1", np.uint64, placed), room(scratch, "word2", np.uint64, placed)
    r.table, r.link, r.direction = u8(out["table"]), u32(out["link"]), u8(out["direction"])
    r.department, r.peer_department = u32(out["department"]), u32(out["peer_department"])
    r.application, r.service_class = u32(out["application"]), u8(out["service_class"])
    r.source_zone, r.destination_zone = u32(out["source_zone"]), u32(out["destination_zone"])
    r.samples, r.stated_rate_samples = u64(out["samples"]), u64(out["stated_rate_samples"])
    r.octets, r.packets = f64(out["octets"]), f64(out["packets"])
    r.octets_variance, r.packets_variance = f64(out["octets_variance"]), f64(out["packets_variance"])
    r.octets_largest, r.packets_largest = f64(out["octets_largest"]), f64(out["packets_largest"])
    r.word1, r.word2 = u64(words[0]), u64(words[1])
    r.n = 0
    most = 16
    while most < 2 * placed:
        most *= 2
    r.mask = most - 1
    index = room(scratch, "index", np.uint64, most)
    r.index = u64(index)
    with nogil:
        memset(r.index, 0, most * sizeof(uint64_t))
        unplaced = run(&r, &s, count)
    kept = keep(out, r.n)
    idle.append(scratch)
    return kept, int(unplaced)
