"""The realiser that keeps in memory what it was given."""

from __future__ import annotations

import asyncio

import pytest

from telemetryd.agent.realise import NoKernel, Realiser, Value

pytestmark = pytest.mark.no_twins


def test_it_has_what_it_was_given() -> None:
    """Changes are taken over leaf by leaf; with nothing changed everything is."""

    async def story() -> None:
        realiser: Realiser = NoKernel()
        first: dict[str, Value] = {"/qos/a": 1, "/qos/b": "x"}
        await realiser.realise({}, first, first.keys())
        second: dict[str, Value] = {"/qos/a": 2, "/qos/c": (1, 2)}
        await realiser.realise(first, second, ["/qos/a", "/qos/b", "/qos/c"])
        assert await realiser.read() == second
        await realiser.realise(first, first, ())
        assert await realiser.read() == first
        assert await realiser.counters() == {}

    asyncio.run(story())
