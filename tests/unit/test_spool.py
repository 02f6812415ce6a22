"""The spool: entries wait on the disk for every output, in order, and what does not fit is given up by its worth."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from telemetryd.errors import StoreError
from telemetryd.store.files import Files
from telemetryd.store.spool import Entry, Pending, Spool, SpoolReader
from telemetryd.store.spool.cursor import END, Done
from telemetryd.store.spool.record import HEAD, HEADER_OCTETS, encode, scan
from tests.storing import Hasty

S = 1_000_000_000
MIB = 1 << 20
SPANS = (10 * S, 60 * S, 300 * S)
ONE: Mapping[str, Collection[int]] = {"city": SPANS}
TWO: Mapping[str, Collection[int]] = {"city": SPANS, "old": (60 * S, 300 * S)}


class Clock:
    """A wall clock that stands."""

    def __init__(self) -> None:
        self.now_ns = 1_790_000_000 * S

    def __call__(self) -> int:
        return self.now_ns


def entry(number: int, span_ns: int = 10 * S, octets: int = 20) -> Entry:
    """Make an entry whose payload and points tell its number."""
    return Entry(f"{number}:".encode().ljust(octets, b"."), number + 1, span_ns, (number + 1) * span_ns)


def open_spool(
    path: Path,
    outputs: Mapping[str, Collection[int]] = ONE,
    *,
    size: int = 16 * MIB,
    age_ns: int = 3600 * S,
    files: Files | None = None,
    clock: Clock | None = None,
) -> Spool:
    return Spool.open(path, outputs, size=size, age_ns=age_ns, files=files or Hasty(), clock=clock or Clock())


def numbers(reader: SpoolReader, limit: int = 1000, *, newest: bool = False) -> list[int]:
    """Return the numbers of the entries that wait, as their payloads tell them."""
    payloads = [reader.read(one) for one in reader.peek(limit, newest=newest)]
    return [int(payload.partition(b":")[0]) for payload in payloads if payload is not None]


def acknowledge(reader: SpoolReader, wanted: Iterable[int]) -> None:
    """Acknowledge entries by the numbers in their payloads (points are one more)."""
    chosen = set(wanted)
    reader.acknowledge([one.sequence for one in reader.peek(1000) if one.points - 1 in chosen])


def segments(path: Path) -> list[Path]:
    return sorted((path / "segments").iterdir())


# --- what it holds ---------------------------------------------------------------------------------------------


def test_entries_wait_in_order_and_survive_reopening(tmp_path: Path) -> None:
    """What was appended is there after reopening, whole, in order, and with what is said of it."""
    entries = [entry(n, SPANS[n % 3]) for n in range(9)]
    with open_spool(tmp_path) as spool:
        for one in entries:
            assert spool.append([one]) == 0
    with open_spool(tmp_path) as spool:
        reader = spool.reader("city")
        found = reader.peek(99)
        assert [(reader.read(one), one.points, one.span_ns, one.end_ns) for one in found] == [
            (one.payload, one.points, one.span_ns, one.end_ns) for one in entries
        ]
        assert numbers(reader, 3) == [0, 1, 2]
        assert numbers(reader, 4, newest=True) == [8, 7, 6, 5]
        oldest_ns = min(one.end_ns for one in entries)
        assert reader.pending() == Pending(9, sum(range(1, 10)), 9 * 20, oldest_ns)
        assert spool.torn_octets == spool.damaged_octets == 0


def test_an_append_of_several_spans_has_the_coarsest_first(tmp_path: Path) -> None:
    """What is worth most is written first."""
    with open_spool(tmp_path) as spool:
        spool.append([entry(0, 10 * S), entry(1, 60 * S), entry(2, 10 * S), entry(3, 300 * S)])
        assert numbers(spool.reader("city")) == [3, 1, 0, 2]


def test_outputs_drain_independently(tmp_path: Path) -> None:
    """Each output has its own place, also after reopening; it sees only its spans; files go when all have them."""
    with open_spool(tmp_path, TWO) as spool:
        spool.append([entry(0, 60 * S), entry(1, 10 * S)])
        spool.append([entry(2, 60 * S), entry(3, 10 * S)])
        acknowledge(spool.reader("city"), [0, 3])
    with open_spool(tmp_path, TWO) as spool:
        city, old = spool.reader("city"), spool.reader("old")
        assert numbers(city) == [1, 2]
        assert numbers(old) == [0, 2]
        acknowledge(old, [0, 2])
        assert old.pending() == Pending()
        assert len(segments(tmp_path)) == 2
        acknowledge(city, [1, 2])
        assert segments(tmp_path) == []  # they are closed since the spool was opened again
        spool.append([entry(4)])
        assert (numbers(city), numbers(old)) == ([4], [])


def test_numbers_go_on_when_everything_was_sent(tmp_path: Path) -> None:
    """An empty spool does not begin anew: what is appended after reopening is not taken for done."""
    for n in range(3):
        with open_spool(tmp_path) as spool:
            spool.append([entry(n)])
            assert numbers(spool.reader("city")) == [n]
            acknowledge(spool.reader("city"), [n])


def test_what_was_done_is_few_ranges(tmp_path: Path) -> None:
    """Numbers that are other outputs', or given up, leave no holes behind in a cursor."""
    with open_spool(tmp_path, TWO) as spool:
        for n in range(40):
            spool.append([entry(n, SPANS[n % 2])])
        acknowledge(spool.reader("old"), [n for n in range(40) if n % 2 and n not in (3, 21)])
    cursor = json.loads((tmp_path / "cursors" / "old.json").read_text())
    assert cursor["done"] == [[0, 3], [6, 21], [24, 41]]


def test_a_new_output_begins_behind_what_is_there(tmp_path: Path) -> None:
    """What waits for others is not its own."""
    with open_spool(tmp_path) as spool:
        spool.append([entry(0)])
    with open_spool(tmp_path, {**ONE, "new": SPANS}) as spool:
        spool.append([entry(1)])
        assert numbers(spool.reader("new")) == [1]
        assert numbers(spool.reader("city")) == [0, 1]


def test_an_output_that_is_gone_loses_its_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its cursor is removed, the log says what was not sent, and nothing waits for it any more."""
    with open_spool(tmp_path, TWO) as spool:
        spool.append([entry(0, 60 * S), entry(5, 10 * S)])
        acknowledge(spool.reader("city"), [0, 5])
        spool.set_outputs(ONE)
        assert [r.fields for r in caplog.records] == [{"output": "old", "points_not_sent": 1}]  # type: ignore[attr-defined]
    assert [file.name for file in (tmp_path / "cursors").iterdir()] == ["city.json"]
    with open_spool(tmp_path, TWO) as spool:
        assert segments(tmp_path) == []
        assert spool.reader("old").pending() == Pending()


def test_changed_spans_take_effect(tmp_path: Path) -> None:
    """An output that is given fewer spans does not hold up the files of the others."""
    with open_spool(tmp_path) as spool:
        spool.append([entry(0, 10 * S), entry(1, 60 * S)])
    with open_spool(tmp_path, {"city": (60 * S,)}) as spool:
        assert numbers(spool.reader("city")) == [1]
        assert len(segments(tmp_path)) == 1


def test_another_process_is_kept_out(tmp_path: Path) -> None:
    """A spool is used by one process."""
    with open_spool(tmp_path), pytest.raises(StoreError, match=f"process {os.getpid()}"):
        open_spool(tmp_path)
    open_spool(tmp_path).close()


# --- bounds ----------------------------------------------------------------------------------------------------


def test_beyond_its_size_the_finest_span_is_given_up_first(tmp_path: Path) -> None:
    """The oldest file of the finest span goes first; coarse entries stay to the last; all losses are counted."""
    size = 16 * MIB
    piece = 100_000
    with open_spool(tmp_path, TWO, size=size) as spool:
        for n in range(50):
            spool.append([entry(n, 300 * S, piece), entry(100 + n, 10 * S, piece)])
        for n in range(50, 155):
            spool.append([entry(n, 10 * S, piece)])
            assert spool.octets <= size
            assert sum(file.stat().st_size for file in segments(tmp_path)) == spool.octets
        reader = spool.reader("city")
        kept = numbers(reader)
        assert [n for n in kept if n < 50] == list(range(50))
        fine = [*range(100, 150), *range(50, 155)]
        left = [n for n in kept if n >= 50]
        given_up = fine[: len(fine) - len(left)]
        assert left == fine[len(given_up) :], "the oldest are given up"
        # Nothing is given up before it has to be: one segment is what is given up at a time.
        assert spool.octets > size - size // 64 - 2 * piece
        assert spool.lost == {("city", 10 * S, "size"): sum(n + 1 for n in given_up)}
        # More of the coarsest: the finest goes whole, then its own oldest.
        for n in range(200, 400):
            spool.append([entry(n, 300 * S, piece)])
        kept = numbers(reader)
        assert kept == list(range(kept[0], 400))
        assert kept[0] > 200
        lost = sum(n + 1 for n in (*range(50), *range(200, kept[0])))
        assert spool.lost == {
            ("city", 10 * S, "size"): sum(n + 1 for n in fine),
            ("city", 300 * S, "size"): lost,
            ("old", 300 * S, "size"): lost,
        }
        # Nothing coarse makes room for what is finer.
        assert spool.append([entry(7, 10 * S, piece * 10)]) == 1
        assert spool.lost["city", 10 * S, "size"] == sum(n + 1 for n in fine) + 8
        assert numbers(reader) == kept


def test_what_was_sent_makes_room_first(tmp_path: Path) -> None:
    """Files that nobody needs are removed before anything is lost, also those that are still written."""
    with open_spool(tmp_path, size=16 * MIB) as spool:
        for n in range(400):
            spool.append([entry(n, SPANS[n % 3], 200_000)])
            if n % 10 == 9:
                acknowledge(spool.reader("city"), range(n + 1))
        assert spool.lost == {}


def test_what_is_too_old_is_given_up(tmp_path: Path) -> None:
    """Waiting is bounded in time, to a sixteenth; what is not appended to is given up too."""
    clock = Clock()
    with open_spool(tmp_path, age_ns=1600 * S, clock=clock) as spool:
        for n in range(200):
            spool.append([entry(n, SPANS[n % 2])])
            clock.now_ns += 10 * S
        kept = numbers(spool.reader("city"))
        assert 1600 / 10 <= len(kept) <= 1700 / 10 + 3
        assert kept == list(range(kept[0], 200))
        assert sum(spool.lost.values()) == sum(n + 1 for n in range(kept[0]))
        assert {why for _, _, why in spool.lost} == {"age"}
        clock.now_ns += 1700 * S
        spool.maintain()
        assert spool.reader("city").pending() == Pending()
        assert segments(tmp_path) == []


# --- a disk that fails -----------------------------------------------------------------------------------------


class SmallDisk(Hasty):
    """A disk with so much room, that counts what lies in a directory."""

    def __init__(self, path: Path, room: int) -> None:
        self.room = room
        self._path = path

    def write(self, file: BinaryIO, data: bytes | bytearray) -> None:
        file.flush()
        used = sum(one.stat().st_size for one in self._path.rglob("*") if one.is_file())
        fits = max(0, self.room - used)
        super().write(file, data[:fits])
        if len(data) > fits:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_costs_the_finest_span_first(tmp_path: Path) -> None:
    """ENOSPC before the spool's own limit: the same order of loss, nothing torn, and all is well once there is room."""
    disk = SmallDisk(tmp_path, 2 * MIB)
    with open_spool(tmp_path, files=disk) as spool:
        reader = spool.reader("city")
        for n in range(100):
            spool.append([entry(n, SPANS[n % 3], 50_000)])
        kept = numbers(reader)
        assert [n for n in kept if n % 3 == 2] == [n for n in range(100) if n % 3 == 2]
        assert not [n for n in kept if n % 3 == 0 and n < 80]
        lost = sum(n + 1 for n in range(100) if n not in kept)
        assert sum(spool.lost.values()) == lost
        assert {why for _, _, why in spool.lost} == {"disk"}
        # Somebody else takes whatever is freed: the new entries are lost, and little of the old ones for them.
        disk.room = 0
        assert spool.append([entry(500, 10 * S, 50_000), entry(501, 300 * S, 50_000)]) == 2
        assert [n for n in numbers(reader) if n % 3 == 2] == [n for n in range(100) if n % 3 == 2]
        acknowledge(reader, [reader.peek(1)[0].points - 1])  # the cursor cannot be written either
        assert "No space left" in (reader.cursor_failure or "")
        disk.room = 8 * MIB
        assert spool.append([entry(600, 10 * S, 50_000)]) == 0
        reader.acknowledge([])
        assert reader.cursor_failure is None
        kept = numbers(reader)
        assert kept[-1] == 600
    with open_spool(tmp_path) as spool:
        assert numbers(spool.reader("city")) == kept
        assert spool.torn_octets == 0


class BadDisk(Hasty):
    """A disk that answers one operation with EIO."""

    def __init__(self) -> None:
        self.fail_at = 0
        self.count = 0

    def _tick(self) -> None:
        self.count += 1
        if self.count == self.fail_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def create(self, path: Path) -> BinaryIO:
        self._tick()
        return super().create(path)

    def write(self, file: BinaryIO, data: bytes | bytearray) -> None:
        self._tick()
        super().write(file, data)

    def sync(self, file: BinaryIO) -> None:
        self._tick()
        super().sync(file)

    def sync_directory(self, path: Path) -> None:
        self._tick()

    def unlink(self, path: Path) -> None:
        self._tick()
        super().unlink(path)

    def truncate(self, path: Path, octets: int) -> None:
        self._tick()
        super().truncate(path, octets)


def test_an_append_that_failed_can_be_tried_again(tmp_path: Path) -> None:
    """An I/O error at any operation refuses the append; the next one succeeds, and nothing is torn or lost."""
    disk = BadDisk()
    with open_spool(tmp_path, files=disk) as spool:
        spool.append([entry(0)])
        taken = {0}
        for at in range(1, 9):
            for again in range(2):
                disk.count, disk.fail_at = 0, at
                try:
                    spool.append([entry(2 * at + again), entry(100 + 2 * at + again, 60 * S)])
                except StoreError as error:
                    assert "Input/output error" in str(error)
                    disk.fail_at = 0
                    spool.append([entry(2 * at + again), entry(100 + 2 * at + again, 60 * S)])
                taken |= {2 * at + again, 100 + 2 * at + again}
        disk.fail_at = 0
        assert set(numbers(spool.reader("city"))) == taken
        assert spool.lost == {}
    with open_spool(tmp_path) as spool:
        assert set(numbers(spool.reader("city"))) == taken


# --- damage ----------------------------------------------------------------------------------------------------


def one_file(path: Path, count: int) -> Path:
    """Make a spool with one file of entries."""
    with open_spool(path) as spool:
        for n in range(count):
            spool.append([entry(n)])
    (file,) = segments(path)
    return file


@pytest.mark.parametrize("cut", [1, 19, 20, 21, HEADER_OCTETS + 19, 2 * HEADER_OCTETS])
def test_a_torn_tail_is_cut_off(tmp_path: Path, cut: int) -> None:
    """What a crash left of the last record goes, once, and is counted; all before it is there."""
    file = one_file(tmp_path, 5)
    whole = file.stat().st_size
    os.truncate(file, whole - cut)
    left = 4 if cut <= HEADER_OCTETS + 20 else 3
    torn = whole - cut - len(HEAD) - left * (HEADER_OCTETS + 20)
    with open_spool(tmp_path) as spool:
        assert spool.torn_octets == torn
        assert numbers(spool.reader("city")) == list(range(left))
        spool.append([entry(9)])
        assert numbers(spool.reader("city")) == [*range(left), 9]
    with open_spool(tmp_path) as spool:
        assert spool.torn_octets == spool.damaged_octets == 0
        assert numbers(spool.reader("city")) == [*range(left), 9]


@pytest.mark.parametrize("where", ["header", "payload"])
def test_damage_costs_what_it_hit(tmp_path: Path, where: str) -> None:
    """A bad sector in the middle costs its record; the others are read, and the loss is counted."""
    file = one_file(tmp_path, 5)
    data = bytearray(file.read_bytes())
    data[len(HEAD) + 2 * (HEADER_OCTETS + 20) + (6 if where == "header" else HEADER_OCTETS + 3)] ^= 0x40
    file.write_bytes(data)
    with open_spool(tmp_path) as spool:
        assert spool.damaged_octets == HEADER_OCTETS + 20
        assert spool.torn_octets == 0
        assert numbers(spool.reader("city")) == [0, 1, 3, 4]


@pytest.mark.parametrize("gone", [False, True], ids=["changed", "removed"])
def test_damage_that_comes_later_is_counted_for_every_output(tmp_path: Path, gone: bool) -> None:
    """A payload that is not what it was, or is not there any more, is lost, and holds up nobody."""
    with open_spool(tmp_path, TWO) as spool:
        spool.append([entry(0, 60 * S), entry(1, 60 * S)])
        (file,) = segments(tmp_path)
        if gone:
            file.unlink()
        else:
            data = bytearray(file.read_bytes())
            data[-1] ^= 1
            file.write_bytes(data)
        assert numbers(spool.reader("city")) == ([] if gone else [0])
        assert numbers(spool.reader("old")) == ([] if gone else [0])
        lost = 3 if gone else 2
        assert spool.lost == {("city", 60 * S, "damage"): lost, ("old", 60 * S, "damage"): lost}
        assert spool.reader("city").pending().entries == (0 if gone else 1)


def test_a_damaged_cursor_sends_everything_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Twice is harmless, never is not; the log says it."""
    with open_spool(tmp_path) as spool:
        spool.append([entry(0), entry(1), entry(2)])
        acknowledge(spool.reader("city"), [0])
    (tmp_path / "cursors" / "city.json").write_text("{")
    with open_spool(tmp_path) as spool:
        assert numbers(spool.reader("city")) == [0, 1, 2]
    assert "a cursor is damaged" in caplog.text


@pytest.mark.parametrize("what", ["segment", "cursor"])
def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path, what: str) -> None:
    """A spool of a newer telemetryd is not read as if it were damaged."""
    segment = one_file(tmp_path, 3)
    cursor = tmp_path / "cursors" / "city.json"
    if what == "segment":
        segment.write_bytes(HEAD[:-1] + b"\x09" + segment.read_bytes()[len(HEAD) :])
    else:
        cursor.write_text(cursor.read_text().replace('"version": 1', '"version": 9'))
    before = {file: file.read_bytes() for file in (segment, cursor)}
    with pytest.raises(StoreError, match=r"version 9 and .* up to 1:"):
        open_spool(tmp_path)
    assert {file: file.read_bytes() for file in (segment, cursor)} == before


def test_scanning_finds_whole_records_only() -> None:
    """A payload that looks like a record, or is empty, does not confuse the scan."""
    inner = encode(entry(7), 7, 1)
    entries = [Entry(b"", 1, S, S), Entry(inner, 2, S, S), Entry(b"TDSR" * 50, 3, S, S)]
    data = HEAD + b"".join(encode(one, n, 1) for n, one in enumerate(entries))
    found = list(scan(memoryview(data), check_payloads=True))
    assert [one.points for one in found if not isinstance(one, int)] == [1, 2, 3]
    # Cut inside of the second record: the record in its payload is found, since it is whole - and it is no entry
    # of this file's order; nothing else is.
    torn = data[: len(HEAD) + HEADER_OCTETS + HEADER_OCTETS + len(inner) - 1]
    assert [one if isinstance(one, int) else one.points for one in scan(memoryview(torn), check_payloads=True)] == [
        1, HEADER_OCTETS + len(inner) - 1
    ]  # fmt: skip


# --- ranges ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("adds", "ranges"),
    [
        ([(0, 3), (3, 5)], [(0, 5)]),
        ([(3, 5), (0, 3)], [(0, 5)]),
        ([(0, 1), (5, 6), (2, 3)], [(0, 1), (2, 3), (5, 6)]),
        ([(0, 1), (5, 6), (2, 3), (1, 5)], [(0, 6)]),
        ([(0, 9), (2, 3)], [(0, 9)]),
        ([(2, 3), (0, 9)], [(0, 9)]),
    ],
)
def test_ranges_grow_together(adds: Sequence[tuple[int, int]], ranges: list[tuple[int, int]]) -> None:
    """Ranges that touch are one, in whatever order they come."""
    done = Done()
    for start, stop in adds:
        done.add(start, stop)
    assert list(done.ranges) == ranges
    members = {n for start, stop in adds for n in range(start, stop)}
    assert {n for n in range(12) if n in done} == members
    assert {n for start, stop in done.gaps() for n in range(start, min(stop, 12))} == set(range(12)) - members
    assert list(done.gaps())[-1][1] == END
