"""Policies as loaded: checked, with the calendars that they refer to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from telemetryd.config.positions import YamlDocument
from telemetryd.errors import Problem
from telemetryd.policy.calendar import Calendar
from telemetryd.policy.models import Freeze, PolicyFile


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that loaded, with what it refers to.

    Attributes
    ----------
    file:
        The policy as written.
    document:
        Gives the position of everything in it.
    calendar:
        Its calendars, joined.
    zone:
        Time zone of its times.
    calendar_files:
        The calendars' files.
    """

    file: PolicyFile
    document: YamlDocument
    calendar: Calendar
    zone: ZoneInfo
    calendar_files: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """Name of the policy."""
        return self.file.policy

    def freeze_at(self, at: datetime) -> Freeze | None:
        """Return the emergency freeze if it holds at a time, which has a time zone."""
        freeze = self.file.freeze
        if freeze is None or at.astimezone(self.zone).replace(tzinfo=None) >= freeze.until:
            return None
        return freeze

    @property
    def directions(self) -> tuple[str, ...]:
        """Directions in which it applies."""
        return ("in", "out") if self.file.direction == "both" else (self.file.direction,)

    @property
    def places(self) -> list[tuple[str, str]]:
        """Links and directions that it rules."""
        return [(link, direction) for link in self.file.links for direction in self.directions]


@dataclass(frozen=True, slots=True)
class Policies:
    """Policies that were loaded together; each link and direction belongs to one of them.

    Attributes
    ----------
    policies:
        In the order of their files.
    warnings:
        What is suspicious but loads.
    """

    policies: tuple[Policy, ...]
    warnings: tuple[Problem, ...]

    def ruled(self) -> Iterator[tuple[Policy, str, str]]:
        """Yield each link and direction with the policy that rules it."""
        for policy in self.policies:
            for link, direction in policy.places:
                yield policy, link, direction
