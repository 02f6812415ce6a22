"""Whatever stands in a registry's files, loading gives a registry or a list of mistakes, never another error."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.config.positions import parse_yaml
from telemetryd.errors import Problem, ProblemsError
from telemetryd.registry.csv_file import COLUMNS, read_csv
from telemetryd.registry.load import load_registry
from tests.changed import changed
from tests.unit.registry_case import BASE

DATA: dict[str, Any] = yaml.safe_load(BASE)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["SRV-1", "hrss", "172.16.0.10", "0.0.0.0/0", "::/0", "CR01", "XGE1/0/1", "isp1", "4 Gbit/s", "443"]
    ),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, child in children for found in _paths(child, (*path, key)))]


PATHS = [path for path in _paths(DATA) if path]


def load(text: str) -> None:
    """Load a registry of one file; each mistake must have a place in it, and say something."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "city.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            load_registry(Path(directory))
        except ProblemsError as error:
            assert error.problems
            lines = text.count("\n") + text.count("\r") + text.count("\x85") + text.count("\u2028") + 2
            for problem in error.problems:
                assert problem.file == str(path)
                assert 0 <= problem.line <= lines + text.count("\u2029")
                assert problem.message and problem.remedy


@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES | st.just("remove")), min_size=1, max_size=4))
def test_any_value_anywhere(changes: list[tuple[tuple[str | int, ...], Any]]) -> None:
    """Values of any type in any place, or missing ones, are mistakes at a place or fine."""
    data = changed(DATA, changes)
    load(yaml.safe_dump(data, allow_unicode=True))


@given(st.lists(st.tuples(st.integers(0, len(BASE)), st.integers(0, 5), st.text(max_size=3)), max_size=5))
def test_any_text(edits: list[tuple[int, int, str]]) -> None:
    """A registry's text with parts cut out and characters put in never gives another error."""
    text = BASE
    for at, length, insert in edits:
        text = text[:at] + insert + text[at + length :]
    load(text)


@given(st.text(alphabet="ab:,[]{}&*!|>-#\"' \n\t12?%@`é中", max_size=60))
def test_any_yaml(text: str) -> None:
    """Parsing YAML gives a document or mistakes, and every value of a document can be located."""
    problems: list[Problem] = []
    document = parse_yaml(text, "f.yaml", problems)
    assert (document is None) == bool(problems)
    if document is not None:
        for path in _paths(document.data)[:20]:
            line, column = document.locate(path)
            assert line >= 1 and column >= 1


@given(st.sampled_from(sorted(COLUMNS)), st.text(alphabet='ab,"; \n\r12中', max_size=60))
def test_any_csv(section: str, rows: str) -> None:
    """A CSV is read or has mistakes, at places in it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x.csv"
        path.write_bytes((",".join(COLUMNS[section]) + "\n" + rows).encode())
        problems: list[Problem] = []
        document = read_csv(path, section, problems)
        for problem in problems:
            assert problem.line >= 1 and problem.column >= 1
        for line, column in document.positions.values():
            assert line >= 1 and column >= 1
