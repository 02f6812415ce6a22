"""Add entries to a YAML text and leave every other character of it as it is, comments included.

The composed nodes say where a list ends in the text; the new entries are written there in flow style,
one a line. Whoever calls compares the data afterwards: a text laid out in a way not foreseen here is
then refused, never damaged.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import yaml

from telemetryd.config.positions import PathInData, YamlDocument, resolve_scalar

# What YAML 1.1 and 1.2 both read as this very text, in flow style too.
_SAFE = re.compile(r"[A-Za-z0-9_\u4e00-\u9fff][A-Za-z0-9_./@+()（）\u4e00-\u9fff -]*\Z")
_YAML_1_1_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))
_STARTS_LIKE_A_NUMBER = re.compile(r"[0-9][0-9_.eExXoObB+-]*\Z")
_PREFIX_OR_ADDRESS = re.compile(r"[0-9]+(?:\.[0-9]+){3}(?:/[0-9]+)?\Z|[0-9]+-[0-9]+\Z")


class Edit(NamedTuple):
    """A text to insert at an offset."""

    offset: int
    text: str


def write_flow(value: Any) -> str:
    """Write plain data in YAML's flow style, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{write_flow(key)}: {write_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(write_flow, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    is_safe = (
        _SAFE.match(value)
        and value[-1] != " "
        and value.lower() not in _YAML_1_1_WORDS
        and isinstance(resolve_scalar(value), str)
        and (not _STARTS_LIKE_A_NUMBER.match(value) or _PREFIX_OR_ADDRESS.match(value))
    )
    return value if is_safe else json.dumps(value, ensure_ascii=False)


def new_file(section: str, entries: list[Any]) -> str:
    """Write a registry file that holds one section."""
    lines = "".join(f"  - {write_flow(entry)}\n" for entry in entries)
    return f"version: 1\n{section}:\n{lines}"


def append_to(document: YamlDocument, path: PathInData, entries: list[Any]) -> Edit:
    """Return the edit that adds `entries` to the list at `path`, making the list where it is missing.

    The mapping that holds the list must exist.
    """
    key, node, depth = document.node(path)
    del key
    newline = "\r\n" if "\r\n" in document.text else "\n"
    flow = [write_flow(entry) for entry in entries]
    if depth == len(path) and isinstance(node, yaml.SequenceNode):
        if node.flow_style or not node.value:
            return _append_to_flow(node, flow)
        indent = " " * node.start_mark.column
        lines = [f"{indent}- {item}" for item in flow]
        return _insert_lines(document.text, _end(node), lines, newline)
    name = str(path[-1])
    assert isinstance(node, yaml.MappingNode), "the caller has made sure of the mapping"
    if node.flow_style:
        separator = ", " if node.value else ""
        offset = node.value[-1][1].end_mark.index if node.value else node.start_mark.index + 1
        return Edit(offset, f"{separator}{name}: [{', '.join(flow)}]")
    indent = " " * node.start_mark.column
    lines = [f"{indent}{name}:", *(f"{indent}  - {item}" for item in flow)]
    return _insert_lines(document.text, _end(node), lines, newline)


def apply(text: str, edits: list[Edit]) -> str:
    """Return the text with all edits made."""
    for edit in sorted(edits, reverse=True):
        text = text[: edit.offset] + edit.text + text[edit.offset :]
    return text


def _append_to_flow(node: yaml.Node, flow: list[str]) -> Edit:
    joined = ", ".join(flow)
    if node.value:
        return Edit(node.value[-1].end_mark.index, f", {joined}")
    return Edit(node.start_mark.index + 1, joined)


def _insert_lines(text: str, offset: int, lines: list[str], newline: str) -> Edit:
    """Insert lines after the line that holds `offset`, keeping its comment."""
    if offset > 0 and text[offset - 1] != "\n":
        end = text.find("\n", offset)
        if end < 0:
            return Edit(len(text), newline + newline.join(lines) + newline)
        offset = end + 1
    return Edit(offset, newline.join(lines) + newline)


def _end(node: yaml.Node) -> int:
    """Return the offset where a node's own text ends; a block collection's mark stands at what follows it."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    if isinstance(last, tuple):
        key, value = last
        is_empty = value.start_mark.index == value.end_mark.index
        return int(key.end_mark.index) if is_empty else _end(value)
    return _end(last)
