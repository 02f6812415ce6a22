"""Syslog by TLS (RFC 5425): framed messages for a server whose certificate is trusted, and none for another."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import trustme

from telemetryd.alerts.syslog import Syslog, SyslogTarget
from telemetryd.observe.health import State
from tests.contract.test_alert_receivers import ALERT, QUICK, alerts, until


def serve(trusted: Path | None, scenario: Callable[[Syslog, bytearray], Coroutine[Any, Any, None]]) -> Syslog:
    """Run a scenario with a receiver and a TLS server; ``trusted`` gets the authority's certificate."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if trusted is not None:
        authority.cert_pem.write_to_path(str(trusted))
    received = bytearray()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(65536):
            received.extend(octets)
        writer.close()

    async def whole() -> Syslog:
        async with await asyncio.start_server(take, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            target = SyslogTarget("tls", "127.0.0.1", port, None, trusted, 16, 32473, 10.0)
            receiver = Syslog("log", target, sender="host", queue=100, pace=QUICK)
            task = asyncio.create_task(receiver.run())
            await scenario(receiver, received)
            receiver.stop()
            async with asyncio.timeout(60):
                await task
            server.close()
        return receiver

    return asyncio.run(whole())


def test_messages_are_framed_by_their_length(tmp_path: Path) -> None:
    async def scenario(receiver: Syslog, received: bytearray) -> None:
        receiver.put([*alerts(2), replace(ALERT, rule="市")])
        await until(
            lambda: received.count(b"<130>1 ") == 3 and "市 firing".encode() in received and received[-1:] == b"%"
        )
        await until(lambda: receiver.counters.delivered == 3)

    received: list[bytes] = []

    async def noted(receiver: Syslog, octets: bytearray) -> None:
        await scenario(receiver, octets)
        received.append(bytes(octets))

    serve(tmp_path / "ca.pem", noted)
    octets, count = received[0], 0
    while octets:
        length, octets = octets.split(b" ", 1)
        message, octets = octets[: int(length)], octets[int(length) :]
        assert message.startswith(b"<130>1 ")
        count += 1
    assert count == 3


def test_a_certificate_that_is_not_trusted_is_waited_for_and_said() -> None:
    async def scenario(receiver: Syslog, received: bytearray) -> None:
        receiver.put(alerts(1))
        await until(lambda: receiver.counters.failures >= 2)
        assert receiver.health().state is State.DEGRADED
        assert "certificate" in receiver.health().reasons[0]
        assert not received

    assert serve(None, scenario).counters.delivered == 0
