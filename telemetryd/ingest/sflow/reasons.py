"""Why a part of an sFlow datagram could not be decoded.

The detail decoder, the compiled hot path and the metrics use the same reasons: the names appear in
JSON and logs, the numbers in compiled code, whose copies are checked against this enumeration by a
test. A reason is counted once for each part that was given up; what stands before it is kept.
"""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class Reason(IntEnum):
    """Damage and strangers in a datagram. :attr:`label` is the name used in JSON.

    The first group gives up the whole datagram, the second the sample (or the rest of the
    datagram), the third the record (or the rest of its sample). The last two are no damage: a
    structure that is not in the table is skipped by its length.
    """

    DATAGRAM_SHORT = 1
    """The datagram header does not fit."""
    VERSION_UNSUPPORTED = 2
    """The first word is not 5 (sFlow v2 or v4, NetFlow, IPFIX, anything)."""
    AGENT_ADDRESS_TYPE = 3
    """The agent address is of a type other than 0 (unknown), 1 (IPv4) and 2 (IPv6)."""

    SAMPLE_OVERRUN = 4
    """A sample goes beyond the datagram, or the datagram ends before the claimed number of samples."""
    SAMPLE_LENGTH = 5
    """A sample's length is not a multiple of 4; the reader steps by the length rounded up."""
    SAMPLE_SHORT = 6
    """The fixed part of a sample does not fit in the sample's length: the sample is skipped."""

    RECORD_OVERRUN = 7
    """A record goes beyond its sample, or the sample ends before the claimed number of records."""
    RECORD_LENGTH = 8
    """A record's length is not a multiple of 4; the reader steps by the length rounded up."""
    RECORD_SHORT = 9
    """A known record is shorter than its required fields, or an inner count or string leaves it."""

    UNKNOWN_SAMPLE = 10
    """The sample type is not in the table; counted by (enterprise, format)."""
    UNKNOWN_RECORD = 11
    """The record type is not in the table; counted by (enterprise, format)."""

    @property
    def label(self) -> str:
        """Return the snake_case name used in JSON, such as ``"record_short"``."""
        return self.name.lower()

    @property
    def is_damage(self) -> bool:
        """Tell whether the datagram lies about itself, unlike one that holds a stranger."""
        return self < Reason.UNKNOWN_SAMPLE
