"""Lines from columns (twin: telemetryd.store.line_protocol).

    usage,application=tax,span=1s octets=1024,samples=3i 1790000000000000000
    |head||tag ...              | |field ...            | |time

Names and tags are text already: a row's tag is one copy, found by its code.
"""

from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from _decimal cimport K_COUNT, K_LEAST, LONGEST_FLOAT, LONGEST_INTEGER, SPILL, Powers, put_float, put_integer

import numpy as np

cdef Powers powers


cdef enum:
    SHORT = 32              # texts up to here are copied by a fixed length, which is fast, where there is room


cdef struct Tag:
    const uint8_t* texts
    int64_t octets
    const int64_t* places
    const int64_t* codes
    uint64_t count          # texts


cdef struct Field:
    char short_key[SHORT]   # behind a comma
    const char* key         # a longer one
    size_t key_length
    const double* floats    # one of both
    const int64_t* integers


cdef struct Rows:
    const char* head
    size_t head_length
    Tag* tags
    Field* fields
    int n_tags
    int n_fields
    const int64_t* times


cdef void fill_powers():
    # 10^-k = b 2^r with 2^125 <= b < 2^126; g = floor(b) + 1 = g1 2^63 + g0. Exact: these are Python's integers.
    for i in range(K_COUNT):
        k = K_LEAST + i
        upper, lower = (10**-k, 1) if k <= 0 else (1, 10**k)
        r = upper.bit_length() - lower.bit_length() - 126
        while (upper << max(-r, 0)) // (lower << max(r, 0)) >= 1 << 126:
            r += 1
        g = (upper << max(-r, 0)) // (lower << max(r, 0)) + 1
        powers.high[i] = g >> 63
        powers.low[i] = g & ((1 << 63) - 1)


fill_powers()


def number(value):
    """Write a field's value: a float as the shortest text that reads back to it, an integer with ``i``."""
    cdef char text[LONGEST_FLOAT + SPILL]
    cdef char* end
    if isinstance(value, int):
        end = put_integer(text, value)
        end[0] = c'i'
        return text[: end + 1 - text]
    end = put_float(text, value, &powers)
    return text[: end - text]


cdef char* put_rows(char* out, const Rows* r, Py_ssize_t n) noexcept nogil:
    # Write the rows; return the end, or NULL where a code has no text.
    cdef Py_ssize_t i
    cdef int j
    cdef char* line
    cdef char* time = NULL      # of the line before
    cdef size_t length = 0
    cdef uint64_t code
    cdef int64_t place, size
    cdef bint has_field
    for i in range(n):
        line = out
        memcpy(out, r.head, r.head_length)
        out += r.head_length
        for j in range(r.n_tags):
            code = <uint64_t>r.tags[j].codes[i]
            if code >= r.tags[j].count:
                return NULL
            place = r.tags[j].places[code]
            size = r.tags[j].places[code + 1] - place
            if size <= SHORT and place + SHORT <= r.tags[j].octets:
                memcpy(out, r.tags[j].texts + place, SHORT)
            else:
                memcpy(out, r.tags[j].texts + place, <size_t>size)
            out += size
        has_field = False
        for j in range(r.n_fields):
            if r.fields[j].floats and not isfinite(r.fields[j].floats[i]):
                continue
            if r.fields[j].key:
                out[0] = c','
                memcpy(out + 1, r.fields[j].key, r.fields[j].key_length)
            else:
                memcpy(out, r.fields[j].short_key, SHORT)
            if not has_field:
                out[0] = c' '
                has_field = True
            out += 1 + r.fields[j].key_length
            if r.fields[j].floats:
                out = put_float(out, r.fields[j].floats[i], &powers)
            else:
                out = put_integer(out, r.fields[j].integers[i])
                out[0] = c'i'
                out += 1
        if not has_field:
            out = line
            continue
        out[0] = c' '
        out += 1
        if time and r.times[i] == r.times[i - 1]:
            memcpy(out, time, length)
            time = out
            out += length
        else:
            time = out
            out = put_integer(out, r.times[i])
            length = <size_t>(out - time)
        out[0] = c'\n'
        out += 1
    return out


cdef Py_ssize_t longest_text(const int64_t[::1] places, Py_ssize_t octets) except -1:
    # The longest of texts; checks that they lie behind each other in so many octets.
    cdef Py_ssize_t longest = 0, i
    if places.shape[0] < 1 or places[0] != 0 or places[places.shape[0] - 1] != octets:
        raise ValueError("the places of a tag's texts are not those of its octets")
    for i in range(places.shape[0] - 1):
        if places[i + 1] < places[i]:
            raise ValueError("the places of a tag's texts are not those of its octets")
        longest = max(longest, places[i + 1] - places[i])
    return longest


cdef Py_ssize_t set_tag(Tag* tag, const uint8_t[::1] texts, const int64_t[::1] places, const int64_t[::1] codes,
                        Py_ssize_t n) except -1:
    # Return the octets that it takes of a line at most.
    if codes.shape[0] != n:
        raise ValueError("the columns differ in length")
    cdef Py_ssize_t longest = longest_text(places, texts.shape[0])
    tag.texts, tag.octets = &texts[0] if texts.shape[0] else NULL, texts.shape[0]
    tag.places = &places[0]
    tag.codes = &codes[0] if n else NULL
    tag.count = places.shape[0] - 1
    return longest


cdef int set_key(Field* field, bytes key) except -1:
    field.key_length = len(key)
    if len(key) < SHORT:
        field.short_key[0] = c','
        memcpy(field.short_key + 1, <const char*>key, len(key))
    else:
        field.key = key
    return 0


cdef int set_floats(Field* field, const double[::1] values, Py_ssize_t n) except -1:
    if values.shape[0] != n:
        raise ValueError("the columns differ in length")
    field.floats = &values[0] if n else NULL
    return 0


cdef int set_integers(Field* field, const int64_t[::1] values, Py_ssize_t n) except -1:
    if values.shape[0] != n:
        raise ValueError("the columns differ in length")
    field.integers = &values[0] if n else NULL
    return 0


# Rooms to write into, reused: fresh memory for a window's lines costs as much as writing them. A call takes one and
# gives it back, so that threads which render at the same time have one each.
cdef list idle = []


cdef object room(Py_ssize_t octets):
    """Return an array of at least so many octets."""
    scratch = idle.pop() if idle else None
    if scratch is None or len(scratch) < octets:
        scratch = np.empty(octets + octets // 4 + 4096, np.uint8)
    return scratch


def render(bytes head not None, tags, fields, const int64_t[::1] times not None):
    """Render n rows, each line ended by a line feed."""
    cdef Py_ssize_t n = times.shape[0], most, i
    cdef Rows r
    cdef bytes lines
    cdef uint8_t[::1] scratch
    cdef char* out
    cdef char* end
    tags, fields = list(tags), list(fields)     # holds the arrays
    r.head, r.head_length = head, len(head)
    r.n_tags, r.n_fields = len(tags), len(fields)
    r.times = &times[0] if n else NULL
    r.tags = <Tag*>calloc(r.n_tags + 1, sizeof(Tag))
    r.fields = <Field*>calloc(r.n_fields + 1, sizeof(Field))
    try:
        if not r.tags or not r.fields:
            raise MemoryError("no memory to render rows")
        most = len(head) + LONGEST_INTEGER + 2
        for i, (texts, places, codes) in enumerate(tags):
            most += set_tag(&r.tags[i], texts, places, codes, n)
        for i, (name, values) in enumerate(fields):
            set_key(&r.fields[i], name)
            if values.dtype == np.float64:
                set_floats(&r.fields[i], values, n)
            elif values.dtype == np.int64:
                set_integers(&r.fields[i], values, n)
            else:
                raise ValueError(f"Buffer dtype mismatch: a field is {values.dtype}, not float64 or int64")
            most += len(name) + 1 + max(<int>LONGEST_FLOAT, <int>LONGEST_INTEGER + 1)
        scratch = array = room(n * most + SHORT + SPILL)
        out = <char*>&scratch[0]
        with nogil:
            end = put_rows(out, &r, n)
        if not end:
            raise ValueError("a tag's code has no text")
        lines = out[: end - out]
        idle.append(array)
        return lines
    finally:
        free(r.tags)
        free(r.fields)
