"""Run a command of telemetryd in this process."""

from __future__ import annotations

import pytest

from telemetryd.cli.main import main


def run_command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr; a traceback is a failure."""
    with pytest.raises(SystemExit) as caught:
        main(list(map(str, arguments)))
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return int(caught.value.code or 0), output.out, output.err
