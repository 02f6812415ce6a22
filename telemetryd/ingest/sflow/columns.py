"""The hot-path sFlow decoder in Python: the detail decoder's result projected to the columns.

It is the specification of ``ext/sflow.pyx`` and what runs with ``TELEMETRYD_NO_EXT=1``. The column table
is in :mod:`telemetryd.schema`; the structures and what counts as damage are those of
:mod:`telemetryd.ingest.sflow.decode`.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_address
from typing import Any, Final

from numpy.typing import NDArray

from telemetryd.ingest.sflow.decode import Damage, PacketSource, parse_datagram
from telemetryd.ingest.sflow.layout import pack_tag
from telemetryd.ingest.sflow.limits import (
    DROP_REASONS,
    LARGEST_DATAGRAM,
    LEAST_FLOW_SAMPLE,
    LEAST_IF_COUNTERS,
    MOST_COUNTERS,
    MOST_SAMPLES,
    UNKNOWN_KEPT,
)
from telemetryd.ingest.sflow.packet import Packet
from telemetryd.ingest.sflow.reasons import Reason
from telemetryd.schema import Batch, SampleFlag

_FORMAT_OCTET: Final = 255  # interface formats are two bits, or a whole word that is clamped to an octet
_EXPANDED_FORMATS: Final = frozenset((3, 4))
_VLAN_IDS: Final = range(1, 4095)
_LOW: Final = 0xFFFF_FFFF_FFFF_FFFF

# Structures whose fields the hot path reads; damage inside others is not seen there.
_READ: Final = {
    "sample": frozenset(pack_tag(0, form) for form in (1, 2, 3, 4, 5)),
    "flow": frozenset(pack_tag(0, form) for form in (1, 2, 3, 4, 1001)),
    "counter": frozenset((pack_tag(0, 1),)),
}

constants: Final[dict[str, int]] = {
    **{reason.name: int(reason) for reason in Reason if reason.is_damage},
    **{flag.name: int(flag) for flag in SampleFlag},
    "LARGEST_DATAGRAM": LARGEST_DATAGRAM,
    "LEAST_FLOW_SAMPLE": LEAST_FLOW_SAMPLE,
    "LEAST_IF_COUNTERS": LEAST_IF_COUNTERS,
    "DROP_REASONS": DROP_REASONS,
    "UNKNOWN_KEPT": UNKNOWN_KEPT,
}
"""Numbers that the compiled module holds copies of, under the same name."""

_COUNTER_FIELDS: Final = {  # column -> field of if_counters
    "if_index": "if_index",
    "if_type": "if_type",
    "if_speed_bps": "if_speed",
    "if_direction": "if_direction",
    "if_status": "if_status",
    "in_octets": "if_in_octets",
    "in_ucast_packets": "if_in_ucast_pkts",
    "in_multicast_packets": "if_in_multicast_pkts",
    "in_broadcast_packets": "if_in_broadcast_pkts",
    "in_discards": "if_in_discards",
    "in_errors": "if_in_errors",
    "in_unknown_protos": "if_in_unknown_protos",
    "out_octets": "if_out_octets",
    "out_ucast_packets": "if_out_ucast_pkts",
    "out_multicast_packets": "if_out_multicast_pkts",
    "out_broadcast_packets": "if_out_broadcast_pkts",
    "out_discards": "if_out_discards",
    "out_errors": "if_out_errors",
}


class Decoder:
    """Decode datagrams into batches; used by one thread at a time.

    Parameters
    ----------
    datagrams, samples, counters:
        Batches of ``DATAGRAM_COLUMNS``, ``SAMPLE_COLUMNS`` and ``COUNTER_COLUMNS``. They must have room for
        the most rows that one datagram can make (:mod:`telemetryd.ingest.sflow.limits`).
    decapsulate:
        Report the addresses, ports, DSCP and protocol of the packet inside a tunnel where there is one
        (flag DECAPSULATED; TRUNCATED and FRAGMENT then tell about the inner packet). ``frame_length``,
        ``vlan_id`` and ``ether_type`` stay those of the frame on the wire.

    Raises
    ------
    ValueError
        If a batch is too small.
    """

    def __init__(self, datagrams: Batch, samples: Batch, counters: Batch, decapsulate: bool = False) -> None:
        if datagrams.capacity < 1 or samples.capacity < MOST_SAMPLES or counters.capacity < MOST_COUNTERS:
            raise ValueError(
                f"the batches have room for {datagrams.capacity} datagrams, {samples.capacity} samples and "
                f"{counters.capacity} counters, and the largest datagram needs 1, {MOST_SAMPLES} and "
                f"{MOST_COUNTERS}"
            )
        self._datagrams, self._samples, self._counters = datagrams, samples, counters
        self._decapsulate = bool(decapsulate)
        self._counts = Counter[str]()
        self._drops = Counter[int]()
        self._errors = Counter[Reason]()
        self._unknown = {"samples": Counter[tuple[int, int]](), "records": Counter[tuple[int, int]]()}

    def decode(
        self, buffer: NDArray[Any], offsets: NDArray[Any], lengths: NDArray[Any], ts_ns: NDArray[Any], first: int
    ) -> int:
        """Decode datagrams from index `first` on into the batches from row 0 on.

        Sets ``n`` of all three batches. A datagram whose header is sound makes a row, others are only
        counted; a datagram for which there may be no room is left for the next call.

        Parameters
        ----------
        buffer:
            uint8, shape (octets,).
        offsets, lengths, ts_ns:
            uint64, uint32 and int64, shape (n,): where each datagram lies in `buffer`, and its time stamp.
        first:
            Index of the first datagram to decode.

        Returns
        -------
        int
            Index of the first datagram not consumed; more than `first` unless that is n.

        Raises
        ------
        ValueError
            If the arrays differ in length, `first` is beyond them, or datagram `first` does not lie within
            the buffer or is longer than a UDP payload can be.
        """
        n = len(offsets)
        if len(lengths) != n or len(ts_ns) != n:
            raise ValueError(f"{n} offsets, {len(lengths)} lengths and {len(ts_ns)} time stamps")
        if not 0 <= first <= n:
            raise ValueError(f"there is no datagram {first} of {n}")
        self._datagrams.n = self._samples.n = self._counters.n = 0
        index = first
        while index < n:
            offset, length = int(offsets[index]), int(lengths[index])
            if offset + length > len(buffer) or length > LARGEST_DATAGRAM:
                break
            if not self._has_room(length):
                break
            datagram = parse_datagram(buffer[offset : offset + length].tobytes())
            self._add_datagram(datagram, int(ts_ns[index]))
            self._counts["datagrams"] += 1
            self._counts["octets"] += length
            index += 1
        if index == first < n:
            raise ValueError(
                f"datagram {first} is {lengths[first]} octets at offset {offsets[first]}: outside the "
                f"buffer of {len(buffer)} octets, or longer than {LARGEST_DATAGRAM} octets"
            )
        return index

    def stats(self) -> dict[str, Any]:
        """Count what was decoded since the beginning.

        Returns
        -------
        dict
            ``datagrams`` and ``octets`` given, sound or not; ``flow_samples`` (rows made);
            ``counters_samples``; ``discarded_packets`` {drop reason: samples}, where reason 511 stands for
            itself and all above; ``errors`` {reason label: n}, damage to what feeds a column;
            ``unknown_samples`` and ``unknown_records`` {(enterprise, format): n}, the first 256 pairs met,
            and ``other_unknown_samples`` and ``other_unknown_records`` for the rest.
        """
        return {
            "datagrams": self._counts["datagrams"],
            "octets": self._counts["octets"],
            "flow_samples": self._counts["flow_samples"],
            "counters_samples": self._counts["counters_samples"],
            "discarded_packets": dict(self._drops),
            "errors": {reason.label: count for reason, count in self._errors.items()},
            "unknown_samples": dict(self._unknown["samples"]),
            "unknown_records": dict(self._unknown["records"]),
            "other_unknown_samples": self._counts["samples"],
            "other_unknown_records": self._counts["records"],
        }

    def _has_room(self, length: int) -> bool:
        return (
            self._datagrams.n < self._datagrams.capacity
            and length // LEAST_FLOW_SAMPLE <= self._samples.capacity - self._samples.n
            and length // LEAST_IF_COUNTERS <= self._counters.capacity - self._counters.n
        )

    def _add_datagram(self, datagram: dict[str, Any], ts_ns: int) -> None:
        self._errors.update(damage.reason for damage in datagram["errors"] if _is_seen(damage))
        if "uptime" not in datagram:
            return
        version, high, low = _split_agent(datagram["agent_address"])
        row = self._datagrams.n
        self._datagrams.n += 1
        _write(
            self._datagrams,
            row,
            ts_ns=ts_ns,
            agent_hi=high,
            agent_lo=low,
            agent_version=version,
            sub_agent_id=datagram["sub_agent_id"],
            sequence_number=datagram["sequence_number"],
            uptime=datagram["uptime"],
        )
        for sample in datagram["samples"]:
            self._add_sample(sample, row)

    def _add_sample(self, sample: dict[str, Any], datagram: int) -> None:
        for record in sample.get("records", ()):
            if record["name"] is None:
                self._count_unknown("records", record)
        if sample["type"] == "flow_sample":
            self._add_flow_sample(sample, datagram)
        elif sample["type"] == "counters_sample":
            self._add_counters_sample(sample, datagram)
        elif sample["type"] == "discarded_packet":
            self._drops[min(sample["reason"], DROP_REASONS - 1)] += 1
        elif sample["type"] == "unknown":
            self._count_unknown("samples", sample)

    def _count_unknown(self, kind: str, structure: dict[str, Any]) -> None:
        table = self._unknown[kind]
        pair = structure["enterprise"], structure["format"]
        if pair in table or len(table) < UNKNOWN_KEPT:
            table[pair] += 1
        else:
            self._counts[kind] += 1

    def _add_flow_sample(self, sample: dict[str, Any], datagram: int) -> None:
        self._counts["flow_samples"] += 1
        row = self._samples.n
        self._samples.n += 1
        _write(
            self._samples,
            row,
            datagram=datagram,
            sequence_number=sample["sequence_number"],
            source_class=sample["source_id"]["type"],
            source_index=sample["source_id"]["index"],
            sampling_rate=sample["sampling_rate"],
            sample_pool=sample["sample_pool"],
            drops=sample["drops"],
            input_format=min(sample["input"]["format"], _FORMAT_OCTET),
            input=sample["input"]["value"],
            output_format=min(sample["output"]["format"], _FORMAT_OCTET),
            output=sample["output"]["value"],
            **self._project_packet(sample),
        )

    def _project_packet(self, sample: dict[str, Any]) -> dict[str, int]:
        source: PacketSource | None = sample["packet"]
        frame = (source.packet if source is not None else None) or Packet()
        packet, flags = frame, 0
        if self._decapsulate and frame.inner is not None and frame.inner.ip_version:
            packet, flags = frame.inner, SampleFlag.DECAPSULATED
        if source is None:
            flags |= SampleFlag.NO_PACKET
        elif source.is_l3_length:
            flags |= SampleFlag.L3_LENGTH
        if sample["format"] in _EXPANDED_FORMATS:
            flags |= SampleFlag.EXPANDED
        if packet.truncated:
            flags |= SampleFlag.TRUNCATED
        if packet.is_fragment:
            flags |= SampleFlag.FRAGMENT
        if packet.is_labelled or frame.is_labelled:
            flags |= SampleFlag.LABELLED
        source_address, destination_address = packet.src_address or 0, packet.dst_address or 0
        return {
            "frame_length": source.frame_length if source is not None else 0,
            "flags": flags,
            "vlan_id": frame.vlans[0][0] if frame.vlans else _switch_vlan(sample["records"]),
            "ether_type": frame.ether_type or 0,
            "source_hi": source_address >> 64,
            "source_lo": source_address & _LOW,
            "destination_hi": destination_address >> 64,
            "destination_lo": destination_address & _LOW,
            "ip_version": packet.ip_version,
            "protocol": packet.protocol or 0,
            "dscp": packet.dscp or 0,
            "tcp_flags": packet.tcp_flags or 0,
            "source_port": packet.src_port or 0,
            "destination_port": packet.dst_port or 0,
        }

    def _add_counters_sample(self, sample: dict[str, Any], datagram: int) -> None:
        self._counts["counters_samples"] += 1
        for record in sample["records"]:
            if record["name"] != "if_counters" or "incomplete" in record:
                continue
            row = self._counters.n
            self._counters.n += 1
            _write(
                self._counters,
                row,
                datagram=datagram,
                sequence_number=sample["sequence_number"],
                source_class=sample["source_id"]["type"],
                source_index=sample["source_id"]["index"],
                **{column: record[name] for column, name in _COUNTER_FIELDS.items()},
            )


def _is_seen(damage: Damage) -> bool:
    """Tell whether the hot path meets this damage: it does not read every known structure."""
    return damage.space is None or damage.tag in _READ[damage.space]


def _split_agent(address: str | None) -> tuple[int, int, int]:
    """Return (version, high, low) of an agent address; version 0 where it is unknown."""
    if address is None:
        return 0, 0, 0
    parsed = ip_address(address)
    return parsed.version, int(parsed) >> 64, int(parsed) & _LOW


def _switch_vlan(records: list[dict[str, Any]]) -> int:
    """Return src_vlan of the first complete extended_switch; 0 where there is none or it is no VLAN."""
    for record in records:
        if record["name"] == "extended_switch" and "incomplete" not in record:
            return record["src_vlan"] if record["src_vlan"] in _VLAN_IDS else 0
    return 0


def _write(batch: Batch, row: int, **values: int) -> None:
    for name, value in values.items():
        batch.columns[name][row] = value
