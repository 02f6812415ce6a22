"""The compiled sFlow decoder reads no octet outside of a datagram: guard pages need no sanitizer."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

from tests.sflow_seeds import mutate, seed_datagrams

ROOT = Path(__file__).parents[2]


def run_guarded(datagrams: list[bytes], *arguments: str) -> subprocess.CompletedProcess[str]:
    lines = "".join(octets.hex() + "\n" for octets in datagrams)
    command = [sys.executable, "-m", "tests.fuzz.guarded", *arguments]
    return subprocess.run(command, input=lines, capture_output=True, text=True, cwd=ROOT, check=False)


def test_nothing_outside_is_read() -> None:
    """Datagrams of every kind, every prefix of some, and damaged ones touch neither of the guard pages."""
    rng = random.Random(7)
    seeds = seed_datagrams()
    datagrams = seeds + [seed[:end] for seed in seeds[::40] for end in range(len(seed))]
    datagrams += [mutate(rng, rng.choice(seeds), seeds) for _ in range(5000)]
    result = run_guarded(datagrams)
    assert (result.returncode, result.stdout) == (0, f"{len(datagrams)}\n"), result.stderr


def test_the_guard_guards() -> None:
    """One octet too many ends the process, so that the test above can fail."""
    assert run_guarded(seed_datagrams()[:1], "touch").returncode == -signal.SIGSEGV
