"""`telemetryd enforce`: plan what devices shall have, write it to those that may be written to, and take it off."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telemetryd.cli.config import DEFAULT_FILE
from telemetryd.cli.enforce_options import Config
from telemetryd.cli.enforce_watch import proof, verdicts
from telemetryd.cli.policy_options import AsJson, At, Directory, load, moment, note_warnings
from telemetryd.cli.policy_options import registry as load_registry

if TYPE_CHECKING:
    from datetime import datetime

    from telemetryd.enforce.capability import Answer, Capability
    from telemetryd.enforce.capability_table import Table
    from telemetryd.enforce.gateway import GatewayPlan
    from telemetryd.enforce.intent import DeviceIntent
    from telemetryd.enforce.plan import DevicePlan
    from telemetryd.errors import Problem
    from telemetryd.registry.models import Registry

app = typer.Typer(
    help="Plan, write, confirm and take off what allocations become on devices.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


app.command()(verdicts)
app.command()(proof)


@app.callback()
def _group() -> None:
    """Plan, write, confirm and take off what allocations become on devices."""


@app.command()
def plan(
    policy: Annotated[list[Path], typer.Option("--policy", "-p", help="Policy file or directory; repeat for more.")],
    registry: Directory = None,
    demand: Annotated[
        Path | None,
        typer.Option("--demand", help="CSV of demands. Default: everybody asks for all.", show_default=False),
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option("--device", help="Only this device; repeat for more.", show_default=False)
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="READBACK.json",
            help="What one device has: the JSON of a Get of /qos.",
            show_default=False,
        ),
    ] = None,
    capabilities: Annotated[
        Path | None,
        typer.Option(
            "--capabilities",
            metavar="DIR",
            help='Answers to Capabilities, DEVICE.json each: "telemetryd gnmi capabilities TARGET --json".',
            show_default=False,
        ),
    ] = None,
    deviations: Annotated[
        list[Path] | None,
        typer.Option("--deviations", help="Your table on top of the shipped one; repeat for more.", show_default=False),
    ] = None,
    at: At = None,
    live: Annotated[
        bool, typer.Option("--live", help="Ask the devices what they can and have: the targets of --config.")
    ] = False,
    config: Config = DEFAULT_FILE,
    explain: Annotated[bool, typer.Option("--explain", help="Say what each class loses by sharing a queue.")] = False,
    as_json: AsJson = False,
) -> None:
    """Plan queues, classifiers and rates of every device that a policy's links lead over.

    Example: telemetryd enforce plan -p policies/examples/exit --at "2026-11-28 09:00" --explain

    Example: telemetryd enforce plan -p policies/examples/exit --device YH-DCA-XR01 --against readback.json --json

    Example: telemetryd enforce plan -p policies/examples/exit --live
    """
    from telemetryd.cli.output import note, write_json
    from telemetryd.enforce.capability import resolve
    from telemetryd.enforce.capability_table import load_table
    from telemetryd.errors import InputError

    known = load_registry(registry)
    table = load_table(deviations or ())
    for name in device or ():
        if name not in known.device:
            raise InputError(f'--device: the registry has no device "{name}"')
    when, wanted, warnings = _intents(policy, demand, at, known, table)
    chosen = [one for one in wanted if not device or one.device in device]
    if not chosen:
        raise InputError(f"no link of the policies is on {', '.join(device or ['any device'])} - name another")
    if against is not None and len(chosen) > 1:
        raise InputError("--against is the configuration of one device - name it with --device")
    if live and (against is not None or capabilities is not None):
        raise InputError("--live asks the devices themselves: leave out --against and --capabilities")
    readback = _read_json(against) if against is not None else None
    asked = _ask_live(config, [one.device for one in chosen]) if live else {}
    documents = []
    for one in chosen:
        answer = _answer(capabilities, one.device)
        if live:
            answer, readback = asked[one.device]
            against = Path(one.device)
        capability = resolve(known.device[one.device], known, answer, table)
        documents.append(_plan_device(one, capability, known, readback, against))
    if as_json:
        write_json(
            {
                "at": when.isoformat(timespec="seconds"),
                "demand": str(demand) if demand is not None else None,
                "devices": documents,
                "warnings": [asdict(warning) for warning in warnings],
            }
        )
        return
    note_warnings(warnings)
    for document in documents:
        _show(document, explain, against is not None)
    if demand is None:
        note("no demand was given: everybody is taken to ask for all, and to send three times its rate at most")


def _intents(
    policy: list[Path], demand: Path | None, at: str | None, known: Registry, table: Table
) -> tuple[datetime, list[DeviceIntent], list[Problem]]:
    """Divide every link of the policies, and return what each device shall do."""
    from zoneinfo import ZoneInfo

    from telemetryd.allocate.demand_file import read_demand
    from telemetryd.allocate.place import place
    from telemetryd.enforce.capability import resolve
    from telemetryd.enforce.contention import full_demands, stand, standing_demands
    from telemetryd.enforce.intent import OVERLOAD, intents, members_of

    loaded = load(policy, known)
    when = moment(at, ZoneInfo(known.city.time_zone))
    warnings = list(loaded.warnings)
    if demand is not None:
        demands, more = read_demand(demand, known)
        warnings += more
    else:
        demands = full_demands(loaded, known, when)
    on_gateways = [
        link
        for _, link, _ in loaded.ruled()
        if all(
            resolve(known.device[known.link[member].device], known, None, table).driver == "linux"
            for member in members_of(link, known)
        )
    ]
    if demand is not None:
        demands = [*demands, *standing_demands(loaded, known, when, on_gateways)]
    placed, _ = place(loaded, known, demands, when)
    for one in placed:
        if one.link in on_gateways:
            stand(one)
    divided = [(one, one.allocate()) for one in placed]
    return when, intents(divided, known, OVERLOAD if demand is None else None), warnings


def _ask_live(config: Path, names: list[str]) -> dict[str, tuple[Answer | None, dict[str, Any]]]:
    """Return what devices say they can, and what they have."""
    import asyncio

    from telemetryd.cli.enforce_options import reaching

    known = reaching(config)

    async def ask() -> dict[str, tuple[Answer | None, dict[str, Any]]]:
        try:
            readings = await asyncio.gather(*(known.device(name).read() for name in names))
            return {
                name: (known.device(name).answer, dict(reading.config))
                for name, reading in zip(names, readings, strict=True)
            }
        finally:
            await known.close()

    return asyncio.run(ask())


def _answer(directory: Path | None, device: str) -> Answer | None:
    from telemetryd.enforce.capability import answer_from_document
    from telemetryd.errors import InputError

    path = directory / f"{device}.json" if directory is not None else None
    if path is None or not path.exists():
        return None
    try:
        return answer_from_document(_read_json(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read_json(path: Path) -> Any:
    from telemetryd.errors import Problem, ProblemsError

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problem = Problem(str(path), 0, 0, f"cannot be read: {error.strerror}", "check name and permissions")
    except UnicodeDecodeError:
        problem = Problem(str(path), 0, 0, "is not UTF-8 text", "save the file as UTF-8")
    except json.JSONDecodeError as error:
        remedy = "give the JSON as the device sent it"
        problem = Problem(str(path), error.lineno, error.colno, f"is no JSON: {error.msg}", remedy)
    except RecursionError:
        problem = Problem(str(path), 0, 0, "is nested too deep", "give the JSON as the device sent it")
    raise ProblemsError([problem])


def _plan_device(
    one: DeviceIntent, capability: Capability, known: Registry, readback: Any, against: Path | None
) -> dict[str, Any]:
    from telemetryd.enforce.diff import diff
    from telemetryd.enforce.explain import capability_row, class_rows, cost_rows, queue_rows, write_rows
    from telemetryd.enforce.gateway import plan_gateway
    from telemetryd.enforce.plan import plan_device
    from telemetryd.enforce.readback import read_back
    from telemetryd.errors import InputError

    try:
        have = read_back(readback) if against is not None else {}
    except InputError as error:
        raise InputError(f"{against}: {error}") from None
    document: dict[str, Any] = {
        "device": one.device,
        "driver": capability.driver,
        "export_only": list(capability.export_only),
        "capability": capability_row(capability),
    }
    made: DevicePlan | GatewayPlan
    if capability.driver == "linux":
        made = plan_gateway(one, capability, known)
        document["classes"] = class_rows(made)
    else:
        made = plan_device(one, capability)
        document |= {"queues": queue_rows(made), "costs": cost_rows(made)}
    change = diff(have, made.leaves)
    return document | {
        "notes": list(made.notes),
        "writes": write_rows(change),
        "conflicts": [found._asdict() for found in change.conflicts],
    }


def _show(document: dict[str, Any], explain: bool, compared: bool) -> None:
    """Print one device for people."""
    from telemetryd.cli.output import Field, share, show_table, text

    reasons = document["export_only"]
    print(f"{document['device']}: " + (f"export only, {'; '.join(reasons)}" if reasons else "may be written to"))
    columns = [text("interface"), text("direction")]
    if document["driver"] == "linux":
        columns += [Field("class", _node), _rate("rate"), _rate("ceiling"), text("priority")]
        show_table(columns, document["classes"])
        for line in document["notes"] if explain else ():
            print(f"  {line}")
    else:
        columns += [text("queue"), _rate("rate"), _rate("ceiling"), Field("classes", _classes)]
        show_table(columns, document["queues"])
    if explain and document["driver"] != "linux":
        show_table(
            [text("class"), text("queue"), Field("beside it", _beside), _rate("promise"), _rate("sure"),
             share("missing", "missing"),
             _rate("ceiling"), _rate("may_reach", "may reach")],
            document["costs"],
            title="What sharing a queue costs, when all others in it send their most",
        )  # fmt: skip
        for line in document["notes"]:
            print(f"  {line}")
        print(f"  {_FAMILIES}")
    if compared and document["writes"]:
        show_table(
            [text("step"), Field("path", lambda row: str(row["path"])), text("old"), text("new")], document["writes"]
        )
    for found in document["conflicts"]:
        print(f"  {found['path']} is {found['found']}, which is not ours: left alone until it is adopted")
    steps: dict[str, int] = {}
    for row in document["writes"]:
        steps[row["step"]] = steps.get(row["step"], 0) + 1
    what = ", ".join(f"{step} {count}" for step, count in steps.items())
    print(f"{len(document['writes'])} writes{f': {what}' if what else ''}\n")


_FAMILIES = "IPv4 and IPv6 packets of a class share its queue: its rate is that of both together"


def _node(row: Any) -> str:
    name = row["node"][-1] if row["node"] else "(port)"
    return "  " * len(row["node"]) + ("(rest)" if name == "_rest" else name)


def _classes(row: Any) -> str:
    names = row["classes"]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{shown}, and what nothing matches" if row["has_rest"] else shown


def _beside(row: Any) -> str:
    return (
        f"{len(row['shares_with'])}: {', '.join(row['shares_with'][:2])}{' ...' if len(row['shares_with']) > 2 else ''}"
    )


def _rate(name: str, title: str | None = None) -> Any:
    from telemetryd.cli.output import Field
    from telemetryd.config.units import format_rate

    return Field(title or name, lambda row: format_rate(row[f"{name}_bps"]), right=True)


# Commands that talk to devices are in modules of their own.
from telemetryd.cli import enforce_apply, enforce_decide, enforce_state  # noqa: E402

for _command in (
    enforce_apply.apply,
    enforce_decide.confirm,
    enforce_decide.rollback,
    enforce_decide.recover,
    enforce_apply.off,
    enforce_state.status,
    enforce_state.drift,
    enforce_state.history,
    enforce_state.audit,
    enforce_state.freeze,
    enforce_state.unfreeze,
):
    app.command()(_command)
