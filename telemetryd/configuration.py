"""Everything that a configuration names, loaded: settings, registry, tables. All of it, or every mistake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from telemetryd.classify.compile import compile_registry
from telemetryd.classify.tables import Tables
from telemetryd.config.settings import Loaded, Settings, load_settings
from telemetryd.errors import Problem, ProblemsError
from telemetryd.registry.load import load_registry
from telemetryd.registry.models import Registry


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the daemon runs on.

    Attributes
    ----------
    loaded:
        The settings, and where each came from.
    registry, tables:
        The registry that they name, and what it was compiled to.
    """

    loaded: Loaded
    registry: Registry
    tables: Tables

    @property
    def settings(self) -> Settings:
        """The settings alone."""
        return self.loaded.settings


def load_configuration(file: Path) -> Configuration:
    """Load a configuration whole: what the daemon does at its start and at each reload.

    Raises
    ------
    ProblemsError
        With every mistake of the file, or else of the registry that it names.
    """
    loaded = load_settings(file)
    directory = loaded.settings.registry
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        position = loaded.document.where(("registry",))
        remedy = "name the directory of the registry's files; a relative path is relative to this file"
        raise ProblemsError([Problem(*position, f'"registry": {directory} {what}', remedy)])
    registry = load_registry(directory)
    return Configuration(loaded, registry, compile_registry(registry))
