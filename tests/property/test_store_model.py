"""The embedded store against a model: a dictionary of the windows it was given."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from telemetryd.schema import UsageWindow
from telemetryd.store import query
from telemetryd.store.embedded import GRACE_NS, Store
from telemetryd.store.levels import Level
from telemetryd.store.select import Selection
from tests.storing import BASE, Hasty, S, expected_rows, held, multiset, window

LEVELS = {S: Level(keep_ns=60 * S, bucket_ns=20 * S), 10 * S: Level(keep_ns=200 * S, bucket_ns=40 * S)}


class StoreMachine(RuleBasedStateMachine):
    """Append, maintain and reopen in any order; the store holds what the model holds."""

    @initialize()
    def start(self) -> None:
        self.home = tempfile.TemporaryDirectory()
        self.path = Path(self.home.name) / "store"
        self.now_ns = BASE * 2
        self.model: dict[tuple[str, int, int], UsageWindow] = {}
        self.until: dict[tuple[str, int], int] = {}
        self.store = self.open()

    def open(self) -> Store:
        return Store.open(self.path, levels=LEVELS, clock=lambda: self.now_ns, files=Hasty())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.home.cleanup()

    @rule(
        origin=st.sampled_from(["a", "b"]),
        steps=st.lists(st.integers(-3, 12), min_size=1, max_size=12),
        rows=st.integers(0, 4),
        with_rollup=st.booleans(),
    )
    def append(self, origin: str, steps: list[int], rows: int, with_rollup: bool) -> None:
        """Append seconds that go on from the last one, repeat some or leave some out, and a roll-up."""
        place = self.until.get((origin, S), BASE) // S
        starts = []
        for step in steps:
            place += step
            starts.append(place * S)
        windows = [window(start, rows=rows) for start in dict.fromkeys(starts)]
        if with_rollup:
            windows.append(window(max(starts) // (10 * S) * 10 * S, 10 * S, rows))
        until = dict(self.until)
        done = self.store.append(windows, origin)
        fresh = [w for w in windows if w.start_ns + w.span_ns > until.get((origin, w.span_ns), 0)]
        assert (done.rows, done.skipped) == (rows * len(fresh), len(windows) - len(fresh))
        for w in fresh:
            # A window is never given twice, but for those the store leaves out.
            assert (origin, w.span_ns, w.start_ns) not in self.model
            self.model[origin, w.span_ns, w.start_ns] = w
            key = origin, w.span_ns
            self.until[key] = max(self.until.get(key, 0), w.start_ns + w.span_ns)

    @rule()
    def maintain(self) -> None:
        """Compact and retain."""
        self.store.maintain()

    @rule()
    def wait(self) -> None:
        """Let the grace period pass."""
        self.now_ns += GRACE_NS + 1

    @rule()
    def reopen(self) -> None:
        """Close the store and open it again."""
        self.store.close()
        self.store = self.open()

    @invariant()
    def holds_the_model(self) -> None:
        """All that retention may not take is there once, and nothing else is."""
        if not hasattr(self, "store"):
            return
        finest: dict[str, int] = {}
        for (origin, _), until_ns in sorted(self.until.items(), reverse=True):
            finest[origin] = until_ns
        newest = max(finest.values(), default=0)
        may: list[dict[str, Any]] = []
        must: list[dict[str, Any]] = []
        for (origin, span_ns, start_ns), w in self.model.items():
            rows = expected_rows([w], origin)
            may += rows
            if start_ns + span_ns > newest - LEVELS[span_ns].keep_ns:
                must += rows
        found = held(self.store)
        assert found <= multiset(may)
        assert multiset(must) <= found
        for key, until_ns in self.until.items():
            assert self.store.stored_until(*key) == until_ns

    @invariant()
    def answers_without_doubling(self) -> None:
        """The seconds still held are counted once by a query in buckets of one second."""
        if not hasattr(self, "store") or not self.until:
            return
        floor = self.store.snapshot().manifest.floors.get(S, 0)
        seconds = {k: w for k, w in self.model.items() if k[1] == S and k[2] >= floor}
        if not seconds:
            return
        from_ns = min(start for _, _, start in seconds)
        to_ns = max(start for _, _, start in seconds) + S
        rows = [
            row
            for (origin, _, _), w in seconds.items()
            for row in expected_rows([w], origin)
            if row["table"] == "totals"
        ]
        answer = query.series(self.store, [], Selection(from_ns=from_ns, to_ns=to_ns), S)
        assert sum(row["samples"] for row in answer.rows) == sum(row["samples"] for row in rows)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
