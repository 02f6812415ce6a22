"""Numbers for paths: one table for all targets, and for each target the spelling that it uses.

A path is read once, when a target sends it for the first time; afterwards its octets stand for its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from telemetryd.errors import InputError
from telemetryd.ingest.gnmi.leaves import Hint, entry_of, hint_of
from telemetryd.ingest.gnmi.path import OPENCONFIG, Elem, Path, bare, elems_of, node_name
from telemetryd.proto import gnmi_pb2

#: A path that no one of the subscriptions covers has this as the number of its subscription.
UNASKED: Final = 0xFFFF
MOST_SUBSCRIPTIONS: Final = 1024
#: Octets of a path, or of a name in JSON.
LONGEST_PATH: Final = 4096
#: Spellings that a target may use for each of its paths, and octets of a spelling, on average.
SPELLINGS_A_PATH: Final = 2
OCTETS_A_SPELLING: Final = 128
#: Messages of paths whose content is remembered: prefixes, and the same names below all of them.
_MESSAGES: Final = 1024


class Refusal(IntEnum):
    """Why a path has no number."""

    PATH_OVERFLOW = 1  # the target has sent more different paths, or more spellings of them, than it may
    MALFORMED = 2  # no protobuf message, or text that is not UTF-8: the whole message is refused
    BAD_PATH = 3  # an element without a name, or with one that no path can hold
    PATH_TOO_LONG = 4
    ANNOTATION = 5  # metadata in JSON (RFC 7952): no node


class Known(NamedTuple):
    """What is known of a path.

    Attributes
    ----------
    path:
        Its number; 0 where it has none.
    hint:
        How its value is to be read (:class:`telemetryd.ingest.gnmi.leaves.Hint`); where there is no number, the
        :class:`Refusal`.
    subscription:
        Number of the subscription that covers it, or :data:`UNASKED`.
    """

    path: int
    hint: int = Hint.NONE
    subscription: int = UNASKED


class Place(NamedTuple):
    """Where a path leads.

    Attributes
    ----------
    target:
        The target that a notification names, where it is another than was asked for: empty for most.
    """

    path: Path
    target: str = ""

    def __str__(self) -> str:
        return f"{self.target} {self.path}" if self.target else str(self.path)


class PathTable:
    """All paths that any target has sent; numbers begin at 1 and are never used again."""

    def __init__(self) -> None:
        self._places: list[Place] = [Place(Path())]
        self._numbers: dict[Place, int] = {}
        self._texts: dict[int, str] = {0: ""}

    def __len__(self) -> int:
        return len(self._numbers)

    def find(self, place: Place) -> int:
        """Return the number of a place, 0 where it has none."""
        return self._numbers.get(place, 0)

    def add(self, place: Place) -> int:
        """Return the number of a place, which is new if need be."""
        number = self._numbers.setdefault(place, len(self._places))
        if number == len(self._places):
            self._places.append(place)
        return number

    def place(self, number: int) -> Place:
        """Return where a path leads."""
        return self._places[number]

    def text(self, number: int) -> str:
        """Return a path as a text; the empty text for number 0."""
        text = self._texts.get(number)
        if text is None:
            text = self._texts[number] = str(self._places[number])
        return text


class _Read(NamedTuple):
    """What the message of a path says."""

    elems: tuple[Elem, ...]
    origin: str
    target: str


@lru_cache(_MESSAGES)
def _read(octets: bytes) -> _Read | Refusal:
    try:
        message = gnmi_pb2.Path.FromString(octets)
    except DecodeError:
        return Refusal.MALFORMED
    try:
        return _Read(tuple(elems_of(message)), message.origin, message.target)
    except InputError:
        return Refusal.BAD_PATH


class Resolver:
    """What a target's paths are: asked once for every spelling, by the decoder.

    Parameters
    ----------
    paths:
        The table of all targets.
    subscriptions:
        What was asked for.
    asked_target:
        The target that the subscription names in its prefix.
    most_paths:
        How many paths this target may bring into the table, in its whole life.
    is_wrapped:
        Whether values in JSON repeat the name of the node that they belong to.
    """

    def __init__(
        self,
        paths: PathTable,
        subscriptions: Sequence[Path] = (),
        *,
        asked_target: str = "",
        most_paths: int = 100_000,
        is_wrapped: bool = False,
    ) -> None:
        if len(subscriptions) > MOST_SUBSCRIPTIONS:
            raise ValueError(f"more than {MOST_SUBSCRIPTIONS} subscriptions")
        self.paths = paths
        self.n_subscriptions = len(subscriptions)
        self.most_paths = most_paths
        self._subscriptions = [bare(path) for path in subscriptions]
        self._asked_target = asked_target
        self._is_wrapped = is_wrapped
        self._brought = 0
        # What members and entries of paths are: Python reads JSON with lists, most of which comes again and again.
        self._children: dict[tuple[int, str], Known] = {}
        self._entries: dict[tuple[int, Elem], Known] = {}

    def wire(self, prefix: bytes, path: bytes) -> Known:
        """Return what is known of a path in the octets of its two messages."""
        if len(prefix) + len(path) > LONGEST_PATH:
            return Known(0, Refusal.PATH_TOO_LONG)
        before, after = _read(prefix), _read(path)
        if isinstance(before, Refusal) or isinstance(after, Refusal):
            return Known(0, Refusal.MALFORMED if Refusal.MALFORMED in (before, after) else Refusal.BAD_PATH)
        target = before.target or after.target
        origin = after.origin or before.origin
        return self._known(
            Place(
                Path(before.elems + after.elems, "" if origin == OPENCONFIG else origin),
                "" if target == self._asked_target else target,
            )
        )

    def child(self, parent: int, name: str) -> Known:
        """Return what is known of a member of a JSON object, whose own path has the number ``parent``."""
        known = self._children.get((parent, name))
        if known is None:
            known = self._child(parent, name)
            if known.path:  # as many as there may be paths, at most
                self._children[parent, name] = known
        return known

    def _child(self, parent: int, name: str) -> Known:
        if name.startswith("@"):
            return Known(0, Refusal.ANNOTATION)
        if len(name.encode()) > LONGEST_PATH:
            return Known(0, Refusal.PATH_TOO_LONG)
        try:
            node = node_name(name)
        except InputError:
            return Known(0, Refusal.BAD_PATH)
        above = self.paths.place(parent)
        elems = above.path.elems
        if self._is_wrapped and elems and elems[-1].name == node:
            return self._known(above)
        return self._below(above, (*elems, Elem(node)))

    def entry(self, parent: int, position: int, members: dict[str, str]) -> Known:
        """Return what is known of an entry of a list in JSON; the list's own path has the number ``parent``."""
        above = self.paths.place(parent)
        elems = above.path.elems
        if not elems:
            return Known(0, Refusal.BAD_PATH)
        if elems[-1].keys:  # the list was asked for by its keys: they are known
            return self._known(above)
        elem = entry_of(elems[-1].name, position, members)
        known = self._entries.get((parent, elem))
        if known is None:
            known = self._below(above, (*elems[:-1], elem))
            if known.path:
                self._entries[parent, elem] = known
        return known

    def _below(self, above: Place, elems: tuple[Elem, ...]) -> Known:
        return self._known(Place(Path(elems, above.path.origin), above.target))

    def _known(self, place: Place) -> Known:
        number = self.paths.find(place)
        if not number:
            if self._brought >= self.most_paths:
                return Known(0, Refusal.PATH_OVERFLOW)
            self._brought += 1
            number = self.paths.add(place)
        elems = place.path.elems
        hint = hint_of(elems[-2].name if len(elems) > 1 else "", elems[-1].name) if elems else Hint.NONE
        return Known(number, hint, self._subscription_of(place.path))

    def _subscription_of(self, path: Path) -> int:
        best, depth = UNASKED, -1
        for number, asked in enumerate(self._subscriptions):
            if len(asked.elems) > depth and asked.covers(path):
                best, depth = number, len(asked.elems)
        return best
