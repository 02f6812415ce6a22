"""`telemetryd gnmi` against a target: what it prints, its exit codes, its words for mistakes."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import grpc
import pytest

from telemetryd.cli.main import main
from telemetryd.ingest.gnmi.path import parse, to_proto
from telemetryd.proto import gnmi_pb2
from tests.gnmi_messages import COUNTERS, NOW_NS, notification, sync, update
from tests.gnmi_server import GrpcioTarget

SECOND_NS = 1_000_000_000


async def capabilities(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    answer = gnmi_pb2.CapabilityResponse(
        supported_encodings=[gnmi_pb2.JSON_IETF, gnmi_pb2.PROTO],
        gNMI_version="0.10.0",
        supported_models=[gnmi_pb2.ModelData(name="openconfig-interfaces", organization="OC", version="3.0.0")],
    )
    return bytes(answer.SerializeToString())


async def get(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    asked = gnmi_pb2.GetRequest.FromString(request)
    if asked.path[0].elem[0].name == "nothing":
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such path")
    answer = gnmi_pb2.GetResponse()
    found = answer.notification.add(timestamp=NOW_NS)
    found.update.add(path=to_proto(parse(COUNTERS)), val=gnmi_pb2.TypedValue(json_ietf_val=b'{"in-octets":"12"}'))
    return bytes(answer.SerializeToString())


async def serve(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for octets in incoming:
        request = gnmi_pb2.SubscribeRequest.FromString(octets)
        if request.HasField("poll"):
            yield notification(update(f"{COUNTERS}/in-octets", uint_val=1))
            continue
        for i in range(3):
            yield notification(
                update("in-octets", uint_val=1000 * i),
                update("description", string_val="城"),
                prefix=COUNTERS,
                timestamp=NOW_NS + i * SECOND_NS,
            )
            if i == 0:
                yield sync()
        yield notification(deletes=[COUNTERS], timestamp=NOW_NS + 3 * SECOND_NS)
        if request.subscribe.mode == gnmi_pb2.SubscriptionList.ONCE:
            return


def invoke(words: list[str]) -> tuple[int, str, str]:
    """Run the command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(["gnmi", *words])
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


def run(*arguments: str) -> tuple[int, str, str]:
    """Run the command in a thread against a target, whose address stands for TARGET."""

    async def story() -> tuple[int, str, str]:
        async with GrpcioTarget(serve, {"Capabilities": capabilities, "Get": get}) as target:
            words = [f"127.0.0.1:{target.port}" if word == "TARGET" else word for word in arguments]
            async with asyncio.timeout(60):
                found = await asyncio.to_thread(invoke, words)
            if "TELEMETRYD_GNMI_USERNAME" in os.environ:
                assert {call["username"] for call in target.calls} == {"admin"}
                assert {call["password"] for call in target.calls} == {"secret"}
            return found

    return asyncio.run(story())


def test_capabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Version, encodings and models, for people and as JSON; user and password come from the environment."""
    monkeypatch.setenv("TELEMETRYD_GNMI_USERNAME", "admin")
    monkeypatch.setenv("TELEMETRYD_GNMI_PASSWORD", "secret")
    code, out, _ = run("capabilities", "TARGET", "--insecure")
    assert code == 0
    assert "gNMI 0.10.0, encodings: JSON_IETF, PROTO" in out
    assert "openconfig-interfaces" in out
    document = json.loads(run("capabilities", "TARGET", "--insecure", "--json")[1])
    assert document == {
        "version": "0.10.0",
        "encodings": ["JSON_IETF", "PROTO"],
        "models": [{"name": "openconfig-interfaces", "organization": "OC", "version": "3.0.0"}],
    }


def test_get() -> None:
    """A line a leaf, or the notifications as JSON."""
    assert run("get", "TARGET", "--insecure", "-p", COUNTERS)[:2] == (0, f"{COUNTERS}/in-octets: 12\n")
    document = json.loads(run("get", "TARGET", "--insecure", "-p", COUNTERS, "--json", "-t", "state")[1])
    assert document["notifications"][0]["updates"] == [{"path": COUNTERS, "value": {"in-octets": "12"}}]


@pytest.mark.parametrize("transport", ["fast", "grpc"])
def test_subscribe_once(transport: str) -> None:
    """A line a leaf, in the order of the target, until it ends the stream."""
    code, out, _ = run("subscribe", "TARGET", "--insecure", "-p", COUNTERS, "--mode", "once", "--transport", transport)
    assert code == 0
    assert out.splitlines() == [
        f"{COUNTERS}/in-octets: 0",
        f"{COUNTERS}/description: 城",
        "sync_response",
        f"{COUNTERS}/in-octets: 1000",
        f"{COUNTERS}/description: 城",
        f"{COUNTERS}/in-octets: 2000",
        f"{COUNTERS}/description: 城",
        f"delete {COUNTERS}",
    ]


def test_subscribe_formats() -> None:
    """Events have keys as tags and values by bare path; JSON is the messages; --count ends a stream."""
    stream = ("subscribe", "TARGET", "--insecure", "-p", COUNTERS, "-i", "1 s", "-n", "2")
    code, out, _ = run(*stream, "--format", "event")
    bare = COUNTERS.replace("[name=eth0]", "")
    assert code == 0
    event = json.loads(out)
    assert event["tags"]["interface_name"] == "eth0"
    assert event["values"] == {f"{bare}/in-octets": 0, f"{bare}/description": "城"}
    first, second = map(json.loads, run(*stream, "--json")[1].splitlines())
    assert first["prefix"] == COUNTERS
    assert first["updates"][0] == {"path": "/in-octets", "value": 0}
    assert second["sync_response"] is True


def test_poll() -> None:
    """Every poll gets its answer."""
    code, out, _ = run("subscribe", "TARGET", "--insecure", "-p", COUNTERS, "--mode", "poll", "-i", "20 ms", "-n", "8")
    assert code == 0
    assert out.count("in-octets: 1\n") >= 3


def test_watch() -> None:
    """The last value of each leaf, and how fast counters grow."""
    code, out, _ = run("watch", "TARGET", "--insecure", "-p", COUNTERS, "-n", "1", "-i", "10 ms")
    assert code == 0
    assert f"{COUNTERS}/in-octets" in out
    assert "age" in out


def test_mistakes() -> None:
    """What the operator can mend is said in a line, with exit code 2; what the target refuses, with 1."""
    for words, said in (
        (("get", "TARGET", "--insecure", "-p", "/a[b"), "path"),
        (("get", ":0", "-p", "/a"), "address"),
        (("get", "TARGET", "--insecure", "-p", "/a", "--vendor", "x"), "vendor"),
        (("get", "TARGET", "--insecure", "-p", "/a", "-e", "x"), "encoding"),
        (("subscribe", "TARGET", "--insecure", "-p", "/a", "-i", "fast"), "--sample-interval"),
        (("subscribe", "TARGET", "--insecure", "-p", "/a", "--mode", "x"), "mode"),
        (("capabilities", "TARGET", "--insecure", "--skip-verify"), "--insecure"),
        (("capabilities", "TARGET", "--tls-ca", "/nowhere.pem"), "/nowhere.pem"),
        (("capabilities", "TARGET", "--insecure", "--password-file", "/nowhere"), "/nowhere"),
    ):
        code, out, err = invoke([word.replace("TARGET", "127.0.0.1:1") for word in words])
        assert (code, out) == (2, ""), err
        assert said in err
    code, _, err = run("get", "TARGET", "--insecure", "-p", "/nothing")
    assert code == 1
    assert "NOT_FOUND: no such path" in err
    code, _, err = run("capabilities", "TARGET")
    assert code == 1
    assert "UNAVAILABLE" in err


def test_secrets_are_read_from_files(tmp_path: Path) -> None:
    """Password and token come from files, without the end of the line."""
    (tmp_path / "pw").write_text("secret\n")
    code, _, _ = run("capabilities", "TARGET", "--insecure", "-u", "admin", "--password-file", str(tmp_path / "pw"))
    assert code == 0


@pytest.mark.parametrize("shown", ["flat", "event", "json"])
def test_damaged_messages_are_left_out(shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no message, or has a path that is none, is said on stderr; the others are printed. No traceback."""
    unnamed = gnmi_pb2.Notification(timestamp=NOW_NS, update=[gnmi_pb2.Update(path=gnmi_pb2.Path(element=["a[b"]))])

    async def damaged(incoming: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await anext(incoming)
        yield b"\xff"
        yield gnmi_pb2.SubscribeResponse(update=unnamed).SerializeToString()
        yield notification(update("/a", uint_val=7))

    monkeypatch.setitem(globals(), "serve", damaged)
    code, out, err = run("subscribe", "TARGET", "--insecure", "-p", "/a", "--format", shown, "-n", "5")
    assert code == 0
    assert "7" in out
    assert "left out" in err


def test_answers_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is no message ends the command with what it should have been."""

    async def damaged(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return b"\xff"

    monkeypatch.setitem(globals(), "capabilities", damaged)
    code, _, err = run("capabilities", "TARGET", "--insecure")
    assert (code, err) == (1, "telemetryd: INTERNAL: the answer is no CapabilityResponse\n")
