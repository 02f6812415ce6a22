"""Check a registry as a whole: names, references, contradictions."""

from __future__ import annotations

from telemetryd.registry.models import Registry
from telemetryd.registry.sources import Sources


def check(registry: Registry, sources: Sources) -> None:
    """Note every mistake and every suspicious thing in `sources`."""
