"""Dictionaries of the tags' values: a code for each name that stays the same as long as the process runs.

Windows bring dictionaries of their own, whose codes change with the registry. Here a name has one code for good, so
that a series is told by numbers, and its text, escaped, is made once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetryd.store.line_text import key_text, plain
from telemetryd.store.series import OTHER

#: Octets of texts behind each other, and where each begins and the last one ends.
Texts = tuple[NDArray[np.uint8], NDArray[np.int64]]
_TRANSLATIONS: Final = 16  # dictionaries whose translation is kept


def is_address(name: str) -> bool:
    """Tell whether a name is an address, or an address and a port."""
    host = name.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        ip_address(host.partition("/")[0])
    except ValueError:
        return False
    return True


class Translation(NamedTuple):
    """The code of each name, shape (c,), and whether several names have one code."""

    codes: NDArray[np.int64]
    has_synonyms: bool


class TagNames:
    """The values of one tag, or of several that have the same.

    Parameters
    ----------
    greatest:
        Greatest code that a key can hold: it is that of ``other``.
    refuses:
        Says which names are written as ``other``.
    report:
        Called for each name that is written as ``other``.
    """

    def __init__(self, greatest: int, refuses: Callable[[str], bool], report: Callable[[], None]) -> None:
        self._greatest = greatest
        self._refuses = refuses
        self._report = report
        self._codes: dict[str, int] = {OTHER: greatest}
        self._names: list[str] = []
        self._texts: dict[str, Texts] = {}
        self._translations: OrderedDict[tuple[str, ...], Translation] = OrderedDict()

    def translate(self, names: Sequence[str]) -> Translation:
        """Return the codes of the names of a window."""
        key = tuple(names)
        found = self._translations.get(key)
        if found is None:
            codes = np.array([self._code(name) for name in key], np.int64)
            found = Translation(codes, len(np.unique(codes)) < len(codes))
            self._translations[key] = found
            if len(self._translations) > _TRANSLATIONS:
                self._translations.popitem(last=False)
        return found

    def texts(self, tag: str) -> Texts:
        """Return the texts ``,tag=name`` of all codes, the last of them that of ``other``."""
        texts = self._texts.get(tag)
        if texts is None or len(texts[1]) != len(self._names) + 2:
            self._texts[tag] = texts = tag_texts(tag, [*self._names, OTHER])
        return texts

    def places(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of the texts codes have."""
        return np.minimum(codes, len(self._names))

    def _code(self, name: str) -> int:
        written = plain(name)
        code = self._codes.get(written)
        if code is None:
            if self._refuses(written) or len(self._names) >= self._greatest:
                self._report()
                return self._greatest
            code = self._codes[written] = len(self._names)
            self._names.append(written)
        return code


def tag_texts(tag: str, names: Sequence[str]) -> Texts:
    """Return the texts ``,tag=name`` of names."""
    texts = [b",%s=%s" % (key_text(tag), key_text(name)) for name in names]
    places = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=places[1:])
    return np.frombuffer(b"".join(texts), np.uint8), places
