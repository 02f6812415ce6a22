"""The field types of the registry: names, rates, ports, prefixes, as people write them.

Each type parses one value of YAML into plain Python (int, tuple, ipaddress), writes it back the same
way, and describes itself in the JSON Schema. A parser raises :func:`mistake`, which carries what is
wrong and what to do, so that the loader only has to add the position.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Final, NoReturn, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import Field, PlainSerializer, PlainValidator, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from telemetryd.config.explain import show
from telemetryd.config.units import RATE_PATTERN, UnitError, parse_rate, spell_rate

MISTAKE: Final = "telemetryd"
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

PROTOCOLS: Final = {"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "icmpv6": 58, "sctp": 132, "udplite": 136}
PORT_PROTOCOLS: Final = frozenset((6, 17, 33, 132, 136))  # those with port numbers
_PROTOCOL_NAMES: Final = {number: name for name, number in PROTOCOLS.items()}

MAX_PORT: Final = 65535
MAX_VLAN: Final = 4094  # 0 and 4095 are reserved (IEEE 802.1Q table 9-2)
MAX_IF_INDEX: Final = 0xFFFFFFFE  # expanded samples keep 32 bits; all ones means "internal" (sFlow v5 errata)
MAX_UINT32: Final = 2**32 - 1
_MAX_DNS_LENGTH: Final = 253

_IPV4_ADDRESS = re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}\Z")
_LEADING_ZERO = re.compile(r"(?:^|\.)0[0-9]")


def mistake(message: str, remedy: str) -> NoReturn:
    """Refuse a value, saying what is wrong and what to do."""
    # Braces would be taken for placeholders of the template.
    raise PydanticCustomError(MISTAKE, "{message}", {"message": message, "remedy": remedy})


def _is_number(text: str) -> bool:
    """Tell whether a text is a number of at most ten ASCII digits."""
    return text.isascii() and text.isdecimal() and len(text) <= 10


# --- texts -----------------------------------------------------------------------------------------------

SLUG_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]*$"
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Slug = Annotated[str, StringConstraints(strict=True, pattern=SLUG_PATTERN, max_length=64)]
Name = Annotated[str, StringConstraints(strict=True, pattern=NAME_PATTERN, max_length=64)]
Text = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=255)]


def _parse_time_zone(value: object) -> str:
    if not isinstance(value, str):
        mistake(f"{show(value)} is no time zone", 'name one of the IANA database, such as "Asia/Shanghai"')
    try:
        ZoneInfo(value)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError, below; a directory is an OSError
        mistake(f'"{value}" is no time zone', 'name one of the IANA database, such as "Asia/Shanghai"')
    except KeyError:
        mistake(f'unknown time zone "{value}"', 'name one of the IANA database, such as "Asia/Shanghai"')
    return value


TimeZone = Annotated[
    str, PlainValidator(_parse_time_zone), WithJsonSchema({"type": "string", "examples": ["Asia/Shanghai"]})
]


def _parse_port_reference(value: object) -> str:
    if not isinstance(value, str) or not all(value.partition("/")):
        mistake(f"{show(value)} is no port of a device", 'write "DEVICE/INTERFACE"')
    return value


PortReference = Annotated[
    str, PlainValidator(_parse_port_reference), WithJsonSchema({"type": "string", "pattern": "^[^/]+/.+$"})
]
"""``DEVICE/INTERFACE``; the device ends at the first slash, since interface names hold slashes."""


def split_port(reference: str) -> tuple[str, str]:
    """Split a port reference into (device, interface)."""
    device, _, interface = reference.partition("/")
    return device, interface


def _parse_source_id(value: object) -> str:
    source_class, _, index = value.partition(":") if isinstance(value, str) else ("", "", "")
    numbers = [int(part) for part in (source_class, index) if _is_number(part)]
    if len(numbers) < 2:
        mistake(f"{show(value)} is no sFlow source id", 'write "class:index", such as "0:5"')
    if max(numbers) > MAX_UINT32:  # of an expanded sample; the compact form has 8 and 24 bits
        mistake(f"{show(value)} is no sFlow source id", "class and index have 32 bits each")
    return f"{numbers[0]}:{numbers[1]}"


SourceId = Annotated[
    str, PlainValidator(_parse_source_id), WithJsonSchema({"type": "string", "pattern": "^[0-9]+:[0-9]+$"})
]


def _parse_endpoint(value: object) -> str:
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not host or len(host) > _MAX_DNS_LENGTH or not (_is_number(port) and 0 < int(port) <= MAX_PORT):
        mistake(
            f"{show(value)} is no endpoint",
            'write "host:port", an IPv6 address in brackets: "[2001:db8::1]:57400"',
        )
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        mistake(f"{show(value)} is no endpoint", 'write an IPv6 address in brackets: "[2001:db8::1]:57400"')
    return str(value)


Endpoint = Annotated[str, PlainValidator(_parse_endpoint), WithJsonSchema({"type": "string", "pattern": "^.+:[0-9]+$"})]

# --- numbers -----------------------------------------------------------------------------------------------

Whole = Annotated[int, Field(strict=True)]
IfIndex = Annotated[int, Field(strict=True, ge=1, le=MAX_IF_INDEX)]
Dscp = Annotated[int, Field(strict=True, ge=0, le=63)]
MlpsLevel = Annotated[int, Field(strict=True, ge=1, le=4)]
OctetsCorrection = Annotated[int, Field(strict=True, ge=-256, le=256)]
Flag = Annotated[bool, Field(strict=True)]


def _parse_rate(value: object) -> int:
    try:
        rate = parse_rate(value)
    except UnitError as error:
        mistake(error.message, error.remedy)
    if rate == 0:
        mistake("a rate of 0 bit/s", "write the rate, or leave the field out where there is none")
    return rate


Rate = Annotated[
    int,
    PlainValidator(_parse_rate),
    PlainSerializer(spell_rate, return_type=str),
    WithJsonSchema({"type": "string", "pattern": RATE_PATTERN, "examples": ["10 Gbit/s", "600 Mbit/s"]}),
]
"""Bit/s, from a text such as ``600 Mbit/s``."""

Range: TypeAlias = tuple[int, int]


def _parse_range(value: object, lowest: int, highest: int, kind: str) -> Range:
    if isinstance(value, int) and not isinstance(value, bool):
        first = last = value
    else:
        low, hyphen, high = value.partition("-") if isinstance(value, str) else ("", "", "")
        if not _is_number(low) or (hyphen and not _is_number(high)):
            mistake(f"{show(value)} is no {kind} and no range", 'write a number, or "low-high"')
        first, last = int(low), int(high or low)
    if not lowest <= first <= highest or not lowest <= last <= highest:
        mistake(f"{kind} {show(value)} is out of range", f"use {lowest} to {highest}")
    if first > last:
        mistake(f"{kind} range {show(value)} runs backwards", f'write "{last}-{first}"')
    return first, last


def spell_range(value: Range) -> int | str:
    """Write a range of ports or VLANs as the registry does: ``443`` or ``"8000-8009"``."""
    return value[0] if value[0] == value[1] else f"{value[0]}-{value[1]}"


_RANGE_SCHEMA: Final = [{"type": "string", "pattern": "^[0-9]+(-[0-9]+)?$"}]
PortRange = Annotated[
    Range,
    PlainValidator(lambda value: _parse_range(value, 0, MAX_PORT, "port")),
    PlainSerializer(spell_range, return_type=int | str),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_PORT}, *_RANGE_SCHEMA]}),
]
"""First and last port, both included, from a number or ``low-high``."""

VlanRange = Annotated[
    Range,
    PlainValidator(lambda value: _parse_range(value, 1, MAX_VLAN, "VLAN")),
    PlainSerializer(spell_range, return_type=int | str),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_VLAN}, *_RANGE_SCHEMA]}),
]
"""First and last VLAN, both included, from a number or ``low-high``."""


def _parse_protocol(value: object) -> int | None:
    if value == "any":
        return None
    if isinstance(value, str) and value in PROTOCOLS:
        return PROTOCOLS[value]
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value <= 255:
            return value
        mistake(f"protocol {value} is out of range", "use 0 to 255")
    mistake(f"unknown protocol {show(value)}", f"use one of any, {', '.join(PROTOCOLS)}, or a number")


def spell_protocol(protocol: int | None) -> str | int:
    """Write a protocol as the registry does: its name, a number, or ``any``."""
    return "any" if protocol is None else _PROTOCOL_NAMES.get(protocol, protocol)


Protocol = Annotated[
    int | None,
    PlainValidator(_parse_protocol),
    PlainSerializer(spell_protocol, return_type=int | str),
    WithJsonSchema({"anyOf": [{"enum": ["any", *PROTOCOLS]}, {"type": "integer", "minimum": 0, "maximum": 255}]}),
]
"""IP protocol number, None = any, from a name or a number."""

# --- addresses ---------------------------------------------------------------------------------------------


def _address_remedy(text: str) -> str:
    """Say what is wrong with a text that looks like an IPv4 address."""
    if _LEADING_ZERO.search(text):
        return "remove leading zeros: some programs read them as octal"
    if _IPV4_ADDRESS.match(text.split("/")[0]):
        return "the four numbers of an IPv4 address are 0 to 255"
    return 'write an IPv4 or IPv6 address, such as 172.16.0.10 or "2001:db8:a::10"'


def parse_address(value: object) -> Address:
    """Read an IPv4 or IPv6 address; a zone (``%eth0``) is refused."""
    if not isinstance(value, str):
        mistake(f"{show(value)} is no address", "write the address as a text")
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        remedy = "leave out the prefix length" if "/" in value else _address_remedy(value)
        mistake(f'"{value}" is no address', remedy)
    if "%" in value:
        mistake(f'"{value}" holds a zone', "write the address without %zone: routing instances tell places apart")
    return address


def parse_prefix(value: object) -> Network:
    """Read a prefix; a single address is a prefix of full length, host bits are refused."""
    if not isinstance(value, str):
        mistake(f"{show(value)} is no prefix", "write network/length, such as 198.18.40.0/22")
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        pass
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        address, slash, length = value.partition("/")
        remedy = _address_remedy(address)
        if slash:
            try:
                longest = ipaddress.ip_address(address).max_prefixlen
                remedy = f'"{length}" is no prefix length: use 0 to {longest}'
            except ValueError:
                pass
        mistake(f'"{value}" is no prefix', remedy)
    mistake(f'prefix "{value}" has host bits', f'write "{network}", or the address as /{network.max_prefixlen}')


AddressField = Annotated[
    Address,
    PlainValidator(parse_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
]

PrefixField = Annotated[
    Network,
    PlainValidator(parse_prefix),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["198.18.40.0/22", "2001:db8:a::/48"]}),
]
