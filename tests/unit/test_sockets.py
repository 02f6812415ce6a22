"""Sockets: one port, several sockets, each agent on one of them; a port in use says by whom."""

from __future__ import annotations

import os
import socket
from collections import defaultdict

import pytest

from telemetryd.errors import InputError
from telemetryd.ingest.sflow.sockets import adopt_sockets, holders, open_sockets
from tests.datagrams import bound, header, sender, wait_for


def close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def sent_and_found(sockets: list[socket.socket], agents: list[str], each: int) -> list[dict[bytes, list[int]]]:
    """Send datagrams of agents in turn; return for each socket: the agent's part of the header -> sequence numbers."""
    found: list[dict[bytes, list[int]]] = [defaultdict(list) for _ in sockets]
    with sender(sockets[0]) as send:
        for sequence in range(each):
            for agent in agents:
                send(header(agent, sequence))

    def is_all_there() -> bool:
        for one, datagrams in zip(sockets, found, strict=True):
            try:
                while datagram := one.recv(100):
                    datagrams[datagram[4:-16]].append(int.from_bytes(datagram[-12:-8]))
            except BlockingIOError:
                continue
        return sum(len(n) for datagrams in found for n in datagrams.values()) == each * len(agents)

    wait_for(is_all_there, "every datagram")
    return found


@pytest.mark.parametrize("count", [2, 3, 4])
def test_an_agent_stays_on_one_socket(count: int) -> None:
    """Every agent's datagrams come in order on one socket, and the agents spread over all, IPv4 and IPv6."""
    agents = [f"192.0.{i >> 4}.{(i & 15) * count}" for i in range(32)] + [f"2001:db8::{i:x}:1" for i in range(16)]
    agents += [f"2001:db8:1::{i:x}" for i in range(16)]
    sockets = open_sockets("127.0.0.1", 0, count, 1 << 20)
    try:
        found = sent_and_found(sockets, agents, 3)
    finally:
        close(sockets)
    seen = [agent for datagrams in found for agent in datagrams]
    assert len(seen) == len(set(seen)) == len(agents)
    assert all(numbers == [0, 1, 2] for datagrams in found for numbers in datagrams.values())
    assert min(len(datagrams) for datagrams in found) > 0


def test_a_port_in_use_names_its_holder() -> None:
    """A second daemon on the port is refused and told who holds it, though it may share the port itself."""
    sockets = open_sockets("127.0.0.1", 0, 2, 1 << 20)
    try:
        port = sockets[0].getsockname()[1]
        for address, count in (("127.0.0.1", 1), ("127.0.0.1", 2), ("0.0.0.0", 2)):
            with pytest.raises(InputError, match=rf"{port} of {address} is held by .*pid {os.getpid()}\)"):
                open_sockets(address, port, count, 1 << 20)
        assert len(holders(port)) == 1
    finally:
        close(sockets)
    close(open_sockets("127.0.0.1", port, 1, 1 << 20))
    assert holders(port) == []


def test_an_address_of_another_host_is_a_mistake() -> None:
    """Binding to an address that this host does not have says so."""
    with pytest.raises(InputError, match=r"203\.0\.113\.3 is no address of this host"):
        open_sockets("203.0.113.3", 0, 1, 1 << 20)


def test_a_buffer_that_the_kernel_does_not_grant_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    """What the kernel does not grant is logged with the sysctl that helps; what it grants is not."""
    close(open_sockets("127.0.0.1", 0, 1, 8192))
    assert caplog.messages == []
    close(open_sockets("127.0.0.1", 0, 1, 1 << 30))  # one octet more than the kernel's own limit
    assert [message for message in caplog.messages if f"net.core.rmem_max={1 << 30}" in message]


def test_a_larger_buffer_of_an_adopted_socket_stays() -> None:
    """The buffer that the service manager gave is raised where it is too small, and never lowered."""
    with bound(receive_buffer=1) as one:
        for asked, expected in ((50_000, 100_000), (20_000, 100_000)):
            adopted = adopt_sockets([os.dup(one.fileno())], asked)
            assert adopted[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == expected
            close(adopted)


def test_adopted_sockets_are_used_as_they_are() -> None:
    """Descriptors of bound sockets are taken over with what waits in them, and steered."""
    sockets = open_sockets("127.0.0.1", 0, 2, 1 << 20)
    try:
        adopted = adopt_sockets([os.dup(one.fileno()) for one in sockets])
        found = sent_and_found(adopted, [f"192.0.2.{i}" for i in range(20)], 2)
        assert all(numbers == [0, 1] for datagrams in found for numbers in datagrams.values())
        assert all(not os.get_inheritable(one.fileno()) for one in adopted)
        close(adopted)
    finally:
        close(sockets)


def test_what_cannot_be_adopted_is_a_mistake() -> None:
    """Files, TCP sockets, unbound sockets and sockets of two ports are refused, and stay open."""
    reader, writer = os.pipe()
    os.close(writer)
    with pytest.raises(InputError, match="is no socket"):
        adopt_sockets([reader])
    os.close(reader)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp, pytest.raises(InputError, match="no UDP socket"):
        adopt_sockets([tcp.fileno()])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free, pytest.raises(InputError, match="not bound"):
        adopt_sockets([free.fileno()])
    with bound() as one, bound() as other, pytest.raises(InputError, match="different ports"):
        adopt_sockets([one.fileno(), other.fileno()])
