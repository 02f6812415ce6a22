"""The prefix trie: longest-prefix match against a linear search."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.classify.trie import TrieBuilder, lookup

Network = IPv4Network | IPv6Network


def build(prefixes: list[str]) -> tuple[TrieBuilder, int]:
    builder = TrieBuilder()
    networks = [ip_network(prefix) for prefix in prefixes]
    root = builder.add(
        (network.network_address.packed, network.prefixlen, leaf) for leaf, network in enumerate(networks, start=1)
    )
    return builder, root


@pytest.mark.parametrize(
    ("address", "leaf"),
    [
        ("10.0.0.0", 2),
        ("10.255.255.255", 2),
        ("10.1.2.3", 4),
        ("10.1.2.4", 3),
        ("11.0.0.1", 1),
    ],
)
def test_the_longest_prefix_wins(address: str, leaf: int) -> None:
    """Of the prefixes that cover an address the longest one's leaf is found, in any order of insertion."""
    builder, root = build(["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32"])
    assert lookup(builder.nodes(), root, ip_address(address).packed) == leaf


def test_nothing_registered_is_leaf_zero() -> None:
    """An address that no prefix covers has leaf 0."""
    builder, root = build(["10.0.0.0/8"])
    assert lookup(builder.nodes(), root, ip_address("11.0.0.1").packed) == 0
    empty = builder.add(())
    assert lookup(builder.nodes(), empty, ip_address("10.0.0.1").packed) == 0


def prefixes(version: int) -> st.SearchStrategy[Network]:
    bits = 32 if version == 4 else 128
    factory = IPv4Network if version == 4 else IPv6Network
    # Few distinct high octets, so that prefixes nest and collide.
    number = st.integers(0, 3).flatmap(
        lambda top: st.integers(0, (1 << (bits - 8)) - 1).map(lambda low: top << (bits - 8) | low)
    )
    return st.builds(
        lambda value, length: factory((value >> (bits - length) << (bits - length), length)),
        number,
        st.integers(0, bits),
    )


@pytest.mark.parametrize("version", [4, 6])
@given(data=st.data())
def test_lookup_equals_a_linear_search(version: int, data: st.DataObject) -> None:
    """For any set of prefixes and any address near them, the trie answers as a linear search does."""
    networks = data.draw(st.lists(prefixes(version), max_size=12, unique=True))
    builder, root = build([str(network) for network in networks])
    nodes = builder.nodes()
    bits = 32 if version == 4 else 128
    probes = [int(n.network_address) + offset for n in networks for offset in (-1, 0, n.num_addresses - 1)]
    probes.append(data.draw(st.integers(0, (1 << bits) - 1)))
    for value in probes:
        value %= 1 << bits
        address = ip_address(value.to_bytes(bits // 8, "big"))
        covering = [(n.prefixlen, leaf) for leaf, n in enumerate(networks, start=1) if address in n]
        assert lookup(nodes, root, address.packed) == max(covering, default=(0, 0))[1]


@given(data=st.data())
def test_a_trie_over_another_answers_as_both_in_turn(data: st.DataObject) -> None:
    """Its own longest prefix wins even over a longer one of the other trie, which answers for the rest unchanged."""
    own, other = (data.draw(st.lists(prefixes(4), max_size=12, unique=True)) for _ in range(2))
    builder = TrieBuilder()
    below = builder.add(
        (network.network_address.packed, network.prefixlen, leaf) for leaf, network in enumerate(other, start=1)
    )
    before = builder.nodes()
    root = builder.add(
        ((network.network_address.packed, network.prefixlen, leaf) for leaf, network in enumerate(own, start=101)),
        below,
    )
    nodes = builder.nodes()
    assert (nodes[: len(before)] == before).all()
    probes = [int(n.network_address) + offset for n in (*own, *other) for offset in (-1, 0, n.num_addresses - 1)]
    for value in (*probes, data.draw(st.integers(0, (1 << 32) - 1))):
        address = ip_address((value % (1 << 32)).to_bytes(4, "big"))
        covering = [(n.prefixlen, leaf) for leaf, n in enumerate(own, start=101) if address in n]
        covering = covering or [(n.prefixlen, leaf) for leaf, n in enumerate(other, start=1) if address in n]
        assert lookup(nodes, root, address.packed) == max(covering, default=(0, 0))[1]
