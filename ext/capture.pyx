"""Scan pcap and pcapng octets for UDP datagrams, without a Python object a packet.

The layouts, which telemetryd/ingest/capture_reference.py specifies in Python
(draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng; byte order of the file or section):

    pcap file:    magic u32, major u16, minor u16, zone u32, accuracy u32, snap length u32, link type u32
    pcap record:  seconds u32, fraction u32, captured u32, original u32 [8 octets more if modified]
    pcapng block: type u32, total length u32, body, total length u32
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from _capture_fragments cimport (
    MOST_DATAGRAM_OCTETS,
    NO_MEMORY,
    Reassembly,
    Slot,
    free_reassembly,
    give_up,
    give_up_all,
    keep_fragment,
)
from _capture_interface cimport Interface, set_offset, set_resolution, time_ns
from _capture_packet cimport (
    FOUND,
    FRAGMENT,
    SKIP_BAD_FRAGMENT,
    SKIP_REASONS,
    SKIP_UNKNOWN_INTERFACE,
    Packet,
    read_ipv6_chain,
    read_link,
)
from _cursor cimport Cursor, left, load16, load32, load64, take

cdef extern from *:
    void prefetch "__builtin_prefetch" (const void *octets) nogil
    uint16_t swap16 "__builtin_bswap16" (uint16_t) nogil
    uint32_t swap32 "__builtin_bswap32" (uint32_t) nogil
    uint64_t swap64 "__builtin_bswap64" (uint64_t) nogil

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

# Each record's place depends on the length of the one before it, so that a plain walk waits for the memory
# at every packet. Asked for this far ahead, line by line, the octets come as fast as in one pass over them
# (a few ns a packet beyond that, where the plain walk took 110), and the decoder finds them in the cache.
cdef enum:
    PREFETCH_DISTANCE = 8192
    CACHE_LINE = 64

cdef enum:
    FORMAT_UNKNOWN = 0
    FORMAT_PCAP = 1
    FORMAT_PCAPNG = 2

cdef enum:
    MAGIC_OCTETS = 4
    PCAP_HEADER = 24
    PCAP_RECORD = 16
    PCAP_RECORD_MODIFIED = 24
    BLOCK_FRAME = 12                  # type and the two lengths: the least block
    BLOCK_HEADER = 8
    BLOCK_TRAILER = 4
    BLOCK_INTERFACE = 1
    BLOCK_PACKET = 2                  # obsolete
    BLOCK_SIMPLE_PACKET = 3
    BLOCK_ENHANCED_PACKET = 6
    # octets of each block's fixed part
    SECTION_BODY = 16
    INTERFACE_BODY = 8
    PACKET_BODY = 20
    SIMPLE_PACKET_BODY = 4
    OPTION_HEADER = 4
    OPTION_END = 0
    OPTION_IF_TSRESOL = 9
    OPTION_IF_TSOFFSET = 14
    RESOLUTION_MICROSECONDS = 6

cdef uint32_t MAGIC_MICROSECONDS = 0xA1B2C3D4
cdef uint32_t MAGIC_NANOSECONDS = 0xA1B23C4D
cdef uint32_t MAGIC_MODIFIED = 0xA1B2CD34
cdef uint32_t BLOCK_SECTION = 0x0A0D0D0A
cdef uint32_t BYTE_ORDER_MAGIC = 0x1A2B3C4D

cdef int64_t NS_PER_SECOND = 1_000_000_000


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
    cdef int64_t ns_per_fraction
    cdef uint32_t link_type
    cdef Py_ssize_t record_header
    cdef uint32_t most_captured
    cdef Interface *interfaces
    cdef Py_ssize_t interface_count
    cdef Py_ssize_t interface_room
    cdef int64_t packet_ts_ns
    # fragments
    cdef Reassembly reassembly
    cdef int pending                  # slot of a datagram that the next scan emits, -1 none
    # rows of the scan that runs
    cdef const uint8_t *base
    cdef Py_ssize_t size
    cdef uint8_t *side
    cdef Py_ssize_t side_room
    cdef Py_ssize_t side_used
    cdef Py_ssize_t capacity
    cdef uint64_t *offsets
    cdef uint32_t *lengths
    cdef int64_t *ts_ns
    cdef uint64_t *source_hi
    cdef uint64_t *source_lo
    cdef uint8_t *source_version

    def __cinit__(self, port):
        self.port = -1 if port is None else port
        self.pending = -1
        self.interfaces = NULL
        self.reassembly.slots = NULL
        self.reassembly.octets = NULL
        self.reassembly.skipped = self.skipped_packets

    def __dealloc__(self):
        free(self.interfaces)
        free_reassembly(&self.reassembly)

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
        give_up_all(&self.reassembly)

    cdef int run(self) noexcept nogil:
        cdef int status
        if self.format == FORMAT_UNKNOWN:
            status = self.read_file_header(self.rest())
            if status != STATUS_BATCH:
                return status
        if self.pending >= 0:
            self.in_side = True
            self.emit_pending()
        if self.format == FORMAT_PCAP:
            return self.scan_pcap()
        return self.scan_pcapng()

    cdef inline Cursor rest(self) noexcept nogil:
        cdef Cursor cursor
        cursor.at = self.base + self.position
        cursor.end = self.base + self.size
        return cursor

    cdef inline uint32_t u16(self, const uint8_t *p) noexcept nogil:
        return load16(p) if self.big_endian else swap16(load16(p))

    cdef inline uint32_t u32(self, const uint8_t *p) noexcept nogil:
        return load32(p) if self.big_endian else swap32(load32(p))

    cdef inline uint64_t u64(self, const uint8_t *p) noexcept nogil:
        return load64(p) if self.big_endian else swap64(load64(p))

    cdef inline int want(self, Py_ssize_t octets) noexcept nogil:
        self.needed = octets
        return STATUS_MORE

    cdef inline int damaged(self, int what) noexcept nogil:
        self.damage = what
        return STATUS_DAMAGED

    cdef inline void ask_ahead(self, Cursor cursor, size_t octets) noexcept nogil:
        """Prefetch as many octets, PREFETCH_DISTANCE ahead, as the record at the cursor is long."""
        cdef size_t ahead = PREFETCH_DISTANCE
        cdef size_t end = min(ahead + octets, left(cursor))
        while ahead < end:
            prefetch(cursor.at + ahead)
            ahead += CACHE_LINE

    cdef inline bint must_stop(self) noexcept nogil:
        """Tell whether the next datagram might find no room."""
        return (
            self.rows == self.capacity
            or self.pending >= 0
            or (self.in_side and self.side_room - self.side_used < MOST_DATAGRAM_OCTETS)
        )

    # --- pcap --------------------------------------------------------------------------------------

    cdef int read_file_header(self, Cursor cursor) noexcept nogil:
        cdef const uint8_t *p
        cdef uint32_t magic, snap_length
        if left(cursor) < MAGIC_OCTETS:
            return self.want(MAGIC_OCTETS)
        magic = load32(cursor.at)
        if magic == BLOCK_SECTION:
            self.format = FORMAT_PCAPNG
            return STATUS_BATCH
        self.big_endian = is_pcap_magic(magic)
        magic = self.u32(cursor.at)
        if not is_pcap_magic(magic):
            return self.damaged(DAMAGE_NOT_A_CAPTURE)
        p = take(&cursor, PCAP_HEADER)
        if p == NULL:
            return self.want(PCAP_HEADER)
        if self.u16(p + 4) != 2:
            return self.damaged(DAMAGE_VERSION)
        snap_length = self.u32(p + 16)
        self.most_captured = MOST_RECORD_OCTETS
        if MOST_RECORD_OCTETS < snap_length <= MOST_BLOCK_OCTETS:
            self.most_captured = snap_length
        # the upper half holds the length of the frame check sequence, which lies behind the IP packet
        self.link_type = self.u32(p + 20) & 0xFFFF
        self.ns_per_fraction = 1 if magic == MAGIC_NANOSECONDS else 1000
        self.record_header = PCAP_RECORD_MODIFIED if magic == MAGIC_MODIFIED else PCAP_RECORD
        self.format = FORMAT_PCAP
        self.position += PCAP_HEADER
        return STATUS_BATCH

    cdef int scan_pcap(self) noexcept nogil:
        cdef Cursor cursor = self.rest()
        cdef Cursor packet
        cdef const uint8_t *p
        cdef uint32_t captured
        while not self.must_stop():
            packet = cursor
            p = take(&packet, self.record_header)
            if p == NULL:
                return self.want(self.record_header)
            captured = self.u32(p + 8)
            if captured > self.most_captured:
                return self.damaged(DAMAGE_RECORD_LENGTH)
            if left(packet) < captured:
                return self.want(self.record_header + captured)
            packet.end = packet.at + captured
            self.ask_ahead(cursor, self.record_header + captured)
            self.packet_ts_ns = self.u32(p) * NS_PER_SECOND + self.u32(p + 4) * self.ns_per_fraction
            cursor.at = packet.end
            self.position = cursor.at - self.base
            if not self.packet(packet, self.link_type):
                return NO_MEMORY
        return STATUS_BATCH

    # --- pcapng ------------------------------------------------------------------------------------

    cdef int scan_pcapng(self) noexcept nogil:
        cdef Cursor cursor = self.rest()
        cdef Cursor body
        cdef const uint8_t *p
        cdef uint32_t length
        cdef int damage
        while not self.must_stop():
            body = cursor
            p = take(&body, BLOCK_FRAME)
            if p == NULL:
                return self.want(BLOCK_FRAME)
            if load32(p) == BLOCK_SECTION:
                self.big_endian = load32(p + 8) == BYTE_ORDER_MAGIC
                if self.u32(p + 8) != BYTE_ORDER_MAGIC:
                    return self.damaged(DAMAGE_BYTE_ORDER)
            length = self.u32(p + 4)
            if length < BLOCK_FRAME or length % 4 != 0 or length > MOST_BLOCK_OCTETS:
                return self.damaged(DAMAGE_BLOCK_LENGTH)
            if left(cursor) < length:
                return self.want(length)
            if self.u32(p + length - BLOCK_TRAILER) != length:
                return self.damaged(DAMAGE_BLOCK_TRAILER)
            self.ask_ahead(cursor, length)
            body.at = p + BLOCK_HEADER
            body.end = p + length - BLOCK_TRAILER
            damage = self.block(self.u32(p), body)
            if damage == NO_MEMORY:
                return NO_MEMORY
            if damage != DAMAGE_NONE:
                return self.damaged(damage)
            cursor.at = p + length
            self.position = cursor.at - self.base
        return STATUS_BATCH

    cdef int block(self, uint32_t kind, Cursor body) noexcept nogil:
        """Read one block whose octets are all there; returns a Damage, or NO_MEMORY."""
        if kind == BLOCK_ENHANCED_PACKET or kind == BLOCK_PACKET:
            return self.packet_block(kind, body)
        if kind == BLOCK_SIMPLE_PACKET:
            return self.simple_packet_block(body)
        if kind == BLOCK_INTERFACE:
            return self.interface_block(body)
        if kind == BLOCK_SECTION:
            return self.section_block(body)
        return DAMAGE_NONE

    cdef int section_block(self, Cursor body) noexcept nogil:
        cdef const uint8_t *p = take(&body, SECTION_BODY)
        if p == NULL:
            return DAMAGE_BLOCK_LENGTH
        if self.u16(p + 4) != 1:
            return DAMAGE_VERSION
        self.interface_count = 0
        return DAMAGE_NONE

    cdef inline int packet_block(self, uint32_t kind, Cursor body) noexcept nogil:
        cdef const uint8_t *p = take(&body, PACKET_BODY)
        cdef uint32_t number, captured
        if p == NULL:
            return DAMAGE_BLOCK_LENGTH
        number = self.u32(p) if kind == BLOCK_ENHANCED_PACKET else self.u16(p)
        captured = self.u32(p + 12)
        if captured > left(body):
            return DAMAGE_PACKET_LENGTH
        if number >= self.interface_count:
            return self.unknown_interface()
        self.packet_ts_ns = time_ns(
            &self.interfaces[number], (<uint64_t>self.u32(p + 4) << 32) | self.u32(p + 8)
        )
        body.end = body.at + captured
        return DAMAGE_NONE if self.packet(body, self.interfaces[number].link_type) else NO_MEMORY

    cdef int simple_packet_block(self, Cursor body) noexcept nogil:
        """It has neither a captured length nor a time: the least of three bounds, and the packet before."""
        cdef const uint8_t *p = take(&body, SIMPLE_PACKET_BODY)
        cdef uint32_t captured
        if p == NULL:
            return DAMAGE_BLOCK_LENGTH
        if self.interface_count == 0:
            return self.unknown_interface()
        captured = self.u32(p)
        if 0 < self.interfaces[0].snap_length < captured:
            captured = self.interfaces[0].snap_length
        if captured < left(body):
            body.end = body.at + captured
        return DAMAGE_NONE if self.packet(body, self.interfaces[0].link_type) else NO_MEMORY

    cdef int unknown_interface(self) noexcept nogil:
        self.packets += 1
        self.skipped_packets[SKIP_UNKNOWN_INTERFACE] += 1
        return DAMAGE_NONE

    cdef int interface_block(self, Cursor body) noexcept nogil:
        cdef const uint8_t *p = take(&body, INTERFACE_BODY)
        cdef Interface *interface
        cdef Interface *grown
        cdef uint32_t code, size
        if p == NULL:
            return DAMAGE_BLOCK_LENGTH
        if self.interface_count == MOST_INTERFACES:
            return DAMAGE_INTERFACES
        if self.interface_count == self.interface_room:
            grown = <Interface *>realloc(self.interfaces, (self.interface_room * 2 + 8) * sizeof(Interface))
            if grown == NULL:
                return NO_MEMORY
            self.interfaces = grown
            self.interface_room = self.interface_room * 2 + 8
        interface = &self.interfaces[self.interface_count]
        self.interface_count += 1
        interface.link_type = self.u16(p)
        interface.snap_length = self.u32(p + 4)
        set_resolution(interface, RESOLUTION_MICROSECONDS)
        set_offset(interface, 0)
        while True:
            p = take(&body, OPTION_HEADER)
            if p == NULL:
                break
            code = self.u16(p)
            size = self.u16(p + 2)
            p = take(&body, size)
            if code == OPTION_END or p == NULL:
                break
            if code == OPTION_IF_TSRESOL and size >= 1:
                set_resolution(interface, p[0])
            elif code == OPTION_IF_TSOFFSET and size >= 8:
                set_offset(interface, <int64_t>self.u64(p))
            if take(&body, (4 - size % 4) % 4) == NULL:
                break
        return DAMAGE_NONE

    # --- packets -----------------------------------------------------------------------------------

    cdef inline bint packet(self, Cursor cursor, uint32_t link_type) noexcept nogil:
        """Emit, keep or count one packet; returns False without memory."""
        cdef Packet packet
        cdef int slot
        cdef int found = read_link(cursor, link_type, self.port, &packet)
        self.packets += 1
        if found == FOUND:
            self.emit(&packet)
        elif found == FRAGMENT:
            slot = keep_fragment(&self.reassembly, &packet, self.packet_ts_ns)
            if slot == NO_MEMORY:
                return False
            if slot >= 0:
                self.pending = slot
                if self.rows == 0:
                    self.in_side = True
                if self.in_side:
                    self.emit_pending()
        else:
            self.skipped_packets[found] += 1
        return True

    cdef inline void emit(self, const Packet *packet) noexcept nogil:
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

    cdef void emit_pending(self) noexcept nogil:
        """Emit the completed datagram into the side buffer, where `must_stop` kept room for it."""
        cdef Slot *slot = &self.reassembly.slots[self.pending]
        cdef Cursor cursor
        cdef Packet packet
        cdef int found
        cursor.at = slot.octets
        cursor.end = slot.octets + slot.total
        packet.source_hi = slot.source_hi
        packet.source_lo = slot.source_lo
        packet.version = slot.version
        found = read_ipv6_chain(cursor, slot.next_header, self.port, &packet)
        self.pending = -1
        if found == FOUND:
            self.fragments += slot.packets
            self.reassembled += 1
            slot.used = False
            self.emit(&packet)
        else:
            # a fragment header inside a fragment is not taken apart again
            give_up(&self.reassembly, slot, SKIP_BAD_FRAGMENT if found == FRAGMENT else found)


cdef inline bint is_pcap_magic(uint32_t magic) noexcept nogil:
    return magic == MAGIC_MICROSECONDS or magic == MAGIC_NANOSECONDS or magic == MAGIC_MODIFIED
