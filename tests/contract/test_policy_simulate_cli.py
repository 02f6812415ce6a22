"""`telemetryd policy simulate` as a user calls it, and the whole way of an edit: check, diff, simulate, explain agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from telemetryd.ingest.capture_writer import CaptureWriter
from telemetryd.ingest.generate.plan import write_registry
from telemetryd.ingest.generate.profiles import known_truth
from telemetryd.schema import Direction, Names, Table
from telemetryd.store.embedded import Store
from tests.commands import run_command
from tests.policy_case import broken, write, write_small_registry
from tests.simulated import G, at_ns
from tests.usage_windows import window

ROOT = Path(__file__).parents[2]
NAMES = Names(
    links=("-",),
    metering_points=("-", "core"),
    departments=("unknown", "hrss", "finance"),
    applications=("unclassified", "exam", "forum", "video"),
    zones=("-",),
    service_classes=("-",),
)
MINUTE_NS = 60 * 10**9
RATES = {("hrss", "exam"): 4.0, ("finance", "forum"): 3.0, ("finance", "video"): 0.1}


@pytest.fixture
def registry(tmp_path: Path) -> str:
    return write_small_registry(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Ten minutes on an exam day, of 7.1 Gbit/s in the first five and half of it in the others."""
    windows = []
    for minute in range(10):
        rows = [
            {
                "table": Table.TOTALS,
                "link": 1,
                "direction": Direction.OUTBOUND,
                "department": NAMES.departments.index(department),
                "application": NAMES.applications.index(application),
                "samples": 1000,
                "octets": rate * G * 60 / 8 / (1 if minute < 5 else 2),
            }
            for (department, application), rate in RATES.items()
        ]
        start = at_ns("2026-11-28 09:00") + minute * MINUTE_NS
        windows.append(window(rows, names=NAMES, start_ns=start, span_ns=MINUTE_NS))
    with Store.open(tmp_path / "store") as opened:
        opened.append(windows, "live")
    return tmp_path / "store"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    return run_command(capsys, "policy", *arguments)


def leaf(rows: list[dict[str, Any]], application: str) -> dict[str, Any]:
    (row,) = [row for row in rows if row["application"] == application]
    return row


def test_an_edited_guarantee_in_check_diff_simulate_and_explain(
    tmp_path: Path, registry: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One edit on the exam's day: every command tells the same rate, and what one gains another loses."""
    old, new, demand = tmp_path / "old", tmp_path / "new", tmp_path / "worst.csv"
    old.mkdir()
    new.mkdir()
    write(old, broken(("importance: 4, floor: 10%", "importance: 1, floor: 10%")))
    edit = ("{event: enrolment, guarantee: 2 Gbit/s}", "{event: enrolment, guarantee: 3400 Mbit/s}")
    write(new, broken(("importance: 4, floor: 10%", "importance: 1, floor: 10%"), edit))
    at = ("-r", registry, "--at", "2026-11-28 09:02")
    assert run(capsys, "check", new, *at)[0] == 0
    differences = json.loads(run(capsys, "diff", old, new, *at, "--json")[1])["differences"]
    (promised,) = [row for row in differences if row["node"] == ["CORE", "hrss", "exam"]]
    assert (promised["old"], promised["new"], promised["when"]) == (2 * G, 34 * G // 10, "during event enrolment")
    options = ("--policy", new, "--against", old, "--store", store, "-r", registry, "--write-demand", demand, "--json")
    code, out, _ = run(capsys, "simulate", *options, "--patience", "1s")
    assert code == 0
    (link,) = json.loads(out)["links"]
    assert (link["minutes"], link["contended_minutes"], link["recorded_full_minutes"]) == (10, 5, 5)
    exam, forum = (leaf(link["applications"], name) for name in ("exam", "forum"))
    assert exam["gain_bps"] > 0 > forum["gain_bps"]
    assert sum(row["gain_bps"] for row in link["applications"]) == pytest.approx(0, abs=10)
    worst = leaf(link["worst"]["new"]["leaves"], "exam")["delivered_bps"]
    for side, policy in (("old", old), ("new", new)):
        with_demand = (policy, "--demand", demand, *at, "--json")
        chains = json.loads(run(capsys, "explain", "hrss/exam", *with_demand)[1])["chains"]
        step = chains[0]["steps"][0]
        rows = json.loads(run(capsys, "allocate", *with_demand)[1])["leaves"]
        assert step["allocation_bps"] == leaf(rows, "exam")["allocation_bps"]
        assert step["allocation_bps"] == pytest.approx(worst[side], abs=2)
        assert step["guarantee_bps"] == promised[side]
    assert worst["new"] == pytest.approx(34 * G / 10, abs=2)


def test_the_table_the_plot_and_the_scenarios(
    tmp_path: Path, registry: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For people: the link, importance, departments and the worst minutes; an SVG; scenarios by name."""
    path = write(tmp_path)
    options = ("--policy", path, "--store", store, "-r", registry, "--plots", tmp_path / "plots")
    code, out, err = run(capsys, "simulate", *options, "--scenario", "failure:state=isp1-down")
    assert code == 0
    assert out.startswith(
        "exit against no policy: 10 steps of 1 min, 2026-11-28T09:00:00+08:00 to 2026-11-28T09:10:00+08:00"
    )
    for words in (
        "exit out: 2.00 Gbit/s",
        "By importance",
        "Departments that win and lose",
        "worst 5 min after",
        "guarantees missed after: CORE",
    ):
        assert words in out
    assert "exit out was full in 5 min of the record" in err
    ElementTree.parse(tmp_path / "plots" / "exit-out.svg")
    code, out, _ = run(capsys, "simulate", *options[:6], "--from=-5min", "--json")
    (link,) = json.loads(out)["links"]
    assert (code, link["contended_minutes"], link["total"]["gain_bps"]) == (0, 0, 0)
    assert run(capsys, "record", path, "-r", registry, "--why", "first", "--state", tmp_path / "state")[0] == 0
    versions = ("--policy", "@1", "--against", path, "--state", tmp_path / "state")
    again = json.loads(run(capsys, "simulate", *versions, *options[2:6], "--json")[1])
    assert (again["old"], again["links"][0]["total"]["gain_bps"]) == ("exit", 0)
    both = write(tmp_path, broken(("links: [exit]", "links: [exit, ag]")))
    idle = json.loads(run(capsys, "simulate", "--policy", both, *options[2:6], "--json")[1])["links"][1]
    assert (idle["link"], idle["peak_offered_bps"], idle["applications"]) == ("ag", 0, [])
    assert "nobody lacks anything" in run(capsys, "simulate", *options[:6], "--from=-5min")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say which traffic"),
        (("--traffic", "t", "--capture", "c"), "two sources"),
        (("--traffic", "t"), "with --from and --to"),
        (("--store", "{store}", "--scenario", "typhoon"), "no kind"),
        (("--store", "{store}", "--step", "2h"), "write 1s to 1h"),
        (("--store", "{store}", "--step", "90s"), "window"),
        (("--store", "{store}", "--step", "1h"), "no whole step"),
        (("--store", "{store}", "--from", "soon"), "is not a time"),
        (("--store", "{store}", "--against", "@1"), "say where the history is"),
        (("--store", "{store}", "--progress", "loud"), "use auto or none"),
    ],
)
def test_mistakes_of_an_operator(
    tmp_path: Path,
    registry: str,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    """Exit code 2 and what to do, never a traceback."""
    for name in ("TELEMETRYD_STATE", "STATE_DIRECTORY", "TELEMETRYD_STORE"):
        monkeypatch.delenv(name, raising=False)
    options = [argument.format(store=store) for argument in arguments]
    code, _, err = run(capsys, "simulate", "--policy", write(tmp_path), "-r", registry, *options)
    assert code == 2
    assert words in err


def test_demand_is_estimated_from_the_store(
    tmp_path: Path, registry: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Headroom where the link had room; in its full minutes whoever sent asks for more, and is marked; allocate reads it."""
    path, written = write(tmp_path), tmp_path / "now.csv"
    common = (path, "--store", store, "-r", registry)
    calm = json.loads(run(capsys, "demand", *common, "--from=-5min", "--json")[1])
    assert calm["at"] == "2026-11-28T09:10:00+08:00"
    assert leaf(calm["demands"], "exam")["demand_bps"] == 2.2 * G
    assert not any(row["censored"] or row["folded"] for row in calm["demands"])
    code, out, _ = run(capsys, "demand", *common, "--to", "2026-11-28T09:05", "--write", written, "--json")
    full = json.loads(out)["demands"]
    assert code == 0
    assert all(row["censored"] and row["causes"] == ["link"] for row in full)
    assert leaf(full, "exam")["demand_bps"] > 1.2 * leaf(full, "exam")["highest_bps"]
    assert "at least (link)" in run(capsys, "demand", *common, "--to", "2026-11-28T09:05")[1]
    rows = json.loads(run(capsys, "allocate", path, "-r", registry, "--demand", written, "--json")[1])["leaves"]
    assert leaf(rows, "exam")["demand_bps"] == leaf(full, "exam")["demand_bps"]
    code, _, err = run(capsys, "demand", *common, "--headroom", "1.01")
    assert (code, "would seem short" in err) == (2, True)


def test_a_capture_is_simulated_to_the_octet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With every packet sampled, what is offered on a link is what was really sent over it; a narrow ceiling cuts it."""
    (tmp_path / "registry").mkdir()
    write_registry(tmp_path / "registry", departments=6, applications=20, cores=2)
    sent = 0
    with CaptureWriter(tmp_path / "all.pcap") as writer:
        for block in known_truth(5, 1, 3, packets_per_s=300, departments=6, applications=20, cores=2):
            writer.write(block.buffer, block.offsets, block.lengths, block.ts_ns)
            links = block.truth.link_usage.totals(("link", "direction"))
            sent += links.get(("core-00-servers", "out"), (0, 0))[1]
    path = tmp_path / "policy.yaml"
    path.write_text(
        "version: 1\npolicy: plan\nlinks: [core-00-servers]\ndirection: out\ntree: [department]\n"
        "departments:\n  - {department: department-000, ceiling: 1 kbit/s}\n"
    )
    options = ("--capture", tmp_path / "all.pcap", "-r", tmp_path / "registry", "--step", "1s", "--json")
    code, out, err = run(capsys, "simulate", "--policy", path, *options)
    assert code == 0, err
    document = json.loads(out)
    (link,) = document["links"]
    assert document["steps"] == 3
    assert link["total"]["mean_bps"]["old"] * 3 / 8 == pytest.approx(sent, rel=1e-9)
    first = next(row for row in link["departments"] if row["department"] == "department-000")
    assert first["mean_bps"]["new"] <= 1000 < first["mean_bps"]["old"]


def test_a_link_is_folded_where_its_devices_are_known(
    tmp_path: Path, registry: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three queues, the device's own answer: who shares a queue loses the same part; unknown devices are not folded."""
    base = ("--policy", write(tmp_path), "--store", store, "-r", registry, "--json")

    def short(*options: object) -> tuple[dict[str, float], list[str]]:
        code, out, _ = run(capsys, "simulate", *base, *options)
        document = json.loads(out)
        (link,) = document["links"]
        worst = {
            leaf["application"]: leaf["delivered_bps"]["new"] / leaf["wanted_bps"]["new"]
            for leaf in link["worst"]["new"]["leaves"]
        }
        assert code == 0
        return worst, document["devices"]

    plain, notes = short()
    assert notes == [
        "what CR01 can do is not known: its links are divided as the policy says "
        "(--fold takes it to do what the tables say)"
    ]
    assert short("--unfolded") == (plain, [])
    answers, own = tmp_path / "answers", tmp_path / "own.yaml"
    answers.mkdir()
    models = [{"name": "openconfig-qos", "version": "0.11.2", "organization": "OC"}]
    document = {"version": "0.10.0", "encodings": ["JSON_IETF"], "models": models}
    (answers / "CR01.json").write_text(json.dumps(document), encoding="utf-8")
    own.write_text("version: 1\ndeviations:\n  - {source: lab, vendor: H3C, facts: {queues: 2}}\n", encoding="utf-8")
    folded, notes = short("--capabilities", answers, "--deviations", own)
    assert notes == ["CR01: folded into its 2 queues (known capabilities)"]
    assert short("--fold", "--deviations", own) == (folded, ["CR01: folded into its 2 queues (assumed capabilities)"])
    # All that is not protected is in one queue: the guarantee of the exam is nobody's any more.
    assert plain["exam"] > folded["exam"] == pytest.approx(folded["forum"], abs=1e-6)
