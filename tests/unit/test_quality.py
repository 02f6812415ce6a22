"""What is known of a window's completeness: from the engine's counts, through the store, to an answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from telemetryd.errors import InputError
from telemetryd.live.counters import AgentCounters, LiveCounters, SocketCounters
from telemetryd.observe.clock import ClockState
from telemetryd.quality import WindowQuality
from telemetryd.store.embedded import Store
from telemetryd.store.quality import QualityRollUp, quality, quality_rows
from telemetryd.store.select import Selection
from tests.storing import BASE, S, window

NOTHING = LiveCounters(
    sockets=(SocketCounters(), SocketCounters()),
    agents={},
    refused_sources={},
    undecodable={},
    unknown_structures=0,
    flow_samples=0,
    counters_samples=0,
    discarded_packets=0,
    late_samples=0,
    duplicate_samples=0,
    unplaced_samples=0,
    windows=0,
    last_delay_ns=0,
    worst_delay_ns=0,
    swaps=0,
    clock=ClockState(),
)


def test_a_window_has_what_happened_since_the_one_before() -> None:
    """Differences of all counts by their metric and source; what did not change has no figure."""
    quality_of = WindowQuality()
    covered = {("coverage.seconds", "-"): 1.0}
    assert quality_of.of_window(None) == quality_of.of_window(NOTHING) == covered
    first = replace(
        NOTHING,
        sockets=(SocketCounters(kernel_drops=3), SocketCounters(kernel_drops=1)),
        agents={"192.0.2.1": AgentCounters(received=10, samples=60, lost=5, shed=2, capped=1, samples_dropped=7)},
        refused_sources={"203.0.113.9": 4},
        undecodable={"datagram_short": 2},
        late_samples=1,
        duplicate_samples=2,
        unplaced_samples=3,
    )
    assert quality_of.of_window(first) == covered | {
        ("received.datagrams", "192.0.2.1"): 10,
        ("received.samples", "192.0.2.1"): 60,
        ("loss.sequence_gap", "192.0.2.1"): 2,
        ("loss.shed", "192.0.2.1"): 2,
        ("loss.capped", "192.0.2.1"): 1,
        ("loss.samples_dropped", "192.0.2.1"): 7,
        ("loss.kernel", "socket:0"): 3,
        ("loss.kernel", "socket:1"): 1,
        ("loss.refused", "203.0.113.9"): 4,
        ("loss.undecodable.datagram_short", "-"): 2,
        ("loss.late", "-"): 1,
        ("loss.duplicate", "-"): 2,
        ("loss.unplaced", "-"): 3,
    }
    late = replace(first, agents={"192.0.2.1": AgentCounters(received=12, samples=60, lost=4, shed=2, capped=1)})
    assert quality_of.of_window(late) == covered | {
        ("received.datagrams", "192.0.2.1"): 2,
        ("loss.sequence_gap", "192.0.2.1"): -1,  # came late after all
        ("loss.samples_dropped", "192.0.2.1"): -7,
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Ninety seconds of three agents, with a minute and nine spans of ten seconds rolled up."""
    path = tmp_path_factory.mktemp("store")
    roll_up = QualityRollUp((10 * S, 60 * S))
    with Store.open(path) as writer:
        for first in range(0, 90, 30):
            windows, rows = [], []
            for number in range(first, first + 30):
                second = window(BASE + number * S)
                figures = {("coverage.seconds", "-"): 1.0, ("loss.kernel", "socket:0"): 1.0}
                for agent, received in (("a", 9), ("b", 99), ("c", 999)):
                    figures |= {("received.datagrams", agent): received, ("loss.sequence_gap", agent): 1.0}
                figures["loss.shed", "a"] = 4.0
                windows.append(second)
                rows += quality_rows(second, figures)
                roll_up.add(second.start_ns, figures)
                for span in (10, 60):
                    if (number + 1) % span == 0:
                        windows.append(window(BASE + (number + 1 - span) * S, span * S))
                        rows += roll_up.close(windows[-1])
            writer.append(windows, "live", rows)
        writer.append([window(BASE)], "capture")  # an origin of which nothing is known
    return Store.open(path, "read")


def ask(store: Store, **options: object) -> dict[tuple[str, str], tuple[float, float | None]]:
    answer = quality(store, Selection(), **options)  # type: ignore[arg-type]
    return {(row["metric"], row["source"]): (row["value"], row["share"]) for row in answer.rows}


def test_sums_are_read_once_whatever_the_levels(store: Store) -> None:
    """A range is answered by minutes, tens and seconds together, with shares of what each agent sent."""
    answer = quality(store, Selection(from_ns=BASE, to_ns=BASE + 85 * S))
    assert answer.spans_ns == (S, 10 * S, 60 * S)
    assert (answer.covered_s, answer.bucket_ns) == (85, None)
    assert answer.loss_share == pytest.approx((3 + 4) / (10 + 100 + 1000))
    values = {(row["metric"], row["source"]): row["value"] / 85 for row in answer.rows}
    assert values == {
        ("coverage.seconds", "-"): 1,
        ("received.datagrams", "a"): 9,
        ("received.datagrams", "b"): 99,
        ("received.datagrams", "c"): 999,
        **{("loss.sequence_gap", agent): 1 for agent in "abc"},
        ("loss.shed", "a"): 4,
        ("loss.kernel", "socket:0"): 1,
    }
    shares = {(row["metric"], row["source"]): row["share"] for row in answer.rows if row["share"] is not None}
    assert shares == {
        ("loss.shed", "a"): 0.4,
        **{("loss.sequence_gap", agent): 1 / sent for agent, sent in (("a", 10), ("b", 100), ("c", 1000))},
    }


def test_selected_by_metric_and_source(store: Store) -> None:
    """A metric selects all that begin with it, a source its own figures; the rest of a metric is one row."""
    assert {metric for metric, _ in ask(store, metrics=["loss"])} == {"loss.kernel", "loss.sequence_gap", "loss.shed"}
    assert ask(store, metrics=["loss.s"]) == {}
    assert {key[1] for key in ask(store, sources=["a"])} == {"a", "-"}
    assert ask(store, sources=["a"])["loss.shed", "a"] == (360, 0.4)
    assert ask(store, metrics=["received.datagrams"], n=1) == {
        ("received.datagrams", "c"): (90 * 999, None),
        ("received.datagrams", "other"): (90 * (9 + 99), None),
    }


def test_buckets(store: Store) -> None:
    """Each bucket has the sums of its time; too narrow ones are refused as for usage."""
    answer = quality(store, Selection(), metrics=["coverage"], bucket_ns=20 * S)
    assert [((row["time_ns"] - BASE) // S, row["value"]) for row in answer.rows] == [
        (0, 20),
        (20, 20),
        (40, 20),
        (60, 20),
        (80, 10),
    ]
    with pytest.raises(InputError, match="range is empty"):
        quality(store, Selection(from_ns=BASE, to_ns=BASE))


def test_nothing_known(tmp_path: Path) -> None:
    """A store that a replay filled answers with no rows and no coverage."""
    with Store.open(tmp_path) as writer:
        writer.append([window(BASE)], "capture")
    with Store.open(tmp_path, "read") as store:
        answer = quality(store, Selection())
    assert (answer.rows, answer.covered_s, answer.loss_share) == ([], 0, None)
