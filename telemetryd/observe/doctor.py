"""What a host must give the daemon, checked one by one: kernel limits, clock, drops, permissions, disk.

Each check reads what the kernel says (proc(5), sysfs(5), adjtimex(2)) and returns a verdict with the command that
mends it. ``root`` stands before ``/proc`` and ``/sys``, so that a check can be held against a tree of files.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import pwd
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

ROOT: Final = Path("/")
SERVICE_USER: Final = "telemetryd"
CAP_NET_ADMIN: Final = 12
#: Free space of the store's disk: less than this fails, less than the other warns.
FAIL_FREE_OCTETS: Final = 1 << 30
WARN_FREE_OCTETS: Final = 10 << 30
_LOWEST_PYTHON: Final = (3, 11)


class Verdict(StrEnum):
    """What a check says."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes
    ----------
    name:
        What was looked at.
    verdict:
        Whether the daemon can work with it.
    finding:
        What was found.
    remedy:
        The command that mends it, or what to do; empty when all is well.
    """

    name: str
    verdict: Verdict
    finding: str
    remedy: str = ""


def ok(name: str, finding: str) -> Check:
    """Return a finding without fault."""
    return Check(name, Verdict.OK, finding)


def warn(name: str, finding: str, remedy: str) -> Check:
    """Return a finding with which the daemon works, but not as it should."""
    return Check(name, Verdict.WARN, finding, remedy)


def fail(name: str, finding: str, remedy: str) -> Check:
    """Return a finding with which the daemon does not work."""
    return Check(name, Verdict.FAIL, finding, remedy)


# --- the program ---------------------------------------------------------------------------------------------


def check_python() -> Check:
    """Is the interpreter recent enough?"""
    found = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    if sys.version_info < _LOWEST_PYTHON:
        return fail("python", found, "install Python 3.11 or newer, and telemetryd with it")
    return ok("python", found)


def check_extensions(directory: Path) -> Check:
    """Are the compiled modules there, and made for this interpreter? ``directory`` has a ``.pyi`` of each."""
    names = sorted(stub.stem for stub in directory.glob("*.pyi"))
    broken: dict[str, str] = {}
    for name in names:
        try:
            importlib.import_module(f"telemetryd._ext.{name}")
        except ImportError as error:
            broken[name] = str(error)
    if broken:
        first = next(iter(broken))
        finding = f"{len(broken)} of {len(names)} compiled modules do not load: {first}: {broken[first]}"
        return fail("compiled modules", finding, "make install (or, in a checkout, make build)")
    if os.environ.get("TELEMETRYD_NO_EXT") == "1":
        return warn("compiled modules", "present, but TELEMETRYD_NO_EXT=1 switches them off", "unset TELEMETRYD_NO_EXT")
    return ok("compiled modules", f"all {len(names)} load")


# --- the kernel ----------------------------------------------------------------------------------------------


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def check_receive_buffer(wanted: int, is_held_by_systemd: bool, root: Path = ROOT) -> Check:
    """May a socket have the receive buffer that is configured?"""
    name = "receive buffer"
    most = _number(root / "proc/sys/net/core/rmem_max")
    if most is None:
        return warn(name, "net.core.rmem_max cannot be read", f"sysctl -w net.core.rmem_max={wanted}")
    if most >= wanted:
        return ok(name, f"net.core.rmem_max is {_mebibytes(most)}, {_mebibytes(wanted)} are configured")
    if is_held_by_systemd:
        return ok(name, f"systemd holds the socket: {_mebibytes(wanted)} need no net.core.rmem_max")
    if _has_net_admin(root):
        return ok(name, f"net.core.rmem_max is {_mebibytes(most)}, but CAP_NET_ADMIN goes beyond it")
    return warn(
        name,
        f"net.core.rmem_max is {_mebibytes(most)}, {_mebibytes(wanted)} are configured: bursts will be lost",
        f"sysctl -w net.core.rmem_max={wanted}   # for good: /etc/sysctl.d/60-telemetryd.conf",
    )


def _has_net_admin(root: Path) -> bool:
    try:
        lines = (root / "proc/self/status").read_text().splitlines()
    except OSError:
        return False
    held = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
    return bool(held >> CAP_NET_ADMIN & 1)


def check_backlog(root: Path = ROOT) -> Check:
    """Did packets overrun the queue between card and socket? (second column of softnet_stat)"""
    name = "packet backlog"
    most = _number(root / "proc/sys/net/core/netdev_max_backlog")
    try:
        lines = (root / "proc/net/softnet_stat").read_text().splitlines()
    except OSError:
        return warn(name, "/proc/net/softnet_stat cannot be read", "run telemetryd doctor on the host itself")
    dropped = sum(int(line.split()[1], 16) for line in lines if line)
    limit = "net.core.netdev_max_backlog is " + ("not to be seen here" if most is None else str(most))
    if dropped:
        wanted = max(10_000, 2 * (most or 0))
        finding = f"{dropped:,} packets dropped since boot, {limit}"
        return warn(name, finding, f"sysctl -w net.core.netdev_max_backlog={wanted}")
    return ok(name, f"no packet dropped since boot, {limit}")


class _Timex(ctypes.Structure):
    """The head of struct timex (adjtimex(2)); the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


_STA_UNSYNC: Final = 0x0040
#: The intervals and the reports name seconds: an error of this much is one, microseconds.
_MOST_ERROR_US: Final = 500_000


def read_clock() -> tuple[bool, int] | None:
    """Ask the kernel whether its clock is disciplined, and for its greatest error in us; None if it won't say."""
    state = _Timex(modes=0)
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state)) < 0:
        return None
    return not state.status & _STA_UNSYNC, int(state.maxerror)


def check_clock(state: tuple[bool, int] | None) -> Check:
    """Is the clock disciplined by NTP or PTP? ``state`` is what :func:`read_clock` returns."""
    name = "clock"
    remedy = "apt-get install chrony   # or: timedatectl set-ntp true"
    if state is None:
        return warn(name, "the kernel does not say whether the clock is disciplined", remedy)
    is_synchronised, error_us = state
    if not is_synchronised:
        return warn(name, "not synchronised: windows will not line up with other systems'", remedy)
    if error_us > _MOST_ERROR_US:
        return warn(name, f"synchronised, but up to {error_us / 1e6:.1f} s wrong", "chronyc tracking   # see why")
    return ok(name, f"synchronised, at most {error_us / 1000:.1f} ms wrong")


# --- the network ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bound:
    """A UDP socket as /proc/net/udp and udp6 list it: its address, what waits in it, what it dropped."""

    address: IPv4Address | IPv6Address
    waiting_octets: int
    drops: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can reach it."""
        return self.address.is_loopback


def bound_sockets(port: int, root: Path = ROOT) -> list[Bound]:
    """Return the UDP sockets that are bound to a port."""
    found = []
    for table in ("udp", "udp6"):
        try:
            lines = (root / "proc/net" / table).read_text().splitlines()[1:]
        except OSError:  # a kernel without IPv6
            continue
        for line in lines:
            fields = line.split()
            address, _, number = fields[1].partition(":")
            if int(number, 16) == port:
                found.append(Bound(_address(address), int(fields[4].partition(":")[2], 16), int(fields[-1])))
    return found


def _address(text: str) -> IPv4Address | IPv6Address:
    """Read an address as the kernel prints it: 32-bit words in the order of this host."""
    octets = b"".join(int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8))
    return IPv4Address(octets) if len(octets) == 4 else IPv6Address(octets)


def check_port(port: int, bound: list[Bound], holders: list[str]) -> Check:
    """Is the port free, or held by the one who should hold it? ``holders`` are ``NAME (pid N)``."""
    name = f"UDP port {port}"
    if not bound:
        return ok(name, "free")
    strangers = [who for who in holders if not who.startswith(("systemd ", "telemetryd "))]
    if strangers:
        pid = strangers[0].rpartition(" ")[2].rstrip(")")
        return fail(name, f"held by {', '.join(strangers)}", f"stop it (kill {pid}), or take another port: listen.port")
    if not holders:
        return warn(name, "held by a process that this user may not see", "sudo telemetryd doctor")
    return ok(name, f"held by {', '.join(holders)}")


def check_reach(address: str, bound: list[Bound]) -> Check:
    """Can a switch reach the port? What is bound counts, else the configured address."""
    name = "reachable"
    is_local = all(one.is_loopback for one in bound) if bound else address in ("127.0.0.1", "::1")
    where = ", ".join(sorted({str(one.address) for one in bound})) or address
    if is_local:
        return warn(
            name,
            f"listens on {where}: no other host can send to it",
            "systemctl edit telemetryd-sflow.socket   # ListenDatagram=, then ListenDatagram=[::]:6343",
        )
    return ok(name, f"listens on {where}")


def check_socket_drops(port: int, bound: list[Bound]) -> Check:
    """Did the bound sockets drop datagrams?"""
    name = "socket drops"
    drops = sum(one.drops for one in bound)
    if drops:
        finding = f"{drops:,} datagrams dropped by the sockets of port {port}: their buffer was full"
        return warn(name, finding, "raise ReceiveBuffer= (systemctl edit telemetryd-sflow.socket) or listen.sockets")
    return ok(name, f"none at port {port}" if bound else f"no socket at port {port} yet")


def check_udp_errors(root: Path = ROOT) -> Check:
    """Did any UDP socket of the host drop for want of buffer? (RcvbufErrors of snmp and snmp6, RFC 4113)"""
    name = "UDP buffer errors"
    count = 0
    try:
        lines = [line.split() for line in (root / "proc/net/snmp").read_text().splitlines()]
    except OSError:
        return warn(name, "/proc/net/snmp cannot be read", "run telemetryd doctor on the host itself")
    udp = [line[1:] for line in lines if line[:1] == ["Udp:"]]
    if len(udp) == 2:
        count += int(dict(zip(*udp, strict=True)).get("RcvbufErrors", 0))
    try:
        rows = [line.split() for line in (root / "proc/net/snmp6").read_text().splitlines()]
        count += sum(int(row[1]) for row in rows if row[0] == "Udp6RcvbufErrors")
    except OSError:  # a kernel without IPv6
        pass
    if count:
        finding = f"{count:,} datagrams lost since boot, of all UDP sockets of this host"
        return warn(name, finding, "nstat -az UdpRcvbufErrors Udp6RcvbufErrors   # does it grow? see socket drops")
    return ok(name, "none since boot")


def check_cards(root: Path = ROOT) -> Check:
    """Did a network card drop packets for want of room? (sysfs: rx_missed_errors, rx_fifo_errors)"""
    name = "network cards"
    lost: dict[str, int] = {}
    cards = 0
    for card in _physical_cards(root):
        cards += 1
        counts = (_number(card / "statistics" / what) or 0 for what in ("rx_missed_errors", "rx_fifo_errors"))
        if count := sum(counts):
            lost[card.name] = count
    if lost:
        finding = ", ".join(f"{card}: {count:,} packets" for card, count in lost.items()) + " missed since boot"
        return warn(name, finding, f"ethtool -g {next(iter(lost))}   # then ethtool -G ... rx MAXIMUM")
    return ok(name, f"nothing missed by {cards} card{'' if cards == 1 else 's'}")


def _physical_cards(root: Path) -> Iterator[Path]:
    folder = root / "sys/class/net"
    if folder.is_dir():
        yield from (card for card in sorted(folder.iterdir()) if (card / "device").exists())


# --- files ---------------------------------------------------------------------------------------------------


def service_user() -> pwd.struct_passwd | None:
    """Return the service's user, None where it does not exist."""
    try:
        return pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return None


def check_user(user: pwd.struct_passwd | None) -> Check:
    """Does the service's user exist?"""
    if user is None:
        return warn("user", f"{SERVICE_USER} does not exist: the service cannot start", "systemd-sysusers")
    return ok("user", f"{user.pw_name}, uid {user.pw_uid}")


def may(path: Path, mode: int, user: pwd.struct_passwd) -> bool:
    """Tell whether ``user`` has all of ``mode`` (``os.R_OK | os.W_OK | os.X_OK``) by owner, group and other.

    Access lists are not looked at.
    """
    entry = path.stat()
    if user.pw_uid == 0:
        return True
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    shift = 6 if entry.st_uid == user.pw_uid else 3 if entry.st_gid in groups else 0
    return stat.S_IMODE(entry.st_mode) >> shift & mode == mode


def check_readable(name: str, path: Path, user: pwd.struct_passwd) -> Check:
    """May ``user`` read a file, or a directory with its files, and pass all directories on the way?"""
    path = path.resolve()
    for step in reversed(path.parents):
        if step.is_dir() and not may(step, os.X_OK, user):
            return fail(name, f"{user.pw_name} may not pass {step}", f"chmod o+x {step}")
    inside = sorted(path.iterdir()) if path.is_dir() else []
    for one in (path, *inside):
        wanted = os.R_OK | os.X_OK if one.is_dir() else os.R_OK
        if not may(one, wanted, user):
            return fail(name, f"{user.pw_name} may not read {one}", f"chmod o+r{'x' if one.is_dir() else ''} {one}")
    return ok(name, f"{user.pw_name} may read {path}")


def check_store(path: Path, user: pwd.struct_passwd) -> Check:
    """May ``user`` write the store, or make it?"""
    name = "store"
    owner = f"{user.pw_name}:"
    if not path.exists():
        nearest = _existing(path)
        if may(nearest, os.W_OK | os.X_OK, user):
            return ok(name, f"{path} will be made")
        return warn(
            name,
            f"{path} does not exist, and {user.pw_name} may not make it in {nearest}",
            f"install -d -o {user.pw_name} -m 750 {path}   # the service's StateDirectory= does it by itself",
        )
    if not path.is_dir():
        return fail(name, f"{path} is no directory", "name another one: store.path")
    for one in (path, *sorted(path.iterdir())):
        wanted = os.R_OK | os.W_OK | (os.X_OK if one.is_dir() else 0)
        if not may(one, wanted, user):
            return fail(name, f"{user.pw_name} may not write {one}", f"chown -R {owner} {path}")
    return ok(name, f"{user.pw_name} may write {path}")


def check_disk(path: Path) -> Check:
    """Has the store's disk room?"""
    name = "disk"
    nearest = _existing(path)
    usage = shutil.disk_usage(nearest)
    inodes = os.statvfs(nearest)
    finding = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.1f} GB free at {nearest}"
    remedy = "give store.path a larger disk, or shorten store.retention"
    if usage.free < FAIL_FREE_OCTETS:
        return fail(name, finding, remedy)
    if inodes.f_files and inodes.f_favail < inodes.f_files // 100:
        return warn(name, f"{inodes.f_favail:,} inodes left at {nearest}", f"df --inodes {nearest}")
    if usage.free < WARN_FREE_OCTETS:
        return warn(name, finding, remedy)
    return ok(name, finding)


def _existing(path: Path) -> Path:
    """Return the nearest directory on the way that exists."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.is_dir())


def _mebibytes(octets: int) -> str:
    """Write a size; the kernel's own limits are often just below a whole number."""
    return f"{octets / (1 << 20):.3g} MiB"
