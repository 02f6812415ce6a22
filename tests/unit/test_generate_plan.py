"""The built-in network: its registry file says the same as its model, and its benchmark profile is as stated."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from telemetryd.classify.compile import compile_registry
from telemetryd.classify.reference import Classifier
from telemetryd.ingest.generate.city_benchmark import city_benchmark_model, zipf_flow_rates
from telemetryd.ingest.generate.model import Model
from telemetryd.ingest.generate.plan import plan_model, write_registry
from telemetryd.ingest.generate.profiles import START_NS, benchmark_blocks, known_truth
from telemetryd.ingest.generate.traffic import GeneratedBlock, Traffic
from telemetryd.registry.load import load_registry
from telemetryd.schema import CLASS_COLUMNS, DATAGRAM_COLUMNS, SAMPLE_COLUMNS, Batch, Direction

CITY = Path(__file__).parents[2] / "policies" / "example-city" / "registry"


def book(model: Model, registry_dir: Path, block: GeneratedBlock) -> tuple[Counter, Counter]:
    """Classify a block's samples; packets per key of the totals and of the links."""
    agents, n = model.agents, len(block.samples["agent"])
    datagrams, samples = Batch(DATAGRAM_COLUMNS, len(agents)), Batch(SAMPLE_COLUMNS, n)
    classes = Batch(CLASS_COLUMNS, n)
    datagrams.n, samples.n = len(agents), n
    for name in ("address_hi", "address_lo", "version"):
        datagrams[f"agent_{name.removeprefix('address_')}"][:] = getattr(agents, name)
    for name in set(samples.columns) & set(block.samples):
        samples[name][:] = block.samples[name]
    samples["datagram"][:] = block.samples["agent"]
    tables = compile_registry(load_registry(registry_dir))
    Classifier(datagrams, samples, classes, tables).classify()
    names, totals, links = tables.names, Counter(), Counter()
    for row in range(n):
        who = (
            names.departments[classes["department"][row]],
            names.departments[classes["peer_department"][row]],
            names.applications[classes["application"][row]],
        )
        if classes["metering_point"][row]:
            direction = Direction(classes["direction"][row]).name.lower()
            totals[names.metering_points[classes["metering_point"][row]], direction, *who] += 1
        for side in ("in", "out"):
            if classes[f"link_{side}"][row]:
                links[names.links[classes[f"link_{side}"][row]], side, *who] += 1
    return totals, links


def test_classified_by_its_own_registry_the_plan_is_exactly_the_truth(tmp_path):
    """The registry that the plan writes loads without a problem and books every packet as the truth does."""
    options = {"departments": 12, "applications": 40, "cores": 9}
    write_registry(tmp_path, **options)
    assert load_registry(tmp_path).warnings == ()
    block = next(known_truth(1, 1, 1, packets_per_s=4_000, **options))
    totals, links = book(plan_model(**options), tmp_path, block)
    assert totals == {key: packets for key, (packets, _) in block.truth.totals.totals().items()}
    assert links == {key: packets for key, (packets, _) in block.truth.link_usage.totals().items()}
    assert len(totals) > 200


def test_a_plan_that_its_addresses_cannot_hold_is_refused():
    """The address plan ends at 200 departments."""
    with pytest.raises(ValueError, match="at most 200 departments"):
        plan_model(departments=201)


@pytest.mark.long
def test_city_benchmark_uses_all_departments_and_700_applications():
    """Two flows a pair, 60 x 700 pairs, in about the stated mix, over many devices."""
    model = city_benchmark_model(CITY, 2048)
    applications = {flow.header.application for flow in model.flows}
    assert len(model.flows) == 2 * 60 * 700
    assert len(applications) == 700
    blocks = benchmark_blocks(40_000, 3, samples_per_s=40_000, window_s=1, registry_dir=CITY)
    samples = next(blocks).samples
    assert 0.77 < np.mean(samples["ip_version"] == 4) < 0.83
    assert 0.27 < np.mean(samples["vlan_id"] != 0) < 0.33
    assert len(np.unique(samples["agent"])) > 30


def test_city_benchmark_traffic_at_one_to_one_is_exactly_its_truth():
    """The benchmark's flows are booked by the city's registry as their truth says, packet by packet."""
    model = city_benchmark_model(CITY, 1, applications=40)
    rates = zipf_flow_rates(model, 4_000, 0.3)
    block = next(Traffic(model, lambda _: rates, 4, START_NS).generate(1))
    totals, links = book(model, CITY, block)
    assert totals == {key: packets for key, (packets, _) in block.truth.totals.totals().items()}
    assert links == {key: packets for key, (packets, _) in block.truth.link_usage.totals().items()}
    assert len({flow.header.department for flow in model.flows}) == 60
    assert len(links) > 1_000
