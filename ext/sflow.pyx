# The hot path of sFlow version 5: class Decoder. The twin is telemetryd/ingest/sflow/columns.py.
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from _cursor cimport Cursor
from _dissect cimport FRAGMENT, LABELLED, TRUNCATED
from _sflow cimport (
    AGENT_ADDRESS_TYPE,
    DATAGRAM_SHORT,
    DROP_REASONS,
    EXPANDED,
    FAULTS,
    LARGEST_DATAGRAM,
    LEAST_FLOW_SAMPLE,
    LEAST_IF_COUNTERS,
    RECORD_LENGTH,
    RECORD_OVERRUN,
    RECORD_SHORT,
    SAMPLE_LENGTH,
    SAMPLE_OVERRUN,
    SAMPLE_SHORT,
    UNKNOWN_KEPT,
    VERSION_UNSUPPORTED,
    Core,
    read_datagram,
)
from _sflow_packet cimport DECAPSULATED, L3_LENGTH, NO_PACKET
from _tags cimport MOST_TAGS_KEPT, TAG_SLOTS, TagTable, count_tag

from telemetryd.ingest.sflow.limits import MOST_COUNTERS, MOST_SAMPLES
from telemetryd.ingest.sflow.reasons import Reason
from telemetryd.ingest.sflow.structures import COUNTER_RECORDS, FLOW_RECORDS, SAMPLES
# The numbers compiled in; a test holds them against the enumerations and limits in Python.
constants = {
    "DATAGRAM_SHORT": DATAGRAM_SHORT,
    "VERSION_UNSUPPORTED": VERSION_UNSUPPORTED,
    "AGENT_ADDRESS_TYPE": AGENT_ADDRESS_TYPE,
    "SAMPLE_OVERRUN": SAMPLE_OVERRUN,
    "SAMPLE_LENGTH": SAMPLE_LENGTH,
    "SAMPLE_SHORT": SAMPLE_SHORT,
    "RECORD_OVERRUN": RECORD_OVERRUN,
    "RECORD_LENGTH": RECORD_LENGTH,
    "RECORD_SHORT": RECORD_SHORT,
    "NO_PACKET": NO_PACKET,
    "TRUNCATED": TRUNCATED,
    "FRAGMENT": FRAGMENT,
    "LABELLED": LABELLED,
    "DECAPSULATED": DECAPSULATED,
    "L3_LENGTH": L3_LENGTH,
    "EXPANDED": EXPANDED,
    "LARGEST_DATAGRAM": LARGEST_DATAGRAM,
    "LEAST_FLOW_SAMPLE": LEAST_FLOW_SAMPLE,
    "LEAST_IF_COUNTERS": LEAST_IF_COUNTERS,
    "DROP_REASONS": DROP_REASONS,
    "UNKNOWN_KEPT": UNKNOWN_KEPT,
}


cdef Py_ssize_t decode_range(
    Core *core,
    const uint8_t *data,
    size_t octets,
    const uint64_t *offsets,
    const uint32_t *lengths,
    const int64_t *ts_ns,
    Py_ssize_t n,
    Py_ssize_t first,
) noexcept nogil:
    """Decode from `first` on into rows from 0 on; return the index of the first datagram not consumed.

    That is one for which there may be no room, or one that does not lie within the buffer.
    """
    cdef Py_ssize_t i = first
    cdef size_t offset, length
    cdef Cursor c
    core.n_datagrams = core.n_samples = core.n_counters = 0
    while i < n:
        offset = offsets[i]
        length = lengths[i]
        if offset > octets or length > octets - offset or length > LARGEST_DATAGRAM:
            break
        if (
            core.n_datagrams == core.datagrams_capacity
            or length / LEAST_FLOW_SAMPLE > core.samples_capacity - core.n_samples
            or length / LEAST_IF_COUNTERS > core.counters_capacity - core.n_counters
        ):
            break
        c.at = data + offset
        c.end = c.at + length
        read_datagram(core, c, ts_ns[i])
        core.octets += length
        i += 1
    core.consumed += i - first
    core.flow_samples += core.n_samples
    return i


cdef class Decoder:
    cdef Core *core
    cdef object datagrams
    cdef object samples
    cdef object counters
    cdef list arrays               # keeps alive what the core points into

    def __cinit__(self, datagrams not None, samples not None, counters not None, bint decapsulate=False):
        if datagrams.capacity < 1 or samples.capacity < MOST_SAMPLES or counters.capacity < MOST_COUNTERS:
            raise ValueError(
                f"the batches have room for {datagrams.capacity} datagrams, {samples.capacity} samples and "
                f"{counters.capacity} counters, and the largest datagram needs 1, {MOST_SAMPLES} and "
                f"{MOST_COUNTERS}"
            )
        self.core = <Core *>PyMem_Calloc(1, sizeof(Core))
        if self.core == NULL:
            raise MemoryError
        self.datagrams, self.samples, self.counters = datagrams, samples, counters
        self.arrays = []
        self.core.decapsulate = decapsulate
        self.core.datagrams_capacity = datagrams.capacity
        self.core.samples_capacity = samples.capacity
        self.core.counters_capacity = counters.capacity
        self.bind_datagrams()
        self.bind_samples()
        self.bind_counters()
        fill_table(&self.core.known_samples, SAMPLES)
        fill_table(&self.core.known_flow_records, FLOW_RECORDS)
        fill_table(&self.core.known_counter_records, COUNTER_RECORDS)

    def __dealloc__(self):
        PyMem_Free(self.core)

    cdef uint8_t *u8(self, batch, name) except NULL:
        cdef uint8_t[::1] column = batch[name]
        self.arrays.append(column)
        return &column[0]

    cdef uint16_t *u16(self, batch, name) except NULL:
        cdef uint16_t[::1] column = batch[name]
        self.arrays.append(column)
        return &column[0]

    cdef uint32_t *u32(self, batch, name) except NULL:
        cdef uint32_t[::1] column = batch[name]
        self.arrays.append(column)
        return &column[0]

    cdef uint64_t *u64(self, batch, name) except NULL:
        cdef uint64_t[::1] column = batch[name]
        self.arrays.append(column)
        return &column[0]

    cdef int64_t *i64(self, batch, name) except NULL:
        cdef int64_t[::1] column = batch[name]
        self.arrays.append(column)
        return &column[0]

    cdef int bind_datagrams(self) except -1:
        batch = self.datagrams
        self.core.datagrams.ts_ns = self.i64(batch, "ts_ns")
        self.core.datagrams.agent_hi = self.u64(batch, "agent_hi")
        self.core.datagrams.agent_lo = self.u64(batch, "agent_lo")
        self.core.datagrams.agent_version = self.u8(batch, "agent_version")
        self.core.datagrams.sub_agent_id = self.u32(batch, "sub_agent_id")
        self.core.datagrams.sequence_number = self.u32(batch, "sequence_number")
        self.core.datagrams.uptime = self.u32(batch, "uptime")
        return 0

    cdef int bind_samples(self) except -1:
        batch = self.samples
        self.core.samples.datagram = self.u32(batch, "datagram")
        self.core.samples.sequence_number = self.u32(batch, "sequence_number")
        self.core.samples.source_class = self.u32(batch, "source_class")
        self.core.samples.source_index = self.u32(batch, "source_index")
        self.core.samples.sampling_rate = self.u32(batch, "sampling_rate")
        self.core.samples.sample_pool = self.u32(batch, "sample_pool")
        self.core.samples.drops = self.u32(batch, "drops")
        self.core.samples.input_format = self.u8(batch, "input_format")
        self.core.samples.input = self.u32(batch, "input")
        self.core.samples.output_format = self.u8(batch, "output_format")
        self.core.samples.output = self.u32(batch, "output")
        self.core.samples.frame_length = self.u32(batch, "frame_length")
        self.core.samples.flags = self.u8(batch, "flags")
        self.core.samples.vlan_id = self.u16(batch, "vlan_id")
        self.core.samples.ether_type = self.u16(batch, "ether_type")
        self.core.samples.source_hi = self.u64(batch, "source_hi")
        self.core.samples.source_lo = self.u64(batch, "source_lo")
        self.core.samples.destination_hi = self.u64(batch, "destination_hi")
        self.core.samples.destination_lo = self.u64(batch, "destination_lo")
        self.core.samples.ip_version = self.u8(batch, "ip_version")
        self.core.samples.protocol = self.u8(batch, "protocol")
        self.core.samples.dscp = self.u8(batch, "dscp")
        self.core.samples.tcp_flags = self.u8(batch, "tcp_flags")
        self.core.samples.source_port = self.u16(batch, "source_port")
        self.core.samples.destination_port = self.u16(batch, "destination_port")
        return 0

    cdef int bind_counters(self) except -1:
        batch = self.counters
        self.core.counters.datagram = self.u32(batch, "datagram")
        self.core.counters.sequence_number = self.u32(batch, "sequence_number")
        self.core.counters.source_class = self.u32(batch, "source_class")
        self.core.counters.source_index = self.u32(batch, "source_index")
        self.core.counters.if_index = self.u32(batch, "if_index")
        self.core.counters.if_type = self.u32(batch, "if_type")
        self.core.counters.if_speed_bps = self.u64(batch, "if_speed_bps")
        self.core.counters.if_direction = self.u32(batch, "if_direction")
        self.core.counters.if_status = self.u32(batch, "if_status")
        self.core.counters.in_octets = self.u64(batch, "in_octets")
        self.core.counters.in_ucast_packets = self.u32(batch, "in_ucast_packets")
        self.core.counters.in_multicast_packets = self.u32(batch, "in_multicast_packets")
        self.core.counters.in_broadcast_packets = self.u32(batch, "in_broadcast_packets")
        self.core.counters.in_discards = self.u32(batch, "in_discards")
        self.core.counters.in_errors = self.u32(batch, "in_errors")
        self.core.counters.in_unknown_protos = self.u32(batch, "in_unknown_protos")
        self.core.counters.out_octets = self.u64(batch, "out_octets")
        self.core.counters.out_ucast_packets = self.u32(batch, "out_ucast_packets")
        self.core.counters.out_multicast_packets = self.u32(batch, "out_multicast_packets")
        self.core.counters.out_broadcast_packets = self.u32(batch, "out_broadcast_packets")
        self.core.counters.out_discards = self.u32(batch, "out_discards")
        self.core.counters.out_errors = self.u32(batch, "out_errors")
        return 0

    def decode(
        self,
        const uint8_t[::1] buffer not None,
        const uint64_t[::1] offsets not None,
        const uint32_t[::1] lengths not None,
        const int64_t[::1] ts_ns not None,
        Py_ssize_t first,
    ):
        cdef Py_ssize_t n = offsets.shape[0]
        cdef Py_ssize_t stop = first
        cdef size_t octets = buffer.shape[0]
        cdef uint8_t nothing = 0
        cdef const uint8_t *data = &buffer[0] if octets else &nothing
        if lengths.shape[0] != n or ts_ns.shape[0] != n:
            raise ValueError(f"{n} offsets, {lengths.shape[0]} lengths and {ts_ns.shape[0]} time stamps")
        if not 0 <= first <= n:
            raise ValueError(f"there is no datagram {first} of {n}")
        if first < n:
            with nogil:
                stop = decode_range(self.core, data, octets, &offsets[0], &lengths[0], &ts_ns[0], n, first)
            if stop == first:      # empty batches have room for any datagram
                raise ValueError(
                    f"datagram {first} is {lengths[first]} octets at offset {offsets[first]}: outside the "
                    f"buffer of {octets} octets, or longer than {LARGEST_DATAGRAM} octets"
                )
        else:
            self.core.n_datagrams = self.core.n_samples = self.core.n_counters = 0
        self.datagrams.n = self.core.n_datagrams
        self.samples.n = self.core.n_samples
        self.counters.n = self.core.n_counters
        return stop

    def stats(self):
        cdef Core *core = self.core
        return {
            "datagrams": core.consumed,
            "octets": core.octets,
            "flow_samples": core.flow_samples,
            "counters_samples": core.counters_samples,
            "discarded_packets": {i: core.drops[i] for i in range(DROP_REASONS) if core.drops[i]},
            "errors": {Reason(i).label: core.faults[i] for i in range(<int>FAULTS) if core.faults[i]},
            "unknown_samples": read_table(&core.unknown_samples),
            "unknown_records": read_table(&core.unknown_records),
            "other_unknown_samples": core.other_unknown_samples,
            "other_unknown_records": core.other_unknown_records,
        }


cdef int fill_table(TagTable *table, tags) except -1:
    for tag in tags:
        if not count_tag(table, tag, MOST_TAGS_KEPT):
            raise OverflowError(f"more than {MOST_TAGS_KEPT} structures in one name space")
    return 0


cdef dict read_table(const TagTable *table):
    return {
        (table.tags[slot] >> 12, table.tags[slot] & 0xFFF): table.counts[slot]
        for slot in range(TAG_SLOTS)
        if table.counts[slot]
    }
