"""Write plain data as YAML: block style down to the entities, one compact flow mapping an entity."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Plain scalars that need no quotes inside a flow collection: no YAML indicator, no comma, no colon.
_PLAIN = re.compile(
    r"[A-Za-z\u4e00-\u9fff][\w./+()\u4e00-\u9fff -]*(?<! )|[0-9]+[./-][\w./-]+|[0-9.]+ [A-Z][a-z]?[a-z]+/s"
)
_NOT_TEXT = re.compile(
    r"(?i)y|n|yes|no|on|off|true|false|null|[-+.0-9][0-9_]*\.?[0-9_]*(e[-+]?[0-9]+)?|\d{4}-\d\d?-\d\d?.*"
)


def scalar(value: object) -> str:
    """Return ``value`` (str, bool, int or float) as a YAML scalar that is safe in a flow collection."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and not _NOT_TEXT.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def flow(value: object) -> str:
    """Return ``value`` as one line of flow style."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def document(comment: str, sections: Mapping[str, Any], long: Mapping[str, Sequence[str]] = {}) -> str:
    """Return a registry or traffic file.

    ``sections`` maps a name to a mapping or to a list of entities. ``long`` names, for a section, the
    fields of an entity that are lists too long for the entity's line: each of their items gets a line.
    """
    lines = [*(f"# {line}".rstrip() for line in comment.splitlines()), "version: 1"]
    for name, content in sections.items():
        if isinstance(content, Mapping):
            lines.append(f"{name}:")
            lines += [f"  {scalar(key)}: {flow(item)}" for key, item in content.items()]
            continue
        lines.append(f"{name}:")
        for entity in content:
            fields = [field for field in long.get(name, ()) if entity.get(field)]
            if not fields:
                lines.append(f"  - {flow(entity)}")
                continue
            marker = "-"
            for field, item in entity.items():
                if field in fields:
                    lines.append(f"  {marker} {field}:")
                    lines += [f"      - {flow(part)}" for part in item]
                else:
                    lines.append(f"  {marker} {field}: {flow(item)}")
                marker = " "
    return "\n".join(lines) + "\n"
