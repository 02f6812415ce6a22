"""The shipped units: what systemd says of them, and that they agree with each other and with the defaults.

systemd-analyze (Debian package systemd) needs no running systemd. Where it is missing the tests are skipped,
in CI they fail.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from telemetryd.config.settings import Limits, Listen, load_settings

SYSTEMD = Path(__file__).parents[2] / "systemd"
SERVICE, SOCKET, AGENT = "telemetryd.service", "telemetryd-sflow.socket", "telemetryd-agent.service"
MOST_EXPOSURE = 2.0


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    program = shutil.which("systemd-analyze")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("systemd-analyze is missing in CI: apt-get install systemd")
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    return subprocess.run([program, "--no-pager", *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Copy the units, with a program that exists: verify looks for it."""
    program = tmp_path / "telemetryd"
    program.symlink_to(sys.executable)
    for name in (SERVICE, SOCKET, AGENT):
        text = (SYSTEMD / name).read_text(encoding="utf-8").replace("/usr/local/bin/telemetryd", str(program))
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def settings_of(name: str, section: str) -> dict[str, list[str]]:
    """Return the assignments of a section, each with all its values."""
    found: dict[str, list[str]] = {}
    here = ""
    for line in (SYSTEMD / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            here = line.strip("[]")
        elif "=" in line and not line.startswith("#") and here == section:
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_systemd_finds_no_fault(units: Path) -> None:
    """`systemd-analyze verify` accepts the units without a word."""
    done = analyze("verify", "--man=no", *(str(units / name) for name in (SERVICE, SOCKET, AGENT)))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_verify_can_fail(units: Path) -> None:
    """The check above sees a setting that does not exist."""
    service = units / SERVICE
    service.write_text(service.read_text().replace("[Service]\n", "[Service]\nProtectEverything=yes\n"))
    assert "ProtectEverything" in analyze("verify", "--man=no", str(service)).stderr


@pytest.mark.parametrize("name", [SERVICE, AGENT])
def test_exposure(units: Path, name: str) -> None:
    """`systemd-analyze security` rates the services at 2.0 or less of 10."""
    done = analyze("security", "--offline=true", str(units / name))
    assert done.returncode == 0, done.stderr
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert match, done.stdout
    assert float(match[1]) <= MOST_EXPOSURE, done.stdout


def test_no_privilege() -> None:
    """The service has no capability, runs as its own user, and that user is the one that sysusers makes."""
    service = settings_of(SERVICE, "Service")
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == [""]
    assert service["NoNewPrivileges"] == ["yes"]
    assert service["User"] == service["Group"] == users()[:1] == ["telemetryd"]


def test_one_privilege_of_the_agent() -> None:
    """The agent may change the network and nothing else, as a user of its own, in a directory of its own."""
    service = settings_of(AGENT, "Service")
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == ["CAP_NET_ADMIN"]
    assert service["NoNewPrivileges"] == ["yes"] and service["Type"] == ["notify"]
    assert service["User"] == service["Group"] == users()[1:] == ["telemetryd-agent"]
    words = service["ExecStart"][0].split()
    assert words[words.index("--state-dir") + 1] == f"/var/lib/{service['StateDirectory'][0]}"
    assert "AF_NETLINK" in service["RestrictAddressFamilies"][0]


def users() -> list[str]:
    """Return the users that sysusers makes."""
    lines = (SYSTEMD / "telemetryd.sysusers").read_text().splitlines()
    return [line.split()[1] for line in lines if line[:2] == "u "]


def test_the_socket_belongs_to_the_service() -> None:
    """The service gets the socket at every start, and either unit names the other."""
    assert settings_of(SOCKET, "Socket")["Service"] == [SERVICE]
    assert settings_of(SERVICE, "Service")["Sockets"] == [SOCKET]
    assert SOCKET in settings_of(SERVICE, "Unit")["Requires"][0]
    assert settings_of(SERVICE, "Install")["Also"] == [SOCKET]


def test_the_units_agree_with_the_defaults() -> None:
    """Address, port and buffer of the socket are those of the settings; the stop time holds a whole drain."""
    socket, service = settings_of(SOCKET, "Socket"), settings_of(SERVICE, "Service")
    listen = Listen()
    assert socket["ListenDatagram"] == [f"{listen.address}:{listen.port}"]
    assert socket["ReceiveBuffer"] == [f"{listen.receive_buffer >> 20}M"]
    assert int(service["TimeoutStopSec"][0]) >= 2 * Limits().drain / 1e9
    assert service["NotifyAccess"] == ["main"] and service["Type"] == ["notify"]
    sysctl = configparser.ConfigParser()
    sysctl.read_string("[sysctl]\n" + (SYSTEMD / "telemetryd.sysctl").read_text())
    assert int(sysctl["sysctl"]["net.core.rmem_max"]) >= listen.receive_buffer


def test_the_commands_exist() -> None:
    """Every verb that the services call is one, and takes the options that it is given."""
    service, agent = settings_of(SERVICE, "Service"), settings_of(AGENT, "Service")
    options = re.sub(r'.*AGENT_OPTIONS=|"$', "", agent["Environment"][0])
    commands = [service[key][0] for key in ("ExecStartPre", "ExecStart", "ExecReload")]
    for command in (*commands, agent["ExecStart"][0].replace("$AGENT_OPTIONS", options)):
        _, *words = command.split()
        verb = [words[0], *(["check"] if "check" in words else [])]
        done = subprocess.run(
            [sys.executable, "-m", "telemetryd", *verb, "--help"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        for option in (word for word in words if word.startswith("--")):
            assert option in done.stdout


def test_the_example_configuration_loads(tmp_path: Path) -> None:
    """The installed configuration is valid, and its registry is the example city's."""
    registry = SYSTEMD.parent / "policies" / "example-city" / "registry"
    text = (SYSTEMD / "telemetryd.yaml").read_text(encoding="utf-8")
    installed = re.search(r"^registry: (\S+)$", text, re.MULTILINE)
    assert installed and installed[1].endswith("share/telemetryd/policies/example-city/registry")
    file = tmp_path / "telemetryd.yaml"
    file.write_text(text.replace(installed[1], str(registry)), encoding="utf-8")
    assert load_settings(file).settings.registry == registry
    checked = subprocess.run(
        [sys.executable, "-m", "telemetryd", "config", "check", str(file)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


def test_users_and_directories(tmp_path: Path) -> None:
    """sysusers.d and tmpfiles.d hold what systemd's own tools take, in a tree of their own."""
    for tool in ("systemd-sysusers", "systemd-tmpfiles"):
        if shutil.which(tool) is None:
            analyze("--version")  # skips, or fails in CI
    if os.geteuid():
        pytest.skip("systemd-sysusers --root writes /etc/passwd of the tree as root only")
    (tmp_path / "etc").mkdir()
    made = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", str(SYSTEMD / "telemetryd.sysusers")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "telemetryd:" in (tmp_path / "etc" / "passwd").read_text()
    made = subprocess.run(
        ["systemd-tmpfiles", f"--root={tmp_path}", "--create", str(SYSTEMD / "telemetryd.tmpfiles")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    state = tmp_path / "var" / "lib" / "telemetryd"
    assert oct(state.stat().st_mode & 0o777) == "0o750"
    passwd = (tmp_path / "etc" / "passwd").read_text().split("telemetryd:", 1)[1].split(":")
    assert state.stat().st_uid == int(passwd[1])
