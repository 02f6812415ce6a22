"""What a sample is classified as: links, metering, direction, departments, application."""

from __future__ import annotations

from typing import Any

import pytest

from telemetryd._ext import load
from telemetryd.classify.compile import compile_registry
from telemetryd.schema import Direction
from tests.small_city import Rows, small_city

TABLES = compile_registry(small_city())
TCP, UDP = 6, 17
INTERNAL = 0x3FFFFFFF


def classify(agent: str, source: str, destination: str, **fields: int) -> dict[str, Any]:
    rows = Rows()
    rows.add(agent, source, destination, **fields)
    classifier = load("match", "telemetryd.classify.reference").Classifier(
        rows.datagrams, rows.samples, rows.classes, TABLES
    )
    classifier.classify()
    assert rows.classes.n == 1
    names = TABLES.names
    kinds = {
        "link_in": names.links,
        "link_out": names.links,
        "metering_point": names.metering_points,
        "department": names.departments,
        "peer_department": names.departments,
        "application": names.applications,
        "source_zone": names.zones,
        "destination_zone": names.zones,
        "service_class": names.service_classes,
    }
    result: dict[str, Any] = {"direction": Direction(int(rows.classes["direction"][0]))}
    for column, table in kinds.items():
        code = int(rows.classes[column][0])
        result[column] = table[code] if code < len(table) else code - len(table)
    return result


def part(result: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(result[name] for name in names)


def test_a_packet_from_the_internet_to_a_server_is_inbound_at_the_exit() -> None:
    """At the exit `department` is the inside end, owner of the application; the packet counts at the exit."""
    result = classify(
        "CR01", "192.0.2.1", "172.16.0.10", input=1, output=2, protocol=TCP, source_port=50000,
        destination_port=443, dscp=26,
    )  # fmt: skip
    assert result == {
        "link_in": "exit-isp",
        "link_out": "CR01/dc",
        "metering_point": "exit",
        "direction": Direction.INBOUND,
        "department": "hrss",
        "peer_department": "outside",
        "application": "exam",
        "source_zone": "-",
        "destination_zone": "public",
        "service_class": "core",
    }


def test_the_answer_is_the_same_application_outbound() -> None:
    """Either end may be the server: the way back is the same application, outbound, same departments."""
    result = classify(
        "CR01",
        "172.16.0.10",
        "192.0.2.1",
        input=2,
        output=1,
        protocol=TCP,
        source_port=443,
        destination_port=50000,
    )
    assert part(result, "application", "direction", "department", "peer_department", "metering_point") == (
        "exam", Direction.OUTBOUND, "hrss", "outside", "exit",
    )  # fmt: skip


def test_inside_the_network_the_department_is_the_user() -> None:
    """Between two inside ends `department` is the client, `peer_department` the owner, both ways."""
    there = classify(
        "CR01",
        "198.18.0.5",
        "172.16.0.10",
        input=3,
        output=2,
        protocol=TCP,
        source_port=50000,
        destination_port=443,
    )
    back = classify(
        "CR01",
        "172.16.0.10",
        "198.18.0.5",
        input=2,
        output=3,
        protocol=TCP,
        source_port=443,
        destination_port=50000,
    )
    for result in (there, back):
        assert part(result, "direction", "department", "peer_department", "application", "metering_point") == (
            Direction.INTERNAL, "finance", "hrss", "exam", "dc",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "department"),
    [
        ({"vlan_id": 210}, "finance"),
        ({"vlan_id": 247}, "tax"),
        ({"input": 3}, "finance"),
        ({"input": 3, "vlan_id": 247}, "finance"),
        ({}, "outside"),
    ],
)
def test_the_same_private_prefix_lives_in_several_instances(fields: dict[str, int], department: str) -> None:
    """An address is looked up in the instance of the ingress port, else of the VLAN; elsewhere it is nobody's."""
    result = classify("CR01", "192.168.1.1", "192.0.2.1", **{"input": 2, "output": 1, "protocol": TCP, **fields})
    assert result["department"] == department


def test_an_unambiguous_prefix_is_known_in_every_instance() -> None:
    """A server of another instance is found when no second instance uses its prefix."""
    result = classify(
        "CR01",
        "192.168.1.1",
        "172.16.0.10",
        input=3,
        output=2,
        protocol=TCP,
        source_port=50000,
        destination_port=443,
    )
    assert part(result, "department", "peer_department", "application") == ("finance", "hrss", "exam")


def test_a_shared_service_is_never_guessed() -> None:
    """One service address of several applications is booked as shared, with the department of the address."""
    result = classify(
        "CR01",
        "192.0.2.1",
        "172.16.0.20",
        input=1,
        output=2,
        protocol=TCP,
        source_port=50000,
        destination_port=443,
    )
    assert part(result, "application", "department") == ("shared:front", "data")


def test_rules_of_wider_prefixes_hold_for_servers_within() -> None:
    """What a server's own rules don't claim falls to the rules of the prefix around it."""
    result = classify(
        "CR01",
        "198.18.4.9",
        "172.16.0.10",
        input=1,
        output=2,
        protocol=UDP,
        source_port=40000,
        destination_port=20000,
    )
    assert part(result, "application", "department", "peer_department") == ("voice", "tax", "data")


def test_uplink_traffic_does_not_count_at_the_exit() -> None:
    """A packet to the province counts at the point that counts uplink traffic, and there alone."""
    result = classify("CR01", "198.18.0.1", "100.80.0.1", input=1, output=11, protocol=TCP)
    assert part(result, "metering_point", "direction", "link_out", "peer_department") == (
        "lag", Direction.OUTBOUND, "lag", "outside",
    )  # fmt: skip


def test_published_and_translated_addresses() -> None:
    """A published address is its server's; a NAT pool's is the pool's, which hides many departments."""
    published = classify(
        "CR01",
        "192.0.2.1",
        "203.0.113.200",
        input=1,
        output=2,
        protocol=TCP,
        source_port=5,
        destination_port=443,
    )
    pool = classify("CR01", "203.0.113.7", "192.0.2.1", input=2, output=1, protocol=TCP)
    assert part(published, "application", "department") == ("exam", "hrss")
    assert part(pool, "direction", "department") == (Direction.OUTBOUND, "nat:pool")


@pytest.mark.parametrize(("source_index", "links"), [(1, ("AG01/a", "-")), (2, ("-", "AG01/b")), (9, ("AG01/a", "-"))])
def test_a_device_that_samples_both_ways_counts_where_the_sample_was_taken(
    source_index: int, links: tuple[str, str]
) -> None:
    """A sample of ingress counts in, one of egress counts out: each direction once."""
    result = classify("AG01", "198.18.0.1", "192.0.2.1", input=1, output=2, source_index=source_index)
    assert part(result, "link_in", "link_out") == links


@pytest.mark.parametrize(
    ("fields", "links"),
    [
        ({"input": 1, "output": INTERNAL}, ("exit-isp", "-")),
        ({"input": INTERNAL, "output": 1}, ("-", "exit-isp")),
        ({"input": 1, "output_format": 1, "output": 256}, ("exit-isp", "-")),
        ({"input": 1, "output_format": 2, "output": 3}, ("exit-isp", "-")),
        ({"input": 0, "output": 0}, ("-", "-")),
        ({"input": 0xFFFFFFFF, "output": 2}, ("-", "CR01/dc")),
    ],
)
def test_interfaces_that_are_no_ports_book_nothing(fields: dict[str, int], links: tuple[str, str]) -> None:
    """Unknown, internal, discarded and multiple interfaces are kept apart."""
    assert part(classify("CR01", "192.0.2.1", "198.18.0.1", **fields), "link_in", "link_out") == links


@pytest.mark.parametrize(
    ("source", "destination", "links"),
    [("192.0.2.1", "198.18.0.1", ("HOST/eth0", "-")), ("198.18.0.1", "192.0.2.1", ("-", "HOST/eth0")), ("198.18.0.1", "198.18.4.1", ("-", "-"))],
)  # fmt: skip
def test_an_exporter_without_interfaces_is_found_by_its_source(
    source: str, destination: str, links: tuple[str, str]
) -> None:
    """The source map names the port, the addresses the direction; where they don't tell, no link is booked."""
    result = classify("HOST", source, destination, input=INTERNAL, output=INTERNAL, source_index=5)
    assert part(result, "link_in", "link_out", "metering_point") == (*links, "host")


def test_a_labelled_port_counts_link_totals_only() -> None:
    """Behind an MPLS backbone port the VPN is not visible: the ends are not looked up."""
    result = classify("CR01", "192.168.1.1", "198.18.0.1", input=4, output=2)
    assert part(result, "application", "department", "link_in") == ("labelled", "unknown", "CR01/labelled")


def test_ports_that_nobody_registered_get_links_of_their_own() -> None:
    """Unknown ports, of known devices and of strangers, are kept and can be named."""
    rows = Rows()
    rows.add("CR01", "192.0.2.1", "198.18.0.1", input=77, output=2)
    rows.add("stranger", "192.0.2.1", "198.18.0.1", input=1, output=77)
    rows.add("stranger", "192.0.2.1", "198.18.0.1", input=77, output=1)
    classifier = load("match", "telemetryd.classify.reference").Classifier(
        rows.datagrams, rows.samples, rows.classes, TABLES
    )
    classifier.classify()
    first = len(TABLES.names.links)
    assert [int(code) for code in rows.classes["link_in"][:3]] == [first, first + 1, first + 2]
    assert [int(code) for code in rows.classes["link_out"][:3]][1:] == [first + 2, first + 1]
    columns = {name: column.tolist() for name, column in classifier.unregistered().items()}
    stranger = 0xC0000263
    assert columns == {
        "device": [1, 0, 0],
        "agent_version": [0, 4, 4],
        "agent_hi": [0, 0, 0],
        "agent_lo": [0, stranger, stranger],
        "if_index": [77, 1, 77],
    }


def test_what_is_not_ip_has_no_ends() -> None:
    """A frame without an IP packet counts on its links and at the first metering point, unclassified."""
    result = classify("CR01", "", "", input=1, output=2)
    assert part(result, "application", "department", "direction", "metering_point", "service_class") == (
        "unclassified", "unknown", Direction.UNKNOWN, "exit", "-",
    )  # fmt: skip
