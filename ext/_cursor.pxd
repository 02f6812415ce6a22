# The checked cursor through which compiled code reads octets from the wire (header-only).
#
# A cursor never points behind its end. `take` is the only way forward: it compares what is asked for with
# what is left, once for a whole fixed part, whose fields are then loaded from the pointer it returns.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "<endian.h>":
    uint16_t be16toh(uint16_t) nogil
    uint32_t be32toh(uint32_t) nogil
    uint64_t be64toh(uint64_t) nogil

cdef extern from *:
    void __builtin_prefetch(const void *) nogil


cdef struct Cursor:
    const uint8_t *at
    const uint8_t *end


cdef inline size_t left(Cursor cursor) noexcept nogil:
    return <size_t>(cursor.end - cursor.at)


cdef inline const uint8_t *take(Cursor *cursor, size_t octets) noexcept nogil:
    """Advance over `octets` and return where they begin; NULL, and no advance, where they do not fit."""
    cdef const uint8_t *start = cursor.at
    if <size_t>(cursor.end - start) < octets:
        return NULL
    cursor.at = start + octets
    return start


# Big-endian loads, one instruction or two at any alignment.

cdef inline uint16_t load16(const uint8_t *p) noexcept nogil:
    cdef uint16_t word
    memcpy(&word, p, sizeof(word))
    return be16toh(word)


cdef inline uint32_t load32(const uint8_t *p) noexcept nogil:
    cdef uint32_t word
    memcpy(&word, p, sizeof(word))
    return be32toh(word)


cdef inline uint64_t load64(const uint8_t *p) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, p, sizeof(word))
    return be64toh(word)


cdef inline void prefetch(const uint8_t *p, size_t ahead) noexcept nogil:
    """Ask for a cache line; it need not lie in any buffer, which is why the address is a number."""
    __builtin_prefetch(<const void *>(<size_t>p + ahead))
