"""The gNMI service of a tree: Capabilities, Get, Subscribe, and Set where something can be set, on grpcio."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import grpc.aio

from telemetryd.agent.ask import NOT_FOUND, Asker, Subscribed, is_poll
from telemetryd.agent.encode import ENCODINGS, PROTO, Encoder, Leaves
from telemetryd.agent.model import Model
from telemetryd.agent.refusal import RefusedError
from telemetryd.agent.roles import READ, WRITE, Roles
from telemetryd.agent.running import Running
from telemetryd.agent.source import Source
from telemetryd.agent.tree import Selection, Snapshot
from telemetryd.errors import TelemetrydError
from telemetryd.observe.log import Log
from telemetryd.proto import gnmi_pb2

SERVICE: Final = "gnmi.gNMI"
VERSION: Final = "0.10.0"
#: Clients take no more than some KiB of headers, and a status is one: a path in it may be long.
LONGEST_DETAILS: Final = 1000
_SYNC: Final = bytes(gnmi_pb2.SubscribeResponse(sync_response=True).SerializeToString())

_MODE: Final = gnmi_pb2.SubscriptionList

Requests = AsyncIterator[bytes]
Context = Any  # grpc.aio.ServicerContext; grpcio has no types
Write = Callable[[bytes], Awaitable[None]]


class Service:
    """Answers for one tree.

    Parameters
    ----------
    source:
        The tree.
    name:
        The target's name, where it has one: prefixes with another are refused.
    fastest_s:
        The shortest interval that it is sampled in.
    running:
        What carries out Sets; None where nothing can be set.
    roles:
        Who may read, and who may set.

    Attributes
    ----------
    roles:
        The same; others may take their place.
    counts:
        What was done so far: ``calls``, ``refused``, ``sets``, ``notifications``, ``updates``, ``deletes``.
    """

    def __init__(
        self,
        source: Source,
        *,
        name: str = "",
        fastest_s: float = 0.1,
        running: Running | None = None,
        roles: Roles | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.roles = roles or Roles()
        self._source, self._running = source, running
        self._asker = Asker(source.model, name, fastest_s)
        self._log = Log("agent")
        self._closing = False

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return what a server needs to serve this."""
        # Octets, so that a message that is none gets a status that says so, and answers are encoded once.
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Capabilities": grpc.unary_unary_rpc_method_handler(self._capabilities),
                "Get": grpc.unary_unary_rpc_method_handler(self._get),
                "Set": grpc.unary_unary_rpc_method_handler(self._set),
                "Subscribe": grpc.stream_stream_rpc_method_handler(self._subscribe),
            },
        )

    def close(self) -> None:
        """End every stream; clients are told that we go."""
        self._closing = True
        self._source.pulse.beat()

    # --- calls with one answer ------------------------------------------------------------------------------------

    async def _capabilities(self, request: bytes, context: Context) -> bytes:
        async with self._answering("Capabilities", context):
            self.roles.require(self.roles.caller(context), READ)
            answer = gnmi_pb2.CapabilityResponse(
                supported_models=[
                    gnmi_pb2.ModelData(name=one.name, organization=one.organization, version=one.version)
                    for one in self._source.model.modules
                ],
                supported_encodings=ENCODINGS,
                gNMI_version=VERSION,
            )
        return bytes(answer.SerializeToString())

    async def _get(self, request: bytes, context: Context) -> bytes:
        async with self._answering("Get", context):
            self.roles.require(self.roles.caller(context), READ)
            encoder, selections = self._asker.get(request)
            snapshot = await self._source.read(asyncio.get_running_loop().time())
            answer = gnmi_pb2.GetResponse()
            for selection in selections:
                answer.notification.append(answer_to(encoder, selection, snapshot, self._source.model))
            self.counts["updates"] += sum(len(one.update) for one in answer.notification)
        return bytes(answer.SerializeToString())

    async def _set(self, request: bytes, context: Context) -> bytes:
        async with self._answering("Set", context):
            if self._running is None:
                raise RefusedError(grpc.StatusCode.UNIMPLEMENTED, "this target can only be read")
            caller = self.roles.caller(context)
            try:
                self.roles.require(caller, WRITE)
            except RefusedError as refusal:
                await self._running.audit.note(caller, refusal)
                raise
            answer = await self._running.set(request, caller)
            self.counts["sets"] += 1
        return answer

    # --- Subscribe --------------------------------------------------------------------------------------------------

    async def _subscribe(self, requests: Requests, context: Context) -> None:
        async with self._answering("Subscribe", context):
            self.roles.require(self.roles.caller(context), READ)
            first = await anext(requests, None)
            if first is None:
                return
            asked = self._asker.subscribe(first)
            sender = _Sender(asked.encoder, context.write, self.counts)
            caller = self.roles.caller(context).name
            self._log.info("subscribed", by=caller, mode=_MODE.Mode.Name(asked.mode), parts=len(asked.parts))
            try:
                match asked.mode:
                    case _MODE.ONCE:
                        await self._whole(asked, sender, is_silent=asked.updates_only)
                    case _MODE.POLL:
                        await self._poll(asked, sender, requests)
                    case _:
                        await self._stream(asked, sender, requests)
            finally:
                self._log.info("subscription ended", by=caller, **sender.sent)

    async def _whole(self, asked: Subscribed, sender: _Sender, *, is_silent: bool = False) -> None:
        """Send everything that there is, and that this was all."""
        if not is_silent:
            snapshot = await self._source.read(asyncio.get_running_loop().time())
            for part in asked.parts:
                await sender.updates(snapshot, part.whole(snapshot))
        await sender.synced()

    async def _poll(self, asked: Subscribed, sender: _Sender, requests: Requests) -> None:
        """Send everything at once, as of any other mode, and again for each Poll."""
        await self._whole(asked, sender, is_silent=asked.updates_only)
        async for octets in requests:
            if not is_poll(octets):
                raise _second_subscription()
            await self._whole(asked, sender)

    async def _stream(self, asked: Subscribed, sender: _Sender, requests: Requests) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hear(requests, sender), name="requests")
                await self._send_on(asked, sender)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _hear(self, requests: Requests, sender: _Sender) -> None:
        """Hear what a client says after its subscription; that it says no more is no end of the stream."""
        try:
            await _hear(requests)
        except RefusedError as refusal:
            # Whoever sends finishes its message first: gRPC refuses a status while one is under way.
            sender.refusal = refusal
            self._source.pulse.beat()

    async def _send_on(self, asked: Subscribed, sender: _Sender) -> None:
        """Send what the parts of a stream are due, for ever."""
        loop = asyncio.get_running_loop()
        seen = self._source.pulse.number
        snapshot = await self._source.read(loop.time())
        for part in asked.parts:
            leaves = part.begin(snapshot, loop.time())
            if not asked.updates_only:
                await sender.updates(snapshot, leaves)
        await sender.synced()
        while True:
            next_s = min(part.next_s for part in asked.parts)
            await self._source.pulse.after(seen, None if next_s == float("inf") else max(0.0, next_s - loop.time()))
            if sender.refusal is not None:
                raise sender.refusal
            if self._closing:
                raise RefusedError(grpc.StatusCode.UNAVAILABLE, "the target is stopping")
            now_s = loop.time()
            if self._source.pulse.number != seen:
                seen, due, since_s = self._source.pulse.number, asked.parts, now_s
            else:
                due = tuple(part for part in asked.parts if part.next_s <= now_s)
                since_s = now_s - min((part.freshness_s for part in due), default=0.0)
            snapshot = await self._source.read(since_s)
            for part in due:
                updates, gone = part.take(snapshot, now_s)
                await sender.deletes(snapshot, gone)
                await sender.updates(snapshot, updates)

    @asynccontextmanager
    async def _answering(self, call: str, context: Context) -> AsyncIterator[None]:
        """Answer a call with the status of what it fails with."""
        self.counts["calls"] += 1
        try:
            yield
        except RefusedError as refusal:
            self.counts["refused"] += 1
            self._log.info(
                "refused", call=call, by=self.roles.caller(context).name, status=refusal.status.name, reason=refusal
            )
            await context.abort(refusal.status, _clipped(str(refusal)))
        except TelemetrydError as failure:
            self._log.warning("cannot answer", call=call, by=context.peer(), reason=failure)
            await context.abort(grpc.StatusCode.UNAVAILABLE, _clipped(str(failure)))


class _Sender:
    """Sends messages of a call, and counts them.

    Attributes
    ----------
    refusal:
        Why the call is to end instead.
    """

    def __init__(self, encoder: Encoder, write: Write, counts: Counter[str]) -> None:
        self.refusal: RefusedError | None = None
        self.sent: dict[str, int] = {"notifications": 0, "updates": 0, "deletes": 0}
        self._encoder = encoder
        self._write = write
        self._counts = counts

    async def updates(self, snapshot: Snapshot, found: Sequence[Leaves]) -> None:
        for leaves in found:
            branch, positions = leaves
            n = sum(branch.values[i] is not None for i in positions)
            await self._send(self._encoder.update(snapshot.ts_ns, leaves), updates=n)

    async def deletes(self, snapshot: Snapshot, gone: Sequence[Any]) -> None:
        if gone:
            await self._send(self._encoder.delete(snapshot.ts_ns, gone), deletes=len(gone))

    async def synced(self) -> None:
        await self._write(_SYNC)

    async def _send(self, octets: bytes, **counted: int) -> None:
        if self.refusal is not None:
            raise self.refusal
        await self._write(octets)
        for name, n in (("notifications", 1), *counted.items()):
            self.sent[name] += n
            self._counts[name] += n


async def _hear(requests: Requests) -> None:
    """Refuse what a client says after its subscription."""
    async for octets in requests:
        if not is_poll(octets):
            raise _second_subscription()
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "a Poll belongs to a subscription in mode POLL")


def _clipped(details: str) -> str:
    return details if len(details) <= LONGEST_DETAILS else f"{details[:LONGEST_DETAILS]} ..."


def _second_subscription() -> RefusedError:
    return RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "a call has one subscription: make another call for more")


def answer_to(encoder: Encoder, selection: Selection, snapshot: Snapshot, model: Model) -> gnmi_pb2.Notification:
    """Return the answer to a path of a Get."""
    branches = snapshot.branches.values()
    if encoder.encoding == PROTO:
        notification = encoder.leaves(snapshot.ts_ns, ((one, selection.pick(one).leaves) for one in branches))
    else:
        notification = encoder.trees(snapshot.ts_ns, ((one, selection.pick(one)) for one in branches))
    if notification.update or any(selection.reaches(one) for one in branches):
        return notification
    # A container outside of lists is always there.
    elems = selection.pattern.elems
    node = model.node(elems)
    if node is None or not node.below or any(elem.keys for elem in elems):
        raise RefusedError(NOT_FOUND, f"{selection.pattern}: there is no such node")
    return encoder.empty(snapshot.ts_ns, elems)
