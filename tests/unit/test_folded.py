"""A link folded into the queues of its devices: what a queue is sure of, who is served first, and who shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.allocate.tree import MAX_BPS
from telemetryd.assure.closed_loop import in_proportion
from telemetryd.assure.folded import FoldedLink, FoldedPort, FoldedQueue
from telemetryd.cli.fold import queue_of_node

M = 1_000_000


def port(queue_of: list[int], *queues: tuple[int, int], share: float = 1.0) -> FoldedPort:
    """Return a port with queues of (rate, ceiling) in Mbit/s."""
    made = tuple(FoldedQueue(f"q{n}", rate * M, ceiling * M) for n, (rate, ceiling) in enumerate(queues))
    return FoldedPort("SW1", "eth1", share, made, np.array(queue_of, np.intp))


def test_a_queue_has_its_rate_and_what_is_left_goes_in_order() -> None:
    """100 Mbit/s: 30 and 50 are sure, 20 are left for the first queue, up to its ceiling; the rest for the next."""
    link = FoldedLink((port([0, 1, 1], (30, 45), (50, 100)),))
    got = link.divide(np.array([90.0, 60.0, 20.0]) * M, 100 * M)
    # Of 55 in the second queue the two in it get what they send in proportion: 60 to 20.
    assert got / M == pytest.approx([45.0, 41.25, 13.75], abs=1e-5)
    # What a queue does not want is lent.
    assert link.divide(np.array([0.0, 90.0, 30.0]) * M, 100 * M) / M == pytest.approx([0, 75, 25], abs=1e-5)


def test_members_of_a_group_have_queues_of_their_own() -> None:
    """A class that has a queue to itself on one device, and shares one on the other, gets both parts."""
    alone = port([0, 1], (50, 100), (50, 100), share=0.5)
    shared = port([0, 0], (100, 100), share=0.5)
    got = FoldedLink((alone, shared)).divide(np.array([100.0, 300.0]) * M, 200 * M)
    assert got / M == pytest.approx([50 + 25, 50 + 75], abs=1e-5)


@given(
    wanted=st.lists(st.integers(0, 200), min_size=4, max_size=4),
    rates=st.lists(st.integers(0, 60), min_size=2, max_size=2),
    queue_of=st.lists(st.integers(0, 1), min_size=4, max_size=4),
    capacity=st.integers(0, 300),
)
def test_nothing_is_made_up_and_rates_are_kept(
    wanted: list[int], rates: list[int], queue_of: list[int], capacity: int
) -> None:
    """Nobody gets more than it wants, the link is never exceeded nor idle, and a queue has its rate if all rates fit."""
    link = FoldedLink((port(queue_of, *((rate, MAX_BPS // M) for rate in rates)),))
    want = np.array(wanted, np.float64) * M
    got = link.divide(want, capacity * M)
    assert (got <= want).all() and got.sum() <= capacity * M + 4
    assert got.sum() == pytest.approx(min(want.sum(), capacity * M), abs=4)
    if sum(rates) <= capacity:
        for number, rate in enumerate(rates):
            own = np.array(queue_of) == number
            assert got[own].sum() >= min(want[own].sum(), rate * M) - 4
    is_easy = link.is_easy(want[None], np.array([capacity * M]))[0]
    assert is_easy == (want.sum() <= capacity * M) and (not is_easy or got == pytest.approx(want, abs=4))


def test_one_queue_is_a_link_without_a_policy() -> None:
    """Everybody in one queue loses the same part."""
    want = np.array([3.0, 50.0, 90.0]) * M
    got = FoldedLink((port([0, 0, 0], (100, 100)),)).divide(want, 100 * M)
    assert got == pytest.approx(in_proportion(100.0 * M, want), rel=1e-6)


def test_a_leaf_is_in_the_queue_of_the_class_that_names_most_of_it() -> None:
    """The application before its department, the department before the class, and what nothing names is the rest."""
    classes = {
        ("CORE", "hrss", "exam"): 1,
        ("CORE", "hrss", ""): 2,
        ("CORE", "", "exam"): 3,
        ("BIZ", "", ""): 4,
        ("protected", "", "dns"): 0,
    }
    found = [
        queue_of_node(node, classes, 7)
        for node in (
            ("CORE", "hrss", "exam"),
            ("CORE", "hrss", "portal"),
            ("CORE", "tax", "exam"),
            ("BIZ", "tax", "filing"),
            ("CORE", "tax", "filing"),
            ("protected", "edu", "dns"),
            ("rest", "edu", "films"),
        )
    ]
    assert found == [1, 2, 3, 4, 7, 0, 7]
