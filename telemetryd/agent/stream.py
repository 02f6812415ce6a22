"""When a subscriber gets which leaves: samples, changes and heartbeats. Pure: readings go in, leaves come out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from telemetryd.agent.encode import Leaves
from telemetryd.agent.tree import Branch, Elems, Selection, Snapshot

#: How often leaves that nobody announces are looked at, for a subscriber who wants their changes.
LOOK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Trigger:
    """What makes leaves be sent.

    Attributes
    ----------
    sample_s:
        So far apart; 0 for a subscription to changes.
    is_suppressed:
        Only samples that are not as the last one.
    heartbeat_s:
        Everything after this time, changed or not; 0 for never.
    """

    sample_s: float = 0.0
    is_suppressed: bool = False
    heartbeat_s: float = 0.0


class Sending(NamedTuple):
    """What is to be sent now.

    Attributes
    ----------
    updates:
        Leaves by branch.
    gone:
        Paths of nodes that are no more.
    """

    updates: list[Leaves]
    gone: list[Elems]


@dataclass(eq=False)
class _Timer:
    """Comes every so often after a beginning, and never makes up for what was missed."""

    every_s: float
    began_s: float = 0.0
    next_s: float = math.inf

    def begin(self, now_s: float) -> None:
        self.began_s = now_s
        self.next_s = now_s + self.every_s if self.every_s else math.inf

    def is_due(self, now_s: float) -> bool:
        if now_s < self.next_s:
            return False
        passed = math.floor((now_s - self.began_s) / self.every_s) + 1
        self.next_s = self.began_s + passed * self.every_s
        if self.next_s <= now_s:  # rounding: the division may come out a little too low
            self.next_s += self.every_s
        return True


@dataclass(eq=False)
class Part:
    """A selection of leaves that are sent for the same reason."""

    selection: Selection
    trigger: Trigger = field(default_factory=Trigger)
    _before: dict[Elems, Branch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sample = _Timer(self.trigger.sample_s)
        self._heartbeat = _Timer(self.trigger.heartbeat_s)
        self._look = _Timer(0.0 if self.trigger.sample_s else LOOK_S)
        self._looks = False
        self._number = 0

    @property
    def next_s(self) -> float:
        """When it has to be asked again, unless something is announced before; infinite for never."""
        return min(self._sample.next_s, self._heartbeat.next_s, self._look.next_s if self._looks else math.inf)

    @property
    def freshness_s(self) -> float:
        """How old a reading may be that it is given."""
        return (self.trigger.sample_s or LOOK_S) / 10

    def begin(self, snapshot: Snapshot, now_s: float) -> list[Leaves]:
        """Return everything that there is, and wait from now on."""
        for timer in (self._sample, self._heartbeat, self._look):
            timer.begin(now_s)
        return self.whole(snapshot)

    def whole(self, snapshot: Snapshot) -> list[Leaves]:
        """Return everything that there is."""
        self._before = {}
        return self._take(snapshot, is_whole=True).updates

    def take(self, snapshot: Snapshot, now_s: float) -> Sending:
        """Return what is to be sent of a reading."""
        is_whole = self._heartbeat.is_due(now_s)
        self._look.is_due(now_s)
        if self.trigger.sample_s:
            is_sampled = self._sample.is_due(now_s)
            if not (is_sampled or is_whole):
                return Sending([], [])
            is_whole = is_whole or not self.trigger.is_suppressed
        return self._take(snapshot, is_whole=is_whole)

    def _take(self, snapshot: Snapshot, *, is_whole: bool) -> Sending:
        updates: list[Leaves] = []
        gone: list[Elems] = []
        # A large tree of which little has changed is not gone through.
        changed = None if is_whole or not self._before else snapshot.changed_since(self._number)
        before, self._number = self._before, snapshot.number
        if changed is None:
            self._before, self._looks = {}, False
            changed = (*snapshot.branches, *(elems for elems in before if elems not in snapshot.branches))
        for elems in changed:
            branch, old = snapshot.branches.get(elems), before.get(elems)
            if branch is None:
                if old is not None:
                    self._before.pop(elems, None)
                    gone += self._nodes_of(old)
                    self.selection.forget(elems)
                continue
            picked = self.selection.pick(branch).leaves
            if not picked:
                continue
            self._looks = self._looks or any(branch.node.leaves[i].is_counter for i in picked)
            self._before[elems] = branch
            sent = picked if is_whole or old is None else _changed(picked, old, branch)
            if any(branch.values[i] is not None for i in sent):
                updates.append((branch, sent))
            if old is not None and old is not branch:
                gone += [elems + branch.node.leaves[i].elems for i in picked if _is_gone(i, old, branch)]
        return Sending(updates, gone)

    def _nodes_of(self, branch: Branch) -> list[Elems]:
        """Return the nodes of a branch that were asked for: its own, or those below it."""
        leaves, depths = self.selection.pick(branch)
        top = len(branch.elems)
        nodes = [
            (branch.elems + branch.node.leaves[i].elems)[: max(depth, top)]
            for i, depth in zip(leaves, depths, strict=True)
        ]
        return list(dict.fromkeys(nodes))


def _changed(picked: Sequence[int], old: Branch, new: Branch) -> Sequence[int]:
    if old is new:
        return ()
    return [i for i in picked if old.values[i] != new.values[i]]


def _is_gone(i: int, old: Branch, new: Branch) -> bool:
    return new.values[i] is None and old.values[i] is not None
