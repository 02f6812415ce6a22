"""What thins the series out for the long term: tasks of InfluxDB 2 (Flux), continuous queries of 1.8 (InfluxQL).

Roll-ups of usage are rows already, made from the sums with their intervals: those of 5 min and 1 h are copied. The
other measurements come by the minute and are made into rows of 5 min: counts add up, rates are averaged, of a gauge the
largest stays. Rows may come late, so that each pass begins a while back; what is written twice is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from telemetryd.store.series import MEASUREMENTS, SECOND_NS, USAGE, Field, Measurement, Merge, span_name

MINUTE_NS: Final = 60 * SECOND_NS
FINE_NS: Final = MINUTE_NS
COARSE_NS: Final = 5 * MINUTE_NS
HOUR_NS: Final = 60 * MINUTE_NS
KEPT_SPANS: Final = (span_name(COARSE_NS), span_name(HOUR_NS))
#: Names of all tasks and continuous queries begin so: those of the name that are not wanted any more are replaced.
PREFIX: Final = "telemetryd"


@dataclass(frozen=True, slots=True)
class Pass:
    """How often rows are thinned out, and from how far back."""

    name: str
    every_ns: int
    back_ns: int


@dataclass(frozen=True, slots=True)
class Job:
    """One task or continuous query: its name, and what it is."""

    name: str
    text: str


def passes(late_ns: int) -> tuple[Pass, Pass]:
    """Return the pass of what comes in time, and that of what waited in the spool for up to ``late_ns``."""
    days = -(-late_ns // (24 * HOUR_NS)) + 1
    return Pass("hourly", HOUR_NS, 3 * HOUR_NS), Pass("late", 24 * HOUR_NS, days * 24 * HOUR_NS)


def flux_jobs(org: str, bucket: str, rollups: str, late_ns: int) -> list[Job]:
    """Return the tasks of InfluxDB 2."""
    to = f"to(bucket: {_quoted(rollups)}, org: {_quoted(org)})"
    jobs = []
    for one in passes(late_ns):
        for measurement in MEASUREMENTS.values():
            name = f"{PREFIX} {bucket} {measurement.name} {one.name}"
            source = (
                f"from(bucket: {_quoted(bucket)})\n  |> range(start: -{_hours(one.back_ns)})\n"
                f"  |> filter(fn: (r) => r._measurement == {_quoted(measurement.name)})\n"
            )
            parts = _flux_copy(to) if measurement is USAGE else _flux_thin(measurement, to)
            text = f"rows = {source}\n" + "\n".join(parts)
            option = f"option task = {{name: {_quoted(name)}, every: {_hours(one.every_ns)}, offset: 2m}}\n\n"
            jobs.append(Job(name, option + text))
    return jobs


def _flux_copy(to: str) -> Iterator[str]:
    spans = " or ".join(f"r.span == {_quoted(span)}" for span in KEPT_SPANS)
    yield f"rows\n  |> filter(fn: (r) => {spans})\n  |> {to}\n"


def _flux_thin(measurement: Measurement, to: str) -> Iterator[str]:
    every = span_name(COARSE_NS)
    for function, fields in _by_function(measurement):
        names = "|".join(field.name for field in fields)
        yield (
            f"rows\n  |> filter(fn: (r) => r.span == {_quoted(span_name(FINE_NS))} and r._field =~ /^({names})$/)\n"
            f'  |> aggregateWindow(every: {every}, fn: {function}, createEmpty: false, timeSrc: "_start")\n'
            f'  |> set(key: "span", value: {_quoted(every)})\n  |> {to}\n'
        )


def influxql_jobs(database: str, policy: str, rollups: str, late_ns: int) -> list[Job]:
    """Return the continuous queries of InfluxDB 1.8; a name tells its text, which the server writes otherwise."""
    jobs = []
    for one in passes(late_ns):
        for measurement in MEASUREMENTS.values():
            into = ".".join(map(identifier, (database, rollups, measurement.name)))
            source = ".".join(map(identifier, (database, policy, measurement.name)))
            if measurement is USAGE:
                chosen = ", ".join(_selected("last", field) for field in measurement.fields)
                where, group = " OR ".join(f"\"span\" = '{span}'" for span in KEPT_SPANS), "*"
            else:
                chosen = ", ".join(
                    _selected(function, field) for function, fields in _by_function(measurement) for field in fields
                )
                # InfluxQL cannot say that the span is another one now: these rows have none.
                where = f"\"span\" = '{span_name(FINE_NS)}'"
                group = ", ".join(identifier(tag.name) for tag in measurement.tags if tag.name != "span")
            body = (
                f"RESAMPLE EVERY {_hours(one.every_ns)} FOR {_hours(one.back_ns)} BEGIN SELECT {chosen} INTO {into} "
                f"FROM {source} WHERE {where} GROUP BY time({span_name(COARSE_NS)}), {group} END"
            )
            digest = hashlib.sha256(body.encode()).hexdigest()[:8]
            name = f"{job_prefix(policy)}{measurement.name}_{one.name}_{digest}"
            text = f"CREATE CONTINUOUS QUERY {identifier(name)} ON {identifier(database)} {body}"
            jobs.append(Job(name, text))
    return jobs


def job_prefix(policy: str) -> str:
    """Return what the names of a policy's continuous queries begin with."""
    return f"{PREFIX}_{policy}_"


def identifier(name: str) -> str:
    """Return a name as InfluxQL takes any name."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _by_function(measurement: Measurement) -> list[tuple[str, list[Field]]]:
    """Return the functions that make one row of several in time, with the fields of each."""
    ordered = sorted(measurement.fields, key=_function)
    return [(function, list(fields)) for function, fields in groupby(ordered, _function)]


def _function(field: Field) -> str:
    if field.merge is Merge.LARGEST:
        return "max"
    if field.unit == "interfaces":
        return "min"
    return "mean" if field.unit == "bit/s" else "sum"


def _selected(function: str, field: Field) -> str:
    return f"{function}({identifier(field.name)}) AS {identifier(field.name)}"


def _hours(duration_ns: int) -> str:
    return f"{duration_ns // HOUR_NS}h"


def _quoted(text: str) -> str:
    """Return a text as a literal of Flux."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return f'"{escaped}"'
