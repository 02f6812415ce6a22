"""What an append puts into the embedded store, and what it refuses."""

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from telemetryd.errors import StoreError
from telemetryd.schema import KEY_COLUMNS, SUM_COLUMNS
from telemetryd.store.columns import USAGE_SCHEMA, QualityRow
from telemetryd.store.embedded import Appended, Store
from telemetryd.store.files import Files
from telemetryd.store.verify import verify
from tests.storing import BASE, NAMES, S, expected_rows, held, multiset, window


def test_disk_columns_follow_the_column_table() -> None:
    """Every column of a window is on disk: keys as names, sums with the dtype of the table."""
    for column in KEY_COLUMNS:
        assert USAGE_SCHEMA.field(column.name).type == pa.dictionary(pa.int32(), pa.string())
    for column in SUM_COLUMNS:
        assert USAGE_SCHEMA.field(column.name).type.to_pandas_dtype() == np.dtype(column.dtype)


def test_every_column_comes_back(tmp_path: Path) -> None:
    """What is read back is what was appended, of all spans, through a reader of its own."""
    windows = [window(BASE + i * S, rows=40) for i in range(3)]
    windows += [window(BASE, 10 * S, 50), window(BASE, 60 * S, 60), window(BASE, 3600 * S, 70)]
    with Store.open(tmp_path / "store") as store:
        done = store.append(windows, "live")
        assert done == Appended(batch=1, rows=300, skipped=0)
        reader = Store.open(tmp_path / "store", "read")
        assert held(reader) == multiset(expected_rows(windows, "live"))
        assert reader.scan(span_ns=10 * S).num_rows == 50
        assert verify(reader).faults == ()


def test_quality_rows_come_back_with_their_window(tmp_path: Path) -> None:
    """Quality figures are stored in the same commit, and left out with a window that is stored already."""
    rows = [
        QualityRow(BASE, S, "lost_datagrams", "10.0.0.1", 3.0),
        QualityRow(BASE, S, "rate", "a/0/1", 512.5),
    ]
    with Store.open(tmp_path) as store:
        store.append([window(BASE)], "live", rows)
        store.append([window(BASE), window(BASE + S)], "live", [*rows, QualityRow(BASE + S, S, "rate", "b", 1.0)])
        found = store.scan("quality").to_pylist()
    assert [(r["time"], r["metric"], r["source"], r["value"], r["origin"]) for r in found] == [
        (BASE, "lost_datagrams", "10.0.0.1", 3.0, "live"),
        (BASE, "rate", "a/0/1", 512.5, "live"),
        (BASE + S, "rate", "b", 1.0, "live"),
    ]


def test_a_quality_row_needs_its_window(tmp_path: Path) -> None:
    """A quality row of a window that is not in the append is refused, since it would count as stored."""
    with Store.open(tmp_path) as store:
        for lost in (QualityRow(BASE + S, S, "rate", "a", 1.0), QualityRow(BASE, 10 * S, "rate", "a", 1.0)):
            with pytest.raises(StoreError, match="belongs to no window"):
                store.append([window(BASE)], "live", [lost])
        assert store.scan().num_rows == store.scan("quality").num_rows == 0


def test_windows_with_dictionaries_of_different_days(tmp_path: Path) -> None:
    """A window keeps the names of its own dictionary when another one is stored in the same append."""
    renamed = replace(NAMES, departments=("unknown", "education", "new one", "税务局"))
    windows = [window(BASE, rows=30), window(BASE + S, rows=30, names=renamed)]
    with Store.open(tmp_path) as store:
        store.append(windows, "live")
        assert held(store) == multiset(expected_rows(windows, "live"))


def test_an_append_runs_again_without_doubling(tmp_path: Path) -> None:
    """Windows that end at or before stored_until of their origin and span are left out."""
    with Store.open(tmp_path) as store:
        assert store.stored_until("a.pcap", S) == 0
        store.append([window(BASE), window(BASE + S)], "a.pcap")
        assert store.stored_until("a.pcap", S) == BASE + 2 * S
        assert store.stored_until("b.pcap", S) == store.stored_until("a.pcap", 10 * S) == 0
        again = [window(BASE + i * S) for i in range(3)] + [window(BASE, 10 * S)]
        assert store.append(again, "a.pcap") == Appended(batch=3, rows=6, skipped=2)
        assert store.append(again, "a.pcap") == Appended(batch=0, rows=0, skipped=4)
        store.append([window(BASE)], "b.pcap")
        expected = expected_rows(again, "a.pcap") + expected_rows([window(BASE)], "b.pcap")
        assert held(store) == multiset(expected)


def test_an_empty_window_counts_as_stored(tmp_path: Path) -> None:
    """A window without traffic has no rows, yet is remembered as stored."""
    with Store.open(tmp_path) as store:
        assert store.append([window(BASE, rows=0)], "live").rows == 0
        assert store.stored_until("live", S) == BASE + S
    assert Store.open(tmp_path, "read").scan().num_rows == 0


def test_windows_that_cannot_be_are_refused_whole(tmp_path: Path) -> None:
    """A window off its grid, twice in one append, short of a column or with a nameless code stores nothing."""
    good = window(BASE)
    nameless = window(BASE + S)
    nameless.columns["department"][0] = 9
    link = window(BASE + S)
    link.columns["table"][:] = 0
    link.columns["link"][0] = 4  # a metering point has this place, no link
    short = window(BASE + S)
    del short.columns["octets"]
    with Store.open(tmp_path) as store:
        for bad in (window(BASE + 1), replace(good, span_ns=0), good, nameless, link, short):
            with pytest.raises(StoreError):
                store.append([good, replace(bad)], "live")
            assert store.scan().num_rows == 0
            assert store.stored_until("live", S) == 0
        store.append([good], "live")
        assert held(store) == multiset(expected_rows([good], "live"))


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """A second writer is told who holds the store; the lock goes with its holder."""
    with Store.open(tmp_path):
        with pytest.raises(StoreError, match=rf"process {os.getpid()}\b"):
            Store.open(tmp_path)
        Store.open(tmp_path, "read").close()
    Store.open(tmp_path).close()


def test_readers_do_not_write(tmp_path: Path) -> None:
    """A store opened for reading refuses appends, and needs a store to be there."""
    with pytest.raises(StoreError, match="telemetryd replay"):
        Store.open(tmp_path / "nothing", "read")
    assert not (tmp_path / "nothing").exists()
    Store.open(tmp_path / "store").close()
    with pytest.raises(StoreError, match="not open for writing"):
        Store.open(tmp_path / "store", "read").append([window(BASE)], "live")


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    """A manifest of an unknown newer version is refused by name, for reading and writing, and left alone."""
    Store.open(tmp_path).close()
    path = tmp_path / "MANIFEST.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 7, "something": "new"}))
    before = path.read_bytes()
    for mode in ("read", "write"):
        with pytest.raises(StoreError, match="version 7"):
            Store.open(tmp_path, mode)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "telemetryd-store", "version": 1}', "\x00"])
def test_a_damaged_manifest_is_reported(tmp_path: Path, text: str) -> None:
    """A manifest that cannot be read raises StoreError with its path, and nothing is removed."""
    with Store.open(tmp_path) as store:
        store.append([window(BASE)], "live")
    (tmp_path / "MANIFEST.json").write_text(text)
    with pytest.raises(StoreError, match=r"MANIFEST\.json"):
        Store.open(tmp_path)
    assert len(list((tmp_path / "segments").iterdir())) == 1


def test_other_directories_are_left_alone(tmp_path: Path) -> None:
    """A directory with other files, or segments that lost their manifest, does not become a store."""
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(StoreError, match=r"photo\.jpg"):
        Store.open(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "photo.jpg"]
    store = tmp_path / "store"
    with Store.open(store) as opened:
        opened.append([window(BASE)], "live")
    (store / "MANIFEST.json").unlink()
    with pytest.raises(StoreError, match=r"MANIFEST\.json"):
        Store.open(store)
    assert len(list((store / "segments").iterdir())) == 1


def test_leftovers_are_removed_by_the_next_writer(tmp_path: Path) -> None:
    """Temporary files and segments that no manifest lists go when the store is opened for writing."""
    with Store.open(tmp_path) as store:
        store.append([window(BASE)], "live")
    live = {path.name for path in (tmp_path / "segments").iterdir()}
    for stray in ("segments/000000000099.parquet", "segments/000000000099.parquet.tmp", "MANIFEST.json.tmp"):
        (tmp_path / stray).write_bytes(b"half")
    Store.open(tmp_path, "read").close()
    assert (tmp_path / "MANIFEST.json.tmp").exists()
    Store.open(tmp_path).close()
    assert {path.name for path in (tmp_path / "segments").iterdir()} == live
    assert not (tmp_path / "MANIFEST.json.tmp").exists()


def test_a_lost_or_changed_segment_is_reported(tmp_path: Path) -> None:
    """verify() finds changed octets; a segment that is cut or gone stops the next writer."""
    with Store.open(tmp_path) as store:
        store.append([window(BASE)], "live")
        [path] = (tmp_path / "segments").iterdir()
        content = bytearray(path.read_bytes())
        content[20] ^= 1
        path.write_bytes(content)
        [problem] = verify(store).faults
        assert problem.file == str(path)
    path.write_bytes(content[:-1])
    with pytest.raises(StoreError, match=path.name):
        Store.open(tmp_path)
    path.unlink()
    with pytest.raises(StoreError, match=path.name):
        Store.open(tmp_path)
    reader = Store.open(tmp_path, "read")
    with pytest.raises(StoreError, match="cannot read"):
        reader.scan()
    assert len(verify(reader).faults) == 1


class FullDisk(Files):
    """A disk that has room for ``room`` more octets."""

    room = 1 << 40

    def write(self, file, data) -> None:  # type: ignore[no-untyped-def]
        if len(data) > self.room:
            raise OSError(28, "No space left on device")
        self.room -= len(data)
        super().write(file, data)


def test_a_full_disk_leaves_the_store_intact(tmp_path: Path) -> None:
    """Whatever write finds the disk full, the append is refused whole and works again once there is room."""
    files = FullDisk()
    first, second = window(BASE, rows=20), window(BASE + S, rows=20)
    with Store.open(tmp_path, files=files) as store:
        store.append([first], "live")
        used = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
        for room in range(0, used, 97):
            files.room = room
            with pytest.raises(StoreError, match="disk is full"):
                store.append([second], "live")
            files.room = 1 << 40
            assert held(store) == multiset(expected_rows([first], "live"))
        assert store.append([second], "live").rows == 20
        assert held(store) == multiset(expected_rows([first, second], "live"))
    names = {path.name for path in (tmp_path / "segments").iterdir()}
    assert names == {segment.file for segment in Store.open(tmp_path, "read").snapshot().manifest.segments}


def test_a_write_the_kernel_refuses(tmp_path: Path) -> None:
    """A real refusal by the kernel (a limit on the size of files) is a StoreError too; the store survives."""
    with Store.open(tmp_path) as store:
        store.append([window(BASE)], "live")
    script = (
        "import sys\n"
        "from telemetryd.errors import StoreError\n"
        "from telemetryd.store.embedded import Store\n"
        "from tests.storing import BASE, S, window\n"
        "with Store.open(sys.argv[1]) as store:\n"
        "    try:\n"
        "        store.append([window(BASE + S, rows=400)], 'live')\n"
        "    except StoreError as error:\n"
        "        print(error)\n"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))

    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "File too large" in done.stdout
    with Store.open(tmp_path) as store:
        assert held(store) == multiset(expected_rows([window(BASE)], "live"))


def test_rows_lie_sorted_however_many_names_there_are(tmp_path: Path) -> None:
    """Rows are sorted by time and key on disk, also where the codes of a key do not fit into one word."""
    many = tuple(f"name {i:06}" for i in range(5000))
    names = replace(NAMES, departments=many, applications=many, zones=many)
    windows = [window(BASE + i * S, rows=50, names=names) for i in (1, 0)]
    for w in windows:
        random = np.random.default_rng(w.start_ns // S)
        for key in ("department", "peer_department", "application", "source_zone", "destination_zone"):
            w.columns[key] = random.integers(0, 5000, 50).astype(w.columns[key].dtype)
            w.columns[key][0] = 4999
    with Store.open(tmp_path) as store:
        store.append(windows, "live")
        found = store.scan().to_pylist()
    assert multiset(found) == multiset(expected_rows(windows, "live"))
    order = [(r["time"], r["table"], r["link"] != "-" and r["link"]) for r in found]
    assert [time for time, *_ in order] == sorted(time for time, *_ in order)
    departments = [r["department"] for r in found if (r["time"], r["table"]) == (BASE, "link_usage")]
    assert len(departments) > 5
