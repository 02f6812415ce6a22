"""Compiled modules land here; :func:`load` picks them or their Python twins.

The choice is made once per process: ``TELEMETRYD_NO_EXT=1`` runs every pure function on its
reference twin. Without it a missing extension is an error, never a silent fall-back to slow code.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from telemetryd.errors import ExtensionMissingError


def is_disabled() -> bool:
    """Tell whether ``TELEMETRYD_NO_EXT=1`` asks for the Python twins."""
    return os.environ.get("TELEMETRYD_NO_EXT") == "1"


def load(extension: str, reference: str) -> ModuleType:
    """Import the compiled module, or its Python twin where extensions are switched off.

    Parameters
    ----------
    extension:
        Name below ``telemetryd._ext``, such as ``"sflow"``.
    reference:
        Full name of the module with the same public names in Python.

    Raises
    ------
    ExtensionMissingError
        If the extension was not built and ``TELEMETRYD_NO_EXT`` is not set.
    """
    if is_disabled():
        return importlib.import_module(reference)
    try:
        return importlib.import_module(f"telemetryd._ext.{extension}")
    except ModuleNotFoundError as error:
        if error.name != f"telemetryd._ext.{extension}":
            raise
        raise ExtensionMissingError(
            f"the compiled module telemetryd._ext.{extension} is missing: run `make build`, "
            "or set TELEMETRYD_NO_EXT=1 to run on the (slow) Python reference"
        ) from error
