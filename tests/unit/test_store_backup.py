"""Backups and restorations: what they hold, what they refuse, and what a crash or a full disk leaves behind."""

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from telemetryd.errors import InputError, StoreError
from telemetryd.store import archive
from telemetryd.store import backup as backups
from telemetryd.store.backup import backup
from telemetryd.store.embedded import GRACE_NS, Store
from telemetryd.store.files import Files
from telemetryd.store.restore import restore
from telemetryd.store.verify import verify
from tests.storing import BASE, Died, DyingFiles, Hasty, S, expected_rows, held, multiset, window

pytestmark = pytest.mark.no_twins

COUNT = 12
WINDOWS = [window(BASE + i * S) for i in range(COUNT)]
MADE_NS = BASE + 7


def fill(path: Path, first: int = 0, last: int = COUNT) -> Path:
    with Store.open(path, files=Hasty()) as store:
        for i in range(first, last):
            store.append([WINDOWS[i]], "live")
    return path


def rows(last: int = COUNT) -> object:
    return multiset(expected_rows(WINDOWS[:last], "live"))


def read(path: Path) -> Store:
    return Store.open(path, "read")


def names(path: Path) -> set[str]:
    return {file.name for file in (path / "segments").iterdir()}


@pytest.mark.parametrize("target", ["backup", "backup.tar"])
@pytest.mark.parametrize("has_links", [False, True], ids=["copied", "linked"])
def test_what_is_backed_up_comes_back(tmp_path: Path, target: str, has_links: bool) -> None:
    """A store restored from its backup holds every row, extent and its id, and goes on where the other ended."""
    path = fill(tmp_path / "store")
    before = read(path).snapshot().manifest
    done = backup(read(path), tmp_path / target, hard_links=has_links, clock=lambda: MADE_NS)
    assert (done.generation, done.segments, done.copied) == (before.generation, *[len(before.segments)] * 2)
    assert (done.rows, done.octets) == (3 * COUNT, sum(s.octets for s in before.segments))
    found = restore(tmp_path / target, tmp_path / "other")
    assert (found.source, found.made_ns, found.rows, found.replaced) == (str(path), MADE_NS, 3 * COUNT, 0)
    with Store.open(tmp_path / "other") as store:
        after = store.snapshot().manifest
        assert (after.id, after.extents, after.backup) == (before.id, before.extents, None)
        assert held(store) == rows()
        assert verify(store).faults == ()
        assert store.append([WINDOWS[-1], window(BASE + COUNT * S)], "live").skipped == 1
    assert held(read(path)) == rows()


def test_a_directory_is_brought_up_to_date(tmp_path: Path) -> None:
    """A second backup copies what is new, takes out what compaction replaced, and is a store to be read."""
    path = fill(tmp_path / "store", last=7)
    target = tmp_path / "backup"
    assert backup(read(path), target).copied == 7
    kept = {file.name: file.stat().st_ino for file in (target / "segments").iterdir()}
    assert backup(read(path), target).copied == 0
    assert {file.name: file.stat().st_ino for file in (target / "segments").iterdir()} == kept
    fill(path, 7, 8)
    with Store.open(path, files=Hasty()) as store:
        store.maintain()  # merges the eight
    fill(path, 8, 9)
    done = backup(read(path), target)
    assert (done.copied, done.removed, done.segments) == (2, 7, 2)
    assert held(read(target)) == rows(9)
    assert verify(read(target)).faults == ()
    assert names(target) == {s.file for s in read(target).snapshot().manifest.segments}


def test_nobody_writes_to_a_backup(tmp_path: Path) -> None:
    """A backup that is opened for writing is refused, with the way to make a store of it."""
    backup(read(fill(tmp_path / "store")), tmp_path / "backup")
    with pytest.raises(StoreError, match=f"backup of {tmp_path}/store.*telemetryd store restore"):
        Store.open(tmp_path / "backup")


def test_places_that_are_refused(tmp_path: Path) -> None:
    """A backup goes neither into its store, nor over another store, another's backup, other files or an archive."""
    store, other = read(fill(tmp_path / "store")), read(fill(tmp_path / "other", last=2))
    backup(store, tmp_path / "backup")
    backup(store, tmp_path / "backup.tar")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").touch()
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.*")}
    for source, target, reason in (
        (store, "store", "inside the store"),
        (store, "store/segments/backup", "inside the store"),
        (store, "other", "holds a store"),
        (other, "backup", "another store"),
        (store, "photos", r"1\.jpg"),
        (store, "backup.tar", "exists"),
    ):
        with pytest.raises(InputError, match=reason):
            backup(source, tmp_path / target)
    for target, reason in (
        ("other", "--replace"),
        ("photos", r"1\.jpg"),
        ("backup", "itself"),
    ):
        with pytest.raises(InputError, match=reason):
            restore(tmp_path / "backup", tmp_path / target)
    with pytest.raises(InputError, match="is a backup"):
        restore(tmp_path / "backup.tar", tmp_path / "backup", replaces=True)
    with pytest.raises(InputError, match="no backup"):
        restore(tmp_path / "nothing", tmp_path / "new")
    with pytest.raises(InputError, match="no backup"):
        restore(tmp_path / "photos", tmp_path / "new")
    (tmp_path / "no.tar").write_bytes(b"x" * 2000)
    with pytest.raises(StoreError, match="no tar file"):
        restore(tmp_path / "no.tar", tmp_path / "new")
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(tmp_path / "photos")
    with pytest.raises(StoreError, match=r"no MANIFEST\.json"):
        restore(tmp_path / "photos.tar", tmp_path / "new")
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert held(other) == rows(2)


def test_a_store_in_use_is_not_replaced(tmp_path: Path) -> None:
    """A restoration needs the writer's lock: it is told which process has it, and changes nothing."""
    path = fill(tmp_path / "store")
    backup(read(path), tmp_path / "backup")
    with Store.open(path) as store:
        with pytest.raises(StoreError, match=f"process {os.getpid()}"):
            restore(tmp_path / "backup", path, replaces=True)
        assert held(store) == rows()


def damaged_segment(path: Path) -> None:
    file = min((path / "segments").iterdir())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def lost_segment(path: Path) -> None:
    min((path / "segments").iterdir()).unlink()


def damaged_manifest(path: Path) -> None:
    (path / "MANIFEST.json").write_text("{")


def lost_manifest(path: Path) -> None:
    (path / "MANIFEST.json").unlink()


@pytest.mark.parametrize("damage", [damaged_segment, lost_segment, damaged_manifest, lost_manifest, fill])
def test_whatever_is_there_is_replaced(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """With --replace a store, sound or damaged in any way, becomes what the backup holds; without, it stays."""
    path = fill(tmp_path / "store", last=9)
    backup(read(path), tmp_path / "backup")
    damage(path)
    with pytest.raises(InputError, match="--replace"):
        restore(tmp_path / "backup", path)
    restore(tmp_path / "backup", path, replaces=True)
    with Store.open(path) as store:
        assert held(store) == rows(9)
        assert verify(store).faults == ()
        assert names(path) == {s.file for s in store.snapshot().manifest.segments}
        store.append(WINDOWS[9:], "live")
        assert held(store) == rows()


@pytest.mark.parametrize("target", ["backup", "backup.tar"])
def test_damage_is_not_passed_on(tmp_path: Path, target: str) -> None:
    """A damaged segment stops a backup, the earlier one stays; a damaged backup stops a restoration, as does a cut one."""
    path = fill(tmp_path / "store", last=9)
    backup(read(path), tmp_path / target)
    fill(path, 9, 10)
    file = max((path / "segments").iterdir())
    whole = file.read_bytes()
    file.write_bytes(whole[:-9] + b"!" + whole[-8:])
    with pytest.raises(StoreError, match=f"{file.name} is not what was written.*telemetryd store verify"):
        backup(read(path), tmp_path / ("backup" if target == "backup" else "second.tar"))
    assert not list(tmp_path.glob("second*")) and not list(tmp_path.rglob("*.tmp"))
    restore(tmp_path / target, tmp_path / "other")
    assert held(read(tmp_path / "other")) == rows(9)
    copy = max((tmp_path / target / "segments").iterdir()) if target == "backup" else tmp_path / target
    content = bytearray(copy.read_bytes())
    place = content.rindex(b"PAR1") - 40
    content[place] ^= 1
    copy.write_bytes(content)
    with pytest.raises(StoreError, match="is not what was written"):
        restore(tmp_path / target, path, replaces=True)
    copy.write_bytes(content[: place - 400])
    with pytest.raises(StoreError, match=r"is not what was written|no tar file|unexpected end|damaged"):
        restore(tmp_path / target, path, replaces=True)
    file.write_bytes(whole)
    assert held(read(path)) == rows(10)
    assert not [name for name in names(path) if name.endswith(".tmp")]


def test_a_damaged_copy_is_found_and_made_anew(tmp_path: Path) -> None:
    """verify reads a backup too and says what to do: without the damaged file, the next backup copies it again."""
    path = fill(tmp_path / "store", last=3)
    target = tmp_path / "backup"
    backup(read(path), target)
    damaged_segment(target)
    [fault] = verify(read(target)).faults
    assert "remove this file" in fault.remedy
    Path(fault.file).unlink()
    assert backup(read(path), target).copied == 1
    assert verify(read(target)).faults == ()


def test_a_backup_while_segments_are_replaced(tmp_path: Path) -> None:
    """Segments that compaction took since the snapshot are no fault: the backup is of the newer state."""
    now_ns = [BASE]
    with Store.open(tmp_path / "store", clock=lambda: now_ns[0], files=Hasty()) as store:
        for i in range(7):
            store.append([WINDOWS[i]], "live")
        steps = []

        def compact(done: int, of: int) -> None:
            if not steps:
                store.append([WINDOWS[7]], "live")
                now_ns[0] += GRACE_NS
                store.maintain()
            steps.append((done, of))

        done = backup(read(store.path), tmp_path / "backup", progress=compact)
        assert (done.rows, done.segments) == (24, 1)
        steps.clear()
        assert backup(read(store.path), tmp_path / "backup.tar", progress=compact).rows >= 24
    assert held(read(tmp_path / "backup")) == rows(8)
    assert verify(read(tmp_path / "backup")).faults == ()


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
def test_every_point_of_death_of_a_backup(tmp_path: Path, power: bool) -> None:
    """After a death at any file operation the directory holds the backup of before or the new one; the next completes it."""
    path = fill(tmp_path / "store", last=5)
    backup(read(path), tmp_path / "earlier", files=Hasty())
    fill(path, 5, 10)

    def run(target: Path, files: Files) -> None:
        backup(read(path), target, files=files)

    for has_earlier in (True, False):
        counting = DyingFiles(1 << 30)
        for at in (0, *range(1, 99, 2 if has_earlier else 5)):
            target = tmp_path / f"{has_earlier} {at}"
            if has_earlier:
                shutil.copytree(tmp_path / "earlier", target)
            if at == 0:
                run(target, counting)
                continue
            if at > counting.operations:
                break
            with pytest.raises(Died):
                run(target, DyingFiles(at, power))
            if has_earlier:
                assert held(read(target)) in (rows(5), rows(10)), f"operation {at}"
                assert verify(read(target)).faults == ()
            run(target, Hasty())
            assert held(read(target)) == rows(10)
            assert names(target) == {s.file for s in read(target).snapshot().manifest.segments}
        assert 15 < counting.operations < 99


@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
def test_every_point_of_death_of_a_restoration(tmp_path: Path, power: bool) -> None:
    """After a death at any file operation the store holds what it held or what the backup holds, and opens."""
    backup(read(fill(tmp_path / "store", last=10)), tmp_path / "backup")
    counting = DyingFiles(1 << 30)
    restore(tmp_path / "backup", fill(tmp_path / "count", last=2), replaces=True, files=counting)
    fill(tmp_path / "two", last=2)
    for at in range(1, counting.operations + 1, 1 if power else 3):
        path = tmp_path / str(at)
        shutil.copytree(tmp_path / "two", path)
        with pytest.raises(Died):
            restore(tmp_path / "backup", path, replaces=True, files=DyingFiles(at, power))
        with Store.open(path, files=Hasty()) as store:
            assert held(store) in (rows(2), rows(10)), f"operation {at}"
            assert verify(store).faults == ()
            assert names(path) == {s.file for s in store.snapshot().manifest.segments}
    new = tmp_path / "new"
    with pytest.raises(Died):
        restore(tmp_path / "backup", new, files=DyingFiles(12, power))
    restore(tmp_path / "backup", new)
    assert held(read(new)) == rows(10)


class FullDisk(Files):
    """A disk that has room for so many octets more."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, file: BinaryIO, data: bytes | bytearray) -> None:
        if len(data) > self.room:
            raise OSError(28, "No space left on device")
        self.room -= len(data)
        super().write(file, data)


def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """Wherever the disk is full, an earlier backup and the store to be replaced stay whole, and no half file is left."""
    path = fill(tmp_path / "store", last=3)
    target = tmp_path / "backup"
    backup(read(path), target)
    fill(path, 3, 6)
    refused = 0
    for room in range(0, 1 << 20, 2500):
        try:
            backup(read(path), target, files=FullDisk(room))
            break
        except StoreError as error:
            assert "disk is full" in str(error)
        refused += 1
        assert held(read(target)) == rows(3)
        assert not list((target / "segments").glob("*.tmp"))
    fill(path, 6, 7)
    for room in range(0, 1 << 20, 2500):
        try:
            restore(target, path, replaces=True, files=FullDisk(room))
            break
        except StoreError as error:
            assert "disk is full" in str(error)
        refused += 1
        with Store.open(path, files=Hasty()) as store:
            assert held(store) == rows(7)
            assert names(path) == {s.file for s in store.snapshot().manifest.segments}
    assert refused > 8
    assert held(read(path)) == rows(6)


def test_too_little_room_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the segments cannot fit, nothing is copied and both sizes are told."""
    path = fill(tmp_path / "store")
    backup(read(path), tmp_path / "there")
    usage = archive.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda path: usage._replace(free=2000))
    for target in ("backup", "backup.tar"):
        with pytest.raises(StoreError, match=r"has room for 2 kB and [\d.]+ kB are needed"):
            backup(read(path), tmp_path / target)
    with pytest.raises(StoreError, match="has room for 2 kB"):
        restore(tmp_path / "there", tmp_path / "new")
    assert not list(tmp_path.glob("*.tar*"))
    assert backups._PASSES > 1


def test_progress_ends_at_all_octets(tmp_path: Path) -> None:
    """Progress grows from block to block and ends at the octets of all segments."""
    path = fill(tmp_path / "store")
    size = sum(s.octets for s in read(path).snapshot().manifest.segments)
    for run in (
        lambda progress: backup(read(path), tmp_path / "backup", progress=progress),
        lambda progress: backup(read(path), tmp_path / "backup.tar", progress=progress),
        lambda progress: restore(tmp_path / "backup", tmp_path / "new", progress=progress),
        lambda progress: verify(read(path), progress),
    ):
        steps: list[tuple[int, int]] = []
        run(lambda done, of, steps=steps: steps.append((done, of)))
        assert steps == sorted(steps)
        assert steps[-1] == (size, size)
