"""The agent as a process, set by clients of others, each as a process of its own.

What may be set by whom is told by certificates; what was set is there again after the agent was killed.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from telemetryd.agent.state_directory import StateDirectory
from telemetryd.ingest.gnmi.path import parse, to_proto
from telemetryd.proto import gnmi_ext_pb2, gnmi_pb2
from tests.agent_process import AgentProcess
from tests.agent_setting import set_request

pytestmark = pytest.mark.no_twins

DEADLINE_S = 60
LO = "/qos/interfaces/interface[interface-id=lo]"
QUEUE = "/qos/queues/queue[name=telemetryd-q0]"
POLICY = "/qos/scheduler-policies/scheduler-policy[name=telemetryd-out-lo]"
CIR = f"{POLICY}/schedulers/scheduler[sequence=1]/two-rate-three-color/config/cir"


def tree(cir: int = 5_000_000) -> dict[str, Any]:
    """Return a queue with a rate at the loopback, as the JSON of /qos."""
    name = "telemetryd-q0"
    return {
        "queues": {"queue": [{"name": name, "config": {"name": name}}]},
        "scheduler-policies": {
            "scheduler-policy": [
                {
                    "name": "telemetryd-out-lo",
                    "config": {"name": "telemetryd-out-lo"},
                    "schedulers": {
                        "scheduler": [
                            {
                                "sequence": 1,
                                "config": {"sequence": 1, "type": "TWO_RATE_THREE_COLOR"},
                                "inputs": {
                                    "input": [
                                        {"id": name, "config": {"id": name, "input-type": "QUEUE", "queue": name}}
                                    ]
                                },
                                "output": {"config": {"output-type": "INTERFACE"}},
                                "two-rate-three-color": {"config": {"cir": str(cir), "pir": "9000000"}},
                            }
                        ]
                    },
                }
            ]
        },
        "interfaces": {
            "interface": [
                {
                    "interface-id": "lo",
                    "config": {"interface-id": "lo"},
                    "interface-ref": {"config": {"interface": "lo"}},
                    "output": {"scheduler-policy": {"config": {"name": "telemetryd-out-lo"}}},
                }
            ]
        },
    }


class Client:
    """grpcio, in this process; a context manager."""

    def __init__(self, port: int, credentials: grpc.ChannelCredentials | None = None) -> None:
        where = f"127.0.0.1:{port}"
        self._channel = grpc.secure_channel(where, credentials) if credentials else grpc.insecure_channel(where)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self._channel.close()

    def set(self, *deletes: str, **operations: Any) -> gnmi_pb2.SetResponse:
        octets = set_request(*deletes, **operations).SerializeToString()
        return gnmi_pb2.SetResponse.FromString(self._channel.unary_unary("/gnmi.gNMI/Set")(octets, DEADLINE_S))

    def refused(self, *deletes: str, **operations: Any) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as error:
            self.set(*deletes, **operations)
        return error.value.code().name, error.value.details()

    def get(self, path: str, kind: str = "CONFIG") -> Any:
        request = gnmi_pb2.GetRequest(
            path=[to_proto(parse(path))],
            type=kind,  # type: ignore[arg-type]
            encoding=gnmi_pb2.JSON_IETF,
        )
        octets = self._channel.unary_unary("/gnmi.gNMI/Get")(request.SerializeToString(), DEADLINE_S)
        return json.loads(gnmi_pb2.GetResponse.FromString(octets).notification[0].update[0].val.json_ietf_val)


_PYGNMI = """
import json, sys
from pygnmi.client import gNMIclient, gNMIException
asked = json.load(sys.stdin)
found = {}
with gNMIclient(("127.0.0.1", asked["port"]), insecure=True) as client:
    found["models"] = [one["name"] for one in client.capabilities()["supported_models"]]
    for encoding in ("json_ietf", "json"):
        client.set(replace=[("/qos", asked["tree"])], encoding=encoding)
        found[encoding] = client.get(path=["/qos"], datatype="config", encoding=encoding)
    subscription = {"subscription": [{"path": asked["cir"].replace("/config/", "/state/"), "mode": "on_change"}]}
    stream = client.subscribe2({**subscription, "mode": "stream", "encoding": "proto"})
    found["stream"] = [stream.get_update(timeout=30)]
    client.set(update=[(asked["cir"], '"7000000"')], encoding="json_ietf")
    found["stream"].append(stream.get_update(timeout=30))
    client.set(delete=[asked["cir"]])
    found["stream"].append(stream.get_update(timeout=30))
    stream.close()
    once = {"subscription": [{"path": "/qos/queues"}], "mode": "once", "encoding": "proto"}
    found["once"] = [*client.subscribe2(once)]
    try:
        client.set(update=[(asked["cir"], "9000001")], encoding="json")
    except gNMIException as error:
        found["refused"] = str(error)
json.dump(found, sys.stdout)
"""


def test_pygnmi() -> None:
    """It replaces /qos in both kinds of JSON, reads it back, changes and deletes a leaf that it is subscribed to."""
    with AgentProcess("--insecure", "--qos", "memory", "--allow-set") as agent:
        asked = json.dumps({"port": agent.port, "tree": tree(), "cir": CIR})
        done = subprocess.run(
            [sys.executable, "-c", _PYGNMI],
            input=asked,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * DEADLINE_S,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
    assert {"openconfig-qos", "openconfig-defined-sets", "openconfig-interfaces"} <= set(found["models"])
    for encoding, number in (("json_ietf", "5000000"), ("json", 5_000_000)):
        (notification,) = found[encoding]["notification"]
        (update,) = notification["update"]
        got = {name.rpartition(":")[2]: value for name, value in update["val"].items()}
        (policy,) = got["scheduler-policies"]["scheduler-policy"]
        (scheduler,) = policy["schedulers"]["scheduler"]
        assert scheduler["two-rate-three-color"]["config"]["cir"] == number
        assert scheduler["sequence"] == 1
        assert got["interfaces"] == tree()["interfaces"]
    first, second, third = found["stream"]
    assert first["update"]["update"][0]["val"] == 5_000_000
    assert second["update"]["update"][0]["val"] == 7_000_000
    assert third["update"]["delete"]
    names = [
        update["path"] for message in found["once"] if "update" in message for update in message["update"]["update"]
    ]
    assert "state/name" in str(names)
    assert f"{CIR}: 9000001 is above pir, which is 9000000" in found["refused"]


def test_what_was_set_survives_a_kill(tmp_path: Path) -> None:
    """Killed -9 after each of some Sets: what was answered is there; a commit that waits is rolled back still."""
    options = ("--insecure", "--qos", "memory", "--allow-set", "--state-dir", str(tmp_path / "state"))
    with AgentProcess(*options) as agent, Client(agent.port) as client:
        client.set(replace={"/qos": tree()})
    with AgentProcess(*options) as agent, Client(agent.port) as client:
        assert client.get(CIR) == "5000000"
        commit = gnmi_ext_pb2.Commit(id="c1", commit=gnmi_ext_pb2.CommitRequest())
        commit.commit.rollback_duration.seconds = 3600
        client.set(update={CIR: 6_000_000}, commit=commit)
    with AgentProcess(*options) as agent, Client(agent.port) as client:
        assert client.get(CIR) == "6000000"
        status, details = client.refused(update={CIR: 1})
        assert (status, "c1" in details) == ("FAILED_PRECONDITION", True)
        client.set(commit=gnmi_ext_pb2.Commit(id="c1", cancel=gnmi_ext_pb2.CommitCancel()))
        assert client.get(CIR) == "5000000"
        client.set(LO, POLICY, QUEUE)
        assert client.get("/qos") == {}
        assert agent.terminate() == 0
    records = StateDirectory(tmp_path / "state").audit.records()
    assert [record["outcome"] for record in records] == ["OK", "OK", "FAILED_PRECONDITION", "OK", "OK", "OK"]
    assert [CIR, 6_000_000, 5_000_000] in [row for record in records for row in record["changed"]]


# --- who may ----------------------------------------------------------------------------------------------------------

CITY = trustme.CA()


def credentials(name: str, unit: str = "") -> grpc.ChannelCredentials:
    leaf = CITY.issue_cert(f"{name}.example", common_name=name, organization_unit_name=unit or None)
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    return grpc.ssl_channel_credentials(CITY.cert_pem.bytes(), leaf.private_key_pem.bytes(), chain)


@pytest.fixture
def tls(tmp_path: Path) -> list[str]:
    """Return the options for TLS with clients' certificates."""
    own = CITY.issue_cert("127.0.0.1")
    CITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    own.private_key_pem.write_to_path(tmp_path / "own.key")
    own.cert_chain_pems[0].write_to_path(tmp_path / "own.pem")
    files = {"--tls-cert": "own.pem", "--tls-key": "own.key", "--client-ca": "ca.pem"}
    return [word for option, name in files.items() for word in (option, str(tmp_path / name))]


def test_roles(tls: list[str], tmp_path: Path) -> None:
    """By common name, unit or alternative name; who is in no rule gets PERMISSION_DENIED, and is in the audit."""
    roles = tmp_path / "roles.yaml"
    roles.write_text("version: 1\nwrite: [ou=enforce]\nread: [cn=collector-*]\n")
    state = tmp_path / "state"
    options = ["--qos", "memory", "--roles", str(roles), "--may-set", "san=spare.example", "--state-dir", str(state)]
    who = {
        "controller": ("enforce", True, True),
        "spare": ("", True, True),
        "collector-1": ("", True, False),
        "nobody": ("", False, False),
    }
    with AgentProcess(*tls, *options) as agent:
        for name, (unit, may_read, may_set) in who.items():
            with Client(agent.port, credentials(name, unit)) as client:
                if may_set:
                    client.set(update={f"{QUEUE}/config/queue-id": 1})
                else:
                    status, details = client.refused(update={f"{QUEUE}/config/queue-id": 1})
                    assert (status, f"cn={name}" in details) == ("PERMISSION_DENIED", True)
                if may_read:
                    assert client.get("/qos/queues")
                else:
                    with pytest.raises(grpc.RpcError, match="PERMISSION_DENIED"):
                        client.get("/qos/queues")
        # SIGHUP reads the rules again; those that cannot be read change nothing.
        roles.write_text("version: 1\nwrite: [cn=nobody]\n")
        agent.signal(signal.SIGHUP)
        agent.wait_for("certificates read again")
        with Client(agent.port, credentials("nobody")) as client:
            client.set(update={f"{QUEUE}/config/queue-id": 2})
        roles.write_text("version: 2\n")
        agent.signal(signal.SIGHUP)
        assert str(roles) in agent.wait_for("the roles stay as they were")["reason"]
        with Client(agent.port, credentials("nobody")) as client:
            client.set(update={f"{QUEUE}/config/queue-id": 3})
    outcomes = [(record["name"], record["outcome"]) for record in StateDirectory(state).audit.records()]
    assert outcomes == [
        ("cn=controller", "OK"),
        ("cn=spare", "OK"),
        ("cn=collector-1", "PERMISSION_DENIED"),
        ("cn=nobody", "PERMISSION_DENIED"),
        ("cn=nobody", "OK"),
        ("cn=nobody", "OK"),
    ]


@pytest.mark.parametrize("allow", [False, True])
def test_without_rules(tls: list[str], allow: bool) -> None:
    """Nobody may set anything, unless everybody may who has a certificate: that has to be said."""
    with (
        AgentProcess(*tls, "--qos", "memory", *(["--allow-set"] if allow else [])) as agent,
        Client(agent.port, credentials("somebody")) as client,
    ):
        if allow:
            client.set(update={f"{QUEUE}/config/queue-id": 1})
        else:
            status, details = client.refused(update={f"{QUEUE}/config/queue-id": 1})
            assert (status, "--may-set" in details) == ("PERMISSION_DENIED", True)


def test_without_certificates() -> None:
    """Where nobody is asked who he is, nobody may set anything, unless that is said too."""
    with AgentProcess("--insecure", "--qos", "memory") as agent, Client(agent.port) as client:
        status, details = client.refused(update={f"{QUEUE}/config/queue-id": 1})
        assert (status, "--client-ca" in details) == ("PERMISSION_DENIED", True)
        assert client.get("/qos") == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--insecure", "--allow-set"], "--qos off"),
        (["--insecure", "--qos", "perhaps"], "none of"),
        (["--insecure", "--qos", "memory", "--may-set", "cn=x"], "--insecure"),
        (["--tls-cert", "a", "--tls-key", "b", "--qos", "memory", "--allow-set"], "--client-ca"),
        (["--tls-cert", "a", "--tls-key", "b", "--client-ca", "c", "--qos", "memory", "--may-set", "x"], "no rule"),
    ],
)
def test_mistakes(options: list[str], words: str) -> None:
    """Options that do not go together are named; exit code 2."""
    command = [sys.executable, "-m", "telemetryd", "agent", "--port", "0", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
