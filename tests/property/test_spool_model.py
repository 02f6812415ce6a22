"""The spool against a model: a list of what was appended, and for each output what it has not acknowledged yet."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from telemetryd.store.spool import Entry, Spool
from tests.storing import Hasty

S = 1_000_000_000
MIB = 1 << 20
SPANS = (10 * S, 60 * S, 300 * S)
SPANS_OF = {"city": SPANS, "old": (60 * S, 300 * S), "new": (10 * S,)}
AGE_NS = 1000 * S
SEGMENT = 16 * MIB // 64


class SpoolMachine(RuleBasedStateMachine):
    """Append, acknowledge, reopen, kill, wait, change outputs: the spool holds what the model holds, or says why not."""

    @initialize()
    def start(self) -> None:
        logging.getLogger("telemetryd.spool").disabled = True
        self.home = tempfile.TemporaryDirectory()
        self.path = Path(self.home.name) / "spool"
        self.now_ns = 1_790_000_000 * S
        self.count = 0
        self.outputs = {"city", "old"}
        #: Of each output: number of an entry -> (span, points, when it was appended), in the order of the appends.
        self.waiting: dict[str, dict[int, tuple[int, int, int]]] = {name: {} for name in self.outputs}
        self.spool = self.open()

    def open(self) -> Spool:
        return Spool.open(
            self.path,
            {name: SPANS_OF[name] for name in sorted(self.outputs)},
            size=16 * MIB,
            age_ns=AGE_NS,
            files=Hasty(),
            clock=lambda: self.now_ns,
        )

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.spool.close()
            self.home.cleanup()
        logging.getLogger("telemetryd.spool").disabled = False

    @rule(
        spans=st.lists(st.sampled_from(SPANS), min_size=1, max_size=5),
        octets=st.sampled_from([0, 1, 1000, 90_000, 700_000, 3_000_000]),
    )
    def append(self, spans: list[int], octets: int) -> None:
        """Append entries of several spans; the coarsest come first."""
        entries = []
        first = self.count
        is_tight = self.spool.octets + len(spans) * (octets + 100) > 16 * MIB
        for span_ns in sorted(spans, reverse=True):
            entries.append(Entry(b"%d:" % self.count + b"x" * octets, self.count + 1, span_ns, self.now_ns))
            for name in self.outputs:
                if span_ns in SPANS_OF[name]:
                    self.waiting[name][self.count] = (span_ns, self.count + 1, self.now_ns)
            self.count += 1
        self.spool.append(entries)
        self.settle(first, is_tight)

    @rule(data=st.data(), newest=st.booleans(), count=st.integers(1, 8))
    def acknowledge(self, data: st.DataObject, newest: bool, count: int) -> None:
        """An output acknowledges some of what it sees first, from either end."""
        name = data.draw(st.sampled_from(sorted(self.outputs)))
        reader = self.spool.reader(name)
        seen = reader.peek(count, newest=newest)
        done = [one for one in seen if data.draw(st.booleans())]
        reader.acknowledge([one.sequence for one in done])
        assert reader.cursor_failure is None
        for one in done:
            del self.waiting[name][one.points - 1]

    @rule(killed=st.booleans())
    def reopen(self, killed: bool) -> None:
        """Close it, or leave everything as a killed process does; open it again."""
        if killed:
            # What the process had open goes with it; nothing is written any more.
            os.close(self.spool._descriptor)
            self.spool._descriptor = -1
        else:
            self.spool.close()
        old, self.spool = self.spool, self.open()
        old.close()
        assert self.spool.torn_octets == self.spool.damaged_octets == 0

    @rule(seconds=st.sampled_from([1, 100, 700]))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.now_ns += seconds * S
        self.spool.maintain()
        self.settle()

    @rule(name=st.sampled_from(sorted(SPANS_OF)))
    def change_outputs(self, name: str) -> None:
        """An output comes or goes; one always stays."""
        if self.outputs == {name}:
            return
        if name in self.outputs:
            self.outputs.remove(name)
            del self.waiting[name]
        else:
            self.outputs.add(name)
            self.waiting[name] = {}
        self.spool.set_outputs({name: SPANS_OF[name] for name in sorted(self.outputs)})

    def settle(self, first: int = 0, is_tight: bool = False) -> None:
        """Take out of the model what the spool gave up, and see that it was right to."""
        for name, waiting in self.waiting.items():
            kept = {one.points - 1 for one in self.spool.reader(name).peek(10_000)}
            lost = {number: waiting.pop(number) for number in list(waiting) if number not in kept}
            for number, (span_ns, _, at_ns) in lost.items():
                if self.now_ns - at_ns > AGE_NS:
                    continue
                assert is_tight
                # Nothing finer is left, but for what was appended after it.
                assert not [n for n, (span, _, _) in waiting.items() if span < span_ns and n < max(first, number)]

    @precondition(lambda self: hasattr(self, "spool"))
    @invariant()
    def holds_what_the_model_holds(self) -> None:
        """Every output sees its entries, in order, with their payloads, and what they sum up to."""
        for name, waiting in self.waiting.items():
            reader = self.spool.reader(name)
            seen = reader.peek(10_000)
            assert [one.points - 1 for one in seen] == list(waiting)
            assert [one.sequence for one in reader.peek(10_000, newest=True)] == [one.sequence for one in seen][::-1]
            pending = reader.pending()
            assert (pending.entries, pending.points) == (len(seen), sum(one.points for one in seen))
            assert pending.octets == sum(one.octets for one in seen)
            for one in (*seen[:2], *seen[-2:]):
                payload = reader.read(one)
                assert payload is not None
                assert payload.startswith(b"%d:" % (one.points - 1))

    @precondition(lambda self: hasattr(self, "spool"))
    @invariant()
    def stays_within_its_bounds(self) -> None:
        """The files are what the spool says they are, within its size; nothing older than its age is left."""
        files = [file.stat().st_size for file in (self.path / "segments").iterdir()]
        assert sum(files) == self.spool.octets <= 16 * MIB
        oldest_ns = min((at for waiting in self.waiting.values() for _, _, at in waiting.values()), default=self.now_ns)
        assert self.now_ns - oldest_ns <= AGE_NS + AGE_NS // 16 + 700 * S


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
