"""Benchmark traffic over a city's own names and addresses: every department uses every application."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.config.positions import without_gc
from telemetryd.ingest.generate.city_model import CityBuilder, Service
from telemetryd.ingest.generate.model import FlowSpec, Model
from telemetryd.ingest.generate.traffic_file import ApplicationTraffic, TrafficFile
from telemetryd.registry.fields import Network
from telemetryd.registry.load import load_registry
from telemetryd.registry.models import Registry

APPLICATIONS: Final = 700
_IPV6_PERCENT: Final = 20
_TAGGED_PERCENT: Final = 30
_EXPONENT: Final = 0.9
_RANKS_SEED: Final = 21  # gives the frequent pairs about the same mix as all pairs


@cache
def city_benchmark_model(registry_dir: Path, rate: int, applications: int = APPLICATIONS) -> Model:
    """Return flows, there and back, between every department and the first ``applications`` applications.

    A pair's packets are sampled on one device of their way, so that agents and interfaces vary; one
    packet in five is IPv6 and three in ten are tagged, as nearly as the city allows.
    """
    with without_gc():
        registry = load_registry(registry_dir)
        return _model(registry, CityBuilder(registry, TrafficFile(version=1), rate), applications)


def _model(registry: Registry, builder: CityBuilder, applications: int) -> Model:
    offices: dict[tuple[str, int], list[Network]] = {}
    for network in registry.networks:
        is_default = network.instance in (None, registry.default_instance)
        segment = (registry.default_instance, str(network.prefix)) in builder.segment_sites
        is_translated = any(network.prefix in pool.prefixes for pool in registry.nat_pools)
        if network.department is not None and is_default and not segment and not is_translated:
            offices.setdefault((network.department, network.prefix.version), []).append(network.prefix)
    offered = _services(builder, [one.name for one in registry.applications[:applications]])
    dual = sum(6 in services for _, services in offered) / max(len(offered), 1)
    forced = sum(builder.vlans[services[4].instance] > 0 for _, services in offered) / max(len(offered), 1)
    ipv6_percent = _IPV6_PERCENT / max(dual, 0.01)
    tagged_percent = 100 * (_TAGGED_PERCENT / 100 - forced) / max(1 - forced, 0.01)

    rng = np.random.Generator(np.random.PCG64(applications))
    flows: list[FlowSpec] = []
    for department in registry.departments:
        for entry, services in offered:
            draws = rng.integers(0, 100, 2)
            choice = int(rng.integers(0, 1 << 30))
            version = 6 if 6 in services and draws[0] < ipv6_percent else 4
            prefixes = offices.get((department.name, version), [])
            if not prefixes:
                continue
            prefix, service = prefixes[choice % len(prefixes)], services[version]
            client = builder.places.find(prefix.network_address, service.instance)
            user = builder.places.hosts(prefix, service.instance)
            keeps_tag = builder.vlans[service.instance] > 0 or draws[1] < tagged_percent
            pair = [flow for flow, _ in builder.pair(entry, service, client, user, 1.0, choice, choice // 7)]
            if len(pair) == 2:  # fewer where the device samples nothing of one direction
                flows += pair if keeps_tag else [_untagged(flow) for flow in pair]
    return builder.model(flows)


def _untagged(flow: FlowSpec) -> FlowSpec:
    (hop,) = flow.path
    return replace(flow, path=(replace(hop, vlan_id=0),))


def zipf_flow_rates(model: Model, packets_per_s: float, request_share: float) -> NDArray[np.float64]:
    """Return bit/s of each flow: Zipf over the pairs, so that packets per second sum to ``packets_per_s``.

    Which pair is how frequent is scattered over departments and applications.
    """
    pairs = len(model.flows) // 2
    rank = np.random.Generator(np.random.PCG64(_RANKS_SEED)).permutation(pairs)
    weights = 1 / (1 + rank) ** _EXPONENT
    packets = np.repeat(weights / weights.sum() * packets_per_s, 2)
    packets[::2] *= request_share
    packets[1::2] *= 1 - request_share
    return np.asarray(packets * model.mean_octets() * 8, np.float64)


def _services(builder: CityBuilder, names: list[str]) -> list[tuple[ApplicationTraffic, dict[int, Service]]]:
    """Return each application with its first service of each IP version; IPv4 is always there."""
    anybody = builder.registry.networks[0].prefix
    found = []
    for name in names:
        entry = ApplicationTraffic.model_validate(
            {"application": name, "pattern": "", "peak": "1 bit/s", "path": "district", "users": [str(anybody)]}
        )
        services: dict[int, Service] = {}
        for service in builder.services(entry):
            services.setdefault(service.end.version, service)
        if 4 in services:
            found.append((entry, services))
    return found
