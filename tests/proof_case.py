"""A day of two providers with known deliveries, stored in windows of 5 min, and the policy that promises them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from telemetryd.schema import Names
from tests.month_case import BIN, RATE, SIZE, Key, bins_of, fill, write_registry

MBIT = 1e6
DAY = bins_of("2026-03-02", 1)  # a Monday
NAMES = Names(
    links=("-", "isp1", "isp2"),
    metering_points=("-", "mp1", "mp2", "dc"),
    departments=("unknown", "tax", "edu"),
    applications=("unclassified", "filing", "exam", "films"),
    zones=("-",),
    service_classes=("-",),
)
#: isp1 carries 100 Mbit/s inwards, isp2 300.
POLICY = """\
version: 1
policy: exits
links: [isp1]
direction: in
tree: [department, application]
departments:
  - department: tax
    guarantee: 60 Mbit/s
    applications:
      - {application: filing, guarantee: 20 Mbit/s}
  - department: edu
    guarantee: 15 Mbit/s
    schedule:
      - {hours: "08:00-18:00", guarantee: 20 Mbit/s}
"""


def hours(*spans: tuple[float, float, float]) -> np.ndarray:
    """Return the rate of each window in Mbit/s: (from, to, Mbit/s), in hours of the day."""
    hour = (DAY - DAY[0]) / 3600e9
    rate = np.zeros(len(DAY))
    for begin, end, mbps in spans:
        rate[(hour >= begin) & (hour < end)] = mbps
    return rate


POINTS = {"isp1": "mp1", "isp2": "mp2"}


def sampled(
    rates: Mapping[tuple[str, str, str], np.ndarray], seed: int = 1, *, is_translated: bool = False
) -> list[Key]:
    """Sample inbound rates in Mbit/s by (link, department, application).

    Translated, the rows of a link do not tell whose they are: those of its metering point do.
    """
    random = np.random.default_rng(seed)
    scale = MBIT * BIN / 1e9 / 8 / (RATE * SIZE)
    counts = {key: random.poisson(rate * scale) for key, rate in rates.items()}
    if not is_translated:
        return [
            Key("link_usage", link, "in", department, application, samples)
            for (link, department, application), samples in counts.items()
        ]
    totals = [
        Key("totals", POINTS[link], "inbound", department, application, samples)
        for (link, department, application), samples in counts.items()
    ]
    of_links = {link: np.zeros(len(DAY), np.int64) for link, _, _ in counts}
    for (link, _, _), samples in counts.items():
        of_links[link] += samples
    return totals + [
        Key("link_usage", link, "in", "unknown", "unclassified", samples) for link, samples in of_links.items()
    ]


def busy_day() -> dict[tuple[str, str, str], np.ndarray]:
    """Return a day on isp1.

    0-9 h idle; 9-12 h full, and tax has 70; 12-13 h films take what tax is promised, which has 30 left; 13-24 h idle.
    """
    return {
        ("isp1", "tax", "filing"): hours((0, 9, 15), (9, 12, 70), (12, 13, 30), (13, 24, 15)),
        ("isp1", "edu", "exam"): hours((0, 24, 5)),
        ("isp1", "edu", "films"): hours((9, 12, 24), (12, 13, 64)),
    }


class City:
    """A registry, a policy and a store."""

    def __init__(
        self,
        path: Path,
        rates: Mapping[tuple[str, str, str], np.ndarray],
        policy: str = POLICY,
        *,
        is_translated: bool = False,
    ) -> None:
        self.store = path / "store"
        self.registry = write_registry(path / "registry")
        self.policy = path / "policy.yaml"
        self.policy.write_text(policy, encoding="utf-8")
        fill(self.store, DAY, sampled(rates, is_translated=is_translated), names=NAMES)

    def options(self) -> list[str]:
        """Return the options that name the three."""
        return ["--store", str(self.store), "--registry", str(self.registry), "--policy", str(self.policy)]
