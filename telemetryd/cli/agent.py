"""`telemetryd agent`: a gNMI target for the interfaces of this host."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from telemetryd.errors import InputError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_PORT = 9339


@app.command()
def agent(
    address: Annotated[str, typer.Option("--address", help="Where to listen; 0.0.0.0 or :: for everywhere.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one; the log says which.")] = (
        _PORT
    ),
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="Our certificate, with its chain (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key (PEM).")] = None,
    client_ca: Annotated[
        Path | None, typer.Option("--client-ca", help="Clients need a certificate of these authorities (PEM).")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Without TLS: everything can be read on the way.")] = (
        False
    ),
    target: Annotated[
        str, typer.Option("--target", help="Our name: prefixes that name another target are refused.")
    ] = "",
    fastest: Annotated[str, typer.Option("--fastest", help="The shortest sample interval that is granted.")] = "100 ms",
    qos: Annotated[
        str,
        typer.Option(
            "--qos",
            help="off: nothing can be set; kernel: what is set is realised; memory: it is set, and no packet notices.",
        ),
    ] = "off",
    state_dir: Annotated[
        Path | None,
        typer.Option("--state-dir", help="Where what is set is kept; without it, it is gone when the agent ends."),
    ] = None,
    may_set: Annotated[
        list[str] | None,
        typer.Option("--may-set", help="Whose certificate may set: cn=NAME, san=NAME or ou=NAME; * stands for any."),
    ] = None,
    may_read: Annotated[
        list[str] | None,
        typer.Option("--may-read", help="Whose may read, in the same form; without it everybody's who is let in."),
    ] = None,
    roles: Annotated[
        Path | None, typer.Option("--roles", help="A file with the same: version: 1, and lists write and read (YAML).")
    ] = None,
    allow_set: Annotated[
        bool, typer.Option("--allow-set", help="Everybody may set who is let in: with --insecure, everybody.")
    ] = False,
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "info",
    log_format: Annotated[str, typer.Option("--log-format", help="text or json, on stderr.")] = "text",
) -> None:
    """Serve this host's interfaces and QoS by gNMI: Capabilities, Get, Set, Subscribe.

    The tree is OpenConfig's /interfaces, as the kernel has them, and /qos and /defined-sets, as they are set
    (docs/agent.md). Reading needs no privilege. SIGHUP reads certificates and roles again; SIGTERM and SIGINT end it.

    Examples: telemetryd agent --insecure
    telemetryd agent --insecure --qos memory --allow-set
    telemetryd agent --qos kernel --state-dir /var/lib/telemetryd-agent --may-set cn=controller-1 --tls-cert gw1.pem ...
    telemetryd agent --address 10.1.0.7 --tls-cert gw1.pem --tls-key gw1.key --client-ca collectors.pem
    telemetryd gnmi subscribe gw1.example --tls-ca ca.pem -p '/interfaces/interface[name=*]/state/counters' -i '1 s'

    Exit codes: 0 ended by a signal, 1 failed, 2 usage or invalid input.
    """
    # Nothing is forked: gRPC need not prepare for it.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from telemetryd.agent.config_source import ConfigSource
    from telemetryd.agent.kernel import KernelInterfaces
    from telemetryd.agent.qos.realiser import KernelQos
    from telemetryd.agent.realise import NoKernel, Realiser
    from telemetryd.agent.roles import Roles, read_roles, rule_of
    from telemetryd.agent.running import Running
    from telemetryd.agent.server import AgentServer, ServerTls
    from telemetryd.agent.source import Source
    from telemetryd.agent.state_directory import StateDirectory
    from telemetryd.observe import log
    from telemetryd.observe.systemd import Notifier
    from telemetryd.supervisor import Supervisor

    if insecure and (tls_cert or tls_key or client_ca):
        raise InputError("--insecure means no TLS: leave out the options of TLS, or --insecure")
    if insecure:
        tls = None
    elif tls_cert is None or tls_key is None:
        raise InputError("--tls-cert and --tls-key are missing; --insecure would go without TLS")
    else:
        tls = ServerTls(tls_cert, tls_key, client_ca)
    if qos not in ("off", "kernel", "memory"):
        raise InputError(f'--qos: "{qos}" is none of off, kernel and memory')
    if qos == "off" and (state_dir or may_set or allow_set):
        raise InputError("--state-dir, --may-set and --allow-set say nothing with --qos off: choose another --qos")
    if not insecure and client_ca is None and (may_set or may_read or roles or allow_set):
        raise InputError("who a client is can only be told by its certificate: give --client-ca")
    if insecure and (may_set or may_read or roles):
        raise InputError("--insecure asks nobody who he is: leave out --may-set, --may-read and --roles")

    def read() -> Roles:
        write, reads = read_roles(roles) if roles is not None else ([], [])
        write += [rule_of(one, "--may-set") for one in may_set or ()]
        reads += [rule_of(one, "--may-read") for one in may_read or ()]
        return Roles(tuple(write), tuple(reads), client_ca is not None, allow_set)

    fastest_s = _seconds(fastest)
    if log_level not in ("debug", "info", "warning", "error"):
        raise InputError(f'no log level "{log_level}": use debug, info, warning or error')
    if log_format == "json":
        log.configure(log_level, "json")
    elif log_format == "text":
        log.configure(log_level, "text")
    else:
        raise InputError(f'no log format "{log_format}": use text or json')
    notifier = Notifier.from_environment()

    async def serve() -> int:
        source: Source = KernelInterfaces()
        running = None
        if qos != "off":
            realiser: Realiser = KernelQos() if qos == "kernel" else NoKernel()
            source = configured = ConfigSource(source, realiser)
            state = None if state_dir is None else StateDirectory(state_dir)
            running = Running(configured, realiser, target=target, state=state)
        server = AgentServer(
            source, address, port, tls, target=target, fastest_s=fastest_s, running=running, roles=read
        )

        def status() -> str:
            calls = f"listens on {server.address} port {server.port}, {server.service.counts['calls']} calls so far"
            return "; ".join((calls, *server.health().reasons))

        supervisor = Supervisor([server], drain_s=5.0, notifier=notifier, reload=server.renew, status=status)
        return await supervisor.run()

    # asyncio's own loop: pyroute2's sockets are none that uvloop takes.
    raise typer.Exit(asyncio.run(serve()))


def _seconds(text: str) -> float:
    from telemetryd.config.units import UnitError, parse_duration

    try:
        seconds = parse_duration(text) / 1e9
    except UnitError as error:
        raise InputError(f"--fastest: {error.message}: {error.remedy}") from None
    if seconds <= 0:
        raise InputError("--fastest: an interval has to be longer than nothing")
    return seconds
