"""Each check of `telemetryd doctor`, held against trees of files like the kernel's and against this host."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from telemetryd.cli.main import main
from telemetryd.observe import doctor
from telemetryd.observe.doctor import Bound, Verdict

pytestmark = pytest.mark.no_twins

ME = pwd.getpwuid(os.geteuid())
NOBODY = pwd.struct_passwd(("somebody", "x", 61_234, 61_234, "", "/", "/bin/false"))
REGISTRY = Path(__file__).parents[2] / "policies" / "example-city" / "registry"
SNMP = "Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors\nUdp: 9 0 0 0 {} 0\n"
LOCAL = Bound(IPv4Address("127.0.0.1"), 0, 0)


def tree(root: Path, files: dict[str, str]) -> Path:
    """Write files below a root."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("rmem_max", "capabilities", "systemd", "verdict"),
    [
        (64 << 20, "0", False, Verdict.OK),
        ((64 << 20) - 1, "0", False, Verdict.WARN),
        (212_992, "0", True, Verdict.OK),  # systemd may exceed the limit
        (212_992, "1000", False, Verdict.OK),  # bit 12 is CAP_NET_ADMIN
        (212_992, "2fff", False, Verdict.WARN),
    ],
)
def test_receive_buffer(tmp_path: Path, rmem_max: int, capabilities: str, systemd: bool, verdict: Verdict) -> None:
    """A buffer above net.core.rmem_max needs systemd or CAP_NET_ADMIN; the remedy names the sysctl."""
    files = {"proc/sys/net/core/rmem_max": f"{rmem_max}\n", "proc/self/status": f"Name:\tx\nCapEff:\t{capabilities}\n"}
    check = doctor.check_receive_buffer(64 << 20, systemd, tree(tmp_path, files))
    assert check.verdict is verdict
    assert (f"net.core.rmem_max={64 << 20}" in check.remedy) == (verdict is Verdict.WARN)


def test_packet_backlog(tmp_path: Path) -> None:
    """The second column of softnet_stat, in hexadecimal, of all CPUs."""
    files = {
        "proc/sys/net/core/netdev_max_backlog": "1000\n",
        "proc/net/softnet_stat": "00ff 00000000 1\n0a 00000000 0\n",
    }
    assert doctor.check_backlog(tree(tmp_path, files)).verdict is Verdict.OK
    files["proc/net/softnet_stat"] = "00ff 00000010 1\n0a 00000001 0\n"
    check = doctor.check_backlog(tree(tmp_path, files))
    assert check.verdict is Verdict.WARN and check.finding.startswith("17 packets")


@pytest.mark.parametrize(
    ("state", "verdict"),
    [(None, Verdict.WARN), ((False, 10), Verdict.WARN), ((True, 600_000), Verdict.WARN), ((True, 1500), Verdict.OK)],
)
def test_clock(state: tuple[bool, int] | None, verdict: Verdict) -> None:
    """A clock that is not disciplined, or off by half a second, is worth a remark."""
    assert doctor.check_clock(state).verdict is verdict


def test_the_kernel_says_how_its_clock_is() -> None:
    """adjtimex gives a state and an error on this host, without setting anything."""
    state = doctor.read_clock()
    assert state is not None and state[1] >= 0


def test_udp_errors(tmp_path: Path) -> None:
    """RcvbufErrors of IPv4 and IPv6 add up."""
    root = tree(tmp_path, {"proc/net/snmp": SNMP.format(0), "proc/net/snmp6": "Ip6InReceives 3\nUdp6RcvbufErrors 0\n"})
    assert doctor.check_udp_errors(root).verdict is Verdict.OK
    root = tree(tmp_path, {"proc/net/snmp": SNMP.format(3), "proc/net/snmp6": "Udp6RcvbufErrors 4\n"})
    assert doctor.check_udp_errors(root).finding.startswith("7 datagrams")


def test_cards(tmp_path: Path) -> None:
    """Only cards with a device behind them count, by their missed packets."""
    statistics = {"rx_missed_errors": "0\n", "rx_fifo_errors": "0\n"}
    for card in ("eth0", "lo"):
        tree(tmp_path / "sys/class/net" / card / "statistics", statistics)
    tree(tmp_path / "sys/class/net/eth0/device", {"vendor": "x"})
    tree(tmp_path / "sys/class/net/lo/statistics", {"rx_missed_errors": "9\n"})
    assert doctor.check_cards(tmp_path).finding == "nothing missed by 1 card"
    tree(tmp_path / "sys/class/net/eth0/statistics", {"rx_fifo_errors": "5\n"})
    check = doctor.check_cards(tmp_path)
    assert check.verdict is Verdict.WARN and "eth0: 5 packets" in check.finding


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_bound_socket_is_found(family: socket.AddressFamily, address: str) -> None:
    """The kernel's tables give the address, what waits, and the drops, of a socket bound here."""
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        try:
            one.bind((address, 0))
        except OSError:
            pytest.skip(f"this host has no {address}")
        port = one.getsockname()[1]
        (bound,) = doctor.bound_sockets(port)
        assert str(bound.address) == address and bound.is_loopback
        assert (bound.waiting_octets, bound.drops) == (0, 0)
        one.sendto(b"x" * 100, (address, port))
        assert doctor.bound_sockets(port)[0].waiting_octets > 100
    assert doctor.bound_sockets(port) == []


def test_drops_of_a_full_buffer_are_seen() -> None:
    """Datagrams beyond a small buffer are counted, and the remedy names the buffer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        one.bind(("127.0.0.1", 0))
        for _ in range(50):
            one.sendto(b"x" * 1000, one.getsockname())
        port = one.getsockname()[1]
        check = doctor.check_socket_drops(port, doctor.bound_sockets(port))
    assert check.verdict is Verdict.WARN and "ReceiveBuffer=" in check.remedy


@pytest.mark.parametrize(
    ("bound", "holders", "verdict"),
    [
        ([], [], Verdict.OK),
        ([LOCAL], ["systemd (pid 1)"], Verdict.OK),
        ([LOCAL], ["systemd (pid 1)", "telemetryd (pid 70)"], Verdict.OK),
        ([LOCAL], ["systemd-resolve (pid 3)"], Verdict.FAIL),
        ([LOCAL], ["sfcapd (pid 812)"], Verdict.FAIL),
        ([LOCAL], [], Verdict.WARN),
    ],
)
def test_port(bound: list[Bound], holders: list[str], verdict: Verdict) -> None:
    """A port that a stranger holds fails, with who it is."""
    check = doctor.check_port(6343, bound, holders)
    assert check.verdict is verdict
    if verdict is Verdict.FAIL:
        assert holders[0] in check.finding


@pytest.mark.parametrize(
    ("address", "bound", "verdict"),
    [
        ("127.0.0.1", [], Verdict.WARN),
        ("::", [], Verdict.OK),
        ("127.0.0.1", [Bound(IPv6Address("::"), 0, 0)], Verdict.OK),  # systemd's socket counts, not the setting
        ("::", [LOCAL], Verdict.WARN),
    ],
)
def test_reach(address: str, bound: list[Bound], verdict: Verdict) -> None:
    """A port on loopback is out of every switch's reach."""
    assert doctor.check_reach(address, bound).verdict is verdict


def test_readable(tmp_path: Path) -> None:
    """A stranger needs every directory on the way and every file in it; the remedy is the command."""
    folder = tmp_path / "registry"
    tree(folder, {"city.yaml": "x"})
    assert doctor.check_readable("registry files", folder, ME).verdict is Verdict.OK
    tmp_path.chmod(0o700)
    closed = next(step for step in reversed(folder.resolve().parents) if not step.stat().st_mode & 0o001)
    check = doctor.check_readable("registry files", folder, NOBODY)
    assert (check.verdict, check.remedy) == (Verdict.FAIL, f"chmod o+x {closed}")


def test_files_of_a_readable_directory(tmp_path: Path) -> None:
    """May: owner, then group, then other, as the kernel decides."""
    file = tmp_path / "one"
    file.write_text("x")
    file.chmod(0o604)
    assert doctor.may(file, os.R_OK, NOBODY) and not doctor.may(file, os.W_OK, NOBODY)
    file.chmod(0o640)
    assert not doctor.may(file, os.R_OK, NOBODY)


def test_store(tmp_path: Path) -> None:
    """A store that is there, one that can be made, one that cannot, and a file in its place."""
    assert doctor.check_store(tmp_path / "a" / "store", ME).verdict is Verdict.OK
    assert doctor.check_store(tmp_path, ME).verdict is Verdict.OK
    absent = doctor.check_store(tmp_path / "store", NOBODY)
    assert absent.verdict is Verdict.WARN and "install -d -o somebody" in absent.remedy
    theirs = doctor.check_store(tmp_path, NOBODY)
    assert (theirs.verdict, theirs.remedy) == (Verdict.FAIL, f"chown -R somebody: {tmp_path}")
    (tmp_path / "file").write_text("")
    assert doctor.check_store(tmp_path / "file", ME).verdict is Verdict.FAIL


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room warns, next to none fails; a store that is not there yet is judged by where it will be."""
    assert str(tmp_path) in doctor.check_disk(tmp_path / "a" / "b").finding
    monkeypatch.setattr(doctor, "WARN_FREE_OCTETS", 1 << 80)
    assert doctor.check_disk(tmp_path).verdict is Verdict.WARN
    monkeypatch.setattr(doctor, "FAIL_FREE_OCTETS", 1 << 80)
    assert doctor.check_disk(tmp_path).verdict is Verdict.FAIL


def test_extensions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled module that is missing fails, with its name."""
    monkeypatch.delenv("TELEMETRYD_NO_EXT", raising=False)
    (tmp_path / "nothing.pyi").write_text("")
    check = doctor.check_extensions(tmp_path)
    assert check.verdict is Verdict.FAIL and "telemetryd._ext.nothing" in check.finding
    monkeypatch.setenv("TELEMETRYD_NO_EXT", "1")
    (tmp_path / "nothing.pyi").unlink()
    assert doctor.check_extensions(tmp_path).verdict is Verdict.WARN


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "telemetryd", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command(tmp_path: Path) -> None:
    """With a good configuration every check is made and none fails; --json says the same."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    file = tmp_path / "telemetryd.yaml"
    file.write_text(f"version: 1\nregistry: {REGISTRY}\nlisten: {{port: {port}}}\nstore: {{path: {tmp_path}/store}}\n")
    done = run("--config", str(file), "--json")
    found = json.loads(done.stdout)
    verdicts = {check["name"]: check["verdict"] for check in found["checks"]}
    assert verdicts["registry"] == verdicts["configuration"] == verdicts["python"] == "ok"
    assert {"clock", "receive buffer", f"UDP port {port}", "store", "disk", "network cards"} < set(verdicts)
    # Directories of a test may be closed to the service's user, where there is one.
    failed = {name for name, verdict in verdicts.items() if verdict == "fail"}
    assert failed <= {"configuration file", "registry files", "store"}
    assert (done.returncode, found["ok"]) == ((1, False) if failed else (0, True))
    assert all(bool(check["remedy"]) == (check["verdict"] != "ok") for check in found["checks"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "does not exist"),
        ("version: 1\nregistry: .\nlissten: {}\n", ":3:1:"),
        ("version: 1\nregistry: nowhere\n", "nowhere does not exist"),
    ],
)
def test_a_bad_configuration_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, expected: str
) -> None:
    """A configuration or registry that does not load is a failed check, not an end: exit code 1, no traceback."""
    file = tmp_path / "telemetryd.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--config", str(file)])
    assert ended.value.code == 1
    out = capsys.readouterr().out
    assert "FAIL" in out and expected in out
    assert "clock" in out


def test_a_daemon_is_known_by_its_command(tmp_path: Path) -> None:
    """Started by an interpreter (`python .../telemetryd run`) it is no stranger at the port; other programs are."""
    for name, verdict in (("telemetryd", "ok"), ("sfcapd", "fail")):
        program = tmp_path / name
        program.write_text(
            "import socket\none = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\none.bind(('127.0.0.1', 0))\n"
            "print(one.getsockname()[1], flush=True)\ninput()\n"
        )
        with subprocess.Popen(
            [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            port = int(process.stdout.readline())
            file = tmp_path / "telemetryd.yaml"
            file.write_text(f"version: 1\nregistry: {REGISTRY}\nlisten: {{port: {port}}}\n")
            found = json.loads(run("--config", str(file), "--json").stdout)
            process.stdin.write("\n")
            process.stdin.flush()
        (check,) = [check for check in found["checks"] if check["name"] == f"UDP port {port}"]
        assert (check["verdict"], f"pid {process.pid}" in check["finding"]) == (verdict, True)
