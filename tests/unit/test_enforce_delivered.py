"""What was delivered: periods judged by counters, by samples beside them; rows on the disk, and how long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from telemetryd.enforce.delivered import KEEP_DAYS, Delivered, Outcome, Row, outcome, prove
from telemetryd.errors import TelemetrydError

pytestmark = pytest.mark.no_twins

M = 10**6
S = 10**9
DAY = 86_400 * S
ROW = Row(
    end_ns=100 * S,
    span_s=10.0,
    link="exit",
    direction="out",
    node=("tax", "filing"),
    delivered_bps=10 * M,
    dropped=0,
    demand_bps=20 * M,
    guarantee_bps=10 * M,
    ceiling_bps=12 * M,
    rate_bps=10 * M,
)


@pytest.mark.parametrize(
    ("delivered", "demand", "expected"),
    [
        (9.8, 20, Outcome.MET),
        (9.7, 20, Outcome.MISSED),
        (9.7, 9.9, Outcome.IDLE),
        (0, 0, Outcome.IDLE),
        (15, 0, Outcome.MET),
    ],
)
def test_a_period_is_judged_by_what_was_demanded_before(delivered: float, demand: float, expected: Outcome) -> None:
    """Within 2 % of the guarantee; less than it was asked for; or missed."""
    row = replace(ROW, delivered_bps=round(delivered * M), demand_bps=round(demand * M))
    assert outcome(row) is expected


def test_a_guarantee_is_kept_in_99_of_100_periods() -> None:
    """One miss in 100 is no break, two are; the broken ones come first; above the ceiling is counted."""
    rows = [replace(ROW, end_ns=(100 + k) * S) for k in range(100)]
    rows[3] = replace(rows[3], delivered_bps=5 * M)
    (kept,) = prove(rows)
    assert (kept.verdict, kept.met, kept.missed, kept.lowest_bps) == ("kept", 99, 1, 5 * M)
    rows[4] = replace(rows[4], delivered_bps=13 * M)
    rows[5] = replace(rows[5], delivered_bps=5 * M)
    none = replace(ROW, node=(), guarantee_bps=0)
    quiet = replace(ROW, node=("a",), delivered_bps=0, demand_bps=0)
    broken, *others = prove([none, quiet, *rows])
    assert (broken.verdict, broken.missed, broken.above_ceiling) == ("broken", 2, 1)
    assert {one.node: one.verdict for one in others} == {(): "no guarantee", ("a",): "no demand"}


def test_samples_say_what_they_can() -> None:
    """Many samples keep or break a guarantee, few cannot tell; and how long a period they would need."""
    many = [replace(ROW, end_ns=(100 + k) * S, sampled_bps=12 * M, samples=10_000) for k in range(20)]
    assert prove(many)[0].sampled == "kept"
    (low,) = prove([replace(row, sampled_bps=8 * M) for row in many])
    assert (low.verdict, low.sampled) == ("kept", "broken")
    (few,) = prove([replace(row, samples=20) for row in many])
    assert few.sampled == "cannot tell"
    # 20 samples in 10 s: an interval of 10 % of the guarantee needs (1.96 / 0.1)^2 of them at its rate.
    assert few.shortest_period_s == pytest.approx(384.15 / (20 / 10) * 12 / 10, rel=0.01)
    assert prove([ROW])[0].shortest_period_s is None


def test_rows_are_kept_for_some_days(tmp_path: Path) -> None:
    """They come back as they were, those of a range; older files go; what cannot be read is said."""
    kept = Delivered(tmp_path)
    assert list(kept.rows(0, 200 * S)) == []
    kept.add([ROW, replace(ROW, end_ns=110 * S)])
    assert list(kept.rows(100 * S, 110 * S)) == [replace(ROW, end_ns=110 * S)]
    late = replace(ROW, end_ns=ROW.end_ns + (KEEP_DAYS + 1) * DAY)
    kept.add([late])
    assert list(kept.rows(0, 2 * late.end_ns)) == [late]
    (file,) = (tmp_path / "delivered").glob("*.jsonl")
    with file.open("a") as opened:
        opened.write('{"end_ns": 1')  # a line that is still being written
    assert list(kept.rows(0, 2 * late.end_ns)) == [late]
    with file.open("a") as opened:
        opened.write("\n")
    with pytest.raises(TelemetrydError, match="cannot be read"):
        list(kept.rows(0, 2 * late.end_ns))
