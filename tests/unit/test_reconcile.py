"""Windows held against counters: alignment, figures, coverage, metering points, sources of different rank."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from telemetryd.aggregate.calibrate import calibrate
from telemetryd.aggregate.coverage import Verdict
from telemetryd.aggregate.interval import interval
from telemetryd.aggregate.reconcile import SILENT_NS, SPAN_NS, WAIT_NS, Figures, Growth, Point, Reconciler
from telemetryd.schema import Direction, LinkDirection, Table
from tests.usage_windows import NAMES, START_NS, window

SECOND_NS = 1_000_000_000
LINK = NAMES.links[1]
RATE = 100.0
FRAME = 1000.0


def row(octets: float, **key: Any) -> dict[str, Any]:
    """Return a row of link_usage, in at the first link, as 1:100 samples of frames of 1000 octets leave it."""
    spread = RATE * (RATE - 1)
    return {
        "table": Table.LINK_USAGE,
        "link": 1,
        "direction": LinkDirection.IN,
        "samples": round(octets / RATE / FRAME),
        "octets": octets,
        "packets": octets / FRAME,
        "octets_variance": spread * FRAME * octets / RATE,
        "packets_variance": spread * octets / FRAME / RATE,
        "octets_largest": np.sqrt(spread) * FRAME,
        "packets_largest": np.sqrt(spread),
    } | key


def growth(start_s: float, end_s: float, octets: float, **what: Any) -> Growth:
    """Return what the first link's counter grew by, in, between two readings; seconds after START_NS."""
    start_ns, end_ns = (START_NS + round(second * SECOND_NS) for second in (start_s, end_s))
    plain = Growth(LINK, LinkDirection.IN, start_ns, end_ns, round(octets), round(octets / FRAME))
    return replace(plain, **what)


def fill(reconciler: Reconciler, seconds: range, *rows: dict[str, Any]) -> None:
    """Add windows that all hold the same rows."""
    for second in seconds:
        reconciler.add_window(window(rows, start_ns=START_NS + second * SECOND_NS))


def total(spans: list[tuple[int, Figures]], name: str, direction: str, figure: str) -> float:
    """Sum a figure over spans."""
    return sum(figures.get((name, direction), {}).get(figure, 0.0) for _, figures in spans)


def test_figures_are_the_counter_and_the_samples_of_the_same_time() -> None:
    """Readings at odd times: the spans' figures add up to the counter, and to the samples of that time."""
    reconciler = Reconciler(first_is_whole=True)
    fill(reconciler, range(40), row(1e6))
    reconciler.add_growths([growth(2.5, 12.25, 9.9e6), growth(12.25, 31.75, 20e6)])
    assert reconciler.counts["used"] == 0
    spans = reconciler.advance(START_NS + 40 * SECOND_NS) + reconciler.flush()
    assert [start_ns for start_ns, _ in spans] == [START_NS + n * SPAN_NS for n in range(4)]
    assert total(spans, LINK, "in", "octets") == pytest.approx(29.9e6)
    assert total(spans, LINK, "in", "packets") == pytest.approx(29_900)
    assert total(spans, LINK, "in", "estimated_octets") == pytest.approx(29.25e6)
    assert total(spans, LINK, "in", "estimated_packets") == pytest.approx(29_250)
    assert total(spans, LINK, "in", "seconds") == pytest.approx(29.25)
    assert total(spans, LINK, "in", "alarm_seconds") == 0.0
    # Of an even second interval 7.75 of 19.5 s lie in the second span, and 2.25 of 9.75 s of the first one.
    second = spans[1][1][LINK, "in"]
    assert second["octets"] == pytest.approx(9.9e6 * 2.25 / 9.75 + 20e6 * 7.75 / 19.5)
    assert reconciler.counts["used"] == 2
    assert reconciler.flush() == []


def test_octets_follow_the_samples_within_an_interval() -> None:
    """Traffic in one span and none in the next: the counter's octets of both lie where the samples saw them."""
    reconciler = Reconciler(first_is_whole=True)
    fill(reconciler, range(10), row(3e6))
    fill(reconciler, range(10, 20))
    reconciler.add_growths([growth(0, 20, 31e6)])
    spans = reconciler.advance(START_NS + 20 * SECOND_NS) + reconciler.flush()
    assert spans[0][1][LINK, "in"]["octets"] == pytest.approx(31e6)
    assert spans[1][1][LINK, "in"]["octets"] == 0.0
    assert spans[1][1][LINK, "in"]["seconds"] == pytest.approx(10.0)


def test_a_span_waits_for_its_counters() -> None:
    """A span is handed out when all that have counters went past it, or after a time, and then never again."""
    reconciler = Reconciler(first_is_whole=True)
    fill(reconciler, range(30), row(1e6), row(1e6, direction=LinkDirection.OUT))
    out = {"direction": LinkDirection.OUT}
    reconciler.add_growths([growth(0, 10, 10e6), growth(0, 5, 5e6, **out)])
    assert reconciler.advance(START_NS + 30 * SECOND_NS) == []
    reconciler.add_growths([growth(5, 15, 10e6, **out)])
    found = reconciler.advance(START_NS + 30 * SECOND_NS)
    assert [start_ns for start_ns, _ in found] == [START_NS]
    assert set(found[0][1]) == {(LINK, "in"), (LINK, "out")}
    fill(reconciler, range(30, 120), row(1e6))
    found = reconciler.advance(START_NS + 2 * SPAN_NS + WAIT_NS)
    assert [start_ns for start_ns, _ in found] == [START_NS + SPAN_NS]
    # What comes for it now is late, and the next interval is of use again.
    reconciler.add_growths([growth(15, 30, 15e6, **out)])
    found = reconciler.advance(START_NS + 3 * SPAN_NS + WAIT_NS)
    assert [start_ns for start_ns, _ in found] == [START_NS + 2 * SPAN_NS]


def test_coverage_and_its_alarm() -> None:
    """Half of what the counter says is seen: the ratio is a half, the alarm fires, and its seconds are counted."""
    reconciler = Reconciler(first_is_whole=True)
    fill(reconciler, range(100), row(5e7))
    reconciler.add_growths([growth(10 * n, 10 * n + 10, 1e9) for n in range(10)])
    spans = reconciler.advance(START_NS + 100 * SECOND_NS) + reconciler.flush()
    (found,) = reconciler.coverages()
    assert (found.link, found.direction, found.verdict) == (LINK, LinkDirection.IN, Verdict.BELOW)
    assert found.ratio == pytest.approx(0.5) and found.low < 0.5 < found.high < 0.55
    assert (found.seconds, found.interval_s) == (pytest.approx(100.0), pytest.approx(10.0))
    assert found.until_ns == START_NS + 100 * SECOND_NS
    assert START_NS < found.since_ns < found.until_ns
    fired = total(spans, LINK, "in", "alarm_seconds")
    assert 0 < fired < 100 and fired == pytest.approx((found.until_ns - found.since_ns) / SECOND_NS + 10)


def test_sampling_that_stopped_everywhere_is_seen() -> None:
    """Without any window, as time goes on, what the counters say is still held against nothing."""
    reconciler = Reconciler(first_is_whole=True)
    fill(reconciler, range(20), row(5e7))
    reconciler.add_growths([growth(10 * n, 10 * n + 10, 5e8) for n in range(12)])
    reconciler.advance(START_NS + 120 * SECOND_NS)
    assert reconciler.coverages()[0].verdict == Verdict.BELOW


def test_corrections_and_uncertain_growths() -> None:
    """Octets are corrected for each packet, by the samples' packets where the counter has none; resets are left out."""
    reconciler = Reconciler(first_is_whole=True)
    fill(reconciler, range(40), row(1e6))
    reconciler.add_growths([growth(0, 10, 10e6, correction=4.0), growth(10, 20, 10e6, correction=4.0, packets=None)])
    reconciler.add_growths([growth(20, 30, 10e6, is_certain=False), growth(30, 40, 10e6)])
    spans = reconciler.advance(START_NS + 40 * SECOND_NS) + reconciler.flush()
    octets = [figures[LINK, "in"]["octets"] for _, figures in spans]
    assert octets == pytest.approx([10e6 + 4 * 10_000, 10e6 + 4 * 10_000, 10e6])
    assert ["packets" in figures[LINK, "in"] for _, figures in spans] == [True, False, True]
    assert reconciler.counts == {"used": 3, "uncertain": 1, "second": 0, "late": 0, "overlapping": 0}


def test_the_better_source_is_listened_to() -> None:
    """Two sources of one link are never added: the lesser one counts only where the better one is silent."""
    reconciler = Reconciler(first_is_whole=True)
    fill(reconciler, range(20), row(1e6))
    reconciler.add_growths([growth(0, 10, 10e6), growth(0, 10, 10e6, rank=1), growth(10, 20, 11e6)])
    reconciler.add_growths([growth(10, 20, 12e6, rank=1), growth(10, 20, 11e6)])
    assert (reconciler.counts["second"], reconciler.counts["overlapping"]) == (2, 1)
    spans = reconciler.advance(START_NS + 20 * SECOND_NS)
    assert total(spans, LINK, "in", "octets") == pytest.approx(22e6)
    assert reconciler.coverages()[0].rank == 1
    late = round(20 + SILENT_NS / SECOND_NS)
    fill(reconciler, range(20, late), row(1e6))
    reconciler.add_growths([growth(late - 20, late - 10, 10e6), growth(late - 10, late, 10e6)])
    assert (reconciler.counts["second"], reconciler.counts["used"]) == (3, 2)
    reconciler.advance(START_NS + late * SECOND_NS)
    assert (reconciler.coverages()[0].rank, reconciler.counts["used"]) == (0, 3)


def test_ends_that_jitter_are_one_reading() -> None:
    """The clocks' skew is estimated ever anew: intervals that follow each other neither overlap nor leave a gap."""
    reconciler = Reconciler(first_is_whole=True)
    fill(reconciler, range(31), row(1e6))
    reconciler.add_growths([growth(0, 10, 10e6), growth(9.8, 20, 10e6), growth(20.3, 30, 10e6)])
    spans = reconciler.advance(START_NS + 31 * SECOND_NS) + reconciler.flush()
    assert total(spans, LINK, "in", "seconds") == pytest.approx(30.0)
    assert reconciler.counts["used"] == 3


def test_intervals_that_are_too_old_are_counted() -> None:
    """An interval that began before what is kept is late, and nothing breaks."""
    reconciler = Reconciler(first_is_whole=True)
    fill(reconciler, range(10), row(1e6))
    reconciler.advance(START_NS + 1000 * SECOND_NS)
    reconciler.add_growths([growth(0, 10, 10e6)])
    assert reconciler.advance(START_NS + 1000 * SECOND_NS) == []
    assert reconciler.counts["late"] == 1 and reconciler.coverages() == []


def test_only_seconds_are_taken() -> None:
    """Roll-ups would count twice."""
    with pytest.raises(ValueError, match="windows of 1 s"):
        Reconciler(first_is_whole=True).add_window(window([], span_ns=SPAN_NS))


def point_row(octets: float, direction: Direction) -> dict[str, Any]:
    """Return a row of totals at the first metering point."""
    return row(octets, table=Table.TOTALS, link=1, direction=direction)


@pytest.mark.parametrize("faces_outside", [True, False])
def test_a_metering_point_has_its_part_of_the_correction(faces_outside: bool) -> None:
    """What passes a point is some of the link's traffic: it gets what its classes get of the link's correction."""
    direction = Direction.INBOUND if faces_outside else Direction.OUTBOUND
    reconciler = Reconciler({"exit": Point(LINK, faces_outside)}, first_is_whole=True)
    # 8e6 of 10e6 octets that come in by the link count at the point, and none that go out by it.
    fill(reconciler, range(10), row(8e6), row(2e6, department=1), point_row(8e6, direction))
    reconciler.add_growths([growth(0, 10, 101e6)])
    spans = reconciler.advance(START_NS + 10 * SECOND_NS) + reconciler.flush()
    name = direction.name.lower()
    assert total(spans, "exit", name, "estimated_octets") == pytest.approx(80e6)
    assert total(spans, "exit", name, "octets") == pytest.approx(80.8e6)
    assert total(spans, "exit", name, "seconds") == pytest.approx(10.0)


def test_a_point_inside_counts_both_ways() -> None:
    """Packets between two inside ends pass in and out: the point's correction is of both directions' counters."""
    reconciler = Reconciler({"exit": Point(LINK, False)}, first_is_whole=True)
    out = {"direction": LinkDirection.OUT}
    fill(reconciler, range(10), row(1e6), row(3e6, **out), point_row(4e6, Direction.INTERNAL))
    reconciler.add_growths([growth(0, 10, 11e6), growth(0, 10, 32e6, **out)])
    spans = reconciler.advance(START_NS + 10 * SECOND_NS) + reconciler.flush()
    assert total(spans, "exit", "internal", "octets") == pytest.approx(43e6)
    assert total(spans, "exit", "internal", "estimated_octets") == pytest.approx(40e6)
    assert total(spans, "exit", "internal", "seconds") == pytest.approx(10.0)


def test_bursts_and_readings_at_odd_times() -> None:
    """Minutes of bursty traffic, readings every 7 s: classes are known better with counters, and intervals hold."""
    random = np.random.default_rng(11)
    minutes, shares = 20, np.array([0.75, 0.25])
    reconciler = Reconciler(first_is_whole=True)
    truth = np.zeros((minutes, 2))
    sums = np.zeros((minutes, 2, 3))
    counter, last, spans = np.zeros(minutes * 60 + 1), 3.4, []
    for second in range(minutes * 60):
        sent = random.poisson(4000 * random.lognormal(-0.32, 0.8) * shares)
        taken = random.binomial(sent, 1 / RATE)
        rows = [row(float(n * RATE * FRAME), department=k, samples=n) for k, n in enumerate(taken) if n]
        fill(reconciler, range(second, second + 1), *rows)
        truth[second // 60] += sent * FRAME
        octets = taken * RATE * FRAME
        sums[second // 60, :, 0] += octets
        sums[second // 60, :, 1] += (RATE - 1) * FRAME * octets
        counter[second + 1] = counter[second] + sent.sum() * FRAME
        if second - last > 7:
            at = second - 1 + random.random()
            edges = np.interp([last, at], np.arange(len(counter)), counter)
            reconciler.add_growths([growth(last, at, float(edges[1] - edges[0]))])
            last = at
        spans += reconciler.advance(START_NS + second * SECOND_NS)
    spans += reconciler.flush()
    gaps: dict[int, float] = defaultdict(float)
    for start_ns, figures in spans:
        one = figures[LINK, "in"]
        gaps[(start_ns - START_NS) // (60 * SECOND_NS)] += one["octets"] - one["estimated_octets"]
    inner = slice(1, minutes - 1)
    octets, variance = sums[inner, :, 0], sums[inner, :, 1]
    largest = np.full(octets.shape, np.sqrt(RATE * (RATE - 1)) * FRAME)
    gap = np.array([gaps[minute] for minute in range(minutes)])[inner]
    group = np.repeat(np.arange(minutes - 2), 2)
    found = calibrate(octets.ravel(), variance.ravel(), largest.ravel(), group, octets.sum(axis=1) + gap)
    z = found.octets.reshape(-1, 2)
    # What the samples alone are expected to be off by: the truth of few minutes would be a matter of luck.
    raw = np.sqrt(variance.mean(axis=0))
    calibrated = np.sqrt(((z - truth[inner]) ** 2).mean(axis=0))
    assert calibrated[0] < 0.75 * raw[0] and calibrated[1] < 1.2 * raw[1]
    low, high = interval(octets, variance, largest)
    is_held = (found.low.reshape(-1, 2) <= truth[inner]) & (truth[inner] <= found.high.reshape(-1, 2))
    assert is_held.mean() > 0.85 and ((low <= truth[inner]) & (truth[inner] <= high)).mean() > 0.85
    assert reconciler.coverages()[0].verdict == Verdict.OK


def test_the_first_second_may_be_partial() -> None:
    """Counters' intervals that begin before the windows do, or in the first of them, are left out."""
    reconciler = Reconciler()
    fill(reconciler, range(5, 40), row(1e6))
    reconciler.add_growths([growth(0, 5.5, 10e6), growth(5.5, 15, 10e6), growth(15, 25, 10e6)])
    spans = reconciler.advance(START_NS + 40 * SECOND_NS) + reconciler.flush()
    assert (reconciler.counts["late"], reconciler.counts["used"]) == (2, 1)
    assert total(spans, LINK, "in", "seconds") == pytest.approx(10.0)


def test_readings_from_the_future_do_no_harm() -> None:
    """An interval that ends minutes ahead of the windows is left out, and those that follow are not taken for old."""
    reconciler = Reconciler(first_is_whole=True)
    fill(reconciler, range(20), row(1e6))
    reconciler.add_growths([growth(0, 3600, 1e9), growth(0, 10, 10e6)])
    reconciler.advance(START_NS + 20 * SECOND_NS)
    assert (reconciler.counts["uncertain"], reconciler.counts["used"]) == (1, 1)
