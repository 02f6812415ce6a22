"""Write the reference part of docs/registry.md from the models.

``python -m telemetryd.registry.reference_docs docs/registry.md`` brings the file up to date; a test
fails while it is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from telemetryd.config.explain import inner_model
from telemetryd.config.generated import replace_generated
from telemetryd.registry.csv_file import COLUMNS
from telemetryd.registry.models import SECTIONS, City, Entity, Title

BEGIN: Final = "<!-- generated from telemetryd/registry/models.py: do not edit below -->\n"


def render_reference() -> str:
    """Return the reference of every section and field, as Markdown."""
    parts = ["## `city`\n\n", *_model(City)]
    for section, model in SECTIONS.items():
        parts += [f"\n## `{section}`\n\n", *_model(model)]
    parts.append("\n## Columns of `registry import`\n\n")
    parts.append("| section | columns |\n| --- | --- |\n")
    for section, columns in COLUMNS.items():
        parts.append(f"| `{section}` | {', '.join(f'`{name}`' for name in columns)} |\n")
    return "".join(parts)


def update(text: str) -> str:
    """Return the document with its generated part replaced; InputError if it has no place for one."""
    return replace_generated(text, BEGIN, render_reference())


def _model(model: type[Entity]) -> Iterator[str]:
    yield f"{_paragraphs(model)}\n\n| field | value | default | meaning |\n| --- | --- | --- | --- |\n"
    yield from _fields(model, "")


def _paragraphs(model: type[Entity]) -> str:
    """Return a model's docstring, one line a paragraph."""
    lines = (model.__doc__ or "").strip().split("\n\n")
    return "\n\n".join(" ".join(line.split()) for line in lines)


def _fields(model: type[Entity], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = prefix + (field.alias or name)
        inner = inner_model(field.annotation)
        meaning = field.description or ""
        yield f"| `{path}` | {_kind(model, field, field.alias or name)} | {_default(field)} | {meaning} |\n"
        if inner is not None and issubclass(inner, Entity) and inner is not Title:
            is_list = "tuple" in str(field.annotation)
            yield from _fields(inner, f"{path}{'[]' if is_list else ''}.")


def _kind(model: type[Entity], field: FieldInfo, name: str) -> str:
    """Describe the values of a field by its JSON Schema."""
    schema = model.model_json_schema(by_alias=True)
    return _describe(schema["properties"][name], schema.get("$defs", {}), field)


def _describe(schema: dict[str, Any], definitions: dict[str, Any], field: FieldInfo) -> str:
    if "$ref" in schema:
        return "mapping"
    if "anyOf" in schema:
        options = [option for option in schema["anyOf"] if option.get("type") != "null"]
        formats = [str(option["format"]) for option in options if "format" in option]
        if formats:
            return "address"
        return " or ".join(dict.fromkeys(_describe(option, definitions, field) for option in options))
    if schema.get("type") == "array":
        items = _describe(schema["items"], definitions, field)
        return "list of mappings" if items == "mapping" else f"list of {items}"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "integer":
        low, high = schema.get("minimum"), schema.get("maximum")
        return "whole number" if low is None or high is None else f"{low} to {high}"
    if schema.get("type") == "boolean":
        return "`true`, `false`"
    if schema.get("examples"):
        return f"text, such as `{schema['examples'][0]}`"
    if "%" in schema.get("pattern", ""):
        return "part, such as `95 %`"
    return "name" if "A-Za-z" in schema.get("pattern", "") or "a-z0-9" in schema.get("pattern", "") else "text"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.default
    if default is None or default is PydanticUndefined or default == ():
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def main(arguments: list[str]) -> None:
    """Bring the document that is named on the command line up to date."""
    path = Path(arguments[0])
    path.write_text(update(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
