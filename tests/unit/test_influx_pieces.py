"""Pieces of line protocol, and the file of refused lines."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from telemetryd.errors import StoreError
from telemetryd.store.influx.dead_letter import DeadLetters, Rejected
from telemetryd.store.influx.pieces import cut, pack, unpack

NOW_NS = 1_795_000_000 * 10**9


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 10, 23])
def test_pieces_are_the_lines_in_order(count: int) -> None:
    """No piece has more lines than asked for, none is empty, and together they are the text."""
    text = b"".join(b"m f=%di %d\n" % (n, n) for n in range(count))
    pieces = list(cut(text, 5))
    assert b"".join(piece for _, piece in pieces) == text
    assert [lines for lines, _ in pieces] == [piece.count(b"\n") for _, piece in pieces]
    assert all(0 < lines <= 5 for lines, _ in pieces)
    assert len(pieces) == -(-count // 5)


def test_what_is_packed_is_gzip_and_the_same_each_time() -> None:
    """Any reader of gzip reads it; no time stamp makes two of the same lines different."""
    text = "m,tag=税务局 f=1i 1\n".encode() * 100
    assert gzip.decompress(pack(text)) == text
    assert pack(text) == pack(text)
    assert unpack(pack(text)) == text.splitlines(keepends=True)
    assert unpack(pack(b"m,t=a\rb f=1i 1\n")) == [b"m,t=a\rb f=1i 1\n"]


@pytest.mark.parametrize("payload", [b"", b"not gzip", pack(b"m f=1i 1\n")[:-3], pack(b"m f=1i 1\n")[:-1] + b"\1"])
def test_damage_is_said(payload: bytes) -> None:
    """A piece that is not whole is an error, not half of its lines."""
    with pytest.raises(StoreError, match="damaged"):
        unpack(payload)


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_refused_lines_are_kept_with_their_reason(tmp_path: Path) -> None:
    """A record a line: time, output, status, the reason's beginning, the line."""
    letters = DeadLetters(tmp_path / "a" / "city.jsonl", "city", 1 << 20, lambda: NOW_NS)
    first = Rejected(["m,t=税 f=1i 1\n".encode(), b"m,t=\xff f=1i 2\n"], 400, "field type conflict")
    assert letters.add([first, Rejected([b"m f=2i 3\n"], 422, "x" * 9999)]) == 3
    assert letters.add([first]) == 2
    found = records(letters.path)
    assert found[0] == {
        "time": "2026-11-18T11:06:40.000Z",
        "output": "city",
        "status": 400,
        "reason": "field type conflict",
        "line": "m,t=税 f=1i 1",
    }
    assert found[1]["line"] == "m,t=\\xff f=1i 2"
    assert len(str(found[2]["reason"])) == 500
    assert len(found) == 5


def test_the_file_is_bounded(tmp_path: Path) -> None:
    """Full, it replaces the one before: the newest lines are always there, and both stay within the limit."""
    limit = 20_000
    letters = DeadLetters(tmp_path / "city.jsonl", "city", limit, lambda: NOW_NS)
    for number in range(500):
        letters.add([Rejected([b"m f=%di 1\n" % number], 400, "r")])
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["city.jsonl", "city.jsonl.1"]
    assert all(file.stat().st_size <= limit // 2 for file in files)
    numbers = [record["line"] for file in files[::-1] for record in records(file)]
    assert numbers == [f"m f={number}i 1" for number in range(500 - len(numbers), 500)]


def test_many_lines_at_once_are_bounded_too(tmp_path: Path) -> None:
    """One call with more than the file may hold keeps the end of them."""
    letters = DeadLetters(tmp_path / "city.jsonl", "city", 20_000, lambda: NOW_NS)
    assert letters.add([Rejected([b"m f=%di 1\n" % n for n in range(500)], 400, "r")]) == 500
    assert records(letters.path)[-1]["line"] == "m f=499i 1"
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 20_000


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Not a traceback: the lines stay in the spool."""
    (tmp_path / "file").write_text("")
    letters = DeadLetters(tmp_path / "file" / "city.jsonl", "city", 1 << 20, lambda: NOW_NS)
    with pytest.raises(StoreError, match=r"cannot write .*city\.jsonl"):
        letters.add([Rejected([b"m f=1i 1\n"], 400, "r")])
