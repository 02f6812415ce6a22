"""Why the store cannot do something, in words, from what the operating system and Parquet report."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from telemetryd.errors import StoreError


@contextmanager
def reasons(path: Path, verb: str, what: str = "store") -> Iterator[None]:
    """Turn what the operating system and Parquet report into StoreError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full; what was stored before is intact, free some space and try again"
        else:
            reason = error.strerror or str(error)
        raise StoreError(f"cannot {verb} the {what} {path}: {reason}") from error
    except pa.ArrowException as error:
        raise StoreError(f"cannot {verb} the {what} {path}: {error}") from error
