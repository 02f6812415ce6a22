"""What a Set does to the configuration, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from telemetryd.agent.audit import Caller
from telemetryd.agent.realise import NoKernel
from telemetryd.proto import gnmi_pb2
from tests.agent_setting import Json, Target, qos, scheduler, set_request, target

pytestmark = pytest.mark.no_twins

QUEUES = "/qos/queues/queue"
Q0 = f"{QUEUES}[name=telemetryd-q0]"
POLICY = "/qos/scheduler-policies/scheduler-policy[name=telemetryd-out-Ethernet1]"
FIRST = f"{POLICY}/schedulers/scheduler[sequence=1]"
CIR = f"{FIRST}/two-rate-three-color/config/cir"
TERM = "/qos/classifiers/classifier[name=telemetryd-ipv4]/terms/term[id=99-rest]"
DSCP = f"{TERM}/conditions/ipv4/config/dscp-set"
PORT = "/qos/interfaces/interface[interface-id=Ethernet1]"
PREFIXES = "/defined-sets/ipv4-prefix-sets/ipv4-prefix-set[name=telemetryd-hrss]/config/prefix"


def run(story: Callable[[Target], Awaitable[None]], *, bare: bool = False) -> None:
    """Tell a story with a target that has been set to a small tree."""

    async def told() -> None:
        realiser = NoKernel()
        async with asyncio.timeout(60), target(realiser) as one:
            if not bare:
                await one.set(replace={"/": qos()})
            await story(one)
            assert realiser.leaves == one.leaves()

    asyncio.run(told())


def test_one_leaf_is_one_leaf() -> None:
    """An update of a leaf changes it alone, in configuration and state; the answer has its path and operation."""

    async def story(one: Target) -> None:
        before = one.leaves()
        answer = await one.set(update={CIR: 5_000_000})
        assert one.leaves() == before | {CIR: 5_000_000}
        assert [(result.op, result.path.elem[-1].name) for result in answer.response] == [
            (gnmi_pb2.UpdateResult.UPDATE, "cir")
        ]
        assert answer.timestamp
        state = await one.get(f"{FIRST}/two-rate-three-color", "STATE")
        assert state["openconfig-qos:state"]["cir"] == "5000000"

    run(story)


def test_values_come_as_scalars_and_as_json() -> None:
    """The same leaf by a scalar, by JSON and by JSON of RFC 7951; in JSON without rules 64 bits may be a number."""

    async def story(one: Target) -> None:
        for number, given in enumerate(
            [
                {CIR: 1},
                {CIR: gnmi_pb2.TypedValue(json_ietf_val=b'"2"')},
                {CIR: gnmi_pb2.TypedValue(json_val=b"3")},
                {f"{FIRST}/two-rate-three-color/config": {"cir": "4"}},
                {f"{FIRST}/two-rate-three-color": Json(config={"cir": 5})},
                {FIRST: {"openconfig-qos:two-rate-three-color": {"config": {"cir": "6"}}}},
            ],
            1,
        ):
            await one.set(update=given)
            assert one.leaves()[CIR] == number
        await one.set(update={f"{TERM}/conditions/ipv4/config/protocol": "IP_UDP"})
        config = await one.get(f"{TERM}/conditions/ipv4/config")
        assert config["openconfig-qos:protocol"] == "openconfig-packet-match-types:IP_UDP"

    run(story)


def test_order_of_operations() -> None:
    """Deletes come first, then replaces, then updates, whatever the order of the fields; later ones win."""

    async def story(one: Target) -> None:
        await one.set(
            f"{Q0}/config/queue-id",
            replace={f"{Q0}/config/queue-id": 1},
            update={f"{Q0}/config/queue-id": 2},
        )
        assert one.leaves()[f"{Q0}/config/queue-id"] == 2
        request = set_request(update={f"{Q0}/config/queue-id": 3})
        request.update.add().CopyFrom(request.update[0])
        request.update[1].val.uint_val = 4
        await one.running.set(request.SerializeToString(), Caller("tester"))
        assert one.leaves()[f"{Q0}/config/queue-id"] == 4

    run(story)


def test_replace_drops_what_is_left_out() -> None:
    """At a container, at an entry and at a leaf-list, as an update does not."""

    async def story(one: Target) -> None:
        leaves = one.leaves()
        await one.set(replace={f"{FIRST}/two-rate-three-color/config": {"cir": "7", "pir": "8"}})
        gone = {path for path in leaves if path.startswith(FIRST) and path.endswith(("/bc", "/be"))}
        assert len(gone) == 2
        assert leaves.keys() - one.leaves().keys() == gone
        await one.set(replace={FIRST: {"sequence": 1, "config": {"sequence": 1}}})
        assert {path for path in one.leaves() if path.startswith(FIRST)} == {f"{FIRST}/config/sequence"}

    run(story)


def test_a_list_is_replaced_as_a_whole() -> None:
    """A replace of a list without a key leaves only the entries that were given; an update leaves the others."""

    async def story(one: Target) -> None:
        schedulers = f"{POLICY}/schedulers/scheduler"
        await one.set(update={schedulers: [scheduler(3, "telemetryd-q1")]})
        assert len(await one.get(schedulers.removesuffix("/scheduler"))) == 1
        names = [entry["sequence"] for entry in (await one.get(POLICY))["openconfig-qos:schedulers"]["scheduler"]]
        assert names == [1, 2, 3]
        await one.set(replace={schedulers: [scheduler(3, "telemetryd-q1")]})
        names = [entry["sequence"] for entry in (await one.get(POLICY))["openconfig-qos:schedulers"]["scheduler"]]
        assert names == [3]

    run(story)


def test_leaf_lists() -> None:
    """An update appends, without doing so twice; a replace and a delete do what they say."""

    async def story(one: Target) -> None:
        await one.set(update={DSCP: (12, 14)})
        assert one.leaves()[DSCP] == (10, 12, 14)
        await one.set(update={f"{TERM}/conditions/ipv4/config": {"dscp-set": [16]}})
        assert one.leaves()[DSCP] == (10, 12, 14, 16)
        await one.set(replace={DSCP: (18,)})
        assert one.leaves()[DSCP] == (18,)
        await one.set(update={PREFIXES: ("10.9.0.0/16",)})
        assert one.leaves()[PREFIXES] == ("10.1.0.0/16", "10.7.0.0/16", "10.9.0.0/16")
        await one.set(DSCP)
        assert DSCP not in one.leaves()
        assert DSCP.replace("config", "state") not in str(await one.get("/qos", "ALL", gnmi_pb2.PROTO))

    run(story)


@pytest.mark.parametrize(
    "steps",
    [
        ["/qos", "/defined-sets"],
        ["/qos/queues", "/qos/forwarding-groups", "/qos/classifiers", "/qos/scheduler-policies", "/qos/interfaces"],
        [Q0, POLICY, FIRST, PORT, TERM],
    ],
)
def test_replace_is_the_same_at_every_level(steps: list[str]) -> None:
    """gNMI-1.15: at the root, at containers and at entries the same comes out; what Get gives can be Set."""

    async def story(one: Target) -> None:
        leaves, whole = one.leaves(), await one.get("/")
        assert "openconfig-interfaces:interfaces" in whole
        await one.set(replace={"/": whole})
        assert one.leaves() == leaves
        parts = {path: await one.get(path) for path in steps}
        await one.set(update={CIR: 3, f"{Q0}/config/queue-id": 9, DSCP: (60,)})
        assert one.leaves() != leaves
        await one.set(replace=parts)
        assert one.leaves() == leaves
        assert await one.get("/") == whole

    run(story)


def test_deletes() -> None:
    """What is not there may be deleted; wildcards and lists stand for all entries; below an entry all goes."""

    async def story(one: Target) -> None:
        await one.set(f"{QUEUES}[name=nobody]", "/qos/interfaces/interface[interface-id=nobody]/input/scheduler-policy")
        await one.set(f"{POLICY}/schedulers/scheduler[sequence=*]/two-rate-three-color/config/be")
        assert not [path for path in one.leaves() if path.endswith("/be")]
        await one.set("/qos/classifiers/classifier/terms/term[id=10-a]")
        assert [path for path in one.leaves() if "10-a" in path] == []
        await one.set(PORT, POLICY, "/qos/classifiers", "/qos/forwarding-groups/forwarding-group[name=*]", QUEUES)
        assert all(path.startswith("/defined-sets/") for path in one.leaves())
        await one.set("/")
        assert one.leaves() == {}
        assert await one.get("/qos") == {}

    run(story)


def test_an_entry_is_made_on_the_way() -> None:
    """A leaf of an entry that is not there makes it, with its key."""

    async def story(one: Target) -> None:
        await one.set(update={"/qos/queues/queue[name=a\\]b[c]/config/queue-id": 4})
        assert one.leaves() == {
            "/qos/queues/queue[name=a\\]b[c]/config/name": "a]b[c",
            "/qos/queues/queue[name=a\\]b[c]/config/queue-id": 4,
        }
        assert (await one.get("/qos/queues"))["openconfig-qos:queue"][0]["name"] == "a]b[c"

    run(story, bare=True)


def test_union_replace() -> None:
    """Together the parts are what there is then, the second time too; what is left out goes."""

    async def story(one: Target) -> None:
        tree = qos()["openconfig-qos:qos"]
        leaves = one.leaves()
        parts = {"/qos": {name: part for name, part in tree.items() if name != "queues"}, "/qos/queues": tree["queues"]}
        await one.set(update={f"{QUEUES}[name=other]/config/queue-id": 7, CIR: 4})
        for _ in range(2):
            answer = await one.set(union=parts)
            assert one.leaves() == leaves
            assert {result.op for result in answer.response} == {gnmi_pb2.UpdateResult.UNION_REPLACE}
        message = await one.refuses(
            union={"/qos": tree, f"{Q0}/config": {"queue-id": 1}, Q0: {"config": {"queue-id": 2}}}
        )
        assert message.startswith(f"{Q0}/config/queue-id: ")
        assert "stands alone" in await one.refuses(Q0, union={"/qos": tree})

    run(story)


def test_prefix_and_origin() -> None:
    """A prefix stands before all paths, with an origin for all of them."""

    async def story(one: Target) -> None:
        prefix = gnmi_pb2.Path(origin="openconfig", target="gw1", elem=[gnmi_pb2.PathElem(name="qos")])
        answer = await one.set(update={"queues/queue[name=x]/config/queue-id": 1}, prefix=prefix)
        assert answer.prefix == prefix
        assert one.leaves()[f"{QUEUES}[name=x]/config/queue-id"] == 1
        message = await one.refuses(update={"cli:/qos": {}}, status="UNIMPLEMENTED")
        assert message.startswith("cli:/qos: ")

    run(story)


def json_ietf(text: str) -> gnmi_pb2.TypedValue:
    return gnmi_pb2.TypedValue(json_ietf_val=text.encode())


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"update": {f"{Q0}/config/colour": 1}}, f"{Q0}/config/colour", 'no "colour"'),
    ({"update": {Q0: {"config": {"colour": 1}}}}, f"{Q0}/config/colour", "no such node"),
    ({"update": {"/qos": {"openconfig-acl:queues": {}}}}, "/qos/openconfig-acl:queues", "no such node"),
    ({"update": {"/acl": {}}}, "/acl", 'no "acl"'),
    ({"update": {f"{Q0}/config/queue-id": 256}}, f"{Q0}/config/queue-id", "not in 0..255"),
    ({"update": {f"{Q0}/config/queue-id": "1"}}, f"{Q0}/config/queue-id", "no whole number"),
    ({"update": {f"{Q0}/config/queue-id": True}}, f"{Q0}/config/queue-id", "no whole number"),
    ({"update": {f"{Q0}/config/queue-id": json_ietf("1.5")}}, f"{Q0}/config/queue-id", "no whole number"),
    ({"update": {f"{Q0}/config/queue-id": json_ietf("null")}}, f"{Q0}/config/queue-id", "no whole number"),
    ({"update": {f"{Q0}/config": json_ietf("{")}}, f"{Q0}/config", "no JSON"),
    ({"update": {f"{Q0}/config": json_ietf("[" * 100_000)}}, f"{Q0}/config", "no JSON"),
    ({"update": {f"{Q0}/config": 1}}, f"{Q0}/config", "JSON object"),
    ({"update": {CIR: json_ietf("5")}}, CIR, "in quotes"),
    ({"update": {CIR: json_ietf('"18446744073709551616"')}}, CIR, "not in 0.."),
    ({"update": {CIR: json_ietf('"-1"')}}, CIR, "no whole number"),
    ({"update": {CIR: gnmi_pb2.TypedValue(int_val=5)}}, CIR, "int_val"),
    ({"update": {CIR: gnmi_pb2.TypedValue()}}, CIR, "value is missing"),
    ({"update": {CIR: 9_000_001}}, CIR, "above pir, which is 9000000"),
    ({"update": {f"{FIRST}/two-rate-three-color/config/pir": 999_999}}, CIR, "above pir, which is 999999"),
    ({"update": {f"{FIRST}/two-rate-three-color/state/cir": 5}}, CIR.replace("config", "state"), "state"),
    ({"update": {f"{FIRST}/two-rate-three-color": {"state": {"cir": "5"}}}}, CIR.replace("config", "state"), "state"),
    ({"update": {f"{FIRST}/config/type": "THREE"}}, f"{FIRST}/config/type", "is none of ONE_RATE_TWO_COLOR"),
    ({"update": {f"{FIRST}/config/type": "x:ONE_RATE_TWO_COLOR"}}, f"{FIRST}/config/type", "is none of"),
    ({"update": {f"{FIRST}/config/sequence": 2}}, f"{FIRST}/config/sequence", "not the key"),
    ({"update": {f"{FIRST}/sequence": 2}}, f"{FIRST}/sequence", "not the key"),
    ({"update": {FIRST.replace("=1]", "=01]"): {"config": {}}}}, FIRST.replace("=1]", "=01]"), "no whole number"),
    ({"update": {FIRST.replace("[sequence", "[name"): {}}}, FIRST.replace("[sequence", "[name"), "a list by sequence"),
    ({"update": {f"{QUEUES}/config/queue-id": 1}}, QUEUES, "key is missing"),
    ({"update": {f"{QUEUES}[name=*]/config/queue-id": 1}}, f"{QUEUES}[name=*]", "wildcards"),
    ({"update": {QUEUES: [{"config": {}}]}}, QUEUES, 'has no "name"'),
    ({"update": {QUEUES: [{"name": "x"}, {"name": "x"}]}}, f"{QUEUES}[name=x]", "there twice"),
    ({"update": {QUEUES: {}}}, QUEUES, "JSON array"),
    ({"replace": {Q0: {}}}, Q0, "empty object"),
    ({"update": {DSCP: (64,)}}, DSCP, "not in 0..63"),
    ({"update": {DSCP: (3, 3)}}, DSCP, "twice"),
    ({"update": {DSCP: 3}}, DSCP, "leaf-list"),
    ({"update": {DSCP.removesuffix("-set"): 3}}, DSCP, "only one of them"),
    ({"update": {f"{TERM}/conditions/ipv4/config/protocol": 255}}, f"{TERM}/conditions/ipv4/config/protocol", "0..254"),
    (
        {"update": {f"{TERM}/conditions/transport/config/source-port": "90..80"}},
        f"{TERM}/conditions/transport/config/source-port",
        "no range",
    ),
    (
        {"update": {f"{TERM}/conditions/ipv4/config/source-address": "10.0.0.1"}},
        f"{TERM}/conditions/ipv4/config/source-address",
        "no IPv4 prefix",
    ),
    (
        {"update": {f"{TERM}/conditions/ipv6/config/source-address": "2001:db8::/129"}},
        f"{TERM}/conditions/ipv6/config/source-address",
        "no IPv6 prefix",
    ),
    (
        {"update": {f"{TERM}/actions/config/target-group": "x"}},
        f"{TERM}/actions/config/target-group",
        "no forwarding-g",
    ),
    ({"update": {f"{TERM}/actions/remark/config/set-dscp": 64}}, f"{TERM}/actions/remark/config/set-dscp", "0..63"),
    (
        {"update": {f"{PORT}/output/scheduler-policy/config/name": "x"}},
        f"{PORT}/output/scheduler-policy/config/name",
        'no scheduler-policy "x"',
    ),
    (
        {"update": {f"{PORT}/interface-ref/config/interface": "Ethernet9"}},
        f"{PORT}/interface-ref/config/interface",
        'no interface "Ethernet9"',
    ),
    (
        {"update": {"/qos/interfaces/interface[interface-id=eth9]": {"config": {"interface-id": "eth9"}}}},
        "/qos/interfaces/interface[interface-id=eth9]/config/interface-id",
        'no interface "eth9"',
    ),
    (
        {"update": {f"{FIRST}/output/config/child-scheduler": "telemetryd-out-Ethernet1"}},
        f"{FIRST}/output/config/child-scheduler",
        "which is INTERFACE",
    ),
    (
        {
            "update": {
                f"{FIRST}/output/config": {
                    "output-type": "SCHEDULER",
                    "child-scheduler": "telemetryd-out-Ethernet1",
                }
            }
        },
        f"{FIRST}/output/config/child-scheduler",
        "cycle",
    ),
    (
        {"update": {"/interfaces/interface[name=Ethernet1]/config/mtu": 1400}},
        "/interfaces/interface[name=Ethernet1]/config/mtu",
        "cannot be set here",
    ),
    (
        {"update": {"/interfaces/interface[name=Ethernet1]/state/mtu": 1400}},
        "/interfaces/interface[name=Ethernet1]/state/mtu",
        "is state",
    ),
]


@pytest.mark.parametrize(("operations", "path", "words"), REFUSED)
def test_refused(operations: dict[str, Any], path: str, words: str) -> None:
    """What the model does not allow is refused, with the path first; nothing has changed, here or in the kernel."""

    async def story(one: Target) -> None:
        message = await one.refuses(**operations)
        assert message.startswith(f"{path}: "), message
        assert words in message

    run(story)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (POLICY, "Ethernet1]/output/scheduler-policy/config/name refers to it"),
        (Q0, "refers to it and 1 more"),
        ("/defined-sets", "prefix-set refers to it"),
        (f"{Q0}/config/name", "is the key of its entry"),
        (f"{Q0}/config", "is the key of its entry"),
        (f"{Q0}/state/name", "nothing that can be set"),
        ("/interfaces", "nothing that can be set"),
        ("/qos/nothing", 'no "nothing"'),
        ("/qos/.../config", "... does not say"),
    ],
)
def test_refused_deletes(path: str, words: str) -> None:
    """What something refers to stays, and so do keys, state and interfaces."""

    async def story(one: Target) -> None:
        message = await one.refuses(path)
        assert message.startswith(("/qos", "/defined-sets", "/interfaces"))
        assert words in message

    run(story)


def test_all_or_nothing() -> None:
    """One bad leaf among many: nothing of them is there."""

    async def story(one: Target) -> None:
        tree = qos()["openconfig-qos:qos"]
        tree["scheduler-policies"]["scheduler-policy"][0]["schedulers"]["scheduler"][1]["two-rate-three-color"][
            "config"
        ]["pir"] = "1"
        tree["queues"]["queue"].append({"name": "new", "config": {"name": "new"}})
        message = await one.refuses(PORT, replace={"/qos": tree})
        assert "scheduler[sequence=2]/two-rate-three-color/config/cir" in message

    run(story)


def test_a_tree_of_policies_may_be_eight_deep() -> None:
    """Each inner node's policy is one level; the ninth is refused, wherever it is put in."""

    def policy(level: int, child: int | None) -> dict[str, Any]:
        output = {"output-type": "SCHEDULER", "child-scheduler": f"p{child}"} if child else {"output-type": "INTERFACE"}
        one = {"sequence": 1, "config": {"sequence": 1}, "output": {"config": output}}
        return {"name": f"p{level}", "config": {"name": f"p{level}"}, "schedulers": {"scheduler": [one]}}

    async def story(one: Target) -> None:
        chain = [policy(level, level + 1 if level < 8 else None) for level in range(1, 9)]
        await one.set(update={"/qos/scheduler-policies/scheduler-policy": chain})
        ninth = {"/qos/scheduler-policies/scheduler-policy": [policy(0, 1)]}
        assert "more than 8 levels" in await one.refuses(update=ninth)
        below = {"/qos/scheduler-policies/scheduler-policy": [policy(9, None)]}
        await one.set(update=below)
        last = "/qos/scheduler-policies/scheduler-policy[name=p8]/schedulers/scheduler[sequence=1]/output/config"
        message = await one.refuses(update={last: {"output-type": "SCHEDULER", "child-scheduler": "p9"}})
        assert message.startswith(f"{last}/child-scheduler: ")

    run(story)


def test_a_set_without_operations() -> None:
    """It is no error, and changes nothing."""

    async def story(one: Target) -> None:
        before = one.leaves()
        answer = await one.set()
        assert not answer.response and answer.timestamp
        assert one.leaves() == before

    run(story)


@pytest.mark.parametrize("encoding", [gnmi_pb2.JSON_IETF, gnmi_pb2.JSON, gnmi_pb2.PROTO])
def test_what_is_read_can_be_set(encoding: int) -> None:
    """Configuration read in any encoding, interfaces included, is what can be written: nothing changes by it."""

    async def story(one: Target) -> None:
        leaves = one.leaves()
        if encoding == gnmi_pb2.PROTO:
            notification = await one.get("/", "CONFIG", encoding)
            request = gnmi_pb2.SetRequest(update=notification.update)
            assert len(request.update) > len(leaves)
            request.delete.add().CopyFrom(gnmi_pb2.Path(elem=[gnmi_pb2.PathElem(name="qos")]))
            await one.running.set(request.SerializeToString(), Caller("tester"))
        else:
            whole = await one.get("/", "CONFIG", encoding)
            await one.set(replace={"/": Json(whole) if encoding == gnmi_pb2.JSON else whole})
        assert one.leaves() == leaves

    run(story)
