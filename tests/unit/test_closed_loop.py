"""The throughput model: nothing appears or vanishes, elastic traffic catches up, inelastic traffic does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetryd.assure.closed_loop import Course, in_proportion, run

M = 1e6
CAPACITY = 100 * M


def course(offered: list[list[float]], elastic: list[bool], patience_s: float = 300, step_s: float = 60) -> Course:
    """Run classes over one queue of 100 Mbit/s."""
    bps = np.array(offered, np.float64) * M
    easy = bps.sum(axis=1) <= CAPACITY
    return run(bps, np.array(elastic), step_s, patience_s, lambda _, wanted: in_proportion(CAPACITY, wanted), easy)


def test_elastic_traffic_comes_back_less_who_gives_up() -> None:
    """150 on a link of 100: of what is missing, exp(-60/300) waits, and a fifth of that is sent in the next minute."""
    found = course([[150], [0], [0]], [True])
    waiting = 50 * math.exp(-0.2)
    assert (found.delivered[:, 0] / M).tolist() == pytest.approx(
        [100, waiting / 5, waiting * 4 / 5 * math.exp(-0.2) / 5]
    )
    assert found.lost_bits[0] > 50 * M * 60 * (1 - math.exp(-0.2))


def test_inelastic_traffic_is_lost() -> None:
    """It wants what it offers in a step and nothing of before."""
    found = course([[150], [0]], [False])
    assert (found.delivered[:, 0] / M).tolist() == [100, 0]
    assert found.lost_bits[0] == 50 * 60 * M


def test_an_hour_of_congestion_has_a_tail() -> None:
    """With patient users the minutes after the congestion are full too."""
    patient = course([[150]] * 10 + [[60]] * 10, [True], patience_s=3600)
    assert (patient.delivered[10:13, 0] > CAPACITY * (1 - 1e-9)).all()
    hasty = course([[150]] * 10 + [[60]] * 10, [True], patience_s=10)
    assert hasty.delivered[11, 0] < 61 * M


def test_shorter_steps_tell_the_same() -> None:
    """Minutes and five minutes give an inelastic class beside elastic ones about the same in a long congestion."""
    minutes = course([[120, 10]] * 120, [True, False], step_s=60)
    fives = course([[120, 10]] * 24, [True, False], step_s=300)
    got = [one.delivered[:, 1].mean() / M for one in (minutes, fives)]
    assert got[0] == pytest.approx(got[1], rel=0.1)
    assert got[0] < 10 * 100 / 130


rates = st.lists(st.lists(st.floats(0, 200, width=32), min_size=3, max_size=3), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(rates, st.lists(st.booleans(), min_size=3, max_size=3), st.floats(1, 10_000))
def test_what_is_offered_is_delivered_lost_or_waiting(
    offered: list[list[float]], elastic: list[bool], patience_s: float
) -> None:
    """Of every class; never more than the capacity, never more than wanted."""
    found = course(offered, elastic, patience_s)
    sent = np.array(offered).sum(axis=0) * 60 * M
    got = found.delivered.sum(axis=0) * 60
    np.testing.assert_allclose(got + found.lost_bits + found.waiting_bits, sent, rtol=1e-9, atol=1)
    assert (found.delivered.sum(axis=1) <= CAPACITY * (1 + 1e-12)).all()
    assert (found.delivered <= found.wanted).all()
    assert (found.wanted >= np.array(offered) * M).all()
