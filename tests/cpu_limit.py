"""A limit on how much of a processor a process gets, by a control group of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: Short, so that a process that used up its share waits for milliseconds.
PERIOD_US = 10_000
#: What others run on the machine shall not take of that share.
MOST_SHARES, MOST_WEIGHT = 262_144, 10_000
VERSION_1 = Path("/sys/fs/cgroup/cpu")
VERSION_2 = Path("/sys/fs/cgroup")
GONE_S = 10.0


@contextmanager
def cpu_limit(share: float) -> Iterator[list[str]]:
    """Give the beginning of a command that runs the rest of it with ``share`` of one processor."""
    root = VERSION_1 if (VERSION_1 / "cpu.cfs_quota_us").exists() or VERSION_1.is_dir() else VERSION_2
    group = root / f"telemetryd-test-{os.getpid()}"
    quota = round(share * PERIOD_US)
    try:
        group.mkdir()
        try:
            if root is VERSION_1:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (group / "cpu.cfs_quota_us").write_text(str(quota))
                (group / "cpu.shares").write_text(str(MOST_SHARES))
            else:
                (group / "cpu.max").write_text(f"{quota} {PERIOD_US}")
                (group / "cpu.weight").write_text(str(MOST_WEIGHT))
        except OSError:
            group.rmdir()
            raise
    except OSError as error:
        pytest.skip(f"no control group of our own can be made: {error}")
    try:
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        deadline = time.monotonic() + GONE_S
        while True:
            try:
                group.rmdir()
                break
            except OSError:  # the last process is on its way out
                assert time.monotonic() < deadline, f"{group} still holds processes"
                time.sleep(0.01)
