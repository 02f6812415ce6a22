"""A subscription that is kept up: encodings, waits, states, budgets, and what comes of it all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from telemetryd.ingest.gnmi import target as target_module
from telemetryd.ingest.gnmi.backoff import Backoff
from telemetryd.ingest.gnmi.path import parse
from telemetryd.ingest.gnmi.paths import PathTable
from telemetryd.ingest.gnmi.subscription import ListMode, Mode, Subscription, Wanted, get_request, subscribe_request
from telemetryd.ingest.gnmi.target import Phase, Target
from telemetryd.ingest.gnmi.vendors import PROFILES, Profile, choose_encoding
from telemetryd.proto import gnmi_pb2
from telemetryd.schema import UpdateBatch
from tests.gnmi_client import endpoint
from tests.gnmi_messages import notification, sync, update
from tests.gnmi_server import GrpcioTarget

SECOND_NS = 1_000_000_000
PROTO, JSON, JSON_IETF = gnmi_pb2.PROTO, gnmi_pb2.JSON, gnmi_pb2.JSON_IETF


def test_waits_grow_and_differ() -> None:
    """Waits are random, never shorter than the first nor longer than the last, and short again after a reset."""
    backoffs = [Backoff(1.0, 20.0, random.Random(seed)) for seed in range(200)]
    rounds = [[one.next_s() for one in backoffs] for _ in range(10)]
    assert all(1.0 <= wait <= 20.0 for waits in rounds for wait in waits)
    assert sum(rounds[0]) < sum(rounds[3]) < sum(rounds[9])
    # No herd: in no second does more than a fifth of all targets come back.
    for waits in rounds[4:]:
        assert max(sum(second <= wait < second + 1 for wait in waits) for second in range(20)) <= 40 + 200 // 20
    for one in backoffs:
        one.reset()
    assert max(one.next_s() for one in backoffs) <= 3.0


@pytest.mark.parametrize(
    ("profile", "offered", "chosen"),
    [
        ("generic", {JSON, JSON_IETF, PROTO}, PROTO),
        ("generic", {JSON, JSON_IETF}, JSON_IETF),
        ("generic", set(), PROTO),
        ("huawei", {JSON, PROTO}, JSON),
        ("huawei", set(), JSON_IETF),
        ("cisco-nxos", {gnmi_pb2.ASCII}, gnmi_pb2.ASCII),
        ("juniper", {JSON}, PROTO),
    ],
)
def test_the_encoding_is_the_best_that_is_offered(profile: str, offered: set[int], chosen: int) -> None:
    """The profile's order decides among what Capabilities lists, unless that is not to be believed."""
    assert choose_encoding(PROFILES[profile], frozenset(offered)) == chosen


def wanted(**options: Any) -> Wanted:
    options.setdefault("endpoint", endpoint(1, "fast"))
    options.setdefault("subscriptions", (Subscription(parse("/a"), Mode.SAMPLE, SECOND_NS),))
    return Wanted("sw1", **options)


def test_requests_say_what_is_wanted() -> None:
    """Modes, intervals, prefix, origin and extension are in the first message."""
    asked = wanted(
        subscriptions=(
            Subscription(parse("/a"), Mode.SAMPLE, SECOND_NS, suppress_redundant=True, heartbeat_ns=60 * SECOND_NS),
            Subscription(parse("/b"), Mode.ON_CHANGE),
        ),
        profile=Profile(origin="openconfig", needs_prefix=True, least_heartbeat_s=300),
        target="leaf-7",
        updates_only=True,
        depth=2,
    )
    request = gnmi_pb2.SubscribeRequest.FromString(subscribe_request(asked, JSON_IETF))
    listed = request.subscribe
    assert (listed.prefix.target, listed.encoding, listed.updates_only) == ("leaf-7", JSON_IETF, True)
    assert request.extension[0].depth.level == 2
    first, second = listed.subscription
    assert (first.path.origin, first.mode, first.sample_interval) == ("openconfig", gnmi_pb2.SAMPLE, SECOND_NS)
    assert (first.suppress_redundant, first.heartbeat_interval) == (True, 300 * SECOND_NS)
    assert (second.mode, second.sample_interval, second.heartbeat_interval) == (gnmi_pb2.ON_CHANGE, 0, 0)
    get = gnmi_pb2.GetRequest.FromString(get_request([parse("/a")], Profile(needs_prefix=True), JSON, kind="STATE"))
    assert get.HasField("prefix") and get.type == gnmi_pb2.GetRequest.STATE


class Kept:
    """A target that is kept subscribed, and the rows that came."""

    def __init__(self, options: Wanted) -> None:
        self.paths, self.batch = PathTable(), UpdateBatch(64, 1 << 16)
        self.rows: list[tuple[str, Any]] = []
        self.target = Target(options, 0, self.paths, self.batch, self.empty, asyncio.Semaphore(4))

    def empty(self) -> None:
        self.rows += [
            (self.paths.text(int(self.batch["path"][row])), self.batch.value(row)) for row in range(self.batch.n)
        ]
        self.batch.clear()

    async def until(self, done: Any) -> None:
        async with asyncio.timeout(30):
            while not done():
                await asyncio.sleep(0.01)
        self.empty()


async def capabilities(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    return bytes(gnmi_pb2.CapabilityResponse(supported_encodings=[JSON, PROTO]).SerializeToString())


@pytest.mark.parametrize("transport", ["fast", "grpc"])
def test_a_target_that_goes_and_comes_back(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values come, the state says how it is, and after the target's death it is subscribed to again."""
    monkeypatch.setattr(target_module, "Backoff", lambda: Backoff(0.02, 0.05))

    async def serve(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await anext(incoming)
        yield notification(update("/a/x", uint_val=1))
        yield sync()
        yield notification(update("/a/x", uint_val=2))
        await asyncio.Event().wait()

    async def story() -> None:
        peer = GrpcioTarget(serve, {"Capabilities": capabilities})
        async with peer:
            kept = Kept(wanted(endpoint=endpoint(peer.port, transport)))
            running = asyncio.create_task(kept.target.run())
            await kept.until(lambda: kept.target.state.counts.get("updates") == 2)
            await kept.until(lambda: kept.target.state.phase is Phase.STREAMING)
            assert kept.rows == [("/a/x", 1), ("", None), ("/a/x", 2)]
            assert (kept.target.state.encoding, kept.target.state.connections) == ("PROTO", 1)
            kept.target.measure()
            assert kept.target.state.delay_ns is not None
        await kept.until(lambda: kept.target.state.phase is Phase.WAITING)
        assert kept.target.state.reason
        async with peer:
            await kept.until(lambda: kept.target.state.counts.get("updates") == 4)
            assert kept.target.state.connections == 2
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(story())


def test_once_ends() -> None:
    """ONCE is complete when the target ends the stream, not at sync_response; without Capabilities it works too."""

    async def serve(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        request = gnmi_pb2.SubscribeRequest.FromString(await anext(incoming))
        assert request.subscribe.mode == gnmi_pb2.SubscriptionList.ONCE
        yield sync()
        yield notification(update("/a/x", uint_val=1))

    async def story() -> None:
        async with GrpcioTarget(serve) as peer:
            kept = Kept(wanted(endpoint=endpoint(peer.port, "fast"), list_mode=ListMode.ONCE))
            async with asyncio.timeout(30):
                await kept.target.run()
            kept.empty()
            assert kept.target.state.phase is Phase.ENDED
            assert ("/a/x", 1) in kept.rows

    asyncio.run(story())


def test_a_target_beyond_its_share_is_slowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever floods is read more slowly; nothing is lost, and the state says so."""
    monkeypatch.setattr(target_module, "BURST_S", 0.0)
    burst = [notification(*(update(f"/a/x[k={i}]", string_val="v") for i in range(60)))] * 400

    async def serve(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await anext(incoming)
        for message in burst:
            yield message

    async def story() -> None:
        async with GrpcioTarget(serve) as peer:
            options = wanted(
                endpoint=endpoint(peer.port, "fast"), list_mode=ListMode.ONCE, cpu_share=0.01, encoding=PROTO
            )
            kept = Kept(options)
            async with asyncio.timeout(60):
                await kept.target.run()
            kept.empty()
            assert kept.target.state.slowed > 0
            assert len(kept.rows) == 400 * 60

    asyncio.run(story())
