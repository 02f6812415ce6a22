"""What the spool holds, in memory: segments by the span of their entries, and who still needs them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator

from telemetryd.store.spool.segment import Segment

#: (output, span in ns, why: "size", "disk", "age" or "damage") -> points lost.
Lost = Counter[tuple[str, int, str]]


class Lanes:
    """The segments of each span, oldest first; whoever looks at them or changes them holds the lock.

    Attributes
    ----------
    lock:
        Held for moments only, never while a file is read or written.
    lost:
        Points that were given up.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lost: Lost = Counter()
        self._segments: dict[int, list[Segment]] = {}

    @property
    def spans(self) -> list[int]:
        """The spans of which there are segments, the finest first."""
        return sorted(span_ns for span_ns, lane in self._segments.items() if lane)

    @property
    def octets(self) -> int:
        """Octets of all files."""
        return sum(segment.size for segment in self.segments())

    def lane(self, span_ns: int) -> list[Segment]:
        """Return the segments of a span."""
        return list(self._segments.get(span_ns, ()))

    def segments(self, spans: Iterable[int] | None = None) -> Iterator[Segment]:
        """Yield the segments of some spans, of all where none are named."""
        for span_ns in self.spans if spans is None else spans:
            yield from self.lane(span_ns)

    def add(self, segment: Segment) -> None:
        """Add the newest segment of its span."""
        self._segments.setdefault(segment.span_ns, []).append(segment)

    def remove(self, segment: Segment) -> None:
        """Remove a segment, unless somebody did."""
        lane = self._segments.get(segment.span_ns, [])
        if segment in lane:
            lane.remove(segment)

    def find(self, span_ns: int, sequence: int) -> Segment | None:
        """Return the segment that holds an entry, None if none does."""
        return next((segment for segment in self._segments.get(span_ns, ()) if sequence in segment), None)
