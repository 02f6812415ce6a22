# Classification of samples: interfaces, ends, application, direction.
# The specification is its Python twin, telemetryd/classify/reference.py; the tables' layout is drawn in
# telemetryd/classify/tables.py. One pass over the rows of a batch, no Python object in it.
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from _hash cimport mix
from _lpm cimport lookup_ipv4, lookup_ipv6

import numpy as np

cdef enum:
    MAX_AGENTS = 4096
    AGENT_SLOTS = 16384          # load factor at most a quarter
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


cdef struct Lookup:
    # Pointers into the arrays of one Tables object, which the classifier keeps alive.
    const uint32_t *nodes
    const uint32_t *roots
    const uint32_t *leaf_department
    const uint32_t *leaf_zone
    const uint8_t *leaf_place
    const uint32_t *leaf_group
    const uint32_t *rule_starts
    const uint32_t *rule_keys
    const uint32_t *rule_applications
    const uint32_t *rule_ranks
    const uint32_t *application_owner
    const uint64_t *agent_keys
    const uint32_t *agent_devices
    uint64_t agent_mask
    uint32_t devices
    const uint8_t *device_sampling
    const uint64_t *interface_keys
    const uint32_t *interface_rows
    uint64_t interface_mask
    const uint32_t *interface_link
    const uint32_t *interface_metering
    const uint8_t *interface_faces
    const uint8_t *interface_counts
    const uint32_t *interface_instance
    const uint8_t *interface_labelled
    const uint64_t *source_keys
    const uint32_t *source_interfaces
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


cdef inline uint32_t find(const uint64_t *keys, const uint32_t *rows, uint64_t mask, uint64_t key) noexcept nogil:
    cdef uint64_t slot = mix(key) & mask
    while keys[slot] != EMPTY:
        if keys[slot] == key:
            return rows[slot]
        slot = (slot + 1) & mask
    return 0


cdef inline bint is_port(uint8_t interface_format, uint32_t value) noexcept nogil:
    return interface_format == 0 and value != 0 and value != INTERNAL_INTERFACE and value != <uint32_t>0xFFFFFFFF


cdef inline uint32_t find_leaf(
    const Lookup *t, uint32_t instance, uint8_t version, uint64_t hi, uint64_t lo
) noexcept nogil:
    cdef uint32_t leaf = 0
    if version == 4:
        if instance:
            leaf = lookup_ipv4(t.nodes, t.roots[2 * instance], <uint32_t>lo)
        if not leaf:
            leaf = lookup_ipv4(t.nodes, t.roots[0], <uint32_t>lo)
    else:
        if instance:
            leaf = lookup_ipv6(t.nodes, t.roots[2 * instance + 1], hi, lo)
        if not leaf:
            leaf = lookup_ipv6(t.nodes, t.roots[1], hi, lo)
    return leaf


cdef inline uint32_t find_rule(const Lookup *t, uint32_t leaf, uint32_t key, uint32_t *rank) noexcept nogil:
    # The last interval that starts at or below the key (bisect_right - 1).
    cdef uint32_t group = t.leaf_group[leaf]
    cdef uint32_t first = t.rule_starts[group]
    cdef uint32_t count = t.rule_starts[group + 1] - first
    cdef uint32_t half
    rank[0] = 0
    if count == 0 or t.rule_keys[first] > key:
        return 0
    while count > 1:
        half = count >> 1
        # A conditional move, not a branch: which half holds the key is unpredictable.
        first = first + half if t.rule_keys[first + half] <= key else first
        count -= half
    rank[0] = t.rule_ranks[first]
    return t.rule_applications[first]


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
        self.t.leaf_department = _u32(t.leaf_department)
        self.t.leaf_zone = _u32(t.leaf_zone)
        self.t.leaf_place = _u8(t.leaf_place)
        self.t.leaf_group = _u32(t.leaf_group)
        self.t.rule_starts = _u32(t.rule_starts)
        self.t.rule_keys = _u32(t.rule_keys)
        self.t.rule_applications = _u32(t.rule_applications)
        self.t.rule_ranks = _u32(t.rule_ranks)
        self.t.application_owner = _u32(t.application_owner)
        self.t.agent_keys = _u64(t.agent_keys.reshape(-1))
        self.t.agent_devices = _u32(t.agent_devices)
        self.t.agent_mask = len(t.agent_devices) - 1
        self.t.devices = len(t.device_names)
        self.t.device_sampling = _u8(t.device_sampling)
        self.t.interface_keys = _u64(t.interface_keys)
        self.t.interface_rows = _u32(t.interface_rows)
        self.t.interface_mask = len(t.interface_rows) - 1
        self.t.interface_link = _u32(t.interface_link)
        self.t.interface_metering = _u32(t.interface_metering)
        self.t.interface_faces = _u8(t.interface_faces)
        self.t.interface_counts = _u8(t.interface_counts)
        self.t.interface_instance = _u32(t.interface_instance)
        self.t.interface_labelled = _u8(t.interface_labelled)
        self.t.source_keys = _u64(t.source_keys)
        self.t.source_interfaces = _u32(t.source_interfaces)
        self.t.source_mask = len(t.source_interfaces) - 1
        self.t.vlan_instance = _u32(t.vlan_instance)
        self.t.dscp_class = _u8(t.dscp_class)

    def classify(self):
        """Classify the valid rows of the sample batch; sets ``classes.n``."""
        cdef Py_ssize_t datagrams = self._datagrams.n
        cdef Py_ssize_t rows = self._samples.n
        cdef Py_ssize_t row
        with nogil:
            for row in range(datagrams):
                self._agents[row] = self._device(
                    self._agent_version[row], self._agent_hi[row], self._agent_lo[row])
            for row in range(rows):
                self._classify_row(row)
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
        cdef uint64_t hashed = mix(mix(hi ^ version) ^ lo)
        cdef uint64_t slot = hashed & self.t.agent_mask
        cdef uint32_t index
        while self.t.agent_keys[3 * slot] != EMPTY:
            if (self.t.agent_keys[3 * slot] == version and self.t.agent_keys[3 * slot + 1] == hi
                    and self.t.agent_keys[3 * slot + 2] == lo):
                return self.t.agent_devices[slot]
            slot = (slot + 1) & self.t.agent_mask
        slot = hashed & (AGENT_SLOTS - 1)
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
            return self.t.interface_link[interface]
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

    cdef inline void _classify_row(self, Py_ssize_t row) noexcept nogil:
        cdef const Lookup *t = &self.t
        cdef const Rows *r = &self.r
        cdef uint32_t device = self._agents[r.datagram[row]]
        cdef bint registered = device < t.devices
        cdef uint32_t input_value = r.input[row], output_value = r.output[row]
        cdef bint input_known = is_port(r.input_format[row], input_value)
        cdef bint output_known = is_port(r.output_format[row], output_value)
        cdef uint32_t input_row = 0, output_row = 0, mapped = 0, ingress
        cdef bint count_in = input_known, count_out = output_known, inward, outward
        cdef uint32_t instance, vlan, source, destination, source_rank, destination_rank
        cdef uint32_t forward, backward, source_department, destination_department, owner
        cdef uint32_t application = 0, department = 0, peer = 0, source_zone = 0, destination_zone = 0
        cdef uint32_t link_in = 0, link_out = 0, meter = 0
        cdef uint32_t source_port, destination_port, protocol
        cdef uint8_t source_place, destination_place, version = r.ip_version[row]
        cdef uint8_t direction = DIRECTION_UNKNOWN, category = COUNT_ALL
        cdef int server
        cdef bint source_inside, destination_inside, backward_wins
        if registered:
            if input_known:
                input_row = find(t.interface_keys, t.interface_rows, t.interface_mask,
                                 <uint64_t>device << 32 | input_value)
            if output_known:
                output_row = find(t.interface_keys, t.interface_rows, t.interface_mask,
                                  <uint64_t>device << 32 | output_value)
            if input_known and output_known:
                if t.device_sampling[device] == BOTH:
                    count_out = (r.source_class[row] == 0 and r.source_index[row] == output_value
                                 and r.source_index[row] != input_value)
                    count_in = not count_out
            elif not input_known and not output_known:
                mapped = find(t.source_keys, t.source_interfaces, t.source_mask,
                              <uint64_t>device << 40 | <uint64_t>(r.source_class[row] & 0xFF) << 32
                              | r.source_index[row])
        ingress = input_row if input_row else mapped
        instance = t.interface_instance[ingress]
        if not instance:
            vlan = r.vlan_id[row]
            instance = t.vlan_instance[vlan if vlan < 4096 else 0]

        if t.interface_labelled[ingress]:
            application = APPLICATION_LABELLED
        elif version:
            source = find_leaf(t, instance, version, r.source_hi[row], r.source_lo[row])
            destination = find_leaf(t, instance, version, r.destination_hi[row], r.destination_lo[row])
            source_zone = t.leaf_zone[source]
            destination_zone = t.leaf_zone[destination]
            protocol = <uint32_t>r.protocol[row] << 16
            source_port = r.source_port[row]
            destination_port = r.destination_port[row]
            forward = find_rule(t, destination, protocol | destination_port, &destination_rank)
            backward = find_rule(t, source, protocol | source_port, &source_rank)
            server = NEITHER
            if source_rank or destination_rank:
                if source_rank != destination_rank:
                    backward_wins = source_rank > destination_rank
                elif source_port != destination_port:
                    backward_wins = source_port < destination_port
                elif r.source_hi[row] != r.destination_hi[row]:
                    backward_wins = r.source_hi[row] < r.destination_hi[row]
                else:
                    backward_wins = r.source_lo[row] < r.destination_lo[row]
                application = backward if backward_wins else forward
                server = SOURCE if backward_wins else DESTINATION
            source_place = t.leaf_place[source]
            destination_place = t.leaf_place[destination]
            source_inside = source_place == INSIDE
            destination_inside = destination_place == INSIDE
            if source_inside and destination_inside:
                category = COUNT_INTERNAL
                direction = INTERNAL
            else:
                if (source_place == UNREGISTERED or source_place == INTERNET
                        or destination_place == UNREGISTERED or destination_place == INTERNET):
                    category = COUNT_EXIT
                else:
                    category = COUNT_UPLINK
                direction = INBOUND if destination_inside else (OUTBOUND if source_inside else TRANSIT)
            source_department = t.leaf_department[source]
            destination_department = t.leaf_department[destination]
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

        if count_in:
            link_in = self._link(input_row, device, input_value)
        if count_out:
            link_out = self._link(output_row, device, output_value)
        if count_in and t.interface_counts[input_row] & category:
            meter = t.interface_metering[input_row]
        elif count_out and t.interface_counts[output_row] & category:
            meter = t.interface_metering[output_row]
        if mapped:
            # Which way the packet crossed the port follows from which of its ends lies beyond it.
            inward = direction == INBOUND
            outward = direction == OUTBOUND
            if t.interface_faces[mapped] == FACES_INSIDE:
                inward, outward = outward, inward
            link_in = t.interface_link[mapped] if inward else 0
            link_out = t.interface_link[mapped] if outward else 0
            if t.interface_counts[mapped] & category:
                meter = t.interface_metering[mapped]

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
