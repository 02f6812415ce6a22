"""A small city with known traffic for the tests of monthly reports: what was put in can be added up by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from telemetryd.registry.load import load_registry
from telemetryd.registry.models import Registry
from telemetryd.schema import KEY_COLUMNS, SUM_COLUMNS, Direction, LinkDirection, Names, Table, UsageWindow
from telemetryd.store.embedded import Store
from tests.storing import Hasty

S = 1_000_000_000
BIN = 300 * S
SHANGHAI = ZoneInfo("Asia/Shanghai")
RATE = 1000.0
SIZE = 800.0

REGISTRY = """\
version: 1
city: {name: yunhai, title: {en: Yunhai, zh: 云海市}, time_zone: Asia/Shanghai}
regions:
  - {name: city, kind: city}
  - {name: internet, kind: internet}
departments:
  - {name: tax, title: {en: Tax Bureau, zh: 市税务局}, class: strengthened, contract: {in: 100 Mbit/s, out: 50 Mbit/s}}
  - {name: edu, title: {en: Education Bureau, zh: 市教育局}, class: transitional}
  - {name: idle, title: {en: Idle Office, zh: 闲置办}, contract: {in: 10 Mbit/s, out: 10 Mbit/s}}
networks:
  - {prefix: 198.18.0.0/22, department: tax}
  - {prefix: 198.18.4.0/22, department: edu}
  - {prefix: 0.0.0.0/0, region: internet}
applications:
  - {name: filing, title: {en: Tax filing, zh: 网上办税}, owner: tax}
  - {name: exam, title: {en: Exam enrolment, zh: 考试报名}, owner: edu}
devices:
  - name: CR01
    role: core
    agents: [100.64.255.1]
    interfaces:
      - {name: exit-1, index: 1, speed: 1 Gbit/s}
      - {name: exit-2, index: 2, speed: 1 Gbit/s}
      - {name: dc, index: 3, speed: 10 Gbit/s}
      - {name: dark, index: 4, speed: 1 Gbit/s}
      - {name: spare, index: 5, speed: 1 Gbit/s}
links:
  - {name: isp1, title: {en: Provider 1, zh: 运营商一}, device: CR01, interface: exit-1, kind: exit, contract: {in: 100 Mbit/s, out: 200 Mbit/s}}
  - {name: isp2, device: CR01, interface: exit-2, kind: exit, contract: {in: 300 Mbit/s, out: 100 Mbit/s}}
  - {name: dark, device: CR01, interface: dark, kind: backbone}
  - {name: spare, device: CR01, interface: spare, kind: backbone}
link_groups:
  - {name: providers, members: [isp1, isp2]}
  - {name: half-blind, members: [isp1, spare]}
metering_points:
  - {name: mp1, device: CR01, interface: exit-1, faces: outside, counts: [exit]}
  - {name: mp2, device: CR01, interface: exit-2, faces: outside, counts: [exit]}
  - {name: dc, device: CR01, interface: dc, faces: inside, counts: [internal]}
blind_ports:
  - {device: CR01, interface: dark, reason: no sampling licence}
"""

NAMES = Names(
    links=("-", "isp1", "isp2"),
    metering_points=("-", "mp1", "mp2", "dc"),
    departments=("unknown", "tax", "edu"),
    applications=("unclassified", "filing", "exam"),
    zones=("-",),
    service_classes=("-",),
)

_TOTALS = (
    # metering point, direction, department, application, Mbit/s on average
    ("mp1", Direction.INBOUND, "tax", "filing", 40.0),
    ("mp2", Direction.INBOUND, "tax", "filing", 15.0),
    ("mp1", Direction.OUTBOUND, "tax", "filing", 20.0),
    ("mp2", Direction.OUTBOUND, "tax", "unclassified", 5.0),
    ("mp1", Direction.INBOUND, "edu", "exam", 25.0),
    ("mp2", Direction.OUTBOUND, "edu", "exam", 10.0),
    ("dc", Direction.INTERNAL, "edu", "exam", 7.0),
    ("mp1", Direction.INBOUND, "unknown", "unclassified", 2.0),
)
_LINKS = (
    ("isp1", LinkDirection.IN, 67.0),
    ("isp1", LinkDirection.OUT, 20.0),
    ("isp2", LinkDirection.IN, 15.0),
    ("isp2", LinkDirection.OUT, 15.0),
)


@dataclass
class Key:
    """One key of the traffic and its samples in every bin, shape (n,)."""

    table: str
    link: str
    direction: str
    department: str
    application: str
    samples: np.ndarray

    @property
    def octets(self) -> np.ndarray:
        return RATE * SIZE * self.samples

    @property
    def variance(self) -> np.ndarray:
        return RATE * (RATE - 1) * SIZE * SIZE * self.samples


def write_registry(directory: Path, change: Callable[[str], str] = lambda text: text) -> Path:
    """Write the registry into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "city.yaml").write_text(change(REGISTRY), encoding="utf-8")
    return directory


def small_registry(directory: Path) -> Registry:
    """Load the registry."""
    return load_registry(write_registry(directory))


def bins_of(begin: str, days: float, zone: ZoneInfo = SHANGHAI) -> np.ndarray:
    """Return the starts of the bins of some days from a local date on."""
    first = round(datetime.fromisoformat(begin).replace(tzinfo=zone).timestamp()) * S
    return first + BIN * np.arange(round(days * 288), dtype=np.int64)


def traffic(starts: np.ndarray, seed: int = 1, growth: float = 0.0) -> list[Key]:
    """Make the traffic of some bins: higher at noon, different every bin, growing by ``growth`` a day."""
    random = np.random.default_rng(seed)
    hour = (starts // S + 8 * 3600) % 86_400 / 3600
    day = (starts - starts[0]) / (86_400 * S)
    shape = (1 + 0.6 * np.sin((hour - 6) / 24 * 2 * np.pi)) * np.exp(growth * day)

    def key(table: Table, link: str, direction: Any, department: str, application: str, mbps: float) -> Key:
        mean = mbps * 1e6 * 300 / 8 / (RATE * SIZE) * shape
        samples = random.poisson(mean * random.gamma(60, 1 / 60, len(starts)))
        return Key(table.name.lower(), link, direction.name.lower(), department, application, samples)

    return [
        *(key(Table.TOTALS, *row[:4], row[4]) for row in _TOTALS),
        *(key(Table.LINK_USAGE, link, way, "unknown", "unclassified", mbps) for link, way, mbps in _LINKS),
    ]


def windows(starts: np.ndarray, keys: Sequence[Key], names: Names = NAMES) -> Iterable[UsageWindow]:
    """Make the windows of 5 min; keys without a sample have no row."""
    directions = {"totals": [d.name.lower() for d in Direction], "link_usage": ["unknown", "in", "out"]}
    tables = [table.name.lower() for table in Table]
    codes = {
        "table": [tables.index(key.table) for key in keys],
        "link": [(names.links if key.table == "link_usage" else names.metering_points).index(key.link) for key in keys],
        "direction": [directions[key.table].index(key.direction) for key in keys],
        "department": [names.departments.index(key.department) for key in keys],
        "application": [names.applications.index(key.application) for key in keys],
    }
    fixed = {column.name: np.asarray(codes.get(column.name, [0] * len(keys))) for column in KEY_COLUMNS}
    samples = np.stack([key.samples for key in keys])
    for place, start in enumerate(starts.tolist()):
        some = np.flatnonzero(samples[:, place])
        count = samples[some, place].astype(float)
        values = {
            "samples": count,
            "octets": RATE * SIZE * count,
            "packets": RATE * count,
            "octets_variance": RATE * (RATE - 1) * SIZE * SIZE * count,
            "packets_variance": RATE * (RATE - 1) * count,
            "octets_largest": np.full(len(some), np.sqrt(RATE * (RATE - 1)) * SIZE),
            "packets_largest": np.full(len(some), np.sqrt(RATE * (RATE - 1))),
            "stated_rate_samples": np.zeros(len(some)),
        }
        columns = {name: array[some] for name, array in fixed.items()} | values
        typed = {c.name: columns[c.name].astype(c.dtype) for c in KEY_COLUMNS + SUM_COLUMNS}
        yield UsageWindow(start, BIN, typed, names)


def fill(path: Path, starts: np.ndarray, keys: Sequence[Key], origin: str = "live", names: Names = NAMES) -> None:
    """Append the traffic to a store, a day at a time."""
    with Store.open(path, files=Hasty()) as store:
        made = list(windows(starts, keys, names))
        for first in range(0, len(made), 2016):
            store.append(made[first : first + 2016], origin)
