"""The compiled rendering of lines and its Python twin give the same octets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from telemetryd._ext import is_disabled
from telemetryd.store import line_protocol as twin
from telemetryd.store import series_keys as twin_keys
from telemetryd.store.series_names import tag_texts

if is_disabled():
    pytest.skip("TELEMETRYD_NO_EXT=1: there is nothing to compare", allow_module_level=True)

from telemetryd._ext import line_protocol as compiled
from telemetryd._ext import series_keys as compiled_keys

INTEGERS = st.integers(-(2**63), 2**63 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(FINITE)
@example(5e-324)
@example(2.2250738585072014e-308)
@example(2.225073858507201e-308)
@example(1.7976931348623157e308)
@example(-0.0)
@example(9007199254740993.0)
@example(1e16)
@example(0.0001)
@example(0.00001)
@example(9.5367431640625e-07)
def test_a_float_is_the_shortest_text_that_reads_back(value: float) -> None:
    """The text is Python's repr() but for ".0", and reads back to the same number."""
    text = compiled.number(value)
    assert text == twin.number(value)
    assert float(text) == value


def test_floats_at_every_power_of_two_and_ten() -> None:
    """The neighbours of every power of two (where the interval that rounds to a number is uneven) and ten."""
    powers = [2.0**e for e in range(-1074, 1024)] + [float(f"1e{e}") for e in range(-323, 309)]
    for power in powers:
        for value in (math.nextafter(power, 0), power, math.nextafter(power, math.inf)):
            assert compiled.number(value) == twin.number(value)


def test_floats_of_any_bits() -> None:
    """300,000 numbers of random bits, and as many of the magnitudes that octets have."""
    random = np.random.default_rng()
    bits = random.integers(0, 2**64, 300_000, dtype=np.uint64).view(np.float64)
    usual = random.random(300_000) * 10.0 ** random.integers(-3, 18, 300_000)
    for values in (bits[np.isfinite(bits)], usual):
        text = compiled.render(b"m", [], [(b"v=", values)], np.zeros(len(values), np.int64))
        expected = b"".join(b"m v=%s 0\n" % twin.number(value) for value in values.tolist())
        assert text == expected


@settings(deadline=None)
@given(INTEGERS)
def test_an_integer_has_its_mark(value: int) -> None:
    """Every int64 is written with the mark that makes it one."""
    assert compiled.number(value) == twin.number(value) == b"%di" % value


@st.composite
def batches(draw: st.DrawFn) -> tuple[bytes, list[Any], list[Any], Any]:
    n = draw(st.integers(0, 20))
    tags = []
    for name in draw(st.lists(st.text(max_size=5), max_size=4)):
        names = draw(st.lists(st.text(max_size=8), min_size=1, max_size=4))
        codes = draw(st.lists(st.integers(0, len(names) - 1), min_size=n, max_size=n))
        tags.append((*tag_texts(name, names), np.array(codes, np.int64)))
    fields = []
    for key in draw(st.lists(st.binary(max_size=6), max_size=4)):
        kind = draw(st.sampled_from((np.float64, np.int64)))
        values = draw(st.lists(st.floats() if kind is np.float64 else INTEGERS, min_size=n, max_size=n))
        fields.append((key + b"=", np.array(values, kind)))
    times = np.array(draw(st.lists(INTEGERS | st.just(7), min_size=n, max_size=n)), np.int64)
    return draw(st.binary(max_size=8)), tags, fields, times


@settings(deadline=None)
@given(batches())
def test_compiled_equals_twin(batch: tuple[bytes, list[Any], list[Any], Any]) -> None:
    """Any tags, fields and times: the octets are equal, values that are not finite and rows without any left out."""
    assert compiled.render(*batch) == twin.render(*batch)


@pytest.mark.parametrize("module", [compiled, twin], ids=["compiled", "twin"])
def test_what_does_not_fit_is_refused(module: Any) -> None:
    """Lengths, codes, places and types are checked before anything is read."""
    texts, places = tag_texts("tag", ["a", "b"])
    times = np.zeros(2, np.int64)
    values = [(b"v=", np.ones(2))]
    codes = np.array([0, 1], np.int64)
    assert module.render(b"m", [(texts, places, codes)], values, times) == b"m,tag=a v=1 0\nm,tag=b v=1 0\n"
    for tag in (
        (texts, places, codes[:1]),
        (texts, places, np.array([0, 2])),
        (texts, places, np.array([-1, 0])),
        (texts, places + 1, codes),
        (texts[:-1], places, codes),
        (texts, places[[0, 2, 1]], codes),
        (texts, places[:0], codes),
    ):
        with pytest.raises(ValueError):
            module.render(b"m", [tag], values, times)
    for wrong in (np.ones(3), np.ones(2, np.float32), np.ones(2, np.uint64)):
        with pytest.raises(ValueError):
            module.render(b"m", [], [(b"v=", wrong)], times)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=40), max_size=12), st.integers(0, 63)
)
def test_known_keys_are_those_that_were_added(rounds: list[list[tuple[int, int]]], shift: int) -> None:
    """Both sets know the same pairs after any additions."""
    sets = [compiled_keys.SeriesKeys(), twin_keys.SeriesKeys()]
    for number, pairs in enumerate(rounds):
        words = np.array(pairs, np.uint64).reshape(-1, 2) << np.uint64(shift)
        first, second = np.ascontiguousarray(words[:, 0]), np.ascontiguousarray(words[:, 1])
        known = [np.full(len(pairs), 7, np.uint8) for _ in sets]
        unknown = [one.look(first, second, found) for one, found in zip(sets, known, strict=True)]
        assert unknown[0] == unknown[1] == np.count_nonzero(known[0] == 0)
        np.testing.assert_array_equal(*known)
        if number % 2:
            for one in sets:
                one.add(first, second)
        assert len(sets[0]) == len(sets[1])


def test_the_set_grows() -> None:
    """200,000 keys are all found again, and no other is."""
    keys = compiled_keys.SeriesKeys()
    first = np.random.default_rng(3).integers(0, 2**64, 200_000, dtype=np.uint64)
    second = np.arange(200_000, dtype=np.uint64)
    for begin in range(0, 200_000, 777):
        keys.add(first[begin : begin + 777], second[begin : begin + 777])
    found = np.empty(200_000, np.uint8)
    assert len(keys) == 200_000
    assert keys.look(first, second, found) == 0
    assert keys.look(first, second + np.uint64(1), found) == 200_000
