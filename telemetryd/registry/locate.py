"""Find the shipped example city."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from telemetryd.errors import InputError

EXAMPLE: Final = Path("policies") / "example-city" / "registry"


def default_registry() -> Path:
    """Return the registry of the example city: beside the package in a checkout, else as installed.

    Raises
    ------
    InputError
        If it is in neither place.
    """
    checkout = Path(__file__).resolve().parents[2] / EXAMPLE
    installed = Path(sys.prefix) / "share" / "telemetryd" / EXAMPLE
    for directory in (checkout, installed):
        if directory.is_dir():
            return directory
    raise InputError(
        f"the example city's registry is not in {installed}: name your registry with --registry DIR "
        "or TELEMETRYD_REGISTRY"
    )
