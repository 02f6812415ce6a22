"""Every mistake in a policy is reported at its line and column, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.policy_case import BASE, CALENDAR, broken, load, mistakes
from tests.unit.registry_case import marks

EXAM = "- application: exam\n"
EVENT = "{event: enrolment, guarantee: 2 Gbit/s}"
# fmt: off
OVERRIDE = "{department: hrss, application: exam, guarantee: 1 Gbit/s, from: 2026-12-01 08:00, until: 2026-12-01 12:00, owner: Li, reason: repeat}"
# fmt: on

FINANCE = """\
    departments:
      - department: finance
        applications:
          - {application: video, template: bulk}
"""

# id -> (text of BASE, what stands there instead with « before the mistake, what the problem says)
ONE_MISTAKE = {
    # --- YAML and fields ---
    "tab": ("    importance: 1\n", "«\timportance: 1\n", "YAML:"),
    "duplicate-key": ("    importance: 1\n", "    importance: 1\n    «importance: 2\n", 'key "importance" is written twice'),
    "version": ("version: 1", "version: «2", '"version" is 2 - use 1'),
    "version-missing": ("version: 1\npolicy: exit", "«policy: exit", '"version" is missing'),
    "policy-missing": ("policy: exit\n", "", '"policy" is missing'),
    "links-missing": ("links: [exit]\n", "", '"links" is missing - add it: links or link groups'),
    "links-empty": ("links: [exit]", "links: «[]", '"links" has too few entries'),
    "links-no-list": ("links: [exit]", "links: «exit", '"links" is "exit", not a list'),
    "name-no-slug": ("policy: exit", "policy: «Exit!", '"policy" is "Exit!", which is no name'),
    "unknown-field": ("    weight: 4\n        applications", "    «wieght: 4\n        applications", 'unknown field "wieght" - did you mean "weight"?'),
    "unknown-top-field": ("reserve: 10%", "«reserv: 10%", 'unknown field "reserv" - did you mean "reserve"'),
    "direction": ("direction: out", "direction: «outbound", '"direction" is "outbound" - use one of in, out, both'),
    "tree-level": ("department, application]\nt", "«departement, application]\nt", '"tree" is "departement" - did you mean "department"?'),
    "charge": ("reserve: 10%", "reserve: 10%\ncharge: «user", '"charge" is "user" - use one of'),
    "time-zone": ("reserve: 10%", "reserve: 10%\ntime_zone: «Asia/Yunhai", 'unknown time zone "Asia/Yunhai"'),
    # --- quantities ---
    "rate-without-unit": ("guarantee: 3 Gbit/s", "guarantee: «3000", '"guarantee": 3000 is no rate - write number and unit'),
    "rate-unknown-unit": ("guarantee: 3 Gbit/s", "guarantee: «3 Gbps", 'unknown unit "Gbps" - use one of bit/s'),
    "rate-negative": ("guarantee: 3 Gbit/s", "guarantee: «-3 Gbit/s", '"-3 Gbit/s" is no rate'),
    "rate-too-large": ("guarantee: 3 Gbit/s", "guarantee: «2000 Tbit/s", "is more than any link has"),
    "percent-over-100": ("ceiling: 60%", "ceiling: «160%", '"160%" is more than the whole - write at most 100%'),
    "percent-as-number": ("ceiling: 60%", "ceiling: «0.6", '"ceiling": 0.6 is no rate'),
    "weight-zero": ("weight: 4\n        app", "weight: «0\n        app", '"weight": 0 is no weight - write a number between'),
    "weight-text": ("weight: 4\n        app", "weight: «four\n        app", '"weight": "four" is no weight'),
    "importance-zero": ("importance: 5", "importance: «0", '"importance" is 0, which is out of range'),
    "importance-ten": ("importance: 5", "importance: «10", '"importance" is 10, which is out of range'),
    "importance-word": ("importance: 5", "importance: «low", '"importance" is "low", not a whole number'),
    "flag-text": (EXAM, EXAM + "            hard: «yes\n", '"hard" is "yes", not true or false'),
    "dscp": (EXAM, EXAM + "            dscp: «64\n", '"dscp" is 64, which is out of range'),
    "burst": (EXAM, EXAM + "            burst: «lots\n", '"burst": "lots" is no size'),
    # --- names ---
    "unknown-link": ("links: [exit]", "links: [«exist]", 'unknown link "exist" - did you mean "exit"?'),
    "link-twice": ("links: [exit]", "links: [exit, «exit]", 'link "exit" is named twice - remove one'),
    "unknown-department": ("- department: hrss\n", "- department: «hrs\n", 'unknown department "hrs" - did you mean "hrss"?'),
    "unknown-application": (EXAM, "- application: «exams\n", 'unknown application "exams" - did you mean "exam"?'),
    "misspelt-class": ("service_class: CORE", "service_class: «CORRE", 'unknown service class "CORRE" - did you mean "CORE"?'),
    "unknown-template": ("template: bulk", "template: «bluk", 'unknown template "bluk" - did you mean "bulk"?'),
    "template-for-nobody": ("- {template: strengthened}", "- {template: «bulk}", 'template "bulk" stands for no department of the registry'),
    "unknown-event": (EVENT, EVENT.replace("enrolment", "«enrollment"), 'unknown event "enrollment" - did you mean "enrolment"?'),
    # --- the tree ---
    "no-name": ("- {template: strengthened}", "- «{weight: 2}", 'the node has no name - add "department: NAME"'),
    "wrong-level": ("- department: hrss\n", "- «application: exam\n", '"application" names a node of level department'),
    "children-of-another-level": ("    departments:\n      - department: hrss", "    «applications:\n      - department: hrss", '"applications" does not belong here'),
    "below-the-tree": (EXAM, EXAM + "            «departments: [{department: finance}]\n", '"departments" does not belong here'),
    "node-twice": ("- {template: strengthened}", "- {template: strengthened}\n      - «{department: hrss}", 'department "hrss" is there twice'),
    "template-twice": ("- {template: strengthened}", "- {template: strengthened}\n      - «{template: strengthened}", 'template "strengthened" is there twice'),
    "class-twice": ("service_class: video", "service_class: CORE", None),
    "level-twice": ("[service_class, department, application]", "[service_class, department, «department]", 'level "department" is there twice'),
    # --- contradictions ---
    "guarantee-above-ceiling": ("ceiling: 60%", "ceiling: 400 Mbit/s", None),
    "floor-above-ceiling": ("floor: 2%", "floor: «40%", '"floor" is 40%, above the ceiling of 30% - write at most 30%'),
    "no-lend-without-guarantee": ("weight: 4\n        app", "no_lend: «true\n        app", '"no_lend" says nothing without a guarantee'),
    "borrow-without-guarantee": ("weight: 4\n        app", "borrow: «false\n        app", '"borrow" says nothing without a guarantee'),
    # --- schedules ---
    "change-without-time": (EVENT, "«{guarantee: 2 Gbit/s}", "the change has no time - add one of event, days"),
    "change-of-nothing": (EVENT, "«{event: enrolment}", "the change changes nothing"),
    "days": ("days: mon-fri", "days: «mon-friday", '"days": "mon-friday" are no days'),
    "hours": ('hours: "22:00-06:00"', 'hours: «"22-06"', '"hours": "22-06" are no hours'),
    "hours-too-late": ('hours: "22:00-06:00"', 'hours: «"22:00-25:00"', "are no hours"),
    "hours-of-no-time": ('hours: "22:00-06:00"', 'hours: «"22:00-22:00"', "lasts no time"),
    "recurrence": ("days: mon-fri", "recurrence: «FREQ=SOMETIMES", "is no recurrence"),
    "recurrence-hourly": ("days: mon-fri", "recurrence: «FREQ=HOURLY", "does not tell days"),
    # --- overrides ---
    "override-without-owner": (OVERRIDE, "«" + OVERRIDE.replace(", owner: Li", ""), '"owner" is missing'),
    "override-without-end": (OVERRIDE, "«" + OVERRIDE.replace(", until: 2026-12-01 12:00", ""), '"until" is missing'),
    "override-ends-before": (OVERRIDE, OVERRIDE.replace("until: 2026-12-01 12", "until: «2026-11-01 12"), "ends before it begins"),
    "override-of-nothing": (OVERRIDE, "«" + OVERRIDE.replace("guarantee: 1 Gbit/s, ", ""), "changes nothing"),
    "override-without-node": (OVERRIDE, "«" + OVERRIDE.replace("department: hrss, application: exam, ", ""), None),
    "override-of-no-node": (OVERRIDE, "«" + OVERRIDE.replace("application: exam", "application: forum"), "means no node of the policy"),
    "override-time": (OVERRIDE, OVERRIDE.replace("from: 2026-12-01 08:00", "from: «yesterday"), '"yesterday" is no time'),
    "override-zone": (OVERRIDE, OVERRIDE.replace("from: 2026-12-01 08:00", "from: «2026-12-01T08:00Z"), "carries a time zone"),
    "calendar-not-there": ("reserve: 10%", "reserve: 10%\ncalendars: [«no.yaml]", "is not there"),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name, case in ONE_MISTAKE.items() if case[2] is not None])
def test_one_mistake(tmp_path: Path, name: str) -> None:
    """Each mistake is found alone, at its place, with what is wrong and what to do."""
    old, new, words = ONE_MISTAKE[name]
    text = broken((old, new))
    problems = mistakes(tmp_path, text)
    assert words is not None
    found = [problem for problem in problems if words in f"{problem.message} - {problem.remedy}"]
    assert found, problems
    assert all(problem.remedy for problem in problems)
    place = marks(text)
    if place:
        assert (found[0].line, found[0].column) == place[0]


def test_the_base_is_sound(tmp_path: Path) -> None:
    """What the mistakes are made in has none."""
    assert mistakes(tmp_path) == []
    warnings = load(tmp_path).warnings
    assert warnings == ()


def test_a_class_twice_and_a_guarantee_above_a_ceiling_are_found(tmp_path: Path) -> None:
    """The second node, and the guarantee, are where the mistake is."""
    twice = mistakes(tmp_path, broken(("service_class: video", "service_class: CORE")))
    assert 'service_class "CORE" is there twice' in [problem.message for problem in twice]
    above = mistakes(tmp_path, broken(("ceiling: 60%", "ceiling: 400 Mbit/s")))
    assert [(p.line, p.message) for p in above] == [(19, '"guarantee" is 500 Mbit/s, above the ceiling of 400 Mbit/s')]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("to: 2026-12-16", "to: «2026-12-14", 'event "deadline" ends before it begins'),
        ("holidays: [2026-10-01,", "holidays: [«2026-10-32,", '"2026-10-32" is no date'),
        ("workdays:", "«workday:", 'unknown field "workday"'),
        ("from: 2026-11-28 08:00", "from: «28 November", "is no time"),
    ],
)
def test_mistakes_in_calendars(tmp_path: Path, old: str, new: str, words: str) -> None:
    """A calendar's mistakes are reported in the calendar's file."""
    calendar = broken((old, new), text=CALENDAR)
    found = [problem for problem in mistakes(tmp_path, BASE, calendar) if words in problem.message]
    assert found
    assert found[0].file.endswith("2026.yaml")
    assert (found[0].line, found[0].column) == marks(calendar)[0]


def test_all_mistakes_come_in_one_run(tmp_path: Path) -> None:
    """Of several mistakes none hides another."""
    text = broken(("links: [exit]", "links: [«exist]"), ("floor: 2%", "floor: «40%"), (EXAM, "- application: «exams\n"))
    assert [(p.line, p.column) for p in mistakes(tmp_path, text)] == sorted(marks(text))


def test_a_class_that_nothing_can_be_in_is_a_warning(tmp_path: Path) -> None:
    """A service class of another source than the registry loads, but is suspicious where it names no application."""
    text = broken(("service_class: video", "service_class: leisure"), (FINANCE, ""))
    assert [warning.message for warning in load(tmp_path, text).warnings] == [
        'service class "leisure" is not in the registry and names no application: nothing belongs to it'
    ]
