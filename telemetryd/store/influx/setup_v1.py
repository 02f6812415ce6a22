"""Set up InfluxDB 1.8 through its HTTP API: database, retention policies, continuous queries."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from telemetryd.config.units import spell_duration
from telemetryd.errors import InputError, StoreError
from telemetryd.store.influx.downsample import Job, identifier, influxql_jobs, job_prefix
from telemetryd.store.influx.setup import Requests, State, Step, Wanted
from telemetryd.store.influx.transport import Target

_UNITS_S: Final = {"h": 3600, "m": 60, "s": 1}


def set_up_v1(requests: Requests, target: Target, wanted: Wanted) -> list[Step]:
    """Make database, policies and queries; raises as :func:`telemetryd.store.influx.setup.set_up`."""
    database, _, policy = target.bucket.partition("/")
    if not database or not policy:
        raise InputError(
            f'the bucket "{target.bucket}" is none of InfluxDB 1.8: '
            "write database/retention-policy, such as telemetryd/autogen"
        )
    return _Setup(requests, database, wanted).run(policy)


class _Setup:
    def __init__(self, requests: Requests, database: str, wanted: Wanted) -> None:
        self._requests = requests
        self._database = database
        self._wanted = wanted
        self._steps: list[Step] = []

    def run(self, policy: str) -> list[Step]:
        wanted, database = self._wanted, identifier(self._database)
        is_there = self._database in {row[0] for row in self._rows("SHOW DATABASES")}
        if is_there:
            self._steps.append(Step("database", self._database, State.THERE))
        else:
            keep = _duration(wanted.keep_ns)
            self._make(
                Step("database", self._database, State.MADE),
                f"CREATE DATABASE {database} WITH DURATION {keep} REPLICATION 1 NAME {identifier(policy)}",
            )
        policies = self._policies() if is_there else {policy: wanted.keep_ns}
        self._policy(policy, wanted.keep_ns, policies, is_default=True)
        if wanted.rollups is not None:
            self._policy(wanted.rollups, wanted.keep_rollups_ns, policies, is_default=False)
            jobs = influxql_jobs(self._database, policy, wanted.rollups, wanted.late_ns)
            self._jobs(jobs, job_prefix(policy), self._queries() if is_there else set())
        return self._steps

    def _policy(self, name: str, keep_ns: int, policies: dict[str, int], *, is_default: bool) -> None:
        keep, on = _duration(keep_ns), f"{identifier(name)} ON {identifier(self._database)}"
        wanted = spell_duration(keep_ns)
        found_ns = policies.get(name)
        if found_ns is None:
            text = f"CREATE RETENTION POLICY {on} DURATION {keep} REPLICATION 1{' DEFAULT' if is_default else ''}"
            self._make(Step("retention policy", name, State.MADE, wanted), text)
            return
        if found_ns == keep_ns:
            self._steps.append(Step("retention policy", name, State.THERE, wanted))
            return
        found = "without end" if found_ns == 0 else spell_duration(found_ns)
        if not self._wanted.may_change:
            detail = f"{found}, not {wanted}: --change sets it"
            self._steps.append(Step("retention policy", name, State.DIFFERS, detail))
            return
        # The duration of its shards follows from the policy's, but only when it is made.
        text = f"ALTER RETENTION POLICY {on} DURATION {keep}"
        self._make(Step("retention policy", name, State.CHANGED, f"{found} before, now {wanted}"), text)

    def _jobs(self, jobs: list[Job], prefix: str, found: set[str]) -> None:
        for job in jobs:
            step = Step("continuous query", job.name, State.THERE)
            if job.name in found:
                self._steps.append(step)
            else:
                self._make(Step(step.kind, job.name, State.MADE), job.text)
        for name in sorted(found - {job.name for job in jobs}):
            if name.startswith(prefix):
                text = f"DROP CONTINUOUS QUERY {identifier(name)} ON {identifier(self._database)}"
                self._make(Step("continuous query", name, State.REMOVED, "of another setting"), text)

    def _make(self, step: Step, text: str) -> None:
        if not self._wanted.dry_run:
            self._series(text)
        self._steps.append(step)

    def _policies(self) -> dict[str, int]:
        """Return the policies and how long each keeps, in ns; 0 for without end."""
        rows = self._rows(f"SHOW RETENTION POLICIES ON {identifier(self._database)}")
        return {row[0]: _parse_duration(row[1]) for row in rows}

    def _queries(self) -> set[str]:
        return {
            row[0]
            for series in self._series("SHOW CONTINUOUS QUERIES")
            if series["name"] == self._database
            for row in series.get("values", ())
        }

    def _rows(self, text: str) -> list[list[Any]]:
        return [row for series in self._series(text) for row in series.get("values", ())]

    def _series(self, text: str) -> list[dict[str, Any]]:
        (result,) = json.loads(self._requests.send("/query", {"q": text}))["results"]
        if "error" in result:
            raise StoreError(f"InfluxDB refuses {text.split(' BEGIN ')[0]!r}: {result['error']}")
        series: list[dict[str, Any]] = result.get("series", [])
        return series


def _duration(duration_ns: int) -> str:
    return f"{duration_ns // 1_000_000_000}s"


def _parse_duration(text: str) -> int:
    """Return a duration of the server, such as ``1440h0m0s``, in ns."""
    return sum(int(number) * _UNITS_S[unit] for number, unit in re.findall(r"(\d+)([hms])", text)) * 1_000_000_000
