"""Split what an HTTP/2 connection receives into gRPC messages and control frames (twin of ext/http2_data.pyx).

A Subscribe stream is one HTTP/2 stream (RFC 9113) whose DATA frames carry gRPC messages, each behind five
octets, across frame boundaries (the gRPC protocol over HTTP/2, "Length-Prefixed-Message")::

    frame    +---------------+-----------+-----------+-+-------------+=========+
             |  length (24)  | type (8)  | flags (8) |R| stream (31) | payload |
             +---------------+-----------+-----------+-+-------------+=========+
    message  +----------------+-------------+=========+
             | compressed (8) | length (32) | message |
             +----------------+-------------+=========+

The splitter takes the payload of the one open stream's DATA frames itself. Every other frame, and a DATA frame with
padding, is handed out whole and in order, to be answered before what follows it is looked at: DATA behind HEADERS in
one read belongs to a stream that only those HEADERS open.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

FRAME_HEADER: Final = 9
MESSAGE_HEADER: Final = 5
#: SETTINGS_MAX_FRAME_SIZE that is announced, and that every peer may use without being told (RFC 9113, 4.2).
MAX_FRAME: Final = 16384
INPUT_OCTETS: Final = 256 << 10
MAX_MESSAGES: Final = 8192

DATA: Final = 0
END_STREAM: Final = 0x1
PADDED: Final = 0x8


class Step(IntEnum):
    """Why :meth:`DataSplitter.step` returned."""

    WAIT = 0  # everything that was received is looked at
    CONTROL = 1  # a frame waits in ``control``
    FULL = 2  # take the messages first, then go on
    ENDED = 3  # the open stream's last DATA frame has passed
    COMPRESSED = 4  # a message has the compressed flag: no compression was offered
    OVERSIZED = 5  # a message is longer than allowed
    FRAME_SIZE = 6  # a frame is longer than was announced


class DataSplitter:
    """The receiving half of one connection.

    Parameters
    ----------
    max_message_octets:
        Longest message that is taken.

    Attributes
    ----------
    control:
        The frame that the last step handed out, with its header.
    control_frames, empty_frames:
        Frames handed out, and DATA frames without an octet that carried nothing: floods are made of these.
    """

    def __init__(self, max_message_octets: int) -> None:
        self._max = max_message_octets
        self._input = bytearray(INPUT_OCTETS)
        self._start = self._end = 0
        self._stream = 0
        self._left = 0  # of the payload of the DATA frame that is being read
        self._ends = False  # whether that frame ends the stream
        self._is_full = False  # whether whole messages wait that were not listed
        self._flow = 0
        self._payload = bytearray()
        self._taken = 0  # octets of the payload that belong to listed messages
        self._offsets: list[int] = []
        self._lengths: list[int] = []
        self.control = b""
        self.control_frames = self.empty_frames = 0

    def room(self) -> memoryview:
        """Return where received octets are to be written; at least a frame fits."""
        rest = self._input[self._start : self._end]
        self._input[: len(rest)] = rest
        self._start, self._end = 0, len(rest)
        return memoryview(self._input)[self._end :]

    def received(self, n: int) -> None:
        """Take note of ``n`` octets that were written to the start of :meth:`room`.

        Raises
        ------
        ValueError
            If that is more than there was room for.
        """
        if not 0 <= n <= len(self._input) - self._end:
            raise ValueError("more was received than there was room for")
        self._end += n

    def open(self, stream: int) -> None:
        """Take this stream's DATA frames from now on."""
        self._stream = stream

    def close(self) -> None:
        """Hand out all frames from now on."""
        self._stream = 0

    def step(self) -> Step:
        """Go on until something is to be done, and say what."""
        while True:
            if self._left or self._ends or self._is_full:
                chunk = min(self._left, self._end - self._start)
                self._payload += self._input[self._start : self._start + chunk]
                self._start += chunk
                self._left -= chunk
                self._flow += chunk
                if found := self._list_messages():
                    return found
                if self._left:
                    return Step.WAIT
                if self._ends:
                    self._ends = False
                    self._stream = 0
                    return Step.ENDED
            if self._end - self._start < FRAME_HEADER:
                return Step.WAIT
            header = self._input[self._start : self._start + FRAME_HEADER]
            length = int.from_bytes(header[:3], "big")
            if length > MAX_FRAME:
                return Step.FRAME_SIZE
            kind, flags = header[3], header[4]
            stream = int.from_bytes(header[5:], "big") & 0x7FFF_FFFF
            if kind == DATA and self._stream and stream == self._stream and not flags & PADDED:
                self._start += FRAME_HEADER
                self._left, self._ends = length, bool(flags & END_STREAM)
                self.empty_frames += length == 0 and not self._ends
                continue
            if self._end - self._start < FRAME_HEADER + length:
                return Step.WAIT
            self.control = bytes(self._input[self._start : self._start + FRAME_HEADER + length])
            self._start += FRAME_HEADER + length
            self.control_frames += 1
            return Step.CONTROL

    def append(self, payload: bytes) -> Step:
        """Take the payload of a DATA frame that came without its padding; return WAIT, FULL or what is wrong."""
        self._payload += payload
        return self._list_messages() or Step.WAIT

    def messages(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """Return the whole messages since :meth:`release`: a buffer, and where in it they are, shape (n,) each."""
        return (
            np.frombuffer(bytes(self._payload), np.uint8),
            np.array(self._offsets, np.int64),
            np.array(self._lengths, np.int64),
        )

    def release(self) -> None:
        """Forget the messages: their buffer is used again."""
        del self._payload[: self._taken]
        self._taken = 0
        self._offsets.clear()
        self._lengths.clear()

    def take_flow(self) -> int:
        """Return the flow-controlled octets since the last call (RFC 9113, 5.2)."""
        flow, self._flow = self._flow, 0
        return flow

    def has_part(self) -> bool:
        """Tell whether a message has begun that is not whole."""
        return len(self._payload) > self._taken

    def _list_messages(self) -> Step | None:
        self._is_full = False
        while len(self._payload) - self._taken >= MESSAGE_HEADER:
            if self._payload[self._taken]:
                return Step.COMPRESSED
            length = int.from_bytes(self._payload[self._taken + 1 : self._taken + MESSAGE_HEADER], "big")
            if length > self._max:
                return Step.OVERSIZED
            if len(self._payload) - self._taken < MESSAGE_HEADER + length:
                return None
            if len(self._offsets) == MAX_MESSAGES:
                self._is_full = True
                return Step.FULL
            self._offsets.append(self._taken + MESSAGE_HEADER)
            self._lengths.append(length)
            self._taken += MESSAGE_HEADER + length
        return None
