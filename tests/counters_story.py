"""A counting component that is told a story, for tests: updates and samples at times of its own clock."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np

from telemetryd._ext import load
from telemetryd.aggregate.sampled_counters import OF_DATAGRAM
from telemetryd.counter_windows import CounterWindow
from telemetryd.counting import Counting
from telemetryd.ingest.gnmi.login import Login
from telemetryd.ingest.gnmi.paths import PathTable, Resolver
from telemetryd.ingest.gnmi.subscription import Wanted
from telemetryd.registry.models import SECTIONS, Registry, RegistryFile
from telemetryd.schema import COUNTER_COLUMNS, UpdateBatch
from telemetryd.targets import TargetPlan
from tests.gnmi_client import endpoint
from tests.gnmi_messages import notification, packed, update
from tests.small_city import SMALL_CITY, halves

SECOND_NS = 1_000_000_000
TEN_NS = 10 * SECOND_NS
BASE_NS = 1_790_000_040 * SECOND_NS  # the begin of a minute
HOUR_NS = 3600 * SECOND_NS


def registry() -> Registry:
    """Return the small city, with an interface whose number and speed are known."""
    city: dict[str, Any] = {**SMALL_CITY}
    city["devices"] = [{**device} for device in city["devices"]]
    city["devices"][0]["interfaces"][0] = {"name": "exit", "index": 1, "speed": "10 Gbit/s"}
    file = RegistryFile.model_validate(city)
    return Registry(Path("small-city"), **{section: getattr(file, section) for section in SECTIONS})


class Story:
    """A counting component with a clock of its own, and what it hands on."""

    def __init__(self, tmp_path: Path, start_s: int = 0) -> None:
        self.now_ns = BASE_NS + start_s * SECOND_NS
        self.windows: list[CounterWindow] = []
        self.grown: list[int] = []
        self.counting = Counting(
            registry(),
            self.windows.append,
            store=tmp_path / "store",
            on_growth=lambda growth, offset_ns, feeds: self.grown.extend(growth["growth"].tolist()),
            clock=lambda: self.now_ns,
        )
        self.paths, self.batch = PathTable(), UpdateBatch(4096, 1 << 17)
        module = load("gnmi_wire", "telemetryd.ingest.gnmi.gnmi_wire_reference")
        self.decoder = module.Decoder(self.batch, 0, Resolver(self.paths), np.zeros(0, np.int64))
        self.plan = TargetPlan(Wanted("CR01", endpoint(1, "fast"), ()), Login(), False, 64, TEN_NS)

    def leaves(self, at_s: float, *leaves: Any) -> None:
        """Send leaves as they are."""
        self.now_ns = BASE_NS + int(at_s * SECOND_NS)
        self.batch.clear()
        self.decoder.decode(*packed([notification(*leaves, timestamp=self.now_ns)]), 0, self.now_ns)
        self.counting.take_updates(self.batch, self.paths, {0: self.plan})

    def update(self, at_s: float, skew_s: float = 0, plans: dict[int, TargetPlan] | None = None, **values: int) -> None:
        """Send leaves of an interface called xe1, of which the device says that its ifIndex is 1."""
        self.now_ns = BASE_NS + int(at_s * SECOND_NS)
        branch = "/interfaces/interface[name=xe1]/state"
        leaves = [
            update(f"{branch}/counters/{name.replace('_', '-')}", uint_val=value) for name, value in values.items()
        ]
        leaves += [update(f"{branch}/ifindex", uint_val=1), update(f"{branch}/oper-status", string_val="UP")]
        message = notification(*leaves, timestamp=self.now_ns - int(skew_s * SECOND_NS))
        self.batch.clear()
        self.decoder.decode(*packed([message]), 0, self.now_ns)
        self.counting.take_updates(self.batch, self.paths, {0: self.plan} if plans is None else plans)

    def sample(
        self, at_s: float, sequence: int, *, agent: str = "100.64.255.1", uptime: int | None = None, **values: int
    ) -> None:
        """Send a counters sample; columns that are not given are unknown."""
        self.now_ns = BASE_NS + int(at_s * SECOND_NS)
        row = {c.name: np.iinfo(c.dtype).max for c in COUNTER_COLUMNS if c.name.startswith(("in_", "out_"))}
        row |= {"sequence_number": sequence, "if_index": 1, "if_speed_bps": 10**9, "if_status": 3} | values
        address = ip_address(agent)
        hi, lo = halves(int(address), address.version)
        origin = (address.version, hi, lo, 0, int(at_s * 1000) if uptime is None else uptime, self.now_ns)
        rows = {c.name: np.array([row.get(c.name, 0)], c.dtype) for c in COUNTER_COLUMNS if c.name != "datagram"}
        rows |= {name: np.array([value]) for name, value in zip(OF_DATAGRAM, origin, strict=True)}
        self.counting.take_samples([rows])

    def close(self, at_s: float, *, is_last: bool = False, kind: str = "interface") -> list[CounterWindow]:
        """Let the component have its turn; return the windows of 10 s of a kind that it closed."""
        self.now_ns = BASE_NS + int(at_s * SECOND_NS)
        known = len(self.windows)
        self.counting._turn(is_last=is_last)
        return [window for window in self.windows[known:] if (window.layout.kind, window.span_ns) == (kind, TEN_NS)]


def rows(window: CounterWindow, *columns: str) -> dict[tuple[str, ...], tuple[Any, ...]]:
    """Return name -> what is in some columns of a window."""
    cells = zip(*(window.columns[name].tolist() for name in columns), strict=True)
    return dict(zip([window.names[i] for i in window.columns[window.layout.kind]], cells, strict=True))
