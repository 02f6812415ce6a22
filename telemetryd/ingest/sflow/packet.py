"""What the dissection of a packet header found, typed: :class:`Packet` is what columns are projected from."""

from __future__ import annotations

from dataclasses import dataclass, field
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any, Final

from telemetryd.ingest.sflow.kinds import decode_label


@dataclass(slots=True)
class Ethernet:
    """A link layer: addresses, tags as (vid, pcp) from the outside in, and the EtherType after them."""

    src_mac: bytes | None = None
    dst_mac: bytes | None = None
    vlans: list[tuple[int, int]] = field(default_factory=list)
    ether_type: int | None = None
    truncated: bool = False

    def describe(self) -> dict[str, Any]:
        """Return what was found as JSON values."""
        found: dict[str, Any] = {}
        if self.src_mac is not None:
            found["src_mac"] = self.src_mac.hex(":")
        if self.dst_mac is not None:
            found["dst_mac"] = self.dst_mac.hex(":")
        found["vlans"] = [{"vid": vid, "pcp": pcp} for vid, pcp in self.vlans]
        if self.ether_type is not None:
            found["ether_type"] = self.ether_type
        return found


@dataclass(slots=True)
class Packet:
    """What a packet header tells; fields that it does not tell are None (0 for ``ip_version``).

    Attributes
    ----------
    ethernet:
        The outer link layer; None where the header begins above it.
    pseudowire:
        The link layer below an MPLS label stack; the IP fields are then those of its payload.
    labels:
        MPLS label stack entries, whole words, top first.
    src_address, dst_address:
        Addresses as numbers (32 bits for IPv4, 128 for IPv6).
    protocol:
        IP protocol of the transport header: the last next-header that was reached.
    ip_length:
        Octets of the IP packet as its header states them, IPv6 header included; 0 unknown (IPv4).
    fragment_offset, more_fragments:
        In octets; an offset above 0 means that there are no ports.
    tunnel, tunnel_id:
        Name of the tunnel around ``inner``, and its VNI, TEID or key.
    """

    ethernet: Ethernet | None = None
    pseudowire: Ethernet | None = None
    labels: list[int] = field(default_factory=list)
    ip_version: int = 0
    src_address: int | None = None
    dst_address: int | None = None
    protocol: int | None = None
    dscp: int | None = None
    ecn: int | None = None
    ttl: int | None = None
    ip_length: int | None = None
    ip_id: int | None = None
    flow_label: int | None = None
    fragment_offset: int = 0
    more_fragments: bool = False
    extension_headers: list[int] = field(default_factory=list)
    src_port: int | None = None
    dst_port: int | None = None
    tcp_flags: int | None = None
    udp_length: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    truncated: bool = False
    tunnel: str | None = None
    tunnel_id: int | None = None
    inner: Packet | None = None

    @property
    def is_fragment(self) -> bool:
        """Tell whether this is a fragment other than the first."""
        return self.fragment_offset > 0

    @property
    def is_labelled(self) -> bool:
        """Tell whether an MPLS label was found."""
        return bool(self.labels)

    @property
    def vlans(self) -> list[tuple[int, int]]:
        """Return the outer tags as (vid, pcp)."""
        return self.ethernet.vlans if self.ethernet is not None else []

    @property
    def ether_type(self) -> int | None:
        """Return the EtherType after the outer tags."""
        return self.ethernet.ether_type if self.ethernet is not None else None

    def describe(self) -> dict[str, Any]:
        """Return what was found as JSON values: addresses as text, unknown fields left out."""
        found: dict[str, Any] = self.ethernet.describe() if self.ethernet is not None else {}
        if self.labels:
            found["mpls"] = [decode_label(word) for word in self.labels]
        if self.pseudowire is not None:
            found["pseudowire"] = self.pseudowire.describe()
        if self.ip_version:
            found["ip_version"] = self.ip_version
            found["src_address"] = address_text(self.ip_version, self.src_address or 0)
            found["dst_address"] = address_text(self.ip_version, self.dst_address or 0)
        for name in _PLAIN_FIELDS:
            value = getattr(self, name)
            if value is not None:
                found[name] = value
        if self.extension_headers:
            found["extension_headers"] = self.extension_headers
        if self.fragment_offset or self.more_fragments:
            found["fragment"] = {"offset": self.fragment_offset, "more": self.more_fragments}
        if self.truncated:
            found["truncated"] = True
        if self.inner is not None:
            found["tunnel"] = self.tunnel
            if self.tunnel_id is not None:
                found["tunnel_id"] = self.tunnel_id
            found["inner"] = self.inner.describe()
        return found


_PLAIN_FIELDS: Final = (
    *("protocol", "src_port", "dst_port", "tcp_flags", "icmp_type", "icmp_code", "dscp", "ecn", "ttl"),
    *("ip_length", "ip_id", "flow_label", "udp_length"),
)


def address_text(ip_version: int, address: int) -> str:
    """Return an address as text: dotted quad for version 4, RFC 5952 for version 6."""
    if ip_version == 4:
        return inet_ntop(AF_INET, address.to_bytes(4, "big"))
    return inet_ntop(AF_INET6, address.to_bytes(16, "big"))
