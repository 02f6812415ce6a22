"""Probes: is something still reachable, how long does the way there take, how much is lost - without privileges.

tcp     a connection is opened and closed; one that is refused has been answered too
udp     an octet is sent and anything that comes back counts: for servers that echo; "port unreachable" counts too
icmp    an echo request on an ICMP socket without privileges (``net.ipv4.ping_group_range``)
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
import statistics
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from telemetryd.enforce.guard import Judgement, Verdict

Kind = Literal["tcp", "udp", "icmp"]

#: Tries of one measurement, and how far apart.
TRIES: Final = 10
APART_S: Final = 0.05
TIMEOUT_S: Final = 1.0
#: A change hurts where the median time grows beyond this factor and by more than this.
SLOWER: Final = 3.0
SLOWER_S: Final = 0.05
#: Or where so many more of the tries are lost.
LOST: Final = 0.2
_ICMP: Final = {4: (socket.AF_INET, socket.IPPROTO_ICMP, 8), 6: (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128)}


@dataclass(frozen=True, slots=True)
class Target:
    """What is probed: an address (or host name), a port for tcp and udp."""

    name: str
    kind: Kind
    address: str
    port: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """What tries found: the part that was lost, and the median time of the others; NaN where all were."""

    lost: float
    median_s: float


async def measure(target: Target, tries: int = TRIES, timeout_s: float = TIMEOUT_S) -> Measured:
    """Try some times, one after the other.

    Raises
    ------
    OSError
        If nothing can be sent from here: no such address, no route, no right.
    """
    probe: dict[Kind, Callable[[Target, float], Awaitable[float | None]]] = {
        "tcp": _tcp,
        "udp": _udp,
        "icmp": _icmp,
    }
    found: list[float | None] = []
    for number in range(tries):
        if number:
            await asyncio.sleep(APART_S)
        found.append(await probe[target.kind](target, timeout_s))
    times = [one for one in found if one is not None]
    return Measured(1 - len(times) / tries, statistics.median(times) if times else float("nan"))


class ProbeGuard:
    """Holds a target after a change against how it was before.

    Parameters
    ----------
    target:
        What is probed.
    """

    def __init__(self, target: Target, tries: int = TRIES, timeout_s: float = TIMEOUT_S) -> None:
        self._target, self._tries, self._timeout_s = target, tries, timeout_s
        self._before: Measured | None = None
        self._failure = "it was not measured before the change"

    @property
    def name(self) -> str:
        """See :class:`telemetryd.enforce.guard.Guard`."""
        return f"probe {self._target.name}"

    async def begin(self) -> None:
        """Measure how it is before anything is written."""
        self._before = await self._measure()

    async def judge(self) -> Judgement:
        """Compare with the beginning."""
        before = self._before
        if before is None:
            return Judgement(Verdict.CANNOT_TELL, self._failure, self.name)
        if before.lost == 1:
            return Judgement(Verdict.CANNOT_TELL, "it did not answer before the change either", self.name)
        now = await self._measure()
        if now is None:
            return Judgement(Verdict.CANNOT_TELL, self._failure, self.name)
        if now.lost > before.lost + LOST:
            what = f"{now.lost:.0%} of the probes are lost, before it was {before.lost:.0%}"
            return Judgement(Verdict.HURT, what.replace("%", " %"), self.name)
        if now.median_s > max(before.median_s * SLOWER, before.median_s + SLOWER_S):
            what = f"it answers after {now.median_s * 1e3:.0f} ms, before it was {before.median_s * 1e3:.0f} ms"
            return Judgement(Verdict.HURT, what, self.name)
        return Judgement(Verdict.OK, "", self.name)

    async def _measure(self) -> Measured | None:
        try:
            return await measure(self._target, self._tries, self._timeout_s)
        except OSError as error:
            self._failure = f"it cannot be probed from here: {error.strerror or error}"
            return None


async def _tcp(target: Target, timeout_s: float) -> float | None:
    begun = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(target.address, target.port)
    except TimeoutError:
        return None
    except ConnectionRefusedError:
        return time.monotonic() - begun
    except OSError as error:
        if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.ECONNRESET):
            return None
        raise
    took_s = time.monotonic() - begun
    writer.close()
    return took_s


async def _udp(target: Target, timeout_s: float) -> float | None:
    family, address = await _resolve(target, socket.SOCK_DGRAM)
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        return await _echo(sock, address, b"\0", timeout_s)


_sequence = itertools.count(1)


async def _icmp(target: Target, timeout_s: float) -> float | None:
    family, address = await _resolve(target, socket.SOCK_DGRAM)
    version = 6 if family == socket.AF_INET6 else 4
    family, protocol, kind = _ICMP[version]
    # The kernel writes identifier and checksum of such a socket itself.
    request = struct.pack("!BBHHH", kind, 0, 0, 0, next(_sequence) & 0xFFFF) + os.urandom(8)
    with socket.socket(family, socket.SOCK_DGRAM, protocol) as sock:
        return await _echo(sock, address, request, timeout_s)


async def _echo(sock: socket.socket, address: tuple[str, int], request: bytes, timeout_s: float) -> float | None:
    """Send something and wait for whatever comes back."""
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    begun = time.monotonic()
    try:
        async with asyncio.timeout(timeout_s):
            await loop.sock_connect(sock, address)
            await loop.sock_sendall(sock, request)
            await loop.sock_recv(sock, 2048)
    except TimeoutError:
        return None
    except ConnectionRefusedError:  # port unreachable: the other end has answered
        return time.monotonic() - begun
    except OSError as error:
        if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOBUFS):
            return None
        raise
    return time.monotonic() - begun


async def _resolve(target: Target, kind: socket.SocketKind) -> tuple[socket.AddressFamily, tuple[str, int]]:
    loop = asyncio.get_running_loop()
    family, _, _, _, address = (await loop.getaddrinfo(target.address, target.port or None, type=kind))[0]
    return family, (str(address[0]), int(address[1]))
