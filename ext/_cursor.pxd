# The checked cursor through which compiled code reads octets from the wire (header-only).
#
# A cursor never points behind its end. `take` is the only way forward: it compares what is asked for with
# what is left, once for a whole fixed part, whose fields are then loaded from the pointer it returns.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


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


# Big-endian loads. Compilers turn the shifts into one load and one byte swap, at any alignment.

cdef inline uint16_t load16(const uint8_t *p) noexcept nogil:
    return <uint16_t>((<uint32_t>p[0] << 8) | p[1])


cdef inline uint32_t load32(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline uint64_t load64(const uint8_t *p) noexcept nogil:
    return (
        (<uint64_t>p[0] << 56) | (<uint64_t>p[1] << 48) | (<uint64_t>p[2] << 40) | (<uint64_t>p[3] << 32)
        | (<uint64_t>p[4] << 24) | (<uint64_t>p[5] << 16) | (<uint64_t>p[6] << 8) | p[7]
    )
