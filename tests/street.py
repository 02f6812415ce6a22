"""A gateway between clients and a server, each in a namespace of its own, and traffic through it.

a --(veth)-- a1 [gateway] s1 --(veth)-- s        10.1.0.2 / 2001:db8:1::2 behind a1, 10.2.0.2 behind b1,
b --(veth)-- b1 [gateway]                        10.9.0.2 / 2001:db8:9::2 behind s1
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from telemetryd.agent.tree import Value
from tests.namespaces import DEADLINE_S, run

_CLONE_NEWNET: Final = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
TRAFFIC: Final = Path(__file__).with_name("traffic.py")
#: What stays the same so long has come to rest: queues of these tests are emptied by then.
_REST_S: Final = 0.2
PORTS: Final = {"a": 1, "b": 2, "s": 9}

Tree = dict[str, Value]


class Street:
    """The namespaces; a context manager that removes them, and ends what was started in them."""

    def __init__(self) -> None:
        self.name = {one: f"td-{os.getpid()}-{one}" for one in ("g", *PORTS)}
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        try:
            for name in self.name.values():
                run("ip", "netns", "add", name)
                run("ip", "-n", name, "link", "set", "lo", "up")
                run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
            gateway = self.name["g"]
            self.run("g", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
            for one, number in PORTS.items():
                own = self.name[one]
                run(
                    *("ip", "link", "add", f"{one}1", "netns", gateway, "type", "veth"),
                    *("peer", "name", f"{one}0", "netns", own),
                )
                for ns, link, last in ((gateway, f"{one}1", 1), (own, f"{one}0", 2)):
                    # Nobody hands over large packets to be cut later: what is counted is what was sent.
                    run("ip", "-n", ns, "link", "set", link, "gso_max_segs", "1")
                    run("ip", "-n", ns, "address", "add", f"10.{number}.0.{last}/16", "dev", link)
                    address = f"2001:db8:{number}::{last}/64"
                    run("ip", "-n", ns, "address", "add", address, "dev", link, "nodad")
                    run("ip", "-n", ns, "link", "set", link, "address", f"02:00:00:00:{number:02}:{last:02}", "up")
                    # The neighbour is known: no packet waits for it.
                    for other in (f"10.{number}.0.{3 - last}", f"2001:db8:{number}::{3 - last}"):
                        hardware = f"02:00:00:00:{number:02}:{3 - last:02}"
                        run("ip", "-n", ns, "neighbour", "add", other, "lladdr", hardware, "dev", link)
                run("ip", "-n", own, "route", "add", "default", "via", f"10.{number}.0.1")
                run("ip", "-n", own, "-6", "route", "add", "default", "via", f"2001:db8:{number}::1")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for name in self.name.values():
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    def run(self, where: str, *command: str) -> str:
        """Run a command to its end; return its stdout."""
        return run("ip", "netns", "exec", self.name[where], *command)

    def start(self, where: str, *command: str) -> subprocess.Popen[str]:
        """Start a process, its output in pipes."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name[where], *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def pipe(self, where: str, text: str, *command: str) -> str:
        """Run a command that reads a text; return its stdout."""
        whole = ["ip", "netns", "exec", self.name[where], *command]
        done = subprocess.run(whole, input=text, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def settled(self, read: Callable[[], Any]) -> Any:
        """Return what is read once it does not change any more."""
        end = time.monotonic() + DEADLINE_S
        before, after = None, read()
        while before != after:
            assert time.monotonic() < end, f"it does not come to rest in {DEADLINE_S} s"
            time.sleep(_REST_S)
            before, after = after, read()
        return after

    @contextmanager
    def inside(self, where: str = "g") -> Iterator[None]:
        """Be in a namespace: this thread, and those that it starts meanwhile."""
        with inside(self.name[where]):
            yield


@contextmanager
def namespace(short: str) -> Iterator[str]:
    """Make a namespace; return its name."""
    name = f"td-{os.getpid()}-{short}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Be in a namespace: this thread, and those that it starts meanwhile."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        enter(other)
        yield
    finally:
        enter(own)
        os.close(own)
        os.close(other)


def enter(fd: int) -> None:
    """Move this thread into a network namespace."""
    if _LIBC.setns(fd, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


# --- configurations --------------------------------------------------------------------------------------

POLICY: Final = "/qos/scheduler-policies/scheduler-policy"


def queue(leaves: Tree, name: str) -> None:
    """Add a queue and a forwarding group of the same name."""
    leaves[f"/qos/queues/queue[name={name}]/config/name"] = name
    path = f"/qos/forwarding-groups/forwarding-group[name={name}]/config"
    leaves[f"{path}/name"] = name
    leaves[f"{path}/output-queue"] = name


def two_rates(
    leaves: Tree, policy: str, sequence: int, cir: int, pir: int, *, queue: str = "", child: str = ""
) -> None:
    """Add a scheduler with two rates: a leaf with a queue, or a node above the schedulers of another policy."""
    leaves[f"{POLICY}[name={policy}]/config/name"] = policy
    path = f"{POLICY}[name={policy}]/schedulers/scheduler[sequence={sequence}]"
    leaves[f"{path}/config/sequence"] = sequence
    leaves[f"{path}/config/type"] = "TWO_RATE_THREE_COLOR"
    leaves[f"{path}/two-rate-three-color/config/cir"] = cir
    leaves[f"{path}/two-rate-three-color/config/pir"] = pir
    leaves[f"{path}/output/config/output-type"] = "SCHEDULER" if child else "INTERFACE"
    if child:
        leaves[f"{path}/output/config/child-scheduler"] = child
    if queue:
        add_input(leaves, path, queue)


def add_input(leaves: Tree, scheduler: str, queue: str, weight: int | None = None) -> None:
    """Add a queue to a scheduler."""
    entry = f"{scheduler}/inputs/input[id={queue}]/config"
    leaves[f"{entry}/id"] = queue
    leaves[f"{entry}/input-type"] = "QUEUE"
    leaves[f"{entry}/queue"] = queue
    if weight is not None:
        leaves[f"{entry}/weight"] = weight


def attach(leaves: Tree, interface: str, *, output: str = "", input: str = "", classifier: str = "") -> None:
    """Attach policies and the classifiers NAME4 and NAME6 to an interface."""
    path = f"/qos/interfaces/interface[interface-id={interface}]"
    leaves[f"{path}/config/interface-id"] = interface
    for direction, policy in (("output", output), ("input", input)):
        if policy:
            leaves[f"{path}/{direction}/scheduler-policy/config/name"] = policy
    if classifier:
        for family in (4, 6):
            entry = f"{path}/input/classifiers/classifier[type=IPV{family}]/config"
            leaves[f"{entry}/type"] = f"IPV{family}"
            leaves[f"{entry}/name"] = f"{classifier}{family}"


def term(leaves: Tree, classifier: str, family: int, id: str, group: str, **conditions: Value) -> None:
    """Add a term; conditions by their leaves, with _ for -, such as ``destination_port=80``."""
    path = f"/qos/classifiers/classifier[name={classifier}{family}]"
    leaves[f"{path}/config/name"] = f"{classifier}{family}"
    leaves[f"{path}/config/type"] = f"IPV{family}"
    own = f"{path}/terms/term[id={id}]"
    leaves[f"{own}/config/id"] = id
    leaves[f"{own}/actions/config/target-group"] = group
    for name, value in conditions.items():
        leaf = name.replace("_", "-")
        container = "transport" if leaf.endswith("-port") else f"ipv{family}"
        if leaf == "set-dscp":
            leaves[f"{own}/actions/remark/config/set-dscp"] = value
        else:
            leaves[f"{own}/conditions/{container}/config/{leaf}"] = value


def prefix_set(leaves: Tree, family: int, name: str, *prefixes: str) -> None:
    """Add a prefix set."""
    path = f"/defined-sets/ipv{family}-prefix-sets/ipv{family}-prefix-set[name={name}]/config"
    leaves[f"{path}/name"] = name
    leaves[f"{path}/prefix"] = prefixes
