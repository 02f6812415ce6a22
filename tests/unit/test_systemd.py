"""What systemd is told and what it hands over."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from telemetryd.errors import InputError
from telemetryd.observe.systemd import Notifier, listen_fds


def received(listener: socket.socket) -> list[str]:
    return listener.recv(4096).decode().splitlines()


@pytest.mark.parametrize("is_abstract", [False, True])
def test_messages_reach_the_manager(tmp_path: Path, is_abstract: bool) -> None:
    """READY, RELOADING with the monotonic time, WATCHDOG and STOPPING go to NOTIFY_SOCKET (sd_notify(3))."""
    address = f"@telemetryd-test-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + address[1:] if is_abstract else address)
        listener.settimeout(10)
        notifier = Notifier(Notifier.from_environment({"NOTIFY_SOCKET": address}).address, clock=lambda: 5_000_999)
        notifier.ready("two\nlines")
        assert received(listener) == ["READY=1", "STATUS=two lines"]
        notifier.reloading()
        assert received(listener) == ["RELOADING=1", "MONOTONIC_USEC=5000"]
        notifier.alive("ok")
        assert received(listener) == ["WATCHDOG=1", "STATUS=ok"]
        notifier.status("degraded")
        assert received(listener) == ["STATUS=degraded"]
        notifier.stopping("draining")
        assert received(listener) == ["STOPPING=1", "STATUS=draining"]


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    """No NOTIFY_SOCKET, or one that nobody reads, is no failure."""
    Notifier.from_environment({}).ready("ok")
    Notifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("ok")


def test_the_watchdog_is_read() -> None:
    """WATCHDOG_USEC counts for the process that WATCHDOG_PID names (sd_watchdog_enabled(3))."""
    assert Notifier.from_environment({"WATCHDOG_USEC": "1500000"}).watchdog_s == 1.5
    assert Notifier.from_environment({"WATCHDOG_USEC": "1", "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 1e-6
    assert Notifier.from_environment({"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier.from_environment({}).watchdog_s is None


@pytest.mark.parametrize("environment", [{"NOTIFY_SOCKET": "x"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "x"}])
def test_nonsense_is_refused(environment: dict[str, str]) -> None:
    """What the manager would never set is a mistake."""
    with pytest.raises(InputError):
        Notifier.from_environment(environment)


def test_sockets_are_for_the_process_they_are_meant_for() -> None:
    """Without LISTEN_PID, or with another's, there are none (sd_listen_fds(3))."""
    assert listen_fds({}) == {}
    assert listen_fds({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == {}
    with pytest.raises(InputError):
        listen_fds({"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())})


def test_sockets_are_handed_over() -> None:
    """Descriptors from 3 on are taken with their names, and are not inherited further."""
    code = (
        "import os, sys, socket\n"
        "os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[1]), 4)\n"
        "from telemetryd.observe.systemd import listen_fds\n"
        "found = listen_fds({'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '2', 'LISTEN_FDNAMES': 'sflow'})\n"
        "print(found, os.get_inheritable(3), os.get_inheritable(4))"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        command = [sys.executable, "-c", code, str(one.fileno())]
        done = subprocess.run(command, pass_fds=(one.fileno(),), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{3: 'sflow', 4: ''} False False"
