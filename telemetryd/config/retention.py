"""How long windows are kept unless told otherwise, and what the law asks at least."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_SECOND_NS: Final = 1_000_000_000
_DAY_NS: Final = 86_400 * _SECOND_NS

DEFAULT_KEEP_NS: Final[Mapping[int, int]] = MappingProxyType(
    {
        _SECOND_NS: 2 * _DAY_NS,
        10 * _SECOND_NS: 7 * _DAY_NS,
        60 * _SECOND_NS: 60 * _DAY_NS,
        300 * _SECOND_NS: 200 * _DAY_NS,
        3600 * _SECOND_NS: 200 * _DAY_NS,
    }
)
"""Length of windows in ns -> how long they are kept in ns, with what is known of their quality."""

LONGEST_KEEP_NS: Final = max(DEFAULT_KEEP_NS.values())

FLOOR_NS: Final = 184 * _DAY_NS
"""Six calendar months have 181 to 184 days, by which of them they are."""

FLOOR_REASON: Final = (
    "logs are kept six calendar months by law (Cybersecurity Law Art. 23(3), Art. 21(3) before 2026), and these have "
    'up to 184 days: write "184 d" or more; the default is "200 d"'
)
