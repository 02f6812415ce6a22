"""`telemetryd enforce apply` and `off`: change devices, all or nothing, and see what comes of it."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telemetryd.cli.config import DEFAULT_FILE
from telemetryd.cli.enforce_options import AsJson, Config, Device, Why, Yes, ask, note_recovered, reaching
from telemetryd.cli.policy_options import At, load, note_warnings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telemetryd.enforce.guard import Judgement
    from telemetryd.enforce.intent import DeviceIntent
    from telemetryd.enforce.measure import Measurement
    from telemetryd.enforce.prepare import Goal, Prepared
    from telemetryd.enforce.transaction import Result
    from telemetryd.reaching import Reaching


def apply(
    policy: Annotated[list[Path], typer.Option("--policy", "-p", help="Policy file or directory; repeat for more.")],
    why: Why,
    config: Config = DEFAULT_FILE,
    confirm_within: Annotated[
        str, typer.Option("--confirm-within", metavar="TIME", help="Measure for so long; what is not well goes back.")
    ] = "60 s",
    demand: Annotated[
        Path | None,
        typer.Option("--demand", help="CSV of demands. Default: everybody asks for all.", show_default=False),
    ] = None,
    device: Device = None,
    at: At = None,
    adopt: Annotated[
        list[str] | None,
        typer.Option(
            "--adopt",
            metavar="SLOT",
            help="Take an attachment point from others: its path, as the plan names it; repeat for more.",
            show_default=False,
        ),
    ] = None,
    canary: Annotated[
        str | None, typer.Option("--canary", help="The device that is first. Default: the smallest change.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Beyond the limits of change (enforce.change_percent).")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Write the plan of policies to the devices that the settings name; confirm it if it is well, or roll it back.

    Guards judge for --confirm-within: the devices themselves, and drops of protected queues. Who cannot tell counts as
    not well; `telemetryd enforce confirm` and `rollback` decide at once. Exit codes: 0 confirmed, or nothing to do; 1
    rolled back or refused; 2 invalid input.

    Example: telemetryd enforce apply -p policies/examples/exit --confirm-within "60 s" --why CHG-2026-117
    """
    from telemetryd.config.units import UnitError, parse_duration
    from telemetryd.errors import InputError

    try:
        within_s = parse_duration(confirm_within) / 1e9
    except UnitError as error:
        raise InputError(f"--confirm-within: {error.message} - {error.remedy}") from None
    if not why.strip():
        raise InputError("--why is empty: write the reason, such as a ticket number")
    known = reaching(config)
    work = _apply(known, policy, demand, device or [], at, adopt or [], canary, force, yes, as_json, within_s, why)
    # The command ends soon, and has hundreds of thousands of leaves: the collector would go through them for nothing.
    gc.disable()
    try:
        code = asyncio.run(work)
    finally:
        gc.enable()
    raise typer.Exit(code)


def off(
    why: Why = "taken off by hand",
    config: Config = DEFAULT_FILE,
    device: Device = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take everything of ours off devices: all that the settings name, or those with --device.

    It needs no daemon, works while nothing may be written (freeze), and counts against no budget. Attachment points
    that were taken from others get back what they had.

    Example: telemetryd enforce off --device YH-DCA-XR01 --yes --why INC-9
    """
    known = reaching(config)
    raise typer.Exit(asyncio.run(_off(known, device or [], why, yes, as_json)))


# --- apply ------------------------------------------------------------------------------------------------------------


async def _apply(
    known: Reaching,
    policy: list[Path],
    demand: Path | None,
    names: list[str],
    at: str | None,
    adopt: list[str],
    canary: str | None,
    force: bool,
    yes: bool,
    as_json: bool,
    within_s: float,
    why: str,
) -> int:
    from telemetryd.cli.enforce import _intents
    from telemetryd.cli.output import note
    from telemetryd.enforce.prepare import prepare
    from telemetryd.enforce.records import Reason
    from telemetryd.errors import InputError, TelemetrydError
    from telemetryd.policy.freeze import is_frozen
    from telemetryd.policy.journal import version_of

    when, wanted, warnings = await asyncio.to_thread(_intents, policy, demand, at, known.registry, known.table)
    note_warnings(warnings)
    policies = await asyncio.to_thread(load, policy, known.registry)
    frozen = is_frozen(policies, when)
    if frozen is not None:
        raise TelemetrydError(f"nothing is applied: {frozen}")
    unknown = [name for name in names if name not in {one.device for one in wanted}]
    if unknown:
        raise InputError(f"--device: no link of the policies is on {', '.join(unknown)}")
    try:
        await _recover_first(known)
        goals, left, protected = await _goals(known, [one for one in wanted if not names or one.device in names], adopt)
        for name, cause in left.items():
            note(f"{name}: nothing is written, {cause}")
        if not goals:
            raise TelemetrydError("none of the devices may be written to: see enforce.gateways, enforce.switches")
        if canary is not None and canary not in {goal.device.name for goal in goals}:
            raise InputError(f"--canary: {canary} is none of the devices that are written to")
        prepared = await prepare(goals, known.limits.devices_per_step)
        _show_plan(prepared, as_json)
        conflicts = [(one.name, found) for one in prepared for found in one.change.conflicts]
        if conflicts:
            name, found = conflicts[0]
            slot = found.path.removesuffix("/config/name")
            raise TelemetrydError(
                f"{len(conflicts)} attachment points are others': {name}: {found.path} is {found.found} - "
                f'add --adopt "{slot}" to take it'
            )
        writes = sum(len(one.change.writes) for one in prepared)
        if writes:
            count = sum(bool(one.change.steps) for one in prepared)
            await asyncio.to_thread(ask, f"Write {writes} leaves to {count} devices?", yes)
        measurement = _measurement(known, prepared, protected, within_s)
        reason = Reason(
            why.strip(),
            policy=await asyncio.to_thread(version_of, policies),
            demand=str(demand or "all that everybody may ask for"),
        )
        result = await _run(known, prepared, reason, measurement, canary or "", force, as_json)
        return _show_result(prepared, result, left, as_json)
    finally:
        await known.close()


async def _goals(
    known: Reaching, wanted: Sequence[DeviceIntent], adopt: list[str]
) -> tuple[list[Goal], dict[str, str], dict[str, tuple[str, ...]]]:
    """Plan the devices that may be written to; also those that may not, with the reason, and protected queues."""
    from telemetryd.enforce.gateway import plan_gateway
    from telemetryd.enforce.plan import plan_device
    from telemetryd.enforce.prepare import Goal
    from telemetryd.enforce.protected import of_gateway, of_switch
    from telemetryd.errors import InputError

    goals: list[Goal] = []
    left: dict[str, str] = {}
    queues: dict[str, tuple[str, ...]] = {}
    chosen = []
    for one in wanted:
        try:
            reason = known.why_not(one.device)
        except InputError as error:
            reason = str(error)
        if reason:
            left[one.device] = reason
        else:
            chosen.append(one)
    await asyncio.gather(*(known.device(one.device).asked() for one in chosen))
    for one in chosen:
        device = known.device(one.device)
        if device.capability.export_only:
            left[one.device] = f"export only: {'; '.join(device.capability.export_only)}"
            continue
        entries: frozenset[str]
        if device.capability.driver == "linux":
            gateway = await asyncio.to_thread(plan_gateway, one, device.capability, known.registry)
            leaves = gateway.leaves
            entries, queues[one.device] = of_gateway(gateway)
        else:
            switch = await asyncio.to_thread(plan_device, one, device.capability)
            leaves = switch.leaves
            entries, queues[one.device] = of_switch(one, switch)
        goals.append(Goal(device, leaves, frozenset(adopt), entries))
    return goals, left, queues


def _measurement(
    known: Reaching, prepared: Sequence[Prepared], protected: dict[str, tuple[str, ...]], within_s: float
) -> Measurement:
    from telemetryd.enforce.guard import Guard
    from telemetryd.enforce.guard_gnmi import AskedQueueGuard
    from telemetryd.enforce.guards import DeviceGuard
    from telemetryd.enforce.measure import Measurement

    guards: list[Guard] = []
    for one in prepared:
        if one.change.steps:
            device = known.device(one.name)
            guards.append(DeviceGuard(device))
            if protected.get(one.name):
                guards.append(AskedQueueGuard(device, protected[one.name]))
            guards += known.guards(device)
    return Measurement(guards, within_s)


# --- off --------------------------------------------------------------------------------------------------------------


async def _off(known: Reaching, names: list[str], why: str, yes: bool, as_json: bool) -> int:
    from telemetryd.cli.output import note
    from telemetryd.enforce.prepare import Goal, prepare
    from telemetryd.enforce.records import Intended, Reason
    from telemetryd.errors import TelemetrydError

    chosen = names or sorted({*known.enabled, *await asyncio.to_thread(known.records.intended_devices)})
    if not chosen:
        note("no device was ever written to, and the settings name none")
        return 0
    for name in chosen:
        known.device(name)  # a name that nobody knows is a mistake before anything is done
    try:
        await _recover_first(known)
        goals, left = [], {}
        for name in chosen:
            had = await asyncio.to_thread(known.records.intended, name) or Intended()
            goals.append(Goal(known.device(name), had.adopted, made=had.created))
        prepared: list[Prepared] = []
        # One after the other: whoever cannot be reached does not keep ours on the others.
        for goal in goals:
            try:
                prepared += await prepare([goal], 1)
            except TelemetrydError as error:
                left[goal.device.name] = str(error)
                note(f"{goal.device.name}: cannot be read: {error}")
        _show_plan(prepared, as_json)
        writes = sum(len(one.change.writes) for one in prepared)
        if writes:
            await asyncio.to_thread(ask, f"Take everything of ours off {len(prepared)} devices ({writes} writes)?", yes)
        reason = Reason(why.strip() or "taken off by hand")
        results = [await _run(known, [one], reason, None, "", True, as_json, is_off=True) for one in prepared]
        worst = next((one for one in results if one.outcome not in ("confirmed", "unchanged")), None)
        code = _show_results(prepared, results, left, as_json)
        return 1 if worst is not None or left else code
    finally:
        await known.close()


# --- both -------------------------------------------------------------------------------------------------------------


async def _recover_first(known: Reaching) -> None:
    from telemetryd.enforce.recover import recover

    note_recovered(await recover(known.records, known.find))


async def _run(
    known: Reaching,
    prepared: Sequence[Prepared],
    reason: Any,
    measurement: Measurement | None,
    canary: str,
    force: bool,
    as_json: bool,
    is_off: bool = False,
) -> Result:
    from telemetryd.cli.enforce_decide import operators_word
    from telemetryd.cli.output import note
    from telemetryd.enforce.transaction import Options, Transaction

    def tell(device: str, what: str) -> None:
        note(f"{device + ': ' if device else ''}{what}")

    options = Options(limits=known.limits, is_forced=force, canary=canary, ignores_freeze=is_off)
    running = Transaction(
        prepared, records=known.records, reason=reason, options=options, measurement=measurement, on_progress=tell
    )
    if measurement is not None:
        measurement.decided_by(operators_word(known.records, lambda: running.id))
    return await running.run()


def _show_plan(prepared: Sequence[Prepared], as_json: bool) -> None:
    from telemetryd.cli.output import Field, show_table, text
    from telemetryd.enforce.explain import write_rows

    if as_json:
        return
    for one in prepared:
        rows = write_rows(one.change)
        if rows:
            show_table(
                [text("step"), Field("path", lambda row: str(row["path"])), text("old"), text("new")],
                rows[:_SHOWN],
                title=one.name,
            )
        steps = ", ".join(f"{name} {len(writes)}" for name, writes in one.change.steps)
        more = f", the first {_SHOWN} of them are shown" if len(rows) > _SHOWN else ""
        print(f"{one.name}: {len(rows)} writes{f': {steps}' if steps else ''}{more}\n")


_SHOWN = 40


def _show_result(prepared: Sequence[Prepared], result: Result, left: dict[str, str], as_json: bool) -> int:
    return _show_results(prepared, [result], left, as_json)


def _show_results(prepared: Sequence[Prepared], results: Sequence[Result], left: dict[str, str], as_json: bool) -> int:
    from telemetryd.cli.output import write_json

    code = 0 if all(one.outcome in ("confirmed", "unchanged") for one in results) else 1
    if as_json:
        write_json(
            {
                "transactions": [result_document(one) for one in results],
                "devices": [device_document(one) for one in prepared],
                "not_written": left,
            }
        )
        return code
    for one in results:
        judged = one.judgement
        said = f" - verdict: {_words(judged)}" if judged is not None else ""
        print(f"{one.outcome}{f' ({one.id})' if one.id else ''}{f': {one.why}' if one.why else ''}{said}")
        for name in one.unsettled:
            print(f"  {name} is not settled: telemetryd enforce recover, or the daemon, goes on")
    return code


def _words(judged: Judgement) -> str:
    return str(judged.verdict) + (f", {judged.guard}: {judged.reason}" if judged.reason else "")


def result_document(result: Result) -> dict[str, Any]:
    """Return what came of a transaction as JSON."""
    judged = result.judgement
    return {
        "transaction": result.id or None,
        "outcome": result.outcome,
        "why": result.why,
        "verdict": judged._asdict() if judged is not None else None,
        "roundings": {
            name: [one._asdict() for one in found.roundings]
            for name, found in result.compared.items()
            if found.roundings
        },
        "unsettled": list(result.unsettled),
    }


def device_document(prepared: Prepared) -> dict[str, Any]:
    """Return what a transaction does to a device as JSON."""
    from telemetryd.enforce.explain import write_rows

    return {
        "device": prepared.name,
        "writes": write_rows(prepared.change),
        "conflicts": [found._asdict() for found in prepared.change.conflicts],
    }
