# The spellings of paths that a gNMI target uses, in a hash table that keeps their octets (header-only).
#
# A spelling is some octets below another one: a prefix's message, a path's message below a prefix, the name of a JSON
# object's member below the path of the object. Spelling 0 is the root, which nothing is looked up for.
#
# A target repeats itself: after one spelling mostly comes the one that came after it the last time. It is compared
# before anything is hashed, and lies beside the last one in memory.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy

from _hash cimport hash_octets, mix

cdef enum:
    PREFIX = 1
    PATH = 2
    MEMBER = 3
    NUMBER_OF_PATH = 4     # the octets are a path's number: it was found out elsewhere


cdef struct Spelling:
    uint64_t hash
    int64_t last_ns         # time of the last value
    size_t offset           # of the octets
    uint32_t length
    uint32_t above
    uint32_t path           # its number, 0 for none
    uint32_t next           # what came after it the last time
    uint16_t subscription
    uint8_t kind
    uint8_t hint            # or why it has no number


cdef struct Table:
    Spelling *spellings     # the first one is the root
    uint32_t *index         # open addressing, half full at most
    uint8_t *octets
    uint64_t seed
    uint64_t mask           # of the index
    size_t octets_n
    size_t octets_room
    size_t most_octets
    uint32_t n
    uint32_t room
    uint32_t most
    uint32_t last           # what was found last


cdef inline bint begin_table(Table *table, uint64_t seed, uint32_t most, size_t most_octets) noexcept nogil:
    """Make an empty table; False where there is no memory."""
    table.seed, table.most, table.most_octets = seed, most, most_octets
    table.n, table.room, table.mask = 1, 64, 127
    table.octets_n, table.octets_room, table.last = 0, 4096, 0
    table.spellings = <Spelling *>calloc(table.room, sizeof(Spelling))
    table.index = <uint32_t *>calloc(table.mask + 1, sizeof(uint32_t))
    table.octets = <uint8_t *>calloc(table.octets_room, 1)
    return table.spellings is not NULL and table.index is not NULL and table.octets is not NULL


cdef inline void end_table(Table *table) noexcept nogil:
    free(table.spellings)
    free(table.index)
    free(table.octets)


cdef inline uint32_t find_spelling(
    Table *table, uint32_t above, uint8_t kind, const uint8_t *p, size_t n, uint64_t *h
) noexcept nogil:
    """Return the number of a spelling; 0 where it is not there, and then its hash."""
    cdef uint32_t last = table.last, number = table.spellings[last].next
    if not is_spelling(table, &table.spellings[number], above, kind, p, n):
        number = search_spelling(table, above, kind, p, n, h)
        if number == 0:
            return 0
        table.spellings[last].next = number
    table.last = number
    return number


cdef inline bint is_spelling(
    const Table *table, const Spelling *one, uint32_t above, uint8_t kind, const uint8_t *p, size_t n
) noexcept nogil:
    return (
        one.length == n and one.above == above and one.kind == kind
        and (n == 0 or memcmp(table.octets + one.offset, p, n) == 0)
    )


cdef inline uint32_t search_spelling(
    const Table *table, uint32_t above, uint8_t kind, const uint8_t *p, size_t n, uint64_t *h
) noexcept nogil:
    cdef uint64_t at
    cdef uint32_t number
    h[0] = hash_octets(table.seed + mix(<uint64_t>above << 3 | kind), p, n)
    at = h[0] & table.mask
    while True:
        number = table.index[at]
        if number == 0 or (
            table.spellings[number].hash == h[0]
            and is_spelling(table, &table.spellings[number], above, kind, p, n)
        ):
            return number
        at = (at + 1) & table.mask


cdef inline bint has_room(const Table *table, size_t octets) noexcept nogil:
    """Tell whether the target may have one more spelling of so many octets."""
    return table.n < table.most and table.octets_n + octets <= table.most_octets


cdef inline uint32_t add_spelling(
    Table *table, uint64_t h, uint32_t above, uint8_t kind, const uint8_t *p, size_t n
) noexcept nogil:
    """Add a spelling that is not there and for which there is room; 0 where there is no memory."""
    cdef void *larger
    cdef size_t room
    cdef uint64_t at
    cdef uint32_t number
    if table.n == table.room:
        larger = realloc(table.spellings, 2 * <size_t>table.room * sizeof(Spelling))
        if larger is NULL:
            return 0
        table.spellings, table.room = <Spelling *>larger, 2 * table.room
    if table.octets_n + n > table.octets_room:
        room = 2 * (table.octets_room + n)
        larger = realloc(table.octets, room)
        if larger is NULL:
            return 0
        table.octets, table.octets_room = <uint8_t *>larger, room
    if 2 * <uint64_t>(table.n + 1) > table.mask:
        larger = calloc(2 * (table.mask + 1), sizeof(uint32_t))
        if larger is NULL:
            return 0
        free(table.index)
        table.index, table.mask = <uint32_t *>larger, 2 * table.mask + 1
        for number in range(1, table.n):
            at = table.spellings[number].hash & table.mask
            while table.index[at]:
                at = (at + 1) & table.mask
            table.index[at] = number
    number = table.n
    table.n += 1
    table.spellings[number].hash, table.spellings[number].last_ns = h, 0
    table.spellings[number].offset, table.spellings[number].length = table.octets_n, <uint32_t>n
    table.spellings[number].above, table.spellings[number].kind = above, kind
    table.spellings[number].next = 0
    table.spellings[table.last].next = number
    table.last = number
    table.spellings[number].path, table.spellings[number].hint, table.spellings[number].subscription = 0, 0, 0
    memcpy(table.octets + table.octets_n, p, n)
    table.octets_n += n
    at = h & table.mask
    while table.index[at]:
        at = (at + 1) & table.mask
    table.index[at] = number
    return number
