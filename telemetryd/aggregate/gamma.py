"""Quantiles of the gamma distribution, vectorised over the shape.

The regularised incomplete gamma functions P(a, x) and Q = 1 - P come from the power series (DLMF 8.11.4)
in the lower half and about the mean, and from the continued fraction (DLMF 8.9.2, by Lentz's method)
beyond. Quantiles are roots of log P, or of log Q in the upper half, in u = log x: both are concave in u,
so that Newton's method converges from either side. From shape 500 on, the Cornish-Fisher expansion of
the gamma distribution is accurate enough by itself; from shape 5 on it is the first guess.

Shapes of estimates lie between 1 and 500 mostly. There the cube root of quantile / shape is so smooth a function of
shape^-1/2 that a Chebyshev series of 15 to 30 terms gives it to 1e-10: it is made by Newton's method once for each
probability, and held against it.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.polynomial import Chebyshev
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ASYMPTOTIC_SHAPE: Final = 500.0
_GUESS_SHAPE: Final = 5.0
_CHUNK: Final = 1024  # neighbouring shapes need about the same number of terms
_SMALLEST_SHAPE: Final = 1e-6
_SHIFT: Final = 8  # Stirling's series is used for arguments above this
_NEWTON_STEPS: Final = 60
_TERMS: Final = 2000
_SMALL_TAIL: Final = 1e-4  # below, Q = 1 - P would lose digits
_EPSILON: Final = 1e-16
_TINY: Final = 1e-300
_SMOOTH_SHAPE: Final = 0.9  # from here on there is a series
_DEGREE: Final = 30
_ROOTS: Final = (_ASYMPTOTIC_SHAPE**-0.5, _SMOOTH_SHAPE**-0.5)  # of the inverse shapes
_ROOT_ERROR: Final = 1e-12
_SERIES_ERROR: Final = 2e-10  # relative, of the quantile


def log_gamma(a: Floats) -> Floats:
    """Return log Gamma(a) for a > 0, shape (k,): Stirling's series (DLMF 5.11.1), shifted up below 8."""
    shifted = np.where(a < _SHIFT, a + _SHIFT, a)
    product = np.ones_like(a)
    is_small = a < _SHIFT
    for i in range(_SHIFT):
        product = np.where(is_small, product * (a + i), product)
    inverse = 1.0 / shifted
    square = inverse * inverse
    series = inverse * (
        1 / 12
        - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square * (1 / 1188 - square * 691 / 360360))))
    )
    stirling = (shifted - 0.5) * np.log(shifted) - shifted + 0.5 * np.log(2 * np.pi) + series
    result: Floats = stirling - np.log(product)
    return result


def _series(a: Floats, x: Floats) -> Floats:
    """Return P(a, x) Gamma(a + 1) e^x / x^a = 1 + x / (a + 1) + x^2 / ((a + 1) (a + 2)) + ..."""
    term = np.ones_like(x)
    total = np.ones_like(x)
    for i in range(1, _TERMS):
        term = term * (x / (a + i))
        total += term
        if not np.any(term > _EPSILON * total):
            break
    return total


def _fraction(a: Floats, x: Floats) -> Floats:
    """Return Q(a, x) Gamma(a) e^x / x^a = 1 / (x + 1 - a - 1 (1 - a) / (x + 3 - a - ...)), for x >= a + 1."""
    b = x + 1.0 - a
    c = np.full_like(x, 1.0 / _TINY)
    d = 1.0 / b
    h = d.copy()
    for i in range(1, _TERMS):
        numerator = -i * (i - a)
        b = b + 2.0
        d = 1.0 / _nonzero(numerator * d + b)
        c = _nonzero(b + numerator / c)
        factor = d * c
        h *= factor
        if not np.any(np.abs(factor - 1.0) > _EPSILON * 2):
            break
    return h


def _nonzero(values: Floats) -> Floats:
    return np.where(np.abs(values) < _TINY, _TINY, values)


def _newton(a: Floats, p: float, q: float, z: float) -> Floats:
    """Return log of the quantile by Newton's method on log P (lower half) or log Q (upper half)."""
    of_gamma = log_gamma(a + 1.0)
    # x^a / Gamma(a + 1) bounds P from above: its root is left of the quantile. Wilson-Hilferty and
    # Cornish-Fisher are better where they are good at all.
    u = (np.log(p) + of_gamma) / a
    cube = 1.0 - 1.0 / (9.0 * a) + z / (3.0 * np.sqrt(a))
    u = np.where((a > 0.5) & (cube > 0.2), np.log(a) + 3.0 * np.log(np.maximum(cube, 0.2)), u)
    expansion = _cornish_fisher(a, z)
    u = np.where((a > _GUESS_SHAPE) & (expansion > 0.1 * a), np.log(np.maximum(expansion, _TINY)), u)
    active = np.arange(len(a))
    for _ in range(_NEWTON_STEPS):
        shape, point = a[active], u[active]
        x = np.exp(point)
        is_low = x < shape + (1.0 if q < _SMALL_TAIL else 1.0 + 4.0 * np.sqrt(shape))
        log_d = shape * point - x - of_gamma[active]  # of x^a e^-x / Gamma(a + 1)
        step = np.empty_like(x)
        series = _series(shape[is_low], x[is_low])
        if p <= q:
            step[is_low] = (log_d[is_low] + np.log(series) - np.log(p)) * series / shape[is_low]
        else:
            d = np.exp(log_d[is_low])
            upper = np.maximum(1.0 - d * series, _TINY)
            step[is_low] = -(np.log(upper) - np.log(q)) * upper / (d * shape[is_low])
        is_high = ~is_low
        fraction = _fraction(shape[is_high], x[is_high])
        log_q = log_d[is_high] + np.log(shape[is_high] * fraction)
        if p <= q:
            lower = np.maximum(-np.expm1(log_q), _TINY)
            density = np.exp(log_d[is_high]) * shape[is_high]
            step[is_high] = (np.log(lower) - np.log(p)) * lower / density
        else:
            step[is_high] = -(log_q - np.log(q)) * fraction
        step = np.clip(step, -2.0, 2.0) if p > q else step
        u[active] = point - step
        active = active[np.abs(step) > 1e-6]  # quadratic: the next error is below 1e-12
        if len(active) == 0:
            break
    return u


def _cornish_fisher(a: Floats, z: float) -> Floats:
    """Return the quantile for large shapes: an expansion in powers of a^-1/2 (cumulants (r - 1)! a)."""
    s = 1.0 / np.sqrt(a)
    terms = (
        (z * z - 1) / 3,
        (z**3 - 7 * z) / 36,
        (-6 * z**4 - 14 * z**2 + 32) / 1620,
        (9 * z**5 + 256 * z**3 - 433 * z) / 38880,
        (12 * z**6 - 243 * z**4 - 923 * z**2 + 1472) / 204120,
    )
    tail = np.zeros_like(a)
    for term in reversed(terms):
        tail = tail * s + term
    result: Floats = a + z * np.sqrt(a) + tail
    return result


@lru_cache(maxsize=32)
def _chebyshev(p: float) -> Floats | None:
    """Return the series of cbrt(quantile / shape) in shape^-1/2; None where it is not accurate enough."""

    def root(s: Floats) -> Floats:
        shape = s**-2.0
        return np.cbrt(np.exp(_newton(shape, p, 1.0 - p, NormalDist().inv_cdf(p))) / shape)

    series = Chebyshev.interpolate(root, _DEGREE, domain=_ROOTS).trim(_ROOT_ERROR)
    checked = np.linspace(*_ROOTS, 3 * _DEGREE)
    error = 3 * np.abs(series(checked) / root(checked) - 1.0)
    terms: Floats = np.asarray(series.coef, np.float64)
    return terms if error.max() < _SERIES_ERROR else None


def _evaluate(series: Floats, shape: Floats) -> Floats:
    """Return quantiles by the series, by Clenshaw's method in place."""
    low, high = _ROOTS
    x = (2.0 / np.sqrt(shape) - (low + high)) / (high - low)
    twice = 2.0 * x
    one, other, rest = np.zeros_like(x), np.zeros_like(x), np.empty_like(x)
    for term in series[:0:-1]:
        np.multiply(twice, one, out=rest)
        rest -= other
        rest += term
        one, other, rest = rest, one, other
    root = x * one - other + series[0]
    result: Floats = shape * root * root * root
    return result


def gamma_quantile(shape: Floats, p: float) -> Floats:
    """Return the p-quantile of the gamma distribution with scale 1.

    Parameters
    ----------
    shape:
        Shapes >= 1e-6, of any array shape; equal ones are computed once.
    p:
        Probability, 0 < p < 1. It is best given as ``1 - q`` only where q is not small.

    Returns
    -------
    numpy.ndarray
        float64 of the same array shape, relative error below 1e-9; 0 where the quantile is below the
        smallest number.

    Raises
    ------
    ValueError
        If ``p`` or a shape is out of its range.
    """
    if not 0.0 < p < 1.0:
        raise ValueError("the probability must lie between 0 and 1")
    shapes = np.asarray(shape, np.float64).ravel()
    if not np.all(shapes >= _SMALLEST_SHAPE):
        raise ValueError(f"the shape must be at least {_SMALLEST_SHAPE}")
    z = NormalDist().inv_cdf(p)
    quantile = np.empty_like(shapes)
    is_large = shapes >= _ASYMPTOTIC_SHAPE
    quantile[is_large] = _cornish_fisher(shapes[is_large], z)
    is_small = ~is_large
    is_smooth = is_small & (shapes >= _SMOOTH_SHAPE)
    if np.any(is_smooth) and (series := _chebyshev(p)) is not None:
        quantile[is_smooth] = _evaluate(series, shapes[is_smooth])
        is_small &= ~is_smooth
    if np.any(is_small):
        unique, inverse = np.unique(shapes[is_small], return_inverse=True)
        chunks = np.array_split(unique, -(-len(unique) // _CHUNK))
        quantile[is_small] = np.exp(np.concatenate([_newton(chunk, p, 1.0 - p, z) for chunk in chunks]))[inverse]
    result: Floats = quantile.reshape(np.shape(shape))
    return result
