"""Demand as windows come: periods, what is in force, classes that come and go, what is stale, reloads, the component."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from telemetryd.allocate.demand import Cause, Seen, estimate
from telemetryd.allocate.demand_file import Demand
from telemetryd.allocate.place import place
from telemetryd.assure.link_demand import MOST_IDLE, LinkDemand, Share
from telemetryd.config.settings import parse_settings
from telemetryd.config.settings_demand import DemandSettings
from telemetryd.counter_windows import CounterWindow
from telemetryd.demanding import LATE_NS, SILENT_NS, Demanding, DemandTable, estimate_settings
from telemetryd.errors import ProblemsError
from telemetryd.observe.health import State
from telemetryd.policy.admission import capacity_bps
from telemetryd.policy.load import load_policies
from telemetryd.policy.loaded import Policies
from telemetryd.schema import Table
from telemetryd.store.counter_query import demands
from telemetryd.store.embedded import Store
from telemetryd.store.series_guard import CardinalityGuard
from telemetryd.store.series_render import SeriesRenderer
from telemetryd.store.verify import verify
from tests.alerts_case import START, S, link, registry, total, window
from tests.proof_case import NAMES, POLICY

PERIOD = 10
LATER = POLICY.replace("08:00-18:00", "22:15-23:00")  # a change a minute after the begin
Rates = Mapping[tuple[str, str, str, str, str], float]
TAX, FILMS = ("tax", "filing"), ("edu", "films")


def settings(**fields: object) -> DemandSettings:
    """Return settings without hold and cool-down, but for what is given, in the types of the fields."""
    return DemandSettings().model_copy(update={"hold": 0, "cool_down": 0, **fields})


SETTINGS = settings()


def capacity() -> int:
    """Return that of the link."""
    return capacity_bps("isp1", "in", registry())


@pytest.fixture
def policies(tmp_path: Path) -> Policies:
    """Load the policy of the small city: isp1 inwards."""
    return load(tmp_path, POLICY)


def load(path: Path, text: str) -> Policies:
    (path / "policy.yaml").write_text(text, encoding="utf-8")
    return load_policies([path / "policy.yaml"], registry())


class Case:
    """A component with a clock that follows the windows, and its tables."""

    def __init__(self, policies: Policies | None, how: DemandSettings = SETTINGS) -> None:
        self.now = 0
        self.received: dict[str, int] = {}
        self.component = Demanding(
            policies, registry(), how, lambda: self.received, clock=lambda: START + self.now * S + 2 * S
        )
        self.tables: list[DemandTable] = []
        self.windows: list[CounterWindow] = []
        self.component.on_table(self.tables.append)

    def fill(self, seconds: int, *rates: Rates, is_heard: bool = True) -> None:
        """Put windows of so many seconds; the device sends as long as it is heard."""
        together: Rates = {key: mbps for one in rates for key, mbps in one.items()}
        for _ in range(seconds):
            self.component.put_window(window(self.now, together))
            self.tick(is_heard=is_heard)

    def tick(self, seconds: int = 1, *, is_heard: bool = True) -> None:
        """Let time pass, and the component work."""
        for _ in range(seconds):
            self.now += 1
            if is_heard:
                self.received["100.64.255.1"] = self.received.get("100.64.255.1", 0) + 1
            for table in self.component.work():
                self.component._table = table
                self.tables.append(table)
                self.windows += self.component._windows(table)

    @property
    def last(self) -> LinkDemand:
        """The only link of the last table."""
        (found,) = self.tables[-1].links
        return found

    def of(self, key: tuple[str, str], column: str) -> float:
        """Return what a column of the last table says of a class, rates in Mbit/s."""
        value = getattr(self.last, column)[self.last.keys.index(key)]
        return float(value) / 1e6 if column.endswith("_bps") else value


def test_a_period_is_estimated_with_its_last_window(policies: Policies) -> None:
    """Usage of the period, the headroom above it, and demands as the allocator takes them."""
    case = Case(policies)
    case.fill(PERIOD - 1, link("isp1", "tax", "filing", 20))
    assert not case.tables and case.component.latest().number == 0
    case.fill(1, link("isp1", "tax", "filing", 20))
    (table,) = case.tables
    assert (table.number, table.start_ns, table.end_ns) == (1, START, START + PERIOD * S)
    assert case.of(TAX, "usage_bps") == pytest.approx(20) and case.of(TAX, "demand_bps") == pytest.approx(22)
    assert case.last.nodes == (("tax", "filing"),) and case.last.policy == "exits"
    assert case.last.capacity_bps == capacity() and not case.last.is_full
    assert table.demands() == [Demand("isp1", "in", "tax", "filing", 22_000_000)]
    assert table.of("isp1", "in") is case.last and table.of("isp1", "out") is None


@pytest.mark.parametrize("group", ["", "providers"])
def test_tables_have_codes_of_their_own(tmp_path: Path, group: str) -> None:
    """A window has more links than metering points, and the other way round: neither reads the other's names."""
    policy = POLICY.replace("[isp1]", f"[{group}]") if group else POLICY
    for names in (
        replace(NAMES, links=(*NAMES.links, *(f"l{n}" for n in range(50)))),
        replace(NAMES, metering_points=(*NAMES.metering_points, *(f"m{n}" for n in range(50)))),
    ):
        case = Case(load(tmp_path, policy))
        for _ in range(PERIOD):
            one = window(case.now, {**link("isp1", *TAX, 20), **total(*TAX, 20)})
            columns = {name: np.append(column, column) for name, column in one.columns.items()}
            most = {Table.LINK_USAGE: len(names.links) - 1, Table.TOTALS: len(names.metering_points) - 1}
            columns["link"][2:] = [most[Table(table)] for table in columns["table"][2:]]
            case.component.put_window(replace(one, columns=columns, names=names))
            case.tick()
        assert case.of(TAX, "usage_bps") == pytest.approx(20)


def test_other_links_directions_and_tables_do_not_count(policies: Policies) -> None:
    """Only rows of the ruled link and direction are usage."""
    case = Case(policies)
    other = {("link_usage", "isp1", "out", "tax", "filing"): 5.0, ("totals", "mp1", "inbound", "tax", "filing"): 5.0}
    case.fill(PERIOD, link("isp1", "tax", "filing", 20), link("isp2", "tax", "exam", 7), other)
    assert case.last.keys == (TAX,) and case.of(TAX, "usage_bps") == pytest.approx(20)


def test_periods_agree_with_the_pure_estimator(tmp_path: Path) -> None:
    """Classes that come later, and terms that change at 08:00, make no difference to whom is known already."""
    random = np.random.default_rng(5)
    keys = [TAX, FILMS, ("edu", "exam"), ("tax", "exam")]
    steps = [{key: float(random.uniform(1, 40)) for key in keys[: 2 + (step > 3) + (step > 6)]} for step in range(25)]
    policies = load(tmp_path, LATER)
    case = Case(policies)
    for step in steps:
        case.fill(PERIOD, *(link("isp1", *key, mbps) for key, mbps in step.items()))
    demands = [Demand("isp1", "in", *key, 0) for key in keys]
    at = datetime.fromtimestamp(case.tables[-1].end_ns / 1e9, policies.policies[0].zone)
    (placed,), _ = place(policies, registry(), demands, at)
    tree, state = placed.tree(), None
    leaf = tree.place[np.array(placed.leaves)]
    for step, table in zip(steps, case.tables, strict=True):
        usage, samples = np.zeros(len(tree)), np.zeros(len(tree), np.int64)
        own = [step.get(key, 0.0) * 1e6 for key in keys]
        usage[leaf] = own
        samples[leaf] = [round(bps * PERIOD / 8 / 1000 / 500) for bps in own]
        is_full = sum(own) >= 0.95 * capacity()
        found = estimate(tree, Seen(usage, samples, is_full=is_full), state, capacity(), estimate_settings(SETTINGS))
        state = found.state
        (got,) = table.links
        for number, key in enumerate(got.keys):
            place_of = leaf[keys.index(key)]
            assert got.demand_bps[number] == pytest.approx(found.demand_bps[place_of], rel=0.02), key
            assert got.causes[number] == found.causes[place_of]
            assert got.censored[number] == found.censored[place_of]


def test_terms_that_change_keep_what_is_known(tmp_path: Path) -> None:
    """A guarantee that begins at a time lays out the tree anew; the window of usage and the damping go on."""
    case = Case(load(tmp_path, LATER), settings(cool_down=3600 * S))
    case.fill(3 * PERIOD, link("isp1", *TAX, 30))
    follower = case.component._followers["isp1", "in"]
    before = follower._active
    case.fill(5 * PERIOD, link("isp1", *TAX, 10))
    assert follower._active != before
    assert case.of(TAX, "demand_bps") == pytest.approx(33) == case.of(TAX, "damped_bps")


def test_a_full_link_throttles_by_what_is_in_force(policies: Policies) -> None:
    """Without shares whoever sends is throttled; with shares those at theirs; a ceiling and drops count in any case."""
    full = [link("isp1", *TAX, 0.6 * capacity() / 1e6), link("isp1", *FILMS, 0.4 * capacity() / 1e6)]
    case = Case(policies)
    case.fill(PERIOD, *full)
    assert case.last.is_full and set(case.last.causes) == {Cause.LINK} and case.last.censored.all()
    case.component.set_shares("isp1", "in", {TAX: Share(capacity()), FILMS: Share(10_000_000)}, START)
    case.fill(PERIOD, *full)
    assert case.of(TAX, "causes") == 0 and case.of(FILMS, "causes") == Cause.SHARE
    assert case.of(TAX, "censored"), "it was throttled in the window"
    case.component.set_shares("isp1", "in", {TAX: Share(0, 20_000_000)}, START + case.now * S)
    case.component.add_drops("isp1", "in", {FILMS: 3})
    case.fill(PERIOD, link("isp1", *TAX, 20), link("isp1", *FILMS, 1))
    assert case.of(TAX, "causes") == Cause.CEILING and case.of(FILMS, "causes") == Cause.DROPS
    case.fill(PERIOD, link("isp1", *TAX, 20), link("isp1", *FILMS, 1))
    assert case.of(FILMS, "causes") == 0, "drops are those of a period"
    case.component.set_down("isp1", "in", ["isp1"])
    case.fill(PERIOD, link("isp1", *TAX, 20))
    assert case.last.capacity_bps == capacity(), "a plain link has no members"


def test_shares_begin_when_they_are_in_force(policies: Policies) -> None:
    """Usage is held against what was in force when its period began."""
    case = Case(policies)
    full = [link("isp1", *TAX, 0.6 * capacity() / 1e6), link("isp1", *FILMS, 0.4 * capacity() / 1e6)]
    case.component.set_shares("isp1", "in", {TAX: Share(1000), FILMS: Share(capacity())}, START)
    case.component.set_shares("isp1", "in", {TAX: Share(capacity()), FILMS: Share(1000)}, START + 5 * S)
    case.fill(PERIOD, *full)
    assert (case.of(TAX, "causes"), case.of(FILMS, "causes")) == (Cause.SHARE, 0)
    case.fill(PERIOD, *full)
    assert (case.of(TAX, "causes"), case.of(FILMS, "causes")) == (0, Cause.SHARE)


def test_classes_of_a_device_hold_several_leaves(policies: Policies) -> None:
    """What has no class of its own is in that of the node above it: they are at its share together, or none is."""
    case = Case(policies)
    total = capacity() / 1e6
    rates = [
        link("isp1", "edu", "exam", 0.3 * total),
        link("isp1", *FILMS, 0.3 * total),
        link("isp1", *TAX, 0.4 * total),
    ]
    shares = {("edu",): Share(round(0.6 * capacity())), ("tax", "filing"): Share(capacity()), (): Share(1)}
    case.component.set_shares("isp1", "in", shares, START)
    case.fill(PERIOD, *rates)
    causes = dict(zip(case.last.keys, case.last.causes.tolist(), strict=True))
    assert causes == {("edu", "exam"): Cause.SHARE, FILMS: Cause.SHARE, TAX: 0}
    case.component.set_shares("isp1", "in", {**shares, ("edu",): Share(round(0.7 * capacity()))}, START + case.now * S)
    case.component.add_drops("isp1", "in", {("tax",): 1, ("edu",): 0})
    case.fill(PERIOD, *rates)
    causes = dict(zip(case.last.keys, case.last.causes.tolist(), strict=True))
    assert causes == {("edu", "exam"): 0, FILMS: 0, TAX: Cause.DROPS}


def test_damping_holds_what_is_applied(policies: Policies) -> None:
    """What to divide by rises at once, and falls only after the cool-down."""
    case = Case(policies, settings(hold=0, cool_down=60 * S, window=1))
    case.fill(PERIOD, link("isp1", *TAX, 10))
    case.fill(PERIOD, link("isp1", *TAX, 20))
    assert case.of(TAX, "damped_bps") == pytest.approx(22)
    case.fill(5 * PERIOD, link("isp1", *TAX, 2))
    assert case.of(TAX, "demand_bps") == pytest.approx(2.2) and case.of(TAX, "damped_bps") == pytest.approx(22)
    case.fill(PERIOD, link("isp1", *TAX, 2))
    assert case.of(TAX, "damped_bps") == pytest.approx(22 * 0.75)
    assert case.tables[-1].demands(is_damped=False)[0].bps == 2_200_000


def test_what_asks_for_nothing_is_forgotten(tmp_path: Path) -> None:
    """Classes that came once do not stay for ever; those that stay keep their place and their past."""
    names = replace(NAMES, applications=("unclassified", "filing", *(f"a{n}" for n in range(2 * MOST_IDLE))))
    case = Case(load(tmp_path, POLICY), settings(hold=0, cool_down=0, window=2, most_fall=1.0))

    def put(applications: range, mbps: float) -> None:
        one = window(case.now, {**link("isp1", "tax", "filing", 30)})
        columns = {name: np.repeat(column, 1 + len(applications)) for name, column in one.columns.items()}
        columns["application"][1:] = np.array(applications, np.uint32) + 2
        columns["octets"][1:] = mbps * 1e6 / 8
        case.component.put_window(replace(one, columns=columns, names=names))
        case.tick()

    for _ in range(PERIOD):
        put(range(2 * MOST_IDLE), 0.1)
    assert len(case.last.keys) == 1 + 2 * MOST_IDLE
    for _ in range(6 * PERIOD):
        put(range(3, 5), 1.0)
    assert set(case.last.keys) == {TAX, ("tax", "a3"), ("tax", "a4")}
    assert case.of(TAX, "usage_bps") == pytest.approx(30) and case.of(TAX, "demand_bps") == pytest.approx(33, rel=0.01)
    assert case.of(("tax", "a3"), "demand_bps") == pytest.approx(1.1, rel=0.01)


# --- stale telemetry ---------------------------------------------------------------------------------------------------


def test_without_windows_the_demand_stays_and_says_so(policies: Policies) -> None:
    """Time passes by the clock: the table of a period without a window is the last one, marked."""
    case = Case(policies)
    case.fill(2 * PERIOD, link("isp1", *TAX, 20))
    assert case.component.health().state is State.OK
    case.tick(PERIOD + LATE_NS // S)
    assert [table.number for table in case.tables] == [1, 2, 3]
    assert case.tables[-1].stale() == {("isp1", "in"): "no window came"}
    assert case.of(TAX, "demand_bps") == pytest.approx(22) and case.tables[-1].demands()[0].bps == 22_000_000
    health = case.component.health()
    assert health.state is State.DEGRADED
    assert health.reasons == ("isp1 in: no window came; its demand stays",)
    case.fill(3, link("isp1", *TAX, 20))
    case.tick(PERIOD + LATE_NS // S)
    assert case.tables[-1].stale() and case.component.counters().stale_periods >= 2
    case.now = -(-case.now // PERIOD) * PERIOD
    case.fill(2 * PERIOD, link("isp1", *TAX, 20))
    assert not case.tables[-1].stale() and case.component.health().state is State.OK


def test_a_silent_device_is_named(policies: Policies) -> None:
    """Others send, the link's device does not: the demand stays as it is, however long that lasts."""
    case = Case(policies)
    case.fill(3 * PERIOD, link("isp1", *TAX, 20))
    case.fill(SILENT_NS // S + PERIOD, {}, is_heard=False)
    assert case.tables[-1].stale() == {("isp1", "in"): "no datagram of CR01"}
    case.fill(1200, {}, is_heard=False)
    assert case.of(TAX, "damped_bps") == pytest.approx(22)
    assert case.component.health().reasons == ("isp1 in: no datagram of CR01; its demand stays",)


def test_a_silent_link_is_named_and_then_taken_for_idle(policies: Policies) -> None:
    """The device sends, but no sample of a link that had many: suspicious for a while, then its traffic is elsewhere."""
    case = Case(policies)
    case.fill(3 * PERIOD, link("isp1", *TAX, 20))
    case.fill(4 * PERIOD, link("isp2", *TAX, 20))
    assert case.tables[-1].stale() == {("isp1", "in"): "no sample of isp1 for 40 s"}
    assert case.of(TAX, "damped_bps") == pytest.approx(22)
    case.fill(1200, link("isp2", *TAX, 20))
    assert not case.tables[-1].stale() and case.of(TAX, "demand_bps") == 0


def test_a_quiet_link_is_not_stale(policies: Policies) -> None:
    """Of a link with a sample every ten seconds, none for a while is chance."""
    case = Case(policies)
    one_sample = 8 * 1000 * 500 / 1e6
    for _ in range(3):
        case.fill(1, link("isp1", *TAX, one_sample))
        case.fill(PERIOD - 1, {})
    case.fill(4 * PERIOD, {})
    assert not case.tables[-1].stale()


# --- reloads -----------------------------------------------------------------------------------------------------------


def test_a_reload_keeps_what_is_known_of_the_same_policy(tmp_path: Path) -> None:
    """The same terms go on; other terms, and another period, begin anew; no policy does nothing."""
    case = Case(load(tmp_path, POLICY))
    case.fill(PERIOD, link("isp1", *TAX, 30))
    case.component._configure(load(tmp_path, "# again\n" + POLICY), registry(), SETTINGS)
    case.fill(PERIOD, link("isp1", *TAX, 10))
    assert case.of(TAX, "demand_bps") == pytest.approx(33)
    case.component._configure(load(tmp_path, POLICY.replace("60 Mbit/s", "50 Mbit/s")), registry(), SETTINGS)
    case.fill(PERIOD, link("isp1", *TAX, 10))
    assert case.of(TAX, "demand_bps") == pytest.approx(11)
    case.component._configure(load(tmp_path, POLICY), registry(), settings(period=2 * S))
    before = len(case.tables)
    case.fill(PERIOD, link("isp1", *TAX, 10))
    assert len(case.tables) == before + PERIOD // 2
    case.component._configure(None, registry(), SETTINGS)
    case.fill(2 * PERIOD, link("isp1", *TAX, 10))
    assert case.component.health().state is State.OK and len(case.tables) == before + PERIOD // 2


def test_the_component_hands_each_table_over(policies: Policies) -> None:
    """On the loop, windows of a thread become tables; a reload takes effect; it stops when it is asked to."""
    case = Case(policies)

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)

    async def run() -> None:
        task = asyncio.create_task(case.component.run())
        await case.component.started.wait()

        def put() -> None:
            for _ in range(2 * PERIOD):
                case.component.put_window(window(case.now, link("isp1", *TAX, 20)))
                case.now += 1

        await asyncio.to_thread(put)
        await until(lambda: len(case.tables) == 2)
        assert case.component.latest() is case.tables[-1]
        case.component.replace(None, registry(), SETTINGS)
        case.component._wake.set()
        await until(lambda: not case.component._followers)
        case.component.stop()
        await task

    asyncio.run(run())
    assert case.component.counters().periods == 2 and case.component.counters().work_ns > 0


def test_windows_that_come_too_fast_or_too_late_are_counted(policies: Policies) -> None:
    """The oldest are lost; a window of a period that is over counts nowhere."""
    case = Case(policies)
    case.fill(PERIOD + 1, link("isp1", *TAX, 20))
    case.component.put_window(window(0, link("isp1", *TAX, 20)))
    case.tick(0)
    case.component.work()
    assert case.component.counters().late_windows == 1
    for _ in range(400):
        case.component.put_window(window(case.now, {}))
    assert case.component.counters().lost_windows == 100
    assert "100 windows were not taken in" in case.component.health().reasons[-1]


# --- the series --------------------------------------------------------------------------------------------------------


def stored(path: Path, windows: list[CounterWindow]) -> Path:
    """Store windows."""
    with Store.open(path, clock=lambda: START) as store:
        store.append([], "live:1", [], windows)
    return path


@pytest.mark.parametrize("period", [2, 10, 30])
def test_estimates_are_stored_and_rolled_up(policies: Policies, tmp_path: Path, period: int) -> None:
    """Rows of 10 s (or of a minute, where periods are longer), and longer ones; any range tells the same means."""
    case = Case(policies, settings(period=period * S, window=1))
    for mbps in (20, 40):
        case.fill(60, link("isp1", *TAX, mbps), link("isp1", *FILMS, 70))
    first = min(window.span_ns for window in case.windows) // S
    assert first == (10 if period <= 10 else 60)
    assert sorted({window.span_ns // S for window in case.windows}) == sorted({first, 60, 300})
    store = Store.open(stored(tmp_path / "store", case.windows), "read")
    answer = demands(store, START, START + 120 * S, departments=["tax"])
    (row,) = answer.rows
    assert row["covered_s"] == 120 and 300 * S not in answer.spans_ns
    assert row["usage_bps"] == pytest.approx(30e6) and row["demand_largest_bps"] >= 44e6
    assert row["samples"] == sum(int(one.samples[one.keys.index(TAX)]) for table in case.tables for one in table.links)
    # The link is full in the second minute: then demand is censored.
    assert row["causes"] == ["link"] and row["censored_share"] == pytest.approx(0.5)
    early, late = demands(store, departments=["tax"], bucket_ns=60 * S).rows
    assert early["demand_bps"] == pytest.approx(22e6, rel=0.01) and late["demand_bps"] > 44e6
    assert (early["censored_share"], late["censored_share"]) == (0, 1)
    assert demands(store, links=["isp2"]).rows == []
    assert [row["application"] for row in demands(store, n=1).rows] == ["films"]
    assert next(iter(verify(store).faults), None) is None


def test_what_is_stale_is_not_stored(policies: Policies) -> None:
    """A period without an estimate leaves a gap, and no figure of before."""
    case = Case(policies)
    case.fill(PERIOD, link("isp1", *TAX, 20))
    case.tick(PERIOD + LATE_NS // S)
    assert case.tables[-1].stale() and len([one for one in case.windows if one.span_ns == PERIOD * S]) == 1


def test_roll_ups_go_on_after_a_restart(policies: Policies, tmp_path: Path) -> None:
    """The minute that a restart falls into has both runs' periods."""
    first = Case(policies)
    first.fill(3 * PERIOD, link("isp1", *TAX, 20))
    assert {one.span_ns for one in first.windows} == {PERIOD * S}
    path = stored(tmp_path / "store", first.windows)
    again = Case(policies)
    again.now = 3 * PERIOD
    again.component._store = path
    again.component._catch_up()
    again.fill(3 * PERIOD, link("isp1", *TAX, 40))
    (minute,) = (one for one in again.windows if one.span_ns == 60 * S)
    assert minute.start_ns == START and minute.columns["covered_ns"].tolist() == [60 * S]
    assert minute.columns["usage_bits"][0] == pytest.approx(60 * 30e6)


def test_the_series_of_outputs(policies: Policies) -> None:
    """A line a class, rates over the time that is known."""
    case = Case(policies)
    case.fill(PERIOD, link("isp1", *TAX, 20))
    text = SeriesRenderer(CardinalityGuard(1000)).counters(case.windows[0]).decode()
    samples = int(case.last.samples[0])
    assert text == (
        "demand,application=filing,department=tax,direction=in,link=isp1,span=10s usage_bps=20000000,"
        "demand_bps=22000000,damped_bps=22000000,demand_largest_bps=22000000,censored=0,seconds=10,"
        f"samples={samples}i {START}\n"
    )


# --- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        ("period: 7 s", "4:11", '"7 s" is no whole part of a minute - use such as "2 s", "5 s" or "10 s"'),
        ("period: 500 ms", "4:11", '"500 ms" is out of range'),
        ("dead_band: 0.1", "4:14", '0.1 is no part - write such as "90 %"'),
        ("dead_band: 30 %", "4:14", '"30 %" is out of range - use "0 %" to "20 %"'),
        ("headroom: 1.0", "4:3", "headroom 1 x near 95 % is below 1.02: a class with all that it wants would seem short"),
        ("least: 5", "4:10", "5 is no rate - write number and unit"),
    ],
)  # fmt: skip
def test_mistakes_in_settings(line: str, where: str, what: str) -> None:
    """Each at its line and column."""
    with pytest.raises(ProblemsError) as caught:
        parse_settings(f"version: 1\nregistry: r\ndemand:\n  {line}\n", "t.yaml", {})
    (problem,) = caught.value.problems
    assert what in str(problem) and str(problem).startswith("t.yaml:"), str(problem)
    assert f":{where}:" in str(problem), str(problem)
