"""Every shared capture decodes to what an independent decoder (sflowtool 6.11, ``-j``) printed for it.

Every key that sflowtool printed is compared, for every datagram, sample, record and decoded header; a key
that the tables below do not know fails the test. Where sflowtool gave up, the specification decides.
"""

import csv
import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from telemetryd.ingest.capture import open_capture
from telemetryd.ingest.sflow.decode import decode_datagram

CAPTURES = Path(__file__).parents[2].parent / "shared" / "data" / "sflow"

pytestmark = pytest.mark.skipif(not CAPTURES.is_dir(), reason=f"the shared captures are not at {CAPTURES}")

Record = dict[str, Any]
Translate = Callable[[Record, Record], str]


def manifest() -> list[dict[str, str]]:
    if not CAPTURES.is_dir():
        return []
    with (CAPTURES / "MANIFEST.tsv").open(newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


SOUND = [row for row in manifest() if row["not_json"] == "0"]


def captured(name: str) -> Iterator[tuple[int, bytes]]:
    """Give (time stamp, octets) of each datagram."""
    with open_capture(CAPTURES / name) as capture:
        for batch in capture:
            yield from ((int(batch.ts_ns[row]), batch.payload(row)) for row in range(batch.n))


def expected(row: dict[str, str]) -> list[Record]:
    path = CAPTURES / row["expected"]
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.decode().splitlines() if line.strip()]


# --- sflowtool's key -> what we have for it ---------------------------------------------------------------


def field(name: str) -> Translate:
    return lambda record, packet: str(record[name])


def hundredths(name: str) -> Translate:
    """A percentage: sflowtool prints percent, the wire and we have hundredths of a percent."""
    return lambda record, packet: f"{record[name] / 100:.2f}"


def load(name: str) -> Translate:
    return lambda record, packet: f"{record[name]:.3f}"


def mac(name: str) -> Translate:
    return lambda record, packet: record[name].replace(":", "")


def of_packet(name: str) -> Translate:
    return lambda record, packet: str(packet[name])


def packet_mac(name: str) -> Translate:
    return lambda record, packet: packet[name].replace(":", "")


def fields(names: dict[str, str]) -> dict[str, Translate]:
    return {key: field(name) for key, name in names.items()}


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def same(names: str) -> dict[str, Translate]:
    return {name: field(snake(name)) for name in names.split()}


def ip_octets(record: Record, packet: Record) -> str:
    """IPSize is not of the IP header: sflowtool takes the frame less what stands before the IP header.

    It therefore counts the padding of short frames, and misses 4 octets where an agent counted no FCS.
    """
    link = 14 + 4 * len(packet["vlans"]) if record["protocol"] == 1 else 0
    return str(record["frame_length"] - record["stripped"] - link)


def swapped_ip_id(record: Record, packet: Record) -> str:
    """IPID is printed by sflowtool in the order of the host's octets, not of the network's."""
    return str(int.from_bytes(packet["ip_id"].to_bytes(2, "big"), "little"))


def full_ipv6(text: str) -> str:
    """sflowtool writes each group of an IPv6 address in full."""
    left, _, right = text.partition("::")
    head, tail = [g for g in left.split(":") if g], [g for g in right.split(":") if g]
    groups = [*head, *["0"] * (8 - len(head) - len(tail)), *tail]
    return ":".join(group.zfill(4) for group in groups)


HEADER: dict[str, Translate] = {
    **fields({"headerProtocol": "protocol", "sampledPacketSize": "frame_length", "strippedBytes": "stripped"}),
    "headerLen": lambda record, packet: str(len(record["header"]) // 2),
    "headerBytes": lambda record, packet: bytes.fromhex(record["header"]).hex("-").upper(),
    "dstMAC": packet_mac("dst_mac"),
    "srcMAC": packet_mac("src_mac"),
    "decodedVLAN": lambda record, packet: str(packet["vlans"][0]["vid"]),
    "decodedPriority": lambda record, packet: str(packet["vlans"][0]["pcp"]),
    "decodedVLAN.1": lambda record, packet: str(packet["vlans"][1]["vid"]),
    "decodedPriority.1": lambda record, packet: str(packet["vlans"][1]["pcp"]),
    "ethernet_type": of_packet("ether_type"),
    "IPSize": ip_octets,
    "ip.tot_len": of_packet("ip_length"),
    "srcIP": of_packet("src_address"),
    "dstIP": of_packet("dst_address"),
    "srcIP6": lambda record, packet: full_ipv6(packet["src_address"]),
    "dstIP6": lambda record, packet: full_ipv6(packet["dst_address"]),
    "IPProtocol": of_packet("protocol"),
    "IPTOS": lambda record, packet: str(packet["dscp"] << 2 | packet["ecn"]),
    "IPTTL": of_packet("ttl"),
    "IPID": swapped_ip_id,
    "IP6_label": lambda record, packet: hex(packet["flow_label"]),
    "IPV6_payloadLen": lambda record, packet: str(packet["ip_length"] - 40),
    "IP6HeaderExtension": lambda record, packet: str(packet["extension_headers"][-1]),
    "TCPSrcPort": of_packet("src_port"),
    "TCPDstPort": of_packet("dst_port"),
    "TCPFlags": of_packet("tcp_flags"),
    "UDPSrcPort": of_packet("src_port"),
    "UDPDstPort": of_packet("dst_port"),
    "UDPBytes": of_packet("udp_length"),
    "ICMPType": of_packet("icmp_type"),
    "ICMPCode": of_packet("icmp_code"),
}

# Our field of a packet -> the keys of which sflowtool prints one wherever it found that field.
PRESENT = {
    "ip_version": {"srcIP", "srcIP6"},
    "src_port": {"TCPSrcPort", "UDPSrcPort"},
    "tcp_flags": {"TCPFlags"},
}

FLOW_RECORDS: dict[str, dict[str, Translate]] = {
    "0:1": HEADER,
    "0:2": {
        "ethernet_type": field("type"),
        "ethernet_len": field("length"),
        "ethernet_src": mac("src_mac"),
        "ethernet_dst": mac("dst_mac"),
    },
    "0:1001": fields(
        {
            "in_vlan": "src_vlan",
            "in_priority": "src_priority",
            "out_vlan": "dst_vlan",
            "out_priority": "dst_priority",
        }
    ),
    "0:1002": fields({"nextHop": "nexthop", "srcSubnetMask": "src_mask_len", "dstSubnetMask": "dst_mask_len"}),
    "0:1003": {
        **fields({"bgp_nexthop": "nexthop", "my_as": "as", "BGP_localpref": "localpref"}),
        **fields({"src_as": "src_as", "src_peer_as": "src_peer_as"}),
        "dst_as_path": lambda record, packet: "-".join(
            str(number) for segment in record["dst_as_path"] for number in segment["as"]
        ),
        "dst_as": lambda record, packet: str(record["dst_as_path"][-1]["as"][-1]),
        "dst_peer_as": lambda record, packet: str(record["dst_as_path"][0]["as"][0]),
        "BGP_communities": lambda record, packet: "-".join(map(str, record["communities"])),
    },
    "0:1023": fields(
        {
            # sflowtool prints the one length word under both names.
            "tunnel_ipv4_out_sampledPacketSize": "length",
            "tunnel_ipv4_out_IPSize": "length",
            "tunnel_ipv4_out_srcIP": "src_ip",
            "tunnel_ipv4_out_dstIP": "dst_ip",
            "tunnel_ipv4_out_IPProtocol": "protocol",
            "tunnel_ipv4_out_IPTOS": "tos",
        }
    ),
    "0:1036": fields({"egress_queue_id": "queue"}),
    "0:1038": fields({"symbol": "symbol"}),
    "0:1042": fields({"linux_drop_reason": "reason"}),
}


def adapters(record: Record, packet: Record) -> list[Record]:
    return [
        {
            "ifIndex": str(adapter["if_index"]),
            "MACs": str(len(adapter["mac_addresses"])),
            "mac_list": [address.replace(":", "") for address in adapter["mac_addresses"]],
        }
        for adapter in record["adapters"]
    ]


COUNTER_RECORDS: dict[str, dict[str, Any]] = {
    "0:1": {
        "networkType": field("if_type"),
        **same(
            "ifIndex ifSpeed ifDirection ifStatus ifInOctets ifInUcastPkts ifInMulticastPkts ifInBroadcastPkts "
            "ifInDiscards ifInErrors ifInUnknownProtos ifOutOctets ifOutUcastPkts ifOutMulticastPkts "
            "ifOutBroadcastPkts ifOutDiscards ifOutErrors ifPromiscuousMode"
        ),
    },
    "0:2": same(
        "dot3StatsAlignmentErrors dot3StatsFCSErrors dot3StatsSingleCollisionFrames "
        "dot3StatsMultipleCollisionFrames dot3StatsSQETestErrors dot3StatsDeferredTransmissions "
        "dot3StatsLateCollisions dot3StatsExcessiveCollisions dot3StatsInternalMacTransmitErrors "
        "dot3StatsCarrierSenseErrors dot3StatsFrameTooLongs dot3StatsInternalMacReceiveErrors "
        "dot3StatsSymbolErrors"
    ),
    "0:1001": {
        "5s_cpu": hundredths("5s_cpu"),
        "1m_cpu": hundredths("1m_cpu"),
        "5m_cpu": hundredths("5m_cpu"),
        **fields({"total_memory_bytes": "total_memory", "free_memory_bytes": "free_memory"}),
    },
    "0:1004": {
        "openflow_datapath_id": lambda record, packet: f"{record['datapath_id']:016x}",
        "openflow_port": field("port_no"),
    },
    "0:1005": fields({"ifName": "port_name"}),
    "0:2000": {
        **fields({"hostname": "hostname", "UUID": "uuid", "os_name": "os_name", "os_release": "os_release"}),
        "machine_type": field("machine_type"),
    },
    "0:2001": {"adaptor_list": adapters},
    "0:2003": {
        "cpu_load_one": load("load_one"),
        "cpu_load_five": load("load_five"),
        "cpu_load_fifteen": load("load_fifteen"),
        **fields(
            {
                **{f"cpu_{name}": name for name in ("proc_run", "proc_total", "uptime", "contexts")},
                **{f"cpu_{name}": f"cpu_{name}" for name in ("num", "speed", "user", "nice", "system", "idle")},
                **{f"cpu_{name}": f"cpu_{name}" for name in ("wio", "sintr")},
                "cpuintr": "cpu_intr",
                "cpuinterrupts": "interrupts",
            }
        ),
    },
    "0:2004": {
        name: field(name)
        for name in (
            *("mem_total", "mem_free", "mem_shared", "mem_buffers", "mem_cached", "swap_total", "swap_free"),
            *("page_in", "page_out", "swap_in", "swap_out"),
        )
    },
    "0:2005": {
        "disk_partition_max_used": hundredths("part_max_used"),
        **fields({"disk_total": "disk_total", "disk_free": "disk_free"}),
        **fields(
            {
                f"disk_{name}": name
                for name in ("reads", "bytes_read", "read_time", "writes", "bytes_written", "write_time")
            }
        ),
    },
    "0:2006": {
        **fields({f"nio_{name}": name for name in ("bytes_in", "pkts_in", "errs_in", "drops_in", "bytes_out")}),
        **fields({"nio_pkts_out": "packets_out", "nio_errs_out": "errs_out", "nio_drops_out": "drops_out"}),
    },
    "0:2201": {
        **fields(
            {
                f"http_{kind}_count": f"{kind.lower()}_count"
                for kind in (
                    *(
                        "method_option",
                        "method_get",
                        "method_head",
                        "method_post",
                        "method_put",
                        "method_delete",
                    ),
                    *("method_trace", "method_other", "status_1XX", "status_2XX", "status_3XX", "status_4XX"),
                    *("status_5XX", "status_other"),
                )
            }
        ),
        "http_methd_connect_count": field("method_connect_count"),  # sflowtool's own spelling
    },
    "0:2203": fields(
        {
            "user_time": "user_time",
            "system_time": "system_time",
            "memory_used": "mem_used",
            "memory_max": "mem_max",
            "files_open": "fd_open",
            "files_max": "fd_max",
            "connections_open": "conn_open",
            "connections_max": "conn_max",
        }
    ),
    "0:2207": fields({f"OVS_dp_{name}": name for name in ("hits", "misses", "lost", "mask_hits", "flows", "masks")}),
}

# What sflowtool calls a record, against our name for it.
KINDS = {
    "HEADER": "sampled_header",
    "ETHERNET": "sampled_ethernet",
    "tunnel_ipv4_out_IPV4": "extended_ipv4_tunnel_egress",
    "SWITCH": "extended_switch",
    "ROUTER": "extended_router",
    "GATEWAY": "extended_gateway",
    "egress_queue": "extended_egress_queue",
    "linux_reason": "extended_linux_drop_reason",
    "function": "extended_function",
}
SAMPLE_TYPES = {
    "FLOWSAMPLE": "flow_sample",
    "COUNTERSSAMPLE": "counters_sample",
    "DISCARD": "discarded_packet",
}


def interface(side: str) -> Callable[[Record], str]:
    words = {0: "", 1: "dropCode ", 2: "multiple "}
    return lambda sample: f"{words[sample[side]['format']]}{sample[side]['value']}"


SAMPLE: dict[str, Callable[[Record], str]] = {
    "sampleType_tag": lambda sample: f"{sample['enterprise']}:{sample['format']}",
    "sampleSequenceNo": lambda sample: str(sample["sequence_number"]),
    "sourceId": lambda sample: f"{sample['source_id']['type']}:{sample['source_id']['index']}",
    "meanSkipCount": lambda sample: str(sample["sampling_rate"]),
    "samplePool": lambda sample: str(sample["sample_pool"]),
    "dropEvents": lambda sample: str(sample["drops"]),
    "inputPort": interface("input"),
    "outputPort": interface("output"),
    "discardCode": lambda sample: str(sample["reason"]),
    "discardReason": lambda sample: sample["reason_name"],
}

DATAGRAM = {
    "datagramVersion": "version",
    "agentSubId": "sub_agent_id",
    "agent": "agent_address",
    "packetSequenceNo": "sequence_number",
    "sysUpTime": "uptime",
}
# sflowtool read the datagrams from a file: it knew no sender, and its clock stood at 0.
OF_THE_TOOL = {"datagramSourceIP": "-", "unixSecondsUTC": "0", "unixSecondsUTC_uS": "0"}


# --- the comparison ----------------------------------------------------------------------------------------


def compare_record(theirs: Record, ours: Record, packet: Record | None, compared: Counter[str]) -> None:
    keys = {key.removeprefix("discarded_"): value for key, value in theirs.items()}
    is_counter = "counterBlock_tag" in keys
    tag = keys.pop("counterBlock_tag" if is_counter else "flowBlock_tag")
    assert tag == f"{ours['enterprise']}:{ours['format']}"
    kind = keys.pop("flowSampleType", keys.pop("extendedType", None))
    assert kind is None or KINDS[kind] == ours["name"]
    table = (COUNTER_RECORDS if is_counter else FLOW_RECORDS)[tag]
    for key, value in keys.items():
        assert table[key](ours, packet or {}) == value, (tag, key)
        compared[key] += 1
    if ours["name"] == "sampled_header" and packet is not None:
        for name, printed in PRESENT.items():
            assert (name in packet) == bool(printed & keys.keys()), (tag, name)


def compare_sample(theirs: Record, ours: Record, compared: Counter[str]) -> None:
    for key, value in theirs.items():
        if key == "sampleType":
            assert SAMPLE_TYPES[value] == ours["type"]
        elif key != "elements":
            assert SAMPLE[key](ours) == value, key
            compared[key] += 1
    assert len(theirs["elements"]) == len(ours["records"])
    for record, our_record in zip(theirs["elements"], ours["records"], strict=True):
        compare_record(record, our_record, ours.get("packet"), compared)


def compare_datagram(theirs: Record, ours: Record, ts_ns: int, size: int, compared: Counter[str]) -> None:
    stamp = datetime.fromtimestamp(ts_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")
    ours_by_key = {
        **OF_THE_TOOL,
        "localtime": "1970-01-01T00:00:00+0000",
        "datagramSize": str(size),
        "pcapTimestamp": stamp,
        "pcapTimestamp_uS": str(ts_ns % 10**9 // 1000),
        "samplesInPacket": str(len(ours["samples"])),
        **{key: str(ours[name]) for key, name in DATAGRAM.items() if name in ours},
    }
    for key, value in theirs.items():
        if key != "samples":
            assert ours_by_key[key] == value, key
            compared[key] += 1
    assert len(theirs.get("samples", [])) == len(ours["samples"])
    for sample, our_sample in zip(theirs.get("samples", []), ours["samples"], strict=True):
        compare_sample(sample, our_sample, compared)


@pytest.mark.parametrize("row", SOUND, ids=lambda row: row["capture"])
def test_decodes_as_sflowtool(row: dict[str, str]) -> None:
    """Each key of each datagram that the independent decoder could read has the same value here."""
    theirs = expected(row)
    ours = [(ts_ns, octets, decode_datagram(octets)) for ts_ns, octets in captured(row["capture"])]
    assert len(theirs) == int(row["datagrams"])
    compared: Counter[str] = Counter()
    for theirs_one, (ts_ns, octets, decoded) in zip(theirs, ours, strict=True):
        compare_datagram(theirs_one, decoded, ts_ns, len(octets), compared)
        is_foreign = decoded["version"] != 5  # NetFlow sent to the port, of which sflowtool prints the word
        assert decoded["errors"] == ([{"reason": "version_unsupported", "offset": 0}] if is_foreign else [])
    assert compared["datagramVersion"] == len(theirs)


def discard(**fields_of_it: Any) -> Record:
    return {"type": "discarded_packet", "enterprise": 0, "format": 5, **fields_of_it}


# Captures that made sflowtool give up the datagram: what the specification makes of them.
DAMAGED: dict[str, tuple[list[Record], list[Record]]] = {
    # A record of 10 octets holds its 6 characters whole, only the padding is missing.
    "goflow2_TestSFlowDecodeDropExtendedFunction.pcap": (
        [
            discard(
                sequence_number=2,
                source_id={"type": 0, "index": 1},
                drops=256,
                input={"format": 0, "value": 1},
                output={"format": 0, "value": 2},
                reason=1,
                reason_name="host_unreachable",
                records=[{"enterprise": 0, "format": 1038, "name": "extended_function", "symbol": "foobar"}],
                packet=None,
            )
        ],
        [{"reason": "sample_length", "offset": 28}, {"reason": "record_length", "offset": 68}],
    ),
    # A sample that claims 116 of the 76 octets that are left.
    "gopacket_SFlowTestPacket11.pcap": ([], [{"reason": "sample_overrun", "offset": 28}]),
    # A record that claims 16 of the 12 octets that are left in its sample.
    "gopacket_SFlowTestPacket5.pcap": (
        [
            {
                "type": "flow_sample",
                "enterprise": 0,
                "format": 1,
                "sequence_number": 291,
                "source_id": {"type": 0, "index": 29},
                "sampling_rate": 256,
                "sample_pool": 820,
                "drops": 22018,
                "input": {"format": 0, "value": 29},
                "output": {"format": 0, "value": 4},
                "records": [],
                "packet": None,
            }
        ],
        [{"reason": "record_overrun", "offset": 68}],
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_keeps_what_precedes_the_damage(name: str) -> None:
    """Where a datagram lies about its lengths, all before the lie is decoded and the reason is given."""
    ((_, octets),) = captured(name)
    samples, errors = DAMAGED[name]
    decoded = decode_datagram(octets)
    assert decoded["samples"] == samples
    assert decoded["errors"] == errors


def test_every_capture_is_checked() -> None:
    """No capture of the collection is left out, whether sflowtool could read it or not."""
    checked = {row["capture"] for row in SOUND} | set(DAMAGED)
    assert checked == {path.name for path in CAPTURES.glob("*.pcap")}
    assert all(row["reference_decoder_errors"] == "" or row["capture"] in checked for row in manifest())
