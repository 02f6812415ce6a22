# Longest-prefix match over the 8-bit-stride trie of telemetryd.classify.tables (header-only).
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    CHILD = 0x80000000
    NODE_BITS = 8


cdef inline uint32_t lookup_ipv4(const uint32_t *nodes, uint32_t root, uint32_t address) noexcept nogil:
    # Four octets, four levels, no branch: a walk that has ended reads node 0 and keeps its entry.
    cdef uint32_t entry = nodes[(<uint64_t>root << NODE_BITS) + (address >> 24)]
    cdef uint32_t below
    below = nodes[(<uint64_t>(entry ^ CHILD if entry & CHILD else 0) << NODE_BITS) + ((address >> 16) & 0xFF)]
    entry = below if entry & CHILD else entry
    below = nodes[(<uint64_t>(entry ^ CHILD if entry & CHILD else 0) << NODE_BITS) + ((address >> 8) & 0xFF)]
    entry = below if entry & CHILD else entry
    below = nodes[(<uint64_t>(entry ^ CHILD if entry & CHILD else 0) << NODE_BITS) + (address & 0xFF)]
    return below if entry & CHILD else entry


cdef inline uint32_t lookup_ipv6(const uint32_t *nodes, uint32_t root, uint64_t hi, uint64_t lo) noexcept nogil:
    cdef uint32_t entry = root | <uint32_t>CHILD
    cdef int shift = 56
    while entry & CHILD and shift >= 0:
        entry = nodes[(<uint64_t>(entry ^ <uint32_t>CHILD) << NODE_BITS) + ((hi >> shift) & 0xFF)]
        shift -= 8
    shift = 56
    while entry & CHILD and shift >= 0:
        entry = nodes[(<uint64_t>(entry ^ <uint32_t>CHILD) << NODE_BITS) + ((lo >> shift) & 0xFF)]
        shift -= 8
    return entry
