"""Demands that cross several managed links: terms from policies, the network-wide division, its certificates."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from telemetryd.allocate.crossing import crossing_rows, divide_network, not_considered
from telemetryd.allocate.demand_file import parse_demand
from telemetryd.allocate.place import place
from telemetryd.cli.main import main
from telemetryd.errors import ProblemsError
from telemetryd.policy.load import load_policies
from tests.policy_case import registry, write

AT = datetime(2026, 11, 20, 9, tzinfo=UTC)
#: isp2 carries 2 Gbit/s, ag 10.
POLICY = """\
version: 1
policy: both
links: [isp2, ag]
direction: out
tree: [department, application]
departments:
  - {department: hrss, importance: 1, weight: 3, applications: [{application: exam, guarantee: 500 Mbit/s}]}
  - {department: finance, importance: 1, applications: [{application: video, ceiling: 900 Mbit/s}]}
rest: {importance: 4}
"""
HEADER = "link,direction,department,application,demand\n"


def divided(path: Path, rows: str, policy: str = POLICY) -> dict[str, list[dict]]:
    demands, _ = parse_demand(HEADER + rows, "d.csv", registry())
    policies = load_policies([write(path, policy)], registry())
    return crossing_rows(divide_network(policies, registry(), demands, AT))


def test_a_flow_is_held_by_the_link_that_is_full_on_its_way(tmp_path):
    """isp2 is the bottleneck of those who cross it; on ag alone there is room for everything."""
    network = divided(
        tmp_path,
        "isp2 + ag,out,hrss,exam,3 Gbit/s\nisp2 + ag,out,hrss,portal,3 Gbit/s\nag,out,finance,forum,4 Gbit/s\n",
    )
    got = {(one["department"], one["application"]): one for one in network["flows"]}
    isp2 = {"link": "isp2", "direction": "out"}
    assert got["hrss", "exam"]["allocation_bps"] == got["hrss", "portal"]["allocation_bps"] == 1_000_000_000
    assert got["hrss", "exam"]["bottleneck"] == isp2
    assert got["hrss", "exam"]["level_bps"] == pytest.approx(1e9)
    assert got["finance", "forum"]["allocation_bps"] == 4_000_000_000
    assert got["finance", "forum"]["bottleneck"] is None
    assert [one["used_bps"] for one in network["links"]] == [2_000_000_000, 6_000_000_000]


def test_what_link_by_link_would_promise_twice_is_given_once(tmp_path):
    """Link by link a flow has a share on each; network-wide it has one rate, and leaves the rest to others."""
    rows = "isp2 + ag,out,hrss,portal,2 Gbit/s\nisp2,out,finance,forum,2 Gbit/s\nag,out,finance,other,10 Gbit/s\n"
    network = divided(tmp_path, rows)
    got = {one["application"]: one["allocation_bps"] for one in network["flows"]}
    assert got == {"portal": 1_000_000_000, "forum": 1_000_000_000, "other": 9_000_000_000}


def test_guarantee_ceiling_and_importance_are_those_of_the_leaf(tmp_path):
    network = divided(
        tmp_path,
        "isp2,out,hrss,exam,1 Gbit/s\nisp2,out,finance,video,3 Gbit/s\nisp2,out,nobody,else,3 Gbit/s\n",
    )
    got = {one["application"]: one for one in network["flows"]}
    assert got["exam"]["guarantee_bps"] == 500_000_000
    assert got["video"]["ceiling_bps"] == 900_000_000
    assert [got[name]["allocation_bps"] for name in ("exam", "video", "else")] == [
        1_000_000_000,
        900_000_000,
        100_000_000,
    ]
    assert got["else"]["importance"] == 4
    assert got["else"]["bottleneck"] == {"link": "isp2", "direction": "out"}


def test_flows_of_one_leaf_on_different_ways_share_its_terms(tmp_path):
    network = divided(tmp_path, "isp2,out,hrss,exam,1 Gbit/s\nisp2 + ag,out,hrss,exam,3 Gbit/s\n")
    assert sorted(one["guarantee_bps"] for one in network["flows"]) == [125_000_000, 375_000_000]
    assert sum(one["allocation_bps"] for one in network["flows"]) == 2_000_000_000


def test_a_demand_counts_on_each_link_that_it_crosses(tmp_path):
    demands, _ = parse_demand(
        HEADER + "isp2 + ag:out,out,hrss,exam,1 Gbit/s\nisp1,out,hrss,exam,1 Gbit/s", "d", registry()
    )
    policies = load_policies([write(tmp_path, POLICY)], registry())
    placed, unmanaged = place(policies, registry(), demands, AT)
    assert [sum(one.bps.values()) for one in placed] == [1_000_000_000, 1_000_000_000]
    assert [one.link for one in unmanaged] == ["isp1"]


def test_a_bandwidth_function_is_that_of_the_leaf_and_split_by_demands(tmp_path):
    """Two ways have half of the function each; forum, a plain leaf, takes s Mbit/s at the share s.

    At the share 500 all have 500 Mbit/s; from there on the halves rise by 10 Mbit/s a share: 500 = 21 x 23.8 are left.
    """
    policy = POLICY.replace("guarantee: 500 Mbit/s", "function: [[1, 1 Gbit/s], [500, 1 Gbit/s], [600, 3 Gbit/s]]")
    rows = "isp2 + ag,out,hrss,exam,2 Gbit/s\nisp2,out,hrss,exam,2 Gbit/s\nisp2,out,finance,forum,3 Gbit/s\n"
    got = [(one["application"], one["allocation_bps"]) for one in divided(tmp_path, rows, policy)["flows"]]
    assert got == [
        ("exam", pytest.approx(500e6 + 10e6 * 500 / 21, abs=2)),
        ("exam", pytest.approx(500e6 + 10e6 * 500 / 21, abs=2)),
        ("forum", pytest.approx(500e6 + 1e6 * 500 / 21, abs=2)),
    ]


def test_a_guarantee_that_is_not_lent_stays_idle(tmp_path):
    """Whether its owner sends less, or nothing at all; the others get the rest."""
    policy = POLICY.replace("guarantee: 500 Mbit/s", "guarantee: 500 Mbit/s, no_lend: true")
    for rows in (
        "isp2,out,hrss,exam,100 Mbit/s\nisp2,out,finance,forum,3 Gbit/s\n",
        "isp2,out,finance,forum,3 Gbit/s\n",
    ):
        network = divided(tmp_path, rows, policy)
        got = {
            one["application"]: one["allocation_bps"] for one in network["flows"] if one["crosses"][0]["link"] == "isp2"
        }
        assert got == {"exam": 500_000_000, "forum": 1_500_000_000}


def test_terms_of_inner_nodes_are_named(tmp_path):
    """Each with its line: a weight here; what says nothing but its importance is no warning."""
    demands, _ = parse_demand(HEADER + "isp2 + ag,out,hrss,exam,3 Gbit/s\n", "d.csv", registry())
    path = write(tmp_path, POLICY)
    crossing = divide_network(load_policies([path], registry()), registry(), demands, AT)
    assert [str(one).removeprefix(str(path)) for one in not_considered(crossing)] == [
        f":7:5: hrss on {link}: of it these do not count network-wide: weight - what is below it has its own terms "
        "there; say them at the applications"
        for link in ("isp2", "ag")
    ]


@pytest.mark.parametrize(
    ("cell", "message"),
    [("isp2 + agg", 'unknown link "agg"'), ("isp2 + ag:up", '"up" is no direction'), ("ag + ag", "crossed twice")],
)
def test_a_mistake_in_a_way_has_its_place(cell, message):
    with pytest.raises(ProblemsError) as raised:
        parse_demand(f"{HEADER}{cell},out,hrss,exam,1 Gbit/s\n", "d.csv", registry())
    assert any(message in problem.message and problem.line == 2 for problem in raised.value.problems)


def test_the_command_divides_all_links_at_once_where_a_demand_crosses_several(tmp_path, capsys):
    from tests.unit import registry_case

    directory = tmp_path / "registry"
    directory.mkdir()
    (directory / "a.yaml").write_text(registry_case.BASE, encoding="utf-8")
    policy = write(tmp_path, POLICY)
    demand = tmp_path / "demand.csv"

    def run(rows: str, *more: str) -> str:
        demand.write_text(HEADER + rows, encoding="utf-8")
        with pytest.raises(SystemExit) as ended:
            main(["policy", "allocate", str(policy), "--demand", str(demand), "-r", str(directory), *more])
        assert not ended.value.code
        return capsys.readouterr().out

    network = json.loads(run("isp2 + ag,out,hrss,exam,3 Gbit/s\n", "--json"))["network"]
    assert network["flows"][0]["bottleneck"] == {"link": "isp2", "direction": "out"}
    assert json.loads(run("isp2,out,hrss,exam,3 Gbit/s\n", "--json"))["network"] is None
    assert json.loads(run("isp2,out,hrss,exam,3 Gbit/s\n", "--json", "--network-wide"))["network"] is not None
    assert "isp2 out + ag out" in run("isp2 + ag,out,hrss,exam,3 Gbit/s\n")
