"""Windows for the tests of the embedded store, and file operations that die where they are told to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from telemetryd.schema import KEY_COLUMNS, SUM_COLUMNS, Names, UsageWindow
from telemetryd.store.columns import KEYS, SUMS
from telemetryd.store.embedded import Store
from telemetryd.store.files import Files

S = 1_000_000_000
HOUR = 3600 * S
BASE = 1_790_000_000 * S // HOUR * HOUR

NAMES = Names(
    links=("-", "core-1 up", "core-2 up"),
    metering_points=("-", "exit", "province"),
    departments=("unknown", "税务局", "education", "health"),
    applications=("unclassified", "exam enrolment", "tax filing"),
    zones=("-", "dmz", "office"),
    service_classes=("-", "gold"),
)


def window(
    start_ns: int, span_ns: int = S, rows: int = 3, seed: int | None = None, names: Names = NAMES
) -> UsageWindow:
    """Make a window with unique random keys and sums; the same arguments make the same window.

    The sums of many such windows are kept on disk to the last bit.
    """
    random = np.random.default_rng([start_ns // S, span_ns // S, rows if seed is None else seed])
    limits = {
        "table": 2,
        "link": 3,
        "department": len(names.departments),
        "peer_department": len(names.departments),
        "application": len(names.applications),
        "source_zone": 3,
        "destination_zone": 3,
        "service_class": 2,
    }
    keys: dict[tuple[int, ...], None] = {}
    while len(keys) < rows:
        key = {name: int(random.integers(0, limit)) for name, limit in limits.items()}
        key["direction"] = int(random.integers(0, 5) if key["table"] else random.integers(1, 3))
        keys.setdefault(tuple(key[name] for name in KEYS))
    columns: dict[str, Any] = {
        column.name: np.array([key[place] for key in keys], dtype=column.dtype)
        for place, column in enumerate(KEY_COLUMNS)
    }
    samples = random.integers(1, 50, rows)
    rate = 1024.0
    octets = 64.0 * random.integers(1, 24, rows)
    values = {
        "samples": samples,
        "octets": rate * samples * octets,
        "packets": rate * samples,
        "octets_variance": rate * rate * samples * octets**2,
        "packets_variance": rate * rate * samples,
        "octets_largest": rate * octets,
        "packets_largest": np.full(rows, rate),
        "stated_rate_samples": samples // 2,
    }
    columns |= {column.name: values[column.name].astype(column.dtype) for column in SUM_COLUMNS}
    return UsageWindow(start_ns, span_ns, columns, names)


def expected_rows(windows: Iterable[UsageWindow], origin: str) -> list[dict[str, Any]]:
    """Return the rows that the store should hold of windows, worked out one by one."""
    rows = []
    for w in windows:
        names = w.names
        for k in range(len(w.columns["samples"])):
            code = {name: int(w.columns[name][k]) for name in KEYS}
            is_link = code["table"] == 0
            row: dict[str, Any] = {"time": w.start_ns, "span_ns": w.span_ns, "origin": origin}
            row["table"] = "link_usage" if is_link else "totals"
            row["link"] = (names.links if is_link else names.metering_points)[code["link"]]
            row["direction"] = (
                ("unknown", "in", "out") if is_link else ("unknown", "inbound", "outbound", "internal", "transit")
            )[code["direction"]]
            row["department"] = names.departments[code["department"]]
            row["peer_department"] = names.departments[code["peer_department"]]
            row["application"] = names.applications[code["application"]]
            row["source_zone"] = names.zones[code["source_zone"]]
            row["destination_zone"] = names.zones[code["destination_zone"]]
            row["service_class"] = names.service_classes[code["service_class"]]
            row |= {name: w.columns[name][k].item() for name in SUMS}
            rows.append(row)
    return rows


def multiset(rows: Iterable[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """Count rows, whatever their order."""
    return Counter(tuple(sorted(row.items())) for row in rows)


def held(store: Store) -> Counter[tuple[Any, ...]]:
    """Count the usage rows of a store."""
    return multiset(store.scan().to_pylist())


class Died(BaseException):
    """The process ended here."""


class Hasty(Files):
    """File operations that do not wait for the disk, for tests of what comes after."""

    def sync(self, file: BinaryIO) -> None:
        file.flush()

    def sync_directory(self, path: Path) -> None:
        pass


class DyingFiles(Files):
    """File operations of a process that ends right after operation number ``at``.

    With ``power`` lost too, what was not synced by then is undone: content is cut in half, names are as
    they were; without, everything written stays. Syncs only take notes, to be fast.
    """

    def __init__(self, at: int, power: bool = True) -> None:
        self.operations = 0
        self._at = at
        self._power = power
        self._undo: list[tuple[Path, Callable[[], object]]] = []
        self._unsynced: dict[BinaryIO, Path] = {}

    def _step(self, operation: Callable[[], object]) -> None:
        if self.operations >= self._at:
            raise Died
        self.operations += 1
        operation()
        if self.operations == self._at:
            self._die()
            raise Died

    def _die(self) -> None:
        for file, path in self._unsynced.items():
            file.flush()
            if self._power:
                os.truncate(path, path.stat().st_size // 2)
        if not self._power:
            return
        for _, undo in reversed(self._undo):
            undo()

    def create(self, path: Path) -> BinaryIO:
        made: list[BinaryIO] = []

        def create() -> None:
            made.append(super(DyingFiles, self).create(path))
            self._unsynced[made[0]] = path

        try:
            self._step(create)
        except Died:
            for file in made:
                file.close()
            raise
        return made[0]

    def write(self, file: BinaryIO, data: bytes | bytearray) -> None:
        self._step(lambda: super(DyingFiles, self).write(file, data))

    def sync(self, file: BinaryIO) -> None:
        def sync() -> None:
            file.flush()
            self._unsynced.pop(file)

        self._step(sync)

    def truncate(self, path: Path, octets: int) -> None:
        self._step(lambda: super(DyingFiles, self).truncate(path, octets))

    def rename(self, source: Path, target: Path) -> None:
        def rename() -> None:
            old = target.read_bytes() if target.exists() else None

            def undo() -> None:
                target.replace(source)
                if old is not None:
                    target.write_bytes(old)

            super(DyingFiles, self).rename(source, target)
            self._undo.append((target.parent, undo))

        self._step(rename)

    def link(self, source: Path, target: Path) -> None:
        def link() -> None:
            super(DyingFiles, self).link(source, target)
            self._undo.append((target.parent, target.unlink))

        self._step(link)

    def sync_directory(self, path: Path) -> None:
        def sync() -> None:
            self._undo = [(parent, undo) for parent, undo in self._undo if parent != path]

        self._step(sync)

    def unlink(self, path: Path) -> None:
        def unlink() -> None:
            if path.exists():
                old = path.read_bytes()
                super(DyingFiles, self).unlink(path)
                self._undo.append((path.parent, lambda: path.write_bytes(old)))

        self._step(unlink)
