"""Clients read this host's interfaces from `telemetryd agent`: pygnmi, and our own over both transports."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import trustme

from telemetryd.cli.main import main
from tests.agent_process import AgentProcess, pygnmi, statistics

pytestmark = pytest.mark.no_twins

LO = "/interfaces/interface[name=lo]"
COUNTERS = f"{LO}/state/counters"
#: The kernel's counters that have one of the same meaning in the model.
SAME = {"in-octets": "rx_bytes", "in-pkts": "rx_packets", "out-octets": "tx_bytes", "out-pkts": "tx_packets"}


class Kernel:
    """The loopback's counters before and after something was read: what was read has to lie between."""

    def __enter__(self) -> Kernel:
        self._before = statistics("lo")
        return self

    def __exit__(self, *exc: object) -> None:
        self._after = statistics("lo")

    def had(self, values: dict[str, Any]) -> bool:
        """Tell whether all of them may have been read meanwhile, and none is missing."""
        return values.keys() >= SAME.keys() and all(
            self._before[theirs] <= int(values[ours]) <= self._after[theirs] for ours, theirs in SAME.items()
        )


def updates(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the values of pygnmi's messages, by the last names of their paths, a dict a message."""
    found = [message["update"]["update"] for message in messages if message.get("update", {}).get("update")]
    return [{one["path"].rpartition("/")[2]: one["val"] for one in update} for update in found]


def test_pygnmi_reads_the_kernel(tmp_path: Path) -> None:
    """Capabilities, Get in every encoding, and all modes of Subscribe give the kernel's values, over mutual TLS."""
    authority = trustme.CA()
    files = {}
    for name, leaf in (("agent", authority.issue_cert("127.0.0.1")), ("client", authority.issue_cert("collector"))):
        files[f"{name}.pem"], files[f"{name}.key"] = leaf.cert_chain_pems[0], leaf.private_key_pem
    files["ca.pem"] = authority.cert_pem
    for name, blob in files.items():
        blob.write_to_path(str(tmp_path / name))
    at = {name: str(tmp_path / name) for name in files}
    tls = ("--tls-cert", at["agent.pem"], "--tls-key", at["agent.key"], "--client-ca", at["ca.pem"])
    with AgentProcess(*tls) as agent:
        with Kernel() as kernel:
            found = pygnmi(
                agent.port, COUNTERS, path_cert=at["client.pem"], path_key=at["client.key"], path_root=at["ca.pem"]
            )
        assert found["capabilities"]["supported_encodings"] == ["proto", "json_ietf", "json"]
        assert found["capabilities"]["gnmi_version"] == "0.10.0"
        assert "openconfig-interfaces" in [model["name"] for model in found["capabilities"]["supported_models"]]
        for encoding, answer in found["get"].items():
            (notification,) = answer["notification"]
            update = notification["update"]
            if encoding == "proto":
                values = {one["path"].rpartition("/")[2]: one["val"] for one in update}
            else:
                assert update[0]["path"] == COUNTERS[1:]
                values = {name.rpartition(":")[2]: value for name, value in update[0]["val"].items()}
                assert {type(value) for value in values.values()} == {str if encoding == "json_ietf" else int}
            assert kernel.had(values)
        assert found["once"][-1] == {"sync_response": True}
        for mode, number in (("once", 1), ("poll", 2), ("stream", 3)):
            values_of = updates(found[mode])
            assert len(values_of) == number
            assert all(kernel.had(values) for values in values_of)
            in_order = [int(values["in-octets"]) for values in values_of]
            assert in_order == sorted(in_order)
        assert '/interfaces/nothing: this target has no "nothing" below /interfaces' in found["refused"]
        assert agent.terminate() == 0
        assert agent.logged("served")["refused"] == 1


@pytest.mark.parametrize("transport", ["fast", "grpc"])
def test_our_client_reads_the_kernel(transport: str) -> None:
    """`telemetryd gnmi` prints the kernel's values; the agent says that it sent as many updates as came."""
    with AgentProcess("--insecure") as agent:
        where = (f"127.0.0.1:{agent.port}", "--insecure", "-p", COUNTERS)
        subscribe = ("subscribe", *where, "--mode", "once", "--format", "event", "--transport", transport)
        with Kernel() as kernel:
            lines = [json.loads(line) for line in ours(*subscribe).splitlines()]
            got = ours("get", *where)
        (event,) = [line for line in lines if "values" in line]
        values = {path.rpartition("/")[2]: value for path, value in event["values"].items()}
        assert event["tags"]["interface_name"] == "lo"
        assert kernel.had(values)
        assert kernel.had({line.rpartition(": ")[0].rpartition("/")[2]: line.split()[-1] for line in got.splitlines()})
        assert agent.wait_for("subscription ended")["updates"] == len(values)


def ours(*arguments: str) -> str:
    code, out, err = invoke("gnmi", *arguments)
    assert code == 0, err
    return out


def invoke(*arguments: str) -> tuple[int, str, str]:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--tls-cert and --tls-key are missing; --insecure would go without TLS"),
        (("--insecure", "--tls-cert", "x"), "--insecure means no TLS"),
        (("--tls-cert", "none.pem", "--tls-key", "none.key"), "none.pem: there is no such file for the certificate"),
        (("--insecure", "--fastest", "1 light-year"), "--fastest"),
        (("--insecure", "--log-level", "loud"), 'no log level "loud"'),
    ],
)
def test_mistakes_on_the_command_line(arguments: tuple[str, ...], message: str) -> None:
    """They end it with exit code 2, and the words for them."""
    code, _, err = invoke("agent", "--port", "0", *arguments)
    assert (code, message in err) == (2, True), err
