"""Make what an output needs on its server, where it is not there yet: buckets, retention, what thins series out.

Everything is looked at first and made only where it is missing, so that it may be run again at any time. A retention
that differs is left alone unless it is asked for: shortening one deletes.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from telemetryd.config.units import spell_duration
from telemetryd.errors import InputError, StoreError
from telemetryd.store.influx.credentials import Token
from telemetryd.store.influx.transport import LONGEST_ANSWER, Target, message_of, trust

DAY_NS: Final = 86_400_000_000_000
REQUEST_S: Final = 30.0


class State(StrEnum):
    """What became of one thing."""

    THERE = "there"
    MADE = "made"
    CHANGED = "changed"
    REMOVED = "removed"
    DIFFERS = "differs"
    NOT_NEEDED = "not needed"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at: its kind, its name, what became of it (or would, in a dry run), and more."""

    kind: str
    name: str
    state: State
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be there.

    Attributes
    ----------
    keep_ns:
        Retention of the output's bucket.
    rollups:
        Name of the bucket of what is kept for long; None for none. A retention policy of the same database on 1.8.
    keep_rollups_ns:
        Its retention.
    late_ns:
        How late rows may come: as long as they may wait in the spool.
    may_change:
        Whether a retention that differs is changed.
    dry_run:
        Whether nothing is made.
    """

    keep_ns: int = 60 * DAY_NS
    rollups: str | None = "rollups"
    keep_rollups_ns: int = 400 * DAY_NS
    late_ns: int = 7 * DAY_NS
    may_change: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The server that was found, and the steps."""

    server: str
    version: str
    steps: list[Step] = field(default_factory=list)


class Requests:
    """Plain requests to one server; blocks.

    Parameters
    ----------
    target:
        The server.
    token:
        None for a server that asks for none.
    """

    def __init__(self, target: Target, token: Token | None) -> None:
        self._url = target.url
        self._token = token
        self._context = trust(target.ca_file) if target.url.startswith("https:") else None

    def send(self, path: str, form: dict[str, str] | None = None) -> str:
        """Return the body of the answer to a GET, or to a POST where there is a form.

        Raises
        ------
        InputError
            If the server does not accept the token.
        StoreError
            If there is no answer, or one that says that it did not work.
        """
        body = self.try_send(path, form)
        if body is None:
            raise refusal(self._url, HTTPStatus.NOT_FOUND, path, self._token)
        return body

    def try_send(self, path: str, form: dict[str, str] | None = None) -> str | None:
        """Send as :meth:`send`; None where the server knows no such path."""
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        request = urllib.request.Request(self._url + path, data)
        if self._token is not None:
            request.add_header("Authorization", f"Token {self._token.reveal()}")
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_S, context=self._context) as answer:
                body: bytes = answer.read(LONGEST_ANSWER * 16)
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            message = message_of(error.read(LONGEST_ANSWER).decode("utf-8", "replace"))
            raise refusal(self._url, error.code, message, self._token) from None
        except OSError as error:
            raise StoreError(f"{self._url} does not answer: {getattr(error, 'reason', error)}") from None
        return body.decode("utf-8", "replace")


def refusal(url: str, status: int, message: str, token: Token | None) -> InputError | StoreError:
    """Return the error that an answer is."""
    shown = token.hide(message) if token is not None else message
    if status in (401, 403):
        remedy = "--token-file names one that may set up buckets"
        return InputError(f"{url} refuses the token ({status}: {shown}): {remedy}")
    return StoreError(f"{url} answers {status}: {shown}")


def set_up(target: Target, wanted: Wanted) -> Outcome:
    """Look at the server of an output and make what is missing.

    Raises
    ------
    InputError
        If the token is not accepted, or the bucket's name is not one of the server's kind.
    StoreError
        If the server does not answer, or refuses something.
    """
    token = target.token.read()
    requests = Requests(target, token)
    version = _influxdb(requests)
    if version is None:
        return Outcome("VictoriaMetrics", _victoria_metrics(requests), _nothing(wanted))
    # Only InfluxDB 2 has this; versions are what whoever built it wrote.
    found = requests.try_send("/api/v2/setup")
    if found is None:
        from telemetryd.store.influx.setup_v1 import set_up_v1

        return Outcome("InfluxDB 1", version, set_up_v1(requests, target, wanted))
    if json.loads(found).get("allowed"):
        remedy = "run `influx setup`, and put the token that it prints into a file"
        raise InputError(f"{target.url} has no first user yet: {remedy}")
    if token is None:
        raise InputError(f"{target.url} asks for a token: name one by the output's token_file or credential")
    from telemetryd.store.influx.setup_v2 import set_up_v2

    return Outcome("InfluxDB 2", version, set_up_v2(target, token, wanted))


def _influxdb(requests: Requests) -> str | None:
    """Return the version of InfluxDB; None for another server."""
    text = requests.try_send("/health")
    try:
        health = json.loads(text or "")
    except ValueError:
        return None
    if not isinstance(health, dict) or health.get("name") != "influxdb":
        return None
    return str(health.get("version", "unknown")).removeprefix("v")


def _victoria_metrics(requests: Requests) -> str:
    found = re.search(r'^vm_app_version\{.*?short_version="v?([^"]*)"', requests.send("/metrics"), re.MULTILINE)
    if found is None:
        raise StoreError("the server is neither InfluxDB nor VictoriaMetrics")
    return found[1] or "unknown"


def _nothing(wanted: Wanted) -> list[Step]:
    keep = spell_duration(max(wanted.keep_ns, wanted.keep_rollups_ns if wanted.rollups else 0))
    return [
        Step("bucket", "-", State.NOT_NEEDED, "VictoriaMetrics has one store; org and bucket are not looked at"),
        Step("retention", "-", State.NOT_NEEDED, f"it is the server's own option: -retentionPeriod, {keep} or more"),
        Step("downsampling", "-", State.NOT_NEEDED, "roll-ups of 5 min and 1 h come as rows; choose them by span"),
    ]
