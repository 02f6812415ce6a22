"""Messages of 100 MB: refused where they are not allowed, taken whole where they are; memory is bounded either way."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import pytest

from tests.gnmi_messages import notification, sync, update
from tests.gnmi_server import GrpcioTarget

pytestmark = pytest.mark.no_twins

LEAF_OCTETS = 64 << 10
LEAVES = 1600
MIB = 1 << 20
TIMEOUT_S = 100


@cache
def large() -> bytes:
    """Return a message of 105 MB: 1,600 texts, each as long as a value may be."""
    return notification(
        *(update(f"/a/b[k={number}]", string_val=f"{number:04}" * (LEAF_OCTETS // 4)) for number in range(LEAVES))
    )


async def ask(transport: str, message_octets: int, wanted: str) -> dict[str, Any]:
    """Let a subscriber in another process meet a target that sends one, beside one that is well."""
    asked = asyncio.Event()

    async def counts(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await anext(incoming)
        yield sync()
        number = 0
        while True:
            number += 1
            yield notification(update("/a/n", uint_val=number), timestamp=time.time_ns())
            await asyncio.sleep(0.05)

    async def sends_large(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await anext(incoming)
        yield sync()
        yield notification(update("/a/n", uint_val=0), timestamp=time.time_ns())
        await asked.wait()
        yield large()
        yield notification(update("/a/n", uint_val=1), timestamp=time.time_ns())
        await asyncio.Event().wait()

    assert len(large()) > 100_000_000
    async with GrpcioTarget(sends_large) as mad, GrpcioTarget(counts) as well:
        arguments = (transport, message_octets, mad.port, well.port)
        command = [sys.executable, "-m", "tests.gnmi_memory", *map(str, arguments)]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert process.stdin is not None and process.stdout is not None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                assert await process.stdout.readline() == b"streaming\n"
                asked.set()
                process.stdin.write(f"{wanted}\n".encode())
                answer = await process.stdout.readline()
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    found: dict[str, Any] = json.loads(answer)
    return found


@pytest.mark.parametrize("transport", ["fast", "grpc"])
def test_a_message_of_100_mb_is_refused_without_reading_it(transport: str) -> None:
    """It is named, costs next to no memory, and is tried again; the other target keeps its stream."""
    found = asyncio.run(ask(transport, 16 * MIB, "RESOURCE_EXHAUSTED"))
    assert found["grown_mib"] < 32
    assert found["connections"]["well"] == 1
    assert found["connections"]["mad"] >= 1


@pytest.mark.parametrize(("transport", "most_mib", "kept_mib"), [("fast", 220, 32), ("grpc", 400, 128)])
def test_a_message_of_100_mb_is_taken_where_it_may_be(transport: str, most_mib: int, kept_mib: int) -> None:
    """Every leaf of it comes, in twice its memory (grpcio: four times), which is given back; nobody is left for it."""
    found = asyncio.run(ask(transport, 128 * MIB, str(LEAVES + 2)))
    assert found["rows"]["mad"] >= LEAVES + 2
    assert found["connections"] == {"mad": 1, "well": 1}
    assert found["grown_mib"] < most_mib
    assert found["kept_mib"] < kept_mib
