"""What a running daemon says of itself, again and again, while something else is done to it."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.daemon_process import DaemonProcess

EVERY_S = 0.5


class Watch(threading.Thread):
    """What the daemon says of itself twice a second: delays of windows, resident memory."""

    def __init__(self, daemon: DaemonProcess) -> None:
        super().__init__(daemon=True)
        self._daemon = daemon
        self._stop_asked = threading.Event()
        self.delays: list[float] = []
        self.rss: list[int] = []

    def run(self) -> None:
        while not self._stop_asked.wait(EVERY_S):
            self.delays.append(self._daemon.metrics()["telemetryd_window_delay_seconds"])
            self.rss.append(resident(self._daemon.process.pid))

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()


def resident(pid: int) -> int:
    """Return the resident memory of a process, octets (proc(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
