"""Who is subscribed to changes gets the same whether all of a tree is looked at, or what may have changed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

import pytest

from telemetryd.agent.stream import Part, Trigger
from telemetryd.agent.tree import Selection, Snapshot
from telemetryd.ingest.gnmi.path import parse
from tests.agent_setting import Target, qos, target

pytestmark = pytest.mark.no_twins

QUEUE = "/qos/queues/queue"


async def reading(one: Target) -> Snapshot:
    return await one.source.read(asyncio.get_running_loop().time())


@pytest.mark.parametrize("path", ["/", "/qos", QUEUE, f"{QUEUE}[name=q1]/state", "/interfaces"])
def test_the_same_is_sent(path: str) -> None:
    """Random changes, several between two looks, entries that go and come: both parts send the same."""

    async def story() -> None:
        rng = Random(3)
        async with asyncio.timeout(60), target() as one:
            await one.set(replace={"/": qos()})
            looking, told = (Part(Selection(parse(path)), Trigger()) for _ in range(2))
            first = await reading(one)
            whole = looking.begin(replace(first, changed_since=lambda number: None), 0.0)
            assert told.begin(first, 0.0) == whole
            sent = 0
            for _ in range(60):
                for _ in range(rng.randint(0, 3)):
                    name = f"{QUEUE}[name=q{rng.randrange(3)}]"
                    if rng.random() < 0.3:
                        await one.set(name)
                    else:
                        await one.set(update={f"{name}/config/queue-id": rng.randrange(3)})
                    if rng.random() < 0.5:
                        await reading(one)  # somebody else looks
                now = await reading(one)
                updates, gone = looking.take(replace(now, changed_since=lambda number: None), 0.0)
                both = told.take(now, 0.0)
                assert {branch.elems: list(some) for branch, some in both.updates} == {
                    branch.elems: list(some) for branch, some in updates
                }
                assert set(both.gone) == set(gone)
                sent += len(updates) + len(gone)
            assert sent > 10

    asyncio.run(story())


def test_what_is_too_long_ago() -> None:
    """It is said that nobody knows any more; what has changed since then comes all the same."""

    async def story() -> None:
        async with asyncio.timeout(60), target() as one:
            part = Part(Selection(parse(QUEUE)), Trigger())
            first = await reading(one)
            part.begin(first, 0.0)
            await one.set(update={f"{QUEUE}[name=q]/config/queue-id": 1})
            part.take(await reading(one), 0.0)
            await one.set(update={f"{QUEUE}[name=q]/config/queue-id": 2})
            for _ in range(100):
                last = await reading(one)
            assert last.changed_since(first.number) is None
            assert last.changed_since(last.number) == frozenset()
            assert len(part.take(last, 0.0).updates) == 1

    asyncio.run(story())
