"""A peer made of HTTP/2 frames that does what no server should: nothing hangs, nothing grows, the reason is told.

The reference, grpcio, is held to what it does well. It is not where it says "Internal error from Core" because it was
still sending, where it waits for ever for a connection that the peer keeps open, and against floods.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from telemetryd.ingest.gnmi.transport import Status, TransportError
from tests.gnmi_client import endpoint, subscribe
from tests.gnmi_server import (
    ACK,
    BEGIN,
    DATA,
    END_STREAM,
    GOAWAY,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    FramePeer,
    data,
    frame,
    headers,
    message,
    trailers,
)

both = pytest.mark.parametrize("transport", ["fast", "grpc"])
fast = pytest.mark.parametrize("transport", ["fast"])
MESSAGES = [b"first", b"", b"x" * 300, b"last"]
STREAM = b"".join(map(message, MESSAGES))
Chunks = Callable[[bytes], list[bytes]]


def meet(
    transport: str,
    octets: bytes,
    *,
    chunks: Chunks = lambda octets: [octets],
    close: bool = False,
    keepalive_s: float = 30.0,
    max_message_octets: int = 1 << 20,
) -> tuple[list[bytes], TransportError | None]:
    """Subscribe at a peer that sends these octets once it has heard of us."""

    async def story() -> tuple[list[bytes], TransportError | None]:
        async with FramePeer(octets, chunks=chunks, close=close) as peer:
            where = endpoint(peer.port, transport, keepalive_s=keepalive_s, max_message_octets=max_message_octets)
            found = await subscribe(where, stay=True)
            if transport == "fast":  # grpcio closes connections when it likes
                async with asyncio.timeout(10):
                    await peer.ended.wait()
            return found

    return asyncio.run(story())


def ended(found: tuple[list[bytes], TransportError | None], status: Status, text: str = "") -> None:
    _, error = found
    assert error is not None
    assert error.status is status, error
    assert text in error.details


def cut(at: int) -> Chunks:
    return lambda octets: [octets[:at], octets[at:]]


def bytewise(octets: bytes) -> list[bytes]:
    return [octets[i : i + 1] for i in range(len(octets))]


@both
@pytest.mark.parametrize("frames", [1, 7, 9], ids=lambda n: f"{n} octets a frame")
def test_messages_across_frames(transport: str, frames: int) -> None:
    """Messages may begin and end anywhere in a frame, and their prefixes may be cut."""
    pieces = b"".join(data(STREAM[i : i + frames]) for i in range(0, len(STREAM), frames))
    assert meet(transport, BEGIN + pieces + trailers()) == (MESSAGES, None)


@both
def test_octet_by_octet(transport: str) -> None:
    """The peer's writes may be cut anywhere."""
    assert meet(transport, BEGIN + data(STREAM) + trailers(), chunks=bytewise) == (MESSAGES, None)


@fast
def test_every_cut(transport: str) -> None:
    """One cut at each place, and random ones: always the same messages."""
    octets = BEGIN + frame(PING, bytes(8)) + data(STREAM[:20]) + data(STREAM[20:], padding=3) + trailers()

    async def story() -> None:
        rng = random.Random(5)
        cuts = [[at] for at in range(0, len(octets), 3)]
        cuts += [sorted(rng.sample(range(len(octets)), 6)) for _ in range(20)]
        for places in cuts:
            edges = [0, *places, len(octets)]
            chunks = [octets[a:b] for a, b in pairwise(edges)]
            async with FramePeer(octets, chunks=lambda _, chunks=chunks: chunks) as peer:  # type: ignore[misc]
                assert await subscribe(endpoint(peer.port, transport)) == (MESSAGES, None)

    asyncio.run(story())


@fast
def test_padded_frames(transport: str) -> None:
    """Padding is no part of a message."""
    octets = BEGIN + data(STREAM[:7], padding=100) + data(STREAM[7:30]) + data(STREAM[30:], padding=0) + trailers()
    assert meet(transport, octets) == (MESSAGES, None)


@both
def test_data_behind_headers_in_one_write(transport: str) -> None:
    """What stands behind the headers in the same segment is not lost, nor what stands behind other frames."""
    octets = BEGIN + frame(PING, bytes(8)) + data(STREAM) + frame(SETTINGS) + trailers()
    assert meet(transport, octets) == (MESSAGES, None)


@fast
def test_an_answer_of_trailers_only(transport: str) -> None:
    """An error without any message comes as headers that end the stream."""
    octets = headers(
        {":status": "200", "content-type": "application/grpc", "grpc-status": "7", "grpc-message": "no%20%E5%9F%8E"},
        end=True,
    )
    ended(meet(transport, octets), Status.PERMISSION_DENIED, "no 城")


@fast
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("404", Status.UNIMPLEMENTED),
        ("503", Status.UNAVAILABLE),
        ("401", Status.UNAUTHENTICATED),
        ("500", Status.UNKNOWN),
    ],
)
def test_an_answer_that_is_not_grpcs(transport: str, code: str, status: Status) -> None:
    """A proxy's HTTP status is mapped as gRPC says."""
    octets = headers({":status": code, "content-type": "text/html"}) + data(b"<html>", end=True)
    ended(meet(transport, octets), status)


@fast
def test_a_stream_that_ends_without_a_status(transport: str) -> None:
    """Without trailers nobody knows whether it is whole: an error."""
    _, error = meet(transport, BEGIN + data(STREAM, end=True))
    assert error is not None and error.status in (Status.INTERNAL, Status.UNKNOWN)


@fast
def test_trailers_within_a_message(transport: str) -> None:
    """A good status cannot mend a message that is not whole."""
    ended(
        meet(transport, BEGIN + data(message(b"whole") + message(b"part")[:-1]) + trailers()), Status.INTERNAL, "within"
    )


@fast
def test_a_connection_that_ends_within_a_message(transport: str) -> None:
    """A target that stops in the middle is UNAVAILABLE; whole messages were handed on."""
    found = meet(transport, BEGIN + data(message(b"whole") + message(b"part")[:-1]), close=True)
    assert found[0] == [b"whole"]
    ended(found, Status.UNAVAILABLE)


@fast
@pytest.mark.parametrize(("code", "status"), [(8, Status.CANCELLED), (7, Status.UNAVAILABLE), (2, Status.INTERNAL)])
def test_resets(transport: str, code: int, status: Status) -> None:
    """A reset of the stream is told as gRPC maps its code."""
    octets = BEGIN + data(message(b"m")) + frame(RST_STREAM, code.to_bytes(4, "big"), stream=1)
    ended(meet(transport, octets), status)


@both
def test_a_reset_behind_the_trailers(transport: str) -> None:
    """Servers reset a stream that they have finished before we have closed our half: it is no error."""
    octets = BEGIN + data(STREAM) + trailers() + frame(RST_STREAM, bytes(4), stream=1)
    assert meet(transport, octets) == (MESSAGES, None)


def goaway(last: int, code: int, text: bytes = b"") -> bytes:
    return frame(GOAWAY, last.to_bytes(4, "big") + code.to_bytes(4, "big") + text)


@both
@pytest.mark.parametrize("last", [1, 0x7FFFFFFF])
def test_a_goodbye_that_lets_the_stream_end(transport: str, last: int) -> None:
    """A target that closes gently finishes the stream, with pings and all."""
    octets = BEGIN + data(STREAM[:9]) + goaway(last, 0) + frame(PING, b"graceful") + data(STREAM[9:]) + trailers()
    assert meet(transport, octets) == (MESSAGES, None)


@fast
def test_a_goodbye_that_has_not_seen_the_stream(transport: str) -> None:
    """A target that says it will not look at our stream is UNAVAILABLE."""
    ended(meet(transport, goaway(0, 0), close=True), Status.UNAVAILABLE)


@fast
def test_a_goodbye_in_anger(transport: str) -> None:
    """The reason of a GOAWAY is told; one that is too short is none."""
    ended(meet(transport, BEGIN + goaway(1, 11, b"too_many_pings")), Status.UNAVAILABLE, "too_many_pings")
    ended(meet(transport, BEGIN + frame(GOAWAY, b"\0\0\0\1")), Status.INTERNAL)


@both
def test_compressed_messages(transport: str) -> None:
    """No compression was offered, so none is taken."""
    _, error = meet(transport, BEGIN + data(message(b"x", compressed=1)))
    assert error is not None and error.status in (Status.INTERNAL, Status.UNIMPLEMENTED)


@both
def test_a_length_beyond_the_limit(transport: str) -> None:
    """A message that says it has 4 GB is refused before any of it came."""
    ended(meet(transport, BEGIN + data(b"\0\xff\xff\xff\xff")), Status.RESOURCE_EXHAUSTED)


@both
def test_a_frame_that_is_too_long(transport: str) -> None:
    """A frame beyond what was announced ends the connection: nobody waits for it."""
    _, error = meet(transport, BEGIN + b"\xff\xff\xff" + bytes([DATA, 0]) + b"\0\0\0\1" + bytes(40_000))
    assert error is not None


@fast
@pytest.mark.parametrize(
    "flood",
    [frame(PING, bytes(8)), frame(SETTINGS), data(b""), frame(WINDOW_UPDATE, b"\0\0\0\1"), frame(0xEE, b"x")],
    ids=["PING", "SETTINGS", "empty DATA", "WINDOW_UPDATE", "unknown"],
)
def test_floods(transport: str, flood: bytes) -> None:
    """A hundred thousand frames that carry nothing end the stream after a thousand."""
    found = meet(transport, BEGIN + data(message(b"m")) + flood * 100_000)
    assert found[0] == [b"m"]
    ended(found, Status.RESOURCE_EXHAUSTED, "control frames")


@fast
def test_headers_without_end(transport: str) -> None:
    """Headers that never end, in CONTINUATION frames, are cut off."""
    octets = frame(1, b"\0\1a" + b"\x7f\x81\x7f" + b"a" * 100, stream=1) + frame(9, b"a" * 16384, stream=1) * 100
    _, error = meet(transport, octets)
    assert error is not None


@fast
def test_frames_out_of_order(transport: str) -> None:
    """Octets that are no HTTP/2, frames on streams that are not there, DATA before the headers: an error, at once."""
    for octets in (
        b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10,
        frame(DATA, b"x", stream=9),
        data(STREAM),
        frame(1, b"\xff", stream=1),
    ):
        _, error = meet(transport, octets, close=True)
        assert error is not None


@fast
def test_a_target_that_is_silent(transport: str) -> None:
    """A half-open connection is found out by a ping that nobody answers."""
    ended(meet(transport, BEGIN + data(message(b"m")), keepalive_s=0.2), Status.UNAVAILABLE, "no sign of life")


@fast
def test_pings_are_answered(transport: str) -> None:
    """The target's own signs of life get their answers, also while data streams."""

    async def story() -> None:
        async with FramePeer(BEGIN + frame(PING, b"12345678") + data(STREAM) + trailers()) as peer:
            await subscribe(endpoint(peer.port, transport))
            await peer.ended.wait()
            assert (PING, ACK, 0, b"12345678") in peer.frames()

    asyncio.run(story())


@fast
def test_a_stream_that_is_given_up_is_cancelled(transport: str) -> None:
    """Who closes its half first and then goes resets the stream or the connection: the target does not wait."""

    async def story() -> None:
        async with FramePeer(BEGIN + data(message(b"m"))) as peer:
            call = asyncio.create_task(subscribe(endpoint(peer.port, transport)))
            async with asyncio.timeout(10):
                while not any(kind == DATA and flags & END_STREAM for kind, flags, _, _ in peer.frames()):
                    await asyncio.sleep(0.01)
            call.cancel()
            async with asyncio.timeout(10):
                await peer.ended.wait()
            assert any(kind in (RST_STREAM, GOAWAY) for kind, _, _, _ in peer.frames())

    asyncio.run(story())


@fast
def test_windows_are_opened_again(transport: str) -> None:
    """What was taken is acknowledged, for stream and connection, so that the peer may go on."""
    octets = message(bytes(1 << 20))
    frames = b"".join(data(octets[i : i + 16384]) for i in range(0, len(octets), 16384))

    async def story() -> None:
        async with FramePeer(BEGIN + frames * 6 + trailers()) as peer:
            messages, error = await subscribe(endpoint(peer.port, transport, max_message_octets=1 << 21))
            assert ([len(one) for one in messages], error) == ([1 << 20] * 6, None)
            await peer.ended.wait()
            opened = {0: 0, 1: 0}
            for kind, _, stream, payload in peer.frames():
                if kind == WINDOW_UPDATE:
                    opened[stream] += int.from_bytes(payload, "big")
            assert opened[1] >= 4 << 20
            assert opened[0] >= 4 << 20

    asyncio.run(story())
