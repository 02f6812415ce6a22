"""Receive datagrams from a UDP socket into one reused buffer, in Python: the specification of ext/receive.pyx.

Before anything is decoded, every datagram is counted as exactly one of

- **refused**: its sender is not on the list of allowed sources;
- **short**: it is too short for any sFlow v5 header (:data:`LEAST_HEADER`);
- **capped**: its agent sends more than an agent may (a token bucket for each agent address);
- **shed**: the collector is behind and keeps only a share of each agent's datagrams;
- **processed**: handed on.

The agent is the one that the datagram's header names (sFlow v5 specification, section 5: version, address
type, address). What has no readable agent counts as one agent, "other", and so do agents beyond
:data:`MOST_AGENTS`.

Shedding is even by counting, not by chance alone: each agent carries a balance to which every datagram adds
the share that is kept; where the balance exceeds a random threshold in [0, 1) the datagram is kept and the
balance falls by one. So what is kept of n datagrams of an agent is within one of the share times n, at
every moment and whatever changes of the share there were, and which ones are kept follows no pattern.

What the kernel dropped and what waits in the socket come from ``SO_MEMINFO``: the drops are the counter that
``SO_RXQ_OVFL`` attaches to the next datagram, readable without waiting for one.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Octets of the shortest sFlow v5 header: that of an agent without an address.
LEAST_HEADER: Final = 24
#: Agents counted one by one; slot 0 is "other".
MOST_AGENTS: Final = 8192
#: Refused senders counted one by one; slot 0 is "other".
MOST_REFUSED: Final = 64
#: The share that is kept is a number of this many parts.
KEEP_ALL: Final = 65536
#: Datagrams are let accumulate until this part of the receive buffer is full, at the rate at which they come, ...
LINGER_FILL: Final = 1 / 16
#: ... and so that this part is not exceeded where they suddenly come ...
LINGER_MOST: Final = 3 / 4
#: ... at the highest rate that a sender on this class of machine reached, datagrams a second.
LINGER_RATE: Final = 400_000
#: What one datagram of an Ethernet frame's size takes of the receive buffer (skb->truesize).
DATAGRAM_MEMORY: Final = 2304

_SO_MEMINFO: Final = 55  # linux/sock_diag.h; the words are SK_MEMINFO_*
_MEMINFO: Final = struct.Struct("=9I")
_RMEM_ALLOC, _RCVBUF, _DROPS = 0, 1, 8
_VERSION: Final = 5
_IPV4, _IPV6 = 1, 2
_WORD64: Final = 0xFFFF_FFFF_FFFF_FFFF

#: (version, first 64 bits, last 64 bits) of an address, an IPv4 one in the low 32 bits.
Address = tuple[int, int, int]
#: (version, mask of the first 64 bits, of the last, the prefix's first 64 bits, its last).
Prefix = tuple[int, int, int, int, int]


def address_words(text: str) -> Address:
    """Return the words of an address; an IPv4-mapped IPv6 address is the IPv4 one."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return 6, int(address) >> 64, int(address) & _WORD64
        address = address.ipv4_mapped
    return 4, 0, int(address)


def linger_limit(receive_buffer: int) -> int:
    """Return how long datagrams may accumulate in a receive buffer of so many octets whatever comes, ns."""
    return int(receive_buffer * LINGER_MOST * 1e9 / (DATAGRAM_MEMORY * LINGER_RATE))


def linger_after(gathered: int, elapsed_ns: int, receive_buffer: int) -> int:
    """Return how long datagrams may accumulate now that ``gathered`` octets came in ``elapsed_ns``, ns."""
    return int(elapsed_ns * receive_buffer * LINGER_FILL / max(gathered, 1))


class Splitmix:
    """The random numbers of the shedding: splitmix64 (Steele, Lea, Flood 2014)."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _WORD64

    def next(self) -> int:
        """Return the next 64 bits."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _WORD64
        key = self._state
        key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9 & _WORD64
        key = (key ^ (key >> 27)) * 0x94D049BB133111EB & _WORD64
        return key ^ (key >> 31)


@dataclass(slots=True)
class _Agent:
    version: int = 0
    hi: int = 0
    lo: int = 0
    balance: int = 0
    tokens: float = 0.0
    refilled_ns: int = 0
    datagrams: int = 0
    octets: int = 0
    processed: int = 0
    shed: int = 0
    capped: int = 0


class Receiver:
    """Receive batches of datagrams from one socket.

    Parameters
    ----------
    fd:
        A bound UDP socket, which stays the caller's.
    capacity_datagrams:
        Datagrams of a batch.
    max_octets:
        Octets of a datagram that are kept; longer ones are cut and counted as ``truncated``.
    linger_ns:
        How long datagrams are let accumulate after the first one came, at most: the fewer wakes, the less a
        datagram costs. It is less where the socket's buffer is small (:func:`linger_limit`) or fills fast
        (:func:`linger_after`).
    seed:
        Of the random thresholds.

    Attributes
    ----------
    buffer:
        uint8, shape (capacity_datagrams * max_octets,); slot i begins at i * max_octets.
    offsets, lengths, ts_ns:
        uint64, uint32 and int64, shape (capacity_datagrams,): the datagrams of the last batch. The time stamps
        are the caller's to write: one clock serves all sockets.

    Raises
    ------
    ValueError
        If a size is not positive.
    OSError
        If ``fd`` is no socket.
    """

    def __init__(
        self, fd: int, capacity_datagrams: int, max_octets: int, *, linger_ns: int = 5_000_000, seed: int = 0
    ) -> None:
        if capacity_datagrams < 1 or max_octets < LEAST_HEADER:
            raise ValueError("a receiver needs room for a datagram")
        self._socket = socket.socket(fileno=os.dup(fd))
        self._capacity, self._max_octets, self._linger_ns = capacity_datagrams, max_octets, linger_ns
        self.buffer: NDArray[np.uint8] = np.zeros(capacity_datagrams * max_octets, np.uint8)
        self.offsets: NDArray[np.uint64] = np.zeros(capacity_datagrams, np.uint64)
        self.lengths: NDArray[np.uint32] = np.zeros(capacity_datagrams, np.uint32)
        self.ts_ns: NDArray[np.int64] = np.zeros(capacity_datagrams, np.int64)
        self._spill = bytearray(65536)
        self._random = Splitmix(seed)
        self._allowed: set[Address] = set()
        self._prefixes: list[Prefix] = []
        self._keep = KEEP_ALL
        self._rate, self._burst = 0.0, 0.0
        self._agents = [_Agent()]
        self._slots: dict[Address, int] = {}
        self._refused: dict[Address, int] = {}
        self._is_behind = False
        self._next_linger_ns, self._emptied_ns = 0, time.monotonic_ns()
        self._counts = dict.fromkeys(
            ("received", "octets", "processed", "shed", "capped", "refused", "short", "truncated", "wakes"), 0
        )
        self._dropped, self._backlog, self._receive_buffer, self._last_drops = 0, 0, 1, 0
        self._read_memory()
        self._inherited, self._dropped = self._dropped, 0

    def allow(self, addresses: Sequence[Address], prefixes: Sequence[Prefix] = ()) -> None:
        """Take datagrams from these senders only; without any address or prefix, from all."""
        self._allowed, self._prefixes = set(addresses), list(prefixes)

    def cap(self, rate: float, burst: float) -> None:
        """Let an agent send ``rate`` datagrams a second, and ``burst`` at once; rate 0 is no cap."""
        self._rate, self._burst = rate, max(burst, 1.0)

    def keep(self, parts: int) -> None:
        """Keep ``parts`` of :data:`KEEP_ALL` of each agent's datagrams, from now on."""
        self._keep = min(max(parts, 0), KEEP_ALL)

    def receive(self, wait_ns: int) -> int:
        """Receive a batch and return how many datagrams it hands on; ``is_behind`` says whether it was full.

        Waits up to ``wait_ns`` for the first datagram (0: not at all) and, within the same time, lets more
        accumulate, unless the batch before was full. The GIL is released meanwhile.

        Raises
        ------
        OSError
            If the socket is broken.
        """
        until_ns = time.monotonic_ns() + wait_ns
        if wait_ns > 0 and not self._is_behind:
            if not select.select([self._socket], [], [], wait_ns / 1e9)[0]:
                self._read_memory()
                return 0
            linger_ns = min(self._linger_ns, self._next_linger_ns, until_ns - time.monotonic_ns())
            time.sleep(max(linger_ns, 0) / 1e9)
        self._read_memory()
        now_ns = time.monotonic_ns()
        if not self._is_behind:
            after_ns = linger_after(self._backlog, now_ns - self._emptied_ns, self._receive_buffer)
            self._next_linger_ns = min(linger_limit(self._receive_buffer), after_ns)
        room = self.buffer.data
        taken = kept = 0
        while taken < self._capacity:
            slot = room[taken * self._max_octets : (taken + 1) * self._max_octets]
            try:
                octets, _, flags, sender = self._socket.recvmsg_into([slot], 0, socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                break
            self._counts["truncated"] += bool(flags & socket.MSG_TRUNC)
            if self._is_kept(slot[:octets], sender[0], now_ns):
                self.offsets[kept], self.lengths[kept] = taken * self._max_octets, octets
                kept += 1
            taken += 1
        self._counts["wakes"] += taken > 0
        self._is_behind = taken == self._capacity
        if not self._is_behind:
            self._emptied_ns = now_ns
        return kept

    @property
    def is_behind(self) -> bool:
        """Whether the last batch was full, so that more may wait."""
        return self._is_behind

    @property
    def fill(self) -> float:
        """Share of the receive buffer that was taken before the last batch, 0 to about 1."""
        return self._backlog / self._receive_buffer

    def stats(self) -> dict[str, int]:
        """Count what came from this socket.

        ``received`` = ``processed`` + ``shed`` + ``capped`` + ``refused`` + ``short`` datagrams; ``octets`` (of
        all received), ``truncated`` (also one of the others), ``wakes`` (batches), ``kernel_drops`` since this
        receiver was made, ``inherited_drops`` (of the socket before that), ``backlog`` and ``receive_buffer``
        (octets of the kernel's memory).
        """
        self._read_memory()
        return self._counts | {
            "kernel_drops": self._dropped,
            "inherited_drops": self._inherited,
            "backlog": self._backlog,
            "receive_buffer": self._receive_buffer,
        }

    def agents(self) -> dict[str, NDArray[Any]]:
        """Describe the agents as columns of shape (a,), row 0 "other".

        ``agent_version``, ``agent_hi``, ``agent_lo``, and the counts ``datagrams``, ``octets``, ``processed``,
        ``shed`` and ``capped``; what was refused or short belongs to no agent.
        """
        fields = {"agent_version": "version", "agent_hi": "hi", "agent_lo": "lo"}
        fields |= {name: name for name in ("datagrams", "octets", "processed", "shed", "capped")}
        return {
            name: np.array([getattr(agent, field) for agent in self._agents], np.uint64)
            for name, field in fields.items()
        }

    def refused(self) -> list[tuple[int, int, int, int]]:
        """Return the senders that were refused: version, address words and datagrams; version 0 is "other"."""
        return [(*address, count) for address, count in self._refused.items()]

    def _read_memory(self) -> None:
        words = _MEMINFO.unpack(self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
        self._backlog, self._receive_buffer = words[_RMEM_ALLOC], max(words[_RCVBUF], 1)
        self._dropped += (words[_DROPS] - self._last_drops) & 0xFFFFFFFF
        self._last_drops = words[_DROPS]

    def _is_allowed(self, sender: Address) -> bool:
        if (not self._allowed and not self._prefixes) or sender in self._allowed:
            return True
        version, hi, lo = sender
        return any(
            version == of and hi & mask_hi == prefix_hi and lo & mask_lo == prefix_lo
            for of, mask_hi, mask_lo, prefix_hi, prefix_lo in self._prefixes
        )

    def _agent(self, datagram: memoryview) -> _Agent:
        version, kind = struct.unpack_from(">II", datagram)
        if version != _VERSION or kind not in (_IPV4, _IPV6):
            return self._agents[0]
        if kind == _IPV4:
            address = (4, 0, struct.unpack_from(">I", datagram, 8)[0])
        else:
            address = (6, *struct.unpack_from(">QQ", datagram, 8))
        slot = self._slots.get(address, 0)
        if slot == 0 and len(self._agents) < MOST_AGENTS:
            slot = self._slots[address] = len(self._agents)
            self._agents.append(_Agent(*address))
        return self._agents[slot]

    def _is_kept(self, datagram: memoryview, sender: str, now_ns: int) -> bool:
        counts = self._counts
        counts["received"] += 1
        counts["octets"] += len(datagram)
        address = address_words(sender)
        if not self._is_allowed(address):
            counts["refused"] += 1
            if address not in self._refused and len(self._refused) >= MOST_REFUSED:
                address = (0, 0, 0)
            self._refused[address] = self._refused.get(address, 0) + 1
            return False
        if len(datagram) < LEAST_HEADER:
            counts["short"] += 1
            return False
        agent = self._agent(datagram)
        agent.datagrams += 1
        agent.octets += len(datagram)
        if self._rate > 0:
            if agent.refilled_ns == 0:
                agent.tokens = self._burst
            else:
                earned = (now_ns - agent.refilled_ns) * self._rate / 1e9
                agent.tokens = min(self._burst, agent.tokens + earned)
            agent.refilled_ns = now_ns
            if agent.tokens < 1.0:
                agent.capped += 1
                counts["capped"] += 1
                return False
            agent.tokens -= 1.0
        agent.balance += self._keep
        if agent.balance <= self._random.next() % KEEP_ALL:
            agent.shed += 1
            counts["shed"] += 1
            return False
        agent.balance -= KEEP_ALL
        agent.processed += 1
        counts["processed"] += 1
        return True

    def __del__(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()
