"""The compiled gNMI decoder reads no octet outside of a message: guard pages need no sanitizer."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from tests.gnmi_messages import damage, seeds

ROOT = Path(__file__).parents[2]


def test_nothing_outside_is_read() -> None:
    """Messages of every kind, every prefix of each, and damaged ones touch neither of the guard pages."""
    rng = random.Random(11)
    kinds = seeds()
    messages = kinds + [kind[:end] for kind in kinds for end in range(len(kind))]
    messages += [damage(rng, rng.choice(kinds)) for _ in range(5000)]
    command = [sys.executable, "-m", "tests.fuzz.guarded_gnmi"]
    lines = "".join(octets.hex() + "\n" for octets in messages)
    result = subprocess.run(command, input=lines, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (result.returncode, result.stdout) == (0, f"{len(messages)}\n"), result.stderr
