"""The control service over a real Unix socket: calls, deadlines, who is let in, and what a second daemon is told."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc
import pytest

from telemetryd.errors import InputError, TelemetrydError
from telemetryd.proto import control_pb2, control_pb2_grpc
from telemetryd.serve import gate as gate_module
from telemetryd.serve.control import ControlServer, group_id
from telemetryd.serve.control_client import ControlClient, ControlError
from telemetryd.serve.gate import Gate, Peer, peer_of
from telemetryd.serve.messages import ReloadResult
from tests.control_backend import DEADLINE_S, STATUS, Backend, serving, update

Scene = Callable[[], Coroutine[Any, Any, None]]


def play(scene: Scene) -> None:
    """Run a scene to its end, or fail when it takes too long."""

    async def bounded() -> None:
        async with asyncio.timeout(3 * DEADLINE_S):
            await scene()

    asyncio.run(bounded())


def test_status_arrives_as_it_was_given() -> None:
    """Rule: every field of a status survives the wire, 64-bit counts as integers."""

    async def scene() -> None:
        async with serving(Backend()) as path, ControlClient(path) as client:
            assert await client.status() == STATUS

    play(scene)


@pytest.mark.parametrize(
    "result",
    [
        ReloadResult(True, changes=("registry: 2 links more",), needs_restart=("listen.port",)),
        ReloadResult(False, problems=("a.yaml:3:1: no such link - name one of the registry",)),
    ],
)
def test_reload_tells_what_came_of_it(result: ReloadResult) -> None:
    """Rule: a reload's result, good or bad, is the caller's answer, not an error."""

    async def scene() -> None:
        backend = Backend()
        backend.result = result
        async with serving(backend) as path, ControlClient(path) as client:
            assert await client.reload() == result
            assert backend.reloads == 1

    play(scene)


def test_the_daemon_knows_who_asks_for_a_reload() -> None:
    """Rule: whoever is behind each of several connections at once is named by what the kernel says."""

    async def scene() -> None:
        backend = Backend()
        asks = "import asyncio,pathlib,sys; from telemetryd.serve.control_client import ControlClient\n"
        asks += (
            "async def ask():\n  async with ControlClient(pathlib.Path(sys.argv[1])) as client: await client.reload()\n"
        )
        asks += "asyncio.run(ask())"
        async with serving(backend) as path, ControlClient(path) as client:
            await client.status()  # a connection that stays open beside
            command = (sys.executable, "-c", asks, str(path))
            others = [await asyncio.create_subprocess_exec(*command) for _ in range(2)]
            assert [await other.wait() for other in others] == [0, 0]
            await client.reload()
            assert {peer.pid for peer in backend.askers[:2]} == {other.pid for other in others}
            assert backend.askers[2].pid == os.getpid()
            assert {peer.uid for peer in backend.askers} == {os.geteuid()}
            assert backend.askers[0].user() == pwd.getpwuid(os.geteuid()).pw_name
            assert sorted(file.name for file in path.with_name(path.name + ".d").iterdir()) == ["grpc"]

    play(scene)


def test_a_user_without_a_name_is_a_number() -> None:
    """Rule: the audit names a user that no database knows by its number."""
    assert Peer(1, 2**32 - 2, frozenset()).user() == str(2**32 - 2)


def test_reload_outlives_its_caller() -> None:
    """Rule: a reload whose caller gave up is finished, and the caller is told that it did not wait for the end."""

    async def scene() -> None:
        backend = Backend()
        backend.hold.clear()
        async with serving(backend) as path, ControlClient(path) as client:
            with pytest.raises(ControlError, match="in time"):
                await client.reload(deadline_s=0.2)
            assert backend.reloads == 0
            backend.hold.set()
            await client.reload()
            assert backend.reloads == 2

    play(scene)


def test_refusal_of_the_backend_is_told() -> None:
    """Rule: an expected failure in the daemon reaches the caller with its message."""

    class Failing(Backend):
        async def reload(self, peer: Peer) -> ReloadResult:
            raise TelemetrydError("the daemon is draining")

    async def scene() -> None:
        async with serving(Failing()) as path, ControlClient(path) as client:
            with pytest.raises(ControlError, match="the daemon is draining"):
                await client.reload()

    play(scene)


def test_updates_flow_and_the_slow_miss_some() -> None:
    """Rule: a reader gets the newest update; the ones it was too slow for are not queued up for it."""

    async def scene() -> None:
        backend = Backend()
        async with serving(backend) as path, ControlClient(path) as client:
            backend.updates.publish(update(0))
            stream = client.updates()
            assert await anext(stream) == update(0)
            for second in range(1, 6):
                backend.updates.publish(update(second))
            got = await anext(stream)
            assert got == update(5)
            await stream.aclose()

    play(scene)


def test_end_of_the_daemon_ends_a_watch() -> None:
    """Rule: a watcher learns that the daemon stops, and the daemon does not wait for its watchers."""

    async def scene() -> None:
        backend = Backend()
        async with serving(backend) as path:
            client = await ControlClient(path).__aenter__()
            backend.updates.publish(update(0))
            stream = client.updates()
            await anext(stream)
        with pytest.raises(ControlError):
            await anext(stream)
        await client.__aexit__(None, None, None)

    play(scene)


def test_silence_is_an_error() -> None:
    """Rule: a watch without any update ends with a message, not in waiting for ever."""

    async def scene() -> None:
        async with serving(Backend()) as path, ControlClient(path) as client:
            with pytest.raises(ControlError, match="no update"):
                await anext(client.updates(silence_s=0.1))

    play(scene)


@pytest.mark.parametrize("method", ["Status", "Reload", "Watch"])
def test_every_call_needs_a_deadline(method: str) -> None:
    """Rule: the server refuses a call without a deadline."""

    async def scene() -> None:
        backend = Backend()
        async with serving(backend) as path, grpc.aio.insecure_channel(f"unix:{path}") as channel:
            call = getattr(control_pb2_grpc.ControlStub(channel), method)(getattr(control_pb2, f"{method}Request")())
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await (call.read() if method == "Watch" else call)
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert backend.reloads == 0

    play(scene)


def test_socket_is_closed_to_others() -> None:
    """Rule: the socket has mode 0660 and the group's number, the inner one lies behind mode 0700; both vanish."""

    async def scene() -> None:
        async with serving(Backend()) as path:
            assert path.stat().st_mode & 0o777 == 0o660
            assert path.stat().st_gid == os.getegid()
            inner = path.with_name(path.name + ".d")
            assert inner.stat().st_mode & 0o777 == 0o700
        assert not path.exists()
        assert not inner.exists()

    play(scene)


def test_kernel_says_who_connects(tmp_path: Path) -> None:
    """Rule: the peer is the process that connected, with all its groups."""
    first, second = socket.socketpair(socket.AF_UNIX)
    with first, second:
        peer = peer_of(first)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.groups >= {os.getegid(), *os.getgroups()}


def test_whom_the_gate_trusts(tmp_path: Path) -> None:
    """Rule: root, the daemon's own user, and members of the socket's group - by any of their groups - and no other."""
    gate = Gate(tmp_path / "s", gid=4242)
    assert gate.trusts(Peer(1, 0, frozenset({7})))
    assert gate.trusts(Peer(1, os.geteuid(), frozenset({7})))
    assert gate.trusts(Peer(1, 54321, frozenset({7, 4242})))
    assert not gate.trusts(Peer(1, 54321, frozenset({7})))


def test_stranger_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule: a peer that is not trusted gets no answer though the file's mode let it connect; the message says why."""
    monkeypatch.setattr(gate_module, "peer_of", lambda connection: Peer(1, 54321, frozenset({54321})))

    async def scene() -> None:
        async with serving(Backend()) as path, ControlClient(path) as client:
            with pytest.raises(ControlError, match="nor in the group"):
                await client.status()

    play(scene)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_stranger_of_another_user_is_turned_away() -> None:
    """Rule: the check holds for a real process of another user, even where the file's mode lets everybody in."""

    async def scene() -> None:
        async with serving(Backend()) as path:
            path.parent.chmod(0o755)
            path.chmod(0o666)
            script = (
                "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); sys.exit(len(s.recv(1)))"
            )
            for uid, expected in ((65534, 0), (0, 1)):
                child = await asyncio.create_subprocess_exec(
                    "/usr/bin/env", "python3", "-c", script, str(path), user=uid, group=uid, extra_groups=[]
                )
                # A trusted one is greeted by the SETTINGS frame of HTTP/2, a stranger by the end of the stream.
                assert await child.wait() == expected

    play(scene)


def test_second_daemon_learns_who_holds_the_socket() -> None:
    """Rule: a second server on the same path is refused with the first one's process number, and the first goes on."""

    async def scene() -> None:
        async with serving(Backend()) as path, ControlClient(path) as client:
            with pytest.raises(TelemetrydError, match=f"process {os.getpid()} listens there"):
                await ControlServer(path, Backend()).run()
            assert await client.status() == STATUS

    play(scene)


def test_socket_left_by_a_killed_daemon_is_replaced(tmp_path: Path) -> None:
    """Rule: a socket file that nobody listens on does not keep a daemon from starting."""
    path = tmp_path / "c"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def scene() -> None:
        async with serving(Backend(), path), ControlClient(path) as client:
            assert await client.status() == STATUS

    play(scene)


@pytest.mark.parametrize(
    ("where", "words"), [("absent/c", "RuntimeDirectory"), ("x" * 120, "too long"), ("f", "not a socket")]
)
def test_useless_path_is_the_operators_mistake(tmp_path: Path, where: str, words: str) -> None:
    """Rule: a path that cannot hold the socket is reported with a remedy, and a file there is left alone."""
    (tmp_path / "f").write_text("mine")
    with pytest.raises(InputError, match=words):
        play(ControlServer(tmp_path / where, Backend()).run)
    assert (tmp_path / "f").read_text() == "mine"


def test_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """Rule: what lies where the inner directory would be is not removed: the daemon does not start."""
    (tmp_path / "c.d").mkdir()
    (tmp_path / "c.d" / "settings").write_text("mine")
    with pytest.raises(InputError, match=r"c\.d"):
        play(ControlServer(tmp_path / "c", Backend()).run)
    assert (tmp_path / "c.d" / "settings").read_text() == "mine"
    assert not (tmp_path / "c").exists()


def test_directory_left_by_a_killed_daemon_is_taken(tmp_path: Path) -> None:
    """Rule: the inner sockets of a daemon that was killed do not keep the next from starting."""
    (tmp_path / "c.d").mkdir()
    for name in ("gate", "grpc"):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "c.d" / name))

    async def scene() -> None:
        async with serving(Backend(), tmp_path / "c") as path, ControlClient(path) as client:
            assert await client.status() == STATUS

    play(scene)


def test_unknown_group() -> None:
    """Rule: a group that does not exist is named."""
    with pytest.raises(InputError, match="no group 'no-such-group'"):
        group_id("no-such-group")


def test_no_daemon(tmp_path: Path) -> None:
    """Rule: without a daemon a client says so at once and how to look for it."""

    async def scene() -> None:
        with pytest.raises(ControlError, match="systemctl status telemetryd"):
            await ControlClient(tmp_path / "none").__aenter__()

    play(scene)
