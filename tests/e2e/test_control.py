"""`telemetryd status`, `reload` and `top` against a real daemon under real datagrams."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from telemetryd._ext import is_disabled
from telemetryd.cli.top_screen import TopScreen
from telemetryd.ingest.generate.plan import write_registry
from telemetryd.ingest.generate.profiles import known_truth
from telemetryd.serve.control_client import ControlClient
from telemetryd.serve.messages import Update
from tests.daemon_process import DEADLINE_S, DaemonProcess, send

if is_disabled():
    pytest.skip("the twins are held to the compiled stages elsewhere", allow_module_level=True)

SIZES = {"departments": 12, "applications": 40, "cores": 4}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A daemon that knows the generator's network."""
    registry = tmp_path / "registry"
    registry.mkdir()
    write_registry(registry, **SIZES)
    with DaemonProcess(tmp_path, registry) as running:
        yield running


def verb(daemon: DaemonProcess, *arguments: str) -> tuple[int, str, str]:
    """Run a verb against the daemon; return its exit code, stdout and stderr."""
    command = [sys.executable, "-m", "telemetryd", arguments[0], "--socket", str(daemon.control), *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    return done.returncode, done.stdout, done.stderr


def document(daemon: DaemonProcess, *arguments: str) -> dict[str, Any]:
    """Run a verb with --json and return what it printed."""
    code, out, err = verb(daemon, *arguments, "--json")
    assert code == 0, err
    made: dict[str, Any] = json.loads(out)
    return made


def send_traffic(daemon: DaemonProcess) -> tuple[int, int]:
    """Send two seconds of traffic in which every packet is a sample; return (datagrams, packets of the totals)."""
    blocks = list(known_truth(1, 1, 2, packets_per_s=2000, **SIZES))
    sent = send(
        daemon.sflow,
        (
            block.buffer[offset : offset + length].tobytes()
            for block in blocks
            for offset, length in zip(block.offsets.tolist(), block.lengths.tolist(), strict=True)
        ),
    )
    return sent, sum(packets for block in blocks for packets, _ in block.truth.totals.totals().values())


def test_status_counts_what_was_sent(daemon: DaemonProcess) -> None:
    """Every datagram that was sent is in the status, none lost; the parts are all ok."""
    sent, _ = send_traffic(daemon)
    status: dict[str, Any] = {}

    def has_all() -> bool:
        status.update(document(daemon, "status"))
        return sum(one["counts"]["processed"] for one in status["sockets"]) == sent

    daemon.until(has_all)
    assert status["pid"] == daemon.process.pid
    assert status["state"] == "ok"
    assert {"receive", "store", "control"} <= {one["name"] for one in status["components"]}
    assert status["loss"]["share"] == 0.0
    assert sum(one["counts"]["processed"] for one in status["agents"]) == sent
    code, out, err = verb(daemon, "status")
    assert (code, err) == (0, "")
    assert f"processed {sent:,}" in out


def test_reload_takes_the_good_and_refuses_the_bad(daemon: DaemonProcess) -> None:
    """A reload says what is different; one with a mistake exits 2 with its place, and the daemon goes on."""
    code, out, err = verb(daemon, "reload")
    assert (code, out, err) == (0, "Reloaded: nothing has changed.\n", "")
    daemon.settings["log"] = {"format": "json", "level": "debug"}
    daemon.settings["http"] = {"port": 1}
    daemon.write_config()
    code, out, err = verb(daemon, "reload")
    assert (code, err) == (0, "")
    assert "log.level" in out
    assert "only a restart brings this into effect: http.port" in out
    daemon.config.write_text("version: 1\nregistry: absent\n")
    code, _, err = verb(daemon, "reload")
    assert code == 2
    assert f"{daemon.config}:2:" in err
    status = document(daemon, "status")
    assert (status["state"], status["reloads"]) == ("degraded", 2)


def test_top_shows_the_traffic(daemon: DaemonProcess) -> None:
    """The updates show the packets that were sent, exactly at 1:1; --once is a table of them."""

    async def watch() -> tuple[int, Update]:
        async with (
            asyncio.timeout(DEADLINE_S),
            ControlClient(daemon.control) as client,
            aclosing(client.updates()) as updates,
        ):
            await anext(updates)
            _, packets = await asyncio.to_thread(send_traffic, daemon)
            async for update in updates:
                if update["total"]["samples"] == packets:
                    return packets, update
        raise AssertionError("updates have no end")

    packets, update = asyncio.run(watch())
    total = update["total"]
    for rows in (update["departments"], update["applications"]):
        assert sum(row["samples"] for row in rows) == packets
        assert sum(row["rate_bps"] for row in rows) == pytest.approx(total["rate_bps"])
    assert update["links"]
    assert total["low_bps"] == total["high_bps"] == total["rate_bps"] > 0
    assert set(document(daemon, "top")) == set(update)
    code, out, err = verb(daemon, "top", "--once")
    assert (code, err) == (0, "")
    assert "Links" in out
    assert "Loss: 0.00 %" in out


def test_screen_follows_the_daemon(daemon: DaemonProcess) -> None:
    """The screen shows the daemon's departments while traffic comes."""
    send_traffic(daemon)

    async def follow() -> None:
        screen = TopScreen(lambda: ControlClient(daemon.control))
        async with asyncio.timeout(DEADLINE_S), screen.run_test(size=(110, 30)) as pilot:
            await pilot.press("d")
            while not screen.rows():
                await pilot.pause()
            await pilot.press("q")

    asyncio.run(follow())
