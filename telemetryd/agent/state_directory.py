"""What the agent keeps on the disk: the running configuration, and the commit that waits for its confirmation.

    running.json      everything as it was at some change
    changes.jsonl     the changes since then, one a line, each with the hash of the one before
    audit.jsonl       who has set what

A change is on the disk before it is answered. When the changes have become as large as everything, everything is
written anew; a change that is large itself is not written as one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from telemetryd.agent.datastore import Entry, Values
from telemetryd.agent.model import Model
from telemetryd.agent.place import Finder
from telemetryd.agent.refusal import RefusedError
from telemetryd.agent.types import BadValueError, Form
from telemetryd.errors import InputError, TelemetrydError
from telemetryd.ingest.gnmi.path import parse
from telemetryd.observe.chain import Chain, write_whole

_VERSION: Final = 1
#: Changes are kept one by one up to this size, or that of everything, if that is more.
_LEAST_OCTETS: Final = 1 << 20
#: Entries of a change from which on everything is written instead.
_LARGE: Final = 2_000
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

#: Entries by path; None for one that goes, or was not there.
Entries = Mapping[str, Values | None]


@cache
def boot_id() -> str:
    """Return what tells this boot of the host from others."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def boot_s() -> float:
    """Return the seconds since the host booted, those asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Pending:
    """A commit that waits for its confirmation.

    Attributes
    ----------
    id:
        The client's name for it.
    who:
        Who has made it.
    seconds, deadline_s:
        How long it waits, and until when on the clock of :func:`boot_s`.
    boot:
        The boot that this clock is of: after another one it is not waited for.
    undo:
        What was before.
    """

    id: str
    who: str
    seconds: float
    deadline_s: float
    boot: str
    undo: dict[str, Values | None] = field(default_factory=dict)


@dataclass(slots=True)
class Saved:
    """What was kept.

    Attributes
    ----------
    elections:
        Role -> the greatest election id of its clients.
    """

    entries: dict[str, Values] = field(default_factory=dict)
    pending: Pending | None = None
    elections: dict[str, int] = field(default_factory=dict)


class StateDirectory:
    """The directory; it need not exist yet.

    Parameters
    ----------
    path:
        Nobody else writes there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.audit = Chain(path / "audit.jsonl")
        self._whole = path / "running.json"
        self._changes = Chain(path / "changes.jsonl")
        self._serial = 0
        # Octets of everything, and of the changes since.
        self._octets = self._grown = 0

    def load(self) -> Saved:
        """Return what was kept last.

        Raises
        ------
        InputError
            If a file is damaged; with its name.
        """
        saved = Saved()
        try:
            if self._whole.exists():
                document = json.loads(self._whole.read_bytes())
                if document["version"] != _VERSION:
                    raise InputError(
                        f"{self._whole}: version {document['version']} is not ours, which is {_VERSION} - move it away "
                        "to begin without a configuration"
                    )
                self._serial = document["serial"]
                self._octets = self._whole.stat().st_size
                _take(saved, document)
            for record in self._changes.records():
                if record["serial"] > self._serial:
                    self._serial = record["serial"]
                    _take(saved, record)
                    self._grown = self._changes.path.stat().st_size
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{self._whole}: is damaged: {error} - move it away to begin without a configuration"
            ) from error
        except TelemetrydError as error:
            raise InputError(f"{error} - move it away to begin with {self._whole.name} alone") from error
        except OSError as error:
            raise InputError(f"{error.filename}: cannot be read: {error.strerror}") from error
        return saved

    def is_large(self, entries: Entries) -> bool:
        """Tell whether a change is to be kept by :meth:`save`, not by :meth:`append`."""
        return len(entries) >= _LARGE or self._grown > max(_LEAST_OCTETS, self._octets)

    def append(self, entries: Entries, pending: Pending | None, elections: Mapping[str, int]) -> None:
        """Keep a change; it is on the disk when this returns.

        Raises
        ------
        TelemetrydError
            If it cannot be written.
        """
        record = {"serial": self._serial + 1, "entries": dict(entries), **_rest(pending, elections)}
        self._changes.append(record)
        self._serial += 1
        self._grown = self._changes.path.stat().st_size

    def save(self, entries: Mapping[str, Values], pending: Pending | None, elections: Mapping[str, int]) -> None:
        """Keep everything; it is on the disk when this returns.

        Raises
        ------
        TelemetrydError
            If it cannot be written.
        """
        document = {
            "version": _VERSION,
            "serial": self._serial + 1,
            "entries": dict(entries),
            **_rest(pending, elections),
        }
        octets = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            write_whole(self._whole, octets)
            self._serial += 1
            # Changes that are still there after a crash are older than this, and are passed over.
            self._changes.path.unlink(missing_ok=True)
        except OSError as error:
            raise TelemetrydError(f"{self._whole}: cannot be written: {error.strerror}") from error
        self._octets, self._grown = len(octets), 0


def entries_of(model: Model, saved: Mapping[str, Values], where: object) -> Iterable[Entry]:
    """Yield the entries that were kept, held against the model.

    Raises
    ------
    InputError
        If the model has no such leaf, or it takes no such value.
    """
    finder = Finder(model)
    for path, values in saved.items():
        try:
            within = finder.find(parse(path).elems).entries[-1]
            node = within.node.list
            assert node is not None
            for way, value in values.items():
                type_ = node.by_way[way].type
                assert type_ is not None
                for one in value if isinstance(value, tuple) else (value,):
                    type_.read(one, Form.SCALAR)
        except (RefusedError, BadValueError, KeyError, IndexError, AssertionError, InputError) as error:
            raise InputError(
                f"{where}: {path}: is nothing that this agent configures: {error} - move the directory away to begin "
                "without a configuration"
            ) from error
        yield Entry(node, within.path, within.list_path, within.elems, dict(values))


def _rest(pending: Pending | None, elections: Mapping[str, int]) -> dict[str, Any]:
    fields = None if pending is None else {name: getattr(pending, name) for name in pending.__slots__}
    return {"pending": fields, "elections": dict(elections)}


def _take(saved: Saved, document: Mapping[str, Any]) -> None:
    for path, values in document["entries"].items():
        if values is None:
            saved.entries.pop(path, None)
        else:
            saved.entries[path] = _values(values)
    pending = document["pending"]
    saved.pending = None
    if pending is not None:
        undo = {path: None if values is None else _values(values) for path, values in pending["undo"].items()}
        saved.pending = Pending(**{**pending, "undo": undo})
    saved.elections = dict(document["elections"])


def _values(values: Mapping[str, Any]) -> Values:
    return {way: tuple(value) if isinstance(value, list) else value for way, value in values.items()}
