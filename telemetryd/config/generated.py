"""Documents that are partly generated: what stands below a marker line is replaced."""

from __future__ import annotations

from telemetryd.errors import InputError


def replace_generated(text: str, begin: str, reference: str) -> str:
    """Return ``text`` with everything behind the marker line ``begin`` replaced by ``reference``.

    Raises
    ------
    InputError
        If the document has no such line.
    """
    head, mark, _ = text.partition(begin)
    if not mark:
        raise InputError(f"the line {begin.strip()!r} is missing")
    return f"{head}{mark}\n{reference}"
