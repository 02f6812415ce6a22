"""A chain of records: what was added is there, what was changed is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from telemetryd.errors import TelemetrydError
from telemetryd.observe.chain import FIRST, Chain, write_whole


def test_records_carry_the_hash_of_the_line_before(tmp_path: Path) -> None:
    """Numbers count from 1; the first has no line before it; long lines too, and other processes' records."""
    chain = Chain(tmp_path / "deep" / "a.jsonl")
    assert chain.records() == []
    first = chain.append({"what": "x" * 200_000})
    second = Chain(chain.path).append({"what": "城"})
    assert (first["number"], first["previous"], second["number"]) == (1, FIRST, 2)
    assert chain.records() == [first, second]


@pytest.mark.parametrize("size", [10, 70_000, 200_000])
def test_a_torn_line_is_overwritten(tmp_path: Path, size: int) -> None:
    """However long the half of a line is that a crash has left."""
    chain = Chain(tmp_path / "a.jsonl")
    first = chain.append({"what": "one"})
    with chain.path.open("ab") as file:
        file.write(b'{"number": 2, "what": "' + b"y" * size)
    assert chain.records() == [first]
    second = chain.append({"what": "two"})
    assert chain.records() == [first, second]


@pytest.mark.parametrize("damage", ["change", "remove", "insert", "swap"])
def test_whatever_is_done_to_a_line_is_found(tmp_path: Path, damage: str) -> None:
    """A changed, a removed, an added and a moved line; the message names the first one that does not follow."""
    chain = Chain(tmp_path / "a.jsonl")
    for number in range(5):
        chain.append({"what": f"w{number}"})
    lines = chain.path.read_bytes().splitlines(keepends=True)
    match damage:
        case "change":
            lines[2] = lines[2].replace(b"w2", b"w9")
        case "remove":
            del lines[2]
        case "insert":
            lines.insert(2, json.dumps({"number": 3, "previous": FIRST}).encode() + b"\n")
        case "swap":
            lines[2], lines[3] = lines[3], lines[2]
    chain.path.write_bytes(b"".join(lines))
    with pytest.raises(TelemetrydError, match=r"a\.jsonl:[34]: does not follow"):
        chain.records()


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    """Nothing is added after it, as its hash would make it look right."""
    chain = Chain(tmp_path / "a.jsonl")
    for text, words in (("[]\n", "has no number"), ("{\n", "is no record"), ('{"number": "1"}\n', "has no number")):
        chain.path.write_text(text)
        with pytest.raises(TelemetrydError, match=words):
            chain.append({})
        with pytest.raises(TelemetrydError, match=words):
            chain.records()


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """Nothing of the temporary file stays."""
    path = tmp_path / "d" / "f.json"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert [one.name for one in path.parent.iterdir()] == ["f.json"]
