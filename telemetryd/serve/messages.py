"""What the control service says, as dicts; the meaning of each field stands in proto/telemetryd/v1/control.proto.

The daemon fills in these dicts and the commands read them; protobuf is only how they travel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

State = Literal["ok", "degraded", "failed"]


class Component(TypedDict):
    """How one part of the daemon is."""

    name: str
    state: State
    reasons: list[str]


class Counts(TypedDict):
    """Counts since the start, by name."""

    name: str
    counts: dict[str, int]


class Loss(TypedDict):
    """What was lost, by cause."""

    share: float
    datagrams: dict[str, int]
    samples: dict[str, int]


class GnmiTarget(TypedDict):
    """How a gNMI target is."""

    name: str
    address: str
    state: State
    phase: str
    reasons: list[str]
    encoding: str
    transport: str
    secure: bool
    skew_ns: int | None
    asked_ns: int
    achieved_ns: int | None
    counts: dict[str, int]


class Alert(TypedDict):
    """A figure beyond its limit."""

    rule: str
    kind: str
    severity: str
    state: str
    labels: dict[str, str]
    fingerprint: str
    since_ns: int
    updated_ns: int
    value: float
    low: float
    high: float
    limit: float
    unit: str
    note: str
    summary: str


class Coverage(TypedDict):
    """How the samples of a link and direction agree with its counter."""

    link: str
    device: str
    interface: str
    direction: str
    coverage: float | None
    low: float | None
    high: float | None
    alarm: str
    since_ns: int
    seconds: float
    interval_s: float
    counter_octets: float
    estimated_octets: float
    source: str
    skew_ns: int | None
    loss_share: float | None


class LinkDemand(TypedDict):
    """What is demanded of a link and direction."""

    policy: str
    link: str
    direction: str
    start_ns: int
    end_ns: int
    capacity_bps: float
    usage_bps: float
    demand_bps: float
    damped_bps: float
    classes: int
    censored: int
    full: bool
    stale: str


class Gateway(TypedDict):
    """How the control loop does with a gateway."""

    name: str
    phase: str
    reason: str


class Status(TypedDict):
    """``StatusReply``."""

    version: str
    pid: int
    started_ns: int
    now_ns: int
    state: State
    components: list[Component]
    config: str
    registry: str
    loaded_ns: int
    reloads: int
    sockets: list[Counts]
    agents: list[Counts]
    loss: Loss
    store: Counts | None
    spool: Counts | None
    outputs: list[Counts]
    alerts: list[Alert]
    targets: list[GnmiTarget]
    coverage: list[Coverage]
    demand: list[LinkDemand]
    gateways: list[Gateway]


class Usage(TypedDict):
    """One line of an update: a rate in bit/s with its 95 % interval."""

    name: str
    title: str
    direction: str
    rate_bps: float
    low_bps: float
    high_bps: float
    samples: int
    capacity_bps: float | None
    share: float


class Update(TypedDict):
    """What happened in the span that ends now."""

    start_ns: int
    span_ns: int
    state: State
    reasons: list[str]
    links: list[Usage]
    departments: list[Usage]
    applications: list[Usage]
    total: Usage
    unclassified: Usage
    loss: Loss


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """``ReloadReply``: whether the new configuration is in use, what is different, or why it was refused."""

    reloaded: bool
    changes: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def to_dict(message: Any) -> dict[str, Any]:
    """Turn a protobuf message into a dict with every field; one that is absent is None.

    Unlike protobuf's own JSON mapping, 64-bit integers stay integers and names stay as in the .proto file.
    """
    return {field.name: _value(message, field) for field in message.DESCRIPTOR.fields}


def _value(message: Any, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.is_repeated:
        if field.message_type is None:
            return list(value)
        if field.message_type.GetOptions().map_entry:
            return dict(sorted(value.items()))
        return [to_dict(item) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return value if field.message_type is None else to_dict(value)
