"""What verification finds in a store: every damage by its file, and no fault in a store that is sound or in use."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from telemetryd.store.columns import QualityRow
from telemetryd.store.embedded import GRACE_NS, Store
from telemetryd.store.verify import verify
from tests.storing import BASE, Hasty, S, window

Change = Callable[[dict[str, Any], Path], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Store.open(tmp_path, files=Hasty()) as store:
        for i in range(3):
            store.append([window(BASE + i * S, rows=20)], "live", [QualityRow(BASE + i * S, S, "loss", "a", 1.0)])
    return tmp_path


def changed(path: Path, change: Change) -> None:
    """Change the manifest of a store."""
    file = path / "MANIFEST.json"
    document = json.loads(file.read_text())
    change(document, path / "segments")
    file.write_text(json.dumps(document))


def rewritten(item: dict[str, Any], segments: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the rows of a segment and let size and checksum of the manifest fit."""
    file = segments / item["file"]
    pq.write_table(change(pq.read_table(file)), file, store_schema=False)
    item["octets"], item["crc32"] = file.stat().st_size, zlib.crc32(file.read_bytes())


def first(document: dict[str, Any]) -> dict[str, Any]:
    item: dict[str, Any] = document["segments"][0]
    return item


def test_a_sound_store_has_no_fault(path: Path) -> None:
    """All segments are read, their rows counted, and nothing is found."""
    verdict = verify(Store.open(path, "read"))
    assert (verdict.segments, verdict.rows, verdict.faults, verdict.strays) == (6, 63, (), ())
    assert verdict.octets == sum(file.stat().st_size for file in (path / "segments").iterdir())


def test_every_flipped_bit_is_found(path: Path) -> None:
    """One bit flipped at any place of any segment is found in that segment alone."""
    store = Store.open(path, "read")
    for number, file in enumerate(sorted((path / "segments").iterdir())):
        whole = file.read_bytes()
        for place in range(number, len(whole), 211):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
            [fault] = verify(store).faults
            assert (fault.file, "CRC-32" in fault.what) == (str(file), True)
            assert "telemetryd store restore" in fault.remedy
        file.write_bytes(whole)


def test_cut_grown_and_missing_files_are_found_together(path: Path) -> None:
    """Every damaged file is reported in one run, each with what is wrong."""
    cut, grown, missing, unreadable = sorted((path / "segments").iterdir())[:4]
    cut.write_bytes(cut.read_bytes()[:-1])
    grown.write_bytes(grown.read_bytes() + b"x")
    missing.unlink()
    unreadable.unlink()
    unreadable.mkdir()
    found = {fault.file: fault.what for fault in verify(Store.open(path, "read")).faults}
    assert sorted(found) == [str(file) for file in (cut, grown, missing, unreadable)]
    assert "instead of" in found[str(cut)] and "instead of" in found[str(grown)]
    assert found[str(missing)] == "is missing"


def no_parquet(document: dict[str, Any], segments: Path) -> None:
    content = bytes(first(document)["octets"])
    (segments / first(document)["file"]).write_bytes(content)
    first(document)["crc32"] = zlib.crc32(content)


def without_a_column(document: dict[str, Any], segments: Path) -> None:
    rewritten(first(document), segments, lambda table: table.drop_columns(["packets"]))


def with_another_type(document: dict[str, Any], segments: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.column_names.index("samples"), "samples", table["samples"].cast(pa.float64()))

    rewritten(first(document), segments, change)


def without_a_row(document: dict[str, Any], segments: Path) -> None:
    rewritten(first(document), segments, lambda table: table.slice(1))


def of_another_time(document: dict[str, Any], segments: Path) -> None:
    rewritten(first(document), segments, lambda t: t.set_column(0, "time", pc.add(t["time"], S)))


def of_another_span(document: dict[str, Any], segments: Path) -> None:
    rewritten(first(document), segments, lambda t: t.set_column(1, "span_ns", pc.add(t["span_ns"], 1)))


def of_another_origin(document: dict[str, Any], segments: Path) -> None:
    first(document)["origins"] = ["somebody"]
    document["extents"]["somebody"] = document["extents"]["live"]


def with_wrong_rows(document: dict[str, Any], segments: Path) -> None:
    first(document)["rows"] += 1


CONTENT = {
    no_parquet: "no Parquet file",
    without_a_column: "packets is missing",
    with_another_type: "samples is double",
    without_a_row: "19 rows instead of 20",
    of_another_time: "other times",
    of_another_span: "other spans",
    of_another_origin: "other origins",
    with_wrong_rows: "20 rows instead of 21",
}


@pytest.mark.parametrize(("change", "what"), CONTENT.items(), ids=lambda value: getattr(value, "__name__", "-"))
def test_content_that_is_not_what_the_manifest_says(path: Path, change: Change, what: str) -> None:
    """A file whose size and checksum fit is still read: its columns, rows, times, spans and origins are checked."""
    changed(path, change)
    faults = verify(Store.open(path, "read")).faults
    assert len(faults) == 1
    assert what in faults[0].what
    assert faults[0].file == str(min((path / "segments").iterdir()))


def listed_twice(document: dict[str, Any], segments: Path) -> None:
    document["segments"].append(first(document))


def live_and_retired(document: dict[str, Any], segments: Path) -> None:
    document["retired"].append({"file": first(document)["file"], "since_ns": 1})


def of_an_unknown_kind(document: dict[str, Any], segments: Path) -> None:
    document["segments"][0]["schema"] = 0


def with_a_number_to_come(document: dict[str, Any], segments: Path) -> None:
    document["next_id"] = 2


def without_an_extent(document: dict[str, Any], segments: Path) -> None:
    document["extents"] = {"another": document["extents"]["live"]}


def beyond_its_extent(document: dict[str, Any], segments: Path) -> None:
    document["extents"]["live"][str(S)]["until_ns"] -= 1


MANIFESTS = {
    listed_twice: "2 times",
    live_and_retired: "live and as retired",
    of_an_unknown_kind: "schema 0",
    with_a_number_to_come: "not given away",
    without_an_extent: "no extent",
    beyond_its_extent: "beyond the extents",
}


@pytest.mark.parametrize(("change", "what"), MANIFESTS.items(), ids=lambda value: getattr(value, "__name__", "-"))
def test_a_manifest_that_contradicts_itself(path: Path, change: Change, what: str) -> None:
    """Entries that cannot be true together are faults of the manifest."""
    changed(path, change)
    faults = verify(Store.open(path, "read")).faults
    assert faults
    assert {fault.file for fault in faults} == {str(path / "MANIFEST.json")}
    assert any(what in fault.what for fault in faults)


def test_strays_are_told_apart_from_damage(path: Path) -> None:
    """What a killed run left is named and is no fault; what the writer is at just now is neither."""
    number = Store.open(path, "read").snapshot().manifest.next_id
    (path / "segments" / f"{number:012d}.parquet.tmp").touch()
    (path / "segments" / f"{number - 1:012d}.parquet.tmp").touch()
    verdict = verify(Store.open(path, "read"))
    assert (verdict.faults, verdict.strays) == ((), (f"{number - 1:012d}.parquet.tmp",))


def test_segments_that_are_replaced_meanwhile(tmp_path: Path) -> None:
    """A segment that compaction took since the snapshot was made, and that is gone, is no fault."""
    now_ns = [BASE]
    with Store.open(tmp_path, clock=lambda: now_ns[0], files=Hasty()) as store:
        for i in range(7):
            store.append([window(BASE + i * S)], "live")
        seen = []

        def compact(done: int, of: int) -> None:
            if not seen:
                store.append([window(BASE + 7 * S)], "live")
                now_ns[0] += GRACE_NS
                store.maintain()
            seen.append(done)

        assert verify(Store.open(tmp_path, "read"), compact).faults == ()
        assert len(seen) == 7
