"""gnmic, a client that is not ours: found on the path, or built from its module.

`go install` cannot build it where no list of its versions is served. So the module is taken as it is served and built in a
copy, against its own sums. Its templates' functions are left out: they need a module that is served no more, and nothing here
uses templates.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Final

MODULE: Final = "github.com/openconfig/gnmic@v0.36.0"
BUILT: Final = Path(__file__).parents[1] / "build" / "peers" / "gnmic"
#: In place of the file that names the functions of a module that is not to be had.
_NO_FUNCTIONS: Final = """package gtemplate

import "text/template"

type noFunctions struct{}

func NewTemplateEngine() noFunctions { return noFunctions{} }

func (noFunctions) CreateFuncs() template.FuncMap { return template.FuncMap{} }
"""
BUILD_S: Final = 3600


class NoGnmicError(Exception):
    """It is not there, for a reason that is said."""


def find() -> Path | None:
    """Return the program, if it is there already."""
    if BUILT.is_file():
        return BUILT
    found = shutil.which("gnmic")
    return None if found is None else Path(found)


def build(directory: Path) -> Path:
    """Return the program; where it is not there build it, which takes minutes and 2 GB of Go's caches.

    Raises
    ------
    NoGnmicError
        If it cannot be built.
    """
    if (found := find()) is not None:
        return found
    if shutil.which("go") is None:
        raise NoGnmicError("gnmic is not installed, and go is missing, which builds it")
    source = directory / "gnmic"
    shutil.copytree(json.loads(_go(["mod", "download", "-json", MODULE], directory))["Dir"], source)
    for path in (source, *source.rglob("*")):
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
    (source / "pkg" / "gtemplate" / "template_funcs.go").write_text(_NO_FUNCTIONS)
    BUILT.parent.mkdir(parents=True, exist_ok=True)
    _go(["build", "-mod=readonly", "-trimpath", "-o", str(BUILT), "."], source)
    return BUILT


def _go(arguments: list[str], directory: Path) -> str:
    environment = {**os.environ, "GOFLAGS": ""}
    command = ["nice", "go", *arguments]
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=BUILD_S
    )
    if done.returncode != 0:
        raise NoGnmicError(f"gnmic cannot be built: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout
