"""`telemetryd enforce status`, `drift`, `history`, `audit`, `freeze`, `unfreeze`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telemetryd.cli.config import DEFAULT_FILE
from telemetryd.cli.enforce_options import AsJson, Config, Device, Why, Yes, ask, reaching, records

if TYPE_CHECKING:
    from telemetryd.enforce.drift import Drift
    from telemetryd.reaching import Reaching
    from telemetryd.serve.messages import Gateway


def status(config: Config = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """Show what is written to, what was confirmed there, open transactions, and whether writing is frozen.

    Gateways have the phase of the control loop, as the running daemon says: shadow, starting, in force, held, frozen,
    stale or troubled.

    Example: telemetryd enforce status
    """
    from telemetryd.cli.output import note, show_table, text, write_json
    from telemetryd.enforce.journal import open_transactions

    known = reaching(config)
    today, frozen = known.records.sets_today(), known.records.frozen()
    phases, silent = _phases(config)
    rows = []
    for name in sorted({*known.enabled, *known.records.intended_devices(), *phases}):
        intended = known.records.intended(name)
        device = known.find(name)
        rows.append(
            {
                "device": name,
                "mode": (known.why_not(name) or "written to") if device is not None else "no gNMI server is known",
                "leaves": len(intended.leaves) if intended is not None else 0,
                "policy": intended.policy[:12] if intended is not None else None,
                "transaction": intended.transaction if intended is not None else None,
                "sets_today": today.get(name, 0),
                "phase": phases[name]["phase"] if name in phases else None,
                "reason": (phases[name]["reason"] or None) if name in phases else None,
            }
        )
    found = open_transactions(known.records.transactions)
    opened: list[dict[str, Any]] = [
        {"transaction": one.id, "state": one.state, "decision": one.decision or None, "unsettled": one.unsettled}
        for one in found
    ]
    if as_json:
        from dataclasses import asdict

        write_json(
            {
                "frozen": asdict(frozen) if frozen is not None else None,
                "daemon": {"answered": not silent, "why": silent or None},
                "devices": rows,
                "open": opened,
            }
        )
        return
    if frozen is not None:
        print(f"frozen by {frozen.who} at {frozen.at}: {frozen.why}\n")
    if rows:
        show_table([text(name) for name in rows[0]], rows)
    else:
        note("no device is written to: enforce.gateways and enforce.switches name none")
    for one in opened:
        print(f"open: {one['transaction']} is {one['state']}, not settled: {', '.join(one['unsettled']) or 'nothing'}")
    if silent:
        note(f"phases of gateways are not known: {silent}")


def _phases(config: Path) -> tuple[dict[str, Gateway], str]:
    """Ask the daemon for its gateways by their names; return why it does not say, too."""
    from telemetryd.cli.control import talk
    from telemetryd.config.settings import load_settings
    from telemetryd.serve.control_client import ControlError, NoDaemonError

    control = load_settings(config).settings.control
    if not control.enabled:
        return {}, "the daemon has no control socket: control.enabled is false"
    try:
        reply = talk(control.socket, lambda client: client.status())
    except NoDaemonError:
        return {}, f"the daemon does not run: nobody listens at {control.socket}"
    except ControlError as error:
        return {}, str(error)
    return {one["name"]: one for one in reply["gateways"]}, ""


def drift(
    config: Config = DEFAULT_FILE,
    device: Device = None,
    repair: Annotated[bool, typer.Option("--repair", help="Write again what differs, by a transaction.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Read the devices, and show where they no longer have what was confirmed on them.

    Exit codes: 0 no drift, or repaired; 1 drift, or a device that cannot be read.

    Example: telemetryd enforce drift --device YH-DCA-XR01
    """
    raise typer.Exit(asyncio.run(_drift(reaching(config), device or [], repair, yes, as_json)))


def history(
    config: Config = DEFAULT_FILE,
    most: Annotated[int, typer.Option("--most", "-n", min=1, help="The newest so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List transactions, the newest first: when, who, why, which devices, and what came of them.

    Example: telemetryd enforce history -n 5
    """
    from telemetryd.cli.output import Field, show_table, text, write_json
    from telemetryd.enforce.journal import ended_transactions, open_transactions

    kept = records(config)
    found = [*reversed(open_transactions(kept.transactions)), *ended_transactions(kept.transactions, most)][:most]
    rows: list[dict[str, Any]] = [
        {
            "transaction": one.id,
            "at": one.at,
            "who": one.reason.who,
            "outcome": one.outcome or f"open, {one.state}",
            "devices": list(one.devices),
            "leaves": sum(len(planned.leaves) for planned in one.planned.values()),
            "policy": one.reason.policy,
            "why": one.reason.why,
            "cause": one.why,
        }
        for one in found
    ]
    if as_json:
        write_json({"transactions": rows})
        return
    show_table(
        [text("transaction"), text("who"), text("outcome"), Field("devices", lambda row: _few(row["devices"])),
         text("leaves"), Field("policy", lambda row: row["policy"][:12]), text("why"), text("cause")],
        rows,
    )  # fmt: skip


def audit(
    config: Config = DEFAULT_FILE,
    device: Device = None,
    most: Annotated[int, typer.Option("--most", "-n", min=1, help="The newest so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Hold the audit's chain of hashes, and show its newest records: who, why, and each path old -> new.

    Exit codes: 0 the chain holds, 1 a record was changed or taken out.

    Example: telemetryd enforce audit --device GW-D3 -n 3 --json
    """
    from telemetryd.cli.output import note, write_json

    found = records(config).audit.records()
    count = len(found)
    chosen = [
        one for one in found if not device or one.get("device") in device or set(device) & {*one.get("devices", ())}
    ]
    chosen = chosen[-most:]
    if as_json:
        write_json({"records": chosen, "count": count, "holds": True})
        return
    for one in chosen:
        place = one.get("device") or ", ".join(one.get("devices", ()))
        print(f"{one['number']} {one['at']} {one['what']} {place}: {one.get('outcome', '')}")
        print(
            f"  by {one['who']} (pid {one['pid']}): {one['why']}"
            + (f", policy {one['policy'][:12]}" if one["policy"] else "")
        )
        for path, old, new in one.get("writes", ())[:_LINES]:
            print(f"  {path}: {_shown(old)} -> {_shown(new)}")
        if len(one.get("writes", ())) > _LINES:
            print(f"  and {len(one['writes']) - _LINES} more: --json has all")
    note(f"{count} records, the chain holds")


_LINES = 10


def freeze(
    reason: Annotated[str, typer.Option("--reason", help="Why nothing may be written.")],
    config: Config = DEFAULT_FILE,
) -> None:
    """Forbid writing to any device, the control loop's too, until `unfreeze`. Going back and `off` stay possible.

    Example: telemetryd enforce freeze --reason "INC-7: exam weekend"
    """
    from telemetryd.cli.output import note
    from telemetryd.enforce.records import Reason
    from telemetryd.errors import InputError

    if not reason.strip():
        raise InputError("--reason is empty: write why")
    kept = records(config)
    kept.note("frozen", Reason(reason.strip()))
    kept.freeze(reason.strip())
    note("nothing is written any more: telemetryd enforce unfreeze")


def unfreeze(why: Why, config: Config = DEFAULT_FILE) -> None:
    """Allow writing again.

    Example: telemetryd enforce unfreeze --why "INC-7 is over"
    """
    from telemetryd.cli.output import note
    from telemetryd.enforce.records import Reason

    kept = records(config)
    if kept.frozen() is None:
        note("nothing is frozen")
        return
    kept.note("unfrozen", Reason(why))
    kept.unfreeze()
    note("devices are written to again")


async def _drift(known: Reaching, names: list[str], repair: bool, yes: bool, as_json: bool) -> int:
    from telemetryd.cli.output import note, write_json
    from telemetryd.enforce.drift import look_for_drift
    from telemetryd.enforce.drift import repair as repair_devices
    from telemetryd.enforce.transaction import Options

    try:
        chosen = names or await asyncio.to_thread(known.records.intended_devices)
        found = await look_for_drift(known.records, known.find, chosen)
        drifts = [one for one, _ in found]
        result = None
        wrong = [prepared for one, prepared in found if prepared is not None and one.change.steps]
        if not as_json:
            for one in drifts:
                _show_drift(one)
        if repair and wrong:
            writes = sum(len(one.change.writes) for one in wrong)
            await asyncio.to_thread(ask, f"Write {writes} leaves to {len(wrong)} devices?", yes)
            options = Options(limits=known.limits, is_forced=True)
            result = await repair_devices(known.records, wrong, "drift repaired by hand", options)
            note(f"{result.outcome}{f': {result.why}' if result.why else ''}")
    finally:
        await known.close()
    if as_json:
        outcome = result.outcome if result is not None else None
        write_json({"devices": [_drift_document(one) for one in drifts], "repair": outcome})
    is_repaired = result is not None and result.outcome == "confirmed"
    left = [one for one in drifts if one.unread or (one.is_there and not (is_repaired and not one.change.conflicts))]
    return 1 if left else 0


def _show_drift(one: Drift) -> None:
    if one.unread:
        print(f"{one.device}: cannot be read: {one.unread}")
        return
    if not one.is_there:
        print(f"{one.device}: as confirmed ({len(one.intended.leaves)} leaves)")
        return
    print(f"{one.device}: {len(one.change.writes)} leaves differ")
    for write in one.change.writes:
        print(f"  {write.path}: {_shown(write.old)}, should be {_shown(write.value)}")
    for found in one.change.conflicts:
        print(f"  {found.path}: {found.found}, which is not ours; should be {found.wanted}")
    for mismatch in one.state:
        print(f"  {mismatch}")


def _drift_document(one: Drift) -> dict[str, Any]:
    from telemetryd.enforce.explain import write_rows

    return {
        "device": one.device,
        "is_there": one.is_there,
        "unread": one.unread or None,
        "differs": write_rows(one.change),
        "conflicts": [found._asdict() for found in one.change.conflicts],
        "state": [found._asdict() for found in one.state],
    }


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value)
