"""Calibration of classes by their counter, the coverage alarm, hops, and windows cut to counters' intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.aggregate.align import SECOND_NS, SUMS, Seconds
from telemetryd.aggregate.calibrate import calibrate, coverage_ratio
from telemetryd.aggregate.coverage import HOLD, THRESHOLD, CoverageAlarm, Verdict
from telemetryd.aggregate.hops import excess_rate, pool_hops
from telemetryd.aggregate.interval import interval

amounts = st.just(0.0) | st.floats(1.0, 1e12)


@given(
    st.lists(st.tuples(amounts, st.just(0.0) | st.floats(1.0, 1e6), st.integers(0, 2)), min_size=1, max_size=12),
    st.tuples(amounts, amounts, amounts),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.floats(0.0, 1.0),
)
def test_classes_sum_to_the_counter(
    classes: list[tuple[float, float, int]],
    totals: tuple[float, ...],
    is_ratio: tuple[bool, ...],
    covered: float,
) -> None:
    """Whatever the samples say, the classes of a group sum to its total, and none is below 0."""
    y = np.array([octets for octets, _, _ in classes])
    v = y * np.array([unit for _, unit, _ in classes])
    group = np.array([one for *_, one in classes], np.intp)
    found = calibrate(y, v, np.sqrt(v), group, totals, is_ratio, covered)
    assert np.all(found.octets >= 0) and np.all(found.variance >= 0)
    assert np.all((found.low >= 0) & (found.low <= found.octets) & (found.octets <= found.high))
    for one, total in enumerate(totals):
        has_samples = y[group == one].sum() > 0
        assert found.unattributed[one] == (0.0 if has_samples else total)
        if has_samples:
            # Floats: the sum of what is added and taken away again.
            tolerance = 1e-9 * (total + y[group == one].sum())
            assert found.octets[group == one].sum() == pytest.approx(total, rel=1e-9, abs=tolerance)


def test_regression_takes_from_whoever_is_least_certain() -> None:
    """What the samples lack goes to the classes by their variance, not by their size."""
    found = calibrate([900.0, 100.0], [100.0, 300.0], [1.0, 1.0], np.zeros(2, np.intp), [1040.0])
    added = found.octets - [900.0, 100.0]
    assert added.sum() == pytest.approx(40.0)
    assert added[1] == pytest.approx(30.0, rel=0.05) and added[0] == pytest.approx(10.0, rel=0.1)
    assert np.all(found.variance <= [100.0, 300.0])


def test_the_ratio_does_not_depend_on_the_rate() -> None:
    """While the alarm fires, samples at half the true rate give the same figures and intervals as at the true one."""
    y, v, w = np.array([4e6, 1e6]), np.array([4e9, 1e9]), np.array([4e3, 2e3])
    group = np.zeros(2, np.intp)
    right = calibrate(y, v, w, group, [5.2e6], True)
    half = calibrate(y / 2, v / 4, w / 2, group, [5.2e6], True)
    for name in ("octets", "variance", "low", "high"):
        np.testing.assert_allclose(getattr(half, name), getattr(right, name), rtol=1e-12)
    assert right.octets.tolist() == pytest.approx([4.16e6, 1.04e6])


def test_a_class_alone_is_the_counter_as_far_as_samples_tell() -> None:
    """Of an interface with one class, many samples leave nothing but the counter; of one sample nearly anything holds."""
    many = calibrate([1e9], [1e12], [1e3], np.zeros(1, np.intp), [1.01e9])
    assert many.octets[0] == 1.01e9 and many.high[0] == 1.01e9
    assert many.low[0] == pytest.approx(1.01e9 - 3.689 * 1e3, rel=1e-6)
    one = calibrate([1e6], [1e12], [1e6], np.zeros(1, np.intp), [2e6])
    assert (one.low[0], one.octets[0], one.high[0]) == (0.0, 2e6, 2e6)


def test_sampled_one_to_one_keeps_what_is_known() -> None:
    """At 1:1 there is no variance: figures that fit the counter stay, and a remainder belongs to all alike."""
    exact = calibrate([300.0, 100.0], [0.0, 0.0], [0.0, 0.0], np.zeros(2, np.intp), [400.0])
    assert exact.octets.tolist() == exact.low.tolist() == exact.high.tolist() == [300.0, 100.0]
    more = calibrate([300.0, 100.0], [0.0, 0.0], [0.0, 0.0], np.zeros(2, np.intp), [440.0])
    assert more.octets.tolist() == [330.0, 110.0]


def test_without_counters_nothing_changes() -> None:
    """Where no counter covers the span, estimate, variance and, of small classes, interval are those of the samples."""
    y, v, w = np.array([500.0, 200.0, 100.0]), np.array([900.0, 400.0, 100.0]), np.array([30.0, 20.0, 10.0])
    found = calibrate(y, v, w, np.zeros(3, np.intp), [800.0], False, 0.0)
    assert found.octets.tolist() == y.tolist()
    assert found.variance.tolist() == v.tolist()
    low, high = interval(y, v, w)
    np.testing.assert_allclose(found.low, low)
    np.testing.assert_allclose(found.high, np.minimum(high, 800.0))


@pytest.mark.parametrize("total", [-1.0, float("nan"), float("inf")])
def test_impossible_totals_are_refused(total: float) -> None:
    """A counter's growth is a finite number from 0 on."""
    with pytest.raises(ValueError, match="finite"):
        calibrate([1.0], [1.0], [1.0], np.zeros(1, np.intp), [total])


def test_coverage_is_the_interval_over_the_counter() -> None:
    """The ratio has the interval of the estimate; of a counter that stood still there is none."""
    ratio, low, high = coverage_ratio([950.0, 0.0], [400.0, 0.0], [5.0, 5.0], [1000.0, 0.0])
    expected_low, expected_high = interval(950.0, 400.0, 5.0)
    assert (ratio[0], low[0], high[0]) == pytest.approx((0.95, expected_low / 1000, expected_high / 1000))
    assert np.isnan([ratio[1], low[1], high[1]]).all()


class TestAlarm:
    """CoverageAlarm."""

    UNIT = 1e6  # octets of an effective sample

    def intervals(self, alarm: CoverageAlarm, ratio: float, count: int, samples: float = 1000.0) -> list[Verdict]:
        """Add intervals without noise; return the verdict after each."""
        verdicts = []
        slots, counter = np.zeros(1, np.intp), np.array([samples * self.UNIT])
        for _ in range(count):
            changes = alarm.add(slots, ratio * counter, ratio * counter * self.UNIT, counter)
            verdicts.append(Verdict(int(alarm.verdicts()[0])))
            assert len(changes) <= 1
            assert all(change.verdict == verdicts[-1] for change in changes)
        return verdicts

    @pytest.mark.parametrize(
        ("ratio", "verdict"), [(0.5, Verdict.BELOW), (0.95, Verdict.BELOW), (1.05, Verdict.ABOVE), (2.0, Verdict.ABOVE)]
    )
    def test_it_fires_and_ends(self, ratio: float, verdict: Verdict) -> None:
        """A wrong ratio raises the alarm of its side, a right one ends it; neither before several intervals."""
        alarm = CoverageAlarm()
        assert set(self.intervals(alarm, 1.0, 50)) == {Verdict.OK}
        fired = self.intervals(alarm, ratio, 40)
        assert fired[: HOLD - 1] == [Verdict.OK] * (HOLD - 1) and fired[-1] == verdict
        ended = self.intervals(alarm, 1.0, 40)
        assert ended[: HOLD - 1] == [verdict] * (HOLD - 1) and ended[-1] == Verdict.OK
        assert set(ended[ended.index(Verdict.OK) :]) == {Verdict.OK}

    @pytest.mark.parametrize("ratio", [0.98, 1.02])
    def test_small_deviations_are_no_alarm(self, ratio: float) -> None:
        """Counters and samples do not see quite the same packets: 2 % never fire."""
        assert set(self.intervals(CoverageAlarm(), ratio, 600)) == {Verdict.OK}

    def test_one_wild_interval_is_no_alarm(self) -> None:
        """An interval with none of its samples, between right ones, does not fire, however many it should have had."""
        alarm = CoverageAlarm()
        self.intervals(alarm, 1.0, 20)
        assert self.intervals(alarm, 0.0, 1, samples=1e6) == [Verdict.OK]
        assert set(self.intervals(alarm, 1.0, 20)) == {Verdict.OK}

    def test_few_samples_need_long(self) -> None:
        """With 5 samples an interval, half of them lost is no alarm at once, and one in the end."""
        verdicts = self.intervals(CoverageAlarm(), 0.5, 400, samples=5.0)
        assert set(verdicts[:20]) == {Verdict.OK}
        assert verdicts[-1] == Verdict.BELOW

    def test_an_interface_that_was_never_sampled(self) -> None:
        """Without a sample nothing is said, unless it is known what one would stand for."""
        alarm, slot, counter = CoverageAlarm(), np.zeros(1, np.intp), np.array([1e9])
        none = np.zeros(1)
        for _ in range(100):
            assert alarm.add(slot, none, none, counter) == []
        for _ in range(HOLD):
            alarm.add(slot, none, none, counter, np.array([1e6]))
        assert alarm.verdicts()[0] == Verdict.BELOW

    def test_slots_do_not_know_of_each_other(self) -> None:
        """Evidence stays with its slot, in whatever order slots come; a forgotten one starts anew."""
        alarm = CoverageAlarm()
        for _ in range(40):
            alarm.add(np.array([3, 1]), np.array([5e8, 1e9]), np.array([5e14, 1e15]), np.array([1e9, 1e9]))
        assert alarm.verdicts().tolist() == [Verdict.OK, Verdict.OK, Verdict.OK, Verdict.BELOW]
        alarm.forget(3)
        assert alarm.verdicts().tolist() == [Verdict.OK] * 4

    def test_steps_are_bounded(self) -> None:
        """No interval adds more than its part of the threshold: the alarm needs as many as it says."""
        alarm = CoverageAlarm(threshold=THRESHOLD)
        verdicts = self.intervals(alarm, 0.0001, HOLD, samples=1e9)
        assert verdicts == [Verdict.OK] * (HOLD - 1) + [Verdict.BELOW]


class TestHops:
    """pool_hops."""

    @pytest.mark.parametrize(
        "rates", [(1000, 1000, 1000), (1000, 4000), (512, 2048, 8192)], ids=["alike", "two", "three"]
    )
    def test_pooling_is_better_than_the_best_hop(self, rates: tuple[int, ...]) -> None:
        """On average right, with the error of Gauss and Markov, and an interval that holds; the plain mean has more."""
        random = np.random.default_rng(5)
        runs, lengths = 4000, np.array([90.0, 576.0, 1514.0])
        sent = np.array([60_000, 30_000, 110_000])
        truth = float(sent @ lengths)
        taken = np.stack([random.binomial(sent, 1 / rate, (runs, 3)) for rate in rates])
        rate = np.array(rates, np.float64)[:, None]
        octets, variance = rate * (taken @ lengths), rate * (rate - 1) * (taken @ lengths**2)
        packets = rate * taken.sum(axis=2)
        excess = excess_rate(packets.sum(axis=1), ((rate - 1) * packets).sum(axis=1))
        np.testing.assert_allclose(excess, np.array(rates) - 1.0)
        largest = np.sqrt(rate * (rate - 1)) * np.full(octets.shape, 1514.0)
        pooled = pool_hops(octets, variance, largest, excess, np.ones(octets.shape, np.bool_))
        error = float(np.sqrt(((pooled.octets - truth) ** 2).mean()))
        best = float(np.sqrt(1 / sum(1 / (one - 1) for one in rates)) * np.sqrt(sent @ lengths**2))
        assert error == pytest.approx(best, rel=0.05)
        assert pooled.octets.mean() == pytest.approx(truth, rel=4 * best / truth / np.sqrt(runs))
        assert error < np.sqrt(((octets - truth) ** 2).mean(axis=1)).min()
        assert error <= np.sqrt(((octets.mean(axis=0) - truth) ** 2).mean()) * 1.001
        low, high = interval(pooled.octets, pooled.variance, pooled.largest)
        assert 0.93 <= float(((low <= truth) & (truth <= high)).mean()) <= 0.98

    def test_a_class_is_pooled_over_its_own_hops(self) -> None:
        """Hops that a class does not pass do not count; one that samples everything is the truth; none is 0."""
        octets = np.array([[100.0, 80.0, 7.0, 0.0], [140.0, 500.0, 9.0, 0.0]])
        passes = np.array([[True, True, True, False], [True, False, True, False]])
        pooled = pool_hops(octets, octets, octets, np.array([9.0, 9.0]), passes)
        assert pooled.octets.tolist() == pytest.approx([120.0, 80.0, 8.0, 0.0])
        assert pooled.variance.tolist() == pytest.approx([60.0, 80.0, 4.0, 0.0])
        exact = pool_hops(octets, octets, octets, np.array([9.0, 0.0]), passes)
        assert exact.octets.tolist() == pytest.approx([140.0, 80.0, 9.0, 0.0])

    def test_shapes_are_checked(self) -> None:
        """A rate for each hop, and a figure of each class at each."""
        one = np.ones((2, 3))
        with pytest.raises(ValueError, match="one rate for each hop"):
            pool_hops(one, one, one, np.ones(3), one > 0)
        with pytest.raises(ValueError, match="same shape"):
            pool_hops(one, one, one, np.ones(2), np.ones((3, 2)) > 0)


class TestSeconds:
    """Windows cut to the intervals of counters."""

    def filled(self, seconds: int = 20) -> Seconds:
        """Return sums of two slots: the first has 100 octets in each second, the second 10, 20, 30 ..."""
        kept = Seconds(memory_s=60)
        for second in range(1000, 1000 + seconds):
            values = np.array([100.0, 10.0 * (second - 999)])
            kept.add(second, np.array([0, 1]), dict.fromkeys(SUMS, values))
        return kept

    def test_edges_belong_to_both_by_time(self) -> None:
        """Two intervals that follow each other share the window of their edge, and their sums are that of both."""
        kept = self.filled()
        edges = np.array([1000.25, 1004.75, 1010.5]) * SECOND_NS
        cut = kept.cut(np.array([1, 1]), edges[:2].astype(np.int64), edges[1:].astype(np.int64))
        assert cut.sums["octets"].tolist() == pytest.approx(
            [7.5 + 20 + 30 + 40 + 37.5, 12.5 + 60 + 70 + 80 + 90 + 100 + 55]
        )
        assert cut.fraction.sum(axis=1).tolist() == pytest.approx([4.5, 5.75])
        assert cut.sums["octets_largest"].tolist() == [50.0, 110.0]
        whole = kept.cut(np.array([1]), edges[:1].astype(np.int64), edges[2:].astype(np.int64))
        assert whole.sums["octets"][0] == pytest.approx(cut.sums["octets"].sum())

    def test_the_counter_is_told_as_the_samples_saw_it(self) -> None:
        """A counter's octets come to the windows in proportion to the samples', and add up to it; else by time."""
        kept = self.filled()
        start, end = np.array([1002 * SECOND_NS] * 2), np.array([1005 * SECOND_NS + SECOND_NS // 2] * 2)
        cut = kept.cut(np.array([1, 7]), start, end)
        told = cut.spread(np.array([150.0, 70.0]), cut.octets)
        assert told.sum(axis=1).tolist() == pytest.approx([150.0, 70.0])
        assert told[0].tolist() == pytest.approx([30.0, 40.0, 50.0, 30.0])
        assert told[1].tolist() == pytest.approx([20.0, 20.0, 20.0, 10.0])

    def test_silence_is_zero(self) -> None:
        """Seconds in which nothing came are 0, also where their place held an earlier one."""
        kept = self.filled()
        kept.advance(1075)
        cut = kept.cut(np.array([0]), np.array([1015 * SECOND_NS]), np.array([1075 * SECOND_NS]))
        assert cut.sums["octets"][0] == pytest.approx(500.0)
        kept.advance(5000)
        assert (
            kept.cut(np.array([0]), np.array([4950 * SECOND_NS]), np.array([4990 * SECOND_NS])).sums["octets"][0] == 0
        )

    @pytest.mark.parametrize(("start", "end"), [(900, 1010), (1010, 1021), (1010, 1010), (1011, 1010)])
    def test_what_is_not_kept_cannot_be_cut(self, start: int, end: int) -> None:
        """Intervals before or after what is kept, and empty ones, are refused."""
        with pytest.raises(ValueError, match="inside the seconds"):
            self.filled().cut(np.array([0]), np.array([start * SECOND_NS]), np.array([end * SECOND_NS]))
