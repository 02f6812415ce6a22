"""Which devices may be written to: those that the settings name, and nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from telemetryd.config.settings import parse_settings
from telemetryd.errors import InputError
from telemetryd.reaching import Reaching
from telemetryd.registry.load import load_registry
from tests.policy_case import write_small_registry


def reaching(tmp_path: Path, enforce: str) -> Reaching:
    registry = Path(write_small_registry(tmp_path))
    loaded = parse_settings(f"version: 1\nregistry: {registry}\nenforce: {enforce}\n", str(tmp_path / "t.yaml"), {})
    return Reaching(loaded.settings, load_registry(registry), loaded.document.where)


def test_devices_are_in_shadow_unless_they_are_named(tmp_path: Path) -> None:
    """A switch has to be among the switches; a name that the registry has not is explained."""
    found = reaching(tmp_path, "{gateways: [CR01]}")
    assert found.why_not("CR01") == "in shadow: enforce.switches does not name it"
    with pytest.raises(InputError, match="CR01 is in shadow"):
        found.open("CR01")
    with pytest.raises(InputError, match='no device "CR1" - '):
        found.open("CR1")
    assert found.find("CR1") is None
    (tmp_path / "other").mkdir()
    named = reaching(tmp_path / "other", "{switches: [CR01], change_percent: 50}")
    assert named.open("CR01").name == "CR01"
    assert named.limits.change_percent == 50
    assert named.device("CR01").traits.is_switch


def test_a_device_without_a_server_cannot_be_reached(tmp_path: Path) -> None:
    """The registry says where it is."""
    found = reaching(tmp_path, "{}")
    other = next(one.name for one in found.registry.devices if one.gnmi is None)
    with pytest.raises(InputError, match="nobody says where its gNMI server is"):
        found.device(other)
