"""What targets answer, as people and programs read it: flat lines, events, and the messages as JSON."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from telemetryd.ingest.gnmi.gnmi_wire_reference import Reader, Row
from telemetryd.ingest.gnmi.path import Path, elems_of, text_of
from telemetryd.ingest.gnmi.paths import PathTable, Resolver
from telemetryd.ingest.gnmi.values import Value
from telemetryd.proto import gnmi_pb2
from telemetryd.schema import ValueKind

SECOND_NS: Final = 1_000_000_000
Document = dict[str, Any]


def plain(value: Value) -> Any:
    """Return a row's value as JSON has it; octets in base64."""
    content = value.content
    match value.kind:
        case ValueKind.INT if isinstance(content, int):
            return content - (1 << 64) if content >> 63 else content
        case ValueKind.BOOL:
            return bool(content)
        case ValueKind.DOUBLE if isinstance(content, int):
            number = struct.unpack("<d", content.to_bytes(8, "little"))[0]
            return number if number - number == 0 else str(number)
        case ValueKind.TEXT if isinstance(content, bytes):
            return content.decode()
        case ValueKind.LIST if isinstance(content, bytes):
            return json.loads(content)
        case ValueKind.BYTES if isinstance(content, bytes):
            return base64.b64encode(content).decode()
        case ValueKind.UINT:
            return content
        case _:
            return None


def time_text(ts_ns: int) -> str:
    """Write a time in UTC, with microseconds."""
    return datetime.fromtimestamp(ts_ns / SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Shower:
    """Turns the messages of one target into lines.

    Parameters
    ----------
    target:
        Its name.
    asked_target:
        The name that was put into the prefix.
    is_wrapped:
        Whether values in JSON repeat the name of their node.
    """

    def __init__(self, target: str, *, asked_target: str = "", is_wrapped: bool = False) -> None:
        self._target = target
        self.paths = PathTable()
        resolver = Resolver(self.paths, asked_target=asked_target, most_paths=1 << 20, is_wrapped=is_wrapped)
        self._reader = Reader(resolver)

    def rows(self, octets: bytes, received_ns: int) -> list[Row]:
        """Return the rows of a SubscribeResponse.

        Raises
        ------
        MalformedError
            If it is none.
        """
        return self._reader.read(octets, received_ns).rows

    def flat(self, rows: list[Row]) -> Iterator[str]:
        """Yield a line a leaf: its path and its value; ``delete`` before paths that are gone."""
        for known, _, _, value in rows:
            path = self.paths.text(known.path)
            match value.kind:
                case ValueKind.SYNC:
                    yield "sync_response"
                case ValueKind.DELETE | ValueKind.REPLACE:
                    yield f"{value.kind.name.lower()} {path}"
                case _:
                    shown = plain(value)
                    yield f"{path}: {shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)}"

    def events(self, rows: list[Row]) -> Iterator[Document]:
        """Yield an event for the leaves that have time and keys in common: tags are the keys, values by bare path."""
        events: dict[tuple[int, tuple[tuple[str, str], ...]], Document] = {}
        for known, ts_ns, _, value in rows:
            if value.kind is ValueKind.SYNC:
                continue
            path = self.paths.place(known.path).path
            tags = {f"{elem.name}_{name}": key for elem in path.elems for name, key in elem.keys}
            event = events.setdefault(
                (ts_ns, tuple(tags.items())), {"timestamp": ts_ns, "tags": {"source": self._target, **tags}}
            )
            if value.kind in (ValueKind.DELETE, ValueKind.REPLACE):
                event.setdefault(f"{value.kind.name.lower()}s", []).append(str(path))
            else:
                event.setdefault("values", {})[_without_keys(path)] = plain(value)
        yield from events.values()

    def document(self, octets: bytes) -> Document:
        """Return a SubscribeResponse as JSON, in the order and with the spelling of the target."""
        message = gnmi_pb2.SubscribeResponse.FromString(octets)
        match message.WhichOneof("response"):
            case "update":
                return {"source": self._target, **notification_document(message.update)}
            case "sync_response":
                return {"source": self._target, "sync_response": message.sync_response}
            case "error":
                return {"source": self._target, "error": message.error.message}
            case _:
                return {"source": self._target}


def notification_document(notification: gnmi_pb2.Notification) -> Document:
    """Return a notification as JSON."""
    document: Document = {"timestamp": notification.timestamp}
    if 0 < notification.timestamp < 1 << 62:
        document["time"] = time_text(notification.timestamp)
    if notification.HasField("prefix"):
        document["prefix"] = _path_text(notification.prefix)
        if notification.prefix.target:
            document["target"] = notification.prefix.target
    if notification.atomic:
        document["atomic"] = True
    if notification.update:
        document["updates"] = [
            {"path": _path_text(one.path), "value": _typed(one.val)}
            | ({"duplicates": one.duplicates} if one.duplicates else {})
            for one in notification.update
        ]
    if notification.delete:
        document["deletes"] = [_path_text(path) for path in notification.delete]
    return document


def capabilities_document(answer: gnmi_pb2.CapabilityResponse) -> Document:
    """Return an answer to Capabilities as JSON."""
    return {
        "version": answer.gNMI_version,
        "encodings": [encoding_name(one) for one in answer.supported_encodings],
        "models": [
            {"name": one.name, "organization": one.organization, "version": one.version}
            for one in answer.supported_models
        ],
    }


def encoding_name(encoding: int) -> str:
    """Return an encoding's name, its number where it has none."""
    names: Mapping[int, str] = {number: name for name, number in gnmi_pb2.Encoding.items()}
    return names.get(encoding, str(encoding))


def _path_text(path: gnmi_pb2.Path) -> str:
    return text_of(elems_of(path), path.origin)


def _without_keys(path: Path) -> str:
    return text_of((elem._replace(keys=()) for elem in path.elems), path.origin)


def _typed(value: gnmi_pb2.TypedValue) -> Any:
    from google.protobuf import json_format

    field = value.WhichOneof("value")
    if field is None:
        return None
    content = getattr(value, field)
    if field in ("json_val", "json_ietf_val"):
        try:
            return json.loads(content)
        except ValueError:
            return content.decode("utf-8", "replace")
    if field in ("leaflist_val", "any_val", "decimal_val"):
        return json_format.MessageToDict(content)
    if isinstance(content, bytes):
        return base64.b64encode(content).decode()
    return content if not isinstance(content, float) or content - content == 0 else str(content)
