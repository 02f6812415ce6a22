"""What can be set of the live engine, and the list of senders that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Network, ip_network
from typing import Final

from telemetryd.classify.tables import Tables
from telemetryd.errors import InputError
from telemetryd.ingest.sflow.receive import Address, Prefix, address_words

_WORD64: Final = 0xFFFF_FFFF_FFFF_FFFF
_IPV4_MASK: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """Settings of :class:`telemetryd.live.LiveEngine`.

    Attributes
    ----------
    registered_only:
        Whether datagrams are taken from the registry's agents (and ``also_from``) only; else from anybody.
    also_from:
        Addresses or networks that are taken besides: a relay, or agents that send from another address.
    agent_datagrams_per_s:
        What one agent may send; above it datagrams are dropped and counted. 0 is no limit.
    batch_datagrams:
        Datagrams that are received and decoded at a time, per socket.
    max_octets:
        Longest datagram that is taken whole: a jumbo frame's by default.
    linger_ns:
        How long datagrams are let accumulate before they are received, at most.
    decapsulate:
        Classify the inner packet of a tunnel where there is one.
    """

    registered_only: bool = True
    also_from: tuple[str, ...] = ()
    agent_datagrams_per_s: int = 20_000
    batch_datagrams: int = 256
    max_octets: int = 9216
    linger_ns: int = 100_000_000
    decapsulate: bool = False


def allowed_sources(settings: LiveSettings, tables: Tables) -> tuple[list[Address], list[Prefix]]:
    """Return the addresses and prefixes that datagrams are taken from; none at all means anybody.

    Raises
    ------
    InputError
        If ``also_from`` holds something that is neither an address nor a network.
    """
    if not settings.registered_only:
        return [], []
    known = tables.agent_keys[tables.agent_devices > 0].tolist()
    addresses: list[Address] = [(version, hi, lo) for version, hi, lo in known]
    prefixes = []
    for text in settings.also_from:
        try:
            network = ip_network(text)
        except ValueError as error:
            raise InputError(f"also_from: {text!r} is neither an address nor a network: {error}") from error
        if network.num_addresses == 1:
            addresses.append(address_words(str(network.network_address)))
        else:
            mask, prefix = int(network.netmask), int(network.network_address)
            if isinstance(network, IPv6Network):
                prefixes.append((6, mask >> 64, mask & _WORD64, prefix >> 64, prefix & _WORD64))
            else:
                prefixes.append((4, 0, mask & _IPV4_MASK, 0, prefix))
    # A registry without agents allows nobody, not everybody.
    return addresses or [(0, 0, 0)], prefixes
