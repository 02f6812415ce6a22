"""Overbooking with its risk, bandwidth functions, who is charged, regions, freezing."""

from __future__ import annotations

from datetime import datetime
from itertools import product
from pathlib import Path

import pytest

from telemetryd.allocate.answer import leaf_rows
from telemetryd.allocate.demand_file import parse_demand
from telemetryd.allocate.place import place
from telemetryd.errors import ProblemsError
from telemetryd.policy.admission import admit
from telemetryd.policy.freeze import is_frozen
from telemetryd.policy.load import load_policies
from telemetryd.policy.overbooking import risk
from tests.policy_case import broken, mistakes, registry, write

AT = datetime(2026, 11, 20, 9)
M = 1_000_000


def allocated(path: Path, policy: str, demands: str) -> dict[tuple[str, str], float]:
    """Return (department, application) -> Mbit/s of the demands (CSV without its link and direction)."""
    header, *rows = demands.strip().splitlines()
    text = "\n".join([f"link,direction,{header}", *(f"isp2,out,{row}" for row in rows)])
    found, _ = parse_demand(text, "d.csv", registry())
    policies = load_policies([write(path, policy)], registry())
    (placed,), unmanaged = place(policies, registry(), found, AT.astimezone())
    assert unmanaged == []
    return {
        (row["department"], row["application"]): row["allocation_bps"] / M
        for row in leaf_rows(placed, placed.allocate())
    }


@pytest.mark.parametrize(("guarantees", "limit", "busy"), [([600, 600], 1000, 0.5), ([5, 3, 2, 7, 1], 10, 0.3)])
def test_the_risk_is_that_of_all_combinations(guarantees, limit, busy):
    exact = 0.0
    for demanded in product((0, 1), repeat=len(guarantees)):
        if sum(g * d for g, d in zip(guarantees, demanded, strict=True)) > limit:
            exact += busy ** sum(demanded) * (1 - busy) ** (len(demanded) - sum(demanded))
    assert risk(guarantees, limit, busy) == pytest.approx(exact, abs=1e-12)


def test_the_risk_is_never_understated():
    """Three of a third and a bit more exceed the limit by a thousandth of a step: counted as too much."""
    assert risk([3334, 3334, 3333], 10_000, 1.0) == 1.0
    assert risk([100] * 10, 1000, 1.0) == 0.0
    assert risk([10], 0, 0.25) == 0.25
    assert risk([], 0, 0.25) == 0.0


OVERBOOKED = broken(("guarantee: 3 Gbit/s", "guarantee: 6 Gbit/s"))
SAID = OVERBOOKED.replace("tree: [", "overbooking: {most: 120%, busy: 20%, owner: Li, reason: exams}\ntree: [")


def test_overbooking_is_refused_unless_it_is_said(tmp_path):
    policies = load_policies([write(tmp_path, OVERBOOKED)], registry())
    assert admit(policies.policies[0], registry(), AT)[0].is_refused
    policies = load_policies([write(tmp_path, SAID)], registry())
    conflicts = admit(policies.policies[0], registry(), AT)
    assert not any(conflict.is_refused for conflict in conflicts)
    assert conflicts[0].risk == pytest.approx(0.2)  # one guarantee of 6 Gbit/s where 5.4 are
    assert conflicts[0].missing_bps == 600 * M


def test_overbooking_beyond_what_is_said_is_refused(tmp_path):
    policies = load_policies([write(tmp_path, SAID.replace("120%", "105%"))], registry())
    assert admit(policies.policies[0], registry(), AT)[0].is_refused


PLAIN = """\
version: 1
policy: functions
links: [isp2]
direction: out
tree: [department, application]
departments:
  - {department: finance, function: [[2, 0 Mbit/s], [2.5, 1000 Mbit/s], [3.5, 1500 Mbit/s]]}
  - {department: hrss, function: [[1, 1000 Mbit/s], [2, 1000 Mbit/s], [3, 2000 Mbit/s]]}
"""


@pytest.mark.parametrize(
    ("capacity", "first", "second"), [("1 Gbit/s", 0, 1000), ("2.5 Gbit/s", 1000, 1500), ("3.25 Gbit/s", 1250, 2000)]
)
def test_bandwidth_functions_divide_as_table_1_of_bwe_does(tmp_path, monkeypatch, capacity, first, second):
    from telemetryd.config.units import parse_rate

    monkeypatch.setattr("telemetryd.allocate.place.capacity_bps", lambda *_: parse_rate(capacity))
    demands = "department,application,demand\nfinance,video,9 Gbit/s\nhrss,exam,9 Gbit/s"
    got = allocated(tmp_path, PLAIN, demands)
    assert got["finance", "video"] == pytest.approx(first, abs=1e-5)
    assert got["hrss", "exam"] == pytest.approx(second, abs=1e-5)


def test_a_plain_weight_is_a_function_of_one_slope(tmp_path):
    """At the share 500 a plain node of weight 2 has 1000 Mbit/s, and the function that reaches 1000 there, too."""
    policy = PLAIN.split("departments:")[0] + (
        "departments:\n  - {department: finance, weight: 2}\n"
        "  - {department: hrss, function: [[500, 1000 Mbit/s], [5000, 10 Gbit/s]]}\n"
    )
    demands = "department,application,demand\nfinance,video,9 Gbit/s\nhrss,exam,9 Gbit/s"
    assert allocated(tmp_path, policy, demands) == {("finance", "video"): 1000.0, ("hrss", "exam"): 1000.0}


def test_the_peer_is_charged_where_the_policy_says_so(tmp_path):
    policy = PLAIN.split("departments:")[0] + "departments:\n  - {department: finance, ceiling: 100 Mbit/s}\n"
    demands = "department,peer_department,application,demand\nhrss,finance,exam,900 Mbit/s\nhrss,,portal,300 Mbit/s"
    assert allocated(tmp_path, policy, demands) == {("hrss", "exam"): 900.0, ("hrss", "portal"): 300.0}
    peer = policy.replace("tree:", "charge: peer_department\ntree:")
    assert allocated(tmp_path, peer, demands) == {("finance", "exam"): 100.0, ("hrss", "portal"): 300.0}


def test_a_region_is_that_of_the_departments_networks_unless_it_is_given(tmp_path):
    policy = (
        PLAIN.split("tree:")[0] + "tree: [region, department]\nregions:\n  - {region: yundong, ceiling: 100 Mbit/s}\n"
    )
    demands = "department,application,demand,region\nhrss,exam,900 Mbit/s,\nfinance,video,300 Mbit/s,yundong"
    got = allocated(tmp_path, policy, demands)
    assert got == {("hrss", "exam"): 50.0, ("finance", "video"): 50.0}
    demands = "department,application,demand\nhrss,exam,900 Mbit/s\nfinance,video,300 Mbit/s"
    got = allocated(tmp_path, policy, demands)
    assert got == {("hrss", "exam"): 100.0, ("finance", "video"): 300.0}  # finance has a network without a region


def test_a_freeze_holds_until_its_end(tmp_path):
    policy = PLAIN + "freeze: {until: 2026-11-20 12:00, owner: Li, reason: congress}\n"
    (one,) = load_policies([write(tmp_path, policy)], registry()).policies
    assert one.freeze_at(datetime(2026, 11, 20, 11, 59, tzinfo=one.zone)).owner == "Li"
    assert one.freeze_at(datetime(2026, 11, 20, 12, 0, tzinfo=one.zone)) is None


def test_a_freeze_stops_what_it_rules_and_says_why(tmp_path):
    """Whoever applies asks with the places that change; other policies' places, and the time after the end, pass."""
    other = PLAIN.replace("policy: ", "policy: other-").replace("direction: out", "direction: in")
    assert other != PLAIN
    (tmp_path / "other.yaml").write_text(other, encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(
        PLAIN + "freeze: {until: 2026-11-20 12:00, owner: Li, reason: congress}\n", encoding="utf-8"
    )
    policies = load_policies([tmp_path], registry())
    zone = policies.policies[0].zone
    before, after = datetime(2026, 11, 20, 11, 59, tzinfo=zone), datetime(2026, 11, 20, 12, 0, tzinfo=zone)
    frozen, free = (
        next(place for policy, *place in policies.ruled() if bool(policy.file.freeze) is wanted)
        for wanted in (True, False)
    )
    found = is_frozen(policies, before, [tuple(free), tuple(frozen)])
    assert found is not None and is_frozen(policies, before) == found
    assert str(found).endswith("is frozen until 2026-11-20T12:00+08:00: congress (Li)")
    assert is_frozen(policies, before, [tuple(free)]) is None
    assert is_frozen(policies, before, [("elsewhere", "in")]) is None
    assert is_frozen(policies, after) is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[2, 0 Mbit/s], ", "", None),
        ("[2.5, 1000 Mbit/s]", "[2, 1000 Mbit/s]", "the fair share 2 comes after 2"),
        ("[3.5, 1500 Mbit/s]", "[3.5, 900 Mbit/s]", "is less than the one before"),
        ("[3.5, 1500 Mbit/s]", "[3.5, 1500]", "is no rate"),
        ("[3.5, 1500 Mbit/s]", "[x, 15 Mbit/s]", '"x" is no fair share'),
        ("[[2, 0 Mbit/s], [2.5, 1000 Mbit/s], [3.5, 1500 Mbit/s]]", "[]", "is no bandwidth function"),
        ("finance, function", "finance, weight: 2, function", '"weight" is given beside a bandwidth function'),
        ("tree:", "overbooking: {most: 90%, busy: 20%, owner: Li, reason: x}\ntree:", '"90%" is no overbooking'),
        ("tree:", "overbooking: {most: 120%, busy: 1 Mbit/s, owner: L, reason: x}\ntree:", "no part"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, old, new, message):
    found = mistakes(tmp_path, broken((old, new), text=PLAIN))
    if message is None:
        assert found == []
        return
    assert any(message in problem.message for problem in found), found
    assert all(problem.line > 1 and problem.column > 1 for problem in found)


def test_a_mistake_in_a_function_raises(tmp_path):
    with pytest.raises(ProblemsError):
        load_policies([write(tmp_path, broken(("1500 Mbit/s", "5 Mbit/s"), text=PLAIN))], registry())
