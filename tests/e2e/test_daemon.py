"""The daemon as a process: datagrams in, windows in the store, and what it does when it is told things."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from telemetryd._ext import is_disabled
from telemetryd.ingest.generate.plan import write_registry
from telemetryd.ingest.generate.profiles import known_truth
from telemetryd.ingest.generate.traffic import GeneratedBlock
from telemetryd.schema import Table
from telemetryd.store.embedded import Store
from telemetryd.store.levels import SECOND_NS
from tests.daemon_process import DEADLINE_S, DaemonProcess, send

if is_disabled():
    pytest.skip("the twins are held to the compiled stages elsewhere", allow_module_level=True)

EXAMPLE_CITY = Path(__file__).parents[2] / "policies" / "example-city" / "registry"
SIZES = {"departments": 12, "applications": 40, "cores": 4}
Totals = dict[tuple[str, ...], tuple[int, int]]


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A registry that knows the generator's network."""
    directory = tmp_path / "registry"
    directory.mkdir()
    write_registry(directory, **SIZES)
    return directory


def traffic(seconds: int, seed: int = 1, **options: int) -> list[GeneratedBlock]:
    """Return traffic in which every packet is a sample."""
    return list(known_truth(seed, 1, seconds, packets_per_s=2000, **SIZES, **options))


def datagrams(blocks: Sequence[GeneratedBlock]) -> Iterator[bytes]:
    for block in blocks:
        for offset, length in zip(block.offsets.tolist(), block.lengths.tolist(), strict=True):
            yield block.buffer[offset : offset + length].tobytes()


def truth(blocks: Sequence[GeneratedBlock], which: str) -> Totals:
    """Add up what was sent, by key: (packets, octets)."""
    total: Counter[tuple[str, ...]] = Counter()
    octets: Counter[tuple[str, ...]] = Counter()
    for block in blocks:
        for key, (packets, size) in getattr(block.truth, which).totals().items():
            total[key] += packets
            octets[key] += size
    return {key: (total[key], octets[key]) for key in total}


def stored(path: Path, which: Table, span_ns: int = SECOND_NS) -> Totals:
    """Add up what the store holds, by the same key."""
    with Store.open(path, "read") as store:
        rows = store.scan(span_ns=span_ns).to_pylist()
    total: Counter[tuple[str, ...]] = Counter()
    octets: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        if row["table"] == which.name.lower():
            key = tuple(row[n] for n in ("link", "direction", "department", "peer_department", "application"))
            total[key] += row["packets"]
            octets[key] += row["octets"]
    return {key: (round(total[key]), round(octets[key])) for key in total}


def samples_of(path: Path) -> int:
    """Count the samples of the totals in the store."""
    with Store.open(path, "read") as store:
        table = store.scan(span_ns=SECOND_NS).to_pylist()
    return sum(row["samples"] for row in table if row["table"] == "totals")


def packets_of(blocks: Sequence[GeneratedBlock]) -> int:
    """Count the packets that the totals of some traffic hold."""
    return sum(packets for packets, _ in truth(blocks, "totals").values())


def processed(daemon: DaemonProcess) -> float:
    return sum(
        value
        for name, value in daemon.metrics().items()
        if name.startswith("telemetryd_receive_datagrams_total") and 'outcome="processed"' in name
    )


def undecodable(metrics: dict[str, float]) -> float:
    return sum(value for name, value in metrics.items() if name.startswith("telemetryd_decode_errors"))


@pytest.mark.parametrize("sockets", [1, 2])
def test_what_was_sent_is_in_the_store(tmp_path: Path, registry: Path, sockets: int) -> None:
    """At 1:1 the store holds exactly what was sent, at every level, after a SIGTERM that exits 0."""
    blocks = traffic(3)
    listen = {"port": 0, "sources": "any", "sockets": sockets}
    with DaemonProcess(tmp_path, registry, {"listen": listen}) as daemon:
        sent = send(daemon.sflow, datagrams(blocks))
        assert daemon.terminate() == 0, "".join(daemon.stderr)
    assert sent > 100
    for span_ns in (SECOND_NS, 10 * SECOND_NS, 3600 * SECOND_NS):
        assert stored(daemon.store, Table.TOTALS, span_ns) == truth(blocks, "totals")
        assert stored(daemon.store, Table.LINK_USAGE, span_ns) == truth(blocks, "link_usage")


def test_it_answers_how_it_is(tmp_path: Path, registry: Path) -> None:
    """Health, readiness and metrics answer; each datagram is under one outcome, windows reach the store meanwhile."""
    blocks = traffic(1)
    with DaemonProcess(tmp_path, registry) as daemon:
        status, body = daemon.get("/healthz")
        assert (status, json.loads(body)["state"]) == (200, "ok")
        assert set(json.loads(body)["components"]) == {
            "watchdog",
            "http",
            "control",
            "updates",
            "outputs",
            "store",
            "alerts",
            "demand",
            "coverage",
            "counters",
            "gnmi",
            "enforce",
            "settling",
            "receive",
        }
        assert daemon.get("/readyz")[0] == 200
        assert daemon.get("/nothing")[0] == 404
        sent = send(daemon.sflow, datagrams(blocks)) + send(daemon.sflow, [b"junk", b"\0" * 64])
        daemon.until(lambda: processed(daemon) == sent - 1)
        daemon.until(lambda: daemon.metrics()["telemetryd_store_rows_total"] > 0)
        daemon.until(lambda: undecodable(daemon.metrics()) == 2)  # what is decoded is told once a second
        metrics = daemon.metrics()
        assert metrics['telemetryd_receive_datagrams_total{outcome="short",socket="0"}'] == 1
        assert metrics['telemetryd_receive_kernel_drops_total{socket="0"}'] == 0
        assert metrics["telemetryd_store_lost_windows_total"] == 0
        assert undecodable(metrics) == 2
        assert daemon.terminate() == 0


def test_a_bad_configuration_leaves_the_old_one_running(tmp_path: Path, registry: Path) -> None:
    """SIGHUP with a mistake keeps everything and says where it is; the next good one is taken."""
    blocks = traffic(1)
    with DaemonProcess(tmp_path, registry) as daemon:
        daemon.config.write_text(f"version: 1\nregistry: {registry}\nlog: {{level: loud}}\n")
        daemon.signal(signal.SIGHUP)
        refused = daemon.wait_for("reload refused")
        assert f"{daemon.config}:3:14" in refused["first"]
        assert daemon.wait_for("reload asked for")["by"] == "SIGHUP"
        health = json.loads(daemon.get("/healthz")[1])
        assert health["state"] == "degraded"
        assert "the old configuration goes on" in health["reasons"][0]
        send(daemon.sflow, datagrams(blocks))

        (registry / "broken.yaml").write_text("version: 1\ndepartments: [{name: 1}]\n")
        daemon.write_config()
        daemon.signal(signal.SIGHUP)
        assert "broken.yaml:2:22" in daemon.wait_for("reload refused", 2)["first"]

        (registry / "broken.yaml").unlink()
        daemon.settings["http"] = {"port": 1}
        daemon.write_config()
        daemon.signal(signal.SIGHUP)
        assert daemon.wait_for("reloaded")["needs_restart"] == "http.port"
        daemon.signal(signal.SIGHUP)
        assert daemon.wait_for("reloaded", 2)["needs_restart"] == "http.port"  # until there is one
        assert json.loads(daemon.get("/healthz")[1])["state"] == "ok"
        assert daemon.metrics()['telemetryd_reloads_total{result="refused"}'] == 2
        assert daemon.terminate() == 0
    assert stored(daemon.store, Table.TOTALS) == truth(blocks, "totals")


def test_a_reload_renames_what_comes_later_only(tmp_path: Path, registry: Path) -> None:
    """Traffic from after a reload has the new registry's names, what came before keeps the old ones; none is lost."""
    blocks = traffic(4)
    with DaemonProcess(tmp_path, registry) as daemon:
        send(daemon.sflow, datagrams(blocks[:2]))
        daemon.until(lambda: processed(daemon) == sum(len(b.offsets) for b in blocks[:2]))
        for file in registry.glob("*.yaml"):
            file.write_text(file.read_text().replace("app-0001", "renamed"))
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("reloaded")
        # It takes effect at the next second; a window of the new tables shows that it has.
        windows = daemon.metrics()["telemetryd_windows_total"]
        heartbeat = blocks[2:3]
        send(daemon.sflow, datagrams(heartbeat))
        daemon.until(lambda: daemon.metrics()["telemetryd_windows_total"] > windows)
        send(daemon.sflow, datagrams(blocks[3:]))
        assert daemon.terminate() == 0
    expected = truth(blocks, "totals")
    found = stored(daemon.store, Table.TOTALS)
    merged: Counter[tuple[str, ...]] = Counter()
    for key, (packets, _) in found.items():
        merged[tuple("app-0001" if name == "renamed" else name for name in key)] += packets
    assert merged == {key: packets for key, (packets, _) in expected.items()}


def test_a_kill_loses_no_window_that_was_stored(tmp_path: Path, registry: Path) -> None:
    """After SIGKILL the stored windows are there, and the next run finishes their roll-ups and goes on."""
    blocks = traffic(4)
    with DaemonProcess(tmp_path, registry) as daemon:
        send(daemon.sflow, datagrams(blocks[:2]))
        before = truth(blocks[:2], "totals")
        # All that was sent lies in closed windows, and they are stored without any stop.
        daemon.until(lambda: samples_of(daemon.store) == packets_of(blocks[:2]))
        assert daemon.kill() == -signal.SIGKILL
        assert stored(daemon.store, Table.TOTALS) == before
        daemon.start()
        daemon.wait_for("finished the roll-ups of an earlier run")
        send(daemon.sflow, datagrams(blocks[2:]))
        assert daemon.terminate() == 0
    for span_ns in (SECOND_NS, 3600 * SECOND_NS):
        assert stored(daemon.store, Table.TOTALS, span_ns) == truth(blocks, "totals")


def test_it_tells_the_service_manager(tmp_path: Path, registry: Path) -> None:
    """READY when it serves, WATCHDOG while it lives, RELOADING and READY around a reload, STOPPING at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(DEADLINE_S)
        heard: list[str] = []

        def hear(line: str) -> None:
            heard.clear()
            while line not in heard:
                heard.extend(manager.recv(4096).decode().splitlines())

        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        daemon = DaemonProcess(tmp_path, registry)
        with daemon.start(environment=environment):
            hear("READY=1")
            hear("WATCHDOG=1")
            hear("WATCHDOG=1")
            assert any(line.startswith("STATUS=ok: 0 datagrams") for line in heard)
            daemon.signal(signal.SIGHUP)
            hear("RELOADING=1")
            hear("READY=1")
            daemon.signal(signal.SIGTERM)
            hear("STOPPING=1")
            assert daemon.wait() == 0


def test_a_restart_over_the_same_socket_loses_nothing(tmp_path: Path, registry: Path) -> None:
    """What comes while the daemon is away waits in the socket that the service manager holds."""
    blocks = traffic(3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        held.bind(("127.0.0.1", 0))
        code = (
            "import os, sys\n"
            "os.dup2(int(sys.argv[1]), 3)\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='sflow')\n"
            "os.execv(sys.argv[2], sys.argv[2:])"
        )
        prefix = [sys.executable, "-c", code, str(held.fileno())]
        daemon = DaemonProcess(tmp_path, registry)
        with daemon.start(prefix=prefix, pass_fds=(held.fileno(),)):
            assert daemon.wait_for("receiving")["handed_over"] is True
            send(held.getsockname(), datagrams(blocks[:1]))
            assert daemon.terminate() == 0
            send(held.getsockname(), datagrams(blocks[1:2]))
            daemon.start(prefix=prefix, pass_fds=(held.fileno(),))
            send(held.getsockname(), datagrams(blocks[2:]))
            assert daemon.terminate() == 0
    assert stored(daemon.store, Table.TOTALS) == truth(blocks, "totals")


def small_disk(tmp_path: Path, size: str) -> tuple[Path, list[str]]:
    """Return a mount point, and the command that mounts a small disk there for one process and ends with it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    prefix = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size={size} tmpfs {disk} && exec "$0" "$@"']
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("a file system of its own cannot be mounted here: needs root")
    return disk, prefix


def fill(disk: Path) -> Path:
    """Fill a disk with one file, and return the file."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    return ballast


def test_a_full_disk_is_a_state(tmp_path: Path, registry: Path) -> None:
    """On a full disk the daemon is degraded and keeps its windows; with room again it stores them, all of them."""
    disk, prefix = small_disk(tmp_path, "4m")
    blocks = traffic(3)
    daemon = DaemonProcess(tmp_path, registry, {"store": {"path": str(disk / "store")}})
    with daemon.start(prefix=prefix):
        seen = Path(f"/proc/{daemon.process.pid}/root{disk}")
        send(daemon.sflow, datagrams(blocks[:1]))
        daemon.until(lambda: samples_of(seen / "store") == packets_of(blocks[:1]))
        ballast = fill(seen)
        send(daemon.sflow, datagrams(blocks[1:2]))
        assert "the disk is full" in daemon.wait_for("cannot store windows")["reason"]
        health = json.loads(daemon.get("/healthz")[1])
        assert health["components"]["store"]["state"] == "degraded"
        assert daemon.get("/readyz")[0] == 200
        send(daemon.sflow, datagrams(blocks[2:]))
        ballast.unlink()
        daemon.until(lambda: samples_of(seen / "store") == packets_of(blocks))
        assert stored(seen / "store", Table.TOTALS) == truth(blocks, "totals")
        daemon.until(lambda: json.loads(daemon.get("/healthz")[1])["state"] == "ok")
        assert daemon.metrics()["telemetryd_store_lost_windows_total"] == 0
        assert daemon.terminate() == 0


def test_what_cannot_be_stored_at_the_end_is_said(tmp_path: Path, registry: Path) -> None:
    """A stop that cannot store everything in its time ends with 1 and says how many windows are lost."""
    blocks = traffic(1)
    disk, prefix = small_disk(tmp_path, "256k")
    settings = {"store": {"path": str(disk / "store")}, "limits": {"agent_datagrams_per_s": 0, "drain": "2 s"}}
    daemon = DaemonProcess(tmp_path, registry, settings)
    with daemon.start(prefix=prefix):
        fill(Path(f"/proc/{daemon.process.pid}/root{disk}"))
        send(daemon.sflow, datagrams(blocks))
        daemon.wait_for("cannot store windows")
        assert daemon.terminate() == 1
        assert daemon.logged("stopped before everything was stored")[0]["windows_lost"] >= 1


def test_it_names_what_keeps_it_from_starting(tmp_path: Path, registry: Path) -> None:
    """A port in use is named with its holder, a taken store with its writer; no traceback, exit codes 2 and 1."""
    with DaemonProcess(tmp_path, registry) as first:
        other = tmp_path / "other"
        other.mkdir()
        listen = {"port": first.sflow[1], "sources": "any"}
        second = DaemonProcess(other, registry, {"listen": listen}).start(wait=False)
        assert second.wait() == 2
        assert f"pid {first.process.pid}" in "".join(second.stderr)
        third = DaemonProcess(other, registry, {"store": {"path": str(first.store)}}).start(wait=False)
        assert third.wait() == 1
        assert str(first.process.pid) in "".join(third.stderr)
        assert "Traceback" not in "".join(second.stderr + third.stderr)
        assert first.terminate() == 0


def test_mistakes_in_the_configuration_end_the_start(tmp_path: Path) -> None:
    """A configuration with mistakes prints all of them and exits 2."""
    daemon = DaemonProcess(tmp_path, tmp_path / "nowhere", {"log": {"level": "loud", "format": 1}}).start(wait=False)
    assert daemon.wait() == 2
    assert "telemetryd: 2 mistakes" in "".join(daemon.stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_ends_it(tmp_path: Path, registry: Path, number: signal.Signals) -> None:
    """A signal that comes before the daemon is ready ends it with 0 all the same."""
    daemon = DaemonProcess(tmp_path, registry).start(wait=False)
    daemon.wait_for("starting")
    daemon.wait_for("listening", component="http")
    daemon.signal(number)
    assert daemon.wait() == 0, "".join(daemon.stderr)


def test_a_signal_before_anything_has_begun_ends_it(tmp_path: Path) -> None:
    """While the configuration is loaded, SIGHUP is ignored and SIGTERM ends with 0."""
    daemon = DaemonProcess(tmp_path, EXAMPLE_CITY).start(wait=False)
    status = Path(f"/proc/{daemon.process.pid}/status")

    def is_caught(number: signal.Signals, mask: str) -> bool:
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return bool(int(fields[mask], 16) >> (number - 1) & 1)  # proc(5)

    # SIGHUP may have been ignored by whoever started the tests: SIGTERM tells that the daemon has begun.
    daemon.until(lambda: is_caught(signal.SIGHUP, "SigIgn") and is_caught(signal.SIGTERM, "SigCgt"))
    daemon.signal(signal.SIGHUP)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0, "".join(daemon.stderr)


def ask(daemon: DaemonProcess, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a verb of the control service; return exit code and JSON."""
    command = [sys.executable, "-m", "telemetryd", *arguments, "--json", "--socket", str(daemon.control)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    return done.returncode, json.loads(done.stdout)


def test_it_answers_the_control_service(tmp_path: Path, registry: Path) -> None:
    """`status`, `top` and `reload` say what the daemon received, how fast, and what a reload changed."""
    blocks = traffic(1)
    with DaemonProcess(tmp_path, registry) as daemon:
        sent = send(daemon.sflow, datagrams(blocks))
        daemon.until(lambda: daemon.metrics()["telemetryd_store_rows_total"] > 0)
        daemon.until(lambda: processed(daemon) == sent)
        code, status = ask(daemon, "status")
        assert (code, status["state"], status["pid"]) == (0, "ok", daemon.process.pid)
        assert [one["counts"]["processed"] for one in status["sockets"]] == [sent]
        assert sum(one["counts"]["received"] for one in status["agents"]) == sent
        assert status["loss"]["share"] == 0
        assert status["store"]["counts"]["lost_windows"] == 0

        code, update = ask(daemon, "top")
        assert code == 0
        assert update["total"]["samples"] <= packets_of(blocks)  # rates are over the last seconds
        assert {row["name"] for row in update["departments"]} <= {key[2] for key in truth(blocks, "totals")}

        (registry / "more.yaml").write_text("version: 1\ndepartments: [{name: added}]\n")
        code, result = ask(daemon, "reload")
        assert (code, result["reloaded"]) == (0, True)
        asked = daemon.wait_for("reload asked for")
        assert (asked["component"], asked["by"], asked["uid"]) == (
            "audit",
            pwd.getpwuid(os.getuid()).pw_name,
            os.getuid(),
        )
        assert any(change.startswith("registry: departments 12 -> 13") for change in result["changes"])

        (registry / "more.yaml").write_text("version: 1\ndepartments: [{name: added, name: again}]\n")
        code, result = ask(daemon, "reload")
        assert (code, result["reloaded"]) == (2, False)
        assert "more.yaml:2:29" in result["problems"][0]
        code, status = ask(daemon, "status")
        assert (code, status["state"], status["reloads"]) == (0, "degraded", 1)
        assert daemon.terminate() == 0
        assert all(line.startswith("{") for line in daemon.stderr)  # nobody writes past the log
    assert stored(daemon.store, Table.TOTALS) == truth(blocks, "totals")
