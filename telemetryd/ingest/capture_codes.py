"""Numbers that the compiled capture scanner and its Python twin share."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Literal

_BYTE_ORDERS: Final[tuple[Literal["big"], Literal["little"]]] = ("big", "little")


class Status(IntEnum):
    """Why a scan stopped."""

    BATCH = 0  # rows are full, or the next datagram belongs into another buffer: scan on from `position`
    MORE = 1  # `needed` octets from `position` on are wanted, and the buffer ends before
    DAMAGED = 2  # what stands at `position` cannot be: see `damage`


class Skip(IntEnum):
    """Why a packet of a capture is not an sFlow datagram."""

    UNSUPPORTED_LINK_TYPE = 0
    UNKNOWN_INTERFACE = 1  # pcapng: a packet of an interface that was not described
    SHORT_PACKET = 2  # a header up to UDP's does not fit in what was captured
    NOT_IP = 3
    BAD_IP_HEADER = 4  # version or lengths that cannot be
    NOT_UDP = 5
    BAD_UDP_LENGTH = 6  # stated length below the header's own
    OTHER_PORT = 7
    NOT_SFLOW = 8  # only when every port is read
    BAD_FRAGMENT = 9  # an offset or length that cannot be
    FRAGMENT_TRUNCATED = 10  # the snap length cut a fragment: its datagram cannot be put together
    FRAGMENT_TIMEOUT = 11  # the rest did not come within FRAGMENT_TIMEOUT_NS
    FRAGMENT_EVICTED = 12  # too many datagrams were incomplete at once
    FRAGMENT_INCOMPLETE = 13  # the capture ended before the rest came


class Damage(IntEnum):
    """What is wrong with a capture file."""

    NONE = 0
    NOT_A_CAPTURE = 1
    RECORD_LENGTH = 2
    BLOCK_LENGTH = 3
    BLOCK_TRAILER = 4
    BYTE_ORDER = 5
    VERSION = 6
    PACKET_LENGTH = 7
    INTERFACES = 8


DAMAGE_TEXT: Final = {
    Damage.NOT_A_CAPTURE: "neither a pcap nor a pcapng header",
    Damage.RECORD_LENGTH: "a packet record states a length that cannot be",
    Damage.BLOCK_LENGTH: "a pcapng block states a length that cannot be",
    Damage.BLOCK_TRAILER: "the two length fields of a pcapng block differ",
    Damage.BYTE_ORDER: "a pcapng section header without its byte-order magic",
    Damage.VERSION: "a pcap or pcapng version that is not known",
    Damage.PACKET_LENGTH: "a pcapng packet is longer than its block",
    Damage.INTERFACES: "more than 65,536 interfaces in one pcapng section",
}

# A file that claims longer records or blocks than these is damaged (the limits of libpcap).
MOST_RECORD_OCTETS: Final = 262_144
MOST_BLOCK_OCTETS: Final = 16 * 1024 * 1024
MOST_INTERFACES: Final = 65_536

MOST_DATAGRAM_OCTETS: Final = 65_535
FRAGMENT_SLOTS: Final = 64
FRAGMENT_TIMEOUT_NS: Final = 30_000_000_000

# pcap with microseconds, with nanoseconds, "modified" with microseconds (longer record headers)
PCAP_MAGICS: Final = (0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34)
PCAPNG_MAGIC: Final = b"\x0a\x0d\x0d\x0a"
FILE_MAGICS: Final = frozenset(
    {PCAPNG_MAGIC} | {magic.to_bytes(4, order) for magic in PCAP_MAGICS for order in _BYTE_ORDERS}
)
