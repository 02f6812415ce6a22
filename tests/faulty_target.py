"""Real gNMI servers in front of devices that go wrong on purpose (tests/faulty_device.py).

`python -m tests.faulty_target COUNT` prints a JSON line with their ports. Then each line that it reads is a command as
JSON, and is answered by a line:

    {"do": "arm", "target": 0, "kind": "write", "number": 0, "fault": "refuse"}
    {"do": "config", "target": 0}                what it has
    {"do": "change", "target": 0, "leaves": {}}  somebody else changes it; null removes a leaf
    {"do": "drops", "target": 0, "packets": 5}   that each queue drops with each reading
    {"do": "hit", "target": 0}                   the faults that were done
    {"do": "reset", "target": 0}                 as it was at the beginning
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc.aio

from telemetryd.enforce.device import CommitTimer, LostError, RefusedError
from telemetryd.enforce.diff import Write
from telemetryd.enforce.names import Value
from telemetryd.enforce.reading import read_notifications
from telemetryd.ingest.gnmi.path import elems_of, parse, text_of, to_proto
from telemetryd.proto import gnmi_ext_pb2, gnmi_pb2
from tests.commanded import Commanded
from tests.enforce_case import FOREIGN, as_json, dangling
from tests.faulty_device import FaultyDevice
from tests.gnmi_server import GrpcioTarget

HURRY = 40.0
Context = Any

_STATUS = {
    "refuse": grpc.StatusCode.INVALID_ARGUMENT,
    "exhausted": grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class FaultyTarget:
    """A gNMI server in front of a device."""

    def __init__(self, device: FaultyDevice) -> None:
        self.device = device
        self.drops = 0
        self._read = 0
        device.hurry = HURRY

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve at a free port."""
        unary = {"Capabilities": self._capabilities, "Get": self._get, "Set": self._set}
        async with GrpcioTarget(serve=self._once, unary=unary) as server:
            yield server.port

    async def _capabilities(self, request: bytes, context: Context) -> bytes:
        answer = gnmi_pb2.CapabilityResponse(
            supported_models=[gnmi_pb2.ModelData(name="openconfig-qos", organization="OC", version="0.11.2")],
            supported_encodings=[gnmi_pb2.JSON_IETF, gnmi_pb2.PROTO],
            gNMI_version="0.10.0",
        )
        return bytes(answer.SerializeToString())

    async def _get(self, request: bytes, context: Context) -> bytes:
        asked = gnmi_pb2.GetRequest.FromString(request)
        try:
            found = await self.device.read()
        except LostError as error:
            if "garbage" in str(error):
                return b'\x0a\x07\x08\x01"\x03bad'
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        answer = gnmi_pb2.GetResponse()
        for path in asked.path:
            answer.notification.append(self._notification(text_of(elems_of(path)), found.config, found.state))
        return bytes(answer.SerializeToString())

    async def _once(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        first = gnmi_pb2.SubscribeRequest.FromString(await anext(requests))
        try:
            found = await self.device.read()
        except LostError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        for one in first.subscribe.subscription:
            update = self._notification(text_of(elems_of(one.path)), found.config, found.state)
            yield gnmi_pb2.SubscribeResponse(update=update).SerializeToString()
        yield gnmi_pb2.SubscribeResponse(sync_response=True).SerializeToString()

    def _notification(
        self, root: str, config: Mapping[str, Value], state: Mapping[str, Value]
    ) -> gnmi_pb2.Notification:
        notification = gnmi_pb2.Notification(timestamp=1)
        if root == "/qos":
            tree = as_json({**config, **{_state(path): value for path, value in state.items()}})
            value = gnmi_pb2.TypedValue(json_ietf_val=json.dumps(tree["openconfig-qos:qos"]).encode())
            notification.update.add(path=to_proto(parse("/qos")), val=value)
            return notification
        leaves: dict[str, Value] = dict(config)
        leaves |= {_state(path): value for path, value in state.items()} | self._counters(config)
        for path, leaf in leaves.items():
            if path.startswith(f"{root}/") or path == root:
                text = json.dumps(list(leaf) if isinstance(leaf, tuple) else leaf)
                notification.update.add(
                    path=to_proto(parse(path)), val=gnmi_pb2.TypedValue(json_ietf_val=text.encode())
                )
        return notification

    def _counters(self, config: Mapping[str, Value]) -> dict[str, Value]:
        self._read += 1
        found: dict[str, Value] = {}
        for path in config:
            if "/output/queues/queue[" in path and path.endswith("/config/name"):
                queue = path.removesuffix("config/name")
                found[f"{queue}state/transmit-pkts"] = 1000 * self._read
                found[f"{queue}state/dropped-pkts"] = self.drops * self._read
        return found

    async def _set(self, request: bytes, context: Context) -> bytes:
        asked = gnmi_pb2.SetRequest.FromString(request)
        timer = None
        try:
            for extension in asked.extension:
                if extension.WhichOneof("ext") == "commit":
                    timer = await self._commit(extension.commit, context)
            writes = [Write(text_of(elems_of(path)), None) for path in asked.delete]
            notification = gnmi_pb2.Notification(update=[*asked.replace, *asked.update])
            writes += [Write(path, value) for path, value in read_notifications([notification]).config.items()]
            if writes:
                await self.device.write(writes, timer)
        except RefusedError as error:
            status = grpc.StatusCode.INVALID_ARGUMENT
            if "FAILED_PRECONDITION" in str(error):
                status = grpc.StatusCode.FAILED_PRECONDITION
            await context.abort(_STATUS.get(str(error).rpartition(" ")[2], status), str(error))
        except LostError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return bytes(gnmi_pb2.SetResponse(timestamp=1).SerializeToString())

    async def _commit(self, commit: gnmi_ext_pb2.Commit, context: Context) -> CommitTimer | None:
        match commit.WhichOneof("action"):
            case "commit":
                return CommitTimer(commit.id, commit.commit.rollback_duration.ToTimedelta().total_seconds())
            case "set_rollback_duration":
                seconds = commit.set_rollback_duration.rollback_duration.ToTimedelta().total_seconds()
                await self.device.extend(commit.id, seconds)
            case action:
                done = await (self.device.confirm(commit.id) if action == "confirm" else self.device.cancel(commit.id))
                if not done:
                    raise RefusedError("FAILED_PRECONDITION: no such commit")
        return None


def _state(path: str) -> str:
    return path.replace("/config/", "/state/")


# --- a process of them ------------------------------------------------------------------------------------------------


async def serve(count: int) -> None:
    """Run targets until there are no more commands."""
    targets = [FaultyTarget(FaultyDevice(f"SW{number}", FOREIGN, check=dangling)) for number in range(count)]
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        ports: list[int] = []
        started = asyncio.Semaphore(0)
        over = asyncio.Event()

        async def run(one: FaultyTarget) -> None:
            async with one.serving() as port:
                ports.append(port)
                started.release()
                await over.wait()

        for one in targets:
            group.create_task(run(one))
            await started.acquire()
        print(json.dumps(ports), flush=True)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        async for line in commands:
            print(json.dumps(obey(targets, json.loads(line))), flush=True)
        over.set()


def obey(targets: list[FaultyTarget], command: dict[str, Any]) -> Any:
    """Do a command; return the answer."""
    target = targets[command["target"]]
    device = target.device
    match command["do"]:
        case "arm":
            number = device.calls.get(command["kind"], 0) + command["number"]
            device.faults[command["kind"], number] = command["fault"]
        case "config":
            device.settle_time()
            return device.config
        case "change":
            changed = {p: tuple(v) if isinstance(v, list) else v for p, v in command["leaves"].items()}
            device.config = {p: v for p, v in {**device.config, **changed}.items() if v is not None}
        case "drops":
            target.drops = command["packets"]
        case "traits":
            device._traits = replace(device.traits, **command["traits"])
        case "reset":
            targets[command["target"]].__init__(FaultyDevice(device.name, FOREIGN, check=dangling))  # type: ignore[misc]
        case "hit":
            return device.hit
    return None


class FaultyTargets(Commanded):
    """The process; a context manager that leaves none behind."""

    def __init__(self, count: int) -> None:
        super().__init__("tests.faulty_target", str(count))

    def tell(self, do: str, target: int, **more: Any) -> Any:
        """Give a command; return the answer."""
        return self.command(json.dumps({"do": do, "target": target, **more}))

    def config(self, target: int) -> dict[str, Value]:
        """Return what a target has."""
        return {p: tuple(v) if isinstance(v, list) else v for p, v in self.tell("config", target).items()}


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
