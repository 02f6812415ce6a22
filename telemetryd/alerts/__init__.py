"""Alerts as they are told: a component that evaluates rules on windows, and the receivers (docs/alerts.md)."""

from telemetryd.alerts.component import AlertCounters, Alerts

__all__ = ["AlertCounters", "Alerts"]
