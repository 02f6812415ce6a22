# UTF-8 (RFC 3629), and texts and numbers of JSON (RFC 8259), through the checked cursor, header-only.
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from _cursor cimport Cursor, left

cdef enum JsonText:
    PLAIN = 0
    ESCAPED = 1         # holds a backslash: somebody else has to read it
    BROKEN = 2

cdef enum Number:
    NO_NUMBER = 0
    UNSIGNED = 1
    NEGATIVE = 2
    FRACTION = 3        # digits and how many of them are behind the point
    LARGE = 4           # a number that needs more care than is taken here

cdef enum:
    MOST_DIGITS = 15    # of a fraction: 10^15 < 2^53, so that digits and power of ten are exact


cdef inline bint is_utf8(const uint8_t *p, const uint8_t *end) noexcept nogil:
    """Tell whether octets are UTF-8: no overlong form, no surrogate, nothing beyond U+10FFFF."""
    cdef uint64_t word
    cdef uint8_t lead, low, high
    cdef int more
    while p < end:
        while end - p >= 8:
            memcpy(&word, p, 8)
            if word & <uint64_t>0x8080808080808080:
                break
            p += 8
        if p == end:
            return True
        lead = p[0]
        p += 1
        if lead < 0x80:
            continue
        low, high = 0x80, 0xBF
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        else:
            return False
        if end - p < more or not low <= p[0] <= high:
            return False
        p += 1
        while more > 1:
            if p[0] & 0xC0 != 0x80:
                return False
            p += 1
            more -= 1
    return True


cdef inline void pass_space(Cursor *c) noexcept nogil:
    while c.at < c.end and (c.at[0] == c' ' or c.at[0] == c'\n' or c.at[0] == c'\t' or c.at[0] == c'\r'):
        c.at += 1


cdef inline JsonText read_text(Cursor *c, Cursor *span) noexcept nogil:
    """Read a text behind its first quotation mark, and the mark that ends it."""
    cdef uint8_t octet, seen = 0
    span.at = c.at
    while c.at < c.end:
        octet = c.at[0]
        if octet == c'"':
            span.end = c.at
            c.at += 1
            return PLAIN if seen < 0x80 or is_utf8(span.at, span.end) else BROKEN
        if octet == c'\\':
            return ESCAPED
        if octet < 0x20:
            return BROKEN
        seen |= octet
        c.at += 1
    return BROKEN


cdef inline Number read_integer(Cursor *c, uint64_t *value) noexcept nogil:
    """Read an integer as JSON writes it, -0 among them; the value is two's complement of 64 bits."""
    cdef bint negative = c.at < c.end and c.at[0] == c'-'
    cdef const uint8_t *first
    cdef uint64_t found = 0
    if negative:
        c.at += 1
    first = c.at
    while c.at < c.end and c'0' <= c.at[0] <= c'9':
        found = found * 10 + (c.at[0] - c'0')
        c.at += 1
    if c.at == first or (first[0] == c'0' and c.at - first > 1):
        return NO_NUMBER
    if c.at - first > 19:
        return LARGE
    value[0] = found
    if negative and found:
        if found > <uint64_t>1 << 63:
            return LARGE
        value[0] = -found
        return NEGATIVE
    return UNSIGNED


cdef inline Number read_number(Cursor *c, uint64_t *value, int *fraction, bint *negative) noexcept nogil:
    """Read a number of JSON; of a fraction, `value` are the digits without sign and point."""
    cdef const uint8_t *start = c.at
    cdef const uint8_t *point
    cdef const uint8_t *p
    cdef Number kind
    cdef bint large = False
    negative[0] = c.at < c.end and c.at[0] == c'-'
    kind = read_integer(c, value)
    if kind == NO_NUMBER:
        return NO_NUMBER
    if c.at < c.end and c.at[0] == c'.':
        point = c.at
        c.at += 1
        while c.at < c.end and c'0' <= c.at[0] <= c'9':
            c.at += 1
        if c.at == point + 1:
            return NO_NUMBER
        fraction[0] = <int>(c.at - point - 1)
        if c.at - start > MOST_DIGITS:
            large = True
        else:
            value[0] = 0
            p = start + negative[0]
            while p < c.at:
                if p != point:
                    value[0] = value[0] * 10 + (p[0] - c'0')
                p += 1
            kind = FRACTION
    if c.at < c.end and (c.at[0] == c'e' or c.at[0] == c'E'):
        large = True
        c.at += 1
        if c.at < c.end and (c.at[0] == c'+' or c.at[0] == c'-'):
            c.at += 1
        point = c.at
        while c.at < c.end and c'0' <= c.at[0] <= c'9':
            c.at += 1
        if c.at == point:
            return NO_NUMBER
    return LARGE if large else kind


cdef inline bint read_word(Cursor *c, const char *word, size_t octets) noexcept nogil:
    """Read a word such as true."""
    cdef size_t i
    if left(c[0]) < octets:
        return False
    for i in range(octets):
        if c.at[i] != <uint8_t>word[i]:
            return False
    c.at += octets
    return True
