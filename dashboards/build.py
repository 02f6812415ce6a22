"""Write the Grafana dashboards, each in Flux and in InfluxQL: `python dashboards/build.py`.

A test fails while they are stale.
A panel is described once, and its query is made in both languages. Rates of several keys are added; the interval of the
sum follows from the sum of the variances (docs/estimation.md, many samples), never from adding intervals:

    half = 1.96 sqrt(variance) bits_per_second / octets
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
SUMS: Final = ("bits_per_second", "octets", "octets_variance")
FLUX: Final = "flux"
INFLUXQL: Final = "influxql"
LANGUAGES: Final = (FLUX, INFLUXQL)
WIDTH: Final = 24
#: Which data source is asked: the one that is chosen at the top.
SOURCE: Final = {"type": "influxdb", "uid": "${datasource}"}


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard: the values of a tag."""

    name: str
    label: str
    measurement: str
    tag: str
    where: Mapping[str, str] = field(default_factory=dict)
    several: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel.

    ``kind`` says what is drawn of the rows that ``where`` chooses (``$name`` is a variable): ``rate`` is the sum of
    rates by tags, ``band`` one rate with its interval, ``volume`` the octets of the whole range by tags, ``count``
    the sum and ``value`` the mean of a field by tags, and ``growth`` what a running total grew by.
    """

    title: str
    kind: str
    where: Mapping[str, str]
    by: Sequence[str] = ()
    measurement: str = "usage"
    fields: Sequence[str] = SUMS
    unit: str = "bps"
    repeat: str = ""
    width: int = 12
    is_stacked: bool = True


@dataclass(frozen=True)
class Dashboard:
    """One dashboard."""

    name: str
    title: str
    variables: Sequence[Variable]
    panels: Sequence[Panel]


TOTALS: Final = {"result_table": "totals", "span": "$span"}
LINKS: Final = {"result_table": "link_usage", "span": "$span"}
POINT: Final = Variable("point", "Metering point", "usage", "link", {"result_table": "totals"})
LINK: Final = Variable("link", "Link", "usage", "link", {"result_table": "link_usage"})
LOSSES: Final = "/^(receive_kernel_drops|decode_errors|window_lost_samples|(store|spool)_lost_(windows|points))_total$/"
WAITING: Final = "/^(output_waiting|spool|store_backlog)_octets$/"
WAYS: Final = (("inbound", "In"), ("outbound", "Out"))


def department(*, several: bool) -> Variable:
    """Return the choice of departments."""
    return Variable("department", "Department", "usage", "department", {"result_table": "totals"}, several)


def at_point(direction: str, **more: str) -> dict[str, str]:
    """Choose the rows of the metering point and a direction."""
    return {**TOTALS, "link": "$point", "direction": direction, **more}


def figures(title: str, kind: str, metrics: str, unit: str) -> Panel:
    """Return a panel of the daemon's own figures, whose names a regular expression chooses."""
    return Panel(
        title, kind, {"span": "1m", "metric": metrics}, ("metric", "source"), "self", ("value",), unit, is_stacked=False
    )


DASHBOARDS: Final = (
    Dashboard(
        "exit",
        "telemetryd: who uses the exit",
        (POINT, department(several=True)),
        (
            *(Panel(f"{way}: all, with 95 % interval", "band", at_point(d)) for d, way in WAYS),
            *(Panel(f"{way} by department", "rate", at_point(d), ("department",)) for d, way in WAYS),
            *(Panel(f"{way} by application", "rate", at_point(d), ("application",)) for d, way in WAYS),
            *(
                Panel(f"Volume {way.lower()} by department", "volume", at_point(d), ("department",), unit="decbytes")
                for d, way in WAYS
            ),
            *(
                Panel(
                    f"{way}: $department, with 95 % interval",
                    "band",
                    at_point(d, department="$department"),
                    repeat="department",
                    width=WIDTH,
                )
                for d, way in WAYS
            ),
        ),
    ),
    Dashboard(
        "links",
        "telemetryd: links",
        (LINK,),
        (
            *(
                Panel(f"{way} by link", "rate", {**LINKS, "direction": d}, ("link",))
                for d, way in (("in", "In"), ("out", "Out"))
            ),
            *(
                Panel(f"$link {way}, with 95 % interval", "band", {**LINKS, "link": "$link", "direction": way})
                for way in ("in", "out")
            ),
            *(
                Panel(
                    f"$link {way} by service class",
                    "rate",
                    {**LINKS, "link": "$link", "direction": way},
                    ("service_class",),
                )
                for way in ("in", "out")
            ),
            *(
                Panel(
                    f"$link {way} by application",
                    "rate",
                    {**LINKS, "link": "$link", "direction": way},
                    ("application",),
                )
                for way in ("in", "out")
            ),
            *(
                Panel(
                    f"Interfaces by their counters: {way}",
                    "value",
                    {"span": "1m"},
                    ("device", "interface"),
                    "interface",
                    (f"{way}_bits_per_second",),
                    is_stacked=False,
                )
                for way in ("in", "out")
            ),
        ),
    ),
    Dashboard(
        "department",
        "telemetryd: one department",
        (POINT, department(several=False)),
        (
            *(Panel(f"{way}, with 95 % interval", "band", at_point(d, department="$department")) for d, way in WAYS),
            *(
                Panel(f"{way} by application", "rate", at_point(d, department="$department"), ("application",))
                for d, way in WAYS
            ),
            *(
                Panel(
                    f"Volume {way.lower()} by application",
                    "volume",
                    at_point(d, department="$department"),
                    ("application",),
                    unit="decbytes",
                )
                for d, way in WAYS
            ),
            Panel(
                "By zone of the source and the destination",
                "rate",
                {**TOTALS, "department": "$department"},
                ("source_zone", "destination_zone"),
            ),
            Panel(
                "With which other departments", "rate", {**TOTALS, "department": "$department"}, ("peer_department",)
            ),
            Panel(
                "Samples that the figures rest on",
                "count",
                {**TOTALS, "department": "$department"},
                ("link",),
                fields=("samples",),
                unit="short",
            ),
            Panel(
                "... of these scaled by the stated rate",
                "count",
                {**TOTALS, "department": "$department"},
                ("link",),
                fields=("stated_rate_samples",),
                unit="short",
            ),
        ),
    ),
    Dashboard(
        "self",
        "telemetryd: how telemetry arrives, and the daemon itself",
        (),
        (
            figures("Lost a minute, by cause", "growth", LOSSES, "short"),
            figures("Windows closed a minute", "growth", "/^windows_total$/", "short"),
            *(
                Panel(title, "count", {"span": "1m"}, ("device",), "device", (field,), "short")
                for title, field in (
                    ("Datagrams by device", "datagrams"),
                    ("Lost datagrams by device", "lost_datagrams"),
                    ("Samples that agents dropped", "dropped_samples"),
                    ("Shed datagrams by device", "shed_datagrams"),
                )
            ),
            figures("What waits on the disk and in memory", "value", WAITING, "bytes"),
            figures("How far behind", "value", "/^(output_behind|window_delay)_seconds$/", "s"),
            figures("State: 0 ok, 1 degraded, 2 failed", "value", "/^(component|output)_state$/", "short"),
            figures("Keys that have series", "value", "/^series$/", "short"),
        ),
    ),
)


# --- queries ---------------------------------------------------------------------------------------------------


def flux(panel: Panel) -> str:
    """Return the query of a panel in Flux."""
    by = "".join(f', "{tag}"' for tag in panel.by)
    names = " or ".join(
        f'r._field == "{name}"' for name in panel.fields if panel.kind == "band" or name == shown(panel)
    )
    source = (
        f'from(bucket: "${{bucket}}")\n  |> range(start: v.timeRangeStart, stop: v.timeRangeStop)\n'
        f'  |> filter(fn: (r) => r._measurement == "{panel.measurement}"{flux_where(panel.where)})\n'
        f"  |> filter(fn: (r) => {names})\n"
    )
    if panel.kind == "volume":
        order = '  |> group()\n  |> sort(columns: ["_value"], desc: true)\n'
        return f"{source}  |> group(columns: [{by[2:]}])\n  |> sum()\n{order}"
    if panel.kind == "band":
        return (
            f'import "math"\n\n{source}  |> group(columns: ["_time", "_field"])\n  |> sum()\n  |> group()\n'
            '  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")\n'
            "  |> map(fn: (r) => ({_time: r._time, rate: r.bits_per_second, "
            "half: 1.96 * math.sqrt(x: r.octets_variance) * r.bits_per_second / r.octets}))\n"
            "  |> map(fn: (r) => ({_time: r._time, low: r.rate - r.half, rate: r.rate, high: r.rate + r.half}))\n"
        )
    if panel.kind == "growth":
        order = '  |> sort(columns: ["_time"])\n  |> difference(nonNegative: true)\n'
        return f"{source}  |> group(columns: [{by[2:]}])\n{order}"
    function = "mean" if panel.kind == "value" else "sum"
    return f'{source}  |> group(columns: ["_time"{by}])\n  |> {function}()\n  |> group(columns: [{by[2:]}])\n'


def flux_where(where: Mapping[str, str]) -> str:
    """Return conditions on tags; ``$span`` is a text, other variables are alternatives of a regular expression."""
    conditions = ""
    for tag, value in where.items():
        if value.startswith("/"):
            conditions += f" and r.{tag} =~ {value}"
        elif value.startswith("$") and value != "$span":
            conditions += f" and r.{tag} =~ /^(${{{value[1:]}:regex}})$/"
        else:
            conditions += f' and r.{tag} == "{value.replace("$span", "${span}")}"'
    return conditions


def influxql(panel: Panel) -> str:
    """Return the query of a panel in InfluxQL."""
    conditions = []
    for tag, value in panel.where.items():
        if value.startswith("/"):
            conditions.append(f'"{tag}" =~ {value}')
        elif value.startswith("$") and value != "$span":
            conditions.append(f'"{tag}" =~ /^(${{{value[1:]}:regex}})$/')
        else:
            conditions.append(f"\"{tag}\" = '{value.replace('$span', '${span}')}'")
    source = f'FROM "${{policy}}"."{panel.measurement}" WHERE {" AND ".join(conditions)} AND $timeFilter'
    by = ", ".join(f'"{tag}"' for tag in panel.by)
    time = "time(${span})" if panel.where.get("span") == "$span" else f"time({panel.where['span']})"
    if panel.kind == "volume":
        return f'SELECT sum("{shown(panel)}") {source} GROUP BY {by}'
    if panel.kind == "band":
        inner = ", ".join(f'sum("{name}") AS "{name}"' for name in panel.fields)
        half = '1.96 * sqrt("octets_variance") * "bits_per_second" / "octets"'
        return (
            f'SELECT "bits_per_second" - {half} AS "low", "bits_per_second" AS "rate", '
            f'"bits_per_second" + {half} AS "high" '
            f"FROM (SELECT {inner} {source} GROUP BY {time} fill(none))"
        )
    function = {"value": "mean", "growth": "max"}.get(panel.kind, "sum")
    chosen = f'{function}("{shown(panel)}")'
    if panel.kind == "growth":
        chosen = f"non_negative_difference({chosen})"
    return f"SELECT {chosen} {source} GROUP BY {time}, {by} fill(none)"


def shown(panel: Panel) -> str:
    """Return the field that a panel shows."""
    return "octets" if panel.kind == "volume" else panel.fields[0]


def values_query(variable: Variable, language: str) -> str:
    """Return the query of a variable's values."""
    if language == FLUX:
        where = flux_where({"_measurement": variable.measurement, **variable.where}).removeprefix(" and ")
        return (
            'import "influxdata/influxdb/v1"\n\n'
            f'v1.tagValues(bucket: "${{bucket}}", tag: "{variable.tag}", predicate: (r) => {where}, start: -1d)'
        )
    where = " AND ".join(f"\"{tag}\" = '{value}'" for tag, value in variable.where.items())
    return f'SHOW TAG VALUES FROM "{variable.measurement}" WITH KEY = "{variable.tag}" WHERE {where}'


# --- Grafana's JSON --------------------------------------------------------------------------------------------


def document(dashboard: Dashboard, language: str) -> dict[str, Any]:
    """Return a dashboard as Grafana imports it."""
    return {
        "uid": f"telemetryd-{dashboard.name}-{language}",
        "title": f"{dashboard.title} ({'Flux' if language == FLUX else 'InfluxQL'})",
        "tags": ["telemetryd"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": list(variables(dashboard, language))},
        "panels": list(panels(dashboard, language)),
    }


def variables(dashboard: Dashboard, language: str) -> Sequence[dict[str, Any]]:
    """Return the choices at the top."""
    place = ("bucket", "Bucket", "telemetryd") if language == FLUX else ("policy", "Retention policy", "autogen")
    spans = [("1m", True), ("10s", False), ("5m", False), ("1h", False)]
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "influxdb"},
        {
            "name": place[0],
            "label": place[1],
            "type": "textbox",
            "query": place[2],
            "current": {"text": place[2], "value": place[2]},
        },
        {
            "name": "span",
            "label": "Span",
            "type": "custom",
            "query": ",".join(span for span, _ in spans),
            "current": {"text": "1m", "value": "1m"},
            "options": [{"text": span, "value": span, "selected": chosen} for span, chosen in spans],
        },
        *(
            {
                "name": one.name,
                "label": one.label,
                "type": "query",
                "datasource": SOURCE,
                "query": values_query(one, language),
                "refresh": 1,
                "sort": 1,
                "multi": one.several,
                "includeAll": False,
            }
            for one in dashboard.variables
        ),
    ]


def panels(dashboard: Dashboard, language: str) -> Sequence[dict[str, Any]]:
    """Return the panels, from left to right and from top to bottom."""
    made, x, y = [], 0, 0
    for number, panel in enumerate(dashboard.panels, 1):
        if x + panel.width > WIDTH:
            x, y = 0, y + 8
        made.append(one_panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": 8}, language))
        x += panel.width
    return made


def one_panel(panel: Panel, number: int, place: dict[str, int], language: str) -> dict[str, Any]:
    """Return one panel."""
    is_band = panel.kind == "band"
    custom: dict[str, Any] = {
        "lineWidth": 1,
        "fillOpacity": 0 if is_band or not panel.is_stacked else 40,
        "showPoints": "never",
    }
    if panel.is_stacked and not is_band:
        custom["stacking"] = {"mode": "normal"}
    target: dict[str, Any] = {"refId": "A", "datasource": SOURCE}
    if language == FLUX:
        target["query"] = flux(panel)
    else:
        alias = " / ".join(f"$tag_{tag}" for tag in panel.by) or "$col"
        target |= {"query": influxql(panel), "rawQuery": True, "resultFormat": "time_series", "alias": alias}
    made: dict[str, Any] = {
        "id": number,
        "type": "bargauge" if panel.kind == "volume" else "timeseries",
        "title": panel.title,
        "gridPos": place,
        "datasource": SOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": custom},
            "overrides": band() if is_band else [],
        },
        "targets": [target],
    }
    if panel.kind == "volume":
        del made["fieldConfig"]["defaults"]["custom"]
        made["options"] = {"orientation": "horizontal", "reduceOptions": {"calcs": ["sum"], "values": language == FLUX}}
    if panel.repeat:
        made |= {"repeat": panel.repeat, "repeatDirection": "v"}
    return made


def band() -> list[dict[str, Any]]:
    """Return how the interval is drawn: a shade between its ends."""

    def override(name: str, **properties: Any) -> dict[str, Any]:
        listed = [{"id": f"custom.{key}", "value": value} for key, value in properties.items()]
        return {"matcher": {"id": "byName", "options": name}, "properties": listed}

    return [
        override("low", lineWidth=0),
        override("high", lineWidth=0, fillBelowTo="low", fillOpacity=20),
        override("rate", lineWidth=2),
    ]


def files() -> dict[str, str]:
    """Return path below this directory -> content, of every dashboard."""
    return {
        f"{language}/{dashboard.name}.json": json.dumps(document(dashboard, language), indent=1, ensure_ascii=False)
        + "\n"
        for language in LANGUAGES
        for dashboard in DASHBOARDS
    }


if __name__ == "__main__":
    for path, text in files().items():
        (HERE / path).parent.mkdir(exist_ok=True)
        (HERE / path).write_text(text, encoding="utf-8")
