"""Confidence intervals of usage, from the sums that are kept.

The estimate of a key is a weighted sum of samples, each a nearly Poisson count of weight w = N b. The
gamma interval of Fay and Feuer (Statistics in Medicine 16, 1997) holds for such sums, also for few
samples and for none:

    low  = v / y             G(alpha / 2;     y^2 / v)
    high = (v + w^2) / (y + w) G(1 - alpha / 2; (y + w)^2 / (v + w^2))

with y the estimate, v its variance, w the weight of the sample that may come next (as deviation,
sqrt(N (N - 1)) b, b from :func:`telemetryd.aggregate.scaling.unseen_largest`) and G the quantile of the
gamma distribution. At N = 1 variance and w are 0, and the interval is the sum.
For a key without any sample, y = v = 0 and high = 3.689 w at 95 %: the caller gives the w of the source
(:class:`telemetryd.aggregate.scaling.SourceRates`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from telemetryd.aggregate.gamma import gamma_quantile


def interval(
    octets: ArrayLike, variance: ArrayLike, largest: ArrayLike, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the confidence interval of octets, or of packets with their own sums.

    Parameters
    ----------
    octets, variance, largest:
        Columns ``octets``, ``octets_variance``, ``octets_largest`` (or those of packets), any shape, >= 0.
    confidence:
        Between 0 and 1.

    Returns
    -------
    low, high:
        float64 of the same shape, ``low <= octets <= high``.

    Raises
    ------
    ValueError
        If ``confidence`` is out of its range.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError("the confidence must lie between 0 and 1")
    y, v, w = np.broadcast_arrays(*(np.asarray(a, np.float64) for a in (octets, variance, largest)))
    low, high = y.copy(), y.copy()
    tail = (1.0 - confidence) / 2.0
    has_low = (y > 0) & (v > 0)
    if np.any(has_low):
        scale = v[has_low] / y[has_low]
        low[has_low] = np.minimum(scale * gamma_quantile(y[has_low] / scale, tail), y[has_low])
    has_high = v + w * w > 0
    if np.any(has_high):
        mean, spread = (y + w)[has_high], (v + w * w)[has_high]
        scale = spread / mean
        high[has_high] = np.maximum(scale * gamma_quantile(mean / scale, 1.0 - tail), y[has_high])
    return low, high
