"""Requests to one InfluxDB server, through influxdb-client's asynchronous write service.

Bodies are sent as they are: line protocol, compressed by gzip already. The service serves every server with
InfluxDB's v2 write endpoint: InfluxDB 2, InfluxDB 1.8 (token ``user:password``, bucket
``database/retention-policy``) and VictoriaMetrics.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import aiohttp
from influxdb_client.client.influxdb_client_async import InfluxDBClientAsync
from influxdb_client.service.write_service import WriteService

from telemetryd.errors import InputError
from telemetryd.store.influx.credentials import Token, TokenSource

#: Of an answer's body, at most this is read, octets: a message, not a page.
LONGEST_ANSWER: Final = 64 << 10
CONNECT_S: Final = 5.0
#: Idle connections are closed before a server, or a firewall on the way, forgets them.
KEEP_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where points are written.

    Attributes
    ----------
    url:
        Of the server, without ``/api/v2/write``.
    org, bucket:
        InfluxDB 1.8 and VictoriaMetrics take any organisation.
    token:
        Where the token is.
    ca_file:
        Certificates that the server's is verified with; None for those of the system.
    timeout_s:
        Longest time of a request, from the connection to the end of the answer.
    connections:
        Connections at most.
    """

    url: str
    org: str
    bucket: str
    token: TokenSource = field(default_factory=TokenSource)
    ca_file: Path | None = None
    timeout_s: float = 30.0
    connections: int = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request.

    Attributes
    ----------
    status:
        The HTTP status; 0 where no answer came.
    reason:
        The server's message, or why there is no answer.
    retry_after:
        The header of that name, empty where there is none.
    is_unverified:
        No answer, for the server's certificate is not one that is trusted.
    """

    status: int
    reason: str = ""
    retry_after: str = ""
    is_unverified: bool = False


class Transport:
    """Connections to one target; an asynchronous context manager.

    Making one opens nothing. The token is read when it is opened, and again by :meth:`renew`.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._client: InfluxDBClientAsync | None = None
        self._token: Token | None = None
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Transport({self._target.url})"

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def renew(self) -> bool:
        """Read the token again; return whether it is another one than before.

        Raises
        ------
        InputError
            If the token cannot be read.
        """
        token = await asyncio.to_thread(self._target.token.read)
        if token == self._token:
            return False
        self._token = token
        await self.close()
        return True

    async def write(self, body: bytes) -> Answer:
        """Write lines that are compressed by gzip; never raises for what the network or the server does.

        Raises
        ------
        InputError
            If the token or the file of certificates cannot be read.
        """
        client = self._client or await self._open()
        answer = await self._post(client, body)
        if self._token is not None:
            answer = replace(answer, reason=self._token.hide(answer.reason))
        return answer

    async def _post(self, client: InfluxDBClientAsync, body: bytes) -> Answer:
        try:
            response: aiohttp.ClientResponse = await WriteService(client.api_client).post_write_async(
                org=self._target.org,
                bucket=self._target.bucket,
                body=body,
                precision="ns",
                content_encoding="gzip",
                _preload_content=False,
            )
            async with response:
                return await _read(response)
        except aiohttp.ClientConnectorCertificateError as error:
            return Answer(0, f"the server's certificate: {error.certificate_error}", is_unverified=True)
        except aiohttp.ClientConnectorSSLError as error:
            return Answer(0, f"TLS: {error.os_error.strerror or error.os_error}")
        except TimeoutError:
            return Answer(0, f"no answer within {self._target.timeout_s:g} s")
        except aiohttp.ClientConnectorError as error:
            return Answer(0, os.strerror(error.os_error.errno) if error.os_error.errno else str(error.os_error))
        except aiohttp.ServerDisconnectedError:
            return Answer(0, "the server closed the connection without an answer")
        except (aiohttp.ClientError, OSError) as error:
            return Answer(0, f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}")

    async def _open(self) -> InfluxDBClientAsync:
        """Return the client; of several first requests at a time, one makes it."""
        async with self._opening:
            return self._client or await self._connect()

    async def _connect(self) -> InfluxDBClientAsync:
        self._token = await asyncio.to_thread(self._target.token.read)
        context = await asyncio.to_thread(trust, self._target.ca_file)
        target = self._target
        self._client = InfluxDBClientAsync(
            url=target.url,
            token=self._token.reveal() if self._token is not None else "",
            timeout=aiohttp.ClientTimeout(total=target.timeout_s, connect=None, sock_connect=CONNECT_S),
            ssl_context=context,
            connection_pool_maxsize=target.connections,
            # A redirected POST becomes a GET (RFC 9110, section 15.4), which is answered by 200: nothing written.
            allow_redirects=False,
            client_session_kwargs={"cookie_jar": aiohttp.DummyCookieJar()},
        )
        return self._client


async def _read(response: aiohttp.ClientResponse) -> Answer:
    """Read an answer: the status counts, whatever becomes of the message behind it."""
    text = b""
    try:
        while len(text) < LONGEST_ANSWER and (part := await response.content.read(LONGEST_ANSWER - len(text))):
            text += part
        if not response.content.at_eof():
            response.close()  # a longer one is not worth a connection
    except (aiohttp.ClientError, OSError, TimeoutError):
        response.close()
    message = message_of(text.decode("utf-8", "replace")) or response.headers.get("X-Influxdb-Error", "")
    where = response.headers.get("Location", "")
    reason = message or (f"redirected to {where}" if where else response.reason or "")
    return Answer(response.status, reason, response.headers.get("Retry-After", ""))


def message_of(text: str) -> str:
    """Return the message in the body of an answer: InfluxDB's JSON has ``message`` (2.x) or ``error`` (1.x)."""
    try:
        found = json.loads(text)
    except ValueError:
        return text.strip()
    if not isinstance(found, dict):
        return text.strip()
    return str(found.get("message") or found.get("error") or text.strip())


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """Return what servers' certificates are verified with; InputError if the file is none."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise InputError(f"the certificates of {ca_file} cannot be used: {error.reason}") from None
    except OSError as error:
        raise InputError(f"the certificates of {ca_file} cannot be read: {error.strerror}") from None
