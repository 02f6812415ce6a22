"""`telemetryd policy` as a user calls it: output, exit codes, no traceback; the shipped examples as documented."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tests.commands import run_command
from tests.policy_case import BASE, CALENDAR, broken, write, write_small_registry

ROOT = Path(__file__).parents[2]
EXIT = ROOT / "policies" / "examples" / "exit"
HEADER = "link,direction,department,application,demand\n"


@pytest.fixture
def registry(tmp_path: Path) -> str:
    return write_small_registry(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    return run_command(capsys, "policy", *arguments)


def test_check_says_what_is_wrong_and_where(tmp_path: Path, registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 for a sound policy; 2 with file:line:column and remedy for mistakes, in JSON too."""
    path = write(tmp_path)
    assert run(capsys, "check", path, "-r", registry)[0] == 0
    write(tmp_path, broken(("links: [exit]", "links: [exist]")))
    code, out, err = run(capsys, "check", path, "-r", registry)
    assert (code, out) == (2, "")
    assert f'{path}:3:9: unknown link "exist" - did you mean "exit"?' in err
    code, out, _ = run(capsys, "check", path, "-r", registry, "--json")
    assert code == 2
    assert [(m["line"], m["column"]) for m in json.loads(out)["mistakes"]] == [(3, 9)]


def test_check_refuses_guarantees_that_do_not_fit(
    tmp_path: Path, registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The smallest conflicting set and the missing bit/s, at the line of the largest guarantee."""
    path = write(tmp_path, broken(("guarantee: 3 Gbit/s", "guarantee: 6 Gbit/s")))
    code, _, err = run(capsys, "check", path, "-r", registry, "--at", "2026-11-20")
    assert code == 2
    assert f"{path}:13:16: guarantees cannot be kept together on exit out from 2026-11-20 00:00: CORE 6 Gbit/s" in err
    assert "allows 5400 Mbit/s" in err
    assert "600 Mbit/s are missing" in err


def test_allocate_prints_a_table_or_json(tmp_path: Path, registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON has a row a leaf with the fields that programs rely on, a row an inner node, and what no policy rules."""
    path = write(tmp_path)
    demand = tmp_path / "demand.csv"
    demand.write_text(
        HEADER + "exit,out,hrss,exam,5 Gbit/s\nexit,out,finance,forum,3 Gbit/s\nag,in,hrss,exam,1 Gbit/s\n"
    )
    arguments = ("allocate", path, "-r", registry, "--demand", demand, "--at", "2026-11-28 09:00")
    code, out, err = run(capsys, *arguments)
    assert code == 0
    assert "3.6 Gbit/s" in out
    assert "1 demands are on links without a policy here" in err
    code, out, _ = run(capsys, *arguments, "--json")
    answer = json.loads(out)
    assert (code, answer["at"]) == (0, "2026-11-28T09:00:00+08:00")
    keys = (
        "link",
        "direction",
        "department",
        "application",
        "importance",
        "demand_bps",
        "guarantee_bps",
        "ceiling_bps",
        "allocation_bps",
    )
    assert [tuple(row[key] for key in keys) for row in answer["leaves"]] == [
        ("exit", "out", "hrss", "exam", 1, 5_000_000_000, 2_000_000_000, 3_600_000_000, 3_600_000_000),
        ("exit", "out", "finance", "forum", 4, 3_000_000_000, 0, 6_000_000_000, 2_400_000_000),
    ]
    assert (answer["nodes"][0]["node"], answer["nodes"][0]["bound"]) == ([], "capacity")
    assert len(answer["unmanaged"]) == 1


def test_a_changed_guarantee_is_seen_by_check_show_allocate_and_explain(
    tmp_path: Path, registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One edit; all commands agree about it."""
    demand = tmp_path / "demand.csv"
    demand.write_text(HEADER + "exit,out,hrss,exam,5 Gbit/s\nexit,out,finance,exam,5 Gbit/s\n")
    for mbps in (500, 3500):
        path = write(tmp_path, broken(("guarantee: 500 Mbit/s", f"guarantee: {mbps} Mbit/s")))
        common = ("-r", registry, "--at", "2026-11-20 09:00", "--json")
        assert run(capsys, "check", path, *common)[0] == 0
        shown = json.loads(run(capsys, "show", path, *common)[1])["nodes"]
        (line,) = [row for row in shown if row["node"] == ["CORE", "hrss", "exam"]]
        rows = json.loads(run(capsys, "allocate", path, "--demand", demand, *common)[1])["leaves"]
        (leaf,) = [row for row in rows if row["department"] == "hrss"]
        chains = json.loads(run(capsys, "explain", "hrss/exam", path, "--demand", demand, *common)[1])["chains"]
        step = chains[0]["steps"][0]
        assert line["guarantee_bps"] == leaf["guarantee_bps"] == step["guarantee_bps"] == mbps * 10**6
        assert leaf["allocation_bps"] == step["allocation_bps"] >= mbps * 10**6


def test_explain_for_people(tmp_path: Path, registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The chain, what binds, and who is beside it; exit code 1 for who has no demand."""
    path = write(tmp_path)
    demand = tmp_path / "demand.csv"
    demand.write_text(HEADER + "exit,out,hrss,exam,5 Gbit/s\nexit,out,finance,forum,3 Gbit/s\n")
    arguments = (path, "-r", registry, "--demand", demand, "--at", "2026-11-28 09:00")
    code, out, _ = run(capsys, "explain", "finance/forum", *arguments)
    assert code == 0
    assert out.splitlines()[0] == "finance/forum on exit out (policy exit)"
    assert "exit: 6 Gbit/s of 6.6 Gbit/s; bound by capacity  <- this binds" in out
    assert run(capsys, "explain", "hrss/portal", *arguments)[0] == 1
    assert run(capsys, "explain", "hrss", *arguments)[0] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "nowhere.yaml"), "cannot be read"),
        (("allocate", "{policy}", "--demand", "nowhere.csv"), "cannot be read"),
        (("allocate", "{policy}", "--demand", "{policy}", "--at", "soon"), "is missing"),
        (("show", "{policy}", "--at", "soon"), '"soon" is no time'),
        (("check", "{directory}/calendars"), "holds no policy"),
    ],
)
def test_mistakes_of_an_operator(
    tmp_path: Path, registry: str, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    """Exit code 2 and a sentence, never a traceback."""
    names = {"policy": str(write(tmp_path)), "directory": str(tmp_path)}
    code, _, err = run(capsys, *(argument.format(**names) for argument in arguments), "-r", registry)
    assert code == 2
    assert words in err


def test_the_schema_takes_what_loads(capsys: pytest.CaptureFixture[str]) -> None:
    """The published JSON Schema accepts policies and calendars that load, and refuses an unknown field."""
    from telemetryd.config.positions import parse_yaml

    for text, option in ((BASE, ()), (CALENDAR, ("--calendar",))):
        schema = json.loads(run(capsys, "schema", *option)[1])
        document = parse_yaml(text, "x", [])
        assert document is not None
        jsonschema.validate(document.data, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document.data | {"colour": "red"}, schema)


def test_the_example_is_as_documented(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit's policy checks; its expected allocation is what comes out."""
    assert run(capsys, "check", EXIT, "--at", "2026-11-01")[0] == 0
    at = ("--demand", EXIT / "demand.csv", "--at", "2026-11-28 09:00", "--json")
    leaves = json.loads(run(capsys, "allocate", EXIT, *at)[1])["leaves"]
    expected = json.loads((EXIT / "expected.json").read_text(encoding="utf-8"))
    got = [{key: row[key] for key in expected[0]} for row in leaves]
    assert got == expected
