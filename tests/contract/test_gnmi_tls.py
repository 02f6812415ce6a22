"""How both gNMI transports tell the right target from a wrong one, and are told from wrong clients themselves."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from telemetryd.errors import InputError
from telemetryd.ingest.gnmi.transport import Status, Tls, TransportError
from tests.gnmi_client import endpoint, subscribe
from tests.gnmi_server import FramePeer, GrpcioTarget

TRANSPORTS = ("fast", "grpc")
NAME = "switch.example"
CITY = trustme.CA()
OTHER = trustme.CA()


async def serve(incoming: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    await anext(incoming)
    yield b"seen"


def written(directory: Path, name: str, *blobs: trustme.Blob) -> Path:
    path = directory / name
    path.write_bytes(b"".join(blob.bytes() for blob in blobs))
    return path


def server_credentials(issued: trustme.LeafCert, clients: trustme.CA | None = None) -> grpc.ServerCredentials:
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    roots = clients.cert_pem.bytes() if clients else None
    return grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)], roots, clients is not None)


async def talk(
    transport: str, tls: Tls | None, credentials: grpc.ServerCredentials | None
) -> tuple[list[bytes], TransportError | None]:
    async with GrpcioTarget(serve, credentials=credentials) as target:
        return await subscribe(endpoint(target.port, transport, tls=tls))


@pytest.fixture
def trusted(tmp_path: Path) -> dict[str, Any]:
    """What is needed to believe the city's CA."""
    return {"ca": written(tmp_path, "ca.pem", CITY.cert_pem)}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("issued_for", "options"), [(NAME, {"server_name": NAME}), ("127.0.0.1", {})], ids=["by server_name", "by address"]
)
def test_the_right_target(transport: str, issued_for: str, options: dict[str, str], trusted: dict[str, Any]) -> None:
    """A certificate of the CA for the name that is expected is believed."""
    found = asyncio.run(talk(transport, Tls(**trusted, **options), server_credentials(CITY.issue_cert(issued_for))))
    assert found == ([b"seen"], None)


def refused(found: tuple[list[bytes], TransportError | None]) -> str:
    messages, error = found
    assert messages == []
    assert error is not None and error.status is Status.UNAVAILABLE
    return error.details


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("wrong", ["ca", "name", "expired"])
def test_a_wrong_target(transport: str, wrong: str, trusted: dict[str, Any]) -> None:
    """Another CA's certificate, one for another name and one that has expired are refused, and the reason is told."""
    past = datetime.now(UTC) - timedelta(days=1)
    issued = {
        "ca": lambda: OTHER.issue_cert(NAME),
        "name": lambda: CITY.issue_cert("other.example"),
        "expired": lambda: CITY.issue_cert(NAME, not_before=past - timedelta(days=9), not_after=past),
    }[wrong]()
    details = refused(asyncio.run(talk(transport, Tls(**trusted, server_name=NAME), server_credentials(issued))))
    if transport == "fast":
        expected = {"ca": "unable to get local issuer certificate", "name": NAME, "expired": "certificate has expired"}
        assert expected[wrong] in details


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_any_target_where_nothing_is_verified(transport: str) -> None:
    """skip_verify believes any certificate, whoever it is for."""
    found = asyncio.run(talk(transport, Tls(skip_verify=True), server_credentials(OTHER.issue_cert("other.example"))))
    assert found == ([b"seen"], None)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("ours", [CITY, OTHER, None], ids=["right", "wrong", "none"])
def test_our_own_certificate(transport: str, ours: trustme.CA | None, trusted: dict[str, Any], tmp_path: Path) -> None:
    """A target that asks for a certificate gets ours; with another one, or none, there is no stream."""
    if ours is not None:
        issued = ours.issue_cert("collector.example")
        trusted["certificate"] = written(tmp_path, "client.pem", *issued.cert_chain_pems)
        trusted["key"] = written(tmp_path, "client.key", issued.private_key_pem)
    credentials = server_credentials(CITY.issue_cert(NAME), CITY)
    found = asyncio.run(talk(transport, Tls(**trusted, server_name=NAME), credentials))
    if ours is CITY:
        assert found == ([b"seen"], None)
    else:
        refused(found)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("tls_here", [True, False], ids=["TLS to none", "none to TLS"])
def test_one_side_without_tls(transport: str, tls_here: bool, trusted: dict[str, Any]) -> None:
    """Where only one side speaks TLS, there is no stream, and no hanging."""
    credentials = None if tls_here else server_credentials(CITY.issue_cert(NAME))
    refused(asyncio.run(talk(transport, Tls(**trusted, server_name=NAME) if tls_here else None, credentials)))


def test_a_server_without_http2(trusted: dict[str, Any]) -> None:
    """TLS without ALPN h2 is no gRPC: said, not tried. (grpcio says no more than that it failed.)"""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CITY.issue_cert(NAME).configure_cert(context)

    async def story() -> str:
        async with FramePeer(b"", context=context) as peer:
            return refused(await subscribe(endpoint(peer.port, "fast", tls=Tls(**trusted, server_name=NAME))))

    assert "ALPN" in asyncio.run(story())


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("broken", ["missing", "garbage"])
def test_files_that_are_none(transport: str, broken: str, tmp_path: Path) -> None:
    """A file that is not there, or holds no certificate, is the operator's mistake, with its name."""
    file = tmp_path / "ca.pem"
    if broken == "garbage":
        file.write_text("nothing")
    with pytest.raises(InputError, match=r"ca\.pem"):
        asyncio.run(talk(transport, Tls(ca=file), None))
