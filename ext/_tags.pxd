# A fixed hash table of data_format words, with a count for each (header-only).
from libc.stdint cimport uint32_t, uint64_t


cdef enum:
    TAG_SLOTS = 1024               # open addressing; at most half full, so that a probe ends
    MOST_TAGS_KEPT = 512


cdef struct TagTable:
    uint32_t tags[TAG_SLOTS]
    uint64_t counts[TAG_SLOTS]     # 0: the slot is free
    uint32_t used


cdef inline uint32_t find_slot(const TagTable *table, uint32_t tag) noexcept nogil:
    """Return the slot that holds the tag, or the free one where it belongs."""
    cdef uint32_t slot = (tag * <uint32_t>0x9E3779B1) >> 22
    while table.counts[slot] != 0 and table.tags[slot] != tag:
        slot = (slot + 1) & (TAG_SLOTS - 1)
    return slot


cdef inline bint has_tag(const TagTable *table, uint32_t tag) noexcept nogil:
    return table.counts[find_slot(table, tag)] != 0


cdef inline bint count_tag(TagTable *table, uint32_t tag, uint32_t most) noexcept nogil:
    """Count the tag; False where it is new and the table already holds `most` (<= MOST_TAGS_KEPT)."""
    cdef uint32_t slot = find_slot(table, tag)
    if table.counts[slot] == 0:
        if table.used >= most:
            return False
        table.used += 1
        table.tags[slot] = tag
    table.counts[slot] += 1
    return True
