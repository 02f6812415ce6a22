"""`telemetryd agent --qos kernel` as a process in a namespace: what grpcio sets is in the kernel, whatever happens.

Judged by tc. The agent is killed, a commit is not confirmed, and the interface goes away and comes back.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from telemetryd.proto import gnmi_ext_pb2
from tests.agent_process import AgentProcess
from tests.contract import test_agent_set_peers as peers
from tests.namespaces import missing_tools, run
from tests.street import inside, namespace

pytestmark = [
    pytest.mark.no_twins,
    pytest.mark.skipif(bool(missing_tools(["ip", "tc"])), reason="ip and tc are needed"),
]
DEADLINE_S = 60
CIR = peers.CIR.replace("-lo", "-v1")


@pytest.fixture
def name() -> Iterator[str]:
    """Make a namespace with the interface v1, and be in it."""
    with namespace("s") as made:
        plug(made)
        with inside(made):
            yield made


def plug(namespace: str) -> None:
    run("ip", "-n", namespace, "link", "add", "v1", "type", "veth", "peer", "name", "v2")
    for link in ("v1", "v2"):
        run("ip", "-n", namespace, "link", "set", link, "up")


def tree() -> dict[str, Any]:
    text = json.dumps(peers.tree()).replace("telemetryd-out-lo", "telemetryd-out-v1").replace('"lo"', '"v1"')
    found: dict[str, Any] = json.loads(text)
    return found


def rates(namespace: str) -> list[str]:
    """Return rates and ceilings of the leaves with a policy's rate at v1, as tc shows them."""
    command = ["tc", "-n", namespace, "class", "show", "dev", "v1"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return re.findall(r"leaf \S+ prio 0 rate (\S+) .*?ceil (\S+)", shown)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it has not come to be"
        time.sleep(0.05)


def test_the_kernel_follows(name: str, tmp_path: Path) -> None:
    """Set, changed, rolled back, killed and started again, unplugged and plugged in, taken off."""
    # gRPC's threads stay in the namespace in which its first one began: this test and the others must not share them.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(follow, name, tmp_path).result()


def follow(name: str, tmp_path: Path) -> None:
    options = ("--insecure", "--qos", "kernel", "--allow-set", "--state-dir", str(tmp_path))
    with AgentProcess(*options) as agent, peers.Client(agent.port) as client:
        client.set(replace={"/qos": tree()})
        assert rates(name) == [("5Mbit", "9Mbit")]
        client.set(update={CIR: 6_000_000})
        assert rates(name) == [("6Mbit", "9Mbit")]
        assert client.refused(update={CIR: 10_000_000})[0] == "INVALID_ARGUMENT"
        commit = gnmi_ext_pb2.Commit(id="c1", commit=gnmi_ext_pb2.CommitRequest())
        commit.commit.rollback_duration.seconds = 1
        client.set("/qos", commit=commit)
        until(lambda: rates(name) == [("6Mbit", "9Mbit")])
        agent.wait_for("commit rolled back")
    # Killed: what is in the kernel stays, and what was set is known again.
    assert rates(name) == [("6Mbit", "9Mbit")]
    with AgentProcess(*options) as agent, peers.Client(agent.port) as client:
        assert client.get(CIR) == "6000000"
        assert rates(name) == [("6Mbit", "9Mbit")]
        run("ip", "-n", name, "link", "delete", "v1")
        agent.wait_for("a policy waits for its interface")
        plug(name)
        until(lambda: rates(name) == [("6Mbit", "9Mbit")])
        client.set(update={CIR: 7_000_000})
        assert rates(name) == [("7Mbit", "9Mbit")]
        client.set("/qos")
        assert rates(name) == []
        assert agent.terminate() == 0
