"""Read the traffic files of a city: how much each application sends, when, and between whom.

The format is that of ``policies/example-city/traffic``; several files of a directory are joined.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from telemetryd.errors import InputError, Problem, ProblemsError
from telemetryd.registry.fields import PrefixField, Rate, Slug

EXIT: Final = "exit"
PathKind = Literal["inbound", "outbound", "district", "datacentre", "uplink", "lateral"]
PacketSizes = Literal["web", "video", "bulk", "voice", "interactive"]


class _Entity(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pattern(_Entity):
    """How traffic varies over a day: 24 shares of the peak, and what a day off leaves of it."""

    hours: Annotated[tuple[float, ...], Field(min_length=24, max_length=24)]
    weekend: float = 1.0


class ApplicationTraffic(_Entity):
    """What one application sends and receives.

    ``idle`` is what is left of it outside its events; ``shared_service`` names the service whose
    address stands in front of the application's own servers.
    """

    application: Slug
    pattern: str
    peak: Rate
    path: PathKind
    users: Annotated[tuple[PrefixField, ...], Field(min_length=1)]
    request_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    packet_sizes: PacketSizes = "web"
    idle: Annotated[float, Field(ge=0)] = 1.0
    shared_service: Slug | None = None


class TrafficEvent(_Entity):
    """A time, in the city's own, in which an application's traffic is multiplied."""

    name: str
    application: Slug
    factor: Annotated[float, Field(ge=0)]
    start: datetime
    end: datetime


class TrafficFile(_Entity):
    """One file; those of a directory are joined."""

    version: Literal[1]
    sampling: dict[str, Annotated[int, Field(ge=1)]] = {}
    patterns: dict[str, Pattern] = {}
    applications: tuple[ApplicationTraffic, ...] = ()
    events: tuple[TrafficEvent, ...] = ()


def load_traffic(directory: Path) -> TrafficFile:
    """Read every ``*.yaml`` of ``directory`` and join them.

    Raises
    ------
    InputError
        If there are no files; as ProblemsError with every mistake if they are not valid.
    """
    paths = sorted(directory.glob("*.yaml"))
    if not paths:
        raise InputError(f"{directory}: no traffic files (*.yaml) there")
    problems: list[Problem] = []
    files: list[TrafficFile] = []
    for path in paths:
        try:
            files.append(TrafficFile.model_validate(_read(path)))
        except ValidationError as error:
            for one in error.errors():
                place = ".".join(str(part) for part in one["loc"])
                remedy = one.get("ctx", {}).get("remedy", "see the example city's traffic files")
                problems.append(Problem(str(path), 0, 0, f"{place}: {one['msg']}", str(remedy)))
    if not problems:
        problems = _unknown_patterns(paths, files)
    if problems:
        raise ProblemsError(problems)
    return TrafficFile(
        version=1,
        sampling={key: rate for file in files for key, rate in file.sampling.items()},
        patterns={key: pattern for file in files for key, pattern in file.patterns.items()},
        applications=tuple(entry for file in files for entry in file.applications),
        events=tuple(event for file in files for event in file.events),
    )


def _read(path: Path) -> object:
    try:
        return yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    except OSError as error:
        raise InputError(f"{path}: cannot read the traffic file: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: {error}") from None


def _unknown_patterns(paths: list[Path], files: list[TrafficFile]) -> list[Problem]:
    known = {name for file in files for name in file.patterns}
    return [
        Problem(
            str(path),
            0,
            0,
            f"applications: {entry.application} has the unknown pattern {entry.pattern}",
            f"use one of {', '.join(sorted(known))}",
        )
        for path, file in zip(paths, files, strict=True)
        for entry in file.applications
        if entry.pattern not in known
    ]
