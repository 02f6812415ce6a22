"""The shipped example policies over the example city's week: they check, and do what their pages say."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from benchmarks.examples import CASES, EXAMPLES, HOUR_S, REGISTRY, TRAFFIC, Example, short
from telemetryd.allocate.answer import leaf_rows
from telemetryd.allocate.demand_file import read_demand
from telemetryd.allocate.place import place
from telemetryd.assure.modelled import Modelled
from telemetryd.assure.offered import Offered
from telemetryd.policy.admission import admit
from telemetryd.policy.load import load_policies
from telemetryd.registry.load import load_registry
from telemetryd.registry.models import Registry

Results = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(REGISTRY)


@pytest.fixture(scope="module")
def city(registry: Registry) -> Modelled:
    return Modelled(registry, TRAFFIC)


@pytest.fixture(scope="module")
def results(registry: Registry, city: Modelled) -> Results:
    """Simulate every example in steps of an hour; the city is built once."""
    return {example.name: example.run(registry, city, HOUR_S)[1] for example in CASES}


def document(example: Example) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((EXAMPLES / example.name / "result.json").read_text(encoding="utf-8"))
    return loaded


def test_every_example_is_here_and_all_load_together(registry: Registry) -> None:
    """No directory without a case; no link that two examples rule in one direction."""
    assert sorted(example.name for example in CASES) == sorted(
        path.parent.name for path in EXAMPLES.glob("*/policy.yaml")
    )
    assert len(load_policies([EXAMPLES], registry).policies) == len(CASES)


@pytest.mark.parametrize("example", CASES, ids=lambda example: example.name)
def test_guarantees_fit_and_the_expected_allocation_comes_out(example: Example, registry: Registry) -> None:
    """Admission at every time of a year; expected.json is what the demand gets."""
    policies = example.policies(registry)
    begin = datetime.fromisoformat(example.begin)
    assert [one for one in admit(policies.policies[0], registry, begin) if not one.state] == []
    demands, warnings = read_demand(EXAMPLES / example.name / "demand.csv", registry)
    assert all("shared:" in one.message for one in warnings)
    at = datetime.fromisoformat(document(example)["demand_at"]).replace(tzinfo=example.zone)
    placed, unmanaged = place(policies, registry, demands, at)
    assert unmanaged == []
    expected = json.loads((EXAMPLES / example.name / "expected.json").read_text(encoding="utf-8"))
    rows = [row for one in placed for row in leaf_rows(one, one.allocate()) if row["demand_bps"]]
    assert [{key: row[key] for key in expected[0]} for row in rows] == expected


@pytest.mark.parametrize("example", CASES, ids=lambda example: example.name)
def test_the_week_comes_out_as_written(example: Example, results: Results) -> None:
    """result.json, in steps of an hour; up to a kbit/s."""
    for row, written in zip(short(results[example.name]), document(example)["hourly"], strict=True):
        assert row["contended_minutes"] == written["contended_minutes"] > 0
        for one, other in zip(row["importance"], written["importance"], strict=True):
            assert one["delivered_kbps"] == pytest.approx(other["delivered_kbps"], abs=1)
            assert one | {"delivered_kbps": 0, "offered_kbps": 0} == other | {"delivered_kbps": 0, "offered_kbps": 0}


@pytest.mark.parametrize("example", CASES, ids=lambda example: example.name)
def test_the_most_important_lack_nothing_and_nobody_loses_who_is_more_important(
    example: Example, results: Results
) -> None:
    """With the policy the first level of importance is never short; who loses is of the last levels."""
    for row in results[example.name]:
        first = [one for one in row["importance"] if one["importance"] in ("protected", "1")]
        assert first
        assert all(one["short_minutes"]["new"] == 0 for one in first)
        assert row["broken_guarantees"]["new"] == []
        losers = [one["importance"] for one in row["importance"] if one["gain_bps"] < -10_000]
        winners = [one["importance"] for one in row["importance"] if one["gain_bps"] > 10_000]
        assert winners
        assert not losers or min(losers) >= max(winners)


def test_modelled_traffic_is_what_the_generator_sends(city: Modelled) -> None:
    """A class a department and application, staff in the daytime, and what no registry lists beside it."""
    example = replace(CASES[0], end="2026-11-24")
    offered = example.offered(city, HOUR_S)
    assert isinstance(offered, Offered)
    assert offered.bps.shape[0] == 24
    day = offered.bps.sum(axis=1)
    assert day[10:17].min() > 4 * day[2:5].max()  # staff work in the daytime
    assert len({(key.department, key.application) for key in offered.keys}) == len(offered.keys)
    assert any(key.application == "unclassified" for key in offered.keys)
