"""Alert rules as they are watched: settings checked against registry and policies, and measures made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from telemetryd.assure.alert_measures import (
    CoverageMeasure,
    LinkCoverageMeasure,
    LossMeasure,
    Measure,
    UnclassifiedMeasure,
    UsageMeasure,
    UtilisationMeasure,
)
from telemetryd.assure.alert_proof import ProofMeasure
from telemetryd.assure.alerts import Limit
from telemetryd.assure.guarantees import promises
from telemetryd.config.explain import Where, suggest
from telemetryd.config.settings_alerts import AlertReceiver, AlertRule, AlertSettings, Level
from telemetryd.errors import Problem, ProblemsError
from telemetryd.policy.load import load_policies
from telemetryd.policy.loaded import Policies
from telemetryd.registry.models import Registry

#: What the registry calls a capacity that neither port nor contract states.
UNLIMITED: Final = 2**63 - 1
#: Kind -> which of the filters mean anything.
_FILTERS: Final[Mapping[str, frozenset[str]]] = {
    "usage": frozenset({"links", "direction", "departments", "applications"}),
    "utilisation": frozenset({"links", "direction"}),
    "coverage": frozenset(),
    "link-coverage": frozenset({"links", "direction"}),
    "loss": frozenset(),
    "unclassified": frozenset(),
    "proof": frozenset({"links", "direction", "departments", "tolerance"}),
}
_WAYS: Final = ("in", "out")
_WITH_ARTICLE: Final = {"webhook": "a webhook", "alertmanager": "an Alertmanager"}


@dataclass(frozen=True, slots=True)
class AlertPlan:
    """What is watched.

    Attributes
    ----------
    settings:
        Checked against the others.
    registry:
        Capacities, exporters, names.
    policies:
        Those whose guarantees are watched; None without any.
    """

    settings: AlertSettings
    registry: Registry
    policies: Policies | None = None

    def measure(self, rule: AlertRule) -> Measure:
        """Make what measures a rule."""
        registry = self.registry
        match rule.kind:
            case "usage":
                return UsageMeasure(
                    limit_of(rule), rule.links, rule.direction or "", rule.departments, rule.applications
                )
            case "utilisation":
                ways = (rule.direction,) if rule.direction else _WAYS
                capacities = {
                    (name, way): registry.capacity_bps(registry.link[name])[_WAYS.index(way)]
                    for name in rule.links or registry.link
                    for way in ways
                }
                known = {key: capacity for key, capacity in capacities.items() if capacity < UNLIMITED}
                return UtilisationMeasure(limit_of(rule), known)
            case "coverage":
                exporters = {one.name: [str(agent) for agent in one.agents] for one in registry.devices if one.agents}
                return CoverageMeasure(limit_of(rule), exporters)
            case "link-coverage":
                return LinkCoverageMeasure(limit_of(rule), rule.links, rule.direction or "")
            case "loss":
                return LossMeasure(limit_of(rule))
            case "unclassified":
                return UnclassifiedMeasure(limit_of(rule))
            case "proof":
                assert self.policies is not None
                promised = [
                    one
                    for one in promises(self.policies, registry, rule.links)
                    if rule.direction in (None, one.direction)
                ]
                tolerance = rule.tolerance.value if rule.tolerance is not None else 0.0
                return ProofMeasure(promised, registry, rule.departments, tolerance, rule.over)


def unit_of(rule: AlertRule) -> str:
    """Return the unit of a rule's figures."""
    return "bit/s" if rule.kind in ("usage", "proof") else "ratio"


def limit_of(rule: AlertRule) -> Limit:
    """Return the limit of a rule that has one."""
    level = rule.above if rule.above is not None else rule.below
    assert level is not None
    recover = rule.recover if rule.recover is not None else level
    return Limit(level.value, recover.value, rule.above is not None)


def plan_alerts(
    settings: AlertSettings, registry: Registry, where: Where, in_force: Policies | None = None
) -> AlertPlan:
    """Check the settings of alerts, and load the policies that they name.

    Parameters
    ----------
    in_force:
        The daemon's policies, where the settings name none of their own.

    Raises
    ------
    ProblemsError
        With every mistake, at its place in the configuration or in a policy.
    """
    check = _Check(settings, registry, where, has_policies=bool(settings.policies) or in_force is not None)
    check.names("receivers", settings.receivers)
    check.names("rules", settings.rules)
    for number, receiver in enumerate(settings.receivers):
        check.receiver(receiver, number)
    for number, rule in enumerate(settings.rules):
        check.rule(rule, number)
    policies = in_force
    if settings.policies:
        try:
            policies = load_policies(settings.policies, registry)
        except ProblemsError as error:
            check.problems += error.problems
    if check.problems:
        raise ProblemsError(check.problems)
    return AlertPlan(settings, registry, policies)


class _Check:
    def __init__(self, settings: AlertSettings, registry: Registry, where: Where, *, has_policies: bool) -> None:
        self.settings = settings
        self.has_policies = has_policies
        self.registry = registry
        self.where = where
        self.problems: list[Problem] = []

    def note(self, path: tuple[str | int, ...], message: str, remedy: str, *, key: bool = False) -> None:
        self.problems.append(Problem(*self.where(("alerts", *path), key=key), message, remedy))

    def names(self, section: str, entries: Iterable[AlertRule | AlertReceiver]) -> None:
        seen: set[str] = set()
        for number, entry in enumerate(entries):
            if entry.name in seen:
                self.note((section, number, "name"), f'the name "{entry.name}" is there twice', "rename one")
            seen.add(entry.name)

    def receiver(self, receiver: AlertReceiver, number: int) -> None:
        place = ("receivers", number)
        if receiver.token_file is not None and receiver.credential is not None:
            self.note((*place, "credential"), "there are a token_file and a credential", "keep one of them", key=True)
        if receiver.kind != "syslog":
            if receiver.url is None:
                self.note(place, f'"url" of the {receiver.kind} "{receiver.name}" is missing', "add it")
            for name in ("host", "port", "path"):
                if getattr(receiver, name) is not None:
                    self.note(
                        (*place, name),
                        f'"{name}" means nothing for {_WITH_ARTICLE[receiver.kind]}',
                        "remove it; write url",
                        key=True,
                    )
            return
        if receiver.url is not None:
            self.note((*place, "url"), '"url" means nothing for syslog', "remove it; write host or path", key=True)
        if receiver.protocol == "unix" and receiver.path is None:
            self.note(place, f'"path" of the syslog "{receiver.name}" is missing', "add it, such as /dev/log")
        if receiver.protocol != "unix" and receiver.host is None:
            self.note(place, f'"host" of the syslog "{receiver.name}" is missing', "add it")

    def rule(self, rule: AlertRule, number: int) -> None:
        place = ("rules", number)
        self.threshold(rule, place)
        for name in ("links", "direction", "departments", "applications", "tolerance"):
            if getattr(rule, name) not in (None, ()) and name not in _FILTERS[rule.kind]:
                self.note((*place, name), f'"{name}" means nothing for {rule.kind}', "remove it", key=True)
        of_links = bool(rule.links) or rule.kind in ("utilisation", "link-coverage", "proof")
        if rule.direction is not None and (rule.direction in _WAYS) != of_links:
            whose, ways = ("links", "in or out") if of_links else ("totals", "inbound, outbound, internal or transit")
            self.note((*place, "direction"), f'"{rule.direction}" is no direction of {whose}', f"write {ways}")
        if rule.tolerance is not None and not (rule.tolerance.is_part and rule.tolerance.value < 1):
            self.note((*place, "tolerance"), f'"{rule.tolerance}" is no tolerance', 'write a part, such as "5 %"')
        known = dict.fromkeys(self.registry.link)
        if rule.kind == "proof":
            known |= dict.fromkeys(self.registry.by_name("link_groups"))
            if not self.has_policies:
                self.note(place, f'the rule "{rule.name}" needs policies', 'name them in "policies"')
        self.known(rule.links, known, (*place, "links"), "link")
        self.known(rule.departments, self.registry.department, (*place, "departments"), "department")
        self.known(rule.applications, self.registry.application, (*place, "applications"), "application")
        receivers = [receiver.name for receiver in self.settings.receivers]
        self.known(rule.receivers, receivers, (*place, "receivers"), "receiver")

    def threshold(self, rule: AlertRule, place: tuple[str | int, ...]) -> None:
        given = {name: getattr(rule, name) for name in ("above", "below", "recover")}
        if rule.kind == "proof":
            for name, level in given.items():
                if level is not None:
                    remedy = "remove it: the guarantee is the limit; tolerance makes it less"
                    self.note((*place, name), f'"{name}" means nothing for proof', remedy, key=True)
            return
        levels = [name for name in ("above", "below") if given[name] is not None]
        if len(levels) != 1:
            message = f'the rule "{rule.name}" has {"both of" if levels else "none of"} above and below'
            self.note(place, message, "keep one of them" if levels else "add one of them")
            return
        for name, level in given.items():
            self.level(rule, level, (*place, name))
        limit: Level = given[levels[0]]
        if rule.recover is not None and rule.recover.is_part == limit.is_part:
            wrong = rule.recover.value > limit.value if rule.above is not None else rule.recover.value < limit.value
            if wrong:
                side = "at most" if rule.above is not None else "at least"
                self.note(
                    (*place, "recover"), f'"recover" is {rule.recover}, beyond the limit', f"write {side} {limit}"
                )

    def level(self, rule: AlertRule, level: Level | None, path: tuple[str | int, ...]) -> None:
        if level is None:
            return
        if level.is_part != (rule.kind != "usage"):
            what, example = ("rate", "600 Mbit/s") if rule.kind == "usage" else ("part", "90 %")
            self.note(path, f'"{path[-1]}" of {rule.kind} is {level}, no {what}', f'write such as "{example}"')

    def known(self, names: Iterable[str], known: Iterable[str], path: tuple[str | int, ...], what: str) -> None:
        every = list(known)
        for index, name in enumerate(names):
            if name not in every:
                remedy = suggest(name, every, f"name one of {', '.join(every[:8])}" if every else f"add the {what}")
                self.note((*path, index), f'unknown {what} "{name}"', remedy)
