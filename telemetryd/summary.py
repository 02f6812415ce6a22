"""The closing summary of a replay: who used how much, how sure that is, and everything that was lost."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.coverage import Verdict
from telemetryd.aggregate.reconcile import Coverage
from telemetryd.aggregate.tally import Tally
from telemetryd.pipeline import sum_columns, words_text
from telemetryd.registry.models import Registry
from telemetryd.replay import Replay
from telemetryd.schema import Direction, LinkDirection, Table, UsageWindow
from telemetryd.store.sums import Sums

CONFIDENCE: Final = 0.95
DIRECTION_BASE: Final = 8
TALKERS: Final = 20


def coverage_row(one: Coverage) -> dict[str, Any]:
    """Describe how the samples of a link and direction agree with its counter."""
    has_ratio = not math.isnan(one.ratio)
    return {
        "link": one.link,
        "direction": one.direction.name.lower(),
        "coverage": one.ratio if has_ratio else None,
        "low": one.low if has_ratio else None,
        "high": one.high if has_ratio else None,
        "alarm": None if one.verdict == Verdict.OK else one.verdict.name.lower(),
        "counter_octets": one.octets,
        "estimated_octets": one.estimated_octets,
        "seconds": one.seconds,
        "interval_s": one.interval_s,
    }


class Summary:
    """Collect windows while they close; :meth:`document` is the shape of ``replay --json`` (docs/replay.md)."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._all = Tally()
        self._departments = Tally()
        self._applications = Tally()
        self._links = Tally()
        self._directions = Tally()

    def add(self, window: UsageWindow) -> None:
        """Add one window of 1 s."""
        columns = window.columns
        totals = columns["table"] == Table.TOTALS
        part = {name: columns[name][totals] for name in columns}
        direction = part["direction"].astype(np.int64)
        self._all.add(np.zeros(len(direction), np.int64), part)
        self._directions.add(direction, part)
        self._departments.add(part["department"] * np.int64(DIRECTION_BASE) + direction, part)
        self._applications.add(part["application"], part)
        links = {name: columns[name][~totals] for name in columns}
        self._links.add(links["link"] * np.int64(DIRECTION_BASE) + links["direction"], links)

    def document(self, replay: Replay, top: int) -> dict[str, Any]:
        """Return the summary; rates are over the whole span, the ``top`` greatest of each kind."""
        pipeline = replay.pipeline
        stats = pipeline.decoder.stats()
        first, last = replay.first_ns, replay.last_ns
        span_ns = last - first if first is not None and last is not None else 0
        total = self._figures(self._all, np.zeros(1, np.intp), span_ns)
        octets = total[0]["octets"] if total else 0.0
        agents = pipeline.tracker.agents()
        return {
            "captures": [self._capture(replay, index) for index in range(len(replay.captures))],
            "span": {
                "from": _time(first),
                "to": _time(last),
                "seconds": span_ns / 1e9,
                "windows": replay.windows,
            },
            "counts": {
                "datagrams": stats["datagrams"],
                "flow_samples": stats["flow_samples"],
                "counters_samples": stats["counters_samples"],
                "discarded_packets": sum(stats["discarded_packets"].values()),
                "agents": int(np.count_nonzero(agents["datagrams"])),
            },
            "loss": self._loss(replay, stats, agents),
            "total": total[0] if total else None,
            "directions": self._rows("direction", _names(Direction), self._directions, span_ns, octets, None),
            "departments": self._department_rows(pipeline.names().departments, span_ns, octets, top),
            "applications": self._application_rows(pipeline.names().applications, span_ns, octets, top),
            "links": self._link_rows(pipeline.names().links, span_ns, top),
            "unclassified": self._unclassified(replay, span_ns, octets),
            "unregistered_agents": pipeline.unregistered_agents(),
            "unknown_structures": {
                kind: [
                    {"enterprise": enterprise, "format": number, "count": count}
                    for (enterprise, number), count in sorted(stats[f"unknown_{kind}"].items())
                ]
                for kind in ("samples", "records")
            },
            "coverage": [] if replay.counters is None else [coverage_row(one) for one in replay.counters.coverages()],
            "store": self._store(replay),
        }

    # --- parts --------------------------------------------------------------------------------------

    def _capture(self, replay: Replay, index: int) -> dict[str, Any]:
        stats = replay.captures[index].stats
        damage = stats.damage
        return {
            "file": str(replay.files[index]),
            "packets": stats.packets,
            "datagrams": stats.datagrams,
            "octets": stats.octets_total,
            "reassembled": stats.reassembled,
            "truncated": stats.truncated,
            "skipped": stats.skipped,
            "damage": {"offset": damage[0], "what": damage[1]} if damage else None,
        }

    def _loss(self, replay: Replay, stats: dict[str, Any], agents: dict[str, NDArray[Any]]) -> dict[str, Any]:
        sources = sum_columns(replay.pipeline.tracker.sources(), "lost", "drops", "restarts")
        streams = sum_columns(agents, "lost", "reordered", "duplicates", "restarts")
        counts = replay.pipeline.windows.counts()
        return {
            "datagrams_lost": streams["lost"],
            "datagrams_reordered": streams["reordered"],
            "datagrams_duplicate": streams["duplicates"],
            "agent_restarts": streams["restarts"],
            "samples_lost": sources["lost"],
            "samples_dropped_by_agents": sources["drops"],
            "samples_late": counts["late_samples"],
            "samples_duplicate": counts["duplicate_samples"],
            "samples_unplaced": counts["unplaced_samples"],
            "undecodable": stats["errors"],
        }

    def _figures(self, tally: Tally, codes: NDArray[np.intp], span_ns: int) -> list[dict[str, Any]]:
        if len(tally.sums["samples"]) == 0 or span_ns == 0:
            return []
        sums = Sums.of({name: column[codes] for name, column in tally.sums.items()})
        return sums.figures(np.full(len(codes), span_ns, np.int64), CONFIDENCE)

    def _rows(
        self,
        key: str,
        names: tuple[str, ...],
        tally: Tally,
        span_ns: int,
        octets: float,
        top: int | None,
    ) -> list[dict[str, Any]]:
        codes = tally.present()[:top]
        figures = self._figures(tally, codes, span_ns)
        return [
            {key: names[code], **row, "share": row["octets"] / octets if octets else 0.0}
            for code, row in zip(codes, figures, strict=False)
        ]

    def _department_rows(self, names: tuple[str, ...], span_ns: int, octets: float, top: int) -> list[dict[str, Any]]:
        sums = self._departments.sums
        present = self._departments.present()
        if len(present) == 0 or span_ns == 0:
            return []
        merged = Tally()
        merged.add(present // DIRECTION_BASE, {name: column[present] for name, column in sums.items()})
        titles = {d.name: d.title.en if d.title else None for d in self._registry.departments}
        rows = []
        codes = merged.present()[:top]
        for code, row in zip(codes, self._figures(merged, codes, span_ns), strict=True):
            by_direction = {
                f"{direction.name.lower()}_bps": float(
                    sums["octets"][code * DIRECTION_BASE + direction : code * DIRECTION_BASE + direction + 1].sum()
                    * 8e9
                    / span_ns
                )
                for direction in (Direction.INBOUND, Direction.OUTBOUND, Direction.INTERNAL)
            }
            share = row["octets"] / octets if octets else 0.0
            name = names[code]
            rows.append({"department": name, "title": titles.get(name), **row, "share": share, **by_direction})
        return rows

    def _application_rows(self, names: tuple[str, ...], span_ns: int, octets: float, top: int) -> list[dict[str, Any]]:
        owners = {a.name: (a.owner, a.title.en if a.title else None) for a in self._registry.applications}
        rows = self._rows("application", names, self._applications, span_ns, octets, top)
        for row in rows:
            row["owner"], row["title"] = owners.get(row["application"], (None, None))
        return rows

    def _link_rows(self, names: tuple[str, ...], span_ns: int, top: int) -> list[dict[str, Any]]:
        codes = self._links.present()[:top]
        capacities = {link.name: self._registry.capacity_bps(link) for link in self._registry.links}
        rows = []
        for code, row in zip(codes, self._figures(self._links, codes, span_ns), strict=False):
            name, direction = names[code // DIRECTION_BASE], LinkDirection(code % DIRECTION_BASE)
            capacity = capacities[name][direction - 1] if name in capacities else None
            rows.append(
                {
                    "link": name,
                    "direction": direction.name.lower(),
                    **row,
                    "capacity_bps": capacity,
                    "utilisation": row["rate_bps"] / capacity if capacity else None,
                }
            )
        return rows

    def _unclassified(self, replay: Replay, span_ns: int, octets: float) -> dict[str, Any]:
        figures = self._figures(self._applications, np.zeros(1, np.intp), span_ns)
        columns = replay.pipeline.windows.unclassified()
        order = np.argsort(-columns["scaled_octets"][1:].astype(np.float64), kind="stable") + 1
        talkers = [
            {
                "address": _address(columns, int(row)),
                "protocol": int(columns["protocol"][row]),
                "port": int(columns["port"][row]),
                "samples": int(columns["samples"][row]),
                "octets": int(columns["scaled_octets"][row]),
            }
            for row in order[:TALKERS]
        ]
        figure = figures[0] if figures else None
        share = figure["octets"] / octets if figure and octets else 0.0
        return {"share": share, "figures": figure, "talkers": talkers}

    def _store(self, replay: Replay) -> dict[str, Any] | None:
        if replay.store is None:
            return None
        stored = replay.stored
        return {
            "path": str(replay.store.path),
            "batches": stored.batches,
            "windows": stored.windows,
            "rows": stored.rows,
            "already_stored": stored.skipped,
        }


def _names(kind: type[Direction]) -> tuple[str, ...]:
    return tuple(member.name.lower() for member in kind)


def _time(moment_ns: int | None) -> str | None:
    if moment_ns is None:
        return None
    return datetime.fromtimestamp(moment_ns // 1_000_000_000, UTC).isoformat().replace("+00:00", "Z")


def _address(columns: dict[str, NDArray[Any]], row: int) -> str | None:
    version, hi, lo = (int(columns[name][row]) for name in ("ip_version", "address_hi", "address_lo"))
    return words_text(version, hi, lo) if version else None
