"""What the operations of a Set do to a datastore (gNMI specification 3.4.4 to 3.4.6)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from telemetryd.agent.datastore import Datastore, Entry, Values
from telemetryd.agent.decode import Written
from telemetryd.agent.model import Model, Role
from telemetryd.agent.place import Place, expand, refused
from telemetryd.ingest.gnmi.path import ANY, Elem, text_of


class Editor:
    """Carries out operations, one after the other.

    Parameters
    ----------
    model:
        What the tree may hold.
    store:
        Changed in place; whoever called undoes what had been done before a refusal.
    """

    def __init__(self, model: Model, store: Datastore) -> None:
        self._model, self._store = model, store

    def delete(self, elems: Sequence[Elem]) -> None:
        """Remove what a path leads to; nothing may be there.

        Raises
        ------
        RefusedError
            If the path leads to nothing that can be set, or to the key of an entry that stays.
        """
        places = expand(self._model, elems, self._keys)
        if not places:
            return
        found = [place for place in places if place.node.can_be_set]
        if not found or (len(found) < len(places) and all(elem.name != ANY for elem in elems)):
            raise refused(text_of(elems), "is nothing that can be set here")
        for place in found:
            twin = self._clear(place)
            if twin:
                raise refused(f"{place.owner}/{twin}", "is the key of its entry: delete the entry")

    def replace(self, place: Place, written: Written) -> None:
        """Have nothing at a place but what was written for it."""
        self._clear(place)
        self._merge(written, is_update=False)

    def update(self, written: Written) -> None:
        """Add what was written to what is there; values of leaf-lists come after those that they have."""
        self._merge(written, is_update=True)

    def replace_by_union(self, union: Iterable[tuple[Place, Written]]) -> None:
        """Have nothing at some places but what was written for all of them together.

        Raises
        ------
        RefusedError
            If they say different things of a leaf.
        """
        union = list(union)
        together: Written = {}
        for _, written in union:
            for path, entry in written.items():
                known = together.setdefault(path, entry)
                if known is not entry:
                    together[path] = _with(known, _united(known, entry))
        for place, _ in union:
            self._clear(place)
        self._merge(together, is_update=False)

    def _keys(self, list_path: str) -> list[str]:
        entries = self._store.entries
        return [entries[path].elems[-1].keys[0][1] for path in self._store.members(list_path)]

    def _clear(self, place: Place) -> str:
        """Remove everything at a place; return the way to the key of its entry where that had to stay, else ""."""
        if place.is_entry:
            self._remove(place.owner)
            return ""
        node = place.node
        for inner in node.lists:
            for path in self._store.members(place.owner + inner.way):
                self._remove(path)
        entry = self._store.entries.get(place.owner)
        if node.list is not None or entry is None:
            return ""
        way = node.way.removeprefix("/")
        kept = {name: value for name, value in entry.values.items() if name != way and not name.startswith(f"{way}/")}
        twin = f"config/{entry.node.keys[0]}"
        stays = "" if twin in kept else twin
        if stays:
            kept[twin] = entry.values[twin]
        if len(kept) < len(entry.values):
            self._store.put(_with(entry, kept))
        return stays

    def _remove(self, path: str) -> None:
        """Remove an entry with all that lies in it."""
        entry = self._store.entries.get(path)
        if entry is None:
            return
        node = self._model.node(entry.elems)
        assert node is not None
        for inner in node.inner:
            for below in self._store.members(path + inner.way):
                self._remove(below)
        self._store.remove(path)

    def _merge(self, written: Written, *, is_update: bool) -> None:
        for path, entry in written.items():
            old = self._store.entries.get(path)
            if old is None:
                self._store.put(entry)
                continue
            values = old.values | entry.values
            if is_update:
                for way, value in entry.values.items():
                    if isinstance(value, tuple) and way in old.values:
                        values[way] = tuple(dict.fromkeys((*old.values[way], *value)))  # type: ignore[misc]
            if values != old.values:
                self._store.put(_with(old, values))


def _with(entry: Entry, values: Values) -> Entry:
    return Entry(entry.node, entry.path, entry.list_path, entry.elems, values)


def _united(one: Entry, other: Entry) -> Values:
    """Return the leaves of both."""
    values = dict(one.values)
    for way, value in other.values.items():
        known = values.setdefault(way, value)
        if isinstance(known, tuple) and isinstance(value, tuple):
            values[way] = tuple(dict.fromkeys((*known, *value)))
        elif known != value:
            raise refused(f"{one.path}/{way}", f"is to be {known} and {value}: the parts of the union differ")
    return values


def is_of_system(entry: Entry) -> bool:
    """Tell whether an entry is the system's: what is written of it has to be what it is."""
    return not entry.node.can_be_set and any(leaf.role is Role.CONFIG for leaf in entry.node.leaves)
