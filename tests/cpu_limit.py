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


class CpuLimit:
    """A control group whose processes share so much of one processor."""

    def __init__(self, group: Path) -> None:
        self._group = group
        self._is_version_1 = group.parent == VERSION_1

    @property
    def prefix(self) -> list[str]:
        """The beginning of a command that runs the rest of it in the group."""
        return ["sh", "-c", f'echo $$ > {self._group}/cgroup.procs && exec "$@"', "sh"]

    def put_first(self) -> None:
        """Let what others run on the machine take nothing of the share."""
        if self._is_version_1:
            (self._group / "cpu.shares").write_text(str(MOST_SHARES))
        else:
            (self._group / "cpu.weight").write_text(str(MOST_WEIGHT))

    def set(self, share: float) -> None:
        """Change how much it is."""
        quota = round(share * PERIOD_US)
        if self._is_version_1:
            (self._group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self._group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (self._group / "cpu.max").write_text(f"{quota} {PERIOD_US}")


@contextmanager
def cpu_limit() -> Iterator[CpuLimit]:
    """Make a group with all of one processor; it is gone afterwards."""
    root = VERSION_1 if (VERSION_1 / "cpu.cfs_quota_us").exists() or VERSION_1.is_dir() else VERSION_2
    group = root / f"telemetryd-test-{os.getpid()}"
    limit = CpuLimit(group)
    try:
        group.mkdir()
        try:
            limit.set(1.0)
            limit.put_first()
        except OSError:
            group.rmdir()
            raise
    except OSError as error:
        pytest.skip(f"no control group of our own can be made: {error}")
    try:
        yield limit
    finally:
        deadline = time.monotonic() + GONE_S
        while True:
            try:
                group.rmdir()
                break
            except OSError:  # the last process is on its way out
                assert time.monotonic() < deadline, f"{group} still holds processes"
                time.sleep(0.01)
