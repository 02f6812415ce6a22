"""What scheduler policies become: rates, priorities, quanta, and what is refused with which path."""

from __future__ import annotations

from typing import Any

import pytest

from telemetryd.agent.qos.compilation import Compilation
from telemetryd.agent.qos.objects import DEFAULT, PORT, Fifo, HtbClass, Key
from telemetryd.agent.qos.tree import Tree
from telemetryd.agent.refusal import RefusedError
from tests import street as case
from tests.street import POLICY
from tests.street import Tree as Leaves

pytestmark = pytest.mark.no_twins

M = 10**6
PATH = f"{POLICY}[name=p]/schedulers/scheduler"


def one_rate(leaves: Leaves, sequence: int, *queues: str, **values: Any) -> None:
    """Add a scheduler with one rate to the policy p."""
    leaves[f"{POLICY}[name=p]/config/name"] = "p"
    own = f"{PATH}[sequence={sequence}]"
    leaves[f"{own}/config/sequence"] = sequence
    leaves[f"{own}/config/type"] = "ONE_RATE_TWO_COLOR"
    for name, value in values.items():
        leaves[f"{own}/one-rate-two-color/config/{name.replace('_', '-')}"] = value
    for queue in queues:
        case.add_input(leaves, own, queue)


def shared(leaves: Leaves, sequence: int, strict: bool, **weights: int) -> None:
    """Add a scheduler without rates to the policy p."""
    leaves[f"{POLICY}[name=p]/config/name"] = "p"
    own = f"{PATH}[sequence={sequence}]"
    leaves[f"{own}/config/sequence"] = sequence
    if strict:
        leaves[f"{own}/config/priority"] = "STRICT"
    for queue, weight in weights.items():
        case.add_input(leaves, own, queue, weight)


def built(leaves: Leaves, *, direction: str = "output", speed: int = 100 * M) -> Tree:
    """Return the tree of the policy p on eth1."""
    case.attach(leaves, "eth1", **{direction: "p"})
    return Compilation(leaves, {"eth1": speed}).trees["eth1", direction]


def classes(tree: Tree) -> dict[str, HtbClass]:
    """Return the class of each queue."""
    found = {}
    for queue, number in tree.numbers.items():
        one = tree.objects[Key(tree.device, "class", number)]
        assert isinstance(one, HtbClass)
        found[queue] = one
    return found


def test_weights_are_rates_and_quanta() -> None:
    """Without anything strict: shares of the whole port, less what has no class."""
    leaves: Leaves = {}
    shared(leaves, 1, False, a=3, b=1)
    tree = built(leaves)
    found = classes(tree)
    assert (found["a"].rate_bps, found["b"].rate_bps) == (75 * M, 25 * M)
    assert found["a"].quantum == 3 * found["b"].quantum
    assert found["a"].priority == found["b"].priority
    port = tree.objects[Key("eth1", "class", PORT)]
    default = tree.objects[Key("eth1", "class", DEFAULT)]
    assert isinstance(port, HtbClass)
    assert isinstance(default, HtbClass)
    assert port.rate_bps == port.ceil_bps == 100 * M + default.rate_bps
    assert default.rate_bps == 100_000


def test_strict_queues_come_first_and_nobody_beside_them_is_sure_of_much() -> None:
    """The greater weight first, each at a priority of its own; weighted ones behind, by quantum."""
    leaves: Leaves = {}
    shared(leaves, 0, True, low=1, high=2)
    shared(leaves, 1, False, a=4, b=1)
    found = classes(built(leaves))
    assert [found[name].priority for name in ("high", "low", "a", "b")] == [0, 1, 2, 2]
    assert all(one.rate_bps <= 20_000 and one.ceil_bps >= 100 * M for one in found.values())
    assert found["a"].quantum == 4 * found["b"].quantum


def test_one_rate_is_shaped_or_policed() -> None:
    """Rate and ceiling are cir; a given depth is the buffer; a policer has the least, and passes what it need not drop."""
    leaves: Leaves = {}
    one_rate(leaves, 1, "a", cir=8 * M, queuing_behavior="SHAPE", max_queue_depth_bytes=200_000)
    one_rate(leaves, 2, "b", cir=4 * M, queuing_behavior="POLICE")
    one_rate(leaves, 3, "c", cir_pct=10, queuing_behavior="POLICE")
    leaves[f"{PATH}[sequence=3]/one-rate-two-color/exceed-action/config/drop"] = False
    one_rate(leaves, 4, "d", cir_pct_remaining=50)
    tree = built(leaves)
    found = classes(tree)
    assert [(found[name].rate_bps, found[name].ceil_bps) for name in "ab"] == [(8 * M,) * 2, (4 * M,) * 2]
    assert (found["c"].rate_bps, found["c"].ceil_bps >= 100 * M) == (10 * M, True)
    assert found["d"].rate_bps == (100 - 8 - 4 - 10) * M // 2
    fifos = {name: tree.objects[Key("eth1", "fifo", number)] for name, number in tree.numbers.items()}
    assert fifos["a"] == Fifo(200_000)
    assert fifos["b"] == Fifo((1 << 16) + (1 << 12))


def test_queues_of_one_scheduler_share_its_rates() -> None:
    """An inner node with its rates, below it a leaf a queue by weight."""
    leaves: Leaves = {}
    case.two_rates(leaves, "p", 1, 30 * M, 60 * M, queue="a")
    case.add_input(leaves, f"{PATH}[sequence=1]", "a", 1)
    case.add_input(leaves, f"{PATH}[sequence=1]", "b", 2)
    tree = built(leaves)
    found = classes(tree)
    assert [(found[name].rate_bps, found[name].ceil_bps) for name in "ab"] == [(10 * M, 60 * M), (20 * M, 60 * M)]
    assert found["a"].parent == found["b"].parent != PORT
    above = tree.objects[Key("eth1", "class", found["a"].parent)]
    assert isinstance(above, HtbClass)
    assert (above.parent, above.rate_bps, above.ceil_bps, above.quantum) == (PORT, 30 * M, 60 * M, 0)


def test_policers_of_an_input_need_not_fit_the_port() -> None:
    """They hold each for itself; the classes are on the device behind the interface."""
    leaves: Leaves = {}
    one_rate(leaves, 1, "a", cir=80 * M, queuing_behavior="POLICE")
    one_rate(leaves, 2, "b", cir=70 * M, queuing_behavior="POLICE")
    tree = built(leaves, direction="input")
    assert tree.device.startswith("td-")
    port = tree.objects[Key(tree.device, "class", PORT)]
    assert isinstance(port, HtbClass)
    assert port.rate_bps >= 150 * M
    assert all(one.is_policed for one in tree.served)


def test_numbers_do_not_move_when_others_come() -> None:
    """They are digests of names."""
    few: Leaves = {}
    shared(few, 1, False, **{f"q{i}": 1 for i in range(20)})
    many: Leaves = {}
    shared(many, 1, False, **{f"q{i}": 1 for i in range(40)})
    before, after = built(few).numbers, built(many).numbers
    assert sum(before[queue] != after[queue] for queue in before) <= 1


@pytest.mark.parametrize(
    ("leaf", "value", "status"),
    [
        ("[sequence=1]/output/config/output-type", "FWD_GROUP", "UNIMPLEMENTED"),
        ("[sequence=1]/inputs/input[id=a]/config/input-type", "IN_PROFILE", "UNIMPLEMENTED"),
        ("[sequence=1]/two-rate-three-color/exceed-action/config/set-dscp", 10, "UNIMPLEMENTED"),
        ("[sequence=1]/two-rate-three-color/conform-action/config/drop", True, "UNIMPLEMENTED"),
        ("[sequence=1]/two-rate-three-color/config/cir", 101 * M, "INVALID_ARGUMENT"),
        ("[sequence=1]/inputs/input[id=b]/config/queue", "a", "INVALID_ARGUMENT"),
    ],
)
def test_what_cannot_be_is_refused(leaf: str, value: Any, status: str) -> None:
    """With the path of what it is about."""
    leaves: Leaves = {}
    case.two_rates(leaves, "p", 1, 10 * M, 100 * M, queue="a")
    leaves[f"{PATH}{leaf}"] = value
    with pytest.raises(RefusedError) as refusal:
        built(leaves)
    assert refusal.value.status.name == status
    assert str(refusal.value).startswith(("/qos/scheduler-policies/", "/qos/interfaces/"))
    if status == "UNIMPLEMENTED":
        assert str(refusal.value).startswith(f"{PATH}{leaf}: ")


def test_a_tree_is_not_too_deep_and_has_no_knots() -> None:
    """Eight levels of classes; a policy in one place; numbers once; eight priorities."""
    for depth, is_fine in ((7, True), (8, False)):
        leaves: Leaves = {}
        for i in range(depth - 1):
            rate = 64 * M >> i
            case.two_rates(leaves, f"p{i}" if i else "p", 1, rate, rate, child=f"p{i + 1}")
            case.two_rates(leaves, f"p{i}" if i else "p", 2, rate // 4, rate, queue=f"q{i}")
        case.two_rates(leaves, f"p{depth - 1}", 1, 8000, 8000, queue="last")
        if is_fine:
            assert len(built(leaves).numbers) == depth
        else:
            with pytest.raises(RefusedError, match="no more than 8 levels"):
                built(leaves)
    twice: Leaves = {}
    case.two_rates(twice, "p", 1 << 16 | 0x33, M, M, queue="a")
    case.two_rates(twice, "p", 2 << 16 | 0x33, M, M, queue="b")
    with pytest.raises(RefusedError, match="class 1:33 is not free"):
        built(twice)
    strict: Leaves = {}
    shared(strict, 0, True, **{f"q{i}": i + 1 for i in range(9)})
    with pytest.raises(RefusedError, match="HTB has 8 priorities"):
        built(strict)
