"""The root error, its few children, and the exit codes of every command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2


class TelemetrydError(Exception):
    """An expected failure: the command line prints its message, without a traceback.

    ``exit_code`` is what the process ends with.
    """

    exit_code: int = EXIT_FAILED


class InputError(TelemetrydError):
    """The operator gave something invalid (arguments, a registry, a policy, a configuration)."""

    exit_code = EXIT_USAGE


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in one file, with what to do about it.

    ``line`` and ``column`` count from 1; 0 means that the mistake belongs to the whole file.
    """

    file: str
    line: int
    column: int
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message} - {self.remedy}"


class ProblemsError(InputError):
    """Invalid files, with every mistake found in one run."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CaptureError(TelemetrydError):
    """A capture file that cannot be read, or not to its end."""


class StoreError(TelemetrydError):
    """The embedded store cannot be opened, read or written."""


class ExtensionMissingError(TelemetrydError):
    """The compiled extensions should be there and are not."""
