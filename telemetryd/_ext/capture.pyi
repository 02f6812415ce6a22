"""Signatures of the compiled scanner; telemetryd/ingest/capture_reference.py specifies it."""

from typing import Any

from numpy.typing import NDArray

class Scanner:
    position: int
    needed: int
    rows: int
    in_side: bool
    damage: int
    packets: int
    datagrams: int
    truncated: int
    fragments: int
    reassembled: int
    first_ts_ns: int
    last_ts_ns: int

    def __init__(self, port: int | None) -> None: ...
    @property
    def skipped(self) -> list[int]: ...
    def scan(
        self,
        buffer: NDArray[Any],  # const uint8[octets]
        position: int,
        offsets: NDArray[Any],  # uint64[n]
        lengths: NDArray[Any],  # uint32[n]
        ts_ns: NDArray[Any],  # int64[n]
        source_hi: NDArray[Any],  # uint64[n]
        source_lo: NDArray[Any],  # uint64[n]
        source_version: NDArray[Any],  # uint8[n]
        side: NDArray[Any],  # uint8[octets >= 65535]
    ) -> int: ...
    def finish(self) -> None: ...
