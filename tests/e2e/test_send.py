"""What `telemetryd send` says it sent is what a plain UDP socket receives, exporter by exporter."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from telemetryd._ext import load
from telemetryd.ingest.capture import open_capture
from telemetryd.ingest.capture_writer import CaptureWriter
from telemetryd.ingest.generate.profiles import known_truth
from telemetryd.ingest.sflow.decode import decode_datagram

DEADLINE_S = 60
QUIET_S = 0.2
EXAMPLE = Path(__file__).parents[2] / "policies" / "example-city" / "registry"


class Collector:
    """A UDP socket with a large buffer, read by a thread; ``drops`` is what the kernel threw away."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET) -> None:
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 26)
        self.socket.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self.socket.settimeout(QUIET_S)
        self.received: list[tuple[str, bytes]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def target(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _read(self) -> None:
        while True:
            ended = self._ended.is_set()
            try:
                data, source = self.socket.recvfrom(65536)
                self.received.append((source[0], data))
            except TimeoutError:
                if ended:  # nothing came since the sender ended
                    return

    def drops(self) -> int:
        """Return the kernel's drops of this socket (proc(5), /proc/net/udp)."""
        inode = os.fstat(self.socket.fileno()).st_ino
        table = "udp6" if self.socket.family == socket.AF_INET6 else "udp"
        rows = [line.split() for line in Path("/proc/net", table).read_text().splitlines()[1:]]
        return next(int(row[12]) for row in rows if int(row[9]) == inode)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.socket.close()


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.close()


def send(collector: Collector, *arguments: str) -> dict:
    """Send to the collector and return the summary, once everything has been read."""
    command = [sys.executable, "-m", "telemetryd", "send", *arguments, "--to", collector.target, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    deadline = time.monotonic() + DEADLINE_S
    while len(collector.received) + collector.drops() < summary["total"]["datagrams"]:
        assert time.monotonic() < deadline, (len(collector.received), summary["total"])
        threading.Event().wait(0.01)
    assert len(collector.received) + collector.drops() == summary["total"]["datagrams"]
    return summary


def per_agent(datagrams: list[bytes]) -> dict[str, Counter[str]]:
    """Count what the reference decoder finds in datagrams."""
    counts: dict[str, Counter[str]] = {}
    for data in datagrams:
        decoded = decode_datagram(data)
        mine = counts.setdefault(decoded["agent_address"], Counter())
        mine["datagrams"] += 1
        mine["octets"] += len(data)
        for sample in decoded["samples"]:
            mine["flow_samples" if sample["type"] == "flow_sample" else "counters_samples"] += 1
    return counts


def check_agents(summary: dict, datagrams: list[bytes]) -> None:
    """Hold the summary's counts against what was received."""
    fields = ("datagrams", "octets", "flow_samples", "counters_samples")
    received = per_agent(datagrams)
    assert {row["agent"] for row in summary["agents"] if row["datagrams"]} == set(received)
    for row in summary["agents"]:
        assert [row[name] for name in fields] == [received.get(row["agent"], Counter())[name] for name in fields]


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("send") / "small.pcap"
    with CaptureWriter(path) as writer:
        for block in known_truth(4, 1, 2, departments=5, applications=10, packets_per_s=2_000, cores=9):
            writer.write(block.buffer, block.offsets, block.lengths, block.ts_ns)
    return path


def payloads(path: Path) -> list[bytes]:
    with open_capture(path) as capture:
        return [batch.payload(row) for batch in capture for row in range(batch.n)]


def test_a_capture_arrives_as_it_is(collector, capture):
    """Every datagram, octet for octet and in order, counted for its exporter."""
    summary = send(collector, str(capture), "--speed", "20x")
    assert not collector.drops()
    assert [data for _, data in collector.received] == payloads(capture)
    check_agents(summary, payloads(capture))
    assert summary["truth"] is None and not summary["interrupted"]


def test_over_ipv6(capture):
    """A target in brackets is an IPv6 one."""
    collector = Collector(socket.AF_INET6)
    try:
        send(collector, str(capture), "--rate", "100000")
        assert not collector.drops()
        assert [data for _, data in collector.received] == payloads(capture)
    finally:
        collector.close()


def test_faults_are_counted_as_they_happen(collector, capture):
    """Lost datagrams are missing, doubled ones there twice, and late ones late: all of it in the counts."""
    faults = ("--loss", "0.1", "--duplicate", "0.1", "--reorder", "0.1", "--seed", "7")
    summary = send(collector, str(capture), "--speed", "max", *faults)
    assert not collector.drops()
    everything = payloads(capture)
    received = Counter(data for _, data in collector.received)
    assert summary["total"]["lost"] == len(set(everything) - set(received)) > 0
    assert summary["total"]["doubled"] == sum(received.values()) - len(received) > 0
    assert len(everything) == len(set(everything)) == len(received) + summary["total"]["lost"]
    places = {data: place for place, data in enumerate(everything)}
    assert (np.diff([places[data] for _, data in collector.received]) < 0).any()
    check_agents(summary, [data for _, data in collector.received])


def test_the_city_at_a_rate_is_paced_by_count(collector):
    """A rate and a time make a number of samples, however slow the machine is; the truth comes with it."""
    summary = send(collector, "--city", "--rate", "5000", "--seconds", "2", "--sources", "3", "-r", str(EXAMPLE))
    assert not collector.drops()
    assert 10_000 <= summary["total"]["flow_samples"] < 10_000 + 20  # to the end of the last datagram
    check_agents(summary, [data for _, data in collector.received])
    assert {source for source, _ in collector.received} == {"127.0.0.1", "127.0.0.2", "127.0.0.3"}
    of_agent: dict[str, set[str]] = {}
    for source, data in collector.received:
        of_agent.setdefault(decode_datagram(data)["agent_address"], set()).add(source)
    assert all(len(addresses) == 1 for addresses in of_agent.values())


def test_the_day_of_the_city_comes_with_its_whole_truth(collector):
    """So many seconds of event time, to their end: what the samples stand for is what really passed."""
    arguments = ("--speed", "2x", "--seconds", "1", "--at", "2026-11-28T09:00:00", "--scale", "0.2")
    summary = send(collector, "--city", *arguments, "-r", str(EXAMPLE))
    assert not collector.drops()
    check_agents(summary, [data for _, data in collector.received])
    truth = summary["truth"]
    assert truth["complete"] and truth["octets"] > 0
    for rows in ("departments", "applications"):
        assert sum(row["octets"] for row in truth[rows]) == truth["octets"]


def test_a_repeated_stretch_looks_like_one_long_run(collector):
    """Sequence numbers of exporters and sources never jump, and the truth adds up."""
    arguments = ("--rate", "20000", "--seconds", "1", "--repeat", "4000", "-r", str(EXAMPLE))
    summary = send(collector, "--city", *arguments)
    assert not collector.drops()
    latest: dict[tuple, int] = {}
    for _, data in collector.received:
        decoded = decode_datagram(data)
        agent = decoded["agent_address"]
        assert decoded["sequence_number"] == latest.get((agent,), 0) + 1
        latest[(agent,)] = decoded["sequence_number"]
        for sample in decoded["samples"]:
            source = (agent, sample["source_id"]["index"])
            assert sample["sequence_number"] == latest.get(source, 0) + 1
            latest[source] = sample["sequence_number"]
    assert 20_000 <= summary["total"]["flow_samples"] < 20_020
    assert summary["truth"]["packets"] > 0


def test_restarts_wraps_and_rate_changes_are_on_the_wire(collector):
    """The exporter restarts with its uptime, the numbers pass 2^32, and the stated rate changes."""
    events = ("--wrap", "--restart-agent", "1", "--rate-change", "16384@1.5")
    summary = send(collector, "--city", "--rate", "4000", "--seconds", "2", "-r", str(EXAMPLE), *events)
    assert not collector.drops()
    check_agents(summary, [data for _, data in collector.received])
    rates, restarted, wrapped = set(), set(), set()
    latest: dict[tuple[str, int], tuple[int, int]] = {}
    for _, data in collector.received:
        decoded = decode_datagram(data)
        agent = (decoded["agent_address"], decoded["sub_agent_id"])
        sequence, uptime = decoded["sequence_number"], decoded["uptime"]
        if agent in latest and uptime < latest[agent][1]:
            restarted.add(agent)
        elif agent in latest and sequence < latest[agent][0]:
            wrapped.add(agent)
        latest[agent] = sequence, uptime
        rates |= {sample["sampling_rate"] for sample in decoded["samples"] if sample["type"] == "flow_sample"}
    assert len(restarted) == 1 and wrapped
    assert 16384 in rates and len(rates) > 1


def test_nobody_listening_is_said_and_is_no_failure(capture):
    """A collector that is down does not stop an exporter."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "telemetryd", "send", str(capture), "--to", f"127.0.0.1:{port}", "--speed", "max"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    summary = json.loads(done.stdout)
    assert summary["total"]["datagrams"] == len(payloads(capture)) and summary["refused"] > 0


def test_the_counter_of_the_benchmarks_counts_everything(capture):
    """The limit that receivers are held against loses nothing itself."""
    module = load("send", "telemetryd.ingest.generate.send_reference")
    data = payloads(capture)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening, socket.socket(type=socket.SOCK_DGRAM) as out:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        listening.bind(("127.0.0.1", 0))
        for one in data:
            out.sendto(one, listening.getsockname())
        counter = module.Counter(listening.fileno(), 1_000_000)
        deadline = time.monotonic() + DEADLINE_S
        while counter.datagrams < len(data) and time.monotonic() < deadline:
            counter.receive(time.monotonic_ns() + 10_000_000)
    assert (counter.datagrams, counter.octets) == (len(data), sum(map(len, data)))


def test_compiled_and_reference_senders_send_the_same(collector, capture):
    """Rows in order from any row on, with source addresses, and the same refusals."""
    from telemetryd.ingest.generate import send_reference

    compiled = load("send", "telemetryd.ingest.generate.send_reference")
    data = payloads(capture)[:50]
    buffer = np.frombuffer(b"".join(data), np.uint8).copy()
    lengths = np.array([len(one) for one in data], np.uint32)
    offsets = (np.cumsum(lengths) - lengths).astype(np.uint64)
    due = time.monotonic_ns() + np.arange(50) * 100_000
    sources = np.where(np.arange(50) % 2, 0x7F000002, 0).astype(np.uint32)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.connect(collector.socket.getsockname())
        for module in (compiled, send_reference):
            sender = module.Sender(connection.fileno())
            end_ns = time.monotonic_ns() + DEADLINE_S * 10**9
            assert sender.send(buffer, offsets, lengths, due, sources, 10, end_ns) == 50
            assert (sender.datagrams, sender.octets) == (40, int(lengths[10:].sum()))
            assert sender.send(buffer, offsets, lengths, due, sources, 50, end_ns) == 50
            assert sender.send(buffer, offsets, lengths, due, sources, 0, 0) == 0  # the time is over
            for wrong in (offsets[:3], offsets + np.uint64(len(buffer))):
                with pytest.raises(ValueError, match=r"outside the buffer|differ in length"):
                    sender.send(buffer, wrong, lengths, due, sources, 0, end_ns)
            with pytest.raises(ValueError, match="no such row"):
                sender.send(buffer, offsets, lengths, due, sources, 51, end_ns)
    deadline = time.monotonic() + DEADLINE_S
    while len(collector.received) < 80 and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    first, second = collector.received[:40], collector.received[40:]
    assert first == second
    assert [one for _, one in first] == data[10:]
    assert [source for source, _ in first] == ["127.0.0.2" if row % 2 else "127.0.0.1" for row in range(10, 50)]


def test_an_interrupt_ends_with_exact_counts(collector):
    """Ctrl-C: the summary still says what went out, and the exit code is a shell's."""
    import signal

    command = [sys.executable, "-m", "telemetryd", "send", "--city", "--rate", "2000", "--seconds", "60"]
    command = ["env", "--default-signal=INT", *command]  # tests may be run in the background, where it is ignored
    process = subprocess.Popen([*command, "--to", collector.target, "--json"], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            deadline = time.monotonic() + DEADLINE_S
            while len(collector.received) < 20 and time.monotonic() < deadline:
                threading.Event().wait(0.01)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    summary = json.loads(output)
    assert process.returncode == 130 and summary["interrupted"]
    while len(collector.received) < summary["total"]["datagrams"] and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    check_agents(summary, [data for _, data in collector.received])


def test_every_field_of_the_summary_is_documented(collector, capture):
    """docs/send.md names them all."""
    summary = send(collector, str(capture), "--speed", "max", "--loss", "0.1")
    text = (Path(__file__).parents[2] / "docs" / "send.md").read_text(encoding="utf-8")
    for name in [*summary, *summary["target"], *summary["agents"][0]]:
        assert f"`{name}`" in text, name
