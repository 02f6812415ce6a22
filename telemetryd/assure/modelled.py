"""What the traffic files of a city say would be sent: the demo's and the examples' ground, without a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from telemetryd.allocate.demand_file import Demand
from telemetryd.assure.offered import Offered, join
from telemetryd.assure.sources import counted, is_elastic
from telemetryd.ingest.generate.city import Load
from telemetryd.ingest.generate.city_model import build_city
from telemetryd.ingest.generate.traffic_file import load_traffic
from telemetryd.ingest.generate.truth import KeyTable
from telemetryd.registry.models import Registry

_NOISE: Final = 0.08
_SEED: Final = 1


def modelled(
    registry: Registry,
    traffic_dir: Path,
    places: Sequence[tuple[str, str, str]],
    start_ns: int,
    steps: int,
    step_s: float,
    seed: int = _SEED,
) -> Offered:
    """Return what a city's applications send over some links.

    Parameters
    ----------
    traffic_dir:
        Traffic files (``policies/example-city/traffic``).
    places:
        (link, direction, whose traffic: ``department`` or ``peer_department``).
    start_ns, steps, step_s:
        Begin of the first step, how many, and how long; a step has the rates of its middle.
    seed:
        Of the variation from step to step.

    Raises
    ------
    InputError
        If the files are not valid.
    """
    traffic = load_traffic(traffic_dir)
    city = build_city(registry, traffic)
    load = Load(traffic, city, ZoneInfo(registry.city.time_zone), seed)
    model = city.model
    rates = np.empty((steps, len(traffic.applications)))
    step_ns = round(step_s * 1e9)
    for step in range(steps):
        begin = start_ns + step * step_ns
        noise = np.random.default_rng((seed, begin // step_ns)).uniform(1 - _NOISE, 1 + _NOISE, rates.shape[1])
        rates[step] = load.application_rates(begin + step_ns // 2) * noise
    parts = []
    for link, direction, whose in places:
        where = counted(registry, link, direction)
        if where.table == "totals":
            tables = [(model.totals_keys, model.hop_totals)]
        else:
            tables = [(model.link_keys, model.hop_link_in), (model.link_keys, model.hop_link_out)]
        found: dict[tuple[str, str], int] = {}
        weights: list[np.ndarray] = []
        for table, codes in tables:
            columns = _columns(table, where.links, where.direction, whose, found)
            while len(weights) < len(found):
                weights.append(np.zeros(rates.shape[1]))
            for hop in np.flatnonzero(codes >= 0).tolist():
                column = columns.get(int(codes[hop]))
                if column is not None:
                    flow = model.hop_flow[hop]
                    weights[column][city.application[flow]] += city.share[flow]
        matrix = np.array(weights).reshape(len(found), rates.shape[1])
        parts.append(
            Offered(
                tuple(Demand(link, direction, department, application, 0) for department, application in found),
                start_ns,
                step_s,
                rates @ matrix.T,
                np.array([is_elastic(registry, application) for _, application in found], np.bool_),
                np.ones(steps, np.bool_),
            )
        )
    return join(parts)


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
