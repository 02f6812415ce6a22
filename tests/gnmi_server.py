"""gNMI servers for tests: one by grpcio that does what it is told, and a hand-made HTTP/2 peer that does worse."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
import grpc.aio
import hpack

Metadata = dict[str, str]
#: What a Subscribe call does: the requests, and the context to abort with; yields messages.
Serve = Callable[[AsyncIterator[bytes], grpc.aio.ServicerContext], AsyncIterator[bytes]]
Answer = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]


@dataclass(eq=False)
class GrpcioTarget:
    """A running server; ``async with GrpcioTarget(serve) as target``.

    ``calls`` holds the metadata of every call, ``requests`` what came in Subscribe calls.
    """

    serve: Serve | None = None
    unary: dict[str, Answer] = field(default_factory=dict)
    credentials: grpc.ServerCredentials | None = None
    port: int = 0
    calls: list[Metadata] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    _server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Self:
        options = [("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(options=options)
        handlers: dict[str, grpc.RpcMethodHandler] = {
            name: grpc.unary_unary_rpc_method_handler(self._noted(answer)) for name, answer in self.unary.items()
        }
        handlers["Subscribe"] = grpc.stream_stream_rpc_method_handler(self._subscribe)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("gnmi.gNMI", handlers),))
        address = f"127.0.0.1:{self.port}"
        if self.credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, self.credentials)
        await self._server.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        await self._server.stop(None)

    def _note(self, context: grpc.aio.ServicerContext) -> None:
        self.calls.append({name: str(value) for name, value in context.invocation_metadata() or ()})

    def _noted(self, answer: Answer) -> Answer:
        async def noted(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            self._note(context)
            return await answer(request, context)

        return noted

    async def _subscribe(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        self._note(context)
        try:
            assert self.serve is not None
            async for message in self.serve(self._noting(requests), context):
                yield message
        except (asyncio.CancelledError, GeneratorExit):
            # The latter where the cancellation comes while gRPC sends the message that was yielded.
            self.cancelled.set()
            raise

    async def _noting(self, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for request in requests:
            self.requests.append(request)
            yield request


# --- a peer made of frames ------------------------------------------------------------------------------------------

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """Make a frame (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def headers(fields: dict[str, str], *, end: bool = False, stream: int = 1) -> bytes:
    """Make a HEADERS frame; nothing of it goes into the table of the peer's decoder."""
    block = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(name, value) for name, value in fields.items()])
    return frame(HEADERS, block, flags=END_HEADERS | (END_STREAM if end else 0), stream=stream)


def message(octets: bytes, compressed: int = 0) -> bytes:
    """Put gRPC's five octets before a message."""
    return bytes([compressed]) + len(octets).to_bytes(4, "big") + octets


def data(octets: bytes, *, end: bool = False, padding: int | None = None) -> bytes:
    """Make a DATA frame."""
    flags = END_STREAM if end else 0
    if padding is None:
        return frame(DATA, octets, flags=flags, stream=1)
    return frame(DATA, bytes([padding]) + octets + bytes(padding), flags=flags | PADDED, stream=1)


BEGIN = headers({":status": "200", "content-type": "application/grpc"})


def trailers(status: int = 0, text: str = "") -> bytes:
    """Make the frame that ends a stream."""
    return headers({"grpc-status": str(status)} | ({"grpc-message": text} if text else {}), end=True)


@dataclass(eq=False)
class FramePeer:
    """A server that takes a connection, waits for the request, and sends what it is told; then it waits for the end.

    ``chunks`` cuts what is sent into pieces, each a write of its own.
    """

    octets: bytes
    chunks: Callable[[bytes], list[bytes]] = lambda octets: [octets]
    close: bool = False
    context: ssl.SSLContext | None = None
    acknowledge: bool = True
    port: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    received: bytes = b""
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            writer.write(frame(SETTINGS) + (frame(SETTINGS, flags=ACK) if self.acknowledge else b""))
            while HEADERS not in self._kinds():
                if not (octets := await reader.read(1 << 16)):
                    return
                self.received += octets
            for chunk in self.chunks(self.octets):
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(0)
            if self.close:
                writer.close()
            while octets := await reader.read(1 << 16):
                self.received += octets
        except (ConnectionError, asyncio.CancelledError):
            pass  # the test is over, or the other side has had enough
        finally:
            self.ended.set()
            writer.close()

    def _kinds(self) -> list[int]:
        return [kind for kind, _, _, _ in self.frames()]

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        """Return the frames that were received: kind, flags, stream, payload."""
        octets, found = self.received[24:], []  # behind the preface
        while len(octets) >= 9 and len(octets) >= 9 + (length := int.from_bytes(octets[:3], "big")):
            stream = int.from_bytes(octets[5:9], "big") & 0x7FFFFFFF
            found.append((octets[3], octets[4], stream, octets[9 : 9 + length]))
            octets = octets[9 + length :]
        return found
