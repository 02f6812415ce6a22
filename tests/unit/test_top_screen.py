"""The screen of `telemetryd top`, driven by textual's pilot against a control service on a real socket."""

from __future__ import annotations

import asyncio
import builtins
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from telemetryd.cli import top
from telemetryd.cli.top_screen import TopScreen
from telemetryd.errors import InputError
from telemetryd.serve.control_client import ControlClient
from tests.control_backend import DEADLINE_S, Backend, serving, update, usage

pytestmark = pytest.mark.no_twins

Play = Callable[[TopScreen, Pilot[None], Backend], Coroutine[Any, Any, None]]


def names(screen: TopScreen) -> list[str]:
    """Return the first column as it is drawn."""
    table: DataTable[Any] = screen.query_one(DataTable)
    return [str(table.get_row_at(row)[0]) for row in range(table.row_count)]


def cells(screen: TopScreen, row: int) -> list[str]:
    """Return a row as it is drawn."""
    table: DataTable[Any] = screen.query_one(DataTable)
    return [str(cell) for cell in table.get_row_at(row)]


def head(screen: TopScreen) -> str:
    """Return the heading as it is drawn."""
    return str(screen.query_one("#heading", Static).render())


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Wait until something holds, however slow the machine."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await pilot.pause()


def play(scene: Play, first: Any = None) -> None:
    """Show the screen of a backend that has given one update, and play a scene on it."""

    async def run() -> None:
        backend = Backend()
        backend.updates.publish(first or update())
        async with asyncio.timeout(3 * DEADLINE_S), serving(backend) as path:
            screen = TopScreen(lambda: ControlClient(path))
            async with screen.run_test(size=(110, 30)) as pilot:
                await until(pilot, lambda: screen.latest is not None)
                await scene(screen, pilot, backend)

    asyncio.run(run())


def test_tables_and_heading() -> None:
    """Rule: each table shows its rows with rate, interval, share and samples; the heading total, loss, unclassified."""

    async def scene(screen: TopScreen, pilot: Pilot[None], backend: Backend) -> None:
        assert names(screen) == ["filing", "unclassified"]
        for words in ("5.00 Gbit/s ± 10 %", "unclassified 4.0 %", "Loss: 25.00 % (shed 25)", "ok"):
            assert words in head(screen)
        await pilot.press("d")
        await until(pilot, lambda: names(screen) == ["tax", "finance"])
        assert cells(screen, 0) == ["tax", "Taxation", "3.00 Gbit/s", "± 10 %", "60.0 %", "3,000"]
        await pilot.press("l")
        await until(pilot, lambda: names(screen) == ["exit-1", "uplink"])
        assert cells(screen, 0) == ["exit-1", "in", "4.00 Gbit/s", "± 10 %", "40.0 %", "4,000"]
        assert cells(screen, 1) == ["uplink", "out", "1.00 Gbit/s", "± 10 %", "", "1,000"]
        await pilot.press("tab")
        await until(pilot, lambda: names(screen) == ["tax", "finance"])

    play(scene)


def test_sort_keys() -> None:
    """Rule: r, n, s and u sort by rate, name, samples and share; i turns the order round."""
    rows = [
        usage("b", 3.0, samples=1, share=0.2),
        usage("a", 2.0, samples=9, share=0.1),
        usage("c", 1.0, samples=5, share=0.3),
    ]

    async def scene(screen: TopScreen, pilot: Pilot[None], backend: Backend) -> None:
        for key, expected in (("s", "acb"), ("u", "cba"), ("n", "abc"), ("i", "cba"), ("r", "bac"), ("i", "cab")):
            await pilot.press(key)
            await until(pilot, lambda expected=expected: names(screen) == list(expected))

    play(scene, update(applications=rows))


def test_pause_holds_the_figures() -> None:
    """Rule: a paused screen says so and keeps its figures; it goes on with the newest."""

    async def scene(screen: TopScreen, pilot: Pilot[None], backend: Backend) -> None:
        await pilot.press("p")
        assert "PAUSED" in head(screen)
        seen: list[str] = []
        taken = screen.take
        screen.take = lambda new: (taken(new), seen.append(new["applications"][0]["name"]))  # type: ignore[method-assign, assignment]
        backend.updates.publish(update(1, applications=[usage("later", 1e9)]))
        await until(pilot, lambda: seen == ["later"])
        assert names(screen) == ["filing", "unclassified"]
        await pilot.press("p")
        backend.updates.publish(update(2, applications=[usage("newest", 1e9)]))
        await until(pilot, lambda: names(screen) == ["newest"])
        assert "PAUSED" not in head(screen)

    play(scene)


def test_filter_by_name_or_title() -> None:
    """Rule: / filters by a part of name or title in any case while it is typed, keys are letters there; Escape clears."""

    async def scene(screen: TopScreen, pilot: Pilot[None], backend: Backend) -> None:
        await pilot.press("d", "slash", *"TAXAT")
        await until(pilot, lambda: names(screen) == ["tax"])
        await pilot.press("enter")
        await pilot.press("n")
        assert names(screen) == ["tax"]
        await pilot.press("escape")
        await until(pilot, lambda: len(names(screen)) == 2)

    play(scene)


def test_quit() -> None:
    """Rule: q ends the screen."""

    async def scene(screen: TopScreen, pilot: Pilot[None], backend: Backend) -> None:
        await pilot.press("q")
        await until(pilot, lambda: not screen.is_running)

    play(scene)


def test_cursor_stays_on_its_row() -> None:
    """Rule: an update doesn't move the cursor away from where the user put it."""

    async def scene(screen: TopScreen, pilot: Pilot[None], backend: Backend) -> None:
        await pilot.press("down")
        table: DataTable[Any] = screen.query_one(DataTable)
        await until(pilot, lambda: table.cursor_row == 1)
        backend.updates.publish(update(1, applications=[usage("x", 2e9), usage("y", 1e9)]))
        await until(pilot, lambda: names(screen) == ["x", "y"])
        assert table.cursor_row == 1

    play(scene)


def test_names_are_no_markup() -> None:
    """Rule: brackets in a name are shown as they are."""

    async def scene(screen: TopScreen, pilot: Pilot[None], backend: Backend) -> None:
        assert names(screen) == ["[red]x[/red]"]
        assert "[b]full" in head(screen)

    play(scene, update(applications=[usage("[red]x[/red]", 1e9)], reasons=["[b]full"]))


def test_daemon_goes_away_and_comes_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rule: when the daemon stops, the screen says so, keeps its figures, and goes on when it is back."""
    monkeypatch.setattr("telemetryd.cli.top_screen.RETRY_S", 0.05)

    async def run() -> None:
        path = tmp_path / "c"
        async with asyncio.timeout(3 * DEADLINE_S):
            screen = TopScreen(lambda: ControlClient(path))
            async with screen.run_test(size=(110, 30)) as pilot:
                await until(pilot, lambda: "no daemon listens" in head(screen))
                for name in ("before", "after"):
                    backend = Backend()
                    backend.updates.publish(update(applications=[usage(name, 1e9)]))
                    async with serving(backend, path):
                        await until(pilot, lambda name=name: names(screen) == [name])
                        assert screen.trouble == ""
                    await until(pilot, lambda: screen.trouble != "")
                    assert names(screen) == [name]

    asyncio.run(run())


def test_update_at_the_end_is_dropped() -> None:
    """Rule: an update, or the loss of the daemon, that comes while the screen is taken down is no error."""
    screens: list[TopScreen] = []

    async def scene(screen: TopScreen, pilot: Pilot[None], backend: Backend) -> None:
        screens.append(screen)
        for child in list(screen.screen.children):
            await child.remove()
        screen.take(update(1))

    play(scene)
    screens[0].take(update(2))


def test_textual_is_optional(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Rule: without textual the message names the extra that brings it."""
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.split(".")[0] == "textual":
            raise ModuleNotFoundError("No module named 'textual'", name="textual")
        return real(name, *rest, **named)

    monkeypatch.delitem(sys.modules, "telemetryd.cli.top_screen")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"telemetryd\[top\]"):
        top.watch(tmp_path / "none")
