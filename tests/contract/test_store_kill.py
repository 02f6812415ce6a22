"""Processes of their own: a writer that is killed at random moments, and readers meanwhile."""

import os
import random
import select
import subprocess
import sys
from pathlib import Path

import pytest

from telemetryd.errors import StoreError
from telemetryd.store import query
from telemetryd.store.embedded import Store
from telemetryd.store.select import Selection
from telemetryd.store.verify import verify
from tests.storing import BASE, S, expected_rows, held, multiset
from tests.storing_writer import batch

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
COUNT = 2000

READER = """
import sys
from telemetryd.store import query
from telemetryd.store.embedded import Store
from telemetryd.store.select import Selection
from tests.storing import BASE
store = Store.open(sys.argv[1], "read")
last = 0
print("open", flush=True)
for line in sys.stdin:
    manifest = store.snapshot().manifest
    if not manifest.extents:
        continue
    answer = query.top(store, [], Selection(from_ns=BASE))
    seconds = (answer.to_ns - BASE) // 1_000_000_000
    samples = answer.rows[0]["samples"]
    assert seconds >= last, (seconds, last)
    last = seconds
    print(seconds, samples, flush=True)
"""


def spawn(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def samples_of_totals(seconds: int) -> int:
    """Count the samples that a question about the first ``seconds`` should find, from the coarsest level."""
    whole = seconds // 10 * 10
    windows = [w for i in range(whole) for w in batch(i) if w.span_ns == 10 * S]
    windows += [w for i in range(whole, seconds) for w in batch(i) if w.span_ns == S]
    rows = expected_rows(windows, "capture")
    return sum(row["samples"] for row in rows if row["table"] == "totals")


def read_acknowledged(writer: subprocess.Popen[str]) -> list[int]:
    assert writer.stdout is not None
    return [int(line) for line in writer.stdout.read().split() if line != "open"]


def kill_and_check(path: Path, kills: int) -> None:
    random_moments = random.Random(20261122)
    reader = None
    best = -1
    for _ in range(kills):
        writer = spawn("-m", "tests.storing_writer", str(path), str(COUNT))
        assert writer.stdout is not None and writer.stdin is not None
        try:
            # The first word of the writer says that its run begins; from then on any moment may be its last.
            first = writer.stdout.readline()
            assert first == "open\n"
            if reader is None:
                reader = spawn("-c", READER, str(path))
                assert reader.stdout is not None and reader.stdout.readline() == "open\n"
            assert reader.stdin is not None and reader.stdout is not None
            reader.stdin.write("read\n")
            select.select([], [], [], random_moments.uniform(0.0, 0.4))
        finally:
            writer.kill()
            acknowledged = read_acknowledged(writer)
            writer.wait()
            writer.stdin.close()
            writer.stdout.close()
        best = max([best, *acknowledged])
        with Store.open(path) as store:
            found = held(store)
            numbers = (store.stored_until("capture", S) - BASE) // S if store.stored_until("capture", S) else 0
            assert numbers in (best + 1, best + 2), "what was acknowledged, and at most the append under way"
            best = numbers - 1
            expected = [row for i in range(numbers) for row in expected_rows(batch(i), "capture")]
            assert found == multiset(expected)
            assert store.scan("quality").num_rows == numbers
            assert verify(store).faults == ()
    assert best > 0
    assert reader is not None and reader.stdin is not None and reader.stdout is not None
    reader.stdin.close()
    answers = [tuple(map(int, line.split())) for line in reader.stdout]
    assert reader.wait() == 0
    reader.stdout.close()
    assert answers
    for seconds, samples in answers:
        assert samples == samples_of_totals(seconds), f"a reader saw half a commit at {seconds} s"


def test_a_killed_writer_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """SIGKILL at 6 random moments: every acknowledged batch is there once, and readers saw whole commits."""
    kill_and_check(tmp_path / "store", 6)


@pytest.mark.long
def test_a_writer_killed_many_times(tmp_path: Path) -> None:
    """The same with 40 kills."""
    kill_and_check(tmp_path / "store", 40)


def test_readers_while_another_process_writes(tmp_path: Path) -> None:
    """Readers in other processes see growing whole commits while one writes; a second writer is refused."""
    path = tmp_path / "store"
    writer = spawn("-m", "tests.storing_writer", str(path), "60")
    assert writer.stdin is not None and writer.stdout is not None
    assert writer.stdout.readline() == "open\n"
    with pytest.raises(StoreError, match=f"process {writer.pid}"):
        Store.open(path)
    reader = Store.open(path, "read")
    seen = []
    for line in writer.stdout:
        answer = query.top(reader, [], Selection(from_ns=BASE))
        seconds = (answer.to_ns - BASE) // S
        assert seconds > int(line), "what was acknowledged is visible to others at once"
        assert answer.rows[0]["samples"] == samples_of_totals(seconds)
        seen.append(seconds)
    assert writer.wait() == 0
    writer.stdin.close()
    writer.stdout.close()
    assert seen == sorted(seen)
    assert seen[-1] == 60
    Store.open(path).close()
