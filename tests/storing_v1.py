"""A store as version 1 wrote it: its manifest and the columns of its segments, written down as they were."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from telemetryd.schema import UsageWindow
from tests.storing import expected_rows

NAME = pa.dictionary(pa.int32(), pa.string())
USAGE_1 = pa.schema(
    [
        ("time", pa.int64()),
        ("span_ns", pa.int64()),
        ("origin", NAME),
        ("table", NAME),
        ("link", NAME),
        ("direction", NAME),
        ("department", NAME),
        ("peer_department", NAME),
        ("application", NAME),
        ("source_zone", NAME),
        ("destination_zone", NAME),
        ("service_class", NAME),
        ("samples", pa.uint64()),
        ("octets", pa.float64()),
        ("packets", pa.float64()),
        ("octets_variance", pa.float64()),
        ("packets_variance", pa.float64()),
        ("octets_largest", pa.float64()),
        ("packets_largest", pa.float64()),
        ("stated_rate_samples", pa.uint64()),
    ]
)
QUALITY_1 = pa.schema(
    [
        ("time", pa.int64()),
        ("span_ns", pa.int64()),
        ("origin", NAME),
        ("metric", NAME),
        ("source", NAME),
        ("value", pa.float64()),
    ]
)


def write_version_1(path: Path, batches: Sequence[Sequence[UsageWindow]], origin: str) -> None:
    """Write batches of windows of one span each, and a quality row a batch, as version 1 did."""
    (path / "segments").mkdir(parents=True)
    segments: list[dict[str, Any]] = []
    extents: dict[int, dict[str, int]] = {}
    number = 1
    for windows in batches:
        batch, span_ns = number, windows[0].span_ns
        first_ns, until_ns = windows[0].start_ns, windows[-1].start_ns + span_ns
        quality = {"time": first_ns, "span_ns": span_ns, "origin": origin, "metric": "loss", "source": "a"}
        for kind, schema, rows in (
            ("usage", USAGE_1, expected_rows(windows, origin)),
            ("quality", QUALITY_1, [{**quality, "value": 0.5}]),
        ):
            number += 1
            file = path / "segments" / f"{number:012d}.parquet"
            pq.write_table(
                pa.Table.from_pylist(rows, schema=schema),
                file,
                compression="zstd",
                write_statistics=["time"],
                store_schema=False,
            )
            content = file.read_bytes()
            segments.append(
                {
                    "file": file.name,
                    "kind": kind,
                    "span_ns": span_ns,
                    "first_ns": min(row["time"] for row in rows),
                    "end_ns": max(row["time"] for row in rows) + span_ns,
                    "rows": len(rows),
                    "octets": len(content),
                    "crc32": zlib.crc32(content),
                    "origins": [origin],
                    "batches": [batch, batch],
                }
            )
        number += 1
        extent = extents.setdefault(span_ns, {"first_ns": first_ns, "until_ns": until_ns})
        extent["until_ns"] = max(extent["until_ns"], until_ns)
    manifest = {
        "format": "telemetryd-store",
        "version": 1,
        "generation": len(batches),
        "next_id": number,
        "segments": segments,
        "retired": [],
        "extents": {origin: extents},
        "floors": {},
    }
    (path / "MANIFEST.json").write_text(json.dumps(manifest, separators=(",", ":")))
