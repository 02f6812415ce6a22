"""What enforcement keeps on the disk, below one directory:

audit.jsonl               every write: who, why, the exact paths old -> new, what came of it; a chain of hashes
transactions/ID.jsonl     the journal of a transaction (:mod:`telemetryd.enforce.journal`)
transactions/ended/       those that have ended
intended/DEVICE.json      what was confirmed on a device last
frozen.json               there while nothing may be written
budget.json               Sets of each switch today
locks/DEVICE              one writer a device
"""

from __future__ import annotations

import asyncio
import fcntl
import getpass
import json
import os
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from telemetryd.enforce.diff import Write
from telemetryd.enforce.names import Leaves, Value
from telemetryd.errors import TelemetrydError
from telemetryd.observe.chain import Chain, Document, write_whole

_UNUSUAL: Final = re.compile(r"[^A-Za-z0-9._-]")


class FrozenError(TelemetrydError):
    """Nothing may be written now."""


class BusyError(TelemetrydError):
    """Somebody else writes to a device."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Who writes, and why.

    Attributes
    ----------
    why:
        In words, such as a ticket.
    policy:
        Version or digest of the policies.
    demand:
        What demands the allocation was made for, such as a file or a time.
    who, pid:
        The user of this process, and the process.
    certificate:
        Name in the certificate that we show to devices; empty without one.
    """

    why: str
    policy: str = ""
    demand: str = ""
    certificate: str = ""
    who: str = field(default_factory=lambda: user())
    pid: int = field(default_factory=os.getpid)


@dataclass(frozen=True, slots=True)
class Freeze:
    """That nothing may be written, since when, by whom and why."""

    who: str
    at: str
    why: str


@dataclass(frozen=True, slots=True)
class Intended:
    """What was confirmed on a device last.

    Attributes
    ----------
    leaves:
        All leaves of ours.
    created:
        Leaves without a name of ours that we made, such as a port's entry in /qos.
    adopted:
        What others had at attachment points that we took.
    policy, transaction:
        Where it is from.
    """

    leaves: Mapping[str, Value] = field(default_factory=dict)
    created: tuple[str, ...] = ()
    adopted: Mapping[str, Value] = field(default_factory=dict)
    policy: str = ""
    transaction: str = ""


class Records:
    """The directory; it need not exist yet.

    Parameters
    ----------
    directory:
        `enforce.path` of the settings.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.audit = Chain(directory / "audit.jsonl")
        self.transactions = directory / "transactions"

    # --- audit ----------------------------------------------------------------------------------------------------

    def note(self, what: str, reason: Reason, **more: Any) -> Document:
        """Add a record to the audit; it is on the disk when this returns.

        Raises
        ------
        TelemetrydError
            If it cannot be written: then nothing may be written to a device either.
        """
        return self.audit.append({"at": now(), "what": what, **asdict(reason), **more})

    # --- freeze ---------------------------------------------------------------------------------------------------

    def frozen(self) -> Freeze | None:
        """Return why nothing may be written; None where it may."""
        document = self._read(self.directory / "frozen.json")
        return Freeze(**document) if document is not None else None

    def freeze(self, why: str, who: str = "") -> Freeze:
        """Forbid writing; rolling back and taking everything off stay possible."""
        found = Freeze(who or user(), now(), why)
        self._write(self.directory / "frozen.json", asdict(found))
        return found

    def unfreeze(self) -> None:
        """Allow writing again."""
        (self.directory / "frozen.json").unlink(missing_ok=True)

    def require_thawed(self) -> None:
        """Raise :class:`FrozenError` while nothing may be written."""
        if (found := self.frozen()) is not None:
            raise FrozenError(f"frozen by {found.who} at {found.at}: {found.why} - telemetryd enforce unfreeze")

    # --- budget ---------------------------------------------------------------------------------------------------

    def sets_today(self) -> dict[str, int]:
        """Return how many Sets each switch had today (UTC)."""
        document = self._read(self.directory / "budget.json") or {}
        return dict(document["sets"]) if document.get("day") == now()[:10] else {}

    def count_set(self, device: str) -> None:
        """Count a Set of a switch."""
        with self.locked_file("budget"):
            sets = self.sets_today()
            sets[device] = sets.get(device, 0) + 1
            self._write(self.directory / "budget.json", {"day": now()[:10], "sets": sets})

    # --- intended -------------------------------------------------------------------------------------------------

    def intended(self, device: str) -> Intended | None:
        """Return what was confirmed on a device last; None where nothing of ours was."""
        document = self._read(self._intended(device))
        if document is None:
            return None
        changed = self._read(self._changed(device)) or {}
        leaves = {path: value_of(one) for path, one in (document["leaves"] | changed).items()}
        adopted = {path: value_of(one) for path, one in document["adopted"].items()}
        return Intended(leaves, tuple(document["created"]), adopted, document["policy"], document["transaction"])

    def intend(self, device: str, intended: Intended) -> None:
        """Keep what is confirmed on a device now; nothing of ours where it has no leaves and nothing made."""
        if intended.leaves or intended.created:
            document = {
                "device": device,
                "leaves": intended.leaves,
                "created": intended.created,
                "adopted": intended.adopted,
                "policy": intended.policy,
                "transaction": intended.transaction,
            }
            self._write(self._intended(device), document)
        else:
            self._intended(device).unlink(missing_ok=True)
        self._changed(device).unlink(missing_ok=True)

    def intend_leaves(self, device: str, leaves: Leaves) -> None:
        """Keep leaves that were changed one by one since; the large file stays as it is."""
        changed = self._read(self._changed(device)) or {}
        self._write(self._changed(device), {**changed, **leaves})

    def intended_devices(self) -> list[str]:
        """Return the devices that something of ours was confirmed on."""
        found = (self.directory / "intended").glob("*.json")
        return sorted(
            str(document["device"]) for path in found if (document := self._read(path)) and "device" in document
        )

    # --- locks ----------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self, devices: Iterable[str]) -> Iterator[None]:
        """Be the only writer of devices.

        Raises
        ------
        BusyError
            If somebody else is one of them already.
        """
        with ExitStack() as stack:
            for device in sorted(set(devices)):
                stack.enter_context(self.locked_file(file_name(device), wait=False, what=device))
            yield

    @contextmanager
    def locked_file(self, name: str, *, wait: bool = True, what: str = "") -> Iterator[None]:
        """Hold a lock by its name."""
        path = self.directory / "locks" / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise TelemetrydError(f"{path}: cannot be locked: {error.strerror}") from error
        with os.fdopen(descriptor, "r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise BusyError(f"{what or name}: another process writes to it (pid {file.read().strip()})") from None
            file.seek(0)
            file.truncate()
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    # --- files ----------------------------------------------------------------------------------------------------

    def _intended(self, device: str) -> Path:
        return self.directory / "intended" / f"{file_name(device)}.json"

    def _changed(self, device: str) -> Path:
        return self.directory / "intended" / f"{file_name(device)}.changed"

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise TelemetrydError(f"{path}: cannot be read: {error}") from error
        if not isinstance(document, dict):
            raise TelemetrydError(f"{path}: is no record of ours - move it away")
        return document

    @staticmethod
    def _write(path: Path, document: Mapping[str, Any]) -> None:
        try:
            write_whole(path, json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
        except OSError as error:
            raise TelemetrydError(f"{path}: cannot be written: {error.strerror}") from error


@asynccontextmanager
async def holding(records: Records, devices: Iterable[str]) -> AsyncIterator[None]:
    """Be the only writer of devices, on an event loop: see :meth:`Records.locked`."""
    locks = ExitStack()
    await asyncio.to_thread(lambda: locks.enter_context(records.locked(devices)))
    try:
        yield
    finally:
        await asyncio.to_thread(locks.close)


def value_of(document: Any) -> Value:
    """Return a value out of JSON, where a leaf-list is a list."""
    return tuple(document) if isinstance(document, list) else document


def rows_of(writes: Sequence[Write]) -> list[list[Any]]:
    """Return writes as the audit and the journal have them: path, old, new."""
    return [[one.path, one.old, one.value] for one in writes]


def file_name(device: str) -> str:
    """Return a name for a file of a device."""
    from telemetryd.enforce.names import digest

    plain = _UNUSUAL.sub("-", device)
    return plain if plain == device and not device.startswith(".") else f"{plain}-{digest(device)}"


def user() -> str:
    """Return the user of this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user on this host
        return f"uid {os.getuid()}"


def now() -> str:
    """Return the time, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
