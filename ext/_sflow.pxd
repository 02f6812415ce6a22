# sFlow version 5, from the octets of a datagram to columns: what the compiled decoder runs (header-only).
#
#   datagram  version agent_address sub_agent_id sequence_number uptime count  sample*      (section 5)
#   sample    data_format length { fixed part, count, record* }
#   record    data_format length { fields }
#
# The specification is the detail decoder (telemetryd/ingest/sflow/decode.py), projected to the columns of
# telemetryd/schema.py by telemetryd/ingest/sflow/columns.py. Only what feeds a column is read: of flow
# samples sampled_header, sampled_ethernet, sampled_ipv4, sampled_ipv6 and extended_switch, of counters
# samples if_counters; other structures are stepped over by their length. Every level is a cursor of its
# own, cut to its length, so that a lie ends where it was told.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from _columns cimport CounterColumns, DatagramColumns, SampleColumns
from _cursor cimport Cursor, left, load16, load32, load64, prefetch, take
from _sflow_packet cimport FlowRecords, write_packet
from _tags cimport TagTable, count_tag, has_tag


cdef enum Fault:                   # reasons.Reason; a test compares them
    SOUND = 0
    DATAGRAM_SHORT = 1
    VERSION_UNSUPPORTED = 2
    AGENT_ADDRESS_TYPE = 3
    SAMPLE_OVERRUN = 4
    SAMPLE_LENGTH = 5
    SAMPLE_SHORT = 6
    RECORD_OVERRUN = 7
    RECORD_LENGTH = 8
    RECORD_SHORT = 9
    FAULTS = 10


cdef enum:
    VERSION = 5
    ADDRESS_UNKNOWN = 0
    ADDRESS_IPV4 = 1
    ADDRESS_IPV6 = 2

    FLOW_SAMPLE = 1                # sample types of enterprise 0
    COUNTERS_SAMPLE = 2
    FLOW_SAMPLE_EXPANDED = 3
    COUNTERS_SAMPLE_EXPANDED = 4
    DISCARDED_PACKET = 5

    SAMPLED_HEADER = 1             # flow records of enterprise 0
    SAMPLED_ETHERNET = 2
    SAMPLED_IPV4 = 3
    SAMPLED_IPV6 = 4
    EXTENDED_SWITCH = 1001

    IF_COUNTERS = 1                # counter record of enterprise 0

    EXPANDED = 64                  # schema.SampleFlag; a test compares them

    LARGEST_DATAGRAM = 65535       # limits.py; a test compares them
    LEAST_FLOW_SAMPLE = 40
    LEAST_IF_COUNTERS = 96
    DROP_REASONS = 512
    UNKNOWN_KEPT = 256

    # A flow sample is some three cache lines; those of ten samples later are asked for. The hardware's own
    # prefetching alone costs 4 ns a sample more.
    AHEAD = 2048
    LINE = 64


cdef struct Core:
    # Everything the loop touches; no Python object in it.
    DatagramColumns datagrams
    SampleColumns samples
    CounterColumns counters
    size_t datagrams_capacity
    size_t samples_capacity
    size_t counters_capacity
    size_t n_datagrams             # rows written by this call
    size_t n_samples
    size_t n_counters
    bint decapsulate
    TagTable known_samples         # data_format words of the table of structures
    TagTable known_flow_records
    TagTable known_counter_records
    TagTable unknown_samples
    TagTable unknown_records
    uint64_t other_unknown_samples  # those for which the table had no place
    uint64_t other_unknown_records
    uint64_t consumed              # datagrams, sound or not
    uint64_t octets
    uint64_t flow_samples
    uint64_t counters_samples
    uint64_t drops[DROP_REASONS]   # discarded_packet samples by reason
    uint64_t faults[FAULTS]


cdef struct Item:
    # A sample or a record: its data_format and the octets of its length.
    uint32_t tag
    Cursor body


cdef inline void count_fault(Core *core, Fault fault) noexcept nogil:
    core.faults[<int>fault] += 1


# --- the three levels ----------------------------------------------------------------------------------

cdef inline bint next_item(
    Core *core, Cursor *c, Item *item, Fault overrun, Fault length_fault
) noexcept nogil:
    """Cut the next sample or record off the cursor and step over it; False where it does not fit."""
    cdef size_t octets = left(c[0])
    cdef uint64_t words
    cdef size_t length
    if octets < 8:
        count_fault(core, overrun)
        return False
    words = load64(c.at)
    item.tag = <uint32_t>(words >> 32)
    length = <uint32_t>words
    octets -= 8
    if length > octets:
        count_fault(core, overrun)
        return False
    item.body.at = c.at + 8
    item.body.end = item.body.at + length
    c.at = item.body.end
    if length & 3:
        count_fault(core, length_fault)
        take(c, min(4 - (length & 3), left(c[0])))
    return True


cdef inline void read_datagram(Core *core, Cursor c, int64_t ts_ns) noexcept nogil:
    cdef DatagramColumns *columns = &core.datagrams
    cdef size_t row = core.n_datagrams
    cdef const uint8_t *p = take(&c, 4)
    cdef const uint8_t *address
    cdef uint32_t kind, count
    cdef uint64_t is_ipv6, low
    cdef size_t octets
    cdef Item item
    if p == NULL:
        count_fault(core, DATAGRAM_SHORT)
        return
    if load32(p) != VERSION:
        count_fault(core, VERSION_UNSUPPORTED)
        return
    p = take(&c, 4)
    if p == NULL:
        count_fault(core, DATAGRAM_SHORT)
        return
    kind = load32(p)
    if kind > ADDRESS_IPV6:
        count_fault(core, AGENT_ADDRESS_TYPE)
        return
    octets = (0x100400 >> (8 * kind)) & 0xFF         # 0, 4 or 16
    address = take(&c, octets)
    p = take(&c, 16) if address != NULL else NULL
    if p == NULL:
        count_fault(core, DATAGRAM_SHORT)
        return
    # The 16 octets behind the address were checked with it, so that eight may be loaded of any address;
    # versions mix, so that masks are better than branches.
    is_ipv6 = kind == ADDRESS_IPV6
    low = load64(address + 8 * is_ipv6) >> (32 - 32 * is_ipv6)
    columns.ts_ns[row] = ts_ns
    columns.agent_hi[row] = load64(address) & (0 - is_ipv6)
    columns.agent_lo[row] = low & (0 - <uint64_t>(kind != ADDRESS_UNKNOWN))
    columns.agent_version[row] = <uint8_t>((0x060400 >> (8 * kind)) & 0xFF)
    columns.sub_agent_id[row] = load32(p)
    columns.sequence_number[row] = load32(p + 4)
    columns.uptime[row] = load32(p + 8)
    core.n_datagrams = row + 1
    count = load32(p + 12)
    # Every turn takes eight octets or ends the loop, whatever the count claims.
    while count:
        count -= 1
        if not next_item(core, &c, &item, SAMPLE_OVERRUN, SAMPLE_LENGTH):
            return
        read_sample(core, item, <uint32_t>row)


cdef inline void read_sample(Core *core, Item item, uint32_t datagram) noexcept nogil:
    """Read one sample; a flow sample is a row, in either of its forms."""
    cdef Cursor c = item.body
    cdef const uint8_t *p
    cdef uint32_t count
    cdef uint32_t flags = 0
    prefetch(c.at, AHEAD)
    prefetch(c.at, AHEAD + LINE)
    prefetch(c.at, AHEAD + 2 * LINE)
    if item.tag == FLOW_SAMPLE:
        p = take(&c, 32)
        if p == NULL:
            count_fault(core, SAMPLE_SHORT)
            return
        write_sample(&core.samples, core.n_samples, p)
        count = load32(p + 28)
    elif item.tag == FLOW_SAMPLE_EXPANDED:
        p = take(&c, 44)
        if p == NULL:
            count_fault(core, SAMPLE_SHORT)
            return
        write_sample_expanded(&core.samples, core.n_samples, p)
        count = load32(p + 40)
        flags = EXPANDED
    else:
        read_other_sample(core, item, datagram)
        return
    core.samples.datagram[core.n_samples] = datagram
    cdef FlowRecords found = read_flow_records(core, c, count)
    write_packet(&core.samples, core.n_samples, &found, flags, core.decapsulate)
    core.n_samples += 1


cdef inline void write_sample(const SampleColumns *columns, size_t row, const uint8_t *p) noexcept nogil:
    """sequence_number source_id sampling_rate sample_pool drops input output flow_records<>"""
    cdef uint32_t source = load32(p + 4)
    cdef uint32_t input_ = load32(p + 20)
    cdef uint32_t output = load32(p + 24)
    columns.sequence_number[row] = load32(p)
    columns.source_class[row] = source >> 24
    columns.source_index[row] = source & 0xFFFFFF
    columns.sampling_rate[row] = load32(p + 8)
    columns.sample_pool[row] = load32(p + 12)
    columns.drops[row] = load32(p + 16)
    columns.input_format[row] = input_ >> 30
    columns.input[row] = input_ & 0x3FFFFFFF
    columns.output_format[row] = output >> 30
    columns.output[row] = output & 0x3FFFFFFF


cdef inline void write_sample_expanded(
    const SampleColumns *columns, size_t row, const uint8_t *p
) noexcept nogil:
    """The same with two words each for source_id, input and output."""
    columns.sequence_number[row] = load32(p)
    columns.source_class[row] = load32(p + 4)
    columns.source_index[row] = load32(p + 8)
    columns.sampling_rate[row] = load32(p + 12)
    columns.sample_pool[row] = load32(p + 16)
    columns.drops[row] = load32(p + 20)
    columns.input_format[row] = <uint8_t>min(load32(p + 24), 255)
    columns.input[row] = load32(p + 28)
    columns.output_format[row] = <uint8_t>min(load32(p + 32), 255)
    columns.output[row] = load32(p + 36)


cdef inline void read_other_sample(Core *core, Item item, uint32_t datagram) noexcept nogil:
    cdef bint is_sound = True
    if item.tag == COUNTERS_SAMPLE or item.tag == COUNTERS_SAMPLE_EXPANDED:
        is_sound = read_counters_sample(core, item.body, datagram, item.tag == COUNTERS_SAMPLE_EXPANDED)
    elif item.tag == DISCARDED_PACKET:
        is_sound = read_discarded_packet(core, item.body)
    elif not has_tag(&core.known_samples, item.tag):
        if not count_tag(&core.unknown_samples, item.tag, UNKNOWN_KEPT):
            core.other_unknown_samples += 1
    if not is_sound:
        count_fault(core, SAMPLE_SHORT)


cdef inline bint read_discarded_packet(Core *core, Cursor c) noexcept nogil:
    """sequence_number source_id drops inputifindex outputifindex reason discard_records<>: no row."""
    cdef const uint8_t *p = take(&c, 32)
    cdef uint32_t reason
    if p == NULL:
        return False
    reason = load32(p + 24)
    core.drops[min(reason, DROP_REASONS - 1)] += 1
    read_flow_records(core, c, load32(p + 28))
    return True


cdef inline bint read_counters_sample(
    Core *core, Cursor c, uint32_t datagram, bint is_expanded
) noexcept nogil:
    """sequence_number source_id counters<>: a row for each if_counters."""
    cdef const uint8_t *p = take(&c, 16 if is_expanded else 12)
    cdef uint32_t source_class, source_index, count
    cdef Item item
    if p == NULL:
        return False
    if is_expanded:
        source_class = load32(p + 4)
        source_index = load32(p + 8)
        count = load32(p + 12)
    else:
        source_class = load32(p + 4) >> 24
        source_index = load32(p + 4) & 0xFFFFFF
        count = load32(p + 8)
    core.counters_samples += 1
    while count:
        count -= 1
        if not next_item(core, &c, &item, RECORD_OVERRUN, RECORD_LENGTH):
            break
        if item.tag == IF_COUNTERS:
            write_counters(core, item.body, datagram, load32(p), source_class, source_index)
        elif not has_tag(&core.known_counter_records, item.tag):
            count_unknown_record(core, item.tag)
    return True


cdef inline void write_counters(
    Core *core,
    Cursor c,
    uint32_t datagram,
    uint32_t sequence_number,
    uint32_t source_class,
    uint32_t source_index,
) noexcept nogil:
    cdef CounterColumns *columns = &core.counters
    cdef size_t row = core.n_counters
    cdef const uint8_t *p = take(&c, 88)
    if p == NULL:
        count_fault(core, RECORD_SHORT)
        return
    columns.datagram[row] = datagram
    columns.sequence_number[row] = sequence_number
    columns.source_class[row] = source_class
    columns.source_index[row] = source_index
    columns.if_index[row] = load32(p)
    columns.if_type[row] = load32(p + 4)
    columns.if_speed_bps[row] = load64(p + 8)
    columns.if_direction[row] = load32(p + 16)
    columns.if_status[row] = load32(p + 20)
    columns.in_octets[row] = load64(p + 24)
    columns.in_ucast_packets[row] = load32(p + 32)
    columns.in_multicast_packets[row] = load32(p + 36)
    columns.in_broadcast_packets[row] = load32(p + 40)
    columns.in_discards[row] = load32(p + 44)
    columns.in_errors[row] = load32(p + 48)
    columns.in_unknown_protos[row] = load32(p + 52)
    columns.out_octets[row] = load64(p + 56)
    columns.out_ucast_packets[row] = load32(p + 64)
    columns.out_multicast_packets[row] = load32(p + 68)
    columns.out_broadcast_packets[row] = load32(p + 72)
    columns.out_discards[row] = load32(p + 76)
    columns.out_errors[row] = load32(p + 80)
    core.n_counters = row + 1


cdef inline FlowRecords read_flow_records(Core *core, Cursor c, uint32_t count) noexcept nogil:
    """Note where the first complete record of each kind is; their order is free."""
    cdef FlowRecords found = FlowRecords(NULL, NULL, NULL, NULL, False)
    cdef Item item
    cdef const uint8_t *p = c.at
    cdef size_t octets = left(c)
    cdef size_t length
    # A short cut past the loop, worth 2 ns: nearly all samples begin with a sound sampled_header of `length`
    # octets and an extended_switch of 16, each behind its tag and length.
    if count >= 2 and octets >= 8 + 16 + 8 + 16:
        length = load32(p + 4)
        if (
            load32(p) == SAMPLED_HEADER
            and length >= 16
            and length <= octets - 32
            and length & 3 == 0
            and load32(p + 20) <= length - 16
            and load64(p + 8 + length) == <uint64_t>EXTENDED_SWITCH << 32 | 16
        ):
            found.header = p + 8
            found.vlans = p + 16 + length
            take(&c, 32 + length)
            count -= 2
    while count:
        count -= 1
        if not next_item(core, &c, &item, RECORD_OVERRUN, RECORD_LENGTH):
            break
        if item.tag == SAMPLED_HEADER:
            p = take(&item.body, 16)
            if p == NULL or load32(p + 12) > left(item.body):
                count_fault(core, RECORD_SHORT)
            elif found.header == NULL:
                found.header = p
        elif item.tag == EXTENDED_SWITCH:
            p = take(&item.body, 16)
            if p == NULL:
                count_fault(core, RECORD_SHORT)
            elif found.vlans == NULL:
                found.vlans = p
        elif item.tag == SAMPLED_ETHERNET:
            p = take(&item.body, 24)
            if p == NULL:
                count_fault(core, RECORD_SHORT)
            elif found.ethernet == NULL:
                found.ethernet = p
        elif item.tag == SAMPLED_IPV4 or item.tag == SAMPLED_IPV6:
            p = take(&item.body, 32 if item.tag == SAMPLED_IPV4 else 56)
            if p == NULL:
                count_fault(core, RECORD_SHORT)
            elif found.network == NULL:
                found.network = p
                found.is_ipv6 = item.tag == SAMPLED_IPV6
        elif not has_tag(&core.known_flow_records, item.tag):
            count_unknown_record(core, item.tag)
    return found


cdef inline void count_unknown_record(Core *core, uint32_t tag) noexcept nogil:
    if not count_tag(&core.unknown_records, tag, UNKNOWN_KEPT):
        core.other_unknown_records += 1
