"""`telemetryd gnmi`: ask a target what it can, read from it, and watch what it sends."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from telemetryd.cli import gnmi_options as options
from telemetryd.errors import InputError

if TYPE_CHECKING:
    from telemetryd.ingest.gnmi.subscription import Wanted

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)

_MODES: Final = {"sample": "SAMPLE", "on-change": "ON_CHANGE", "target-defined": "TARGET_DEFINED"}
_FORMATS: Final = ("flat", "event", "json")
Handle = Callable[[bytes, int], bool]


@app.callback()
def gnmi() -> None:
    """Talk to a gNMI target: capabilities, get, subscribe, watch.

    Without --insecure the connection is made over TLS, and the target's certificate is verified. User, password and
    token come from files or the environment, never from the command line's arguments.
    """


@app.command()
def capabilities(
    target: options.Address,
    insecure: options.Insecure = False,
    skip_verify: options.SkipVerify = False,
    tls_ca: options.Ca = None,
    tls_cert: options.Certificate = None,
    tls_key: options.Key = None,
    tls_server_name: options.ServerName = None,
    username: options.Username = None,
    password_file: options.PasswordFile = None,
    token_file: options.TokenFile = None,
    timeout: options.Timeout = 10.0,
    as_json: options.AsJson = False,
) -> None:
    """Show a target's gNMI version, encodings and models.

    Example: telemetryd gnmi capabilities sw1.example -u admin --password-file pw --tls-ca ca.pem
    """
    from telemetryd.cli import output
    from telemetryd.ingest.gnmi.show import capabilities_document
    from telemetryd.proto import gnmi_pb2

    reached = options.reach(target, **_common(locals()))
    answer = _unary(reached, "Capabilities", b"", timeout, gnmi_pb2.CapabilityResponse)
    document = capabilities_document(answer)
    if as_json:
        output.write_json(document)
        return
    print(
        f"gNMI {document['version'] or '(no version)'}, encodings: {', '.join(document['encodings']) or 'none named'}"
    )
    if document["models"]:
        output.show_table(
            [output.text("name", "model"), output.text("version"), output.text("organization")], document["models"]
        )


@app.command()
def get(
    target: options.Address,
    path: options.Paths,
    kind: Annotated[str, typer.Option("--type", "-t", help="all, config, state or operational.")] = "all",
    insecure: options.Insecure = False,
    skip_verify: options.SkipVerify = False,
    tls_ca: options.Ca = None,
    tls_cert: options.Certificate = None,
    tls_key: options.Key = None,
    tls_server_name: options.ServerName = None,
    username: options.Username = None,
    password_file: options.PasswordFile = None,
    token_file: options.TokenFile = None,
    vendor: options.Vendor = "generic",
    encoding: options.Encoding = "auto",
    prefix_target: options.PrefixTarget = "",
    depth: options.Depth = 0,
    timeout: options.Timeout = 10.0,
    as_json: options.AsJson = False,
) -> None:
    """Read values once: a line a leaf, or the notifications as JSON.

    Example: telemetryd gnmi get sw1.example -p /interfaces/interface[name=eth0]/state -e json_ietf
    """
    from telemetryd.cli import output
    from telemetryd.ingest.gnmi.path import parse
    from telemetryd.ingest.gnmi.show import Shower, notification_document
    from telemetryd.ingest.gnmi.subscription import get_request
    from telemetryd.ingest.gnmi.vendors import choose_encoding
    from telemetryd.proto import gnmi_pb2

    if kind not in ("all", "config", "state", "operational"):
        raise InputError(f'no type "{kind}": use all, config, state or operational')
    paths = [parse(one) for one in path]
    reached = options.reach(target, **_common(locals()))
    chosen = reached.encoding
    if chosen is None:
        offered = _unary(reached, "Capabilities", b"", timeout, gnmi_pb2.CapabilityResponse)
        chosen = choose_encoding(reached.profile, frozenset(offered.supported_encodings))
    request = get_request(paths, reached.profile, chosen, target=prefix_target, kind=kind.upper(), depth=depth)
    answer = _unary(reached, "Get", request, timeout, gnmi_pb2.GetResponse)
    if as_json:
        output.write_json({"notifications": [notification_document(one) for one in answer.notification]})
        return
    shower = Shower(reached.name, asked_target=prefix_target, is_wrapped=reached.profile.wraps_json)
    for one in answer.notification:
        octets = gnmi_pb2.SubscribeResponse(update=one).SerializeToString()
        for line in shower.flat(shower.rows(octets, time.time_ns())):
            print(line)


@app.command()
def subscribe(
    target: options.Address,
    path: options.Paths,
    mode: Annotated[str, typer.Option("--mode", help="stream, once or poll (a poll an interval).")] = "stream",
    stream_mode: Annotated[str, typer.Option("--stream-mode", help="sample, on-change or target-defined.")] = "sample",
    sample_interval: Annotated[str, typer.Option("--sample-interval", "-i", help='Such as "1 s".')] = "10 s",
    heartbeat_interval: Annotated[str, typer.Option("--heartbeat-interval", help="The same; none by default.")] = "",
    suppress_redundant: Annotated[bool, typer.Option("--suppress-redundant", help="Only what changed.")] = False,
    updates_only: Annotated[bool, typer.Option("--updates-only", help="Not what is there at the beginning.")] = False,
    output_format: Annotated[str, typer.Option("--format", help="flat, event or json.")] = "flat",
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="End after so many notifications; 0: never.")] = 0,
    insecure: options.Insecure = False,
    skip_verify: options.SkipVerify = False,
    tls_ca: options.Ca = None,
    tls_cert: options.Certificate = None,
    tls_key: options.Key = None,
    tls_server_name: options.ServerName = None,
    username: options.Username = None,
    password_file: options.PasswordFile = None,
    token_file: options.TokenFile = None,
    vendor: options.Vendor = "generic",
    encoding: options.Encoding = "auto",
    prefix_target: options.PrefixTarget = "",
    depth: options.Depth = 0,
    timeout: options.Timeout = 10.0,
    transport: options.Transport = "fast",
    as_json: options.AsJson = False,
) -> None:
    """Print what a target sends: a line a leaf, an event a set of keys, or a message a line.

    Examples: telemetryd gnmi subscribe sw1.example -p /interfaces/interface[name=*]/state/counters -i "1 s"
    telemetryd gnmi subscribe sw1.example -p /components --mode once --format event | jq .values
    """
    from telemetryd.ingest.gnmi.show import Shower

    shown = "json" if as_json else output_format
    if shown not in _FORMATS:
        raise InputError(f'no format "{shown}": use one of {", ".join(_FORMATS)}')
    wanted = _wanted(locals())
    shower = Shower(target, asked_target=wanted.target, is_wrapped=wanted.profile.wraps_json)
    left = count or -1

    def handle(octets: bytes, received_ns: int) -> bool:
        nonlocal left
        if shown == "json":
            print(json.dumps(shower.document(octets), ensure_ascii=False))
        else:
            rows = shower.rows(octets, received_ns)
            for one in shower.flat(rows) if shown == "flat" else shower.events(rows):
                print(one if isinstance(one, str) else json.dumps(one, ensure_ascii=False))
        sys.stdout.flush()
        left -= 1
        return left == 0

    _run(_subscribed(wanted, handle, _seconds(sample_interval, "--sample-interval")))


@app.command()
def watch(
    target: options.Address,
    path: options.Paths,
    sample_interval: Annotated[str, typer.Option("--sample-interval", "-i", help='Such as "1 s".')] = "2 s",
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="End after so many tables; 0: never.")] = 0,
    insecure: options.Insecure = False,
    skip_verify: options.SkipVerify = False,
    tls_ca: options.Ca = None,
    tls_cert: options.Certificate = None,
    tls_key: options.Key = None,
    tls_server_name: options.ServerName = None,
    username: options.Username = None,
    password_file: options.PasswordFile = None,
    token_file: options.TokenFile = None,
    vendor: options.Vendor = "generic",
    encoding: options.Encoding = "auto",
    prefix_target: options.PrefixTarget = "",
    timeout: options.Timeout = 10.0,
    transport: options.Transport = "fast",
) -> None:
    """Show the last value of each leaf and, of counters, how fast they grow, again every interval.

    Example: telemetryd gnmi watch sw1.example -p /interfaces/interface[name=eth0]/state/counters
    """
    from telemetryd.cli.gnmi_watch import Watched

    wanted = _wanted({**locals(), "depth": 0, "mode": "stream", "stream_mode": "sample"})
    _run(_subscribed(wanted, Watched(target, wanted, count).handle, 0.0))


# --- what they have in common -----------------------------------------------------------------------------------------


def _common(given: dict[str, Any]) -> dict[str, Any]:
    """Return what describes a target."""
    return {
        "insecure": given["insecure"],
        "skip_verify": given["skip_verify"],
        "ca": given["tls_ca"],
        "certificate": given["tls_cert"],
        "key": given["tls_key"],
        "server_name": given["tls_server_name"],
        "username": given["username"],
        "password_file": given["password_file"],
        "token_file": given["token_file"],
        "timeout": given["timeout"],
        "vendor": given.get("vendor", "generic"),
        "encoding": given.get("encoding", "auto"),
        "transport": given.get("transport", "fast"),
    }


def _wanted(given: dict[str, Any]) -> Wanted:
    from telemetryd.ingest.gnmi.path import parse
    from telemetryd.ingest.gnmi.subscription import ListMode, Mode, Subscription, Wanted

    if given["mode"] not in ("stream", "once", "poll"):
        raise InputError(f'no mode "{given["mode"]}": use stream, once or poll')
    if given["stream_mode"] not in _MODES:
        raise InputError(f'no stream mode "{given["stream_mode"]}": use {", ".join(_MODES)}')
    reached = options.reach(given["target"], **_common(given))
    heartbeat = given.get("heartbeat_interval", "")
    subscriptions = tuple(
        Subscription(
            parse(path),
            Mode[_MODES[given["stream_mode"]]],
            round(_seconds(given["sample_interval"], "--sample-interval") * 1e9),
            round(_seconds(heartbeat, "--heartbeat-interval") * 1e9) if heartbeat else 0,
            given.get("suppress_redundant", False),
        )
        for path in given["path"]
    )
    return Wanted(
        reached.name,
        reached.endpoint,
        subscriptions,
        ListMode[given["mode"].upper()],
        reached.encoding,
        reached.profile,
        given["prefix_target"],
        given.get("updates_only", False),
        given["depth"],
    )


def _seconds(text: str, option: str) -> float:
    from telemetryd.config.units import UnitError, parse_duration

    try:
        return parse_duration(text) / 1e9
    except UnitError as error:
        raise InputError(f"{option}: {error.message}: {error.remedy}") from None


def _unary(reached: options.Reached, method: str, request: bytes, timeout: float, kind: Any) -> Any:
    """Make a call with one answer, of a message of this kind."""
    from telemetryd.ingest.gnmi.grpc_aio import unary

    return _read(kind, asyncio.run(unary(reached.endpoint, f"/gnmi.gNMI/{method}", request, timeout)))


def _read(kind: Any, octets: bytes) -> Any:
    from google.protobuf.message import DecodeError

    from telemetryd.ingest.gnmi.transport import Status, TransportError

    try:
        return kind.FromString(octets)
    except DecodeError:
        raise TransportError(Status.INTERNAL, f"the answer is no {kind.DESCRIPTOR.name}") from None


def _run(call: Any) -> None:
    with suppress(KeyboardInterrupt):
        asyncio.run(call)


async def _subscribed(wanted: Wanted, handle: Handle, poll_s: float) -> None:
    """Hand on every message of a subscription, until it ends or there is enough."""
    from google.protobuf.message import DecodeError

    from telemetryd.cli.output import note
    from telemetryd.ingest.gnmi.gnmi_wire_reference import MalformedError
    from telemetryd.ingest.gnmi.grpc_aio import unary
    from telemetryd.ingest.gnmi.subscription import ListMode, poll_request, subscribe_request
    from telemetryd.ingest.gnmi.transport import Status, TransportError, open_transport
    from telemetryd.ingest.gnmi.vendors import choose_encoding
    from telemetryd.proto import gnmi_pb2

    encoding = wanted.encoding
    if encoding is None:
        offered: frozenset[int] = frozenset()
        try:
            answer = await unary(wanted.endpoint, "/gnmi.gNMI/Capabilities", b"", wanted.endpoint.connect_timeout_s)
            offered = frozenset(_read(gnmi_pb2.CapabilityResponse, answer).supported_encodings)
        except TransportError as error:
            if error.status is not Status.UNIMPLEMENTED:
                raise
        encoding = choose_encoding(wanted.profile, offered)

    async def requests() -> AsyncIterator[bytes]:
        yield subscribe_request(wanted, encoding)
        while wanted.list_mode is ListMode.POLL:
            yield poll_request()
            await asyncio.sleep(poll_s)
        await asyncio.Event().wait()

    def take(octets: Any, offsets: Any, lengths: Any, received_ns: int) -> None:
        for offset, length in zip(offsets.tolist(), lengths.tolist(), strict=True):
            try:
                is_enough = handle(octets[offset : offset + length].tobytes(), received_ns)
            except (MalformedError, DecodeError, InputError) as error:
                note(f"a message of {length} octets was left out: {error}")
                continue
            if is_enough:
                raise _EnoughError

    with suppress(_EnoughError):
        await open_transport(wanted.endpoint).subscribe(requests(), take)


class _EnoughError(Exception):
    """What was asked for has come."""
