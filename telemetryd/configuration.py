"""Everything that a configuration names, loaded: settings, registry, tables. All of it, or every mistake.

A daemon under load has it done by another process (``python -m telemetryd.configuration FILE``): loading is a
second of pure Python, which would keep the receiving threads from the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from telemetryd.assure.alert_plan import AlertPlan, plan_alerts
from telemetryd.classify.compile import compile_registry
from telemetryd.classify.tables import Tables
from telemetryd.config.settings import Loaded, Settings, load_settings
from telemetryd.errors import Problem, ProblemsError, TelemetrydError
from telemetryd.policy.load import load_policies
from telemetryd.policy.loaded import Policies
from telemetryd.registry.load import load_registry
from telemetryd.registry.models import Registry
from telemetryd.targets import TargetPlan, plan_targets

LIMIT_S: Final = 110.0
BEHIND: Final = 10
"""Niceness of the process that loads, above the daemon's."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the daemon runs on.

    Attributes
    ----------
    loaded:
        The settings, and where each came from.
    registry, tables:
        The registry that they name, and what it was compiled to.
    targets:
        What each gNMI target is asked for.
    alerts:
        What is watched, and who is told.
    policies:
        Those in force; None without any.
    """

    loaded: Loaded
    registry: Registry
    tables: Tables
    targets: list[TargetPlan]
    alerts: AlertPlan
    policies: Policies | None = None

    @property
    def settings(self) -> Settings:
        """The settings alone."""
        return self.loaded.settings


def load_configuration(file: Path) -> Configuration:
    """Load a configuration whole: what the daemon does at its start and at each reload.

    Raises
    ------
    ProblemsError
        With every mistake of the file, or else of the registry that it names, or else of both together.
    """
    loaded = load_settings(file)
    directory = loaded.settings.registry
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        position = loaded.document.where(("registry",))
        remedy = "name the directory of the registry's files; a relative path is relative to this file"
        raise ProblemsError([Problem(*position, f'"registry": {directory} {what}', remedy)])
    registry = load_registry(directory)
    targets = plan_targets(loaded.settings.gnmi, registry, loaded.document.where)
    policies = load_policies(loaded.settings.policies, registry) if loaded.settings.policies else None
    alerts = plan_alerts(loaded.settings.alerts, registry, loaded.document.where, policies)
    return Configuration(loaded, registry, compile_registry(registry), targets, alerts, policies)


async def load_elsewhere(file: Path) -> Configuration:
    """Load a configuration in another process; as :func:`load_configuration`.

    Raises
    ------
    ProblemsError
        With every mistake.
    TelemetrydError
        If the process fails, or takes longer than :data:`LIMIT_S`.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, str(file), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            octets, _ = await child.communicate()
    except TimeoutError as error:
        raise TelemetrydError(f"loading {file} took longer than {LIMIT_S:.0f} s") from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        raise TelemetrydError(f"the process that loads {file} ended with {child.returncode}: see the log before this")
    loaded = await asyncio.to_thread(pickle.loads, octets)
    if isinstance(loaded, Configuration):
        return loaded
    raise ProblemsError(loaded)


def main(arguments: list[str]) -> None:
    """Write the configuration that is named on the command line to stdout, or the list of its problems."""
    result: Configuration | list[Problem]
    try:
        result = load_configuration(Path(arguments[0]))
    except ProblemsError as error:
        result = error.problems
    sys.stdout.buffer.write(pickle.dumps(result, pickle.HIGHEST_PROTOCOL))


if __name__ == "__main__":
    # As the module of its name, not as __main__: the classes must be those that the reader knows.
    from telemetryd.configuration import main as named_main

    os.nice(BEHIND)  # traffic that comes in meanwhile goes first
    named_main(sys.argv[1:])
