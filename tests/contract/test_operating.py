"""docs/operating.md: what a new user copies from it works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from telemetryd.cli.main import VERBS, main
from telemetryd.configuration import load_configuration

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")


def test_its_registry_and_configuration_load(tmp_path: Path) -> None:
    """The two YAML blocks make a configuration without mistake or warning, with the links that are shown."""
    registry, configuration = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "registry.yaml").write_text(registry, encoding="utf-8")
    (tmp_path / "telemetryd.yaml").write_text(configuration, encoding="utf-8")
    loaded = load_configuration(tmp_path / "telemetryd.yaml")
    assert not loaded.registry.warnings
    assert loaded.tables.names.links == ("-", "exit")


def test_its_commands_exist() -> None:
    """Every verb that the page calls is one."""
    called = set(re.findall(r"^\$ telemetryd (\w+)|`(?:sudo )?telemetryd (\w+)", PAGE, re.MULTILINE))
    verbs = {one or other for one, other in called}
    assert len(verbs) > 6
    assert verbs <= set(VERBS)


def test_its_mistake_is_the_one_that_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The example of a mistake prints what the page says."""
    shown = re.search(r"^bad\.yaml(:3:1: .*)$", PAGE, re.MULTILINE)
    assert shown
    file = tmp_path / "bad.yaml"
    file.write_text("version: 1\nregistry: nowhere\nlissten: {}\n")
    with pytest.raises(SystemExit) as ended:
        main(["config", "check", str(file)])
    assert ended.value.code == 2
    assert f"bad.yaml{shown[1]}\n" in capsys.readouterr().err


def test_its_doctor_has_the_checks_of_the_real_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page shows every check that is made, and none that is not."""
    shown = set(re.findall(r"^(?:ok|WARN|FAIL) {2,}(\S.*?) {2,}", PAGE, re.MULTILINE))
    file = tmp_path / "telemetryd.yaml"
    file.write_text(f"version: 1\nregistry: {ROOT}/policies/example-city/registry\nstore: {{path: {tmp_path}/store}}\n")
    with pytest.raises(SystemExit):
        main(["doctor", "--config", str(file)])
    made = set(re.findall(r"^(?:ok|WARN|FAIL) {2,}(\S.*?) {2,}", capsys.readouterr().out, re.MULTILINE))
    assert shown == made
