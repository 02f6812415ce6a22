"""What the service manager does with the sFlow port: it holds the socket, and every start of the daemon gets it."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.daemon_process import DaemonProcess

SO_MEMINFO = 55  # linux/sock_diag.h
DROPS = 8
TAKE_OVER = (
    "import os, sys\n"
    "os.dup2(int(sys.argv[1]), 3)\n"
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='sflow')\n"
    "os.execv(sys.argv[2], sys.argv[2:])"
)


@dataclass
class Held:
    """A bound UDP socket that outlives daemons."""

    socket: socket.socket

    @property
    def port(self) -> int:
        """Where datagrams are to be sent."""
        return int(self.socket.getsockname()[1])

    def drops(self) -> int:
        """Return the datagrams that found the buffer full."""
        return int.from_bytes(self.socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)[4 * DROPS :], sys.byteorder)

    def start(self, daemon: DaemonProcess, **options: Any) -> DaemonProcess:
        """Start a daemon on it."""
        prefix = [sys.executable, "-c", TAKE_OVER, str(self.socket.fileno())]
        return daemon.start(prefix=prefix, pass_fds=(self.socket.fileno(),), **options)


@contextmanager
def held_socket(receive_buffer: int) -> Iterator[Held]:
    """Hold a socket on loopback whose buffer may exceed net.core.rmem_max, as systemd makes it."""
    force = getattr(socket, "SO_RCVBUFFORCE", 33)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.setsockopt(socket.SOL_SOCKET, force, receive_buffer)
        except PermissionError:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 2 * receive_buffer:
            pytest.skip(f"needs CAP_NET_ADMIN or net.core.rmem_max >= {receive_buffer}")
        one.bind(("127.0.0.1", 0))
        yield Held(one)


def shipped_buffer() -> int:
    """Return the receive buffer of the shipped socket unit, octets."""
    unit = Path(__file__).parents[1] / "systemd" / "telemetryd-sflow.socket"
    (line,) = (line for line in unit.read_text().splitlines() if line.startswith("ReceiveBuffer="))
    return int(line.partition("=")[2].removesuffix("M")) << 20
