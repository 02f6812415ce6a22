"""Windows of counters: what interfaces, queues and components had in a span, one class a kind.

Every kind goes the same way, by its layout: roll-ups, backlog, store and outputs. So do estimates of demand, and what
was delivered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from numpy.typing import NDArray

from telemetryd.schema import (
    COMPONENT_COLUMNS,
    DEMAND_COLUMNS,
    ENFORCEMENT_COLUMNS,
    INTERFACE_COLUMNS,
    QUEUE_COLUMNS,
    Column,
)


@dataclass(frozen=True, slots=True)
class Layout:
    """What one kind of counters has in its windows.

    Attributes
    ----------
    kind:
        Name of the kind, and of the column that is the place in a window's names: the first one.
    names:
        What a name consists of.
    last, largest:
        Columns of which the last value stays, and those of which the largest does, where windows are merged; NaN is no
        value. ``flags`` and ``known`` are put together, the others added up.
    """

    kind: str
    names: tuple[str, ...]
    columns: tuple[Column, ...]
    last: tuple[str, ...] = ()
    largest: tuple[str, ...] = ()


INTERFACE_LAYOUT: Final = Layout(
    "interface", ("device", "interface"), INTERFACE_COLUMNS, last=("capacity_bps", "up", "source")
)
QUEUE_LAYOUT: Final = Layout("queue", ("device", "interface", "direction", "queue"), QUEUE_COLUMNS)
COMPONENT_LAYOUT: Final = Layout(
    "component", ("device", "component"), COMPONENT_COLUMNS, largest=("temperature_largest", "cpu_largest")
)

DEMAND_LAYOUT: Final = Layout(
    "demand", ("link", "direction", "department", "application"), DEMAND_COLUMNS, largest=("demand_largest",)
)
ENFORCEMENT_LAYOUT: Final = Layout("enforcement", ("link", "direction", "node"), ENFORCEMENT_COLUMNS)


@dataclass(frozen=True, slots=True)
class CounterWindow:
    """What counters of one kind say of [start_ns, start_ns + span_ns), our clock; mergeable.

    Attributes
    ----------
    layout:
        What its columns and names are.
    columns:
        Every column of the layout, each of shape (k,): one row an interface, queue or component.
    names:
        Their names, such as (device, interface), by the column of the kind's name.
    """

    layout: ClassVar[Layout]

    start_ns: int
    span_ns: int
    columns: dict[str, NDArray[Any]]
    names: tuple[tuple[str, ...], ...]


class InterfaceWindow(CounterWindow):
    """What the counters of interfaces grew by."""

    __slots__ = ()
    layout = INTERFACE_LAYOUT


class QueueWindow(CounterWindow):
    """What the counters of queues grew by: what left them, and what they dropped."""

    __slots__ = ()
    layout = QUEUE_LAYOUT


class ComponentWindow(CounterWindow):
    """What the sensors of components said."""

    __slots__ = ()
    layout = COMPONENT_LAYOUT


class DemandWindow(CounterWindow):
    """What the classes of links demanded, as it was estimated."""

    __slots__ = ()
    layout = DEMAND_LAYOUT


class EnforcementWindow(CounterWindow):
    """What was delivered of what was promised to classes of links, behind the bottleneck."""

    __slots__ = ()
    layout = ENFORCEMENT_LAYOUT


#: Kind -> its windows.
COUNTER_WINDOWS: Final[dict[str, type[CounterWindow]]] = {
    one.layout.kind: one for one in (InterfaceWindow, QueueWindow, ComponentWindow, DemandWindow, EnforcementWindow)
}
