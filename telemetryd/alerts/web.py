"""Receivers over HTTP: a webhook, and Alertmanager's API v2."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from telemetryd.alerts.messages import alertmanager_body, webhook_body
from telemetryd.alerts.receiver import DELIVERED, Attempt, Outcome, Receiver, input_failure
from telemetryd.assure.alerts import Alert
from telemetryd.errors import InputError
from telemetryd.store.influx.credentials import Token, TokenSource
from telemetryd.store.influx.respond import Pace, parse_retry_after
from telemetryd.store.influx.transport import trust

SECOND_NS: Final = 1_000_000_000
#: An Alertmanager is told for this long that an alert has ended, as Prometheus does: one of several may be down.
RESOLVED_NS: Final = 900 * SECOND_NS
#: What fires ends by itself after so many times of telling, so that nothing stays when we are gone.
LASTS: Final = 4
_AGAIN: Final = frozenset({408, 425, 429})
_HOLD: Final = frozenset({401, 403, 404, 405, 407})
_LONGEST_ANSWER: Final = 2048


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where messages are posted.

    Attributes
    ----------
    url:
        Whole.
    token:
        A bearer token, if any.
    ca_file:
        Certificates that the receiver's is verified with; None for those of the system.
    timeout_s:
        Longest time of an attempt.
    """

    url: str
    token: TokenSource
    ca_file: Path | None
    timeout_s: float


class Poster:
    """Post JSON to an endpoint. Making one opens nothing; token and certificates are read at the first post."""

    def __init__(self, endpoint: Endpoint, clock: Callable[[], int] = time.time_ns) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._token: Token | None = None
        self._context: ssl.SSLContext | bool = True

    async def post(self, body: Any) -> Attempt:
        """Post a body; never raises for what network, receiver or files do."""
        try:
            if self._session is None:
                await self._open()
        except InputError as error:
            return input_failure(error)
        assert self._session is not None
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        octets = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        try:
            # A redirected POST would become a GET: nothing would be told.
            async with self._session.post(
                self._endpoint.url, data=octets, headers=headers, allow_redirects=False, ssl=self._context
            ) as response:
                text = (await response.content.read(_LONGEST_ANSWER)).decode("utf-8", "replace").strip()
                return await self._judge(response, text)
        except aiohttp.ClientConnectorCertificateError as error:
            return Attempt(Outcome.HOLD, f"the receiver's certificate: {error.certificate_error}")
        except aiohttp.ClientConnectorError as error:
            number = error.os_error.errno
            return Attempt(Outcome.AGAIN, os.strerror(number) if number else str(error.os_error))
        except TimeoutError:
            return Attempt(Outcome.AGAIN, f"no answer within {self._endpoint.timeout_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return Attempt(Outcome.AGAIN, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)

    async def close(self) -> None:
        """Close all connections; the next post reads token and certificates anew."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _open(self) -> None:
        endpoint = self._endpoint
        self._token = await asyncio.to_thread(endpoint.token.read)
        self._context = await asyncio.to_thread(trust, endpoint.ca_file)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=endpoint.timeout_s), cookie_jar=aiohttp.DummyCookieJar()
        )

    async def _judge(self, response: aiohttp.ClientResponse, text: str) -> Attempt:
        status = response.status
        if 200 <= status < 300:
            return DELIVERED
        reason = f"{status} {response.reason}" + (f": {text[:200]}" if text else "")
        if self._token is not None:
            reason = self._token.hide(reason)
        wait_s = parse_retry_after(response.headers.get("Retry-After", ""), lambda: self._clock() / SECOND_NS)
        if status >= 500 or status in _AGAIN:
            return Attempt(Outcome.AGAIN, reason, wait_s)
        if 300 <= status < 400:
            return Attempt(Outcome.HOLD, f"{reason}: redirected to {response.headers.get('Location', 'nowhere')}")
        if status in _HOLD:
            await self.close()  # somebody may correct the token's file
            return Attempt(Outcome.HOLD, reason)
        return Attempt(Outcome.REFUSED, reason)


class Webhook(Receiver):
    """Post each batch of alerts, once, in order."""

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        *,
        sender: str,
        queue: int,
        pace: Pace | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(name, queue, pace=pace, clock=clock)
        self._poster = Poster(endpoint, clock)
        self._sender = sender

    async def attempt(self, alerts: Sequence[Alert]) -> Attempt:
        """Post alerts."""
        return await self._poster.post(webhook_body(self._sender, alerts))

    async def close(self) -> None:
        """Close all connections."""
        await self._poster.close()


class Alertmanager(Receiver):
    """Tell an Alertmanager what fires, again and again, and for a while what has ended.

    It keeps no order and forgets: all that holds is told at once, whenever something changes and every ``resend_ns``.
    So nothing needs to wait in a queue; what cannot be told is told as it is then.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        *,
        sender: str,
        queue: int,
        resend_ns: int,
        pace: Pace | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(name, queue, pace=pace, clock=clock)
        self._poster = Poster(endpoint, clock)
        self._sender = sender
        self._resend_ns = resend_ns
        self._held: dict[str, Alert] = {}
        self._untold: set[str] = set()
        self._told_ns = 0

    def put(self, alerts: Sequence[Alert]) -> None:
        """Note what holds now; the newest word about an alert replaces the one before."""
        for alert in alerts:
            self._held[alert.fingerprint] = alert
            self._untold.add(alert.fingerprint)
        while len(self._held) > self._limit:
            oldest = min(self._held, key=lambda name: (self._held[name].state == "firing", self._held[name].updated_ns))
            del self._held[oldest]
            self.counters.lost += oldest in self._untold
            self._untold.discard(oldest)
        self.counters.waiting = len(self._untold)
        self._wake.set()

    def restore(self, alerts: Sequence[Alert]) -> None:
        """Tell at once what fired before a restart: an Alertmanager forgets it else."""
        self.put(alerts)

    def idle_s(self) -> float | None:
        """Return the time to the next telling; None where nothing holds."""
        if not self._held:
            return None
        return max(self._told_ns + self._resend_ns - self._clock(), 0) / SECOND_NS

    async def _turn(self) -> Attempt | None:
        now_ns = self._clock()
        if not self._untold and (not self._held or now_ns < self._told_ns + self._resend_ns):
            return None
        if not self._untold and self._stopping.is_set():
            return None
        told = dict(self._held)
        attempt = await self.attempt(list(told.values()))
        if attempt.outcome in (Outcome.DELIVERED, Outcome.REFUSED):
            self._told_ns = now_ns
            # What changed while it was told is told again.
            settled = {name for name in self._untold if self._held.get(name) is told.get(name)}
            self._untold -= settled
            self.settle(attempt, len(settled))
            self._held = {
                name: alert
                for name, alert in self._held.items()
                if alert.state == "firing" or name in self._untold or now_ns - alert.until_ns < RESOLVED_NS
            }
        self.counters.waiting = len(self._untold)
        return attempt

    async def attempt(self, alerts: Sequence[Alert]) -> Attempt:
        """Post all that holds."""
        body = alertmanager_body(self._sender, alerts, self._clock(), LASTS * self._resend_ns)
        return await self._poster.post(body)

    async def close(self) -> None:
        """Close all connections."""
        await self._poster.close()
