"""The reference transport: grpcio. It also carries the calls with one answer, such as Capabilities and Get."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import numpy as np

from telemetryd.errors import InputError
from telemetryd.ingest.gnmi.transport import SUBSCRIBE, Endpoint, OnMessages, Status, Tls, TransportError

#: Pings without an answer's data in between: gRPC's default of two would end the keepalive of a silent target.
_PINGS_WITHOUT_DATA: Final = 0
_OFFSET: Final = np.zeros(1, np.int64)


class GrpcTransport:
    """See :class:`telemetryd.ingest.gnmi.transport.Transport`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def subscribe(self, requests: AsyncIterable[bytes], on_messages: OnMessages) -> None:
        """See :meth:`telemetryd.ingest.gnmi.transport.Transport.subscribe`."""
        lengths = np.zeros(1, np.int64)
        async with channel_to(self._endpoint) as channel, told_as_ours():
            # `wait_for_ready` is off: a target that cannot be reached is an answer, and who waits is the caller.
            sent = _Sent(requests)
            call = channel.stream_stream(SUBSCRIBE)(sent.each(), metadata=self._endpoint.credentials.metadata())
            try:
                async for message in call:
                    lengths[0] = len(message)
                    if pause_s := on_messages(np.frombuffer(message, np.uint8), _OFFSET, lengths, time.time_ns()):
                        await asyncio.sleep(pause_s)
            except asyncio.CancelledError:
                # gRPC cancels the call, and with it whoever reads, when the requests fail: nobody has cancelled us.
                if sent.failure is not None:
                    raise sent.failure from None
                raise
            finally:
                call.cancel()


class _Sent:
    """Requests, and what they failed with."""

    def __init__(self, requests: AsyncIterable[bytes]) -> None:
        self._requests = requests
        self.failure: Exception | None = None

    async def each(self) -> AsyncIterator[bytes]:
        try:
            async for request in self._requests:
                yield request
        except Exception as failure:
            self.failure = failure
            raise


async def unary(endpoint: Endpoint, method: str, request: bytes, timeout_s: float) -> bytes:
    """Make a call with one answer, such as ``/gnmi.gNMI/Get``.

    Raises
    ------
    TransportError
        If the target cannot be reached, or does not answer well within the time.
    """
    async with channel_to(endpoint) as channel, told_as_ours():
        call = channel.unary_unary(method)
        answer: bytes = await call(request, timeout=timeout_s, metadata=endpoint.credentials.metadata())
        return answer


@asynccontextmanager
async def told_as_ours() -> AsyncIterator[None]:
    """Raise gRPC's errors as ours."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise TransportError(Status.of(error.code().value[0]), error.details() or "") from None


@asynccontextmanager
async def channel_to(endpoint: Endpoint) -> AsyncIterator[grpc.aio.Channel]:
    """Have a channel to a target."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", endpoint.max_message_octets),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.min_reconnect_backoff_ms", int(endpoint.connect_timeout_s * 1000)),
    ]
    if endpoint.keepalive_s:
        milliseconds = int(endpoint.keepalive_s * 1000)
        options += [
            ("grpc.keepalive_time_ms", milliseconds),
            ("grpc.keepalive_timeout_ms", milliseconds),
            ("grpc.http2.max_pings_without_data", _PINGS_WITHOUT_DATA),
        ]
    if endpoint.tls is None:
        channel = grpc.aio.insecure_channel(endpoint.address, options=options)
    else:
        # In a thread: files are read, and without verification the target is asked for its certificate.
        credentials, name = await asyncio.to_thread(_secured, endpoint, endpoint.tls)
        if name is not None:
            options.append(("grpc.ssl_target_name_override", name))
        channel = grpc.aio.secure_channel(endpoint.address, credentials, options=options)
    try:
        yield channel
    finally:
        await channel.close()


def _secured(endpoint: Endpoint, tls: Tls) -> tuple[grpc.ChannelCredentials, str | None]:
    """Return credentials and the name that the certificate has to have."""
    tls.context()  # the same words for the same mistakes as on the fast transport
    certificate, key = (None if file is None else _read(file) for file in (tls.certificate, tls.key or tls.certificate))
    key = key if certificate is not None else None
    if not tls.skip_verify:
        ca = None if tls.ca is None else _read(tls.ca)
        return grpc.ssl_channel_credentials(ca, key, certificate), tls.server_name
    # grpcio cannot be told to believe anything, but what the target shows can be made what it is to believe.
    try:
        shown = ssl.get_server_certificate((endpoint.host, endpoint.port), timeout=endpoint.connect_timeout_s)
    except OSError as error:
        raise TransportError(Status.UNAVAILABLE, f"{endpoint.address}: {error}") from error
    return grpc.ssl_channel_credentials(shown.encode(), key, certificate), _name_in(shown)


def _name_in(pem: str) -> str | None:
    """Return a name that a certificate is for."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        with suppress(AttributeError):  # CPython's own reader of certificates is not promised to stay
            shown = ssl._ssl._test_decode_cert(file.name)  # type: ignore[attr-defined]
            names = [value for kind, value in shown.get("subjectAltName", ()) if kind == "DNS"]
            names += [value for part in shown.get("subject", ()) for kind, value in part if kind == "commonName"]
            return names[0] if names else None
    return None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error
