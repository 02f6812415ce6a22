"""A reader of line protocol, written from InfluxDB's documentation and independent of what writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One line, escapes undone; fields are float, or int where they have an ``i``."""

    measurement: str
    tags: dict[str, str]
    fields: dict[str, float | int]
    time_ns: int


def _split(text: str, at: str) -> list[str]:
    """Split at a character that no backslash stands before."""
    return re.split(rf"(?<!\\){at}", text)


def _plain(text: str, special: str) -> str:
    return re.sub(rf"\\([{special}])", r"\1", text)


def _value(text: str) -> float | int:
    if text.endswith("i"):
        return int(text[:-1])
    value = float(text)
    assert value - value == 0, f"{text} is not finite"
    return value


def parse_line(line: str) -> Point:
    """Read a line; an AssertionError or ValueError where it is none."""
    series, fields, time = _split(line, " ")
    measurement, *tags = _split(series, ",")
    assert measurement
    pairs = [_split(tag, "=") for tag in tags]
    assert all(len(pair) == 2 and all(pair) for pair in pairs), line
    names = [_plain(key, ",= ") for key, _ in pairs]
    assert len(set(names)) == len(names), f"a tag stands twice: {line}"
    values = [_split(field, "=") for field in _split(fields, ",")]
    assert all(len(pair) == 2 and all(pair) for pair in values), line
    return Point(
        _plain(measurement, ", "),
        dict(zip(names, (_plain(value, ",= ") for _, value in pairs), strict=True)),
        {_plain(key, ",= "): _value(text) for key, text in values},
        int(time),
    )


def parse_lines(octets: bytes) -> list[Point]:
    """Read lines, each ended by a line feed."""
    text = octets.decode()
    assert not text or text.endswith("\n")
    return [parse_line(line) for line in text.split("\n")[:-1]]
