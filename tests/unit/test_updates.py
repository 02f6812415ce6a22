"""From windows to updates: sliding spans, names across reloads, intervals, and the broadcast of the newest."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from telemetryd.registry.models import Contract
from telemetryd.schema import USAGE_COLUMNS, Direction, LinkDirection, Names, Table, UsageWindow
from telemetryd.serve.messages import Loss
from telemetryd.serve.updates import Broadcast, UsageUpdates
from tests.feed import NAMES, SECOND, START
from tests.small_city import small_city

NOTHING: Loss = {"share": 0.0, "datagrams": {}, "samples": {}}


def window(second: int, rows: list[dict[str, Any]], names: Names = NAMES) -> UsageWindow:
    """Make a window of rows that are exact unless they say otherwise; absent columns are 0."""
    columns = {
        column.name: np.array([row.get(column.name, 0) for row in rows], column.dtype) for column in USAGE_COLUMNS
    }
    return UsageWindow((START + second) * SECOND, SECOND, columns, names)


def total(octets: float, **more: int) -> dict[str, Any]:
    return {"table": Table.TOTALS, "direction": Direction.INBOUND, "samples": 1, "octets": octets, **more}


def link(octets: float, **more: int) -> dict[str, Any]:
    return {"table": Table.LINK_USAGE, "direction": LinkDirection.OUT, "samples": 1, "octets": octets, **more}


@pytest.fixture
def updates() -> UsageUpdates:
    return UsageUpdates(small_city(), span_s=4)


def rates(rows: list[Any]) -> dict[str, float]:
    return {row["name"]: row["rate_bps"] for row in rows}


def test_rates_are_over_the_span(updates: UsageUpdates) -> None:
    """Rule: a rate is the octets of the last windows over their seconds, over fewer seconds after the start."""
    updates.add(window(0, [total(1000, department=1, application=1)]))
    first = updates.update("ok", [], NOTHING)
    assert first["span_ns"] == SECOND
    assert rates(first["departments"]) == {"finance": 8000.0}
    for second in range(1, 6):
        updates.add(window(second, [total(200, department=2, application=2)]))
    later = updates.update("ok", [], NOTHING)
    assert (later["start_ns"], later["span_ns"]) == ((START + 2) * SECOND, 4 * SECOND)
    assert rates(later["departments"]) == {"tax": 1600.0}
    assert later["total"]["rate_bps"] == 1600.0


def test_silence_lowers_the_rate(updates: UsageUpdates) -> None:
    """Rule: seconds without a window count as seconds without traffic, until nothing is left."""
    updates.add(window(0, [total(1000, department=1)]))
    assert updates.update("ok", [], NOTHING, (START + 2) * SECOND)["total"]["rate_bps"] == 4000.0
    silent = updates.update("ok", [], NOTHING, (START + 60) * SECOND)
    assert silent["departments"] == []
    assert silent["total"]["rate_bps"] == 0.0


def test_names_outlive_codes(updates: UsageUpdates) -> None:
    """Rule: windows before and after a reload are added up by name, though the codes have changed."""
    swapped = replace(NAMES, departments=("unknown", "tax", "finance", "health"))
    updates.add(window(0, [total(1000, department=1)]))
    updates.add(window(1, [total(3000, department=2)], swapped))
    assert rates(updates.update("ok", [], NOTHING)["departments"]) == {"finance": 16_000.0}


def test_both_tables_and_shares(updates: UsageUpdates) -> None:
    """Rule: links come from link_usage by direction, all else from totals; shares are of the total."""
    updates.add(
        window(
            0,
            [
                total(3000, department=1, application=1),
                total(1000, department=1, application=0),
                link(9000, link=1, department=1),
                link(500, link=1, direction=LinkDirection.IN),
            ],
        )
    )
    made = updates.update("degraded", ["store: full"], NOTHING)
    assert made["total"]["rate_bps"] == 32_000.0
    assert [(row["name"], row["direction"], row["rate_bps"]) for row in made["links"]] == [
        ("exit", "out", 72_000.0),
        ("exit", "in", 4_000.0),
    ]
    assert {row["name"]: row["share"] for row in made["applications"]} == {"portal": 0.75, "unclassified": 0.25}
    assert made["unclassified"]["share"] == 0.25
    assert (made["state"], made["reasons"]) == ("degraded", ["store: full"])


def test_capacity_and_utilisation() -> None:
    """Rule: a link of the registry shows its capacity in its direction, and its share is of that."""
    registry = small_city()
    known = registry.links[0].model_copy(
        update={"contract": Contract.model_validate({"in": "1 Gbit/s", "out": "800 Mbit/s"})}
    )
    registry = replace(registry, links=(known, *registry.links[1:]))
    capacity = 800_000_000
    updates = UsageUpdates(registry)
    names = replace(NAMES, links=("-", known.name))
    updates.add(window(0, [link(capacity / 16, link=1)], names))
    updates.add(window(0, [link(1000, link=1)], replace(NAMES, links=("-", registry.links[1].name))))
    first, second = updates.update("ok", [], NOTHING)["links"]
    assert (first["capacity_bps"], first["share"]) == (capacity, 0.5)
    assert (second["capacity_bps"], second["share"]) == (None, 0.0)


def test_interval_is_of_the_sums(updates: UsageUpdates) -> None:
    """Rule: the limits come from the kept sums: exact at 1:1, around the estimate when sampled."""
    sampled = {"octets_variance": 1e6, "octets_largest": 500.0}
    updates.add(window(0, [total(10_000, department=1), total(10_000, department=2) | sampled]))
    exact, estimated = sorted(updates.update("ok", [], NOTHING)["departments"], key=lambda row: row["name"])
    assert exact["low_bps"] == exact["rate_bps"] == exact["high_bps"]
    assert estimated["low_bps"] < estimated["rate_bps"] < estimated["high_bps"]


def test_broadcast_gives_the_newest_and_ends() -> None:
    """Rule: a reader gets the newest item at once and later ones as they come; close() ends it."""

    async def scene() -> list[int]:
        broadcast: Broadcast[int] = Broadcast()
        broadcast.publish(1)
        broadcast.publish(2)
        got = []
        async for item in broadcast.subscribe():
            got.append(item)
            if item == 2:
                asyncio.get_running_loop().call_soon(broadcast.publish, 3)
            else:
                asyncio.get_running_loop().call_soon(broadcast.close)
        return got

    assert asyncio.run(scene()) == [2, 3]
