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
from telemetryd.errors import InputError
from telemetryd.ingest.gnmi.backoff import Backoff
from telemetryd.ingest.gnmi.grpc_aio import unary
from telemetryd.ingest.gnmi.paths import PathTable, Resolver
from telemetryd.ingest.gnmi.subscription import ListMode, Subscription, Wanted, poll_request, subscribe_request
from telemetryd.ingest.gnmi.transport import Credentials, Endpoint, Status, TransportError, open_transport
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
#: A target that does not answer a poll within so long is connected to anew; more where polls are rarer.
POLL_TIMEOUT_S: Final = 30.0
DEFAULT_POLL_S: Final = 10.0
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


#: Statuses by which targets refuse paths and modes that they do not know.
UNKNOWN_TO_TARGET: Final = frozenset({Status.INVALID_ARGUMENT, Status.NOT_FOUND, Status.UNIMPLEMENTED})


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
    is_refused:
        Whether it is of no use to try again until somebody changes something.
    is_reduced:
        Whether it refused what it was asked for and is asked for less.
    heard_ns:
        When its last message came; 0 before the first.
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
    is_refused: bool = False
    is_reduced: bool = False
    heard_ns: int = 0
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
    login:
        Reads who we are, for each connection, in a thread; None for the endpoint's own credentials.
    """

    def __init__(
        self,
        wanted: Wanted,
        number: int,
        paths: PathTable,
        batch: UpdateBatch,
        empty: Callable[[], None],
        connecting: asyncio.Semaphore,
        login: Callable[[], Credentials] | None = None,
    ) -> None:
        self.wanted = wanted
        self._number, self._paths, self._batch, self._empty = number, paths, batch, empty
        self._connecting, self._login = connecting, login
        self._ask_for(wanted.subscriptions)
        self._decoder: Any = None
        self._before: Counter[str] = Counter()  # counts of earlier connections
        self._backoff = Backoff()
        self._log = Log("gnmi")
        self._state = TargetState(wanted.name)
        self._used_s, self._looked_s, self._heard_ns = 0.0, 0.0, 0

    @property
    def state(self) -> TargetState:
        """How the target is now."""
        return replace(self._state, counts=self._counts(), heard_ns=self._heard_ns)

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
        """Subscribe again and again, for ever; ONCE until it is complete.

        Whatever goes wrong with the target is a state of it: neither a mistake of its settings nor a fault of ours that
        it brings out may end the others.
        """
        while True:
            began = time.monotonic()
            is_refused = False
            try:
                await self.subscribe_once(self._polls if self.wanted.list_mode is ListMode.POLL else None)
                reason = "the target ended the stream"
                if self.wanted.list_mode is ListMode.ONCE:
                    self._enter(Phase.ENDED)
                    return
            except TransportError as error:
                reason, is_refused = str(error), error.status in REFUSALS
                if error.status in UNKNOWN_TO_TARGET and self.wanted.fallback and not self._state.is_reduced:
                    self._ask_for(self.wanted.fallback)
                    self._state = replace(self._state, is_reduced=True)
            except InputError as error:
                reason, is_refused = str(error), True
            except Exception as error:  # noqa: BLE001 - it is logged whole, shown as the target's state, and tried again
                reason = f"internal error: {type(error).__name__}: {error}"
                self._log.error("target brought out a fault", target=self.wanted.name, error=error)
            if time.monotonic() - began > WORKED_S:
                self._backoff.reset()
            wait_s = self._backoff.next_s()
            self._enter(Phase.WAITING, reason)
            self._state = replace(self._state, is_refused=is_refused)
            self._log.warning(
                "target refused" if is_refused else "target lost",
                target=self.wanted.name,
                reason=reason,
                again_s=round(wait_s, 1),
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
            endpoint = wanted.endpoint
            if self._login is not None:
                endpoint = replace(endpoint, credentials=await asyncio.to_thread(self._login))
            encoding = wanted.encoding
            if encoding is None:
                encoding = choose_encoding(wanted.profile, await self._offered(endpoint))
            self._before.update(self._decoder.counts if self._decoder is not None else {})
            # A target that comes back may spell its paths otherwise: the table of spellings begins anew.
            self._decoder = _ext.Decoder(self._batch, self._number, self._resolver, self._asked_ns)
            self._used_s, self._looked_s = 0.0, time.monotonic()
            self._state = replace(
                self._state, encoding=gnmi_pb2.Encoding.Name(encoding), connections=self._state.connections + 1
            )
        first = subscribe_request(replace(wanted, subscriptions=self._subscriptions), encoding)
        await open_transport(endpoint).subscribe((requests or _stay)(first), self._take)

    def _ask_for(self, subscriptions: tuple[Subscription, ...]) -> None:
        self._subscriptions = subscriptions
        self._resolver = Resolver(
            self._paths,
            [one.path for one in subscriptions],
            asked_target=self.wanted.target,
            most_paths=self.wanted.most_paths,
            is_wrapped=self.wanted.profile.wraps_json,
        )
        self._asked_ns = np.array([one.asked_ns for one in subscriptions], np.int64)

    async def _polls(self, first: bytes) -> AsyncIterator[bytes]:
        """Ask for a POLL call's values once an interval, and not before the last answer is complete.

        Raises
        ------
        TransportError
            If the target does not answer.
        """
        yield first
        every_s = min((int(ns) / 1e9 for ns in self._asked_ns if ns), default=DEFAULT_POLL_S)
        decoder = self._decoder
        while True:
            answered, asked_at = decoder.counts["syncs"], time.monotonic()
            yield poll_request()
            while decoder.counts["syncs"] == answered:
                if time.monotonic() - asked_at > max(POLL_TIMEOUT_S, 2 * every_s):
                    raise TransportError(Status.DEADLINE_EXCEEDED, "a poll was not answered")
                await asyncio.sleep(min(every_s, 0.2))
            await asyncio.sleep(max(0.0, every_s - (time.monotonic() - asked_at)))

    async def _offered(self, endpoint: Endpoint) -> frozenset[int]:
        """Ask for the encodings that the target has; none where it does not say."""
        try:
            answer = await unary(endpoint, CAPABILITIES, b"", UNARY_TIMEOUT_S)
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
        first, phase = 0, self._state.phase
        while (first := self._decoder.decode(octets, offsets, lengths, first, received_ns)) < len(offsets):
            self._empty()
        if phase is Phase.CONNECTING:
            self._enter(Phase.SYNCING)
        self._heard_ns = received_ns
        if phase is not Phase.STREAMING and self._decoder.counts["syncs"]:
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
