"""What was delivered as a series: windows of rows, roll-ups, restarts, the query, the lines of outputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from telemetryd.counter_windows import CounterWindow
from telemetryd.enforce.delivered import Delivered, Row
from telemetryd.enforced import Enforced
from telemetryd.errors import TelemetrydError
from telemetryd.store.counter_query import enforcements
from telemetryd.store.embedded import Store
from telemetryd.store.series_guard import CardinalityGuard
from telemetryd.store.series_render import SeriesRenderer
from telemetryd.store.verify import verify
from tests.alerts_case import START, S

M = 10**6
PERIOD = 10
ROW = Row(
    end_ns=START,
    span_s=10.0,
    link="exit",
    direction="out",
    node=("tax", "filing"),
    delivered_bps=10 * M,
    dropped=3,
    demand_bps=20 * M,
    guarantee_bps=10 * M,
    ceiling_bps=15 * M,
    rate_bps=12 * M,
    sampled_bps=9 * M,
    samples=40,
)
REST = replace(ROW, node=(), delivered_bps=M, guarantee_bps=0, dropped=0)


class Case:
    """Rows come, windows are kept."""

    def __init__(self, period: int = PERIOD, store: Path | None = None) -> None:
        self.period = period
        self.windows: list[CounterWindow] = []
        self.enforced = Enforced(lambda: self.period * S, self.windows.append, store=store)

    def look(self, at: float, *rows: Row, span: float | None = None) -> None:
        """Look some seconds after the begin."""
        end_ns, span_s = START + round(at * S), self.period if span is None else span
        self.enforced.add([replace(row, end_ns=end_ns, span_s=float(span_s)) for row in rows or (ROW,)])

    def of(self, span: int) -> list[CounterWindow]:
        """Return the windows of so many seconds."""
        return [one for one in self.windows if one.span_ns == span * S]


def starts(windows: Iterable[CounterWindow]) -> list[float]:
    """Return their begins, seconds after the begin."""
    return [(one.start_ns - START) / S for one in windows]


def stored(path: Path, windows: list[CounterWindow]) -> Path:
    """Store windows."""
    with Store.open(path, clock=lambda: START) as store:
        store.append([], "live:1", [], windows)
    return path


@pytest.mark.parametrize("period", [2, 10, 30])
def test_rows_are_stored_and_rolled_up(tmp_path: Path, period: int) -> None:
    """Rows of 10 s (or of a minute, where periods are longer), and longer ones; any range tells the same means."""
    case = Case(period)
    missed = replace(ROW, delivered_bps=4 * M)
    for at in range(period, 121, period):
        case.look(
            at + 0.15 * period, ROW if at <= 60 else missed, REST
        )  # a look is some time after the end of its period
    first = min(one.span_ns for one in case.windows) // S
    assert first == (10 if period <= 10 else 60)
    assert sorted({one.span_ns // S for one in case.windows}) == sorted({first, 60, 300})
    store = Store.open(stored(tmp_path / "store", case.windows), "read")
    row, rest = enforcements(store, START, START + 120 * S).rows
    assert (row["link"], row["direction"], row["node"], rest["node"]) == ("exit", "out", "tax/filing", "(rest)")
    rates = [row[f"{name}_bps"] for name in ("delivered", "demand", "guarantee", "ceiling", "rate", "sampled")]
    assert rates == pytest.approx([7 * M, 20 * M, 10 * M, 15 * M, 12 * M, 9 * M])
    looks = 120 // period
    assert (row["covered_s"], row["dropped_packets"], row["samples"]) == (120, 3 * looks, 40 * looks)
    assert (row["missed_share"], rest["missed_share"]) == (0.5, 0)
    early, late = enforcements(store, nodes=["tax/filing"], bucket_ns=60 * S).rows
    assert (early["missed_share"], late["missed_share"]) == (0, 1)
    assert [one["node"] for one in enforcements(store, n=1).rows] == ["tax/filing"]
    assert enforcements(store, links=["isp2"]).rows == []
    assert next(iter(verify(store).faults), None) is None


def test_no_look_is_lost_or_counted_twice() -> None:
    """Looks wander against the periods: each is in one window, windows come once each, in order."""
    case = Case()
    looks = [11, 20.5, 29.9, 39.2, 48.5, 59.5, 70, 82, 91, 101.5]
    for before, at in zip([1.0, *looks], looks, strict=False):
        case.look(at, span=at - before)
    found = starts(case.of(PERIOD))
    assert found == sorted(set(found))
    assert sum(int(one.columns["samples"].sum()) for one in case.of(PERIOD)) == 40 * len(looks)
    assert sum(int(one.columns["covered_ns"].sum()) for one in case.of(PERIOD)) == round(100.5 * S)


def test_a_pause_leaves_a_gap() -> None:
    """Where the loop did not look nothing is made up, and what waited is put."""
    case = Case()
    case.look(11)
    case.look(14, span=3)  # the period from 10 on is not over
    assert starts(case.windows) == [0]
    case.look(71)
    assert starts(case.of(PERIOD)) == [0, 10, 60]
    (minute,) = case.of(60)
    assert minute.columns["covered_ns"].tolist() == [13 * S]


def test_another_period_goes_on_after_the_last() -> None:
    """A reload changes the period: no window lies over another."""
    case = Case(2)
    case.look(3)
    case.look(5)
    case.period = 10
    case.look(14, span=9)
    case.look(24)
    assert starts(case.of(PERIOD)) == [10]
    case.look(34)
    assert starts(case.of(PERIOD)) == [10, 20]


def test_roll_ups_go_on_after_a_restart(tmp_path: Path) -> None:
    """The minute that a restart falls into has both runs' periods, and no window twice."""
    first = Case()
    for at in (11, 21, 31):
        first.look(at)
    path = stored(tmp_path / "store", first.windows)
    again = Case(store=path)
    for at in (32, 41, 51, 61):
        again.look(at, replace(ROW, delivered_bps=20 * M), span=1 if at == 32 else 10)
    assert starts(again.of(PERIOD)) == [30, 40, 50]
    (minute,) = again.of(60)
    assert minute.start_ns == START and minute.columns["covered_ns"].tolist() == [61 * S]
    assert minute.columns["delivered_bits"].tolist() == [30 * 10 * M + 31 * 20 * M]


def test_a_store_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    """Rows go on without what earlier runs had."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "manifest.json").write_text("{")
    case = Case(store=tmp_path / "store")
    case.look(11)
    assert starts(case.windows) == [0]


def test_the_files_and_the_series_have_the_same_rows(tmp_path: Path) -> None:
    """Whoever keeps the rows hands them over, also where they cannot be written."""
    case = Case()
    kept = Delivered(tmp_path)
    kept.on_rows(case.enforced.add)
    row = replace(ROW, end_ns=START + 11 * S)
    kept.add([row])
    assert list(kept.rows(START, row.end_ns)) == [row] and starts(case.windows) == [0]
    (tmp_path / "file").touch()
    broken = Delivered(tmp_path / "file")
    broken.on_rows(case.enforced.add)
    with pytest.raises(TelemetrydError, match="cannot be written"):
        broken.add([replace(row, end_ns=START + 21 * S)])
    assert starts(case.windows) == [0, 10]


def test_the_series_of_outputs() -> None:
    """A line a class, rates over the time that is known."""
    case = Case()
    case.look(11, ROW, REST)
    text = SeriesRenderer(CardinalityGuard(1000)).counters(case.windows[0]).decode()
    common = "demand_bps=20000000,guarantee_bps={},ceiling_bps=15000000,rate_bps=12000000,sampled_bps=9000000"
    assert text == (
        "enforcement,direction=out,link=exit,node=tax/filing,span=10s delivered_bps=10000000,dropped_packets=3i,"
        f"{common.format(10000000)},samples=40i,missed=0,seconds=10 {START}\n"
        "enforcement,direction=out,link=exit,node=(rest),span=10s delivered_bps=1000000,dropped_packets=0i,"
        f"{common.format(0)},samples=40i,missed=0,seconds=10 {START}\n"
    )
