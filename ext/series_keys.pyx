"""The keys of the series that are known (twin: telemetryd.store.series_keys)."""

from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free

from _hash cimport mix

cdef enum:
    BLOCK = 64              # rows whose cache misses overlap
    LEAST = 1024            # slots

cdef extern from *:
    """
    #define telemetryd_prefetch_slot(p) __builtin_prefetch(p, 0, 3)
    """
    void telemetryd_prefetch_slot(const void* p) noexcept nogil


cdef struct Slot:
    uint64_t first
    uint64_t second
    uint64_t is_used


cdef inline Slot* find(Slot* slots, uint64_t mask, uint64_t hashed, uint64_t first, uint64_t second) noexcept nogil:
    # The slot of a pair, or the free one that it would get.
    cdef Slot* slot
    while True:
        slot = &slots[hashed & mask]
        if not slot.is_used or (slot.first == first and slot.second == second):
            return slot
        hashed += 1


cdef class SeriesKeys:
    """A set of pairs of words that only grows: open addressing, at most half full."""

    cdef Slot* _slots
    cdef uint64_t _mask
    cdef uint64_t _count

    def __cinit__(self):
        self._slots = <Slot*>calloc(LEAST, sizeof(Slot))
        if not self._slots:
            raise MemoryError("no memory for the keys of series")
        self._mask = LEAST - 1

    def __dealloc__(self):
        free(self._slots)

    def __len__(self):
        return self._count

    def look(self, const uint64_t[::1] first not None, const uint64_t[::1] second not None,
             uint8_t[::1] is_known not None):
        """Say which pairs are known, 1 or 0 in ``is_known``; return how many are not."""
        cdef Py_ssize_t n = first.shape[0], i = 0, j, filled, unknown = 0
        cdef uint64_t hashes[BLOCK]
        if second.shape[0] != n or is_known.shape[0] != n:
            raise ValueError("the columns differ in length")
        with nogil:
            while i < n:
                filled = min(<Py_ssize_t>BLOCK, n - i)
                for j in range(filled):
                    hashes[j] = mix(first[i + j] ^ mix(second[i + j]))
                    telemetryd_prefetch_slot(&self._slots[hashes[j] & self._mask])
                for j in range(filled):
                    is_known[i + j] = find(self._slots, self._mask, hashes[j], first[i + j], second[i + j]).is_used != 0
                    unknown += not is_known[i + j]
                i += filled
        return unknown

    def add(self, const uint64_t[::1] first not None, const uint64_t[::1] second not None):
        """Know the pairs."""
        cdef Py_ssize_t n = first.shape[0], i
        cdef Slot* slot
        if second.shape[0] != n:
            raise ValueError("the columns differ in length")
        self._grow(self._count + <uint64_t>n)
        for i in range(n):
            slot = find(self._slots, self._mask, mix(first[i] ^ mix(second[i])), first[i], second[i])
            if not slot.is_used:
                slot.first, slot.second, slot.is_used = first[i], second[i], 1
                self._count += 1

    cdef int _grow(self, uint64_t count) except -1:
        # Make room for so many keys.
        cdef uint64_t mask = self._mask, i
        cdef Slot* slots
        cdef Slot* slot
        while mask < 2 * count:
            mask = mask * 2 + 1
        if mask == self._mask:
            return 0
        slots = <Slot*>calloc(mask + 1, sizeof(Slot))
        if not slots:
            raise MemoryError("no memory for the keys of series")
        for i in range(self._mask + 1):
            if self._slots[i].is_used:
                slot = find(slots, mask, mix(self._slots[i].first ^ mix(self._slots[i].second)),
                            self._slots[i].first, self._slots[i].second)
                slot[0] = self._slots[i]
        free(self._slots)
        self._slots, self._mask = slots, mask
        return 0
