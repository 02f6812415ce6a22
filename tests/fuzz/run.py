"""Build and run the libFuzzer target of the sFlow decoder: `run.py [--seconds N | --runs N] [INPUT ...]`.

Under AddressSanitizer and UndefinedBehaviorSanitizer. Seeds are synthetic (tests/sflow_seeds.py); what the
fuzzer finds new stays in build/fuzz/corpus, and an input that fails lands in tests/fuzz/crashes, where the
ordinary test run replays it. With INPUTs only these are run. Exit codes: 0 nothing found, 1 a failure,
2 tools missing.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from telemetryd.ingest.sflow.structures import COUNTER_RECORDS, FLOW_RECORDS, SAMPLES  # noqa: E402
from tests.sflow_seeds import seed_datagrams  # noqa: E402

WORK = ROOT / "build" / "fuzz"
CRASHES = ROOT / "tests" / "fuzz" / "crashes"
SANITIZERS = "fuzzer,address,undefined"
LONGEST = 4096


def find_clang() -> str:
    """Return a clang that has libFuzzer's runtime; exit with the remedy where there is none."""
    for name in ("clang", *(f"clang-{version}" for version in range(21, 12, -1))):
        path = shutil.which(name)
        if path is None:
            continue
        command = [path, "-print-file-name=libclang_rt.fuzzer-x86_64.a"]
        runtime = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if Path(runtime).is_absolute() and Path(runtime).exists():
            return path
        directory = subprocess.run([path, "-print-runtime-dir"], capture_output=True, text=True, check=True).stdout
        if any(Path(directory.strip()).glob("libclang_rt.fuzzer*.a")):
            return path
    print("clang with libFuzzer is missing: apt-get install clang-14 libclang-rt-14-dev", file=sys.stderr)
    raise SystemExit(2)


def build() -> Path:
    """Compile the target and return it."""
    WORK.mkdir(parents=True, exist_ok=True)
    cython = [sys.executable, "-m", "cython", "-3", "-I", "ext", "--module-name", "telemetryd._ext.sflow"]
    for directive in ("boundscheck=False", "wraparound=False", "initializedcheck=False", "cdivision=True"):
        cython += ["-X", directive]
    subprocess.run([*cython, "ext/sflow.pyx", "-o", str(WORK / "sflow.c")], check=True, cwd=ROOT)
    tables = {"samples": SAMPLES, "flow_records": FLOW_RECORDS, "counter_records": COUNTER_RECORDS}
    lines = [
        f"static const uint32_t known_{name}[] = {{{', '.join(str(tag) + 'u' for tag in table)}}};"
        for name, table in tables.items()
    ]
    (WORK / "known_tags.h").write_text("\n".join(lines) + "\n", encoding="utf-8")
    target = WORK / "fuzz_sflow"
    library = sysconfig.get_config_var("LIBDIR")
    command = [find_clang(), "-g", "-O2", "-w", f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all"]
    command += ["-I", str(WORK), "-I", sysconfig.get_paths()["include"], str(ROOT / "tests/fuzz/fuzz_sflow.c")]
    command += ["-o", str(target), f"-L{library}", f"-Wl,-rpath,{library}"]
    command += [f"-lpython{sysconfig.get_config_var('LDVERSION')}", "-lm"]
    subprocess.run(command, check=True, cwd=ROOT)
    return target


def write_seeds(directory: Path) -> None:
    """Write the synthetic datagrams, named by their digest as libFuzzer does."""
    directory.mkdir(parents=True, exist_ok=True)
    for octets in seed_datagrams():
        if len(octets) <= LONGEST:
            (directory / hashlib.sha1(octets, usedforsecurity=False).hexdigest()).write_bytes(octets)


def main() -> int:
    """Build, run, and tell how much was run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--seconds", type=int, help="stop after so many seconds (default: 60)")
    limit.add_argument("--runs", type=int, help="stop after so many executions")
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="run only these files")
    arguments = parser.parse_args()
    target = build()
    if arguments.inputs:
        return subprocess.run([str(target), *arguments.inputs], check=False).returncode != 0
    seeds, corpus = WORK / "seeds", WORK / "corpus"
    write_seeds(seeds)
    corpus.mkdir(exist_ok=True)
    CRASHES.mkdir(exist_ok=True)
    command = [str(target), f"-max_len={LONGEST}", "-use_value_profile=1", "-print_final_stats=1", "-timeout=5"]
    command += [f"-artifact_prefix={CRASHES}/", "-verbosity=0" if not sys.stderr.isatty() else "-verbosity=1"]
    if arguments.runs:
        command.append(f"-runs={arguments.runs}")
    else:
        command.append(f"-max_total_time={arguments.seconds or 60}")
    result = subprocess.run([*command, str(corpus), str(seeds)], stderr=subprocess.PIPE, text=True, check=False)
    executed = re.search(r"stat::number_of_executed_units:\s+(\d+)", result.stderr)
    if result.returncode or executed is None:
        print(result.stderr, file=sys.stderr)
        print(f"failed: the input is in {CRASHES.relative_to(ROOT)}", file=sys.stderr)
        return 1
    print(f"sflow: {int(executed[1]):,} executions under {SANITIZERS}, nothing found")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
