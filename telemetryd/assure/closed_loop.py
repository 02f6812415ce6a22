"""What becomes of traffic that a link divides: a throughput model of closed-loop traffic.

In a step of length T a class wants d and gets x <= d. What it does not get depends on who sends:

    inelastic     it is lost: voice, live video, a flood. The class wants d = o, what it offers in this step
    elastic       it comes back (TCP retransmits, people reload): the class wants d = o + B / max(T, C), with the
                  backlog B of earlier steps and the time C in which that would be caught up. Of what waits after a
                  step, o T + B - x T, exp(-T / patience) stays and the rest gives up

So an hour of congestion is followed by a tail in which elastic classes catch up, which is why a policy is not judged by
the congested minutes alone. Steps that are shorter than C give about the same as steps of C. What is left out: a TCP
sender does not take its rate from the queue but from loss and round-trip times, and needs some of them to find it. That
is far below a step (a minute) and no part of the model. Nor does anything slow down because others of its department
wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Time in which elastic traffic would catch up, s.
CATCH_UP_S: Final = 300.0
#: A smaller backlog counts as given up.
_LEAST_BITS: Final = 8_000.0

#: Divide a step: (step, what the classes want in bit/s, shape (k,)) -> what they get.
Divide = Callable[[int, Floats], Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """What k classes wanted and got in t steps.

    Attributes
    ----------
    wanted, delivered:
        bit/s, shape (t, k).
    lost_bits:
        Bits of each class that were lost or given up, shape (k,).
    waiting_bits:
        Backlog of each class at the end, shape (k,).
    """

    wanted: Floats
    delivered: Floats
    lost_bits: Floats
    waiting_bits: Floats


def run(
    offered: Floats,
    elastic: NDArray[np.bool_],
    step_s: float,
    patience_s: float,
    divide: Divide,
    is_easy: NDArray[np.bool_],
    on_step: Callable[[int], None] | None = None,
    catch_up_s: float = CATCH_UP_S,
) -> Course:
    """Let classes send over a link, step by step.

    Parameters
    ----------
    offered:
        bit/s, shape (t, k).
    elastic:
        Which classes are elastic, shape (k,).
    step_s, patience_s:
        Length of a step, and the time in which 63 % of what waits gives up.
    catch_up_s:
        Time in which what waits would be sent if there was room.
    divide:
        The link.
    is_easy:
        Steps in which everyone surely gets what is offered, as long as nothing waits, shape (t,).
    on_step:
        Called with the number of every step that is not easy.
    """
    keep, catch_up = math.exp(-step_s / patience_s), max(step_s, catch_up_s)
    wanted, delivered = offered.copy(), offered.copy()
    lost, backlog = np.zeros(offered.shape[1]), np.zeros(offered.shape[1])
    step, steps = 0, len(offered)
    hard = np.flatnonzero(~is_easy)
    while step < steps:
        if not backlog.any():
            place = np.searchsorted(hard, step)
            if place == len(hard):
                break
            step = int(hard[place])
        wanted[step] = offered[step] + backlog / catch_up
        delivered[step] = np.minimum(divide(step, wanted[step]), wanted[step])
        left = np.maximum((offered[step] - delivered[step]) * step_s + backlog, 0.0)
        backlog = np.where(elastic, left * keep, 0.0)
        backlog[backlog < _LEAST_BITS] = 0.0
        lost += left - backlog
        if on_step is not None:
            on_step(step)
        step += 1
    return Course(wanted, delivered, lost, backlog)


def in_proportion(capacity_bps: float, wanted: Floats) -> Floats:
    """Return what classes get on a link without a policy: one queue, everyone loses the same part."""
    total = float(wanted.sum())
    return wanted if total <= capacity_bps else wanted * (capacity_bps / total)
