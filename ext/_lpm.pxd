# Longest-prefix match over the 8-bit-stride trie of telemetryd.classify.tables (header-only).
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    CHILD = 0x80000000
    NODE_BITS = 8


cdef inline void step_ipv4(
    const uint32_t *nodes, const uint32_t *addresses, uint32_t *entries, uint32_t n, int shift
) noexcept nogil:
    """Take n walks a level down. One that has ended reads node 0 and keeps its entry, without a branch."""
    cdef uint32_t i, entry, is_child, below
    for i in range(n):
        entry = entries[i]
        is_child = 0 - (entry >> 31)
        below = nodes[(<uint64_t>(entry & is_child & ~<uint32_t>CHILD) << NODE_BITS) + ((addresses[i] >> shift) & 0xFF)]
        entries[i] = entry ^ ((entry ^ below) & is_child)


cdef inline void lookup_ipv4(
    const uint32_t *nodes, const uint32_t *addresses, uint32_t *entries, uint32_t n
) noexcept nogil:
    """Look n addresses up; `entries` holds the roots with CHILD set, then the leaves.

    Level by level for all of them: what one waits for overlaps with the others.
    """
    step_ipv4(nodes, addresses, entries, n, 24)
    step_ipv4(nodes, addresses, entries, n, 16)
    step_ipv4(nodes, addresses, entries, n, 8)
    step_ipv4(nodes, addresses, entries, n, 0)


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
