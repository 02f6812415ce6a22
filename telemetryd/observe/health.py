"""How well a part of the daemon is: ok, degraded or failed, each with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class State(IntEnum):
    """States in the order of severity; the number is what the metrics show."""

    OK = 0
    DEGRADED = 1
    FAILED = 2


@dataclass(frozen=True, slots=True)
class Health:
    """A state and why.

    Attributes
    ----------
    state:
        ``OK`` does all its work; ``DEGRADED`` goes on with less, or tries again, by itself; ``FAILED`` does not.
    reasons:
        What is wrong, for an operator; empty when all is well.
    """

    state: State = State.OK
    reasons: tuple[str, ...] = ()


OK = Health()


def degraded(*reasons: str) -> Health:
    """Return a degraded health, or an ok one where there is no reason."""
    return Health(State.DEGRADED, reasons) if reasons else OK


def failed(*reasons: str) -> Health:
    """Return a failed health."""
    return Health(State.FAILED, reasons)


def combine(parts: Mapping[str, Health]) -> Health:
    """Return the worst state of all parts, with every reason under its part's name, worst first."""
    troubled = sorted(
        ((name, health) for name, health in parts.items() if health.state > State.OK),
        key=lambda item: -item[1].state,
    )
    state = max((health.state for health in parts.values()), default=State.OK)
    return Health(state, tuple(f"{name}: {reason}" for name, health in troubled for reason in health.reasons))


def document(parts: Mapping[str, Health]) -> dict[str, Any]:
    """Return the health of all parts as it is shown to programs."""
    whole = combine(parts)
    return {
        "state": whole.state.name.lower(),
        "reasons": list(whole.reasons),
        "components": {
            name: {"state": health.state.name.lower(), "reasons": list(health.reasons)}
            for name, health in parts.items()
        },
    }
