"""Build the Cython extensions of telemetryd; everything static is in pyproject.toml.

Environment:
    TELEMETRYD_EXT_DEBUG=1     bounds checks, initialisation checks, annotated HTML
    TELEMETRYD_EXT_SANITIZE=1  AddressSanitizer and UndefinedBehaviorSanitizer
    TELEMETRYD_EXT_ONLY=a,b    build only ext/a.pyx and ext/b.pyx
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("TELEMETRYD_EXT_DEBUG") == "1"
SANITIZE = os.environ.get("TELEMETRYD_EXT_SANITIZE") == "1"
ONLY = {name for name in os.environ.get("TELEMETRYD_EXT_ONLY", "").split(",") if name}

compile_args = ["-O3", "-Wall", "-Wextra", "-Wno-unused-function", "-Wno-unused-parameter"]
link_args: list[str] = []
if SANITIZE:
    flags = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g"]
    compile_args += flags
    link_args += flags

directives = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": False,
}

extensions = [
    Extension(
        f"telemetryd._ext.{source.stem}",
        [source.as_posix()],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    for source in sorted(Path("ext").glob("*.pyx"))
    if not ONLY or source.stem in ONLY
]

# The example city goes where telemetryd.registry.locate looks for it in an installation.
policies = [
    (f"share/telemetryd/{folder}", [path.as_posix() for path in sorted(folder.iterdir()) if path.is_file()])
    for folder in sorted(Path("policies").rglob("*"))
    if folder.is_dir() and folder.name != "__pycache__"
]

setup(
    data_files=policies,
    ext_modules=cythonize(
        extensions,
        include_path=["ext"],
        build_dir="build/cython",
        compiler_directives=directives,
        annotate=DEBUG,
    )
    if extensions
    else [],
)
