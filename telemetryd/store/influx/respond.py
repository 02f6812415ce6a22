"""What to do about an answer: one table of statuses, and how long to wait.

| answer | action |
|---|---|
| 204 | stored |
| none (refused, reset, hanging), 408, 425, 429, 502, 503, 504 | again, after Retry-After or a back-off |
| other 5xx | again; an entry that alone gets it time and again is taken for refused |
| 413 | split: halves, until they are small enough |
| 400, 422 | refused: bisect until the refused lines are alone |
| 400, 422 "beyond retention policy" | stored: the server has dropped what it would not have kept |
| everything else: 401, 403, 404, a redirect, another success | hold: settings or server need correcting |

InfluxDB 1.8 and 2.7 store the good lines of a refused body or none of it, depending on the mistake; since a
line written twice is one point, bisecting is right for both.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from telemetryd.store.influx.transport import Answer

#: RFC 9110, section 15.3.5: the success of the write endpoint; any other success is not its answer.
NO_CONTENT: Final = 204
UNAUTHORIZED: Final = 401
_AGAIN: Final = frozenset({0, 408, 425, 429, 502, 503, 504})
_REFUSED: Final = frozenset({400, 422})
_TOO_LARGE: Final = 413

#: What somebody has to do about a status that no waiting cures.
_REMEDIES: Final = {
    401: "put a valid token into the token's file; it is read again by itself",
    403: "give the token the permission to write to the bucket",
    404: "name a bucket (or database/retention-policy) and an organisation that exist",
}
_OTHER_REMEDY: Final = "is the url that of an InfluxDB server, with nothing in between that answers in its place?"

_RETENTION: Final = re.compile(r"beyond retention policy.*?dropped=(\d+)", re.DOTALL)


class Action(Enum):
    """What to do about an answer."""

    STORED = "stored"
    AGAIN = "again"
    FAULT = "fault"
    SPLIT = "split"
    REFUSED = "refused"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class Decision:
    """An action, and why.

    Attributes
    ----------
    status, reason:
        Of the answer.
    wait_s:
        How long the server asked to be left alone; None where it said nothing.
    expired:
        Points that the server dropped for being older than what it keeps.
    remedy:
        For ``HOLD``: what somebody has to do.
    """

    action: Action
    status: int = 0
    reason: str = ""
    wait_s: float | None = None
    expired: int = 0
    remedy: str = ""


def decide(answer: Answer, now: Callable[[], float] = time.time) -> Decision:
    """Decide what to do about an answer.

    Parameters
    ----------
    now:
        Wall clock in s, for a Retry-After that is a date.
    """
    status, reason = answer.status, answer.reason
    if status == NO_CONTENT:
        return Decision(Action.STORED, status)
    if answer.is_unverified:
        return Decision(Action.HOLD, status, reason, remedy="name the file of its authority as ca_file")
    if status in _AGAIN:
        return Decision(Action.AGAIN, status, reason, wait_s=parse_retry_after(answer.retry_after, now))
    if status >= 500:
        return Decision(Action.FAULT, status, reason, wait_s=parse_retry_after(answer.retry_after, now))
    if status == _TOO_LARGE:
        return Decision(Action.SPLIT, status, reason)
    if status in _REFUSED:
        if beyond := _RETENTION.search(reason):
            return Decision(Action.STORED, status, reason, expired=int(beyond[1]))
        return Decision(Action.REFUSED, status, reason)
    return Decision(Action.HOLD, status, reason, remedy=_REMEDIES.get(status, _OTHER_REMEDY))


def parse_retry_after(text: str, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110, section 10.2.3), None if it says nothing."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text) if len(text) <= 9 else None
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.fromtimestamp(now(), UTC)).total_seconds())


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a sender is, all in s.

    Attributes
    ----------
    first_s, longest_s:
        Back-off after the first failure in a row, which doubles up to the longest; what is waited is
        between half of it and all of it, by chance, so that collectors do not come back all at once.
    longest_asked_s:
        A Retry-After is honoured up to this.
    hold_s:
        Between attempts while somebody has to correct something.
    """

    first_s: float = 0.5
    longest_s: float = 30.0
    longest_asked_s: float = 300.0
    hold_s: float = 30.0


class BackOff:
    """How long to wait after failures in a row."""

    def __init__(self, pace: Pace, chance: Callable[[], float] = random.random) -> None:
        self._pace = pace
        self._chance = chance
        self._next_s = pace.first_s

    def after(self, decision: Decision) -> float:
        """Return how long to wait after a failure, in s."""
        if decision.action is Action.HOLD:
            return self._pace.hold_s
        waited_s = self._next_s * (1 + self._chance()) / 2
        self._next_s = min(2 * self._next_s, self._pace.longest_s)
        if decision.wait_s is None:
            return waited_s
        # Asked for 0 s, time and again, must not become a stream of requests.
        return max(waited_s, min(decision.wait_s, self._pace.longest_asked_s))

    def reset(self) -> None:
        """Begin anew after a success."""
        self._next_s = self._pace.first_s
