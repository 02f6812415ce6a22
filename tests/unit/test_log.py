"""Logs: one line an event, whatever is in it; floods are held back and counted."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetryd.observe import log
from telemetryd.observe.log import PERIOD_NS, Log, RateLimit, TextFormatter, quote


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the logs go; what was set before is set again afterwards."""
    root, ours = logging.getLogger(), logging.getLogger(log.ROOT)
    before = (list(root.handlers), root.level, ours.level)
    yield io.StringIO()
    logging.captureWarnings(False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def test_text_is_one_line_of_keys_and_values(stream: io.StringIO) -> None:
    """Values with spaces, quotes or line ends are quoted; the event and plain values are not."""
    log.configure("info", "text", stream)
    Log("store").warning("cannot append", reason='no "space"\nleft', retry_s=0.5, ok=True, empty="")
    (line,) = stream.getvalue().splitlines()
    time, _, rest = line.partition(" ")
    assert time.endswith("Z")
    assert rest == 'warning store: cannot append reason="no \\"space\\"\\nleft" retry_s=0.5 ok=true empty=""'


def test_json_is_one_object_a_line(stream: io.StringIO) -> None:
    """Every line parses; no field can pass for the time, the level or the event."""
    log.configure("info", "json", stream)
    Log("receive").info("receiving", at="[::1]:6343", level="x", path=Path("/a"))
    document = json.loads(stream.getvalue())
    assert document["event"] == "receiving"
    assert (document["level"], document["component"], document["path"]) == ("info", "receive", "/a")


def test_an_exception_stays_on_its_line(stream: io.StringIO) -> None:
    """The traceback is a field, also that of a library's record."""
    log.configure("info", "text", stream)
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        Log("daemon").error("failed", error=error)
        logging.getLogger("aiohttp.server").exception("library")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all("ValueError: two\\nlines" in line for line in lines)


def test_levels_and_libraries(stream: io.StringIO) -> None:
    """Below the level nothing is logged; libraries are heard from warnings on; a reload changes the level."""
    log.configure("info", "text", stream)
    Log("daemon").debug("hidden")
    logging.getLogger("asyncio").info("hidden")
    logging.getLogger("asyncio").warning("shown")
    log.set_level("debug")
    Log("daemon").debug("shown too")
    assert [line.split(": ", 1)[1] for line in stream.getvalue().splitlines()] == ["shown", "shown too"]


def test_the_journal_gets_priorities_and_no_time(tmp_path: Path) -> None:
    """A stream whose device and inode JOURNAL_STREAM names is the journal (systemd.exec(5))."""
    with (tmp_path / "journal").open("w") as journal, (tmp_path / "other").open("w") as other:
        status = os.fstat(journal.fileno())
        environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert log.is_journal(journal, environment)
        assert not log.is_journal(other, environment)
        assert not log.is_journal(io.StringIO(), environment)
        assert not log.is_journal(journal, {})
    record = logging.LogRecord("telemetryd.x", logging.ERROR, "f", 1, "gone", (), None)
    record.component, record.fields = "x", {"n": 1}
    assert TextFormatter(journal=True).format(record) == "<3>x: gone n=1"


def test_a_flood_of_one_event_is_held_back(stream: io.StringIO) -> None:
    """After the burst an event waits for the next period, and then says how many were held back."""
    log.configure("info", "text", stream)
    now = [0]
    ours = Log("receive", RateLimit(burst=3, clock=lambda: now[0]))
    for _ in range(100):
        ours.warning("lost")
    ours.warning("another event")
    now[0] = PERIOD_NS
    ours.warning("lost")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[-1].endswith("lost held_back=97")


@pytest.mark.parametrize(
    ("value", "text"), [(1, "1"), (False, "false"), ("a b", '"a b"'), ("税", '"税"'), ("x=1", '"x=1"')]
)
def test_quoting(value: object, text: str) -> None:
    """Only plain texts are bare."""
    assert quote(value) == text
