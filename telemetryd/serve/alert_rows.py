"""Alerts as the control service says them."""

from __future__ import annotations

from collections.abc import Iterable

from telemetryd.alerts.messages import summary
from telemetryd.assure.alerts import Alert
from telemetryd.serve import messages


def alert_rows(alerts: Iterable[Alert]) -> list[messages.Alert]:
    """Return alerts as rows of the status."""
    return [
        {
            "rule": alert.rule,
            "kind": alert.kind,
            "severity": alert.severity,
            "state": alert.state,
            "labels": alert.labels,
            "fingerprint": alert.fingerprint,
            "since_ns": alert.since_ns,
            "updated_ns": alert.updated_ns,
            "value": alert.reading.value,
            "low": alert.reading.low,
            "high": alert.reading.high,
            "limit": alert.reading.limit,
            "unit": alert.unit,
            "note": alert.reading.note,
            "summary": summary(alert),
        }
        for alert in alerts
    ]
