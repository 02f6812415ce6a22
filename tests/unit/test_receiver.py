"""The receiver component: what it does with its engine, and how it says how that is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from telemetryd.classify.compile import compile_registry
from telemetryd.component import Component
from telemetryd.config.settings import Listen
from telemetryd.errors import InputError
from telemetryd.ingest.generate.profiles import known_truth
from telemetryd.observe.health import OK, State
from telemetryd.receiver import RECENT_SAMPLES, LiveReceiver
from telemetryd.schema import UsageWindow
from tests.daemon_process import send
from tests.small_city import small_city

DEADLINE_S = 60


def receiver(on_window: Callable[[UsageWindow], None] = lambda window: None, **listen: object) -> LiveReceiver:
    settings = Listen.model_validate({"port": 0, "sources": "any", **listen})
    return LiveReceiver(settings, 0, compile_registry(small_city()), on_window, 20.0, {})


def at(component: LiveReceiver) -> tuple[str, int]:
    host, _, port = component.endpoints[0].rpartition(":")
    return host.strip("[]"), int(port)


def some_datagrams() -> list[bytes]:
    (block,) = known_truth(1, 1, 1, packets_per_s=50, departments=2, applications=2, cores=1)
    return [
        block.buffer[offset : offset + length].tobytes()
        for offset, length in zip(block.offsets.tolist(), block.lengths.tolist(), strict=True)
    ]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


async def started(component: Component) -> asyncio.Task[None]:
    task = asyncio.create_task(component.run())
    async with asyncio.timeout(DEADLINE_S):
        await component.started.wait()
    return task


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_windows_are_handed_on_and_a_stop_flushes_the_open_one(address: str) -> None:
    """Every datagram that was sent before the stop is in a window after it."""
    windows: list[UsageWindow] = []
    component = receiver(windows.append, address=address, sockets=2)

    async def story() -> None:
        task = await started(component)
        assert len(component.endpoints) == 2
        assert component.health() == OK
        sent = send(at(component), some_datagrams())
        component.stop()
        async with asyncio.timeout(DEADLINE_S):
            await task
        counters = component.counters()
        assert counters is not None
        assert sum(one.processed for one in counters.sockets) == sent

    asyncio.run(story())
    assert sum(int(window.columns["samples"].sum()) for window in windows) > 0


def test_a_failing_thread_ends_the_component_with_its_reason() -> None:
    """What a thread of the engine raises is raised by the component, so that the daemon ends with it."""

    def fail(window: UsageWindow) -> None:
        raise ZeroDivisionError("bug")

    component = receiver(fail)

    async def story() -> None:
        task = await started(component)
        send(at(component), some_datagrams())
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(ZeroDivisionError, match="bug"):
                await task
        assert component.health().state == State.FAILED
        assert "ZeroDivisionError: bug" in component.health().reasons[0]

    asyncio.run(story())


def test_an_address_of_another_host_is_refused() -> None:
    """An address that this host doesn't have is a mistake of the operator."""
    with pytest.raises(InputError, match="no address of this host"):
        asyncio.run(receiver(address="192.0.2.1").run())


def test_strangers_are_refused_and_said(caplog: pytest.LogCaptureFixture) -> None:
    """With registered senders only, others are counted; the log and the health say so, and what to do."""
    caplog.set_level("INFO", "telemetryd")
    component = receiver(sources="registered")

    async def story() -> None:
        task = await started(component)
        send(at(component), some_datagrams())
        await until(lambda: any("unknown senders" in record.message for record in caplog.records))
        await until(lambda: any("unknown senders" in reason for reason in component.health().reasons))
        component.stop()
        async with asyncio.timeout(DEADLINE_S):
            await task

    asyncio.run(story())
    (record,) = [record for record in caplog.records if "unknown senders" in record.message][:1]
    assert record.__dict__["fields"]["senders"] == "127.0.0.1"


def test_loss_is_a_state_for_a_minute() -> None:
    """Drops make the receiver degraded; a minute without any, and it is well again."""
    component = receiver()

    async def story() -> None:
        task = await started(component)
        counters = component.counters()
        assert counters is not None
        (one,) = counters.sockets
        component._note(counters)
        # The kernel's drops cannot be made to order without a flood; the counts can.
        object.__setattr__(one, "kernel_drops", 7)
        component._note(counters)
        health = component.health()
        assert health.state == State.DEGRADED
        assert health.reasons[0].startswith("7 datagrams dropped by the kernel")
        for _ in range(RECENT_SAMPLES):
            component._note(counters)
        assert component.health() == OK
        object.__setattr__(one, "keep_share", 0.5)
        component._note(counters)
        assert component.health().reasons == ("overload: 50% of the datagrams are processed now",)
        component.stop()
        async with asyncio.timeout(DEADLINE_S):
            await task

    asyncio.run(story())


def test_a_stall_is_a_failure_while_it_runs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without progress the receiver is failed and not alive; once drained, its threads need not move any more."""
    component = receiver()

    async def story() -> None:
        task = await started(component)
        monkeypatch.setattr("telemetryd.receiver.STALLED_NS", 0)
        assert not component.is_alive()
        assert "has made no progress" in component.health().reasons[0]
        assert component.health().state == State.FAILED
        component.stop()
        async with asyncio.timeout(DEADLINE_S):
            await task
        assert component.is_alive()
        assert component.health() == OK

    asyncio.run(story())


def test_before_it_runs_it_is_inert() -> None:
    """Making the component opens nothing; it has no counts and no complaints."""
    component = receiver()
    assert component.counters() is None
    assert component.health() == OK
    assert component.is_alive()
    component.swap(compile_registry(small_city()))
