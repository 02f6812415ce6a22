"""The arithmetic of queries, against plain Python sums over the same windows."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetryd.aggregate.interval import interval
from telemetryd.errors import InputError, StoreError
from telemetryd.schema import UsageWindow
from telemetryd.store import query
from telemetryd.store.embedded import Store
from telemetryd.store.select import Selection
from tests.storing import BASE, S, expected_rows, window

Row = dict[str, Any]
LENGTH = 125
"""Seconds of traffic in the store of these tests."""

WINDOWS = [window(BASE + i * S, rows=12) for i in range(LENGTH)]


def rolled_up(span: int) -> Iterator[UsageWindow]:
    """Make windows of a longer span by joining the rows of their seconds; the last one may be incomplete."""
    for first in range(0, LENGTH, span):
        parts = WINDOWS[first : first + span]
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns}
        yield UsageWindow(BASE + first * S, span * S, columns, parts[0].names)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with all seconds, every closed 10 s and only the first closed minute."""
    path = tmp_path_factory.mktemp("store")
    with Store.open(path) as writer:
        for first in range(0, LENGTH, 25):
            writer.append(WINDOWS[first : first + 25], "live")
        writer.append(list(rolled_up(10))[:-1], "live")
        writer.append(list(rolled_up(60))[:1], "live")
    return Store.open(path, "read")


def rows_of(
    start: int = 0, end: int = LENGTH, table: str = "totals", keep: Callable[[Row], bool] = lambda row: True
) -> list[Row]:
    rows = expected_rows(WINDOWS[start:end], "live")
    return [row for row in rows if row["table"] == table and keep(row)]


def summed(rows: list[Row], seconds: float) -> Row:
    """Work out the figures of some rows one by one."""
    octets = math.fsum(row["octets"] for row in rows)
    low, high = interval(
        octets,
        math.fsum(row["octets_variance"] for row in rows),
        max((row["octets_largest"] for row in rows), default=0.0),
    )
    return {
        "rate_bps": octets * 8 / seconds,
        "low_bps": float(low) * 8 / seconds,
        "high_bps": float(high) * 8 / seconds,
        "octets": octets,
        "packets": math.fsum(row["packets"] for row in rows),
        "samples": sum(row["samples"] for row in rows),
        "stated_rate_samples": sum(row["stated_rate_samples"] for row in rows),
    }


def grouped(rows: list[Row], *keys: str) -> dict[tuple[str, ...], list[Row]]:
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return groups


def check(row: Row, expected: Row) -> None:
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-9), name


def test_top_ranks_all_keys(store: Store) -> None:
    """Each key has its own sums over the whole range, in order of volume; the total and shares fit."""
    answer = query.top(store, ["department"], Selection())
    groups = grouped(rows_of(), "department")
    assert [row["department"] for row in answer.rows] == [
        key[0] for key, _ in sorted(groups.items(), key=lambda item: -sum(r["octets"] for r in item[1]))
    ]
    for row in answer.rows:
        check(row, summed(groups[row["department"],], LENGTH))
        assert row["folded"] == []
    assert answer.total is not None
    check(answer.total, summed(rows_of(), LENGTH))
    assert sum(row["share"] for row in answer.rows) == pytest.approx(1)
    assert (answer.from_ns, answer.to_ns) == (BASE, BASE + LENGTH * S)


def test_top_reads_each_second_once_from_the_coarsest_level(store: Store) -> None:
    """The levels used are 1 min, 10 s and 1 s, and the sum is that of the seconds."""
    answer = query.top(store, [], Selection(from_ns=BASE, to_ns=BASE + LENGTH * S))
    assert answer.spans_ns == (S, 10 * S, 60 * S)
    [row] = answer.rows
    check(row, summed(rows_of(), LENGTH))


def test_the_rest_is_other(store: Store) -> None:
    """Keys behind the n-th are one row whose sums are theirs, interval included."""
    answer = query.top(store, ["department", "application"], Selection(), n=3)
    groups = grouped(rows_of(), "department", "application")
    ranked = sorted(groups, key=lambda key: -sum(row["octets"] for row in groups[key]))
    other = answer.rows[-1]
    assert len(answer.rows) == 4
    assert (other["department"], other["application"]) == ("other", "other")
    assert other["folded"] == ["department", "application"]
    check(other, summed([row for key in ranked[3:] for row in groups[key]], LENGTH))


@pytest.mark.parametrize(
    "by", ["peer_department", "application", "link", "direction", "service_class", "source_zone", "zone_pair"]
)
def test_top_by_every_key(store: Store, by: str) -> None:
    """Every key column groups, zone_pair by both zones."""
    answer = query.top(store, [by], Selection(table="link_usage"), n=100)
    keys = ("source_zone", "destination_zone") if by == "zone_pair" else (by,)
    groups = grouped(rows_of(table="link_usage"), *keys)
    assert answer.by == keys
    assert {tuple(row[key] for key in keys) for row in answer.rows} == set(groups)
    for row in answer.rows:
        check(row, summed(groups[tuple(row[key] for key in keys)], LENGTH))


def test_filters_and_range(store: Store) -> None:
    """A question counts only rows that match every filter, in the half-open range, over its whole length."""
    selection = Selection(
        from_ns=BASE + 13 * S,
        to_ns=BASE + 88 * S,
        where={"department": ("education", "税务局"), "application": ("exam enrolment",), "direction": ("inbound",)},
    )
    answer = query.top(store, ["department"], selection)
    rows = rows_of(
        13,
        88,
        keep=lambda row: (
            row["department"] in ("education", "税务局")
            and row["application"] == "exam enrolment"
            and row["direction"] == "inbound"
        ),
    )
    assert answer.total is not None
    check(answer.total, summed(rows, 75))


def test_a_range_beyond_the_data_counts_as_silence(store: Store) -> None:
    """The rate is over the asked span, so time without data lowers it."""
    answer = query.top(store, [], Selection(from_ns=BASE - 100 * S, to_ns=BASE + 400 * S))
    check(answer.rows[0], summed(rows_of(), 500))


def test_series(store: Store) -> None:
    """Every key has every bucket; edges count the seconds inside the range; levels divide the bucket."""
    selection = Selection(from_ns=BASE + 5 * S, to_ns=BASE + 95 * S)
    answer = query.series(store, ["department"], selection, 30 * S, n=2)
    assert answer.spans_ns == (S, 10 * S)
    groups = grouped(rows_of(5, 95), "department")
    ranked = sorted(groups, key=lambda key: -sum(row["octets"] for row in groups[key]))
    names = [ranked[0][0], ranked[1][0], "other"]
    assert [(row["time_ns"], row["department"]) for row in answer.rows] == [
        (BASE + start * S, name) for start in (0, 30, 60, 90) for name in names
    ]
    for row in answer.rows:
        start = (row["time_ns"] - BASE) // S
        first, last = max(start, 5), min(start + 30, 95)
        wanted = (lambda name: name not in names) if row["folded"] else (lambda name, r=row: name == r["department"])
        check(row, summed([r for r in rows_of(first, last) if wanted(r["department"])], last - first))


def test_a_silent_bucket_has_an_upper_limit(tmp_path: Path) -> None:
    """A bucket without a sample is 0, up to what the key's largest sample could have hidden."""
    first, last = window(BASE, rows=6, seed=1), window(BASE + 2 * S, rows=6, seed=1)
    for w in (first, last):
        w.columns["table"][:] = 1
        w.columns["direction"][:] = 1
    with Store.open(tmp_path) as writer:
        writer.append([first, window(BASE + S, rows=0), last], "live")
        answer = query.series(writer, [], Selection(), S)
    largest = max(float(w.columns["octets_largest"].max()) for w in (first, last))
    low, high = interval(0.0, 0.0, largest)
    assert [row["samples"] for row in answer.rows] == [first.columns["samples"].sum(), 0, last.columns["samples"].sum()]
    silent = answer.rows[1]
    assert (silent["rate_bps"], silent["low_bps"], silent["high_bps"]) == (0.0, float(low) * 8, float(high) * 8)
    assert silent["high_bps"] > 0


def test_series_choose_a_width(store: Store) -> None:
    """Without a width, the narrowest one that gives at most 200 buckets is taken."""
    assert query.series(store, [], Selection()).bucket_ns == S
    wide = Selection(from_ns=BASE, to_ns=BASE + 201 * S)
    assert query.series(store, [], wide).bucket_ns == 10 * S


def test_matrix(store: Store) -> None:
    """Cells, the rest of each side and the margins are sums of the rows they stand for."""
    answer = query.matrix(store, "department", "application", Selection(), n=2, columns=1)
    departments = grouped(rows_of(), "department")
    applications = grouped(rows_of(), "application")
    tops = sorted(departments, key=lambda key: -sum(row["octets"] for row in departments[key]))[:2]
    best = max(applications, key=lambda key: sum(row["octets"] for row in applications[key]))

    def is_in(row: Row, cell: Row) -> bool:
        department, application = (row["department"],), (row["application"],)
        down = department not in tops if "department" in cell["folded"] else department == (cell["department"],)
        across = application != best if "application" in cell["folded"] else application == (cell["application"],)
        return down and across

    assert len(answer.rows) == 6
    for cell in answer.rows:
        check(cell, summed([row for row in rows_of() if is_in(row, cell)], LENGTH))
    assert sum(cell["share"] for cell in answer.rows) == pytest.approx(1)
    for name in ("department", "application"):
        for margin in answer.margins[name]:
            cells = [cell for cell in answer.rows if cell[name] == margin[name]]
            assert margin["octets"] == pytest.approx(sum(cell["octets"] for cell in cells))


@pytest.mark.parametrize(("percent", "rank"), [(95, 11), (50, 5), (100, 11), (1, 0), (91.6, 10)])
def test_percentile(store: Store, percent: float, rank: int) -> None:
    """Of 12 whole bins of 10 s the nearest rank is taken, by direction, limits likewise; silence counts as 0."""
    answer = query.percentile(store, ["department"], Selection(to_ns=BASE + 125 * S), percent, 10 * S)
    assert (answer.from_ns, answer.to_ns) == (BASE, BASE + 120 * S)
    groups = grouped(rows_of(0, 120), "department", "direction")
    assert len(answer.rows) == len(groups)
    for row in answer.rows:
        key = row["department"], row["direction"]
        rates, highs = [], []
        for start in range(0, 120, 10):
            bin_rows = [r for r in rows_of(start, start + 10) if (r["department"], r["direction"]) == key]
            figures = summed(bin_rows, 10)
            if not bin_rows:
                largest = max(r["octets_largest"] for r in groups[key])
                figures["high_bps"] = float(interval(0.0, 0.0, largest)[1]) * 8 / 10
            rates.append(figures["rate_bps"])
            highs.append(figures["high_bps"])
        assert row["rate_bps"] == pytest.approx(sorted(rates)[rank])
        assert row["high_bps"] == pytest.approx(sorted(highs)[rank])
        assert row["peak_bps"] == pytest.approx(max(rates))
        assert row["mean_bps"] == pytest.approx(sum(rates) / 12)
        assert row["bins"] == 12
    for department in {row["department"] for row in answer.rows}:
        two = [r for r in answer.rows if r["department"] == department and r["direction"] in query.BILLED]
        highest = max(row["rate_bps"] for row in two)
        assert [row["is_highest"] for row in two] == [row["rate_bps"] == highest for row in two]


def test_the_95th_percentile_drops_the_five_highest_of_a_hundred(store: Store) -> None:
    """Of 100 bins of 1 s the 95th in order is billed, as transit contracts say."""
    [row] = query.percentile(
        store, [], Selection(to_ns=BASE + 100 * S, where={"direction": ("inbound",)}), bin_ns=S
    ).rows
    rates = [sum(r["octets"] for r in rows_of(i, i + 1) if r["direction"] == "inbound") * 8 for i in range(100)]
    assert row["rate_bps"] == pytest.approx(sorted(rates)[94])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: query.top(s, ["colour"], Selection()), "zone_pair"),
        (lambda s: query.top(s, ["zone_pair", "source_zone"], Selection()), "twice"),
        (lambda s: query.top(s, ["link"], Selection(table="flows")), "link_usage"),
        (lambda s: query.top(s, [], Selection(from_ns=BASE, to_ns=BASE)), "empty"),
        (lambda s: query.top(s, [], Selection(where={"department": ("educatoin",)})), "education"),
        (lambda s: query.matrix(s, "zone_pair", "department", Selection()), "one column"),
        (lambda s: query.percentile(s, [], Selection()), "no whole bin of 300 s"),
        (lambda s: query.percentile(s, [], Selection(), percent=0), "percentile"),
        (lambda s: query.series(s, [], Selection(to_ns=BASE + 10**6 * S), S), "wider"),
    ],
)
def test_questions_that_cannot_be_answered(store: Store, ask: Callable[[Store], object], message: str) -> None:
    """A mistake in a question raises InputError that says what to write instead."""
    with pytest.raises(InputError, match=message):
        ask(store)


def test_an_empty_store(tmp_path: Path) -> None:
    """A store without data says so; one whose range holds nothing gives no rows."""
    with Store.open(tmp_path) as writer:
        with pytest.raises(InputError, match="is empty"):
            query.top(writer, ["department"], Selection())
        writer.append([window(BASE)], "live")
        past = Selection(from_ns=BASE - 10 * S, to_ns=BASE - 5 * S)
        answer = query.top(writer, ["department"], past)
        assert answer.rows == []
        assert answer.total is not None
        assert answer.total["rate_bps"] == answer.total["high_bps"] == 0.0


def test_any_path_and_any_name(tmp_path: Path) -> None:
    """Directories and origins with quotes, spaces and glob characters are nothing special."""
    with Store.open(tmp_path / "a[b]*? 'c\" d") as writer:
        writer.append([window(BASE)], 'it\'s "one"')
        writer.append([window(BASE)], "two")
        writer.append([window(BASE + S)], "two")
        answer = query.top(writer, [], Selection())
    rows = [row for w in (window(BASE), window(BASE), window(BASE + S)) for row in expected_rows([w], "")]
    check(answer.rows[0], summed([row for row in rows if row["table"] == "totals"], 2))


@pytest.mark.parametrize("damage", [b"", b"junk", b"PAR1" + bytes(500) + b"PAR1"])
def test_a_damaged_segment_is_a_store_error(tmp_path: Path, damage: bytes) -> None:
    """A question that meets a damaged file raises StoreError with the reason on one line."""
    with Store.open(tmp_path) as writer:
        writer.append([window(BASE)], "live")
        [path] = (tmp_path / "segments").iterdir()
        path.write_bytes(damage)
        with pytest.raises(StoreError, match="cannot read the store") as info:
            query.top(writer, ["department"], Selection())
        assert "\n" not in str(info.value)
        with pytest.raises(StoreError, match="cannot read the store"):
            writer.scan()
