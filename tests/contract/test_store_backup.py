"""`telemetryd store` as processes: backups of a store that is being written, killed at random moments; the outputs."""

import io
import json
import os
import random
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from telemetryd.cli.main import main
from telemetryd.store.embedded import Store
from telemetryd.store.levels import MINUTE_NS
from telemetryd.store.report.record import freeze, load, path_of
from telemetryd.store.verify import verify
from tests.storing import BASE, Hasty, S, expected_rows, held, multiset, window
from tests.storing_writer import batch

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def spawn(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def telemetryd(*arguments: str | Path, code: int = 0) -> tuple[str, str]:
    """Run `telemetryd store` in this process; return what it printed on stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(SystemExit) as ended, redirect_stdout(out), redirect_stderr(err):
        main(["store", *map(str, arguments)])
    assert (ended.value.code or 0) == code, err.getvalue()
    return out.getvalue(), err.getvalue()


def telemetryd_json(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(telemetryd(*arguments, "--json", code=code)[0])
    return document


@contextmanager
def killed(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()


def kill_at(seconds: float, *arguments: str) -> None:
    """Run `telemetryd store` in a process of its own and kill it after a time, if it has not ended by then."""
    with spawn("telemetryd", "store", *arguments) as run:
        select.select([run.stdout], [], [], seconds)
        run.kill()


def check_whole_commits(path: Path) -> int:
    """Check that a backup holds the first appends of the writer, each whole and once; return how many."""
    store = Store.open(path, "read")
    count = (store.stored_until("capture", S) - BASE) // S
    assert held(store) == multiset(row for i in range(count) for row in expected_rows(batch(i), "capture"))
    assert store.scan("quality").num_rows == count
    assert verify(store).faults == ()
    return count


def kill_and_check(directory: Path, kills: int) -> None:
    """Back up a store that grows, into one directory, and kill the backup at random moments."""
    store, target = directory / "store", directory / "backup"
    moments = random.Random(20261126)
    held_counts = []
    with spawn("tests.storing_writer", str(store), "20000") as writer, killed(writer):
        assert writer.stdout is not None
        while writer.stdout.readline() != "7\n":
            pass
        telemetryd("backup", target, "--store", store)
        held_counts.append(check_whole_commits(target))
        for _ in range(kills):
            # Importing takes most of a run: without luck the kill comes before it begins, or after its end.
            kill_at(moments.uniform(0.3, 1.5), "backup", str(target), "--store", str(store))
            held_counts.append(check_whole_commits(target))
        telemetryd("backup", target, "--store", store)
        held_counts.append(check_whole_commits(target))
    assert held_counts == sorted(held_counts)
    assert held_counts[-1] > held_counts[0]
    listed = {segment.file for segment in Store.open(target, "read").snapshot().manifest.segments}
    assert {file.name for file in (target / "segments").iterdir()} == listed
    telemetryd("restore", target, "--store", directory / "restored")
    assert check_whole_commits(directory / "restored") == held_counts[-1]
    Store.open(directory / "restored").close()


def test_backups_of_a_growing_store_are_killed(tmp_path: Path) -> None:
    """SIGKILL at 3 moments: the backup holds whole commits, never fewer than before, and the last one comes back."""
    kill_and_check(tmp_path, 3)


@pytest.mark.long
def test_backups_are_killed_many_times(tmp_path: Path) -> None:
    """The same with 30 kills."""
    kill_and_check(tmp_path, 30)


def test_a_restoration_is_killed(tmp_path: Path) -> None:
    """SIGKILL in the midst of a restoration leaves the old store; run again, it brings the backup."""
    old, new = tmp_path / "old", tmp_path / "new"
    for path, count in ((old, 2), (new, 40)):
        with Store.open(path, files=Hasty()) as store:
            for i in range(count):
                store.append(batch(i), "capture")
    telemetryd("backup", tmp_path / "backup.tar", "--store", new)
    outcomes = set()
    moments = random.Random(7)
    for _ in range(4):
        kill_at(moments.uniform(0.2, 1.2), "restore", str(tmp_path / "backup.tar"), "--store", str(old), "--replace")
        with Store.open(old) as store:
            outcomes.add((store.stored_until("capture", S) - BASE) // S)
            assert verify(store).faults == ()
    telemetryd("restore", tmp_path / "backup.tar", "--store", old, "--replace")
    with Store.open(old) as store:
        outcomes.add((store.stored_until("capture", S) - BASE) // S)
    assert outcomes <= {2, 40} and 40 in outcomes


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    with Store.open(path, files=Hasty()) as opened:
        windows = [window(BASE + i * MINUTE_NS, rows=10) for i in range(120)]
        opened.append([*windows, window(BASE, 60 * S, 10), window(BASE, 3600 * S, 20)], "live")
    return path


def test_stats(store: Path) -> None:
    """stats shows each level with its growth and retention, as a table, JSON and CSV of the same figures."""
    found = telemetryd_json("stats", "--store", store)
    second, minute, hour = found["levels"]
    assert (second["span_s"], second["rows"], second["windows"], second["segments"]) == (1, 1200, 7141, 2)
    assert (minute["octets_a_day"], minute["full_octets"]) == (None, None)
    assert hour["first"] < hour["end"]
    assert second["full_octets"] == pytest.approx(2 * second["octets_a_day"])
    assert second["keep_days"] == 2
    assert found["octets"] == sum(file.stat().st_size for file in (store / "segments").iterdir())
    assert found["days_left"] is None and found["backup_of"] is None and len(found["id"]) == 32
    table, remark = telemetryd("stats", "--store", store)
    assert "1 min" in table and "200 d" in table
    assert "once the retention is full" in remark
    lines = telemetryd("stats", "--store", store, "--csv")[0].splitlines()
    assert lines[0].split(",") == list(second)
    assert len(lines) == 4


def test_verify_tells_every_fault_and_what_to_do(store: Path) -> None:
    """verify ends with 0 on a sound store and with 1 on a damaged one, with a line a fault that names its file."""
    assert telemetryd("verify", "--store", store)[0].endswith("no fault\n")
    assert telemetryd_json("verify", "--store", store)["ok"] is True
    cut, flipped = sorted((store / "segments").iterdir())[:2]
    cut.write_bytes(cut.read_bytes()[:100])
    content = bytearray(flipped.read_bytes())
    content[99] ^= 1
    flipped.write_bytes(content)
    lines = telemetryd("verify", "--store", store, code=1)[0].splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == [str(cut), str(flipped)]
    assert all("telemetryd store restore BACKUP" in line for line in lines[:2])
    assert lines[2].endswith("2 faults")
    found = telemetryd_json("verify", "--store", store, code=1)
    assert (found["ok"], [fault["file"] for fault in found["faults"]]) == (False, [str(cut), str(flipped)])


def test_backup_and_restore_say_what_they_did(store: Path, tmp_path: Path) -> None:
    """Both print one line, or the same figures as JSON; a query of the backup answers as one of the store."""
    text, _ = telemetryd("backup", tmp_path / "b", "--store", store)
    assert "4 segments" in text and "4 new" in text
    again = telemetryd_json("backup", tmp_path / "b", "--store", store)
    assert (again["segments"], again["copied"], again["removed"], again["store"]) == (4, 0, 0, str(store))
    text, _ = telemetryd("restore", tmp_path / "b", "--store", tmp_path / "new")
    assert f"as {store} was at 20" in text
    found = telemetryd_json("restore", tmp_path / "b", "--store", tmp_path / "new", "--replace")
    assert (found["replaced"], found["rows"], found["source"]) == (4, 1230, str(store))
    assert held(Store.open(tmp_path / "new", "read")) == held(Store.open(store, "read"))


@pytest.mark.parametrize("target", ["b", "b.tar"])
def test_frozen_reports_travel_with_the_store(store: Path, tmp_path: Path, target: str) -> None:
    """A backup holds the frozen records of reports, a restoration adds them to those that are there, verify reads them."""
    first = freeze(store, {"month": "2026-10", "figure": 1})
    assert telemetryd_json("backup", tmp_path / target, "--store", store)["reports"] == 1
    later = freeze(store, {"month": "2026-10", "figure": 2})
    lost = path_of(store, "2026-10", 1)
    lost.write_bytes(lost.read_bytes().replace(b'"figure":1', b'"figure":3'))
    fault = telemetryd("verify", "--store", store, code=1)[0].splitlines()[0]
    assert fault.startswith(f"{lost}: ") and "telemetryd store restore" in fault
    assert telemetryd("backup", tmp_path / "c", "--store", store, code=1)[1].count(lost.name) == 1
    text, _ = telemetryd("restore", tmp_path / target, "--store", store, "--replace")
    assert text.endswith("; 1 frozen reports\n")
    assert (load(store, "2026-10", 1), load(store, "2026-10")) == (first, later)
    assert telemetryd_json("restore", tmp_path / target, "--store", tmp_path / "new")["reports"] == 1
    assert load(tmp_path / "new", "2026-10") == first


def test_mistakes_end_with_2_and_a_remedy(store: Path, tmp_path: Path) -> None:
    """A mistake of the operator is one line without a traceback, exit code 2."""
    for arguments, reason in (
        (("stats",), "say which store"),
        (("restore", tmp_path / "nothing", "--store", store), "no backup"),
        (("backup", store / "inside", "--store", store), "inside the store"),
        (("backup", tmp_path / "x.tar", "--store", store, "--hard-links"), "leave out --hard-links"),
    ):
        _, error = telemetryd(*arguments, code=2)
        assert reason in error and len(error.splitlines()) == 1
    assert "telemetryd replay" in telemetryd("verify", "--store", tmp_path / "none", code=1)[1]
    assert "Examples:" in telemetryd("--help")[0]
