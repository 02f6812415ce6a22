"""What systemd is told, and what it hands over: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from telemetryd.errors import InputError

FIRST_FD: Final = 3  # SD_LISTEN_FDS_START
MICROSECOND_NS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Notifier:
    """Messages to the service manager; without one they go nowhere.

    Attributes
    ----------
    address:
        The value of ``NOTIFY_SOCKET``: a path, or an abstract name after ``@``; None without a manager.
    watchdog_s:
        The manager wants a sign of life in this many seconds; None where it does not.
    clock:
        CLOCK_MONOTONIC in ns.
    """

    address: str | None = None
    watchdog_s: float | None = None
    clock: Callable[[], int] = time.monotonic_ns

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """Make the notifier that the environment asks for.

        Raises
        ------
        InputError
            If ``NOTIFY_SOCKET`` or ``WATCHDOG_USEC`` has no meaning.
        """
        address = environment.get("NOTIFY_SOCKET")
        if address is not None and address[:1] not in ("/", "@"):
            raise InputError(f"NOTIFY_SOCKET {address!r} is neither a path nor an abstract socket")
        watchdog = environment.get("WATCHDOG_USEC")
        if watchdog is not None and not (watchdog.isdecimal() and int(watchdog)):
            raise InputError(f"WATCHDOG_USEC {watchdog!r} is no number of microseconds")
        if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            watchdog = None  # it is meant for another process
        return cls(address, int(watchdog) / 1e6 if watchdog else None)

    def ready(self, status: str) -> None:
        """Say that the service does its work: started, or reloaded."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload begins; ``Type=notify-reload`` wants the time with it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={self.clock() // MICROSECOND_NS}")

    def stopping(self, status: str) -> None:
        """Say that the service drains."""
        self._send("STOPPING=1", f"STATUS={status}")

    def alive(self, status: str) -> None:
        """Give a sign of life, with a line for ``systemctl status``."""
        self._send("WATCHDOG=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Change the line for ``systemctl status`` alone."""
        self._send(f"STATUS={status}")

    def _send(self, *lines: str) -> None:
        if self.address is None:
            return
        message = "\n".join(line.replace("\n", " ") for line in lines).encode()
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(message, address)
            except OSError:
                # The manager is gone or its queue is full. What it is told comes again within the watchdog's
                # time, and a manager that hears nothing draws its own conclusion.
                return


def listen_fds(environment: Mapping[str, str] = os.environ) -> dict[int, str]:
    """Return the sockets that systemd handed over: descriptor -> name of its socket unit ("" without one).

    Raises
    ------
    InputError
        If ``LISTEN_FDS`` has no meaning.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return {}
    text = environment.get("LISTEN_FDS", "")
    if not text.isdecimal():
        raise InputError(f"LISTEN_FDS {text!r} is no number of sockets")
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    fds = {}
    for index in range(int(text)):
        fd = FIRST_FD + index
        try:
            os.set_inheritable(fd, False)
        except OSError as error:
            raise InputError(f"LISTEN_FDS is {text}, but descriptor {fd} is not open") from error
        fds[fd] = names[index] if index < len(names) else ""
    return fds
