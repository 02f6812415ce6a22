"""What both gNMI transports do with a server that is not ours (grpcio's): streams, metadata, sizes, endings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from telemetryd.ingest.gnmi.grpc_aio import unary
from telemetryd.ingest.gnmi.transport import Credentials, Status, TransportError, open_transport
from tests.gnmi_client import TIMEOUT_S, Taken, endpoint, requests, subscribe
from tests.gnmi_server import GrpcioTarget

TRANSPORTS = ("fast", "grpc")
pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)
Requests = AsyncIterator[bytes]
Context = grpc.aio.ServicerContext


def sends(*messages: bytes):  # type: ignore[no-untyped-def]
    async def serve(incoming: Requests, context: Context) -> AsyncIterator[bytes]:
        await anext(incoming)
        for message in messages:
            yield message

    return serve


def test_messages_come_whole_and_in_order(transport: str) -> None:
    """Empty, small and large messages are handed on as they were sent; the request arrives; the end is a good one."""
    sizes = [0, 1, 5, 100, 16379, 16380, 16384, 70_000, 0, 3, 1_000_000]
    messages = [bytes([i]) * size for i, size in enumerate(sizes)]

    async def story() -> None:
        async with GrpcioTarget(sends(*messages)) as target:
            assert await subscribe(endpoint(target.port, transport), b"first") == (messages, None)
            assert target.requests == [b"first"]

    asyncio.run(story())


def test_many_small_messages(transport: str) -> None:
    """A stream of thousands is complete."""
    messages = [b"%05d" % i for i in range(5000)]

    async def story() -> None:
        async with GrpcioTarget(sends(*messages)) as target:
            assert await subscribe(endpoint(target.port, transport)) == (messages, None)

    asyncio.run(story())


def test_large_messages_pass_the_windows(transport: str) -> None:
    """Four times more than the windows hold comes through."""
    messages = [bytes([i]) * (6 << 20) for i in range(6)]

    async def story() -> None:
        async with GrpcioTarget(sends(*messages)) as target:
            assert await subscribe(endpoint(target.port, transport)) == (messages, None)

    asyncio.run(story())


def test_messages_that_are_too_long_end_the_stream(transport: str) -> None:
    """A message of 100 MB is refused by its size; what came before it was handed on."""

    async def story() -> None:
        async with GrpcioTarget(sends(b"small", bytes(100 << 20))) as target:
            messages, error = await subscribe(endpoint(target.port, transport, max_message_octets=1 << 20))
            assert messages == [b"small"]
            assert error is not None and error.status is Status.RESOURCE_EXHAUSTED

    asyncio.run(story())


def test_credentials_go_with_every_call(transport: str) -> None:
    """User, password and token are metadata of the names that targets look for, of Subscribe and of other calls."""
    credentials = Credentials("admin", "secret", "abc")

    async def answer(request: bytes, context: Context) -> bytes:
        return request + b"!"

    async def story() -> None:
        async with GrpcioTarget(sends(), {"Capabilities": answer}) as target:
            where = endpoint(target.port, transport, credentials=credentials)
            await subscribe(where)
            assert await unary(where, "/gnmi.gNMI/Capabilities", b"x", 10.0) == b"x!"
            assert len(target.calls) == 2
            for metadata in target.calls:
                assert metadata.items() >= {
                    ("username", "admin"),
                    ("password", "secret"),
                    ("authorization", "Bearer abc"),
                }

    assert "secret" not in repr(credentials) and "abc" not in repr(credentials)
    asyncio.run(story())


@pytest.mark.parametrize("after", [0, 3])
def test_a_status_is_told_with_its_text(transport: str, after: int) -> None:
    """What the target ends a stream with is what is raised, before any message and after some."""

    async def serve(incoming: Requests, context: Context) -> AsyncIterator[bytes]:
        for _ in range(after):
            yield b"m"
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no: 城市 100%")

    async def story() -> None:
        async with GrpcioTarget(serve) as target:
            messages, error = await subscribe(endpoint(target.port, transport))
            assert messages == [b"m"] * after
            assert error is not None
            assert (error.status, error.details) == (Status.PERMISSION_DENIED, "no: 城市 100%")

    asyncio.run(story())


def test_a_call_that_the_target_does_not_know(transport: str) -> None:
    """A server without the service says so."""

    async def story() -> None:
        async with GrpcioTarget() as target:
            with pytest.raises(TransportError) as caught:
                await unary(endpoint(target.port, transport), "/gnmi.gNMI/Nothing", b"", 10.0)
            assert caught.value.status is Status.UNIMPLEMENTED

    asyncio.run(story())


def test_requests_are_sent_as_they_come(transport: str) -> None:
    """Each request gets its answer before the next one is there, as POLL needs it; the end of them ends our half."""
    asked: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def asking() -> AsyncIterator[bytes]:
        while (request := await asked.get()) is not None:
            yield request

    async def serve(incoming: Requests, context: Context) -> AsyncIterator[bytes]:
        async for request in incoming:
            yield request.upper()

    async def story() -> None:
        async with GrpcioTarget(serve) as target:
            taken = Taken()
            call = asyncio.create_task(open_transport(endpoint(target.port, transport)).subscribe(asking(), taken))
            for i in range(1, 4):
                await asked.put(b"poll")
                await taken.wait_for(i)
            await asked.put(None)
            async with asyncio.timeout(TIMEOUT_S):
                await call
            assert taken.messages == [b"POLL"] * 3

    asyncio.run(story())


def test_cancelling_cancels_the_call(transport: str) -> None:
    """A subscription that is given up is seen to be so by the target."""

    async def serve(incoming: Requests, context: Context) -> AsyncIterator[bytes]:
        yield b"m"
        await asyncio.Event().wait()

    async def story() -> None:
        async with GrpcioTarget(serve) as target:
            taken = Taken()
            where = endpoint(target.port, transport)
            call = asyncio.create_task(open_transport(where).subscribe(requests(b"r", stay=True), taken))
            await taken.wait_for(1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            async with asyncio.timeout(TIMEOUT_S):
                await target.cancelled.wait()

    asyncio.run(story())


def test_what_the_taker_raises_ends_the_call(transport: str) -> None:
    """An exception of the taker of messages is raised as it is, and the target sees the call cancelled."""

    class Broken(Exception):  # noqa: N818
        pass

    async def serve(incoming: Requests, context: Context) -> AsyncIterator[bytes]:
        yield b"m"
        await asyncio.Event().wait()

    def breaks(*arguments: object) -> None:
        raise Broken

    async def story() -> None:
        async with GrpcioTarget(serve) as target:
            with pytest.raises(Broken):
                await open_transport(endpoint(target.port, transport)).subscribe(requests(b"r", stay=True), breaks)
            async with asyncio.timeout(TIMEOUT_S):
                await target.cancelled.wait()

    asyncio.run(story())


def test_what_the_requests_raise_ends_the_call(transport: str) -> None:
    """An exception of whoever makes the requests ends the call, which is not left hanging."""

    async def asking() -> AsyncIterator[bytes]:
        yield b"r"
        raise RuntimeError("broken")

    async def serve(incoming: Requests, context: Context) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async def story() -> None:
        async with GrpcioTarget(serve) as target, asyncio.timeout(TIMEOUT_S):
            with pytest.raises(RuntimeError, match="broken"):
                await open_transport(endpoint(target.port, transport)).subscribe(asking(), Taken())

    asyncio.run(story())


def test_nobody_there(transport: str) -> None:
    """A port where nobody listens is UNAVAILABLE, at once."""

    async def story() -> None:
        async with GrpcioTarget(sends()) as target:
            port = target.port
        messages, error = await subscribe(endpoint(port, transport))
        assert messages == []
        assert error is not None and error.status is Status.UNAVAILABLE

    asyncio.run(story())


def test_a_target_that_dies_in_the_middle(transport: str) -> None:
    """A connection that breaks is UNAVAILABLE; what came before it was handed on."""

    async def serve(incoming: Requests, context: Context) -> AsyncIterator[bytes]:
        yield b"m"
        await asyncio.Event().wait()

    async def story() -> None:
        taken = Taken()
        async with GrpcioTarget(serve) as target:
            where = endpoint(target.port, transport)
            call = asyncio.create_task(open_transport(where).subscribe(requests(b"r", stay=True), taken))
            await taken.wait_for(1)
        with pytest.raises(TransportError) as caught:
            async with asyncio.timeout(TIMEOUT_S):
                await call
        assert caught.value.status in (Status.UNAVAILABLE, Status.CANCELLED)

    asyncio.run(story())


def test_a_taker_that_needs_time_slows_the_target(transport: str) -> None:
    """What is not read yet stays with the target: it cannot send more than the windows and buffers hold."""
    sent = 0

    async def serve(incoming: Requests, context: Context) -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(200):
            yield bytes(1 << 20)
            sent += 1

    async def story() -> None:
        taken = Taken()

        def slow(*arguments: Any) -> float:
            taken(*arguments)
            return 60.0

        async with GrpcioTarget(serve) as target:
            call = asyncio.create_task(open_transport(endpoint(target.port, transport)).subscribe(requests(b"r"), slow))
            await taken.wait_for(1)
            before = -1
            while sent != before:  # until it stands still
                before = sent
                await asyncio.sleep(0.5)
            assert sent < 100
            assert len(taken.messages) < 20
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(story())
