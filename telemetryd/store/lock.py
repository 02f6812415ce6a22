"""The lock that makes sure that one process at a time writes to a store, or uses a spool."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from telemetryd.errors import StoreError


def take_lock(path: Path, remedy: str = "write to another store (reading is possible meanwhile)") -> int:
    """Take the writer's lock of a store and note this process in it; return the open descriptor.

    The lock is given back when the descriptor is closed, and ends with the process however that ends.

    Raises
    ------
    StoreError
        If another process holds it, with its id.
    OSError
        If the file cannot be opened or written.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreError(f"{path.parent} is being written by process {holder}: stop it, or {remedy}") from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
