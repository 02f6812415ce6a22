# An interface of a pcapng section and its clock (header-only).

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from *:
    ctypedef long long int128_t "__int128"

cdef enum:
    NS_PER_SECOND = 1000000000


cdef struct Interface:
    uint32_t link_type
    uint32_t snap_length
    # nanoseconds = ticks * multiplier / divisor / 2^shift + offset
    uint64_t multiplier
    uint64_t divisor
    int shift
    int128_t offset_ns


cdef inline void set_resolution(Interface *interface, uint8_t resolution) noexcept nogil:
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
        elif power < 28:
            interface.divisor *= 10
        else:
            interface.multiplier = 0   # 10^-29 s and below: 64 bits of ticks are no nanosecond


cdef inline void set_offset(Interface *interface, int64_t offset_s) noexcept nogil:
    """Take if_tsoffset."""
    interface.offset_ns = <int128_t>offset_s * NS_PER_SECOND


cdef inline int64_t time_ns(const Interface *interface, uint64_t ticks) noexcept nogil:
    """Nanoseconds since the epoch of an interface's time stamp, kept within int64."""
    cdef int64_t greatest = 0x7FFFFFFFFFFFFFFF
    cdef int128_t ns = <int128_t>ticks * interface.multiplier
    if interface.shift:
        ns = ns >> interface.shift
    elif interface.divisor != 1:
        ns = ticks * interface.multiplier // interface.divisor
    ns += interface.offset_ns
    if ns > greatest:
        return greatest
    if ns < -greatest - 1:
        return -greatest - 1
    return <int64_t>ns
