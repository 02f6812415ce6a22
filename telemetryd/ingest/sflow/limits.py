"""Bounds of the hot-path sFlow decoder, shared by the compiled module and its Python twin."""

from __future__ import annotations

from typing import Final

LARGEST_DATAGRAM: Final = 65535
"""Octets: more than any UDP payload can have (RFC 768: a 16-bit length that counts the header)."""

LEAST_FLOW_SAMPLE: Final = 40
"""Octets of the shortest flow sample: tag and length (8), fixed part (28), number of records (4)."""

LEAST_IF_COUNTERS: Final = 96
"""Octets of an if_counters record: tag and length (8), fields (88)."""

MOST_SAMPLES: Final = LARGEST_DATAGRAM // LEAST_FLOW_SAMPLE
"""Most flow samples in a datagram: the least capacity of a sample batch."""

MOST_COUNTERS: Final = LARGEST_DATAGRAM // LEAST_IF_COUNTERS
"""Most if_counters records in a datagram: the least capacity of a counter batch."""

DROP_REASONS: Final = 512
"""Drop reasons counted one by one; the last one stands for itself and all above it."""

UNKNOWN_KEPT: Final = 256
"""Pairs (enterprise, format) of unknown structures counted one by one, first come first served."""
