"""The compiled accumulator and the compiled grouping agree with their Python twins on any rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd._ext import is_disabled
from telemetryd.aggregate import accumulate_reference, group_reference
from telemetryd.aggregate.keys import CODE_LIMITS
from tests.feed import SECOND, START, Feed

if is_disabled():
    pytest.skip("TELEMETRYD_NO_EXT=1: there is nothing to compare", allow_module_level=True)

from telemetryd._ext import accumulate, group

CAPACITY = 300


def fill(feed: Feed, seed: int, rows: int, spread: int, seconds: float) -> None:
    """Fill the batches with random rows: ``spread`` says how many values a code takes."""
    rng = np.random.default_rng(seed)
    datagrams = max(rows // 5, 1)
    feed.datagrams.n = datagrams
    feed.datagrams["ts_ns"][:datagrams] = START * SECOND + np.sort(
        rng.integers(0, int(seconds * SECOND) + 1, datagrams)
    )
    for batch in (feed.samples, feed.track, feed.classes):
        batch.n = rows
    sample = feed.samples
    sample["datagram"][:rows] = np.sort(rng.integers(0, datagrams, rows))
    sample["sampling_rate"][:rows] = rng.choice([0, 1, 512, 4096, 2**32 - 1], rows)
    sample["frame_length"][:rows] = rng.choice([0, 64, 576, 1518, 2**32 - 1], rows)
    for name in ("source_hi", "source_lo", "destination_hi", "destination_lo", "source_port", "destination_port"):
        sample[name][:rows] = rng.integers(0, 3, rows)
    sample["ip_version"][:rows] = rng.choice([0, 4, 6], rows)
    sample["protocol"][:rows] = rng.choice([6, 17], rows)
    feed.track["source"][:rows] = rng.choice([0, 1, 2, 100, 65535], rows)
    feed.track["pool_growth"][:rows] = rng.integers(0, 2**31, rows)
    feed.track["pool_valid"][:rows] = rng.choice([0, 1, 1, 1, 2], rows)
    for name, limit in CODE_LIMITS.items():
        if name != "source":
            values = np.append(rng.integers(0, limit, spread, endpoint=True), 0)
            feed.classes[name][:rows] = rng.choice(values, rows)


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(0, CAPACITY), min_size=1, max_size=4),
    spread=st.integers(1, 40),
    seconds=st.sampled_from([0.5, 3, 12]),
    windows=st.integers(2, 6),
    talkers=st.integers(1, 20),
)
def test_compiled_equals_twin(
    seed: int, sizes: list[int], spread: int, seconds: float, windows: int, talkers: int
) -> None:
    """Keys, sources, talkers, late rows and the rows that stop it are equal, in the same order."""
    feed = Feed(CAPACITY)
    pair = [
        module.Accumulator(*feed.batches, windows=windows, talkers=talkers)
        for module in (accumulate, accumulate_reference)
    ]
    for accumulator in pair:
        assert accumulator.add(0) == 0
        accumulator.open(START + 1)
    for i, rows in enumerate(sizes):
        fill(feed, seed + i, rows, spread, seconds)
        row = 0
        while True:
            stopped = [accumulator.add(row) for accumulator in pair]
            assert stopped[0] == stopped[1]
            row = stopped[0]
            if row == rows:
                break
            assert pair[0].first_window == pair[1].first_window
            for one, other in zip(*(accumulator.close() for accumulator in pair), strict=True):
                assert_same(one, other)
    for _ in range(windows):
        for one, other in zip(*(accumulator.close() for accumulator in pair), strict=True):
            assert_same(one, other)
    assert pair[0].is_empty and pair[1].is_empty
    assert pair[0].counts() == pair[1].counts()
    assert_same(pair[0].unclassified(), pair[1].unclassified())
    for accumulator in pair:
        accumulator.clear_unclassified()
    assert_same(pair[0].unclassified(), pair[1].unclassified())


def test_tables_grow_by_rehash() -> None:
    """20,000 distinct keys in one window, three times over: none is lost, none is there twice."""
    feed = Feed(20_000)
    n = feed.samples.n = feed.track.n = feed.classes.n = 20_000
    feed.datagrams.n = 1
    feed.datagrams["ts_ns"][0] = START * SECOND
    feed.samples["frame_length"][:] = 100
    feed.classes["department"][:] = np.arange(n) % 1000
    feed.classes["application"][:] = np.arange(n) // 1000 + 1
    accumulator = accumulate.Accumulator(*feed.batches)
    accumulator.open(START)
    for window in range(3):
        for _ in range(3):
            assert accumulator.add(0) == n
        columns, sources = accumulator.close()
        assert len(columns["samples"]) == n, window
        assert set(columns["samples"].tolist()) == {3}
        assert len(set(zip(*(columns[name].tolist() for name in ("key0", "key1", "key2")), strict=True))) == n
        assert sources["samples"].tolist() == [3 * n]
        feed.datagrams["ts_ns"][0] += SECOND


@pytest.mark.parametrize("name", [name for name in CODE_LIMITS if name != "service_class"])
def test_codes_beyond_the_key_are_refused(name: str) -> None:
    """A code that the packed key cannot hold is an error, never another key; the greatest one passes."""
    feed = Feed()
    rows = [{}, {name: CODE_LIMITS[name] + 1}]
    for module in (accumulate, accumulate_reference):
        accumulator = module.Accumulator(*feed.batches)
        accumulator.open(START)
        feed.at((0.0, rows[0]), (0.0, {name: CODE_LIMITS[name]}))
        assert accumulator.add(0) == 2
        feed.at((0.0, rows[0]), (0.0, rows[1]))
        with pytest.raises(ValueError, match="row 1 has a code beyond"):
            accumulator.add(0)


@pytest.mark.parametrize("module", [accumulate, accumulate_reference])
def test_misuse_is_refused(module: object) -> None:
    """Rows outside the batch, datagrams that are not there, and windows out of order are errors."""
    feed = Feed(8)
    make = module.Accumulator  # type: ignore[attr-defined]
    accumulator = make(*feed.batches)
    with pytest.raises(ValueError, match="no window"):
        accumulator.close()
    accumulator.open(START)
    feed.fill([{"ts_ns": START * SECOND}], [{"datagram": 8}])
    with pytest.raises(ValueError, match="no datagram"):
        accumulator.add(0)
    for first, n in ((2, 1), (-1, 1), (0, 9)):
        feed.samples.n = n
        with pytest.raises(ValueError, match="not in the batch"):
            accumulator.add(first)
    with pytest.raises(ValueError, match="cannot be opened again"):
        accumulator.open(START - 1)
    feed.at((0.0, {}))
    accumulator.add(0)
    with pytest.raises(ValueError, match="holds rows"):
        accumulator.open(START + 1)
    for wrong in ({"windows": 1}, {"windows": 5000}, {"window_ns": 0}, {"talkers": 0}):
        with pytest.raises(ValueError, match="must be"):
            make(*feed.batches, **wrong)
    with pytest.raises(ValueError, match="smaller"):
        make(feed.datagrams, feed.samples, Feed(7).track, feed.classes)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2**64 - 1) | st.integers(0, 3)), max_size=300))
def test_groups_are_those_of_the_twin(pairs: list[tuple[int, int]]) -> None:
    """Distinct pairs are numbered in order of appearance, and found again."""
    first = np.array([pair[0] for pair in pairs], np.uint64)
    second = np.array([pair[1] for pair in pairs], np.uint64)
    results = []
    for module in (group, group_reference):
        labels, rows = np.full(len(pairs), -1, np.int64), np.full(len(pairs), -1, np.int64)
        results.append((module.group(first, second, labels, rows), labels.tolist(), rows.tolist()))
    assert results[0] == results[1]
    assert results[0][0] == len(set(pairs))
    with pytest.raises(ValueError, match="length"):
        group.group(first, second, np.zeros(len(pairs) + 1, np.int64), np.zeros(len(pairs), np.int64))
