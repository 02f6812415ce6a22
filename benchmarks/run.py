"""Run the benchmarks: `python -m benchmarks.run [--short] [--write] [NAME ...]`.

Every module `bench_NAME.py` has `run(short: bool) -> list[Figure]`. `--short` proves in CI that they work;
its figures mean nothing. `--write` puts the figures into RESULTS.md. A module with `ONLY_BY_NAME` takes so long that
it runs only when it is asked for (and with `--short`).
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.report import Figure

HERE = Path(__file__).parent
NAMES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--short", action="store_true", help="small inputs, one repeat")
    parser.add_argument("--write", action="store_true", help="write benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}")
    results: dict[str, tuple[str, list[Figure]]] = {}
    for name in arguments.names or NAMES:
        module = importlib.import_module(f"benchmarks.bench_{name}")
        if getattr(module, "ONLY_BY_NAME", False) and not (arguments.names or arguments.short):
            continue
        print(f"== {name}", flush=True)
        figures: list[Figure] = module.run(short=arguments.short)
        for figure in figures:
            print(f"  {figure.what:<64} {number(figure.value):>12} {figure.unit}  {figure.note}", flush=True)
        results[name] = (str(module.__doc__).strip().split("\n")[0], figures)
    if arguments.write:
        (HERE / "RESULTS.md").write_text(render(results), encoding="utf-8")
    print(f"{len(results)} passed, 0 failed")
    return 0


def number(value: float) -> str:
    """Write a figure with three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def render(results: dict[str, tuple[str, list[Figure]]]) -> str:
    """Return RESULTS.md: the sections of these results, and those of earlier runs of other benchmarks."""
    commit = git("rev-parse", "--short", "HEAD") + (
        "+" if git("status", "--porcelain", "--", "telemetryd", "ext") else ""
    )
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    made = (
        f"Made on {datetime.now(UTC):%Y-%m-%d} at commit {commit}: {os.cpu_count()} x {cpu}, "
        f"Linux {platform.release()}, Python {platform.python_version()}, numpy {np.__version__}."
    )
    path = HERE / "RESULTS.md"
    earlier = path.read_text(encoding="utf-8").split("\n## ")[1:] if path.exists() else []
    sections = {section.split("\n", 1)[0]: section.split("\n", 1)[1].strip() for section in earlier}
    for name, (title, figures) in results.items():
        rows = [f"| {f.what} | {number(f.value)} | {f.unit} | {f.note} |" for f in figures]
        table = "\n".join(["| figure | value | unit | note |", "|---|---:|---|---|", *rows])
        sections[name] = f"{title}\n`python -m benchmarks.run --write {name}`. {made}\n\n{table}"
    head = (
        "# Results\n\n`make bench` runs everything and writes this page; a section says how to make it alone.\n"
        "Ratios are within one run; the absolute figures of a shared machine move by some tens of percent.\n"
    )
    return head + "".join(f"\n## {name}\n{sections[name]}\n" for name in sorted(sections))


def git(*arguments: str) -> str:
    """Return what git prints, nothing where it is not there."""
    return subprocess.run(
        ["git", *arguments], capture_output=True, text=True, check=False, cwd=HERE.parent
    ).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
