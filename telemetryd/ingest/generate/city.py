"""The traffic of a whole city, from its registry and traffic files: the demo's and the tests' ground."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from telemetryd.ingest.generate.city_model import CityModel, build_city
from telemetryd.ingest.generate.traffic import NS, Event, GeneratedBlock, Traffic
from telemetryd.ingest.generate.traffic_file import TrafficFile, load_traffic
from telemetryd.registry.load import load_registry

_NOISE: Final = 0.08  # an application's rate varies by so much from minute to minute
_MINUTE_NS: Final = 60 * NS


class CityTraffic:
    """Traffic of a city as its switches and routers report it by sFlow.

    Parameters
    ----------
    registry_dir, traffic_dir:
        Directories of YAML files (docs/registry.md; ``policies/example-city/traffic``).
    seed:
        Of the random numbers: the same seed gives the same octets.
    start:
        Where event time begins: ns since the epoch, or a time (in the city's time zone if it has none).
    scale:
        Multiplies every rate.
    sampling:
        1 in N everywhere, instead of the traffic files' rates.
    lapse:
        Time lapse: the load runs through its day so many times as fast as event time does.
    events, drop_share, counters_s, first_pool, first_sequence, reuse_buffer:
        As :class:`telemetryd.ingest.generate.traffic.Traffic` has them.

    Raises
    ------
    InputError
        If the files are not valid or the traffic does not fit the registry.
    """

    def __init__(
        self,
        registry_dir: Path,
        traffic_dir: Path,
        seed: int,
        start: int | datetime,
        scale: float = 1.0,
        sampling: int | None = None,
        *,
        events: Sequence[Event] = (),
        drop_share: float = 0.0,
        counters_s: int = 20,
        first_pool: int = 0,
        first_sequence: int = 0,
        reuse_buffer: bool = False,
        lapse: float = 1.0,
    ) -> None:
        registry = load_registry(registry_dir)
        traffic = load_traffic(traffic_dir)
        zone = ZoneInfo(registry.city.time_zone)
        self.city = build_city(registry, traffic, sampling)
        self.start_ns = _to_ns(start, zone)
        self._load = Load(traffic, self.city, zone, seed)
        self._scale = scale
        self._traffic = Traffic(
            self.city.model,
            lambda ts_ns: self._load.rates(self.start_ns + round((ts_ns - self.start_ns) * lapse)) * scale,
            seed,
            self.start_ns,
            events=events,
            drop_share=drop_share,
            counters_s=counters_s,
            first_pool=first_pool,
            first_sequence=first_sequence,
            reuse_buffer=reuse_buffer,
        )

    def generate(self, seconds: float, window_s: float = 1) -> Iterator[GeneratedBlock]:
        """Yield the blocks of ``seconds`` of event time; a later call goes on where this one ended."""
        return self._traffic.generate(seconds, window_s)


class Load:
    """How much each flow of a city carries at a time: day patterns, days off, events, noise."""

    def __init__(self, traffic: TrafficFile, city: CityModel, zone: ZoneInfo, seed: int) -> None:
        self._zone = zone
        self._seed = seed
        self._city = city
        entries = traffic.applications
        self._peak = np.array([entry.peak for entry in entries], np.float64)
        self._idle = np.array([entry.idle for entry in entries], np.float64)
        patterns = [traffic.patterns[entry.pattern] for entry in entries]
        self._hours = np.array([pattern.hours for pattern in patterns], np.float64).reshape(-1, 24)
        self._weekend = np.array([pattern.weekend for pattern in patterns], np.float64)
        rows = {entry.application: row for row, entry in enumerate(entries)}
        self._events = [
            (_to_ns(event.start, zone), _to_ns(event.end, zone), rows[event.application], event.factor)
            for event in traffic.events
            if event.application in rows
        ]

    def application_rates(self, ts_ns: int) -> NDArray[np.float64]:
        """Return bit/s of each application of the traffic files, without noise.

        An hour's share of the peak holds at the full hour and changes evenly to the next one's. Outside
        its events an application has its idle share; where events overlap, the last one listed counts.
        """
        local = datetime.fromtimestamp(ts_ns / NS, self._zone)
        part = local.minute / 60 + local.second / 3600
        share = self._hours[:, local.hour] * (1 - part) + self._hours[:, (local.hour + 1) % 24] * part
        factor = self._idle.copy()
        for start_ns, end_ns, row, value in self._events:
            if start_ns <= ts_ns < end_ns:
                factor[row] = value
        is_weekend = local.weekday() >= 5
        return self._peak * share * factor * (self._weekend if is_weekend else 1.0)

    def rates(self, ts_ns: int) -> NDArray[np.float64]:
        """Return bit/s of each flow, shape (f,)."""
        noise = np.random.default_rng((self._seed, ts_ns // _MINUTE_NS)).uniform(
            1 - _NOISE, 1 + _NOISE, len(self._peak)
        )
        rates = self.application_rates(ts_ns) * noise
        return np.asarray(rates[self._city.application] * self._city.share, np.float64)


def _to_ns(time: int | datetime, zone: ZoneInfo) -> int:
    if isinstance(time, int):
        return time
    aware = time if time.tzinfo is not None else time.replace(tzinfo=zone)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
