"""Requests over a real connection, through influxdb-client: what each answer, or none, is taken for."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
import warnings
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from telemetryd.errors import InputError
from telemetryd.store.influx.credentials import Token, TokenSource
from telemetryd.store.influx.pieces import pack
from telemetryd.store.influx.transport import LONGEST_ANSWER, Answer, Target, Transport
from tests.influx_server import FaultServer, error, half, hang, points_of, reset, script

LINES = "usage,department=税务局 octets=12i 1795000000000000000\nusage,department=b octets=1.5 17\n".encode()
SECRET = "s3cr3t-token-of-the-city=="


def target_of(server: FaultServer, **changes: Any) -> Target:
    return Target(**{"url": server.url, "org": "gov", "bucket": "db/rp", "timeout_s": 0.5, **changes})


def written(server: FaultServer, **changes: Any) -> Answer:
    """Write the lines to a server, once."""

    async def story() -> Answer:
        async with server, Transport(target_of(server, **changes)) as transport:
            return await transport.write(pack(LINES))

    return asyncio.run(story())


def test_lines_arrive_as_they_are() -> None:
    """The v2 endpoint, organisation, bucket (decoded here), precision ns; the body is ours, compressed once."""
    server = FaultServer()
    assert written(server).status == 204
    assert server.points == points_of(LINES)
    assert server.requests == [("/api/v2/write?org=gov&bucket=db/rp&precision=ns", 2)]


def test_first_requests_at_a_time_share_a_client() -> None:
    """Several writes that find no connection open one client, which is closed: nothing is left behind."""

    async def story() -> list[Answer]:
        async with FaultServer() as server, Transport(target_of(server)) as transport:
            return await asyncio.gather(*(transport.write(pack(LINES)) for _ in range(4)))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [answer.status for answer in asyncio.run(story())] == [204] * 4
        gc.collect()
    assert not [str(warning.message) for warning in caught if "nclosed" in str(warning.message)]


ANSWERS: dict[str, tuple[Any, Answer]] = {
    "message-2.x": (error(422, "no such type"), Answer(422, "no such type")),
    "error-1.x": (web.json_response({"error": "partial write"}, status=400), Answer(400, "partial write")),
    "text": (web.Response(status=503, text="<h1>busy</h1>"), Answer(503, "<h1>busy</h1>")),
    "header": (web.Response(status=400, headers={"X-Influxdb-Error": "bad"}), Answer(400, "bad")),
    "nothing": (web.Response(status=429), Answer(429, "Too Many Requests")),
    "list": (web.json_response([1], status=500), Answer(500, "[1]")),
    "retry-after": (error(429, "slow down", Retry_After="7"), Answer(429, "slow down", "7")),
    "redirect": (web.Response(status=302, headers={"Location": "/login"}), Answer(302, "redirected to /login")),
    "another-success": (web.Response(status=200, text="welcome"), Answer(200, "welcome")),
    "reset": (reset, Answer(0, "the server closed the connection without an answer")),
    "hanging": (hang, Answer(0, "no answer within 0.5 s")),
    "half": (half, Answer(503, "{")),
}


@pytest.mark.parametrize(("step", "answer"), ANSWERS.values(), ids=ANSWERS)
def test_every_answer_is_an_answer(step: Any, answer: Answer) -> None:
    """Status, message and Retry-After of an answer, or why there is none; never an exception, never a redirect."""
    server = FaultServer(fault=script(step))
    found = written(server)
    assert (found.status, found.reason, found.retry_after) == (answer.status, answer.reason, answer.retry_after)
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_an_answer() -> None:
    """A refused connection and a name that does not exist are reasons."""

    async def story(url: str) -> Answer:
        async with Transport(Target(url, "o", "b", timeout_s=5)) as transport:
            return await transport.write(b"")

    async def closed_port() -> int:
        async with FaultServer() as server:
            return server.port

    refused = asyncio.run(story(f"http://127.0.0.1:{asyncio.run(closed_port())}"))
    assert refused.status == 0
    assert "refused" in refused.reason or "Connect call failed" in refused.reason
    unknown = asyncio.run(story("http://nowhere.invalid:8086"))
    assert unknown.status == 0
    assert unknown.reason


def test_a_long_answer_is_not_read_whole() -> None:
    """A page instead of a message costs bounded memory, and its connection."""
    server = FaultServer(fault=script(web.Response(status=500, text="x" * 50_000_000)))
    assert len(written(server, timeout_s=10).reason) == LONGEST_ANSWER


# --- the token -------------------------------------------------------------------------------------------------


def test_a_token_is_read_from_a_file_or_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways a token comes, without the line's end; it opens the server."""
    (tmp_path / "influx").write_text(f"{SECRET}\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for source in (TokenSource(file=tmp_path / "influx"), TokenSource(credential="influx")):
        assert written(FaultServer(token=SECRET), token=source).status == 204
    assert written(FaultServer(token=SECRET)).status == 401


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), (b"", "does not hold a token"), (b"two words", "a token"), (b"\xff", "a token"),
     (b"x" * 5000, "a token")],
)  # fmt: skip
def test_a_token_that_is_none_is_said(tmp_path: Path, content: bytes | None, says: str) -> None:
    """What the file holds is not repeated."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        TokenSource(file=file).read()
    assert "two words" not in str(caught.value)


def test_a_credential_without_a_service_manager_is_said() -> None:
    """The remedy names both ways."""
    with pytest.raises(InputError, match=r"LoadCredential=influx:PATH, or name a token_file"):
        TokenSource(credential="influx").read({})


def test_a_replaced_token_is_used(tmp_path: Path) -> None:
    """After an answer 401 the file is read again; the same token is no news."""
    file = tmp_path / "token"
    file.write_text("old")
    server = FaultServer(token="new")

    async def story() -> None:
        async with server, Transport(target_of(server, token=TokenSource(file=file))) as transport:
            assert (await transport.write(pack(LINES))).status == 401
            assert not await transport.renew()
            file.write_text("new")
            assert await transport.renew()
            assert (await transport.write(pack(LINES))).status == 204

    asyncio.run(story())


def test_the_token_is_shown_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not in logs at any level, representations, errors, or a message of the server that repeats it."""
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "token"
    file.write_text(f"collector:{SECRET}")

    async def echo(request: web.Request, _: bytes) -> web.StreamResponse:
        return error(401, f"not you: {request.headers['Authorization']}")

    server = FaultServer(fault=echo)
    shown: list[object] = []

    async def story() -> None:
        async with server, Transport(target_of(server, token=TokenSource(file=file))) as transport:
            shown.append(await transport.write(pack(LINES)))
            shown.extend([transport, vars(transport), Token(SECRET)])
            server.fault = script(reset)
            shown.append(await transport.write(pack(LINES)))

    asyncio.run(story())
    text = caplog.text + repr(shown) + str(shown)
    assert "not you: Token ..." in text
    assert SECRET not in text


# --- TLS -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls_server(authority: trustme.CA, name: str) -> FaultServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return FaultServer(context=context)


def test_a_server_is_verified_by_its_authority(authority: trustme.CA, tmp_path: Path) -> None:
    """With the authority's file it is trusted; without it, or under another name, nothing is sent."""
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    good = tls_server(authority, "127.0.0.1")
    assert written(good, ca_file=file, timeout_s=5).status == 204
    for server, changes in (
        (tls_server(authority, "127.0.0.1"), {}),
        (tls_server(authority, "other.example"), {"ca_file": file}),
    ):
        answer = written(server, timeout_s=5, **changes)
        assert (answer.status, answer.is_unverified) == (0, True)
        assert "certificate" in answer.reason
        assert not server.requests


def test_a_file_of_certificates_that_is_none_is_said(authority: trustme.CA, tmp_path: Path) -> None:
    """A missing file, and one with something else."""
    for content, says in ((None, "cannot be read: No such file"), (b"junk", "cannot be used")):
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(InputError, match=says):
            written(tls_server(authority, "127.0.0.1"), ca_file=file)


def test_the_wrong_scheme_is_an_answer(authority: trustme.CA) -> None:
    """HTTP against TLS, and TLS against HTTP, are no traceback and no success."""

    async def story(server: FaultServer, scheme: str) -> Answer:
        async with server, Transport(Target(f"{scheme}://127.0.0.1:{server.port}", "o", "b", timeout_s=5)) as transport:
            return await transport.write(pack(LINES))

    for server, scheme in ((tls_server(authority, "127.0.0.1"), "http"), (FaultServer(), "https")):
        answer = asyncio.run(story(server, scheme))
        assert answer.status in (0, 400)
        assert answer.reason
