"""A device over gNMI: see :class:`telemetryd.enforce.device.Device`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError

from telemetryd.enforce.capability import Answer, Capability, answer_of
from telemetryd.enforce.device import CommitTimer, DeviceError, LostError, Reading, RefusedError, Traits
from telemetryd.enforce.diff import Write
from telemetryd.enforce.names import Value
from telemetryd.enforce.reading import read_notifications
from telemetryd.enforce.set_message import set_request
from telemetryd.errors import InputError
from telemetryd.ingest.gnmi.caller import Caller
from telemetryd.ingest.gnmi.login import Login
from telemetryd.ingest.gnmi.path import Path, parse
from telemetryd.ingest.gnmi.subscription import ListMode, Subscription, Wanted, get_request, subscribe_request
from telemetryd.ingest.gnmi.transport import Status, TransportError
from telemetryd.proto import gnmi_ext_pb2, gnmi_pb2

#: With these nothing was done; after any other failure something may have been.
REFUSALS: Final = frozenset(
    (
        Status.INVALID_ARGUMENT, Status.NOT_FOUND, Status.ALREADY_EXISTS, Status.PERMISSION_DENIED,
        Status.RESOURCE_EXHAUSTED, Status.FAILED_PRECONDITION, Status.ABORTED, Status.OUT_OF_RANGE,
        Status.UNIMPLEMENTED, Status.UNAUTHENTICATED,
    )
)  # fmt: skip
_NO_COMMIT: Final = frozenset(
    (Status.INVALID_ARGUMENT, Status.FAILED_PRECONDITION, Status.UNIMPLEMENTED, Status.NOT_FOUND)
)
#: More leaves than these are read with everything else.
_FEW_PATHS: Final = 128
_ROOTS: Final = ("/qos", "/defined-sets")


@dataclass(frozen=True, slots=True)
class Reach:
    """How a device is reached.

    Attributes
    ----------
    wanted:
        Endpoint, profile and name for the prefix, as for a subscription.
    login:
        Where the login is.
    timeout_s:
        Longest time of a call.
    """

    wanted: Wanted
    login: Login
    timeout_s: float = 10.0

    @property
    def certificate(self) -> str:
        """The file of the certificate that we show; "" for none."""
        tls = self.wanted.endpoint.tls
        return tls.certificate.name if tls is not None and tls.certificate is not None else ""


def traits_of(capability: Capability) -> Traits:
    """Return how a device with a capability is written to and read."""
    is_gateway = capability.driver == "linux"
    return Traits(
        is_atomic=is_gateway,
        commits=capability.commit_confirmed,
        state=capability.state,
        rate_step_bps=capability.rate_step_bps,
        is_switch=not is_gateway,
    )


async def ask_capabilities(reach: Reach) -> Answer:
    """Ask a device what it can.

    Raises
    ------
    DeviceError
        If it does not say.
    """
    async with Caller(reach.wanted.endpoint, reach.login.read, reach.timeout_s) as caller:
        try:
            octets = await caller.unary("Capabilities", b"")
            return answer_of(gnmi_pb2.CapabilityResponse.FromString(octets))
        except (TransportError, InputError) as error:
            raise DeviceError(f"{reach.wanted.name}: {error}") from error
        except DecodeError:
            raise DeviceError(f"{reach.wanted.name}: the answer is no CapabilityResponse") from None


class GnmiDevice:
    """See :class:`telemetryd.enforce.device.Device`. It keeps one connection; close it with :meth:`close`.

    Parameters
    ----------
    capability:
        What it can do: it says how the device is read and written.
    election_id:
        Where the device arbitrates between writers: greater than that of any writer before.
    """

    def __init__(self, reach: Reach, capability: Capability, *, election_id: int = 0) -> None:
        self._reach, self._capability = reach, capability
        self._traits = traits_of(capability)
        self._caller = Caller(reach.wanted.endpoint, reach.login.read, reach.timeout_s)
        self._is_json = capability.encodings[:1] != ("PROTO",)
        self._origin = "openconfig" if capability.origin else reach.wanted.profile.origin
        self._said: dict[tuple[Path, ...], tuple[bytes, Reading]] = {}
        self._extensions: tuple[gnmi_ext_pb2.Extension, ...] = ()
        if capability.arbitration and election_id:
            self._extensions = (_election(election_id),)

    @property
    def name(self) -> str:
        """See :class:`telemetryd.enforce.device.Device`."""
        return self._reach.wanted.name

    @property
    def traits(self) -> Traits:
        """See :class:`telemetryd.enforce.device.Device`."""
        return self._traits

    @property
    def capability(self) -> Capability:
        """What it can do."""
        return self._capability

    async def close(self) -> None:
        """Close the connection."""
        await self._caller.close()

    async def read(self) -> Reading:
        """See :class:`telemetryd.enforce.device.Device`."""
        config: dict[str, Value] = {}
        state: dict[str, Value] = {}
        for root in _ROOTS if self._traits.is_atomic else _ROOTS[:1]:
            found = await self._read([parse(root)])
            config |= found.config
            state |= found.state
        return Reading(config, state)

    async def read_leaves(self, paths: Iterable[str]) -> Reading:
        """See :class:`telemetryd.enforce.device.Device`."""
        wanted = set(paths)
        owners = dict.fromkeys(path.rpartition("/config/")[0] for path in wanted)
        few = len(owners) <= _FEW_PATHS
        found = await self._read([parse(owner) for owner in owners]) if few else await self.read()
        return Reading(
            {path: value for path, value in found.config.items() if path in wanted},
            {path: value for path, value in found.state.items() if path in wanted},
        )

    async def read_notifications(self, paths: Sequence[str], kind: str = "ALL") -> list[gnmi_pb2.Notification]:
        """Read anything, such as counters.

        Raises
        ------
        DeviceError
            If it cannot be read; of what is not there, nothing is returned.
        """
        return await self._ask([parse(path) for path in paths], kind)

    async def write(self, writes: Sequence[Write], timer: CommitTimer | None = None) -> None:
        """See :class:`telemetryd.enforce.device.Device`."""
        extensions = list(self._extensions)
        if timer is not None:
            request = gnmi_ext_pb2.CommitRequest(rollback_duration=_duration(timer.seconds))
            extensions.append(gnmi_ext_pb2.Extension(commit=gnmi_ext_pb2.Commit(id=timer.id, commit=request)))
        message = set_request(
            writes,
            is_json=self._is_json,
            origin=self._origin,
            target=self._reach.wanted.target,
            needs_prefix=self._reach.wanted.profile.needs_prefix,
            extensions=extensions,
        )
        try:
            answer = await self._caller.unary("Set", message)
        except TransportError as error:
            self._raise(error)
        except InputError as error:  # a login that cannot be read: nothing was sent
            raise RefusedError(f"{self.name}: {error}") from error
        try:
            gnmi_pb2.SetResponse.FromString(answer)
        except DecodeError:
            raise LostError(f"{self.name}: the answer is no SetResponse") from None

    async def confirm(self, commit: str) -> bool:
        """See :class:`telemetryd.enforce.device.Device`."""
        return await self._end(gnmi_ext_pb2.Commit(id=commit, confirm=gnmi_ext_pb2.CommitConfirm()))

    async def cancel(self, commit: str) -> bool:
        """See :class:`telemetryd.enforce.device.Device`."""
        return await self._end(gnmi_ext_pb2.Commit(id=commit, cancel=gnmi_ext_pb2.CommitCancel()))

    async def extend(self, commit: str, seconds: float) -> None:
        """See :class:`telemetryd.enforce.device.Device`."""
        wait = gnmi_ext_pb2.CommitSetRollbackDuration(rollback_duration=_duration(seconds))
        try:
            await self._send_commit(gnmi_ext_pb2.Commit(id=commit, set_rollback_duration=wait))
        except TransportError as error:
            self._raise(error)

    # --- inside -----------------------------------------------------------------------------------------------------

    async def _end(self, commit: gnmi_ext_pb2.Commit) -> bool:
        try:
            await self._send_commit(commit)
        except TransportError as error:
            if error.status in _NO_COMMIT:
                return False
            self._raise(error)
        return True

    async def _send_commit(self, commit: gnmi_ext_pb2.Commit) -> None:
        extensions = [*self._extensions, gnmi_ext_pb2.Extension(commit=commit)]
        target, profile = self._reach.wanted.target, self._reach.wanted.profile
        message = set_request((), is_json=True, target=target, needs_prefix=profile.needs_prefix, extensions=extensions)
        await self._caller.unary("Set", message)

    async def _read(self, paths: Sequence[Path]) -> Reading:
        notifications = await self._ask(paths, "ALL")
        said = b"".join(one.SerializeToString() for found in notifications for one in found.update)
        if (known := self._said.get(tuple(paths))) is not None and known[0] == said:
            return known[1]  # word for word what it said the last time
        try:
            # A gateway may have thousands of terms: streams go on meanwhile.
            reading = await asyncio.to_thread(read_notifications, notifications)
        except (InputError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise LostError(f"{self.name}: what it says cannot be read: {error}") from None
        if len(paths) == 1 and len(paths[0].elems) == 1:
            self._said[tuple(paths)] = said, reading
        return reading

    async def _ask(self, paths: Sequence[Path], kind: str) -> list[gnmi_pb2.Notification]:
        paths = [Path(path.elems, self._origin or path.origin) for path in paths]
        encoding = gnmi_pb2.JSON_IETF if self._is_json else gnmi_pb2.PROTO
        wanted = self._reach.wanted
        try:
            if self._capability.reads == "once":
                subscriptions = tuple(Subscription(path) for path in paths)
                asked = replace(wanted, subscriptions=subscriptions, list_mode=ListMode.ONCE, depth=0)
                messages = await self._caller.once(subscribe_request(asked, encoding))
                answers = [gnmi_pb2.SubscribeResponse.FromString(one) for one in messages]
                return [one.update for one in answers if one.WhichOneof("response") == "update"]
            request = get_request(paths, wanted.profile, encoding, target=wanted.target, kind=kind)
            answer = gnmi_pb2.GetResponse.FromString(await self._caller.unary("Get", request))
        except TransportError as error:
            if error.status is Status.NOT_FOUND and len(paths) == 1:
                return []  # it has nothing there
            if error.status is Status.NOT_FOUND:
                return [one for path in paths for one in await self._ask([path], kind)]
            self._raise(error)
        except DecodeError:
            raise LostError(f"{self.name}: the answer is none of gNMI") from None
        except InputError as error:
            raise RefusedError(f"{self.name}: {error}") from error
        if len(answer.notification) < len(paths):
            raise LostError(f"{self.name}: it answered {len(answer.notification)} of {len(paths)} paths")
        return list(answer.notification)

    def _raise(self, error: TransportError) -> NoReturn:
        kind = RefusedError if error.status in REFUSALS else LostError
        raise kind(f"{self.name}: {error}") from error


def _duration(seconds: float) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def _election(number: int) -> gnmi_ext_pb2.Extension:
    election = gnmi_ext_pb2.Uint128(high=number >> 64, low=number & (1 << 64) - 1)
    return gnmi_ext_pb2.Extension(master_arbitration=gnmi_ext_pb2.MasterArbitration(election_id=election))
