"""The levels of the store: how long each is kept, and how much time one compacted segment holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from telemetryd.config.retention import DEFAULT_KEEP_NS, LONGEST_KEEP_NS

SECOND_NS: Final = 1_000_000_000
MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS


@dataclass(frozen=True, slots=True)
class Level:
    """What is done with windows of one span.

    Attributes
    ----------
    keep_ns:
        Windows that end this long before the newest data may be removed.
    bucket_ns:
        A segment holds windows of one bucket [i * bucket_ns, (i + 1) * bucket_ns) only.
    """

    keep_ns: int
    bucket_ns: int


LONGEST: Final = Level(keep_ns=LONGEST_KEEP_NS, bucket_ns=10 * DAY_NS)

_BUCKETS_NS: Final = {
    SECOND_NS: HOUR_NS,
    10 * SECOND_NS: 6 * HOUR_NS,
    MINUTE_NS: DAY_NS,
    5 * MINUTE_NS: DAY_NS,
    HOUR_NS: 10 * DAY_NS,
}

LEVELS: Final[Mapping[int, Level]] = MappingProxyType(
    {span_ns: Level(keep_ns, _BUCKETS_NS[span_ns]) for span_ns, keep_ns in DEFAULT_KEEP_NS.items()}
)


def with_retention(keep_ns: Mapping[int, int]) -> dict[int, Level]:
    """Return the levels with windows of some spans in ns kept for other times, in ns."""
    return {span_ns: replace(level, keep_ns=keep_ns.get(span_ns, level.keep_ns)) for span_ns, level in LEVELS.items()}


def level_of(levels: Mapping[int, Level], span_ns: int) -> Level:
    """Return the level of windows of ``span_ns``; spans that are not declared are kept longest."""
    return levels.get(span_ns, LONGEST)
