"""The traffic tables of the OpenConfig community (featureprofiles DP-1.x and DP-2.x) on a gateway of ours.

Scaled to 200 Mbit/s a port, in frames of 1,400 octets (DP-1.15 has 512). Port 1 sends IPv4, port 2 IPv6; what arrives
is counted behind the gateway, by DSCP and source, by nftables: nothing of what is tested has a part in that.
`python -m tests.dp_tables` runs all rows and prints the table of docs/gateway.md.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import groupby
from typing import Final, NamedTuple

from telemetryd.agent.qos.realiser import KernelQos
from tests import street as case
from tests.street import POLICY, Street, Tree

LINE_BPS: Final = 200_000_000
#: Percentage points that a figure may be off.
TOLERANCE: Final = 2.0
#: First digits of the ports that a sender uses before, in, and after what is measured.
PHASES: Final = (5, 6, 7)
_BETWEEN: Final = (6,)
DSCP: Final = {"NC1": 56, "AF4": 32, "AF3": 24, "AF2": 16, "AF1": 8, "BE1": 4, "BE0": 0}
FRAME: Final = 1400

#: Class -> percent of the line that each of the two ports offers.
Offered = Mapping[str, tuple[float, float]]


class Row(NamedTuple):
    """A row of a table.

    Attributes
    ----------
    strict:
        Strict classes, the highest first.
    weights:
        Class -> weight.
    received:
        Class -> percent of what was offered.
    """

    test: str
    strict: tuple[str, ...]
    weights: Mapping[str, int]
    offered: Offered
    received: Mapping[str, float]


class Result(NamedTuple):
    """What came of a class.

    Attributes
    ----------
    row:
        Its row's place.
    offered:
        Percent of the line that each port shall send.
    sent:
        That both have sent together: less where the machine had no time for them.
    published, due, found:
        Percent of that received: as published, what strict priority and weights give of what was really sent, and here.
    each:
        Here of each port; both are in one queue, which drops of whom it happens to.
    """

    row: int
    test: str
    name: str
    offered: tuple[float, float]
    sent: float
    published: float
    due: float
    found: float
    each: tuple[float, float]

    @property
    def is_good(self) -> bool:
        """Tell whether the class got what is due of what was sent."""
        return abs(self.found - self.due) <= TOLERANCE

    @property
    def is_published(self) -> bool:
        """Tell whether the class got what the table says."""
        return abs(self.found - self.published) <= TOLERANCE


def _rows() -> list[Row]:
    rows: list[Row] = []
    basic = {"AF4": 48, "AF3": 12, "AF2": 8, "AF1": 4, "BE1": 1, "BE0": 1}
    all_of = dict.fromkeys(("NC1", *basic), 100.0)
    rows.append(
        Row(
            *("DP-1.14 80 %", ("NC1",), basic),
            {
                "NC1": (3, 3),
                "AF4": (24, 24),
                "AF3": (6, 6),
                "AF2": (4, 4),
                "AF1": (2, 2),
                "BE0": (0.5, 0.5),
                "BE1": (0.5, 0.5),
            },
            all_of,
        )
    )
    rows.append(
        Row(
            *("DP-1.14 98 %", ("NC1",), basic),
            {
                "NC1": (5, 4),
                "AF4": (30, 30),
                "AF3": (7.5, 7.5),
                "AF2": (4, 4),
                "AF1": (2, 2),
                "BE0": (0.5, 0.5),
                "BE1": (0.5, 0.5),
            },
            all_of,
        )
    )
    for other in basic:
        rows.append(
            Row(
                *("DP-1.7", ("NC1",), basic),
                {"NC1": (0.1, 0.7), other: (45.1, 54.1)},
                {"NC1": 100, other: 100},
            )
        )
        rows.append(
            Row(
                *("DP-1.7 over", ("NC1",), basic),
                {"NC1": (0.1, 0.7), other: (99.9, 99.3)},
                {"NC1": 100, other: 49.8},
            )
        )
    two = {"AF3": 12, "AF2": 8, "AF1": 4, "BE1": 2, "BE0": 1}
    for other in two:
        strict = ("NC1", "AF4")
        rows.append(Row("DP-1.8 starved", strict, two, {"AF4": (50, 50), other: (50, 50)}, {"AF4": 100, other: 0}))
        rows.append(Row("DP-1.8 half", strict, two, {"AF4": (20, 30), other: (60, 40)}, {"AF4": 100, other: 50}))
    weighted = {"AF3": 64, "AF2": 16, "AF1": 4, "BE0": 1, "BE1": 1}
    for high, low in (("AF3", "AF2"), ("AF2", "AF1"), ("AF1", "BE1")):
        for offered, received in (
            (((40, 40), (10, 10)), (100, 100)),
            (((80, 80), (10, 10)), (50, 100)),
            (((40, 40), (20, 20)), (100, 50)),
            (((50, 50), (50, 50)), (80, 20)),
        ):
            rows.append(
                Row(
                    *("DP-1.9", (), weighted),
                    {high: offered[0], low: offered[1]},
                    {high: received[0], low: received[1]},
                )
            )
    rows.append(Row("DP-1.9", (), weighted, {"BE1": (50, 50), "BE0": (50, 50)}, {"BE1": 50, "BE0": 50}))
    # Published with the figures of BE0 and BE1 exchanged: so, half of each is what their weights give.
    mixed = {"AF3": 32, "AF2": 16, "AF1": 8, "BE1": 4, "BE0": 1}
    strict = ("NC1", "AF4")
    rows.append(
        Row(
            *("DP-1.10", strict, mixed),
            {
                "NC1": (0.1, 0.9),
                "AF4": (18, 20),
                "AF3": (16, 16),
                "AF2": (8, 8),
                "AF1": (4, 4),
                "BE0": (2, 2),
                "BE1": (0.5, 0.5),
            },
            all_of,
        )
    )
    rows.append(
        Row(
            *("DP-1.10 strict", strict, mixed),
            {
                "NC1": (0.1, 0.9),
                "AF4": (50, 49),
                "AF3": (20, 14),
                "AF2": (14, 24),
                "AF1": (12, 4),
                "BE0": (1, 7),
                "BE1": (1, 1),
            },
            {**dict.fromkeys(mixed, 0.0), "NC1": 100, "AF4": 100},
        )
    )
    rows.append(
        Row(
            *("DP-1.10 half", strict, mixed),
            {
                "NC1": (0.1, 0.9),
                "AF4": (18, 20),
                "AF3": (40, 24),
                "AF2": (8, 24),
                "AF1": (12, 4),
                "BE0": (1, 1),
                "BE1": (1, 7),
            },
            {**dict.fromkeys(mixed, 50.0), "NC1": 100, "AF4": 100},
        )
    )
    levels: tuple[str, ...] = ("NC1", "AF4", "AF3", "AF2", "AF1", "BE1")
    each = {"BE1": 12, "AF1": 12, "AF2": 10, "AF3": 12, "AF4": 30, "NC1": 1}
    levelled = {"BE1": 0.0, "AF1": 0.0, "AF2": 70.0, "AF3": 100.0, "AF4": 100.0, "NC1": 100.0}
    rows.append(Row("DP-1.15", levels, {}, {name: (own, own) for name, own in each.items()}, levelled))
    return rows


ROWS: Final = _rows()


def configuration(row: Row) -> Tree:
    """Return the leaves of a row's policy: strict classes in one scheduler, weighted ones in another."""
    leaves: Tree = {}
    names = [*row.strict, *row.weights]
    for name in names:
        case.queue(leaves, name)
    root = f"{POLICY}[name=port]/schedulers/scheduler[sequence=1]"
    leaves[f"{POLICY}[name=port]/config/name"] = "port"
    leaves[f"{root}/config/sequence"] = 1
    leaves[f"{root}/config/type"] = "ONE_RATE_TWO_COLOR"
    leaves[f"{root}/one-rate-two-color/config/cir"] = LINE_BPS
    leaves[f"{root}/one-rate-two-color/config/queuing-behavior"] = "SHAPE"
    leaves[f"{root}/output/config/output-type"] = "SCHEDULER"
    leaves[f"{root}/output/config/child-scheduler"] = "queues"
    leaves[f"{POLICY}[name=queues]/config/name"] = "queues"
    for sequence, members in ((0, row.strict), (1, tuple(row.weights))):
        if not members:
            continue
        path = f"{POLICY}[name=queues]/schedulers/scheduler[sequence={sequence}]"
        leaves[f"{path}/config/sequence"] = sequence
        if sequence == 0:
            leaves[f"{path}/config/priority"] = "STRICT"
        leaves[f"{path}/output/config/output-type"] = "INTERFACE"
        for i, name in enumerate(members):
            # Of strict inputs the weight is the priority, higher first.
            case.add_input(leaves, path, name, len(members) - i if sequence == 0 else row.weights[name])
    for family in (4, 6):
        for name in names:
            case.term(leaves, "dscp", family, f"{name}-term", name, dscp_set=(DSCP[name],))
    case.attach(leaves, "s1", output="port")
    for interface in ("a1", "b1"):
        case.attach(leaves, interface, classifier="dscp")
    return leaves


def count_arrivals(street: Street) -> None:
    """Count what arrives at the server by DSCP and phase of the sender, IPv4 and IPv6 apart, and drop it."""
    rules = "".join(
        f"add rule inet seen arrive {header} dscp {value} udp dport {phase}000-{phase}999 counter drop\n"
        for value in DSCP.values()
        for header in ("ip", "ip6")
        for phase in PHASES
    )
    chain = "add chain inet seen arrive { type filter hook prerouting priority -300; }\n"
    street.pipe("s", f"add table inet seen\n{chain}{rules}", "nft", "-f", "-")


def arrivals(street: Street, phases: Sequence[int] = PHASES) -> dict[tuple[str, int], int]:
    """Return the packets that came: (class, family) -> packets."""
    text = street.run("s", "nft", "--numeric", "list", "table", "inet", "seen")
    names = {value: name for name, value in DSCP.items()}
    found: dict[tuple[str, int], int] = {}
    rule = r"ip(6?) dscp 0x([0-9a-f]+) udp dport (\d)000-\d+ counter packets (\d+)"
    for six, value, phase, count in re.findall(rule, text):
        if int(phase) in phases:
            own = names[int(value, 16)], 6 if six else 4
            found[own] = found.get(own, 0) + int(count)
    return found


class Flowed(NamedTuple):
    """What came of a class: percent of the line sent, and percent of what was sent, and each port sent, that arrived."""

    sent: float
    arrived: float
    each: tuple[float, float]


def due(row: Row, sent: Mapping[str, float]) -> dict[str, float]:
    """Return what each class gets, percent of what was sent: strict ones first, then by weight as far as they ask."""
    left = 100.0
    got: dict[str, float] = {}
    for name in row.strict:
        got[name] = min(left, sent.get(name, 0.0))
        left -= got[name]
    asking = {name: sent[name] for name in row.weights if sent.get(name)}
    while asking:
        weights = sum(row.weights[name] for name in asking)
        content = {name for name, own in asking.items() if own <= left * row.weights[name] / weights}
        if not content:
            got.update({name: left * row.weights[name] / weights for name in asking})
            break
        for name in content:
            got[name] = asking.pop(name)
            left -= got[name]
    return {name: 100 * got[name] / own for name, own in sent.items() if own}


def measure(street: Street, offered: Offered, seconds: float, frame: int) -> dict[str, Flowed]:
    """Send, and return what came of each class."""
    senders = []
    for place, (where, family, address) in enumerate((("a", 4, "10.9.0.2"), ("b", 6, "2001:db8:9::2"))):
        flows = [
            f"{family},{address},{5000 + DSCP[name]},{DSCP[name]},{LINE_BPS * shares[place] / 100},{frame}"
            for name, shares in offered.items()
        ]
        senders.append(street.start(where, sys.executable, str(case.TRAFFIC), str(seconds), *flows))
    before = arrivals(street, _BETWEEN)
    for sender in senders:
        print(file=sender.stdin, flush=True)
    sent: dict[tuple[str, int], int] = {}
    for sender, family in zip(senders, (4, 6), strict=True):
        assert sender.stdout is not None
        first, second = (list(map(int, sender.stdout.readline().split())) for _ in range(2))
        sent.update({(name, family): b - a for name, a, b in zip(offered, first, second, strict=True)})
    for sender in senders:
        _, errors = sender.communicate(timeout=60)
        assert sender.returncode == 0, errors
    after = street.settled(lambda: arrivals(street, _BETWEEN))
    arrived = {own: after[own] - before[own] for own in sent}
    line = LINE_BPS * seconds / (8 * frame)
    return {
        name: Flowed(
            100 * sum(sent[name, family] for family in (4, 6)) / line,
            _percent(sum(arrived[name, family] for family in (4, 6)), sum(sent[name, family] for family in (4, 6))),
            (_percent(arrived[name, 4], sent[name, 4]), _percent(arrived[name, 6], sent[name, 6])),
        )
        for name in offered
    }


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def run(street: Street, rows: Sequence[Row], seconds: float) -> list[Result]:
    """Run rows one after the other on one gateway."""
    results: list[Result] = []

    async def story() -> None:
        before: Tree = {}
        with closing(KernelQos()) as kernel:
            for place, row in enumerate(rows):
                after = configuration(row)
                await kernel.realise(before, after, before.keys() | after.keys())
                before = after
                found = await asyncio.to_thread(measure, street, row.offered, seconds, FRAME)
                owed = due(row, {name: own.sent for name, own in found.items()})
                results.extend(
                    Result(
                        *(place, row.test, name, row.offered[name], own.sent, row.received[name], owed.get(name, 0.0)),
                        *(own.arrived, own.each),
                    )
                    for name, own in found.items()
                )

    count_arrivals(street)
    with street.inside():
        asyncio.run(story())
    return results


def table(results: Sequence[Result]) -> str:
    """Return the results as a table in Markdown."""
    lines = [
        "| test | offered by both ports, % of the line | received, % as published | due of what was sent | here |",
        "|---|---|---|---|---|",
    ]
    for _, group in groupby(results, key=lambda one: one.row):
        row = list(group)
        offered = ", ".join(f"{one.name} {' + '.join(f'{share:g}' for share in one.offered)}" for one in row)
        published = ", ".join(f"{one.published:g}" for one in row)
        due = ", ".join(f"{one.due:.1f}" for one in row)
        here = ", ".join(f"{one.found:.1f}" if one.is_good else f"**{one.found:.1f}**" for one in row)
        lines.append(f"| {row[0].test} | {offered} | {published} | {due} | {here} |")
    return "\n".join(lines)


def main() -> None:
    """Run all rows and print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each row")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    with Street() as street:
        results = run(street, [row for row in ROWS if options.only in row.test], options.seconds)
    print(table(results))
    off = sum(not one.is_good for one in results)
    differ = sum(not one.is_published for one in results)
    print(
        f"\n{len(results)} figures: {off} more than {TOLERANCE:g} points off what is due, "
        f"{differ} more than that off what is published"
    )


if __name__ == "__main__":
    main()
