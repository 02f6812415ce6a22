"""Commits that are to be confirmed, which client may write, and what is kept on the disk."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from telemetryd.agent import running, state_directory
from telemetryd.agent.realise import NoKernel
from telemetryd.agent.refusal import RefusedError
from telemetryd.agent.state_directory import StateDirectory
from telemetryd.errors import InputError
from telemetryd.observe.health import State
from telemetryd.proto import gnmi_ext_pb2
from tests.agent_setting import Target, qos, target

pytestmark = pytest.mark.no_twins

Q = "/qos/queues/queue[name=q]/config/queue-id"
CIR = (
    "/qos/scheduler-policies/scheduler-policy[name=telemetryd-out-Ethernet1]/schedulers/scheduler[sequence=1]"
    "/two-rate-three-color/config/cir"
)
#: Longer than any test takes.
LONG_S = 3600.0


def begin(name: str = "c1", seconds: float = LONG_S) -> dict[str, Any]:
    asked = gnmi_ext_pb2.CommitRequest(rollback_duration=duration(seconds))
    return {"commit": gnmi_ext_pb2.Commit(id=name, commit=asked)}


def confirm(name: str = "c1") -> dict[str, Any]:
    return {"commit": gnmi_ext_pb2.Commit(id=name, confirm=gnmi_ext_pb2.CommitConfirm())}


def cancel(name: str = "c1") -> dict[str, Any]:
    return {"commit": gnmi_ext_pb2.Commit(id=name, cancel=gnmi_ext_pb2.CommitCancel())}


def wait(seconds: float, name: str = "c1") -> dict[str, Any]:
    asked = gnmi_ext_pb2.CommitSetRollbackDuration(rollback_duration=duration(seconds))
    return {"commit": gnmi_ext_pb2.Commit(id=name, set_rollback_duration=asked)}


def duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def election(number: int, role: str = "") -> dict[str, Any]:
    asked = gnmi_ext_pb2.MasterArbitration(election_id=gnmi_ext_pb2.Uint128(high=number >> 64, low=number % 2**64))
    if role:
        asked.role.id = role
    return {"master_arbitration": asked}


def run(story: Callable[[Target], Awaitable[None]], directory: Path | None = None, **options: Any) -> None:
    """Tell a story with a target; its kernel has what it has in the end."""

    async def told() -> None:
        realiser = options.pop("realiser", None) or NoKernel()
        state = None if directory is None else StateDirectory(directory)
        async with asyncio.timeout(60), target(realiser, state=state) as one:
            await one.running.prepare()
            await story(one)
            assert realiser.leaves == one.leaves()

    asyncio.run(told())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


# --- commits ----------------------------------------------------------------------------------------------------------


def test_not_confirmed_in_time() -> None:
    """It is rolled back by itself: what was there is there again, also what it had removed."""

    async def story(one: Target) -> None:
        await one.set(replace={"/": qos()})
        before = one.leaves()
        await one.set("/qos/interfaces", update={CIR: 5, Q: 1}, **begin(seconds=0.2))
        assert one.leaves()[CIR] == 5
        assert one.running.health().state is State.DEGRADED
        await until(lambda: one.leaves() == before)
        assert one.running.health().state is State.OK
        await one.set(update={CIR: 6})

    run(story)


def test_confirmed_and_cancelled() -> None:
    """A confirmed one stays; a cancelled one goes at once."""

    async def story(one: Target) -> None:
        await one.set(update={Q: 1}, **begin())
        await one.set(**confirm())
        await one.set(update={Q: 2}, **begin("c2"))
        await one.set(**cancel("c2"))
        assert one.leaves()[Q] == 1
        await one.set(update={Q: 3})

    run(story)


def test_the_wait_can_be_made_shorter() -> None:
    """set_rollback_duration begins the wait again, with another length."""

    async def story(one: Target) -> None:
        await one.set(update={Q: 1}, **begin())
        await one.refuses(**wait(0))
        await one.set(**wait(0.1))
        await until(lambda: not one.leaves())

    run(story)


def test_what_is_refused_while_one_waits() -> None:
    """Another Set, another commit, another id, more operations; and without one whatever is about one."""

    async def story(one: Target) -> None:
        for about in (confirm(), cancel(), wait(5)):
            assert "none waits" in await one.refuses(status="FAILED_PRECONDITION", **about)
        for bad in (begin(""), begin(seconds=-1), {"commit": gnmi_ext_pb2.Commit(id="x")}):
            await one.refuses(update={Q: 1}, **bad)
        await one.set(update={Q: 1}, **begin())
        assert '"c1" of tester' in await one.refuses(update={Q: 2}, status="FAILED_PRECONDITION")
        await one.refuses(update={Q: 2}, status="FAILED_PRECONDITION", **begin("c2"))
        for about in (confirm("c2"), cancel("c2"), wait(5, "c2")):
            assert '"c1" that waits' in await one.refuses(**about)
        assert "nothing can be added" in await one.refuses(update={Q: 2}, **confirm())
        await one.set(**confirm())

    run(story)


def test_a_new_master_while_one_waits(tmp_path: Path) -> None:
    """It may say that it is the master; the commit waits on, also for who starts the agent again."""

    async def first(one: Target) -> None:
        await one.set(update={Q: 1}, **begin())
        await one.set(**election(5))
        await one.refuses(update={Q: 2}, status="FAILED_PRECONDITION", **election(5))

    async def second(one: Target) -> None:
        await one.refuses(update={Q: 2}, status="FAILED_PRECONDITION")
        await one.set(**cancel())
        assert not one.leaves()
        await one.refuses(update={Q: 2}, status="PERMISSION_DENIED", **election(4))

    run(first, tmp_path)
    run(second, tmp_path)


def test_a_commit_that_is_refused_does_not_wait() -> None:
    """What it would have changed is wrong: nothing has begun."""

    async def story(one: Target) -> None:
        await one.refuses(update={Q: 256}, **begin())
        await one.set(update={Q: 1})

    run(story)


# --- master arbitration -----------------------------------------------------------------------------------------------


def test_the_greatest_election_id_writes() -> None:
    """Lower ones are refused, each role has its own, 128 bits count, and without the extension anybody writes."""

    async def story(one: Target) -> None:
        await one.set(update={Q: 1}, **election(2**64 + 1))
        message = await one.refuses(update={Q: 2}, status="PERMISSION_DENIED", **election(2**64))
        assert str(2**64 + 1) in message
        await one.set(update={Q: 3}, **election(2**64 + 1))
        await one.set(update={Q: 4}, **election(1, "other"))
        await one.set(**election(2**64 + 2))
        await one.refuses(update={Q: 5}, status="PERMISSION_DENIED", **election(2**64 + 1))
        await one.refuses(update={Q: 5}, master_arbitration=gnmi_ext_pb2.MasterArbitration())
        await one.set(update={Q: 6})
        assert one.leaves()[Q] == 6

    run(story)


# --- the disk ---------------------------------------------------------------------------------------------------------


def test_what_was_set_is_there_again(tmp_path: Path) -> None:
    """After a restart the configuration is the same, is realised, and a greater election id is still needed."""
    before: dict[str, Any] = {}

    async def first(one: Target) -> None:
        await one.set(replace={"/": qos()}, **election(7))
        await one.set("/qos/interfaces", update={CIR: 3})
        before.update(one.leaves())

    async def second(one: Target) -> None:
        assert one.leaves() == before
        await one.refuses(update={CIR: 4}, status="PERMISSION_DENIED", **election(6))

    run(first, tmp_path)
    run(second, tmp_path)


def test_everything_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes do not grow without an end; what is read is the same, with changes that a crash has left behind too."""
    monkeypatch.setattr(state_directory, "_LEAST_OCTETS", 2000)
    changes = tmp_path / "changes.jsonl"
    longest = 0
    left_behind = b""

    async def first(one: Target) -> None:
        nonlocal longest, left_behind
        await one.set(replace={"/": qos()})
        for number in range(200):
            await one.set(update={CIR: number})
            octets = await asyncio.to_thread(lambda: changes.read_bytes() if changes.exists() else b"")
            longest, left_behind = max(longest, len(octets)), max(left_behind, octets, key=len)

    async def second(one: Target) -> None:
        assert one.leaves()[CIR] == 199
        monkeypatch.setattr(state_directory, "_LARGE", 1)
        await one.set(update={CIR: 200})

    async def third(one: Target) -> None:
        assert one.leaves()[CIR] == 200

    run(first, tmp_path)
    assert 0 < longest < 40_000
    run(second, tmp_path)
    assert json.loads((tmp_path / "running.json").read_text())["entries"]
    assert not changes.exists()
    changes.write_bytes(left_behind)
    run(third, tmp_path)


def test_a_line_that_was_not_finished(tmp_path: Path) -> None:
    """The power fails while a change is written: it was never answered, and is not there."""

    async def first(one: Target) -> None:
        await one.set(update={Q: 1})
        await one.set(update={Q: 2})

    async def second(one: Target) -> None:
        assert one.leaves()[Q] == 1
        await one.set(update={Q: 3})

    async def third(one: Target) -> None:
        assert one.leaves()[Q] == 3

    run(first, tmp_path)
    changes = tmp_path / "changes.jsonl"
    changes.write_bytes(changes.read_bytes()[:-10])
    run(second, tmp_path)
    run(third, tmp_path)


@pytest.mark.parametrize("name", ["running.json", "changes.jsonl"])
@pytest.mark.parametrize("octets", [b"{}\n", b"nothing\nmore\n", b'{"version": 2}\n'])
def test_damage(tmp_path: Path, name: str, octets: bytes) -> None:
    """A damaged file is named, with what can be done; nothing is begun without it."""
    (tmp_path / name).write_bytes(octets)

    async def story(one: Target) -> None:
        raise AssertionError("it has begun")

    with pytest.raises(InputError, match=name + ".* move it away"):
        run(story, tmp_path)


def test_a_restart_while_a_commit_waits(tmp_path: Path) -> None:
    """The agent alone was restarted: it goes on waiting, and rolls back when the time is over."""

    async def first(one: Target) -> None:
        await one.set(update={Q: 1})
        await one.set(update={Q: 2}, **begin(seconds=LONG_S))

    async def second(one: Target) -> None:
        assert one.leaves()[Q] == 2
        await one.refuses(update={Q: 3}, status="FAILED_PRECONDITION")
        await one.set(**wait(0.1))
        await until(lambda: one.leaves()[Q] == 1)

    async def third(one: Target) -> None:
        # It may have ended before this was on the disk.
        await until(lambda: one.leaves()[Q] == 1)
        await one.set(update={Q: 4})

    run(first, tmp_path)
    run(second, tmp_path)
    run(third, tmp_path)


def test_the_time_is_over_while_it_was_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not confirmed is rolled back as soon as the agent is there again."""

    async def first(one: Target) -> None:
        await one.set(update={Q: 1})
        await one.set(update={Q: 2}, **begin())

    async def second(one: Target) -> None:
        await until(lambda: one.leaves()[Q] == 1)

    run(first, tmp_path)
    now = running.boot_s()
    monkeypatch.setattr(running, "boot_s", lambda: now + 2 * LONG_S)
    run(second, tmp_path)


def test_a_reboot_while_a_commit_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host has booted again: what was confirmed last is what is realised, at once."""

    async def first(one: Target) -> None:
        await one.set(update={Q: 1})
        await one.set(update={Q: 2}, **begin())

    async def second(one: Target) -> None:
        assert one.leaves()[Q] == 1
        assert one.running.health().state is State.OK

    run(first, tmp_path)
    monkeypatch.setattr(running, "boot_id", lambda: "another boot")
    run(second, tmp_path)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that cannot be kept is refused, and taken back in the kernel."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def story(one: Target) -> None:
        await one.set(update={Q: 1})
        with monkeypatch.context() as broken:
            broken.setattr("telemetryd.observe.chain.os.fsync", full)
            assert "No space left" in await one.refuses(update={Q: 2}, status="INTERNAL")
        await one.set(update={Q: 3})
        assert one.leaves()[Q] == 3

    run(story, tmp_path)


# --- a kernel that does not do as it is told --------------------------------------------------------------------------


class Moody(NoKernel):
    """Refuses what one leaf is set to, and everything while it is broken."""

    is_broken = False

    async def realise(self, old: Any, new: Any, changed: Any) -> None:
        await asyncio.sleep(0)
        if self.is_broken:
            raise RefusedError(running.INTERNAL, f"{CIR}: broken")
        if new.get(Q) == 66:
            raise RefusedError(running.INTERNAL, f"{Q}: not 66")
        await super().realise(old, new, changed)


def test_what_the_kernel_refuses() -> None:
    """A refusal of the kernel is that of the Set, with its path, and nothing has changed."""

    async def story(one: Target) -> None:
        await one.set(update={Q: 1})
        assert await one.refuses(update={Q: 66, CIR.replace("cir", "pir"): 9}, status="INTERNAL") == f"{Q}: not 66"
        await one.set(update={Q: 2})

    run(story, realiser=Moody())


def test_what_cannot_be_realised_at_the_start(tmp_path: Path) -> None:
    """It is said in health; a later Set works, and makes everything true again."""
    moody = Moody()

    async def first(one: Target) -> None:
        await one.set(update={Q: 1})

    async def second(one: Target) -> None:
        assert CIR in one.running.health().reasons[0]
        await one.refuses(update={Q: 2}, status="INTERNAL")
        moody.is_broken = False
        await one.set(update={Q: 3})
        assert one.running.health().state is State.OK

    run(first, tmp_path)
    moody.is_broken = True
    run(second, tmp_path, realiser=moody)


# --- the audit --------------------------------------------------------------------------------------------------------


def test_the_audit(tmp_path: Path) -> None:
    """Every Set is there, refused ones too: who, what was asked, old and new, what came of it."""

    async def story(one: Target) -> None:
        await one.set(update={Q: 1}, who="cn=controller")
        await one.refuses(update={Q: 256})
        await one.set("/qos", **begin(seconds=0.1))
        await until(lambda: bool(one.leaves()))
        while len(await asyncio.to_thread(StateDirectory(tmp_path).audit.records)) < 4:
            await asyncio.sleep(0.01)

    run(story, tmp_path)
    name = "/qos/queues/queue[name=q]/config/name"
    first, second, third, fourth = StateDirectory(tmp_path).audit.records()
    assert (first["name"], first["outcome"], first["asked"]) == ("cn=controller", "OK", {"update": [Q]})
    assert first["changed"] == [[name, None, "q"], [Q, None, 1]]
    assert (second["outcome"], second["changed"]) == ("INVALID_ARGUMENT", [])
    assert second["reason"].startswith(Q)
    assert third["commit"] == ["commit", "c1"]
    assert third["changed"] == [[name, "q", None], [Q, 1, None]]
    assert fourth["what"] == 'rolled back commit "c1": not confirmed in time'
    assert (fourth["name"], fourth["changed"]) == ("timer", first["changed"])
