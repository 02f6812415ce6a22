"""The series: every measurement that outputs send, with its tags, fields, units and types.

The embedded store keeps the same names: a tag or a sum of ``usage`` is the column of that name
(:mod:`telemetryd.schema`; ``result_table`` is its ``table``, a name that Flux keeps for itself). docs/series.md is
generated from here, and the dashboards are checked against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from telemetryd.schema import SUM_COLUMNS

SECOND_NS: Final = 1_000_000_000
#: Written for what is folded: the tail beyond the bound on series, and names that are addresses.
OTHER: Final = "other"


class Merge(Enum):
    """How a field of several rows becomes that of one: of series that are folded, or of spans that are merged."""

    SUM = "sum"
    LARGEST = "largest"
    DERIVED = "derived"  # computed anew from the sums


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag.

    Attributes
    ----------
    meaning:
        What its values are.
    is_kept:
        Whether folding keeps it. Kept are tags of a fixed vocabulary and the link, so that the totals of a link stay
        right.
    is_observed:
        Whether its values come from the network and not from the registry: then one that is an address is ``other``.
    """

    name: str
    meaning: str
    is_kept: bool = False
    is_observed: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """One field; ``kind`` is its type on every server, whatever a value looks like."""

    name: str
    kind: Literal["float", "integer"]
    unit: str
    merge: Merge
    meaning: str


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement; the time of a row is the begin of its span, in ns. ``tags`` are in the order of their names."""

    name: str
    meaning: str
    tags: tuple[Tag, ...]
    fields: tuple[Field, ...]


_SPAN: Final = Tag("span", "length of the row's span: `1s`, `10s`, `1m`, `5m`, `1h`", is_kept=True)
_LINK: Final = Tag("link", "link; in `totals` the metering point", is_kept=True)
_DEVICE: Final = Tag("device", "name of the device; an address is `other`", is_observed=True)


def _sums() -> dict[str, Field]:
    meanings = {
        "samples": ("samples", "flow samples that the row rests on"),
        "octets": ("octets", "estimated octets, layer 2 with FCS"),
        "packets": ("packets", "estimated packets"),
        "octets_variance": ("octets^2", "variance of `octets`"),
        "packets_variance": ("packets^2", "variance of `packets`"),
        "octets_largest": ("octets", "deviation of the largest sample"),
        "packets_largest": ("packets", "deviation of the largest sample"),
        "stated_rate_samples": (
            "samples",
            "samples scaled by the stated rate, the sample pool being unusable",
        ),
    }
    kinds: dict[str, Literal["float", "integer"]] = {"float64": "float", "uint64": "integer"}
    return {
        column.name: Field(
            column.name,
            kinds[column.dtype],
            meanings[column.name][0],
            Merge.LARGEST if column.name.endswith("_largest") else Merge.SUM,
            meanings[column.name][1],
        )
        for column in SUM_COLUMNS
    }


def _derived(name: str, unit: str, meaning: str) -> Field:
    return Field(name, "float", unit, Merge.DERIVED, meaning)


def _sum(name: str, kind: Literal["float", "integer"], unit: str, meaning: str) -> Field:
    return Field(name, kind, unit, Merge.SUM, meaning)


def _counters(way: str) -> tuple[Field, ...]:
    return (
        _sum(f"{way}_octets", "integer", "octets", f"growth of `{way}-octets`"),
        _sum(f"{way}_packets", "integer", "packets", f"growth of `{way}-pkts`"),
        _sum(f"{way}_discards", "integer", "packets", f"growth of `{way}-discards`"),
        _sum(f"{way}_errors", "integer", "packets", f"growth of `{way}-errors`"),
        _sum(f"{way}_bits_per_second", "float", "bit/s", "mean rate in the time that the counters tell of"),
    )


def _gauge(name: str, unit: str, meaning: str) -> tuple[Field, ...]:
    return (
        Field(name, "float", unit, Merge.LARGEST, f"{meaning}, mean of the readings in the span"),
        Field(f"{name}_largest", "float", unit, Merge.LARGEST, "the largest of them"),
        _sum(f"{name}_readings", "integer", "readings", "how many there were"),
    )


_SUMS: Final = _sums()

USAGE: Final = Measurement(
    "usage",
    "Who used how much: the rows of closed windows and their roll-ups.",
    (
        Tag("application", "application"),
        Tag("department", "the inside end at exits and uplinks, the user inside the network"),
        Tag("destination_zone", "security zone of the destination"),
        Tag(
            "direction",
            "`in`, `out` in `link_usage`; `inbound`, `outbound`, `internal`, `transit` in `totals`",
            is_kept=True,
        ),
        _LINK,
        Tag("peer_department", "the other end"),
        Tag("result_table", "`link_usage` or `totals`: add up rows of one of them", is_kept=True),
        Tag("service_class", "service class, by the DSCP"),
        Tag("source_zone", "security zone of the source"),
        _SPAN,
    ),
    (
        _SUMS["octets"],
        _SUMS["packets"],
        _SUMS["samples"],
        _derived("bits_per_second", "bit/s", "mean rate in the span, to the whole bit/s"),
        _derived("bits_per_second_low", "bit/s", "lower end of its 95 % interval, rounded down"),
        _derived("bits_per_second_high", "bit/s", "upper end of its 95 % interval, rounded up"),
        _derived("octets_low", "octets", "lower end of the 95 % interval of `octets`, rounded down"),
        _derived("octets_high", "octets", "upper end of the 95 % interval of `octets`, rounded up"),
        _SUMS["octets_variance"],
        _SUMS["packets_variance"],
        _SUMS["octets_largest"],
        _SUMS["packets_largest"],
        _SUMS["stated_rate_samples"],
    ),
)

INTERFACE: Final = Measurement(
    "interface",
    "Interface counters, by gNMI or sFlow: their growth in the span.",
    (_DEVICE, Tag("interface", "name of the interface"), _SPAN),
    (
        *_counters("in"),
        *_counters("out"),
        _sum("seconds", "float", "s", "time of the span that the counters tell of"),
        _sum("capacity_bps", "float", "bit/s", "speed of the interface"),
        _sum("up", "integer", "interfaces", "1 while it is operational, else 0"),
    ),
)

QUEUE: Final = Measurement(
    "queue",
    "Queue counters, by gNMI: what left a queue in the span, and what it dropped, as far as the device counts it.",
    (
        _DEVICE,
        Tag("direction", "`in` or `out` at the interface", is_kept=True),
        Tag("interface", "name of the interface"),
        Tag("queue", "name of the queue"),
        _SPAN,
    ),
    (
        _sum("octets", "integer", "octets", "growth of `transmit-octets`"),
        _sum("packets", "integer", "packets", "growth of `transmit-pkts`"),
        _sum("dropped_octets", "integer", "octets", "growth of `dropped-octets`"),
        _sum("dropped_packets", "integer", "packets", "growth of `dropped-pkts`"),
        _sum("bits_per_second", "float", "bit/s", "mean rate in the time that the counters tell of"),
        _sum("seconds", "float", "s", "time of the span that the counters tell of"),
    ),
)

COMPONENT: Final = Measurement(
    "component",
    "Sensors of components, by gNMI.",
    (Tag("component", "name of the component; `cpu N` of a processor of the system"), _DEVICE, _SPAN),
    (
        *_gauge("temperature", "degrees Celsius", "temperature"),
        *_gauge("cpu", "% of the time", "load of the processor"),
    ),
)

DEMAND: Final = Measurement(
    "demand",
    "What would be sent over a ruled link if nothing held it back, beside what was sent (docs/demand.md).",
    (
        Tag("application", "application"),
        Tag("department", "department that is charged"),
        Tag("direction", "`in` or `out`, seen from the link's interface", is_kept=True),
        Tag("link", "link or link group that a policy rules", is_kept=True),
        _SPAN,
    ),
    (
        _sum("usage_bps", "float", "bit/s", "what was sent"),
        _sum("demand_bps", "float", "bit/s", "the estimated demand"),
        _sum("damped_bps", "float", "bit/s", "the demand that was divided by: damped"),
        Field("demand_largest_bps", "float", "bit/s", Merge.LARGEST, "the largest estimate of a period"),
        Field("censored", "float", "ratio", Merge.LARGEST, "part of the time in which the demand may have been higher"),
        Field("seconds", "float", "s", Merge.LARGEST, "time of the span that estimates tell of"),
        _sum("samples", "integer", "samples", "flow samples that the usage rests on"),
    ),
)

ALLOCATION: Final = Measurement(
    "allocation",
    "What an application is sure of on a link when the link is contended.",
    (
        Tag("application", "application"),
        Tag("department", "department that is charged"),
        Tag("direction", "`in` or `out`, seen from the link's interface", is_kept=True),
        _LINK,
        _SPAN,
    ),
    (
        _sum("guarantee_bps", "float", "bit/s", "the policies' guarantee"),
        _sum("ceiling_bps", "float", "bit/s", "the policies' ceiling"),
        _sum("demand_bps", "float", "bit/s", "the demand that was allocated for"),
        _sum("allocation_bps", "float", "bit/s", "the allocation"),
    ),
)

ENFORCEMENT: Final = Measurement(
    "enforcement",
    "What was delivered of what was promised to a class, behind the bottleneck: counters of its queues on gateways.",
    (
        Tag("direction", "`in` or `out`, seen from the link's interface", is_kept=True),
        Tag("link", "link or link group that a policy rules", is_kept=True),
        Tag("node", "class: names of the policy's tree from the link down, such as `tax/filing`; `(rest)` is the root"),
        _SPAN,
    ),
    (
        _sum("delivered_bps", "float", "bit/s", "what its queues sent"),
        _sum("dropped_packets", "integer", "packets", "dropped in the span"),
        _sum("demand_bps", "float", "bit/s", "the demand that was divided by"),
        _sum("guarantee_bps", "float", "bit/s", "the policies' guarantee"),
        _sum("ceiling_bps", "float", "bit/s", "the policies' ceiling"),
        _sum("rate_bps", "float", "bit/s", "the allocation: rate in force"),
        _sum("sampled_bps", "float", "bit/s", "what samples say of it"),
        _sum("samples", "integer", "samples", "flow samples that this rests on"),
        Field("missed", "float", "ratio", Merge.LARGEST, "part of the time in which the guarantee was missed"),
        Field("seconds", "float", "s", Merge.LARGEST, "time of the span that the counters tell of"),
    ),
)

DEVICE: Final = Measurement(
    "device",
    "How a device's telemetry arrives, counted in the span.",
    (_DEVICE, _SPAN),
    (
        _sum("datagrams", "integer", "datagrams", "sFlow datagrams received"),
        _sum("samples", "integer", "samples", "flow samples decoded"),
        _sum("lost_datagrams", "integer", "datagrams", "gaps in its sequence: lost in network or kernel"),
        _sum("lost_samples", "integer", "samples", "gaps in the sequences of its samples"),
        _sum("dropped_samples", "integer", "samples", "what the agent says it dropped"),
        _sum("shed_datagrams", "integer", "datagrams", "shed under overload, or above the agent's cap"),
        _sum("restarts", "integer", "count", "restarts of the agent"),
    ),
)

SELF: Final = Measurement(
    "self",
    "How telemetryd does: one figure a row, by the minute.",
    (
        Tag("metric", "name of the figure: docs/metrics.md, without `telemetryd_`"),
        Tag("source", "what it is about: a component, a socket, an output; an address is `other`", is_observed=True),
        _SPAN,
    ),
    (Field("value", "float", "as the metric says", Merge.LARGEST, "the figure; counters are totals since the start"),),
)

MEASUREMENTS: Final[dict[str, Measurement]] = {
    one.name: one for one in (USAGE, INTERFACE, QUEUE, COMPONENT, DEMAND, ALLOCATION, ENFORCEMENT, DEVICE, SELF)
}


def span_name(span_ns: int) -> str:
    """Return the value of the tag ``span``, such as ``5m``: the longest unit that counts it whole."""
    for unit, length in (("h", 3600 * SECOND_NS), ("m", 60 * SECOND_NS), ("s", SECOND_NS)):
        if span_ns % length == 0:
            return f"{span_ns // length}{unit}"
    return f"{span_ns}ns"
