"""What the example policies make of the example city's traffic: the figures of docs/simulation.md.

python -m benchmarks.examples           prints them
python -m benchmarks.examples --write   writes policies/examples/*/result.json and expected.json, demand.csv of the
                                        examples that have it from here, and docs/figures/simulate-*.svg
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from telemetryd.allocate.answer import leaf_rows
from telemetryd.allocate.demand_file import read_demand
from telemetryd.allocate.place import place
from telemetryd.assure.modelled import Modelled
from telemetryd.assure.offered import Offered
from telemetryd.assure.outcome import outcome
from telemetryd.assure.plot import draw
from telemetryd.assure.scenario import apply, parse_scenario
from telemetryd.assure.simulate import simulate
from telemetryd.policy.load import load_policies
from telemetryd.policy.loaded import Policies
from telemetryd.registry.load import load_registry
from telemetryd.registry.models import Registry

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "policies" / "examples"
REGISTRY = ROOT / "policies" / "example-city" / "registry"
TRAFFIC = ROOT / "policies" / "example-city" / "traffic"
FIGURES = ROOT / "docs" / "figures"
STEP_S = 300
HOUR_S = 3600
ROWS = 20
#: Moment of a demand that is written by hand.
DEMAND_AT = "2026-11-28 09:00"


@dataclass(frozen=True)
class Example:
    """An example policy, and the week and scenarios that it is tried on."""

    name: str
    begin: str
    end: str
    places: tuple[tuple[str, str], ...]
    scenarios: tuple[str, ...]
    writes_demand: bool = True
    zone: ZoneInfo = field(default=ZoneInfo("Asia/Shanghai"))

    def policies(self, registry: Registry) -> Policies:
        """Load its policy."""
        return load_policies([EXAMPLES / self.name], registry)

    def times(self) -> tuple[int, int]:
        """Return begin and end of its week, ns since the epoch."""
        begin, end = (datetime.fromisoformat(text).replace(tzinfo=self.zone) for text in (self.begin, self.end))
        return round(begin.timestamp()) * 10**9, round(end.timestamp()) * 10**9

    def offered(self, city: Modelled, step_s: float) -> Offered:
        """Return the city's traffic on its links, before its scenarios."""
        begin, end = self.times()
        steps = round((end - begin) / 1e9 / step_s)
        places = [(*one, "department") for one in self.places]
        return city.offered(places, begin, steps, step_s)

    def run(self, registry: Registry, city: Modelled, step_s: float) -> tuple[Any, list[dict[str, Any]]]:
        """Simulate against links without a policy; return the simulation and its figures."""
        scenarios = [parse_scenario(text) for text in self.scenarios]
        offered, outages = apply(scenarios, self.offered(city, step_s), registry, self.places, self.zone)
        found = simulate(None, self.policies(registry), registry, offered, outages=outages)
        return found, outcome(found)


EXAM = "from=2026-11-28T08:00,to=2026-11-28T18:00"
DEADLINE = "from=2026-12-15,to=2026-12-16"
CASES = (
    Example(
        "exit",
        "2026-11-23",
        "2026-11-30",
        (("exit", "in"),),
        ("failure:state=isp1-down", "burst:who=culture/culheri,rate=2.2 Gbit/s"),
        writes_demand=False,
    ),
    Example(
        "exam",
        "2026-11-23",
        "2026-11-30",
        (("exit", "out"),),
        (
            f"failure:state=isp1-down,{EXAM}",
            f"burst:who=hrss/cseexam,rate=2.6 Gbit/s,{EXAM}",
            f"burst:who=data/patch,rate=1.6 Gbit/s,{EXAM}",
        ),
    ),
    Example(
        "uplink",
        "2026-12-14",
        "2026-12-21",
        (("uplink", "in"), ("uplink", "out")),
        ("growth:rate=50%,years=1", f"failure:state=uplink-a-down,{DEADLINE}"),
    ),
)


def short(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is kept of figures: by importance, in kbit/s and minutes, so that the last digit is stable."""
    return [
        {
            "link": row["link"],
            "direction": row["direction"],
            "contended_minutes": row["contended_minutes"],
            "importance": [
                {
                    "importance": one["importance"],
                    "offered_kbps": round(one["offered_bps"] / 1e3),
                    "delivered_kbps": {side: round(bps / 1e3) for side, bps in one["delivered_bps"].items()},
                    "short_minutes": one["short_minutes"],
                }
                for one in row["importance"]
            ],
        }
        for row in rows
    ]


def write_demand(example: Example, rows: list[dict[str, Any]]) -> str:
    """Write the largest demands of the worst five minutes; return their time."""
    directory = EXAMPLES / example.name
    worst = max((row["worst"]["old"]["missing_bps"]["old"], number) for number, row in enumerate(rows))[1]
    row = rows[worst]
    moment = row["worst"]["old"]
    leaves = sorted(moment["leaves"], key=lambda leaf: -leaf["wanted_bps"]["old"])[:ROWS]
    with (directory / "demand.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("link", "direction", "department", "application", "demand"))
        for leaf in leaves:
            rate = f"{round(leaf['wanted_bps']['old'] / 1e3)} kbit/s"
            writer.writerow((row["link"], row["direction"], leaf["department"], leaf["application"], rate))
    return f"{datetime.fromtimestamp(moment['from_ns'] / 1e9, example.zone):%Y-%m-%d %H:%M}"


def write_expected(example: Example, demand_at: str, registry: Registry) -> None:
    """Write what the policy gives the demands of the example."""
    directory = EXAMPLES / example.name
    demands, _ = read_demand(directory / "demand.csv", registry)
    at = datetime.fromisoformat(demand_at).replace(tzinfo=example.zone)
    placed, _ = place(example.policies(registry), registry, demands, at)
    keys = ("department", "application", "importance", "demand_bps", "guarantee_bps", "ceiling_bps", "allocation_bps")
    lines = [
        json.dumps({key: one[key] for key in (*keys, "bound")})
        for link in placed
        for one in leaf_rows(link, link.allocate())
        if one["demand_bps"]
    ]
    (directory / "expected.json").write_text("[\n  " + ",\n  ".join(lines) + "\n]\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write results, demands and figures")
    parser.add_argument("names", nargs="*", help="only these examples")
    chosen = parser.parse_args()
    registry = load_registry(REGISTRY)
    city = Modelled(registry, TRAFFIC)
    for example in CASES:
        if chosen.names and example.name not in chosen.names:
            continue
        started = time.process_time()
        found, rows = example.run(registry, city, STEP_S)
        seconds = time.process_time() - started
        print(
            f"{example.name}: {len(found.offered.known)} steps, {len(found.offered.keys)} classes, {seconds:.1f} s CPU"
        )
        for row in rows:
            print(f"  {row['link']} {row['direction']}: contended {row['contended_minutes'] / 60:.1f} h", end="")
            print(f", offered up to {row['peak_offered_bps'] / 1e6:,.0f} Mbit/s", end="")
            print(f", missed {row['broken_guarantees']['new'][:3]}")
            rows_shown = row["classes"] if len(row["classes"]) < 10 else row["importance"]
            for one in rows_shown:
                both = one["delivered_bps"], one["short_minutes"]
                sides = [f"{side} {both[0][side] / 1e6:9.1f} short {both[1][side] / 60:6.1f} h" for side in both[0]]
                name = f"{one['importance']:>9} {one.get('class', ''):12}"
                print(f"    {name} offered {one['offered_bps'] / 1e6:9.1f} {' '.join(sides)}")
            for word, ends in (("winners", row["departments"][:3]), ("losers", row["departments"][-3:])):
                print(f"    {word}", [(one["department"], round(one["gain_bps"] / 1e6, 1)) for one in ends])
            worst = row["worst"]["old"]
            at = datetime.fromtimestamp(worst["from_ns"] / 1e9, example.zone)
            print(f"    worst {at:%a %Y-%m-%d %H:%M} {worst['missing_bps']}")
        if not chosen.write:
            continue
        hourly = short(example.run(registry, city, HOUR_S)[1])
        demand_at = write_demand(example, rows) if example.writes_demand else DEMAND_AT
        write_expected(example, demand_at, registry)
        document = {"demand_at": demand_at, "week": short(rows), "hourly": hourly}
        path = EXAMPLES / example.name / "result.json"
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        begin = datetime.fromtimestamp(int(found.offered.times_ns[0]) / 1e9, example.zone)
        for course, row in zip(found.links, rows, strict=True):
            target = FIGURES / f"simulate-{example.name}-{course.direction}.svg"
            target.write_text(draw(course, row, begin, STEP_S, ("no policy", example.name)), encoding="utf-8")


if __name__ == "__main__":
    main()
