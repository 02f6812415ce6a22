"""Policies and calendars as they are written: frozen pydantic models; the descriptions are the reference."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from telemetryd.config.explain import show
from telemetryd.config.units import UnitError, parse_size
from telemetryd.policy.fields import (
    AmountField,
    Day,
    Days,
    Function,
    Hours,
    Importance,
    Moment,
    Overbooked,
    Recurrence,
    Weight,
)
from telemetryd.registry.fields import Dscp, Flag, Name, Slug, Text, TimeZone, mistake
from telemetryd.registry.models import Entity

Level = Literal["service_class", "region", "department", "application"]

#: Level of a tree -> the field that lists its nodes.
CHILDREN: Final[dict[Level, str]] = {
    "service_class": "classes",
    "region": "regions",
    "department": "departments",
    "application": "applications",
}


def _parse_burst(value: object) -> int:
    try:
        return parse_size(value)
    except UnitError as error:
        mistake(error.message, error.remedy)


Burst = Annotated[int, PlainValidator(_parse_burst), WithJsonSchema({"type": "string", "examples": ["256 kB"]})]


class Terms(Entity):
    """What may be said of a node; a field that is left out is not changed."""

    importance: Importance | None = Field(
        None, description="1 is the most important; strict among siblings for the excess; left out = the parent's"
    )
    weight: Weight | None = Field(None, description="share among siblings of the same importance; 1 if left out")
    guarantee: AmountField | None = Field(
        None, description="rate it has before anybody's excess, as far as it demands it"
    )
    floor: AmountField | None = Field(None, description="survival floor: what it keeps where not all guarantees fit")
    ceiling: AmountField | None = Field(
        None, description="rate it never exceeds; % of the parent's ceiling or capacity"
    )
    no_lend: Flag | None = Field(None, description="true = its guarantee stays idle for it")
    borrow: Flag | None = Field(None, description="false = it never has more than its guarantee")
    hard: Flag | None = Field(None, description="true = its allocation is its ceiling on the device too")
    function: Function | None = Field(
        None,
        description="bandwidth function in place of weight, guarantee and ceiling: [[fair share, rate], ...]",
    )
    burst: Burst | None = Field(None, description="octets that it may send at once on the device")
    dscp: Dscp | None = Field(None, description="DSCP value that its packets get")


class Change(Terms):
    """Other terms at certain times. Of several that apply, a later one wins field by field."""

    event: Slug | None = Field(None, description="while this event of a calendar lasts")
    days: Days | None = Field(None, description='on these days of the week: "mon-fri", "sat, sun"')
    hours: Hours | None = Field(None, description='within these hours: "08:00-18:00"; left out = the whole day')
    recurrence: Recurrence | None = Field(
        None, description='on the days of an RFC 5545 rule: "FREQ=MONTHLY;BYMONTHDAY=15"'
    )
    on: Literal["workdays", "holidays"] | None = Field(
        None,
        description="workdays: Monday to Friday without the calendar's holidays, and its make-up days; or the others",
    )


class Node(Terms):
    """A node of a policy's tree: it names itself by the level that it is on, or takes a template's place."""

    service_class: Name | None = Field(None, description="name of the service class")
    region: Slug | None = Field(None, description="name of the region")
    department: Slug | None = Field(None, description="name of the department")
    application: Slug | None = Field(None, description="name of the application")
    template: Slug | None = Field(
        None,
        description="terms to start from; without a name: every department of that class, or application of that "
        "importance in the registry, that is not named beside it",
    )
    schedule: tuple[Change, ...] = Field((), description="other terms at certain times")
    classes: tuple[Node, ...] = Field((), description="service classes below it")
    regions: tuple[Node, ...] = Field((), description="regions below it")
    departments: tuple[Node, ...] = Field((), description="departments below it")
    applications: tuple[Node, ...] = Field((), description="applications below it")


class Override(Terms):
    """Other terms for a node for a time, by an owner for a reason; it ends by itself."""

    service_class: Name | None = Field(None, description="service class of the node")
    region: Slug | None = Field(None, description="region of the node")
    department: Slug | None = Field(None, description="department of the node")
    application: Slug | None = Field(None, description="application of the node")
    since: Moment = Field(alias="from", description="when it begins")
    until: Moment = Field(description="when it ends")
    owner: Text = Field(description="who answers for it")
    reason: Text = Field(description="why")


class Freeze(Entity):
    """Emergency freeze: nothing that is applied changes until it ends."""

    until: Moment = Field(description="when it ends")
    owner: Text = Field(description="who answers for it")
    reason: Text = Field(description="why")


class Overbooking(Entity):
    """More is guaranteed than there is, knowingly."""

    most: Overbooked = Field(description="guarantees together, as % of the capacity less the reserve")
    busy: AmountField = Field(description="% of the time in which a guarantee is demanded in full: the risk follows")
    owner: Text = Field(description="who answers for it")
    reason: Text = Field(description="why")


class PolicyFile(Entity):
    """One policy: links, and the tree of what is promised on each of them, per direction."""

    version: Literal[1] = Field(description="version of this format")
    policy: Slug = Field(description="name of the policy")
    links: tuple[Slug, ...] = Field(min_length=1, description="links or link groups of the registry; each has a tree")
    direction: Literal["in", "out", "both"] = Field("both", description="direction at the interface")
    reserve: AmountField | None = Field(None, description="part of the capacity that no guarantee may use; not idle")
    overbooking: Overbooking | None = Field(
        None, description="admit more guarantees than fit: {most, busy, owner, reason}"
    )
    charge: Literal["department", "peer_department"] = Field(
        "department", description="whose traffic it is: the inside end's, or the other one's"
    )
    time_zone: TimeZone | None = Field(None, description="IANA time zone of its times; left out = the city's")
    calendars: tuple[Text, ...] = Field(
        (), description="calendar files, relative to this one; left out = those in calendars/ here or above"
    )
    tree: tuple[Level, ...] = Field(
        ("service_class", "department", "application"),
        min_length=1,
        description="levels of the tree, from the link down",
    )
    templates: dict[Slug, Terms] = Field({}, description="name -> terms to start from")
    classes: tuple[Node, ...] = Field((), description="service classes")
    regions: tuple[Node, ...] = Field((), description="regions")
    departments: tuple[Node, ...] = Field((), description="departments")
    applications: tuple[Node, ...] = Field((), description="applications")
    rest: Terms = Field(Terms(), description="whatever nothing names")
    overrides: tuple[Override, ...] = Field((), description="time-boxed changes")
    freeze: Freeze | None = Field(None, description="emergency freeze: {until, owner, reason}")


class Occurrence(Entity):
    """One time that an event lasts."""

    since: Moment = Field(alias="from", description="when it begins")
    until: Moment = Field(alias="to", description="when it ends")


class CalendarFile(Entity):
    """Dated events and holidays as data."""

    version: Literal[1] = Field(description="version of this format")
    calendar: Slug = Field(description="name of the calendar")
    events: dict[Slug, tuple[Occurrence, ...]] = Field({}, description="event -> when it is: [{from, to}]")
    holidays: tuple[Day, ...] = Field((), description="public holidays")
    workdays: tuple[Day, ...] = Field((), description="days of a weekend that are worked")


def children_of(node: Node | PolicyFile, level: Level) -> tuple[Node, ...]:
    """Return the nodes of a level below a node."""
    nodes: tuple[Node, ...] = getattr(node, CHILDREN[level])
    return nodes


def merged(*terms: Terms | None) -> dict[str, Any]:
    """Return what several terms say together, by field; a later one wins, and what is left out changes nothing."""
    result: dict[str, Any] = {}
    for each in terms:
        if each is not None:
            values = ((name, getattr(each, name)) for name in Terms.model_fields)
            result |= {name: value for name, value in values if value is not None}
    return result


def spell(node: Node) -> str:
    """Write which node it is, for a message."""
    for level in CHILDREN:
        name = getattr(node, level)
        if name is not None:
            return f'{level} "{name}"'
    return f"template {show(node.template)}"
