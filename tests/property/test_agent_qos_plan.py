"""Whatever is planned for a gateway can be realised, with the rates and numbers of the plan."""

from __future__ import annotations

from telemetryd.agent.qos.compilation import Compilation
from telemetryd.agent.qos.objects import DEFAULT, PORT, HtbClass, Key
from telemetryd.agent.qos.rules import script
from telemetryd.enforce.intent import DeviceIntent
from tests.property.test_enforce_gateway import gateways, plan
from tests.trees import for_any


@for_any(gateways(), long=2000)
def test_a_plan_is_realised(intent: DeviceIntent) -> None:
    """Each node is a class with its number, rate, ceiling and priority; each leaf's queue is served by it."""
    made = plan(intent)
    found = Compilation(made.leaves, {"eth0": 0, "eth1": 0})
    assert found.missing == []
    for port in made.ports:
        direction = "output" if port.direction == "out" else "input"
        tree = found.trees[port.interface, direction]
        classes = {key.number: one for key, one in tree.objects.items() if isinstance(one, HtbClass)}
        assert classes.keys() == {node.number for node in port.nodes} | {DEFAULT}
        for node in port.nodes:
            own = classes[node.number]
            if node.number == PORT:
                # At most a thousandth more, or 64 kbit/s: for what has no class.
                assert node.rate_bps <= own.rate_bps <= node.rate_bps + max(64_000, node.rate_bps // 1000)
                continue
            assert (own.rate_bps, own.ceil_bps) == (node.rate_bps, node.ceiling_bps)
            if node.queue:
                assert own.priority == node.priority
                assert tree.numbers[node.queue] == node.number
                assert Key(tree.device, "fifo", node.number) in tree.objects
        for number, own in classes.items():
            below = sum(one.rate_bps for one in classes.values() if one.parent == number)
            assert below <= own.rate_bps
    for family, table in found.state.tables.items():
        assert script(family, None, table)
