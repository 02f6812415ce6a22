"""`telemetryd policy diff`, `calendar`, `record` and `history` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import run_command
from tests.policy_case import broken, write, write_small_registry


@pytest.fixture
def registry(tmp_path: Path) -> str:
    return write_small_registry(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    return run_command(capsys, "policy", *arguments)


def test_a_change_from_edit_to_history(tmp_path: Path, registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Record, edit, compare with what was recorded, record again, get the first one back."""
    path, state = write(tmp_path), tmp_path / "state"
    common = ("-r", registry, "--state", state, "--at", "2026-11-20")
    assert run(capsys, "record", path, "--why", "first", "--who", "Li", *common)[0] == 0
    assert run(capsys, "diff", "@1", path, *common)[2] == "no difference: the same is promised at every time\n"
    write(tmp_path, broken(("guarantee: 3 Gbit/s", "guarantee: 4 Gbit/s")))
    code, out, err = run(capsys, "diff", "@1", path, *common)
    assert code == 0
    assert "exit out: guaranteed in total 3 Gbit/s -> 4 Gbit/s of 6 Gbit/s" in err
    assert out.split("CORE")[1].split()[:6] == ["guarantee", "3", "Gbit/s", "4", "Gbit/s", "always"]
    answer = json.loads(run(capsys, "diff", "@1", path, *common, "--json")[1])
    assert [(row["node"], row["old"], row["new"]) for row in answer["differences"]] == [
        (["CORE"], 3 * 10**9, 4 * 10**9)
    ]
    assert run(capsys, "record", path, "--why", "more", *common)[0] == 0
    assert "is the last one already" in run(capsys, "record", path, "--why", "again", *common)[2]
    versions = json.loads(run(capsys, "history", "--state", state, "--json")[1])["versions"]
    assert [(row["number"], row["why"]) for row in versions] == [(1, "first"), (2, "more")]
    assert versions[0]["who"] == "Li"
    assert "more" in run(capsys, "history", "--state", state)[1]
    back = tmp_path / "back"
    assert run(capsys, "history", "1", "--into", back, "--state", state)[0] == 0
    assert "guarantee: 3 Gbit/s" in (back / "policy.yaml").read_text()


def test_nothing_is_recorded_that_does_not_check(
    tmp_path: Path, registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guarantees that do not fit are refused as `check` does, with exit code 2."""
    path, state = write(tmp_path, broken(("guarantee: 3 Gbit/s", "guarantee: 6 Gbit/s"))), tmp_path / "state"
    common = ("-r", registry, "--state", state, "--at", "2026-11-20")
    code, _, err = run(capsys, "record", path, "--why", "too much", *common)
    assert (code, state.exists()) == (2, False)
    assert "600 Mbit/s are missing" in err


def test_calendar(tmp_path: Path, registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What comes every night is one row that says how often; JSON has every time."""
    path = write(tmp_path)
    common = (path, "-r", registry, "--at", "2026-11-23", "--days", 7)
    code, out, _ = run(capsys, "calendar", *common)
    assert code == 0
    (row,) = [line for line in out.splitlines() if "mon-fri" in line]
    assert row.split()[7:9] == ["5", "schedule"]
    assert "guarantee 2 Gbit/s" in out
    found = json.loads(run(capsys, "calendar", *common, "--json")[1])["spans"]
    assert [one["from"] for one in found if one["name"].startswith("mon-fri")][:2] == [
        "2026-11-23T22:00",
        "2026-11-24T22:00",
    ]
    assert run(capsys, "calendar", path, "-r", registry, "--at", "2026-11-22 07:00", "--days", 1)[2].startswith(
        "nothing but"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("diff", "@1", "{policy}"), "say where the history is"),
        (("diff", "@1", "{policy}", "--state", "{empty}"), "no version 1"),
        (("diff", "nowhere.yaml", "{policy}"), "cannot be read"),
        (("history",), "say where the history is"),
        (("history", "--into", "{empty}", "--state", "{empty}"), "--into needs a version"),
        (("record", "{policy}", "--why", " ", "--state", "{empty}"), "--why is empty"),
        (("calendar", "{policy}", "--at", "soon"), '"soon" is no time'),
    ],
)
def test_mistakes_of_an_operator(
    tmp_path: Path,
    registry: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    """Exit code 2 and what to do."""
    for name in ("TELEMETRYD_STATE", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TELEMETRYD_REGISTRY", registry)
    names = {"policy": str(write(tmp_path)), "empty": str(tmp_path / "empty")}
    code, _, err = run(capsys, *(argument.format(**names) for argument in arguments))
    assert code == 2
    assert words in err
