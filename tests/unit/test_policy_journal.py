"""The history of policies: nothing is lost, nothing is changed unseen."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from telemetryd.errors import InputError, TelemetrydError
from telemetryd.policy.journal import Journal, Record
from telemetryd.policy.load import load_policies
from tests.policy_case import BASE, broken, registry, write

AT = datetime(2026, 11, 20, 8, tzinfo=UTC)


def keep(journal: Journal, directory: Path, text: str = BASE, action: str = "recorded") -> tuple[Record, bool]:
    """Record a policy as it is in its file."""
    directory.mkdir(exist_ok=True)
    policies = load_policies([write(directory, text)], registry())
    return journal.append(policies, at=AT, who="Li", why="CHG-1", action=action)


def test_versions_come_back_as_they_were(tmp_path: Path) -> None:
    """Policies with their calendars, whatever happened to the files since."""
    journal = Journal(tmp_path / "state")
    assert journal.records() == []
    first, is_new = keep(journal, tmp_path / "p")
    assert is_new and (first.number, first.who, first.why, first.policies) == (1, "Li", "CHG-1", ("exit",))
    assert [name for name, _ in first.files] == ["calendars/2026.yaml", "policy.yaml"]
    changed = broken(("reserve: 10%", "reserve: 20%"))
    second, _ = keep(journal, tmp_path / "p", changed)
    assert second.version != first.version
    assert journal.records() == [first, second]
    for record, text in ((first, BASE), (second, changed)):
        journal.restore(record, tmp_path / "back")
        assert (tmp_path / "back" / "policy.yaml").read_text(encoding="utf-8") == text
        assert load_policies([tmp_path / "back"], registry()).policies[0].calendar.events
    assert journal.find("1") == first
    assert journal.find(second.version[:12]) == second
    with pytest.raises(InputError, match="there are 1 to 2"):
        journal.find("3")


def test_the_same_version_is_not_recorded_twice_but_applied_is_a_record_of_its_own(tmp_path: Path) -> None:
    """A calendar is a part of the version; where files lie is not."""
    journal = Journal(tmp_path / "state")
    first, _ = keep(journal, tmp_path / "p")
    assert keep(journal, tmp_path / "p") == (first, False)
    assert keep(journal, tmp_path / "elsewhere") == (first, False)
    applied, is_new = keep(journal, tmp_path / "p", action="applied")
    assert is_new and applied.version == first.version
    (tmp_path / "p" / "calendars" / "2026.yaml").write_text(
        "version: 1\ncalendar: other\nevents: {enrolment: [{from: 2027-01-01, to: 2027-01-02}]}\n"
    )
    policies = load_policies([tmp_path / "p" / "policy.yaml"], registry())
    third, _ = journal.append(policies, at=AT, who="Li", why="moved", action="recorded")
    assert (third.number, third.version == first.version) == (3, False)
    assert len(list((tmp_path / "state" / "policy-history" / "objects").iterdir())) == 3


def test_a_torn_line_is_overwritten_and_a_changed_one_is_found(tmp_path: Path) -> None:
    """A crash while a line is written costs that line; a line that somebody edits is named."""
    journal = Journal(tmp_path / "state")
    first, _ = keep(journal, tmp_path / "p")
    path = tmp_path / "state" / "policy-history" / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"number": 2, "at"')
    assert journal.records() == [first]
    second, _ = keep(journal, tmp_path / "p", broken(("reserve: 10%", "reserve: 20%")))
    assert journal.records() == [first, second]
    path.write_bytes(path.read_bytes().replace(b'"CHG-1"', b'"CHG-2"', 1))
    with pytest.raises(TelemetrydError, match=r"journal.jsonl:2: does not follow"):
        journal.records()
    path.write_bytes(b"{}\n")
    with pytest.raises(TelemetrydError, match=r"journal.jsonl:1: is no record"):
        journal.records()


def test_a_changed_file_of_the_history_is_not_given_back(tmp_path: Path) -> None:
    """Each file is held against its hash."""
    journal = Journal(tmp_path / "state")
    record, _ = keep(journal, tmp_path / "p")
    target = tmp_path / "state" / "policy-history" / "objects" / record.files[1][1]
    target.write_text("version: 1\n")
    with pytest.raises(TelemetrydError, match="was changed"):
        journal.restore(record, tmp_path / "back")
    target.unlink()
    with pytest.raises(TelemetrydError, match="cannot be written out"):
        journal.restore(record, tmp_path / "back")
