"""Probes of the loopback: what answers, what is silent, what cannot be sent; and what a guard makes of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from telemetryd.enforce.guard import Verdict
from telemetryd.enforce.probes import Kind, Measured, ProbeGuard, Target, measure

pytestmark = pytest.mark.no_twins

HERE = "127.0.0.1"


class Echo(asyncio.DatagramProtocol):
    """Answers datagrams, or is silent."""

    def __init__(self) -> None:
        self.is_silent = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self.is_silent:
            self.transport.sendto(data, addr)


def tell(story: Callable[[Echo, Target], Awaitable[None]]) -> None:
    """Run a story with a server that answers datagrams."""

    async def whole() -> None:
        loop = asyncio.get_running_loop()
        transport, echo = await loop.create_datagram_endpoint(Echo, local_addr=(HERE, 0))
        try:
            await story(echo, Target("echo", "udp", HERE, transport.get_extra_info("sockname")[1]))
        finally:
            transport.close()

    asyncio.run(whole())


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as own:
        own.bind((HERE, 0))
        return int(own.getsockname()[1])


@pytest.mark.parametrize(("kind", "sort"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)])
def test_a_port_that_nobody_serves_answers_too(kind: Kind, sort: socket.SocketKind) -> None:
    """A refusal is an answer: the way there and back is open."""
    found = asyncio.run(measure(Target("closed", kind, HERE, free_port(sort)), tries=3))
    assert found.lost == 0
    assert found.median_s < 1


def test_what_is_silent_is_lost() -> None:
    """Nothing comes back within the time."""

    async def story(echo: Echo, target: Target) -> None:
        assert (await measure(target, tries=2)).lost == 0
        echo.is_silent = True
        assert (await measure(target, tries=2, timeout_s=0.05)).lost == 1

    tell(story)


def test_a_guard_holds_it_against_how_it_was() -> None:
    """It goes silent: hurt; it was silent before: nobody can tell; it was never asked: nobody can tell."""

    async def story(echo: Echo, target: Target) -> None:
        guard = ProbeGuard(target, tries=3, timeout_s=0.5)
        assert (await guard.judge()).verdict is Verdict.CANNOT_TELL
        await guard.begin()
        assert (await guard.judge()).verdict is Verdict.OK
        echo.is_silent = True
        found = await guard.judge()
        assert (found.verdict, found.guard) == (Verdict.HURT, "probe echo")
        assert found.reason == "100 % of the probes are lost, before it was 0 %"
        await guard.begin()
        assert (await guard.judge()).verdict is Verdict.CANNOT_TELL

    tell(story)


def test_a_guard_sees_that_it_became_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times the time, and 50 ms more."""
    times = iter([Measured(0.0, 0.010), Measured(0.0, 0.059), Measured(0.0, 0.061)])

    async def measured(*_: object) -> Measured:
        return next(times)

    monkeypatch.setattr("telemetryd.enforce.probes.measure", measured)

    async def story() -> None:
        guard = ProbeGuard(Target("far", "tcp", HERE, 1))
        await guard.begin()
        assert (await guard.judge()).verdict is Verdict.OK
        assert (await guard.judge()).reason == "it answers after 61 ms, before it was 10 ms"

    asyncio.run(story())


def test_what_cannot_be_sent_is_no_verdict() -> None:
    """No such name: nobody can tell, and the reason is said."""

    async def story() -> None:
        guard = ProbeGuard(Target("nowhere", "udp", "host.invalid", 7), tries=1)
        await guard.begin()
        found = await guard.judge()
        assert found.verdict is Verdict.CANNOT_TELL
        assert found.reason.startswith("it cannot be probed from here: ")

    asyncio.run(story())


def test_echo_requests_need_no_privilege_where_the_kernel_lets_them() -> None:
    """ICMP answers, or it is said that it may not be sent."""
    try:
        found = asyncio.run(measure(Target("self", "icmp", HERE), tries=2))
    except PermissionError:
        low, high = map(int, Path("/proc/sys/net/ipv4/ping_group_range").read_text(encoding="ascii").split())
        assert low > high or high < 2**31 - 1, "everybody may send them"
        return
    assert found.lost == 0
