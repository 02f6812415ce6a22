"""The spool after a crash at any of its file operations, and after SIGKILL at random moments."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
from pathlib import Path

import pytest

from telemetryd.store.files import Files
from telemetryd.store.spool import Spool
from tests.spooling import AGE_NS, OUTPUTS, SIZE, SPANS, entry, numbers
from tests.storing import Died, DyingFiles, Hasty

ROOT = Path(__file__).parents[2]
#: So small that a few entries fill a segment, and a few more the spool.
SMALL = 16 << 20
PIECE = 150_000


class Story:
    """What a process did with a spool, as far as it was told that it was done."""

    def __init__(self) -> None:
        self.appended: list[int] = []
        self.done: set[int] = set()
        self.under_way: int | None = None
        self.doing: set[int] = set()

    def run(self, path: Path, files: Files) -> None:
        """Append and acknowledge, across segments, up to the limit of the size, with outputs that come and go."""
        now_ns = iter(range(1 << 60, 1 << 61, AGE_NS // 40))
        with Spool.open(path, OUTPUTS, size=SMALL, age_ns=AGE_NS, files=files, clock=lambda: next(now_ns)) as spool:
            quick = spool.reader("quick")
            for number in range(12):
                self.append(spool, number)
                if number % 4 == 3:
                    done = quick.peek(2)
                    self.doing = {one.points - 1 for one in done}
                    quick.acknowledge([one.sequence for one in done])
                    self.done |= self.doing
            spool.set_outputs({"quick": SPANS})
            spool.maintain()
        with Spool.open(
            path, {"quick": SPANS}, size=SMALL, age_ns=AGE_NS, files=files, clock=lambda: next(now_ns)
        ) as spool:
            for number in range(12, 15):
                self.append(spool, number)

    def append(self, spool: Spool, number: int) -> None:
        self.under_way = number
        assert spool.append([entry(number, PIECE)]) == 0
        self.appended.append(number)
        self.under_way = None


def operations(path: Path) -> int:
    files = DyingFiles(1 << 30)
    Story().run(path, files)
    return files.operations


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
def test_every_point_of_death(tmp_path: Path, power: bool) -> None:
    """After a crash at any operation every acknowledged append waits, once; what was done may wait once more."""
    total = operations(tmp_path / "count")
    assert total > 80
    for at in range(1, total + 1, 1 if power else 3):
        path = tmp_path / str(at)
        story = Story()
        with pytest.raises(Died):
            story.run(path, DyingFiles(at, power))
        with Spool.open(
            path, {"quick": SPANS}, size=SMALL, age_ns=AGE_NS, files=Hasty(), clock=lambda: 1 << 60
        ) as spool:
            found = numbers(spool.reader("quick"))
            assert len(found) == len(set(found)), f"operation {at}: something is there twice"
            assert found == sorted(found)
            must = set(story.appended) - story.done - story.doing
            may = set(story.appended) | ({story.under_way} if story.under_way is not None else set())
            assert must <= set(found) <= may, f"operation {at}"
            assert spool.damaged_octets == 0
            assert not spool.lost
            # It goes on: nothing that is appended now is taken for done.
            spool.append([entry(90)])
            assert numbers(spool.reader("quick")) == [*found, 90]
        with Spool.open(
            path, {"quick": SPANS}, size=SMALL, age_ns=AGE_NS, files=Hasty(), clock=lambda: 1 << 60
        ) as spool:
            assert numbers(spool.reader("quick")) == [*found, 90]
            assert spool.torn_octets == 0


def kill_and_check(path: Path, kills: int) -> None:
    moments = random.Random(20261126)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    appended: set[int] = set()
    done: set[int] = set()
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.spooling", str(path), str(max(appended, default=-1) + 2)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        with process, process.stdout:
            assert process.stdout.readline() == "open\n"
            select.select([], [], [], moments.uniform(0, 0.3))
            process.kill()
            lines = process.stdout.read().splitlines(keepends=True)
        words = [line.split() for line in lines if line.endswith("\n")]
        new = {int(number) for what, number in words if what == "a"}
        appended |= new
        done |= {int(number) for what, number in words if what == "d"}
        with Spool.open(path, OUTPUTS, size=SIZE, age_ns=AGE_NS) as spool:
            quick, slow = numbers(spool.reader("quick")), numbers(spool.reader("slow"))
            assert spool.damaged_octets == 0
            assert not spool.lost
        # Besides what was said, at most one append and one acknowledgement were under way.
        assert len(appended - done - set(quick)) <= 3
        extra = set(quick) - appended
        assert len(extra) <= 1
        assert not done & set(quick)
        assert {n for n in appended if n % 3} <= set(slow) <= {n for n in appended | extra if n % 3}
        appended |= extra
        done |= appended - set(quick)
    assert len(appended) > 5 * kills


def test_a_killed_process_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """SIGKILL at random moments: what was acknowledged waits for each output that has not done it."""
    kill_and_check(tmp_path, 5)


@pytest.mark.long
def test_a_process_killed_many_times(tmp_path: Path) -> None:
    """The same with 100 kills."""
    kill_and_check(tmp_path, 100)
