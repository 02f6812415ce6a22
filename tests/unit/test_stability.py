"""Damping of demands: what each rule does, and that the control loop does not oscillate in the published ranges."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from benchmarks.step_response import M, Response, respond, step_truth
from telemetryd.allocate.demand import DemandSettings
from telemetryd.allocate.stability import NS, Damped, StabilitySettings, begin, damp

pytestmark = pytest.mark.no_twins

PLAIN = StabilitySettings(dead_band=0, release=0, hold_s=0, cool_down_s=0, most_rise=4, most_fall=1)


def follow(settings: StabilitySettings, start: float, estimates: list[float], step_s: int = 10) -> list[float]:
    """Return what is applied of one class, step by step."""
    state: Damped = begin(np.array([start * M]))
    found = []
    for number, value in enumerate(estimates):
        state = damp(state, np.array([value * M]), number * step_s * NS, settings)
        found.append(round(float(state.bps[0]) / M, 3))
    return found


def test_without_settings_the_estimate_is_applied() -> None:
    """Each rule is off by itself."""
    assert follow(PLAIN, 100, [101, 99, 300, 0, 0.5]) == [101, 99, 300, 0, 0.5]


def test_dead_band_and_hysteresis() -> None:
    """A change within the band does nothing; one that began goes on into the smaller band, and ends there."""
    settings = replace(PLAIN, dead_band=0.1, release=0.5, most_rise=0.1)
    assert follow(settings, 100, [109, 91, 115, 115, 115, 115]) == [100, 100, 110, 110, 110, 110]
    assert follow(settings, 100, [117, 117, 117, 117]) == [110, 117, 117, 117]


def test_hold_and_cool_down() -> None:
    """One change in the hold's time; no fall within the cool-down of a rise, though a rise may follow a fall."""
    settings = replace(PLAIN, hold_s=20)
    assert follow(settings, 100, [110, 120, 130, 140]) == [110, 110, 130, 130]
    settings = replace(PLAIN, cool_down_s=30)
    assert follow(settings, 100, [110, 90, 90, 90, 110, 90]) == [110, 110, 110, 90, 110, 110]


def test_largest_step() -> None:
    """Parts are of what the class has, and of the least rate where it has less."""
    settings = replace(PLAIN, most_rise=0.5, most_fall=0.25, least_bps=10 * M)
    assert follow(settings, 0, [100] * 5) == [5, 10, 15, 22.5, 33.75]
    assert follow(settings, 40, [0] * 3) == [30, 22.5, 16.875]


def test_what_a_policy_changes_does_not_wait() -> None:
    """A class that is marked takes its estimate at once; the others are damped as ever."""
    settings = StabilitySettings()
    state = damp(begin(np.array([100.0, 100.0]) * M), np.array([200.0, 200.0]) * M, 0, settings)
    state = damp(state, np.array([10.0, 10.0]) * M, NS, settings, at_once=np.array([True, False]))
    assert (state.bps / M).tolist() == [10, 200]


@pytest.mark.parametrize(
    "changes",
    [{"dead_band": 0.3}, {"release": 2}, {"hold_s": -1}, {"most_rise": 0}, {"most_fall": 1.5}, {"least_bps": 0}],
)
def test_settings_out_of_their_range_are_refused(changes: dict[str, float]) -> None:
    """And estimates of other classes than the state's."""
    with pytest.raises(ValueError, match="must lie between"):
        replace(StabilitySettings(), **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="estimates for"):
        damp(begin(np.zeros(2)), np.zeros(3), 0, StabilitySettings())


def any_settings(random: Random) -> tuple[DemandSettings, StabilitySettings, int]:
    """Draw settings from the ranges that docs/demand.md publishes, and a delay in steps."""
    near = random.choice([0.9, 0.95, 0.98])
    demand = DemandSettings(
        window=random.randint(1, 30),
        headroom=max(random.uniform(1.05, 1.5), 1.03 / near),
        near=near,
        growth=random.uniform(1.1, 2),
        few_samples=0,
    )
    stability = StabilitySettings(
        dead_band=random.uniform(0, 0.2),
        release=random.uniform(0, 1),
        hold_s=10 * random.randint(0, 4),
        cool_down_s=10 * random.randint(0, 30),
        most_rise=random.uniform(0.25, 4),
        most_fall=random.uniform(0.1, 1),
    )
    return demand, stability, random.randint(0, 3)


def settled(run: Response, first: int, after_mbps: float, demand: DemandSettings, stability: StabilitySettings) -> None:
    """Assert that the loop came to rest after a step, with at most one overshoot, where it should."""
    after = Response(*(getattr(run, name)[first:] for name in ("estimated", "applied", "shares", "sent")))
    assert after.turns() <= 2
    assert not after.changes()[-40:].any()
    attainable = min(after_mbps, 475)  # (1000 - 50) / 2
    # What is left of the headroom of the steady class goes to whoever wants it.
    assert after.sent[-1, 0] >= (attainable - 0.5 * demand.headroom * 50 - 1) * M
    if after_mbps < attainable + 1 and demand.headroom * after_mbps < 400:
        assert after.sent[-1, 0] == after_mbps * M
        slack = stability.dead_band / (1 - stability.dead_band)
        assert after.applied[-1, 0] <= demand.headroom * after_mbps * (1 + slack) * M + 1


@pytest.mark.parametrize("draws", [4, pytest.param(600, marks=[pytest.mark.long, pytest.mark.timeout(7200)])])
def test_the_loop_does_not_oscillate(draws: int) -> None:
    """After a step of demand, up or down, attainable or not, what is applied overshoots once at most and rests."""
    random = Random(draws)
    jumps = [(60, 240), (240, 60), (60, 900), (900, 60)]
    for number in range(draws):
        demand, stability, delay = any_settings(random)
        before, after = jumps[number % len(jumps)]
        run = respond(step_truth(before, after, 280), demand, stability, delay)
        settled(run, 139, after, demand, stability)


def test_noise_of_measurement_hardly_moves_what_is_applied() -> None:
    """With 8 % of noise the undamped estimate changes in every step, the damped one a few times an hour."""
    truth = step_truth(100, 100, 180)
    demand = DemandSettings(few_samples=0)
    loose, damped = (respond(truth, demand, s, delay=1, noise=0.08) for s in (None, StabilitySettings()))
    counts = [int(np.count_nonzero(run.changes()[90:])) for run in (loose, damped)]
    assert counts[0] > 60
    assert counts[1] < 10
