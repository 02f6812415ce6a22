"""The journal of a transaction: what is to be written, how far it has come, what was decided. After a crash it decides.

One file a transaction, one JSON object a line, each on the disk before what it announces is done:

    begun          who, why, which devices
    planned        a device: each leaf that will be written, with what is there before and after
    sending, sent  a Set to a device: its answer is known once it was `sent`
    written        all devices have everything
    measuring      guards judge; without a decision in time everything goes back
    confirming     the decision: everything stays
    rolling-back   the decision: everything goes back
    settled        a device is as was decided
    ended          nothing is left to do

Without a decision in the file the decision is to go back. A line that was being written when the power failed was never
acted upon, and counts for nothing.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from telemetryd.enforce.names import Value
from telemetryd.enforce.records import BusyError, Reason, now, value_of
from telemetryd.errors import InputError, TelemetrydError
from telemetryd.observe.chain import sync_directory

STATES: Final = (
    "begun", "planned", "sending", "sent", "written", "measuring", "confirming", "rolling-back", "settled", "ended",
)  # fmt: skip


class Leaf(NamedTuple):
    """A leaf that a transaction writes: what is there before and after, None for nothing."""

    path: str
    old: Value | None
    new: Value | None


@dataclass(frozen=True, slots=True)
class Planned:
    """What a transaction does to a device.

    Attributes
    ----------
    leaves:
        Everything that it writes, in the order of writing.
    commit:
        Id of the device's own timer; empty without one.
    """

    device: str
    leaves: tuple[Leaf, ...]
    commit: str = ""


@dataclass(slots=True)
class History:
    """What a journal says.

    Attributes
    ----------
    state:
        Of its last record.
    planned:
        Device -> what is done to it.
    touched:
        Devices that a Set was on its way to.
    unanswered:
        Those whose answer is not known.
    decision:
        ``forward``, ``back``, or "" while there is none.
    settled:
        Devices that are as was decided.
    why:
        Of the decision, or of the end.
    """

    id: str
    path: Path
    reason: Reason
    at: str = ""
    state: str = "begun"
    devices: tuple[str, ...] = ()
    planned: dict[str, Planned] = field(default_factory=dict)
    touched: dict[str, None] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)
    decision: str = ""
    settled: set[str] = field(default_factory=set)
    why: str = ""
    outcome: str = ""
    until: str = ""
    pid: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.state == "ended"

    @property
    def unsettled(self) -> list[str]:
        """Devices that are still to become what was decided."""
        return [name for name in self.touched if name not in self.settled]


class Journal:
    """The journal of one transaction, for the process that runs it.

    Parameters
    ----------
    directory:
        ``transactions`` of the records.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.id = name
        self.path = directory / f"{name}.jsonl"
        self._file: BinaryIO | None = None

    @classmethod
    def begin(cls, directory: Path, reason: Reason, devices: Iterable[str], **more: Any) -> Journal:
        """Begin a journal.

        Raises
        ------
        TelemetrydError
            If it cannot be written.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        journal = cls(directory, f"{stamp}-{secrets.token_hex(3)}")
        try:
            journal.add("begun", id=journal.id, reason=asdict(reason), devices=list(devices), **more)
        except BaseException:
            journal.close()
            raise
        return journal

    def add(self, state: str, **more: Any) -> None:
        """Add a record; it is on the disk when this returns.

        Raises
        ------
        TelemetrydError
            If it cannot be written.
        """
        assert state in STATES, state
        line = json.dumps({"state": state, "at": now(), **more}, ensure_ascii=False, separators=(",", ":"))
        try:
            file = self._opened()
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise TelemetrydError(f"{self.path} cannot be written: {error.strerror}") from error

    def plan(self, planned: Sequence[Planned]) -> None:
        """Add what is done to devices."""
        for one in planned:
            self.add("planned", device=one.device, commit=one.commit, leaves=one.leaves)

    def end(self, outcome: str, why: str = "") -> None:
        """Add that nothing is left to do, and put the file with those that have ended."""
        self.add("ended", outcome=outcome, why=why)
        self.close()
        ended = self.path.parent / "ended"
        try:
            ended.mkdir(exist_ok=True)
            self.path.replace(ended / self.path.name)
            sync_directory(ended)
            sync_directory(self.path.parent)
        except OSError as error:
            raise TelemetrydError(f"{self.path} cannot be moved: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not self.path.exists()
            self._file = self.path.open("r+b" if not is_new else "w+b")
            data = self._file.read()
            # Half a line was never acted upon: the next record takes its place.
            self._file.truncate(data.rfind(b"\n") + 1)
            self._file.seek(0, os.SEEK_END)
            if is_new:
                sync_directory(self.path.parent)
        return self._file


def read_journal(path: Path) -> History | None:
    """Read a journal; None where not even its first record was written whole.

    Raises
    ------
    TelemetrydError
        If it cannot be read, or a record of it is none.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TelemetrydError(f"{path} cannot be read: {error.strerror}") from error
    history: History | None = None
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
        try:
            record = json.loads(line)
            if history is None:
                history = History(record["id"], path, Reason(**record["reason"]), record["at"])
                history.devices = tuple(record["devices"])
                history.pid = history.reason.pid
            _add(history, record)
        except (ValueError, TypeError, KeyError) as error:
            raise TelemetrydError(f"{path}:{number}: is no record of a transaction: {error}") from error
    return history


def _add(history: History, record: Mapping[str, Any]) -> None:
    state = history.state = record["state"]
    match state:
        case "planned":
            leaves = tuple(Leaf(path, value_of(old), value_of(new)) for path, old, new in record["leaves"])
            history.planned[record["device"]] = Planned(record["device"], leaves, record["commit"])
        case "sending":
            history.touched[record["device"]] = None
            history.unanswered.add(record["device"])
        case "sent":
            if record["outcome"] != "lost":
                history.unanswered.discard(record["device"])
        case "measuring":
            history.until = record["until"]
        case "confirming" | "rolling-back":
            history.decision = "forward" if state == "confirming" else "back"
            history.why = record.get("why", "")
        case "settled":
            history.settled.add(record["device"])
        case "ended":
            history.outcome, history.why = record["outcome"], record["why"] or history.why


def open_transactions(directory: Path) -> list[History]:
    """Return the transactions that have not ended, the oldest first.

    Raises
    ------
    TelemetrydError
        If one cannot be read.
    """
    return [found for path in sorted(directory.glob("*.jsonl")) if (found := read_journal(path)) is not None]


def require_ended(directory: Path, devices: Collection[str]) -> None:
    """Refuse devices that an open transaction is still to bring to its end.

    Raises
    ------
    BusyError
        If it has one of them.
    TelemetrydError
        If one cannot be read.
    """
    for history in open_transactions(directory):
        both = [name for name in devices if name in history.devices and not history.has_ended]
        if both:
            raise BusyError(f"{both[0]}: transaction {history.id} has not ended - telemetryd enforce recover")


def ended_transactions(directory: Path, most: int = 0) -> list[History]:
    """Return the transactions that have ended, the newest first; `most` of them, 0 for all."""
    paths = sorted((directory / "ended").glob("*.jsonl"), reverse=True)
    return [found for path in paths[: most or None] if (found := read_journal(path)) is not None]


def find_transaction(directory: Path, name: str) -> History:
    """Return a transaction by its id, or by the beginning of it.

    Raises
    ------
    InputError
        If there is none, or more than one.
    """
    found = [path for place in (directory, directory / "ended") for path in sorted(place.glob(f"{name}*.jsonl"))]
    if len(found) != 1:
        what = "several transactions begin" if found else "no transaction begins"
        raise InputError(f'{what} with "{name}" in {directory} - telemetryd enforce history')
    history = read_journal(found[0])
    if history is None:
        raise InputError(f"{found[0]}: nothing was written of it, and nothing to a device")
    return history
