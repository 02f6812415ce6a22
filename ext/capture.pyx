"""Scan pcap and pcapng octets for UDP datagrams, without a Python object a packet.

The layouts, which telemetryd/ingest/capture_reference.py specifies in Python
(draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng; b = byte order of the file or section):

    pcap file:    magic u32 b, major u16 b, minor u16 b, zone u32, accuracy u32, snap length u32 b, link type u32 b
    pcap record:  seconds u32 b, fraction u32 b, captured u32 b, original u32 b [8 octets more if magic is a1b2cd34]
    pcapng block: type u32 b, total length u32 b, body, total length u32 b
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from _capture_packet cimport *

cdef extern from *:
    ctypedef long long int128_t "__int128"
    void prefetch "__builtin_prefetch" (const void* octets) nogil

# telemetryd.ingest.capture_codes.Status
cdef enum:
    STATUS_BATCH = 0
    STATUS_MORE = 1
    STATUS_DAMAGED = 2

# telemetryd.ingest.capture_codes.Damage
cdef enum:
    DAMAGE_NONE = 0
    DAMAGE_NOT_A_CAPTURE = 1
    DAMAGE_RECORD_LENGTH = 2
    DAMAGE_BLOCK_LENGTH = 3
    DAMAGE_BLOCK_TRAILER = 4
    DAMAGE_BYTE_ORDER = 5
    DAMAGE_VERSION = 6
    DAMAGE_PACKET_LENGTH = 7
    DAMAGE_INTERFACES = 8

cdef enum:
    MOST_RECORD_OCTETS = 262144
    MOST_BLOCK_OCTETS = 16777216
    MOST_INTERFACES = 65536
    MOST_DATAGRAM_OCTETS = 65535
    FRAGMENT_SLOTS = 64
    FRAGMENT_UNIT = 8                 # offsets count in this many octets
    FRAGMENT_MAP = 1024               # octets: one bit a unit of a slot
    SLOT_OCTETS = 65536

# Each record's place depends on the length of the one before it, so that a plain walk waits for the memory at
# every packet. Asked for this far ahead, line by line, the octets come as fast as in one pass over them (2 ns a
# packet beyond that, where the plain walk took 110), and the decoder finds them in the cache.
cdef enum:
    PREFETCH_DISTANCE = 8192
    CACHE_LINE = 64

cdef int64_t FRAGMENT_TIMEOUT_NS = 30_000_000_000

cdef enum:
    FORMAT_UNKNOWN = 0
    FORMAT_PCAP = 1
    FORMAT_PCAPNG = 2

cdef enum:
    PCAP_HEADER = 24
    PCAP_RECORD = 16
    PCAP_RECORD_MODIFIED = 24
    BLOCK_FRAME = 12                  # type and the two lengths
    BLOCK_INTERFACE = 1
    BLOCK_PACKET = 2                  # obsolete
    BLOCK_SIMPLE_PACKET = 3
    BLOCK_ENHANCED_PACKET = 6
    OPTION_END = 0
    OPTION_IF_TSRESOL = 9
    OPTION_IF_TSOFFSET = 14

cdef uint32_t MAGIC_MICROSECONDS = 0xA1B2C3D4
cdef uint32_t MAGIC_NANOSECONDS = 0xA1B23C4D
cdef uint32_t MAGIC_MODIFIED = 0xA1B2CD34
cdef uint32_t BLOCK_SECTION = 0x0A0D0D0A
cdef uint32_t BYTE_ORDER_MAGIC = 0x1A2B3C4D

cdef int64_t NS_PER_SECOND = 1_000_000_000
cdef int64_t INT64_GREATEST = 0x7FFFFFFFFFFFFFFF
cdef uint64_t MOST_DIVISOR = 10 ** 18


cdef struct Interface:
    uint32_t link_type
    uint32_t snap_length
    # nanoseconds = ticks * multiplier / divisor / 2^shift + offset
    uint64_t multiplier
    uint64_t divisor
    int shift
    int128_t offset_ns


cdef struct Slot:
    uint64_t source_hi
    uint64_t source_lo
    uint64_t destination_hi
    uint64_t destination_lo
    uint32_t identification
    uint8_t version
    uint8_t next_header
    bint used
    uint32_t total                    # octets of the whole, 0 while the last fragment is missing
    uint32_t units                    # received
    uint32_t packets
    uint64_t serial                   # order of arrival
    int64_t deadline_ns
    uint8_t* octets
    uint8_t* map


@cython.final
cdef class Scanner:
    """See telemetryd/ingest/capture_reference.py, the specification of this class."""

    cdef readonly Py_ssize_t position
    cdef readonly Py_ssize_t needed
    cdef readonly Py_ssize_t rows
    cdef readonly bint in_side
    cdef readonly int damage
    cdef readonly uint64_t packets
    cdef readonly uint64_t datagrams
    cdef readonly uint64_t truncated
    cdef readonly uint64_t fragments
    cdef readonly uint64_t reassembled
    cdef readonly int64_t first_ts_ns
    cdef readonly int64_t last_ts_ns
    cdef uint64_t[SKIP_REASONS] skipped_packets
    cdef int64_t port
    # file format
    cdef int format
    cdef bint big_endian
    cdef bint nanoseconds
    cdef uint32_t link_type
    cdef Py_ssize_t record_header
    cdef uint32_t most_captured
    cdef Interface* interfaces
    cdef Py_ssize_t interface_count
    cdef Py_ssize_t interface_room
    cdef int64_t packet_ts_ns
    # fragments
    cdef Slot* slots
    cdef uint8_t* slot_octets
    cdef int pending
    cdef uint64_t serial
    # rows of the scan that runs
    cdef const uint8_t* base
    cdef Py_ssize_t size
    cdef uint8_t* side
    cdef Py_ssize_t side_room
    cdef Py_ssize_t side_used
    cdef Py_ssize_t capacity
    cdef uint64_t* offsets
    cdef uint32_t* lengths
    cdef int64_t* ts_ns
    cdef uint64_t* source_hi
    cdef uint64_t* source_lo
    cdef uint8_t* source_version

    def __cinit__(self, port):
        self.port = -1 if port is None else port
        self.pending = -1
        self.interfaces = NULL
        self.slots = NULL
        self.slot_octets = NULL

    def __dealloc__(self):
        free(self.interfaces)
        free(self.slots)
        free(self.slot_octets)

    @property
    def skipped(self):
        return [self.skipped_packets[reason] for reason in range(SKIP_REASONS)]

    def scan(
        self,
        const uint8_t[::1] buffer not None,
        Py_ssize_t position,
        uint64_t[::1] offsets not None,
        uint32_t[::1] lengths not None,
        int64_t[::1] ts_ns not None,
        uint64_t[::1] source_hi not None,
        uint64_t[::1] source_lo not None,
        uint8_t[::1] source_version not None,
        uint8_t[::1] side not None,
    ):
        cdef int status
        cdef Py_ssize_t capacity = offsets.shape[0]
        if not (
            capacity > 0
            and lengths.shape[0] == capacity
            and ts_ns.shape[0] == capacity
            and source_hi.shape[0] == capacity
            and source_lo.shape[0] == capacity
            and source_version.shape[0] == capacity
        ):
            raise ValueError("the row arrays must have one length of at least 1")
        if side.shape[0] < MOST_DATAGRAM_OCTETS:
            raise ValueError(f"the side buffer must hold {MOST_DATAGRAM_OCTETS} octets")
        if not 0 <= position <= buffer.shape[0]:
            raise ValueError("the position lies outside the buffer")
        self.capacity = capacity
        self.offsets = &offsets[0]
        self.lengths = &lengths[0]
        self.ts_ns = &ts_ns[0]
        self.source_hi = &source_hi[0]
        self.source_lo = &source_lo[0]
        self.source_version = &source_version[0]
        self.side = &side[0]
        self.side_room = side.shape[0]
        self.base = &buffer[0] if buffer.shape[0] else NULL
        self.size = buffer.shape[0]
        self.position = position
        self.rows = 0
        self.needed = 0
        self.side_used = 0
        self.in_side = False
        with nogil:
            status = self.run()
        if status < 0:
            raise MemoryError
        return status

    def finish(self):
        cdef int index
        if self.slots != NULL:
            for index in range(FRAGMENT_SLOTS):
                if self.slots[index].used:
                    self.give_up(&self.slots[index], SKIP_FRAGMENT_INCOMPLETE)

    # --- formats ---------------------------------------------------------------------------------------

    cdef int run(self) noexcept nogil:
        cdef int status
        if self.format == FORMAT_UNKNOWN:
            status = self.read_file_header()
            if status != STATUS_BATCH:
                return status
        if self.pending >= 0:
            self.in_side = True
            self.emit_pending()
        if self.format == FORMAT_PCAP:
            return self.scan_pcap()
        return self.scan_pcapng()

    cdef inline uint32_t u16(self, const uint8_t* p) noexcept nogil:
        return be16(p) if self.big_endian else le16(p)

    cdef inline uint32_t u32(self, const uint8_t* p) noexcept nogil:
        return be32(p) if self.big_endian else le32(p)

    cdef inline int want(self, Py_ssize_t octets) noexcept nogil:
        self.needed = octets
        return STATUS_MORE

    cdef inline int damaged(self, int what) noexcept nogil:
        self.damage = what
        return STATUS_DAMAGED

    cdef inline void ask_ahead(self, const uint8_t* p, Py_ssize_t left, Py_ssize_t octets) noexcept nogil:
        """Prefetch as many octets, PREFETCH_DISTANCE ahead, as the record at `p` is long."""
        cdef Py_ssize_t ahead = PREFETCH_DISTANCE
        cdef Py_ssize_t end = min(PREFETCH_DISTANCE + octets, left)
        while ahead < end:
            prefetch(p + ahead)
            ahead += CACHE_LINE

    cdef inline bint must_stop(self) noexcept nogil:
        """Tell whether the next datagram might find no room."""
        return (
            self.rows == self.capacity
            or self.pending >= 0
            or (self.in_side and self.side_room - self.side_used < MOST_DATAGRAM_OCTETS)
        )

    cdef int read_file_header(self) noexcept nogil:
        cdef const uint8_t* p = self.base + self.position
        cdef Py_ssize_t left = self.size - self.position
        cdef uint32_t magic, snap_length
        if left < 4:
            return self.want(4)
        magic = be32(p)
        if magic == BLOCK_SECTION:
            self.format = FORMAT_PCAPNG
            return STATUS_BATCH
        self.big_endian = magic == MAGIC_MICROSECONDS or magic == MAGIC_NANOSECONDS or magic == MAGIC_MODIFIED
        magic = self.u32(p)
        if magic != MAGIC_MICROSECONDS and magic != MAGIC_NANOSECONDS and magic != MAGIC_MODIFIED:
            return self.damaged(DAMAGE_NOT_A_CAPTURE)
        if left < PCAP_HEADER:
            return self.want(PCAP_HEADER)
        if self.u16(p + 4) != 2:
            return self.damaged(DAMAGE_VERSION)
        snap_length = self.u32(p + 16)
        self.most_captured = MOST_RECORD_OCTETS
        if MOST_RECORD_OCTETS < snap_length <= MOST_BLOCK_OCTETS:
            self.most_captured = snap_length
        # the upper half holds the length of the frame check sequence, which lies behind the IP packet
        self.link_type = self.u32(p + 20) & 0xFFFF
        self.nanoseconds = magic == MAGIC_NANOSECONDS
        self.record_header = PCAP_RECORD_MODIFIED if magic == MAGIC_MODIFIED else PCAP_RECORD
        self.format = FORMAT_PCAP
        self.position += PCAP_HEADER
        return STATUS_BATCH

    cdef int scan_pcap(self) noexcept nogil:
        cdef const uint8_t* p
        cdef Py_ssize_t left
        cdef uint32_t captured
        cdef int64_t scale = 1 if self.nanoseconds else 1000
        while not self.must_stop():
            p = self.base + self.position
            left = self.size - self.position
            if left < self.record_header:
                return self.want(self.record_header)
            captured = self.u32(p + 8)
            if captured > self.most_captured:
                return self.damaged(DAMAGE_RECORD_LENGTH)
            if left < self.record_header + captured:
                return self.want(self.record_header + captured)
            self.ask_ahead(p, left, self.record_header + captured)
            self.packet_ts_ns = self.u32(p) * NS_PER_SECOND + self.u32(p + 4) * scale
            p += self.record_header
            self.position += self.record_header + captured
            if self.packet(p, p + captured, self.link_type) < 0:
                return -1
        return STATUS_BATCH

    cdef int scan_pcapng(self) noexcept nogil:
        cdef const uint8_t* p
        cdef Py_ssize_t left
        cdef uint32_t kind, length
        cdef int damage
        while not self.must_stop():
            p = self.base + self.position
            left = self.size - self.position
            if left < BLOCK_FRAME:
                return self.want(BLOCK_FRAME)
            if be32(p) == BLOCK_SECTION:
                if be32(p + 8) == BYTE_ORDER_MAGIC:
                    self.big_endian = True
                elif le32(p + 8) == BYTE_ORDER_MAGIC:
                    self.big_endian = False
                else:
                    return self.damaged(DAMAGE_BYTE_ORDER)
            kind = self.u32(p)
            length = self.u32(p + 4)
            if length < BLOCK_FRAME or length % 4 != 0 or length > MOST_BLOCK_OCTETS:
                return self.damaged(DAMAGE_BLOCK_LENGTH)
            if left < length:
                return self.want(length)
            if self.u32(p + length - 4) != length:
                return self.damaged(DAMAGE_BLOCK_TRAILER)
            self.ask_ahead(p, left, length)
            damage = self.block(p, kind, length)
            if damage < 0:
                return -1
            if damage != DAMAGE_NONE:
                return self.damaged(damage)
            self.position += length
        return STATUS_BATCH

    cdef int block(self, const uint8_t* p, uint32_t kind, uint32_t length) noexcept nogil:
        """Read one block whose `length` octets are all there; returns a Damage, or -1 without memory."""
        cdef uint32_t interface, captured, header
        if kind == BLOCK_ENHANCED_PACKET or kind == BLOCK_PACKET:
            header = 28
            if length < header + 4:
                return DAMAGE_BLOCK_LENGTH
            interface = self.u32(p + 8) if kind == BLOCK_ENHANCED_PACKET else self.u16(p + 8)
            captured = self.u32(p + 20)
            if captured > length - header - 4:
                return DAMAGE_PACKET_LENGTH
            if interface >= self.interface_count:
                self.packets += 1
                self.skipped_packets[SKIP_UNKNOWN_INTERFACE] += 1
                return DAMAGE_NONE
            self.packet_ts_ns = time_ns(
                &self.interfaces[interface], (<uint64_t>self.u32(p + 12) << 32) | self.u32(p + 16)
            )
        elif kind == BLOCK_SIMPLE_PACKET:
            header = 12
            if length < header + 4:
                return DAMAGE_BLOCK_LENGTH
            interface = 0
            if self.interface_count == 0:
                self.packets += 1
                self.skipped_packets[SKIP_UNKNOWN_INTERFACE] += 1
                return DAMAGE_NONE
            # it has no captured length and no time: the least of three bounds, and the packet before it
            captured = self.u32(p + 8)
            if 0 < self.interfaces[0].snap_length < captured:
                captured = self.interfaces[0].snap_length
            if captured > length - header - 4:
                captured = length - header - 4
        elif kind == BLOCK_INTERFACE:
            return self.interface_block(p, length)
        elif kind == BLOCK_SECTION:
            if length < 28:
                return DAMAGE_BLOCK_LENGTH
            if self.u16(p + 12) != 1:
                return DAMAGE_VERSION
            self.interface_count = 0
            return DAMAGE_NONE
        else:
            return DAMAGE_NONE
        p += header
        return -1 if self.packet(p, p + captured, self.interfaces[interface].link_type) < 0 else DAMAGE_NONE

    cdef int interface_block(self, const uint8_t* p, uint32_t length) noexcept nogil:
        cdef Interface* interface
        cdef Interface* grown
        cdef const uint8_t* end = p + length - 4
        cdef uint32_t code, size
        cdef int64_t offset_s
        if length < 20:
            return DAMAGE_BLOCK_LENGTH
        if self.interface_count == MOST_INTERFACES:
            return DAMAGE_INTERFACES
        if self.interface_count == self.interface_room:
            grown = <Interface*>realloc(self.interfaces, (self.interface_room * 2 + 8) * sizeof(Interface))
            if grown == NULL:
                return -1
            self.interfaces = grown
            self.interface_room = self.interface_room * 2 + 8
        interface = &self.interfaces[self.interface_count]
        self.interface_count += 1
        interface.link_type = self.u16(p + 8)
        interface.snap_length = self.u32(p + 12)
        set_resolution(interface, 6)
        interface.offset_ns = 0
        p += 16
        while end - p >= 4:
            code = self.u16(p)
            size = self.u16(p + 2)
            p += 4
            if code == OPTION_END or size > end - p:
                break
            if code == OPTION_IF_TSRESOL and size >= 1:
                set_resolution(interface, p[0])
            elif code == OPTION_IF_TSOFFSET and size >= 8:
                offset_s = <int64_t>(be64(p) if self.big_endian else le64(p))
                interface.offset_ns = <int128_t>offset_s * NS_PER_SECOND
            size = (size + 3) & ~<uint32_t>3
            if size > end - p:
                break
            p += size
        return DAMAGE_NONE

    # --- packets ---------------------------------------------------------------------------------------

    cdef inline int packet(self, const uint8_t* p, const uint8_t* end, uint32_t link_type) noexcept nogil:
        cdef Packet packet
        cdef int found = read_link(p, end, link_type, self.port, &packet)
        self.packets += 1
        if found == FOUND:
            self.emit(&packet)
        elif found == FRAGMENT:
            return self.fragment(&packet, end)
        else:
            self.skipped_packets[found] += 1
        return 0

    cdef inline void emit(self, const Packet* packet) noexcept nogil:
        cdef Py_ssize_t row = self.rows
        if self.in_side:
            memcpy(self.side + self.side_used, packet.payload, packet.length)
            self.offsets[row] = self.side_used
            self.side_used += packet.length
        else:
            self.offsets[row] = packet.payload - self.base
        self.lengths[row] = packet.length
        self.ts_ns[row] = self.packet_ts_ns
        self.source_hi[row] = packet.source_hi
        self.source_lo[row] = packet.source_lo
        self.source_version[row] = packet.version
        self.rows = row + 1
        self.truncated += packet.truncated
        if self.datagrams == 0:
            self.first_ts_ns = self.packet_ts_ns
            self.last_ts_ns = self.packet_ts_ns
        elif self.packet_ts_ns > self.last_ts_ns:
            self.last_ts_ns = self.packet_ts_ns
        elif self.packet_ts_ns < self.first_ts_ns:
            self.first_ts_ns = self.packet_ts_ns
        self.datagrams += 1

    # --- fragments: the first octet to arrive wins (as RFC 815's hole list does) --------------------------

    cdef void give_up(self, Slot* slot, int reason) noexcept nogil:
        self.skipped_packets[reason] += slot.packets
        slot.used = False

    cdef Slot* find_slot(self, const Packet* packet) noexcept nogil:
        """Find the datagram that a fragment belongs to, or a slot for it; old ones go. NULL without memory."""
        cdef int index
        cdef Slot* slot
        cdef Slot* empty = NULL
        cdef Slot* oldest = NULL
        if self.slots == NULL:
            self.slots = <Slot*>calloc(FRAGMENT_SLOTS, sizeof(Slot))
            self.slot_octets = <uint8_t*>calloc(FRAGMENT_SLOTS, SLOT_OCTETS + FRAGMENT_MAP)
            if self.slots == NULL or self.slot_octets == NULL:
                free(self.slots)
                free(self.slot_octets)
                self.slots = NULL
                self.slot_octets = NULL
                return NULL
            for index in range(FRAGMENT_SLOTS):
                self.slots[index].octets = self.slot_octets + index * (SLOT_OCTETS + FRAGMENT_MAP)
                self.slots[index].map = self.slots[index].octets + SLOT_OCTETS
        for index in range(FRAGMENT_SLOTS):
            slot = &self.slots[index]
            if slot.used and self.packet_ts_ns > slot.deadline_ns:
                self.give_up(slot, SKIP_FRAGMENT_TIMEOUT)
        for index in range(FRAGMENT_SLOTS):
            slot = &self.slots[index]
            if not slot.used:
                if empty == NULL:
                    empty = slot
                continue
            if (
                slot.identification == packet.identification
                and slot.source_lo == packet.source_lo
                and slot.source_hi == packet.source_hi
                and slot.destination_lo == packet.destination_lo
                and slot.destination_hi == packet.destination_hi
                and slot.version == packet.version
            ):
                return slot
            if oldest == NULL or slot.serial < oldest.serial:
                oldest = slot
        if empty == NULL:
            self.give_up(oldest, SKIP_FRAGMENT_EVICTED)
            empty = oldest
        empty.used = True
        empty.source_hi = packet.source_hi
        empty.source_lo = packet.source_lo
        empty.destination_hi = packet.destination_hi
        empty.destination_lo = packet.destination_lo
        empty.identification = packet.identification
        empty.version = packet.version
        empty.next_header = packet.next_header
        empty.total = 0
        empty.units = 0
        empty.packets = 0
        empty.deadline_ns = INT64_GREATEST
        if self.packet_ts_ns < INT64_GREATEST - FRAGMENT_TIMEOUT_NS:
            empty.deadline_ns = self.packet_ts_ns + FRAGMENT_TIMEOUT_NS
        self.serial += 1
        empty.serial = self.serial
        memset(empty.map, 0, FRAGMENT_MAP)
        return empty

    cdef int fragment(self, const Packet* packet, const uint8_t* end) noexcept nogil:
        """Keep a fragment; a datagram that it completes is emitted, or left pending for the next scan."""
        cdef uint32_t start = packet.fragment_offset
        cdef uint32_t length = packet.fragment_length
        cdef uint32_t unit, last_unit, octets
        cdef Slot* slot
        if packet.next_header != PROTOCOL_UDP and not is_extension_header(packet.next_header):
            self.skipped_packets[SKIP_NOT_UDP] += 1
            return 0
        if length == 0 or start + length > MOST_DATAGRAM_OCTETS or (packet.more_fragments and length % FRAGMENT_UNIT):
            self.skipped_packets[SKIP_BAD_FRAGMENT] += 1
            return 0
        if end - packet.fragment < length:
            self.skipped_packets[SKIP_FRAGMENT_TRUNCATED] += 1
            return 0
        slot = self.find_slot(packet)
        if slot == NULL:
            return -1
        if not packet.more_fragments and slot.total not in (0, start + length):
            # two ends of one datagram: the first to arrive holds
            self.skipped_packets[SKIP_BAD_FRAGMENT] += 1
            return 0
        slot.packets += 1
        if start == 0:
            slot.next_header = packet.next_header
        if not packet.more_fragments:
            slot.total = start + length
        last_unit = (start + length - 1) // FRAGMENT_UNIT
        for unit in range(start // FRAGMENT_UNIT, last_unit + 1):
            if slot.map[unit >> 3] & (1 << (unit & 7)):
                continue
            slot.map[unit >> 3] |= 1 << (unit & 7)
            octets = start + length - unit * FRAGMENT_UNIT
            memcpy(
                slot.octets + unit * FRAGMENT_UNIT,
                packet.fragment + (unit * FRAGMENT_UNIT - start),
                octets if octets < FRAGMENT_UNIT else FRAGMENT_UNIT,
            )
            slot.units += 1
        if slot.total != 0 and self.is_complete(slot):
            self.pending = <int>(slot - self.slots)
            if self.rows == 0:
                self.in_side = True
            if self.in_side:
                self.emit_pending()
        return 0

    cdef bint is_complete(self, const Slot* slot) noexcept nogil:
        cdef uint32_t unit
        cdef uint32_t units = (slot.total + FRAGMENT_UNIT - 1) // FRAGMENT_UNIT
        if slot.units < units:
            return False
        for unit in range(units):
            if not slot.map[unit >> 3] & (1 << (unit & 7)):
                return False
        return True

    cdef void emit_pending(self) noexcept nogil:
        """Emit the completed datagram into the side buffer, where `must_stop` kept room for it."""
        cdef Slot* slot = &self.slots[self.pending]
        cdef Packet packet
        cdef int found
        packet.source_hi = slot.source_hi
        packet.source_lo = slot.source_lo
        packet.version = slot.version
        found = read_ipv6_chain(slot.octets, slot.octets + slot.total, slot.next_header, self.port, &packet)
        self.pending = -1
        if found == FOUND:
            self.fragments += slot.packets
            self.reassembled += 1
            slot.used = False
            self.emit(&packet)
        else:
            # a fragment header inside a fragment is not taken apart again
            self.give_up(slot, SKIP_BAD_FRAGMENT if found == FRAGMENT else found)


cdef void set_resolution(Interface* interface, uint8_t resolution) noexcept nogil:
    """Take if_tsresol: ticks of 10^-n s, or of 2^-n s where the top bit is set."""
    cdef int exponent = resolution & 0x7F
    cdef int power
    interface.multiplier = NS_PER_SECOND
    interface.divisor = 1
    interface.shift = 0
    if resolution & 0x80:
        interface.shift = exponent
        return
    for power in range(exponent):
        if power < 9:
            interface.multiplier //= 10
        elif interface.divisor <= MOST_DIVISOR:
            interface.divisor *= 10
        else:
            interface.multiplier = 0   # 10^-29 s and below: 64 bits of ticks are no nanosecond


cdef inline int64_t time_ns(const Interface* interface, uint64_t ticks) noexcept nogil:
    """Nanoseconds since the epoch of an interface's time stamp, kept within int64."""
    cdef int128_t ns = <int128_t>ticks * interface.multiplier
    if interface.shift:
        ns = ns >> interface.shift
    elif interface.divisor != 1:
        ns = ticks * interface.multiplier // interface.divisor
    ns += interface.offset_ns
    if ns > INT64_GREATEST:
        return INT64_GREATEST
    if ns < -INT64_GREATEST - 1:
        return -INT64_GREATEST - 1
    return <int64_t>ns
