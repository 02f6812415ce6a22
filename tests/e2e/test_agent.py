"""`telemetryd agent` in a network namespace: every value is the kernel's, and every change of a link is told."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.agent_process import AgentProcess
from tests.e2e.test_exporters import need
from tests.namespaces import Pair

SEND = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for _ in range(1000):
        sender.sendto(bytes(500), ("10.9.8.2", 9))
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Two namespaces; the agent is in the second, whose port ``vb`` has an address."""
    need("ip")
    with Pair(tmp_path) as made:
        made.run(made.outside, "ip", "addr", "add", "10.9.8.1/24", "dev", "va")
        made.run(made.inside, "ip", "addr", "add", "10.9.8.2/24", "dev", "vb")
        yield made


class Subscriber:
    """`telemetryd gnmi subscribe` in the second namespace, and the lines that it has printed."""

    def __init__(self, pair: Pair, port: int, *arguments: str) -> None:
        self._pair = pair
        command = ["ip", "netns", "exec", pair.inside, sys.executable, "-m", "telemetryd", "gnmi", "subscribe"]
        self._command = [*command, f"127.0.0.1:{port}", "--insecure", *arguments]
        self.lines: list[str] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n").replace("/interfaces/interface", ""))

    def wait_for(self, *lines: str) -> None:
        """Wait until one of the lines has come."""
        self._pair.until(lambda: set(lines) & set(self.lines), f"one of {lines}")


def values_of(pair: Pair, port: int, interface: str) -> dict[str, Any]:
    """Return the leaves of an interface's state."""
    command = [sys.executable, "-m", "telemetryd", "gnmi", "get", f"127.0.0.1:{port}", "--insecure"]
    path = f"/interfaces/interface[name={interface}]"
    found = pair.run(pair.inside, *command, "-p", path, "-e", "json_ietf", "--json")
    (update,) = json.loads(found)["notifications"][0]["updates"]
    tree = {name.rpartition(":")[2]: value for name, value in update["value"].items()}
    return {**tree["state"], **tree["state"]["counters"], **tree.get("ethernet", {}).get("state", {})}


def test_values_are_the_kernels(pair: Pair) -> None:
    """After traffic of a known size each leaf is what the kernel says, in its namespace."""
    pair.run(pair.inside, "ip", "link", "set", "vb", "alias", "city uplink 城")
    with AgentProcess("--insecure", prefix=("ip", "netns", "exec", pair.inside)) as agent:
        pair.run(pair.outside, sys.executable, "-c", SEND)
        pair.until(lambda: pair.received()[0] >= 1000, "1000 packets")
        values, shown = values_of(pair, agent.port, "vb"), pair.show("vb")
        assert set(pair.run(pair.inside, "ls", "/sys/class/net").split()) >= {"lo", "vb"}
    received, sent = shown["stats64"]["rx"], shown["stats64"]["tx"]
    assert received["packets"] >= 1000
    assert {name: int(values[name]) for name in ("in-octets", "in-pkts", "in-errors", "in-discards")} == {
        "in-octets": received["bytes"],
        "in-pkts": received["packets"],
        "in-errors": received["errors"],
        "in-discards": received["dropped"],
    }
    assert {name: int(values[name]) for name in ("out-octets", "out-pkts", "out-errors", "out-discards")} == {
        "out-octets": sent["bytes"],
        "out-pkts": sent["packets"],
        "out-errors": sent["errors"],
        "out-discards": sent["dropped"],
    }
    assert {name: values[name] for name in ("ifindex", "mtu", "oper-status", "admin-status", "description")} == {
        "ifindex": shown["ifindex"],
        "mtu": 9000,
        "oper-status": "UP",
        "admin-status": "UP",
        "description": "city uplink 城",
    }
    assert values["mac-address"] == shown["address"]
    # A veth port says 10 Gbit/s.
    assert values["port-speed"] == "openconfig-if-ethernet:SPEED_10GB"


def test_changes_are_told(pair: Pair) -> None:
    """A link that goes down, comes up, is made, renamed and deleted: each is sent when it happens."""
    arguments = ("-p", "/interfaces/interface/state/oper-status", "--stream-mode", "on-change")
    with (
        AgentProcess("--insecure", prefix=("ip", "netns", "exec", pair.inside)) as agent,
        Subscriber(pair, agent.port, *arguments) as subscriber,
    ):
        subscriber.wait_for("sync_response")
        assert "[name=vb]/state/oper-status: UP" in subscriber.lines
        pair.run(pair.outside, "ip", "link", "set", "va", "down")
        # It depends on the kernel whether the other end is below this one in another namespace.
        down = ("DOWN", "LOWER_LAYER_DOWN")
        subscriber.wait_for(*(f"[name=vb]/state/oper-status: {state}" for state in down))
        del subscriber.lines[:]
        pair.run(pair.outside, "ip", "link", "set", "va", "up")
        subscriber.wait_for("[name=vb]/state/oper-status: UP")
        pair.run(pair.inside, "ip", "link", "add", "t0", "type", "veth", "peer", "name", "t1")
        subscriber.wait_for(*(f"[name=t0]/state/oper-status: {state}" for state in down))
        pair.run(pair.inside, "ip", "link", "set", "t0", "name", "t2")
        subscriber.wait_for("delete [name=t0]/state/oper-status")
        subscriber.wait_for(*(f"[name=t2]/state/oper-status: {state}" for state in down))
        pair.run(pair.inside, "ip", "link", "delete", "t2")
        subscriber.wait_for("delete [name=t2]/state/oper-status")
        subscriber.wait_for("delete [name=t1]/state/oper-status")
        assert agent.terminate() == 0


def test_links_that_come_and_go_all_the_time(pair: Pair) -> None:
    """While links are made and deleted, samples of the others come on; in the end there is what the kernel has."""
    churn = "for i in $(seq 60); do ip link add c$i type veth peer name d$i; ip link delete c$i; done"
    path = ("-p", "/interfaces/interface/state/counters/in-octets", "-i", "100 ms")
    with (
        AgentProcess("--insecure", prefix=("ip", "netns", "exec", pair.inside)) as agent,
        Subscriber(pair, agent.port, *path) as subscriber,
    ):
        subscriber.wait_for("sync_response")
        pair.run(pair.inside, "sh", "-c", churn)
        del subscriber.lines[:]
        pair.until(lambda: sum(line.startswith("[name=vb]") for line in subscriber.lines) > 5, "samples of vb")
        command = [sys.executable, "-m", "telemetryd", "gnmi", "get", f"127.0.0.1:{agent.port}", "--insecure"]
        found = pair.run(pair.inside, *command, "-p", "/interfaces/interface/name").splitlines()
        assert sorted(line.rpartition(": ")[2] for line in found) == ["lo", "vb"]
        assert not [
            event for event in agent.events if event["level"] in ("error", "warning") and "TLS" not in str(event)
        ]
