"""The table of `telemetryd gnmi watch`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from telemetryd.cli import output
from telemetryd.ingest.gnmi.show import Shower, plain, time_text
from telemetryd.ingest.gnmi.subscription import Wanted
from telemetryd.schema import ValueKind


@dataclass(slots=True)
class _Leaf:
    value: Any
    ts_ns: int
    rate: float | None = None


class Watched:
    """Keeps the last value of each leaf, and prints all of them every interval.

    Parameters
    ----------
    target:
        The target's name.
    wanted:
        What was asked of it.
    tables:
        How many tables to print; 0 for no end.
    """

    def __init__(self, target: str, wanted: Wanted, tables: int) -> None:
        self._target, self._left = target, tables or -1
        self._shower = Shower(target, asked_target=wanted.target, is_wrapped=wanted.profile.wraps_json)
        self._interval_s = wanted.subscriptions[0].sample_interval_ns / 1e9
        self._leaves: dict[str, _Leaf] = {}
        self._due_s = time.monotonic() + self._interval_s

    def handle(self, octets: bytes, received_ns: int) -> bool:
        """Take a message; return True after the last table."""
        synced = False
        for known, ts_ns, _, value in self._shower.rows(octets, received_ns):
            path = self._shower.paths.text(known.path)
            if value.kind is ValueKind.SYNC:
                synced = True
            elif value.kind in (ValueKind.DELETE, ValueKind.REPLACE):
                for gone in [leaf for leaf in self._leaves if leaf == path or leaf.startswith(f"{path.rstrip('/')}/")]:
                    del self._leaves[gone]
            else:
                self._keep(path, plain(value), ts_ns)
        if not synced and time.monotonic() < self._due_s:
            return False
        self._due_s = time.monotonic() + self._interval_s
        self._show(received_ns)
        self._left -= 1
        return self._left == 0

    def _keep(self, path: str, value: Any, ts_ns: int) -> None:
        last = self._leaves.get(path)
        leaf = _Leaf(value, ts_ns, last.rate if last else None)
        if last and ts_ns > last.ts_ns and type(value) is int and type(last.value) is int and value >= last.value:
            leaf.rate = (value - last.value) / (ts_ns - last.ts_ns) * 1e9
        self._leaves[path] = leaf

    def _show(self, now_ns: int) -> None:
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[H\x1b[2J")
        rows = [
            {
                "path": path,
                "value": str(leaf.value),
                "rate": "" if leaf.rate is None else f"{output.scaled(leaf.rate)}/s",
                "age": f"{max(0, now_ns - leaf.ts_ns) / 1e9:.1f} s",
            }
            for path, leaf in sorted(self._leaves.items())
        ]
        fields = [output.text("path")] + [
            output.Field(name, lambda row, name=name: row[name], right=True)  # type: ignore[misc]
            for name in ("value", "rate", "age")
        ]
        output.show_table(fields, rows, title=f"{self._target}  {time_text(now_ns)}")
        sys.stdout.flush()
