"""Load policies and calendars: read, validate, check against the registry; all mistakes of all files in one run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from telemetryd.config.explain import explain, show, suggest
from telemetryd.config.positions import YamlDocument, read_yaml
from telemetryd.errors import Problem, ProblemsError
from telemetryd.policy.calendar import join
from telemetryd.policy.check import check_policy
from telemetryd.policy.loaded import Policies, Policy
from telemetryd.policy.models import CalendarFile, PolicyFile
from telemetryd.policy.outline import unmatched_overrides
from telemetryd.registry.models import Registry


def load_policies(paths: Sequence[Path], registry: Registry) -> Policies:
    """Load policy files, and those of directories, with the calendars among them and those that they name.

    Raises
    ------
    ProblemsError
        With every mistake of every file.
    """
    problems: list[Problem] = []
    warnings: list[Problem] = []
    documents: list[YamlDocument] = []
    given: dict[Path, CalendarFile] = {}
    for path in _files(paths, problems):
        document = read_yaml(path, problems)
        if document is None:
            continue
        if isinstance(document.data, dict) and "calendar" in document.data and "policy" not in document.data:
            if (calendar := _validate(document, CalendarFile, problems)) is not None:
                given[path.resolve()] = calendar
        else:
            documents.append(document)
    policies = []
    for document in documents:
        file = _validate(document, PolicyFile, problems)
        if file is None:
            continue
        calendars = dict(given)
        here = Path(document.file).parent
        for index, name in enumerate(file.calendars):
            _read_calendar(here / name, document.where(("calendars", index)), calendars, problems)
        for path in sorted((*here.glob("calendars/*.yaml"), *here.glob("../calendars/*.yaml"))):
            if not file.calendars:
                _read_calendar(path, document.where(()), calendars, problems)
        calendar = join(calendars.values())
        before = len(problems)
        check_policy(file, document, calendar, registry, problems, warnings)
        zone = ZoneInfo(file.time_zone or registry.city.time_zone)
        policy = Policy(file, document, calendar, zone, tuple(sorted(calendars)))
        for index in unmatched_overrides(policy, registry) if len(problems) == before else ():
            where = document.where(("overrides", index))
            problems.append(
                Problem(*where, "the override means no node of the policy", "name a node that is written in it")
            )
        policies.append(policy)
    if not documents and not problems:
        remedy = 'give a YAML file that starts with "version: 1" and "policy: NAME"'
        problems.append(Problem(", ".join(map(str, paths)), 0, 0, "holds no policy", remedy))
    _check_together(policies, problems)
    if problems:
        raise ProblemsError(list(dict.fromkeys(problems)))
    return Policies(tuple(policies), tuple(sorted(warnings)))


def _files(paths: Iterable[Path], problems: list[Problem]) -> list[Path]:
    found = []
    for path in paths:
        if path.is_dir():
            below = sorted(file for file in path.rglob("*.yaml") if not file.name.startswith("."))
            if not below:
                problems.append(
                    Problem(str(path), 0, 0, "holds no *.yaml file", "give a policy, or a directory of policies")
                )
            found += below
        else:
            found.append(path)
    return found


def _read_calendar(
    path: Path, where: tuple[str, int, int], calendars: dict[Path, CalendarFile], problems: list[Problem]
) -> None:
    if path.resolve() in calendars:
        return
    if not path.is_file():
        problems.append(Problem(*where, f"calendar {show(str(path))} is not there", "name a file relative to this one"))
        return
    document = read_yaml(path, problems)
    if document is not None and (calendar := _validate(document, CalendarFile, problems)) is not None:
        calendars[path.resolve()] = calendar


def _validate(document: YamlDocument, model: type[Any], problems: list[Problem]) -> Any:
    if not isinstance(document.data, dict):
        message = f"the file is {show(document.data)}, not a mapping"
        problems.append(Problem(*document.where(()), message, 'start with "version: 1"'))
        return None
    try:
        valid = model.model_validate(document.data)
    except ValidationError as error:
        problems.extend(explain(error, model, document.where))
        return None
    if isinstance(valid, CalendarFile):
        for name, occurrences in valid.events.items():
            for index, one in enumerate(occurrences):
                if one.since >= one.until:
                    where = document.where(("events", name, index, "to"))
                    problems.append(Problem(*where, f'event "{name}" ends before it begins', 'write a later "to"'))
    return valid


def _check_together(policies: list[Policy], problems: list[Problem]) -> None:
    """Note policies with the same name, and links that two of them rule in one direction."""
    names: dict[str, Policy] = {}
    owners: dict[tuple[str, str], tuple[Policy, int]] = {}
    for policy in policies:
        if (first := names.setdefault(policy.name, policy)) is not policy:
            file, line, column = first.document.where(("policy",))
            where = policy.document.where(("policy",))
            problems.append(
                Problem(
                    *where,
                    f'policy "{policy.name}" is there twice',
                    f"rename one (the first is at {file}:{line}:{column})",
                )
            )
        for index, link in enumerate(policy.file.links):
            for direction in policy.directions:
                other, place = owners.setdefault((link, direction), (policy, index))
                if (other, place) != (policy, index):
                    file, line, column = other.document.where(("links", place))
                    where = policy.document.where(("links", index))
                    message = f'link "{link}" has a policy already for direction {direction}'
                    problems.append(Problem(*where, message, f"remove one (the first is at {file}:{line}:{column})"))
                    break


def find_policy(policies: Policies, name: str) -> Policy:
    """Return a policy by name.

    Raises
    ------
    ProblemsError
        If there is none of that name.
    """
    for policy in policies.policies:
        if policy.name == name:
            return policy
    known = [policy.name for policy in policies.policies]
    remedy = suggest(name, known, f"use one of {', '.join(known)}")
    raise ProblemsError([Problem("", 0, 0, f'no policy "{name}"', remedy)])
