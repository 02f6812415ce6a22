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
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "info",
    log_format: Annotated[str, typer.Option("--log-format", help="text or json, on stderr.")] = "text",
) -> None:
    """Serve this host's interfaces by gNMI: Capabilities, Get, Subscribe. What can be set comes later.

    The tree is OpenConfig's /interfaces: names, states, MTU, port speed and counters, as the kernel has them
    (docs/agent.md). Reading them needs no privilege. SIGHUP reads the certificates again; SIGTERM and SIGINT end it.

    Examples: telemetryd agent --insecure
    telemetryd agent --address 10.1.0.7 --tls-cert gw1.pem --tls-key gw1.key --client-ca collectors.pem
    telemetryd gnmi subscribe gw1.example --tls-ca ca.pem -p '/interfaces/interface[name=*]/state/counters' -i '1 s'

    Exit codes: 0 ended by a signal, 1 failed, 2 usage or invalid input.
    """
    # Nothing is forked: gRPC need not prepare for it.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from telemetryd.agent.kernel import KernelInterfaces
    from telemetryd.agent.server import AgentServer, ServerTls
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
        server = AgentServer(KernelInterfaces(), address, port, tls, target=target, fastest_s=fastest_s)

        def status() -> str:
            return f"listens on {server.address} port {server.port}, {server.service.counts['calls']} calls so far"

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
