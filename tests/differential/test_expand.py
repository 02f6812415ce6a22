"""The compiled expansion of keys to result rows and its numpy twin agree to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd._ext import is_disabled
from telemetryd.aggregate import expand as twin
from telemetryd.aggregate.scaling import SourceRates
from telemetryd.schema import USAGE_COLUMNS

if is_disabled():
    pytest.skip("TELEMETRYD_NO_EXT=1: there is nothing to compare", allow_module_level=True)

from telemetryd._ext import expand as compiled

SOURCES = 4


@given(seed=st.integers(0, 2**32 - 1), keys=st.integers(0, 300), spread=st.integers(1, 6))
def test_compiled_equals_twin(seed: int, keys: int, spread: int) -> None:
    """Every column is equal for any keys: many or few distinct ones, with and without links and metering."""
    rng = np.random.default_rng(seed)

    def codes(limit: int) -> np.ndarray:
        return rng.integers(0, min(limit, spread), keys).astype(np.uint64)

    columns = {
        "key0": codes(SOURCES) << np.uint64(48) | codes(9) << np.uint64(24) | codes(9),
        "key1": codes(9) << np.uint64(44) | codes(9) << np.uint64(24) | codes(9) << np.uint64(4) | codes(5),
        "key2": codes(9) << np.uint64(40) | codes(9) << np.uint64(24) | codes(9) << np.uint64(8) | codes(9),
        "samples": rng.integers(1, 1000, keys).astype(np.uint64),
        "octets": rng.integers(0, 10**6, keys).astype(np.uint64),
        "squares": rng.integers(0, 10**9, keys).astype(np.float64),
        "largest": rng.integers(0, 9216, keys).astype(np.uint32),
    }
    rates = SourceRates(
        rng.choice([1.0, 7.3, 2048.0], SOURCES),
        rng.random(SOURCES) < 0.5,
        np.zeros(SOURCES, np.uint32),
        np.zeros(SOURCES, np.uint64),
    )
    corrections = rng.choice([0.0, 4.0, -18.0], SOURCES)
    one, unplaced = compiled.expand(columns, rates, corrections)
    other, unplaced_twin = twin.expand(columns, rates, corrections)
    assert unplaced == unplaced_twin
    for column in USAGE_COLUMNS:
        assert one[column.name].dtype == np.dtype(column.dtype)
        np.testing.assert_array_equal(one[column.name], other[column.name], err_msg=column.name)


def test_a_source_without_a_rate_is_refused() -> None:
    """A key whose source lies beyond the rates is an error, not a read outside the array."""
    columns = {name: np.zeros(1, np.uint64) for name in ("key0", "key1", "key2", "samples", "octets")}
    columns |= {"squares": np.zeros(1), "largest": np.zeros(1, np.uint32)}
    columns["key0"][0] = 3 << 48
    rates = SourceRates(np.ones(3), np.zeros(3, np.bool_), np.zeros(3, np.uint32), np.zeros(3, np.uint64))
    with pytest.raises(ValueError, match="no rate"):
        compiled.expand(columns, rates, np.zeros(4))
