"""`telemetryd send`: what is due when, who sent what, and numbers that go on in repetitions."""

from dataclasses import replace

import numpy as np
import pytest

from telemetryd.cli.main import main
from telemetryd.errors import InputError
from telemetryd.ingest.generate.faults import mix_hostile
from telemetryd.ingest.generate.pace import NS, Burst, Pace, parse_burst
from telemetryd.ingest.generate.profiles import known_truth
from telemetryd.ingest.generate.repeat import Repetition
from telemetryd.ingest.generate.send import Faults, parse_target
from telemetryd.ingest.generate.walk import Exporter, exporters_of, walk
from telemetryd.ingest.generate.wire import Datagrams
from telemetryd.ingest.sflow.decode import decode_datagram


@pytest.fixture(scope="module")
def sent() -> Datagrams:
    return next(known_truth(3, 1, 1, departments=5, applications=10, packets_per_s=3_000, cores=9)).datagrams


def samples_of(data: bytes) -> list[dict]:
    return decode_datagram(data)["samples"]


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [("127.0.0.1:6343", "127.0.0.1", 6343), ("[::1]:1", "::1", 1), ("127.9.8.7:65535", "127.9.8.7", 65535)],
)
def test_a_target_is_a_host_and_a_port(text, address, port):
    """IPv6 addresses stand in brackets."""
    target = parse_target(text)
    assert (target.address, target.port) == (address, port)


@pytest.mark.parametrize("text", ["127.0.0.1", "127.0.0.1:", ":6343", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:x"])
def test_what_is_no_target_is_refused_with_an_example(text):
    """The message shows how a target is written."""
    with pytest.raises(InputError, match=r"HOST:PORT, such as 127\.0\.0\.1:6343"):
        parse_target(text)


@pytest.mark.parametrize("text", ["192.0.2.1:6343", "0.0.0.0:6343", "[2001:db8::1]:6343", "[::ffff:192.0.2.1]:1"])
def test_another_machine_needs_allow_remote(text):
    """Load goes to the loopback interface unless the operator says otherwise."""
    with pytest.raises(InputError, match="--allow-remote"):
        parse_target(text)
    assert parse_target(text, allow_remote=True).port in (6343, 1)


def test_a_rate_counts_samples_and_not_time(sent):
    """A datagram is due when the samples before it have had their time, over any number of calls."""
    found = walk(sent)
    pace = Pace(samples_per_s=1000)
    half = len(sent) // 2
    due = np.concatenate(
        [pace.due(sent.ts_ns[part], found.flow_samples[part]) for part in (slice(half), slice(half, None))]
    )
    before = np.cumsum(found.flow_samples) - found.flow_samples
    assert np.abs(due - before * (NS // 1000)).max() <= 1


def test_a_speed_follows_the_time_stamps(sent):
    """Ten times as fast is a tenth of the distance; a stamp that goes back delays and advances nothing."""
    stamps = sent.ts_ns.copy()
    stamps[5] = stamps[0] - NS
    due = Pace(speed=10).due(stamps, np.zeros(len(stamps), np.int64))
    expected = np.maximum.accumulate(np.maximum(stamps - stamps[0], 0)) / 10
    assert np.abs(due - expected).max() <= 1
    later = Pace(speed=10).due(stamps[:1], np.zeros(1, np.int64), int(stamps[0]) - NS)
    assert later.tolist() == [NS // 10]
    assert not Pace().due(stamps, np.zeros(len(stamps), np.int64)).any()


def test_a_burst_goes_faster_for_a_part_of_every_period():
    """In 4x:0.5/2, two seconds take what was due in 3.5: two of them in the first half second."""
    burst = parse_burst("4x:0.5/2")
    assert burst == Burst(4, 0.5, 2)
    nominal = np.array([0, 1, 2, 3, 3.5, 5.5, 7])
    assert burst.warp(nominal).tolist() == [0, 0.25, 0.5, 1.5, 2, 2.5, 4]


@pytest.mark.parametrize("text", ["", "4x", "4x:1", "4x:3/2", "0x:1/2", "x:1/2", "4x:0/2", "nanx:1/2"])
def test_a_burst_that_makes_no_sense_is_refused(text):
    """With an example of one that does."""
    with pytest.raises(InputError, match=r"such as 4x:0\.5/10"):
        parse_burst(text)


def test_a_walk_finds_what_a_decoder_finds(sent):
    """Exporters, and the samples of each kind, datagram by datagram; hostile ones belong to nobody or hold nothing."""
    mixed = mix_hostile(sent, np.random.default_rng(5), 0.3).datagrams
    found = walk(mixed)
    for row, data in enumerate(mixed):
        if mixed.agent[row] < 0:
            assert found.flow_samples[row] <= 1 and not found.counters_samples[row]
            continue
        decoded = decode_datagram(data)
        kinds = [sample["type"] for sample in decoded["samples"]]
        assert found.exporters[found.exporter[row]] == Exporter(decoded["agent_address"], decoded["sub_agent_id"])
        assert found.flow_samples[row] == sum(kind.startswith("flow") for kind in kinds)
        assert found.counters_samples[row] == sum(kind.startswith("counters") for kind in kinds)


def test_faults_lose_move_and_double_rows(sent):
    """Every row that arrives is one of the datagrams; the shares are about what was asked for."""
    count = len(sent)
    rng = np.random.default_rng(6)
    assert Faults().rows(sent, rng).tolist() == list(range(count))
    lost = Faults(loss=0.2).rows(sent, rng)
    assert 0.1 < 1 - len(lost) / count < 0.3 and np.all(np.diff(lost) > 0)
    doubled = Faults(duplicate=0.2).rows(sent, rng)
    assert sorted(set(doubled.tolist())) == list(range(count)) and 0.1 < len(doubled) / count - 1 < 0.3
    moved = Faults(reorder=0.2).rows(sent, rng)
    assert sorted(moved.tolist()) == list(range(count)) and (np.diff(moved) < 0).any()


def numbers(datagrams: Datagrams) -> tuple[dict, dict]:
    """Return the sequence numbers of each agent, and (sequence, pool) of each source, in order."""
    agents: dict = {}
    sources: dict = {}
    for data in datagrams:
        decoded = decode_datagram(data)
        agents.setdefault(decoded["agent_address"], []).append(decoded["sequence_number"])
        for sample in decoded["samples"]:
            key = (decoded["agent_address"], sample["type"][:4], sample["source_id"]["index"])
            sources.setdefault(key, []).append((sample["sequence_number"], sample.get("sample_pool", 0)))
    return agents, sources


def test_a_repetition_goes_on_where_the_last_one_ended(sent):
    """Sequence numbers continue without a gap, and at 1:1 so do the pools; contents stay what they are."""
    repetition = Repetition(sent)
    agents, sources = numbers(repetition.datagrams)
    octets = repetition.datagrams.buffer.copy()
    for _ in range(3):
        repetition.advance()
        for mine, others in zip((agents, sources), numbers(repetition.datagrams), strict=True):
            for key, row in others.items():
                mine[key] += row
    for row in agents.values():
        assert row == list(range(row[0], row[0] + len(row)))
    for (_, kind, _), row in sources.items():
        assert [sequence for sequence, _ in row] == list(range(row[0][0], row[0][0] + len(row)))
        if kind == "flow":  # every packet is a sample: the pool grows by one each
            assert [pool for _, pool in row] == list(range(row[0][1], row[0][1] + len(row)))
    changed = np.flatnonzero(octets != repetition.datagrams.buffer)
    found = walk(sent)
    assert 0 < len(changed) <= 8 * len(sent) + 8 * len(found.position)


def test_a_repetition_wraps_as_32_bit_numbers_do(sent):
    """Behind 2^32 - 1 comes 0."""
    (block,) = known_truth(
        3, 1, 1, departments=5, applications=10, packets_per_s=3_000, first_pool=2**32 - 500, first_sequence=2**32 - 9
    )
    repetition = Repetition(block.datagrams)
    before, _ = numbers(repetition.datagrams)
    repetition.advance()
    after, _ = numbers(repetition.datagrams)
    assert all(after[agent][0] == (before[agent][-1] + 1) % 2**32 for agent in before)
    assert any(row[0] < 2**31 for row in after.values())


def test_a_known_growth_of_the_pool_is_taken(sent):
    """Truth that is handed in replaces the guess from the samples' distances."""
    found = walk(sent)
    agent = found.exporters[0]
    index = next(
        sample["source_id"]["index"]
        for data, row in zip(sent, found.exporter, strict=True)
        if row == 0
        for sample in samples_of(data)
        if sample["type"].startswith("flow")
    )
    repetition = Repetition(sent, {(agent, 0, index): 123_456})
    _, before = numbers(repetition.datagrams)
    repetition.advance()
    _, after = numbers(repetition.datagrams)
    grown = {key: after[key][0][1] - before[key][0][1] for key in before if key[1] == "flow"}
    assert grown[agent.agent, "flow", index] == 123_456
    assert list(grown.values()).count(123_456) == 1


def test_exporters_have_the_names_that_the_walk_finds(sent):
    """A model's agents and the datagrams' headers give the same names."""
    from telemetryd.ingest.generate.plan import plan_model

    found = walk(sent)
    assert set(found.exporters) <= set(exporters_of(plan_model(5, 10, 9, 1).agents))


def test_a_walk_stays_inside_cut_datagrams(sent):
    """A datagram cut anywhere holds no more samples than whole; nothing outside it is read as its own."""
    whole = walk(sent).flow_samples[:20]
    for octets in range(0, 400, 12):
        cut = replace(sent.take(np.arange(20)), lengths=np.minimum(sent.lengths[:20], octets).astype(np.uint32))
        found = walk(cut)
        assert np.all(found.flow_samples <= whole)
        assert np.all(found.position < (cut.offsets + cut.lengths).astype(np.int64)[found.datagram])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either captures or --city"),
        (["x.pcap", "--city"], "give either captures or --city"),
        (["--city", "--rate", "10", "--speed", "max"], "not both"),
        (["x.pcap", "--wrap"], "need --city"),
        (["--city", "--repeat", "1000"], "--repeat goes with --city --rate"),
        (["--city", "--rate-change", "30"], "use N@AT"),
        (["--city", "--restart-agent", "x"], "no number of seconds"),
        (
            ["--city", "--restart-agent", "192.0.2.9@1", "--rate", "10", "--seconds", "1"],
            "no exporter has this address",
        ),
        (["--city", "--to", "192.0.2.1:6343"], "--allow-remote"),
        (["--city", "--sources", "3", "--to", "[::1]:6343"], "source addresses 127.0.0.x"),
        (["missing.pcap"], "missing.pcap: cannot open the capture"),
    ],
)
def test_mistakes_are_named_without_a_traceback(arguments, message, capsys):
    """Exit code 2 and one line on stderr."""
    with pytest.raises(SystemExit) as ended:
        main(["send", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_help_names_every_fault(capsys):
    """What can go wrong on the way can be asked for."""
    with pytest.raises(SystemExit):
        main(["send", "--help"])
    shown = capsys.readouterr().out
    for option in ("--loss", "--reorder", "--duplicate", "--restart-agent", "--rate-change", "--wrap", "--burst"):
        assert option in shown
