"""`telemetryd proof`: what was delivered of each guarantee, when it was not, and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetryd.counter_windows import QueueWindow
from telemetryd.schema import QUEUE_COLUMNS
from telemetryd.store.embedded import Store
from tests.commands import run_command
from tests.month_case import BIN
from tests.proof_case import DAY, POLICY, City, busy_day, hours

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command: arguments -> exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        return run_command(capsys, *arguments)

    return call


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> City:
    """The busy day; only read."""
    return City(tmp_path_factory.mktemp("busy"), busy_day())


def proved(run: Run, city: City, *more: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the rows of the proof of March by node."""
    code, out, err = run("proof", "--month", "2026-03", "--json", *city.options(), *more)
    assert code == 0, err
    return {tuple(row["node"]): row for row in json.loads(out)["guarantees"]}


def test_a_shortfall_is_shown_with_its_time_and_cause(run: Run, busy: City) -> None:
    """Films have what tax was promised from 12 to 13 h: missed while its demand is held, then nobody can tell."""
    tax = proved(run, busy)["tax",]
    assert tax["verdict"] == "broken"
    assert tax["windows"]["met"] == 36
    assert tax["windows"]["missed"] == 3
    assert tax["windows"]["cannot_tell"] == 9
    assert tax["windows"]["idle"] == 240
    assert tax["shortfall_minutes"] == 15
    assert tax["undecided_minutes"] == 45
    assert [(one["from"], one["to"]) for one in tax["shortfalls"]] == [
        ("2026-03-02T12:00:00+08:00", "2026-03-02T12:15:00+08:00")
    ]
    assert tax["missing_octets"]["low"] <= 30e6 * 900 / 8 <= tax["missing_octets"]["high"]
    assert tax["causes"] == [{"cause": "enforcement not applied", "windows": 3, "of": 3}]


def test_a_guarantee_is_kept_where_less_was_demanded_or_more_delivered(run: Run, busy: City) -> None:
    """edu has more than its guarantee whenever the link is full; at night it demands less than that."""
    edu = proved(run, busy)["edu",]
    assert edu["guarantee_bps"] == {"least": 15e6, "most": 20e6}
    assert edu["verdict"] == "kept"
    assert edu["windows"]["met"] == 48
    filing = proved(run, busy, "--department", "tax")["tax", "filing"]
    assert filing["verdict"] == "kept"
    assert filing["attainment"] == {"low": 1.0, "high": 1.0}


def test_a_department_is_asked_for_alone(run: Run, busy: City) -> None:
    assert set(proved(run, busy, "--department", "tax")) == {("tax",), ("tax", "filing")}


def test_a_tolerance_makes_the_difference_where_the_guarantee_is_just_missed(run: Run, tmp_path: Path) -> None:
    rates = busy_day()
    rates["isp1", "tax", "filing"] = hours((0, 9, 15), (9, 10, 75), (10, 13, 55), (13, 24, 15))
    rates["isp1", "edu", "films"] = hours((9, 10, 20), (10, 13, 40))
    city = City(tmp_path, rates)
    assert proved(run, city)["tax",]["windows"]["missed"] >= 1
    tolerant = proved(run, city, "--tolerance", "20%")["tax",]
    assert tolerant["windows"]["missed"] == 0
    assert tolerant["verdict"] == "kept"


def test_overbooked_guarantees_are_a_cause_of_their_own(run: Run, tmp_path: Path) -> None:
    """The protected classes and edu, more important, take what tax is promised: it is the policy that says so."""
    policy = POLICY.replace("    guarantee: 15 Mbit/s\n", "    importance: 1\n    guarantee: 55 Mbit/s\n").replace(
        '      - {hours: "08:00-18:00", guarantee: 20 Mbit/s}', '      - {hours: "08:00-18:00", guarantee: 70 Mbit/s}'
    )
    tax = proved(run, City(tmp_path, busy_day(), policy))["tax",]
    assert tax["causes"] == [{"cause": "policy", "windows": 3, "of": 3}]


def test_a_silent_member_is_a_lost_capacity(run: Run, tmp_path: Path) -> None:
    """isp2 carries nothing from 12 to 13 h: 100 of 400 Mbit/s are left of the group.

    All exits together: their departments are those that the metering points inside NAT tell.
    """
    policy = POLICY.replace("links: [isp1]", "links: [providers]").replace("60 Mbit/s", "200 Mbit/s")
    rates = {
        ("isp1", "tax", "filing"): hours((0, 9, 10), (9, 12, 80), (12, 13, 75), (13, 24, 10)),
        ("isp2", "tax", "filing"): hours((0, 9, 10), (9, 12, 240), (12, 13, 0), (13, 24, 10)),
        ("isp1", "edu", "exam"): hours((0, 24, 15)),
        ("isp2", "edu", "exam"): hours((0, 12, 15), (13, 24, 15)),
    }
    tax = proved(run, City(tmp_path, rates, policy, is_translated=True))["tax",]
    assert tax["windows"]["missed"] == 3
    assert tax["causes"] == [{"cause": "capacity", "windows": 3, "of": 3}]


PATHS = """\
version: 1
sites: [{name: A, region: city}, {name: B, region: city}]
paths: [{name: inside, from: A, to: B, via: [CR01/dc, CR01/exit-1]}]
"""


@pytest.mark.parametrize(("interface", "share"), [("dc", 0.1), ("dc", 0.001), ("dark", 0.1)])
def test_drops_on_the_way_hold_traffic_back(run: Run, tmp_path: Path, interface: str, share: float) -> None:
    """From 12 to 13 h tax falls to 30 Mbit/s on a link that is not full.

    Where queues on a path over the link dropped then, what was demanded before lasts, and the guarantee was missed. Drops
    of a few packets, or on another way, tell nothing: less was demanded.
    """
    rates = busy_day()
    rates["isp1", "edu", "films"] = hours((9, 12, 24), (12, 13, 10))
    city = City(tmp_path, rates)
    assert proved(run, city)["tax",]["windows"]["missed"] == 0
    (city.registry / "more.yaml").write_text(PATHS, encoding="utf-8")
    columns: dict[str, np.ndarray] = {column.name: np.zeros(1, column.dtype) for column in QUEUE_COLUMNS}
    columns["packets"][:], columns["dropped_packets"][:] = 1e6 * (1 - share), 1e6 * share
    columns["known"][:], columns["covered_ns"][:] = 15, BIN
    noon = DAY[(DAY - DAY[0]) // 3600 // 10**9 == 12].tolist()
    windows = [QueueWindow(start_ns, BIN, columns, (("CR01", interface, "out", "q3"),)) for start_ns in noon]
    with Store.open(city.store) as store:
        store.append([], "live:1", [], windows)
    tax = proved(run, city)["tax",]
    if (interface, share) != ("dc", 0.1):
        assert (tax["windows"]["missed"], tax["causes"], tax["drops"]) == (0, [], [])
        return
    assert tax["windows"]["missed"] == 3 and tax["windows"]["cannot_tell"] == 9
    assert tax["causes"] == [{"cause": "drops elsewhere", "windows": 3, "of": 3}]
    assert tax["drops"] == [{"device": "CR01", "interface": "dc", "packets": 300_000, "here": False}]
    out = run("proof", "--from", "2026-03-02", "--to", "2026-03-03", *city.options())
    assert "tax on isp1: queues of CR01 dc dropped 300,000 packets in the missed windows" in out[2]


def test_a_link_without_a_sample_is_unseen_and_not_idle(run: Run, tmp_path: Path) -> None:
    rates = {key: np.where(hours((5, 7, 1)) > 0, 0.0, rate) for key, rate in busy_day().items()}
    rates["isp2", "edu", "exam"] = hours((0, 24, 5))
    tax = proved(run, City(tmp_path, rates))["tax",]
    assert tax["windows"]["unseen"] == 24
    assert tax["windows"]["idle"] == 216


def test_the_table_says_the_same(run: Run, busy: City) -> None:
    code, out, err = run("proof", "--from", "2026-03-02", "--to", "2026-03-03", *busy.options())
    assert code == 0
    (line,) = (line for line in out.splitlines() if " tax " in line)
    assert "60.0 Mbit/s" in line
    assert "broken" in line
    assert "15 min" in line
    assert "enforcement not applied 3 of 3" in line
    assert "tax on isp1: 2026-03-02T12:00:00+08:00 to 2026-03-02T12:15:00+08:00: 30" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--month", "2026-03", "--department", "taxes"], 'department "taxes" is unknown - did you mean "tax"?'),
        (["--month", "2026-03", "--link", "isp2"], 'no policy rules link "isp2" - did you mean "isp1"?'),
        (["--month", "2026-05"], "holds nothing of this range"),
        (["--month", "2026-03", "--tolerance", "5 %%"], '--tolerance "5 %%" is no part of the whole'),
        ([], "say when: --month 2026-10, or --from TIME"),
        (["--month", "2026-03", "--from", "-1h"], "say --month, or --from and --to: not both"),
        (["--month", "2026-03", "--window", "1min"], "kept only as windows of 300 s"),
    ],
)
def test_a_mistake_is_named(run: Run, busy: City, arguments: list[str], message: str) -> None:
    code, _, err = run("proof", *arguments, *busy.options())
    assert code == 2
    assert message in err
