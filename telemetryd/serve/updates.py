"""From closed windows to the updates of `telemetryd top`: rates over the last seconds, and who gets them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.tally import Tally
from telemetryd.aggregate.top import sum_by
from telemetryd.registry.models import Registry
from telemetryd.schema import LinkDirection, Names, Table, UsageWindow
from telemetryd.serve.messages import Loss, State, Update, Usage
from telemetryd.store.sums import Sums

SPAN_S: Final = 10
SECOND_NS: Final = 1_000_000_000
CONFIDENCE: Final = 0.95
UNLIMITED: Final = 2**63 - 1  # what the registry calls a capacity that neither port nor contract states
_LINK, _DEPARTMENT, _APPLICATION = range(3)
_KINDS: Final = ("links", "departments", "applications")
_DIRECTIONS: Final = 4  # codes of a link's direction are below this

_Sums = dict[str, NDArray[Any]]
Item = TypeVar("Item")


class UsageUpdates:
    """Keep the last windows and make updates of them; one owner, no thread of its own.

    A second alone holds few samples, so rates are over a sliding span.

    Parameters
    ----------
    registry:
        Titles and capacities; give the new one to :meth:`replace` after a reload.
    span_s:
        Seconds that a rate is over, at most; less after the start.
    """

    def __init__(self, registry: Registry, span_s: int = SPAN_S) -> None:
        self._span_ns = span_s * SECOND_NS
        self._first_ns: int | None = None
        self._end_ns = 0
        # Names outlive the codes of one dictionary, which a reload changes.
        self._ids: tuple[dict[str, int], ...] = ({}, {}, {})
        self._names: tuple[list[str], ...] = ([], [], [])
        self._translated: tuple[Names | None, tuple[NDArray[np.intp], ...]] = (None, ())
        self._windows: deque[tuple[int, tuple[tuple[NDArray[np.intp], _Sums], ...]]] = deque()
        self.replace(registry)

    def replace(self, registry: Registry) -> None:
        """Take titles and capacities from a new registry."""
        self._titles: tuple[dict[str, str], ...] = (
            {},
            {d.name: d.title.en for d in registry.departments if d.title and d.title.en},
            {a.name: a.title.en for a in registry.applications if a.title and a.title.en},
        )
        self._capacities = {link.name: registry.capacity_bps(link) for link in registry.links}

    def add(self, window: UsageWindow) -> None:
        """Take in a closed window of 1 s."""
        if self._first_ns is None:
            self._first_ns = window.start_ns
        self._end_ns = max(self._end_ns, window.start_ns + window.span_ns)
        links, departments, applications = self._translate(window.names)
        by_link = sum_by(window.columns, ["link", "direction"], Table.LINK_USAGE)
        by_department = sum_by(window.columns, ["department"])
        by_application = sum_by(window.columns, ["application"])
        parts = (
            (links[by_link["link"]] * _DIRECTIONS + by_link["direction"].astype(np.intp), by_link),
            (departments[by_department["department"]], by_department),
            (applications[by_application["application"]], by_application),
        )
        self._windows.append((window.start_ns, parts))

    def update(self, state: State, reasons: list[str], loss: Loss, end_ns: int | None = None) -> Update:
        """Make the update of the span that ends with the newest window, or at ``end_ns`` where none came."""
        end = self._end_ns if end_ns is None else max(end_ns, self._end_ns)
        start = max(end - self._span_ns, end if self._first_ns is None else self._first_ns)
        while self._windows and self._windows[0][0] < start:
            self._windows.popleft()
        span = end - start
        tallies = (Tally(), Tally(), Tally())
        for _, parts in self._windows:
            for tally, (ids, sums) in zip(tallies, parts, strict=True):
                tally.add(ids, sums)
        everything = Tally()
        part = tallies[_DEPARTMENT].sums
        everything.add(np.zeros(len(part["samples"]), np.intp), part)
        total = self._rows(None, everything, span, 0.0)
        reference = total[0]["rate_bps"] if total else 0.0
        links, departments, applications = (self._rows(kind, tallies[kind], span, reference) for kind in range(3))
        return {
            "start_ns": start,
            "span_ns": span,
            "state": state,
            "reasons": reasons,
            "links": links,
            "departments": departments,
            "applications": applications,
            "total": total[0] if total else _none("total"),
            "unclassified": next((row for row in applications if row["name"] == "unclassified"), _none("unclassified")),
            "loss": loss,
        }

    def _rows(self, kind: int | None, tally: Tally, span_ns: int, total_bps: float) -> list[Usage]:
        codes = tally.present()
        if len(codes) == 0 or span_ns <= 0:
            return []
        sums = Sums.of({name: column[codes] for name, column in tally.sums.items()})
        rate, low, high = sums.rates(np.full(len(codes), span_ns / SECOND_NS), CONFIDENCE)
        rows = []
        for k, code in enumerate(codes.tolist()):
            row = _none("total")
            row["rate_bps"], row["low_bps"], row["high_bps"] = float(rate[k]), float(low[k]), float(high[k])
            row["samples"] = int(sums.samples[k])
            of = float(total_bps)
            if kind is None:
                of = row["rate_bps"]
            elif kind == _LINK:
                direction = LinkDirection(code % _DIRECTIONS)
                row["name"], row["direction"] = self._names[kind][code // _DIRECTIONS], direction.name.lower()
                both = self._capacities.get(row["name"])
                row["capacity_bps"] = float(both[direction - 1]) if both and both[direction - 1] < UNLIMITED else None
                of = row["capacity_bps"] or 0.0
            else:
                row["name"] = self._names[kind][code]
                row["title"] = self._titles[kind].get(row["name"], "")
            row["share"] = row["rate_bps"] / of if of else 0.0
            rows.append(row)
        return rows

    def _translate(self, names: Names) -> tuple[NDArray[np.intp], ...]:
        """Return code -> our own number of the name, an array for each kind."""
        known, arrays = self._translated
        if known is not names:
            arrays = tuple(
                np.array([self._id(kind, name) for name in getattr(names, attribute)], np.intp)
                for kind, attribute in enumerate(_KINDS)
            )
            self._translated = (names, arrays)
        return arrays

    def _id(self, kind: int, name: str) -> int:
        number = self._ids[kind].setdefault(name, len(self._names[kind]))
        if number == len(self._names[kind]):
            self._names[kind].append(name)
        return number


def _none(name: str) -> Usage:
    return {
        "name": name,
        "title": "",
        "direction": "",
        "rate_bps": 0.0,
        "low_bps": 0.0,
        "high_bps": 0.0,
        "samples": 0,
        "capacity_bps": None,
        "share": 0.0,
    }


class Broadcast(Generic[Item]):
    """Hand the newest item to any number of readers; one that is slow misses items and holds up nobody."""

    def __init__(self) -> None:
        self._latest: Item | None = None
        self._number = 0
        self._next = asyncio.Event()
        self._closed = False

    def publish(self, item: Item) -> None:
        """Give out an item; to be called in the event loop's thread."""
        self._latest = item
        self._number += 1
        self._wake()

    def close(self) -> None:
        """End every subscription."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        event, self._next = self._next, asyncio.Event()
        event.set()

    async def subscribe(self) -> AsyncGenerator[Item, None]:
        """Yield the newest item at once, if there is one, and every later one that the reader is in time for."""
        seen = 0
        while True:
            while seen == self._number and not self._closed:
                await self._next.wait()
            if self._closed:
                return
            seen = self._number
            assert self._latest is not None
            yield self._latest
