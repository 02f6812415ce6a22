"""Do counters make the classes' figures better? `python -m benchmarks.calibration [--runs N] [--write]`.

An interface carries classes of known shares, in frames of three sizes that each class mixes in its own way; its
packets are sampled 1 in N, and its counter is read every interval. A run is 120 intervals; in the first 60 of them
there is a fault (or none): datagrams lost that no sample pool makes up for, a sampling rate other than stated, a
counter that counts more than is sampled. Estimates, intervals, calibration and alarm are those of
`telemetryd.aggregate`.

Every interval is judged: the classes' sum against the counter, the errors of each class with and without
calibration on the same samples, whether its interval holds the truth, and when the alarm begins and ends.

`--write` puts the figures into docs/figures/calibration.csv and coverage-alarm.csv, and draws calibration.svg.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.calibrate import calibrate
from telemetryd.aggregate.coverage import CoverageAlarm, Verdict
from telemetryd.aggregate.interval import interval

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
FRAME_LENGTHS = np.array([90.0, 576.0, 1518.0])
RATE = 1000
DATAGRAM_SAMPLES = 7
INTERVALS = 60
#: Classes' shares of the packets.
SHARES = {
    "large and small": (0.6, 0.25, 0.1, 0.04, 0.01),
    "one large": (0.9, 0.1),
    "two": (0.5, 0.5),
    "ten alike": (0.1,) * 10,
}
MIXES = np.array([[0.2, 0.2, 0.6], [0.5, 0.2, 0.3], [0.34, 0.33, 0.33], [0.1, 0.1, 0.8], [0.7, 0.1, 0.2]])
#: Samples of the interface in an interval, on average.
SAMPLES = (50, 200, 1000)
#: Counted as having few samples: below, an interval may hold the truth more often than promised.
FEW = 20.0

CLASS_COLUMNS = (
    *("shares", "samples_an_interval", "fault", "share", "cells", "rmse", "calibrated_rmse", "ratio"),
    *("excess_in_standard_errors", "coverage", "calibrated_coverage"),
)
ALARM_COLUMNS = (
    *("shares", "samples_an_interval", "fault", "runs", "intervals_without_fault", "false_alarms", "fired", "cleared"),
    *("median_intervals_to_fire", "median_intervals_to_clear", "worst_deviation_of_a_sum"),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong in the first half of a run."""

    lost: float = 0.0  # share of the datagrams
    true_rate: float = 1.0  # over the stated one
    uncounted: float = 0.0  # what the counter has beyond what is sampled, share
    fires: bool = False


FAULTS = {
    "none": Fault(),
    "counter 1 % more": Fault(uncounted=0.01),
    "5 % of datagrams lost": Fault(lost=0.05, fires=True),
    "30 % of datagrams lost": Fault(lost=0.3, fires=True),
    "1 in 2N, stated 1 in N": Fault(true_rate=2.0, fires=True),
    "1 in N/2, stated 1 in N": Fault(true_rate=0.5, fires=True),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One setting: which shares, how many samples an interval, which fault."""

    shares: str
    samples: int
    fault: str


@dataclass(frozen=True, slots=True)
class Class:
    """What became of one class of a case, in the intervals where the alarm said what it should."""

    share: float
    expected: float  # samples an interval
    cells: int
    rmse: float  # octets, as the samples say
    calibrated_rmse: float
    excess: float  # mean of the difference of the squared errors, in its own standard errors
    covered: int
    calibrated_covered: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """What the alarm did in the runs of a case."""

    runs: int
    intervals_without_fault: int
    false_alarms: int
    fired: int
    cleared: int
    to_fire: float  # intervals, median; not a number where it never fired
    to_clear: float


@dataclass(frozen=True, slots=True)
class Result:
    """What one case gave; ``worst_total`` is the greatest deviation of a sum from its counter, relative."""

    classes: tuple[Class, ...]
    alarm: Alarm
    worst_total: float


def measure(case: Case, runs: int, seed: int = 1) -> Result:
    """Run one case."""
    shares, fault = np.array(SHARES[case.shares]), FAULTS[case.fault]
    random = np.random.default_rng(
        [seed, list(SHARES).index(case.shares), case.samples, list(FAULTS).index(case.fault)]
    )
    k = len(shares)
    mean = shares[:, None] * MIXES[np.arange(k) % len(MIXES)] * case.samples * RATE
    alarm, slots, group = CoverageAlarm(), np.arange(runs), np.repeat(np.arange(runs), k)
    squares, calibrated_squares = np.zeros(k), np.zeros(k)
    differences, their_squares = np.zeros(k), np.zeros(k)
    covered, calibrated_covered = np.zeros(k, np.int64), np.zeros(k, np.int64)
    cells, worst, false_alarms = 0, 0.0, 0
    fired, cleared = np.full(runs, -1), np.full(runs, -1)
    for number in range(2 * INTERVALS):
        now = fault if number < INTERVALS else Fault()
        truth, octets, variance, largest = _sample(random, mean, runs, now)
        counter = truth.sum(axis=1) * (1.0 + now.uncounted)
        before = alarm.verdicts() if number else np.zeros(runs, np.uint8)
        alarm.add(slots, octets.sum(axis=1), variance.sum(axis=1), counter)
        fires = alarm.verdicts() != Verdict.OK
        if now.fires:
            fired[(fired < 0) & fires] = number
        elif fault.fires:
            cleared[(cleared < 0) & (fired >= 0) & ~fires] = number - INTERVALS
        else:
            false_alarms += int((fires & (before == Verdict.OK)).sum())
        found = calibrate(octets.ravel(), variance.ravel(), largest.ravel(), group, counter, fires)
        z, low, high = (array.reshape(runs, k) for array in (found.octets, found.low, found.high))
        has_samples = octets.sum(axis=1) > 0
        worst = max(worst, float(np.abs(z.sum(axis=1) / counter - 1.0)[has_samples].max(initial=0.0)))
        # Where the alarm has not fired yet, or not ended yet, the figures are those of the other estimator.
        judged = (fires == now.fires) & has_samples & (number < INTERVALS)
        errors, raw = (z - truth)[judged], (octets - truth)[judged]
        squares += (raw**2).sum(axis=0)
        calibrated_squares += (errors**2).sum(axis=0)
        difference = errors**2 - raw**2
        differences += difference.sum(axis=0)
        their_squares += (difference**2).sum(axis=0)
        raw_low, raw_high = interval(octets, variance, largest)
        covered += ((raw_low <= truth) & (truth <= raw_high))[judged].sum(axis=0)
        calibrated_covered += ((low <= truth) & (truth <= high))[judged].sum(axis=0)
        cells += int(judged.sum())
    n = max(cells, 1)
    deviation = np.sqrt(np.maximum(their_squares / n - (differences / n) ** 2, 0.0) / n)
    excess = np.divide(differences / n, deviation, out=np.zeros(k), where=deviation > 0)
    classes = tuple(
        Class(
            float(shares[i]),
            float(shares[i] * case.samples),
            cells,
            float(np.sqrt(squares[i] / n)),
            float(np.sqrt(calibrated_squares[i] / n)),
            float(excess[i]),
            int(covered[i]),
            int(calibrated_covered[i]),
        )
        for i in range(k)
    )
    without = 0 if fault.fires else runs * 2 * INTERVALS
    has_fired, has_cleared = fired >= 0, cleared >= 0
    told = Alarm(
        runs,
        without,
        false_alarms,
        int(has_fired.sum()),
        int(has_cleared.sum()),
        float(np.median(fired[has_fired] + 1)) if has_fired.any() else float("nan"),
        float(np.median(cleared[has_cleared] + 1)) if has_cleared.any() else float("nan"),
    )
    return Result(classes, told, worst)


def _sample(
    random: np.random.Generator, mean: NDArray[np.float64], runs: int, fault: Fault
) -> tuple[NDArray[np.float64], ...]:
    """Return true octets, estimate, variance and deviation of the next sample, each of shape (runs, k)."""
    volume = random.lognormal(-0.125, 0.5, runs)[:, None, None]
    sent = random.poisson(mean * volume)
    taken = random.binomial(sent, 1.0 / (RATE * fault.true_rate))
    if fault.lost:
        datagrams = np.maximum(taken.sum(axis=(1, 2)) // DATAGRAM_SAMPLES, 1)
        kept = 1.0 - random.binomial(datagrams, fault.lost) / datagrams
        taken = random.binomial(taken, kept[:, None, None])
    squares = taken @ (FRAME_LENGTHS * FRAME_LENGTHS)
    of_class = np.where(taken > 0, FRAME_LENGTHS, 0.0).max(axis=2)
    # As telemetryd.aggregate.scaling.unseen_largest; the source has shown its largest frame long ago.
    next_one = np.ceil(of_class + (FRAME_LENGTHS[-1] - of_class) / (taken.sum(axis=2) + 1.0))
    spread = RATE * (RATE - 1.0)
    return sent @ FRAME_LENGTHS, RATE * (taken @ FRAME_LENGTHS), spread * squares, np.sqrt(spread) * next_one


def cases() -> list[Case]:
    """List all cases."""
    return [Case(shares, samples, fault) for shares in SHARES for samples in SAMPLES for fault in FAULTS]


def mistakes(case: Case, result: Result) -> list[str]:
    """Say where a case breaks its promise."""
    found = []
    fault, alarm = FAULTS[case.fault], result.alarm
    if result.worst_total > 1e-9:
        found.append(f"a sum differs from its counter by {result.worst_total:.1e}")
    if alarm.false_alarms:
        found.append(f"{alarm.false_alarms} false alarms")
    # 50 samples an interval need hours to show 5 %: nothing is promised of them in 60 intervals.
    if fault.fires and case.samples * INTERVALS >= 50_000 and min(alarm.fired, alarm.cleared) < 0.98 * alarm.runs:
        found.append(f"the alarm fired in {alarm.fired} and ended in {alarm.cleared} of {alarm.runs} runs")
    # With a fault an estimate that is too low has a small variance, too: there only the bias is taken away.
    if case.fault == "none":
        for one in result.classes:
            if one.excess > 3.0:
                found.append(f"the class of {one.share:g} is worse calibrated: {one.calibrated_rmse / one.rmse:.3f}")
    return found


@dataclass(frozen=True, slots=True)
class Pool:
    """Cells of several classes: how many, and how many are covered without and with calibration."""

    cells: int
    covered: float
    calibrated: float


def pool(results: dict[Case, Result], fault: str | None = None, few: bool = False) -> Pool:
    """Pool the coverage of the classes with 20 expected samples and more (or with fewer)."""
    chosen = [
        one
        for case, result in results.items()
        if fault is None or case.fault == fault
        for one in result.classes
        if (one.expected < FEW) == few and one.cells
    ]
    cells = sum(one.cells for one in chosen)
    if not cells:
        return Pool(0, float("nan"), float("nan"))
    covered, calibrated = (sum(getattr(one, name) for one in chosen) for name in ("covered", "calibrated_covered"))
    return Pool(cells, covered / cells, calibrated / cells)


def write(results: dict[Case, Result]) -> None:
    """Write both tables."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    with (FIGURES / "calibration.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(CLASS_COLUMNS)
        for case, result in results.items():
            for one in result.classes:
                n = max(one.cells, 1)
                row = [case.shares, case.samples, case.fault, f"{one.share:g}", one.cells]
                row += [f"{one.rmse:.0f}", f"{one.calibrated_rmse:.0f}"]
                row += [f"{one.calibrated_rmse / one.rmse:.4f}" if one.rmse else "", f"{one.excess:.2f}"]
                rows.writerow([*row, f"{one.covered / n:.4f}", f"{one.calibrated_covered / n:.4f}"])
    with (FIGURES / "coverage-alarm.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(ALARM_COLUMNS)
        for case, result in results.items():
            alarm = result.alarm
            row = [case.shares, case.samples, case.fault, alarm.runs, alarm.intervals_without_fault]
            row += [alarm.false_alarms, alarm.fired, alarm.cleared, f"{alarm.to_fire:g}", f"{alarm.to_clear:g}"]
            rows.writerow([*row, f"{result.worst_total:.1e}"])


def draw() -> None:
    """Draw the committed table; the same table gives the same octets."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "telemetryd"
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot as plt

    with (FIGURES / "calibration.csv").open(encoding="utf-8") as file:
        table = [row for row in csv.DictReader(file) if int(row["cells"])]
    figure, (errors, coverage) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for samples, marker in zip(SAMPLES, "^so", strict=True):
        rows = [row for row in table if row["fault"] == "none" and int(row["samples_an_interval"]) == samples]
        errors.plot(
            [100 * float(row["share"]) for row in rows],
            [float(row["ratio"]) for row in rows],
            marker,
            fillstyle="none",
            label=f"{samples} samples an interval",
        )
    errors.axhline(1.0, color="tab:gray")
    errors.set_xscale("log")
    errors.set_xlabel("share of the class, % of the packets")
    errors.set_ylabel("RMSE, calibrated / by samples alone")
    errors.set_ylim(0, 1.1)
    faults = [fault for fault in FAULTS if any(row["fault"] == fault for row in table)]
    for name, label, marker in (
        ("coverage", "by samples alone", "s"),
        ("calibrated_coverage", "calibrated", "o"),
    ):
        values = []
        for fault in faults:
            rows = [
                row
                for row in table
                if row["fault"] == fault and float(row["share"]) * int(row["samples_an_interval"]) >= FEW
            ]
            cells = sum(int(row["cells"]) for row in rows)
            values.append(100 * sum(int(row["cells"]) * float(row[name]) for row in rows) / cells)
        coverage.plot(values, range(len(faults)), marker, label=label)
    coverage.axvspan(93, 98, color="tab:gray", alpha=0.2, label="93 to 98 %")
    coverage.set_yticks(range(len(faults)), faults)
    coverage.invert_yaxis()
    coverage.set_xlim(0, 101)
    coverage.set_xlabel("cells whose 95 % interval holds the truth, %")
    for axes, corner in ((errors, "lower left"), (coverage, "upper left")):
        axes.grid(alpha=0.3)
        axes.legend(loc=corner, fontsize="small")
    figure.savefig(FIGURES / "calibration.svg", metadata={"Date": None})
    plt.close(figure)


def main() -> int:
    """Measure, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument(
        "--write", action="store_true", help="write docs/figures/calibration.{csv,svg}, coverage-alarm.csv"
    )
    arguments = parser.parse_args()
    results: dict[Case, Result] = {}
    fails = 0
    for case in cases():
        result = results[case] = measure(case, arguments.runs)
        gains = " ".join(f"{one.calibrated_rmse / one.rmse:.3f}" for one in result.classes if one.cells)
        alarm = result.alarm
        print(f"{case.shares:16} {case.samples:>5} samples, {case.fault:24} RMSE x {gains}", flush=True)
        print(
            f"{'':16} fired {alarm.fired}/{alarm.runs} after {alarm.to_fire:g}, cleared {alarm.cleared} after "
            f"{alarm.to_clear:g} intervals, {alarm.false_alarms} false alarms in {alarm.intervals_without_fault:,}"
        )
        for mistake in mistakes(case, result):
            fails += 1
            print(f"  !! {mistake}", flush=True)
    if arguments.write:
        write(results)
        draw()
    for fault in (*FAULTS, None):
        for few in (False, True):
            one = pool(results, fault, few)
            size = "< 20" if few else ">= 20"
            print(f"{fault or 'all'}, {size} samples: {one.calibrated:.2%} of {one.cells:,} (raw {one.covered:.2%})")
    at_least = pool(results)
    fails += not 0.93 <= at_least.calibrated <= 0.98
    false_alarms = sum(result.alarm.false_alarms for result in results.values())
    print(
        f"{false_alarms} false alarms in {sum(r.alarm.intervals_without_fault for r in results.values()):,} intervals"
    )
    return 1 if fails else 0


if __name__ == "__main__":
    sys.exit(main())
