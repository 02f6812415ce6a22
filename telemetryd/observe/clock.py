"""The clock of the live windows: monotonic time plus an offset that follows the system's clock gently.

Windows need seconds that are a second long and never come twice, whatever happens to the system's clock:

- Small errors are slewed, at most :data:`SLEW` of the time that passes (what NTP's kernel loop allows).
- A step of the system's clock forward is followed at once: the seconds in between have no window.
- A step back is not followed, since its seconds have their windows already: the clock goes on, slewing, and
  says by how much it is ahead. A restart takes the new time.

Steps are counted and remembered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

#: A greater change of the error than this is a step, ns (NTP's step threshold, RFC 5905).
STEP_NS: Final = 128_000_000
#: Most that the clock is slewed, as a part of the time that passes: 500 parts in a million.
SLEW_DIVISOR: Final = 2000


@dataclass(frozen=True, slots=True)
class ClockState:
    """How the clock stands to the system's.

    Attributes
    ----------
    error_ns:
        System clock less this clock when they were last compared; negative while a step back is slewed.
    steps:
        Steps of the system's clock so far.
    last_step_ns, last_step_at_ns:
        Size of the last step and when it was seen, on this clock; 0 where there was none.
    """

    error_ns: int = 0
    steps: int = 0
    last_step_ns: int = 0
    last_step_at_ns: int = 0


class Clock(Protocol):
    """What the live engine needs of a clock."""

    def now_ns(self) -> int:
        """Return the event time, ns since the epoch."""
        ...

    def discipline(self) -> ClockState:
        """Compare with the system's clock and correct the error; called about once a second."""
        ...


class DisciplinedClock:
    """The :class:`Clock` of a running daemon; any thread may read it.

    Parameters
    ----------
    monotonic_ns, system_ns:
        Where monotonic and system time come from.
    """

    def __init__(
        self,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        system_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._monotonic_ns, self._system_ns = monotonic_ns, system_ns
        self._lock = threading.Lock()
        self._compared_ns = monotonic_ns()
        self._offset_ns = system_ns() - self._compared_ns
        self._state = ClockState()

    def now_ns(self) -> int:
        """Return the event time, ns since the epoch; a slew may take it back by microseconds."""
        return self._monotonic_ns() + self._offset_ns

    def discipline(self) -> ClockState:
        """Compare with the system's clock, correct the error within the limits, and return the state."""
        with self._lock:
            monotonic_ns, system_ns = self._monotonic_ns(), self._system_ns()
            error_ns = system_ns - (monotonic_ns + self._offset_ns)
            jump_ns = error_ns - self._state.error_ns
            steps, step_ns, step_at_ns = self._state.steps, self._state.last_step_ns, self._state.last_step_at_ns
            if abs(jump_ns) > STEP_NS:
                steps, step_ns, step_at_ns = steps + 1, jump_ns, monotonic_ns + self._offset_ns
            most_ns = (monotonic_ns - self._compared_ns) // SLEW_DIVISOR
            correction_ns = error_ns if error_ns > STEP_NS else max(-most_ns, min(error_ns, most_ns))
            self._offset_ns += correction_ns
            self._compared_ns = monotonic_ns
            self._state = ClockState(error_ns - correction_ns, steps, step_ns, step_at_ns)
            return self._state
