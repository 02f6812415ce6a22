"""Load a registry: read every file, validate, join, check; all mistakes of all files in one run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from telemetryd.config.explain import explain, show
from telemetryd.config.positions import PathInData, read_yaml, without_gc
from telemetryd.errors import Problem, ProblemsError
from telemetryd.registry.check import check
from telemetryd.registry.models import IMPLICIT_INSTANCE, SECTIONS, City, Entity, Registry, RegistryFile
from telemetryd.registry.sources import Origin, Sources


class Document(Protocol):
    """What a registry is loaded from: data, and the position of everything in it."""

    @property
    def data(self) -> Any:
        """The content: a mapping of sections."""
        ...

    def where(self, path: PathInData, *, key: bool = False) -> tuple[str, int, int]:
        """Return (file, line, column) of a value, or of its nearest parent that exists."""
        ...


def load_registry(directory: Path) -> Registry:
    """Load and check the registry of all ``*.yaml`` files in `directory`.

    Raises
    ------
    ProblemsError
        With every mistake of every file: syntax, types, unknown names, duplicates, contradictions.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    with without_gc():
        documents = read_documents(directory, problems, warnings)
        return load_documents(directory, documents, problems, warnings)


def registry_files(directory: Path) -> list[Path]:
    """Return the files of a registry, in the order in which they are joined."""
    return sorted(path for path in directory.glob("*.yaml") if not path.name.startswith("."))


def read_documents(directory: Path, problems: list[Problem], warnings: list[Problem]) -> list[Document]:
    """Read every file of a registry; those that cannot be parsed are left out, with a problem."""
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        problems.append(Problem(str(directory), 0, 0, what, "give the directory that holds the registry's files"))
        return []
    files = registry_files(directory)
    if not files:
        problems.append(
            Problem(str(directory), 0, 0, "holds no *.yaml file", "give the directory of the registry's files")
        )
    warnings.extend(
        Problem(str(path), 0, 0, "is ignored", "name it *.yaml if it belongs to the registry")
        for path in sorted(directory.glob("*.yml"))
    )
    documents = (read_yaml(path, problems) for path in files)
    return [document for document in documents if document is not None]


def load_documents(
    directory: Path, documents: Iterable[Document], problems: list[Problem], warnings: list[Problem]
) -> Registry:
    """Validate, join and check documents.

    Parameters
    ----------
    problems, warnings:
        What reading the documents has found so far.

    Raises
    ------
    ProblemsError
        If there is any mistake.
    """
    # What a broken file would have declared is unknown: then references are not judged.
    sources = Sources(is_complete=not problems, problems=problems, warnings=warnings)
    sections: dict[str, list[Entity]] = {name: [] for name in SECTIONS}
    cities: list[tuple[City, Document]] = []
    for document in documents:
        for name, value in _validate(document, sources):
            if isinstance(value, City):
                cities.append((value, document))
                continue
            for index, entity in value:
                sections[name].append(entity)
                sources.origins[name].append(Origin(document, index))
    registry = Registry(directory, **{name: tuple(entities) for name, entities in sections.items()})  # type: ignore[arg-type]
    registry = _with_city(registry, cities, sources)
    if not registry.instances and not sources.broken["instances"] and sources.is_known("instances"):
        registry = replace(registry, instances=(IMPLICIT_INSTANCE,))
    check(registry, sources)
    if sources.problems:
        raise ProblemsError(sources.problems)
    return replace(registry, warnings=tuple(sorted(sources.warnings)))


def _validate(document: Document, sources: Sources) -> Iterable[tuple[str, Any]]:
    """Yield ("city", City) and (section, [(index, entity)]) of one document; note its mistakes."""
    data = document.data
    if not isinstance(data, dict):
        message = f"the file is {show(data)}, not a mapping"
        sources.problems.append(Problem(*document.where(()), message, 'start with "version: 1"'))
        sources.is_complete = False
        return
    try:
        valid = RegistryFile.model_validate(data)
    except ValidationError as error:
        sources.problems.extend(explain(error, RegistryFile, document.where, top="section"))
        yield from _valid_parts(data, sources)
        return
    if valid.city is not None:
        yield "city", valid.city
    for name in SECTIONS:
        if name in data:
            yield name, enumerate(getattr(valid, name))


def _valid_parts(data: dict[str, Any], sources: Sources) -> Iterable[tuple[str, Any]]:
    """Keep what is valid of a file with mistakes, so that the checks can go on with it."""
    if any(name not in RegistryFile.model_fields for name in data):
        sources.is_complete = False  # a misspelt section may declare any name
    if (city := _valid(City, data.get("city"))) is not None:
        yield "city", city
    for name, model in SECTIONS.items():
        entries = data.get(name, [])
        if not isinstance(entries, list):
            sources.unknown_sections.add(name)
            continue
        valid = []
        for index, entry in enumerate(entries):
            entity = _valid(model, entry)
            if entity is not None:
                valid.append((index, entity))
            elif isinstance(entry, dict) and isinstance(entry.get("name"), str):
                sources.broken[name][entry["name"]] = entry
            else:
                sources.unknown_sections.add(name)
        yield name, valid


def _valid(model: type[Entity], entry: object) -> Any:
    try:
        return model.model_validate(entry)
    except ValidationError:
        return None


def _with_city(registry: Registry, cities: list[tuple[City, Document]], sources: Sources) -> Registry:
    for _, document in cities[1:]:
        file, line, column = cities[0][1].where(("city",), key=True)
        sources.problems.append(
            Problem(
                *document.where(("city",), key=True),
                "the city is declared twice",
                f"keep one (the first is at {file}:{line}:{column})",
            )
        )
    return replace(registry, city=cities[0][0]) if cities else registry
