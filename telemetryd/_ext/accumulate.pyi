"""Sums per key, source and window; compiled from ext/accumulate.pyx."""

from typing import Any

from numpy.typing import NDArray

from telemetryd.schema import Batch

class Accumulator:
    """See :class:`telemetryd.aggregate.accumulate_reference.Accumulator`, which is its specification."""

    def __init__(
        self,
        datagrams: Batch,
        samples: Batch,
        track: Batch,
        classes: Batch,
        *,
        windows: int = 16,
        window_ns: int = 1_000_000_000,
        talkers: int = 16384,
    ) -> None: ...
    @property
    def windows(self) -> int: ...
    @property
    def window_ns(self) -> int: ...
    @property
    def first_window(self) -> int | None: ...
    @property
    def is_empty(self) -> bool: ...
    def counts(self) -> dict[str, int]: ...
    def open(self, window: int) -> None: ...
    def add(self, first_row: int) -> int: ...
    def close(self) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]: ...  # (k,) and (s,)
    def unclassified(self) -> dict[str, NDArray[Any]]: ...  # columns of shape (1 + t,)
    def clear_unclassified(self) -> None: ...
