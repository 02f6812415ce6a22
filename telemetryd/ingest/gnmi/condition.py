"""What is wrong with a target, in words: from its state and what came of it in the last minute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from telemetryd.ingest.gnmi.target import Phase, TargetState

SECOND_NS: Final = 1_000_000_000
#: A target may take so long to answer, and to send everything once.
PATIENCE_NS: Final = 60 * SECOND_NS
#: After so many intervals without a message a target is silent; never before SILENT_NS.
SILENT_INTERVALS: Final = 3
SILENT_NS: Final = 30 * SECOND_NS
#: Clocks may differ by so much: the way and the target's own delay are in it.
SKEW_NS: Final = 5 * SECOND_NS
#: Values may be so many times farther apart than was asked for.
SLOW_INTERVALS: Final = 1.5

_RECENT: Final[Mapping[tuple[str, ...], str]] = {
    ("malformed", "not_utf8"): "{} damaged messages were refused",
    ("bad_json", "bad_value", "value_too_long"): "{} values could not be read",
    ("path_overflow",): "{} values were left out: it sends more different paths than gnmi.paths",
    ("bad_path", "path_too_long"): "{} paths are none",
    ("timestamp_missing",): "{} notifications without a usable time: ours was taken",
    ("errors",): "{} errors were sent",
    ("deletes",): "{} deletes were sent",
}


def troubles(state: TargetState, recent: Mapping[str, int], sample_ns: int, now_ns: int) -> list[str]:
    """Return what an operator has to know of a target, the worst first; nothing of one that is well.

    Parameters
    ----------
    recent:
        What was counted in the last minute, by name (`slowed` too).
    sample_ns:
        The interval that its counters are sampled in; 0 where it sends values as they change only.
    """
    return [*_of_connection(state, sample_ns, now_ns), *_of_content(state, recent, sample_ns)]


def _of_connection(state: TargetState, sample_ns: int, now_ns: int) -> Iterator[str]:
    lasted_ns = now_ns - state.since_ns
    if state.phase in (Phase.WAITING, Phase.CONNECTING) and state.reason:  # that of the last attempt, until it works
        yield f"refused: {state.reason}" if state.is_refused else state.reason
    elif state.phase is Phase.CONNECTING and lasted_ns > PATIENCE_NS:
        yield f"connected, and no message for {lasted_ns // SECOND_NS} s"
    elif state.phase is Phase.SYNCING and lasted_ns > PATIENCE_NS:
        yield f"it has not sent everything once in {lasted_ns // SECOND_NS} s (no sync_response)"
    if state.phase is Phase.STREAMING and sample_ns:
        silent_ns = now_ns - state.heard_ns
        if silent_ns > max(SILENT_INTERVALS * sample_ns, SILENT_NS):
            yield f"silent for {silent_ns // SECOND_NS} s"
    if state.is_reduced:
        yield "it refused the whole subscription: only counters of interfaces are subscribed to"


def _of_content(state: TargetState, recent: Mapping[str, int], sample_ns: int) -> Iterator[str]:
    if recent.get("slowed"):
        yield "slowed: it takes more than its share of the processor (gnmi.cpu_percent)"
    for names, words in _RECENT.items():
        if count := sum(recent.get(name, 0) for name in names):
            yield f"{words.format(f'{count:,}')} in the last minute"
    if state.delay_ns is not None and abs(state.delay_ns) > SKEW_NS:
        way = "behind" if state.delay_ns > 0 else "ahead of"
        yield f"its clock is {abs(state.delay_ns) / SECOND_NS:.1f} s {way} ours"
    worst = max((ratio for ratio in state.intervals if ratio is not None), default=0.0)
    if worst > SLOW_INTERVALS and sample_ns:
        yield f"values come {worst:.1f} times farther apart than was asked for"
