"""Many targets on one loop: reload, states, and targets that misbehave, which are named and harm nobody."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from telemetryd.ingest.gnmi import condition
from telemetryd.ingest.gnmi import target as target_module
from telemetryd.ingest.gnmi.backoff import Backoff
from telemetryd.ingest.gnmi.login import Login, Secret
from telemetryd.ingest.gnmi.path import parse
from telemetryd.ingest.gnmi.paths import PathTable
from telemetryd.ingest.gnmi.subscription import ListMode, Mode, Subscription, Wanted
from telemetryd.ingest.gnmi.target import Phase
from telemetryd.ingest.gnmi.transport import Tls
from telemetryd.observe.health import OK, State
from telemetryd.proto import gnmi_pb2
from telemetryd.schema import UpdateBatch
from telemetryd.serve.target_rows import target_rows
from telemetryd.subscriber import Subscriber
from telemetryd.targets import TargetPlan
from tests.gnmi_client import endpoint
from tests.gnmi_messages import notification, sync, update
from tests.gnmi_server import BEGIN, FramePeer, GrpcioTarget

SECOND_NS = 1_000_000_000
TIMEOUT_S = 60.0
IN_OCTETS = "/interfaces/interface[name=eth0]/state/counters/in-octets"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon, and look often."""
    monkeypatch.setattr(target_module, "Backoff", lambda: Backoff(0.02, 0.1))
    monkeypatch.setattr("telemetryd.subscriber.MEASURE_S", 0.1)


def plan(name: str, port: int, **options: Any) -> TargetPlan:
    where = endpoint(port, options.pop("transport", "fast"), **options.pop("endpoint", {}))
    login = options.pop("login", Login())
    options.setdefault("subscriptions", (Subscription(parse(IN_OCTETS), Mode.SAMPLE, SECOND_NS),))
    options.setdefault("encoding", gnmi_pb2.PROTO)
    return TargetPlan(Wanted(name, where, **options), login, False, 64, SECOND_NS)


async def counting(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    """Serve a counter, as a target does that is well."""
    await anext(incoming)
    number = 0
    while True:
        yield notification(update(IN_OCTETS, uint_val=number), timestamp=time.time_ns())
        if not number:
            yield sync()
        number += 1
        await asyncio.sleep(0.05)


class Watched:
    """A running subscriber, and the rows of each target."""

    def __init__(self, *plans: TargetPlan) -> None:
        self.rows: Counter[str] = Counter()
        self.subscriber = Subscriber(plans, 16, self._take)

    def _take(self, batch: UpdateBatch, paths: PathTable, plans: Mapping[int, TargetPlan]) -> None:
        for number, count in Counter(batch["target"][: batch.n].tolist()).items():
            if number in plans:
                self.rows[plans[number].name] += count

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.subscriber.run())
        try:
            yield
            self.subscriber.stop()
            async with asyncio.timeout(TIMEOUT_S):
                await task
        finally:
            task.cancel()

    async def until(self, done: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while not done():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError([(one.name, one.state, one.troubles) for one in self.subscriber.counters()]) from None

    def said(self, name: str) -> str:
        """Return what is said of a target."""
        return "; ".join(trouble for one in self.subscriber.counters() if one.name == name for trouble in one.troubles)

    async def more_of(self, name: str, count: int = 10) -> None:
        """Wait until a target has sent so much more."""
        before = self.rows[name]
        await self.until(lambda: self.rows[name] >= before + count)


def test_a_reload_changes_what_it_has_to() -> None:
    """Targets that are new are subscribed to, those that left are not, and those that stayed keep their stream."""

    async def story() -> None:
        async with GrpcioTarget(counting) as one, GrpcioTarget(counting) as two, GrpcioTarget(counting) as three:
            kept, left, changed = plan("kept", one.port), plan("left", two.port), plan("changed", three.port)
            watched = Watched(kept, left, changed)
            async with watched.running():
                await watched.until(lambda: len(watched.rows) == 3)
                assert watched.subscriber.health() == OK
                other = plan("changed", three.port, target="x")
                new = plan("new", two.port)
                watched.subscriber.replace([plan("kept", one.port), other, new], 4)
                await watched.until(
                    lambda: {"kept", "changed", "new"} == {c.name for c in watched.subscriber.counters()}
                )
                await asyncio.gather(*(watched.more_of(name) for name in ("kept", "changed", "new")))
                assert len(one.calls) == 1
                assert len(three.requests) == 2
                assert gnmi_pb2.SubscribeRequest.FromString(three.requests[1]).subscribe.prefix.target == "x"
            assert not any(task.get_name().startswith("gnmi:") for task in asyncio.all_tasks())

    asyncio.run(story())


def test_rows_say_how_a_target_is() -> None:
    """Phase, encoding, skew, interval and counts are in the row of a target that is well."""

    async def story() -> None:
        async with GrpcioTarget(counting) as peer:
            watched = Watched(plan("sw1", peer.port))
            async with watched.running():
                await watched.until(lambda: any(one.achieved_ns is not None for one in watched.subscriber.counters()))
                (row,) = target_rows(watched.subscriber.counters())
        assert (row["name"], row["phase"], row["encoding"], row["secure"]) == ("sw1", "streaming", "PROTO", False)
        assert row["skew_ns"] is not None and row["asked_ns"] == SECOND_NS
        assert row["counts"]["updates"] > 1 and row["counts"]["connections"] == 1

    asyncio.run(story())


@pytest.mark.parametrize("transport", ["fast", "grpc"])
def test_polls_are_asked_for_and_answered(transport: str) -> None:
    """POLL asks once an interval, and not before the last answer is complete; who does not answer is left."""

    async def serve(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await anext(incoming)
        answered = 0
        async for request in incoming:
            assert gnmi_pb2.SubscribeRequest.FromString(request).WhichOneof("request") == "poll"
            answered += 1
            if answered > 3:
                await asyncio.Event().wait()
            yield notification(update(IN_OCTETS, uint_val=answered), timestamp=time.time_ns())
            yield sync()

    async def story() -> None:
        async with GrpcioTarget(serve) as peer:
            subscriptions = (Subscription(parse(IN_OCTETS), Mode.SAMPLE, SECOND_NS // 20),)
            watched = Watched(
                plan("sw1", peer.port, transport=transport, list_mode=ListMode.POLL, subscriptions=subscriptions)
            )
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(target_module, "POLL_TIMEOUT_S", 0.3)
                async with watched.running():
                    await watched.until(lambda: watched.rows["sw1"] >= 6)
                    await watched.until(lambda: len(peer.calls) > 1)

    asyncio.run(story())


# --- targets that misbehave --------------------------------------------------------------------------------------------

Story = Callable[[AsyncIterator[bytes], Any], AsyncIterator[bytes]]


async def refuses(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    import grpc

    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you")
    yield b""


async def floods(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    await anext(incoming)
    burst = notification(*(update(f"/a/b[k={i}]/c", string_val="v" * 50) for i in range(500)))
    yield sync()
    while True:
        yield burst


@cache
def much() -> bytes:
    return notification(update("/a/b", string_val="x" * (24 << 20)))


async def sends_much(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    await anext(incoming)
    yield much()
    await asyncio.Event().wait()


async def deletes_everything(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    await anext(incoming)
    yield sync()
    while True:
        yield notification(deletes=["/", "/interfaces/interface"])
        await asyncio.sleep(0.01)


async def knows_no_time(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    await anext(incoming)
    yield sync()
    while True:
        yield notification(update(IN_OCTETS, uint_val=1), timestamp=0)
        await asyncio.sleep(0.01)


async def is_ahead(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    await anext(incoming)
    yield sync()
    while True:
        yield notification(update(IN_OCTETS, uint_val=1), timestamp=time.time_ns() + 3600 * SECOND_NS)
        await asyncio.sleep(0.01)


async def sends_rubbish(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    await anext(incoming)
    yield sync()
    while True:
        yield b"\xff\xff\xff"
        await asyncio.sleep(0.01)


async def is_silent(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    await anext(incoming)
    yield sync()
    await asyncio.Event().wait()


async def has_many_paths(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    await anext(incoming)
    yield sync()
    number = 0
    while True:
        number += 1
        yield notification(update(f"/a/b[k={number}]/c", uint_val=1), timestamp=time.time_ns())
        await asyncio.sleep(0)


MAD: dict[str, tuple[Story, str, dict[str, Any]]] = {
    "refuses": (refuses, "refused: UNAUTHENTICATED: who are you", {}),
    "floods": (floods, "slowed: it takes more than its share", {"cpu_share": 0.01}),
    "sends much": (sends_much, "RESOURCE_EXHAUSTED", {}),
    "deletes everything": (deletes_everything, "deletes were sent in the last minute", {}),
    "knows no time": (knows_no_time, "without a usable time: ours was taken", {}),
    "is ahead": (is_ahead, "ahead of ours", {}),
    "sends rubbish": (sends_rubbish, "damaged messages were refused", {}),
    "is silent": (is_silent, "silent for", {}),
    "has many paths": (has_many_paths, "more different paths than gnmi.paths", {"most_paths": 10}),
}


@pytest.mark.parametrize("case", MAD.values(), ids=MAD)
def test_a_target_that_misbehaves_is_named_and_harms_nobody(
    case: tuple[Story, str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong is said of the target that is wrong; the others go on, and it is given up nowhere."""
    serve, says, options = case
    monkeypatch.setattr(condition, "SILENT_NS", SECOND_NS // 2)
    monkeypatch.setattr(condition, "SILENT_INTERVALS", 0)

    async def story() -> None:
        async with GrpcioTarget(serve) as mad, GrpcioTarget(counting) as one, GrpcioTarget(counting) as two:
            watched = Watched(plan("mad", mad.port, **options), plan("one", one.port), plan("two", two.port))
            async with watched.running():
                await watched.until(lambda: says in watched.said("mad"))
                await asyncio.gather(watched.more_of("one"), watched.more_of("two"))
                health = watched.subscriber.health()
                assert health.state is State.DEGRADED
                assert any(reason.startswith("mad: ") for reason in health.reasons)
                assert all(one.state.connections == 1 for one in watched.subscriber.counters() if one.name != "mad")

    asyncio.run(story())


def test_a_connection_that_goes_dead_is_found() -> None:
    """A peer that answers no PING is left after the time for it and tried again; the others do not notice."""

    async def story() -> None:
        async with FramePeer(BEGIN, acknowledge=False) as dead, GrpcioTarget(counting) as well:
            watched = Watched(
                plan("dead", dead.port, endpoint={"keepalive_s": 0.2}), plan("well", well.port), plan("gone", 1)
            )
            async with watched.running():
                await watched.until(lambda: "UNAVAILABLE" in watched.said("dead"))
                await watched.until(lambda: "UNAVAILABLE" in watched.said("gone"))
                await watched.more_of("well")

    asyncio.run(story())


def test_mistakes_of_settings_are_states_of_their_target() -> None:
    """Files that are not there, and faults of ours, are said of the target; the others go on, and it is tried again."""

    async def story() -> None:
        async with GrpcioTarget(counting) as well:
            no_secret = plan("no secret", well.port, login=Login("me", Secret(credential="x")))
            no_ca = plan("no ca", well.port, endpoint={"tls": Tls(ca=Path("/nowhere/ca.pem"))})
            fault = plan("fault", well.port, subscriptions=(Subscription(parse("/a"), Mode.SAMPLE, -5),))
            watched = Watched(no_secret, no_ca, fault, plan("well", well.port))
            async with watched.running():
                await watched.until(lambda: "LoadCredential=x" in watched.said("no secret"))
                await watched.until(lambda: "/nowhere/ca.pem" in watched.said("no ca"))
                await watched.until(lambda: "internal error" in watched.said("fault"))
                await watched.more_of("well")

    asyncio.run(story())


def test_a_target_that_knows_only_counters_is_asked_for_those() -> None:
    """Who refuses the whole subscription gets the smaller one, and its row says so."""
    import grpc

    async def serve(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        request = gnmi_pb2.SubscribeRequest.FromString(await anext(incoming))
        if len(request.subscribe.subscription) > 1:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such path")
        yield sync()
        yield notification(update(IN_OCTETS, uint_val=1))
        await asyncio.Event().wait()

    async def story() -> None:
        counters = Subscription(parse(IN_OCTETS), Mode.SAMPLE, SECOND_NS)
        both = (counters, Subscription(parse("/x"), Mode.ON_CHANGE))
        async with GrpcioTarget(serve) as peer:
            watched = Watched(plan("old", peer.port, subscriptions=both, fallback=(counters,)))
            async with watched.running():
                await watched.until(lambda: "only counters of interfaces" in watched.said("old"))
                await watched.until(lambda: watched.subscriber.counters()[0].state.phase is Phase.STREAMING)

    asyncio.run(story())
