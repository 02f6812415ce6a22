"""The compiled water-filling and its numpy twin agree to the last bit, levels included."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetryd._ext import is_disabled
from telemetryd.allocate import waterfill_reference as twin

if is_disabled():
    pytest.skip("TELEMETRYD_NO_EXT=1: there is nothing to compare", allow_module_level=True)

from telemetryd._ext import waterfill as compiled


def run(
    fill: Callable[..., None], start: np.ndarray, stop: np.ndarray, target: np.ndarray, *columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    out, level = np.full(len(columns[0]), -1, np.int64), np.full(len(start), -1.0)
    fill(start, stop, target, *columns, out, level)
    return out, level


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 60), max_size=6),
    largest=st.sampled_from([3, 1000, 10**9, 2**44]),
    spread=st.sampled_from([0.0, 1.0, 10.0]),
)
def test_compiled_equals_twin(seed: int, sizes: list[int], largest: int, spread: float) -> None:
    """Shares and levels are equal for any segments: small and huge rates, equal and wildly different weights."""
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    weight = np.exp(rng.normal(0.0, spread, n)).clip(1e-9, 1e9)
    low = rng.integers(0, largest, n) * (rng.random(n) < 0.4)
    high = low + rng.integers(0, largest, n) * (rng.random(n) < 0.8)
    stop = np.cumsum(np.array(sizes, np.int64))
    start = stop - np.array(sizes, np.int64)
    chosen = rng.random(len(sizes)) < 0.8  # members of no segment are left alone
    start, stop = start[chosen], stop[chosen]
    least = np.array([low[a:b].sum() for a, b in zip(start, stop, strict=True)], np.int64)
    most = np.array([high[a:b].sum() for a, b in zip(start, stop, strict=True)], np.int64)
    target = least + ((most - least) * rng.choice([0.0, 1.0, rng.random()], len(least))).astype(np.int64)
    columns = weight, low, high
    shares, levels = run(compiled.fill, start, stop, target, *columns)
    other_shares, other_levels = run(twin.fill, start, stop, target, *columns)
    np.testing.assert_array_equal(shares, other_shares)
    np.testing.assert_array_equal(levels, other_levels)
    for a, b, whole in zip(start, stop, target, strict=True):
        assert shares[a:b].sum() == whole


@pytest.mark.parametrize("module", [compiled, twin], ids=["compiled", "twin"])
@pytest.mark.parametrize(
    ("start", "stop", "target", "message"),
    [
        (0, 3, 1, "no part"),
        (-1, 1, 1, "no part"),
        (1, 1, 0, "no part"),
        (0, 2, 21, "out of reach"),
        (0, 2, 1, "out of reach"),
    ],
)
def test_what_cannot_be_filled_is_refused(module: ModuleType, start: int, stop: int, target: int, message: str) -> None:
    """Segments beyond the members and targets beyond the bounds are errors, never reads outside the arrays."""
    columns = np.ones(2), np.array([1, 1], np.int64), np.array([10, 10], np.int64)
    segment = [np.array([value], np.int64) for value in (start, stop, target)]
    with pytest.raises(ValueError, match=message):
        run(module.fill, *segment, *columns)


@pytest.mark.parametrize("module", [compiled, twin], ids=["compiled", "twin"])
def test_columns_of_different_length_are_refused(module: ModuleType) -> None:
    """Columns must belong together."""
    one, two = np.zeros(1, np.int64), np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="differ in length"):
        module.fill(one, one + 1, one, np.ones(2), two, one, two, np.zeros(1))
