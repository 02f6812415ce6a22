"""Requests as they come, and what they ask for once they have been held against the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from telemetryd.agent.encode import ENCODINGS, Encoder
from telemetryd.agent.model import (
    ALL_ROLES,
    CONFIG_ROLES,
    OPERATIONAL_ROLES,
    STATE_ROLES,
    Leaf,
    Model,
    PathRefusedError,
)
from telemetryd.agent.refusal import RefusedError
from telemetryd.agent.stream import Part, Trigger
from telemetryd.agent.tree import Selection
from telemetryd.errors import InputError
from telemetryd.ingest.gnmi.path import Path, elems_of, text_of
from telemetryd.proto import gnmi_ext_pb2, gnmi_pb2

INVALID, UNIMPLEMENTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED
NOT_FOUND = grpc.StatusCode.NOT_FOUND
SECOND_NS: Final = 1_000_000_000
#: Paths of a request.
MOST_PATHS: Final = 1024
#: What a subscriber gets of counters who leaves it to us.
DEFINED_S: Final = 10.0

_ROLES: Final = {
    gnmi_pb2.GetRequest.ALL: ALL_ROLES,
    gnmi_pb2.GetRequest.CONFIG: CONFIG_ROLES,
    gnmi_pb2.GetRequest.STATE: STATE_ROLES,
    gnmi_pb2.GetRequest.OPERATIONAL: OPERATIONAL_ROLES,
}


@dataclass(frozen=True, slots=True)
class Asker:
    """What requests are held against.

    Attributes
    ----------
    name:
        The name of this target; where it is empty any name in a prefix is ours.
    fastest_s:
        The shortest interval that we sample in.
    """

    model: Model
    name: str = ""
    fastest_s: float = 0.1

    def get(self, octets: bytes) -> tuple[Encoder, list[Selection]]:
        """Read a GetRequest: how to write the answer, and a selection for each of its paths.

        Raises
        ------
        RefusedError
            If it cannot be carried out.
        """
        request = _parse(gnmi_pb2.GetRequest, octets)
        levels = _levels(request.extension)
        if request.type not in _ROLES:
            raise RefusedError(INVALID, f"no type of data has the number {request.type}")
        # No path at all asks for the root (of the prefix), as an empty path does.
        paths = list(request.path) or [gnmi_pb2.Path()]
        encoder = self._encoder(request, paths)
        return encoder, [Selection(path, _ROLES[request.type], levels) for path in self._paths(request.prefix, paths)]

    def subscribe(self, octets: bytes) -> Subscribed:
        """Read the first SubscribeRequest of a call.

        Raises
        ------
        RefusedError
            If it cannot be carried out.
        """
        request = _parse(gnmi_pb2.SubscribeRequest, octets)
        if not request.HasField("subscribe"):
            raise RefusedError(INVALID, "the first message of a call has to say what is subscribed to")
        asked = request.subscribe
        levels = _levels(request.extension)
        if not asked.subscription:
            raise RefusedError(INVALID, "a subscription has to name a path")
        if asked.mode not in gnmi_pb2.SubscriptionList.Mode.values():
            raise RefusedError(INVALID, f"no mode has the number {asked.mode}")
        messages = [one.path for one in asked.subscription]
        encoder = self._encoder(asked, messages)
        is_stream = asked.mode == gnmi_pb2.SubscriptionList.STREAM
        parts: list[Part] = []
        for one, path in zip(asked.subscription, self._paths(asked.prefix, messages), strict=True):
            parts += self._parts(one, path, levels) if is_stream else [Part(_selected(path, levels))]
        return Subscribed(encoder, asked.mode, asked.updates_only, tuple(parts))

    def _parts(self, one: gnmi_pb2.Subscription, path: Path, levels: int) -> list[Part]:
        name = text_of(path.elems)
        heartbeat_s = self._interval(one.heartbeat_interval, name, "heartbeat_interval")
        match one.mode:
            case gnmi_pb2.SAMPLE:
                interval_s = self._interval(one.sample_interval, name, "sample_interval") or self.fastest_s
                trigger = Trigger(interval_s, one.suppress_redundant, heartbeat_s)
                return [Part(_selected(path, levels), trigger)]
            case gnmi_pb2.ON_CHANGE:
                return [Part(_selected(path, levels), Trigger(heartbeat_s=heartbeat_s))]
            case gnmi_pb2.TARGET_DEFINED:
                if one.sample_interval:
                    raise RefusedError(INVALID, f"{name}: a target that defines the mode defines sample_interval too")
                sampled = Trigger(max(DEFINED_S, self.fastest_s), False, heartbeat_s)
                return [
                    Part(_selected(path, levels, lambda leaf: leaf.is_counter), sampled),
                    Part(_selected(path, levels, lambda leaf: not leaf.is_counter), Trigger(heartbeat_s=heartbeat_s)),
                ]
            case number:
                raise RefusedError(INVALID, f"{name}: no mode of a subscription has the number {number}")

    def _interval(self, asked_ns: int, name: str, what: str) -> float:
        if asked_ns and asked_ns < self.fastest_s * SECOND_NS:
            fastest_ns = round(self.fastest_s * SECOND_NS)
            raise RefusedError(INVALID, f"{name}: {what} {asked_ns} ns is too short: the least is {fastest_ns} ns")
        return asked_ns / SECOND_NS

    def _encoder(self, asked: Any, paths: Iterable[gnmi_pb2.Path]) -> Encoder:
        """Return the encoder for a request or a list of subscriptions."""
        if asked.encoding not in ENCODINGS:
            names = {number: name for name, number in gnmi_pb2.Encoding.items()}
            offered = ", ".join(names[number] for number in ENCODINGS)
            wanted = names.get(asked.encoding, str(asked.encoding))
            raise RefusedError(UNIMPLEMENTED, f"unsupported encoding {wanted}: use one of {offered}")
        ours = {module.name for module in self.model.modules}
        if asked.use_models and not ours & {model.name for model in asked.use_models}:
            unknown = ", ".join(model.name for model in asked.use_models)
            raise RefusedError(UNIMPLEMENTED, f"unsupported models {unknown}: there are {', '.join(sorted(ours))}")
        target = asked.prefix.target
        if self.name and target not in ("", self.name):
            raise RefusedError(NOT_FOUND, f'there is no target "{target}" here: this is "{self.name}"')
        origin = asked.prefix.origin or next((path.origin for path in paths if path.origin), "")
        return Encoder(self.model, asked.encoding, target, origin)

    def _paths(self, prefix: gnmi_pb2.Path, paths: list[gnmi_pb2.Path]) -> list[Path]:
        """Return whole paths, all of which the model could have."""
        if len(paths) > MOST_PATHS:
            raise RefusedError(INVALID, f"{len(paths)} paths are more than the {MOST_PATHS} of a request")
        return [self._path(prefix, path) for path in paths]

    def _path(self, prefix: gnmi_pb2.Path, path: gnmi_pb2.Path) -> Path:
        try:
            elems = (*elems_of(prefix), *elems_of(path))
        except InputError as error:
            raise RefusedError(INVALID, str(error)) from None
        origin = path.origin or prefix.origin
        if path.target:
            raise RefusedError(INVALID, f"{text_of(elems)}: a target is named in the prefix, not in a path")
        if origin not in ("", "openconfig"):
            raise RefusedError(UNIMPLEMENTED, f"{text_of(elems, origin)}: no origin but openconfig is served")
        try:
            self.model.check(elems)
        except PathRefusedError as error:
            raise RefusedError(INVALID if error.is_malformed else UNIMPLEMENTED, str(error)) from None
        return Path(elems)


@dataclass(frozen=True, slots=True)
class Subscribed:
    """What a Subscribe call asks for.

    Attributes
    ----------
    mode:
        STREAM, ONCE or POLL.
    """

    encoder: Encoder
    mode: int
    updates_only: bool
    parts: tuple[Part, ...]


def is_poll(octets: bytes) -> bool:
    """Tell whether a later SubscribeRequest of a call is a Poll.

    Raises
    ------
    RefusedError
        If it is no SubscribeRequest.
    """
    return bool(_parse(gnmi_pb2.SubscribeRequest, octets).HasField("poll"))


def _selected(path: Path, levels: int, is_wanted: Callable[[Leaf], bool] = lambda leaf: True) -> Selection:
    return Selection(path, ALL_ROLES, levels, is_wanted)


def _parse(kind: Any, octets: bytes) -> Any:
    try:
        return kind.FromString(octets)
    except DecodeError:
        raise RefusedError(INVALID, f"the message is no {kind.DESCRIPTOR.name}") from None


def _levels(extensions: Iterable[gnmi_ext_pb2.Extension]) -> int:
    """Return how deep an answer may go, 0 for no limit; extensions that change nothing for a reader are passed over."""
    levels = 0
    for one in extensions:
        match one.WhichOneof("ext"):
            case "depth":
                levels = one.depth.level
            case "history":
                raise RefusedError(UNIMPLEMENTED, "the extension History is not supported: there is only the present")
            case "commit":
                raise RefusedError(INVALID, "the extension Commit belongs to Set")
            case _:
                pass
    return levels
