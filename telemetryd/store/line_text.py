"""Text as line protocol takes it.

Servers read escapes differently: InfluxDB knows no escape of the backslash, VictoriaMetrics does, and a tag's value
can't end in one. So a backslash stays only where no server can take it for the begin of an escape; elsewhere a slash
stands for it. Lines end at a line feed whatever is before it: control characters become spaces.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Final

#: Written where there is no name: a tag's value is never empty.
NO_NAME: Final = "-"
LONGEST_NAME: Final = 256

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPING: Final = re.compile(r"\\(?=[\\,= \"]|$)")
_MEASUREMENT: Final = partial(re.compile(r"([, ])").sub, r"\\\1")
_KEY: Final = partial(re.compile(r"([,= ])").sub, r"\\\1")


def plain(name: str) -> str:
    """Return a name as it can be written and will be read back: itself, where it has nothing odd."""
    name = _CONTROL.sub(" ", name[:LONGEST_NAME])
    return _ESCAPING.sub("/", name) or NO_NAME


def measurement_text(name: str) -> bytes:
    """Return a measurement's name, escaped."""
    return _MEASUREMENT(plain(name)).encode("utf-8", "replace")


def key_text(name: str) -> bytes:
    """Return a tag's key, a tag's value or a field's key, escaped."""
    return _KEY(plain(name)).encode("utf-8", "replace")
