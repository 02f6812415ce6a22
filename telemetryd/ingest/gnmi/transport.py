"""What a gNMI transport is: it carries Subscribe's messages as octets and knows nothing of what is in them.

There are two behind one interface: `http2.py`, the fast one, and `grpc_aio.py`, the reference and the way out for a
target that the fast one does not get on with. Both pass the same tests.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from telemetryd.errors import InputError, TelemetrydError

DEFAULT_PORT: Final = 9339  # IANA: gnmi-gnoi
SUBSCRIBE: Final = "/gnmi.gNMI/Subscribe"

#: Called on the event loop with whole messages: a buffer, offsets and lengths in it (int64, shape (n,)), and the time
#: of reception in ns since the epoch. The buffer is used again afterwards: copy what is kept. It returns for how many
#: seconds nothing more is to be read, so that flow control slows the target; None or 0 for none.
OnMessages = Callable[[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], int], float | None]


class Status(IntEnum):
    """gRPC status codes (grpc/doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @classmethod
    def of(cls, code: int) -> Status:
        """Return the status of a code; UNKNOWN for one that gRPC does not know."""
        return cls(code) if code in cls._value2member_map_ else cls.UNKNOWN


class TransportError(TelemetrydError):
    """A stream that ended otherwise than well.

    Attributes
    ----------
    status, details:
        The gRPC status, as the target sent it or as gRPC maps what happened to one.
    """

    def __init__(self, status: Status, details: str) -> None:
        self.status, self.details = status, details
        super().__init__(f"{status.name}: {details}" if details else status.name)


@dataclass(frozen=True, slots=True)
class Tls:
    """How a target is believed to be the one that is meant.

    Attributes
    ----------
    ca:
        Certificates to trust, a PEM file; None for those of the host.
    certificate, key:
        Our own, PEM files, where the target asks for one.
    server_name:
        The name that the target's certificate must have, where that is not the host that is dialled.
    skip_verify:
        Believe any certificate: only for a network that is otherwise closed.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None
    skip_verify: bool = False

    def context(self) -> ssl.SSLContext:
        """Return a client's context for HTTP/2.

        Raises
        ------
        InputError
            If a file cannot be read, or is no certificate or key.
        """
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        for what, file in (("certificates to trust", self.ca), ("certificate", self.certificate), ("key", self.key)):
            if file is not None and not file.is_file():
                raise InputError(f"{file}: there is no such file for the {what}")
        try:
            if self.ca is not None:
                context.load_verify_locations(self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (ssl.SSLError, OSError) as error:
            raise InputError(f"TLS: {self.ca or ''} {self.certificate or ''}: {error}") from error
        if self.skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are for a target: sent as metadata with every call. Never shown.

    ``token`` goes as ``authorization: Bearer``, ``username`` and ``password`` as metadata of these names.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    def metadata(self) -> list[tuple[str, str]]:
        """Return the metadata, names in lower case as HTTP/2 wants them."""
        pairs = [("username", self.username), ("password", self.password)]
        found = [(name, value) for name, value in pairs if value is not None]
        if self.token is not None:
            found.append(("authorization", f"Bearer {self.token}"))
        return found


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a target is, and how to talk to it.

    Attributes
    ----------
    host, port:
        What is dialled.
    tls:
        None for a connection without it: only where somebody said so explicitly.
    credentials:
        Sent with every call.
    transport:
        ``fast`` or ``grpc``.
    max_message_octets:
        Longest message that is taken; a longer one ends the stream with RESOURCE_EXHAUSTED.
    connect_timeout_s:
        For the connection, TLS included.
    keepalive_s:
        After so long without a sign of life the target is asked for one (a PING, which has to be answered within the
        same time); 0 for never. Targets take offence at too many.
    """

    host: str
    port: int = DEFAULT_PORT
    tls: Tls | None = None
    credentials: Credentials = field(default_factory=Credentials)
    transport: Literal["fast", "grpc"] = "fast"
    max_message_octets: int = 16 << 20
    connect_timeout_s: float = 10.0
    keepalive_s: float = 30.0

    @property
    def address(self) -> str:
        """Return host and port as one text."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Transport(Protocol):
    """One connection for one Subscribe call."""

    async def subscribe(self, requests: AsyncIterable[bytes], on_messages: OnMessages) -> None:
        """Send the requests as they come and hand on every answer, until the target ends the stream well.

        Our half of the stream is closed when the requests end. Cancelling it cancels the call. What ``on_messages``
        raises ends the call and is raised.

        Raises
        ------
        TransportError
            If the target cannot be reached or ends the stream otherwise.
        """


def open_transport(endpoint: Endpoint) -> Transport:
    """Return the transport that the endpoint asks for; it connects when it is used."""
    if endpoint.transport == "grpc":
        from telemetryd.ingest.gnmi.grpc_aio import GrpcTransport

        return GrpcTransport(endpoint)
    from telemetryd.ingest.gnmi.http2 import Http2Transport

    return Http2Transport(endpoint)
