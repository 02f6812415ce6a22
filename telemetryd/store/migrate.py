"""Versions of the store: what changed from each to the next, and how a store is brought along.

A migration turns the document of the manifest into that of the next version; it reads and writes nothing else, so
it takes no time, and a reader applies it in memory to a store that nobody writes to. The next writer makes it last,
by the commit that opens the store. Segments stay what they are: ``schema`` of each says what its columns are,
and where it is older than what new ones get, compaction rewrites the segment once nothing else is to be done.

    1  the first
    2  ``id`` of the store, ``schema`` of every segment, ``retention`` of the last writer, ``backup``
    3  segments of the kind ``interface``
    4  segments of the kinds ``queue`` and ``component``
    5  segments of the kind ``demand``
    6  segments of the kind ``enforcement``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from telemetryd.errors import StoreError

VERSION: Final = 6
"""Version of the manifests that are written."""

Document = dict[str, Any]


def _from_1(document: Document) -> Document:
    return {
        **document,
        "id": "",  # the next writer gives it one
        "segments": [{**segment, "schema": 1} for segment in document["segments"]],
        "retention": {},
        "backup": None,
    }


MIGRATIONS: Final[Mapping[int, Callable[[Document], Document]]] = MappingProxyType(
    {1: _from_1, 2: dict, 3: dict, 4: dict, 5: dict}
)
"""Version -> what makes the next one of it."""


def migrated(document: Document, where: Path) -> Document:
    """Bring the document of a manifest to :data:`VERSION`.

    Raises
    ------
    StoreError
        If it is of a newer version.
    KeyError, TypeError, ValueError
        If it is damaged.
    """
    version = int(document["version"])
    if version > VERSION:
        raise StoreError(
            f"{where} has version {version} and this telemetryd reads versions up to {VERSION}: "
            "use the telemetryd that wrote the store, or a newer one"
        )
    while version < VERSION:
        document = {**MIGRATIONS[version](document), "version": version + 1}
        version += 1
    return document
