"""Fill segments to their water level (twin: telemetryd.allocate.waterfill_reference).

A segment's level lies between two float64, `below` and `above`; each pass halves that bracket by the secant and by
bisection in turn, and drops the members that take the same at both ends, so that the passes get shorter fast. Bounds
of a member shrink to what it takes at the ends of the bracket: clamped to those, rint(weight x L) is the same.
"""

from libc.math cimport INFINITY, lrint
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy


cdef struct Member:
    double weight
    int64_t low             # taken at `below`
    int64_t high            # taken at `above`
    int64_t row


cdef enum Status:
    FILLED = 0
    OUT_OF_REACH = 1


cdef inline int64_t bits_of(double value) noexcept nogil:
    cdef int64_t bits
    memcpy(&bits, &value, 8)
    return bits


cdef inline double of_bits(int64_t bits) noexcept nogil:
    cdef double value
    memcpy(&value, &bits, 8)
    return value


cdef inline int64_t at(const Member* m, double level) noexcept nogil:
    cdef double product = m.weight * level
    if product >= <double>m.high:
        return m.high
    if product <= <double>m.low:
        return m.low
    return lrint(product)  # ties to even, as numpy.rint; the result is within [low, high], both being whole


cdef Status fill_one(Member* members, int64_t n, int64_t target, const double* weight, const int64_t* low,
                     const int64_t* high, int64_t* out, int64_t start, double* level) noexcept nogil:
    cdef int64_t i, kept = 0, value, step, sum_low = 0, sum_high = 0, reached, turn = 0, below = 0, above, middle, rest
    cdef double top = 0, lambda_below, lambda_above, guess
    cdef Member* m
    for i in range(start, start + n):
        sum_low += low[i]
        sum_high += high[i]
    if target < sum_low or target > sum_high:
        return OUT_OF_REACH
    if target == sum_low or target == sum_high:
        memcpy(&out[start], &low[start] if target == sum_low else &high[start], n * sizeof(int64_t))
        level[0] = 0.0 if target == sum_low else INFINITY
        return FILLED
    for i in range(start, start + n):
        if low[i] == high[i]:
            out[i] = low[i]
            target -= low[i]
            sum_low -= low[i]
            sum_high -= high[i]
            continue
        m = &members[kept]
        m.weight, m.low, m.high, m.row = weight[i], low[i], high[i], i
        kept += 1
        guess = <double>(high[i] + 1) / weight[i]
        if guess > top:
            top = guess
    above = bits_of(top)
    # target, sum_low and sum_high are of the kept members, at `below` and `above`.
    while above - below > 1:
        turn += 1
        middle = below + (above - below) // 2
        if turn & 3 != 0:
            lambda_below, lambda_above = of_bits(below), of_bits(above)
            guess = lambda_below + (lambda_above - lambda_below) * (
                <double>(target - sum_low) / <double>(sum_high - sum_low))
            if below < bits_of(guess) < above:
                middle = bits_of(guess)
        guess = of_bits(middle)
        reached = 0
        for i in range(kept):
            reached += at(&members[i], guess)
        n, kept = kept, 0
        if reached >= target:
            above, sum_high = middle, reached
            for i in range(n):
                m = &members[i]
                m.high = at(m, guess)
                if m.low == m.high:
                    out[m.row] = m.low
                    target -= m.low
                    sum_low -= m.low
                    sum_high -= m.low
                else:
                    members[kept] = m[0]
                    kept += 1
        else:
            below, sum_low = middle, reached
            for i in range(n):
                m = &members[i]
                m.low = at(m, guess)
                if m.low == m.high:
                    out[m.row] = m.low
                    target -= m.low
                    sum_low -= m.low
                    sum_high -= m.low
                else:
                    members[kept] = m[0]
                    kept += 1
    rest = target - sum_low
    for i in range(kept):
        m = &members[i]
        step = m.high - m.low
        value = rest if rest < step else step
        out[m.row] = m.low + value
        rest -= value
    level[0] = of_bits(above)
    return FILLED


def fill(const int64_t[::1] start not None, const int64_t[::1] stop not None, const int64_t[::1] target not None,
         const double[::1] weight not None, const int64_t[::1] low not None, const int64_t[::1] high not None,
         int64_t[::1] out not None, double[::1] level not None):
    """Fill every segment to its target; see telemetryd.allocate.waterfill_reference.fill."""
    cdef Py_ssize_t segments = start.shape[0], n = weight.shape[0], i, longest = 0
    cdef Member* members
    cdef Status status = FILLED
    if not (low.shape[0] == high.shape[0] == out.shape[0] == n
            and stop.shape[0] == target.shape[0] == level.shape[0] == segments):
        raise ValueError("the columns differ in length")
    for i in range(segments):
        if start[i] < 0 or stop[i] > n or start[i] >= stop[i]:
            raise ValueError("a segment is no part of the members")
        longest = max(longest, stop[i] - start[i])
    if not segments:
        return
    members = <Member*>malloc(longest * sizeof(Member))
    if not members:
        raise MemoryError("no memory to fill a segment")
    with nogil:
        for i in range(segments):
            status = fill_one(members, stop[i] - start[i], target[i], &weight[0], &low[0], &high[0], &out[0],
                              start[i], &level[i])
            if status != FILLED:
                break
        free(members)
    if status == OUT_OF_REACH:
        raise ValueError("a target is out of reach")
