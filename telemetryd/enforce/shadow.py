"""Verdicts of devices in shadow: what would have been written, and what would have followed, until somebody saw it.

One file a device, DEVICE.jsonl below ``shadow/`` of the records: first who saw the earlier ones and how many became too
many, then a line a verdict. What nobody has seen stays, up to :data:`MOST`; of more the oldest become a count, which is
told.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from telemetryd.enforce.diff import Write
from telemetryd.enforce.records import file_name, now, rows_of
from telemetryd.errors import TelemetrydError
from telemetryd.observe.chain import write_whole

#: Verdicts of a device that wait at most, and writes that one of them shows; of the others it tells how many.
MOST: Final = 500
MOST_WRITES: Final = 50


@dataclass(frozen=True, slots=True)
class Followed:
    """What would have become of a class: rates in bit/s, with what it used when the verdict was made."""

    link: str
    direction: str
    node: tuple[str, ...]
    used_bps: int
    would_have_bps: int


@dataclass(frozen=True, slots=True)
class ShadowVerdict:
    """What would have been written to a device once.

    Attributes
    ----------
    at:
        When, UTC.
    count:
        How many leaves.
    writes:
        The first of them: path, old, new.
    kind:
        ``rates``, ``structure``, or ``refused`` for what could not be planned.
    why:
        What it was for.
    followed:
        Of the classes that would have had something else than they used.
    """

    device: str
    at: str
    kind: str
    count: int
    why: str
    writes: tuple[tuple[str, Any, Any], ...] = ()
    followed: tuple[Followed, ...] = ()


@dataclass(frozen=True, slots=True)
class Unseen:
    """What nobody has seen yet of a device, the oldest first; ``lost`` are those that became too many."""

    device: str
    verdicts: tuple[Mapping[str, Any], ...] = ()
    lost: int = 0
    seen: Mapping[str, Any] | None = field(default=None)


class Shadow:
    """The verdicts of all devices.

    Parameters
    ----------
    directory:
        That of the records; it need not exist yet.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "shadow"

    def add(self, device: str, kind: str, writes: Sequence[Write], why: str, followed: Sequence[Followed] = ()) -> None:
        """Keep a verdict.

        Raises
        ------
        TelemetrydError
            If it cannot be written.
        """
        rows = tuple((path, old, new) for path, old, new in rows_of(writes[:MOST_WRITES]))
        verdict = ShadowVerdict(device, now(), kind, len(writes), why, rows, tuple(followed))
        line = json.dumps(asdict(verdict), ensure_ascii=False)
        with self._opened(device) as path:
            head, lines = _read(path)
            lines.append(line)
            excess = max(0, len(lines) - MOST)
            _replace(path, {**head, "device": device, "lost": head.get("lost", 0) + excess}, lines[excess:])

    def unseen(self, device: str | None = None) -> list[Unseen]:
        """Return what nobody has seen, of one device or of all.

        Raises
        ------
        TelemetrydError
            If it cannot be read.
        """
        found = []
        for path in sorted(self._directory.glob("*.jsonl")):
            head, lines = _read(path)
            if device in (None, head["device"]):
                verdicts = tuple(json.loads(line) for line in lines)
                found.append(Unseen(head["device"], verdicts, head["lost"], head.get("seen")))
        return found

    def see(self, who: str, device: str | None = None) -> int:
        """Note that somebody has seen everything so far; return how many verdicts those were."""
        total = 0
        for one in self.unseen(device):
            with self._opened(one.device) as path:
                head, lines = _read(path)
                count = len(lines) + head["lost"]
                if count:
                    _replace(
                        path,
                        {"device": one.device, "lost": 0, "seen": {"who": who, "at": now(), "verdicts": count}},
                        [],
                    )
                    total += count
        return total

    @contextmanager
    def _opened(self, device: str) -> Iterator[Path]:
        """Be the only one who changes the file of a device."""
        path = self._directory / f"{file_name(device)}.jsonl"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise TelemetrydError(f"{path}: cannot be written: {error.strerror}") from error
        with os.fdopen(descriptor, "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield path


def _read(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the first line, and the lines of the verdicts."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return (json.loads(lines[0]), lines[1:]) if lines else ({}, [])
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError) as error:
        raise TelemetrydError(f"{path}: cannot be read: {error}") from error


def _replace(path: Path, head: Mapping[str, Any], lines: Sequence[str]) -> None:
    text = "".join(f"{line}\n" for line in (json.dumps(head, ensure_ascii=False), *lines))
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise TelemetrydError(f"{path}: cannot be written: {error.strerror}") from error
