"""Turn pydantic's validation errors into problems that say what is wrong and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Protocol, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from telemetryd.config.positions import PathInData
from telemetryd.errors import Problem


class Where(Protocol):
    """``where`` of a document."""

    def __call__(self, path: PathInData, *, key: bool = False) -> tuple[str, int, int]:
        """Return (file, line, column) of the value at `path`, or of its key."""
        ...


def suggest(name: str, known: Iterable[str], otherwise: str) -> str:
    """Write ``did you mean "..."?`` where a known name is near, else `otherwise`."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    if not close:
        # Case alone must not keep a name from being found.
        by_case = {candidate.lower(): candidate for candidate in known}
        close = [by_case[match] for match in difflib.get_close_matches(name.lower(), list(by_case), n=1)]
    return f"did you mean {_join([quote(candidate) for candidate in close])}?" if close else otherwise


def quote(text: object) -> str:
    """Put a name between quotation marks."""
    return f'"{text}"'


def _join(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " or " + items[-1]


def show(value: object) -> str:
    """Write a value of the data for a message."""
    if isinstance(value, str):
        return quote(value if len(value) <= 60 else value[:57] + "...")
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else str(value)


def explain(error: ValidationError, model: type[BaseModel], where: Where, *, top: str = "field") -> list[Problem]:
    """Return one problem for each error, at the position of its value (or key, where that is wrong).

    Parameters
    ----------
    error:
        What validation of `model` raised.
    where:
        Gives (file, line, column) of a path in the document.
    top:
        What a key of the outermost mapping is called.
    """
    problems = []
    for details in error.errors(include_url=False):
        path = tuple(details["loc"])
        if details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]:
            continue  # its entries are there; they have mistakes of their own
        is_key = details["type"] == "extra_forbidden"
        message, remedy = _words(details, model, path, top if len(path) == 1 else "field")
        problems.append(Problem(*where(path, key=is_key), message, remedy))
    return problems


def model_at(model: type[BaseModel], path: PathInData) -> type[BaseModel] | None:
    """Return the model of the mapping at `path` below a mapping of `model`."""
    current: type[BaseModel] | None = model
    for step in path:
        if isinstance(step, int):
            continue
        if current is None:
            return None
        field = next((f for n, f in current.model_fields.items() if (f.alias or n) == step), None)
        current = inner_model(field.annotation) if field is not None else None
    return current


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as ``tuple[Model, ...]`` or ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := inner_model(part)) is not None), None)


def field_names(model: type[BaseModel]) -> dict[str, str]:
    """Return the fields of a model as written in files -> their descriptions."""
    return {field.alias or name: field.description or "" for name, field in model.model_fields.items()}


def _words(details: ErrorDetails, model: type[BaseModel], path: PathInData, noun: str) -> tuple[str, str]:
    """Say one error and its remedy."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    field = next((str(step) for step in reversed(path) if isinstance(step, str)), "the file")
    item = f'an entry of "{field}"' if path and isinstance(path[-1], int) else f'"{field}"'
    if "remedy" in context:
        return f"{item}: {context['message']}", context["remedy"]
    if kind == "missing":
        owner = model_at(model, path[:-1])
        return (
            f"{item} is missing",
            f"add it: {field_names(owner or model).get(field) or 'see the reference'}",
        )
    if kind == "extra_forbidden":
        known = list(field_names(model_at(model, path[:-1]) or model))
        return f"unknown {noun} {item}", suggest(field, known, f"use one of {', '.join(known)}")
    if kind == "literal_error":
        expected = str(context["expected"]).replace("'", '"').replace(" or ", ", ")
        options = [option.strip('" ') for option in expected.split(",")]
        choice = f"use {expected}" if len(options) == 1 else f"use one of {', '.join(options)}"
        near = suggest(value, options, "") if isinstance(value, str) else ""
        return f"{item} is {show(value)}", f"{near} {choice}".strip()
    return _words_of_type(kind, value, context, item)


def _words_of_type(kind: str, value: object, context: dict[str, Any], item: str) -> tuple[str, str]:
    found = f"{item} is {show(value)}"
    if kind == "string_type":
        is_scalar = isinstance(value, int | float)
        return f"{found}, not a text", "put it in quotes" if is_scalar else "write a text"
    if kind == "string_pattern_mismatch":
        upper = "letters" if "A-Z" in context["pattern"] else "lower-case letters"
        return f"{found}, which is no name", f"use {upper}, digits, dots, hyphens and underscores"
    if kind == "string_too_long":
        return f"{found}: it is too long", f"use at most {context['max_length']} characters"
    if kind in ("too_short", "string_too_short"):
        return f"{item} has too few entries" if kind == "too_short" else f"{item} is empty", (
            f"write at least {context['min_length']}"
        )
    if kind in ("int_type", "int_from_float", "int_parsing"):
        quoted = isinstance(value, str) and value.lstrip("-").isdecimal()
        return f"{found}, not a whole number", "remove the quotes" if quoted else "write a whole number"
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return f"{found}, which is out of range", f"use a number of {bound}"
    if kind == "bool_type":
        return f"{found}, not true or false", "write true or false, without quotes"
    if kind == "tuple_type":
        return f"{found}, not a list", "write a list: [a, b], or one entry a line after hyphens"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{found}, not a mapping", "write a mapping of fields: {name: value, ...}"
    return f"{found}: {kind.replace('_', ' ')}", "see the reference of the format"
