"""Paced sending and bare counting in Python, a datagram a call: the specification of ext/send.pyx."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

NS: Final = 1_000_000_000
RETRY_S: Final = 1e-4
SLOT: Final = 2048
_FULL: Final = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)
_IP_PKTINFO: Final = 8  # Linux; the socket module of Python 3.11 has no name for it


class Sender:
    """Send datagrams on a connected UDP socket, each at its time.

    Attributes
    ----------
    datagrams, octets:
        What was sent so far.
    refused:
        How often the kernel sent less than it was given, nearly always because ICMP said that nobody listens at
        the target; the datagrams were sent all the same.
    retries:
        How often the kernel had no room and a datagram was tried again.
    latest_ns:
        The furthest that a datagram was behind its time.
    """

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=os.dup(fd))
        self.datagrams = self.octets = self.refused = self.retries = self.latest_ns = 0

    def __del__(self) -> None:
        self._socket.close()

    def send(
        self,
        buffer: NDArray[np.uint8],
        offsets: NDArray[np.uint64],
        lengths: NDArray[np.uint32],
        due_ns: NDArray[np.int64],
        sources: NDArray[np.uint32],
        first: int,
        until_ns: int,
    ) -> int:
        """Send rows in order, each when it is due.

        Parameters
        ----------
        buffer:
            The octets, C-contiguous.
        offsets, lengths:
            Where each datagram lies, shape (n,).
        due_ns:
            Times of the monotonic clock, shape (n,), ascending. One that has passed is sent at once.
        sources:
            IPv4 source address of each datagram, shape (n,); 0 leaves it to the route.
        first, until_ns:
            The first row to send, and when to return at the latest.

        Returns
        -------
        int
            The first row that was not sent: n if all were.

        Raises
        ------
        ValueError
            If a datagram lies outside the buffer or the columns differ in length.
        OSError
            If the kernel will not send.
        """
        n = len(offsets)
        if not n == len(lengths) == len(due_ns) == len(sources):
            raise ValueError("the columns differ in length")
        if not 0 <= first <= n:
            raise ValueError("there is no such row")
        ends = offsets[first:] + lengths[first:]
        if (outside := np.flatnonzero((ends > len(buffer)) | (offsets[first:] > len(buffer)))).size:
            raise ValueError(f"datagram {first + int(outside[0])} lies outside the buffer")
        octets = buffer.data
        row = first
        while row < n and (now := time.monotonic_ns()) < until_ns:
            if due_ns[row] > now:
                time.sleep((min(int(due_ns[row]), until_ns) - now) / NS)
                continue
            self.latest_ns = max(self.latest_ns, now - int(due_ns[row]))
            start = int(offsets[row])
            if self._send_one(octets[start : start + int(lengths[row])], int(sources[row])):
                row += 1
        return row

    def _send_one(self, datagram: memoryview, source: int) -> bool:
        control = []
        if source:
            info = struct.pack("=i4s4x", 0, source.to_bytes(4, "big"))  # ip(7): struct in_pktinfo
            control.append((socket.IPPROTO_IP, _IP_PKTINFO, info))
        try:
            self._socket.sendmsg([datagram], control)
        except ConnectionRefusedError:
            self.refused += 1
            return False
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self.retries += 1
            time.sleep(RETRY_S)
            return False
        self.datagrams += 1
        self.octets += len(datagram)
        return True


class Counter:
    """Receive and count, and nothing else: the limit of what any receiver can do.

    Parameters
    ----------
    fd:
        A bound UDP socket.
    wait_ns:
        How long datagrams may gather once the first has come; 0 wakes up for every one.

    Attributes
    ----------
    datagrams, octets:
        What came so far; of a datagram at most 2,048 octets.
    """

    def __init__(self, fd: int, wait_ns: int) -> None:
        self._socket = socket.socket(fileno=os.dup(fd))
        self._wait_s = wait_ns / NS
        self._slot = bytearray(SLOT)
        self.datagrams = self.octets = 0

    def __del__(self) -> None:
        self._socket.close()

    def receive(self, until_ns: int) -> None:
        """Receive until a time of the monotonic clock.

        Raises
        ------
        OSError
            If the socket fails.
        """
        while (left_ns := until_ns - time.monotonic_ns()) > 0:
            if not select.select([self._socket], [], [], left_ns / NS)[0]:
                return
            if self._wait_s:
                time.sleep(self._wait_s)
            while True:
                try:
                    self.octets += self._socket.recv_into(self._slot, SLOT, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
                self.datagrams += 1
