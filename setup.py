"""Build the Cython extensions and the protobuf modules of telemetryd; everything static is in pyproject.toml.

`setup.py build_proto` makes telemetryd/proto/*_pb2*.py from proto/ alone; every build of the package does so too.

Environment:
    TELEMETRYD_EXT_DEBUG=1     bounds checks, initialisation checks, annotated HTML
    TELEMETRYD_EXT_SANITIZE=1  AddressSanitizer and UndefinedBehaviorSanitizer
    TELEMETRYD_EXT_ONLY=a,b    build only ext/a.pyx and ext/b.pyx
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Command, Extension, setup
from setuptools.command.build_py import build_py

DEBUG = os.environ.get("TELEMETRYD_EXT_DEBUG") == "1"
SANITIZE = os.environ.get("TELEMETRYD_EXT_SANITIZE") == "1"
JOBS = os.cpu_count() or 1
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

# The units and their companions, for those who install the wheel and not by `make install`.
units = [("share/telemetryd/systemd", [path.as_posix() for path in sorted(Path("systemd").iterdir())])]


#: Where .proto files are; they import each other as telemetryd/proto/NAME.proto.
PROTO = ("proto/gnmi", "proto/telemetryd/v1")


# Grafana's dashboards, and what writes them.
dashboards = [
    (f"share/telemetryd/{folder}", [path.as_posix() for path in sorted(folder.iterdir()) if path.is_file()])
    for folder in (Path("dashboards"), Path("dashboards/flux"), Path("dashboards/influxql"))
]


class BuildProto(Command):
    """Generate telemetryd/proto/NAME_pb2.py, _pb2.pyi and _pb2_grpc.py from each NAME.proto of PROTO."""

    description = "generate the protobuf modules"
    user_options: list[tuple[str, str | None, str]] = []  # noqa: RUF012 (setuptools declares it so)

    def initialize_options(self) -> None:
        """Have no options."""

    def finalize_options(self) -> None:
        """Have no options."""

    def run(self) -> None:
        """Run protoc."""
        import grpc_tools
        from grpc_tools import protoc

        sources = [source for folder in PROTO for source in sorted(Path(folder).glob("*.proto"))]
        # The mappings make protoc name the modules by the package that they land in.
        arguments = [
            "protoc",
            *(f"--proto_path=telemetryd/proto={folder}" for folder in PROTO),
            f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
            "--python_out=.",
            "--pyi_out=.",
            "--grpc_python_out=.",
            *(f"telemetryd/proto/{source.name}" for source in sources),
        ]
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc failed: its messages are above")


class BuildPy(build_py):
    """Generate the protobuf modules before the package's files are gathered."""

    def run(self) -> None:
        """Run build_proto, then build_py."""
        self.run_command("build_proto")
        super().run()


setup(
    options={"build_ext": {"parallel": JOBS}},
    cmdclass={"build_proto": BuildProto, "build_py": BuildPy},
    data_files=[*policies, *units, *dashboards],
    ext_modules=cythonize(
        extensions,
        include_path=["ext"],
        build_dir="build/cython",
        compiler_directives=directives,
        annotate=DEBUG,
        nthreads=JOBS,
    )
    if extensions
    else [],
)
