"""What the traffic files of a city say would be sent: the demo's and the examples' ground, without a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from telemetryd.allocate.demand_file import Demand
from telemetryd.assure.offered import Floats, Offered, join
from telemetryd.assure.sources import counted, is_elastic
from telemetryd.ingest.generate.city import Load
from telemetryd.ingest.generate.city_model import build_city
from telemetryd.ingest.generate.traffic_file import load_traffic
from telemetryd.ingest.generate.truth import KeyTable
from telemetryd.registry.models import Registry

_NOISE: Final = 0.08
_SEED: Final = 1


class Modelled:
    """A city's traffic by its traffic files, for any time.

    Parameters
    ----------
    registry, traffic_dir:
        The city, and its traffic files (``policies/example-city/traffic``).
    seed:
        Of the variation from step to step.

    Raises
    ------
    InputError
        If the files are not valid, or do not fit the registry.
    """

    def __init__(self, registry: Registry, traffic_dir: Path, seed: int = _SEED) -> None:
        traffic = load_traffic(traffic_dir)
        self._registry = registry
        self._city = build_city(registry, traffic)
        self._load = Load(traffic, self._city, ZoneInfo(registry.city.time_zone), seed)
        self._seed = seed
        self._applications = len(traffic.applications)

    def offered(self, places: Sequence[tuple[str, str, str]], start_ns: int, steps: int, step_s: float) -> Offered:
        """Return what the city's applications send over some links; a step has the rates of its middle.

        Parameters
        ----------
        places:
            (link, direction, whose traffic: ``department`` or ``peer_department``).
        start_ns, steps, step_s:
            Begin of the first step, how many, and how long.
        """
        rates = np.empty((steps, self._applications))
        step_ns = round(step_s * 1e9)
        for step in range(steps):
            begin = start_ns + step * step_ns
            random = np.random.default_rng((self._seed, begin // step_ns))
            noise = random.uniform(1 - _NOISE, 1 + _NOISE, self._applications)
            rates[step] = self._load.application_rates(begin + step_ns // 2) * noise
        return join([self._part(place, rates, start_ns, step_s) for place in places])

    def _part(self, place: tuple[str, str, str], rates: Floats, start_ns: int, step_s: float) -> Offered:
        link, direction, whose = place
        where = counted(self._registry, link, direction)
        model = self._city.model
        if where.table == "totals":
            tables = [(model.totals_keys, model.hop_totals)]
        else:
            tables = [(model.link_keys, model.hop_link_in), (model.link_keys, model.hop_link_out)]
        found: dict[tuple[str, str], int] = {}
        weights: list[Floats] = []
        for table, codes in tables:
            columns = _columns(table, where.links, where.direction, whose, found)
            weights += [np.zeros(self._applications) for _ in range(len(found) - len(weights))]
            for hop in np.flatnonzero(codes >= 0).tolist():
                column = columns.get(int(codes[hop]))
                if column is not None:
                    flow = model.hop_flow[hop]
                    weights[column][self._city.application[flow]] += self._city.share[flow]
        matrix = np.array(weights).reshape(len(found), self._applications)
        return Offered(
            tuple(Demand(link, direction, department, application, 0) for department, application in found),
            start_ns,
            step_s,
            rates @ matrix.T,
            np.array([is_elastic(self._registry, application) for _, application in found], np.bool_),
            np.ones(len(rates), np.bool_),
        )


def _columns(
    table: KeyTable, links: tuple[str, ...], direction: str, whose: str, found: dict[tuple[str, str], int]
) -> dict[int, int]:
    """Return code of a key -> column, for the keys that are counted; new columns are added to those found."""
    side = table.names.index(whose)
    columns = {}
    for code, row in enumerate(table.rows):
        if row[0] in links and row[1] == direction:
            columns[code] = found.setdefault((row[side], row[-1]), len(found))
    return columns
