"""The options that several of `telemetryd query` have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StorePath = Annotated[
    Path | None,
    typer.Option("--store", envvar="TELEMETRYD_STORE", help="Directory of the store.", show_default=False),
]
By = Annotated[str, typer.Option("--by", help="Keys to group by, several with commas (zone_pair is two of them).")]
TableName = Annotated[
    str, typer.Option("--table", help="totals: each packet once; link_usage: on every link it crosses.")
]
From = Annotated[
    str | None,
    typer.Option("--from", help="ISO 8601 time, or back from the newest data: -1h. Default: the first data."),
]
To = Annotated[str | None, typer.Option("--to", help="As --from. Default: the newest data.")]
Zone = Annotated[str, typer.Option("--tz", help="Time zone of times without an offset, and of those printed.")]
Department = Annotated[list[str] | None, typer.Option("--department", help="Only this one (repeatable).")]
Peer = Annotated[list[str] | None, typer.Option("--peer-department", help="Only this one (repeatable).")]
Application = Annotated[list[str] | None, typer.Option("--application", help="Only this one (repeatable).")]
Link = Annotated[
    list[str] | None,
    typer.Option("--link", help="Only this link; in totals this metering point (repeatable)."),
]
DirectionName = Annotated[
    list[str] | None,
    typer.Option("--direction", help="inbound, outbound, internal, transit; of links in, out (repeatable)."),
]
Count = Annotated[int, typer.Option("-n", "--n", min=1, help="Keys to show; the rest is 'other'.")]
Calibrated = Annotated[
    bool, typer.Option("--calibrated", help="Let the classes of every link sum to its interface's counter.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object (docs/query.md).")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")]
