"""Structured logs on stderr: an event and its fields, one line each, rate-limited by event.

Text is ``event key=value ...``. Where stderr is the journal (``JOURNAL_STREAM``, systemd.exec(5)) each line
begins with its priority (``<4>``, sd-daemon(3)) and has no time, since the journal notes both itself.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

ROOT: Final = "telemetryd"
BURST: Final = 10
PERIOD_NS: Final = 60_000_000_000

#: Python's level -> syslog's priority (RFC 5424 table 2).
_PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7))
_BARE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/@%+,[]")


class RateLimit:
    """Let at most ``burst`` lines of each event pass in a period; count the others.

    Parameters
    ----------
    clock:
        Monotonic time in ns.
    """

    def __init__(
        self, burst: int = BURST, period_ns: int = PERIOD_NS, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._burst = burst
        self._period_ns = period_ns
        self._clock = clock
        self._lock = threading.Lock()
        self._events: dict[str, list[int]] = {}  # event -> [start of its period, lines passed, lines held back]

    def admit(self, event: str) -> int | None:
        """Return None if a line must be held back, else how many were held back before it."""
        with self._lock:
            now = self._clock()
            state = self._events.setdefault(event, [now, 0, 0])
            held_back = 0
            if now - state[0] >= self._period_ns:
                held_back = state[2]
                state[:] = [now, 0, 0]
            if state[1] >= self._burst:
                state[2] += 1
                return None
            state[1] += 1
            return held_back


class Log:
    """The log of one component. Events are fixed texts; what varies goes into the fields."""

    def __init__(self, name: str, limit: RateLimit | None = None) -> None:
        self._name = name
        self._logger = logging.getLogger(f"{ROOT}.{name}")
        self._limit = limit or RateLimit()

    def debug(self, event: str, **fields: object) -> None:
        """Log what only its developer wants to know."""
        self._emit(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Log a normal event."""
        self._emit(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log what an operator should look at."""
        self._emit(logging.WARNING, event, fields)

    def error(self, event: str, *, error: BaseException | None = None, **fields: object) -> None:
        """Log a failure, with its traceback where there is an unexpected exception."""
        if error is not None:
            fields = {**fields, "traceback": "".join(traceback.format_exception(error)).rstrip()}
        self._emit(logging.ERROR, event, fields)

    def _emit(self, level: int, event: str, fields: Mapping[str, object]) -> None:
        if not self._logger.isEnabledFor(level):
            return
        held_back = self._limit.admit(event)
        if held_back is None:
            return
        if held_back:
            fields = {**fields, "held_back": held_back}
        self._logger.log(level, event, extra={"component": self._name, "fields": fields})


def configure(level: str, style: Literal["text", "json"], stream: TextIO | None = None) -> None:
    """Send all logs to stderr (or a stream), those of libraries from warnings on; replaces what was set before."""
    target = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(target)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter(journal=is_journal(target, os.environ)))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    set_level(level)


def set_level(level: str) -> None:
    """Change the least level that is logged."""
    logging.getLogger(ROOT).setLevel(level.upper())


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Tell whether a stream is connected to the journal: ``JOURNAL_STREAM`` holds its device and inode."""
    named = environment.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        status = os.fstat(stream.fileno())
    except OSError:
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


class TextFormatter(logging.Formatter):
    """``2026-11-28T01:00:00.000Z warning store: cannot append reason="..."``, or the journal's form of it."""

    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        component, event, fields = _parts(record)
        text = f"{component}: {event}" + "".join(f" {name}={quote(value)}" for name, value in fields.items())
        if self._journal:
            priority = next((p for level, p in _PRIORITIES if record.levelno >= level), 7)
            return f"<{priority}>{text}"
        return f"{_time(record)} {record.levelname.lower()} {text}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``component``, ``event``, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        component, event, fields = _parts(record)
        head = {"time": _time(record), "level": record.levelname.lower(), "component": component, "event": event}
        return json.dumps({**fields, **head}, default=str, ensure_ascii=False)


def quote(value: object) -> str:
    """Write a value of a field: bare where it is plain, else as a JSON text, so that a line stays one line."""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    return text if text and _BARE.issuperset(text) else json.dumps(text, ensure_ascii=False)


def _parts(record: logging.LogRecord) -> tuple[str, str, Mapping[str, Any]]:
    """Return (component, event, fields); a library's record has its logger's name and no fields."""
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    if record.exc_info and record.exc_info[1] is not None:
        fields = {**fields, "traceback": "".join(traceback.format_exception(record.exc_info[1])).rstrip()}
    event = record.getMessage()
    if not hasattr(record, "component"):
        event = event.replace("\n", " ")
    return getattr(record, "component", record.name), event, fields


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
