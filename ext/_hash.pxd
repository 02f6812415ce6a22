# Hashing shared by the compiled stages (header-only: see docs/architecture.md).
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef inline uint64_t mix(uint64_t key) noexcept nogil:
    # The finaliser of splitmix64 (Steele, Lea, Flood 2014).
    key = (key ^ (key >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    key = (key ^ (key >> 27)) * <uint64_t>0x94D049BB133111EB
    return key ^ (key >> 31)


cdef extern from *:
    """
    static inline uint64_t telemetryd_fold(uint64_t a, uint64_t b) {
        unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    """
    uint64_t telemetryd_fold(uint64_t a, uint64_t b) noexcept nogil


cdef inline uint64_t hash_octets(uint64_t seed, const uint8_t *p, size_t n) noexcept nogil:
    """Hash octets by folded multiplications, 16 at a time; nobody who does not know the seed finds collisions."""
    cdef uint64_t h = seed ^ n, a = 0, b = 0
    cdef uint32_t word = 0
    while n >= 16:
        memcpy(&a, p, 8)
        memcpy(&b, p + 8, 8)
        h = telemetryd_fold(a ^ seed, b ^ h)
        p += 16
        n -= 16
    a = b = 0
    if n >= 8:
        memcpy(&a, p, 8)
        memcpy(&b, p + n - 8, 8)
    elif n >= 4:
        memcpy(&word, p, 4)
        a = word
        memcpy(&word, p + n - 4, 4)
        b = word
    elif n:
        a = <uint64_t>p[0] << 16 | <uint64_t>p[n >> 1] << 8 | p[n - 1]
    return mix(telemetryd_fold(a ^ seed, b ^ h) ^ h)
