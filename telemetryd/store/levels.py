"""The levels of the store: how long each is kept, and how much time one compacted segment holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

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


# Logs of a network under graded protection are kept six months (184 days); 200 leave room for the audit.
LONGEST: Final = Level(keep_ns=200 * DAY_NS, bucket_ns=10 * DAY_NS)

LEVELS: Final[Mapping[int, Level]] = MappingProxyType(
    {
        SECOND_NS: Level(keep_ns=2 * DAY_NS, bucket_ns=HOUR_NS),
        10 * SECOND_NS: Level(keep_ns=7 * DAY_NS, bucket_ns=6 * HOUR_NS),
        MINUTE_NS: Level(keep_ns=60 * DAY_NS, bucket_ns=DAY_NS),
        5 * MINUTE_NS: Level(keep_ns=200 * DAY_NS, bucket_ns=DAY_NS),
        HOUR_NS: LONGEST,
    }
)


def with_retention(keep_ns: Mapping[int, int]) -> dict[int, Level]:
    """Return the levels with windows of some spans in ns kept for other times, in ns."""
    return {span_ns: replace(level, keep_ns=keep_ns.get(span_ns, level.keep_ns)) for span_ns, level in LEVELS.items()}


def level_of(levels: Mapping[int, Level], span_ns: int) -> Level:
    """Return the level of windows of ``span_ns``; spans that are not declared are kept longest."""
    return levels.get(span_ns, LONGEST)
