"""An operator at the command line of enforcement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from telemetryd.enforce.records import Records
from tests.commands import run_command
from tests.policy_case import write
from tests.unit import registry_case

AT = ("--at", "2026-11-28 09:00")


class Desk:
    """An operator with a configuration whose device CR01 is a target of this test."""

    def __init__(self, directory: Path, port: int, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self._capsys = directory, capsys
        (directory / "registry").mkdir()
        base = registry_case.BASE.replace("profile: h3c\n", 'profile: h3c\n    firmware: "7.1"\n')
        base = base.replace(", credential: default", "")
        (directory / "registry" / "a.yaml").write_text(base, encoding="utf-8")
        (directory / "own.yaml").write_text(
            'version: 1\nproven:\n  - {vendor: H3C, model: h3c, firmware: "7.1", by: Li, evidence: lab}\n'
        )
        self.port = port
        self.configure()
        self.policy = write(directory)
        self.records = Records(directory / "enforce")

    def configure(self, enforce: str = "switches: [CR01], change_percent: 100") -> None:
        """Write the configuration."""
        (self.directory / "t.yaml").write_text(
            f"version: 1\nregistry: registry\n"
            f"gnmi: {{targets: [{{name: CR01, address: 127.0.0.1, port: {self.port}, insecure: true}}]}}\n"
            f"enforce: {{path: enforce, deviations: [own.yaml], timeout: 2 s, {enforce}}}\n"
        )

    def run(self, command: str, *arguments: object) -> tuple[int, str, str]:
        """Call a command."""
        return run_command(self._capsys, "enforce", command, *arguments, "-c", self.directory / "t.yaml")

    def apply(self, *arguments: object, within: str = "0 s") -> tuple[int, Any, str]:
        """Apply the policy; return the exit code, what was printed as JSON, and notes."""
        common = ("-p", self.policy, *AT, "--why", "CHG-1", "--confirm-within", within, "--yes", "--json")
        code, out, err = self.run("apply", *common, *arguments)
        return code, json.loads(out) if out else None, err
