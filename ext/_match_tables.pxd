# The lookup tables of ext/match.pyx and how they are asked (header-only).
#
# Their layout is drawn in telemetryd/classify/tables.py; what is looked up together is packed into one record
# on binding (ext/_match_pack.pxd).
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from _hash cimport mix
from _lpm cimport lookup_ipv4, lookup_ipv6

cdef enum:
    RULES = 8                   # intervals of a record of rules
    ORDER_BITS = 12             # of a packed rule: application above, order of its rank below
    MOST_DENSE = 4096           # ifIndexes of a device that are looked up without hashing

cdef extern from *:
    """
    #define TELEMETRYD_EMPTY UINT64_MAX /* telemetryd.classify.tables.EMPTY */

    /* How many of eight numbers are greater than a key; the vectors of GCC and Clang, as the machine has them. */
    typedef int32_t telemetryd_four __attribute__((vector_size(16), aligned(4)));
    static inline uint32_t telemetryd_above(const int32_t *numbers, int32_t key)
    {
        const telemetryd_four *fours = (const telemetryd_four *)numbers, keys = {key, key, key, key};
        telemetryd_four above = (fours[0] > keys) + (fours[1] > keys);
        return (uint32_t)-(above[0] + above[1] + above[2] + above[3]);
    }
    """
    const uint64_t EMPTY "TELEMETRYD_EMPTY"
    uint32_t telemetryd_above(const int32_t *numbers, int32_t key) noexcept nogil


cdef struct Leaf:
    uint32_t department
    uint16_t zone
    uint8_t place
    uint8_t unused
    uint32_t first              # record of its rules
    uint32_t records


cdef struct Port:
    uint32_t link
    uint32_t metering
    uint32_t instance
    uint8_t faces
    uint8_t counts
    uint8_t labelled
    uint8_t unused


cdef struct Rules:              # a cache line; those of one group follow each other
    int32_t starts[RULES]       # protocol << 16 | port, ascending
    uint32_t rules[RULES]       # application << ORDER_BITS | order of the rank, 0 where there is no rule


cdef struct Device:
    uint32_t first              # its row for ifIndex 0 in `dense`
    uint32_t span               # ifIndexes below this are there
    uint32_t sampling


cdef struct Slot:               # of a hash table
    uint64_t key
    uint64_t value


cdef struct Lookup:
    # Pointers into the arrays of one Tables object, which the classifier keeps alive, and its own records.
    const uint32_t *nodes
    const uint32_t *roots
    Leaf *leaves
    const uint64_t *host_keys
    const uint32_t *host_leaves
    uint64_t host_mask
    Rules *rules
    const uint32_t *application_owner
    const uint64_t *agent_keys
    const uint32_t *agent_devices
    uint64_t agent_mask
    uint32_t n_devices          # the record behind the last one is that of agents nobody registered
    Device *devices
    uint32_t *dense
    Port *ports
    Slot *interfaces
    uint64_t interface_mask
    Slot *sources
    uint64_t source_mask
    const uint32_t *vlan_instance
    const uint8_t *dscp_class


cdef inline uint32_t pick(uint32_t condition, uint32_t yes, uint32_t no) noexcept nogil:
    """Choose without a branch; `condition` is 0 or 1."""
    return no ^ ((yes ^ no) & (0 - condition))


cdef inline uint32_t find(const Slot *slots, uint64_t mask, uint64_t key) noexcept nogil:
    cdef uint64_t slot = mix(key) & mask
    while slots[slot].key != EMPTY:
        if slots[slot].key == key:
            return <uint32_t>slots[slot].value
        slot = (slot + 1) & mask
    return 0


cdef inline uint32_t find_port(const Lookup *t, uint32_t device, uint32_t if_index) noexcept nogil:
    cdef const Device *of = &t.devices[min(device, t.n_devices)]
    if if_index < of.span:
        return t.dense[of.first + if_index]
    return find(t.interfaces, t.interface_mask, <uint64_t>device << 32 | if_index)


cdef inline uint32_t find_address(
    const uint64_t *keys, const uint32_t *rows, uint64_t mask, uint64_t scope, uint64_t hi, uint64_t lo
) noexcept nogil:
    cdef uint64_t slot = mix(mix(hi ^ scope) ^ lo) & mask
    while keys[3 * slot] != EMPTY:
        if keys[3 * slot + 2] == lo and keys[3 * slot + 1] == hi and keys[3 * slot] == scope:
            return rows[slot]
        slot = (slot + 1) & mask
    return 0


cdef inline uint32_t find_ipv6_in(
    const Lookup *t, uint32_t instance, uint8_t version, uint64_t hi, uint64_t lo
) noexcept nogil:
    cdef uint32_t leaf = find_address(
        t.host_keys, t.host_leaves, t.host_mask, <uint64_t>instance << 8 | version, hi, lo)
    return leaf if leaf else lookup_ipv6(t.nodes, t.roots[2 * instance + 1], hi, lo)


cdef inline uint32_t find_ipv6(
    const Lookup *t, uint32_t instance, uint8_t version, uint64_t hi, uint64_t lo
) noexcept nogil:
    cdef uint32_t leaf = 0
    if instance:
        leaf = find_ipv6_in(t, instance, version, hi, lo)
    return leaf if leaf else find_ipv6_in(t, 0, version, hi, lo)


cdef inline uint32_t find_rule(const Lookup *t, const Leaf *leaf, int32_t key) noexcept nogil:
    """Return the rule of the last interval that starts at or below the key: as many as start there, less one."""
    cdef const Rules *record = t.rules + leaf.first
    cdef const Rules *last = record + leaf.records - 1
    while record < last and record[1].starts[0] <= key:
        record += 1
    return record.rules[RULES - 1 - telemetryd_above(record.starts, key)]
