"""The compiled DATA splitter and its twin agree on any octets, however they are cut."""

from __future__ import annotations

from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetryd._ext import is_disabled
from telemetryd.ingest.gnmi import http2_data_reference as twin
from tests.gnmi_server import BEGIN, data, frame, message, trailers

if is_disabled():
    pytest.skip("TELEMETRYD_NO_EXT=1: there is nothing to compare", allow_module_level=True)

from telemetryd._ext import http2_data as compiled

LONGEST = 3000
#: What every splitter has room for beside a frame that is not whole.
AT_ONCE = 16_000
MESSAGE = st.integers(0, 3200).map(lambda n: message(b"m" * n)) | st.binary(max_size=12)
FRAMES = st.one_of(
    st.lists(MESSAGE, max_size=6).map(lambda messages: data(b"".join(messages)[:16384])),
    st.lists(MESSAGE, max_size=2).map(lambda messages: data(b"".join(messages), padding=3)),
    st.tuples(st.integers(0, 9), st.binary(max_size=20), st.integers(0, 2), st.integers(0, 255)).map(
        lambda of: frame(of[0], of[1], stream=of[2], flags=of[3])
    ),
    st.sampled_from([BEGIN, trailers(), frame(0, b"", stream=1, flags=1), frame(6, bytes(8)), b"\xff" * 9]),
    st.binary(max_size=30),
)


def split(module: ModuleType, octets: bytes, cuts: list[int], opened_at: int) -> list[Any]:
    """Return everything that a splitter does with octets that are received in pieces."""
    splitter, seen = module.DataSplitter(LONGEST), []
    edges = sorted({0, len(octets), *range(0, len(octets), AT_ONCE), *(cut % (len(octets) + 1) for cut in cuts)})
    for number, (start, end) in enumerate(pairwise(edges)):
        if number == opened_at:
            splitter.open(1)
        splitter.room()[: end - start] = octets[start:end]
        splitter.received(end - start)
        while True:
            step = splitter.step()
            buffer, offsets, lengths = splitter.messages()
            held = [buffer[at : at + n].tobytes() for at, n in zip(offsets.tolist(), lengths.tolist(), strict=True)]
            splitter.release()
            seen.append((int(step), held, splitter.take_flow(), splitter.has_part(), splitter.empty_frames))
            if step is module.Step.CONTROL:
                seen.append((splitter.control, splitter.control_frames))
                if splitter.control[3] == 0 and splitter.control[4] & 8:
                    seen.append(int(splitter.append(splitter.control[10:-1])))
            elif step is not module.Step.FULL:
                break
        if step not in (module.Step.WAIT, module.Step.ENDED):
            break
    return seen


@settings(deadline=None, max_examples=300)
@given(
    frames=st.lists(FRAMES, max_size=8),
    cuts=st.lists(st.integers(0, 1 << 16), max_size=8),
    opened_at=st.integers(0, 3),
)
def test_compiled_equals_twin(frames: list[bytes], cuts: list[int], opened_at: int) -> None:
    """Steps, messages, control frames and flow control are equal, wherever reads end and the stream is opened."""
    octets = b"".join(frames)
    assert split(compiled, octets, cuts, opened_at) == split(twin, octets, cuts, opened_at)


@pytest.mark.parametrize("module", [compiled, twin])
def test_more_messages_than_are_listed_at_a_time(module: ModuleType) -> None:
    """Nothing is lost where a read brings more messages than the list holds."""
    octets = b"".join(data(message(b"") * 3000) for _ in range(30))
    splitter, steps, held, flow = module.DataSplitter(LONGEST), set(), 0, 0
    splitter.open(1)
    while octets:
        room = splitter.room()
        n = min(len(room), len(octets))
        room[:n], octets = octets[:n], octets[n:]
        splitter.received(n)
        while True:
            steps.add(step := splitter.step())
            _, _, lengths = splitter.messages()
            assert not any(lengths)
            held += len(lengths)
            splitter.release()
            flow += splitter.take_flow()
            if step is module.Step.WAIT:
                break
    assert steps == {module.Step.WAIT, module.Step.FULL}
    assert (held, flow) == (90_000, 90_000 * 5)


@pytest.mark.parametrize("module", [compiled, twin])
def test_long_messages_come_whole(module: ModuleType) -> None:
    """A message of many frames, with little ones around it, is what was sent; reads are as large as they may be."""
    long = bytes(range(256)) * 12_000
    sent = [b"a", long, b"b", long[::-1], b""]
    octets = b"".join(message(one) for one in sent)
    octets = b"".join(data(octets[at : at + 16_384]) for at in range(0, len(octets), 16_384))
    splitter, held = module.DataSplitter(4 << 20), []
    splitter.open(1)
    while octets:
        room = splitter.room()
        n = min(len(room), len(octets))
        room[:n], octets = octets[:n], octets[n:]
        splitter.received(n)
        assert splitter.step() is module.Step.WAIT
        buffer, offsets, lengths = splitter.messages()
        held += [buffer[at : at + size].tobytes() for at, size in zip(offsets.tolist(), lengths.tolist(), strict=True)]
        splitter.release()
    assert held == sent
    assert not splitter.has_part()


def test_buffers_grow_with_what_comes_and_are_given_back() -> None:
    """A connection that receives little needs little memory, also after a long message: there are hundreds of them."""

    def held() -> int:
        return sum(column.base.nbytes for column in splitter.messages()) + len(splitter.room())

    splitter = compiled.DataSplitter(8 << 20)
    splitter.open(1)
    assert held() < 64 << 10
    octets = message(bytes(5 << 20))
    for at in range(0, len(octets), 16_384):
        piece = data(octets[at : at + 16_384])
        splitter.room()[: len(piece)] = piece
        splitter.received(len(piece))
        assert splitter.step() is compiled.Step.WAIT
    assert splitter.messages()[2].tolist() == [5 << 20]
    assert 5 << 20 < held() < 12 << 20
    splitter.release()
    assert held() < 64 << 10


@pytest.mark.parametrize("module", [compiled, twin])
def test_the_caller_is_checked(module: ModuleType) -> None:
    """More octets than there was room for, and messages without a limit, are refused."""
    splitter = module.DataSplitter(10)
    with pytest.raises(ValueError, match="room"):
        splitter.received(len(splitter.room()) + 1)
    with pytest.raises(ValueError, match="room"):
        splitter.received(-1)
    if module is compiled:
        with pytest.raises(ValueError, match="message"):
            module.DataSplitter(1 << 31)
