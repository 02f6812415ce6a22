"""Write generated traffic as a capture."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from telemetryd.ingest.capture_writer import CaptureWriter
from telemetryd.ingest.generate.traffic import GeneratedBlock

COLLECTOR = "192.0.2.2"


class Generator(Protocol):
    """What generates traffic: a city, or any other :class:`Traffic`."""

    def generate(self, seconds: float, window_s: float = 1) -> Iterable[GeneratedBlock]:
        """Yield blocks."""
        ...


def write_capture(
    path: str | PathLike[str],
    traffic: Generator | Iterable[GeneratedBlock],
    seconds: float = 0,
) -> int:
    """Write traffic to a capture (``.gz`` and ``.zst`` compress) and return its number of datagrams.

    Parameters
    ----------
    path:
        File to write; one that exists is replaced.
    traffic:
        Something that generates ``seconds`` of event time, or blocks that are there already.

    Raises
    ------
    InputError, CaptureError
        If the file cannot be written.
    """
    blocks = traffic if isinstance(traffic, Iterable) else traffic.generate(seconds)
    count = 0
    with CaptureWriter(path) as writer:
        for block in blocks:
            sent = block.datagrams
            sources = _sources(sent.agent)
            writer.write(sent.buffer, sent.offsets, sent.lengths, sent.ts_ns, source=sources, destination=COLLECTOR)
            count += len(sent)
    return count


def _sources(agent: NDArray[np.intp]) -> NDArray[np.uint32]:
    """Return a UDP sender for each agent, in 100.127.0.0/16; strangers come from 100.127.255.255."""
    return (0x647F_0000 + (agent & 0xFFFF)).astype(np.uint32)
