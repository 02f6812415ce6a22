"""Receiving: everything is counted as exactly one thing, by both implementations."""

from __future__ import annotations

import importlib
import socket
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from telemetryd._ext import is_disabled
from telemetryd.ingest.sflow import receive as twin
from telemetryd.ingest.sflow.receive import KEEP_ALL, MOST_AGENTS, MOST_REFUSED, address_words
from tests.datagrams import bound, header, sender, wait_for

IMPLEMENTATIONS = ["telemetryd.ingest.sflow.receive"] + ([] if is_disabled() else ["telemetryd._ext.receive"])
ONE_WAY = ("processed", "shed", "capped", "refused", "short")


@pytest.fixture(params=IMPLEMENTATIONS)
def module(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def received(receiver: Any, count: int) -> list[bytes]:
    """Receive until ``count`` datagrams were received or dropped by the kernel; return those handed on."""
    datagrams: list[bytes] = []
    processed_before = receiver.stats()["processed"]

    def is_done() -> bool:
        n = receiver.receive(1_000_000)
        for offset, length in zip(receiver.offsets[:n].tolist(), receiver.lengths[:n].tolist(), strict=True):
            datagrams.append(receiver.buffer[offset : offset + length].tobytes())
        stats = receiver.stats()
        return bool(stats["received"] + stats["kernel_drops"] >= count)

    wait_for(is_done, "the datagrams")
    stats = receiver.stats()
    assert stats["received"] + stats["kernel_drops"] == count
    assert stats["received"] == sum(stats[name] for name in ONE_WAY)
    assert len(datagrams) == stats["processed"] - processed_before
    agents = receiver.agents()
    assert int(agents["datagrams"].sum()) == stats["received"] - stats["refused"] - stats["short"]
    for name in ("processed", "shed", "capped"):
        assert int(agents[name].sum()) == stats[name]
    return datagrams


def by_agent(receiver: Any, column: str) -> dict[tuple[int, int, int], int]:
    agents = receiver.agents()
    words = zip(*(agents[name].tolist() for name in ("agent_version", "agent_hi", "agent_lo")), strict=True)
    return dict(zip(words, agents[column].tolist(), strict=True))


def test_datagrams_arrive_whole_and_in_order(module: ModuleType) -> None:
    """Over several batches every datagram is handed on as it was sent, in order, and counted by agent."""
    sent = [header(f"192.0.2.{i % 3}", i, padding=i % 40) for i in range(50)] + [header("2001:db8::7", 50)]
    with bound() as one, sender(one) as send:
        receiver = module.Receiver(one.fileno(), 16, 2048)
        for datagram in sent:
            send(datagram)
        assert received(receiver, len(sent)) == sent
        stats = receiver.stats()
        assert stats["octets"] == sum(map(len, sent))
        assert stats["wakes"] >= 4
        counts = by_agent(receiver, "datagrams")
        assert counts[address_words("192.0.2.0")] == 17
        assert counts[address_words("2001:db8::7")] == 1
        assert receiver.refused() == []


def test_an_empty_socket_returns_at_once_or_after_the_wait(module: ModuleType) -> None:
    """Without datagrams 0 is returned, with a wait and without."""
    with bound() as one:
        receiver = module.Receiver(one.fileno(), 4, 2048)
        assert receiver.receive(0) == 0
        assert receiver.receive(1000) == 0
        assert not receiver.is_behind
        assert receiver.stats()["wakes"] == 0


def test_only_allowed_senders_are_taken(module: ModuleType) -> None:
    """A sender that is not listed is refused, counted and named, until the list changes."""
    with bound() as one, sender(one, "127.0.0.1") as first, sender(one, "127.0.9.2") as second:
        receiver = module.Receiver(one.fileno(), 16, 2048)
        receiver.allow([address_words("127.0.0.1"), address_words("2001:db8::1")])
        for send in (first, second, second):
            send(header())
        received(receiver, 3)
        assert receiver.refused() == [(*address_words("127.0.9.2"), 2)]
        receiver.allow([address_words("127.0.9.2")])
        for send in (first, second):
            send(header())
        assert len(received(receiver, 5)) == 1
        assert receiver.stats()["refused"] == 3


def test_refused_senders_are_named(module: ModuleType) -> None:
    """The senders that were refused are listed with their counts; beyond the room for them they are "other"."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        one.bind(("0.0.0.0", 0))
        receiver = module.Receiver(one.fileno(), 16, 2048)
        receiver.allow([address_words("127.0.0.1")], [(4, 0, 0xFFFFFF00, 0, 0x7F000100)])
        sources = ["127.0.0.1", "127.0.1.5"] + [f"127.0.2.{i}" for i in range(1, MOST_REFUSED + 4)]
        for source in sources:
            with sender(one, source) as send:
                send(header())
        received(receiver, len(sources))
        stats = receiver.stats()
        assert (stats["processed"], stats["refused"]) == (2, MOST_REFUSED + 3)
        refused = {entry[:3]: entry[3] for entry in receiver.refused()}
        assert refused.pop((0, 0, 0)) == 3
        assert refused == {address_words(source): 1 for source in sources[2 : 2 + MOST_REFUSED]}


def test_a_mapped_address_is_the_ipv4_address(module: ModuleType) -> None:
    """On a socket of both families an IPv4 sender is allowed by its IPv4 address, and an IPv6 one by its own."""
    try:
        with bound("::") as one, sender(one, "127.0.0.1") as four, sender(one, "::1") as six:
            receiver = module.Receiver(one.fileno(), 16, 2048)
            receiver.allow([address_words("127.0.0.1")])
            four(header("192.0.2.4"))
            six(header("192.0.2.6"))
            received(receiver, 2)
            assert by_agent(receiver, "processed") == {(0, 0, 0): 0, address_words("192.0.2.4"): 1}
            assert receiver.refused() == [(*address_words("::1"), 1)]
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


def test_short_and_truncated_datagrams_are_counted(module: ModuleType) -> None:
    """What cannot hold a header is short; what is longer than the slot is cut, counted, and handed on."""
    with bound() as one, sender(one) as send:
        receiver = module.Receiver(one.fileno(), 16, 64)
        for datagram in (b"", b"\0" * 23, b"\0" * 24, header(padding=36), header(padding=37)):
            send(datagram)
        datagrams = received(receiver, 5)
        stats = receiver.stats()
        assert (stats["short"], stats["truncated"], stats["processed"]) == (2, 1, 3)
        assert [len(datagram) for datagram in datagrams] == [24, 64, 64]


def test_what_names_no_agent_is_one_agent(module: ModuleType) -> None:
    """Other versions, unknown address types, and agents beyond the table count as agent "other"."""
    with bound() as one, sender(one) as send:
        receiver = module.Receiver(one.fileno(), 64, 2048)
        send(b"\0\0\0\x09" + bytes(40))
        send(b"\0\0\0\x05\0\0\0\x03" + bytes(40))
        received(receiver, 2)
        assert by_agent(receiver, "processed") == {(0, 0, 0): 2}
        sent = 2
        for first in range(0, MOST_AGENTS + 8, 64):
            for number in range(first, first + 64):
                send(header(f"10.0.{number >> 8}.{number & 255}"))
            sent += 64
            wait_for(lambda n=sent: (receiver.receive(1_000_000), receiver.stats()["received"])[1] == n, "the agents")
        counts = by_agent(receiver, "processed")
        assert len(counts) == MOST_AGENTS
        assert counts[(0, 0, 0)] == sent - (MOST_AGENTS - 1)


def test_an_agent_is_capped_and_the_others_are_not(module: ModuleType) -> None:
    """An agent sends its burst and no more until its bucket fills again; others are untouched."""
    with bound() as one, sender(one) as send:
        receiver = module.Receiver(one.fileno(), 64, 2048)
        receiver.cap(1e-6, 10)
        for i in range(40):
            send(header("192.0.2.1", i))
            if i % 8 == 0:
                send(header("192.0.2.2", i))
        datagrams = received(receiver, 45)
        assert by_agent(receiver, "processed") == {
            (0, 0, 0): 0,
            address_words("192.0.2.1"): 10,
            address_words("192.0.2.2"): 5,
        }
        assert receiver.stats()["capped"] == 30
        assert [d for d in datagrams if d[11] == 1] == [header("192.0.2.1", i) for i in range(10)]


def test_a_bucket_fills_with_time(module: ModuleType) -> None:
    """An agent whose burst is used up is taken again after a while."""
    with bound() as one, sender(one) as send:
        receiver = module.Receiver(one.fileno(), 64, 2048)
        receiver.cap(200.0, 1)

        def is_taken() -> bool:
            send(header())
            receiver.receive(1_000_000)
            return bool(receiver.stats()["processed"] >= 5)

        wait_for(is_taken, "the bucket to fill")
        stats = receiver.stats()
        assert stats["received"] == stats["processed"] + stats["capped"]


@pytest.mark.parametrize("share", [0.5, 0.25, 1 / 64, 0.9, 1.0, 0.0])
def test_shedding_is_even_over_the_agents(module: ModuleType, share: float) -> None:
    """Of n datagrams of an agent, the share times n is kept, within one, however rare the agent is."""
    sizes = {"192.0.2.1": 120, "192.0.2.2": 40, "192.0.2.3": 7, "2001:db8::1": 33}
    with bound() as one, sender(one) as send:
        receiver = module.Receiver(one.fileno(), 64, 2048, seed=5)
        receiver.keep(round(share * KEEP_ALL))
        order = np.random.default_rng(1).permutation([agent for agent, n in sizes.items() for _ in range(n)])
        for i, agent in enumerate(order.tolist()):
            send(header(agent, i))
        received(receiver, len(order))
        kept = by_agent(receiver, "processed")
        for agent, n in sizes.items():
            assert abs(kept[address_words(agent)] - share * n) <= 1


def test_shedding_stays_even_when_the_share_changes(module: ModuleType) -> None:
    """Over changing shares the kept datagrams are within one of the sum of the shares, per agent."""
    with bound() as one, sender(one) as send:
        receiver = module.Receiver(one.fileno(), 8, 2048, seed=2)
        expected: Counter[str] = Counter()
        sent = 0
        for step in range(60):
            parts = (step * 7919) % KEEP_ALL
            receiver.keep(parts)
            for agent in ("192.0.2.1", "192.0.2.2") if step % 3 else ("192.0.2.1",):
                send(header(agent, step))
                expected[agent] += parts
                sent += 1
            wait_for(lambda n=sent: (receiver.receive(1_000_000), receiver.stats()["received"])[1] == n, "a datagram")
        kept = by_agent(receiver, "processed")
        for agent, parts in expected.items():
            assert abs(kept[address_words(agent)] - parts / KEEP_ALL) <= 1


def test_shedding_follows_no_pattern(module: ModuleType) -> None:
    """An agent that alternates between two kinds of datagrams keeps both kinds alike."""
    with bound() as one, sender(one) as send:
        receiver = module.Receiver(one.fileno(), 64, 2048, seed=3)
        receiver.keep(KEEP_ALL // 2)
        for i in range(200):
            send(header(sequence=i))
        kept = received(receiver, 200)
        odd = sum(datagram[19] & 1 for datagram in kept)
        assert 30 <= odd <= 70
        assert len(kept) in (99, 100, 101)


def test_kernel_drops_are_counted(module: ModuleType) -> None:
    """What does not fit into the socket's buffer is counted to the datagram, drops of a former owner apart."""
    with bound(receive_buffer=1) as one, sender(one) as send:
        for i in range(100):
            send(header(sequence=i))
        before = module.Receiver(one.fileno(), 256, 2048)
        received_before = before.receive(1_000_000)
        assert before.stats()["inherited_drops"] == 100 - received_before > 0
        assert before.stats()["kernel_drops"] == 0
        for i in range(100):
            send(header(sequence=i))
        received(before, 100 + received_before)
        assert before.stats()["kernel_drops"] > 0


def test_a_full_batch_says_that_more_may_wait(module: ModuleType) -> None:
    """After a full batch the receiver is behind, and the backlog it found is a share of the buffer."""
    with bound() as one, sender(one) as send:
        receiver = module.Receiver(one.fileno(), 4, 2048)
        for i in range(6):
            send(header(sequence=i))
        assert (receiver.receive(1_000_000_000), receiver.is_behind) == (4, True)
        assert 0 < receiver.fill < 1
        assert (receiver.receive(1_000_000_000), receiver.is_behind) == (2, False)


def test_a_descriptor_that_is_no_socket_is_an_error(module: ModuleType) -> None:
    """What is no socket is refused when the receiver is made, and a receiver without room too."""
    with Path("/dev/null").open() as null, bound() as one:
        with pytest.raises(OSError, match=r"\d"):
            module.Receiver(null.fileno(), 4, 2048)
        with pytest.raises(ValueError, match="room"):
            module.Receiver(one.fileno(), 0, 2048)


@pytest.mark.skipif(is_disabled(), reason="there is only one implementation to compare")
def test_both_implementations_keep_the_same() -> None:
    """The compiled receiver and its twin agree, datagram by datagram, under shedding and caps."""
    compiled = importlib.import_module("telemetryd._ext.receive")
    random = np.random.default_rng(11)
    sent = [
        header(f"192.0.2.{random.integers(5)}", i, int(random.integers(30)))
        if random.random() > 0.1
        else random.bytes(int(random.integers(40)))
        for i in range(200)
    ]
    results = []
    for module in (compiled, twin):
        with bound() as one, sender(one) as send:
            receiver = module.Receiver(one.fileno(), 32, 48, seed=99)
            receiver.cap(1e-9, 30)
            receiver.keep(KEEP_ALL * 2 // 3)
            for datagram in sent:
                send(datagram)
            kept = received(receiver, len(sent))
            stats = {name: receiver.stats()[name] for name in (*ONE_WAY, "received", "octets", "truncated")}
            results.append((kept, stats, {name: column.tolist() for name, column in receiver.agents().items()}))
    assert results[0] == results[1]
