"""The settings of alerts: what is watched, from where on it is told, and to whom (docs/alerts.md)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from telemetryd.config.explain import show
from telemetryd.config.fields import (
    SECOND_NS,
    CredentialName,
    FilePath,
    OptionalPath,
    OutputName,
    Port,
    RequestTime,
    Section,
    Text,
    Url,
    duration,
    mistake,
)
from telemetryd.config.units import RATE_PATTERN, UnitError, parse_rate, spell_rate

MINUTE_NS: Final = 60 * SECOND_NS
#: Of RFC 5612: for examples and documentation, until an organisation writes its own.
EXAMPLE_ENTERPRISE: Final = 32473

Kind = Literal["usage", "utilisation", "coverage", "link-coverage", "loss", "unclassified", "proof"]
Severity = Literal["critical", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Level:
    """A rate in bit/s, or a part of one.

    Attributes
    ----------
    value:
        bit/s, or the part.
    is_part:
        Which of the two.
    """

    value: float
    is_part: bool

    def __str__(self) -> str:
        return f"{100 * self.value:.10g} %" if self.is_part else spell_rate(round(self.value))


def _parse_level(value: object) -> Level | None:
    if value is None:
        return None
    if isinstance(value, str) and value.rstrip().endswith("%"):
        try:
            part = Fraction(value.rstrip()[:-1].strip()) / 100
        except (ValueError, ZeroDivisionError):
            mistake(f"{show(value)} is no part", 'write such as "90 %"')
        if not 0 <= part <= 10:
            mistake(f"{show(value)} is out of range", 'use "0 %" to "1000 %"')
        return Level(float(part), True)
    try:
        return Level(float(parse_rate(value)), False)
    except UnitError as error:
        mistake(error.message, f'{error.remedy}, or a part such as "90 %"')


LevelField = Annotated[
    Level | None,
    PlainValidator(_parse_level),
    PlainSerializer(lambda level: None if level is None else str(level)),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": RATE_PATTERN},
                {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?%$"},
                {"type": "null"},
            ]
        }
    ),
]
"""A rate such as ``600 Mbit/s``, or a part such as ``90 %``."""

Over = Annotated[int, *duration(SECOND_NS, 3600 * SECOND_NS)]
HoldTime = Annotated[int, *duration(0, 86_400 * SECOND_NS)]
Names = Annotated[tuple[Text, ...], Field(strict=False, max_length=1000)]


class AlertRule(Section):
    """One figure that is watched, and from where on it is told."""

    name: OutputName = Field(description="Its name in messages and metrics.")
    kind: Kind = Field(description="What is watched (docs/alerts.md).")
    above: LevelField = Field(None, description="Bad above this: a rate for `usage`, a part for the others.")
    below: LevelField = Field(None, description="Bad below this.")
    recover: LevelField = Field(None, description="Where it is good again; left out, the limit itself.")
    over: Over = Field(MINUTE_NS, description="Length of the spans that figures are over.")
    hold: HoldTime = Field(5 * MINUTE_NS, description="How long it must be bad without a break.")
    recover_hold: HoldTime = Field(5 * MINUTE_NS, description="How long it must be good again without a break.")
    severity: Severity = Field("warning", description="How bad it is.")
    links: Names = Field(
        (), description="Links of `usage`, `utilisation`, `link-coverage`; links or groups of `proof`."
    )
    direction: Literal["in", "out", "inbound", "outbound", "internal", "transit"] | None = Field(
        None, description="Of links `in` or `out`; of totals the others."
    )
    departments: Names = Field((), description="Departments of `usage` and `proof`.")
    applications: Names = Field((), description="Applications of `usage`.")
    tolerance: LevelField = Field(None, description="Part of a guarantee that may be missing, of `proof`.")
    receivers: Names = Field((), description="Who is told; left out, everybody.")


class AlertReceiver(Section):
    """Somebody who is told: a webhook, an Alertmanager, or a syslog server."""

    name: OutputName = Field(description="Its name in health, metrics and rules.")
    kind: Literal["webhook", "alertmanager", "syslog"] = Field(description="How it is told.")
    url: Url | None = Field(None, description="Of a webhook, or of an Alertmanager without `/api/v2`.")
    token_file: OptionalPath = Field(None, description="File with a bearer token.")
    credential: CredentialName | None = Field(
        None, description="Instead of a file: a credential of systemd (`LoadCredential=`)."
    )
    ca_file: OptionalPath = Field(None, description="Certificates that verify the receiver's; else the system's.")
    protocol: Literal["udp", "tcp", "tls", "unix"] = Field("udp", description="How syslog is sent.")
    host: Text | None = Field(None, description="Host of a syslog server.")
    port: Port | None = Field(None, description="Its port; 514, or 6514 by TLS.")
    path: OptionalPath = Field(None, description="Unix socket of a syslog server, such as `/dev/log`.")
    facility: Annotated[int, Field(ge=0, le=23)] = Field(16, description="Facility of syslog; 16 is local0.")
    enterprise: Annotated[int, Field(ge=1, le=2**31 - 1)] = Field(
        EXAMPLE_ENTERPRISE, description="Enterprise number of the structured data; the default is that of examples."
    )
    timeout: RequestTime = Field(10 * SECOND_NS, description="Longest time of an attempt.")
    resend: Annotated[int, *duration(SECOND_NS, 3600 * SECOND_NS)] = Field(
        MINUTE_NS, description="How often an Alertmanager is told again what fires."
    )
    queue: int = Field(1000, ge=1, le=100_000, description="Messages that wait at most; beyond it the oldest are lost.")


class AlertSettings(Section):
    """Alerts: thresholds on figures with their intervals, and who is told (docs/alerts.md)."""

    rules: Annotated[tuple[AlertRule, ...], Field(strict=False, max_length=200)] = Field(
        (), description="What is watched."
    )
    receivers: Annotated[tuple[AlertReceiver, ...], Field(strict=False, max_length=16)] = Field(
        (), description="Who is told."
    )
    state: FilePath = Field(
        Path("/var/lib/telemetryd/alerts.json"),
        description="File that keeps what fires over a restart; `$STATE_DIRECTORY/alerts.json` under systemd.",
    )
    policies: Annotated[tuple[FilePath, ...], Field(strict=False, max_length=64)] = Field(
        (), description="Policies whose guarantees `proof` watches: files or directories; left out, those in force."
    )
