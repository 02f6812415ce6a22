"""A relay in front of a server that passes, cuts, hangs and answers 503 by turns, in a thread of its own."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from typing import Final, Literal, Self

Mode = Literal["pass", "cut", "hang", "busy"]
BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Flapping:
    """Relay connections to a port of 127.0.0.1; a context manager.

    Parameters
    ----------
    to:
        Port of the server.
    seed:
        Of what happens when.
    """

    def __init__(self, to: int, seed: int) -> None:
        self.port = 0
        self.turns: Counter[str] = Counter()
        self._to = to
        self._random = random.Random(seed)
        self._mode: Mode = "pass"
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._calm = asyncio.Event()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._serving.wait(30)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(30)
        self._loop.close()

    def settle(self) -> None:
        """Only pass from now on."""
        self._loop.call_soon_threadsafe(self._calm.set)

    async def _run(self) -> None:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._serving.set()
        async with server:
            flapping = asyncio.create_task(self._flap())
            await self._end.wait()
            flapping.cancel()
            self._abort()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _flap(self) -> None:
        modes: tuple[Mode, ...] = ("pass", "cut", "pass", "hang", "pass", "busy")
        while not self._calm.is_set():
            self._mode = self._random.choice(modes)
            self.turns[self._mode] += 1
            if self._mode == "cut":
                self._abort()
            try:
                async with asyncio.timeout(self._random.uniform(0.2, 1.5)):
                    await self._calm.wait()
            except TimeoutError:
                pass
        self._mode = "pass"
        self._abort()

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if self._mode == "cut":
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._to)
            self._writers.add(back)
            await asyncio.gather(self._copy(reader, back, writer), self._copy(there, writer, None))
        except OSError:
            writer.transport.abort()

    async def _copy(
        self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, client: asyncio.StreamWriter | None
    ) -> None:
        """Copy one direction; requests (those with a client) may be answered here, or by nobody."""
        while data := await reader.read(1 << 14):
            if self._mode == "hang":
                continue
            if self._mode == "busy" and client is not None:
                client.write(BUSY)
                client.close()
                to.transport.abort()
                return
            to.write(data)
            await to.drain()
        to.close()
