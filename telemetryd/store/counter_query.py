"""What counters of interfaces, queues and components in the store say; what was demanded, and delivered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from telemetryd.allocate.demand import cause_names
from telemetryd.counter_windows import DEMAND_LAYOUT, ENFORCEMENT_LAYOUT
from telemetryd.schema import ENFORCED_RATES, Gauge, QueueKnown
from telemetryd.store.counted import CounterAnswer, Question, Row, ask, rows_between
from telemetryd.store.embedded import Snapshot, Store
from telemetryd.store.levels import SECOND_NS

_COUNTS: Final = tuple(f"{way}_{what}" for way in ("in", "out") for what in ("octets", "packets", "discards", "errors"))
_COVERED: Final = {"covered_ns": "sum(covered_ns)::BIGINT", "flags": "bit_or(flags)"}
_OF_INTERFACE: Final = {
    **{name: f"sum({name})::UBIGINT" for name in _COUNTS},
    **_COVERED,
    "capacity_bps": "arg_max(capacity_bps, time)",
    "up": "arg_max(up, time)",
}
_QUEUE_COUNTS: Final = {bit.name.lower(): bit for bit in QueueKnown}
_OF_QUEUE: Final = {
    **{name: f"sum({name})::UBIGINT" for name in _QUEUE_COUNTS},
    **_COVERED,
    "known": "bit_or(known)",
}
_GAUGES: Final = tuple(gauge.name.lower() for gauge in Gauge)
_OF_COMPONENT: Final = {
    f"{name}_{what}": text
    for name in _GAUGES
    for what, text in (
        ("readings", f"sum({name}_readings)::UBIGINT"),
        ("sum", f"sum({name}_sum)"),
        ("largest", f"max({name}_largest) FILTER (NOT isnan({name}_largest))"),
    )
}


_OF_DEMAND: Final = {
    "samples": "sum(samples)::UBIGINT",
    **{f"{name}_bits": f"sum({name}_bits)" for name in ("usage", "demand", "damped")},
    "demand_largest": "max(demand_largest)",
    "covered_ns": "sum(covered_ns)::BIGINT",
    "censored_ns": "sum(censored_ns)::BIGINT",
    "flags": "bit_or(flags)",
}

_OF_ENFORCEMENT: Final = {
    **{f"{name}_bits": f"sum({name}_bits)" for name in ENFORCED_RATES},
    "samples": "sum(samples)::UBIGINT",
    "dropped_packets": "sum(dropped_packets)::UBIGINT",
    "covered_ns": "sum(covered_ns)::BIGINT",
    "missed_ns": "sum(missed_ns)::BIGINT",
}


def interfaces(
    store: Store,
    from_ns: int | None = None,
    to_ns: int | None = None,
    *,
    devices: Sequence[str] = (),
    names: Sequence[str] = (),
    bucket_ns: int | None = None,
    n: int | None = None,
) -> CounterAnswer:
    """Sum the counters of interfaces over a range, in buckets of time if asked for.

    A row has ``device``, ``interface``, the counts, ``covered_s``, ``in_bps`` and ``out_bps`` over the time that is
    covered, ``capacity_bps`` (None: unknown), ``in_share`` and ``out_share`` of it, ``up`` (None: unknown) and
    ``flags``. The busiest interfaces come first.

    Parameters
    ----------
    from_ns, to_ns:
        As :func:`telemetryd.store.counted.ask` takes them, which says what is raised.
    devices, names:
        Devices and interfaces; none takes all.
    n:
        How many interfaces, the busiest; None for all.
    """
    question = Question("interface", _OF_INTERFACE, {"device": devices, "interface": names}, "interfaces")
    answer = ask(store, question, from_ns, to_ns, bucket_ns)
    return _ordered(
        answer,
        ("device", "interface"),
        lambda row: row["in_octets"] + row["out_octets"],
        _finished_interface,
        n,
    )


def queues(
    store: Store,
    from_ns: int | None = None,
    to_ns: int | None = None,
    *,
    devices: Sequence[str] = (),
    interfaces: Sequence[str] = (),
    directions: Sequence[str] = (),
    names: Sequence[str] = (),
    bucket_ns: int | None = None,
    n: int | None = None,
) -> CounterAnswer:
    """Sum the counters of queues over a range, in buckets of time if asked for: what left them, and what they dropped.

    A row has ``device``, ``interface``, ``direction``, ``queue``, ``octets``, ``packets``, ``dropped_octets``,
    ``dropped_packets`` (None: the device does not count it), ``covered_s``, ``bps`` over the time that is covered,
    ``drop_share`` of the packets that came, and ``flags``. The busiest queues come first.

    Parameters
    ----------
    from_ns, to_ns:
        As :func:`telemetryd.store.counted.ask` takes them, which says what is raised.
    devices, interfaces, directions, names:
        Devices, interfaces, directions (``in``, ``out``) and queues; none takes all.
    n:
        How many queues, the busiest; None for all.
    """
    where = {"device": devices, "interface": interfaces, "direction": directions, "queue": names}
    answer = ask(store, Question("queue", _OF_QUEUE, where, "queues"), from_ns, to_ns, bucket_ns)
    return _ordered(
        answer,
        ("device", "interface", "direction", "queue"),
        lambda row: row["octets"] + row["dropped_octets"],
        _finished_queue,
        n,
    )


def queue_losses(
    snapshot: Snapshot, from_ns: int, to_ns: int, bucket_ns: int
) -> dict[tuple[str, str], list[tuple[int, float, int]]]:
    """Return (device, interface) -> what its queues dropped in buckets of time: (begin in ns, share, packets).

    Buckets without a drop are left out, and so are interfaces without any. May raise OSError where a segment is gone,
    since it was replaced after the snapshot.
    """
    figures = {name: f"sum({name})::UBIGINT" for name in ("packets", "dropped_packets")}
    rows = rows_between(snapshot, Question("queue", figures, {}, "queues"), from_ns, to_ns, bucket_ns)
    sums: dict[tuple[str, str, int], list[int]] = {}
    for row in rows or ():
        own = sums.setdefault((row["device"], row["interface"], row["time_ns"]), [0, 0])
        own[0] += row["packets"]
        own[1] += row["dropped_packets"]
    found: dict[tuple[str, str], list[tuple[int, float, int]]] = {}
    for (device, interface, time_ns), (packets, dropped) in sorted(sums.items()):
        if dropped:
            found.setdefault((device, interface), []).append((time_ns, dropped / (packets + dropped), dropped))
    return found


def components(
    store: Store,
    from_ns: int | None = None,
    to_ns: int | None = None,
    *,
    devices: Sequence[str] = (),
    names: Sequence[str] = (),
    bucket_ns: int | None = None,
    n: int | None = None,
) -> CounterAnswer:
    """Tell what the sensors of components said in a range, in buckets of time if asked for.

    A row has ``device``, ``component``, and of ``temperature`` (degrees Celsius) and ``cpu`` (% of the time) the mean,
    the ``..._largest`` and the number of ``..._readings``; None where there were none. The hottest components come
    first, then the busiest.

    Parameters
    ----------
    from_ns, to_ns:
        As :func:`telemetryd.store.counted.ask` takes them, which says what is raised.
    devices, names:
        Devices and components; none takes all.
    n:
        How many components; None for all.
    """
    question = Question("component", _OF_COMPONENT, {"device": devices, "component": names}, "components")
    answer = ask(store, question, from_ns, to_ns, bucket_ns)
    return _ordered(answer, ("device", "component"), _heat, _finished_component, n, largest=True)


def demands(
    store: Store,
    from_ns: int | None = None,
    to_ns: int | None = None,
    *,
    links: Sequence[str] = (),
    directions: Sequence[str] = (),
    departments: Sequence[str] = (),
    applications: Sequence[str] = (),
    bucket_ns: int | None = None,
    n: int | None = None,
) -> CounterAnswer:
    """Tell what was demanded of links in a range, as it was estimated then, in buckets of time if asked for.

    A row has ``link``, ``direction``, ``department``, ``application``, means of ``usage_bps``, ``demand_bps`` and
    ``damped_bps`` (what was divided by) over the time that is covered, ``demand_largest_bps`` of a period,
    ``censored_share`` of the time, ``causes`` (names), ``samples`` and ``covered_s``. The largest demands come first.

    Parameters
    ----------
    from_ns, to_ns:
        As :func:`telemetryd.store.counted.ask` takes them, which says what is raised.
    links, directions, departments, applications:
        Which; none takes all.
    n:
        How many classes, those with the largest demands; None for all.
    """
    where = {"link": links, "direction": directions, "department": departments, "application": applications}
    question = Question("demand", _OF_DEMAND, where, "demand", "docs/demand.md")
    answer = ask(store, question, from_ns, to_ns, bucket_ns)
    return _ordered(answer, tuple(where), lambda row: row["demand_bits"], _finished_demand, n)


def enforcements(
    store: Store,
    from_ns: int | None = None,
    to_ns: int | None = None,
    *,
    links: Sequence[str] = (),
    directions: Sequence[str] = (),
    nodes: Sequence[str] = (),
    bucket_ns: int | None = None,
    n: int | None = None,
) -> CounterAnswer:
    """Tell what was delivered of what was promised in a range, in buckets of time if asked for.

    A row has ``link``, ``direction``, ``node`` (names from the link down, such as ``tax/filing``), means of
    ``delivered_bps``, ``demand_bps``, ``guarantee_bps``, ``ceiling_bps``, ``rate_bps`` (in force) and ``sampled_bps``
    over the time that is covered, ``dropped_packets``, ``samples``, ``missed_share`` of the time and ``covered_s``. The
    classes to which most was delivered come first.

    Parameters
    ----------
    from_ns, to_ns:
        As :func:`telemetryd.store.counted.ask` takes them, which says what is raised.
    links, directions, nodes:
        Which; none takes all.
    n:
        How many classes, those to which most was delivered; None for all.
    """
    where = {"link": links, "direction": directions, "node": nodes}
    question = Question("enforcement", _OF_ENFORCEMENT, where, "what was delivered", "docs/control-loop.md")
    answer = ask(store, question, from_ns, to_ns, bucket_ns)
    return _ordered(answer, tuple(where), lambda row: row["delivered_bits"], _finished_enforcement, n)


def _ordered(
    answer: CounterAnswer,
    key: tuple[str, ...],
    weight: Callable[[Row], float],
    finished: Callable[[Row], Row],
    n: int | None,
    *,
    largest: bool = False,
) -> CounterAnswer:
    """Keep the names of the most weight, which is added up over buckets or the largest of them, in this order."""

    def name(row: Row) -> tuple[str, ...]:
        return tuple(row[part] for part in key)

    weights: dict[tuple[str, ...], float] = {}
    for row in answer.rows:
        before = weights.get(name(row))
        own = weight(row)
        weights[name(row)] = own if before is None else max(before, own) if largest else before + own
    shown = set(sorted(weights, key=lambda one: (-weights[one], one))[:n])
    rows = [row for row in answer.rows if name(row) in shown]
    rows.sort(key=lambda row: (row.get("time_ns", 0), -weights[name(row)], name(row)))
    return replace(answer, rows=[finished(row) for row in rows])


def _finished_interface(row: Row) -> Row:
    covered_s = row.pop("covered_ns") / SECOND_NS
    capacity = row.pop("capacity_bps") or None
    up, flags = row.pop("up"), row.pop("flags")
    row |= {"covered_s": covered_s}
    for way in ("in", "out"):
        row[f"{way}_bps"] = rate = 8 * row[f"{way}_octets"] / covered_s if covered_s else None
        row[f"{way}_share"] = rate / capacity if capacity and rate is not None else None
    return row | {"capacity_bps": capacity, "up": None if up not in (0, 1) else bool(up), "flags": flags}


def _finished_queue(row: Row) -> Row:
    covered_s = row.pop("covered_ns") / SECOND_NS
    known, flags = row.pop("known"), row.pop("flags")
    for name, bit in _QUEUE_COUNTS.items():
        if not known & bit:
            row[name] = None
    packets, dropped = row["packets"], row["dropped_packets"]
    came = None if packets is None or dropped is None else packets + dropped
    return row | {
        "covered_s": covered_s,
        "bps": 8 * row["octets"] / covered_s if covered_s and row["octets"] is not None else None,
        "drop_share": dropped / came if came else None,
        "flags": flags,
    }


def _finished_demand(row: Row) -> Row:
    covered_ns, flags = row.pop("covered_ns"), row.pop("flags")
    found = {name: value for name, value in row.items() if name in ("time_ns", *DEMAND_LAYOUT.names)}
    for name in ("usage", "demand", "damped"):
        found[f"{name}_bps"] = row[f"{name}_bits"] * SECOND_NS / covered_ns if covered_ns else None
    return found | {
        "demand_largest_bps": row["demand_largest"],
        "censored_share": row["censored_ns"] / covered_ns if covered_ns else None,
        "causes": cause_names(flags),
        "samples": row["samples"],
        "covered_s": covered_ns / SECOND_NS,
    }


def _finished_enforcement(row: Row) -> Row:
    covered_ns = row["covered_ns"]
    found = {name: value for name, value in row.items() if name in ("time_ns", *ENFORCEMENT_LAYOUT.names)}
    for name in ENFORCED_RATES:
        found[f"{name}_bps"] = row[f"{name}_bits"] * SECOND_NS / covered_ns if covered_ns else None
    return found | {
        "dropped_packets": row["dropped_packets"],
        "samples": row["samples"],
        "missed_share": row["missed_ns"] / covered_ns if covered_ns else None,
        "covered_s": covered_ns / SECOND_NS,
    }


def _heat(row: Row) -> float:
    """Return what components are ordered by: the temperature, and below all temperatures the load."""
    hottest = row["temperature_largest"]
    return hottest if hottest is not None else (row["cpu_largest"] or 0.0) / 100 - 1000


def _finished_component(row: Row) -> Row:
    found = {name: value for name, value in row.items() if name in ("time_ns", "device", "component")}
    for name in _GAUGES:
        readings = row[f"{name}_readings"]
        found[name] = row[f"{name}_sum"] / readings if readings else None
        found[f"{name}_largest"] = row[f"{name}_largest"] if readings else None
        found[f"{name}_readings"] = readings
    return found
