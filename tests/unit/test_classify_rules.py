"""Application rules: the order of specificity and the flattening to intervals."""

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from telemetryd.classify.rules import PORT_PROTOCOLS, Rule, flatten

TCP, UDP = 6, 17


def ask(rules: tuple[Rule, ...], protocol: int, port: int) -> int:
    intervals = flatten(rules)
    index = bisect_right([first for first, _, _ in intervals], protocol << 16 | port) - 1
    return intervals[index][1] if index >= 0 else 0


def test_the_longer_prefix_comes_before_everything_else() -> None:
    """A rule of a longer prefix wins over one with a named protocol and a single port."""
    rules = (Rule(24, TCP, (443, 443), 1), Rule(32, None, None, 2))
    assert ask(rules, TCP, 443) == 2


def test_a_named_protocol_comes_before_any() -> None:
    """Within a prefix, a named protocol wins over any protocol, whatever the ports."""
    rules = (Rule(32, None, (443, 443), 1), Rule(32, TCP, (1, 65535), 2))
    assert ask(rules, TCP, 443) == 2
    assert ask(rules, UDP, 443) == 1


def test_the_narrower_port_range_wins() -> None:
    """Within a prefix and protocol the narrower port range wins; outside it the wider one holds."""
    rules = (Rule(32, UDP, (16384, 32767), 1), Rule(32, UDP, (30000, 30500), 2))
    assert [ask(rules, UDP, port) for port in (16383, 16384, 29999, 30000, 30500, 30501)] == [
        0,
        1,
        1,
        2,
        2,
        1,
    ]


def test_a_shared_service_comes_before_the_applications_it_stands_for() -> None:
    """At equal specificity a declared shared service wins, in whatever order the rules come."""
    rules = (
        Rule(32, TCP, (443, 443), 1),
        Rule(32, TCP, (443, 443), 3, shared=True),
        Rule(32, TCP, (443, 443), 2),
    )
    assert ask(rules, TCP, 443) == 3


def test_ports_of_any_protocol_mean_protocols_that_have_ports() -> None:
    """A port without a protocol matches TCP, UDP, SCTP, DCCP and UDP-Lite only."""
    protocols = (1, 6, 17, 33, 58, 132, 136)
    found = [protocol for protocol in protocols if ask((Rule(32, None, (53, 53), 1),), protocol, 53)]
    assert found == [6, 17, 33, 132, 136]


RULES = st.builds(
    Rule,
    prefix_length=st.sampled_from([16, 24, 32]),
    protocol=st.sampled_from([None, TCP, UDP, 1]),
    ports=st.none() | st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(lambda p: (min(p), max(p))),
    application=st.integers(1, 9),
    shared=st.booleans(),
)


@given(
    rules=st.lists(RULES, max_size=6).map(tuple),
    protocol=st.sampled_from([1, 6, 17, 50, 255]),
    port=st.integers(0, 65535),
)
def test_intervals_equal_a_linear_search(rules: tuple[Rule, ...], protocol: int, port: int) -> None:
    """For any rules, the interval that holds a key names the application of its highest-ranked rule."""
    matching = [
        (rule.rank, -rule.application)
        for rule in rules
        if rule.protocol in (None, protocol)
        and (
            rule.ports is None
            or (rule.ports[0] <= port <= rule.ports[1] and (rule.protocol is not None or protocol in PORT_PROTOCOLS))
        )
    ]
    assert ask(rules, protocol, port) == -max(matching, default=(0, 0))[1]
