# The bounded table of unclassified talkers (header-only): server side, protocol and service port -> sums.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memset

from _hash cimport mix

cdef enum:
    PROBES = 32     # the table is at most half full: more means that someone aims at it


cdef struct Talker:
    uint64_t hi
    uint64_t lo
    uint32_t what   # ip_version 8 | protocol 8 | service port 16
    uint32_t used   # 1 + its place in the order of appearance, 0 free
    uint64_t samples
    uint64_t octets
    uint64_t scaled


cdef struct Talkers:
    Talker* slots
    uint32_t mask
    uint32_t n
    uint32_t limit
    Talker other    # what did not fit


cdef struct Ends:   # columns of the sample batch
    const uint64_t* source_hi
    const uint64_t* source_lo
    const uint64_t* destination_hi
    const uint64_t* destination_lo
    const uint8_t* version
    const uint8_t* protocol
    const uint16_t* source_port
    const uint16_t* destination_port


cdef inline bint allocate_talkers(Talkers* talkers, uint32_t limit) noexcept nogil:
    talkers.limit = limit
    talkers.mask = 1
    while talkers.mask < 2 * limit:
        talkers.mask *= 2
    talkers.slots = <Talker*>calloc(talkers.mask, sizeof(Talker))
    talkers.mask -= 1
    return talkers.slots != NULL


cdef inline void forget_talkers(Talkers* talkers) noexcept nogil:
    memset(talkers.slots, 0, (<size_t>talkers.mask + 1) * sizeof(Talker))
    memset(&talkers.other, 0, sizeof(Talker))
    talkers.n = 0


cdef inline void count_talker(Talkers* talkers, const Ends* ends, Py_ssize_t row, uint32_t length,
                              uint32_t rate) noexcept nogil:
    """Count an unclassified row under its server side: the end with the lower non-zero port."""
    cdef uint32_t a = ends.source_port[row], b = ends.destination_port[row]
    cdef bint is_source = a != 0 and (b == 0 or a < b)
    cdef uint32_t what = (
        <uint32_t>ends.version[row] << 24 | <uint32_t>ends.protocol[row] << 16 | (a if is_source else b)
    )
    cdef uint64_t hi = ends.source_hi[row] if is_source else ends.destination_hi[row]
    cdef uint64_t lo = ends.source_lo[row] if is_source else ends.destination_lo[row]
    cdef uint64_t place = mix(lo ^ mix(hi ^ mix(what)))
    cdef Talker* talker
    cdef Talker* found = &talkers.other
    cdef int probe
    for probe in range(PROBES):
        talker = &talkers.slots[(place + <uint64_t>probe) & talkers.mask]
        if not talker.used:
            if talkers.n < talkers.limit:
                talkers.n += 1
                talker.used = talkers.n
                talker.hi, talker.lo, talker.what = hi, lo, what
                found = talker
            break
        if talker.lo == lo and talker.what == what and talker.hi == hi:
            found = talker
            break
    found.samples += 1
    found.octets += length
    found.scaled += <uint64_t>length * rate
