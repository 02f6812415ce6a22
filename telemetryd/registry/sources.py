"""Where each entity of a registry was written, and what could not be read: the checks' notebook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from telemetryd.config.positions import PathInData
from telemetryd.errors import Problem
from telemetryd.registry.models import SECTIONS

if TYPE_CHECKING:
    from telemetryd.registry.load import Document


class Origin(NamedTuple):
    """The document of an entity and its row in the section's list there."""

    document: Document
    row: int


class Place(NamedTuple):
    """A value in a registry: section, row of the entity in the joined tuple, path below it."""

    section: str
    row: int
    path: PathInData = ()


class Sources:
    """Positions of entities, and the problems found so far.

    Attributes
    ----------
    origins:
        Section -> origin of each entity, in the order of the joined tuple.
    broken:
        Section -> name -> raw entry of what has mistakes itself; references to it are valid.
    unknown_sections:
        Sections that hold entries without a readable name.
    is_complete:
        False where a whole file or section could not be understood.
    """

    def __init__(self, *, is_complete: bool, problems: list[Problem], warnings: list[Problem]) -> None:
        self.origins: dict[str, list[Origin]] = {name: [] for name in SECTIONS}
        self.broken: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in SECTIONS}
        self.unknown_sections: set[str] = set()
        self.is_complete = is_complete
        self.problems = problems
        self.warnings = warnings

    def is_known(self, section: str) -> bool:
        """Tell whether every name of a section is known, so that another one can be called unknown."""
        return self.is_complete and section not in self.unknown_sections

    def is_whole(self, sections: Iterable[str]) -> bool:
        """Tell whether every entity of the sections was read without a mistake."""
        return all(self.is_known(section) and not self.broken[section] for section in sections)

    def note(self, place: Place, message: str, remedy: str, *, key: bool = False) -> None:
        """Note a mistake at a place."""
        self.problems.append(self._problem(place, message, remedy, key))

    def warn(self, place: Place, message: str, remedy: str, *, key: bool = False) -> None:
        """Note something suspicious at a place."""
        self.warnings.append(self._problem(place, message, remedy, key))

    def where(self, place: Place) -> str:
        """Write the position of a place as ``file:line:column``."""
        file, line, column = self._position(place, False)
        return f"{file}:{line}:{column}"

    def _problem(self, place: Place, message: str, remedy: str, key: bool) -> Problem:
        return Problem(*self._position(place, key), message, remedy)

    def _position(self, place: Place, key: bool) -> tuple[str, int, int]:
        document, row = self.origins[place.section][place.row]
        return document.where((place.section, row, *place.path), key=key)
