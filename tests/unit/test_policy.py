"""What a policy means: schedules, templates, overrides, admission, and which node a demand belongs to."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from telemetryd.allocate.answer import explain_rows, leaf_rows, node_rows
from telemetryd.allocate.demand_file import parse_demand
from telemetryd.allocate.place import Placed, place
from telemetryd.errors import ProblemsError
from telemetryd.policy.admission import admit, capacity_bps, contracted_bps, failures
from telemetryd.policy.calendar import applies
from telemetryd.policy.fields import Amount
from telemetryd.policy.loaded import Policies, Policy
from telemetryd.policy.models import Change
from telemetryd.policy.outline import Rule, active_at, outline
from tests.policy_case import BASE, broken, load, registry

GBPS = 10**9
SATURDAY = datetime(2026, 11, 28, 9)
FRIDAY = datetime(2026, 11, 27, 9)


def rule(policy: Policy, at: datetime, *names: str) -> Rule:
    """Return the rule at these names, on a link of 10 Gbit/s."""
    found = outline(policy, registry(), active_at(policy, at), 10 * GBPS)
    for name in names:
        found = next(child for child in found.children if child.name == name)
    return found


def change(**fields: object) -> Change:
    return Change.model_validate({"weight": 1, **fields})


@pytest.mark.parametrize(
    ("fields", "yes", "no"),
    [
        ({"days": "mon-fri"}, ["2026-11-27 09:00"], ["2026-11-28 09:00"]),
        ({"days": "sat-mon"}, ["2026-11-28 09:00", "2026-11-30 09:00"], ["2026-11-27 09:00"]),
        ({"hours": "08:00-18:00"}, ["2026-11-27 08:00", "2026-11-27 17:59"], ["2026-11-27 18:00", "2026-11-27 07:59"]),
        ({"hours": "08:00-24:00"}, ["2026-11-27 23:59"], ["2026-11-27 07:59"]),
        # Hours past midnight belong to the day on which they began: Friday night is Saturday morning.
        ({"days": "fri", "hours": "22:00-06:00"}, ["2026-11-27 23:00", "2026-11-28 05:00"], ["2026-11-27 05:00", "2026-11-28 23:00"]),
        ({"recurrence": "FREQ=MONTHLY;BYMONTHDAY=15"}, ["2026-12-15 12:00"], ["2026-12-14 12:00"]),
        ({"recurrence": "RRULE:FREQ=MONTHLY;BYDAY=-1FR"}, ["2026-11-27 09:00"], ["2026-11-20 09:00"]),
        ({"event": "enrolment"}, ["2026-11-28 08:00"], ["2026-11-28 18:00", "2026-11-29 09:00"]),
        ({"event": "enrolment", "hours": "10:00-12:00"}, ["2026-11-28 11:00"], ["2026-11-28 09:00"]),
        # 1 October is a holiday, Saturday the 10th is worked.
        ({"on": "workdays"}, ["2026-10-10 09:00", "2026-10-09 09:00"], ["2026-10-01 09:00", "2026-10-11 09:00"]),
        ({"on": "holidays"}, ["2026-10-01 09:00", "2026-10-11 09:00"], ["2026-10-10 09:00"]),
    ],
)  # fmt: skip
def test_when_a_change_applies(tmp_path: Path, fields: dict[str, str], yes: list[str], no: list[str]) -> None:
    """All conditions must hold; hours end before their end."""
    calendar = load(tmp_path).policies[0].calendar
    for at in yes:
        assert applies(change(**fields), datetime.fromisoformat(at), calendar), at
    for at in no:
        assert not applies(change(**fields), datetime.fromisoformat(at), calendar), at


def test_terms_in_force_at_a_time(tmp_path: Path) -> None:
    """Template, then node, then changes, then overrides: the later wins; parts are of the parent's ceiling."""
    policy = load(tmp_path).policies[0]
    exam = ("CORE", "hrss", "exam")
    assert rule(policy, FRIDAY, *exam).guarantee_bps == GBPS // 2
    assert rule(policy, SATURDAY, *exam).guarantee_bps == 2 * GBPS
    assert rule(policy, datetime(2026, 12, 1, 9), *exam).guarantee_bps == GBPS
    assert rule(policy, datetime(2026, 12, 1, 12), *exam).guarantee_bps == GBPS // 2
    assert rule(policy, FRIDAY, *exam).ceiling_bps == 6 * GBPS
    assert rule(policy, datetime(2026, 11, 27, 23), *exam).ceiling_bps == 8 * GBPS
    video = rule(policy, FRIDAY, "video", "finance", "video")
    assert (video.weight, video.ceiling_bps) == (0.5, 3 * GBPS // 10)  # 10 % of the 30 % above
    assert rule(policy, FRIDAY, "video").floor_bps == GBPS // 5


def test_a_template_stands_for_its_class_but_not_for_whom_is_named(tmp_path: Path) -> None:
    """finance is strengthened; named beside the template, it has its own terms."""
    policy = load(tmp_path).policies[0]
    assert rule(policy, FRIDAY, "CORE", "finance").guarantee_bps == 20 * 10**6
    named = broken(
        ("- {template: strengthened}", "- {template: strengthened}\n      - {department: finance, weight: 9}")
    )
    policy = load(tmp_path, named).policies[0]
    assert [r.name for r in rule(policy, FRIDAY, "CORE").children] == ["hrss", "finance"]
    assert rule(policy, FRIDAY, "CORE", "finance").guarantee_bps == 0


def test_importance_is_inherited_until_somebody_says_otherwise(tmp_path: Path) -> None:
    """Siblings that say nothing are equal, whatever their parent is."""
    policy = load(tmp_path).policies[0]
    assert rule(policy, FRIDAY, "CORE", "hrss", "exam").importance == 1
    assert rule(policy, FRIDAY, "rest").importance == 4
    assert rule(policy, FRIDAY).importance == 3


def test_an_amount_is_a_rate_or_a_part() -> None:
    """Parts are exact, and rounded down to whole bit/s."""
    assert str(Amount(60 * Amount(1, False).value / 100, True)) == "60%"
    third = change(guarantee="33.333333%").guarantee
    assert third is not None
    assert third.of(3 * GBPS) == 999_999_990


# --- admission ---------------------------------------------------------------------------------------------------


def test_guarantees_are_checked_with_each_member_lost(tmp_path: Path) -> None:
    """The registry names the loss of isp1 (2 Gbit/s are left); that of isp2 leaves 4 Gbit/s and is looked at as well."""
    assert failures("exit", registry()) == {"isp1-down": ("isp1",), "isp2 down": ("isp2",)}
    assert failures("isp1", registry()) == {}
    policy = load(tmp_path, broken(("guarantee: 3 Gbit/s", "guarantee: 4.5 Gbit/s"))).policies[0]
    found = admit(policy, registry(), FRIDAY)
    assert {(one.state, one.limit_bps) for one in found} == {("isp1-down", 2 * GBPS), ("isp2 down", 4 * GBPS)}
    policy = load(tmp_path, broken(("guarantee: 3 Gbit/s", "guarantee: 3.5 Gbit/s"))).policies[0]
    assert {one.state for one in admit(policy, registry(), FRIDAY)} == {"isp1-down"}


def test_what_comes_in_is_admitted_up_to_what_it_is_shaped_to(tmp_path: Path) -> None:
    """5.2 Gbit/s fit 6 Gbit/s less 10 % outbound; inbound 5.7 less 10 % are 5.13. The division has the same figure."""
    promised = broken(("guarantee: 3 Gbit/s", "guarantee: 5.2 Gbit/s"))
    assert [one for one in admit(load(tmp_path, promised).policies[0], registry(), FRIDAY) if not one.state] == []
    inbound = load(tmp_path, promised.replace("direction: out", "direction: in"))
    (conflict,) = (one for one in admit(inbound.policies[0], registry(), FRIDAY) if not one.state)
    assert (conflict.limit_bps, conflict.promised_bps) == (5_130_000_000, 5_200_000_000)
    (placed,), _ = place(inbound, registry(), [], FRIDAY.astimezone())
    assert placed.capacity_bps == capacity_bps("exit", "in", registry()) == 5_700_000_000
    assert capacity_bps("exit", "in", registry(), ["isp1"]) == 1_900_000_000
    assert contracted_bps("exit", "in", registry()) == 6_000_000_000


def test_guarantees_that_fit_are_admitted_at_every_time(tmp_path: Path) -> None:
    """3 Gbit/s and what the event adds fit into 90 % of 6 Gbit/s."""
    assert [one for one in admit(load(tmp_path).policies[0], registry(), FRIDAY) if not one.state] == []


def test_what_does_not_fit_with_a_member_down_is_told_apart(tmp_path: Path) -> None:
    """With isp1 down 2 Gbit/s are left, all of which counts: 3 Gbit/s do not fit, 1.9 do."""
    (conflict,) = admit(load(tmp_path).policies[0], registry(), datetime(2026, 12, 2))
    assert (conflict.state, conflict.limit_bps, conflict.missing_bps) == ("isp1-down", 2 * GBPS, GBPS)
    small = broken(("guarantee: 3 Gbit/s", "guarantee: 1.9 Gbit/s"))
    assert admit(load(tmp_path, small).policies[0], registry(), datetime(2026, 12, 2)) == []


def test_the_smallest_conflicting_set_is_named_with_what_is_missing(tmp_path: Path) -> None:
    """The link has 6 Gbit/s (4 + 2), of which 10 % are reserved; a small guarantee is not part of the set."""
    text = broken(
        ("    floor: 2%\n", "    guarantee: 2.6 Gbit/s\n    ceiling: 3 Gbit/s\n"),
        ("    ceiling: 30%\n", ""),
        ("rest: {importance: 4, floor: 10%}", "rest: {importance: 4, guarantee: 100 Mbit/s}"),
    )
    (conflict,) = (one for one in admit(load(tmp_path, text).policies[0], registry(), FRIDAY) if not one.state)
    assert conflict.limit_bps == 5_400_000_000
    assert conflict.promised_bps == 5_700_000_000
    assert conflict.missing_bps == 300_000_000
    assert [(names, bps) for names, bps, _ in conflict.guarantees] == [
        (("CORE",), 3 * GBPS),
        (("video",), 2_600_000_000),
    ]


def test_a_conflict_of_one_afternoon_is_found_beforehand(tmp_path: Path) -> None:
    """While the event lasts the application is promised more than its department may have: from when, and where."""
    text = broken(("        weight: 4\n        app", "        weight: 4\n        ceiling: 1 Gbit/s\n        app"))
    found = admit(load(tmp_path, text).policies[0], registry(), datetime(2026, 10, 1))
    (conflict,) = (one for one in found if not one.state)
    assert conflict.at == datetime(2026, 11, 28, 8)
    assert conflict.below == ("CORE", "hrss", "exam")
    assert (conflict.limit_bps, conflict.promised_bps) == (6 * GBPS // 10, 2 * GBPS)


# --- placing demands ---------------------------------------------------------------------------------------------

DEMAND = """\
link,direction,department,application,demand
exit,out,hrss,exam,5 Gbit/s
isp1,out,hrss,exam,1 Gbit/s
exit,out,finance,video,3 Gbit/s
exit,out,finance,forum,2 Gbit/s
exit,out,hrss,,500 Mbit/s
exit,out,,dns,10 Mbit/s
ag,in,hrss,exam,1 Gbit/s
"""


def placed(tmp_path: Path, text: str = BASE, demand: str = DEMAND, at: datetime = SATURDAY) -> Placed:
    """Return the placed demands of the one link."""
    policies: Policies = load(tmp_path, text)
    demands, _ = parse_demand(demand, "demand.csv", registry())
    zoned = at.replace(tzinfo=policies.policies[0].zone).astimezone(UTC)
    (one,), unmanaged = place(policies, registry(), demands, zoned)
    assert [row.link for row in unmanaged] in ([], ["ag"])
    return one


def test_demands_find_their_nodes(tmp_path: Path) -> None:
    """By name, else by the class that names the application, else by its service class, else in what nothing names."""
    one = placed(tmp_path)
    assert sorted(one.names[number] for number in one.demands) == [
        ("CORE", "hrss", "exam"),
        ("protected", "", "dns"),
        ("rest", "finance", "forum"),
        ("rest", "hrss", ""),
        ("video", "finance", "video"),
    ]
    assert one.bps[next(n for n, row in one.demands.items() if row.application == "exam")] == 6 * GBPS


def test_the_answer_has_a_row_a_leaf_and_one_an_inner_node(tmp_path: Path) -> None:
    """Protected traffic first, then the guarantees, then the excess by importance, under the ceilings."""
    one = placed(tmp_path)
    allocation = one.allocate()
    leaves = {row["application"]: row for row in leaf_rows(one, allocation)}
    assert {name: row["allocation_bps"] for name, row in leaves.items()} == {
        "dns": 10_000_000,
        "exam": 3_600_000_000,
        "forum": 1_770_000_000,
        "": 500_000_000,
        "video": 120_000_000,
    }
    exam = leaves["exam"]
    assert (exam["importance"], exam["guarantee_bps"], exam["bound"]) == (1, 2 * GBPS, "ceiling")
    assert exam["ceiling_bps"] == exam["allocation_bps"] == 3_600_000_000
    assert leaves["dns"]["bound"] == "demand"
    nodes = {tuple(row["node"]): row for row in node_rows(one, allocation)}
    assert nodes[()]["bound"] == "capacity"
    assert nodes[()]["allocation_bps"] == 6 * GBPS
    assert sum(row["allocation_bps"] for row in leaves.values()) == 6 * GBPS
    assert nodes["video",]["phase"] == "excess"


def test_the_chain_names_the_lines_of_the_policy(tmp_path: Path) -> None:
    """Why video gets what it gets: its ceiling binds, and its line is named."""
    one = placed(tmp_path)
    number = next(n for n, row in one.demands.items() if row.application == "video")
    steps = explain_rows(one, one.allocate(), number)
    assert [step["node"] for step in steps] == [["video", "finance", "video"], ["video", "finance"], ["video"], []]
    assert str(steps[0]["written_at"]).endswith("policy.yaml:32:13")
    assert steps[-1]["written_at"] is None
    assert [step["binds"] for step in steps].count(True) == 1


def test_a_guarantee_that_is_not_lent_has_its_node_without_demand(tmp_path: Path) -> None:
    """It is kept idle, and seen in the answer."""
    text = broken(("            ceiling: 60%\n", "            no_lend: true\n"))
    one = placed(
        tmp_path, text, "link,direction,department,application,demand\nexit,out,finance,forum,9 Gbit/s\n", FRIDAY
    )
    leaves = {row["application"]: row["allocation_bps"] for row in leaf_rows(one, one.allocate())}
    assert leaves == {"exam": GBPS // 2, "forum": 6 * GBPS - GBPS // 2}


def test_department_first_is_as_good(tmp_path: Path) -> None:
    """The tree may begin with departments; whoever is not named is in the rest."""
    text = """\
version: 1
policy: by-department
links: [isp1]
direction: out
tree: [department, application]
departments:
  - department: hrss
    guarantee: 1 Gbit/s
    applications: [{application: exam, importance: 1}]
"""
    demand = DEMAND.replace("exit,out", "isp1,out").replace("ag,in,hrss,exam,1 Gbit/s\n", "")
    one = placed(tmp_path, text, demand)
    assert {one.names[n] for n in one.demands} == {
        ("hrss", "exam"),
        ("hrss", ""),
        ("rest", "finance", "video"),
        ("rest", "finance", "forum"),
        ("protected", "", "dns"),
    }
    assert sum(row["allocation_bps"] for row in leaf_rows(one, one.allocate())) == 4 * GBPS


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("link,direction,department,application\n", 1, 1, 'column "demand" is missing'),
        ("link,direction,department,application,demand,spead\n", 1, 46, 'unknown column "spead"'),
        ("link,direction,department,application,demand\nexist,out,hrss,exam,1 Gbit/s\n", 2, 1, 'unknown link "exist"'),
        ("link,direction,department,application,demand\nexit,up,hrss,exam,1 Gbit/s\n", 2, 6, '"up" is no direction'),
        ("link,direction,department,application,demand\nexit,out,hrss,exam,1000\n", 2, 20, "the unit is missing"),
        ("link,direction,department,application,demand\nexit,out,hrss,exam\n", 2, 1, "the row has 4 cells"),
        ("link,direction,department,application,demand\nexit,out,hrss,exam,2000 Tbit/s\n", 2, 20, "more than any link"),
    ],
)
def test_mistakes_in_a_demand_file(text: str, line: int, column: int, words: str) -> None:
    """Each at its line and column."""
    with pytest.raises(ProblemsError) as caught:
        parse_demand(text, "demand.csv", registry())
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (line, column)
    assert words in problem.message
    assert problem.remedy


def test_unknown_names_in_a_demand_file_are_warnings() -> None:
    """Traffic of nobody is traffic: it belongs to the rest, and is said once."""
    rows = "exit,out,nobody,exam,1 kbit/s\n" * 2
    demands, warnings = parse_demand("link,direction,department,application,demand\n" + rows, "d.csv", registry())
    assert len(demands) == 2
    assert [str(warning) for warning in warnings] == [
        'd.csv:2:10: department "nobody" is not in the registry - it belongs to what nothing names'
    ]
