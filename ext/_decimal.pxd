# Numbers as text, shared by the compiled stages (header-only: see docs/architecture.md).
#
# A float becomes the shortest decimal that reads back to it, by the method of Raffaele Giulietti, "The Schubfach way
# to render doubles" (2022), whose names are used: v = c 2^q is scaled by a power of ten to a number s of at most 17
# digits, of which the interval that rounds to v is known in quarters; the powers of ten are rounded up to 126 bits
# (g1, g0), which he proves to be enough. The text is that of Python's repr(), without ".0" behind a whole number.
from libc.math cimport fabs
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    static inline unsigned long long telemetryd_high(unsigned long long a, unsigned long long b)
    {
        return (unsigned long long)((unsigned __int128)a * b >> 64);
    }
    #define telemetryd_leading_zeros(a) __builtin_clzll(a)
    static const unsigned long long telemetryd_powers[] = {
        1ULL, 10ULL, 100ULL, 1000ULL, 10000ULL, 100000ULL, 1000000ULL, 10000000ULL, 100000000ULL, 1000000000ULL,
        10000000000ULL, 100000000000ULL, 1000000000000ULL, 10000000000000ULL, 100000000000000ULL,
        1000000000000000ULL, 10000000000000000ULL, 100000000000000000ULL, 1000000000000000000ULL,
        10000000000000000000ULL};
    static const char telemetryd_pairs[] =
        "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
        "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
    """
    uint64_t telemetryd_high(uint64_t a, uint64_t b) noexcept nogil
    int telemetryd_leading_zeros(uint64_t a) noexcept nogil
    const uint64_t* telemetryd_powers
    const char* telemetryd_pairs

cdef enum:
    LONGEST_FLOAT = 24      # "-1.2345678901234567e-308"
    LONGEST_INTEGER = 20    # "-9223372036854775808"
    DIGITS = 17             # of a double, at most
    SPILL = 40              # octets behind a number that may be overwritten
    K_LEAST = -324          # least power of ten that a double needs ...
    K_COUNT = 617           # ... and how many there are
    FRACTION_BITS = 52
    Q_LEAST = -1074


cdef struct Powers:
    uint64_t high[617]      # g1 of 10^-k, k from K_LEAST
    uint64_t low[617]       # g0


cdef inline int32_t count_digits(uint64_t value) noexcept nogil:
    cdef int32_t count = (64 - telemetryd_leading_zeros(value | 1)) * 1233 >> 12     # floor(bits log10(2))
    return count + 1 if (value | 1) >= telemetryd_powers[count] else count


cdef inline char* put_digits(char* out, uint64_t value) noexcept nogil:
    # Write a number without sign; return the end.
    cdef char* end = out + count_digits(value)
    cdef char* at = end
    cdef uint32_t part
    cdef int _i
    while value >= 100000000:
        part = <uint32_t>(value % 100000000)
        value //= 100000000
        for _i in range(4):
            at -= 2
            memcpy(at, telemetryd_pairs + 2 * (part % 100), 2)
            part //= 100
    part = <uint32_t>value
    while part >= 100:
        at -= 2
        memcpy(at, telemetryd_pairs + 2 * (part % 100), 2)
        part //= 100
    if part >= 10:
        memcpy(at - 2, telemetryd_pairs + 2 * part, 2)
    else:
        (at - 1)[0] = <char>(c'0' + part)
    return end


cdef inline char* put_integer(char* out, int64_t value) noexcept nogil:
    if value < 0:
        out[0] = c'-'
        return put_digits(out + 1, 0 - <uint64_t>value)
    return put_digits(out, <uint64_t>value)


cdef inline int32_t log10_power2(int32_t e) noexcept nogil:
    # floor(log10(2^e))
    return <int32_t>((e * <int64_t>661971961083) >> 41)


cdef inline int32_t log10_three_quarters_power2(int32_t e) noexcept nogil:
    # floor(log10(3/4 2^e))
    return <int32_t>((e * <int64_t>661971961083 - <int64_t>274743187321) >> 41)


cdef inline int32_t log2_power10(int32_t e) noexcept nogil:
    # floor(log2(10^e))
    return <int32_t>((e * <int64_t>913124641741) >> 38)


cdef inline uint64_t round_to_odd(uint64_t g1, uint64_t g0, uint64_t cp) noexcept nogil:
    # g cp / 2^127, its last bit set where something was cut off.
    cdef uint64_t mask = (<uint64_t>1 << 63) - 1
    cdef uint64_t z = (g1 * cp >> 1) + telemetryd_high(g0, cp)
    return (telemetryd_high(g1, cp) + (z >> 63)) | ((z & mask) + mask) >> 63


cdef inline uint64_t shortest(const Powers* powers, uint64_t c, int32_t q, bint is_boundary, int32_t* k) noexcept nogil:
    # The digits of c 2^q, a positive double; 10^k is their unit. At a boundary the next smaller double is nearer.
    cdef uint64_t odd = c & 1, cb = c << 2, left, vb, vbl, vbr, s, tens, g1, g0
    cdef int32_t h
    cdef bint is_lower, is_upper
    if is_boundary:
        left = cb - 1
        k[0] = log10_three_quarters_power2(q)
    else:
        left = cb - 2
        k[0] = log10_power2(q)
    h = q + log2_power10(-k[0]) + 2
    g1, g0 = powers.high[k[0] - K_LEAST], powers.low[k[0] - K_LEAST]
    vb = round_to_odd(g1, g0, cb << h)
    vbl = round_to_odd(g1, g0, left << h)
    vbr = round_to_odd(g1, g0, (cb + 2) << h)
    s = vb >> 2
    if s >= 10:
        tens = s // 10 * 10
        is_lower = vbl + odd <= tens << 2
        is_upper = ((tens + 10) << 2) + odd <= vbr
        if is_lower != is_upper:
            return tens if is_lower else tens + 10
    is_lower = vbl + odd <= s << 2
    is_upper = ((s + 1) << 2) + odd <= vbr
    if is_lower != is_upper:
        return s if is_lower else s + 1
    # Both, or none, round to it: the nearer one, and the even one of two that are as near.
    if vb < 4 * s + 2 or (vb == 4 * s + 2 and not s & 1):
        return s
    return s + 1


cdef inline char* put_float(char* out, double value, const Powers* powers) noexcept nogil:
    # Write a finite number; return the end, at most LONGEST_FLOAT octets on. Copies have a fixed length, which is fast,
    # so that they spill over the end.
    cdef uint64_t bits, c, digits
    cdef int32_t e, k = 0, count, point
    cdef char text[2 * DIGITS + 1]
    memcpy(&bits, &value, 8)
    if bits >> 63:
        out[0] = c'-'
        out += 1
        value = fabs(value)
    if value < 9007199254740992.0 and value == <double><int64_t>value:
        return put_digits(out, <uint64_t>value)
    c = bits & ((<uint64_t>1 << FRACTION_BITS) - 1)
    e = <int32_t>(bits >> FRACTION_BITS & 0x7FF)
    if e:
        digits = shortest(powers, c | <uint64_t>1 << FRACTION_BITS, Q_LEAST + e - 1, c == 0 and e > 1, &k)
    else:
        digits = shortest(powers, c, Q_LEAST, False, &k)
    while digits % 10 == 0:
        digits //= 10
        k += 1
    count = <int32_t>(put_digits(text, digits) - text)
    point = count + k               # digits before the point
    if 0 < point <= 16:
        if point >= count:
            memcpy(out, text, DIGITS)
            memset(out + count, c'0', point - count)
            return out + point
        memcpy(out, text, DIGITS)
        memcpy(out + point + 1, text + point, DIGITS)
        out[point] = c'.'
        return out + count + 1
    if -4 < point <= 0:
        memcpy(out, b"0.000", 5)
        out += 2 - point
        memcpy(out, text, DIGITS)
        return out + count
    out[0] = text[0]
    out += 1
    if count > 1:
        out[0] = c'.'
        memcpy(out + 1, text + 1, DIGITS)
        out += count
    out[0] = c'e'
    out[1] = c'-' if point < 1 else c'+'
    out += 2
    point = 1 - point if point < 1 else point - 1
    if point < 10:
        out[0] = c'0'
        out += 1
    return put_digits(out, <uint64_t>point)
