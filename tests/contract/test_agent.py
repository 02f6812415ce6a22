"""The agent's gNMI service, called over both of our transports and by calls that no honest client makes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from telemetryd.agent.server import AgentServer, ServerTls
from telemetryd.agent.simulated import SimulatedInterfaces, count
from telemetryd.agent.source import Source
from telemetryd.errors import InputError, TelemetrydError
from telemetryd.ingest.gnmi.grpc_aio import unary
from telemetryd.ingest.gnmi.path import elems_of, parse, text_of, to_proto
from telemetryd.ingest.gnmi.show import Shower
from telemetryd.ingest.gnmi.subscription import ListMode, Mode, Subscription, Wanted, poll_request, subscribe_request
from telemetryd.ingest.gnmi.transport import Endpoint, Status, Tls, TransportError, open_transport
from telemetryd.proto import gnmi_ext_pb2, gnmi_pb2
from tests.agent_tree import ETH0, LO, HeldSource
from tests.gnmi_client import TIMEOUT_S, Taken, endpoint, requests, subscribe

pytestmark = pytest.mark.no_twins

TRANSPORTS = ("fast", "grpc")
PROTO, JSON_IETF = gnmi_pb2.PROTO, gnmi_pb2.JSON_IETF
OCTETS = "/interfaces/interface/state/counters/in-octets"
OPER = "/interfaces/interface/state/oper-status"


@asynccontextmanager
async def serving(source: Source, tls: ServerTls | None = None, **options: Any) -> AsyncIterator[AgentServer]:
    """Run an agent on a free port."""
    server = AgentServer(source, "127.0.0.1", 0, tls, **options)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(server.run())
        started = group.create_task(server.started.wait())
        await asyncio.wait((running, started), return_when=asyncio.FIRST_COMPLETED)
        try:
            yield server
        finally:
            server.stop()


def run(story: Callable[[HeldSource, AgentServer], Awaitable[None]], **options: Any) -> None:
    """Tell a story with an agent that holds two interfaces."""

    async def told() -> None:
        source = HeldSource({"eth0": ETH0, "lo": LO})
        async with asyncio.timeout(TIMEOUT_S), serving(source, **options) as server:
            await story(source, server)

    asyncio.run(told())


def asked(
    *paths: str, mode: ListMode = ListMode.ONCE, encoding: int = PROTO, target: str = "", **options: Any
) -> bytes:
    """Return the first message of a Subscribe call."""
    of_list = {name: options.pop(name) for name in ("updates_only", "depth") if name in options}
    when = options.pop("when", Mode.SAMPLE)
    subscriptions = tuple(Subscription(parse(path), when, **options) for path in paths)
    wanted = Wanted("gw1", Endpoint("127.0.0.1"), subscriptions, mode, target=target, **of_list)
    return subscribe_request(wanted, encoding)


def lines(messages: list[bytes], target: str = "") -> list[str]:
    """Return messages as `telemetryd gnmi subscribe` prints them, without what all paths begin with."""
    shower = Shower("gw1", asked_target=target)
    return [
        line.replace("/interfaces/interface", "")
        for message in messages
        for line in shower.flat(shower.rows(message, 1))
    ]


# --- calls with one answer --------------------------------------------------------------------------------------------


async def ask(server: AgentServer, method: str, request: Any, answer: Any, **options: Any) -> Any:
    octets = request if isinstance(request, bytes) else request.SerializeToString()
    where = endpoint(server.port, "grpc", **options)
    return answer.FromString(await unary(where, f"/gnmi.gNMI/{method}", octets, TIMEOUT_S))


def get_request(*paths: str, **fields: Any) -> gnmi_pb2.GetRequest:
    return gnmi_pb2.GetRequest(path=[to_proto(parse(path)) for path in paths], **fields)


def test_capabilities() -> None:
    """Models, encodings (the best first) and the version of gNMI."""

    async def story(source: HeldSource, server: AgentServer) -> None:
        answer = await ask(server, "Capabilities", b"", gnmi_pb2.CapabilityResponse)
        assert [one.name for one in answer.supported_models] == ["openconfig-interfaces", "openconfig-if-ethernet"]
        assert list(answer.supported_encodings) == [PROTO, JSON_IETF, gnmi_pb2.JSON]
        assert answer.gNMI_version == "0.10.0"

    run(story)


def test_get() -> None:
    """A notification a path, with the time of the reading; leaves in PROTO, subtrees in JSON."""

    async def story(source: HeldSource, server: AgentServer) -> None:
        request = get_request(OCTETS, "/interfaces/interface[name=lo]", encoding=PROTO, type="STATE")
        answer = await ask(server, "Get", request, gnmi_pb2.GetResponse)
        first, second = answer.notification
        assert first.timestamp == second.timestamp == source.ts_ns
        assert [(text_of(elems_of(one.path)), one.val.uint_val) for one in first.update] == [
            (OCTETS.replace("interface/", "interface[name=eth0]/"), 2**64 - 1),
            (OCTETS.replace("interface/", "interface[name=lo]/"), 5),
        ]
        assert [one.path.elem[-1].name for one in second.update] == ["name", "oper-status", "in-octets"]
        prefix = gnmi_pb2.Path(target="gw1", origin="openconfig", elem=[gnmi_pb2.PathElem(name="interfaces")])
        request = gnmi_pb2.GetRequest(prefix=prefix, path=[to_proto(parse("interface[name=lo]/state/counters"))])
        request.encoding = JSON_IETF
        answer = await ask(server, "Get", request, gnmi_pb2.GetResponse)
        assert (answer.notification[0].prefix.target, answer.notification[0].prefix.origin) == ("gw1", "openconfig")
        (update,) = answer.notification[0].update
        assert json.loads(update.val.json_ietf_val) == {"openconfig-interfaces:in-octets": "5"}

    run(story)


BAD_ELEM = gnmi_pb2.Path(elem=[gnmi_pb2.PathElem(name="")])
HISTORY = gnmi_ext_pb2.Extension(history=gnmi_ext_pb2.History(snapshot_time=1))
COMMIT = gnmi_ext_pb2.Extension(commit=gnmi_ext_pb2.Commit(id="1"))


@pytest.mark.parametrize(
    ("method", "request_", "status", "details"),
    [
        ("Get", get_request("/interfaces/interface[name=eth9]"), "NOT_FOUND", "/interfaces/interface[name=eth9]"),
        ("Get", get_request("/interfaces/interface[name=lo]/state/mtu"), "NOT_FOUND", "interface[name=lo]/state/mtu"),
        ("Get", get_request("/qos/queues"), "UNIMPLEMENTED", '/qos/queues: this target has no "qos" below /'),
        ("Get", get_request("/interfaces/interface[id=1]"), "INVALID_ARGUMENT", '"interface" is a list by name'),
        ("Get", gnmi_pb2.GetRequest(path=[BAD_ELEM]), "INVALID_ARGUMENT", '"" is no name'),
        ("Get", get_request("/interfaces", encoding=gnmi_pb2.ASCII), "UNIMPLEMENTED", "unsupported encoding ASCII"),
        ("Get", get_request("/interfaces", encoding=77), "UNIMPLEMENTED", "unsupported encoding 77"),
        ("Get", get_request("/interfaces", type=9), "INVALID_ARGUMENT", "no type of data has the number 9"),
        ("Get", get_request("cli:/show"), "UNIMPLEMENTED", "cli:/show: no origin but openconfig"),
        ("Get", get_request("/interfaces", extension=[HISTORY]), "UNIMPLEMENTED", "History"),
        ("Get", get_request("/interfaces", extension=[COMMIT]), "INVALID_ARGUMENT", "Commit"),
        (
            "Get",
            get_request("/interfaces", use_models=[gnmi_pb2.ModelData(name="srl")]),
            "UNIMPLEMENTED",
            "unsupported models srl",
        ),
        ("Get", get_request("/", prefix=gnmi_pb2.Path(target="gw2")), "NOT_FOUND", 'no target "gw2" here'),
        ("Get", gnmi_pb2.GetRequest(path=[gnmi_pb2.Path(target="gw1")]), "INVALID_ARGUMENT", "named in the prefix"),
        ("Get", get_request(*["/interfaces"] * 1025), "INVALID_ARGUMENT", "1025 paths"),
        ("Get", get_request("/interfaces/" + "x" * 100_000), "UNIMPLEMENTED", "/interfaces/xxx"),
        ("Get", b"\xff\xff\xff", "INVALID_ARGUMENT", "the message is no GetRequest"),
        ("Set", gnmi_pb2.SetRequest(), "UNIMPLEMENTED", "only be read"),
        ("Nothing", b"", "UNIMPLEMENTED", ""),
    ],
)
def test_refusals(method: str, request_: Any, status: str, details: str) -> None:
    """The status that the specification has for it (3.3.4), and the path or the word that is wrong."""

    async def story(source: HeldSource, server: AgentServer) -> None:
        with pytest.raises(TransportError) as refused:
            await ask(server, method, request_, gnmi_pb2.GetResponse)
        assert refused.value.status.name == status
        assert details in refused.value.details
        answer = await ask(server, "Get", get_request("/interfaces", encoding=PROTO), gnmi_pb2.GetResponse)
        assert answer.notification[0].update

    run(story, target="gw1")


def test_a_source_that_fails() -> None:
    """What cannot be read now is UNAVAILABLE, with the reason, and works again afterwards."""

    async def story(source: HeldSource, server: AgentServer) -> None:
        source.failure = TelemetrydError("cannot read the links of the kernel: no")
        for call in (ask(server, "Get", get_request("/interfaces"), gnmi_pb2.GetResponse), _once(server)):
            with pytest.raises(TransportError, match="UNAVAILABLE: cannot read the links of the kernel: no"):
                await call
        source.failure = None
        assert len(await _once(server)) == 3

    async def _once(server: AgentServer) -> list[bytes]:
        messages, error = await subscribe(endpoint(server.port, "fast"), asked(OCTETS))
        if error is not None:
            raise error
        return messages

    run(story)


# --- Subscribe --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("encoding", [PROTO, JSON_IETF, gnmi_pb2.JSON])
def test_once(transport: str, encoding: int) -> None:
    """Every leaf once, sync_response, and the end; the target of the prefix comes back."""

    async def story(source: HeldSource, server: AgentServer) -> None:
        where = endpoint(server.port, transport)
        request = asked(OCTETS, OPER, encoding=encoding, target="gw1")
        messages, error = await subscribe(where, request)
        assert error is None
        assert lines(messages, "gw1") == [
            "[name=eth0]/state/counters/in-octets: 18446744073709551615",
            "[name=lo]/state/counters/in-octets: 5",
            "[name=eth0]/state/oper-status: UP",
            "[name=lo]/state/oper-status: UNKNOWN",
            "sync_response",
        ]
        assert server.service.counts["updates"] == 4
        messages, error = await subscribe(where, asked(OPER, encoding=encoding, updates_only=True))
        assert (lines(messages), error) == (["sync_response"], None)
        nothing = asked("/interfaces/interface[name=eth9]", encoding=encoding)
        assert await subscribe(where, nothing) == ([messages[0]], None)

    run(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_poll(transport: str) -> None:
    """Everything at the beginning and again for each Poll, each time with sync_response."""

    async def story(source: HeldSource, server: AgentServer) -> None:
        polls, taken = asyncio.Queue[bytes](), Taken()

        async def sent() -> AsyncIterator[bytes]:
            yield asked(OPER, mode=ListMode.POLL)
            while octets := await polls.get():
                yield octets

        async with asyncio.TaskGroup() as group:
            group.create_task(open_transport(endpoint(server.port, transport)).subscribe(sent(), taken))
            await taken.wait_for(3)
            source.change("eth0", announced=False, oper_status="DOWN")
            polls.put_nowait(poll_request())
            await taken.wait_for(6)
            polls.put_nowait(b"")
        rest = ["[name=lo]/state/oper-status: UNKNOWN", "sync_response"]
        assert lines(taken.messages) == [
            *("[name=eth0]/state/oper-status: UP", *rest),
            *("[name=eth0]/state/oper-status: DOWN", *rest),
        ]

    run(story)


@asynccontextmanager
async def streaming(server: AgentServer, transport: str, *octets: bytes) -> AsyncIterator[Taken]:
    """Subscribe for a while."""
    taken = Taken()
    async with asyncio.TaskGroup() as group:
        call = open_transport(endpoint(server.port, transport)).subscribe(requests(*octets, stay=True), taken)
        task = group.create_task(call)
        yield taken
        task.cancel()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_on_change(transport: str) -> None:
    """What is announced comes at once; a port that is gone is deleted; one that comes is sent whole."""

    async def story(source: HeldSource, server: AgentServer) -> None:
        request = asked(OPER, mode=ListMode.STREAM, when=Mode.ON_CHANGE)
        async with streaming(server, transport, request) as taken:
            await taken.wait_for(3)
            source.change("eth0", oper_status="DOWN")
            await taken.wait_for(4)
            del source.interfaces["lo"]
            source.pulse.beat()
            await taken.wait_for(5)
            source.interfaces["eth1"] = {"state/oper-status": "UP"}
            source.pulse.beat()
            await taken.wait_for(6)
        assert lines(taken.messages)[2:] == [
            "sync_response",
            "[name=eth0]/state/oper-status: DOWN",
            "delete [name=lo]/state/oper-status",
            "[name=eth1]/state/oper-status: UP",
        ]

    run(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_samples_are_what_was_sent(transport: str) -> None:
    """Samples come on and on; each value is the one of its time, and none is missing or comes twice."""

    async def story() -> None:
        source = SimulatedInterfaces(3, 2)
        async with asyncio.timeout(TIMEOUT_S), serving(source) as server:
            request = asked(OCTETS, mode=ListMode.STREAM, when=Mode.SAMPLE, sample_interval_ns=100_000_000)
            async with streaming(server, transport, request) as taken:
                await taken.wait_for(2 + 1 + 20)
        messages = [gnmi_pb2.SubscribeResponse.FromString(one) for one in taken.messages]
        assert messages[2].sync_response
        updates = [one.update for one in messages if one.HasField("update")]
        for number, port in enumerate(("Ethernet1", "Ethernet2")):
            ours = [one for one in updates if one.prefix.elem[1].key["name"] == port]
            times = [one.timestamp for one in ours]
            assert times == sorted(set(times))
            assert [one.update[0].val.uint_val for one in ours] == [
                count(3, number, 0, ts - source.up_ns) for ts in times
            ]
        assert abs(server.service.counts["updates"] - len(updates)) <= 2  # the last ones may not have been taken

    asyncio.run(story())


def test_what_the_target_defines() -> None:
    """Where the client leaves it to us, states come as they change and counters only as samples, later."""

    async def story(source: HeldSource, server: AgentServer) -> None:
        request = asked("/interfaces/interface[name=eth0]/state", mode=ListMode.STREAM, when=Mode.TARGET_DEFINED)
        async with streaming(server, "fast", request) as taken:
            await taken.wait_for(3)
            source.change("eth0", in_octets=1, oper_status="DOWN")
            await taken.wait_for(4)
        assert lines(taken.messages[3:]) == ["[name=eth0]/state/oper-status: DOWN"]

    run(story)


def test_updates_only() -> None:
    """sync_response comes first, then changes."""

    async def story(source: HeldSource, server: AgentServer) -> None:
        request = asked("/interfaces", mode=ListMode.STREAM, when=Mode.ON_CHANGE, updates_only=True)
        async with streaming(server, "fast", request) as taken:
            await taken.wait_for(1)
            source.change("eth0", in_octets=9)
            await taken.wait_for(2)
        assert lines(taken.messages) == ["sync_response", "[name=eth0]/state/counters/in-octets: 9"]

    run(story)


def test_depth() -> None:
    """The extension limits how deep an answer goes."""

    async def story(source: HeldSource, server: AgentServer) -> None:
        messages, _ = await subscribe(endpoint(server.port, "fast"), asked("/interfaces/interface", depth=1))
        assert lines(messages) == ["[name=eth0]/name: eth0", "[name=lo]/name: lo", "sync_response"]

    run(story)


SOON = {"mode": ListMode.STREAM, "when": Mode.SAMPLE}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("octets", "status", "details"),
    [
        ([poll_request()], "INVALID_ARGUMENT", "has to say what is subscribed to"),
        ([b"\xff"], "INVALID_ARGUMENT", "no SubscribeRequest"),
        ([asked()], "INVALID_ARGUMENT", "has to name a path"),
        ([asked("/interfaces/nothing")], "UNIMPLEMENTED", '/interfaces/nothing: this target has no "nothing"'),
        ([asked(OCTETS, encoding=gnmi_pb2.BYTES)], "UNIMPLEMENTED", "unsupported encoding BYTES"),
        ([asked(OCTETS, **SOON, sample_interval_ns=1000)], "INVALID_ARGUMENT", f"{OCTETS}: sample_interval 1000 ns"),
        ([asked(OCTETS, **SOON, heartbeat_ns=1000)], "INVALID_ARGUMENT", f"{OCTETS}: heartbeat_interval 1000 ns"),
        ([asked(OCTETS, **SOON), asked(OCTETS)], "INVALID_ARGUMENT", "a call has one subscription"),
        ([asked(OCTETS, **SOON), poll_request()], "INVALID_ARGUMENT", "a Poll belongs to"),
        ([asked(OCTETS, mode=ListMode.POLL), asked(OCTETS)], "INVALID_ARGUMENT", "a call has one subscription"),
    ],
)
def test_refused_subscriptions(transport: str, octets: list[bytes], status: str, details: str) -> None:
    """The call ends with the status of the specification (3.5.1, 3.5.2.4) and what was wrong."""

    async def story(source: HeldSource, server: AgentServer) -> None:
        _, error = await subscribe(endpoint(server.port, transport), *octets, stay=True)
        assert error is not None
        assert error.status is Status[status]
        assert details in error.details

    run(story)


def test_a_mode_that_nobody_knows() -> None:
    """Numbers that no mode has are refused, and an interval where the target defines it."""

    async def story(source: HeldSource, server: AgentServer) -> None:
        one = gnmi_pb2.Subscription(path=to_proto(parse(OCTETS)), mode=0, sample_interval=10**9)
        lists = [
            gnmi_pb2.SubscriptionList(subscription=[one], encoding=PROTO),
            gnmi_pb2.SubscriptionList(
                subscription=[gnmi_pb2.Subscription(path=one.path, mode=7)],  # type: ignore[arg-type]
                encoding=PROTO,
            ),
            gnmi_pb2.SubscriptionList(subscription=[one], encoding=PROTO, mode=7),  # type: ignore[arg-type]
        ]
        for listed, word in zip(lists, ("defines sample_interval", "subscription has the number 7", "7"), strict=True):
            request = gnmi_pb2.SubscribeRequest(subscribe=listed).SerializeToString()
            _, error = await subscribe(endpoint(server.port, "fast"), request)
            assert error is not None and error.status is Status.INVALID_ARGUMENT and word in error.details

    run(story)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_end_is_announced(transport: str) -> None:
    """Who streams when the agent stops is told so."""

    async def story(source: HeldSource, server: AgentServer) -> None:
        taken = Taken()

        async def stop() -> None:
            await taken.wait_for(3)
            server.stop()

        async with asyncio.TaskGroup() as group:
            group.create_task(stop())
            call = open_transport(endpoint(server.port, transport)).subscribe(
                requests(asked(OPER, **SOON), stay=True), taken
            )
            with pytest.raises(TransportError, match="UNAVAILABLE: the target is stopping"):
                await call

    run(story)


def test_clients_that_go_leave_nothing_behind() -> None:
    """Streams that are cancelled end in the agent too, and it reads nothing for nobody."""

    async def story(source: HeldSource, server: AgentServer) -> None:
        before = len(asyncio.all_tasks())
        for _ in range(20):
            async with streaming(server, "fast", asked(OCTETS, **SOON, sample_interval_ns=100_000_000)) as taken:
                await taken.wait_for(3)
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.01)
        reads = source.reads
        source.pulse.beat()
        answer = await ask(server, "Get", get_request("/interfaces", encoding=PROTO), gnmi_pb2.GetResponse)
        assert answer.notification[0].timestamp == source.ts_ns
        assert source.reads == reads + 1

    run(story)


# --- who is let in ----------------------------------------------------------------------------------------------------

CITY, OTHER = trustme.CA(), trustme.CA()


def written(directory: Path, name: str, *blobs: trustme.Blob) -> Path:
    path = directory / name
    path.write_bytes(b"".join(blob.bytes() for blob in blobs))
    return path


def issued(directory: Path, authority: trustme.CA, name: str) -> tuple[Path, Path]:
    """Return the files of a certificate and its key."""
    leaf = authority.issue_cert(name)
    return (
        written(directory, f"{name}.pem", *leaf.cert_chain_pems),
        written(directory, f"{name}.key", leaf.private_key_pem),
    )


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("client", ["right", "wrong", "none"])
def test_clients_need_a_certificate(transport: str, client: str, tmp_path: Path) -> None:
    """With an authority for clients nobody else is let in."""
    ca = written(tmp_path, "ca.pem", CITY.cert_pem)
    tls = ServerTls(*issued(tmp_path, CITY, "127.0.0.1"), ca)
    ours = {}
    if client != "none":
        certificate, key = issued(tmp_path, CITY if client == "right" else OTHER, "collector.example")
        ours = {"certificate": certificate, "key": key}

    async def story(source: HeldSource, server: AgentServer) -> None:
        where = endpoint(server.port, transport, tls=Tls(ca=ca, **ours))
        messages, error = await subscribe(where, asked(OPER))
        if client == "right":
            assert error is None and len(messages) == 3
        else:
            assert error is not None and error.status is Status.UNAVAILABLE and not messages

    run(story, tls=tls)


def test_certificates_are_renewed(tmp_path: Path) -> None:
    """New certificates are taken without an end; files that are none change nothing."""
    files = issued(tmp_path, CITY, "127.0.0.1")
    tls = ServerTls(*files)

    async def story(source: HeldSource, server: AgentServer) -> None:
        async def trusts(authority: trustme.CA) -> bool:
            ca = written(tmp_path, "trusted.pem", authority.cert_pem)
            _, error = await subscribe(endpoint(server.port, "fast", tls=Tls(ca=ca)), asked(OPER))
            return error is None

        assert await trusts(CITY)
        files[0].write_text("nothing")
        await server.renew()
        assert await trusts(CITY)
        issued(tmp_path, OTHER, "127.0.0.1")
        await server.renew()
        assert await trusts(OTHER)
        assert not await trusts(CITY)

    run(story, tls=tls)


@pytest.mark.parametrize("wrong", ["certificate", "key", "client_ca", "pair", "missing"])
def test_files_that_are_none(wrong: str, tmp_path: Path) -> None:
    """A mistake in the files is found before anything listens, with the file's name."""
    certificate, key = issued(tmp_path, CITY, "127.0.0.1")
    files = {"certificate": certificate, "key": key, "client_ca": written(tmp_path, "ca.pem", CITY.cert_pem)}
    if wrong == "pair":
        files["key"] = issued(tmp_path, OTHER, "other.example")[1]
    elif wrong == "missing":
        files["key"] = tmp_path / "gone.key"
    else:
        files[wrong] = tmp_path / f"garbage-{wrong}"
        files[wrong].write_text("nothing")
    named = files["key" if wrong in ("pair", "missing") else wrong].name
    with pytest.raises(InputError, match=named):
        ServerTls(**files).configuration()


def test_a_port_that_is_taken() -> None:
    """Two agents do not share a port: the second says why it cannot have it."""

    async def story(source: HeldSource, server: AgentServer) -> None:
        second = AgentServer(source, "127.0.0.1", server.port, None)
        with pytest.raises(InputError, match=rf"cannot listen on 127\.0\.0\.1:{server.port}: Address already in use"):
            await second.run()

    run(story)
