"""What is set on an agent without a kernel: a whole gateway, and single rates beside it; every answer is read back.

CPU is that of the agent's process: it says more than the clock on a host that others use too.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.report import Figure
from telemetryd.ingest.gnmi.path import parse, to_proto
from telemetryd.proto import gnmi_pb2
from tests.agent_process import AgentProcess

#: Applications and departments of a gateway: a term for each of both together.
APPLICATIONS, DEPARTMENTS = 700, 60
#: Of the agent's own bound on a message.
MOST_OCTETS = 96 << 20
DEADLINE_S = 300
CIR = (
    "/qos/scheduler-policies/scheduler-policy[name=telemetryd-out-lo]/schedulers/scheduler[sequence=1]"
    "/two-rate-three-color/config/cir"
)


def run(short: bool) -> list[Figure]:
    """Set, change and read; ``short`` takes few of all."""
    applications, changes = (7, 50) if short else (APPLICATIONS, 1000)
    document = gateway(applications, DEPARTMENTS)
    terms = applications * DEPARTMENTS
    figures = []
    with tempfile.TemporaryDirectory() as directory:
        for where, options in (("in memory", []), ("on the disk", ["--state-dir", directory])):
            figures += _measure(document, terms, changes, where, options)
        with _agent("--state-dir", directory) as agent:
            began = time.monotonic()
            channel = _channel(agent.port)
            assert len(_terms(channel)) == terms
            figures.append(
                Figure(f"{terms:,} terms, read back from the disk and by Get", time.monotonic() - began, "s")
            )
            channel.close()
    return figures


def _agent(*options: str) -> AgentProcess:
    return AgentProcess("--insecure", "--qos", "memory", "--allow-set", *options)


def _measure(document: dict[str, Any], terms: int, changes: int, where: str, options: list[str]) -> list[Figure]:
    octets = _replace(document)
    what = f"{terms:,} terms, {where}"
    with _agent(*options) as agent:
        channel = _channel(agent.port)
        call = channel.unary_unary("/gnmi.gNMI/Set")
        seconds = []
        for _ in range(2):
            began = _cpu_s(agent.pid)
            call(octets, DEADLINE_S)
            seconds.append(_cpu_s(agent.pid) - began)
        assert len(_terms(channel)) == terms
        each, before_s = np.empty(changes), _cpu_s(agent.pid)
        for number in range(changes):
            began = time.monotonic()
            call(_update(CIR, number + 1), DEADLINE_S)
            each[number] = time.monotonic() - began
        assert _get(channel, CIR) == str(changes)
        rate_s = (_cpu_s(agent.pid) - before_s) / changes
        resident = _resident(agent.pid)
        channel.close()
    leaves = f"{len(octets) / 1e6:.3g} MB of JSON_IETF"
    return [
        Figure(f"{what}: the first replace, CPU", seconds[0], "s", leaves),
        Figure(f"{what}: the same again, CPU", seconds[1], "s", "nothing changes"),
        Figure(f"{what}: one rate, CPU", rate_s * 1e3, "ms", f"{changes} of them, the call included"),
        Figure(
            f"{what}: one rate, median", float(np.median(each)) * 1e3, "ms", f"{changes} of them, the call included"
        ),
        Figure(f"{what}: one rate, 99 of 100", float(np.quantile(each, 0.99)) * 1e3, "ms"),
        Figure(f"{what}: resident", resident, "MiB"),
    ]


def gateway(applications: int, departments: int) -> dict[str, Any]:
    """Return the trees of a gateway: a queue an application, a prefix set a department, a term for both."""
    queues = [f"telemetryd-q{number}" for number in range(applications)]
    terms = [
        {
            "id": f"10-{department:02}-{number:03}",
            "config": {"id": f"10-{department:02}-{number:03}"},
            "conditions": {
                "ipv4": {"config": {"destination-address-prefix-set": f"telemetryd-d{department}", "protocol": 6}},
                "transport": {"config": {"destination-port": 1000 + number}},
            },
            "actions": {"config": {"target-group": queue}},
        }
        for department in range(departments)
        for number, queue in enumerate(queues)
    ]
    schedulers = [
        {
            "sequence": number,
            "config": {"sequence": number, "type": "TWO_RATE_THREE_COLOR"},
            "inputs": {"input": [{"id": queue, "config": {"id": queue, "input-type": "QUEUE", "queue": queue}}]},
            "output": {"config": {"output-type": "INTERFACE"}},
            "two-rate-three-color": {"config": {"cir": "1000", "pir": "1000000"}},
        }
        for number, queue in enumerate(queues, 1)
    ]

    def named(names: list[str], **more: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {"name": name, "config": {"name": name, **{key: one[name] for key, one in more.items()}}} for name in names
        ]

    policy = named(["telemetryd-out-lo"])
    policy[0]["schedulers"] = {"scheduler": schedulers}
    classifier = named(["telemetryd-ipv4"], type={"telemetryd-ipv4": "IPV4"})
    classifier[0]["terms"] = {"term": terms}
    sets = [f"telemetryd-d{number}" for number in range(departments)]
    prefixes = {name: [f"10.{number}.0.0/16"] for number, name in enumerate(sets)}
    return {
        "openconfig-qos:qos": {
            "queues": {"queue": named(queues)},
            "forwarding-groups": {"forwarding-group": named(queues, **{"output-queue": {q: q for q in queues}})},
            "classifiers": {"classifier": classifier},
            "scheduler-policies": {"scheduler-policy": policy},
        },
        "openconfig-defined-sets:defined-sets": {
            "ipv4-prefix-sets": {"ipv4-prefix-set": named(sets, prefix=prefixes)},
        },
    }


def _replace(document: dict[str, Any]) -> bytes:
    value = gnmi_pb2.TypedValue(json_ietf_val=json.dumps(document).encode())
    return gnmi_pb2.SetRequest(replace=[gnmi_pb2.Update(path=gnmi_pb2.Path(), val=value)]).SerializeToString()


def _update(path: str, value: int) -> bytes:
    update = gnmi_pb2.Update(path=to_proto(parse(path)), val=gnmi_pb2.TypedValue(uint_val=value))
    return gnmi_pb2.SetRequest(update=[update]).SerializeToString()


def _channel(port: int) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_receive_message_length", MOST_OCTETS)])


def _get(channel: grpc.Channel, path: str) -> Any:
    request = gnmi_pb2.GetRequest(
        path=[to_proto(parse(path))], encoding=gnmi_pb2.JSON_IETF, type=gnmi_pb2.GetRequest.CONFIG
    )
    answer = channel.unary_unary("/gnmi.gNMI/Get")(request.SerializeToString(), DEADLINE_S)
    return json.loads(gnmi_pb2.GetResponse.FromString(answer).notification[0].update[0].val.json_ietf_val)


def _terms(channel: grpc.Channel) -> list[Any]:
    found = _get(channel, "/qos/classifiers/classifier[name=telemetryd-ipv4]/terms")
    terms: list[Any] = found["openconfig-qos:term"]
    return terms


def _cpu_s(pid: int) -> float:
    """Return the CPU time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"process {pid} has no resident memory")
