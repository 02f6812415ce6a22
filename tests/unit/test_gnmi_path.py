"""gNMI paths as texts, their numbers, and what is known of their leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.errors import InputError
from telemetryd.ingest.gnmi.leaves import Hint
from telemetryd.ingest.gnmi.path import Elem, Path, elems_of, parse, to_proto
from telemetryd.ingest.gnmi.paths import UNASKED, Known, PathTable, Refusal, Resolver
from telemetryd.proto import gnmi_pb2

NAME = st.text("abc-.:_*é", min_size=1, max_size=5)
KEY = st.text("abc-", min_size=1, max_size=4)
ELEM = st.builds(
    lambda name, keys: Elem(name, tuple(sorted(keys.items()))),
    NAME,
    st.dictionaries(KEY, st.text(max_size=5), max_size=3),
)
PATH = st.builds(
    lambda elems, origin: Path(tuple(elems), origin), st.lists(ELEM, max_size=4), st.sampled_from(["", "cli"])
)


@given(path=PATH)
def test_text_and_back(path: Path) -> None:
    """A path is the same after it was written and read, whatever its keys hold."""
    assert parse(str(path)) == path


@given(path=PATH)
def test_message_and_back(path: Path) -> None:
    """A path is the same as a message, except for the module names, which go."""
    message = to_proto(path)
    assert message.origin == path.origin
    bare = tuple(Elem(elem.name.rpartition(":")[2], elem.keys) for elem in path.elems)
    if all(elem.name for elem in bare):
        assert tuple(elems_of(message)) == bare


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", "/"),
        ("interfaces/interface[name=Ethernet1/1]/", "/interfaces/interface[name=Ethernet1/1]"),
        ("/a[z=1][b=2]", "/a[b=2][z=1]"),
        ("openconfig:/a", "/a"),
        ("cli:/show version", "cli:/show version"),
        (r"/a[k=x\]y\\]", r"/a[k=x\]y\\]"),
        ("openconfig-interfaces:interfaces/interface", "/openconfig-interfaces:interfaces/interface"),
        ("/a/.../b[k=*]", "/a/.../b[k=*]"),
    ],
)
def test_spellings(text: str, canonical: str) -> None:
    """What people write is read, and written one way."""
    assert str(parse(text)) == canonical


@pytest.mark.parametrize("text", ["/a[", "/a[k]", "/a[k=v", "/a]", "//a", "/a[k=v]b", "/a[=v]"])
def test_no_paths(text: str) -> None:
    """What is no path is refused with the place."""
    with pytest.raises(InputError, match="path"):
        parse(text)


def test_deprecated_elements_are_read() -> None:
    """Paths of texts, as targets sent them before gNMI 0.4, give the same elements."""
    message = gnmi_pb2.Path(element=["interfaces", "interface[name=a/b]", "state"])
    assert tuple(elems_of(message)) == parse("/interfaces/interface[name=a/b]/state").elems


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("/", "/a/b", True),
        ("/a", "/a/b", True),
        ("/a/b", "/a", False),
        ("/a/b[k=1]", "/a/b[k=1]/c", True),
        ("/a/b[k=1]", "/a/b[k=2]", False),
        ("/a/b[k=*]", "/a/b[k=2]", True),
        ("/a/b", "/a/b[k=2]", True),
        ("/a/*/c", "/a/b/c", True),
        ("/a/.../d", "/a/b/c/d/e", True),
        ("/a/.../d", "/a/b/c", False),
        ("cli:/a", "/a", False),
    ],
)
def test_what_a_subscription_covers(pattern: str, path: str, covered: bool) -> None:
    """Wildcards and left-out keys stand for any, and everything below is covered."""
    assert parse(pattern).covers(parse(path)) is covered


def octets(path: str, target: str = "") -> bytes:
    return bytes(to_proto(parse(path), target).SerializeToString())


def test_spellings_of_a_path_have_one_number() -> None:
    """Prefix or not, module names or not, for any target: a node has one number in the one table."""
    paths = PathTable()
    one, other = Resolver(paths), Resolver(paths)
    first = one.wire(b"", octets("/interfaces/interface[name=e]/state"))
    assert first.path == 1
    assert other.wire(octets("openconfig:/interfaces"), octets("/interface[name=e]/oc-if:state")).path == 1
    assert one.child(one.wire(b"", octets("/interfaces/interface[name=e]")).path, "x:state").path == 1
    assert paths.text(1) == "/interfaces/interface[name=e]/state"
    assert str(paths.place(2).path) == "/interfaces/interface[name=e]"


def test_another_target_behind_the_same_address_is_told_apart() -> None:
    """A prefix that names a target which was not asked for is part of the path; the one that was asked for is not."""
    resolver = Resolver(PathTable(), asked_target="sw1")
    plain = resolver.wire(b"", octets("/a")).path
    assert resolver.wire(octets("/", "sw1"), octets("/a")).path == plain
    foreign = resolver.wire(octets("/", "sw2"), octets("/a")).path
    assert foreign != plain
    assert resolver.paths.text(foreign) == "sw2 /a"


def test_subscriptions_are_found() -> None:
    """The most specific subscription that covers a path is its one; a path that nobody asked for has none."""
    resolver = Resolver(PathTable(), [parse("/a"), parse("/a/b[k=*]"), parse("/oc:c")])
    known = [resolver.wire(b"", octets(path)).subscription for path in ("/a/x", "/a/b[k=1]/c", "/c", "/d")]
    assert known == [0, 1, 2, UNASKED]


def test_refusals_have_reasons() -> None:
    """Each path that has no number says why."""
    resolver = Resolver(PathTable(), most_paths=1)
    top = resolver.wire(b"", octets("/a"))
    assert top == Known(1, Hint.NONE, UNASKED)
    assert resolver.wire(b"", octets("/b")) == (0, Refusal.PATH_OVERFLOW, UNASKED)
    assert resolver.wire(b"", b"\xff") == (0, Refusal.MALFORMED, UNASKED)
    assert resolver.wire(b"", octets("/" + "a" * 5000)) == (0, Refusal.PATH_TOO_LONG, UNASKED)
    assert resolver.wire(b"", gnmi_pb2.Path(elem=[gnmi_pb2.PathElem()]).SerializeToString()).hint == Refusal.BAD_PATH
    assert resolver.wire(b"", gnmi_pb2.Path(element=["a[b"]).SerializeToString()).hint == Refusal.BAD_PATH
    assert resolver.child(1, "@a") == (0, Refusal.ANNOTATION, UNASKED)
    assert resolver.child(1, "a/b").hint == Refusal.BAD_PATH
    assert len(resolver.paths) == 1


def test_values_that_repeat_their_node() -> None:
    """For a target that does so, a member with the name of the node that it is in is that node."""
    for is_wrapped, expected in ((True, "/a/counters"), (False, "/a/counters/counters")):
        resolver = Resolver(PathTable(), is_wrapped=is_wrapped)
        above = resolver.wire(b"", octets("/a/counters")).path
        assert resolver.paths.text(resolver.child(above, "oc:counters").path) == expected


def test_entries_of_lists_are_found_by_their_keys() -> None:
    """Known lists have the keys of their model, others a likely one, and else their position; given keys stay."""
    resolver = Resolver(PathTable())

    def entry(path: str, position: int, **members: str) -> str:
        above = resolver.wire(b"", octets(path)).path
        named = {name.replace("_", "-"): member for name, member in members.items()}
        return resolver.paths.text(resolver.entry(above, position, named).path)

    assert entry("/p/protocol", 0, name="x", identifier="BGP") == "/p/protocol[identifier=BGP][name=x]"
    assert entry("/interfaces/interface", 3, name="e0", id="7") == "/interfaces/interface[name=e0]"
    assert entry("/s/subinterface", 0, index="0", name="x") == "/s/subinterface[index=0]"
    assert entry("/some/list", 4, value="1") == "/some/list[position=4]"
    assert entry("/i/interface[name=e1]", 0, name="e1") == "/i/interface[name=e1]"
    assert resolver.entry(resolver.wire(b"", octets("/")).path, 0, {}).hint == Refusal.BAD_PATH
