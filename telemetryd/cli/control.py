"""What `status`, `reload` and `top` share: the socket's option, and the run of one conversation with the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

if TYPE_CHECKING:
    from telemetryd.serve.control_client import ControlClient

DEFAULT_SOCKET: Final = Path("/run/telemetryd/control.sock")
SocketPath = Annotated[
    Path, typer.Option("--socket", "-s", envvar="TELEMETRYD_CONTROL", help="The daemon's control socket.")
]
Result = TypeVar("Result")


def talk(path: Path, conversation: Callable[[ControlClient], Awaitable[Result]]) -> Result:
    """Connect to the daemon, have one conversation, disconnect, and return what it came to."""
    from telemetryd.serve.control_client import ControlClient

    async def connected() -> Result:
        async with ControlClient(path) as client:
            return await conversation(client)

    return asyncio.run(connected())


def time_text(moment_ns: int) -> str:
    """Write a time as ISO 8601 to the second, in UTC."""
    return f"{datetime.fromtimestamp(moment_ns // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def duration_text(span_ns: int) -> str:
    """Write a duration with its two largest units, such as ``3 d 4 h``."""
    seconds = max(0, span_ns) // 1_000_000_000
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, seconds = divmod(seconds, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
