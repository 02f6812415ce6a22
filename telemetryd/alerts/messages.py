"""What an alert looks like: in words, as JSON, for an Alertmanager, and as a syslog message (RFC 5424)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from telemetryd.assure.alerts import Alert
from telemetryd.config.units import format_rate

SECOND_NS: Final = 1_000_000_000
#: RFC 5424, table 2: severity of what begins; what ended is a notice.
_SEVERITIES: Final[Mapping[str, int]] = {"critical": 2, "warning": 4, "info": 6}
_NOTICE: Final = 5
_SUBJECTS: Final[Mapping[str, str]] = {
    "usage": "usage",
    "utilisation": "utilisation",
    "coverage": "exporters heard",
    "loss": "loss of datagrams",
    "unclassified": "unclassified traffic",
    "proof": "delivered",
}
#: Octets of a datagram that every receiver should take (RFC 5426, section 3.2).
LONGEST_DATAGRAM: Final = 2048


def summary(alert: Alert) -> str:
    """Say an alert in one line."""
    reading = alert.reading
    value, low, high, limit = (_figure(number, alert.unit) for number in _figures(alert))
    exact = reading.low == reading.high
    figure = value if exact else f"{value} ({low} to {high})"
    of = " ".join(value for name, value in alert.subject if name != "policy")
    subject = _SUBJECTS[alert.kind] + (f" of {of}" if of else "")
    text = f"{alert.rule} {alert.state}: {subject} {figure}, {_held_against(alert)} {limit}"
    return f"{text}; {reading.note}" if reading.note and alert.kind != "proof" else text


def _held_against(alert: Alert) -> str:
    return "guaranteed" if alert.kind == "proof" else "limit"


def _figures(alert: Alert) -> tuple[float, float, float, float]:
    reading = alert.reading
    return reading.value, reading.low, reading.high, reading.limit


def _figure(value: float, unit: str) -> str:
    return format_rate(value) if unit == "bit/s" else f"{100 * value:.4g} %"


def document(alert: Alert) -> dict[str, Any]:
    """Return an alert as JSON holds it; docs/alerts.md describes the fields."""
    value, low, high, limit = _figures(alert)
    return {
        "rule": alert.rule,
        "kind": alert.kind,
        "severity": alert.severity,
        "state": alert.state,
        "fingerprint": alert.fingerprint,
        "labels": alert.labels,
        "since": time_text(alert.since_ns),
        "until": time_text(alert.until_ns) if alert.until_ns else None,
        "updated": time_text(alert.updated_ns),
        "value": value,
        "low": low,
        "high": high,
        "limit": limit,
        "unit": alert.unit,
        "note": alert.reading.note,
        "summary": summary(alert),
    }


def webhook_body(sender: str, alerts: Sequence[Alert]) -> dict[str, Any]:
    """Return the body of a webhook's request."""
    return {"version": 1, "sender": sender, "alerts": [document(alert) for alert in alerts]}


def alertmanager_body(sender: str, alerts: Iterable[Alert], now_ns: int, lasts_ns: int) -> list[dict[str, Any]]:
    """Return the body of ``POST /api/v2/alerts``.

    Parameters
    ----------
    now_ns, lasts_ns:
        What fires is said to end so long from now, unless it is told again.
    """
    return [
        {
            "labels": {name: value for name, value in {**alert.labels, "sender": sender}.items() if value},
            "annotations": {"summary": summary(alert), "description": alert.reading.note},
            "startsAt": time_text(alert.since_ns),
            "endsAt": time_text(alert.until_ns if alert.state == "resolved" else now_ns + lasts_ns),
        }
        for alert in alerts
    ]


def syslog_message(
    alert: Alert, *, sender: str, process: int, facility: int, enterprise: int, longest: int | None = None
) -> bytes:
    """Return an alert as a message of RFC 5424, section 6.

    Parameters
    ----------
    sender:
        HOSTNAME.
    process:
        PROCID.
    facility, enterprise:
        Facility 0 to 23; number in the SD-ID ``telemetryd@...``.
    longest:
        Octets at most; the text in words is cut, never the structured data.
    """
    severity = _NOTICE if alert.state == "resolved" else _SEVERITIES[alert.severity]
    at_ns = alert.until_ns if alert.state == "resolved" else alert.updated_ns
    value, low, high, limit = _figures(alert)
    parameters = {
        "rule": alert.rule,
        "kind": alert.kind,
        "severity": alert.severity,
        "state": alert.state,
        **dict(alert.subject),
        "value": f"{value:.10g}",
        "low": f"{low:.10g}",
        "high": f"{high:.10g}",
        "limit": f"{limit:.10g}",
        "unit": alert.unit,
        "since": time_text(alert.since_ns),
        "fingerprint": alert.fingerprint,
    }
    data = "".join(f' {name}="{_escaped(text)}"' for name, text in parameters.items())
    head = (
        f"<{8 * facility + severity}>1 {time_text(at_ns)} {_plain(sender, 255)} telemetryd {process} "
        f"alert [telemetryd@{enterprise}{data}] "
    )
    # The text is UTF-8, which its byte order mark says (section 6.4).
    octets = head.encode() + b"\xef\xbb\xbf" + summary(alert).encode()
    if longest is not None and len(octets) > longest:
        octets = octets[:longest].decode("utf-8", "ignore").encode()
    return octets


def _escaped(text: str) -> str:
    """Escape a value of structured data (RFC 5424, section 6.3.3)."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _plain(text: str, longest: int) -> str:
    """Return a header field: printable ASCII without spaces, or the nil value."""
    return "".join(letter for letter in text if 33 <= ord(letter) <= 126)[:longest] or "-"


def time_text(at_ns: int) -> str:
    """Write a time in UTC to the microsecond, as RFC 3339 and RFC 5424 have it."""
    moment = datetime.fromtimestamp(at_ns // SECOND_NS, UTC).replace(microsecond=at_ns % SECOND_NS // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
