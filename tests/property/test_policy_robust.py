"""Whatever stands in a policy's files, loading gives policies or a list of mistakes; what loads can be divided."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetryd.allocate.demand_file import parse_demand
from telemetryd.allocate.place import place
from telemetryd.errors import ProblemsError
from telemetryd.policy.load import load_policies
from tests.changed import changed
from tests.policy_case import BASE, registry, write

DATA: dict[str, Any] = yaml.load(
    BASE, yaml.BaseLoader
)  # scalars stay texts, as the loader of policies reads most of them
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["hrss", "exam", "CORE", "exit", "isp1", "4 Gbit/s", "60%", "mon-fri", "22:00-06:00", "2026-11-28 08:00"]
    ),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
DEMAND = """\
link,direction,department,application,demand
exit,out,hrss,exam,5 Gbit/s
isp2,out,finance,video,3 Gbit/s
exit,in,finance,forum,2 Gbit/s
exit,out,,dns,10 Mbit/s
"""


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, child in children for found in _paths(child, (*path, key)))]


PATHS = [path for path in _paths(DATA) if path]


def load_and_divide(text: str) -> None:
    """Load a policy; each mistake must have a place in it, and say something. Divide what loads."""
    with tempfile.TemporaryDirectory() as directory:
        path = write(Path(directory), "version: 1")
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            policies = load_policies([path], registry())
        except ProblemsError as error:
            assert error.problems
            for problem in error.problems:
                assert problem.file.startswith(directory)
                assert problem.line >= 0
                assert problem.message and problem.remedy
            return
    demands, _ = parse_demand(DEMAND, "demand.csv", registry())
    placed, unmanaged = place(policies, registry(), demands, datetime(2026, 11, 28, 1, tzinfo=UTC))
    divided = sum(int(one.allocate().bounds.wanted[0] > 0) for one in placed)
    assert divided or len(unmanaged) == len(demands)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES | st.just("remove")), min_size=1, max_size=3))
def test_any_value_anywhere(changes: list[tuple[tuple[str | int, ...], Any]]) -> None:
    """Values of any type in any place, or missing ones, are mistakes at a place or fine."""
    data = changed(DATA, changes)
    text = yaml.safe_dump(data, allow_unicode=True)
    for number in ("1", "4", "5", "0.5"):
        text = text.replace(f"'{number}'", number)  # numbers, which BaseLoader read as texts
    load_and_divide(text)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, len(BASE)), st.integers(0, 5), st.text(max_size=3)), max_size=3))
def test_any_text(edits: list[tuple[int, int, str]]) -> None:
    """A policy's text with parts cut out and characters put in never gives another error."""
    text = BASE
    for at, length, insert in edits:
        text = text[:at] + insert + text[at + length :]
    load_and_divide(text)
