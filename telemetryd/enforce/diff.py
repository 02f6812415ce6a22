"""From what a device has to what it shall have: the fewest writes, in an order in which no sum exceeds a link.

Only what is ours is compared (:mod:`telemetryd.enforce.names`): what others have configured is neither seen as a
difference nor touched. An attachment point that somebody else holds is a conflict, and is left alone until it is
adopted.

Steps, each of which is one Set:

    lower     rates that fall, and schedulers that go
    make      prefix sets, queues, forwarding groups, and scheduler policies that nothing uses yet
    raise     ceilings and rates that rise, schedulers that come
    move      terms, what is in prefix sets, and attachment points
    remove    whatever nothing uses any more
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from telemetryd.enforce.names import PORT, Leaves, Value, is_ours, slot_of

STEPS: Final = ("lower", "make", "raise", "move", "remove")
_POLICY = "/qos/scheduler-policies/scheduler-policy["
_SCHEDULER = re.compile(r"(.*/schedulers/scheduler\[sequence=\d+\])/.*")
_RATE: Final = ("/config/pir", "/config/cir", "/config/weight")
#: Lists in the order in which they go.
_GOES: Final = (PORT, _POLICY, "/qos/classifiers/", "/defined-sets/", "/qos/forwarding-groups/", "/qos/queues/")
_CHILD: Final = re.compile(
    r"/qos/scheduler-policies/scheduler-policy\[name=(?P<policy>.*)\]/schedulers/.*/child-scheduler"
)
_NAME: Final = re.compile(r"/qos/scheduler-policies/scheduler-policy\[name=(?P<policy>.*)\]/schedulers/.*")
_DEEPEST: Final = 16


class Write(NamedTuple):
    """One write of a Set: the new value, or None to delete the node and all below it; `old` is what is there."""

    path: str
    value: Value | None
    old: Value | None = None


class Conflict(NamedTuple):
    """A node that shall be ours and holds something else."""

    path: str
    wanted: Value
    found: Value


@dataclass(frozen=True, slots=True)
class Difference:
    """What has to be done; steps are in order, and those without a write are left out."""

    steps: tuple[tuple[str, tuple[Write, ...]], ...] = ()
    conflicts: tuple[Conflict, ...] = ()

    @property
    def writes(self) -> list[Write]:
        """All writes, in order."""
        return [write for _, writes in self.steps for write in writes]


def diff(have: Leaves, want: Leaves, adopt: Collection[str] = ()) -> Difference:
    """Compare what a device has with what it shall have.

    Parameters
    ----------
    have:
        Everything below /qos and /defined-sets, of others too; nothing where the device is bare.
    want:
        The leaves of a plan; empty to take everything of ours off.
    adopt:
        Attachment points, as :func:`telemetryd.enforce.names.slot_of` writes them, that may be taken from others.
    """
    changed = [path for path, value in want.items() if not is_same(have.get(path), value)]
    conflicts, blocked = _conflicts(changed, have, want, adopt)
    if conflicts:
        want = {path: value for path, value in want.items() if not _is_below(path, blocked)}
        changed = [path for path in changed if path in want]
    gone = [path for path in sorted(have.keys() - want.keys()) if is_ours(path, have)]
    remade = frozenset(_scheduler_of(path) for path in (*changed, *gone) if path in have and _is_kind(path))
    if remade:
        changed = [
            path for path, value in want.items() if not is_same(have.get(path), value) or _scheduler_of(path) in remade
        ]
    steps: dict[str, list[Write]] = {name: [] for name in STEPS}
    for path in changed:
        old = have.get(path) if not remade or _scheduler_of(path) not in remade else None
        steps[_step(path, old, want[path], have)].append(Write(path, want[path], old))
    for root in _roots(gone, want, remade):
        is_scheduler = root.startswith(_POLICY) and "/schedulers/" in root
        steps["lower" if is_scheduler else "remove"].append(Write(root, None, have.get(root)))
    # Lowering: first rates, since no ceiling may fall below its rate, those below others first; raising the other way
    # round.
    deep = _depths(have, want)
    steps["lower"].sort(
        key=lambda write: (
            write.value is not None,
            _rank(write.path, ("/config/cir", "/config/pir")),
            -deep.get(_policy_of(write.path), 0),
        )
    )
    steps["raise"].sort(
        key=lambda write: (
            _rank(write.path, ("", "/config/pir", "/config/cir")),
            deep.get(_policy_of(write.path), 0),
        )
    )
    steps["remove"].sort(key=lambda write: next((i for i, one in enumerate(_GOES) if write.path.startswith(one)), 9))
    return Difference(tuple((name, tuple(found)) for name, found in steps.items() if found), tuple(conflicts))


def apply(have: Leaves, writes: Iterable[Write]) -> dict[str, Value]:
    """Return what a device has after writes."""
    result = dict(have)
    roots: set[str] = set()
    for write in writes:
        if write.value is None:
            roots.add(write.path)
            continue
        if roots:  # what was deleted before is gone before this is set
            for path in below(result, roots):
                del result[path]
            roots.clear()
        result[write.path] = write.value
    for path in below(result, roots):
        del result[path]
    return result


def below(paths: Iterable[str], roots: Collection[str]) -> list[str]:
    """Return the paths that are one of some nodes, or below one."""
    return [path for path in paths if any(above in roots for above in _nodes(path))] if roots else []


def _nodes(path: str) -> Iterator[str]:
    """Yield a path, and what it leads through: containers, lists and their entries."""
    yield path
    at = len(path)
    while (at := max(path.rfind("/", 1, at), path.rfind("[", 1, at))) > 0:
        yield path[:at]


def is_same(one: Value | None, other: Value | None) -> bool:
    """Tell whether two values are the same; leaf-lists have no order."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and set(one) == set(other)
    return one == other


def _depths(*leaves: Leaves) -> dict[str, int]:
    """Return how deep each scheduler policy lies below the one that is attached, as far as any of the leaves say."""
    above: dict[str, str] = {}
    for own in leaves:
        for path, value in own.items():
            if path.endswith("/child-scheduler") and (policy := _policy_of(path)):
                above[str(value)] = policy
    depths = {}
    for policy in above:
        depth, at = 0, policy
        while at in above and depth < _DEEPEST:
            depth, at = depth + 1, above[at]
        depths[policy] = depth
    return depths


def _policy_of(path: str) -> str:
    found = _NAME.fullmatch(path)
    return found["policy"] if found is not None else ""


def _rank(path: str, ends: tuple[str, ...]) -> int:
    return next((i for i, end in enumerate(ends) if end and path.endswith(end)), 0 if "" in ends else len(ends))


def _is_below(path: str, roots: Collection[str]) -> bool:
    return any(path == root or path.startswith((f"{root}/", f"{root}[")) for root in roots)


def _scheduler_of(path: str) -> str:
    found = _SCHEDULER.fullmatch(path) if path.startswith(_POLICY) else None
    return found[1] if found is not None else ""


def _conflicts(
    changed: Iterable[str], have: Leaves, want: Leaves, adopt: Collection[str]
) -> tuple[list[Conflict], frozenset[str]]:
    """Return what others hold, and the nodes that are left alone because of it."""
    conflicts, blocked = [], set()
    for path in changed:
        found = have.get(path)
        if found is None or not path.startswith(PORT) or is_ours(path, have):
            continue
        slot = slot_of(path)
        if slot and (slot in adopt or not path.endswith("/config/name")):
            continue
        conflicts.append(Conflict(path, want[path], found))
        blocked.add(slot or path)
    return conflicts, frozenset(blocked)


def _is_kind(path: str) -> bool:
    """Tell whether a leaf says what kind of scheduler it is: with another kind it goes as a whole and comes anew."""
    kinds = ("]/config/type", "]/config/priority", "]/output/config/output-type")
    return path.startswith(_POLICY) and path.endswith(kinds)


def _step(path: str, old: Value | None, value: Value, have: Leaves) -> str:
    """Return the step that a write belongs to."""
    if path.startswith(_POLICY):
        name = path[: path.index("]") + 1]
        if f"{name}/config/name" not in have:
            return "make"
        if path.endswith(_RATE[:2]) and isinstance(old, int) and isinstance(value, int) and value < old:
            return "lower"
        return "raise"
    made = ("/qos/queues/", "/qos/forwarding-groups/", "/defined-sets/")
    return "make" if path.startswith(made) and old is None else "move"


def _roots(gone: Iterable[str], wanted: Leaves, remade: frozenset[str]) -> list[str]:
    """Return the nodes to delete: the uppermost ones below which nothing stays."""
    gone = list(gone)
    if not gone and not remade:
        return []
    kept = {above for path in wanted for above in _above(path)}
    roots = dict.fromkeys(sorted(remade))
    for path in gone:
        if _scheduler_of(path) in remade:
            continue
        slot = slot_of(path)
        first = slot if slot.endswith("]") else path if slot else ""
        candidates = (
            [first] if first else [one for one in _above(path) if not one.startswith(PORT) or "/output/" in one]
        )
        roots.setdefault(next((one for one in candidates if one not in kept), path))
    return list(roots)


def _above(path: str) -> Iterator[str]:
    """Yield the entries of lists that a path leads through, and the path itself."""
    at = 0
    while (at := path.find("]", at)) >= 0:
        backslashes = len(path[:at]) - len(path[:at].rstrip("\\"))
        at += 1
        if backslashes % 2 == 0:
            yield path[:at]
    yield path
