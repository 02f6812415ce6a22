"""A target that no part of this project wrote: the fake of github.com/openconfig/gnmi, built from its Go module."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from telemetryd.ingest.gnmi.path import parse
from telemetryd.ingest.gnmi.paths import PathTable
from telemetryd.ingest.gnmi.subscription import ListMode, Mode, Subscription, Wanted
from telemetryd.ingest.gnmi.target import Target
from telemetryd.ingest.gnmi.transport import Endpoint, Tls, TransportError
from telemetryd.schema import UpdateBatch, ValueKind

MODULE = "github.com/openconfig/gnmi/testing/fake/gnmi/cmd/fake_server@v0.14.1"
SENT = 500
CONFIG = f"""
target: "sw1"
client_type: GRPC_GNMI
values: {{
  path: ["interfaces", "interface[name=eth0]", "state", "counters", "in-octets"]
  timestamp: {{ timestamp: 1790000000000000000 delta_min: 1000000 delta_max: 1000000 }}
  repeat: {SENT}
  uint_value: {{ value: 1 range: {{ minimum: 0 maximum: 1000000 delta_min: 1 delta_max: 1 }} }}
}}
"""


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake target's program."""
    if shutil.which("go") is None:
        if os.environ.get("CI"):
            pytest.fail("go is missing, which builds the fake target")
        pytest.skip("go is missing, which builds the fake target")
    directory = tmp_path_factory.mktemp("fake")
    environment = {**os.environ, "GOBIN": str(directory), "GOFLAGS": "-mod=mod"}
    subprocess.run(["go", "install", MODULE], cwd=directory, env=environment, check=True, capture_output=True)
    return directory / "fake_server"


@asynccontextmanager
async def running(fake: Path, directory: Path) -> AsyncIterator[Endpoint]:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    issued.private_key_pem.write_to_path(str(directory / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    (directory / "config.txt").write_text(CONFIG)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        fake,
        *("-config", directory / "config.txt", "-text", "-port", str(port), "-allow_no_client_auth"),
        *("-server_crt", directory / "cert.pem", "-server_key", directory / "key.pem", "-ca_crt", directory / "ca.pem"),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield Endpoint("127.0.0.1", port, tls=Tls(ca=directory / "ca.pem"))
    finally:
        process.kill()
        await process.wait()


@pytest.mark.long
@pytest.mark.parametrize("transport", ["fast", "grpc"])
def test_updates_received_are_updates_sent(fake: Path, transport: str, tmp_path: Path) -> None:
    """Every value of a target made by others comes, once, in order, with its time; its sync_response too."""

    async def story() -> None:
        async with running(fake, tmp_path) as endpoint:
            paths, batch = PathTable(), UpdateBatch(1 << 12, 1 << 16)
            wanted = Wanted(
                "sw1",
                Endpoint(endpoint.host, endpoint.port, tls=endpoint.tls, transport=transport),  # type: ignore[arg-type]
                (Subscription(parse("/interfaces"), Mode.ON_CHANGE),),
                ListMode.ONCE,
                target="sw1",
            )
            target = Target(wanted, 0, paths, batch, lambda: None, asyncio.Semaphore(1))
            try:
                async with asyncio.timeout(60):
                    await target.subscribe_once()
            except TransportError as error:
                # The fake ends its stream with an error of its own when it has nothing more to send.
                assert "end of updates" in str(error)
            rows = batch["kind"][: batch.n] == ValueKind.UINT
            assert batch["value"][: batch.n][rows].tolist() == list(range(1, SENT + 1))
            assert (batch["ts_ns"][: batch.n][rows][1:] > batch["ts_ns"][: batch.n][rows][:-1]).all()
            assert {paths.text(number) for number in batch["path"][: batch.n][rows].tolist()} == {
                "/interfaces/interface[name=eth0]/state/counters/in-octets"
            }
            assert target.state.counts["syncs"] == 1

    asyncio.run(story())
