"""Whatever goes wrong: every device ends all old or all new, and what others have is as it was.

Devices in memory, on a loop whose time passes at once (tests/faulty_device.py); the same with real targets and real
kills is in tests/contract. `python -m tests.property.test_enforce_transaction N` prints the table of docs/enforcement.md.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from telemetryd.enforce.guard import Verdict
from telemetryd.enforce.journal import Journal, ended_transactions, open_transactions
from telemetryd.enforce.names import is_ours
from telemetryd.enforce.records import Records
from telemetryd.enforce.recover import recover
from telemetryd.enforce.transaction import Options
from telemetryd.errors import TelemetrydError
from tests.enforce_case import dangling, rates
from tests.faulty_device import READ_FAULTS, WRITE_FAULTS, FaultyDevice, KilledError, Life, run_quickly
from tests.transaction_case import LOOSE, apply_plan, devices_of, theirs

SHORT, LONG = 150, 6000
#: A stuck device is one that a fault leaves so for good; none here does.
MOST_RECOVERIES = 40


@contextmanager
def mortal(life: Life, torn: Random | None = None) -> Iterator[None]:
    """Let a process die before or after anything that it writes to the disk, or in the middle of a line."""
    add, fsync = Journal.add, os.fsync

    def dying_add(journal: Journal, state: str, **more: Any) -> None:
        if torn is not None and life.done == life.kill_at and not life.is_dead and torn.random() < 0.5:
            life.is_dead = True
            file = journal._opened()
            file.write(json.dumps({"state": state}).encode()[: torn.randint(1, 12)])
            file.flush()
            raise KilledError
        life.step(f"journal {state}")
        add(journal, state, **more)
        life.step(f"journaled {state}")

    def dying_fsync(descriptor: int) -> None:
        life.step("fsync")
        fsync(descriptor)

    Journal.add = dying_add  # type: ignore[method-assign]
    os.fsync = dying_fsync  # type: ignore[assignment]
    try:
        yield
    finally:
        Journal.add, os.fsync = add, fsync  # type: ignore[method-assign]
        life.is_dead = True


class Story:
    """One transaction that goes wrong, until everything has settled."""

    def __init__(self, seed: int, kill_at: int | None = None) -> None:
        self.random = Random(seed)
        self.devices, self.wanted = devices_of(seed, self.random.randint(1, 4))
        self.before = [dict(one.config) for one in self.devices]
        for one in self.devices:
            one.sets.clear()
        self.verdict = self.random.choice((Verdict.OK,) * 4 + (Verdict.HURT, Verdict.CANNOT_TELL))
        self.injected: list[str] = []
        for _ in range(self.random.randint(0, 3)):
            kind, faults = self.random.choice((("write", WRITE_FAULTS), ("write", WRITE_FAULTS), ("read", READ_FAULTS)))
            number = self.random.randrange(4 if kind == "write" else 8)
            self.random.choice(self.devices).faults[kind, number] = self.random.choice(faults)
        self.kill_at = kill_at if kill_at is not None else self.random.choice((-1, self.random.randrange(150)))
        self.killed_at = ""
        self.outcome = ""

    async def tell(self, directory: Path) -> None:
        life = Life(self.kill_at)
        for one in self.devices:
            one.life = life
        options = Options(limits=LOOSE, patience_s=self.random.choice((0.0, 30.0, 200.0)))
        with mortal(life, self.random):
            try:
                done = await apply_plan(self.devices, self.wanted, directory, verdict=self.verdict, options=options)
                self.outcome = done.outcome
            except KilledError:
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()  # they die with the process
                await asyncio.sleep(0.1)
                self.outcome = "killed"
                self.killed_at = life.log[-1] if life.log else "torn line"
            except TelemetrydError:
                self.outcome = "refused"  # before anything was written
        for one in self.devices:
            one.life = None
        records = Records(directory)
        for _ in range(MOST_RECOVERIES):
            await recover(records, {one.name: one for one in self.devices}.get, patience_s=5.0)
            if not await asyncio.to_thread(open_transactions, records.transactions):
                break
            await asyncio.sleep(10.0)
        await asyncio.sleep(1000.0)  # timers of devices, and Sets that come late
        for one in self.devices:
            one.settle_time()

    def check(self, directory: Path) -> None:
        """Hold what has become of the devices against the promise."""
        records = Records(directory)
        assert open_transactions(records.transactions) == []
        after = [{**theirs(old), **new} for old, new in zip(self.before, self.wanted, strict=True)]
        sides = []
        for one, old, new in zip(self.devices, self.before, after, strict=True):
            made = {path: v for path, v in old.items() if not is_ours(path, old)}
            assert {path: one.config.get(path) for path in made} == made, "what others have is not as it was"
            side = {"old"} if one.config == old else set()
            side |= (
                {"new"}
                if {p: v for p, v in one.config.items() if p in new} == new
                and not ({p for p in one.config if is_ours(p, one.config)} - new.keys())
                else set()
            )
            assert side, f"{one.name} is between: {one.hit}"
            sides.append(side)
            assert dangling(one.config) == []
            assert one.commit is None
        assert set.intersection(*sides), "some devices are old, and others new"
        ended = ended_transactions(records.transactions)
        outcome = ended[0].outcome if ended else self.outcome
        if outcome == "confirmed":
            assert all("new" in side for side in sides)
        elif outcome != "unchanged":
            assert all("old" in side for side in sides)
        if not any(one.hit for one in self.devices) and not self.killed_at and self.verdict is Verdict.OK:
            assert self.outcome in ("confirmed", "unchanged")
        assert len(records.audit.records()) >= (1 if ended and any(one.sets for one in self.devices) else 0)
        for one in self.devices:
            intended = records.intended(one.name)
            if outcome == "confirmed" and intended is not None:
                assert intended.leaves == {p: v for p, v in one.config.items() if is_ours(p, one.config)}


def tell(seed: int, kill_at: int | None = None) -> Story:
    """Tell a story and hold it to the promise."""
    story = Story(seed, kill_at)
    with tempfile.TemporaryDirectory() as directory:
        run_quickly(story.tell(Path(directory)))
        story.check(Path(directory))
    return story


@pytest.mark.parametrize("first", range(0, SHORT, 50))
def test_every_device_ends_all_old_or_all_new(first: int) -> None:
    """Random plans, devices, faults, verdicts and kills."""
    for seed in range(first, first + 50):
        tell(seed)


@pytest.mark.long
@pytest.mark.parametrize("first", range(SHORT, LONG, 450))
def test_every_device_ends_all_old_or_all_new_long(first: int) -> None:
    """The same, some thousand times."""
    for seed in range(first, first + 450):
        tell(seed)


def test_a_kill_at_each_single_step_of_one_transaction() -> None:
    """Before and after each call of a device, each record of the journal and each fsync, of three devices."""
    seed = next(one for one in range(1000) if len(Story(one).devices) == 3 and not _has_faults(one))
    steps = 0
    while True:
        story = tell(seed, steps)
        if story.outcome != "killed":
            break
        steps += 1
    assert steps > 60


def _has_faults(seed: int) -> bool:
    story = Story(seed)
    return story.verdict is not Verdict.OK or any(one.faults for one in story.devices)


@pytest.mark.parametrize("first", range(0, 60, 30))
def test_no_transient_sum_exceeds_a_link(first: int) -> None:
    """After each single Set, of any transaction, the rates of a port are within those of its two plans."""
    for seed in range(first, first + 30):
        story = tell(seed)
        for one in story.devices:
            ends = [rates(story.before[story.devices.index(one)], "cir"), rates(one.config, "cir")]
            for config in one.seen:
                for policy, own in rates(config, "cir").items():
                    most = max(sum(end.get(policy, {}).values()) for end in (*ends, *_wanted(story, one)))
                    assert sum(own.values()) <= max(most, _room(story, policy))


def _wanted(story: Story, one: FaultyDevice) -> list[dict[str, dict[int, int]]]:
    return [rates(story.wanted[story.devices.index(one)], "cir")]


def _room(story: Story, policy: str) -> int:
    """Return the greatest ceiling of a policy, which is the port's capacity."""
    found = [
        value for leaves in (*story.before, *story.wanted) for value in rates(leaves, "pir").get(policy, {}).values()
    ]
    return max(found, default=0)


def main(count: int) -> None:
    """Print what was injected and what came of it."""
    hit: Counter[str] = Counter()
    outcomes: dict[str, Counter[str]] = {}
    for seed in range(count):
        story = tell(seed)
        what = [fault for one in story.devices for fault in one.hit]
        what += [f"killed: {story.killed_at}"] if story.killed_at else []
        what += ["verdict: hurt"] if story.verdict is Verdict.HURT else []
        for one in what:
            name = one if not one.startswith("killed: SW") else f"killed: device {one.split()[-1]}"
            hit[name] += 1
            outcomes.setdefault(name, Counter())[story.outcome] += 1
    print(
        "| injected | times | confirmed | rolled back | unsettled, then recovered | killed, then recovered |\n|---|---:|---:|---:|---:|---:|"
    )
    for name, times in sorted(hit.items()):
        row = outcomes[name]
        shown = " | ".join(str(row[one]) for one in ("confirmed", "rolled back", "unsettled", "killed"))
        print(f"| {name} | {times} | {shown} |")
    print(f"| all, in {count} transactions | {sum(hit.values())} | | | | |")


if __name__ == "__main__":
    main(int(sys.argv[1]))
