"""Names of what is ours on a device, and which nodes of its configuration are."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final

#: Every object of ours begins with it; nothing else is ever touched.
PREFIX: Final = "telemetryd-"
#: Lists whose entries are ours by their names.
_LISTS: Final = (
    "/defined-sets/ipv4-prefix-sets/ipv4-prefix-set",
    "/defined-sets/ipv6-prefix-sets/ipv6-prefix-set",
    "/qos/queues/queue",
    "/qos/forwarding-groups/forwarding-group",
    "/qos/classifiers/classifier",
    "/qos/scheduler-policies/scheduler-policy",
)
OURS: Final = tuple(f"{one}[name={PREFIX}" for one in _LISTS)
PORT: Final = "/qos/interfaces/interface[interface-id="
_ATTACHED = re.compile(
    r"(?P<slot>.*/(?:(?:in|out)put/scheduler-policy|input/classifiers/classifier\[[^]]*\]))/config/.*"
)
_UNUSUAL = re.compile(r"[^A-Za-z0-9.-]+")

Value = str | int | bool | tuple[int, ...] | tuple[str, ...]
Leaves = Mapping[str, Value]


def escaped(key: str) -> str:
    """Write a key's value in a path."""
    return key.replace("\\", "\\\\").replace("]", "\\]")


def plain(names: Iterable[str]) -> dict[str, str]:
    """Return for each interface a name without slashes and the like; where two would be the same, with a digest."""
    every = list(dict.fromkeys(names))
    short = {name: _UNUSUAL.sub("-", name) for name in every}
    seen: dict[str, int] = {}
    for one in short.values():
        seen[one] = seen.get(one, 0) + 1
    return {name: one if seen[one] == 1 else f"{one}-{digest(name)}" for name, one in short.items()}


def digest(text: str) -> str:
    """Return eight characters that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def slot_of(path: str) -> str:
    """Return the attachment point that a leaf belongs to; "" for none."""
    found = _ATTACHED.fullmatch(path) if path.startswith(PORT) else None
    return found["slot"] if found is not None else ""


def is_queue_of_port(path: str) -> bool:
    """Tell whether a leaf is of a port's entry for a queue of ours."""
    return path.startswith(PORT) and f"put/queues/queue[name={PREFIX}" in path


def is_ours(path: str, leaves: Leaves) -> bool:
    """Tell whether a leaf is ours: of our objects, or of an attachment point that names one of them."""
    if path.startswith(OURS):
        return True
    if not path.startswith(PORT):
        return False
    slot = slot_of(path)
    return str(leaves.get(f"{slot}/config/name", "")).startswith(PREFIX) if slot else is_queue_of_port(path)


def ours(leaves: Leaves) -> dict[str, Value]:
    """Return the leaves that are ours."""
    return {path: value for path, value in leaves.items() if is_ours(path, leaves)}
