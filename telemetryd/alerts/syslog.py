"""A syslog server as receiver: messages of RFC 5424 by UDP (RFC 5426), TCP (RFC 6587), TLS (RFC 5425), a Unix socket.

Syslog acknowledges nothing. By TCP and TLS a connection that a server closed is noticed before the next message, so
that what was sent last may be gone.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from telemetryd.alerts.messages import LONGEST_DATAGRAM, syslog_message
from telemetryd.alerts.receiver import DELIVERED, Attempt, Outcome, Receiver, input_failure
from telemetryd.assure.alerts import Alert
from telemetryd.errors import InputError
from telemetryd.store.influx.respond import Pace
from telemetryd.store.influx.transport import trust

PORT: Final = 514
TLS_PORT: Final = 6514


@dataclass(frozen=True, slots=True)
class SyslogTarget:
    """Where messages are sent, and how they are marked.

    Attributes
    ----------
    protocol:
        ``unix`` takes ``path``, the others ``host`` and ``port``.
    host, port, path, ca_file:
        Of the server.
    facility, enterprise:
        See :func:`telemetryd.alerts.messages.syslog_message`.
    timeout_s:
        Longest time of an attempt.
    """

    protocol: Literal["udp", "tcp", "tls", "unix"]
    host: str
    port: int
    path: Path | None
    ca_file: Path | None
    facility: int
    enterprise: int
    timeout_s: float


class Syslog(Receiver):
    """Send one message an alert, in order."""

    def __init__(
        self,
        name: str,
        target: SyslogTarget,
        *,
        sender: str,
        queue: int,
        pace: Pace | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(name, queue, pace=pace, clock=clock)
        self._target = target
        self._sender = sender
        self._datagrams: socket.socket | None = None
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @property
    def batch(self) -> int:
        """Alerts of one message."""
        return 1

    async def attempt(self, alerts: Sequence[Alert]) -> Attempt:
        """Send the message of one alert."""
        target = self._target
        is_datagram = target.protocol in ("udp", "unix")
        message = syslog_message(
            alerts[0],
            sender=self._sender,
            process=os.getpid(),
            facility=target.facility,
            enterprise=target.enterprise,
            longest=LONGEST_DATAGRAM if is_datagram else None,
        )
        try:
            async with asyncio.timeout(target.timeout_s):
                if is_datagram:
                    await self._send_datagram(message)
                else:
                    await self._send_framed(message)
        except InputError as error:
            return input_failure(error)
        except TimeoutError:
            await self.close()
            return Attempt(Outcome.AGAIN, f"not sent within {target.timeout_s:g} s")
        except ssl.SSLCertVerificationError as error:
            await self.close()
            return Attempt(Outcome.HOLD, f"the server's certificate: {error.verify_message}")
        except OSError as error:
            await self.close()
            return Attempt(Outcome.AGAIN, error.strerror or str(error) or type(error).__name__)
        return DELIVERED

    async def close(self) -> None:
        """Close what is open."""
        datagrams, self._datagrams = self._datagrams, None
        if datagrams is not None:
            datagrams.close()
        stream, self._stream = self._stream, None
        if stream is not None:
            stream[1].close()
            # The other end may be gone already; there is nothing left to say to it.
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(self._target.timeout_s):
                    await stream[1].wait_closed()

    async def _send_datagram(self, message: bytes) -> None:
        loop = asyncio.get_running_loop()
        if self._datagrams is None:
            self._datagrams = await self._open_datagrams(loop)
        await loop.sock_sendall(self._datagrams, message)

    async def _open_datagrams(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        target = self._target
        if target.protocol == "unix":
            assert target.path is not None
            family, address = socket.AF_UNIX, str(target.path)
            opened = socket.socket(family, socket.SOCK_DGRAM)
            opened.setblocking(False)
            try:
                await loop.sock_connect(opened, address)
            except BaseException:
                opened.close()
                raise
            return opened
        found = await loop.getaddrinfo(target.host, target.port or PORT, type=socket.SOCK_DGRAM)
        opened = socket.socket(found[0][0], socket.SOCK_DGRAM)
        opened.setblocking(False)
        try:
            await loop.sock_connect(opened, found[0][4])
        except BaseException:
            opened.close()
            raise
        return opened

    async def _send_framed(self, message: bytes) -> None:
        """Send by a stream, with the length before each message (RFC 6587, section 3.4.1)."""
        if self._stream is not None and self._stream[0].at_eof():
            await self.close()
        if self._stream is None:
            target = self._target
            context = await asyncio.to_thread(trust, target.ca_file) if target.protocol == "tls" else None
            port = target.port or (TLS_PORT if context is not None else PORT)
            self._stream = await asyncio.open_connection(
                target.host, port, ssl=context, server_hostname=target.host if context is not None else None
            )
        _, writer = self._stream
        writer.write(b"%d %b" % (len(message), message))
        await writer.drain()
