"""Deliver one piece of the spool: whole where the server takes it, in parts where it does not.

A piece that is too large is halved until its parts fit. A piece that is refused is taken apart until the
refused lines are alone, so that the good ones land; what that may cost is bounded, and what is not
told apart within the bound is refused together. Lines are idempotent: sending some of them again does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from telemetryd.store.influx.dead_letter import Rejected
from telemetryd.store.influx.pieces import pack, unpack
from telemetryd.store.influx.respond import Action, Decision, decide

if TYPE_CHECKING:
    from telemetryd.store.influx.transport import Answer

#: Refusals that taking one piece apart may cost: a refused line among 5000 costs log2(5000) = 13 of them.
MOST_REFUSALS: Final = 100
#: ... and after a piece that used them up, when more of the kind is likely to come.
LEAST_REFUSALS: Final = 4
_SHRINK: Final = 5


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a piece.

    Attributes
    ----------
    decision:
        ``STORED``: all lines are stored or in ``rejected``. Otherwise the whole piece has to be sent again.
    rejected:
        Lines that the server refuses.
    expired:
        Points that the server dropped for being older than it keeps.
    """

    decision: Decision
    rejected: Sequence[Rejected] = ()
    expired: int = 0


@dataclass(slots=True)
class _Parts:
    """Lists of lines still to be sent, the next one last, and what was found out about others."""

    open: list[list[bytes]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    expired: int = 0

    def halve(self, lines: list[bytes]) -> None:
        middle = len(lines) // 2
        self.open += [lines[middle:], lines[:middle]]

    def isolate(self, lines: list[bytes], reason: str) -> None:
        """Separate the lines that the server quotes from the others, else one half from the other."""
        quoted = [line for line in lines if line[:-1].decode("utf-8", "replace") in reason]
        if 0 < len(quoted) < len(lines):
            named = frozenset(quoted)
            self.open += [quoted, [line for line in lines if line not in named]]
        else:
            self.halve(lines)


class Deliverer:
    """Deliver pieces to one server; remembers how many lines it takes at once.

    Parameters
    ----------
    write:
        Sends a compressed body.
    now:
        Wall clock in s.
    """

    def __init__(self, write: Callable[[bytes], Awaitable[Answer]], now: Callable[[], float]) -> None:
        self._write = write
        self._now = now
        self._most_lines: int | None = None  # since an answer 413
        self._budget = MOST_REFUSALS
        self.requests = 0
        self.octets = 0

    async def deliver(self, payload: bytes, *, is_suspect: bool = False) -> Delivery:
        """Send a piece, and as much of it again as its answers ask for.

        Parameters
        ----------
        payload:
            Lines, compressed.
        is_suspect:
            Whether an answer 5xx counts as a refusal, since other pieces do not get it.

        Raises
        ------
        StoreError
            If the piece is not what it was when it was spooled.
        InputError
            If the token or the certificates cannot be read.
        """
        parts = _Parts()
        if (most := self._most_lines) is None:
            decision = await self._send(payload, is_suspect)
            if decision.action not in (Action.REFUSED, Action.SPLIT):
                return Delivery(decision, expired=decision.expired)
            self._part(parts, await asyncio.to_thread(unpack, payload), decision, may_split=True)
        else:
            lines = await asyncio.to_thread(unpack, payload)
            parts.open = [lines[start : start + most] for start in range(0, len(lines), most)][::-1]
        return await self._deliver(parts, is_suspect)

    async def _deliver(self, parts: _Parts, is_suspect: bool) -> Delivery:
        budget = self._budget
        while parts.open:
            lines = parts.open.pop()
            if self._most_lines is not None and len(lines) > self._most_lines:
                parts.halve(lines)
                continue
            decision = await self._send(await asyncio.to_thread(_pack, lines), is_suspect)
            budget -= decision.action is Action.REFUSED
            if decision.action is Action.STORED:
                parts.expired += decision.expired
            elif decision.action in (Action.REFUSED, Action.SPLIT):
                self._part(parts, lines, decision, may_split=budget > 0)
            else:
                return Delivery(decision)
        self._budget = MOST_REFUSALS if budget > 0 else max(LEAST_REFUSALS, self._budget // _SHRINK)
        return Delivery(Decision(Action.STORED), parts.rejected, parts.expired)

    def _part(self, parts: _Parts, lines: list[bytes], decision: Decision, *, may_split: bool) -> None:
        """Take a list of lines apart that was not taken as a whole."""
        if len(lines) == 1:
            parts.rejected.append(Rejected(lines, decision.status, decision.reason))
        elif decision.action is Action.SPLIT:
            # From now on no part is larger: this ends by itself, without a budget.
            self._most_lines = (len(lines) + 1) // 2
            parts.halve(lines)
        elif may_split:
            parts.isolate(lines, decision.reason)
        else:
            parts.rejected.append(Rejected(lines, decision.status, decision.reason))

    async def _send(self, body: bytes, is_suspect: bool) -> Decision:
        self.requests += 1
        self.octets += len(body)
        decision = decide(await self._write(body), self._now)
        if is_suspect and decision.action is Action.FAULT:
            return replace(decision, action=Action.REFUSED)
        return decision


def _pack(lines: list[bytes]) -> bytes:
    return pack(b"".join(lines))
