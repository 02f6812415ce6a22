"""Random 1-in-N packet sampling, statistically exact without enumerating the packets.

Each of a source's P packets is sampled with probability 1/N on its own. So of the M packets of one
cell (hop, size) a binomial number is sampled, and the sampled packets stand at uniformly random,
distinct places among the source's P packets: that place is what the sample pool counts.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

# above this share of sampled packets, places are dealt from the full list instead of drawn again on a clash
_DENSE: Final = 0.5


def draw_samples(rng: np.random.Generator, packets: NDArray[np.int64], one_in: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Draw how many packets of each size each hop samples.

    Parameters
    ----------
    packets:
        Packets of each size that pass each hop, shape (h, z).
    one_in:
        1 in N of each hop's source, shape (h,).

    Returns
    -------
    ndarray
        int64 of shape (h, z).
    """
    passed = packets.sum(axis=1)
    drawn = rng.binomial(passed, 1.0 / one_in)
    sampled = np.zeros_like(packets)
    # given their number, the sampled packets are any of the hop's packets: sizes without replacement
    rows = np.flatnonzero(drawn)
    left, wanted = passed[rows], drawn[rows]
    for size in range(packets.shape[1] - 1):
        mine = packets[rows, size]
        sampled[rows, size] = rng.hypergeometric(mine, left - mine, wanted)
        left, wanted = left - mine, wanted - sampled[rows, size]
    sampled[rows, -1] = wanted
    return sampled


def draw_places(
    rng: np.random.Generator, source: NDArray[np.intp], packets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Draw a distinct random place for each sample among its source's packets, 0-based.

    Parameters
    ----------
    source:
        Row of the sampling source, shape (n,).
    packets:
        Packets of each source, shape (s,); a source has no more samples than packets.

    Returns
    -------
    tuple
        The places, int64 of shape (n,), and the order of the samples by (source, place).

    Raises
    ------
    ValueError
        If a source has more samples than packets.
    """
    # all sources in a row on one axis: a sample's place on it is unique over everything
    offset = np.cumsum(packets) - packets
    counts = np.bincount(source, minlength=len(packets))
    if np.any(counts > packets):
        raise ValueError("a source cannot have more samples than packets")
    base, room = offset[source], packets[source]
    place = base + (rng.random(len(source)) * room).astype(np.int64)
    is_dense = counts > packets * _DENSE
    if is_dense.any():
        by_source = np.argsort(source, kind="stable")
        ends = np.cumsum(counts)
        for row in np.flatnonzero(is_dense).tolist():
            mine = by_source[ends[row] - counts[row] : ends[row]]
            place[mine] = offset[row] + rng.permutation(int(packets[row]))[: len(mine)]
    while True:
        order = np.argsort(place)
        clash = order[1:][np.diff(place[order]) == 0]
        if not len(clash):
            return place - base, order
        # drawing again until nothing clashes leaves every set of places equally likely
        place[clash] = base[clash] + (rng.random(len(clash)) * room[clash]).astype(np.int64)
