"""Types of leaves that can be set: which values they take, as JSON or as scalars, and in which form those are kept."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from telemetryd.agent.model import Kind

Scalar = str | int | bool


class Form(Enum):
    """How a value was written."""

    IETF = auto()  # JSON by RFC 7951: numbers of 64 bits are texts
    JSON = auto()  # JSON without rules: such numbers may be either
    SCALAR = auto()  # a TypedValue's own field


class BadValueError(Exception):
    """A value that a leaf does not take; the message says why."""


@dataclass(frozen=True, eq=False)
class Type:
    """What values a leaf takes.

    Attributes
    ----------
    low, high:
        Bounds of numbers.
    names:
        Of an enumeration or of identities: each with the module that it belongs to, or "" where values have none. Of a
        union: those that it takes besides numbers.
    check:
        Of a text: returns what is wrong with it, or nothing.
    """

    kind: Kind
    low: int = 0
    high: int = 2**64 - 1
    names: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[str], str] | None = None

    def read(self, value: Any, form: Form) -> Scalar:
        """Return a value as it is kept: whole numbers, and names without their module's.

        Raises
        ------
        BadValueError
            If the leaf does not take it.
        """
        kind = self.kind
        if kind is Kind.UINT:
            return self._number(value)
        if kind is Kind.UINT64:
            return self._wide(value, form)
        if kind is Kind.TEXT:
            if not isinstance(value, str):
                raise BadValueError(f"{_shown(value)} is no text")
            return self._text(value)
        if kind is Kind.BOOL:
            if not isinstance(value, bool):
                raise BadValueError(f"{_shown(value)} is neither true nor false")
            return value
        if kind is Kind.UNION:
            return self._union(value)
        if not isinstance(value, str):
            raise BadValueError(f"{_shown(value)} is no text")
        return self._name(value)

    def read_key(self, text: object) -> Scalar:
        """Return the value of a key in a path, where every value is a text.

        Raises
        ------
        BadValueError
            If the leaf does not take it.
        """
        is_number = self.kind in (Kind.UINT, Kind.UINT64, Kind.UNION) and isinstance(text, str)
        return self.read(int(text) if is_number and _DECIMAL.fullmatch(str(text)) else text, Form.SCALAR)  # type: ignore[call-overload]

    def qualified(self, value: Scalar) -> Scalar:
        """Return a value with its module's name, where it has one."""
        module = self.names.get(value, "") if isinstance(value, str) else ""
        return f"{module}:{value}" if module else value

    def _number(self, value: Any) -> int:
        if type(value) is not int:
            raise BadValueError(f"{_shown(value)} is no whole number")
        if not self.low <= value <= self.high:
            raise BadValueError(f"{value} is not in {self.low}..{self.high}")
        return value

    def _wide(self, value: Any, form: Form) -> int:
        if isinstance(value, str) and form is not Form.SCALAR:
            if not _DECIMAL.fullmatch(value):
                raise BadValueError(f"{_shown(value)} is no whole number")
            return self._number(int(value))
        if form is Form.IETF:
            raise BadValueError(f"{_shown(value)} has to be a text: JSON_IETF writes numbers of 64 bits in quotes")
        return self._number(value)

    def _text(self, value: str) -> str:
        if self.check is not None and (wrong := self.check(value)):
            raise BadValueError(f"{_shown(value)} {wrong}")
        return value

    def _name(self, value: str) -> str:
        head, colon, name = value.rpartition(":")
        module = self.names.get(name)
        if module is None or (colon and head != module):
            raise BadValueError(f"{_shown(value)} is none of {', '.join(self.names)}")
        return name

    def _union(self, value: Any) -> Scalar:
        if isinstance(value, int):
            return self._number(value)
        if not isinstance(value, str):
            raise BadValueError(f"{_shown(value)} is neither a number nor a text")
        if _DECIMAL.fullmatch(value):
            return self._number(int(value))
        if value.rpartition(":")[2] in self.names:
            return self._name(value)
        if self.check is None:
            raise BadValueError(f"{_shown(value)} is no whole number, and none of {', '.join(self.names)}")
        return self._text(value)


#: A whole number as JSON writes it; one with more digits has more than 64 bits.
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)
_IPV4 = re.compile(
    r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)/(?:3[0-2]|[12]?\d)", re.ASCII
)
_RANGE = re.compile(r"(\d{1,5})\.\.(\d{1,5})", re.ASCII)
_MAC = re.compile(r"[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}", re.ASCII)


def _shown(value: Any) -> str:
    """Return a value as a message shows it."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:80]} ..."


def _ipv4_prefix(value: str) -> str:
    return "" if _IPV4.fullmatch(value) else "is no IPv4 prefix such as 10.1.0.0/16"


def _ipv6_prefix(value: str) -> str:
    address, slash, length = value.partition("/")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        slash = ""
    if not slash or "%" in address or not re.fullmatch("0|[1-9][0-9]{0,2}", length) or int(length) > 128:
        return "is no IPv6 prefix such as 2001:db8::/32"
    return ""


def _range_to(greatest: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        found = _RANGE.fullmatch(value)
        if found is None or not int(found[1]) <= int(found[2]) <= greatest:
            return f"is no number, and no range such as 80..90 up to {greatest}"
        return ""

    return check


def _mac(value: str) -> str:
    return "" if _MAC.fullmatch(value) else "is no MAC address"


def number(high: int, low: int = 0) -> Type:
    """Return the type of numbers of at most 32 bits."""
    return Type(Kind.UINT, low, high)


def enumeration(*names: str) -> Type:
    """Return the type of some names."""
    return Type(Kind.ENUMERATION, names=dict.fromkeys(names, ""))


def identity(module: str, *names: str) -> Type:
    """Return the type of identities of one module."""
    return Type(Kind.IDENTITY, names=dict.fromkeys(names, module))


TEXT: Final = Type(Kind.TEXT)
BOOL: Final = Type(Kind.BOOL)
UINT8: Final = number(0xFF)
UINT16: Final = number(0xFFFF)
UINT32: Final = number(0xFFFFFFFF)
UINT64: Final = Type(Kind.UINT64)
PERCENT: Final = number(100)
DSCP: Final = number(63)
IPV4_PREFIX: Final = Type(Kind.TEXT, check=_ipv4_prefix)
IPV6_PREFIX: Final = Type(Kind.TEXT, check=_ipv6_prefix)
MAC: Final = Type(Kind.TEXT, check=_mac)

_PACKET_MATCH: Final = "openconfig-packet-match-types"


def _identities(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, _PACKET_MATCH)


#: openconfig-packet-match-types, typedefs of these names.
IP_PROTOCOL: Final = Type(
    Kind.UNION,
    high=254,
    names=_identities(
        *("IP_TCP", "IP_UDP", "IP_ICMP", "IP_IGMP", "IP_PIM", "IP_RSVP", "IP_GRE", "IP_AUTH", "IP_L2TP", "IP_IN_IP")
    ),
)
PORT_RANGE: Final = Type(Kind.UNION, high=0xFFFF, names={"ANY": ""}, check=_range_to(0xFFFF))
FRAGMENT_RANGE: Final = Type(Kind.UNION, high=8191, names={"ANY": ""}, check=_range_to(8191))
ETHERTYPE: Final = Type(
    Kind.UNION,
    low=1536,
    high=0xFFFF,
    names=_identities(
        *("ETHERTYPE_IPV4", "ETHERTYPE_ARP", "ETHERTYPE_VLAN", "ETHERTYPE_IPV6", "ETHERTYPE_MPLS", "ETHERTYPE_LLDP"),
        "ETHERTYPE_ROCE",
    ),
)
TCP_FLAGS: Final = identity(
    _PACKET_MATCH, *(f"TCP_{flag}" for flag in ("SYN", "FIN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"))
)
