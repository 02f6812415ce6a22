# Put IP fragments together, within bounds of memory and event time (header-only); the compiled side of
# telemetryd/ingest/capture_fragments.py, which specifies it.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from _capture_packet cimport (
    PROTOCOL_UDP,
    SKIP_BAD_FRAGMENT,
    SKIP_FRAGMENT_EVICTED,
    SKIP_FRAGMENT_INCOMPLETE,
    SKIP_FRAGMENT_TIMEOUT,
    SKIP_FRAGMENT_TRUNCATED,
    SKIP_NOT_UDP,
    Packet,
    is_extension_header,
)
from _cursor cimport left

cdef enum:
    MOST_DATAGRAM_OCTETS = 65535
    FRAGMENT_SLOTS = 64
    FRAGMENT_UNIT = 8                 # offsets count in this many octets
    UNIT_MAP_OCTETS = 1024            # one bit a unit
    SLOT_OCTETS = 65536

# what keep_fragment gives instead of a slot
cdef enum:
    NOT_COMPLETE = -1
    NO_MEMORY = -2


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
    uint8_t *octets
    uint8_t *map                      # of the units received


cdef struct Reassembly:
    Slot *slots                       # FRAGMENT_SLOTS of them, or NULL before the first fragment
    uint8_t *octets
    uint64_t serial
    uint64_t *skipped                 # packets by reason: the scanner's counts


cdef inline void free_reassembly(Reassembly *reassembly) noexcept nogil:
    free(reassembly.slots)
    free(reassembly.octets)
    reassembly.slots = NULL
    reassembly.octets = NULL


cdef inline int64_t deadline_ns(int64_t ts_ns) noexcept nogil:
    """FRAGMENT_TIMEOUT_NS later, or the last nanosecond that int64 knows."""
    cdef int64_t timeout_ns = 30_000_000_000
    cdef int64_t last_ns = 0x7FFFFFFFFFFFFFFF
    return ts_ns + timeout_ns if ts_ns < last_ns - timeout_ns else last_ns


cdef inline bint allocate_slots(Reassembly *reassembly) noexcept nogil:
    cdef int index
    cdef uint8_t *octets
    reassembly.slots = <Slot *>calloc(FRAGMENT_SLOTS, sizeof(Slot))
    reassembly.octets = <uint8_t *>calloc(FRAGMENT_SLOTS, SLOT_OCTETS + UNIT_MAP_OCTETS)
    if reassembly.slots == NULL or reassembly.octets == NULL:
        free_reassembly(reassembly)
        return False
    for index in range(FRAGMENT_SLOTS):
        octets = reassembly.octets + index * (SLOT_OCTETS + UNIT_MAP_OCTETS)
        reassembly.slots[index].octets = octets
        reassembly.slots[index].map = octets + SLOT_OCTETS
    return True


cdef inline void give_up(Reassembly *reassembly, Slot *slot, int reason) noexcept nogil:
    reassembly.skipped[reason] += slot.packets
    slot.used = False


cdef inline void give_up_all(Reassembly *reassembly) noexcept nogil:
    cdef int index
    if reassembly.slots == NULL:
        return
    for index in range(FRAGMENT_SLOTS):
        if reassembly.slots[index].used:
            give_up(reassembly, &reassembly.slots[index], SKIP_FRAGMENT_INCOMPLETE)


cdef inline Slot *find_slot(Reassembly *reassembly, const Packet *packet, int64_t ts_ns) noexcept nogil:
    """Find the datagram that a fragment belongs to, or make room for it; old ones go."""
    cdef int index
    cdef Slot *slot
    cdef Slot *empty = NULL
    cdef Slot *oldest = NULL
    for index in range(FRAGMENT_SLOTS):
        slot = &reassembly.slots[index]
        if slot.used and ts_ns > slot.deadline_ns:
            give_up(reassembly, slot, SKIP_FRAGMENT_TIMEOUT)
    for index in range(FRAGMENT_SLOTS):
        slot = &reassembly.slots[index]
        if not slot.used:
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
        give_up(reassembly, oldest, SKIP_FRAGMENT_EVICTED)
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
    empty.deadline_ns = deadline_ns(ts_ns)
    reassembly.serial += 1
    empty.serial = reassembly.serial
    memset(empty.map, 0, UNIT_MAP_OCTETS)
    return empty


cdef inline bint is_complete(const Slot *slot) noexcept nogil:
    cdef uint32_t unit
    cdef uint32_t units = (slot.total + FRAGMENT_UNIT - 1) // FRAGMENT_UNIT
    if slot.total == 0 or slot.units < units:
        return False
    for unit in range(units):
        if not slot.map[unit >> 3] & (1 << (unit & 7)):
            return False
    return True


cdef inline int keep_fragment(Reassembly *reassembly, const Packet *packet, int64_t ts_ns) noexcept nogil:
    """Keep a fragment; returns the slot of the datagram that it completes, NOT_COMPLETE or NO_MEMORY."""
    cdef uint32_t start = packet.fragment_offset
    cdef uint32_t length = packet.fragment_length
    cdef uint32_t done = 0, unit, octets
    cdef Slot *slot
    if packet.next_header != PROTOCOL_UDP and not is_extension_header(packet.next_header):
        reassembly.skipped[SKIP_NOT_UDP] += 1
        return NOT_COMPLETE
    if (
        length == 0
        or start + length > MOST_DATAGRAM_OCTETS
        or (packet.more_fragments and length % FRAGMENT_UNIT != 0)
    ):
        reassembly.skipped[SKIP_BAD_FRAGMENT] += 1
        return NOT_COMPLETE
    if left(packet.fragment) < length:
        reassembly.skipped[SKIP_FRAGMENT_TRUNCATED] += 1
        return NOT_COMPLETE
    if reassembly.slots == NULL and not allocate_slots(reassembly):
        return NO_MEMORY
    slot = find_slot(reassembly, packet, ts_ns)
    if not packet.more_fragments and slot.total != 0 and slot.total != start + length:
        # two ends of one datagram: the first to arrive holds
        reassembly.skipped[SKIP_BAD_FRAGMENT] += 1
        return NOT_COMPLETE
    slot.packets += 1
    if start == 0:
        slot.next_header = packet.next_header
    if not packet.more_fragments:
        slot.total = start + length
    while done < length:
        unit = (start + done) // FRAGMENT_UNIT
        octets = length - done if length - done < FRAGMENT_UNIT else FRAGMENT_UNIT
        if not slot.map[unit >> 3] & (1 << (unit & 7)):
            slot.map[unit >> 3] |= 1 << (unit & 7)
            slot.units += 1
            memcpy(slot.octets + start + done, packet.fragment.at + done, octets)
        done += octets
    return <int>(slot - reassembly.slots) if is_complete(slot) else NOT_COMPLETE
