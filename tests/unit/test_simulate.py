"""What-if: two policies over the same traffic; who wins, who loses, and what scenarios change."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetryd.allocate.demand_file import Demand
from telemetryd.allocate.place import place
from telemetryd.assure.outcome import outcome
from telemetryd.assure.plot import draw
from telemetryd.assure.scenario import apply, parse_scenario
from telemetryd.assure.simulate import Outage, Simulation, simulate
from telemetryd.assure.sources import counted, is_elastic
from telemetryd.errors import InputError
from telemetryd.policy.loaded import Policies
from tests.policy_case import BASE, broken, load, registry
from tests.simulated import ZONE, G, at_ns, offered

PLACES = [("exit", "out")]
CROWD = {"hrss/exam": [5.0, 1, 5, 5], "finance/forum": [3.0, 1, 0.5, 3], "finance/video": [2.0, 1, 2, 2]}


def policies(directory: Path, text: str = BASE) -> Policies:
    directory.mkdir()
    return load(directory, text)


@pytest.fixture
def base(tmp_path: Path) -> Policies:
    return policies(tmp_path / "base")


def test_each_step_is_divided_as_the_allocator_divides_it(base: Policies) -> None:
    """Steps do not see each other where nobody waits: here everything is inelastic, in an event and outside."""
    for begin in ("2026-11-20 09:00", "2026-11-28 07:58"):
        traffic = offered(CROWD, begin)
        traffic = type(traffic)(traffic.keys, traffic.start_ns, 60, traffic.bps, np.zeros(3, np.bool_), traffic.known)
        course = simulate(None, base, registry(), traffic).links[0].courses[1]
        for step, ts_ns in enumerate(traffic.times_ns.tolist()):
            at = datetime.fromtimestamp(ts_ns / 1e9, ZONE)
            rows = [
                Demand(key.link, key.direction, key.department, key.application, round(bps))
                for key, bps in zip(traffic.keys, traffic.bps[step].tolist(), strict=True)
            ]
            (placed,), _ = place(base, registry(), rows, at)
            allocation = placed.allocate()
            shares = allocation.bps[allocation.tree.place[placed.leaves]]
            assert course.delivered[step].tolist() == shares.tolist()


rates = st.lists(st.floats(0, 9, width=32), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rates, min_size=1, max_size=8), st.sampled_from(["hrss/exam", "finance/video", ""]))
def test_no_link_carries_more_than_it_has(base: Policies, steps: list[list[float]], inelastic: str) -> None:
    """On both sides: never more than the capacity nor than is wanted, nothing idle while somebody wants it, no bit lost."""
    traffic = offered(dict(zip(CROWD, map(list, zip(*steps, strict=True)), strict=True)), inelastic=inelastic)
    link = simulate(None, base, registry(), traffic).links[0]
    for side, course in enumerate(link.courses):
        total = course.delivered.sum(axis=1)
        assert (total <= link.capacity_bps * (1 + 1e-12)).all()
        assert (course.delivered <= course.wanted).all()
        sent = traffic.bps.sum(axis=0) * traffic.step_s
        got = course.delivered.sum(axis=0) * traffic.step_s + course.lost_bits + course.waiting_bits
        np.testing.assert_allclose(got, sent, rtol=1e-9, atol=1)
        if side == 0:  # with the policy, ceilings may leave something idle
            np.testing.assert_allclose(total, np.minimum(course.wanted.sum(axis=1), link.capacity_bps), rtol=1e-9)


def test_the_same_policy_on_both_sides_changes_nothing(base: Policies) -> None:
    """Nobody wins or loses, and both sides lack the same."""
    (row,) = outcome(simulate(base, base, registry(), offered(CROWD)))
    assert row["contended_minutes"] > 0
    assert {one["gain_bps"] for one in (*row["departments"], *row["applications"], *row["importance"])} == {0.0}
    assert row["worst"]["old"] == row["worst"]["new"]


def test_winners_and_losers(tmp_path: Path, base: Policies) -> None:
    """Video's guarantee is paid by the others, up to its ceiling of 180 Mbit/s; before it had its floor of 120."""
    new = policies(
        tmp_path / "new",
        broken(
            (
                "  - service_class: video\n    importance: 5\n",
                "  - service_class: video\n    importance: 5\n    guarantee: 1 Gbit/s\n",
            )
        ),
    )
    steady = {name: [rate[0]] * 30 for name, rate in CROWD.items()}
    (row,) = outcome(simulate(base, new, registry(), offered(steady)))
    by_name = {(one["department"], one["application"]): one for one in row["applications"]}
    gain = by_name["finance", "video"]["gain_bps"]
    assert gain == pytest.approx(60_000_000, abs=1)
    assert row["applications"][0]["application"] == "video"
    assert sum(one["gain_bps"] for one in row["applications"]) == pytest.approx(0, abs=10)
    assert by_name["finance", "video"]["short_minutes"] == {"old": 30, "new": 30}
    assert [one["importance"] for one in row["importance"]] == ["1", "4", "5"]
    assert [(one["importance"], one["class"]) for one in row["classes"]] == [
        ("1", "CORE"),
        ("4", "rest"),
        ("5", "video"),
    ]
    assert row["worst"]["new"]["seconds"] == 300
    assert (row["minutes"], row["contended_minutes"]) == (30, 30)


def test_without_a_policy_everyone_loses_the_same_part(base: Policies) -> None:
    """The old side is one queue; it treats the exam as it treats the video."""
    simulation = simulate(None, base, registry(), offered({name: rate[:1] for name, rate in CROWD.items()}))
    old, new = simulation.links[0].courses
    assert (
        (old.delivered / old.wanted == pytest.approx(0.6)).all()
        if False
        else np.allclose(old.delivered / old.wanted, 0.6)
    )
    assert new.delivered[0, 0] > old.delivered[0, 0]
    assert simulation.links[0].sides[1].broken == {}


def test_a_failed_member_takes_capacity_and_may_break_guarantees(tmp_path: Path) -> None:
    """exit has 6 Gbit/s, 2 without isp1: then even the guarantee of CORE is missed, and that is said."""
    base = policies(tmp_path / "p")
    steps = np.array([False, True, True, False])
    found = simulate(base, base, registry(), offered(CROWD), outages=[Outage("exit", ("isp1",), steps)])
    (row,) = outcome(found)
    assert found.links[0].capacity_bps.tolist() == [6 * G, 2 * G, 2 * G, 6 * G]
    assert (row["least_capacity_bps"], row["capacity_bps"]) == (2 * G, 6 * G)
    broken_nodes = {tuple(one["node"]): one["minutes"] for one in row["broken_guarantees"]["new"]}
    assert broken_nodes[("CORE",)] == 1  # in the second minute it demands less than what is left


def test_where_the_record_was_full_is_said(base: Policies) -> None:
    """Recorded traffic that fills the link tells less than was wanted."""
    traffic = offered(CROWD)
    found = simulate(None, base, registry(), traffic, recorded=traffic.bps)
    assert found.links[0].recorded_full.tolist() == [True, False, True, True]
    assert not simulate(None, base, registry(), traffic).links[0].recorded_full.any()


def changed(*texts: str) -> tuple[np.ndarray, Simulation]:
    """Return what scenarios make of the traffic."""
    traffic, outages = apply([parse_scenario(text) for text in texts], offered(CROWD), registry(), PLACES, ZONE)
    return traffic.bps / G, outages  # type: ignore[return-value]


def test_scenarios() -> None:
    """Growth multiplies, a burst fills up to a rate in its time, a flood comes on top and is inelastic."""
    assert changed("growth:rate=50%,years=2")[0][0, 0] == pytest.approx(5 * 2.25)
    bps, _ = changed("burst:who=hrss/exam,rate=4 Gbit/s,from=2026-11-20T09:01,to=2026-11-20T09:03")
    assert bps[:, 3].tolist() == [0, 3, 0, 0]
    traffic, _ = apply(
        [parse_scenario("ddos:rate=2 Gbit/s,target=hrss/exam")], offered(CROWD), registry(), PLACES, ZONE
    )
    assert (traffic.bps[:, 3] == 2 * G).all()
    assert not traffic.elastic[3]
    _, (outage,) = changed("failure:state=isp1-down,from=2026-11-20T09:02")  # type: ignore[misc]
    assert (outage.group, outage.down, outage.steps.tolist()) == ("exit", ("isp1",), [False, False, True, True])
    assert changed("failure:down=isp2")[1][0].down == ("isp2",)  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("typhoon", "no kind"),
        ("growth:speed=3", "NAME=VALUE with rate, years"),
        ("growth:rate=much", "is no number"),
        ("failure:state=isp9-down", 'did you mean "isp1-down"'),
        ("failure:down=ag", "no member of a link group"),
        ("failure:", "down is missing"),
        ("burst:who=hrss/nothing,rate=1 Gbit/s", "is not in the registry"),
        ("burst:who=hrss/exam,rate=1 Gigabit", "1 Gigabit"),
        ("burst:who=hrss/exam,rate=1 Gbit/s,from=soon", "is no time"),
        ("burst:who=hrss/exam,rate=1 Gbit/s,from=2027-01-01", "outside of the range"),
        ("ddos:rate=1 Gbit/s,link=ag", "the new policies rule exit out"),
    ],
)
def test_scenarios_that_mean_nothing(text: str, words: str) -> None:
    """Each with what is wrong and what there is."""
    with pytest.raises(InputError) as caught:
        changed(text)
    assert words in str(caught.value)


def test_where_a_link_is_counted_and_who_is_elastic() -> None:
    """All contracted exits together: inside NAT; other links: on themselves. UDP and real-time classes do not come back."""
    known = registry()
    assert (counted(known, "exit", "out").table, counted(known, "exit", "out").links) == ("totals", ("core",))
    assert counted(known, "exit", "in").direction == "inbound"
    assert (counted(known, "isp1", "in").table, counted(known, "isp1", "in").links) == ("link_usage", ("isp1",))
    assert is_elastic(known, "exam")
    assert is_elastic(known, "unclassified")


def test_the_plot_is_valid_and_shows_every_side(base: Policies) -> None:
    """Well-formed SVG with both names, escaped, and a bar for who gains or loses."""
    simulation = simulate(None, base, registry(), offered({name: rate * 40 for name, rate in CROWD.items()}))
    (row,) = outcome(simulation)
    begin = datetime.fromtimestamp(at_ns("2026-11-20 09:00") / 1e9, ZONE)
    text = draw(simulation.links[0], row, begin, 60, ("<none>", "exit"))
    root = ElementTree.fromstring(text)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"<none>", "exit", "capacity", "offered", "hrss", "finance"} <= set(words)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == 6
