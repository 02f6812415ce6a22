"""The types of the settings' values: how each is read, checked, shown, and described for editors."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from telemetryd.config import units
from telemetryd.config.explain import show
from telemetryd.config.retention import DEFAULT_KEEP_NS, FLOOR_NS, FLOOR_REASON

MAX_PORT: Final = 65535
MEBIBYTE: Final = 1 << 20
SECOND_NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * SECOND_NS


def mistake(message: str, remedy: str) -> NoReturn:
    """Refuse a value, from within its validator."""
    raise PydanticCustomError("telemetryd", "{message}", {"message": message, "remedy": remedy})


def _quantity(
    parse: Callable[[object], int],
    spell: Callable[[int], str],
    pattern: str,
    lowest: int,
    highest: int,
    floor_reason: str | None = None,
) -> tuple[Any, ...]:
    def validate(value: object) -> int:
        try:
            number = parse(value)
        except units.UnitError as error:
            mistake(error.message, error.remedy)
        if number < lowest and floor_reason is not None:
            mistake(f'"{value}" is less than {spell(lowest)}', floor_reason)
        if not lowest <= number <= highest:
            mistake(f'"{value}" is out of range', f'use "{spell(lowest)}" to "{spell(highest)}"')
        return number

    limits = f"{spell(lowest)} to {spell(highest)}"
    schema = {"type": "string", "pattern": pattern, "description": limits}
    return PlainValidator(validate), PlainSerializer(spell, return_type=str), WithJsonSchema(schema)


def size(lowest: int, highest: int) -> tuple[Any, ...]:
    """Return the annotations of a size in octets."""
    return _quantity(units.parse_size, units.spell_size, units.SIZE_PATTERN, lowest, highest)


def duration(lowest: int, highest: int, floor_reason: str | None = None) -> tuple[Any, ...]:
    """Return the annotations of a duration in ns."""
    return _quantity(units.parse_duration, units.spell_duration, units.DURATION_PATTERN, lowest, highest, floor_reason)


def rate(lowest: int, highest: int) -> tuple[Any, ...]:
    """Return the annotations of a rate in bit/s."""
    return _quantity(units.parse_rate, units.spell_rate, units.RATE_PATTERN, lowest, highest)


def part(lowest: float, highest: float) -> tuple[Any, ...]:
    """Return the annotations of a part, written in percent."""

    def spell(value: float) -> str:
        return f"{100 * value:.10g} %"

    def validate(value: object) -> float:
        try:
            if not isinstance(value, str) or not value.rstrip().endswith("%"):
                raise ValueError
            number = float(Fraction(value.rstrip()[:-1].strip()) / 100)
        except (ValueError, ZeroDivisionError):
            mistake(f"{show(value)} is no part", 'write such as "90 %"')
        if not lowest <= number <= highest:
            mistake(f'"{value}" is out of range', f'use "{spell(lowest)}" to "{spell(highest)}"')
        return number

    schema = {
        "type": "string",
        "pattern": "^[0-9]+(\\.[0-9]+)? ?%$",
        "description": f"{spell(lowest)} to {spell(highest)}",
    }
    return PlainValidator(validate), PlainSerializer(spell, return_type=str), WithJsonSchema(schema)


def _parse_path(value: object, info: ValidationInfo) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        mistake(f"{show(value)} is no path", "write the path as a text")
    return Path((info.context or {}).get("directory", "."), value)


def _parse_address(value: object) -> str:
    if isinstance(value, str):
        try:
            return str(ip_address(value))
        except ValueError:
            pass
    return mistake(f"{show(value)} is no IP address", 'write one such as "127.0.0.1", "::1", "0.0.0.0" or "::"')


def _parse_network(value: object) -> str:
    if isinstance(value, str):
        try:
            network = ip_network(value)
        except ValueError:
            pass
        else:
            return str(network.network_address if network.num_addresses == 1 else network)
    return mistake(f"{show(value)} is no IP address and no network", 'write one such as "192.0.2.1" or "192.0.2.0/24"')


def _parse_url(value: object) -> str:
    """Check the URL of a server; what a log may show of it is all of it."""
    remedy = 'write one such as "https://influxdb.example:8086"'
    if not isinstance(value, str):
        mistake(f"{show(value)} is no URL", remedy)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        mistake(f"{show(value)} is no URL", remedy)
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not value.isprintable():
        mistake(f"{show(value)} is no URL of a server", remedy)
    if parts.username is not None or parts.password is not None:
        mistake("a URL must not hold a user or a password", "put user:password into the file that token_file names")
    if parts.query or parts.fragment:
        mistake(f"{show(value)} has a query or a fragment", remedy)
    return value.rstrip("/")


def _parse_span(value: object) -> int:
    try:
        span_ns = units.parse_duration(value)
    except units.UnitError as error:
        mistake(error.message, error.remedy)
    if span_ns not in DEFAULT_KEEP_NS:
        mistake(
            f'there are no windows of "{value}"', f"choose of {', '.join(map(units.spell_duration, DEFAULT_KEEP_NS))}"
        )
    return span_ns


FilePath = Annotated[
    Path, PlainValidator(_parse_path), PlainSerializer(str), WithJsonSchema({"type": "string", "minLength": 1})
]
OptionalPath = Annotated[
    Path | None,
    PlainValidator(lambda value, info: None if value is None else _parse_path(value, info)),
    PlainSerializer(lambda path: None if path is None else str(path)),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}]}),
]
Url = Annotated[
    str,
    PlainValidator(_parse_url),
    WithJsonSchema({"type": "string", "format": "uri", "pattern": "^https?://", "description": "URL"}),
]
CredentialName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=255)]
OutputName = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9._-]*$", max_length=40)]
Text = Annotated[str, Field(min_length=1, max_length=255)]
Address = Annotated[str, PlainValidator(_parse_address), WithJsonSchema({"type": "string", "examples": ["127.0.0.1"]})]
Network = Annotated[
    str, PlainValidator(_parse_network), WithJsonSchema({"type": "string", "examples": ["192.0.2.0/24"]})
]
Port = Annotated[int, Field(ge=0, le=MAX_PORT)]
BufferSize = Annotated[int, *size(64 << 10, 1 << 30)]
BacklogSize = Annotated[int, *size(MEBIBYTE, 1 << 36)]
DrainTime = Annotated[int, *duration(100_000_000, 600 * SECOND_NS)]
Retention = Annotated[int, *duration(3600 * SECOND_NS, 36_525 * DAY_NS)]
LawfulRetention = Annotated[int, *duration(FLOOR_NS, 36_525 * DAY_NS, FLOOR_REASON)]
Span = Annotated[
    int,
    PlainValidator(_parse_span),
    PlainSerializer(units.spell_duration, return_type=str),
    WithJsonSchema({"enum": [units.spell_duration(span_ns) for span_ns in DEFAULT_KEEP_NS]}),
]
SpoolSize = Annotated[int, *size(16 * MEBIBYTE, 1 << 42)]
RequestTime = Annotated[int, *duration(SECOND_NS, 600 * SECOND_NS)]


class Section(BaseModel):
    """What all sections have in common: frozen, no unknown field, no conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
