"""After a crash the journal decides: everything stays where that was decided, everything goes back where it was not.

Each device that a Set was on its way to is brought to its side as soon as it answers; until all of them are, the
transaction stays open, and none of its devices is written to by anything else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from telemetryd.enforce.device import Device
from telemetryd.enforce.finish import keep_confirmed, note_outcome
from telemetryd.enforce.journal import History, Journal, open_transactions, read_journal
from telemetryd.enforce.records import BusyError, Records, holding
from telemetryd.enforce.settle import settle
from telemetryd.errors import TelemetrydError
from telemetryd.ingest.gnmi.backoff import Backoff

#: A journal without a whole first record is removed once it is so old: nothing was written of it.
_EMPTY_S: Final = 60.0

#: Gives a device by its name, None where nobody knows how to reach it.
Devices = Callable[[str], Device | None]
#: Decides a transaction that has no decision: ``forward`` or ``back``.
Decide = Callable[[History], str]


@dataclass(frozen=True, slots=True)
class Recovered:
    """What came of an open transaction.

    Attributes
    ----------
    outcome:
        ``confirmed``, ``rolled back``, ``unsettled``, or ``running`` where its process lives.
    unsettled:
        Device -> why it is not settled yet.
    """

    id: str
    outcome: str
    why: str
    unsettled: dict[str, str]


async def recover(
    records: Records,
    devices: Devices,
    *,
    patience_s: float = 10.0,
    only: Sequence[str] = (),
    decide: Decide = lambda history: "back",
) -> list[Recovered]:
    """Bring open transactions to their end, as far as devices answer.

    Parameters
    ----------
    patience_s:
        How long to try each device.
    only:
        Ids of transactions; empty for all.
    decide:
        What becomes of one without a decision.

    Raises
    ------
    TelemetrydError
        If a journal cannot be read or written.
    """
    await asyncio.to_thread(_remove_empty, records.transactions)
    found = []
    for history in await asyncio.to_thread(open_transactions, records.transactions):
        if only and history.id not in only:
            continue
        try:
            async with holding(records, history.devices):
                found.append(await _recover_one(records, history.path, devices, patience_s, decide))
        except BusyError as error:
            found.append(Recovered(history.id, "running", str(error), {}))
    return found


async def _recover_one(records: Records, path: Path, devices: Devices, patience_s: float, decide: Decide) -> Recovered:
    # Again, now that nobody else writes it.
    history = await asyncio.to_thread(_read_if_there, path)
    if history is None:
        return Recovered(path.stem, "rolled back", "it has ended meanwhile", {})
    journal = Journal(path.parent, history.id)
    add = partial(_add, journal)
    try:
        if history.has_ended:
            await asyncio.to_thread(journal.end, history.outcome, history.why)
            return Recovered(history.id, history.outcome, history.why, {})
        if not history.decision:
            history.decision = decide(history)
            history.why = history.why or "the process that ran it is gone"
            await add("confirming" if history.decision == "forward" else "rolling-back", why=history.why)
        forward = history.decision == "forward"
        failures: dict[str, str] = {}

        async def one(name: str) -> None:
            device = devices(name)
            if device is None:
                failures[name] = f"{name}: no target of the configuration - add it, or end it by hand"
                return
            try:
                settled = await settle(
                    device,
                    history.planned[name],
                    forward=forward,
                    is_unanswered=name in history.unanswered,
                    patience_s=patience_s,
                    backoff=Backoff(),
                )
            except TelemetrydError as error:
                failures[name] = str(error)
                return
            if forward:
                keep = partial(keep_confirmed, records, history.planned[name], settled.config, history.reason)
                await asyncio.to_thread(keep, history.id)
            await add("settled", device=name)

        await asyncio.gather(*(one(name) for name in history.unsettled))
        if failures:
            return Recovered(history.id, "unsettled", history.why, failures)
        outcome = "confirmed" if forward else "rolled back"
        note = partial(note_outcome, records, history.reason, history.id, list(history.devices), outcome, history.why)
        await asyncio.to_thread(note)
        await asyncio.to_thread(journal.end, outcome, history.why)
        return Recovered(history.id, outcome, history.why, {})
    finally:
        journal.close()


async def _add(journal: Journal, state: str, **more: object) -> None:
    await asyncio.to_thread(partial(journal.add, state, **more))


def _read_if_there(path: Path) -> History | None:
    return read_journal(path) if path.exists() else None


def _remove_empty(directory: Path) -> None:
    for path in directory.glob("*.jsonl"):
        with suppress(FileNotFoundError):  # it may end meanwhile
            if read_journal(path) is None and time.time() - path.stat().st_mtime > _EMPTY_S:
                path.unlink()
