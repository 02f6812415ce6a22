"""Notifications of a Get or of Subscribe ONCE as leaves that compare: config, and state under the paths of config."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from telemetryd.enforce.device import Reading
from telemetryd.enforce.names import Value, escaped
from telemetryd.enforce.readback import bare, key_of, value_in
from telemetryd.errors import InputError
from telemetryd.ingest.gnmi.path import elems_of, text_of
from telemetryd.proto import gnmi_pb2

#: Leaves of state that configuration does not give.
_COUNTED: Final = re.compile(r".*(?:pkts|octets|packets|-len)")
_ROOTS: Final = ("qos", "defined-sets")


def read_notifications(notifications: Iterable[gnmi_pb2.Notification]) -> Reading:
    """Read everything below /qos and /defined-sets.

    Raises
    ------
    InputError
        If something cannot be read: what a device says is believed whole or not at all.
    """
    config: dict[str, Value] = {}
    state: dict[str, Value] = {}
    into = {"config": config, "state": state}
    for notification in notifications:
        before = elems_of(notification.prefix)
        for update in notification.update:
            elems = [*before, *elems_of(update.path)]
            value = _content(update.val)
            if isinstance(value, dict):
                path = text_of(elems) if elems else ""
                if elems:
                    _walk(value, path, elems[-1].name, into)
                else:
                    for name, child in value.items():
                        if bare(name) in _ROOTS and isinstance(child, dict):
                            _walk(child, f"/{bare(name)}", bare(name), into)
            elif len(elems) > 1 and elems[-2].name in into:
                name = elems[-1].name
                if elems[-2].name == "state" and _is_counted(name):
                    continue
                path = f"{text_of(elems[:-2])}/config/{name}"
                into[elems[-2].name][path] = value_in(name, value)
    return Reading(config, state)


def _walk(node: Mapping[str, Any], path: str, name: str, into: Mapping[str, dict[str, Value]]) -> None:
    """Read what is below a node of the tree."""
    leaves = into.get(name)
    if leaves is not None:
        path = f"{path[: path.rindex('/')]}/config"
        is_state = name == "state"
        for key, value in node.items():
            own = bare(key)
            if isinstance(value, dict) or (is_state and _is_counted(own)):
                continue
            leaves[f"{path}/{own}"] = value_in(own, value)
        return
    for key, value in node.items():
        own = bare(key)
        if isinstance(value, dict):
            _walk(value, f"{path}/{own}", own, into)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for entry in value:
                if not isinstance(entry, dict):
                    raise InputError(f"{path}/{own}: is a list of different things")
                found, text = key_of(entry, f"{path}/{own}", own)
                _walk(entry, f"{path}/{own}[{found}={escaped(text)}]", own, into)


@lru_cache(1024)
def _is_counted(name: str) -> bool:
    return _COUNTED.fullmatch(name) is not None


def _content(value: gnmi_pb2.TypedValue) -> Any:
    field = value.WhichOneof("value")
    match field:
        case "json_ietf_val" | "json_val":
            try:
                return json.loads(getattr(value, field))
            except ValueError as error:
                raise InputError(f"is no JSON: {error}") from None
        case "leaflist_val":
            return [_content(one) for one in value.leaflist_val.element]
        case "string_val" | "int_val" | "uint_val" | "bool_val" | "ascii_val":
            return getattr(value, field)
        case _:
            raise InputError(f"a value of a kind that QoS has not: {field}")
