# Classification of samples: interfaces, ends, application, direction.
# The specification is its Python twin, telemetryd/classify/reference.py; the tables' layout is drawn in
# telemetryd/classify/tables.py. No Python object in the passes over the rows of a batch.
#
# Rows are taken in blocks, in three passes: ports and routing instance, longest-prefix match of both ends,
# everything else. Each pass is a chain of a few dependent loads, short enough for the processor to overlap
# those of many rows. What is looked up together is packed into one record (Leaf, Port, Rule) on binding.
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from _hash cimport mix
from _lpm cimport lookup_ipv4, lookup_ipv6

import numpy as np

cdef enum:
    MAX_AGENTS = 4096
    AGENT_SLOTS = 16384          # load factor at most a quarter
    BLOCK = 128
    LANES = 8                   # rule intervals compared at once; a group's list is padded to a multiple
    MAX_LINKS = 65536
    LINK_SLOTS = 262144

    INTERNAL_INTERFACE = 0x3FFFFFFF

    INSIDE = 1                   # Place
    INTERNET = 2
    UNREGISTERED = 0
    COUNT_EXIT = 1               # Counts
    COUNT_UPLINK = 2
    COUNT_INTERNAL = 4
    COUNT_ALL = 7
    FACES_INSIDE = 2             # Faces
    BOTH = 2                     # Sampling

    DIRECTION_UNKNOWN = 0        # Direction
    INBOUND = 1
    OUTBOUND = 2
    INTERNAL = 3
    TRANSIT = 4

    APPLICATION_LABELLED = 1
    NEITHER = 0
    SOURCE = 1
    DESTINATION = 2

cdef uint64_t EMPTY = 0xFFFFFFFFFFFFFFFF


cdef struct Agent:
    uint64_t version
    uint64_t hi
    uint64_t lo


cdef struct Leaf:
    uint32_t department
    uint16_t zone
    uint8_t place
    uint8_t unused
    uint32_t first              # rule interval, in the padded list
    uint32_t lanes              # LANES of them at a time


cdef struct Port:
    uint32_t link
    uint32_t metering
    uint32_t instance
    uint8_t faces
    uint8_t counts
    uint8_t labelled
    uint8_t unused


cdef struct Rule:
    uint32_t application
    uint32_t rank


cdef struct Slot:               # of a hash table
    uint64_t key
    uint64_t value


cdef struct Place:              # what the first passes find out about a row
    uint32_t device
    uint32_t input_row
    uint32_t output_row
    uint32_t mapped
    uint32_t instance
    uint32_t source
    uint32_t destination
    uint8_t count_in
    uint8_t count_out
    uint8_t labelled


cdef struct Lookup:
    # Pointers into the arrays of one Tables object, which the classifier keeps alive, and its own records.
    const uint32_t *nodes
    const uint32_t *roots
    Leaf *leaves
    const uint64_t *host_keys
    const uint32_t *host_leaves
    uint64_t host_mask
    uint32_t *rule_keys
    Rule *rules
    const uint32_t *application_owner
    const uint64_t *agent_keys
    const uint32_t *agent_devices
    uint64_t agent_mask
    uint32_t devices
    const uint8_t *device_sampling
    Port *ports
    Slot *interfaces
    uint64_t interface_mask
    Slot *sources
    uint64_t source_mask
    const uint32_t *vlan_instance
    const uint8_t *dscp_class


cdef struct Rows:
    const uint32_t *datagram
    const uint32_t *source_class
    const uint32_t *source_index
    const uint8_t *input_format
    const uint32_t *input
    const uint8_t *output_format
    const uint32_t *output
    const uint16_t *vlan_id
    const uint64_t *source_hi
    const uint64_t *source_lo
    const uint64_t *destination_hi
    const uint64_t *destination_lo
    const uint8_t *ip_version
    const uint8_t *protocol
    const uint8_t *dscp
    const uint16_t *source_port
    const uint16_t *destination_port
    uint32_t *link_in
    uint32_t *link_out
    uint32_t *metering_point
    uint8_t *direction
    uint32_t *department
    uint32_t *peer_department
    uint32_t *application
    uint32_t *source_zone
    uint32_t *destination_zone
    uint8_t *service_class


cdef const uint8_t *_u8(const uint8_t[::1] view) noexcept:
    return &view[0] if view.shape[0] else NULL


cdef const uint16_t *_u16(const uint16_t[::1] view) noexcept:
    return &view[0] if view.shape[0] else NULL


cdef const uint32_t *_u32(const uint32_t[::1] view) noexcept:
    return &view[0] if view.shape[0] else NULL


cdef const uint64_t *_u64(const uint64_t[::1] view) noexcept:
    return &view[0] if view.shape[0] else NULL


cdef inline uint32_t find(const Slot *slots, uint64_t mask, uint64_t key) noexcept nogil:
    cdef uint64_t slot = mix(key) & mask
    while slots[slot].key != EMPTY:
        if slots[slot].key == key:
            return <uint32_t>slots[slot].value
        slot = (slot + 1) & mask
    return 0


cdef inline bint is_port(uint8_t interface_format, uint32_t value) noexcept nogil:
    return interface_format == 0 and value != 0 and value != INTERNAL_INTERFACE and value != <uint32_t>0xFFFFFFFF


cdef inline uint32_t find_address(
    const uint64_t *keys, const uint32_t *rows, uint64_t mask, uint64_t scope, uint64_t hi, uint64_t lo
) noexcept nogil:
    cdef uint64_t slot = mix(mix(hi ^ scope) ^ lo) & mask
    while keys[3 * slot] != EMPTY:
        if keys[3 * slot + 2] == lo and keys[3 * slot + 1] == hi and keys[3 * slot] == scope:
            return rows[slot]
        slot = (slot + 1) & mask
    return 0


cdef inline uint32_t find_in(
    const Lookup *t, uint32_t instance, uint8_t version, uint64_t hi, uint64_t lo
) noexcept nogil:
    cdef uint32_t leaf
    if version == 4:
        return lookup_ipv4(t.nodes, t.roots[2 * instance], <uint32_t>lo)
    leaf = find_address(t.host_keys, t.host_leaves, t.host_mask, <uint64_t>instance << 8 | version, hi, lo)
    return leaf if leaf else lookup_ipv6(t.nodes, t.roots[2 * instance + 1], hi, lo)


cdef inline uint32_t find_leaf(
    const Lookup *t, uint32_t instance, uint8_t version, uint64_t hi, uint64_t lo
) noexcept nogil:
    cdef uint32_t leaf = 0
    if instance:
        leaf = find_in(t, instance, version, hi, lo)
    return leaf if leaf else find_in(t, 0, version, hi, lo)


cdef inline Rule find_rule(const Lookup *t, const Leaf *leaf, uint32_t key) noexcept nogil:
    # The last interval that starts at or below the key: as many as start there, less one (bisect_right - 1).
    cdef const uint32_t *keys = t.rule_keys + leaf.first
    cdef uint32_t below = 0, lane, i
    cdef Rule none
    for lane in range(leaf.lanes):
        for i in range(LANES):
            below += keys[LANES * lane + i] <= key
    if below == 0:
        none.application = 0
        none.rank = 0
        return none
    return t.rules[leaf.first + below - 1]


cdef class Classifier:
    """See telemetryd.classify.reference.Classifier."""

    cdef Lookup t
    cdef Rows r
    cdef object _keep
    cdef object _datagrams
    cdef object _samples
    cdef object _classes
    cdef Py_ssize_t _datagram_capacity
    cdef const uint64_t *_agent_hi
    cdef const uint64_t *_agent_lo
    cdef const uint8_t *_agent_version
    cdef uint32_t *_agents              # device row per datagram row
    cdef uint32_t _first_link
    cdef Agent *_unknown                # unknown agents by slot number
    cdef uint32_t *_unknown_slots       # hash: slot number + 1
    cdef uint32_t _unknown_count
    cdef uint64_t *_link_keys           # hash of (device, ifIndex)
    cdef uint32_t *_link_codes
    cdef uint64_t *_link_order          # keys in the order of their codes
    cdef uint32_t _link_count

    def __cinit__(self, datagrams, samples, classes, tables):
        self._agents = <uint32_t *>PyMem_Calloc(max(1, datagrams.capacity), sizeof(uint32_t))
        self._unknown = <Agent *>PyMem_Calloc(MAX_AGENTS, sizeof(Agent))
        self._unknown_slots = <uint32_t *>PyMem_Calloc(AGENT_SLOTS, sizeof(uint32_t))
        self._link_keys = <uint64_t *>PyMem_Calloc(LINK_SLOTS, sizeof(uint64_t))
        self._link_codes = <uint32_t *>PyMem_Calloc(LINK_SLOTS, sizeof(uint32_t))
        self._link_order = <uint64_t *>PyMem_Calloc(MAX_LINKS, sizeof(uint64_t))
        if (self._agents == NULL or self._unknown == NULL or self._unknown_slots == NULL
                or self._link_keys == NULL or self._link_codes == NULL or self._link_order == NULL):
            raise MemoryError()

    def __init__(self, datagrams, samples, classes, tables):
        if samples.capacity != classes.capacity:
            raise ValueError("samples and classes differ in capacity")
        self._keep = (datagrams, samples, classes, tables, dict(datagrams.columns), dict(samples.columns),
                      dict(classes.columns))
        self._datagrams = datagrams
        self._samples = samples
        self._classes = classes
        self._datagram_capacity = datagrams.capacity
        self._agent_hi = _u64(datagrams["agent_hi"])
        self._agent_lo = _u64(datagrams["agent_lo"])
        self._agent_version = _u8(datagrams["agent_version"])
        self._first_link = len(tables.names.links)
        self._bind_rows(samples, classes)
        self._bind_tables(tables)

    def __dealloc__(self):
        PyMem_Free(self._agents)
        PyMem_Free(self._unknown)
        PyMem_Free(self._unknown_slots)
        PyMem_Free(self._link_keys)
        PyMem_Free(self._link_codes)
        PyMem_Free(self._link_order)
        PyMem_Free(self.t.leaves)
        PyMem_Free(self.t.rule_keys)
        PyMem_Free(self.t.rules)
        PyMem_Free(self.t.ports)
        PyMem_Free(self.t.interfaces)
        PyMem_Free(self.t.sources)

    cdef _bind_rows(self, s, c):
        self.r.datagram = _u32(s["datagram"])
        self.r.source_class = _u32(s["source_class"])
        self.r.source_index = _u32(s["source_index"])
        self.r.input_format = _u8(s["input_format"])
        self.r.input = _u32(s["input"])
        self.r.output_format = _u8(s["output_format"])
        self.r.output = _u32(s["output"])
        self.r.vlan_id = _u16(s["vlan_id"])
        self.r.source_hi = _u64(s["source_hi"])
        self.r.source_lo = _u64(s["source_lo"])
        self.r.destination_hi = _u64(s["destination_hi"])
        self.r.destination_lo = _u64(s["destination_lo"])
        self.r.ip_version = _u8(s["ip_version"])
        self.r.protocol = _u8(s["protocol"])
        self.r.dscp = _u8(s["dscp"])
        self.r.source_port = _u16(s["source_port"])
        self.r.destination_port = _u16(s["destination_port"])
        self.r.link_in = <uint32_t *>_u32(c["link_in"])
        self.r.link_out = <uint32_t *>_u32(c["link_out"])
        self.r.metering_point = <uint32_t *>_u32(c["metering_point"])
        self.r.direction = <uint8_t *>_u8(c["direction"])
        self.r.department = <uint32_t *>_u32(c["department"])
        self.r.peer_department = <uint32_t *>_u32(c["peer_department"])
        self.r.application = <uint32_t *>_u32(c["application"])
        self.r.source_zone = <uint32_t *>_u32(c["source_zone"])
        self.r.destination_zone = <uint32_t *>_u32(c["destination_zone"])
        self.r.service_class = <uint8_t *>_u8(c["service_class"])

    cdef _bind_tables(self, t):
        self.t.nodes = _u32(t.trie_nodes.reshape(-1))
        self.t.roots = _u32(t.trie_roots.reshape(-1))
        self.t.host_keys = _u64(t.host_keys.reshape(-1))
        self.t.host_leaves = _u32(t.host_leaves)
        self.t.host_mask = len(t.host_leaves) - 1
        self.t.application_owner = _u32(t.application_owner)
        self.t.agent_keys = _u64(t.agent_keys.reshape(-1))
        self.t.agent_devices = _u32(t.agent_devices)
        self.t.agent_mask = len(t.agent_devices) - 1
        self.t.devices = len(t.device_names)
        self.t.device_sampling = _u8(t.device_sampling)
        self.t.vlan_instance = _u32(t.vlan_instance)
        self.t.dscp_class = _u8(t.dscp_class)
        self.t.interfaces = hash_slots(t.interface_keys, t.interface_rows)
        self.t.interface_mask = len(t.interface_rows) - 1
        self.t.sources = hash_slots(t.source_keys, t.source_interfaces)
        self.t.source_mask = len(t.source_interfaces) - 1
        self._pack_leaves(t.leaf_department, t.leaf_zone, t.leaf_place, t.leaf_group,
                          self._pack_rules(t.rule_starts, t.rule_keys, t.rule_applications, t.rule_ranks))
        self._pack_ports(t.interface_link, t.interface_metering, t.interface_instance, t.interface_faces,
                         t.interface_counts, t.interface_labelled)

    cdef _pack_leaves(self, const uint32_t[::1] department, const uint32_t[::1] zone, const uint8_t[::1] place,
                      const uint32_t[::1] group, const uint32_t[::1] starts):
        cdef Py_ssize_t row, count = group.shape[0]
        self.t.leaves = <Leaf *>PyMem_Calloc(count, sizeof(Leaf))
        if self.t.leaves == NULL:
            raise MemoryError()
        for row in range(count):
            if zone[row] > 0xFFFF:
                raise ValueError("more than 65,535 zones")
            self.t.leaves[row].department = department[row]
            self.t.leaves[row].zone = <uint16_t>zone[row]
            self.t.leaves[row].place = place[row]
            self.t.leaves[row].first = starts[group[row]]
            self.t.leaves[row].lanes = (starts[group[row] + 1] - starts[group[row]]) // LANES

    cdef object _pack_rules(self, const uint32_t[::1] starts, const uint32_t[::1] keys,
                            const uint32_t[::1] application, const uint32_t[::1] rank):
        # Pad every group to a multiple of LANES with intervals that no key reaches; return the new starts.
        cdef Py_ssize_t group, row, place, total = 0
        padded = np.zeros(starts.shape[0], np.uint32)
        cdef uint32_t[::1] new_starts = padded
        for group in range(starts.shape[0] - 1):
            new_starts[group] = total
            total += (starts[group + 1] - starts[group] + LANES - 1) // LANES * LANES
        new_starts[starts.shape[0] - 1] = total
        self.t.rule_keys = <uint32_t *>PyMem_Calloc(max(1, total), sizeof(uint32_t))
        self.t.rules = <Rule *>PyMem_Calloc(max(1, total), sizeof(Rule))
        if self.t.rule_keys == NULL or self.t.rules == NULL:
            raise MemoryError()
        for place in range(total):
            self.t.rule_keys[place] = 0xFFFFFFFF
        for group in range(starts.shape[0] - 1):
            place = new_starts[group]
            for row in range(starts[group], starts[group + 1]):
                self.t.rule_keys[place] = keys[row]
                self.t.rules[place].application = application[row]
                self.t.rules[place].rank = rank[row]
                place += 1
        return padded

    cdef _pack_ports(self, const uint32_t[::1] link, const uint32_t[::1] metering, const uint32_t[::1] instance,
                     const uint8_t[::1] faces, const uint8_t[::1] counts, const uint8_t[::1] labelled):
        cdef Py_ssize_t row, count = link.shape[0]
        self.t.ports = <Port *>PyMem_Calloc(count, sizeof(Port))
        if self.t.ports == NULL:
            raise MemoryError()
        for row in range(count):
            self.t.ports[row].link = link[row]
            self.t.ports[row].metering = metering[row]
            self.t.ports[row].instance = instance[row]
            self.t.ports[row].faces = faces[row]
            self.t.ports[row].counts = counts[row]
            self.t.ports[row].labelled = labelled[row]

    def classify(self):
        """Classify the valid rows of the sample batch; sets ``classes.n``."""
        cdef Py_ssize_t datagrams = self._datagrams.n
        cdef Py_ssize_t rows = self._samples.n
        cdef Py_ssize_t row, first, last
        cdef Place places[BLOCK]
        with nogil:
            for row in range(datagrams):
                self._agents[row] = self._device(
                    self._agent_version[row], self._agent_hi[row], self._agent_lo[row])
            first = 0
            while first < rows:
                last = min(first + BLOCK, rows)
                for row in range(first, last):
                    self._place(row, &places[row - first])
                for row in range(first, last):
                    self._match_ends(row, &places[row - first])
                for row in range(first, last):
                    self._classify_row(row, &places[row - first])
                first = last
        self._classes.n = rows

    @property
    def unregistered_count(self):
        """Number of ports that got a link code of their own."""
        return self._link_count

    def unregistered(self):
        """Describe the ports that got a link code of their own, in the order of their codes."""
        cdef uint32_t index, device
        rows = np.zeros((self._link_count, 5), dtype=np.uint64)
        for index in range(self._link_count):
            device = <uint32_t>(self._link_order[index] >> 32)
            if device < self.t.devices:
                rows[index, 0] = device
            elif device < self.t.devices + MAX_AGENTS:
                agent = self._unknown[device - self.t.devices]
                rows[index, 1] = agent.version
                rows[index, 2] = agent.hi
                rows[index, 3] = agent.lo
            rows[index, 4] = self._link_order[index] & 0xFFFFFFFF
        keys = ("device", "agent_version", "agent_hi", "agent_lo", "if_index")
        return {key: np.ascontiguousarray(rows[:, column]) for column, key in enumerate(keys)}

    cdef uint32_t _device(self, uint64_t version, uint64_t hi, uint64_t lo) noexcept nogil:
        cdef uint64_t slot
        cdef uint32_t index = find_address(
            self.t.agent_keys, self.t.agent_devices, self.t.agent_mask, version, hi, lo)
        if index:
            return index
        slot = mix(mix(hi ^ version) ^ lo) & (AGENT_SLOTS - 1)
        while self._unknown_slots[slot]:
            index = self._unknown_slots[slot] - 1
            if (self._unknown[index].version == version and self._unknown[index].hi == hi
                    and self._unknown[index].lo == lo):
                return self.t.devices + index
            slot = (slot + 1) & (AGENT_SLOTS - 1)
        index = self._unknown_count
        if index == MAX_AGENTS:
            return self.t.devices + MAX_AGENTS
        self._unknown[index].version = version
        self._unknown[index].hi = hi
        self._unknown[index].lo = lo
        self._unknown_slots[slot] = index + 1
        self._unknown_count = index + 1
        return self.t.devices + index

    cdef uint32_t _link(self, uint32_t interface, uint32_t device, uint32_t if_index) noexcept nogil:
        cdef uint64_t key, slot
        if interface:
            return self.t.ports[interface].link
        key = <uint64_t>device << 32 | if_index
        slot = mix(key) & (LINK_SLOTS - 1)
        while self._link_codes[slot]:
            if self._link_keys[slot] == key:
                return self._link_codes[slot]
            slot = (slot + 1) & (LINK_SLOTS - 1)
        if self._link_count == MAX_LINKS:
            return 0
        self._link_keys[slot] = key
        self._link_codes[slot] = self._first_link + self._link_count
        self._link_order[self._link_count] = key
        self._link_count += 1
        return self._link_codes[slot]

    cdef inline void _place(self, Py_ssize_t row, Place *p) noexcept nogil:
        # Ports and routing instance.
        cdef const Lookup *t = &self.t
        cdef const Rows *r = &self.r
        cdef uint32_t input_value = r.input[row], output_value = r.output[row], vlan
        cdef bint input_known = is_port(r.input_format[row], input_value)
        cdef bint output_known = is_port(r.output_format[row], output_value)
        cdef const Port *ingress
        p.device = self._agents[r.datagram[row]]
        p.input_row = 0
        p.output_row = 0
        p.mapped = 0
        p.count_in = input_known
        p.count_out = output_known
        if p.device < t.devices:
            if input_known:
                p.input_row = find(t.interfaces, t.interface_mask, <uint64_t>p.device << 32 | input_value)
            if output_known:
                p.output_row = find(t.interfaces, t.interface_mask, <uint64_t>p.device << 32 | output_value)
            if input_known and output_known:
                if t.device_sampling[p.device] == BOTH:
                    p.count_out = (r.source_class[row] == 0 and r.source_index[row] == output_value
                                   and r.source_index[row] != input_value)
                    p.count_in = not p.count_out
            elif not input_known and not output_known:
                p.mapped = find(t.sources, t.source_mask,
                                <uint64_t>p.device << 40 | <uint64_t>(r.source_class[row] & 0xFF) << 32
                                | r.source_index[row])
        ingress = &t.ports[p.input_row if p.input_row else p.mapped]
        p.labelled = ingress.labelled
        p.instance = ingress.instance
        if not p.instance:
            vlan = r.vlan_id[row]
            p.instance = t.vlan_instance[vlan if vlan < 4096 else 0]

    cdef inline void _match_ends(self, Py_ssize_t row, Place *p) noexcept nogil:
        cdef const Rows *r = &self.r
        cdef uint8_t version = r.ip_version[row]
        p.source = 0
        p.destination = 0
        if version and not p.labelled:
            p.source = find_leaf(&self.t, p.instance, version, r.source_hi[row], r.source_lo[row])
            p.destination = find_leaf(&self.t, p.instance, version, r.destination_hi[row], r.destination_lo[row])

    cdef inline void _classify_row(self, Py_ssize_t row, const Place *p) noexcept nogil:
        cdef const Lookup *t = &self.t
        cdef const Rows *r = &self.r
        cdef const Leaf *source
        cdef const Leaf *destination
        cdef const Port *port
        cdef Rule forward, backward
        cdef uint32_t source_department, destination_department, owner
        cdef uint32_t application = 0, department = 0, peer = 0, source_zone = 0, destination_zone = 0
        cdef uint32_t link_in = 0, link_out = 0, meter = 0
        cdef uint32_t source_port, destination_port, protocol
        cdef uint8_t version = r.ip_version[row]
        cdef uint8_t direction = DIRECTION_UNKNOWN, category = COUNT_ALL
        cdef int server
        cdef bint source_inside, destination_inside, backward_wins, inward, outward
        if p.labelled:
            application = APPLICATION_LABELLED
        elif version:
            source = &t.leaves[p.source]
            destination = &t.leaves[p.destination]
            source_zone = source.zone
            destination_zone = destination.zone
            protocol = <uint32_t>r.protocol[row] << 16
            source_port = r.source_port[row]
            destination_port = r.destination_port[row]
            forward = find_rule(t, destination, protocol | destination_port)
            backward = find_rule(t, source, protocol | source_port)
            server = NEITHER
            if backward.rank or forward.rank:
                if backward.rank != forward.rank:
                    backward_wins = backward.rank > forward.rank
                elif source_port != destination_port:
                    backward_wins = source_port < destination_port
                elif r.source_hi[row] != r.destination_hi[row]:
                    backward_wins = r.source_hi[row] < r.destination_hi[row]
                else:
                    backward_wins = r.source_lo[row] < r.destination_lo[row]
                application = backward.application if backward_wins else forward.application
                server = SOURCE if backward_wins else DESTINATION
            source_inside = source.place == INSIDE
            destination_inside = destination.place == INSIDE
            if source_inside and destination_inside:
                category = COUNT_INTERNAL
                direction = INTERNAL
            else:
                if (source.place == UNREGISTERED or source.place == INTERNET
                        or destination.place == UNREGISTERED or destination.place == INTERNET):
                    category = COUNT_EXIT
                else:
                    category = COUNT_UPLINK
                direction = INBOUND if destination_inside else (OUTBOUND if source_inside else TRANSIT)
            source_department = source.department
            destination_department = destination.department
            owner = t.application_owner[application]
            if owner and server == SOURCE:
                source_department = owner
            elif owner and server == DESTINATION:
                destination_department = owner
            if server == NEITHER:
                server = SOURCE if source_port < destination_port else DESTINATION
            if direction == INBOUND or (direction == INTERNAL and server == SOURCE):
                department = destination_department
                peer = source_department
            else:
                department = source_department
                peer = destination_department

        if p.count_in:
            link_in = self._link(p.input_row, p.device, r.input[row])
        if p.count_out:
            link_out = self._link(p.output_row, p.device, r.output[row])
        if p.count_in and t.ports[p.input_row].counts & category:
            meter = t.ports[p.input_row].metering
        elif p.count_out and t.ports[p.output_row].counts & category:
            meter = t.ports[p.output_row].metering
        if p.mapped:
            # Which way the packet crossed the port follows from which of its ends lies beyond it.
            port = &t.ports[p.mapped]
            inward = direction == INBOUND
            outward = direction == OUTBOUND
            if port.faces == FACES_INSIDE:
                inward, outward = outward, inward
            link_in = port.link if inward else 0
            link_out = port.link if outward else 0
            if port.counts & category:
                meter = port.metering

        r.link_in[row] = link_in
        r.link_out[row] = link_out
        r.metering_point[row] = meter
        r.direction[row] = direction
        r.department[row] = department
        r.peer_department[row] = peer
        r.application[row] = application
        r.source_zone[row] = source_zone
        r.destination_zone[row] = destination_zone
        r.service_class[row] = t.dscp_class[r.dscp[row] & 63] if version else 0


cdef Slot *hash_slots(const uint64_t[::1] keys, const uint32_t[::1] values) except NULL:
    """Lay keys and values of a hash table side by side."""
    cdef Py_ssize_t slot
    cdef Slot *slots = <Slot *>PyMem_Calloc(keys.shape[0], sizeof(Slot))
    if slots == NULL:
        raise MemoryError()
    for slot in range(keys.shape[0]):
        slots[slot].key = keys[slot]
        slots[slot].value = values[slot]
    return slots
