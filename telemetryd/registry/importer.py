"""Import entries from a CSV into a registry, keeping its files as their writers left them."""

from __future__ import annotations

import copy
import difflib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telemetryd.config.explain import suggest
from telemetryd.config.positions import PathInData, YamlDocument, parse_yaml, without_gc
from telemetryd.errors import InputError, Problem, ProblemsError
from telemetryd.registry.append import Edit, append_to, apply, new_file
from telemetryd.registry.csv_file import COLUMNS, CsvDocument, read_csv
from telemetryd.registry.load import Document, load_documents, read_documents

IMPORTABLE = tuple(COLUMNS)


@dataclass(frozen=True, slots=True)
class Change:
    """A file of the registry as it is (None = new) and as it shall be."""

    path: Path
    before: str | None
    after: str

    def diff(self) -> Iterator[str]:
        """Yield the lines of a unified diff."""
        return difflib.unified_diff(
            (self.before or "").splitlines(),
            self.after.splitlines(),
            str(self.path) if self.before is not None else os.devnull,
            str(self.path),
            lineterm="",
            n=1,
        )


@dataclass(frozen=True, slots=True)
class Import:
    """A checked import, not yet written."""

    section: str
    entries: int
    changes: tuple[Change, ...]
    warnings: tuple[Problem, ...]

    def write(self) -> None:
        """Replace each file at once, by a temporary file beside it.

        Raises
        ------
        InputError
            If a file has been changed meanwhile or can't be written; files before it are written then.
        """
        for change in self.changes:
            _replace(change)


def plan_import(section: str, csv_path: Path, directory: Path) -> Import:
    """Read a CSV, check the registry as it would be with it, and prepare the new files.

    Parameters
    ----------
    section:
        One of :data:`IMPORTABLE`; ``interfaces`` go into the devices that they name.

    Raises
    ------
    InputError
        If the section can't be imported, or a file is laid out so that nothing can be added safely.
    ProblemsError
        With all mistakes of the CSV (``FILE.csv:line:column``) and of the registry.
    """
    if section not in COLUMNS:
        remedy = suggest(section, IMPORTABLE, f"use one of {', '.join(IMPORTABLE)}")
        raise InputError(f'section "{section}" cannot be imported - {remedy}')
    problems: list[Problem] = []
    table = read_csv(csv_path, section, problems)
    if problems:
        raise ProblemsError(problems)
    warnings: list[Problem] = []
    with without_gc():
        documents = read_documents(directory, problems, warnings)
        files = [document for document in documents if isinstance(document, YamlDocument)]
        if section == "interfaces":
            changes, joined = _plan_interfaces(table, files, problems)
        else:
            changes, joined = _plan_section(section, table, directory, files)
        registry = load_documents(directory, joined, problems, warnings)
    return Import(section, len(table.data[section]), tuple(changes), registry.warnings)


def _plan_section(
    section: str, table: CsvDocument, directory: Path, files: list[YamlDocument]
) -> tuple[list[Change], list[Document]]:
    """Append entries to SECTION.yaml; the CSV itself joins the registry as one more document."""
    path = directory / f"{section}.yaml"
    entries = table.data[section]
    joined: list[Document] = [*files, table]
    if not entries:
        return [], joined
    document = next((document for document in files if document.file == str(path)), None)
    if document is None:
        if path.exists():  # it can't be parsed: loading says why
            return [], joined
        return [Change(path, None, new_file(section, entries))], joined
    if not isinstance(document.data, dict) or not isinstance(document.data.get(section, []), list):
        return [], joined
    expected = {**document.data, section: [*document.data.get(section, []), *entries]}
    return [_change(document, [append_to(document, (section,), entries)], expected)], joined


class _ExtendedDocument:
    """A file of the registry with interfaces of a CSV added to its devices."""

    def __init__(self, document: YamlDocument, table: CsvDocument) -> None:
        self.data: Any = copy.deepcopy(document.data)
        self._document = document
        self._table = table
        self._rows: dict[PathInData, int] = {}  # path of an added interface -> row of the CSV

    def add(self, device: int, interface: dict[str, Any], row: int) -> None:
        """Add an interface to the device at index `device`."""
        interfaces = self.data["devices"][device].setdefault("interfaces", [])
        self._rows["devices", device, "interfaces", len(interfaces)] = row
        interfaces.append(interface)

    def where(self, path: PathInData, *, key: bool = False) -> tuple[str, int, int]:
        """Return (file, line, column) in the registry's file, or in the CSV for what comes from there."""
        row = self._rows.get(path[:4])
        if row is None:
            return self._document.where(path, key=key)
        return self._table.where(("interfaces", row, *path[4:]), key=key)


def _plan_interfaces(
    table: CsvDocument, files: list[YamlDocument], problems: list[Problem]
) -> tuple[list[Change], list[Document]]:
    """Add interfaces to the devices that the rows name."""
    places = {
        entry["name"]: (number, index)
        for number, document in enumerate(files)
        if isinstance(document.data, dict) and isinstance(document.data.get("devices"), list)
        for index, entry in enumerate(document.data["devices"])
        if isinstance(entry, dict) and isinstance(entry.get("name"), str) and _has_list(entry)
    }
    added: dict[tuple[int, int], list[dict[str, Any]]] = {}
    extended: dict[int, _ExtendedDocument] = {}
    for row, interface in enumerate(table.data["interfaces"]):
        entry = dict(interface)
        device = entry.pop("device", "")
        if device not in places:
            remedy = suggest(device, places, "declare it in devices first, or correct the name")
            position = table.where(("interfaces", row, "device"))
            problems.append(Problem(*position, f'device "{device}" is unknown', remedy))
            continue
        number, index = places[device]
        extended.setdefault(number, _ExtendedDocument(files[number], table)).add(index, entry, row)
        added.setdefault((number, index), []).append(entry)
    changes = []
    for number, document in extended.items():
        edits = [
            append_to(files[number], ("devices", index, "interfaces"), entries)
            for (file, index), entries in added.items()
            if file == number
        ]
        changes.append(_change(files[number], edits, document.data))
    return changes, [extended.get(number, document) for number, document in enumerate(files)]


def _has_list(device: dict[str, Any]) -> bool:
    return isinstance(device.get("interfaces", []), list)


def _change(document: YamlDocument, edits: list[Edit], expected: Any) -> Change:
    """Make the edits and prove that they add what they should, and nothing else."""
    after = apply(document.text, edits)
    problems: list[Problem] = []
    parsed = parse_yaml(after, document.file, problems)
    if parsed is None or parsed.data != expected:
        raise InputError(
            f"{document.file} is laid out so that nothing can be added safely - "
            "write the list in block style (one entry a line after hyphens), or add the entries by hand"
        )
    return Change(Path(document.file), document.text, after)


def _replace(change: Change) -> None:
    path = change.path.resolve()
    try:
        mark = b""
        if change.before is not None:
            octets = path.read_bytes()
            mark = b"\xef\xbb\xbf" if octets.startswith(b"\xef\xbb\xbf") else b""
            if octets[len(mark) :] != change.before.encode():
                raise InputError(f"{change.path} has been changed meanwhile - run the import again")
        elif path.exists():
            raise InputError(f"{change.path} has appeared meanwhile - run the import again")
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as temporary:
            try:
                temporary.write(mark + change.after.encode())
                temporary.flush()
                os.fsync(temporary.fileno())
                if change.before is not None:
                    shutil.copymode(path, temporary.name)
                else:
                    Path(temporary.name).chmod(0o644)
                Path(temporary.name).replace(path)
            except BaseException:
                Path(temporary.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise InputError(f"{change.path} cannot be written: {error.strerror}") from error
