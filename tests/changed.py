"""Documents in which something is changed: any value in any place, or nothing where something was."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any


def changed(document: Any, changes: Iterable[tuple[tuple[str | int, ...], Any]]) -> Any:
    """Return a copy with a value put at each path, or taken away by "remove"; paths that lead nowhere change nothing."""
    data = copy.deepcopy(document)
    for path, value in changes:
        inner: Any = data
        for step in path[:-1]:
            try:
                inner = inner[step]
            except (KeyError, IndexError, TypeError):
                break
        else:
            last = path[-1]
            if isinstance(inner, dict) and value == "remove":
                inner.pop(last, None)
            elif isinstance(inner, dict) or (isinstance(inner, list) and isinstance(last, int) and last < len(inner)):
                inner[last] = value
    return data
