"""The city's generated traffic: booked by the real classifier it gives exactly the truth."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from telemetryd.classify.compile import compile_registry
from telemetryd.classify.reference import Classifier
from telemetryd.errors import InputError
from telemetryd.ingest.generate.city import CityTraffic
from telemetryd.ingest.generate.traffic import GeneratedBlock
from telemetryd.ingest.generate.traffic_file import load_traffic
from telemetryd.registry.load import load_registry
from telemetryd.schema import CLASS_COLUMNS, DATAGRAM_COLUMNS, SAMPLE_COLUMNS, Batch, Direction

pytestmark = pytest.mark.no_twins

CITY = Path(__file__).parents[2] / "policies" / "example-city"
TUESDAY = datetime(2026, 11, 24, 10, 0)
NS = 1_000_000_000


def city(**options) -> CityTraffic:
    options = {"seed": 1, "start": TUESDAY, "counters_s": 0} | options
    return CityTraffic(CITY / "registry", CITY / "traffic", **options)


@pytest.fixture(scope="module")
def every_packet() -> tuple[CityTraffic, GeneratedBlock]:
    traffic = city(scale=0.002, sampling=1)
    return traffic, next(traffic.generate(1))


@pytest.fixture(scope="module")
def ordinary() -> CityTraffic:
    """A city that tests only look at, so that one will do."""
    return city()


def classify(traffic: CityTraffic, block: GeneratedBlock) -> tuple[Batch, Batch, object]:
    """Run the classifier's Python twin over the block's samples, one datagram row an agent."""
    agents = traffic.city.model.agents
    datagrams = Batch(DATAGRAM_COLUMNS, len(agents))
    datagrams.n = len(agents)
    datagrams["agent_hi"][:] = agents.address_hi
    datagrams["agent_lo"][:] = agents.address_lo
    datagrams["agent_version"][:] = agents.version
    n = len(block.samples["agent"])
    samples, classes = Batch(SAMPLE_COLUMNS, n), Batch(CLASS_COLUMNS, n)
    samples.n = n
    for name in samples.columns:
        if name in block.samples:
            samples[name][:] = block.samples[name]
    samples["datagram"][:] = block.samples["agent"]
    tables = compile_registry(load_registry(CITY / "registry"))
    Classifier(datagrams, samples, classes, tables).classify()
    return samples, classes, tables.names


def test_classified_at_one_to_one_it_is_exactly_the_truth(every_packet):
    """With every packet sampled, the totals and link usage of the classified samples equal the truth.

    This covers NAT at the exit routers, overlapping prefixes of VPNs, shared services, labelled links,
    both ends of uplinks, and what no registry lists.
    """
    traffic, block = every_packet
    samples, classes, names = classify(traffic, block)
    totals, links = Counter(), Counter()
    for row in range(samples.n):
        octets = int(samples["frame_length"][row])
        who = (
            names.departments[classes["department"][row]],
            names.departments[classes["peer_department"][row]],
            names.applications[classes["application"][row]],
        )
        if classes["metering_point"][row]:
            point = names.metering_points[classes["metering_point"][row]]
            direction = Direction(classes["direction"][row]).name.lower()
            totals[point, direction, *who] += octets
        for side in ("in", "out"):
            if classes[f"link_{side}"][row]:
                links[names.links[classes[f"link_{side}"][row]], side, *who] += octets
    assert samples.n > 10_000
    assert dict(totals) == {key: octets for key, (_, octets) in block.truth.totals.totals().items()}
    assert dict(links) == {key: octets for key, (_, octets) in block.truth.link_usage.totals().items()}


def test_what_is_deliberately_nasty_occurs(every_packet):
    """NAT pools, shared services, labelled links, unlisted services, VPNs and IPv6 are all in the traffic."""
    traffic, block = every_packet
    links = block.truth.link_usage.totals(("application",))
    assert {("labelled",), ("unclassified",), ("shared:waf-443",)} <= set(links)
    departments = block.truth.link_usage.totals(("department",))
    assert {("nat:isp1-pool",), ("finance",), ("outside",)} & set(departments)
    assert len(np.unique(block.samples["agent"])) > 30
    assert set(block.samples["ip_version"]) == {4, 6}
    model = traffic.city.model
    assert set(model.agents.version) == {4, 6}


def test_totals_count_every_flow_once(ordinary):
    """Each flow passes exactly one metering point: the totals are the sum of what the applications send."""
    model = ordinary.city.model
    metered = Counter(model.hop_flow[model.hop_totals >= 0].tolist())
    elsewhere = [flow for flow in range(len(model.flows)) if metered[flow] != 1]
    assert elsewhere == []


def test_rates_follow_the_traffic_files(ordinary):
    """At the full hour on a working day an application carries its peak times its pattern's share."""
    traffic, files = ordinary, load_traffic(CITY / "traffic")
    entries = files.applications
    row = next(i for i, entry in enumerate(entries) if entry.application == "sipay")
    pattern = files.patterns[entries[row].pattern]
    tuesday = int(datetime(2026, 11, 24, 2, 0, tzinfo=UTC).timestamp()) * NS  # 10:00 in Shanghai
    at_ten, at_half_past = (traffic._load.application_rates(tuesday + s * NS)[row] for s in (0, 1800))
    assert at_ten == pytest.approx(entries[row].peak * pattern.hours[10])
    assert at_half_past == pytest.approx(entries[row].peak * (pattern.hours[10] + pattern.hours[11]) / 2)
    sunday = traffic._load.application_rates(tuesday + 5 * 86_400 * NS)[row]
    assert sunday == pytest.approx(at_ten * pattern.weekend)
    assert traffic.start_ns == tuesday


def test_events_raise_an_application_above_its_idle_share(ordinary):
    """Exam enrolment idles outside its event and has its whole day pattern within it."""
    traffic = ordinary
    entries = load_traffic(CITY / "traffic").applications
    row = next(i for i, entry in enumerate(entries) if entry.application == "cseexam")
    saturday = int(datetime(2026, 11, 28, 1, 0, tzinfo=UTC).timestamp()) * NS  # 09:00 in Shanghai
    during, week_before = (traffic._load.application_rates(saturday - d * NS)[row] for d in (0, 7 * 86_400))
    assert during == pytest.approx(week_before / entries[row].idle)
    assert during > 0.5 * entries[row].peak


def test_generated_rates_are_near_the_wanted_ones():
    """The true octets of a window are the applications' rates, noise included."""
    traffic = city()
    block = next(traffic.generate(1))
    wanted = traffic._load.rates(traffic.start_ns).sum() / 8
    octets = sum(octets for _, octets in block.truth.totals.totals(()).values())
    assert octets == pytest.approx(wanted, rel=0.01)


def test_sampling_rates_are_those_of_the_files(ordinary, every_packet):
    """10G ports sample 1:4096, 1G ports 1:1024, the exit 1:2048; an override holds everywhere."""
    assert set(ordinary.city.model.source_rate) == {1024, 2048, 4096}
    assert set(every_packet[0].city.model.source_rate) == {1}


def test_counters_state_the_ports_own_speeds(ordinary):
    """Interfaces have the registry's speeds: 10G backbone ports and 1G access ports."""
    assert set(ordinary.city.model.interface_speed_bps) == {1_000_000_000, 10_000_000_000}


def test_same_seed_same_octets():
    """Two cities with one seed write identical datagrams."""
    first, second = (next(city(seed=5).generate(1)) for _ in range(2))
    assert first.buffer.tobytes() == second.buffer.tobytes()
    assert np.array_equal(first.ts_ns, second.ts_ns)


def write(directory: Path, text: str) -> Path:
    (directory / "traffic.yaml").write_text(text, encoding="utf-8")
    return directory


def test_mistakes_in_traffic_files_are_all_named(tmp_path):
    """Wrong fields and unknown patterns are an operator's mistake: all in one go, with the file's name."""
    with pytest.raises(InputError, match="no traffic files"):
        load_traffic(tmp_path)
    bad = "version: 1\napplications:\n  - {application: a, pattern: X, peak: 5, path: up, users: [10.0.0.0/8]}\n"
    with pytest.raises(InputError) as found:
        load_traffic(write(tmp_path, bad))
    assert len(found.value.problems) == 2
    assert "peak" in str(found.value) and "path" in str(found.value) and "traffic.yaml" in str(found.value)
    good = bad.replace("peak: 5", "peak: 5 Mbit/s").replace("path: up", "path: inbound")
    with pytest.raises(InputError, match="unknown pattern X"):
        load_traffic(write(tmp_path, good))
    with pytest.raises(InputError, match=r"traffic\.yaml"):
        load_traffic(write(tmp_path, "version: [1"))


def test_traffic_that_does_not_fit_the_registry_is_refused(tmp_path):
    """An application that the registry does not have is named."""
    hours = ", ".join(["1.0"] * 24)
    text = f"version: 1\npatterns: {{X: {{hours: [{hours}]}}}}\napplications:\n"
    text += "  - {application: nowhere, pattern: X, peak: 5 Mbit/s, path: inbound, users: [100.80.0.0/13]}\n"
    with pytest.raises(InputError, match="no application nowhere"):
        CityTraffic(CITY / "registry", write(tmp_path, text), seed=1, start=TUESDAY)
