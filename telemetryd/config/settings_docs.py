"""Write the reference part of docs/configuration.md, and the JSON Schema, from the models.

``python -m telemetryd.config.settings_docs docs`` brings both files up to date; a test fails while one is
stale.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from telemetryd.config.explain import inner_model
from telemetryd.config.generated import replace_generated
from telemetryd.config.settings import Settings

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
BEGIN: Final = "<!-- generated from telemetryd/config/settings.py: do not edit below -->\n"
DOCUMENT: Final = "configuration.md"
SCHEMA: Final = "configuration.schema.json"
_PLURALS: Final = {"address": "addresses and networks", "path": "paths", "text": "names"}


def settings_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the daemon's configuration file, for editors."""
    schema = Settings.model_json_schema()
    return {"$schema": DIALECT, **schema, "title": "telemetryd configuration"}


def render_schema() -> str:
    """Return the schema as it is kept in docs/."""
    return json.dumps(settings_schema(), indent=2, ensure_ascii=False) + "\n"


def render_reference() -> str:
    """Return the reference of every setting, as Markdown."""
    return "".join(_section(Settings, "", Settings.model_json_schema()))


def update(text: str) -> str:
    """Return the document with its generated part replaced; InputError if it has no place for one."""
    return replace_generated(text, BEGIN, render_reference())


def _section(model: type[BaseModel], path: str, schema: dict[str, Any]) -> Iterator[str]:
    """Yield a heading, the table of the plain fields, and the sections within."""
    if path:
        yield f"\n## `{path}`\n\n"
    yield " ".join((model.__doc__ or "").split()) + "\n\n"
    yield "| setting | value | default | meaning |\n| --- | --- | --- | --- |\n"
    sections = []
    properties = _properties(schema, model)
    defaults = model.model_construct().model_dump(mode="json")  # of the fields that have one
    for name, field in model.model_fields.items():
        inner = inner_model(field.annotation)
        if inner is not None:
            several = "[]" if properties[name].get("type") == "array" else ""
            sections.append((inner, f"{path}.{name}{several}" if path else f"{name}{several}"))
            continue
        default = "required" if field.is_required() else _plain(defaults[name])
        yield f"| `{name}` | {_kind(properties[name])} | {default} | {field.description} |\n"
    for inner, inner_path in sections:
        yield from _section(inner, inner_path, schema)


def _properties(schema: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    owner = schema if schema["title"] == model.__name__ else schema["$defs"][model.__name__]
    properties: dict[str, Any] = owner["properties"]
    return properties


def _plain(value: object) -> str:
    if value is None:
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _kind(schema: dict[str, Any]) -> str:
    """Describe the values of a field by its JSON Schema."""
    alternatives = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
    if len(alternatives) > 1:
        return ", or ".join(map(_kind, alternatives))
    schema = alternatives[0] if alternatives else schema
    if schema.get("type") == "array":
        kind = _kind(schema["items"])
        return f"list of {_PLURALS.get(kind, kind)}"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") in ("integer", "number"):
        return f"{schema['minimum']} to {schema['maximum']}"
    if schema.get("type") == "boolean":
        return "`true`, `false`"
    if "examples" in schema:
        return "address"
    if schema.get("format") == "uri":
        return "URL"
    if "maxLength" in schema:
        return "name" if "pattern" in schema else "text"
    pattern = schema.get("pattern", "")
    if "bit" in pattern:
        return "rate"
    if "%" in pattern:
        return "part in %"
    return "size" if "KiB" in pattern else "duration" if "min" in pattern else "path"


def main(arguments: list[str]) -> None:
    """Bring the documents in the directory that is named on the command line up to date."""
    directory = Path(arguments[0])
    document = directory / DOCUMENT
    document.write_text(update(document.read_text(encoding="utf-8")), encoding="utf-8")
    (directory / SCHEMA).write_text(render_schema(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
