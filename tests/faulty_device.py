"""Devices in memory that go wrong on purpose, and a loop whose time passes at once: faults by the thousand."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeVar

from telemetryd.enforce.device import CommitTimer, LostError, Reading, RefusedError, Traits
from telemetryd.enforce.diff import Write, apply
from telemetryd.enforce.names import Value

T = TypeVar("T")

#: What a device does wrong once, at the call that it was armed for.
WRITE_FAULTS: Final = (
    "refuse",  # INVALID_ARGUMENT, nothing changed
    "exhausted",  # RESOURCE_EXHAUSTED, nothing changed
    "lost after applying",  # UNAVAILABLE after the change
    "lost before applying",
    "late",  # DEADLINE_EXCEEDED, and it applies later
    "drop a leaf",  # says OK and leaves a leaf out
    "drop a leaf in state",  # config shows it, state does not
    "disconnect",  # gone for a while, before the change
    "disconnect after",  # gone for a while, after the change
    "reboot keeping",  # after the change, which it has saved
    "reboot losing",  # after the change, back to what it started with
    "pretend",  # says OK and does nothing
)
READ_FAULTS: Final = ("garbage", "unreachable", "disconnect")
ROUND_S: Final = 1.0
LATE_S: Final = (3.0, 30.0)
DEADLINE_S: Final = 10.0


class KilledError(BaseException):
    """The process was killed: nothing of it runs any more."""


@dataclass
class Life:
    """Counts what a process does, and kills it before, or after, one of them."""

    kill_at: int = -1
    done: int = 0
    is_dead: bool = False
    log: list[str] = field(default_factory=list)

    def step(self, what: str) -> None:
        if self.is_dead:
            raise KilledError
        self.log.append(what)
        if self.done == self.kill_at:
            self.is_dead = True
            raise KilledError
        self.done += 1


class FaultyDevice:
    """See :class:`telemetryd.enforce.device.Device`. It is strict: what dangles is refused.

    Parameters
    ----------
    config:
        What it has, of others too.
    faults:
        (call number of this kind, fault), for writes and reads.
    """

    def __init__(
        self,
        name: str,
        config: dict[str, Value],
        traits: Traits = Traits(),  # noqa: B008 - frozen
        *,
        check: Callable[[dict[str, Value]], list[str]] = lambda leaves: [],
    ) -> None:
        self._name, self._traits = name, traits
        self.config = dict(config)
        self.startup = dict(config)
        self.first = dict(config)
        self.dropped_in_state: set[str] = set()
        self.faults: dict[tuple[str, int], str] = {}
        self.calls = {"write": 0, "read": 0}
        self.sets: list[list[Write]] = []
        self.seen: list[dict[str, Value]] = [dict(config)]
        self.unreachable_until_s = 0.0
        self.commit: tuple[str, float, dict[str, Value]] | None = None
        self.hit: list[str] = []
        self.life: Life | None = None
        #: How much faster time passes than it is told here: 1 where nobody waits.
        self.hurry = 1.0
        self.random = Random(name)
        self._check = check
        self._late: list[tuple[float, list[Write]]] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def traits(self) -> Traits:
        return self._traits

    # --- time -------------------------------------------------------------------------------------------------------

    def settle_time(self) -> None:
        """Do what was due: late writes, the timer of a commit."""
        now_s = asyncio.get_running_loop().time()
        for due_s, writes in list(self._late):
            if due_s <= now_s:
                self._late.remove((due_s, writes))
                self._apply(writes)
        if self.commit is not None and self.commit[1] <= now_s:
            self._become(self.commit[2])
            self.commit = None

    def flush_late(self) -> None:
        """Do what is late: a device does one Set after the other."""
        for due_s, writes in self._late:
            self._late = [one for one in self._late if one[0] != due_s]
            self._apply(writes)

    # --- calls ------------------------------------------------------------------------------------------------------

    async def read(self) -> Reading:
        await self._reach("read")
        return self._reading()

    async def read_leaves(self, paths: Iterable[str]) -> Reading:
        await self._reach("read")
        found = self._reading()
        wanted = set(paths)
        return Reading(
            {path: value for path, value in found.config.items() if path in wanted},
            {path: value for path, value in found.state.items() if path in wanted},
        )

    async def write(self, writes: Sequence[Write], timer: CommitTimer | None = None) -> None:
        fault = await self._reach("write")
        self.flush_late()
        loop = asyncio.get_running_loop()
        if self.commit is not None:
            raise RefusedError(f"{self.name}: FAILED_PRECONDITION: a commit is under way")
        if fault in ("refuse", "exhausted"):
            raise RefusedError(f"{self.name}: {fault}")
        if fault == "lost before applying":
            raise LostError(f"{self.name}: UNAVAILABLE")
        if fault == "disconnect":
            self._leave()
            raise LostError(f"{self.name}: connection lost")
        if fault == "late":
            self._late.append((loop.time() + (DEADLINE_S + self.random.choice(LATE_S)) / self.hurry, list(writes)))
            await asyncio.sleep(DEADLINE_S / self.hurry)
            raise LostError(f"{self.name}: DEADLINE_EXCEEDED")
        writes = list(writes)
        if fault == "pretend":
            writes = []
        if fault == "drop a leaf":
            places = [i for i, write in enumerate(writes) if write.value is not None]
            if places:
                del writes[self.random.choice(places)]
            fault = ""
            wrong = []
        else:
            wrong = self._check(apply(self.config, writes))
        if wrong:
            raise RefusedError(f"{self.name}: INVALID_ARGUMENT: {wrong[0]}")
        if timer is not None:
            self.commit = timer.id, loop.time() + timer.seconds, dict(self.config)
        if fault == "drop a leaf in state":
            leaves = [write.path for write in writes if write.value is not None]
            self.dropped_in_state |= set(leaves[:1])
        self.sets.append(writes)
        self._apply(writes)
        if fault in ("reboot keeping", "reboot losing"):
            if fault == "reboot keeping" and self.commit is None:
                self.startup = dict(self.config)
            self.reboot()
            raise LostError(f"{self.name}: connection lost")
        if fault == "disconnect after":
            self._leave()
        if fault in ("lost after applying", "disconnect after"):
            raise LostError(f"{self.name}: UNAVAILABLE")
        if self.commit is None:
            self.startup = dict(self.config)

    async def confirm(self, commit: str) -> bool:
        await self._reach("settle")
        if self.commit is None or self.commit[0] != commit:
            return False
        self.commit = None
        self.startup = dict(self.config)
        return True

    async def cancel(self, commit: str) -> bool:
        await self._reach("settle")
        if self.commit is None or self.commit[0] != commit:
            return False
        self._become(self.commit[2])
        self.commit = None
        return True

    async def extend(self, commit: str, seconds: float) -> None:
        await self._reach("settle")
        if self.commit is None or self.commit[0] != commit:
            raise RefusedError(f"{self.name}: no such commit")
        self.commit = commit, asyncio.get_running_loop().time() + seconds, self.commit[2]

    # --- inside -----------------------------------------------------------------------------------------------------

    def reboot(self) -> None:
        """Start with what was saved; a commit that was not confirmed is gone."""
        if self.commit is not None:
            self.startup = dict(self.commit[2])
            self.commit = None
        self._late.clear()
        self._become(self.startup)
        self._leave()

    async def _reach(self, kind: str) -> str:
        """Be called; return the fault of this call."""
        if self.life is not None:
            self.life.step(f"{self.name} {kind}")
        await asyncio.sleep(0.01 / self.hurry)
        self.settle_time()
        if asyncio.get_running_loop().time() < self.unreachable_until_s:
            raise LostError(f"{self.name}: cannot be reached")
        number = self.calls.get(kind, 0)
        self.calls[kind] = number + 1
        fault = self.faults.pop((kind, number), "")
        if fault:
            self.hit.append(fault)
        if fault in ("garbage", "unreachable"):
            raise LostError(f"{self.name}: {fault}")
        if kind == "read" and fault == "disconnect":
            self._leave()
            raise LostError(f"{self.name}: connection lost")
        return fault

    def _leave(self) -> None:
        self.unreachable_until_s = asyncio.get_running_loop().time() + self.random.uniform(1.0, 60.0) / self.hurry

    def _reading(self) -> Reading:
        state = {path: value for path, value in self.config.items() if path not in self.dropped_in_state}
        return Reading(dict(self.config), state)

    def _apply(self, writes: Sequence[Write]) -> None:
        self._become(apply(self.config, writes))

    def _become(self, config: dict[str, Value]) -> None:
        self.config = dict(config)
        self.seen.append(self.config)


# --- time that passes at once -----------------------------------------------------------------------------------------


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    passed_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everybody waits for ever")
        self.passed_s += max(0.0, timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._quick = _Selector()
        super().__init__(self._quick)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        # In this thread: time must not pass while another one works.
        future = self.create_future()
        try:
            future.set_result(func(*arguments))
        except BaseException as error:  # noqa: BLE001 - handed on
            future.set_exception(error)
        return future

    def time(self) -> float:
        return 1000.0 + self._quick.passed_s


def run_quickly(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop where nobody waits: time passes whenever there is nothing to do."""
    loop = _Loop()
    try:
        return loop.run_until_complete(work)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
