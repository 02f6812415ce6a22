"""The agent as a component: where it listens, and whom it lets in."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import grpc
import grpc.aio

from telemetryd.agent.roles import Roles
from telemetryd.agent.running import Running
from telemetryd.agent.service import Service
from telemetryd.agent.source import Source
from telemetryd.component import Component
from telemetryd.errors import InputError
from telemetryd.observe.health import OK, Health
from telemetryd.observe.log import Log

#: How long calls may go on after the end was announced to them.
GRACE_S: Final = 1.0
MOST_CALLS: Final = 128
MOST_REQUEST_OCTETS: Final = 1 << 20
#: Where something can be set: 42,000 terms with a leaf an update are 60 MB.
MOST_SET_OCTETS: Final = 96 << 20
#: A client that says nothing for so long is asked for a sign of life, and has this time for it.
KEEPALIVE_S: Final = 60
KEEPALIVE_ANSWER_S: Final = 20
#: Clients may ask us this often. gRPC's default of five minutes would cut off who watches a quiet stream.
LEAST_PING_S: Final = 5

_OPTIONS: Final[list[tuple[str, Any]]] = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_ANSWER_S * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_S * 1000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", LEAST_PING_S * 1000),
]


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How clients know us, and we them.

    Attributes
    ----------
    certificate, key:
        Our own, PEM files; the certificate's file may hold the chain.
    client_ca:
        Certificates that have to have issued a client's; None lets any client in.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Read the files.

        Raises
        ------
        InputError
            If one cannot be read, or is not what it should be.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for what, file in (("certificate", self.certificate), ("key", self.key), ("clients' CA", self.client_ca)):
            if file is not None and not file.is_file():
                raise InputError(f"{file}: there is no such file for the {what}")
        try:
            # gRPC says nothing about files that are wrong: what it would refuse is found here.
            context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise InputError(f"{self.certificate} and {self.key} are no certificate with its key: {error}") from error
        try:
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
            roots = None if self.client_ca is None else self.client_ca.read_bytes()
            pair = (self.key.read_bytes(), self.certificate.read_bytes())
        except (ssl.SSLError, OSError) as error:
            raise InputError(f"{self.client_ca}: no certificates to hold clients' against: {error}") from error
        return grpc.ssl_server_certificate_configuration([pair], roots)


class AgentServer(Component):
    """Serves a tree over gNMI.

    Parameters
    ----------
    source:
        The tree.
    address, port:
        Where to listen; port 0 takes a free one (:attr:`port` says which, and the log).
    tls:
        None for a connection without: only where somebody said so explicitly.
    target, fastest_s, running, roles:
        See :class:`telemetryd.agent.service.Service`; roles are made anew by :meth:`renew`.
    """

    name: ClassVar[str] = "agent"

    def __init__(
        self,
        source: Source,
        address: str,
        port: int,
        tls: ServerTls | None,
        *,
        target: str = "",
        fastest_s: float = 0.1,
        running: Running | None = None,
        roles: Callable[[], Roles] = Roles,
    ) -> None:
        super().__init__()
        self.address, self.port = address, port
        self.service = Service(source, name=target, fastest_s=fastest_s, running=running, roles=roles())
        self._roles = roles
        self._source, self._running, self._tls = source, running, tls
        self._renewed: grpc.ServerCertificateConfiguration | None = None
        self._log = Log(self.name)

    async def run(self) -> None:
        """Serve until stopped.

        Raises
        ------
        InputError
            If the address cannot be bound, or a file of the certificates is wrong.
        """
        most_octets = MOST_REQUEST_OCTETS if self._running is None else MOST_SET_OCTETS
        options = [*_OPTIONS, ("grpc.max_receive_message_length", most_octets)]
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MOST_CALLS)
        server.add_generic_rpc_handlers((self.service.handlers(),))
        self.port = await self._listen(server)
        if self._running is not None:
            await self._running.prepare()
        # The first reading shows whether it works at all.
        await self._source.read(asyncio.get_running_loop().time())
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(self._source.run(), name="source")]
            if self._running is not None:
                background.append(group.create_task(self._running.run(), name="sets"))
            await server.start()
            self._log.info("listening", address=self.address, port=self.port, tls=self._tls is not None)
            if self._tls is None:
                self._log.warning("without TLS: anybody who reaches the port can read, and read along")
            elif self._tls.client_ca is None:
                self._log.warning("no certificates are asked of clients: anybody who reaches the port can read")
            self.started.set()
            try:
                await self.stopping.wait()
                self.service.close()
                await server.stop(GRACE_S)
            finally:
                await server.stop(None)  # for who was cancelled
                for task in background:
                    task.cancel()
        self._log.info("served", **self.service.counts)

    def health(self) -> Health:
        """Return what of the configuration is not as it shall be."""
        return OK if self._running is None else self._running.health()

    async def renew(self) -> None:
        """Read certificates and roles again, for what comes from now on; keep the old ones where that fails."""
        try:
            self.service.roles = await asyncio.to_thread(self._roles)
        except InputError as error:
            self._log.error("the roles stay as they were", reason=error)
        if self._tls is None:
            self._log.info("nothing to renew: there is no TLS")
            return
        try:
            self._renewed = await asyncio.to_thread(self._tls.configuration)
        except InputError as error:
            self._log.error("the certificates stay as they were", reason=error)
        else:
            self._log.info("certificates read again")

    async def _listen(self, server: grpc.aio.Server) -> int:
        """Bind the port; return its number."""
        where = f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
        if self._tls is None:
            credentials = None
        else:
            configuration = await asyncio.to_thread(self._tls.configuration)
            credentials = grpc.dynamic_ssl_server_credentials(
                configuration, self._take_renewed, require_client_authentication=self._tls.client_ca is not None
            )
        try:
            port = (
                server.add_insecure_port(where) if credentials is None else server.add_secure_port(where, credentials)
            )
        except RuntimeError as error:
            raise InputError(f"cannot listen on {where}: {_reason(self.address, self.port) or error}") from error
        return int(port)

    def _take_renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return certificates that replace those in use, if there are any; gRPC asks before each handshake."""
        renewed, self._renewed = self._renewed, None
        return renewed


def _reason(address: str, port: int) -> str:
    """Return why an address cannot be bound, which gRPC does not tell; nothing where it can be."""
    try:
        family, *_, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        return error.strerror or str(error)
    return ""
