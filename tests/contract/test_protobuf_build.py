"""The generated protobuf modules: made by every build, never part of the sources, never out of date."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = {f"{name}_pb2{ending}" for name in ("control", "gnmi", "gnmi_ext") for ending in (".py", ".pyi", "_grpc.py")}


def setup(directory: Path, *arguments: str) -> None:
    """Run setup.py in a copy of the sources, without compiling the extensions."""
    environment = {**os.environ, "TELEMETRYD_EXT_ONLY": "none"}
    command = [sys.executable, "setup.py", "-q", *arguments]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """What a checkout has: everything but what is generated."""
    copy = tmp_path / "sources"
    left_out = shutil.ignore_patterns("*_pb2*", "*.so", "__pycache__")
    for folder in ("telemetryd", "proto", "ext", "policies", "systemd", "dashboards"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=left_out)
    for file in (path for path in ROOT.iterdir() if path.is_file()):
        shutil.copy(file, copy)
    return copy


def test_modules_are_those_of_the_proto_files(sources: Path) -> None:
    """The modules that run here are what the .proto files of this checkout give."""
    setup(sources, "build_proto")
    made = sources / "telemetryd" / "proto"
    assert {path.name for path in made.glob("*_pb2*")} == NAMES
    for name in NAMES:
        here = ROOT / "telemetryd" / "proto" / name
        assert here.read_text() == (made / name).read_text(), f"{name} is out of date: setup.py build_proto"


def test_a_build_from_a_checkout_holds_them(sources: Path) -> None:
    """build_py, which wheel and installation go through, makes the modules and takes them along."""
    setup(sources, "build_py", "--build-lib", "built")
    assert {path.name for path in (sources / "built" / "telemetryd" / "proto").glob("*_pb2*")} == NAMES


def test_the_source_distribution_leaves_them_out(sources: Path) -> None:
    """The sources hold proto/ and not what is made of it, even where it has been made."""
    setup(sources, "build_proto")
    setup(sources, "sdist", "--formats=gztar")
    (archive,) = (sources / "dist").glob("*.tar.gz")
    shutil.unpack_archive(archive, sources / "unpacked")
    names = {
        path.name for path in (sources / "unpacked").rglob("*") if "proto" in path.parts or path.suffix == ".proto"
    }
    assert "control.proto" in names
    assert not names & NAMES
