"""Usage of a link by the samples of both ends of its cable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from telemetryd.cli.main import main
from telemetryd.errors import InputError
from telemetryd.registry.cables import cables
from telemetryd.registry.load import load_registry
from telemetryd.registry.models import SECTIONS, Registry, RegistryFile
from telemetryd.schema import LinkDirection, Table
from telemetryd.store import pooled, query
from telemetryd.store.embedded import Store
from telemetryd.store.select import Selection
from tests.small_city import SMALL_CITY
from tests.usage_windows import NAMES, window

S = 1_000_000_000
START_NS = 1_790_000_040 * S
ONE, OTHER = NAMES.links[1], NAMES.links[2]
ENDS = {ONE: OTHER, OTHER: ONE}
DEPARTMENTS = ("tax", "exam office")
PACKET = 1000


def registry(*paths: list[str]) -> Registry:
    city = {**SMALL_CITY, "sites": [{"name": "A", "region": "city"}, {"name": "B", "region": "city"}]}
    city["paths"] = [{"name": f"p{i}", "from": "A", "to": "B", "via": via} for i, via in enumerate(paths)]
    file = RegistryFile.model_validate(city)
    return Registry(Path("city"), **{section: getattr(file, section) for section in SECTIONS})


def test_neighbours_on_paths_are_ends_of_cables() -> None:
    """By the names that usage has: a link's own, else its bundle's or the port's; several other ends are no cable."""
    found = cables(registry(["CR01/exit", "HOST/eth0"], ["HOST/eth0", "CR01/exit", "CR01/dc"]))
    assert found == {"exit-isp": "HOST/eth0", "HOST/eth0": "exit-isp"}
    assert cables(registry(["CR01/exit", "HOST/eth0"], ["CR01/dc", "HOST/eth0"])) == {}
    assert cables(registry()) == {}


def test_the_example_city_has_cables() -> None:
    """Its paths run over both ends of what connects its districts and centres."""
    found = cables(load_registry(Path("policies/example-city/registry")))
    assert len(found) > 20
    assert all(found[other] == one for one, other in found.items())


def fill(
    path: Path, rng: np.random.Generator, rates: tuple[int, int], packets: tuple[int, int], lost: float = 0
) -> None:
    """Store a second of what both ends sample of the same packets, 1 in their rates."""
    rows = []
    for link, direction, rate, share in (
        (ONE, LinkDirection.OUT, rates[0], 1),
        (OTHER, LinkDirection.IN, rates[1], 1 - lost),
    ):
        for department, count in zip(DEPARTMENTS, packets, strict=True):
            seen = int(rng.binomial(count, share / rate))
            rows.append(
                {
                    "table": Table.LINK_USAGE,
                    "link": NAMES.links.index(link),
                    "direction": direction,
                    "department": NAMES.departments.index(department),
                    "samples": seen,
                    "octets": seen * rate * PACKET,
                    "packets": seen * rate,
                    "octets_variance": seen * rate * (rate - 1) * PACKET**2,
                    "octets_largest": np.sqrt(rate * (rate - 1)) * PACKET if seen else 0.0,
                }
            )
    with Store.open(path) as store:
        store.append([window([row for row in rows if row["samples"]], start_ns=START_NS)], "capture")


CHOSEN = Selection("link_usage", where={"link": [ONE]})


def test_both_ends_are_better_than_one(tmp_path: Path) -> None:
    """Over some runs the error is less by about what theory says, the intervals hold, and nothing is biased."""
    rng = np.random.default_rng(20261126)
    packets, rates = (200_000, 40_000), (1000, 500)
    errors: dict[str, list[float]] = {"pooled": [], "own": []}
    covered = 0
    for run in range(30):
        fill(tmp_path / str(run), rng, rates, packets)
        with Store.open(tmp_path / str(run), "read") as store:
            found = pooled.top(store, ["department"], CHOSEN, ENDS)
        row = next(row for row in found.rows if row["department"] == "tax")
        truth = packets[0] * PACKET
        errors["pooled"].append(row["octets"] / truth - 1)
        errors["own"].append(row["raw_octets"] / truth - 1)
        covered += row["low_bps"] <= truth * 8 <= row["high_bps"]
        assert found.places[0]["state"] == "pooled"
    spread = {name: float(np.sqrt(np.mean(np.square(of)))) for name, of in errors.items()}
    # Variances of 999 and 499 packets pooled: 1 / (1/999 + 1/499).
    assert spread["pooled"] / spread["own"] == pytest.approx(np.sqrt(499 / (999 + 499)), rel=0.4)
    assert abs(np.mean(errors["pooled"])) < 4 * spread["pooled"] / np.sqrt(30)
    assert covered >= 27


def test_ends_that_disagree_are_not_pooled(tmp_path: Path) -> None:
    """Where the other end lost its samples, those of the link alone are taken, and it is said."""
    fill(tmp_path, np.random.default_rng(1), (100, 100), (200_000, 40_000), lost=0.5)
    with Store.open(tmp_path, "read") as store:
        found = pooled.top(store, ["department"], CHOSEN, ENDS)
        alone = pooled.top(store, ["department"], CHOSEN, {})
        plain = query.top(store, ["department"], CHOSEN)
    assert found.places[0]["state"] == "disagree" and found.places[0]["far_octets"] is not None
    assert alone.places[0]["state"] == "alone" and alone.places[0]["far_end"] is None
    for answer in (found, alone):
        assert [row["octets"] for row in answer.rows] == pytest.approx([row["octets"] for row in plain.rows])
        assert [row["high_bps"] for row in answer.rows] == pytest.approx([row["high_bps"] for row in plain.rows])


def test_an_end_that_sees_every_packet_is_the_truth(tmp_path: Path) -> None:
    """Then nothing of the other one is taken; keys may have the link, and one department alone is asked for."""
    fill(tmp_path, np.random.default_rng(2), (1000, 1), (200_000, 40_000))
    chosen = Selection("link_usage", where={"link": [ONE], "department": ["tax"]})
    with Store.open(tmp_path, "read") as store:
        (row,) = pooled.top(store, ["link", "department"], chosen, ENDS).rows
        with pytest.raises(InputError, match="link_usage"):
            pooled.top(store, ["department"], Selection(), ENDS)
    assert (row["link"], row["department"], row["octets"]) == (ONE, "tax", 200_000 * PACKET)
    assert row["low_bps"] == row["high_bps"] == row["rate_bps"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It wants a registry, not both estimates at once, and prints table, JSON and CSV."""
    fill(tmp_path / "store", np.random.default_rng(3), (100, 100), (200_000, 40_000))
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "city.yaml").write_text(json.dumps({"version": 1, "city": {"name": "small"}}))

    def ask(*more: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["query", "top", "--store", str(tmp_path / "store"), "--table", "link_usage", "--pooled", *more])
        return int(ended.value.code or 0)

    city = ("--registry", str(tmp_path / "registry"))
    assert ask() == 2 and "--registry DIR" in capsys.readouterr().err
    assert ask(*city, "--calibrated") == 2 and "ask for one of them" in capsys.readouterr().err
    assert ask(*city) == 0
    printed = capsys.readouterr()
    assert "link_usage, both ends: " in printed.out and "have no other end" in printed.err
    assert ask(*city, "--json") == 0
    assert json.loads(capsys.readouterr().out)["pooled"] is True
    assert ask(*city, "--csv") == 0
    assert capsys.readouterr().out.startswith("department,rate_bps")
