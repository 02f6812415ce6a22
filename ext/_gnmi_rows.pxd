# Rows of telemetryd/schema.py's UPDATE_COLUMNS, and what is counted besides (header-only).
#
# A message that one batch cannot hold is read again for the next one: `step` numbers its rows and counts, of which
# the first `skip` are in an earlier batch.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from _cursor cimport Cursor, left
from _gnmi_message cimport FULL, GOOD
from _spellings cimport Spelling

cdef enum:                  # counts, in the order of the twin's COUNTS
    MESSAGES
    NOTIFICATIONS
    UPDATES
    DELETES
    SYNCS
    EMPTY_NOTIFICATIONS
    DUPLICATES
    VALUELESS
    ERRORS
    MALFORMED
    NOT_UTF8
    BAD_JSON
    BAD_VALUE
    VALUE_TOO_LONG
    OVERFLOW
    BAD_PATH
    PATH_TOO_LONG
    ANNOTATION
    TIMESTAMP_MISSING
    TIMESTAMP_RESCALED
    TIMESTAMP_AHEAD
    COUNTS

cdef enum:                  # ValueKind
    INT = 1
    UINT = 2
    BOOL = 3
    DOUBLE = 4
    TEXT = 5
    BYTES = 6
    LIST = 7
    EMPTY = 8
    DELETE = 16
    REPLACE = 17
    SYNC = 18

cdef enum:
    BINS = 32               # of the histogram of intervals
    LONGEST_VALUE = 65536
    UNASKED = 0xFFFF


cdef struct Rows:
    uint32_t *target
    uint32_t *path
    int64_t *ts_ns
    int64_t *received_ns
    uint8_t *kind
    uint8_t *flags
    uint64_t *value
    uint8_t *text
    size_t n
    size_t capacity
    size_t text_n
    size_t text_capacity
    uint64_t step
    uint64_t skip
    uint64_t[COUNTS] counted
    int64_t now_ns          # time of reception of what is being read
    uint32_t number         # of the target
    # Of each subscription: bins a ns, 0 where it asks for no interval; intervals between values of the same leaf.
    const double *bins_a_ns
    int64_t *intervals
    int64_t *sum_ns
    int64_t *most_ns
    int64_t *histogram


cdef struct Place:          # of what is being read
    uint32_t spelling       # 0: left out
    int64_t ts_ns
    uint8_t flags


cdef struct Mark:           # what a refusal goes back to
    size_t n
    size_t text_n
    uint64_t step
    uint64_t[COUNTS] counted


cdef inline void set_mark(const Rows *rows, Mark *mark) noexcept nogil:
    mark.n, mark.text_n, mark.step = rows.n, rows.text_n, rows.step
    memcpy(mark.counted, rows.counted, sizeof(mark.counted))


cdef inline void go_back(Rows *rows, const Mark *mark) noexcept nogil:
    rows.n, rows.text_n, rows.step = mark.n, mark.text_n, mark.step
    memcpy(rows.counted, mark.counted, sizeof(mark.counted))


cdef inline void count(Rows *rows, int what, uint64_t number) noexcept nogil:
    """Count something of a message, once though it comes in parts."""
    rows.step += 1
    if rows.step > rows.skip:
        rows.counted[what] += number


cdef inline size_t pass_rows(Rows *rows, size_t number) noexcept nogil:
    """Pass over those of the next rows and counts, one step each, that earlier batches have; return how many."""
    cdef uint64_t passed = rows.skip - rows.step if rows.skip > rows.step else 0
    if passed > number:
        passed = number
    rows.step += passed
    return <size_t>passed


cdef inline void measure(Rows *rows, Spelling *spelling, int64_t ts_ns) noexcept nogil:
    """Take note of how long after the leaf's last value this one is."""
    cdef int64_t passed_ns = ts_ns - spelling.last_ns
    cdef bint is_first = spelling.last_ns == 0
    cdef size_t of = spelling.subscription
    cdef double place
    if passed_ns <= 0:
        return
    spelling.last_ns = ts_ns
    if is_first or of == UNASKED or rows.bins_a_ns[of] == 0:
        return
    rows.intervals[of] += 1
    rows.sum_ns[of] += passed_ns
    rows.most_ns[of] = max(rows.most_ns[of], passed_ns)
    place = <double>passed_ns * rows.bins_a_ns[of]
    rows.histogram[of * BINS + (<size_t>place if place < BINS else BINS - 1)] += 1


cdef inline int emit(Rows *rows, Spelling *spelling, const Place *place, uint8_t kind, uint64_t value) noexcept nogil:
    """Add a row, unless an earlier batch has it; FULL where there is no room."""
    cdef size_t row = rows.n
    if rows.step < rows.skip:
        rows.step += 1
        return GOOD
    if row >= rows.capacity:
        return FULL
    rows.step += 1
    rows.n += 1
    rows.target[row], rows.path[row] = rows.number, spelling.path
    rows.ts_ns[row], rows.received_ns[row] = place.ts_ns, rows.now_ns
    rows.kind[row], rows.flags[row], rows.value[row] = kind, place.flags, value
    if kind < DELETE:
        rows.counted[UPDATES] += 1
        measure(rows, spelling, place.ts_ns)
    elif kind == DELETE:
        rows.counted[DELETES] += 1
    return GOOD


cdef inline int emit_octets(
    Rows *rows, Spelling *spelling, const Place *place, uint8_t kind, Cursor octets
) noexcept nogil:
    """Add a row whose value is octets."""
    cdef size_t n = left(octets), start = rows.text_n
    cdef int status
    if n > LONGEST_VALUE:
        count(rows, VALUE_TOO_LONG, 1)
        return GOOD
    if rows.step >= rows.skip and start + n > rows.text_capacity:
        return FULL
    status = emit(rows, spelling, place, kind, start | <uint64_t>n << 32)
    if status == GOOD and rows.step > rows.skip and n:
        memcpy(rows.text + start, octets.at, n)
        rows.text_n += n
    return status
