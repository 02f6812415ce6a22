# The messages of a Subscribe stream, one level at a time, from the wire (header-only).
#
# telemetryd/ingest/gnmi/gnmi_wire_reference.py draws them. What comes twice and would have to be merged, groups, and
# deprecated fields are RARE: protobuf's own classes read such a message.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from _cursor cimport Cursor, left
from _protobuf cimport (FIXED32, FIXED64, GROUP, SPAN, VARINT, read_fixed32, read_fixed64, read_span, read_tag,
                        read_varint, skip_field)
from _text cimport is_utf8

cdef enum:                  # what became of what was to be read
    GOOD = 0
    NOT_PROTOBUF = 1        # refuse the message
    NOT_TEXT = 2            # refuse the message: a text that is not UTF-8
    RARE = 3                # the twin has to read the message
    FULL = 4                # the batch is full
    NOT_JSON = 5            # refuse the value
    RARE_JSON = 6           # Python has to read the value

cdef enum:                  # fields of SubscribeResponse
    UPDATE = 1
    SYNC_RESPONSE = 3

cdef enum:                  # fields of TypedValue
    STRING_VAL = 1
    INT_VAL = 2
    UINT_VAL = 3
    BOOL_VAL = 4
    BYTES_VAL = 5
    FLOAT_VAL = 6
    DECIMAL_VAL = 7
    LEAFLIST_VAL = 8
    ANY_VAL = 9
    JSON_VAL = 10
    JSON_IETF_VAL = 11
    ASCII_VAL = 12
    PROTO_BYTES = 13
    DOUBLE_VAL = 14


cdef struct Response:
    uint32_t field          # 0 for none
    Cursor update


cdef struct Notification:
    int64_t timestamp
    Cursor fields           # updates and deletes are read one by one
    Cursor prefix
    uint64_t updates
    uint64_t deletes
    bint atomic


cdef struct Update:
    Cursor path
    Cursor value
    uint32_t duplicates


cdef struct Typed:
    uint32_t field          # 0 for none
    uint32_t precision      # of a decimal
    uint64_t value          # a number: two's complement, a double's bits
    Cursor span             # octets


cdef inline int read_response(Cursor c, Response *found) noexcept nogil:
    cdef Cursor span
    cdef uint32_t tag
    cdef uint64_t value
    found.field = 0
    while left(c):
        if not read_tag(&c, &tag):
            return NOT_PROTOBUF
        if tag == (UPDATE << 3 | SPAN) or tag == (SYNC_RESPONSE << 3 | VARINT):
            if found.field:
                return RARE
            found.field = tag >> 3
            if not (read_span(&c, &found.update) if found.field == UPDATE else read_varint(&c, &value)):
                return NOT_PROTOBUF
        elif tag == (5 << 3 | SPAN):  # an extension
            if not read_span(&c, &span):
                return NOT_PROTOBUF
        elif tag == (4 << 3 | SPAN) or tag & 7 == GROUP:
            return RARE
        elif not skip_field(&c, tag):
            return NOT_PROTOBUF
    return GOOD


cdef inline int read_notification(Cursor c, Notification *found) noexcept nogil:
    cdef Cursor span
    cdef uint32_t tag
    cdef uint64_t value
    found.fields, found.timestamp, found.atomic = c, 0, False
    found.updates = found.deletes = 0
    found.prefix.at = found.prefix.end = NULL
    while left(c):
        if not read_tag(&c, &tag):
            return NOT_PROTOBUF
        if tag == (4 << 3 | SPAN) or tag == (5 << 3 | SPAN) or tag == (2 << 3 | SPAN):
            if not read_span(&c, &span):
                return NOT_PROTOBUF
            if tag == (4 << 3 | SPAN):
                found.updates += 1
            elif tag == (5 << 3 | SPAN):
                found.deletes += 1
            elif found.prefix.at is not NULL:
                return RARE
            else:
                found.prefix = span
        elif tag == (1 << 3 | VARINT) or tag == (6 << 3 | VARINT):
            if not read_varint(&c, &value):
                return NOT_PROTOBUF
            if tag == (1 << 3 | VARINT):
                found.timestamp = <int64_t>value
            else:
                found.atomic = value != 0
        elif tag & 7 == GROUP:
            return RARE
        elif not skip_field(&c, tag):
            return NOT_PROTOBUF
    if left(found.prefix) and not (found.updates or found.deletes or found.atomic):
        return RARE  # nothing else would look at the prefix
    return GOOD


cdef inline bint next_span(Cursor *c, uint32_t wanted, Cursor *span) noexcept nogil:
    """Go on to a field of a notification that was read."""
    cdef uint32_t tag
    while left(c[0]) and read_tag(c, &tag):
        if tag == (wanted << 3 | SPAN):
            return read_span(c, span)
        if not skip_field(c, tag):
            return False
    return False


cdef inline int read_update(Cursor c, Update *found) noexcept nogil:
    cdef uint32_t tag
    cdef uint64_t value
    cdef Cursor *span
    found.path.at = found.path.end = found.value.at = found.value.end = NULL
    found.duplicates = 0
    while left(c):
        if not read_tag(&c, &tag):
            return NOT_PROTOBUF
        if tag == (1 << 3 | SPAN) or tag == (3 << 3 | SPAN):
            span = &found.path if tag == (1 << 3 | SPAN) else &found.value
            if span.at is not NULL:
                return RARE
            if not read_span(&c, span):
                return NOT_PROTOBUF
        elif tag == (4 << 3 | VARINT):
            if not read_varint(&c, &value):
                return NOT_PROTOBUF
            found.duplicates = <uint32_t>value
        elif tag == (2 << 3 | SPAN) or tag & 7 == GROUP:
            return RARE
        elif not skip_field(&c, tag):
            return NOT_PROTOBUF
    return GOOD


cdef inline int read_decimal(Cursor c, Typed *found) noexcept nogil:
    cdef uint32_t tag
    cdef uint64_t value
    found.value = found.precision = 0
    while left(c):
        if not read_tag(&c, &tag):
            return NOT_PROTOBUF
        if tag == (1 << 3 | VARINT) or tag == (2 << 3 | VARINT):
            if not read_varint(&c, &value):
                return NOT_PROTOBUF
            if tag == (1 << 3 | VARINT):
                found.value = value
            else:
                found.precision = <uint32_t>value
        elif tag & 7 == GROUP:
            return RARE
        elif not skip_field(&c, tag):
            return NOT_PROTOBUF
    return GOOD


cdef inline int read_typed(Cursor c, Typed *found) noexcept nogil:
    cdef uint32_t tag, field, word
    cdef float single
    cdef double number
    found.field = 0
    found.value = 0
    found.span.at = found.span.end = NULL
    while left(c):
        if not read_tag(&c, &tag):
            return NOT_PROTOBUF
        field = tag >> 3
        if tag & 7 == GROUP or tag == (LEAFLIST_VAL << 3 | SPAN) or tag == (ANY_VAL << 3 | SPAN):
            return RARE
        if tag & 7 == SPAN and (field == STRING_VAL or field == BYTES_VAL or field == DECIMAL_VAL
                                or JSON_VAL <= field <= PROTO_BYTES):
            if not read_span(&c, &found.span):
                return NOT_PROTOBUF
        elif tag & 7 == VARINT and INT_VAL <= field <= BOOL_VAL:
            if not read_varint(&c, &found.value):
                return NOT_PROTOBUF
        elif tag == (DOUBLE_VAL << 3 | FIXED64):
            if not read_fixed64(&c, &found.value):
                return NOT_PROTOBUF
        elif tag == (FLOAT_VAL << 3 | FIXED32):
            if not read_fixed32(&c, &word):
                return NOT_PROTOBUF
            memcpy(&single, &word, sizeof(single))
            number = single
            memcpy(&found.value, &number, sizeof(number))
        else:
            if not skip_field(&c, tag):
                return NOT_PROTOBUF
            continue
        if found.field:
            return RARE
        found.field = field
    if (found.field == STRING_VAL or found.field == ASCII_VAL) and not is_utf8(found.span.at, found.span.end):
        return NOT_TEXT
    return read_decimal(found.span, found) if found.field == DECIMAL_VAL else GOOD
