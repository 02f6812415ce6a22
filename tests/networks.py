"""Random networks to allocate over, as hypothesis strategies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from telemetryd.allocate.network import NetworkAllocation, allocate, demands


@dataclass(frozen=True)
class Flow:
    """A demand over one path or more."""

    paths: tuple[tuple[int, ...], ...]
    demand: int
    weight: float = 1.0
    guarantee: int = 0
    floor: int = 0
    importance: int = 1


@dataclass(frozen=True)
class Network:
    """Capacities and who crosses them."""

    capacity: tuple[int, ...]
    flows: tuple[Flow, ...]

    def allocate(self) -> NetworkAllocation:
        columns: dict[str, Any] = {
            name: np.array([getattr(flow, name) for flow in self.flows])
            for name in ("demand", "weight", "guarantee", "floor", "importance")
        }
        return allocate(self.capacity, demands([flow.paths for flow in self.flows], columns.pop("demand"), **columns))


def networks(*, is_plain: bool = False, unit: int = 1) -> st.SearchStrategy[Network]:
    """Generate networks of up to 5 links and 7 demands; plain ones have weights only, and rates in the unit."""

    def make(capacity: list[int], numbers: list[int]) -> Network:
        flows = []
        for number in numbers:
            digits = []
            for radix in (31, 31, 1501, 4, 2, 401, 4, 101, 3, 3):
                number, digit = divmod(number, radix)
                digits.append(digit)
            masks = [digits[0] + 1] if is_plain or digits[9] else [digits[0] + 1, digits[1] + 1]
            paths = tuple(tuple(link for link in range(len(capacity)) if mask >> link & 1) or (0,) for mask in masks)
            plain = Flow(paths, digits[2] * unit, weight=(1.0, 2.0, 3.0, 0.5)[digits[3]])
            special = Flow(
                paths,
                plain.demand,
                plain.weight,
                guarantee=digits[4] * digits[5],
                floor=digits[7] if digits[6] == 3 else 0,
                importance=digits[8] + 1,
            )
            flows.append(plain if is_plain else special)
        return Network(tuple(rate * unit for rate in capacity), tuple(flows))

    number = st.integers(0, 31 * 31 * 1501 * 4 * 2 * 401 * 4 * 101 * 3 * 3 - 1)
    return st.builds(
        make, st.lists(st.integers(0, 2000), min_size=1, max_size=5), st.lists(number, min_size=1, max_size=7)
    )
