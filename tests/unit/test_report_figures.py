"""Every figure of a month's record, against plain arithmetic over the traffic that was put in."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetryd.aggregate.interval import interval
from telemetryd.errors import InputError
from telemetryd.registry.models import Registry
from telemetryd.store import query
from telemetryd.store.embedded import Store
from telemetryd.store.report.build import build
from telemetryd.store.report.month import Month
from telemetryd.store.select import Selection
from tests.month_case import BIN, RATE, SHANGHAI, SIZE, Key, S, bins_of, fill, small_registry, traffic

pytestmark = pytest.mark.no_twins

Json = dict[str, Any]
OCTOBER = bins_of("2026-10-01", 31)
KEYS = traffic(OCTOBER)
NOW = int(OCTOBER[-1]) + 3600 * S
SECONDS = 31 * 86_400
LARGEST = math.sqrt(RATE * (RATE - 1)) * SIZE


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return small_registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with the whole of September and October."""
    path = tmp_path_factory.mktemp("store")
    september = bins_of("2026-09-01", 30)
    fill(path, september, traffic(september, seed=2))
    fill(path, OCTOBER, KEYS)
    return Store.open(path, "read")


@pytest.fixture(scope="module")
def record(store: Store, registry: Registry) -> Json:
    return build(store, registry, Month.parse("2026-10", SHANGHAI), NOW, lambda month: None)


def octets(keep: Callable[[Key], bool]) -> np.ndarray:
    """Add up the traffic of some keys, bin by bin, shape (n,)."""
    chosen = [key.octets for key in KEYS if keep(key)]
    return np.sum(chosen, axis=0) if chosen else np.zeros(len(OCTOBER))


def department(record: Json, name: str) -> Json:
    [entry] = [entry for entry in record["departments"] if entry["name"] == name]
    return dict(entry)


def p95(values: np.ndarray) -> float:
    rates = sorted((values * 8 / 300).tolist())
    return float(rates[math.ceil(0.95 * len(rates)) - 1])


def check(figure: Json, expected: float, samples: float | None = None) -> None:
    """Hold a figure to what is expected of it, and its interval to that of the samples behind it."""
    assert figure["value"] == pytest.approx(expected, rel=1e-5, abs=0.5)
    assert figure["low"] <= figure["value"] <= figure["high"]
    if samples is not None:
        low, high = interval(RATE * SIZE * samples, RATE * (RATE - 1) * SIZE**2 * samples, LARGEST)
        assert figure["low"] == pytest.approx(figure["value"] * float(low) / (RATE * SIZE * samples), rel=1e-5)
        assert figure["high"] == pytest.approx(figure["value"] * float(high) / (RATE * SIZE * samples), rel=1e-5)


@pytest.mark.parametrize(("name", "way", "stored"), [("tax", "in", "inbound"), ("tax", "out", "outbound"),
                                                     ("edu", "in", "inbound"), ("edu", "out", "outbound")])  # fmt: skip
def test_volume_mean_peak_and_percentile(record: Json, name: str, way: str, stored: str) -> None:
    """Volumes and rates are those of the sum of the department's keys over all metering points."""
    values = octets(lambda key: (key.department, key.direction) == (name, stored))
    figures = department(record, name)["directions"][way]
    total = float(values.sum())
    samples = total / RATE / SIZE
    check(figures["octets"], total, samples)
    check(figures["mean_bps"], total * 8 / SECONDS, samples)
    check(figures["p95_bps"], p95(values))
    check(figures["peak_bps"], float(values.max()) * 8 / 300)
    at = datetime.fromisoformat(figures["peak_at"]).timestamp()
    assert at * S == OCTOBER[int(values.argmax())]
    assert figures["relative_error"] == pytest.approx(1.96 / math.sqrt(samples), rel=0.02)


def test_the_percentile_agrees_with_the_query(store: Store, record: Json) -> None:
    """`telemetryd query percentile` gives the same figure, and about the same interval."""
    month = Month.parse("2026-10", SHANGHAI)
    selection = Selection(from_ns=month.from_ns, to_ns=month.to_ns)
    for row in query.percentile(store, ["department"], selection).rows:
        way = {"inbound": "in", "outbound": "out"}.get(row["direction"])
        if way is not None:
            figure = department(record, row["department"])["directions"][way]["p95_bps"]
            assert figure["value"] == pytest.approx(row["rate_bps"], rel=1e-6)
            assert figure["low"] == pytest.approx(row["low_bps"], rel=1e-3)
            assert figure["high"] == pytest.approx(row["high_bps"], rel=1e-3)


def test_percentiles_of_the_city_and_groups_are_of_the_sum(record: Json) -> None:
    """The city, the exit and a link group have the percentile of their summed bins, not a sum of percentiles."""
    inbound = octets(lambda key: key.direction == "inbound")
    check(record["total"]["directions"]["in"]["p95_bps"], p95(inbound))
    check(record["exit"]["directions"]["in"]["p95_bps"], p95(inbound))
    parts = sum(entry["directions"]["in"]["p95_bps"]["value"] for entry in record["departments"])
    assert record["total"]["directions"]["in"]["p95_bps"]["value"] < 0.999 * parts
    providers, half_blind = record["link_groups"]
    links = octets(lambda key: key.table == "link_usage" and key.direction == "in")
    check(providers["directions"]["in"]["p95_bps"], p95(links))
    assert providers["capacity_bps"] == {"in": 400_000_000, "out": 300_000_000}
    check({**providers["directions"]["in"]["utilisation"]}, p95(links) / 400e6)
    assert (half_blind["unseen"], half_blind["directions"]) == (["spare"], {})


def test_the_higher_direction_is_billed(record: Json) -> None:
    """The percentile that counts is the higher one of both directions."""
    entry = department(record, "tax")
    assert entry["p95_billed"] == {"direction": "in", **entry["directions"]["in"]["p95_bps"]}


def test_busy_hours(record: Json) -> None:
    """The busy hour is the clock hour with the highest mean, the hour of day that of all days together."""
    values = octets(lambda key: (key.department, key.direction) == ("tax", "inbound"))
    hours = values.reshape(-1, 12).sum(axis=1) * 8 / 3600
    figures = department(record, "tax")["directions"]["in"]
    check(figures["busy_hour"]["mean_bps"], float(hours.max()))
    assert datetime.fromisoformat(figures["busy_hour"]["at"]).timestamp() * S == OCTOBER[12 * int(hours.argmax())]
    of_day = hours.reshape(31, 24).mean(axis=0)
    assert figures["busy_hour_of_day"]["hour"] == int(of_day.argmax())
    check(figures["busy_hour_of_day"]["mean_bps"], float(of_day.max()))


def test_time_over_the_contract(record: Json) -> None:
    """Time over 80 % and over the contract is that of bins above; without a contract there is none."""
    values = octets(lambda key: (key.department, key.direction) == ("tax", "inbound")) * 8 / 300
    figures = department(record, "tax")["directions"]["in"]
    for name, limit in (("over_80_percent", 80e6), ("over_contract", 100e6)):
        expected = float((values > limit).mean())
        assert 0 < expected < 1
        assert figures[name]["value"] == pytest.approx(expected, rel=1e-5)
        assert figures[name]["low"] <= expected <= figures[name]["high"]
    assert department(record, "edu")["directions"]["in"]["over_contract"] is None


def test_times_at_the_contract(record: Json) -> None:
    """Stretches at 95 % of the contract or more are counted whole, and the longest are listed."""
    values = octets(lambda key: (key.department, key.direction) == ("tax", "inbound")) * 8 / 300
    above = values >= 95e6
    edges = np.flatnonzero(np.diff(np.concatenate(([False], above, [False])).astype(int)))
    lengths = edges[1::2] - edges[::2]
    found = department(record, "tax")["shortfalls"]["in"]
    assert (found["count"], found["seconds"]) == (len(lengths), int(above.sum()) * 300)
    assert len(found["longest"]) == min(len(lengths), 10)
    assert max(stretch["seconds"] for stretch in found["longest"]) == int(lengths.max()) * 300
    assert department(record, "edu")["shortfalls"] == {}


def test_shares(record: Json) -> None:
    """Shares of the exit add up to one, and are of what crossed the exit's metering points."""
    crossed = octets(lambda key: key.link in ("mp1", "mp2")).sum()
    for name in ("tax", "edu", "unknown"):
        own = octets(lambda key, name=name: key.link in ("mp1", "mp2") and key.department == name).sum()  # type: ignore[misc]
        check(department(record, name)["share_of_exit"], float(own / crossed))
    assert sum(entry["share_of_exit"]["value"] for entry in record["departments"]) == pytest.approx(1, abs=1e-5)
    own = octets(lambda key: key.department == "tax")
    bad = octets(lambda key: key.department == "tax" and key.application == "unclassified")
    check(department(record, "tax")["all_applications"]["unclassified_share"], float(bad.sum() / own.sum()))


def test_top_applications(record: Json) -> None:
    """Applications come by volume over all directions, with what came in and went out."""
    first, second = department(record, "tax")["applications"]
    assert (first["name"], second["name"]) == ("filing", "unclassified")
    assert first["title"] == {"en": "Tax filing", "zh": "网上办税"}
    own = octets(lambda key: (key.department, key.application) == ("tax", "filing")).sum()
    check(first["octets"], float(own), float(own) / RATE / SIZE)
    inbound = octets(lambda key: (key.department, key.application, key.direction) == ("tax", "filing", "inbound"))
    assert first["in_octets"] == pytest.approx(inbound.sum(), rel=1e-6)
    assert sum(row["share"]["value"] for row in (first, second)) == pytest.approx(1)
    inside = octets(lambda key: key.direction == "internal").sum()
    check(department(record, "edu")["internal_octets"], float(inside))


def test_month_on_month(record: Json) -> None:
    """September was not frozen, so it is read from the store; a year ago there is nothing, and nothing is said."""
    compared = department(record, "tax")["comparison"]
    september = traffic(bins_of("2026-09-01", 30), seed=2)
    before = np.sum([key.octets for key in september if (key.department, key.direction) == ("tax", "inbound")], axis=0)
    now = octets(lambda key: (key.department, key.direction) == ("tax", "inbound"))
    month = compared["previous_month"]
    assert (month["month"], month["source"], month["cannot_tell"]) == ("2026-09", "store", None)
    assert month["directions"]["in"]["p95_bps"]["value"] == pytest.approx(p95(now) / p95(before) - 1, abs=1e-6)
    assert month["directions"]["in"]["mean_bps"]["value"] == pytest.approx(now.mean() / before.mean() - 1, abs=1e-6)
    assert compared["previous_year"] == {
        "month": "2025-10", "cannot_tell": {"reason": "no_data"}, "source": None, "directions": None,
    }  # fmt: skip


def test_links_and_blind_ones(record: Json) -> None:
    """An observed link has figures; a blind one and one without a sample have none, and no zero either."""
    links = {link["name"]: link for link in record["links"]}
    inbound = octets(lambda key: (key.table, key.link, key.direction) == ("link_usage", "isp1", "in"))
    check(links["isp1"]["directions"]["in"]["p95_bps"], p95(inbound))
    check(links["isp1"]["directions"]["in"]["utilisation"], p95(inbound) / 100e6)
    assert links["isp1"]["capacity_bps"] == {"in": 100_000_000, "out": 200_000_000}
    daily = (inbound.reshape(31, 24, 12).sum(axis=2) * 8 / 3600).max(axis=1)
    assert links["isp1"]["daily_bps"]["in"] == pytest.approx(daily.round().tolist(), rel=1e-6)
    assert (links["dark"]["state"], links["dark"]["reason"]) == ("blind", "no sampling licence")
    assert links["spare"]["state"] == "unseen"
    assert links["dark"]["directions"] == links["spare"]["directions"] == {}
    prediction = links["isp1"]["directions"]["in"]["forecast"]
    assert (prediction["cannot_tell"], prediction["days"]) == (None, 61)


def test_a_department_without_traffic_has_no_zeroes(record: Json) -> None:
    """Of a registered department that nobody saw, nothing is claimed; who is unknown is listed last."""
    assert [entry["name"] for entry in record["departments"]] == ["tax", "edu", "idle", "unknown"]
    assert department(record, "idle")["all_applications"] is None


def test_the_record_tells_what_it_is(record: Json) -> None:
    """Month, bounds, coverage and the number of samples are in the record."""
    assert (record["month"], record["preliminary"], record["time_zone"]) == ("2026-10", False, "Asia/Shanghai")
    assert (record["from"], record["to"]) == ("2026-10-01T00:00:00+08:00", "2026-11-01T00:00:00+08:00")
    assert record["samples"] == sum(int(key.samples.sum()) for key in KEYS)
    quality = record["quality"]
    assert (quality["coverage"], quality["bins_seen"], quality["bins_due"]) == (1.0, 31 * 288, 31 * 288)
    assert quality["gaps"] == {"count": 0, "longest": []}


@pytest.fixture(scope="module")
def with_gaps(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """October from the 3rd on, without the 10th, and with half an hour missing within one run of the collector."""
    path = tmp_path_factory.mktemp("gaps")
    day = 288
    for number, (first, last) in enumerate(((2 * day, 9 * day), (10 * day, 12 * day), (12 * day + 6, 31 * day))):
        part = slice(first, last)
        keys = [Key(*(getattr(key, n) for n in ("table", "link", "direction", "department", "application")),
                    key.samples[part]) for key in KEYS]  # fmt: skip
        fill(path, OCTOBER[part], keys, origin=f"run {number}" if number < 2 else "run 1")
    return Store.open(path, "read")


def test_gaps_are_unknown(with_gaps: Store, registry: Registry) -> None:
    """Means and percentiles are of the collected bins only, and the gaps are listed."""
    record = build(with_gaps, registry, Month.parse("2026-10", SHANGHAI), NOW, lambda month: None)
    seen = np.ones(len(OCTOBER), dtype=bool)
    seen[: 2 * 288] = seen[9 * 288 : 10 * 288] = seen[12 * 288 : 12 * 288 + 6] = False
    values = octets(lambda key: (key.department, key.direction) == ("tax", "inbound"))[seen]
    figures = department(record, "tax")["directions"]["in"]
    check(figures["mean_bps"], float(values.mean()) * 8 / 300)
    check(figures["p95_bps"], p95(values))
    quality = record["quality"]
    assert quality["coverage"] == pytest.approx(seen.mean(), abs=1e-6)
    assert quality["gaps"] == {
        "count": 3,
        "longest": [
            {"at": "2026-10-01T00:00:00+08:00", "seconds": 2 * 86_400},
            {"at": "2026-10-10T00:00:00+08:00", "seconds": 86_400},
            {"at": "2026-10-13T00:00:00+08:00", "seconds": 1800},
        ],
    }
    chart = figures["chart_bps"]
    assert len(chart) == 31 * 12
    assert [place for place, rate in enumerate(chart) if rate is None] == [*range(24), *range(9 * 12, 10 * 12)]


def test_a_bin_that_was_collected_in_part(tmp_path: Path, registry: Registry) -> None:
    """A bin that a restart cut has its rate over the seconds that were collected."""
    from telemetryd.schema import UsageWindow
    from tests.month_case import windows

    starts = OCTOBER[:12]
    keys = [Key(*(getattr(key, n) for n in ("table", "link", "direction", "department", "application")),
                key.samples[:12]) for key in KEYS]  # fmt: skip
    made = list(windows(starts, keys))
    with Store.open(tmp_path / "store") as writer:
        # The run began 200 s into its first bin: its seconds tell.
        second = UsageWindow(int(starts[0]) + 200 * S, S, made[0].columns, made[0].names)
        last = UsageWindow(int(starts[-1]) + BIN - S, S, made[0].columns, made[0].names)
        writer.append([second, last], "late")
        writer.append(made, "late")
    record = build(Store.open(tmp_path / "store", "read"), registry, Month.parse("2026-10", SHANGHAI), NOW,
                   lambda month: None)  # fmt: skip
    values = octets(lambda key: (key.department, key.direction) == ("tax", "inbound"))[:12]
    figures = department(record, "tax")["directions"]["in"]
    check(figures["octets"], float(values[1:].sum()))  # the first bin was collected for less than half
    assert record["quality"]["coverage"] == pytest.approx((12 * 300 - 200) / SECONDS, abs=1e-6)


@pytest.mark.parametrize(("month", "words"), [("2026-08", "nothing of 2026-08"), ("2026-11", "nothing of 2026-11")])
def test_a_month_without_data_is_refused(store: Store, registry: Registry, month: str, words: str) -> None:
    """There is no report of what the store does not hold; the message says what it holds."""
    with pytest.raises(InputError, match=f"{words}.*it holds 2026-09-01"):
        build(store, registry, Month.parse(month, SHANGHAI), NOW, lambda month: None)


def test_a_month_that_is_not_over(store: Store, registry: Registry) -> None:
    """It is preliminary, is measured by what is due so far, and is compared with nothing."""
    now = int(OCTOBER[10 * 288])
    record = build(store, registry, Month.parse("2026-10", SHANGHAI), now, lambda month: None)
    assert record["preliminary"]
    assert record["quality"]["bins_due"] == 10 * 288
    assert record["total"]["comparison"]["previous_month"]["cannot_tell"] == {"reason": "not_over"}
