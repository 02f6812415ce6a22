"""Everything that the registry knows of an address, by routing instance."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from telemetryd.errors import InputError
from telemetryd.registry.find import Finder, parse_ip
from telemetryd.registry.load import load_registry
from tests.unit.registry_case import BASE


@pytest.fixture
def finder(tmp_path: Path) -> Finder:
    (tmp_path / "city.yaml").write_text(BASE, encoding="utf-8")
    return Finder(load_registry(tmp_path))


def test_a_server_in_two_instances(finder: Finder) -> None:
    """The same address is found in each instance that has it, the default one first."""
    first, second = finder.find(ip_address("172.16.0.10"))
    assert (first.instance, first.server, first.department, first.zone) == ("pub", "SRV-1", "hrss", "public")
    assert (first.network, first.region, first.site) == ("172.16.0.0/16", "yundong", "DC-A")
    assert first.published_as == ("203.0.113.10",)
    (exam,) = first.applications
    assert (exam.name, exam.owner, exam.protocol, exam.ports) == ("exam", "hrss", "tcp", (443, "8000-8009"))
    assert (exam.through, exam.importance, exam.mlps) == ("172.16.0.10", "high", 3)
    assert (second.instance, second.server, second.department) == ("vpn-finance", "SRV-3", "finance")
    assert second.applications == ()


def test_one_instance_only(finder: Finder) -> None:
    """An instance can be asked for alone; an unknown one is the operator's mistake."""
    assert [f.instance for f in finder.find(ip_address("172.16.0.10"), "vpn-finance")] == ["vpn-finance"]
    with pytest.raises(InputError, match='did you mean "vpn-finance"'):
        finder.find(ip_address("172.16.0.10"), "vpn-finanze")


def test_a_published_address(finder: Finder) -> None:
    """A public address leads to its server, the server's applications and the NAT pool that holds it."""
    (found,) = finder.find(ip_address("203.0.113.10"))
    assert (found.published_for, found.server, found.department) == ("SRV-1", "SRV-1", "hrss")
    assert (found.nat_pool, found.nat_link) == ("pool1", "isp1")
    assert [a.name for a in found.applications] == ["exam"]
    assert not found.is_outside


def test_the_longest_network_wins(finder: Finder) -> None:
    """Nested networks: the longest prefix decides; what only the default route holds is outside."""
    assert finder.find(ip_address("172.16.9.1"))[0].department == "finance"
    (outside,) = finder.find(ip_address("9.9.9.9"))
    assert (outside.network, outside.region, outside.is_outside) == ("0.0.0.0/0", "internet", True)
    assert finder.find(ip_address("2001:db8:b::1")) == []


def test_shared_services_stand_before_their_applications(finder: Finder) -> None:
    """Claims are listed in the order of their specificity, the shared service first."""
    (found, _) = finder.find(ip_address("172.16.0.11"))
    assert [a.name for a in found.applications] == ["shared:waf", "forum", "portal"]
    assert found.applications[0].shared_by == ("portal", "forum")


def test_claims_by_prefix(finder: Finder) -> None:
    """An application on a prefix is found for each address in it, in its instance only."""
    pub, vpn = finder.find(ip_address("172.16.1.7"))
    assert [(a.name, a.through) for a in pub.applications] == [("video", "172.16.1.0/24")]
    assert vpn.applications == ()


@pytest.mark.parametrize("text", ["", "1.2.3", "host", "172.16.0.0/16"])
def test_what_is_no_address(text: str) -> None:
    """Anything but an address is refused as the operator's mistake."""
    with pytest.raises(InputError, match="is no IPv4 or IPv6 address"):
        parse_ip(text)
