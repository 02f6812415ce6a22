"""`telemetryd policy`: check, show, divide, explain and compare bandwidth policies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telemetryd.cli.policy_compare import calendar, diff
from telemetryd.cli.policy_demand import demand
from telemetryd.cli.policy_history import history, record
from telemetryd.cli.policy_options import AsJson, At, Directory, Files, load, moment, note_warnings
from telemetryd.cli.policy_options import registry as load_registry
from telemetryd.cli.policy_simulate import simulate

if TYPE_CHECKING:
    from telemetryd.allocate.demand_file import Demand
    from telemetryd.allocate.place import Placed
    from telemetryd.cli.output import Field, Row
    from telemetryd.errors import Problem
    from telemetryd.policy.admission import Conflict
    from telemetryd.policy.loaded import Policies, Policy
    from telemetryd.policy.outline import Rule
    from telemetryd.registry.models import Registry

app = typer.Typer(
    help="Check, show, divide, explain and compare bandwidth policies.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

DemandFile = Annotated[
    Path,
    typer.Option("--demand", help="CSV with link, direction, department, application, demand (with units)."),
]


@app.command()
def check(policies: Files, registry: Directory = None, at: At = None, as_json: AsJson = False) -> None:
    """Load policies and admit their guarantees at every time of the next year; exit code 2 if there is a mistake.

    Example: telemetryd policy check policies/examples/exit --registry policies/example-city/registry
    """
    from telemetryd.cli.output import note, write_json
    from telemetryd.errors import EXIT_USAGE, ProblemsError
    from telemetryd.policy.admission import admit

    known = load_registry(registry)
    try:
        loaded = load(policies, known)
        conflicts = [found for policy in loaded.policies for found in admit(policy, known, _local(policy, at, known))]
        if refused := [conflict_problem(conflict) for conflict in conflicts if conflict.is_refused]:
            raise ProblemsError(refused)
    except ProblemsError as error:
        if not as_json:
            raise
        write_json({"ok": False, "mistakes": [asdict(one) for one in error.problems], "warnings": []})
        raise typer.Exit(EXIT_USAGE) from None
    names = [policy.name for policy in loaded.policies]
    warnings = [*loaded.warnings, *(conflict_problem(conflict) for conflict in conflicts)]
    if as_json:
        write_json({"ok": True, "policies": names, "mistakes": [], "warnings": [asdict(one) for one in warnings]})
        return
    note_warnings(warnings)
    what = "policy" if len(names) == 1 else "policies"
    note(f"{len(names)} {what} ({', '.join(names)}): no mistake, every guarantee fits")


@app.command()
def show(policies: Files, registry: Directory = None, at: At = None, as_json: AsJson = False) -> None:
    """Print what every node is promised at a time, in bit/s.

    Example: telemetryd policy show policies/examples/exit --at "2026-11-28 09:00"
    """
    from telemetryd.cli.output import Field, show_table, text, write_json
    from telemetryd.policy.admission import capacity_bps
    from telemetryd.policy.outline import active_at, outline

    known = load_registry(registry)
    loaded = load(policies, known)
    rows: list[dict[str, Any]] = []
    for policy in loaded.policies:
        active = active_at(policy, _local(policy, at, known))
        for link, direction in policy.places:
            root = outline(policy, known, active, capacity_bps(link, direction, known))
            rows += [
                {
                    "policy": policy.name,
                    "link": link,
                    "direction": direction,
                    "node": list(names),
                    "kind": str(rule.level),
                    "importance": rule.importance,
                    "weight": rule.weight,
                    "floor_bps": rule.floor_bps,
                    "guarantee_bps": rule.guarantee_bps,
                    "ceiling_bps": rule.ceiling_bps,
                }
                for names, rule in _rules(root, ())
            ]
    if as_json:
        write_json({"nodes": rows})
        return
    note_warnings(loaded.warnings)
    columns = [Field("node", _indented), text("kind"), text("importance"), text("weight")]
    columns += [_rate(name) for name in ("floor", "guarantee", "ceiling")]
    show_table(columns, rows)


@app.command()
def allocate(
    policies: Files,
    demand: DemandFile,
    registry: Directory = None,
    at: At = None,
    network_wide: Annotated[
        bool,
        typer.Option(
            "--network-wide",
            help="Divide all links at once, too; it is done by itself where a demand crosses several.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Divide the links of the policies among the demands of a file.

    A demand that crosses several links names them: "exit:in + dc:out". Such traffic gets the network-wide max-min, and
    each flow that is short the link that is its bottleneck.

    Example: telemetryd policy allocate policies/examples/exit --demand policies/examples/exit/demand.csv --json
    """
    from telemetryd.allocate.answer import leaf_rows, node_rows
    from telemetryd.allocate.crossing import crossing_rows, divide_network, not_considered
    from telemetryd.cli.output import note, show_table, text, write_json

    loaded, placed, unmanaged, when, warnings, known, demands = _place(policies, demand, registry, at)
    network = None
    if network_wide or any(len(one.crosses) > 1 for one in demands):
        crossing = divide_network(loaded, known, demands, when)
        network = crossing_rows(crossing)
        warnings = [*warnings, *not_considered(crossing)]
    leaves: list[dict[str, Any]] = []
    nodes: list[dict[str, Any]] = []
    for one in placed:
        allocation = one.allocate()
        leaves += leaf_rows(one, allocation)
        nodes += node_rows(one, allocation)
    if as_json:
        write_json(
            {
                "at": when.isoformat(timespec="seconds"),
                "policies": [policy.name for policy in loaded.policies],
                "frozen": frozen(loaded, when),
                "links": [
                    {
                        "link": one.link,
                        "direction": one.direction,
                        "policy": one.policy.name,
                        "capacity_bps": one.capacity_bps,
                    }
                    for one in placed
                ],
                "leaves": leaves,
                "nodes": nodes,
                "network": network,
                "unmanaged": [asdict(one) for one in unmanaged],
                "warnings": [asdict(one) for one in warnings],
            }
        )
        return
    note_warnings(warnings)
    _note_frozen(frozen(loaded, when))
    columns = [text("link"), text("direction"), text("department"), text("application"), text("importance")]
    columns += [_rate(name) for name in ("demand", "guarantee", "ceiling", "allocation")]
    show_table([*columns, text("bound")], leaves)
    if network is not None:
        _show_network(network)
    if unmanaged:
        note(f"{len(unmanaged)} demands are on links without a policy here")


@app.command("explain")
def explain_rate(
    who: Annotated[str, typer.Argument(metavar="DEPARTMENT/APPLICATION", help="Whose rate.")],
    policies: Files,
    demand: DemandFile,
    registry: Directory = None,
    at: At = None,
    as_json: AsJson = False,
) -> None:
    """Say why a department's application gets its rate: the chain to the link, what binds, who holds the rest.

    Example: telemetryd policy explain hrss/cseexam policies/examples/exit --demand policies/examples/exit/demand.csv
    """
    from telemetryd.allocate.answer import explain_rows
    from telemetryd.cli.output import note, write_json
    from telemetryd.errors import InputError

    department, slash, application = who.partition("/")
    if not slash:
        raise InputError(f'"{who}" names no application - write DEPARTMENT/APPLICATION')
    _, placed, _, when, *_ = _place(policies, demand, registry, at)
    chains = []
    for one in placed:
        found = [n for n, row in one.demands.items() if (row.department, row.application) == (department, application)]
        allocation = one.allocate() if found else None
        for number in found if allocation is not None else ():
            steps = explain_rows(one, allocation, number)  # type: ignore[arg-type]
            chains.append({"link": one.link, "direction": one.direction, "policy": one.policy.name, "steps": steps})
    if as_json:
        write_json({"at": when.isoformat(timespec="seconds"), "who": who, "chains": chains})
    else:
        for chain in chains:
            typer.echo("\n".join(_chain_text(who, chain)))
    if not chains:
        note(f"{who} has no demand on a link of these policies")
        raise typer.Exit(1)


app.command()(diff)
app.command()(calendar)
app.command()(simulate)
app.command()(demand)
app.command()(record)
app.command()(history)


@app.command()
def schema(
    calendar: Annotated[bool, typer.Option("--calendar", help="Of calendar files instead of policies.")] = False,
) -> None:
    """Print the JSON Schema of a policy file, for editors."""
    from telemetryd.cli.output import write_json
    from telemetryd.policy.models import CalendarFile, PolicyFile

    model = CalendarFile if calendar else PolicyFile
    document = model.model_json_schema(by_alias=True)
    write_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **document})


def _place(
    policies: list[Path], demand: Path, registry: Path | None, at: str | None
) -> tuple[Policies, list[Placed], list[Any], datetime, list[Problem], Registry, list[Demand]]:
    """Load everything and put the demands into the trees of the policies."""
    from zoneinfo import ZoneInfo

    from telemetryd.allocate.demand_file import read_demand
    from telemetryd.allocate.place import place

    known = load_registry(registry)
    loaded = load(policies, known)
    demands, warnings = read_demand(demand, known)
    when = moment(at, ZoneInfo(known.city.time_zone))
    placed, unmanaged = place(loaded, known, demands, when)
    return loaded, placed, unmanaged, when, [*loaded.warnings, *warnings], known, demands


def _local(policy: Policy, at: str | None, registry: Registry) -> datetime:
    """Return the time that was asked for, the city's where it says no zone, as the policy's local time."""
    from zoneinfo import ZoneInfo

    return moment(at, ZoneInfo(registry.city.time_zone)).astimezone(policy.zone).replace(tzinfo=None)


def conflict_problem(conflict: Conflict) -> Problem:
    """Say a conflict at the place of its largest guarantee."""
    from telemetryd.config.units import spell_rate
    from telemetryd.errors import Problem

    named = ", ".join(f"{'/'.join(names)} {spell_rate(bps)}" for names, bps, _ in conflict.guarantees)
    where = "/".join(conflict.below) or "the capacity less the reserve"
    remedy = "lower one of them, or raise what they share"
    if conflict.state:
        where, remedy = f"state {conflict.state}", "see that importance and floors say who goes without there"
    if conflict.risk is not None:
        return _overbooked(conflict)
    place_and_time = f"{conflict.link} {conflict.direction} from {conflict.at:%Y-%m-%d %H:%M}"
    message = (
        f"guarantees cannot be kept together on {place_and_time}: {named}; {where} allows "
        f"{spell_rate(conflict.limit_bps)}, all guarantees there are {spell_rate(conflict.promised_bps)}, "
        f"{spell_rate(conflict.missing_bps)} are missing"
    )
    path = conflict.guarantees[0][2].path or ()
    place = conflict.policy.document.where((*path, "guarantee"))
    return Problem(*place, message, remedy)


def _show_network(network: dict[str, list[dict[str, Any]]]) -> None:
    from telemetryd.cli.output import Field, show_table, text

    def crosses(row: Row) -> str:
        return " + ".join(f"{one['link']} {one['direction']}" for one in row["crosses"])

    def bottleneck(row: Row) -> str:
        link = row["bottleneck"]
        return "" if link is None else f"{link['link']} {link['direction']}"

    columns = [Field("crosses", crosses), text("department"), text("application"), text("importance")]
    columns += [_rate(name) for name in ("demand", "guarantee", "ceiling", "allocation")]
    show_table([*columns, Field("bottleneck", bottleneck)], network["flows"], "all links at once")


def _overbooked(conflict: Conflict) -> Problem:
    """Say what is overbooked knowingly, and its risk."""
    from telemetryd.config.units import spell_rate
    from telemetryd.errors import Problem

    overbooking = conflict.policy.file.overbooking
    assert overbooking is not None
    assert conflict.risk is not None
    message = (
        f"guarantees are overbooked on {conflict.link} {conflict.direction} from {conflict.at:%Y-%m-%d %H:%M}: "
        f"{spell_rate(conflict.promised_bps)} where {spell_rate(conflict.limit_bps)} are; with each demanded in full "
        f"{overbooking.busy} of the time, not all can be kept {100 * conflict.risk:.3g} % of it"
    )
    place = conflict.policy.document.where(("overbooking",))
    return Problem(*place, message, f"{overbooking.owner} answers for it: {overbooking.reason}")


def frozen(policies: Policies, when: datetime) -> list[dict[str, str]]:
    """Return the emergency freezes that hold at a time: nothing of these policies is applied until they end."""
    from telemetryd.policy.freeze import freezes

    return [
        {
            "policy": one.policy,
            "until": one.until.replace(tzinfo=None).isoformat(timespec="minutes"),
            "owner": one.owner,
            "reason": one.reason,
        }
        for one in freezes(policies, when)
    ]


def _note_frozen(freezes: Iterable[dict[str, str]]) -> None:
    from telemetryd.cli.output import note

    for one in freezes:
        note(f"{one['policy']} is frozen until {one['until']} by {one['owner']} ({one['reason']}): nothing is applied")


def _indented(row: Row) -> str:
    """Write a node's name, indented by its depth."""
    return "  " * len(row["node"]) + (row["node"][-1] if row["node"] else f"{row['link']} {row['direction']}")


def _rate(name: str) -> Field:
    """Make a column of exact rates; nothing is shown for 0."""
    from telemetryd.cli.output import Field
    from telemetryd.config.units import format_rate

    return Field(name, lambda row: format_rate(row[f"{name}_bps"]) if row[f"{name}_bps"] else "", right=True)


def _rules(rule: Rule, names: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], Rule]]:
    yield names, rule
    for child in rule.children:
        yield from _rules(child, (*names, child.name))


def _chain_text(who: str, chain: dict[str, Any]) -> Iterable[str]:
    """Write one chain for people."""
    from telemetryd.config.units import format_rate

    yield f"{who} on {chain['link']} {chain['direction']} (policy {chain['policy']})"
    for depth, step in enumerate(chain["steps"]):
        name = "/".join(step["node"]) or chain["link"]
        line = f"{'  ' * (depth + 1)}{name}: {format_rate(step['allocation_bps'])} of {format_rate(step['demand_bps'])}"
        if step["guarantee_bps"]:
            line += f", guarantee {format_rate(step['guarantee_bps'])}"
        if step["level_bps"] is not None:
            line += f", weight {step['weight']:g} x level {format_rate(step['level_bps'])}"
        yield f"{line}; bound by {step['bound']}{'  <- this binds' if step['binds'] else ''}"
        if step["holders"] and step["bound"] != "demand":
            held = [f"{'/'.join(one['node'])} {format_rate(one['allocation_bps'])}" for one in step["holders"][:5]]
            yield f"{'  ' * (depth + 2)}beside it: {', '.join(held)}"
