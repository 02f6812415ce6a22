"""The fast transport: one HTTP/2 connection (RFC 9113) for one Subscribe stream.

`h2` speaks for us and hears every control frame; the payload of DATA frames, which is nearly all that comes, goes
through `ext/http2_data.pyx`. So the flow control of the receiving side is ours: `h2` never sees that payload. A DATA
frame with padding is the exception, it goes through `h2`.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterable, Iterable
from contextlib import suppress
from typing import Any, Final, cast
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from telemetryd import __version__
from telemetryd._ext import load
from telemetryd.ingest.gnmi.transport import SUBSCRIBE, Endpoint, OnMessages, Status, TransportError

_ext = load("http2_data", "telemetryd.ingest.gnmi.http2_data_reference")
DataSplitter, Step = _ext.DataSplitter, _ext.Step

#: What may be under way to us, of the stream and of the connection.
WINDOW: Final = 8 << 20
#: Control frames and empty DATA frames that a target may send in a second before it is cut off: a flood costs `h2` ten
#: times what it costs the sender.
MOST_CONTROL_FRAMES: Final = 1000
FLOOD_PERIOD_S: Final = 1.0
MOST_HEADER_OCTETS: Final = 64 << 10
#: How long a connection that is over may take to say goodbye.
GOODBYE_S: Final = 1.0
_MESSAGE_PREFIX: Final = 5
#: RFC 9113, 4.1 and 6.8.
_FRAME_HEADER: Final = 9
_TYPE: Final = 3
_GOAWAY: Final = 7
_GOAWAY_OCTETS: Final = 8

#: grpc/doc/http-grpc-status-mapping.md
_HTTP_STATUS: Final = {
    400: Status.INTERNAL,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.UNIMPLEMENTED,
    429: Status.UNAVAILABLE,
    502: Status.UNAVAILABLE,
    503: Status.UNAVAILABLE,
    504: Status.UNAVAILABLE,
}
#: grpc/doc/PROTOCOL-HTTP2.md, "Errors"
_RESET_STATUS: Final = {
    h2.errors.ErrorCodes.REFUSED_STREAM: Status.UNAVAILABLE,
    h2.errors.ErrorCodes.CANCEL: Status.CANCELLED,
    h2.errors.ErrorCodes.ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
    h2.errors.ErrorCodes.INADEQUATE_SECURITY: Status.PERMISSION_DENIED,
}
_BROKEN: Final = {
    Step.COMPRESSED: (Status.INTERNAL, "a message is compressed, which was not offered"),
    Step.OVERSIZED: (Status.RESOURCE_EXHAUSTED, "a message is longer than max_message_octets"),
    Step.FRAME_SIZE: (Status.INTERNAL, "a frame is longer than was announced"),
}


class Http2Transport:
    """See :class:`telemetryd.ingest.gnmi.transport.Transport`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def subscribe(self, requests: AsyncIterable[bytes], on_messages: OnMessages) -> None:
        """See :meth:`telemetryd.ingest.gnmi.transport.Transport.subscribe`."""
        connection = await self._connect(on_messages)
        sending = asyncio.create_task(connection.send(requests), name=f"gnmi-requests {self._endpoint.address}")
        sending.add_done_callback(connection.requests_ended)
        try:
            await connection.over
        finally:
            sending.cancel()
            await connection.close()
            with suppress(asyncio.CancelledError, Exception):  # its failure has ended the connection already
                await sending

    async def _connect(self, on_messages: OnMessages) -> _Connection:
        endpoint, tls = self._endpoint, self._endpoint.tls
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {}
        if tls is not None:
            # In a thread: files are read.
            context = await asyncio.to_thread(tls.context)
            options = {"ssl": context, "server_hostname": tls.server_name or endpoint.host}
        try:
            async with asyncio.timeout(endpoint.connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(endpoint, on_messages), endpoint.host, endpoint.port, **options
                )
        except TimeoutError:
            message = f"no connection to {endpoint.address} within {endpoint.connect_timeout_s:g} s"
            raise TransportError(Status.UNAVAILABLE, message) from None
        except ssl.SSLError as error:
            raise TransportError(Status.UNAVAILABLE, f"{endpoint.address}: TLS: {reason_of(error)}") from error
        except OSError as error:
            raise TransportError(Status.UNAVAILABLE, f"{endpoint.address}: {error.strerror or error}") from error
        return connection


def reason_of(error: ssl.SSLError) -> str:
    """Return what is wrong with the other side's certificate, or else OpenSSL's reason."""
    return getattr(error, "verify_message", "") or error.reason or str(error)


class _Connection(asyncio.BufferedProtocol):
    """One connection with one stream; ``over`` is done when the stream has ended, and holds how."""

    def __init__(self, endpoint: Endpoint, on_messages: OnMessages) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over.add_done_callback(_look_at)  # a handshake may fail with nobody waiting yet
        self._endpoint = endpoint
        self._on_messages = on_messages
        self._splitter = DataSplitter(endpoint.max_message_octets)
        configuration = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self._h2 = h2.connection.H2Connection(configuration)
        self._stream = 0
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.Event()
        self._may_write = asyncio.Event()
        self._window_opened = asyncio.Event()
        self._unacknowledged = 0
        self._period_ends, self._frames_before = 0.0, 0
        self._heard = time.monotonic()
        self._pinged: float | None = None
        self._keepalive: asyncio.TimerHandle | None = None
        self._paused: asyncio.TimerHandle | None = None

    # --- the connection -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the stream."""
        self._transport = cast(asyncio.Transport, transport)
        self._may_write.set()
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._end(Status.UNAVAILABLE, "the target does not speak HTTP/2 over TLS (ALPN h2)")
            return
        self._h2.initiate_connection()
        settings: dict[h2.settings.SettingCodes | int, int] = {
            h2.settings.SettingCodes.ENABLE_PUSH: 0,
            h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
            h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: MOST_HEADER_OCTETS,
        }
        self._h2.update_settings(settings)
        self._h2.increment_flow_control_window(WINDOW - self._h2.inbound_flow_control_window)
        self._stream = self._h2.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "http" if tls is None else "https"),
            (":path", SUBSCRIBE),
            (":authority", self._endpoint.address),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", f"telemetryd/{__version__}"),
            ("grpc-accept-encoding", "identity"),
            *self._endpoint.credentials.metadata(),
        ]
        self._h2.send_headers(self._stream, headers)
        self._flush()
        if self._endpoint.keepalive_s:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the stream: a stream that ended well was over before."""
        self._lost.set()
        self._may_write.set()
        self._end(Status.UNAVAILABLE, f"connection lost: {exc or 'closed by the target'}")

    def eof_received(self) -> bool:
        """Close our side too."""
        return False

    def pause_writing(self) -> None:
        """Let requests wait: the target does not read."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """Let requests go on."""
        self._may_write.set()

    async def close(self) -> None:
        """Say goodbye and close; the stream is cancelled if it is not over."""
        if self._keepalive is not None:
            self._keepalive.cancel()
        if self._paused is not None:  # the other side's goodbye is to be read
            self._paused.cancel()
            self._resume()
        transport = self._transport
        if transport is None or self._lost.is_set():
            return
        with suppress(h2.exceptions.ProtocolError):
            if self._stream and not self._ended_well():
                self._h2.reset_stream(self._stream, h2.errors.ErrorCodes.CANCEL)
            self._h2.close_connection()
        self._flush()
        transport.close()
        try:
            async with asyncio.timeout(GOODBYE_S):
                await self._lost.wait()
        except TimeoutError:
            transport.abort()

    def _ended_well(self) -> bool:
        return self.over.done() and not self.over.cancelled() and self.over.exception() is None

    def _end(self, status: Status, details: str) -> None:
        if self.over.done():
            return
        self._splitter.close()
        if status is Status.OK:
            self.over.set_result(None)
        else:
            self.over.set_exception(TransportError(status, details))

    def _flush(self) -> None:
        octets = self._h2.data_to_send()
        if octets and self._transport is not None and not self._lost.is_set():
            self._transport.write(octets)

    # --- sending ----------------------------------------------------------------------------------------------

    async def send(self, requests: AsyncIterable[bytes]) -> None:
        """Send the requests as they come, then close our half of the stream."""
        async for request in requests:
            await self._send_data(b"\0" + len(request).to_bytes(_MESSAGE_PREFIX - 1, "big") + request)
        if not self.over.done():
            with suppress(h2.exceptions.ProtocolError):  # the target was faster
                self._h2.end_stream(self._stream)
            self._flush()

    def requests_ended(self, task: asyncio.Task[None]) -> None:
        """End the stream with whatever the requests failed with."""
        if not task.cancelled() and (failure := task.exception()) is not None and not self.over.done():
            self._splitter.close()
            self.over.set_exception(failure)

    async def _send_data(self, octets: bytes) -> None:
        while octets and not self.over.done():
            await self._may_write.wait()
            try:
                room = min(self._h2.local_flow_control_window(self._stream), self._h2.max_outbound_frame_size)
                if room > 0:
                    self._h2.send_data(self._stream, octets[:room])
                    octets = octets[room:]
                    self._flush()
                    continue
            except h2.exceptions.ProtocolError:  # the stream ended meanwhile; `over` says how
                return
            self._window_opened.clear()
            await self._window_opened.wait()

    # --- receiving --------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the event loop shall write."""
        room: memoryview = self._splitter.room()
        return room

    def buffer_updated(self, nbytes: int) -> None:
        """Look at what was received."""
        received_ns = time.time_ns()
        self._splitter.received(nbytes)
        self._heard, self._pinged = time.monotonic(), None
        if self.over.done():
            self._discard()
            return
        try:
            self._go_on(received_ns)
        except h2.exceptions.ProtocolError as error:
            self._end(Status.INTERNAL, f"HTTP/2: {error}")
        except Exception as failure:  # noqa: BLE001 - what the messages' taker raises is the caller's
            if not self.over.done():
                self._splitter.close()
                self.over.set_exception(failure)
        self._flush()

    def _go_on(self, received_ns: int) -> None:
        while not self.over.done():
            step = self._splitter.step()
            self._hand_on(received_ns)
            if step is Step.WAIT:
                break
            if step is Step.CONTROL:
                self._hear(self._splitter.control, received_ns)
            elif step is Step.ENDED:
                self._end(Status.INTERNAL, "the stream ended without trailers")
            elif step is not Step.FULL:
                self._end(*_BROKEN[step])
        self._acknowledge()
        self._refuse_floods()

    def _hand_on(self, received_ns: int) -> None:
        buffer, offsets, lengths = self._splitter.messages()
        if len(offsets):
            self._pause(self._on_messages(buffer, offsets, lengths, received_ns) or 0.0)
        self._splitter.release()

    def _pause(self, seconds: float) -> None:
        """Read nothing for a while; the windows fill up, and the target waits."""
        if seconds and self._transport is not None and not self._lost.is_set():
            if self._paused is None:
                self._transport.pause_reading()
            else:
                self._paused.cancel()
            self._paused = asyncio.get_running_loop().call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._paused, self._heard, self._pinged = None, time.monotonic(), None
        if self._transport is not None and not self._lost.is_set():
            self._transport.resume_reading()

    def _discard(self) -> None:
        """Read on after the end, so that the goodbye can be sent: nothing of it matters."""
        while self._splitter.step() in (Step.CONTROL, Step.FULL):
            self._splitter.release()

    def _acknowledge(self) -> None:
        """Open the windows again by what the splitter took, once it is worth a frame (RFC 9113, 6.9)."""
        self._unacknowledged += self._splitter.take_flow()
        if self._unacknowledged < WINDOW // 4 or self._transport is None or self._lost.is_set():
            return
        increment = self._unacknowledged.to_bytes(4, "big")
        streams = (0, self._stream) if not self.over.done() else (0,)
        self._transport.write(b"".join(b"\0\0\4\x08\0" + stream.to_bytes(4, "big") + increment for stream in streams))
        self._unacknowledged = 0

    def _refuse_floods(self) -> None:
        frames = self._splitter.control_frames + self._splitter.empty_frames
        now = time.monotonic()
        if now >= self._period_ends:
            self._period_ends, self._frames_before = now + FLOOD_PERIOD_S, frames
        elif frames - self._frames_before > MOST_CONTROL_FRAMES:
            self._end(Status.RESOURCE_EXHAUSTED, f"more than {MOST_CONTROL_FRAMES} control frames in a second")

    def _hear(self, frame: bytes, received_ns: int) -> None:
        if frame[_TYPE] == _GOAWAY:
            self._go_away(frame[_FRAME_HEADER:])
            return
        for event in self._h2.receive_data(frame):
            match event:
                case h2.events.ResponseReceived():
                    self._begin(_texts(event.headers), event.stream_ended is not None)
                case h2.events.TrailersReceived():
                    self._finish(_texts(event.headers))
                case h2.events.DataReceived():
                    self._take_padded(event, received_ns)
                case h2.events.StreamEnded() if not self.over.done():
                    self._end(Status.INTERNAL, "the stream ended without trailers")
                case h2.events.StreamReset():
                    code = event.error_code
                    status = _RESET_STATUS.get(code, Status.INTERNAL)  # type: ignore[call-overload]
                    self._end(status, f"the target reset the stream ({_name(code)})")
                case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                    self._window_opened.set()
                case _:
                    pass
        # At once: what one read brings may be answered by h2 with as many octets.
        self._flush()
        self._refuse_floods()

    def _begin(self, headers: dict[str, str], ended: bool) -> None:
        if headers.get(":status") != "200":
            code = headers.get(":status", "")
            status = _HTTP_STATUS.get(int(code) if code.isdecimal() else 0, Status.UNKNOWN)
            self._end(status, f"the target answered with HTTP status {code}")
        elif ended:  # "Trailers-Only"
            self._finish(headers)
        elif not headers.get("content-type", "").startswith("application/grpc"):
            self._end(Status.UNKNOWN, f"the target answered with {headers.get('content-type', 'no content type')}")
        elif headers.get("grpc-encoding", "identity") != "identity":
            self._end(Status.INTERNAL, f"the answer is compressed by {headers['grpc-encoding']}, which was not offered")
        else:
            self._splitter.open(self._stream)

    def _finish(self, trailers: dict[str, str]) -> None:
        code = trailers.get("grpc-status", "")
        if not code.isdecimal():
            self._end(Status.UNKNOWN, "the stream ended without a gRPC status")
        elif int(code) == 0 and self._splitter.has_part():
            self._end(Status.INTERNAL, "the stream ended within a message")
        else:
            self._end(Status.of(int(code)), unquote(trailers.get("grpc-message", "")))

    def _take_padded(self, event: h2.events.DataReceived, received_ns: int) -> None:
        # h2 keeps the windows of what goes through it.
        self._h2.acknowledge_received_data(event.flow_controlled_length or 0, self._stream)
        step = self._splitter.append(event.data or b"")
        while step is Step.FULL:
            self._hand_on(received_ns)
            step = self._splitter.append(b"")
        if step is not Step.WAIT:
            self._end(*_BROKEN[step])

    def _go_away(self, payload: bytes) -> None:
        """A target that will take no new stream may still finish ours, unless it says that it has not seen it.

        `h2` is not told: it would take no frame of our stream afterwards (RFC 9113, 6.8).
        """
        if len(payload) < _GOAWAY_OCTETS:
            self._end(Status.INTERNAL, "HTTP/2: a GOAWAY frame is too short")
            return
        last, code = int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF, int.from_bytes(payload[4:8], "big")
        if code or last < self._stream:
            details = payload[_GOAWAY_OCTETS:].decode("utf-8", "replace")
            self._end(Status.UNAVAILABLE, f"the target closes the connection ({_name(code)}) {details}".rstrip())

    # --- signs of life ----------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Ask for a sign of life where there was none, and end where there is no answer."""
        if self.over.done() or self._lost.is_set():
            return
        period, now = self._endpoint.keepalive_s, time.monotonic()
        if self._paused is not None:  # nothing can be heard
            self._heard, self._pinged = now, None
        if self._pinged is not None and now - self._pinged >= period:
            self._end(Status.UNAVAILABLE, f"no sign of life for {now - self._heard:.0f} s")
            return
        if self._pinged is None and now - self._heard >= period:
            with suppress(h2.exceptions.ProtocolError):
                self._h2.ping(b"liveness")
                self._flush()
            self._pinged = now
        due = (self._heard if self._pinged is None else self._pinged) + period
        self._keepalive = asyncio.get_running_loop().call_later(max(due - now, 0.001), self._watch)


def _texts(headers: Iterable[tuple[str | bytes, str | bytes]] | None) -> dict[str, str]:
    return {str(name): str(value) for name, value in headers or ()}  # texts already: see header_encoding


def _look_at(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()


def _name(code: int) -> str:
    known = h2.errors.ErrorCodes.__members__.values()
    return next((one.name for one in known if one == code), f"error {code}")
