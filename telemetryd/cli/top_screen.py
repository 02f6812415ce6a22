"""The screen of `telemetryd top` (textual): one table at a time, its order and filter in the user's hands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, ClassVar, Final, Literal

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Input, Static, Tab, Tabs

from telemetryd.cli import output
from telemetryd.cli.top import View, columns, heading
from telemetryd.errors import TelemetrydError
from telemetryd.serve.control_client import ControlClient
from telemetryd.serve.messages import Update, Usage

Order = Literal["rate_bps", "name", "samples", "share"]

VIEWS: Final[tuple[View, ...]] = ("links", "departments", "applications")
BUSY: Final = 0.8
FULL: Final = 0.95
RETRY_S: Final = 2.0


class TopScreen(App[None]):
    """Follow the daemon; when it goes away, say so and connect again when it is back.

    Parameters
    ----------
    connect:
        Makes a connection to the daemon, each time anew.
    """

    CSS = """
    #heading { height: auto; padding: 0 1; }
    #heading.degraded { color: $warning; }
    #heading.failed, #heading.away { color: $error; }
    DataTable { height: 1fr; }
    #filter { display: none; }
    #filter.shown { display: block; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "view('links')", "links"),
        Binding("d", "view('departments')", "departments"),
        Binding("a", "view('applications')", "applications"),
        Binding("tab", "next_view", "next", show=False, priority=True),
        Binding("r", "order('rate_bps')", "by rate"),
        Binding("n", "order('name')", "name"),
        Binding("s", "order('samples')", "samples"),
        Binding("u", "order('share')", "share"),
        Binding("i", "invert", "invert"),
        Binding("p", "pause", "pause"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("escape", "clear_filter", "clear", show=False, priority=True),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[ControlClient]]) -> None:
        super().__init__()
        self._connect = connect
        self.view: View = "applications"
        self.order: Order = "rate_bps"
        self.inverted = False
        self.paused = False
        self.words = ""
        self.latest: Update | None = None
        self.trouble = "connecting ..."

    def compose(self) -> ComposeResult:
        """Lay out heading, tabs, table, filter and keys."""
        self._heading = Static(id="heading", markup=False)
        self._table: DataTable[Text] = DataTable(cursor_type="row", zebra_stripes=True)
        yield self._heading
        yield Tabs(*(Tab(view, id=view) for view in VIEWS), active=self.view)
        yield self._table
        yield Input(placeholder="part of a name or title", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        """Start to follow the daemon."""
        self.query_one(Tabs).can_focus = False
        self._table.focus()
        self.refresh_all()
        self.run_worker(self._follow(), name="follow", exclusive=True)

    async def _follow(self) -> None:
        while True:
            try:
                async with self._connect() as client, aclosing(client.updates()) as updates:
                    async for update in updates:
                        self.take(update)
            except TelemetrydError as error:
                self.trouble = str(error)
                self.refresh_all()
            await asyncio.sleep(RETRY_S)

    def take(self, update: Update) -> None:
        """Take an update in, unless the screen is paused."""
        self.trouble = ""
        if not self.paused:
            self.latest = update
        self.refresh_all()

    # --- keys ---------------------------------------------------------------------------------------

    def action_view(self, view: View) -> None:
        """Show another table."""
        self.query_one(Tabs).active = view

    def action_next_view(self) -> None:
        """Show the next table."""
        self.action_view(VIEWS[(VIEWS.index(self.view) + 1) % len(VIEWS)])

    def on_tabs_tab_activated(self, event: Tabs.TabActivated) -> None:
        """Follow the tabs, whether a key or the mouse moved them."""
        self.view = next(view for view in VIEWS if view == event.tab.id)
        self.refresh_all()

    def action_order(self, order: Order) -> None:
        """Sort by a column."""
        self.order, self.inverted = order, False
        self.refresh_all()

    def action_invert(self) -> None:
        """Turn the order round."""
        self.inverted = not self.inverted
        self.refresh_all()

    def action_pause(self) -> None:
        """Hold the figures still, or let them go on."""
        self.paused = not self.paused
        self.refresh_all()

    def action_filter(self) -> None:
        """Ask for a part of a name."""
        field = self.query_one("#filter", Input)
        field.add_class("shown")
        field.focus()

    def action_clear_filter(self) -> None:
        """Show every row again."""
        field = self.query_one("#filter", Input)
        field.value = ""
        self._leave_filter()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        self.words = event.value.casefold()
        self.refresh_all()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go back to the table; the filter stays."""
        self._leave_filter()

    def _leave_filter(self) -> None:
        self.query_one("#filter", Input).remove_class("shown")
        self._table.focus()

    # --- what is shown ------------------------------------------------------------------------------

    def rows(self) -> list[Usage]:
        """Return the rows of the current table, filtered and in order."""
        if self.latest is None:
            return []
        rows = [row for row in self.latest[self.view] if self.words in f"{row['name']} {row['title']}".casefold()]
        by_name = self.order == "name"
        return sorted(rows, key=lambda row: row[self.order], reverse=by_name == self.inverted)

    def refresh_all(self) -> None:
        """Draw everything from what is known now; the cursor stays on its row."""
        if not self._table.is_attached:
            return  # the user has quit, and the screen is being taken down while this update comes
        lines = heading(self.latest) if self.latest else []
        if self.paused:
            lines.append("PAUSED - p goes on")
        if self.words:
            lines.append(f"filter: {self.words}")
        if self.trouble:
            lines.append(self.trouble)
        self._heading.update("\n".join(lines))
        self._heading.set_classes("away" if self.trouble else self.latest["state"] if self.latest else "")
        table = self._table
        row, top = table.cursor_row, table.scroll_y
        table.clear(columns=True)
        is_link = self.view == "links"
        fields = columns(self.view)
        for field in fields:
            table.add_column(Text(field.title, justify="right" if field.right else "left"))
        for usage in self.rows():
            style = _style(usage) if is_link else ""
            table.add_row(*(_cell(field, usage, style) for field in fields))
        table.move_cursor(row=min(row, max(0, table.row_count - 1)), scroll=False)
        table.scroll_to(y=top, animate=False)


def _cell(field: output.Field, row: Any, style: str) -> Text:
    return Text(field.show(row), style=style, justify="right" if field.right else "left")


def _style(row: Usage) -> str:
    return "red" if row["share"] >= FULL else "yellow" if row["share"] >= BUSY else ""
