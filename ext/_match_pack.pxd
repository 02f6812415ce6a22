# Packing of telemetryd.classify.tables.Tables into the records of ext/_match_tables.pxd (header-only).
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free

from _match_tables cimport EMPTY, MOST_DENSE, ORDER_BITS, RULES, Device, Leaf, Lookup, Port, Rules, Slot

import numpy as np

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t alignment, size_t size)

cdef enum:
    ALL_KEYS = 0x7FFFFFFF       # an interval that no key reaches: keys have 24 bits


cdef inline const uint8_t *u8(const uint8_t[::1] view) noexcept:
    return &view[0] if view.shape[0] else NULL


cdef inline const uint16_t *u16(const uint16_t[::1] view) noexcept:
    return &view[0] if view.shape[0] else NULL


cdef inline const uint32_t *u32(const uint32_t[::1] view) noexcept:
    return &view[0] if view.shape[0] else NULL


cdef inline const uint64_t *u64(const uint64_t[::1] view) noexcept:
    return &view[0] if view.shape[0] else NULL


cdef inline int bind_tables(Lookup *t, tables) except -1:
    """Point into the arrays of a Tables object, and pack the rest; `free_tables` gives that back."""
    ranks, orders = np.unique(np.append(np.uint32(0), tables.rule_ranks), return_inverse=True)
    orders = orders[1:].astype(np.uint32)
    if len(ranks) > 1 << ORDER_BITS or tables.leaf_zone.max() > 0xFFFF:
        raise ValueError("more zones or kinds of rules than there are numbers for")
    t.nodes = u32(tables.trie_nodes.reshape(-1))
    t.roots = u32(tables.trie_roots.reshape(-1))
    t.host_keys = u64(tables.host_keys.reshape(-1))
    t.host_leaves = u32(tables.host_leaves)
    t.host_mask = len(tables.host_leaves) - 1
    t.application_owner = u32(tables.application_owner)
    t.agent_keys = u64(tables.agent_keys.reshape(-1))
    t.agent_devices = u32(tables.agent_devices)
    t.agent_mask = len(tables.agent_devices) - 1
    t.n_devices = len(tables.device_names)
    t.vlan_instance = u32(tables.vlan_instance)
    t.dscp_class = u8(tables.dscp_class)
    t.interfaces = hash_slots(tables.interface_keys, tables.interface_rows)
    t.interface_mask = len(tables.interface_rows) - 1
    t.sources = hash_slots(tables.source_keys, tables.source_interfaces)
    t.source_mask = len(tables.source_interfaces) - 1
    pack_leaves(t, tables.leaf_department, tables.leaf_zone, tables.leaf_place)
    pack_rules(t, tables.rule_starts, tables.rule_keys, tables.rule_applications, orders, tables.leaf_group)
    pack_ports(t, tables.interface_link, tables.interface_metering, tables.interface_instance,
               tables.interface_faces, tables.interface_counts, tables.interface_labelled)
    pack_devices(t, tables.device_sampling, tables.interface_keys, tables.interface_rows)
    return 0


cdef inline void free_tables(Lookup *t) noexcept:
    PyMem_Free(t.leaves)
    free(t.rules)
    PyMem_Free(t.devices)
    PyMem_Free(t.dense)
    PyMem_Free(t.ports)
    PyMem_Free(t.interfaces)
    PyMem_Free(t.sources)


cdef inline void *zeros(Py_ssize_t count, size_t size) except NULL:
    cdef void *memory = PyMem_Calloc(max(1, count), size)
    if memory == NULL:
        raise MemoryError()
    return memory


cdef inline Slot *hash_slots(const uint64_t[::1] keys, const uint32_t[::1] values) except NULL:
    """Lay keys and values of a hash table side by side."""
    cdef Py_ssize_t slot
    cdef Slot *slots = <Slot *>zeros(keys.shape[0], sizeof(Slot))
    for slot in range(keys.shape[0]):
        slots[slot].key = keys[slot]
        slots[slot].value = values[slot]
    return slots


cdef inline int pack_rules(
    Lookup *t, const uint32_t[::1] starts, const uint32_t[::1] keys, const uint32_t[::1] applications,
    const uint32_t[::1] orders, const uint32_t[::1] group
) except -1:
    """Lay the intervals of every group out in records, filled up with intervals that no key reaches.

    A group without an interval gets one that says nothing, so that any key is at or above the first.
    """
    cdef Py_ssize_t g, row, i, leaf, total = 0, groups = starts.shape[0] - 1
    cdef Rules *record
    for g in range(groups):
        total += records_of(starts[g + 1] - starts[g])
    t.rules = <Rules *>aligned_alloc(sizeof(Rules), max(1, total) * sizeof(Rules))
    cdef uint32_t *first = <uint32_t *>zeros(groups, sizeof(uint32_t))
    if t.rules == NULL:
        raise MemoryError()
    for row in range(total):
        for i in range(RULES):
            t.rules[row].starts[i] = ALL_KEYS
            t.rules[row].rules[i] = 0
    total = 0
    for g in range(groups):
        first[g] = total
        t.rules[total].starts[0] = 0
        for row in range(starts[g + 1] - starts[g]):
            record = &t.rules[total + row // RULES]
            record.starts[row % RULES] = keys[starts[g] + row]
            record.rules[row % RULES] = applications[starts[g] + row] << ORDER_BITS | orders[starts[g] + row]
        total += records_of(starts[g + 1] - starts[g])
    for leaf in range(group.shape[0]):
        t.leaves[leaf].first = first[group[leaf]]
        t.leaves[leaf].records = records_of(starts[group[leaf] + 1] - starts[group[leaf]])
    PyMem_Free(first)
    return 0


cdef inline uint32_t records_of(uint32_t intervals) noexcept:
    return max(1, (intervals + RULES - 1) // RULES)


cdef inline int pack_leaves(
    Lookup *t, const uint32_t[::1] department, const uint32_t[::1] zone, const uint8_t[::1] place
) except -1:
    cdef Py_ssize_t row
    t.leaves = <Leaf *>zeros(place.shape[0], sizeof(Leaf))
    for row in range(place.shape[0]):
        t.leaves[row].department = department[row]
        t.leaves[row].zone = <uint16_t>zone[row]
        t.leaves[row].place = place[row]
    return 0


cdef inline int pack_ports(
    Lookup *t, const uint32_t[::1] link, const uint32_t[::1] metering, const uint32_t[::1] instance,
    const uint8_t[::1] faces, const uint8_t[::1] counts, const uint8_t[::1] labelled
) except -1:
    cdef Py_ssize_t row
    t.ports = <Port *>zeros(link.shape[0], sizeof(Port))
    for row in range(link.shape[0]):
        t.ports[row].link = link[row]
        t.ports[row].metering = metering[row]
        t.ports[row].instance = instance[row]
        t.ports[row].faces = faces[row]
        t.ports[row].counts = counts[row]
        t.ports[row].labelled = labelled[row]
    return 0


cdef inline int pack_devices(
    Lookup *t, const uint8_t[::1] sampling, const uint64_t[::1] keys, const uint32_t[::1] rows
) except -1:
    """Lay the ports of each device side by side by their ifIndex, as far as those are small."""
    cdef Py_ssize_t slot, total = 0
    cdef uint32_t device, if_index
    t.devices = <Device *>zeros(t.n_devices + 1, sizeof(Device))
    for slot in range(keys.shape[0]):
        device, if_index = <uint32_t>(keys[slot] >> 32), <uint32_t>keys[slot]
        if keys[slot] != EMPTY and if_index < MOST_DENSE:
            t.devices[device].span = max(t.devices[device].span, if_index + 1)
    for device in range(t.n_devices):
        t.devices[device].sampling = sampling[device]
        t.devices[device].first = total
        total += t.devices[device].span
    t.dense = <uint32_t *>zeros(total, sizeof(uint32_t))
    for slot in range(keys.shape[0]):
        device, if_index = <uint32_t>(keys[slot] >> 32), <uint32_t>keys[slot]
        if keys[slot] != EMPTY and if_index < MOST_DENSE:
            t.dense[t.devices[device].first + if_index] = rows[slot]
    return 0
