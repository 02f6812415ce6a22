"""Metrics: documented, well named, and what the counters say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from telemetryd.aggregate.coverage import Verdict
from telemetryd.aggregate.reconcile import Coverage
from telemetryd.alerts import AlertCounters
from telemetryd.alerts.receiver import ReceiverCounters
from telemetryd.assure.link_demand import LinkDemand
from telemetryd.counting import CountingCounters
from telemetryd.demanding import DemandCounters, DemandTable
from telemetryd.enforce.follow import Phase as GatewayPhase
from telemetryd.enforcing import EnforcingCounters
from telemetryd.errors import InputError
from telemetryd.ingest.gnmi.target import Phase, TargetState
from telemetryd.live import AgentCounters, LiveCounters, SocketCounters
from telemetryd.observe.clock import ClockState
from telemetryd.observe.health import OK, State, combine, degraded, document, failed
from telemetryd.observe.metrics import PREFIX, SpecCollector, exposition, reference
from telemetryd.outputs import OutputsCounters
from telemetryd.schema import LinkDirection
from telemetryd.serve.loss import LossCounts
from telemetryd.serve.metrics import BEGIN, METRICS, Observed, update
from telemetryd.store.influx.sender import SenderCounters
from telemetryd.store.series_guard import SeriesCounts
from telemetryd.subscriber import TargetCounters

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"

LIVE = LiveCounters(
    sockets=(
        SocketCounters(received=100, processed=70, shed=15, capped=5, refused=8, short=2, kernel_drops=10),
        SocketCounters(received=10, processed=10, kernel_drops=2),
    ),
    agents={"192.0.2.1": AgentCounters(received=100, shed=15, capped=5, lost=40, samples=700, samples_dropped=3)},
    refused_sources={"192.0.2.99": 8},
    undecodable={"datagram_short": 2},
    unknown_structures=1,
    flow_samples=700,
    counters_samples=7,
    discarded_packets=0,
    late_samples=1,
    duplicate_samples=2,
    unplaced_samples=3,
    windows=9,
    last_delay_ns=40_000_000,
    worst_delay_ns=90_000_000,
    swaps=0,
    clock=ClockState(),
)


def scrape(seen: Observed) -> dict[tuple[str, ...], float]:
    text = exposition([SpecCollector(METRICS, lambda: seen)])().decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_reference_is_up_to_date() -> None:
    """docs/metrics.md names every metric: `python -m telemetryd.serve.metrics docs/metrics.md`."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].lstrip("\n") == reference(METRICS)
    with pytest.raises(InputError):
        update("no mark")


def test_documented_and_scraped_names_are_the_same() -> None:
    """What is scraped is documented, with its labels, and what is documented is scraped."""
    outputs = OutputsCounters(
        lost_points={("city", 10_000_000_000, "age"): 7},
        series={"usage": SeriesCounts(known=5)},
        senders={"city": SenderCounters(failures={"again": 2})},
    )
    target = TargetCounters(
        "sw1",
        "192.0.2.1:9339",
        TargetState("sw1", Phase.STREAMING, delay_ns=5_000_000),
        asked_ns=10**10,
        achieved_ns=10**10,
        counts={"malformed": 3},
    )
    coverage = Coverage(
        "exit",
        LinkDirection.IN,
        0.95,
        0.94,
        0.96,
        Verdict.BELOW,
        since_ns=0,
        seconds=300.0,
        interval_s=10.0,
        octets=100.0,
        estimated_octets=95.0,
        until_ns=1,
        rank=2,
    )
    rates, none = np.array([1e6]), np.zeros(1, np.bool_)
    demand = LinkDemand(
        policy="p",
        link="exit",
        direction="in",
        start_ns=0,
        end_ns=1,
        capacity_bps=10**9,
        keys=(("tax", "filing"),),
        nodes=(("tax", "filing"),),
        usage_bps=rates,
        samples=np.ones(1, np.int64),
        demand_bps=rates,
        damped_bps=rates,
        causes=np.zeros(1, np.uint8),
        censored=none,
        folded=none,
    )
    seen = Observed(
        live=LIVE,
        health={"store": OK},
        reloads={"done": 1},
        outputs=outputs,
        output_states={"city": State.OK},
        targets=[target],
        counting=CountingCounters(readings={"grown": 5}),
        alerts=AlertCounters(
            told={("full", "firing"): 1},
            active={("full", "pending"): 1},
            receivers={"ops": ReceiverCounters(waiting=2)},
        ),
        coverages=[coverage],
        reconciled={"used": 30},
        demand=DemandCounters(table=DemandTable(1, 0, 1, (demand,))),
        enforcing=EnforcingCounters(gateways={"GW1": (GatewayPhase.IN_FORCE, "")}),
    )
    text = exposition([SpecCollector(METRICS, lambda: seen)])().decode()
    scraped = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if line and not line.startswith("#")}
    documented = set(re.findall(r"^\| `(telemetryd_\w+)`", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))
    assert scraped == documented


def test_names_follow_the_conventions() -> None:
    """Names are unique; counters, and they alone, end in _total; nothing is in bytes or milliseconds."""
    names = [spec.name for spec in METRICS]
    assert len(set(names)) == len(names)
    for spec in METRICS:
        assert spec.name.endswith("_total") == (spec.kind == "counter")
        assert re.fullmatch(r"[a-z][a-z_]*", spec.name)
        assert not re.search("bytes|_ms|_ns|packets_count", spec.name)


def test_values_are_the_counters() -> None:
    """Each datagram is under one outcome; the sums hold as in the engine."""
    found = scrape(Observed(live=LIVE, health={"store": failed("x")}, started_ns=5_000_000_000))
    outcomes = {key[1:]: value for key, value in found.items() if key[0] == f"{PREFIX}receive_datagrams_total"}
    by_socket = [sum(v for labels, v in outcomes.items() if str(n) in labels) for n in range(2)]
    assert by_socket == [one.received for one in LIVE.sockets]
    assert found[f"{PREFIX}window_delay_seconds",] == 0.04
    assert found[f"{PREFIX}component_state", "store"] == 2
    assert found[f"{PREFIX}start_time_seconds",] == 5
    assert found[f"{PREFIX}agent_lost_datagrams_total", "192.0.2.1"] == 20


def test_a_scrape_before_the_first_socket_has_what_there_is() -> None:
    """Without an engine there are no receive metrics, and no failure."""
    found = scrape(Observed())
    assert not any("receive" in name for name, *_ in found)
    assert found[f"{PREFIX}store_rows_total",] == 0


def test_loss_adds_up_once() -> None:
    """What the kernel dropped is in the gaps of the sequence too, and counts once."""
    loss = LossCounts.of(LIVE)
    assert (loss.received, loss.kernel_drops, loss.network) == (100, 12, 8)
    message = loss.message()
    assert message["datagrams"] == {
        "kernel_drops": 12, "network": 8, "shed": 15, "capped": 5, "refused": 8, "short": 2
    }  # fmt: skip
    assert message["share"] == (12 + 8 + 15 + 5) / 120
    assert loss.since(loss).message()["share"] == 0
    assert LossCounts().message()["share"] == 0


def test_health_is_the_worst_of_the_parts() -> None:
    """Reasons carry their component's name, the worst first."""
    parts = {"a": OK, "b": degraded("slow"), "c": failed("gone")}
    assert combine(parts).reasons == ("c: gone", "b: slow")
    assert combine(parts).state == State.FAILED
    assert degraded() == OK == combine({})
    assert document(parts)["components"]["b"] == {"state": "degraded", "reasons": ["slow"]}
