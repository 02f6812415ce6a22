"""Parquet segments: how one is written, and how several are merged into one."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from telemetryd.store.columns import QUALITY_SCHEMA, USAGE_SCHEMA, as_kept, by_names
from telemetryd.store.counter_columns import COUNTER_SCHEMAS
from telemetryd.store.files import Files, NewFile
from telemetryd.store.manifest import QUALITY, SEGMENT_SCHEMA, USAGE, Segment

ROW_GROUP_ROWS: Final = 1 << 17
COMPRESSION: Final = "zstd"

SCHEMAS: Final = {USAGE: USAGE_SCHEMA, QUALITY: QUALITY_SCHEMA, **COUNTER_SCHEMAS}

# The octets of estimates are stored by significance: the upper ones repeat and the lowest are zero (KEPT_BITS). As
# numbers they hardly ever repeat, so a dictionary of them is only in the way.
_SPLIT: Final = {
    kind: [field.name for field in schema if kind == USAGE and pa.types.is_float64(field.type)]
    for kind, schema in SCHEMAS.items()
}


def segment_name(number: int) -> str:
    """Return the file name of the segment ``number``."""
    return f"{number:012d}.parquet"


def segment_number(name: str) -> int | None:
    """Return the number of a segment's file, None of another file."""
    stem = name.removesuffix(".parquet")
    return int(stem) if stem != name and stem.isascii() and stem.isdigit() else None


def write_segment(
    files: Files, directory: Path, number: int, kind: str, batch: tuple[int, int], tables: Iterable[pa.Table]
) -> Segment:
    """Write one segment under its final name and describe it.

    ``tables`` become its row groups, all of one schema, span and bucket; there is at least one row.
    The caller syncs the directory. May raise OSError.
    """
    name = segment_name(number)
    rows, span_ns, first_ns, last_ns = 0, 0, 0, 0
    origins: set[str] = set()
    with NewFile(files, directory / name) as sink:
        writer: pq.ParquetWriter | None = None
        try:
            for table in tables:
                times = table.column("time").to_numpy()
                if writer is None:
                    span_ns = table.column("span_ns")[0].as_py()
                    first_ns = int(times.min())
                    writer = pq.ParquetWriter(
                        sink,
                        table.schema,
                        compression=COMPRESSION,
                        use_dictionary=[name for name in table.column_names if name not in _SPLIT[kind]],
                        use_byte_stream_split=_SPLIT[kind],
                        write_statistics=["time"],
                        store_schema=False,
                    )
                first_ns, last_ns = min(first_ns, int(times.min())), max(last_ns, int(times.max()))
                rows += len(times)
                origins.update(table.column("origin").unique().to_pylist())
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        finally:
            if writer is not None:
                writer.close()
        sink.publish()
        return Segment(
            file=name,
            kind=kind,
            span_ns=span_ns,
            first_ns=first_ns,
            end_ns=last_ns + span_ns,
            rows=rows,
            octets=sink.octets,
            crc32=sink.crc32,
            origins=tuple(sorted(origins)),
            batches=batch,
            schema=SEGMENT_SCHEMA,
        )


def merged_tables(directory: Path, segments: Iterable[Segment]) -> Iterator[pa.Table]:
    """Yield the rows of several segments of one kind in tables of a row group at most, sorted by name and time each.

    The tables follow each other as the row groups of the segments did, that is in order of time. Needs memory
    for a few row groups, whatever the size of the segments.
    """
    held: list[pa.Table] = []
    rows = 0
    for segment in segments:
        schema = SCHEMAS[segment.kind]
        names = [field.name for field in schema if pa.types.is_dictionary(field.type)]
        with pq.ParquetFile(directory / segment.file, read_dictionary=names) as file:
            for number in range(file.num_row_groups):
                group = file.read_row_group(number).cast(schema)
                if segment.kind == USAGE and segment.schema < SEGMENT_SCHEMA:
                    group = as_kept(group)
                if held and rows + group.num_rows > ROW_GROUP_ROWS:
                    yield _joined(held)
                    held, rows = [], 0
                held.append(group)
                rows += group.num_rows
    if held:
        yield _joined(held)


def _joined(tables: list[pa.Table]) -> pa.Table:
    return by_names(pa.concat_tables(tables).unify_dictionaries().combine_chunks())


def checksum(path: Path) -> int:
    """Return the CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value
