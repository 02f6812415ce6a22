# Hashing shared by the compiled stages (header-only: see docs/architecture.md).
from libc.stdint cimport uint64_t


cdef inline uint64_t mix(uint64_t key) noexcept nogil:
    # The finaliser of splitmix64 (Steele, Lea, Flood 2014).
    key = (key ^ (key >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    key = (key ^ (key >> 27)) * <uint64_t>0x94D049BB133111EB
    return key ^ (key >> 31)
