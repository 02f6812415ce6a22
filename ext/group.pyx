"""Number distinct pairs of words (twin: telemetryd.aggregate.group_reference)."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from _hash cimport mix

cdef extern from *:
    """
    #define telemetryd_prefetch(p) __builtin_prefetch(p, 1, 3)
    """
    void telemetryd_prefetch(const void* p) noexcept nogil

cdef enum:
    BLOCK = 64  # rows whose cache misses overlap


def group(const uint64_t[::1] first not None, const uint64_t[::1] second not None, int64_t[::1] labels not None,
          int64_t[::1] rows not None):
    """Number the distinct pairs of words in order of appearance; return how many there are."""
    cdef Py_ssize_t n = first.shape[0], i = 0, j, row, filled
    cdef uint64_t mask = 15, h, word, n_groups = 0
    cdef uint64_t hashes[BLOCK]
    cdef uint64_t* index
    if second.shape[0] != n or labels.shape[0] != n or rows.shape[0] != n:
        raise ValueError("the columns differ in length")
    if n >= 0xFFFFFFFF:
        raise ValueError("too many rows to group")
    while mask < <uint64_t>n * 2:
        mask = mask * 2 + 1
    index = <uint64_t*>calloc(mask + 1, sizeof(uint64_t))
    if not index:
        raise MemoryError("no memory to group rows")
    with nogil:
        while i < n:
            filled = min(<Py_ssize_t>BLOCK, n - i)
            for j in range(filled):
                hashes[j] = mix(first[i + j] ^ mix(second[i + j]))
                telemetryd_prefetch(&index[hashes[j] & mask])
            for j in range(filled):
                h = hashes[j]
                while True:
                    word = index[h & mask]
                    if not word:
                        rows[n_groups] = i + j
                        labels[i + j] = n_groups
                        n_groups += 1
                        index[h & mask] = (hashes[j] & <uint64_t>0xFFFFFFFF00000000) | n_groups
                        break
                    if (word ^ hashes[j]) >> 32 == 0:
                        row = rows[<uint32_t>word - 1]
                        if first[row] == first[i + j] and second[row] == second[i + j]:
                            labels[i + j] = <uint32_t>word - 1
                            break
                    h += 1
            i += filled
        free(index)
    return n_groups
