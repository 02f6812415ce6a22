"""A process of simulated targets: it prints their ports as a JSON line, and answers a line to each that it reads."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any, Self

DEADLINE_S = 60


class Commanded:
    """The process; a context manager that leaves none behind.

    Attributes
    ----------
    ports:
        Where its targets listen.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self.ports: list[int] = []
        self._command = [sys.executable, "-m", module, *arguments]

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True)
        try:
            self.ports = self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def command(self, line: str) -> Any:
        """Give a command; return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        late = threading.Timer(DEADLINE_S, self._process.kill)
        late.start()
        try:
            line = self._process.stdout.readline()
        finally:
            late.cancel()
        assert line, f"{self._command[2]} has ended, or did not answer in time"
        return json.loads(line)
