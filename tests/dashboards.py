"""The shipped dashboards, and their queries as Grafana would send them."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

DIRECTORY = Path(__file__).parents[1] / "dashboards"


def builder() -> ModuleType:
    """Return dashboards/build.py."""
    spec = importlib.util.spec_from_file_location("dashboards_build", DIRECTORY / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Query:
    """One query: where it stands, its language, and its text with variables in it."""

    where: str
    language: str
    text: str
    is_values: bool = False

    def filled(self, values: Mapping[str, str]) -> str:
        """Return the text with the variables filled in; ``${name:regex}`` is escaped for a regular expression."""

        def fill(match: re.Match[str]) -> str:
            value = values[match[1]]
            return re.sub(r"([/\\.*+?^$|()\[\]{}-])", r"\\\1", value) if match[2] else value

        text = re.sub(r"\$\{(\w+)(:regex)?\}", fill, self.text)
        assert "${" not in text
        return text.replace("$timeFilter", values["timeFilter"])


def documents() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield every dashboard as it is shipped."""
    for path in sorted(DIRECTORY.glob("*/*.json")):
        yield path, json.loads(path.read_text(encoding="utf-8"))


def queries() -> list[Query]:
    """Return every query of every dashboard."""
    found = []
    for path, document in documents():
        language = path.parent.name
        for panel in document["panels"]:
            where = f"{language}/{path.stem}: {panel['title']}"
            found += [Query(where, language, target["query"]) for target in panel["targets"]]
        for one in document["templating"]["list"]:
            if one["type"] == "query":
                found.append(Query(f"{language}/{path.stem}: ${one['name']}", language, one["query"], is_values=True))
    return found
