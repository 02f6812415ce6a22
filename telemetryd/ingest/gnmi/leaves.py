"""What is known of leaves without their schema: how a text of theirs is to be read, and the keys of lists.

JSON by RFC 7951 carries 64-bit numbers and decimals as texts, and floats of type ieeefloat32 as four octets in base64;
PROTO carries the latter as octets. A target may also send a text where its model has a number. Whether a text is a
number, a float or a text depends on the model, of which the tables below hold what matters here.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from telemetryd.ingest.gnmi.path import Elem


class Hint(IntEnum):
    """How the value of a leaf is to be read."""

    NONE = 0  # a text in JSON that is an integer as JSON writes it is one: it can be written back as it was
    NUMBER = 1  # a text that is a number is one, in any encoding
    FLOAT32 = 2  # four octets, or their base64 in JSON, are a big-endian float
    TEXT = 3  # a text is a text though it looks like a number


#: Containers whose leaves are all numbers.
NUMBER_CONTAINERS: Final = frozenset(
    {"counters", "temperature", "utilization", "memory", "input-power", "output-power"}
)

_NUMBERS: Final = (
    "avg instant max min ifindex last-change counter mtu "
    "transmit-pkts transmit-octets dropped-pkts dropped-octets max-queue-len avg-queue-len "
    "conforming-pkts conforming-octets exceeding-pkts exceeding-octets violating-pkts violating-octets "
    "matched-packets matched-octets cir cir-pct pir pir-pct bc be"
)
_FLOATS: Final = (
    "capacity input-current input-voltage output-current output-voltage output-power allocated-power "
    "used-power maximum-link-bandwidth maximum-reservable-link-bandwidth unreserved-bandwidth"
)
_TEXTS: Final = (
    "alias contact description domain-name firmware-version hardware-version hostname id location mac-address "
    "member-name mfg-name name parent part-no policy-id scheduler-group serial-no software-version vendor-part "
    "vendor-rev version"
)

HINTS: Final[dict[str, Hint]] = {
    **dict.fromkeys(_NUMBERS.split(), Hint.NUMBER),
    **dict.fromkeys(_FLOATS.split(), Hint.FLOAT32),
    **dict.fromkeys(_TEXTS.split(), Hint.TEXT),
}

#: List -> its keys, where these are not one of GUESSED_KEYS.
LIST_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "Interface": ("IfIndex",),
    "address": ("ip",),
    "afi-safi": ("afi-safi-name",),
    "classifier": ("name",),
    "cpu": ("index",),
    "entry": ("prefix",),
    "input": ("id",),
    "member": ("interface",),
    "neighbor": ("neighbor-address", "ip", "id"),
    "protocol": ("identifier", "name"),
    "scheduler": ("sequence",),
    "server": ("address",),
    "static": ("prefix",),
    "subinterface": ("index",),
    "vlan": ("vlan-id",),
}
#: What is tried for a list that is not listed, in this order; where none is there, the entry's position stands in.
GUESSED_KEYS: Final = ("name", "id", "index", "key", "sequence-id")
POSITION: Final = "position"


def hint_of(parent: str, leaf: str) -> Hint:
    """Return how a leaf's value is to be read."""
    found = HINTS.get(leaf)
    if found is not None:
        return found
    return Hint.NUMBER if parent in NUMBER_CONTAINERS else Hint.NONE


def entry_of(name: str, position: int, members: dict[str, str]) -> Elem:
    """Return the element of a list's entry in JSON.

    Parameters
    ----------
    position:
        Where in the list it stands, from 0.
    members:
        Its members that are not objects or arrays: name -> value as a text.
    """
    wanted = tuple(key for key in LIST_KEYS.get(name, ()) if key in members)
    if not wanted:
        wanted = tuple(key for key in GUESSED_KEYS if key in members)[:1]
    if not wanted:
        return Elem(name, ((POSITION, str(position)),))
    return Elem(name, tuple(sorted((key, members[key]) for key in wanted)))
