"""Load, check and compile the example city, and one of ten times its size."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.report import Figure, best_seconds
from telemetryd.classify.compile import compile_registry
from telemetryd.registry.load import load_registry
from telemetryd.registry.locate import default_registry

SCALE = 10
LIMITS_S = {1: 1.0, SCALE: 10.0}  # load + check + compile: a reload must never hurt
GENERATOR = Path(__file__).parents[1] / "policies" / "example-city" / "generate.py"


def run(short: bool) -> list[Figure]:
    """Measure; ``short`` takes the example city only, once."""
    figures = _measure(default_registry(), 1, repeats=1 if short else 5)
    if not short:
        with tempfile.TemporaryDirectory() as directory:
            command = [sys.executable, str(GENERATOR), "--scale", str(SCALE), "--out", directory]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            figures += _measure(Path(directory) / "registry", SCALE, repeats=3)
    return figures


def _measure(directory: Path, scale: int, repeats: int) -> list[Figure]:
    registry = load_registry(directory)
    assert not registry.warnings, registry.warnings[0]
    lines = sum(path.read_bytes().count(b"\n") for path in directory.glob("*.yaml"))
    size = f"{len(registry.applications):,} applications, {len(registry.servers):,} servers, {lines:,} lines"
    load_s = best_seconds(lambda: load_registry(directory), repeats)
    compile_s = best_seconds(lambda: compile_registry(registry), repeats)
    total_s = load_s + compile_s
    limit_s = LIMITS_S[scale]
    assert total_s <= limit_s, f"city x {scale}: {total_s:.2f} s, the limit is {limit_s} s"
    return [
        Figure(f"city x {scale}: load and check", load_s, "s", size),
        Figure(f"city x {scale}: compile", compile_s, "s"),
        Figure(f"city x {scale}: load, check and compile", total_s, "s", f"limit {limit_s:g} s"),
    ]
