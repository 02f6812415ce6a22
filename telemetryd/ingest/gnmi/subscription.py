"""What a target is asked for: subscriptions as people write them, and the messages that they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from telemetryd.ingest.gnmi.path import Path, to_proto
from telemetryd.ingest.gnmi.transport import Endpoint
from telemetryd.ingest.gnmi.vendors import Profile
from telemetryd.proto import gnmi_ext_pb2, gnmi_pb2

SECOND_NS: Final = 1_000_000_000


class Mode(IntEnum):
    """When a target sends a value of a STREAM."""

    TARGET_DEFINED = 0
    ON_CHANGE = 1
    SAMPLE = 2


class ListMode(IntEnum):
    """How long a Subscribe call goes on."""

    STREAM = 0
    ONCE = 1
    POLL = 2


@dataclass(frozen=True, slots=True)
class Subscription:
    """One path of a subscription; intervals are ns, 0 where there is none."""

    path: Path
    mode: Mode = Mode.SAMPLE
    sample_interval_ns: int = 10 * SECOND_NS
    heartbeat_ns: int = 0
    suppress_redundant: bool = False

    @property
    def asked_ns(self) -> int:
        """How far apart values should be; 0 where they come as they change."""
        return self.sample_interval_ns if self.mode is Mode.SAMPLE and not self.suppress_redundant else 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Everything that is wanted of one target.

    Attributes
    ----------
    encoding:
        A fixed one; None to choose by what the target offers.
    target:
        The name to put into the prefix, where several targets are behind the address.
    depth:
        Levels below each path, 0 for all (an extension that few targets know).
    fallback:
        What is asked for instead, once the target has refused the subscriptions; empty for nothing.
    """

    name: str
    endpoint: Endpoint
    subscriptions: tuple[Subscription, ...]
    list_mode: ListMode = ListMode.STREAM
    encoding: int | None = None
    profile: Profile = field(default_factory=Profile)
    target: str = ""
    updates_only: bool = False
    depth: int = 0
    most_paths: int = 100_000
    cpu_share: float = 0.25
    fallback: tuple[Subscription, ...] = ()


def subscribe_request(wanted: Wanted, encoding: int) -> bytes:
    """Return the first message of a Subscribe call."""
    asked = gnmi_pb2.SubscriptionList(
        mode=int(wanted.list_mode),  # type: ignore[arg-type]
        encoding=encoding,  # type: ignore[arg-type]
        updates_only=wanted.updates_only,
        subscription=[_subscription(one, wanted.profile) for one in wanted.subscriptions],
    )
    if wanted.target or wanted.profile.needs_prefix:
        asked.prefix.target = wanted.target
        asked.prefix.SetInParent()
    return bytes(
        gnmi_pb2.SubscribeRequest(subscribe=asked, extension=depth_extension(wanted.depth)).SerializeToString()
    )


def poll_request() -> bytes:
    """Return the message that asks for the values of a POLL call."""
    return bytes(gnmi_pb2.SubscribeRequest(poll=gnmi_pb2.Poll()).SerializeToString())


def get_request(
    paths: Sequence[Path], profile: Profile, encoding: int, *, target: str = "", kind: str = "ALL", depth: int = 0
) -> bytes:
    """Return the message of a Get call; ``kind`` is ALL, CONFIG, STATE or OPERATIONAL."""
    request = gnmi_pb2.GetRequest(
        path=[to_proto(_with_origin(path, profile)) for path in paths],
        type=gnmi_pb2.GetRequest.DataType.Value(kind),
        encoding=encoding,  # type: ignore[arg-type]
        extension=depth_extension(depth),
    )
    if target or profile.needs_prefix:
        request.prefix.target = target
        request.prefix.SetInParent()
    return bytes(request.SerializeToString())


def depth_extension(depth: int) -> list[gnmi_ext_pb2.Extension]:
    """Return the extension that limits how deep an answer goes; none for 0."""
    return [gnmi_ext_pb2.Extension(depth=gnmi_ext_pb2.Depth(level=depth))] if depth else []


def _subscription(one: Subscription, profile: Profile) -> gnmi_pb2.Subscription:
    heartbeat_ns = one.heartbeat_ns and max(one.heartbeat_ns, profile.least_heartbeat_s * SECOND_NS)
    return gnmi_pb2.Subscription(
        path=to_proto(_with_origin(one.path, profile)),
        mode=int(one.mode),  # type: ignore[arg-type]
        sample_interval=one.sample_interval_ns if one.mode is Mode.SAMPLE else 0,
        suppress_redundant=one.suppress_redundant,
        heartbeat_interval=heartbeat_ns,
    )


def _with_origin(path: Path, profile: Profile) -> Path:
    return path if path.origin or not profile.origin else Path(path.elems, profile.origin)
