"""A small policy that loads without a problem, over the small registry, and a way to break it at a marked place."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from telemetryd.errors import Problem, ProblemsError
from telemetryd.policy.load import load_policies
from telemetryd.policy.loaded import Policies
from telemetryd.registry.load import load_registry
from telemetryd.registry.models import Registry
from tests.unit import registry_case
from tests.unit.registry_case import MARK

CALENDAR = """\
version: 1
calendar: yunhai
events:
  enrolment:
    - {from: 2026-11-28 08:00, to: 2026-11-28 18:00}
  deadline:
    - {from: 2026-12-15, to: 2026-12-16}
holidays: [2026-10-01, 2026-10-02]
workdays: [2026-10-10]
"""

BASE = """\
version: 1
policy: exit
links: [exit]
direction: out
reserve: 10%
tree: [service_class, department, application]
templates:
  strengthened: {weight: 4, guarantee: 20 Mbit/s}
  bulk: {weight: 0.5, ceiling: 10%}
classes:
  - service_class: CORE
    importance: 1
    guarantee: 3 Gbit/s
    departments:
      - department: hrss
        weight: 4
        applications:
          - application: exam
            guarantee: 500 Mbit/s
            ceiling: 60%
            schedule:
              - {event: enrolment, guarantee: 2 Gbit/s}
              - {days: mon-fri, hours: "22:00-06:00", ceiling: 80%}
      - {template: strengthened}
  - service_class: video
    importance: 5
    floor: 2%
    ceiling: 30%
    departments:
      - department: finance
        applications:
          - {application: video, template: bulk}
rest: {importance: 4, floor: 10%}
overrides:
  - {department: hrss, application: exam, guarantee: 1 Gbit/s, from: 2026-12-01 08:00, until: 2026-12-01 12:00, owner: Li, reason: repeat}
"""


@lru_cache
def registry() -> Registry:
    """Return the small registry."""
    with TemporaryDirectory() as directory:
        (Path(directory) / "a.yaml").write_text(registry_case.BASE, encoding="utf-8")
        return load_registry(Path(directory))


def write_small_registry(directory: Path) -> str:
    """Write the small registry below a directory, and return where it is."""
    (directory / "registry").mkdir()
    (directory / "registry" / "a.yaml").write_text(registry_case.BASE, encoding="utf-8")
    return str(directory / "registry")


def write(directory: Path, policy: str = BASE, calendar: str = CALENDAR) -> Path:
    """Write policy and calendar; return the policy's path."""
    (directory / "calendars").mkdir(exist_ok=True)
    (directory / "calendars" / "2026.yaml").write_text(calendar.replace(MARK, ""), encoding="utf-8")
    path = directory / "policy.yaml"
    path.write_text(policy.replace(MARK, ""), encoding="utf-8")
    return path


def load(directory: Path, policy: str = BASE, calendar: str = CALENDAR) -> Policies:
    """Load a policy and its calendar."""
    return load_policies([write(directory, policy, calendar)], registry())


def mistakes(directory: Path, policy: str = BASE, calendar: str = CALENDAR) -> list[Problem]:
    """Return what is wrong."""
    try:
        load(directory, policy, calendar)
    except ProblemsError as error:
        return error.problems
    return []


def broken(*replacements: tuple[str, str], text: str = BASE) -> str:
    """Return the base policy with each (old, new) replaced; old must occur exactly once."""
    for old, new in replacements:
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
        text = text.replace(old, new)
    return text
