"""What a policy's fields cannot tell one by one: unknown names, wrong places, contradictions."""

from __future__ import annotations

from collections.abc import Iterable

from telemetryd.config.explain import suggest
from telemetryd.config.positions import PathInData, YamlDocument
from telemetryd.errors import Problem
from telemetryd.policy.calendar import Calendar
from telemetryd.policy.models import CHILDREN, Change, Level, Node, Override, PolicyFile, Terms, children_of, spell
from telemetryd.registry.models import Registry

#: Classes of departments and importances of applications that a template may stand for, as the registry has them.
DEPARTMENT_CLASSES = ("strengthened", "transitional", "centralised")
APPLICATION_CLASSES = ("critical", "high", "normal", "low", "background")


def check_policy(
    policy: PolicyFile,
    document: YamlDocument,
    calendar: Calendar,
    registry: Registry,
    problems: list[Problem],
    warnings: list[Problem],
) -> None:
    """Append every mistake and warning of one policy."""
    _Check(policy, document, calendar, registry, problems, warnings).run()


class _Check:
    def __init__(
        self,
        policy: PolicyFile,
        document: YamlDocument,
        calendar: Calendar,
        registry: Registry,
        problems: list[Problem],
        warnings: list[Problem],
    ) -> None:
        self.policy = policy
        self.document = document
        self.calendar = calendar
        self.problems = problems
        self.warnings = warnings
        self.known: dict[Level, tuple[str, ...]] = {
            "service_class": tuple(one.name for one in registry.service_classes),
            "region": tuple(registry.region),
            "department": tuple(registry.department),
            "application": tuple(registry.application),
        }
        self.links = (*registry.link, *registry.by_name("link_groups"))
        self.shared = {f"shared:{one.name}" for one in registry.shared_services}

    def run(self) -> None:
        policy = self.policy
        for index, link in enumerate(policy.links):
            if link not in self.links:
                self.note(
                    ("links", index),
                    f'unknown link "{link}"',
                    suggest(link, self.links, "name a link or link group of the registry"),
                )
            if link in policy.links[:index]:
                self.note(("links", index), f'link "{link}" is named twice', "remove one")
        for index, level in enumerate(policy.tree):
            if level in policy.tree[:index]:
                self.note(("tree", index), f'level "{level}" is there twice', "name each level once")
        for name in policy.templates:
            self.terms(policy.templates[name], ("templates", name))
        self.terms(policy.rest, ("rest",))
        if policy.overbooking is not None and not policy.overbooking.busy.is_relative:
            where = ("overbooking", "busy")
            self.note(where, f'"busy" is {policy.overbooking.busy}, no part', 'write a part of the time, such as "30%"')
        self.level(policy, (), 0)
        for index, override in enumerate(policy.overrides):
            self.override(override, ("overrides", index))

    def note(self, path: PathInData, message: str, remedy: str, *, key: bool = False) -> None:
        self.problems.append(Problem(*self.document.where(path, key=key), message, remedy))

    def level(self, parent: Node | PolicyFile, path: PathInData, depth: int) -> None:
        """Check the nodes below one, which are on the level of the tree at `depth`."""
        tree = self.policy.tree
        expected = tree[depth] if depth < len(tree) else None
        for level, field in CHILDREN.items():
            if level == expected or not children_of(parent, level):
                continue
            remedy = f'write "{CHILDREN[expected]}" here' if expected else "remove it: the tree ends above"
            self.note((*path, field), f'"{field}" does not belong here: tree is {", ".join(tree)}', remedy, key=True)
        if expected is None:
            return
        names: dict[object, int] = {}
        for index, node in enumerate(children_of(parent, expected)):
            place = (*path, CHILDREN[expected], index)
            self.node(node, place, expected)
            identity = (getattr(node, expected), node.template if getattr(node, expected) is None else None)
            if names.setdefault(identity, index) != index:
                self.note(place, f"{spell(node)} is there twice", "keep one of them")
            self.level(node, place, depth + 1)

    def node(self, node: Node, path: PathInData, expected: Level) -> None:
        name = getattr(node, expected)
        for level in CHILDREN:
            if level != expected and getattr(node, level) is not None:
                self.note(
                    (*path, level), f'"{level}" names a node of level {expected}', f'write "{expected}: NAME"', key=True
                )
        templates = (*self.policy.templates, *self.classes(expected))
        if name is None and node.template is None:
            self.note(path, "the node has no name", f'add "{expected}: NAME", or "template: NAME"')
        if node.template is not None and node.template not in templates:
            remedy = suggest(
                node.template, templates, f"use one of {', '.join(templates)}" if templates else "add it to templates"
            )
            self.note((*path, "template"), f'unknown template "{node.template}"', remedy)
        elif node.template is not None and name is None and node.template not in self.classes(expected):
            what = ", ".join(self.classes(expected))
            remedy = f'add "{expected}: NAME"' + (f", or use one of {what}" if what else "")
            self.note(
                (*path, "template"), f'template "{node.template}" stands for no {expected} of the registry', remedy
            )
        if name is not None:
            self.name(expected, name, path)
        if (
            expected == "service_class"
            and name is not None
            and name not in self.known["service_class"]
            and not mentions(node)
        ):
            self.warnings.append(
                Problem(
                    *self.document.where((*path, expected)),
                    f'service class "{name}" is not in the registry and names no application: nothing belongs to it',
                    "name a service class of the registry, or applications below it",
                )
            )
        self.terms(node, path)
        for index, change in enumerate(node.schedule):
            self.change(change, (*path, "schedule", index))

    def name(self, level: Level, name: str, path: PathInData) -> None:
        known = self.known[level]
        if name in known or name in self.shared:
            return
        near = suggest(name, known, "")
        if level != "service_class":
            self.note((*path, level), f'unknown {level} "{name}"', near or f"name a {level} of the registry")
        elif near:
            self.note((*path, level), f'unknown service class "{name}"', near)

    def classes(self, level: Level) -> tuple[str, ...]:
        return {"department": DEPARTMENT_CLASSES, "application": APPLICATION_CLASSES}.get(level, ())

    def terms(self, terms: Terms, path: PathInData) -> None:
        """Check that the rates of one mapping do not contradict each other."""
        ceiling = terms.ceiling
        for name in ("guarantee", "floor"):
            amount = getattr(terms, name)
            if amount is None or ceiling is None or amount.is_relative != ceiling.is_relative:
                continue
            if amount.value > ceiling.value:
                self.note(
                    (*path, name), f'"{name}" is {amount}, above the ceiling of {ceiling}', f"write at most {ceiling}"
                )
        if terms.function is not None:
            for name in ("weight", "guarantee", "ceiling", "floor", "no_lend", "borrow"):
                if getattr(terms, name) is not None:
                    remedy = f'remove it, or "function": a bandwidth function stands in place of {name}'
                    self.note((*path, name), f'"{name}" is given beside a bandwidth function', remedy, key=True)
        if terms.guarantee is None:
            for name, value in (("no_lend", terms.no_lend is True), ("borrow", terms.borrow is False)):
                is_inherited = isinstance(terms, Node) and terms.template is not None
                if value and not isinstance(terms, Change | Override) and not is_inherited and path[0] != "templates":
                    self.note(
                        (*path, name), f'"{name}" says nothing without a guarantee', "add a guarantee, or remove it"
                    )

    def change(self, change: Change, path: PathInData) -> None:
        conditions = ("event", "days", "hours", "recurrence", "on")
        if all(getattr(change, name) is None for name in conditions):
            self.note(path, "the change has no time", f"add one of {', '.join(conditions)}")
        if all(getattr(change, name) is None for name in Terms.model_fields):
            self.note(path, "the change changes nothing", "add what is different, such as a guarantee")
        if change.event is not None and change.event not in self.calendar.events:
            remedy = suggest(change.event, self.calendar.events, "add it to a calendar file, and that to calendars")
            self.note((*path, "event"), f'unknown event "{change.event}"', remedy)
        self.terms(change, path)

    def override(self, override: Override, path: PathInData) -> None:
        named = [level for level in CHILDREN if getattr(override, level) is not None]
        if not named:
            self.note(path, "the override names no node", f"add one or more of {', '.join(CHILDREN)}")
        for level in named:
            if level not in self.policy.tree:
                self.note(
                    (*path, level), f'"{level}" is no level of the tree', f"use {', '.join(self.policy.tree)}", key=True
                )
            self.name(level, getattr(override, level), path)
        if override.since >= override.until:
            self.note((*path, "until"), "the override ends before it begins", 'write a later "until"')
        if all(getattr(override, name) is None for name in Terms.model_fields):
            self.note(path, "the override changes nothing", "add what is different, such as a guarantee")
        self.terms(override, path)


def mentions(node: Node) -> bool:
    """Tell whether an application is named somewhere below a node."""
    below: Iterable[Node] = (child for level in CHILDREN for child in children_of(node, level))
    return any(
        child.application is not None or child.template in APPLICATION_CLASSES or mentions(child) for child in below
    )
