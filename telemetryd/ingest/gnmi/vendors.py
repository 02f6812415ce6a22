"""What targets of different makes do differently, as data (docs/gnmi.md says where each line comes from)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from telemetryd.proto import gnmi_pb2

_PROTO, _JSON_IETF, _JSON = gnmi_pb2.PROTO, gnmi_pb2.JSON_IETF, gnmi_pb2.JSON
_BYTES, _ASCII = gnmi_pb2.BYTES, gnmi_pb2.ASCII
#: PROTO is the cheapest to read; BYTES and ASCII are what is left.
PREFERENCE: Final = (_PROTO, _JSON_IETF, _JSON, _BYTES, _ASCII)


@dataclass(frozen=True, slots=True)
class Profile:
    """How to talk to targets of one make.

    Attributes
    ----------
    encodings:
        Those to ask for, the best first; what a target does not offer is passed over.
    believes_capabilities:
        Whether the encodings that a target lists are those that it takes.
    origin:
        The origin to send where a path has none; empty for none.
    needs_prefix:
        Whether a request needs a prefix, though there is nothing in it.
    wraps_json:
        Whether values in JSON repeat the name of their node.
    least_heartbeat_s:
        A shorter heartbeat is refused.
    has_input_queues:
        Whether queues that packets pass on their way in are known to it.
    """

    encodings: tuple[int, ...] = PREFERENCE
    believes_capabilities: bool = True
    origin: str = ""
    needs_prefix: bool = False
    wraps_json: bool = False
    least_heartbeat_s: int = 0
    has_input_queues: bool = False


PROFILES: Final[dict[str, Profile]] = {
    "generic": Profile(),
    "arista": Profile(),
    "cisco-nxos": Profile(encodings=(_PROTO, _JSON)),
    "cisco-xe": Profile(encodings=(_JSON_IETF, _PROTO), origin="openconfig"),
    "cisco-xr": Profile(encodings=(_PROTO, _JSON_IETF)),
    "h3c": Profile(encodings=(_JSON_IETF, _JSON, _PROTO), needs_prefix=True),
    "huawei": Profile(encodings=(_JSON_IETF, _JSON, _PROTO), needs_prefix=True),
    "juniper": Profile(encodings=(_PROTO, _JSON_IETF, _JSON), believes_capabilities=False),
    "nokia": Profile(encodings=(_PROTO, _JSON_IETF, _JSON)),
    "telemetryd": Profile(has_input_queues=True),
    "sonic": Profile(encodings=(_JSON_IETF, _PROTO), needs_prefix=True, wraps_json=True, least_heartbeat_s=300),
}


def choose_encoding(profile: Profile, offered: frozenset[int]) -> int:
    """Return the encoding to ask for: the profile's best one that the target offers.

    A target that offers none of them, or does not say, gets the profile's best one.
    """
    if offered and profile.believes_capabilities:
        for encoding in (*profile.encodings, *PREFERENCE):
            if encoding in offered:
                return encoding
    return profile.encodings[0]
