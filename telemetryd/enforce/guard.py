"""Guards: who says whether a change hurts. A change that nobody can judge is rolled back like one that hurts."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple, Protocol


class Verdict(StrEnum):
    """What came of a change."""

    OK = "ok"
    HURT = "hurt"
    CANNOT_TELL = "cannot tell"


class Judgement(NamedTuple):
    """What one guard, or all of them, say, and why; `guard` is its name."""

    verdict: Verdict
    reason: str = ""
    guard: str = ""


class Guard(Protocol):
    """Judges a change from what it measures; failures to measure are :data:`Verdict.CANNOT_TELL`, never raised."""

    @property
    def name(self) -> str:
        """What it is called in verdicts."""
        ...

    async def begin(self) -> None:
        """Measure how it is before anything is written."""
        ...

    async def judge(self) -> Judgement:
        """Compare with the beginning; asked every few seconds once everything is written, and at the end."""
        ...


def combine(judgements: Iterable[Judgement]) -> Judgement:
    """Return what all say together: the first that hurts, else the first that cannot tell; nobody cannot tell."""
    found = list(judgements)
    for verdict in (Verdict.HURT, Verdict.CANNOT_TELL):
        for one in found:
            if one.verdict is verdict:
                return one
    return Judgement(Verdict.OK) if found else Judgement(Verdict.CANNOT_TELL, "nothing was measured")
