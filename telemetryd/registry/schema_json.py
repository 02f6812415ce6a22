"""The JSON Schema of a registry file, for editors."""

from __future__ import annotations

from typing import Any, Final

from telemetryd.registry.models import RegistryFile

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def registry_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) that every file of a registry follows.

    It knows the fields and their forms; what only the whole registry can tell (unknown names,
    duplicates, ambiguous applications) is left to :func:`telemetryd.registry.load.load_registry`.
    """
    schema = RegistryFile.model_json_schema(by_alias=True)
    return {"$schema": DIALECT, **schema, "title": "telemetryd registry file"}
