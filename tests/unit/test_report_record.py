"""Frozen records: written once, checked when read, revised beside each other, never replaced."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from telemetryd.errors import StoreError
from telemetryd.store.files import Files
from telemetryd.store.report import record as records

RECORD: dict[str, Any] = {"month": "2026-10", "revision": 1, "who": "市税务局", "figures": [1, 2.5, None]}


def test_what_is_frozen_is_read_back(tmp_path: Path) -> None:
    """The newest revision is read by default, earlier ones by number; other months are not touched."""
    assert records.load(tmp_path, "2026-10") is None
    assert records.freeze(tmp_path, RECORD) == RECORD
    second = records.freeze(tmp_path, RECORD | {"who": "edu"})
    assert second["revision"] == 2
    assert records.load(tmp_path, "2026-10") == second
    assert records.load(tmp_path, "2026-10", 1) == RECORD
    assert records.revisions(tmp_path, "2026-10") == [1, 2]
    assert records.load(tmp_path, "2026-09") is None
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == ["2026-10.r1.json", "2026-10.r2.json"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("市税务局", "市教育局"),
        lambda text: text.replace("2.5", "2.6"),
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace("telemetryd-report", "something"),
        lambda text: text.replace('"revision":1', '"revision":3'),
    ],
)
def test_a_changed_record_is_refused_by_name(tmp_path: Path, change: Any) -> None:
    """A record that is not octet for octet what was frozen is refused, with its file and the remedy."""
    records.freeze(tmp_path, RECORD)
    path = records.path_of(tmp_path, "2026-10", 1)
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(StoreError, match=r"2026-10\.r1\.json is damaged.*--refresh"):
        records.load(tmp_path, "2026-10")


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    """A record of a later telemetryd is not guessed at."""
    records.freeze(tmp_path, RECORD)
    path = records.path_of(tmp_path, "2026-10", 1)
    document = json.loads(path.read_text()) | {"version": 99}
    path.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="version 99"):
        records.load(tmp_path, "2026-10")


class FullDisk(Files):
    """File operations on a disk that is full."""

    def write(self, file: BinaryIO, data: bytes | bytearray) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_freezes_nothing(tmp_path: Path) -> None:
    """The failure says what to do, and leaves neither a record nor a part of one."""
    with pytest.raises(StoreError, match="the disk is full"):
        records.freeze(tmp_path, RECORD, FullDisk())
    assert list((tmp_path / "reports").iterdir()) == []


def test_writers_at_once_get_revisions_of_their_own(tmp_path: Path) -> None:
    """Two that freeze at once do not replace each other."""
    threads = [
        threading.Thread(target=records.freeze, args=(tmp_path, RECORD | {"who": str(number)})) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert records.revisions(tmp_path, "2026-10") == list(range(1, 9))
    found = {records.load(tmp_path, "2026-10", number)["who"] for number in range(1, 9)}  # type: ignore[index]
    assert found == {str(number) for number in range(8)}
