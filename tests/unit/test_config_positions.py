"""YAML becomes plain data with positions; what its writer can't have meant is a mistake at its place."""

from __future__ import annotations

import pytest

from telemetryd.config.positions import MAX_DEPTH, parse_yaml, read_yaml
from telemetryd.errors import Problem
from tests.unit.registry_case import MARK, marks


def problems_of(source: str | bytes) -> list[Problem]:
    problems: list[Problem] = []
    assert parse_yaml(source, "f.yaml", problems) is None
    return problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-12", -12), ("+7", 7), ("0o17", 15), ("0x1F", 31), ("007", 7),
        ("1.5", 1.5), ("-.5", -0.5), ("1e3", 1000.0), (".inf", float("inf")), ("-.INF", float("-inf")),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        # What YAML 1.1 would have turned into something else:
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("18:00", "18:00"), ("1:30:00", "1:30:00"),
        ("2026-11-28", "2026-11-28"), ("1_000", "1_000"), ("0b11", "0b11"), ("=", "="), ("<<", "<<"),
        ("100-199", "100-199"), ("198.18.40.0/22", "198.18.40.0/22"), ("10 Gbit/s", "10 Gbit/s"),
        ("1.2.3", "1.2.3"), ("+", "+"), (".", "."), ("-", "-"),
        ('"12"', "12"), ("'true'", "true"), ("!!str 12", "12"), ("|\n  12", "12\n"),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    """Plain numbers, booleans and null only; times, dates, yes and no are texts."""
    problems: list[Problem] = []
    document = parse_yaml(f"key: {text}\n" if text != "-" else 'key: "-"', "f.yaml", problems)
    assert problems == []
    assert document is not None
    assert document.data == {"key": value}
    assert type(document.data["key"]) is type(value)


def test_locate_finds_values_keys_and_nearest_parents() -> None:
    """Lines and columns count characters from 1, Chinese ones too."""
    text = "a:\n  - {名称: 云海市, b: [1, 2]}\n  - c: x\n"
    document = parse_yaml(text, "f.yaml", [])
    assert document is not None
    assert document.locate(()) == (1, 1)
    assert document.locate(("a",), key=True) == (1, 1)
    assert document.locate(("a",)) == (2, 3)
    assert document.locate(("a", 0, "名称")) == (2, 10)
    assert document.locate(("a", 0, "b"), key=True) == (2, 15)
    assert document.locate(("a", 0, "b", 1)) == (2, 22)
    assert document.locate(("a", 1, "missing", 3)) == (3, 5)
    assert document.locate(("a", 7)) == (2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n«a: 2\n", 'key "a" is written twice'),
        ("x: {b: 1, «b: 1}\n", 'key "b" is written twice'),
        ("a: «!!python/object:os.system x\n", "unknown tag !!python/object:os.system"),
        ("a: «!include x.yaml\n", "unknown tag !include"),
        ("a: «!!set {x: 1}\n", "unknown tag !!set"),
        ("{«[1, 2]: 3}\n", "a key must be a text"),
        ("a: &x [1, «*x]\n", None),
        ("a: «*nothing\n", "undefined alias"),
        ("a: 1\n«---\nb: 2\n", "found another document"),
        ("a: [中文, «\x07]\n", "character U+0007 is not allowed"),
        ("a: b«: c\n", "mapping values are not allowed"),
        ('a: "x\n«', "unexpected end of stream"),
        ("a: [1,\n b: «}\n", "did not find expected node content"),
    ],
)
def test_mistakes_have_their_place(text: str, message: str | None) -> None:
    """Each mistake is one problem at its line and column."""
    problems = problems_of(text.replace(MARK, ""))
    assert len(problems) == 1
    if message is None:  # an alias has no node of its own: the anchor's place is given
        assert (problems[0].line, problems[0].column) == (1, 4)
        assert problems[0].message == "an alias holds itself"
    else:
        assert (problems[0].line, problems[0].column) == marks(text)[0]
        assert message in problems[0].message
        assert problems[0].remedy


def test_all_duplicate_keys_in_one_run() -> None:
    """One run names every duplicate key."""
    assert [(p.line, p.column) for p in problems_of("a: 1\nb: {c: 1, c: 2}\na: 3\n")] == [(2, 11), (3, 1)]


def test_not_utf_8() -> None:
    """Octets that are no UTF-8 are a mistake at the first of them."""
    assert [(p.line, p.column) for p in problems_of("a: 1\nb: 云".encode() + b"\xff")] == [(2, 5)]


def test_byte_order_mark_is_no_character() -> None:
    """A byte order mark neither breaks a file nor moves its columns."""
    document = parse_yaml("a: 1".encode("utf-8-sig"), "f.yaml", [])
    assert document is not None
    assert document.data == {"a": 1}
    assert document.locate(("a",)) == (1, 4)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 200_000])
def test_deep_nesting_is_a_mistake_not_a_crash(depth: int) -> None:
    """Nesting has a limit well below the composer's stack."""
    (problem,) = problems_of("[" * depth + "]" * depth)
    assert "nested more than" in problem.message


def test_nesting_up_to_the_limit() -> None:
    """The limit itself is allowed."""
    assert parse_yaml("[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1), "f.yaml", []) is not None


def test_aliases_share_and_do_not_explode() -> None:
    """Aliases work; a billion laughs are a mistake."""
    document = parse_yaml("a: &x {k: [1, 2]}\nb: *x\n", "f.yaml", [])
    assert document is not None
    assert document.data == {"a": {"k": [1, 2]}, "b": {"k": [1, 2]}}
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert ["aliases repeat more than" in p.message for p in problems_of("\n".join(lines))] == [True]


def test_huge_numbers_are_texts_or_numbers_never_an_error() -> None:
    """A number of any length parses."""
    document = parse_yaml(f"a: {'9' * 10_000}\nb: {'9' * 3000}\n", "f.yaml", [])
    assert document is not None
    assert document.data["a"] == "9" * 10_000
    assert document.data["b"] == 10**3000 - 1


def test_unreadable_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A file that can't be read is a problem that says why."""
    problems: list[Problem] = []
    assert read_yaml(tmp_path / "none.yaml", problems) is None
    assert problems[0].message == "cannot be read: No such file or directory"
