# Protobuf's wire format (protobuf.dev/programming-guides/encoding) through the checked cursor, header-only.
#
# What is accepted is what protobuf's own parser accepts: a varint has ten octets at most, of which bits beyond 64 are
# dropped; a tag and a length have five.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from _cursor cimport Cursor, take

cdef extern from "<endian.h>":
    uint32_t le32toh(uint32_t) nogil
    uint64_t le64toh(uint64_t) nogil

cdef enum WireType:
    VARINT = 0
    FIXED64 = 1
    SPAN = 2
    GROUP = 3
    FIXED32 = 5


cdef inline bint read_varint(Cursor *c, uint64_t *value) noexcept nogil:
    """Read a varint; False where it has no end."""
    cdef uint64_t found
    cdef uint8_t octet
    cdef int shift
    if c.at >= c.end:
        return False
    found = c.at[0]
    c.at += 1
    if found < 0x80:
        value[0] = found
        return True
    found &= 0x7F
    for shift in range(7, 70, 7):
        if c.at >= c.end:
            return False
        octet = c.at[0]
        c.at += 1
        found |= <uint64_t>(octet & 0x7F) << shift
        if octet < 0x80:
            value[0] = found
            return True
    return False


cdef inline bint read_short(Cursor *c, uint64_t *value) noexcept nogil:
    """Read a varint of a tag or a length."""
    cdef const uint8_t *start = c.at
    return read_varint(c, value) and c.at - start <= 5 and value[0] <= <uint64_t>0xFFFFFFFF


cdef inline bint read_tag(Cursor *c, uint32_t *tag) noexcept nogil:
    """Read a field's number and wire type."""
    cdef uint64_t value
    if not read_short(c, &value) or value >> 3 == 0:
        return False
    tag[0] = <uint32_t>value
    return True


cdef inline bint read_span(Cursor *c, Cursor *span) noexcept nogil:
    """Read a length and what it is the length of."""
    cdef uint64_t length
    cdef const uint8_t *start
    if not read_short(c, &length):
        return False
    start = take(c, length)
    if start is NULL:
        return False
    span.at, span.end = start, start + length
    return True


cdef inline bint read_fixed32(Cursor *c, uint32_t *value) noexcept nogil:
    cdef const uint8_t *start = take(c, 4)
    if start is NULL:
        return False
    memcpy(value, start, 4)
    value[0] = le32toh(value[0])
    return True


cdef inline bint read_fixed64(Cursor *c, uint64_t *value) noexcept nogil:
    cdef const uint8_t *start = take(c, 8)
    if start is NULL:
        return False
    memcpy(value, start, 8)
    value[0] = le64toh(value[0])
    return True


cdef inline bint skip_field(Cursor *c, uint32_t tag) noexcept nogil:
    """Pass over a field that is nobody's here; not for a group."""
    cdef Cursor span
    cdef uint64_t value
    if tag & 7 == VARINT:
        return read_varint(c, &value)
    if tag & 7 == SPAN:
        return read_span(c, &span)
    if tag & 7 == FIXED64:
        return take(c, 8) is not NULL
    if tag & 7 == FIXED32:
        return take(c, 4) is not NULL
    return False
