"""Lines from columns, in Python: the specification of ext/line_protocol.pyx.

    usage,application=tax,span=1s octets=1024,samples=3i 1790000000000000000
    |head||tag ...              | |field ...            | |time

(InfluxDB's line protocol.) Whatever is the same in many rows, names and tags, is text already and is only copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def number(value: float | int) -> bytes:
    """Write a field's value: a float as the shortest text that reads back to it, an integer with ``i``."""
    if isinstance(value, int):
        return b"%di" % value
    return repr(value).removesuffix(".0").encode()


def render(
    head: bytes,
    tags: Sequence[tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]],
    fields: Sequence[tuple[bytes, NDArray[Any]]],
    times: NDArray[np.int64],
) -> bytes:
    """Render n rows, each line ended by a line feed.

    Parameters
    ----------
    head:
        The measurement, escaped, with the tags that all rows have.
    tags:
        For each tag: its texts (``,key=value``, escaped) behind each other, octets; where they begin and the last one
        ends, shape (c + 1,); the code of each row's text, shape (n,).
    fields:
        For each field: ``key=``, escaped, and the values, float64 or int64 of shape (n,). A value that is not finite
        is left out; a row without any field is.
    times:
        In ns since the epoch, shape (n,).

    Raises
    ------
    ValueError
        If lengths differ, a code has no text, or an array has another type.
    """
    n = len(times)
    texts = []
    for text, places, codes in tags:
        if len(codes) != n:
            raise ValueError("the columns differ in length")
        if len(places) < 1 or places[0] != 0 or places[-1] != len(text) or np.any(np.diff(places) < 0):
            raise ValueError("the places of a tag's texts are not those of its octets")
        if n and not 0 <= codes.min() <= codes.max() < len(places) - 1:
            raise ValueError("a tag's code has no text")
        octets = text.tobytes()
        known = [octets[first:last] for first, last in zip(places[:-1].tolist(), places[1:].tolist(), strict=True)]
        texts.append([known[code] for code in codes.tolist()])
    columns = []
    for key, values in fields:
        if len(values) != n:
            raise ValueError("the columns differ in length")
        if values.dtype not in (np.float64, np.int64):
            raise ValueError(f"Buffer dtype mismatch: a field is {values.dtype}, not float64 or int64")
        columns.append((key, values.tolist()))
    lines = []
    for row, time in enumerate(times.tolist()):
        written = [key + number(column[row]) for key, column in columns if math.isfinite(column[row])]
        if written:
            lines.append(b"%s%s %s %d\n" % (head, b"".join(text[row] for text in texts), b",".join(written), time))
    return b"".join(lines)
