"""The same traffic, sampled independently at several hops: one estimate of all of them.

A packet on its way through the network is sampled, or not, at every switch that it passes. At hop i with the rate
1 in N_i the estimate y_i = N_i sum(b) has the variance (N_i - 1) B, where B, the sum of b^2 over *all* packets, is the
same at every hop. So the best weights (Gauss and Markov) are

    w_i proportional to 1 / (N_i - 1),

and they need no estimated variance. To weigh each hop by the variance that its own samples show would be wrong: it is
small where the estimate is small by chance, so the mean leans down, and by the more the fewer samples there are. The
plain mean of the hops is often worse than the best of them alone. N_i is known: V / P of the packets, since their
variance is N (N - 1) n and their estimate N n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pooled:
    """Pooled figures of k classes: estimate, variance and deviation of the sample that may come next, shape (k,)."""

    octets: Floats
    variance: Floats
    largest: Floats


def excess_rate(packets: Floats, packets_variance: Floats) -> Floats:
    """Return N - 1 of each hop, from its columns summed over all classes: V / P, shape (h,); 0 without samples."""
    return np.divide(packets_variance, packets, out=np.zeros_like(packets), where=packets > 0)


def pool_hops(octets: Floats, variance: Floats, largest: Floats, excess: Floats, passes: NDArray[np.bool_]) -> Pooled:
    """Pool the estimates of the hops that each class passes.

    Parameters
    ----------
    octets, variance, largest:
        Estimates of the classes at each hop, shape (h, k).
    excess:
        N - 1 of each hop, shape (h,): of all its samples, so that the weights do not depend on those of a
        class (:func:`excess_rate`). Below or at 0 a hop samples every packet, and is the truth.
    passes:
        Whether a class passes a hop, shape (h, k): from the registry's paths. A class that passes none is 0.

    Returns
    -------
    Pooled
        Of each class. A class that passes a single hop keeps that hop's figures.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    if octets.shape != variance.shape or octets.shape != largest.shape or octets.shape != passes.shape:
        raise ValueError("octets, variance, largest and passes must have the same shape")
    if excess.shape != octets.shape[:1]:
        raise ValueError("there must be one rate for each hop")
    is_exact = excess <= 0.0
    rank = np.where(is_exact, 1.0, 0.0)[:, None] * passes
    inverse = np.divide(1.0, excess, out=np.zeros_like(excess), where=~is_exact)[:, None] * passes
    # One hop that sees every packet is all that is needed.
    weight = np.where(rank.any(axis=0), rank, inverse)
    total = weight.sum(axis=0)
    weight = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
    return Pooled(
        (weight * octets).sum(axis=0), (weight * weight * variance).sum(axis=0), (weight * largest).max(axis=0)
    )
