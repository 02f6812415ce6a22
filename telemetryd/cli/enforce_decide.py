"""`telemetryd enforce confirm`, `rollback`, `recover`: decide a transaction, or bring one to its end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telemetryd.cli.config import DEFAULT_FILE
from telemetryd.cli.enforce_options import AsJson, Config, Yes, ask, note_recovered, reaching, recovered_document

if TYPE_CHECKING:
    from telemetryd.enforce.guard import Judgement
    from telemetryd.enforce.journal import History
    from telemetryd.enforce.records import Records
    from telemetryd.reaching import Reaching

Transaction = Annotated[
    str | None, typer.Argument(metavar="[TRANSACTION]", help="Its id; left out, the open one.", show_default=False)
]
#: A running transaction acts on a decision within a second, and has then to talk to its devices.
_WAIT_S = 120.0


def confirm(transaction: Transaction = None, config: Config = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """Confirm a transaction that is being measured, without waiting for the guards: it stays.

    Example: telemetryd enforce confirm
    """
    raise typer.Exit(asyncio.run(_decide(reaching(config), transaction, "confirm", as_json)))


def rollback(
    transaction: Transaction = None, config: Config = DEFAULT_FILE, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Roll a transaction back: an open one at once, and one that was confirmed by another transaction.

    Example: telemetryd enforce rollback 20261126T213000-1a2b3c --yes
    """
    raise typer.Exit(asyncio.run(_decide(reaching(config), transaction, "rollback", as_json, yes)))


def recover(config: Config = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """Bring transactions to their end whose process is gone, as far as their devices answer. The daemon does the same.

    Example: telemetryd enforce recover
    """
    raise typer.Exit(asyncio.run(_recover(reaching(config), as_json)))


def operators_word(records: Records, name: Callable[[], str]) -> Callable[[], Awaitable[Judgement | None]]:
    """Return what asks whether an operator has decided a transaction meanwhile."""
    from telemetryd.enforce.guard import Judgement, Verdict

    def read() -> Judgement | None:
        path = _decision(records, name())
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        path.unlink()
        is_confirmed = document["decision"] == "confirm"
        return Judgement(Verdict.OK if is_confirmed else Verdict.HURT, f"decided by {document['who']}", "operator")

    async def asked() -> Judgement | None:
        return await asyncio.to_thread(read)

    return asked


async def _decide(known: Reaching, name: str | None, decision: str, as_json: bool, yes: bool = True) -> int:
    from telemetryd.cli.output import note, write_json
    from telemetryd.enforce.journal import find_transaction, open_transactions
    from telemetryd.enforce.records import BusyError, holding
    from telemetryd.enforce.recover import recover as recover_open
    from telemetryd.errors import InputError, TelemetrydError

    records = known.records
    history = await asyncio.to_thread(find_transaction, records.transactions, name) if name is not None else None
    if history is None:
        found = await asyncio.to_thread(open_transactions, records.transactions)
        if len(found) != 1:
            ids = ", ".join(one.id for one in found) or "none is open"
            raise InputError(f"name the transaction: {ids} - telemetryd enforce history")
        history = found[0]
    try:
        if history.has_ended:
            if decision == "confirm":
                raise InputError(f"{history.id} has ended: {history.outcome}")
            return await _undo(known, history, yes, as_json)
        try:
            async with holding(records, history.devices):
                pass
        except BusyError:
            ended = await _tell_running(records, history, decision)
            note(f"transaction {ended.id}: {ended.outcome}" + (f" ({ended.why})" if ended.why else ""))
            if as_json:
                write_json({"transaction": ended.id, "outcome": ended.outcome, "why": ended.why})
            return 0 if ended.outcome == ("confirmed" if decision == "confirm" else "rolled back") else 1
        if decision == "confirm" and history.state not in ("written", "measuring", "confirming"):
            raise TelemetrydError(
                f"{history.id} was not written everywhere (it is {history.state}): it can only go back"
            )
        way = "forward" if decision == "confirm" else "back"
        done = await recover_open(records, known.find, only=[history.id], decide=lambda _: way)
        note_recovered(done)
        if as_json:
            write_json({"transactions": [recovered_document(one) for one in done]})
        return 0 if all(one.outcome == ("confirmed" if way == "forward" else "rolled back") for one in done) else 1
    finally:
        await known.close()


async def _tell_running(records: Records, history: History, decision: str) -> History:
    """Leave a word for the process that runs a transaction, and wait for what it makes of it."""
    from telemetryd.enforce.journal import find_transaction
    from telemetryd.enforce.records import user
    from telemetryd.errors import TelemetrydError
    from telemetryd.observe.chain import write_whole

    word = json.dumps({"decision": decision, "who": user()}).encode()
    await asyncio.to_thread(write_whole, _decision(records, history.id), word)
    loop = asyncio.get_running_loop()
    end_s = loop.time() + _WAIT_S
    while loop.time() < end_s:
        await asyncio.sleep(0.2)
        now = await asyncio.to_thread(find_transaction, records.transactions, history.id)
        if now.has_ended:
            return now
    raise TelemetrydError(f"{history.id} goes on: its process (pid {history.pid}) has not ended it in {_WAIT_S:.0f} s")


async def _undo(known: Reaching, history: History, yes: bool, as_json: bool) -> int:
    """Bring devices back to what they had before a transaction that was confirmed."""
    from telemetryd.cli.enforce_apply import _run, _show_plan, _show_result
    from telemetryd.enforce.prepare import Goal, Prepared, apply_fast
    from telemetryd.enforce.records import Reason
    from telemetryd.enforce.settle import leaves_of, toward
    from telemetryd.errors import InputError

    if history.outcome != "confirmed":
        raise InputError(f"{history.id} has ended: {history.outcome}")
    prepared = []
    for name, planned in history.planned.items():
        device = known.device(name)
        reading = await device.read()
        change = toward(reading.config, planned.leaves, forward=False)
        after = apply_fast(reading.config, change.writes)
        goal = Goal(device, {})
        prepared.append(Prepared(goal, reading, change, leaves_of(reading.config, change.writes), after))
    _show_plan(prepared, as_json)
    writes = sum(len(one.change.writes) for one in prepared)
    if writes:
        await asyncio.to_thread(ask, f"Write {writes} leaves to {len(prepared)} devices?", yes)
    reason = Reason(f"rollback of {history.id}", policy=history.reason.policy)
    result = await _run(known, prepared, reason, None, "", True, as_json, is_off=True)
    return _show_result(prepared, result, {}, as_json)


async def _recover(known: Reaching, as_json: bool) -> int:
    from telemetryd.cli.output import note, write_json
    from telemetryd.enforce.recover import recover as recover_open

    try:
        done = await recover_open(known.records, known.find)
    finally:
        await known.close()
    note_recovered(done)
    document: dict[str, Any] = {"transactions": [recovered_document(one) for one in done]}
    if as_json:
        write_json(document)
    elif not done:
        note("no transaction is open")
    return 1 if any(one.unsettled for one in done) else 0


def _decision(records: Records, name: str) -> Path:
    return records.transactions / f"{name}.decision"
