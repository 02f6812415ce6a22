"""The clock of the windows: follows the system's gently, and never goes back."""

from __future__ import annotations

from telemetryd.observe.clock import SLEW_DIVISOR, STEP_NS, DisciplinedClock

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


class Times:
    """A monotonic and a system clock that stand still until they are moved."""

    def __init__(self) -> None:
        self.monotonic, self.system = 5 * SECOND, START
        self.clock = DisciplinedClock(lambda: self.monotonic, lambda: self.system)

    def go(self, ns: int, step: int = 0) -> None:
        self.monotonic += ns
        self.system += ns + step


def test_it_starts_with_the_system_clock_and_goes_on_with_the_monotonic_one() -> None:
    """Between comparisons only monotonic time counts."""
    times = Times()
    assert times.clock.now_ns() == START
    times.go(SECOND, step=-50 * SECOND)
    assert times.clock.now_ns() == START + SECOND


def test_small_errors_are_slewed() -> None:
    """An error below a step goes away at 500 parts in a million, is no step, and does not overshoot."""
    times = Times()
    times.go(SECOND, step=3_000_000)
    for expected in range(2_500_000, -1, -500_000):
        assert times.clock.discipline().error_ns == expected
        times.go(SECOND)
    state = times.clock.discipline()
    assert (state.error_ns, state.steps) == (0, 0)
    assert times.clock.now_ns() == times.system


def test_a_step_forward_is_followed_and_marked() -> None:
    """After a step forward the clock is right at once."""
    times = Times()
    times.go(SECOND, step=3600 * SECOND)
    state = times.clock.discipline()
    assert (state.error_ns, state.steps, state.last_step_ns) == (0, 1, 3600 * SECOND)
    assert times.clock.now_ns() == times.system


def test_a_step_back_is_slewed_and_marked_once() -> None:
    """After a step back the clock goes on, hardly slower, and says how far it is ahead."""
    times = Times()
    before = times.clock.now_ns()
    for second in range(1, 100):
        times.go(SECOND, step=-10 * SECOND if second == 1 else 0)
        state = times.clock.discipline()
        now = times.clock.now_ns()
        assert now - before == SECOND - SECOND // SLEW_DIVISOR
        assert state.error_ns == -10 * SECOND + second * (SECOND // SLEW_DIVISOR)
        assert (state.steps, state.last_step_ns) == (1, -10 * SECOND)
        before = now


def test_a_step_back_that_is_taken_back_leaves_no_error() -> None:
    """A second step that undoes the first one is marked, and the clock has not moved meanwhile."""
    times = Times()
    times.go(0, step=-10 * SECOND)
    assert times.clock.discipline().error_ns == -10 * SECOND
    times.go(0, step=10 * SECOND)
    state = times.clock.discipline()
    assert (state.error_ns, state.steps) == (0, 2)
    assert state.last_step_at_ns == times.clock.now_ns() == START


def test_what_is_a_step() -> None:
    """A change of the error of exactly the threshold is none."""
    times = Times()
    times.go(SECOND, step=STEP_NS)
    assert times.clock.discipline().steps == 0
    times = Times()
    times.go(SECOND, step=STEP_NS + 1)
    assert times.clock.discipline().steps == 1
