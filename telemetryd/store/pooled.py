"""Usage of links by the samples of both ends of their cables, pooled (:mod:`telemetryd.aggregate.hops`).

What leaves a switch by a cable comes in at the other end, and is sampled there once more, independently. So each class
of a link has two estimates of the same traffic. They are pooled where the two ends agree about all of the link's
traffic; where they do not, an exporter was silent or a path is wrong, and the link's own samples are taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.hops import pool_hops
from telemetryd.errors import InputError
from telemetryd.store.embedded import Snapshot, Store
from telemetryd.store.query import OTHER, Name, Row, grouping, rank_names
from telemetryd.store.select import Found, Selection, sum_by
from telemetryd.store.sums import Sums

PLACE: Final = ("link", "direction")
#: Two ends that differ by more standard deviations do not see the same traffic.
MOST_DEVIATIONS: Final = 5.0
_OPPOSITE: Final = {"in": "out", "out": "in"}
_SUMS: Final = ("octets", "octets_variance", "octets_largest")

Floats = NDArray[np.float64]
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PooledAnswer:
    """Pooled figures of a range.

    Attributes
    ----------
    from_ns, to_ns:
        The range answered.
    by:
        The key columns of the rows.
    rows:
        One dict a row, greatest first: the key columns, ``rate_bps``, ``low_bps``, ``high_bps`` and ``octets`` pooled,
        ``raw_rate_bps`` and ``raw_octets`` of the links' own samples, ``samples`` of both ends, ``share``, ``folded``.
    places:
        One dict for each link and direction: ``far_end`` (None: unknown), ``octets`` and ``far_octets`` as the ends see
        them, and ``state``: ``pooled``, ``disagree``, or ``alone``, where the other end is not known or tells nothing.
    """

    from_ns: int
    to_ns: int
    by: Name
    rows: list[Row]
    places: list[Row]


def top(store: Store, by: Sequence[str], selection: Selection, ends: Mapping[str, str], n: int = 10) -> PooledAnswer:
    """Rank the keys ``by`` by pooled volume: the first ``n``, the rest as ``other``, shares of all.

    Parameters
    ----------
    ends:
        Link at one end of a cable -> link at the other (:func:`telemetryd.registry.cables.cables`).

    Raises
    ------
    InputError
        As :func:`telemetryd.store.query.top`, and for another table than ``link_usage``.
    StoreError
        If the store cannot be read.
    """
    if selection.table != "link_usage":
        raise InputError("the two ends of a cable are in link_usage: add --table link_usage")
    columns = grouping(by)
    keys = (*columns, *(name for name in PLACE if name not in columns))

    def answer(snapshot: Snapshot) -> PooledAnswer:
        own = sum_by(snapshot, keys, selection)
        plan = own.plan
        at = tuple(keys.index(name) for name in PLACE)
        places = sorted({(name[at[0]], name[at[1]]) for name in own.names})
        links = sorted({link for link, _ in places})
        far_links = sorted({ends[link] for link in links if link in ends})
        asked = {name: names for name, names in selection.where.items() if name not in PLACE}

        def read(by: Name, where: Mapping[str, Sequence[str]]) -> Found:
            chosen = Selection("link_usage", plan.from_ns, plan.to_ns, where, selection.confidence)
            return sum_by(snapshot, by, chosen, may_be_empty=True)

        far = read(keys, {**asked, "link": far_links}) if far_links else None
        whole = _by_place(read(PLACE, {"link": sorted({*links, *far_links})}))
        shown, classes = [], _Classes()
        of_own = _by_class(own, at)
        of_far = {} if far is None else _by_class(far, at)
        for place in places:
            other = (ends[place[0]], _OPPOSITE[place[1]]) if place[0] in ends else None
            state = _state(whole, place, other)
            shown.append(_shown(whole, place, other, state))
            both = of_own.get(place, {}), of_far.get(other, {}) if other and state == "pooled" else {}
            excess = [_excess(whole[one]) if one in whole else 0.0 for one in (place, other or place)]
            classes.add(place, both, excess, state)
        names = [_full(name, place, at) for name, place in classes.names]
        wanted = [tuple(name[keys.index(column)] for column in columns) for name in names]
        sums, raw = classes.sums(), np.array(classes.raw)
        ranks, order = rank_names(wanted, sums.octets, n)
        folded = sums.fold(ranks, len(order))
        span = np.full(len(order), plan.to_ns - plan.from_ns)
        figures = folded.figures(span, selection.confidence)
        raw_octets = np.bincount(ranks, raw, len(order)) if len(raw) else np.zeros(len(order))
        total = float(sums.octets.sum())
        rows = []
        for rank, (name, figure) in enumerate(zip(order, figures, strict=True)):
            key = dict.fromkeys(columns, OTHER) if name is None else dict(zip(columns, name, strict=True))
            rows.append(
                {
                    **key,
                    **{field: figure[field] for field in ("rate_bps", "low_bps", "high_bps", "octets")},
                    "raw_rate_bps": float(raw_octets[rank]) * 8e9 / float(span[rank]),
                    "raw_octets": float(raw_octets[rank]),
                    "samples": figure["samples"],
                    "share": figure["octets"] / total if total else 0.0,
                    "folded": list(columns) if name is None else [],
                }
            )
        return PooledAnswer(plan.from_ns, plan.to_ns, columns, rows, shown)

    return store.read(answer)


class _Classes:
    """Pooled classes, one after the other."""

    def __init__(self) -> None:
        self.names: list[tuple[Name, Place]] = []
        self.raw: list[float] = []
        self._samples: list[int] = []
        self._pooled: list[tuple[Floats, Floats, Floats]] = []

    def add(
        self,
        place: Place,
        both: tuple[Mapping[Name, Row], Mapping[Name, Row]],
        excess: list[float],
        state: str,
    ) -> None:
        """Take the classes of a place, as its own end and the other one see them."""
        names = sorted({*both[0], *both[1]})
        octets, variance, largest = (
            np.array([[end.get(name, {}).get(what, 0.0) for name in names] for end in both]) for what in _SUMS
        )
        passes = np.ones((2, len(names)), np.bool_)
        passes[1] = state == "pooled"
        pooled = pool_hops(octets, variance, largest, np.array(excess), passes)
        self.names += [(name, place) for name in names]
        self.raw += octets[0].tolist()
        self._samples += [sum(int(end.get(name, {}).get("samples", 0)) for end in both) for name in names]
        self._pooled.append((pooled.octets, pooled.variance, pooled.largest))

    def sums(self) -> Sums:
        """Return the sums of all classes."""
        octets, variance, largest = (
            np.concatenate([one[part] for one in self._pooled]) if self._pooled else np.zeros(0) for part in range(3)
        )
        none = np.zeros(len(octets))
        samples = np.array(self._samples, np.int64)
        return Sums(samples, octets, none, variance, largest, np.zeros(len(octets), np.int64))


def _by_class(found: Found, at: tuple[int, ...]) -> dict[Place, dict[Name, Row]]:
    """Return place -> the other keys -> sums."""
    places: dict[Place, dict[Name, Row]] = {}
    for row, code in enumerate(found.codes.tolist()):
        name = found.names[code]
        rest = tuple(value for side, value in enumerate(name) if side not in at)
        figures = {what: float(getattr(found.sums, what)[row]) for what in (*_SUMS, "samples")}
        places.setdefault((name[at[0]], name[at[1]]), {})[rest] = figures
    return places


def _by_place(found: Found) -> dict[Place, Row]:
    names = (*_SUMS, "packets", "samples")
    return {
        (found.names[code][0], found.names[code][1]): {name: float(getattr(found.sums, name)[row]) for name in names}
        for row, code in enumerate(found.codes.tolist())
    }


def _excess(sums: Row) -> float:
    """Return N - 1 of a hop, from all of its samples."""
    return max(sums["packets"] / sums["samples"] - 1.0, 0.0) if sums["samples"] else 0.0


def _state(whole: Mapping[Place, Row], place: Place, other: Place | None) -> str:
    if other is None or other not in whole or not whole[other]["samples"]:
        return "alone"
    one, two = whole[place], whole[other]
    deviation = float(np.sqrt(one["octets_variance"] + two["octets_variance"]))
    return "pooled" if abs(one["octets"] - two["octets"]) <= MOST_DEVIATIONS * deviation else "disagree"


def _shown(whole: Mapping[Place, Row], place: Place, other: Place | None, state: str) -> Row:
    return {
        "link": place[0],
        "direction": place[1],
        "far_end": None if other is None else other[0],
        "octets": whole[place]["octets"],
        "far_octets": whole[other]["octets"] if other is not None and other in whole else None,
        "state": state,
    }


def _full(rest: Name, place: Place, at: tuple[int, ...]) -> Name:
    """Put the place back among the other keys."""
    values: list[Any] = list(rest)
    for side, value in sorted(zip(at, place, strict=True)):
        values.insert(side, value)
    return tuple(values)
