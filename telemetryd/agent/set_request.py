"""A SetRequest as it comes, and what it asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from telemetryd.agent.decode import Written, decode
from telemetryd.agent.model import Model
from telemetryd.agent.place import INVALID, Finder, Place, refused
from telemetryd.agent.refusal import RefusedError
from telemetryd.errors import InputError
from telemetryd.ingest.gnmi.path import Elem, elems_of, text_of
from telemetryd.proto import gnmi_ext_pb2, gnmi_pb2

_RESULT: Final = gnmi_pb2.UpdateResult


class Writing(NamedTuple):
    """An operation with a value."""

    place: Place
    written: Written


@dataclass(frozen=True, slots=True)
class SetRequest:
    """What a Set asks for, held against the model.

    Attributes
    ----------
    deletes:
        Paths, in which wildcards may be.
    replaces, unions, updates:
        Of the other operations, in their order.
    commit, arbitration:
        The extensions of these names.
    response:
        What is answered when all went well, but for the time.
    """

    deletes: tuple[Sequence[Elem], ...] = ()
    replaces: tuple[Writing, ...] = ()
    unions: tuple[Writing, ...] = ()
    updates: tuple[Writing, ...] = ()
    commit: gnmi_ext_pb2.Commit | None = None
    arbitration: gnmi_ext_pb2.MasterArbitration | None = None
    response: gnmi_pb2.SetResponse = field(default_factory=gnmi_pb2.SetResponse)

    @property
    def is_empty(self) -> bool:
        """Whether it changes nothing."""
        return not (self.deletes or self.replaces or self.unions or self.updates)

    @property
    def writings(self) -> list[Writing]:
        """All operations with values."""
        return [*self.replaces, *self.unions, *self.updates]


def read_set(model: Model, target: str, octets: bytes) -> SetRequest:
    """Read a SetRequest.

    Parameters
    ----------
    target:
        Our name; where it is empty any name in a prefix is ours.

    Raises
    ------
    RefusedError
        If it cannot be carried out, whatever there is now.
    """
    try:
        request = gnmi_pb2.SetRequest.FromString(octets)
    except DecodeError:
        raise RefusedError(INVALID, "the message is no SetRequest") from None
    if target and request.prefix.target not in ("", target):
        raise RefusedError(
            grpc.StatusCode.NOT_FOUND, f'there is no target "{request.prefix.target}" here: this is "{target}"'
        )
    if request.union_replace and (request.delete or request.replace or request.update):
        raise RefusedError(INVALID, "union_replace stands alone: there may be no delete, replace or update beside it")
    finder = Finder(model)
    response = gnmi_pb2.SetResponse(prefix=request.prefix)
    deletes = tuple(_elems(request.prefix, path) for path in request.delete)
    for path in request.delete:
        response.response.add(path=path, op=_RESULT.DELETE)

    def read(updates: Iterable[gnmi_pb2.Update], op: gnmi_pb2.UpdateResult.Operation) -> tuple[Writing, ...]:
        found = []
        for update in updates:
            place = finder.find(_elems(request.prefix, update.path))
            if update.HasField("value"):
                raise refused(place, "its value is in a deprecated field: use val")
            if update.duplicates:
                raise refused(place, "duplicates belong to a Subscribe answer")
            written = decode(model, place, update.val)
            found.append(Writing(place, written))
            response.response.add(path=update.path, op=op)
        return tuple(found)

    unions = read(request.union_replace, _RESULT.UNION_REPLACE)
    replaces = read(request.replace, _RESULT.REPLACE)
    updates = read(request.update, _RESULT.UPDATE)
    commit, arbitration = _extensions(request.extension)
    return SetRequest(deletes, replaces, unions, updates, commit, arbitration, response)


def _elems(prefix: gnmi_pb2.Path, path: gnmi_pb2.Path) -> tuple[Elem, ...]:
    try:
        elems = (*elems_of(prefix), *elems_of(path))
    except InputError as error:
        raise RefusedError(INVALID, str(error)) from None
    if path.target:
        raise refused(text_of(elems), "a target is named in the prefix, not in a path")
    origin = path.origin or prefix.origin
    if path.origin and prefix.origin and path.origin != prefix.origin:
        raise refused(text_of(elems, origin), f"the prefix has another origin, {prefix.origin}")
    if origin not in ("", "openconfig"):
        raise RefusedError(
            grpc.StatusCode.UNIMPLEMENTED, f"{text_of(elems, origin)}: no origin but openconfig is served"
        )
    return elems


def _extensions(
    extensions: Iterable[gnmi_ext_pb2.Extension],
) -> tuple[gnmi_ext_pb2.Commit | None, gnmi_ext_pb2.MasterArbitration | None]:
    commit, arbitration = None, None
    for one in extensions:
        kind = one.WhichOneof("ext")
        if kind == "commit":
            if commit is not None:
                raise RefusedError(INVALID, "the extension Commit is there twice")
            commit = one.commit
        elif kind == "master_arbitration":
            if arbitration is not None:
                raise RefusedError(INVALID, "the extension MasterArbitration is there twice")
            arbitration = one.master_arbitration
        elif kind in ("history", "depth", "config_subscription"):
            raise RefusedError(INVALID, f"the extension {kind} does not belong to Set")
    return commit, arbitration
