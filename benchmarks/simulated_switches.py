"""Simulated switches for benchmarks: gNMI servers that keep what they are told, without a model, and say it again.

`python -m benchmarks.simulated_switches COUNT` prints a JSON line with their ports, and serves until its stdin ends.
Set merges JSON into a tree and deletes entries; Get returns the tree with every `config` also as `state`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from telemetryd.proto import gnmi_pb2

HOST = "127.0.0.3"
_KEYS = {"interface": "interface-id", "term": "id", "input": "id", "scheduler": "sequence"}
Node = dict[str, Any]


class Switch:
    """One server; entries of lists are kept under ``list[key]``."""

    def __init__(self) -> None:
        self.tree: Node = {}

    async def get(self, request: bytes, context: Any) -> bytes:
        """Answer a Get of roots."""
        asked = gnmi_pb2.GetRequest.FromString(request)
        answer = gnmi_pb2.GetResponse()
        for path in asked.path:
            tree = self.tree.get(path.elem[0].name, {}) if path.elem else self.tree
            value = gnmi_pb2.TypedValue(json_ietf_val=json.dumps(_shown(tree)).encode())
            answer.notification.add(timestamp=1).update.add(path=path, val=value)
        return bytes(answer.SerializeToString())

    async def set(self, request: bytes, context: Any) -> bytes:
        """Do a Set."""
        asked = gnmi_pb2.SetRequest.FromString(request)
        for path in asked.delete:
            node = self.tree
            for name in _names(path)[:-1]:
                node = node.get(name, {})
            node.pop(_names(path)[-1], None)
        for update in (*asked.replace, *asked.update):
            node = self.tree
            names = _names(update.path)
            for name in names[:-1]:
                node = node.setdefault(name, {})
            value = json.loads(update.val.json_ietf_val)
            if isinstance(value, dict):
                _merge(node.setdefault(names[-1], {}), value)
            else:
                node[names[-1]] = value
        return bytes(gnmi_pb2.SetResponse(timestamp=1).SerializeToString())


def _names(path: gnmi_pb2.Path) -> list[str]:
    return [f"{elem.name}[{next(iter(elem.key.values()))}]" if elem.key else elem.name for elem in path.elem]


def _merge(node: Node, value: Node) -> None:
    for qualified, child in value.items():
        name = qualified.rpartition(":")[2]
        if isinstance(child, dict):
            _merge(node.setdefault(name, {}), child)
        elif isinstance(child, list) and child and isinstance(child[0], dict):
            for entry in child:
                key = "type" if name == "classifier" and "type" in entry else _KEYS.get(name, "name")
                _merge(node.setdefault(f"{name}[{entry[key]}]", {}), entry)
        else:
            node[name] = child


def _shown(node: Node) -> Node:
    found: Node = {}
    for name, child in node.items():
        if not isinstance(child, dict):
            found[name] = child
        elif name.endswith("]"):
            found.setdefault(name[: name.index("[")], []).append(_shown(child))
        elif name == "config":
            found["config"] = found["state"] = child
        else:
            found[name] = _shown(child)
    return found


async def serve(count: int) -> None:
    """Serve until stdin ends."""
    servers, ports = [], []
    for _ in range(count):
        switch = Switch()
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)])
        handlers = {
            "Get": grpc.unary_unary_rpc_method_handler(switch.get),
            "Set": grpc.unary_unary_rpc_method_handler(switch.set),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("gnmi.gNMI", handlers),))
        ports.append(server.add_insecure_port(f"{HOST}:0"))
        await server.start()
        servers.append(server)
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await asyncio.gather(*(server.stop(None) for server in servers))


@contextmanager
def switches(count: int) -> Iterator[list[int]]:
    """Run the process; yield the ports."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "benchmarks.simulated_switches", str(count)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
