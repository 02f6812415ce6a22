"""Replay the fuzzer's seeds, and every input that ever failed, in the ordinary run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sflow_pair import check
from tests.sflow_seeds import seed_datagrams

FAILED = sorted(path for path in (Path(__file__).parent / "crashes").glob("*-*") if path.is_file())


@pytest.mark.parametrize("decapsulate", [False, True])
def test_replay(decapsulate: bool) -> None:
    """Each seed and each input that failed once, in a buffer that ends with it, decodes as the twin says."""
    for octets in [*seed_datagrams(), *(path.read_bytes() for path in FAILED)]:
        check([octets], decapsulate)
