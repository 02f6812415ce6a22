"""What if it were different: growth, a failed link, a burst, a flood; each changes recorded traffic or the links.

Written as ``KIND:NAME=VALUE,NAME=VALUE``:

    growth:rate=50%,years=1                       everything grows by so much a year
    failure:state=isp1-down                       a failure state of a link group, or down=LINK
    burst:who=hrss/cseexam,rate=2.6 Gbit/s        an application wants so much in all, if it did not want more
    ddos:rate=4 Gbit/s,target=edu/portal          a flood that does not slow down; without a target on no application

``from`` and ``to`` (local times) limit all but growth to a part of the range; ``link`` and ``direction`` say where a
burst or a flood comes if more than one is ruled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from telemetryd.allocate.demand_file import Demand
from telemetryd.assure.offered import Offered
from telemetryd.assure.simulate import Outage
from telemetryd.config.explain import suggest
from telemetryd.config.units import UnitError, parse_rate
from telemetryd.errors import InputError
from telemetryd.registry.models import Registry

#: Application of a flood without a target.
FLOOD: Final = "flood"

_FIELDS: Final = {
    "growth": ("rate", "years"),
    "failure": ("state", "down", "from", "to"),
    "burst": ("who", "rate", "link", "direction", "from", "to"),
    "ddos": ("rate", "target", "link", "direction", "from", "to"),
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario as it was written, taken apart."""

    text: str
    kind: str
    fields: dict[str, str]


def parse_scenario(text: str) -> Scenario:
    """Take a scenario apart.

    Raises
    ------
    InputError
        If its kind or a name is not known, with what there is.
    """
    kind, _, rest = text.partition(":")
    kind = kind.strip()
    if kind not in _FIELDS:
        raise InputError(f'--scenario "{text}": no kind "{kind}" - use {", ".join(_FIELDS)}')
    fields: dict[str, str] = {}
    for part in rest.split(",") if rest.strip() else ():
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name not in _FIELDS[kind]:
            raise InputError(f'--scenario "{text}": "{part}" - write NAME=VALUE with {", ".join(_FIELDS[kind])}')
        fields[name] = value
    return Scenario(text, kind, fields)


def apply(
    scenarios: Sequence[Scenario],
    offered: Offered,
    registry: Registry,
    places: Sequence[tuple[str, str]],
    zone: ZoneInfo,
) -> tuple[Offered, list[Outage]]:
    """Return the traffic as it would be, and the members of groups that are down.

    Parameters
    ----------
    places:
        (link, direction) that the new policies rule.
    zone:
        Of times that say none.

    Raises
    ------
    InputError
        If a value is missing or means nothing here.
    """
    outages: list[Outage] = []
    for scenario in scenarios:
        told = _Told(scenario, offered, zone)
        if scenario.kind == "growth":
            offered = replace(offered, bps=offered.bps * _growth(told))
        elif scenario.kind == "failure":
            outages.append(_failure(told, registry))
        elif scenario.kind == "burst":
            offered = _burst(told, registry, places)
        else:
            offered = _flood(told, registry, places)
    return offered, outages


class _Told:
    """The values of a scenario, as they are needed."""

    def __init__(self, scenario: Scenario, offered: Offered, zone: ZoneInfo) -> None:
        self.scenario = scenario
        self.offered = offered
        self.zone = zone

    def mistake(self, message: str) -> InputError:
        return InputError(f'--scenario "{self.scenario.text}": {message}')

    def get(self, name: str, otherwise: str | None = None) -> str:
        value = self.scenario.fields.get(name, otherwise)
        if value is None:
            raise self.mistake(f"{name} is missing")
        return value

    def number(self, name: str, otherwise: str) -> float:
        text = self.get(name, otherwise)
        try:
            value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            raise self.mistake(f'{name} "{text}" is no number - write such as {otherwise}') from None
        if not -1 < value < 1000:
            raise self.mistake(f"{name} {text} is out of range")
        return value

    def rate(self) -> int:
        try:
            return parse_rate(self.get("rate"))
        except UnitError as error:
            raise self.mistake(f"{error.message} - {error.remedy}") from None

    def steps(self) -> NDArray[np.bool_]:
        """Return the steps between ``from`` and ``to``, shape (t,)."""
        times = self.offered.times_ns
        first, last = (self._time(name) for name in ("from", "to"))
        chosen = np.ones(len(times), np.bool_)
        if first is not None:
            chosen &= times >= first
        if last is not None:
            chosen &= times < last
        if not chosen.any():
            raise self.mistake("its time is outside of the range")
        return chosen

    def place(self, places: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """Return link and direction: those said, or the only ones."""
        fields = self.scenario.fields
        found = [
            place
            for place in places
            if fields.get("link", place[0]) == place[0] and fields.get("direction", place[1]) == place[1]
        ]
        if len(found) != 1:
            known = ", ".join(f"{link} {direction}" for link, direction in places)
            raise self.mistake(f"say where, with link and direction - the new policies rule {known}")
        return found[0]

    def _time(self, name: str) -> int | None:
        text = self.scenario.fields.get(name)
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise self.mistake(f'{name} "{text}" is no time - write such as 2026-11-28T08:00') from None
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=self.zone)
        return (aware - _EPOCH) // timedelta(microseconds=1) * 1000


def _growth(told: _Told) -> float:
    factor = (1 + told.number("rate", "50%")) ** told.number("years", "1")
    return float(factor)


def _failure(told: _Told, registry: Registry) -> Outage:
    fields, groups = told.scenario.fields, registry.link_groups
    if "state" in fields:
        for group in groups:
            for state in group.failure_states:
                if state.name == fields["state"]:
                    return Outage(group.name, state.down, told.steps())
        known = [state.name for group in groups for state in group.failure_states]
        raise told.mistake(f"no failure state {fields['state']} - {suggest(fields['state'], known, 'see link_groups')}")
    down = told.get("down")
    for group in groups:
        if down in group.members:
            return Outage(group.name, (down,), told.steps())
    members = [member for group in groups for member in group.members]
    raise told.mistake(f"{down} is no member of a link group - {suggest(down, members, 'name a member of one')}")


def _burst(told: _Told, registry: Registry, places: Sequence[tuple[str, str]]) -> Offered:
    """Raise an application to a rate in all; what is missing comes as a class of its own at the same place."""
    offered, who = told.offered, told.get("who")
    department, _, application = who.partition("/")
    if department not in registry.department or application not in registry.application:
        raise told.mistake(f"who={who} is not in the registry - write DEPARTMENT/APPLICATION")
    link, direction = told.place(places)
    own = [
        column
        for column in offered.columns_of(link, direction)
        if (offered.keys[column].department, offered.keys[column].application) == (department, application)
    ]
    more = np.where(told.steps(), np.maximum(told.rate() - offered.bps[:, own].sum(axis=1), 0.0), 0.0)
    elastic = bool(offered.elastic[own[0]]) if own else True
    return offered.plus(Demand(link, direction, department, application, 0), more, elastic)


def _flood(told: _Told, registry: Registry, places: Sequence[tuple[str, str]]) -> Offered:
    link, direction = told.place(places)
    department, _, application = told.scenario.fields.get("target", f"/{FLOOD}").partition("/")
    if department and (department not in registry.department or application not in registry.application):
        raise told.mistake(f"target={department}/{application} is not in the registry - write DEPARTMENT/APPLICATION")
    bps = np.where(told.steps(), float(told.rate()), 0.0)
    return told.offered.plus(Demand(link, direction, department, application, 0), bps, False)
