"""The risk of overbooking: how likely more is demanded of what is guaranteed than there is.

Each guarantee is taken to be demanded in full for a part ``busy`` of the time, and not at all otherwise, independently
of the others. Demands that come together (a deadline, an exam) are riskier than that: say a larger part then.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

#: Steps that the limit is divided into; a guarantee counts up to the next one, so that the risk is never understated.
STEPS: Final = 10_000


def risk(guarantees_bps: Iterable[int], limit_bps: int, busy: float) -> float:
    """Return the part of the time in which the guarantees that are demanded exceed a limit.

    Parameters
    ----------
    guarantees_bps:
        The guarantees.
    limit_bps:
        What there is for them.
    busy:
        Part of the time in which each is demanded, between 0 and 1.

    Examples
    --------
    >>> risk([600, 600], 1000, 0.5)
    0.25
    """
    if limit_bps <= 0:
        return 1.0 - float(np.prod([1.0 - busy for bps in guarantees_bps if bps > 0]))
    fits = np.zeros(STEPS + 1)  # probability that so many steps are demanded
    fits[0] = 1.0
    for bps in guarantees_bps:
        steps = -(-bps * STEPS // limit_bps)
        moved = np.zeros_like(fits)
        if steps <= STEPS:
            moved[steps:] = fits[: STEPS + 1 - steps]
        fits = (1.0 - busy) * fits + busy * moved
    return float(min(max(1.0 - fits.sum(), 0.0), 1.0))
