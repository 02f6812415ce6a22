"""Calendar months of a time zone, cut into bins: the only place that knows what a local hour or day is.

Bins have one width since the epoch, so a month with a change of the clock has an hour more or less, and
nothing else needs to care.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.errors import InputError
from telemetryd.store.levels import MINUTE_NS, SECOND_NS

BIN_NS: Final = 5 * MINUTE_NS
"""What transit is billed by, and the finest level that is kept as long as the law asks."""

_MONTH: Final = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_HOUR_S: Final = 3600


@dataclass(frozen=True)
class Month:
    """A calendar month in a time zone.

    Attributes
    ----------
    year, number:
        The month; ``number`` is 1 to 12.
    zone:
        The time zone that its days and hours are those of.
    bin_ns:
        Width of its bins.
    """

    year: int
    number: int
    zone: tzinfo
    bin_ns: int = BIN_NS

    @classmethod
    def parse(cls, text: str, zone: tzinfo) -> Month:
        """Read a month such as ``2026-10``.

        Raises
        ------
        InputError
            If it isn't one.
        """
        found = _MONTH.fullmatch(text.strip())
        if found is None or not 1 <= int(found[2]) <= 12 or not 1971 <= int(found[1]) <= 9000:
            raise InputError(f"{text!r} is not a month: write year and month such as 2026-10")
        return cls(int(found[1]), int(found[2]), zone)

    @property
    def name(self) -> str:
        """The month as ``2026-10``."""
        return f"{self.year:04}-{self.number:02}"

    @property
    def following(self) -> Month:
        """The month after."""
        return self._shifted(1)

    @property
    def previous(self) -> Month:
        """The month before."""
        return self._shifted(-1)

    @property
    def year_before(self) -> Month:
        """The same month of the year before."""
        return self._shifted(-12)

    def _shifted(self, months: int) -> Month:
        years, number = divmod(self.year * 12 + self.number - 1 + months, 12)
        return Month(years, number + 1, self.zone, self.bin_ns)

    @cached_property
    def from_ns(self) -> int:
        """Its first moment, ns since the epoch."""
        start = datetime(self.year, self.number, 1, tzinfo=self.zone)
        # A clock change at midnight may skip the first hour: what exists of the day begins later.
        return round(start.timestamp()) * SECOND_NS

    @cached_property
    def to_ns(self) -> int:
        """The first moment after it, ns since the epoch."""
        return self.following.from_ns

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Starts of its bins in ns, shape (n,)."""
        # Bins lie on multiples of their width since the epoch, as windows do.
        return np.arange(self.from_ns // self.bin_ns * self.bin_ns, self.to_ns, self.bin_ns, dtype=np.int64)

    @property
    def bin_s(self) -> int:
        """Width of its bins in seconds."""
        return self.bin_ns // SECOND_NS

    @cached_property
    def days(self) -> list[date]:
        """Its days in order."""
        first, after = date(self.year, self.number, 1), date(self.following.year, self.following.number, 1)
        return [first + timedelta(days=day) for day in range((after - first).days)]

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        """Seconds that the local clock is ahead of UTC in each bin, shape (n,)."""
        seconds = self.starts // SECOND_NS
        offsets = np.empty(len(seconds), dtype=np.int64)
        known: dict[int, int] = {}
        for place, second in enumerate(seconds.tolist()):
            # Clocks change on multiples of a quarter of an hour.
            quarter = second // 900
            if quarter not in known:
                ahead = datetime.fromtimestamp(quarter * 900, self.zone).utcoffset() or timedelta()
                known[quarter] = round(ahead.total_seconds())
            offsets[place] = known[quarter]
        return offsets

    @cached_property
    def hours(self) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """The clock hour of each bin, shape (n,), and the starts of the clock hours in ns, shape (h,).

        An hour that the clock shows twice is two hours.
        """
        local = self.starts // SECOND_NS + self._offsets
        begin = local - local % _HOUR_S - self._offsets
        starts, places = np.unique(begin, return_inverse=True)
        return places.astype(np.intp), starts * SECOND_NS

    @cached_property
    def hour_of_day(self) -> NDArray[np.intp]:
        """Hour of the local clock of each bin, 0 to 23, shape (n,)."""
        local = self.starts // SECOND_NS + self._offsets
        return (local // _HOUR_S % 24).astype(np.intp)

    @cached_property
    def day_of_hour(self) -> NDArray[np.intp]:
        """Day of the month, counted from 0, of each clock hour, shape (h,)."""
        _, starts = self.hours
        dates = (datetime.fromtimestamp(start // SECOND_NS, self.zone).day for start in starts.tolist())
        return np.array([day - 1 for day in dates], dtype=np.intp)
