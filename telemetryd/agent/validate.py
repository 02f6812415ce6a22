"""What a configuration has to be besides each leaf being of its type: references, and rules between leaves.

Only what a change has touched is looked at, and what refers to what it has removed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from telemetryd.agent.datastore import Datastore, Entry, entry_path, target_of
from telemetryd.agent.place import refused
from telemetryd.agent.qos_model import PORT, SCHEDULER, TERM

#: Scheduler policies below each other, that of the interface among them.
MOST_LEVELS: Final = 8
_CHILD: Final = "output/config/child-scheduler"
_INPUT: Final = (*SCHEDULER, "inputs", "input")
#: Leaves of a scheduler: the first may not be above the second.
_PAIRS: Final = tuple(
    (f"two-rate-three-color/config/cir{unit}", f"two-rate-three-color/config/pir{unit}")
    for unit in ("", "-pct", "-pct-remaining")
)
#: Leaf -> the leaf and the value that it is there for (`when` in the model). One that is not there says nothing.
_WHEN: Final = {
    _CHILD: ("output/config/output-type", "SCHEDULER"),
    "output/config/output-fwd-group": ("output/config/output-type", "FWD_GROUP"),
    "config/queue": ("config/input-type", "QUEUE"),
}


def validate(store: Datastore, interfaces: Collection[str]) -> None:
    """Hold the change that is under way against the rules.

    Parameters
    ----------
    interfaces:
        Names of those that are there.

    Raises
    ------
    RefusedError
        At the first thing that is wrong.
    """
    relinked = []
    for path, old in store.touched().items():
        new = store.entries.get(path)
        if new is None:
            _check_left(store, path)
        elif old is None or new.values != old.values:
            _check_references(store, new)
            _check_rules(new, interfaces)
            if (None if old is None else old.values.get(_CHILD)) != new.values.get(_CHILD):
                relinked.append(new)
    if relinked:
        _check_tree(store, relinked)


def _check_left(store: Datastore, path: str) -> None:
    """Refuse to remove what something refers to."""
    referrers = store.referrers(path)
    if referrers:
        others = f" and {len(referrers) - 1} more" if len(referrers) > 1 else ""
        raise refused(path, f"cannot go: {referrers[0]} refers to it{others}")


def _check_references(store: Datastore, entry: Entry) -> None:
    for leaf in entry.node.references:
        value = entry.values.get(leaf.way)
        if value is not None and target_of(leaf, value) not in store.entries:
            raise refused(f"{entry.path}/{leaf.way}", f'there is no {leaf.refers_to[-1]} "{value}"')


def _check_rules(entry: Entry, interfaces: Collection[str]) -> None:
    values, names = entry.values, entry.node.names
    if names == TERM:
        for family in ("ipv4", "ipv6"):
            way = f"conditions/{family}/config/dscp"
            if way in values and f"{way}-set" in values:
                raise refused(f"{entry.path}/{way}-set", "dscp is there too: only one of them can be")
    elif names in (SCHEDULER, _INPUT):
        for way, (kind, wanted) in _WHEN.items():
            if way in values and values.get(kind, wanted) != wanted:
                raise refused(f"{entry.path}/{way}", f"is there for {kind} {wanted} only, which is {values[kind]}")
        for low, high in _PAIRS:
            cir, pir = values.get(low), values.get(high)
            if isinstance(cir, int) and isinstance(pir, int) and cir > pir:
                raise refused(f"{entry.path}/{low}", f"{cir} is above {high.rpartition('/')[2]}, which is {pir}")
    elif names == PORT:
        _check_interface(entry, interfaces)


def _check_interface(entry: Entry, interfaces: Collection[str]) -> None:
    way = "interface-ref/config/interface"
    if way not in entry.values:
        way = "config/interface-id"
    name = entry.values[way]
    if name not in interfaces:
        raise refused(f"{entry.path}/{way}", f'there is no interface "{name}"')
    if entry.values.get("interface-ref/config/subinterface", 0) != 0:
        raise refused(f"{entry.path}/interface-ref/config/subinterface", "there are no subinterfaces but 0")


def _check_tree(store: Datastore, relinked: list[Entry]) -> None:
    """Refuse scheduler policies that lie in themselves, or too deep."""
    below: dict[str, set[str]] = {}
    for path in store.members("/qos/scheduler-policies/scheduler-policy"):
        schedulers = (store.entries[one] for one in store.members(f"{path}/schedulers/scheduler"))
        below[path] = {_policy(str(one.values[_CHILD])) for one in schedulers if _CHILD in one.values}
    levels: dict[str, int] = {}
    for path in below:
        _measure(path, below, levels, [], relinked)


def _measure(
    path: str, below: dict[str, set[str]], levels: dict[str, int], way: list[str], relinked: list[Entry]
) -> int:
    """Return how many levels a policy has with those below it."""
    if path in levels:
        return levels[path]
    if path in way:
        raise refused(_culprit(way[way.index(path) :], relinked), "closes a cycle of scheduler policies")
    if len(way) == MOST_LEVELS:
        raise refused(_culprit(way, relinked), f"makes more than {MOST_LEVELS} levels of scheduler policies")
    found = 1 + max((_measure(one, below, levels, [*way, path], relinked) for one in below.get(path, ())), default=0)
    if len(way) + found > MOST_LEVELS:
        raise refused(_culprit([*way, path], relinked), f"makes more than {MOST_LEVELS} levels of scheduler policies")
    levels[path] = found
    return found


def _culprit(policies: list[str], relinked: list[Entry]) -> str:
    """Return the leaf of a change that is to blame for what is wrong with some policies."""
    found = next((one for one in relinked if one.path.startswith(tuple(f"{path}/" for path in policies))), relinked[0])
    return f"{found.path}/{_CHILD}"


def _policy(name: str) -> str:
    return entry_path("/qos/scheduler-policies/scheduler-policy", "name", name)
