"""The supervisor: order, drain, deadline, and a reason for every end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from telemetryd.component import Component
from telemetryd.errors import InputError, TelemetrydError
from telemetryd.observe.systemd import Notifier
from telemetryd.supervisor import Supervisor

DEADLINE_S = 30.0


class Recorded(Component):
    """A component that writes down what happens to it."""

    def __init__(
        self,
        name: str,
        diary: list[str],
        *,
        start: Exception | None = None,
        work: Callable[[], Awaitable[None]] | None = None,
        end: Exception | None = None,
        hangs: bool = False,
    ) -> None:
        super().__init__()
        self.name = name  # type: ignore[misc]
        self._diary, self._start, self._work, self._end, self._hangs = diary, start, work, end, hangs

    async def run(self) -> None:
        self._diary.append(f"{self.name} starts")
        if self._start is not None:
            raise self._start
        self.started.set()
        try:
            if self._work is not None:
                await self._work()
            else:
                await self.stopping.wait()
            self._diary.append(f"{self.name} finishes")
            if self._end is not None:
                raise self._end
            if self._hangs:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self._diary.append(f"{self.name} is cancelled")
            raise


def run(
    components: list[Component],
    story: Callable[[Supervisor], Awaitable[None]] | None = None,
    *,
    drain_s: float = DEADLINE_S,
    reload: Callable[[], Awaitable[object]] = lambda: asyncio.Event().wait(),
) -> tuple[int, Supervisor]:
    """Run a supervisor while a story is told; return exit code and supervisor."""

    async def whole() -> tuple[int, Supervisor]:
        supervisor = Supervisor(components, drain_s=drain_s, notifier=Notifier(), reload=reload, status=lambda: "ok")
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            running = group.create_task(supervisor.run())
            if story is not None:
                group.create_task(story(supervisor))  # type: ignore[arg-type]
        return running.result(), supervisor

    return asyncio.run(whole())


async def serving(supervisor: Supervisor) -> None:
    while not supervisor.is_serving:
        await asyncio.sleep(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_components_start_in_order_and_stop_in_reverse(number: signal.Signals) -> None:
    """Each starts when the one before serves; each finishes before the next is asked; a signal exits 0."""
    diary: list[str] = []

    async def story(supervisor: Supervisor) -> None:
        await serving(supervisor)
        os.kill(os.getpid(), number)

    code, supervisor = run([Recorded(name, diary) for name in "abc"], story)
    assert (code, supervisor.failure, supervisor.late) == (0, None, [])
    assert diary == [f"{n} starts" for n in "abc"] + [f"{n} finishes" for n in "cba"]


@pytest.mark.parametrize(
    ("error", "code"), [(RuntimeError("bug"), 1), (TelemetrydError("gone"), 1), (InputError("port"), 2)]
)
def test_a_failed_start_stops_what_was_started(error: Exception, code: int) -> None:
    """What comes after the failed one never starts; the exit code is the error's."""
    diary: list[str] = []
    found, supervisor = run([Recorded("a", diary), Recorded("b", diary, start=error), Recorded("c", diary)])
    assert found == code
    assert supervisor.failure is not None
    assert str(error) in str(supervisor.failure)
    assert diary == ["a starts", "b starts", "a finishes"]


def test_a_failure_drains_the_others() -> None:
    """An unexpected exception doesn't cancel its neighbours: they finish their work."""
    diary: list[str] = []

    async def fail() -> None:
        raise ZeroDivisionError("bug")

    code, supervisor = run([Recorded("a", diary), Recorded("b", diary, work=fail), Recorded("c", diary)])
    assert code == 1
    assert str(supervisor.failure) == "b: ZeroDivisionError: bug"
    assert "a finishes" in diary
    assert not any("cancelled" in line for line in diary)


def test_a_component_that_just_ends_is_a_failure() -> None:
    """Nothing dies silently."""

    async def end() -> None:
        return

    code, supervisor = run([Recorded("a", [], work=end)])
    assert (code, str(supervisor.failure)) == (1, "a ended by itself")


def test_a_failure_while_draining_is_one() -> None:
    """What fails in its last act makes the exit code, and the others still finish."""
    diary: list[str] = []

    async def story(supervisor: Supervisor) -> None:
        await serving(supervisor)
        supervisor.stop("test")
        supervisor.stop("again")

    code, _ = run([Recorded("a", diary), Recorded("b", diary, end=TelemetrydError("disk"))], story)
    assert code == 1
    assert diary[-1] == "a finishes"


def test_who_is_late_is_cancelled() -> None:
    """The deadline of the drain holds for all together; who is cancelled makes the exit code 1."""
    diary: list[str] = []

    async def story(supervisor: Supervisor) -> None:
        await serving(supervisor)
        supervisor.stop("test")

    code, supervisor = run([Recorded("a", diary), Recorded("b", diary, hangs=True)], story, drain_s=0.05)
    assert (code, supervisor.late) == (1, ["b"])
    assert "b is cancelled" in diary
    assert "a finishes" in diary


def test_signals_to_reload_are_taken_one_at_a_time() -> None:
    """SIGHUP reloads; those that come during a reload are one more; the daemon goes on."""
    reloads: list[int] = []
    gate = asyncio.Event()

    async def reload() -> None:
        reloads.append(1)
        await gate.wait()

    async def story(supervisor: Supervisor) -> None:
        await serving(supervisor)
        for expected in (1, 1, 1):
            os.kill(os.getpid(), signal.SIGHUP)
            while len(reloads) < expected:
                await asyncio.sleep(0)
        gate.set()
        while len(reloads) < 2:
            await asyncio.sleep(0)
        supervisor.stop("test")

    code, _ = run([Recorded("a", [])], story, reload=reload)
    assert code == 0
    assert len(reloads) == 2


def test_a_reload_that_breaks_ends_the_daemon() -> None:
    """A mistake of the operator is a result; anything that the reload raises is a failure."""

    async def reload() -> None:
        raise KeyError("bug")

    async def story(supervisor: Supervisor) -> None:
        await serving(supervisor)
        os.kill(os.getpid(), signal.SIGHUP)

    code, supervisor = run([Recorded("a", [])], story, reload=reload)
    assert (code, str(supervisor.failure)) == (1, "reload: KeyError: 'bug'")
