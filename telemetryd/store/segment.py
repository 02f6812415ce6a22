"""Parquet segments: how one is written, and how several are merged into one."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from telemetryd.store.files import Files, NewFile
from telemetryd.store.manifest import Segment

ROW_GROUP_ROWS: Final = 1 << 17
COMPRESSION: Final = "zstd"


def segment_name(number: int) -> str:
    """Return the file name of the segment ``number``."""
    return f"{number:012d}.parquet"


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
        )


def merged_tables(paths: Iterable[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows of several segments in their order, in tables of about a row group.

    Needs memory for one row group, whatever the size of the segments.
    """
    held: list[pa.Table] = []
    rows = 0
    for path in paths:
        with pq.ParquetFile(path, read_dictionary=[f.name for f in schema if pa.types.is_dictionary(f.type)]) as file:
            for group in range(file.num_row_groups):
                held.append(file.read_row_group(group).cast(schema))
                rows += held[-1].num_rows
                if rows >= ROW_GROUP_ROWS:
                    yield pa.concat_tables(held).unify_dictionaries().combine_chunks()
                    held, rows = [], 0
    if held:
        yield pa.concat_tables(held).unify_dictionaries().combine_chunks()


def checksum(path: Path) -> int:
    """Return the CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value
