"""One target: it is asked what it can, subscribed to, and tried again when that ends."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from telemetryd._ext import load
from telemetryd.ingest.gnmi.backoff import Backoff
from telemetryd.ingest.gnmi.grpc_aio import unary
from telemetryd.ingest.gnmi.paths import PathTable, Resolver
from telemetryd.ingest.gnmi.subscription import ListMode, Wanted, subscribe_request
from telemetryd.ingest.gnmi.transport import Status, TransportError, open_transport
from telemetryd.ingest.gnmi.vendors import choose_encoding
from telemetryd.observe.log import Log
from telemetryd.proto import gnmi_pb2
from telemetryd.schema import UpdateBatch

_ext = load("gnmi_wire", "telemetryd.ingest.gnmi.gnmi_wire_reference")

CAPABILITIES: Final = "/gnmi.gNMI/Capabilities"
UNARY_TIMEOUT_S: Final = 10.0
#: A stream that lived so long has worked: the next wait is short again.
WORKED_S: Final = 30.0
#: What a target may have used of the processor beyond its share before it is slowed.
BURST_S: Final = 0.2
LONGEST_PAUSE_S: Final = 1.0
#: Statuses that trying again does not mend, until somebody changes something.
REFUSALS: Final = frozenset(
    {
        Status.INVALID_ARGUMENT,
        Status.NOT_FOUND,
        Status.PERMISSION_DENIED,
        Status.UNAUTHENTICATED,
        Status.UNIMPLEMENTED,
        Status.FAILED_PRECONDITION,
    }
)


class Phase(StrEnum):
    """What is going on with a target."""

    WAITING = "waiting"
    CONNECTING = "connecting"
    SYNCING = "syncing"  # connected, and not everything has come once
    STREAMING = "streaming"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class TargetState:
    """How a target is.

    Attributes
    ----------
    reason:
        Why it is not streaming, or what happened last; empty for nothing.
    connections, slowed:
        How often it was connected to, and how often it was slowed because it took too much of the processor.
    counts:
        What came and what was left out (the decoder's counts), over all connections.
    delay_ns:
        The least time of reception less the target's of late: how far its clock is behind ours, and the way.
    intervals:
        Of each subscription with an interval: how far apart values were of late, as multiples of what was asked for.
    """

    name: str
    phase: Phase = Phase.WAITING
    reason: str = ""
    since_ns: int = 0
    encoding: str = ""
    connections: int = 0
    slowed: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    delay_ns: int | None = None
    intervals: tuple[float | None, ...] = ()


class Target:
    """Keeps one subscription up.

    Parameters
    ----------
    wanted:
        What to ask of which target.
    number:
        Its number in the rows.
    paths:
        The table of all targets.
    batch:
        Receives the rows; shared with the other targets.
    empty:
        Empties the batch when it is full.
    connecting:
        Bounds how many targets are being connected to at a time.
    """

    def __init__(
        self,
        wanted: Wanted,
        number: int,
        paths: PathTable,
        batch: UpdateBatch,
        empty: Callable[[], None],
        connecting: asyncio.Semaphore,
    ) -> None:
        self.wanted = wanted
        self._number, self._batch, self._empty, self._connecting = number, batch, empty, connecting
        self._resolver = Resolver(
            paths,
            [one.path for one in wanted.subscriptions],
            asked_target=wanted.target,
            most_paths=wanted.most_paths,
            is_wrapped=wanted.profile.wraps_json,
        )
        self._asked_ns = np.array([one.asked_ns for one in wanted.subscriptions], np.int64)
        self._decoder: Any = None
        self._before: Counter[str] = Counter()  # counts of earlier connections
        self._backoff = Backoff()
        self._log = Log("gnmi")
        self._state = TargetState(wanted.name)
        self._used_s, self._looked_s = 0.0, 0.0

    @property
    def state(self) -> TargetState:
        """How the target is now."""
        return replace(self._state, counts=self._counts())

    def measure(self) -> None:
        """Take a look at delay and intervals since the last call; called every few seconds."""
        if self._decoder is None:
            return
        n, least_ns, _ = self._decoder.take_delay()
        found = self._decoder.take_intervals()
        intervals = tuple(
            float(total / number / asked) if asked and number else None
            for total, number, asked in zip(found["sum_ns"], found["n"], self._asked_ns, strict=True)
        )
        self._state = replace(self._state, delay_ns=least_ns if n else self._state.delay_ns, intervals=intervals)

    async def run(self) -> None:
        """Subscribe again and again, for ever; ONCE until it is complete."""
        while True:
            began = time.monotonic()
            try:
                await self.subscribe_once()
                reason, refused = "the target ended the stream", False
            except TransportError as error:
                reason, refused = str(error), error.status in REFUSALS
            if self.wanted.list_mode is ListMode.ONCE and reason == "the target ended the stream":
                self._enter(Phase.ENDED)
                return
            if time.monotonic() - began > WORKED_S:
                self._backoff.reset()
            wait_s = self._backoff.next_s()
            self._enter(Phase.WAITING, reason)
            self._log.warning(
                "target refused" if refused else "target lost", target=self.wanted.name, reason=reason, again_s=wait_s
            )
            await asyncio.sleep(wait_s)

    async def subscribe_once(self, requests: Callable[[bytes], AsyncIterator[bytes]] | None = None) -> None:
        """Subscribe until the stream ends; ``requests`` makes those of a POLL call out of the first one.

        Raises
        ------
        TransportError
            If it ends otherwise than well.
        """
        wanted = self.wanted
        async with self._connecting:
            self._enter(Phase.CONNECTING, self._state.reason)
            encoding = wanted.encoding
            if encoding is None:
                encoding = choose_encoding(wanted.profile, await self._offered())
            self._before.update(self._decoder.counts if self._decoder is not None else {})
            # A target that comes back may spell its paths otherwise: the table of spellings begins anew.
            self._decoder = _ext.Decoder(self._batch, self._number, self._resolver, self._asked_ns)
            self._used_s, self._looked_s = 0.0, time.monotonic()
            self._state = replace(
                self._state, encoding=gnmi_pb2.Encoding.Name(encoding), connections=self._state.connections + 1
            )
        first = subscribe_request(wanted, encoding)
        await open_transport(wanted.endpoint).subscribe((requests or _stay)(first), self._take)

    async def _offered(self) -> frozenset[int]:
        """Ask for the encodings that the target has; none where it does not say."""
        try:
            answer = await unary(self.wanted.endpoint, CAPABILITIES, b"", UNARY_TIMEOUT_S)
            return frozenset(gnmi_pb2.CapabilityResponse.FromString(answer).supported_encodings)
        except DecodeError:
            return frozenset()
        except TransportError as error:
            if error.status in (Status.UNIMPLEMENTED, Status.DEADLINE_EXCEEDED):
                return frozenset()
            raise

    def _take(
        self, octets: NDArray[np.uint8], offsets: NDArray[np.int64], lengths: NDArray[np.int64], received_ns: int
    ) -> float:
        """Decode messages; return how long the target has to wait."""
        began = time.monotonic()
        first, syncs = 0, self._state.phase
        while (first := self._decoder.decode(octets, offsets, lengths, first, received_ns)) < len(offsets):
            self._empty()
        if syncs is Phase.CONNECTING:
            self._enter(Phase.SYNCING)
        if syncs is not Phase.STREAMING and self._decoder.counts["syncs"]:
            self._enter(Phase.STREAMING)
        return self._pause_s(began)

    def _pause_s(self, began: float) -> float:
        """Return how long the target has to wait, so that it does not take more of the processor than its share."""
        now, share = time.monotonic(), self.wanted.cpu_share
        # What it did not use it may not save up.
        self._used_s = max(0.0, self._used_s - (now - self._looked_s) * share) + (now - began)
        self._looked_s = now
        if self._used_s <= BURST_S:
            return 0.0
        self._state = replace(self._state, slowed=self._state.slowed + 1)
        return min(LONGEST_PAUSE_S, (self._used_s - BURST_S) / share)

    def _enter(self, phase: Phase, reason: str = "") -> None:
        self._state = replace(self._state, phase=phase, reason=reason, since_ns=time.time_ns())

    def _counts(self) -> dict[str, int]:
        return dict(self._before + Counter(self._decoder.counts if self._decoder is not None else {}))


async def _stay(first: bytes) -> AsyncIterator[bytes]:
    """Send the subscription and leave our half of the stream open: some targets take its end for the end of all."""
    yield first
    await asyncio.Event().wait()
