"""Policers of the OpenConfig community's tables (DP-2.4, DP-2.5, DP-2.6) at an input of a gateway, a fiftieth as fast.

DP-2.4: one rate, flows of 0.7 and 1.5 times 1 Gbit/s below 1 and 2; then twice what is allowed: half is lost.
DP-2.5, DP-2.6: two rates of 1 and 2 Gbit/s; 1.5 conforms and exceeds; of 4 half is lost.
"""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from telemetryd.agent.qos.realiser import KernelQos
from tests import dp_tables
from tests import street as case
from tests.namespaces import missing_tools
from tests.street import POLICY, Street, Tree

#: What stands for 1 Gbit/s.
G = 20_000_000
SECONDS = 1.5
#: The tables say 1; a second of theirs is fifty of ours.
TOLERANCE = 2.0

pytestmark = [
    pytest.mark.no_twins,
    pytest.mark.skipif(bool(missing_tools(["ip", "nft"])), reason="ip and nft are needed"),
]


def one_rate(leaves: Tree, sequence: int, queue: str, cir: int) -> None:
    path = f"{POLICY}[name=police]/schedulers/scheduler[sequence={sequence}]"
    leaves[f"{POLICY}[name=police]/config/name"] = "police"
    leaves[f"{path}/config/sequence"] = sequence
    leaves[f"{path}/config/type"] = "ONE_RATE_TWO_COLOR"
    leaves[f"{path}/one-rate-two-color/config/cir"] = cir
    leaves[f"{path}/one-rate-two-color/config/bc"] = 100_000
    leaves[f"{path}/one-rate-two-color/config/queuing-behavior"] = "POLICE"
    leaves[f"{path}/one-rate-two-color/exceed-action/config/drop"] = True
    case.add_input(leaves, path, queue)


def two_rates(leaves: Tree, sequence: int, queue: str, cir: int, pir: int) -> None:
    case.two_rates(leaves, "police", sequence, cir, pir, queue=queue)
    path = f"{POLICY}[name=police]/schedulers/scheduler[sequence={sequence}]/two-rate-three-color"
    leaves[f"{path}/config/bc"] = leaves[f"{path}/config/be"] = 100_000
    leaves[f"{path}/exceed-action/config/drop"] = False
    leaves[f"{path}/violate-action/config/drop"] = True


def configuration() -> Tree:
    """AF1 and AF2 by one rate, AF3 by two, at the inputs of both ports; the rest goes free."""
    leaves: Tree = {}
    for name in ("AF1", "AF2", "AF3"):
        case.queue(leaves, name)
        for family in (4, 6):
            case.term(leaves, "dscp", family, f"{name}-term", name, dscp_set=(dp_tables.DSCP[name],))
    one_rate(leaves, 1, "AF1", G)
    one_rate(leaves, 2, "AF2", 2 * G)
    two_rates(leaves, 3, "AF3", G, 2 * G)
    for interface in ("a1", "b1"):
        case.attach(leaves, interface, input="police", classifier="dscp")
    return leaves


def test_what_is_allowed_passes_and_half_of_twice_that_is_lost() -> None:
    """Losses, and the counters of conforming, exceeding and violating packets; what no policer is for is not held."""
    line = dp_tables.LINE_BPS / 100
    within = {"AF1": 0.7 * G / line, "AF2": 1.5 * G / line, "AF3": 1.5 * G / line, "BE0": 5.0}
    beyond = {"AF1": 2 * G / line, "AF2": 4 * G / line, "AF3": 4 * G / line, "BE0": 5.0}

    async def story(street: Street) -> None:
        leaves = configuration()
        with closing(KernelQos()) as kernel:
            await kernel.realise({}, leaves, leaves.keys())
            for offered, due in ((within, 100.0), (beyond, 50.0)):
                before = await kernel.counters()
                both = {name: (share, share) for name, share in offered.items()}
                found = await asyncio.to_thread(dp_tables.measure, street, both, SECONDS, dp_tables.FRAME)
                after = await kernel.counters()
                for name, own in found.items():
                    for each in own.each:
                        assert each == pytest.approx(100.0 if name == "BE0" else due, abs=TOLERANCE), (name, own)
                for sequence, name in ((1, "AF1"), (2, "AF2"), (3, "AF3")):
                    path = "/qos/interfaces/interface[interface-id=a1]/input/scheduler-policy/schedulers/scheduler"
                    conforming, exceeding, violating = (
                        int(after[f"{path}[sequence={sequence}]/state/{colour}-pkts"])  # type: ignore[arg-type]
                        - int(before[f"{path}[sequence={sequence}]/state/{colour}-pkts"])  # type: ignore[arg-type]
                        for colour in ("conforming", "exceeding", "violating")
                    )
                    assert conforming > 0
                    lost = exceeding if name != "AF3" else violating
                    assert (lost > 0) == (due < 100), (name, conforming, exceeding, violating)
                    if name == "AF3":
                        # A third of 1.5 is beyond the first rate; of what passes of 4, half.
                        passed = conforming + exceeding
                        assert 100 * exceeding / passed == pytest.approx(100 / 3 if due == 100 else 50, abs=6)
            await kernel.realise(leaves, {}, leaves.keys())
            assert await kernel.read() == {}

    with Street() as street:
        dp_tables.count_arrivals(street)
        with street.inside():
            asyncio.run(story(street))
