"""What-if: the same traffic over the same links, once as it is ruled now and once as it would be ruled."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from telemetryd.assure.closed_loop import Course, Floats, run
from telemetryd.assure.division import Division
from telemetryd.assure.folded import Fold
from telemetryd.assure.offered import Offered
from telemetryd.policy.admission import capacity_bps, contracted_bps
from telemetryd.policy.loaded import Policies
from telemetryd.registry.models import Registry

Name = TypeVar("Name", bound=Hashable)

#: Time in which 63 % of elastic traffic that waits gives up, s.
PATIENCE_S: Final = 300.0
#: A recorded step with this part of the capacity or more shows less than was wanted.
FULL: Final = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Outage:
    """Members of a link group that are down for a while; shape (t,) says in which steps."""

    group: str
    down: tuple[str, ...]
    steps: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class LinkCourse:
    """One link in one direction, under both sides.

    Attributes
    ----------
    link, direction:
        Which.
    columns:
        Its columns of what is offered, shape (k,).
    capacity_bps:
        Of each step, shape (t,).
    offered:
        bit/s, shape (t, k).
    sides:
        The divisions, old and new.
    courses:
        What came out, old and new.
    recorded_full:
        Steps in which what is offered fills the whole link: recorded traffic that was cut there, shape (t,).
    """

    link: str
    direction: str
    columns: NDArray[np.intp]
    capacity_bps: NDArray[np.int64]
    offered: Floats
    sides: tuple[Division, Division]
    courses: tuple[Course, Course]
    recorded_full: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What both sides made of the traffic.

    Attributes
    ----------
    offered:
        The traffic.
    links:
        A course for each link and direction that the new policies rule.
    unmanaged:
        Columns on other links.
    """

    offered: Offered
    links: tuple[LinkCourse, ...]
    unmanaged: NDArray[np.intp]


def simulate(
    old: Policies | None,
    new: Policies,
    registry: Registry,
    offered: Offered,
    *,
    outages: Iterable[Outage] = (),
    patience_s: float = PATIENCE_S,
    recorded: Floats | None = None,
    folds: tuple[Fold | None, Fold | None] = (None, None),
    on_progress: Callable[[float], None] | None = None,
) -> Simulation:
    """Run the traffic through every link that the new policies rule, under the old ones and under the new.

    Parameters
    ----------
    old:
        What rules now; None for links without a policy: one queue, everyone loses the same part.
    offered:
        What would be sent.
    outages:
        Members of groups that are down.
    patience_s:
        See :mod:`telemetryd.assure.closed_loop`.
    recorded:
        Recorded rates before scenarios changed them, shape (t, k) for the first k columns; it tells where the
        record was cut by a full link. None: nothing was.
    folds:
        How devices fold the links (telemetryd.assure.folded), under the old policies and the new; None divides as the
        policies say.
    on_progress:
        Called with the part that is done, 0 to 1.
    """
    places = [(link, direction) for _, link, direction in new.ruled()]
    outages = tuple(outages)
    times, courses, seen = offered.times_ns, [], np.zeros(len(offered.keys), np.bool_)
    for number, (link, direction) in enumerate(places):
        columns = offered.columns_of(link, direction)
        seen[columns] = True
        capacity = _capacity(capacity_bps, link, direction, registry, outages, len(times))
        # Where no policy rules, nobody shapes what comes in: the whole contract is used.
        before = _capacity(contracted_bps, link, direction, registry, outages, len(times)) if old is None else capacity
        whole = (contracted_bps if old is None else capacity_bps)(link, direction, registry)
        down = _down(link, outages, len(times))
        keys = [offered.keys[column] for column in columns]
        bps, elastic = offered.bps[:, columns], offered.elastic[columns]
        sides = tuple(
            Division(one, registry, link, direction, keys, times, room, fold, down)
            for one, room, fold in ((old, before, folds[0]), (new, capacity, folds[1]))
        )
        found = []
        for place, side in enumerate(sides):
            done = (number + place / 2) / len(places)
            report = _reporter(on_progress, done, 0.5 / len(places), len(times))
            found.append(run(bps, elastic, offered.step_s, patience_s, side.divide, side.easy(bps), report))
        was = recorded[:, columns[columns < recorded.shape[1]]] if recorded is not None else np.zeros((len(times), 0))
        courses.append(
            LinkCourse(
                link,
                direction,
                columns,
                capacity,
                bps,
                (sides[0], sides[1]),
                (found[0], found[1]),
                np.asarray(was.sum(axis=1) >= FULL * whole),
            )
        )
    if on_progress is not None:
        on_progress(1.0)
    return Simulation(offered, tuple(courses), np.flatnonzero(~seen))


def _capacity(
    of: Callable[..., int], link: str, direction: str, registry: Registry, outages: tuple[Outage, ...], steps: int
) -> NDArray[np.int64]:
    result = np.full(steps, of(link, direction, registry), np.int64)
    for outage in outages:
        if outage.group == link:
            result[outage.steps] = of(link, direction, registry, outage.down)
    return result


def _down(link: str, outages: tuple[Outage, ...], steps: int) -> list[frozenset[str]]:
    """Return the members of a group that are down in each step: a later outage counts, as for the capacity."""
    result: list[frozenset[str]] = [frozenset()] * steps
    for outage in outages:
        if outage.group == link:
            for step in np.flatnonzero(outage.steps).tolist():
                result[step] = frozenset(outage.down)
    return result


def _reporter(
    on_progress: Callable[[float], None] | None, done: float, share: float, steps: int
) -> Callable[[int], None] | None:
    if on_progress is None:
        return None

    def report(step: int) -> None:
        on_progress(done + share * step / steps)

    return report


def group_sums(values: Floats, codes: NDArray[np.intp], groups: int) -> Floats:
    """Return the sums of columns by group, shape (t, g)."""
    result = np.zeros((groups, len(values)))
    np.add.at(result, codes, values.T)
    return result.T


def numbered(names: Iterable[Name]) -> tuple[list[Name], NDArray[np.intp]]:
    """Return distinct names in order of appearance, and the number of each one's name."""
    known: dict[Name, int] = {}
    codes = [known.setdefault(name, len(known)) for name in names]
    return list(known), np.array(codes, np.intp)


def class_sums(course: LinkCourse, values: Floats) -> dict[tuple[str, str], Floats]:
    """Return the sums of columns by the class that the new policy puts them into in each step, shape (t,) each."""
    side = course.sides[1]
    result: dict[tuple[str, str], Floats] = {}
    for number, rows in enumerate(side.classes()):
        steps = np.flatnonzero(side.state_of == number)
        names, codes = numbered(rows)
        sums = group_sums(values[steps], codes, len(names))
        for place, name in enumerate(names):
            result.setdefault(name, np.zeros(len(values)))[steps] = sums[:, place]
    return result
