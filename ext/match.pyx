# Classification of samples: interfaces, ends, application, direction.
# The specification is its Python twin, telemetryd/classify/reference.py; the tables' layout is drawn in
# telemetryd/classify/tables.py. No Python object in the passes over the rows of a batch.
#
# Rows are taken in blocks, in four passes: ports and routing instance, longest-prefix match of both ends,
# their rules, everything else. Traffic takes turns that no branch prediction can guess, and a wrong guess costs
# as much as ten fields and hides the next rows from the processor: so the passes mask and pick where the cases
# mix, and branch only where one of them is rare.
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from _hash cimport mix
from _lpm cimport CHILD, lookup_ipv4
from _match_pack cimport bind_tables, free_tables, u8, u16, u32, u64
from _match_tables cimport (
    ORDER_BITS,
    Leaf,
    Lookup,
    Port,
    find,
    find_address,
    find_ipv6,
    find_port,
    find_rule,
    pick,
)

import numpy as np

cdef enum:
    MAX_AGENTS = 4096
    AGENT_SLOTS = 16384         # load factor at most a quarter
    BLOCK = 128
    MAX_LINKS = 65536
    LINK_SLOTS = 262144

    INTERNAL_INTERFACE = 0x3FFFFFFF

    INSIDE = 1                  # Place
    INTERNET = 2
    UNREGISTERED = 0
    PLACES = 4
    COUNT_EXIT = 1              # Counts
    COUNT_UPLINK = 2
    COUNT_INTERNAL = 4
    COUNT_ALL = 7
    FACES_INSIDE = 2            # Faces
    BOTH = 2                    # Sampling

    DIRECTION_UNKNOWN = 0       # Direction
    INBOUND = 1
    OUTBOUND = 2
    INTERNAL = 3
    TRANSIT = 4

    APPLICATION_LABELLED = 1
    ORDER_MASK = (1 << ORDER_BITS) - 1


cdef struct Agent:
    uint64_t version
    uint64_t hi
    uint64_t lo


cdef struct Way:                # what follows from the places of both ends
    uint8_t direction
    uint8_t category


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


cdef struct Block:              # what the first passes find out about their rows
    uint32_t device[BLOCK]
    uint32_t port_in[BLOCK]     # port row, 0 where it is unregistered or not counted
    uint32_t port_out[BLOCK]
    uint32_t mapped[BLOCK]
    uint32_t instance[BLOCK]
    uint32_t plain[BLOCK]       # 1: its addresses and ports say whose it is
    uint32_t labelled[BLOCK]
    uint32_t counted[BLOCK]     # bit 0: at the input port, bit 1: at the output port
    uint32_t source[BLOCK]      # leaf
    uint32_t destination[BLOCK]
    uint32_t backward[BLOCK]    # packed rule of the source
    uint32_t forward[BLOCK]


cdef inline uint32_t is_port(uint32_t interface_format, uint32_t value) noexcept nogil:
    return (interface_format == 0) & (value != 0) & (value != INTERNAL_INTERFACE) & (value != <uint32_t>0xFFFFFFFF)


cdef void place(const Lookup *tables, const Rows *columns, const uint32_t *agents, Block *b, Py_ssize_t first,
                uint32_t n) noexcept nogil:
    """Find the ports and the routing instance."""
    cdef Lookup t = tables[0]           # copies that no store below can change
    cdef Rows r = columns[0]
    cdef Py_ssize_t row
    cdef uint32_t i, device, value_in, value_out, known_in, known_out, port_in, port_out, is_both, taken_out, vlan
    cdef const Port *ingress
    for i in range(n):
        row = first + i
        device = agents[r.datagram[row]]
        value_in, value_out = r.input[row], r.output[row]
        known_in = is_port(r.input_format[row], value_in)
        known_out = is_port(r.output_format[row], value_out)
        port_in = find_port(&t, device, value_in) & (0 - known_in)
        port_out = find_port(&t, device, value_out) & (0 - known_out)
        is_both = known_in & known_out & (t.devices[min(device, t.n_devices)].sampling == BOTH)
        taken_out = (
            (r.source_class[row] == 0) & (r.source_index[row] == value_out) & (r.source_index[row] != value_in)
        )
        b.mapped[i] = 0
        if not (known_in | known_out) and device < t.n_devices:
            b.mapped[i] = find(t.sources, t.source_mask, <uint64_t>device << 40
                               | <uint64_t>(r.source_class[row] & 0xFF) << 32 | r.source_index[row])
        ingress = &t.ports[port_in | b.mapped[i]]
        known_in &= 1 ^ (is_both & taken_out)
        known_out &= 1 ^ (is_both & (1 ^ taken_out))
        b.device[i] = device
        b.counted[i] = known_in | known_out << 1
        b.port_in[i] = port_in & (0 - known_in)
        b.port_out[i] = port_out & (0 - known_out)
        b.labelled[i] = ingress.labelled
        b.plain[i] = (r.ip_version[row] != 0) & (ingress.labelled == 0)
        vlan = r.vlan_id[row]
        vlan &= 0 - <uint32_t>(vlan < 4096)
        b.instance[i] = pick(ingress.instance != 0, ingress.instance, t.vlan_instance[vlan])


cdef void match_ends(const Lookup *t, const Rows *r, Block *b, Py_ssize_t first, uint32_t n) noexcept nogil:
    """Find the leaves of both ends: IPv4 together, level by level, the others one by one."""
    cdef uint32_t addresses[2 * BLOCK]
    cdef uint32_t entries[2 * BLOCK]
    cdef uint32_t of[BLOCK]
    cdef uint32_t others[BLOCK]
    cdef uint32_t i, j, root, n_ipv4 = 0, n_others = 0
    cdef Py_ssize_t row
    for i in range(n):
        row = first + i
        b.source[i] = b.destination[i] = 0
        root = t.roots[2 * b.instance[i]] | <uint32_t>CHILD
        of[n_ipv4] = others[n_others] = i
        entries[2 * n_ipv4] = entries[2 * n_ipv4 + 1] = root
        addresses[2 * n_ipv4] = <uint32_t>r.source_lo[row]
        addresses[2 * n_ipv4 + 1] = <uint32_t>r.destination_lo[row]
        n_ipv4 += b.plain[i] & (r.ip_version[row] == 4)
        n_others += b.plain[i] & (r.ip_version[row] != 4)
    lookup_ipv4(t.nodes, addresses, entries, 2 * n_ipv4)
    for j in range(n_ipv4):
        b.source[of[j]] = entries[2 * j]
        b.destination[of[j]] = entries[2 * j + 1]
    for j in range(n_others):
        i = others[j]
        row = first + i
        b.source[i] = find_ipv6(t, b.instance[i], r.ip_version[row], r.source_hi[row], r.source_lo[row])
        b.destination[i] = find_ipv6(
            t, b.instance[i], r.ip_version[row], r.destination_hi[row], r.destination_lo[row])


cdef void match_rules(const Lookup *t, const Rows *r, Block *b, Py_ssize_t first, uint32_t n) noexcept nogil:
    """Find the rule of either end as the server."""
    cdef uint32_t i, protocol
    cdef Py_ssize_t row
    for i in range(n):
        row = first + i
        protocol = <uint32_t>r.protocol[row] << 16
        b.forward[i] = find_rule(t, &t.leaves[b.destination[i]], <int32_t>(protocol | r.destination_port[row]))
        b.backward[i] = find_rule(t, &t.leaves[b.source[i]], <int32_t>(protocol | r.source_port[row]))


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
    cdef Way _ways[PLACES * PLACES + 1]     # by the places of both ends; the last one where they do not count

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
        self._agent_hi = u64(datagrams["agent_hi"])
        self._agent_lo = u64(datagrams["agent_lo"])
        self._agent_version = u8(datagrams["agent_version"])
        self._first_link = len(tables.names.links)
        self._bind_rows(samples, classes)
        self._list_ways()
        bind_tables(&self.t, tables)

    def __dealloc__(self):
        PyMem_Free(self._agents)
        PyMem_Free(self._unknown)
        PyMem_Free(self._unknown_slots)
        PyMem_Free(self._link_keys)
        PyMem_Free(self._link_codes)
        PyMem_Free(self._link_order)
        free_tables(&self.t)

    cdef _bind_rows(self, s, c):
        self.r.datagram = u32(s["datagram"])
        self.r.source_class = u32(s["source_class"])
        self.r.source_index = u32(s["source_index"])
        self.r.input_format = u8(s["input_format"])
        self.r.input = u32(s["input"])
        self.r.output_format = u8(s["output_format"])
        self.r.output = u32(s["output"])
        self.r.vlan_id = u16(s["vlan_id"])
        self.r.source_hi = u64(s["source_hi"])
        self.r.source_lo = u64(s["source_lo"])
        self.r.destination_hi = u64(s["destination_hi"])
        self.r.destination_lo = u64(s["destination_lo"])
        self.r.ip_version = u8(s["ip_version"])
        self.r.protocol = u8(s["protocol"])
        self.r.dscp = u8(s["dscp"])
        self.r.source_port = u16(s["source_port"])
        self.r.destination_port = u16(s["destination_port"])
        self.r.link_in = <uint32_t *>u32(c["link_in"])
        self.r.link_out = <uint32_t *>u32(c["link_out"])
        self.r.metering_point = <uint32_t *>u32(c["metering_point"])
        self.r.direction = <uint8_t *>u8(c["direction"])
        self.r.department = <uint32_t *>u32(c["department"])
        self.r.peer_department = <uint32_t *>u32(c["peer_department"])
        self.r.application = <uint32_t *>u32(c["application"])
        self.r.source_zone = <uint32_t *>u32(c["source_zone"])
        self.r.destination_zone = <uint32_t *>u32(c["destination_zone"])
        self.r.service_class = <uint8_t *>u8(c["service_class"])

    cdef void _list_ways(self) noexcept:
        """Write down the direction and the kind of counting for any places of both ends."""
        cdef uint32_t source, destination
        cdef Way *way
        for source in range(PLACES):
            for destination in range(PLACES):
                way = &self._ways[source * PLACES + destination]
                if source == INSIDE and destination == INSIDE:
                    way.category = COUNT_INTERNAL
                    way.direction = INTERNAL
                    continue
                way.category = COUNT_UPLINK
                if (source == UNREGISTERED or source == INTERNET
                        or destination == UNREGISTERED or destination == INTERNET):
                    way.category = COUNT_EXIT
                way.direction = INBOUND if destination == INSIDE else (OUTBOUND if source == INSIDE else TRANSIT)
        self._ways[PLACES * PLACES].category = COUNT_ALL
        self._ways[PLACES * PLACES].direction = DIRECTION_UNKNOWN

    def classify(self):
        """Classify the valid rows of the sample batch; sets ``classes.n``."""
        cdef Py_ssize_t datagrams = self._datagrams.n
        cdef Py_ssize_t rows = self._samples.n
        cdef Py_ssize_t row, first = 0
        cdef uint32_t n
        cdef Block block
        with nogil:
            for row in range(datagrams):
                self._agents[row] = self._device(
                    self._agent_version[row], self._agent_hi[row], self._agent_lo[row])
            while first < rows:
                n = <uint32_t>min(BLOCK, rows - first)
                place(&self.t, &self.r, self._agents, &block, first, n)
                match_ends(&self.t, &self.r, &block, first, n)
                match_rules(&self.t, &self.r, &block, first, n)
                self._conclude(&block, first, n)
                first += n
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
            if device < self.t.n_devices:
                rows[index, 0] = device
            elif device < self.t.n_devices + MAX_AGENTS:
                agent = self._unknown[device - self.t.n_devices]
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
                return self.t.n_devices + index
            slot = (slot + 1) & (AGENT_SLOTS - 1)
        index = self._unknown_count
        if index == MAX_AGENTS:
            return self.t.n_devices + MAX_AGENTS
        self._unknown[index].version = version
        self._unknown[index].hi = hi
        self._unknown[index].lo = lo
        self._unknown_slots[slot] = index + 1
        self._unknown_count = index + 1
        return self.t.n_devices + index

    cdef uint32_t _new_link(self, uint32_t device, uint32_t if_index) noexcept nogil:
        """Return the link code of a port that the registry does not know."""
        cdef uint64_t key, slot
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

    cdef void _conclude(self, const Block *b, Py_ssize_t first, uint32_t n) noexcept nogil:
        """Decide between the ends, and write the class columns."""
        cdef Lookup t = self.t              # copies that no store below can change
        cdef Rows r = self.r
        cdef Py_ssize_t row
        cdef const Leaf *source
        cdef const Leaf *destination
        cdef const Port *ingress
        cdef const Port *egress
        cdef const Port *mapped
        cdef Way way
        cdef uint32_t forward, backward, inward, outward
        cdef uint32_t i, is_server_source, application, owner, department, peer, link_in, link_out, meter, is_swapped
        for i in range(n):
            row = first + i
            source, destination = &t.leaves[b.source[i]], &t.leaves[b.destination[i]]
            forward, backward = b.forward[i] & ORDER_MASK, b.backward[i] & ORDER_MASK
            # Where nobody is known to serve, both are 0, and the client is the end with the higher port.
            is_server_source = (backward > forward) | (
                (backward == forward) & (r.source_port[row] < r.destination_port[row]))
            if backward == forward and forward and r.source_port[row] == r.destination_port[row]:
                is_server_source = (r.source_hi[row] < r.destination_hi[row]
                                    or (r.source_hi[row] == r.destination_hi[row]
                                        and r.source_lo[row] < r.destination_lo[row]))
            application = pick(is_server_source, b.backward[i], b.forward[i]) >> ORDER_BITS
            owner = t.application_owner[application]
            way = self._ways[pick(b.plain[i], <uint32_t>source.place * PLACES + destination.place, PLACES * PLACES)]
            department = pick((owner != 0) & is_server_source, owner, source.department)
            peer = pick((owner != 0) & (1 ^ is_server_source), owner, destination.department)
            is_swapped = (way.direction == INBOUND) | ((way.direction == INTERNAL) & is_server_source)
            ingress, egress = &t.ports[b.port_in[i]], &t.ports[b.port_out[i]]
            link_in, link_out = ingress.link, egress.link
            meter = pick((ingress.counts & way.category) != 0, ingress.metering,
                         egress.metering & (0 - <uint32_t>((egress.counts & way.category) != 0)))
            if b.counted[i] & 1 and not b.port_in[i]:
                link_in = self._new_link(b.device[i], r.input[row])
            if b.counted[i] & 2 and not b.port_out[i]:
                link_out = self._new_link(b.device[i], r.output[row])
            if b.mapped[i]:
                # Which way the packet crossed the port follows from which of its ends lies beyond it.
                mapped = &t.ports[b.mapped[i]]
                inward, outward = (OUTBOUND, INBOUND) if mapped.faces == FACES_INSIDE else (INBOUND, OUTBOUND)
                link_in = mapped.link if way.direction == inward else 0
                link_out = mapped.link if way.direction == outward else 0
                meter = mapped.metering if mapped.counts & way.category else 0
            r.link_in[row] = link_in
            r.link_out[row] = link_out
            r.metering_point[row] = meter
            r.direction[row] = way.direction
            r.department[row] = pick(is_swapped, peer, department)
            r.peer_department[row] = pick(is_swapped, department, peer)
            r.application[row] = pick(b.labelled[i], APPLICATION_LABELLED, application)
            r.source_zone[row] = source.zone
            r.destination_zone[row] = destination.zone
            r.service_class[row] = t.dscp_class[r.dscp[row] & 63] & <uint8_t>(0 - (r.ip_version[row] != 0))
