"""THE column table: every column that crosses a module boundary is declared here, once.

A batch is a struct of numpy arrays, allocated once with a fixed capacity and reused; ``n`` rows of
it are valid. Compiled stages check the dtypes by their memoryview types; a test walks this table
against them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, numpy dtype, unit, IPFIX information element and sFlow source.

    ``ie`` is the element number of RFC 7012's registry, 0 where none has this meaning.
    """

    name: str
    dtype: str
    unit: str
    ie: int
    source: str


class Batch:
    """Columns of one capacity, allocated once and reused by one owner at a time.

    Attributes
    ----------
    capacity:
        Number of rows allocated.
    n:
        Number of valid rows, ``0 <= n <= capacity``.
    columns:
        Name -> array of shape (capacity,). Every column is also an attribute-like item: ``batch["octets"]``.
    """

    __slots__ = ("capacity", "columns", "n")

    def __init__(self, table: tuple[Column, ...], capacity: int) -> None:
        self.capacity = capacity
        self.n = 0
        self.columns: dict[str, NDArray[Any]] = {c.name: np.zeros(capacity, dtype=c.dtype) for c in table}

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def rows(self) -> dict[str, NDArray[Any]]:
        """Return views of the valid rows, name -> array of shape (n,)."""
        return {name: array[: self.n] for name, array in self.columns.items()}


# --- what the sFlow decoder writes -------------------------------------------------------------------

DATAGRAM_COLUMNS: Final = (
    Column("ts_ns", "int64", "ns since the epoch", 323, "capture time stamp, or receive time when live"),
    Column("agent_hi", "uint64", "address", 0, "datagram.agent_address, first 8 octets (0 for IPv4)"),
    Column("agent_lo", "uint64", "address", 0, "datagram.agent_address, last 8 octets (IPv4: low 32 bits)"),
    Column("agent_version", "uint8", "4, 6 or 0 = unknown", 0, "datagram.agent_address type"),
    Column("sub_agent_id", "uint32", "id", 0, "datagram.sub_agent_id"),
    Column("sequence_number", "uint32", "count", 0, "datagram.sequence_number"),
    Column("uptime", "uint32", "ms", 0, "datagram.uptime"),
)

SAMPLE_COLUMNS: Final = (
    Column("datagram", "uint32", "row of the datagram batch", 0, "-"),
    Column("sequence_number", "uint32", "count", 0, "flow_sample.sequence_number"),
    Column("source_class", "uint32", "class", 0, "flow_sample.source_id class"),
    Column("source_index", "uint32", "index", 0, "flow_sample.source_id index"),
    Column("sampling_rate", "uint32", "1 in N", 34, "flow_sample.sampling_rate"),
    Column("sample_pool", "uint32", "packets", 0, "flow_sample.sample_pool"),
    Column("drops", "uint32", "samples", 0, "flow_sample.drops"),
    Column("input_format", "uint8", "0 ifIndex 1 discarded 2 multiple 3+ other", 0, "flow_sample.input"),
    Column("input", "uint32", "ifIndex", 10, "flow_sample.input value"),
    Column("output_format", "uint8", "0 ifIndex 1 discarded 2 multiple 3+ other", 0, "flow_sample.output"),
    Column("output", "uint32", "ifIndex", 14, "flow_sample.output value"),
    Column("frame_length", "uint32", "octets, layer 2 with FCS", 312, "sampled_header.frame_length"),
    Column("flags", "uint8", "SampleFlag bits", 0, "what the dissection found"),
    Column("vlan_id", "uint16", "outer VLAN, 0 none", 58, "802.1Q tag, else extended_switch.src_vlan"),
    Column("ether_type", "uint16", "EtherType after the VLAN tags", 256, "sampled_header"),
    Column("source_hi", "uint64", "address", 27, "IPv6 source, first 8 octets; 0 for IPv4"),
    Column("source_lo", "uint64", "address", 27, "IPv6 source, last 8 octets; IPv4 in the low 32 bits"),
    Column("destination_hi", "uint64", "address", 28, "as source_hi"),
    Column("destination_lo", "uint64", "address", 28, "as source_lo"),
    Column("ip_version", "uint8", "4, 6 or 0 = not IP", 60, "sampled_header"),
    Column("protocol", "uint8", "IP protocol of the transport header", 4, "sampled_header"),
    Column("dscp", "uint8", "0..63", 195, "sampled_header"),
    Column("tcp_flags", "uint8", "bits", 6, "sampled_header"),
    Column("source_port", "uint16", "port, 0 unknown", 7, "TCP, UDP, SCTP, DCCP, UDP-Lite"),
    Column("destination_port", "uint16", "port, 0 unknown", 11, "as source_port"),
)


class SampleFlag(IntEnum):
    """Bits of the ``flags`` column."""

    NO_PACKET = 1  # the sample carries no packet record: frame_length is 0
    TRUNCATED = 2  # the header ends inside a layer: what follows is unknown
    FRAGMENT = 4  # not the first fragment: no ports
    LABELLED = 8  # an MPLS label stack stood before the IP header
    DECAPSULATED = 16  # addresses and ports are those of the inner packet
    L3_LENGTH = 32  # frame_length was derived from a layer-3 length (sampled_ipv4/6 without a header)
    EXPANDED = 64  # flow_sample_expanded


COUNTER_COLUMNS: Final = (
    Column("datagram", "uint32", "row of the datagram batch", 0, "-"),
    Column("sequence_number", "uint32", "count", 0, "counters_sample.sequence_number"),
    Column("source_class", "uint32", "class", 0, "counters_sample.source_id class"),
    Column("source_index", "uint32", "index", 0, "counters_sample.source_id index"),
    Column("if_index", "uint32", "ifIndex", 0, "if_counters.ifIndex"),
    Column("if_type", "uint32", "IANA ifType", 0, "if_counters.ifType"),
    Column("if_speed_bps", "uint64", "bit/s", 0, "if_counters.ifSpeed"),
    Column("if_direction", "uint32", "0 unknown 1 full 2 half 3 in 4 out", 0, "if_counters.ifDirection"),
    Column("if_status", "uint32", "bit 0 admin up, bit 1 oper up", 0, "if_counters.ifStatus"),
    Column("in_octets", "uint64", "octets", 0, "if_counters.ifInOctets"),
    Column("in_ucast_packets", "uint32", "packets", 0, "if_counters.ifInUcastPkts"),
    Column("in_multicast_packets", "uint32", "packets", 0, "if_counters.ifInMulticastPkts"),
    Column("in_broadcast_packets", "uint32", "packets", 0, "if_counters.ifInBroadcastPkts"),
    Column("in_discards", "uint32", "packets", 0, "if_counters.ifInDiscards"),
    Column("in_errors", "uint32", "packets", 0, "if_counters.ifInErrors"),
    Column("in_unknown_protos", "uint32", "packets", 0, "if_counters.ifInUnknownProtos"),
    Column("out_octets", "uint64", "octets", 0, "if_counters.ifOutOctets"),
    Column("out_ucast_packets", "uint32", "packets", 0, "if_counters.ifOutUcastPkts"),
    Column("out_multicast_packets", "uint32", "packets", 0, "if_counters.ifOutMulticastPkts"),
    Column("out_broadcast_packets", "uint32", "packets", 0, "if_counters.ifOutBroadcastPkts"),
    Column("out_discards", "uint32", "packets", 0, "if_counters.ifOutDiscards"),
    Column("out_errors", "uint32", "packets", 0, "if_counters.ifOutErrors"),
)

# --- what the gNMI decoder writes -----------------------------------------------------------------------

UPDATE_COLUMNS: Final = (
    Column("target", "uint32", "number of the target", 0, "the subscription"),
    Column("path", "uint32", "id in the table of paths, 0 none", 0, "notification.prefix and update.path"),
    Column("ts_ns", "int64", "ns since the epoch", 323, "notification.timestamp, the device's clock"),
    Column("received_ns", "int64", "ns since the epoch", 0, "reception, our clock"),
    Column("kind", "uint8", "ValueKind", 0, "update.val"),
    Column("flags", "uint8", "UpdateFlag bits", 0, "-"),
    Column("value", "uint64", "by kind: see ValueKind", 0, "update.val"),
)


class ValueKind(IntEnum):
    """What a row of :data:`UPDATE_COLUMNS` is, and with that what its ``value`` holds.

    Octets lie in the batch's ``text``: ``value`` is where they begin, plus 2^32 times how many they are.
    """

    INT = 1  # two's complement
    UINT = 2
    BOOL = 3  # 0 or 1
    DOUBLE = 4  # the bits of an IEEE 754 double
    TEXT = 5  # octets: UTF-8
    BYTES = 6  # octets
    LIST = 7  # octets: a JSON array
    EMPTY = 8  # a leaf of type empty, or null
    DELETE = 16  # the path and everything below it is gone
    REPLACE = 17  # the rows of this path that follow are all there is below it (an atomic notification)
    SYNC = 18  # every value of the subscription has been sent once; no path


class UpdateFlag(IntEnum):
    """Bits of the ``flags`` column of :data:`UPDATE_COLUMNS`."""

    RECEIVED_TIME = 1  # the target gave no usable time: ts_ns is the time of reception


class UpdateBatch(Batch):
    """Rows of :data:`UPDATE_COLUMNS`, and the octets that their values refer to.

    Attributes
    ----------
    text:
        The octets, shape (text_capacity,).
    text_n:
        How many of them are valid.
    """

    __slots__ = ("text", "text_n")

    def __init__(self, capacity: int, text_capacity: int) -> None:
        super().__init__(UPDATE_COLUMNS, capacity)
        self.text: NDArray[np.uint8] = np.zeros(text_capacity, np.uint8)
        self.text_n = 0

    def clear(self) -> None:
        """Forget the rows."""
        self.n = self.text_n = 0

    def octets(self, row: int) -> bytes:
        """Return the octets of a row of kind TEXT, BYTES or LIST."""
        value = int(self.columns["value"][row])
        start = value & 0xFFFFFFFF
        return self.text[start : start + (value >> 32)].tobytes()

    def value(self, row: int) -> int | float | bool | str | bytes | None:
        """Return the value of a row; None where it has none. Invalid UTF-8 does not get this far."""
        value, kind = self.columns["value"][row], self.columns["kind"][row]
        match int(kind):
            case ValueKind.INT:
                return int(value.astype(np.int64))
            case ValueKind.UINT:
                return int(value)
            case ValueKind.BOOL:
                return bool(value)
            case ValueKind.DOUBLE:
                return float(value.view(np.float64))
            case ValueKind.TEXT | ValueKind.LIST:
                return self.octets(row).decode()
            case ValueKind.BYTES:
                return self.octets(row)
            case _:
                return None


# --- what interface counters become -----------------------------------------------------------------------


class Counter(IntEnum):
    """A counter of an interface or a queue, by gNMI (OpenConfig's names) or by sFlow (if_counters)."""

    IN_OCTETS = 0
    IN_PACKETS = 1  # all of them: in-pkts, where a device has it
    IN_UNICAST_PACKETS = 2
    IN_MULTICAST_PACKETS = 3
    IN_BROADCAST_PACKETS = 4
    IN_DISCARDS = 5
    IN_ERRORS = 6
    OUT_OCTETS = 7
    OUT_PACKETS = 8
    OUT_UNICAST_PACKETS = 9
    OUT_MULTICAST_PACKETS = 10
    OUT_BROADCAST_PACKETS = 11
    OUT_DISCARDS = 12
    OUT_ERRORS = 13
    TRANSMIT_OCTETS = 14  # of a queue, as the next three
    TRANSMIT_PACKETS = 15
    DROPPED_OCTETS = 16
    DROPPED_PACKETS = 17


class CounterSource(IntEnum):
    """Where counters come from."""

    SFLOW = 1
    GNMI = 2


READING_COLUMNS: Final = (
    Column("feed", "uint32", "number of the feed: an interface or queue, as one source tells of it", 0, "-"),
    Column("counter", "uint8", "Counter", 0, "-"),
    Column("ts_ns", "int64", "ns since the epoch, the device's clock", 323, "notification.timestamp, or reception"),
    Column("received_ns", "int64", "ns since the epoch, our clock", 0, "reception"),
    Column("value", "uint64", "octets or packets since the counter began", 0, "update.val, if_counters"),
    Column("bits", "uint8", "64, or 32 where the counter wraps there", 0, "sFlow's packets and errors: 32"),
)


class GrowthFlag(IntEnum):
    """Bits of the ``flags`` column of :data:`GROWTH_COLUMNS`."""

    WRAPPED = 1  # the counter went round within the span
    RESET = 2  # it began anew within the span: the growth is what it had counted again, the least that it can be
    AMBIGUOUS = 4  # it may have gone round more often than is known: at this speed, and so far apart


GROWTH_COLUMNS: Final = (
    Column("feed", "uint32", "number of the feed", 0, "-"),
    Column("counter", "uint8", "Counter", 0, "-"),
    Column("start_ns", "int64", "ns since the epoch, the device's clock", 0, "the reading before"),
    Column("end_ns", "int64", "ns since the epoch, the device's clock", 0, "the reading"),
    Column("growth", "uint64", "octets or packets in [start_ns, end_ns)", 0, "difference of the two readings"),
    Column("flags", "uint8", "GrowthFlag bits", 0, "-"),
)

DIRECTION_GROWTH_COLUMNS: Final = (
    Column("feed", "uint32", "number of the feed: of interfaces only", 0, "-"),
    Column("direction", "uint8", "LinkDirection", 61, "-"),
    Column("start_ns", "int64", "ns since the epoch, our clock", 0, "the device's, shifted by its skew"),
    Column("end_ns", "int64", "ns since the epoch, our clock", 0, "as start_ns"),
    Column("octets", "uint64", "octets in [start_ns, end_ns), as the device counts them", 1, "GROWTH_COLUMNS"),
    Column("packets", "uint64", "packets in the same time", 2, "GROWTH_COLUMNS"),
    Column("has_packets", "uint8", "1 packets is known, 0 the device does not tell it for the same time", 0, "-"),
    Column("flags", "uint8", "GrowthFlag bits of either", 0, "-"),
)


# --- what tracking and classification add to the same rows ---------------------------------------------

TRACK_COLUMNS: Final = (
    Column("source", "uint32", "slot of (agent, sub-agent, source id)", 0, "tracking"),
    Column("pool_growth", "uint32", "packets since the source's previous sample", 0, "sample_pool"),
    Column("pool_valid", "uint8", "1 growth known, 0 unknown, 2 repeated: not to be counted", 0, "sample_pool"),
)

CLASS_COLUMNS: Final = (
    Column("link_in", "uint32", "link code, 0 none", 0, "input, or the registry's source map"),
    Column("link_out", "uint32", "link code, 0 none", 0, "output, or the registry's source map"),
    Column("metering_point", "uint32", "metering point code, 0 none", 0, "registry"),
    Column("direction", "uint8", "Direction", 61, "ends of the packet"),
    Column("department", "uint32", "department code", 0, "registry"),
    Column("peer_department", "uint32", "department code", 0, "registry"),
    Column("application", "uint32", "application code, 0 unclassified", 95, "registry"),
    Column("source_zone", "uint32", "zone code, 0 unknown", 0, "registry"),
    Column("destination_zone", "uint32", "zone code, 0 unknown", 0, "registry"),
    Column("service_class", "uint8", "service class code, 0 unknown", 0, "dscp"),
)


class Direction(IntEnum):
    """Direction of a packet relative to the city's own network (at a metering point)."""

    UNKNOWN = 0
    INBOUND = 1
    OUTBOUND = 2
    INTERNAL = 3
    TRANSIT = 4


class Table(IntEnum):
    """The two result tables."""

    LINK_USAGE = 0
    TOTALS = 1


class LinkDirection(IntEnum):
    """Direction of a row of ``link_usage``, seen from the interface (RFC 2863)."""

    IN = 1
    OUT = 2


# --- what a closed window holds -------------------------------------------------------------------------

KEY_COLUMNS: Final = (
    Column("table", "uint8", "Table", 0, "-"),
    Column("link", "uint32", "link code; in totals the metering point code", 0, "-"),
    Column("direction", "uint8", "LinkDirection in link_usage, Direction in totals", 61, "-"),
    Column("department", "uint32", "department code", 0, "-"),
    Column("peer_department", "uint32", "department code", 0, "-"),
    Column("application", "uint32", "application code", 95, "-"),
    Column("source_zone", "uint32", "zone code", 0, "-"),
    Column("destination_zone", "uint32", "zone code", 0, "-"),
    Column("service_class", "uint8", "service class code", 0, "-"),
)

SUM_COLUMNS: Final = (
    Column("samples", "uint64", "samples", 0, "count"),
    Column("octets", "float64", "octets, estimated: sum of N b", 1, "sum"),
    Column("packets", "float64", "packets, estimated: sum of N", 2, "sum"),
    Column("octets_variance", "float64", "octets^2: sum of N (N-1) b^2", 0, "sum of squares"),
    Column("packets_variance", "float64", "packets^2: sum of N (N-1)", 0, "sum of squares"),
    Column("octets_largest", "float64", "octets: largest sqrt(N (N-1)) b (scaling.py)", 0, "largest sample"),
    Column("packets_largest", "float64", "packets: largest sqrt(N (N-1))", 0, "largest sample"),
    Column("stated_rate_samples", "uint64", "samples scaled by the stated rate", 0, "pool unusable"),
)

USAGE_COLUMNS: Final = KEY_COLUMNS + SUM_COLUMNS


@dataclass(frozen=True, slots=True)
class Names:
    """The dictionary of a window: code -> name, one tuple per kind of code.

    Old windows keep the dictionary of their day. Code 0 is always the "not known" entry of its kind
    (``"-"`` for links, metering points, zones and service classes; ``"unknown"`` for departments;
    ``"unclassified"`` for applications).
    """

    links: tuple[str, ...]
    metering_points: tuple[str, ...]
    departments: tuple[str, ...]
    applications: tuple[str, ...]
    zones: tuple[str, ...]
    service_classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UsageWindow:
    """A closed span of event time [start_ns, start_ns + span_ns), self-contained and mergeable.

    Attributes
    ----------
    columns:
        Every column of :data:`USAGE_COLUMNS`, each of shape (k,): one row a key, keys unique.
    """

    start_ns: int
    span_ns: int
    columns: dict[str, NDArray[Any]]
    names: Names


# --- what windows of counters hold --------------------------------------------------------------------------------


INTERFACE_COLUMNS: Final = (
    Column("interface", "uint32", "place in the window's names", 0, "-"),
    *(
        Column(f"{way}_{what}", "uint64", unit, 0, f"growth of {way}-{leaf} in the span")
        for way in ("in", "out")
        for what, unit, leaf in (
            ("octets", "octets, layer 2 with FCS", "octets"),
            ("packets", "packets", "pkts"),
            ("discards", "packets", "discards"),
            ("errors", "packets", "errors"),
        )
    ),
    Column("covered_ns", "int64", "ns of the span that the counters tell of", 0, "-"),
    Column("capacity_bps", "float64", "bit/s, 0 unknown", 0, "ifSpeed, port-speed, registry"),
    Column("up", "uint8", "1 operational, 0 not, 2 unknown", 0, "ifStatus, oper-status"),
    Column("source", "uint8", "CounterSource", 0, "-"),
    Column("flags", "uint8", "GrowthFlag bits of any counter", 0, "-"),
)


class QueueKnown(IntEnum):
    """Bits of the ``known`` column of :data:`QUEUE_COLUMNS`: which of its counters a device has."""

    OCTETS = 1
    PACKETS = 2
    DROPPED_OCTETS = 4
    DROPPED_PACKETS = 8


QUEUE_COLUMNS: Final = (
    Column("queue", "uint32", "place in the window's names", 0, "-"),
    Column("octets", "uint64", "octets, layer 2 with FCS", 1, "growth of transmit-octets in the span"),
    Column("packets", "uint64", "packets", 2, "growth of transmit-pkts"),
    Column("dropped_octets", "uint64", "octets, layer 2 with FCS", 132, "growth of dropped-octets"),
    Column("dropped_packets", "uint64", "packets", 133, "growth of dropped-pkts"),
    Column("known", "uint8", "QueueKnown bits: of the others nothing is known", 0, "-"),
    Column("covered_ns", "int64", "ns of the span that the counters tell of", 0, "-"),
    Column("flags", "uint8", "GrowthFlag bits of any counter", 0, "-"),
)


DEMAND_COLUMNS: Final = (
    Column("demand", "uint32", "place in the window's names", 0, "-"),
    Column("samples", "uint64", "samples that the usage rests on", 0, "-"),
    Column("usage_bits", "float64", "bits that were sent: rate x time", 0, "mean rate of each period"),
    Column("demand_bits", "float64", "bits that were demanded: rate x time", 0, "allocate/demand.py"),
    Column("damped_bits", "float64", "the same of what was divided by", 0, "allocate/stability.py"),
    Column("demand_largest", "float64", "bit/s, the largest estimate of a period", 0, "-"),
    Column("covered_ns", "int64", "ns of the span that estimates tell of", 0, "-"),
    Column("censored_ns", "int64", "ns of it in which the demand may have been higher", 0, "-"),
    Column("flags", "uint8", "Cause bits of telemetryd.allocate.demand, of any period", 0, "-"),
)


#: Rates of what was delivered and promised (telemetryd.enforce.delivered).
ENFORCED_RATES: Final = ("delivered", "demand", "guarantee", "ceiling", "rate", "sampled")
ENFORCEMENT_COLUMNS: Final = (
    Column("enforcement", "uint32", "place in the window's names", 0, "-"),
    Column("samples", "uint64", "samples that the sampled rate rests on", 0, "-"),
    *(Column(f"{name}_bits", "float64", "bits: rate x time", 0, "mean of each period") for name in ENFORCED_RATES),
    Column("dropped_packets", "uint64", "packets that queues dropped", 0, "-"),
    Column("covered_ns", "int64", "ns that the counters of queues tell of", 0, "-"),
    Column("missed_ns", "int64", "ns of it in which the guarantee was missed", 0, "enforce/delivered.py"),
)


class Gauge(IntEnum):
    """What is known of a component: values of a moment."""

    TEMPERATURE = 0
    CPU = 1


#: Leaves that tell of a gauge, the better first.
GAUGE_KINDS: Final = ("instant", "avg")


COMPONENT_COLUMNS: Final = (
    Column("component", "uint32", "place in the window's names", 0, "-"),
    *(
        column
        for name, unit in (("temperature", "degrees Celsius"), ("cpu", "% of the time"))
        for column in (
            Column(f"{name}_readings", "uint64", "readings in the span", 0, "-"),
            Column(f"{name}_sum", "float64", f"{unit}, added up", 0, f"{name}: instant, else avg"),
            Column(f"{name}_largest", "float64", f"{unit}, NaN without readings", 0, "the largest of them"),
        )
    ),
)
