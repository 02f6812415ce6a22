"""The daemon's metrics, all of them: what Prometheus reads at ``/metrics``.

``python -m telemetryd.serve.metrics docs/metrics.md`` brings the reference up to date; a test fails while it
is stale.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from telemetryd import __version__
from telemetryd.aggregate.coverage import Verdict
from telemetryd.aggregate.reconcile import Coverage
from telemetryd.alerts import AlertCounters
from telemetryd.alerts.receiver import ReceiverCounters
from telemetryd.assure.link_demand import LinkDemand
from telemetryd.config.generated import replace_generated
from telemetryd.counting import CountingCounters
from telemetryd.demanding import DemandCounters
from telemetryd.enforcing import EnforcingCounters
from telemetryd.ingest.gnmi.target import Phase
from telemetryd.live import AgentCounters, LiveCounters, SocketCounters
from telemetryd.observe.health import Health, State
from telemetryd.observe.metrics import MetricSpec, Reading, reference
from telemetryd.outputs import Figure, OutputsCounters
from telemetryd.store.influx.sender import SenderCounters
from telemetryd.store.series import span_name
from telemetryd.subscriber import TargetCounters
from telemetryd.writer import WriterCounters

BEGIN: Final = "<!-- generated from telemetryd/serve/metrics.py: do not edit below -->\n"
SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at the daemon: what the metrics are read from.

    ``live`` is None before the first socket is open; ``reloads`` counts by result; times are ns since the epoch.
    """

    live: LiveCounters | None = None
    store: WriterCounters = field(default_factory=WriterCounters)
    outputs: OutputsCounters = field(default_factory=OutputsCounters)
    output_states: Mapping[str, State] = field(default_factory=dict)
    alerts: AlertCounters = field(default_factory=AlertCounters)
    targets: Sequence[TargetCounters] = ()
    counting: CountingCounters = field(default_factory=CountingCounters)
    coverages: Sequence[Coverage] = ()
    reconciled: Mapping[str, int] = field(default_factory=dict)
    demand: DemandCounters = field(default_factory=DemandCounters)
    enforcing: EnforcingCounters = field(default_factory=EnforcingCounters)
    health: Mapping[str, Health] = field(default_factory=dict)
    reloads: Mapping[str, int] = field(default_factory=dict)
    started_ns: int = 0
    loaded_ns: int = 0


Spec = MetricSpec[Observed]
_NO_LABEL: Final = ()


def _live(read: Callable[[LiveCounters], float]) -> Callable[[Observed], Iterable[Reading]]:
    return lambda seen: [] if seen.live is None else [(_NO_LABEL, read(seen.live))]


def _sockets(read: Callable[[SocketCounters], float]) -> Callable[[Observed], Iterable[Reading]]:
    def readings(seen: Observed) -> Iterable[Reading]:
        return [] if seen.live is None else [((str(n),), read(one)) for n, one in enumerate(seen.live.sockets)]

    return readings


def _outcomes(seen: Observed) -> Iterable[Reading]:
    """Yield the datagrams of each socket by what became of them: together, they are all that came."""
    for number, one in enumerate(seen.live.sockets if seen.live else ()):
        for outcome in ("processed", "shed", "capped", "refused", "short"):
            yield (str(number), outcome), getattr(one, outcome)


def _agents(read: Callable[[AgentCounters], float]) -> Callable[[Observed], Iterable[Reading]]:
    return lambda seen: [] if seen.live is None else [((name,), read(one)) for name, one in seen.live.agents.items()]


def _store(read: Callable[[WriterCounters], float]) -> Callable[[Observed], Iterable[Reading]]:
    return lambda seen: [(_NO_LABEL, read(seen.store))]


def _spool(read: Callable[[OutputsCounters], float]) -> Callable[[Observed], Iterable[Reading]]:
    return lambda seen: [(_NO_LABEL, read(seen.outputs))]


def _outputs(read: Callable[[SenderCounters], float]) -> Callable[[Observed], Iterable[Reading]]:
    return lambda seen: [((name,), read(one)) for name, one in seen.outputs.senders.items()]


def _receivers(read: Callable[[ReceiverCounters], float]) -> Callable[[Observed], Iterable[Reading]]:
    return lambda seen: [((name,), read(one)) for name, one in seen.alerts.receivers.items()]


def _behind(seen: Observed) -> Iterable[Reading]:
    for name, one in seen.outputs.senders.items():
        yield (name,), (time.time_ns() - one.pending.oldest_ns) / SECOND_NS if one.pending.entries else 0.0


def _undecodable(seen: Observed) -> Iterable[Reading]:
    return [((reason,), count) for reason, count in seen.live.undecodable.items()] if seen.live else []


def _lost_samples(seen: Observed) -> Iterable[Reading]:
    if seen.live is not None:
        yield ("late",), seen.live.late_samples
        yield ("duplicate",), seen.live.duplicate_samples
        yield ("unplaced",), seen.live.unplaced_samples


#: What was refused of a target's messages, as the decoder counts it (docs/gnmi.md).
_REFUSED: Final = (
    "malformed", "not_utf8", "bad_json", "bad_value", "value_too_long", "path_overflow", "bad_path", "path_too_long",
    "annotation", "valueless",
)  # fmt: skip


def _targets(read: Callable[[TargetCounters], float | None]) -> Callable[[Observed], Iterable[Reading]]:
    return lambda seen: [((one.name,), value) for one in seen.targets if (value := read(one)) is not None]


def _counted(name: str) -> Callable[[Observed], Iterable[Reading]]:
    return _targets(lambda one: one.counts.get(name, 0))


def _counting(read: Callable[[CountingCounters], float]) -> Callable[[Observed], Iterable[Reading]]:
    return lambda seen: [(_NO_LABEL, read(seen.counting))]


def _coverage(read: Callable[[Coverage], float]) -> Callable[[Observed], Iterable[Reading]]:
    return lambda seen: [
        ((one.link, one.direction.name.lower()), value)
        for one in seen.coverages
        if (value := read(one)) == value  # not a number: the counter stood still
    ]


def _demand(read: Callable[[DemandCounters], float]) -> Callable[[Observed], Iterable[Reading]]:
    return lambda seen: [(_NO_LABEL, read(seen.demand))]


def _of_demand(read: Callable[[LinkDemand], float]) -> Callable[[Observed], Iterable[Reading]]:
    return lambda seen: [((one.link, one.direction), read(one)) for one in seen.demand.table.links]


def _demand_rates(seen: Observed) -> Iterable[Reading]:
    for one in seen.demand.table.links:
        for kind in ("usage", "demand", "damped"):
            yield (one.link, one.direction, kind), float(getattr(one, f"{kind}_bps").sum())


def _lost_counters(seen: Observed) -> Iterable[Reading]:
    yield _NO_LABEL, seen.counting.lost_samples + (seen.live.lost_counters_samples if seen.live else 0)


def _phases(seen: Observed) -> Iterable[Reading]:
    phases = Counter(one.state.phase for one in seen.targets)
    return [((phase.value,), phases[phase]) for phase in Phase if phase is not Phase.ENDED] if seen.targets else []


def _refused(seen: Observed) -> Iterable[Reading]:
    for one in seen.targets:
        for reason in _REFUSED:
            if count := one.counts.get(reason, 0):
                yield (one.name, reason), count


def _enforcing(read: Callable[[EnforcingCounters], float]) -> Callable[[Observed], Iterable[Reading]]:
    return lambda seen: [(_NO_LABEL, read(seen.enforcing))]


METRICS: Final[tuple[Spec, ...]] = (
    Spec("info", "gauge", "1, with the version.", ("version",), lambda seen: [((__version__,), 1)]),
    Spec(
        "start_time_seconds", "gauge", "When the daemon was started.", (),
        lambda seen: [(_NO_LABEL, seen.started_ns / SECOND_NS)],
    ),
    Spec(
        "component_state", "gauge", "Health of a component: 0 ok, 1 degraded, 2 failed.", ("component",),
        lambda seen: [((name,), float(health.state)) for name, health in seen.health.items()],
    ),
    Spec(
        "reloads_total", "counter", "Reloads by result: `done`, or `refused` (the old configuration goes on).",
        ("result",), lambda seen: [((result,), count) for result, count in seen.reloads.items()],
    ),
    Spec(
        "loaded_time_seconds", "gauge", "When configuration and registry in use were loaded.", (),
        lambda seen: [(_NO_LABEL, seen.loaded_ns / SECOND_NS)],
    ),
    # --- receive ---
    Spec(
        "receive_datagrams_total", "counter",
        "Datagrams received by a socket, each under one outcome: `processed`, `shed` (overload), `capped` (its agent "
        "sends too much), `refused` (unknown sender), `short` (no sFlow header).",
        ("socket", "outcome"), _outcomes,
    ),
    Spec("receive_octets_total", "counter", "Octets of all received datagrams.", ("socket",),
         _sockets(lambda one: one.octets)),
    Spec("receive_truncated_total", "counter", "Datagrams cut for being too long; they have an outcome as well.",
         ("socket",), _sockets(lambda one: one.truncated)),
    Spec("receive_kernel_drops_total", "counter", "Datagrams that the kernel dropped, the receive buffer being full.",
         ("socket",), _sockets(lambda one: one.kernel_drops)),
    Spec("receive_wakes_total", "counter", "Batches received.", ("socket",), _sockets(lambda one: one.wakes)),
    Spec("receive_backlog_octets", "gauge", "Kernel memory taken by datagrams that wait.", ("socket",),
         _sockets(lambda one: one.backlog)),
    Spec("receive_buffer_octets", "gauge", "Kernel memory that waiting datagrams may take.", ("socket",),
         _sockets(lambda one: one.receive_buffer)),
    Spec("receive_keep_ratio", "gauge", "Share of the datagrams that shedding leaves; 1 when not overloaded.",
         ("socket",), _sockets(lambda one: one.keep_share)),
    # --- agents ---
    Spec("agent_datagrams_total", "counter", "Datagrams received of an agent.", ("agent",),
         _agents(lambda one: one.received)),
    Spec("agent_samples_total", "counter", "Flow samples of an agent that were decoded.", ("agent",),
         _agents(lambda one: one.samples)),
    Spec("agent_lost_datagrams_total", "counter",
         "Gaps in the sequence of an agent's datagrams, shed and capped ones not counted: lost in network or kernel.",
         ("agent",), _agents(lambda one: one.lost_outside)),
    Spec("agent_shed_datagrams_total", "counter", "Datagrams of an agent shed under overload.", ("agent",),
         _agents(lambda one: one.shed)),
    Spec("agent_capped_datagrams_total", "counter", "Datagrams of an agent above its cap.", ("agent",),
         _agents(lambda one: one.capped)),
    Spec("agent_reordered_datagrams_total", "counter", "Datagrams of an agent that came late.", ("agent",),
         _agents(lambda one: one.reordered)),
    Spec("agent_duplicate_datagrams_total", "counter", "Datagrams of an agent that came twice.", ("agent",),
         _agents(lambda one: one.duplicates)),
    Spec("agent_restarts_total", "counter", "Restarts of an agent, by its uptime and sequence.", ("agent",),
         _agents(lambda one: one.restarts)),
    Spec("agent_dropped_samples_total", "counter", "Samples that an agent says it dropped for lack of resources.",
         ("agent",), _agents(lambda one: one.samples_dropped)),
    # --- decode and windows ---
    Spec("decode_flow_samples_total", "counter", "Flow samples decoded.", (), _live(lambda live: live.flow_samples)),
    Spec("decode_counters_samples_total", "counter", "Counters samples decoded.", (),
         _live(lambda live: live.counters_samples)),
    Spec("decode_discarded_packets_total", "counter", "Records of packets that an exporter discarded.", (),
         _live(lambda live: live.discarded_packets)),
    Spec("decode_errors_total", "counter", "Datagrams or samples that could not be decoded, by reason.", ("reason",),
         _undecodable),
    Spec("decode_unknown_structures_total", "counter", "Samples and records of unknown type, skipped.", (),
         _live(lambda live: live.unknown_structures)),
    Spec("window_lost_samples_total", "counter",
         "Decoded samples that no figure holds: `late`, `duplicate`, or `unplaced` (no link, no metering point).",
         ("cause",), _lost_samples),
    Spec("windows_total", "counter", "Windows of 1 s closed.", (), _live(lambda live: live.windows)),
    Spec("window_delay_seconds", "gauge", "How long after its end the last window was closed.", (),
         _live(lambda live: live.last_delay_ns / SECOND_NS)),
    Spec("window_worst_delay_seconds", "gauge", "The longest such delay since the start.", (),
         _live(lambda live: live.worst_delay_ns / SECOND_NS)),
    Spec("clock_error_seconds", "gauge", "The system's clock less the clock of the windows.", (),
         _live(lambda live: live.clock.error_ns / SECOND_NS)),
    Spec("clock_steps_total", "counter", "Steps of the system's clock.", (), _live(lambda live: live.clock.steps)),
    # --- gNMI targets ---
    Spec("gnmi_targets", "gauge", "Targets by what is going on with them: `waiting`, `connecting`, `syncing`, "
         "`streaming`.", ("phase",), _phases),
    Spec("gnmi_target_state", "gauge", "How a target is: 0 ok, 1 degraded, 2 failed.", ("target",),
         _targets(lambda one: float(one.health))),
    Spec("gnmi_connections_total", "counter", "Connections to a target that were made.", ("target",),
         _counted("connections")),
    Spec("gnmi_messages_total", "counter", "Messages of a target.", ("target",), _counted("messages")),
    Spec("gnmi_updates_total", "counter", "Updates of a target that were decoded.", ("target",), _counted("updates")),
    Spec("gnmi_deletes_total", "counter", "Deletes of a target.", ("target",), _counted("deletes")),
    Spec("gnmi_refused_total", "counter",
         "What was refused of a target's messages, by reason (docs/gnmi.md); those that are 0 are left out.",
         ("target", "reason"), _refused),
    Spec("gnmi_slowed_total", "counter", "How often a target was slowed: it took too much of the processor.",
         ("target",), _counted("slowed")),
    Spec("gnmi_skew_seconds", "gauge", "Our clock less the target's, the way included.", ("target",),
         _targets(lambda one: None if one.state.delay_ns is None else one.state.delay_ns / SECOND_NS)),
    Spec("gnmi_interval_seconds", "gauge", "How far apart a target's counters were of late.", ("target",),
         _targets(lambda one: None if one.achieved_ns is None else one.achieved_ns / SECOND_NS)),
    Spec("gnmi_asked_interval_seconds", "gauge", "How far apart they were asked for.", ("target",),
         _targets(lambda one: one.asked_ns / SECOND_NS)),
    # --- counters ---
    Spec("counters_interfaces", "gauge", "Interfaces that counters tell of.", (),
         _counting(lambda one: one.interfaces)),
    Spec("counters_feeds", "gauge", "Interfaces and queues, by each source that tells of them.", (),
         _counting(lambda one: one.feeds)),
    Spec("counters_components", "gauge", "Components that gauges tell of.", (),
         _counting(lambda one: one.components)),
    Spec("counters_readings_total", "counter",
         "Readings of counters by what became of them: `grown`, `begun` (the first), `repeated`, `late`, `stepped` "
         "(the device's clock went back), `implausible`, `thinned` (too many at once), `unusable` (no count), "
         "`refused` (too many interfaces, components); `wrapped`, `reset`, `ambiguous` ones have grown, too.",
         ("outcome",),
         lambda seen: [*(((name,), count) for name, count in seen.counting.readings.items()),
                       (("unusable",), seen.counting.unusable), (("refused",), seen.counting.refused_feeds)]),
    Spec("counters_late_samples_total", "counter", "Counters samples of sFlow that came twice or late.", (),
         _counting(lambda one: one.late_samples)),
    Spec("counters_lost_samples_total", "counter", "Counters samples of sFlow that came faster than they are taken.",
         (), _lost_counters),
    Spec("counters_late_rows_total", "counter", "Growth that came, wholly or in part, for windows that were closed.",
         (), _counting(lambda one: one.late_rows)),
    Spec("counters_windows_total", "counter", "Windows of counters, roll-ups included.", (),
         _counting(lambda one: one.windows)),
    # --- samples against counters ---
    Spec("coverage_ratio", "gauge", "The samples' octets over the counter's, of the last minutes.",
         ("link", "direction"), _coverage(lambda one: one.ratio)),
    Spec("coverage_ratio_low", "gauge", "Lower end of its 95 % interval.", ("link", "direction"),
         _coverage(lambda one: one.low)),
    Spec("coverage_ratio_high", "gauge", "Upper end of its 95 % interval.", ("link", "direction"),
         _coverage(lambda one: one.high)),
    Spec("coverage_alarm", "gauge", "1 while the coverage alarm fires (docs/estimation.md), else 0.",
         ("link", "direction"), _coverage(lambda one: float(one.verdict != Verdict.OK))),
    Spec("coverage_interval_seconds", "gauge", "Mean time between two readings of the counter.",
         ("link", "direction"), _coverage(lambda one: one.interval_s)),
    Spec("coverage_growths_total", "counter",
         "Growth of counters by what became of it: `used`, `uncertain` (the counter began anew, or may have wrapped "
         "unseen), `second` (of a source that is not listened to), `late`, `overlapping`; and `lost_windows`.",
         ("outcome",), lambda seen: [((name,), count) for name, count in seen.reconciled.items()]),
    # --- store ---
    Spec("store_windows_total", "counter", "Windows stored, roll-ups included.", (), _store(lambda one: one.windows)),
    Spec("store_rows_total", "counter", "Rows stored.", (), _store(lambda one: one.rows)),
    Spec("store_appends_total", "counter", "Appends that succeeded.", (), _store(lambda one: one.appends)),
    Spec("store_failures_total", "counter", "Appends that the store refused; they are tried again.", (),
         _store(lambda one: one.failures)),
    Spec("store_append_seconds_total", "counter", "Time spent in appends.", (),
         _store(lambda one: one.append_ns / SECOND_NS)),
    Spec("store_lost_windows_total", "counter", "Windows of 1 s lost because the backlog was full.", (),
         _store(lambda one: one.lost)),
    Spec("store_backlog_windows", "gauge", "Windows that wait for the store.", (),
         _store(lambda one: one.backlog_windows)),
    Spec("store_backlog_octets", "gauge", "Memory that they take.", (), _store(lambda one: one.backlog_octets)),
    Spec("store_until_seconds", "gauge", "End of the last window of 1 s that is stored.", (),
         _store(lambda one: one.stored_until_ns / SECOND_NS)),
    # --- spool and outputs ---
    Spec("spool_windows_total", "counter", "Windows of 1 s whose points are in the spool.", (),
         _spool(lambda one: one.windows)),
    Spec("spool_points_total", "counter", "Points appended to the spool.", (), _spool(lambda one: one.points)),
    Spec("spool_batches_total", "counter", "Batches of points appended to the spool.", (),
         _spool(lambda one: one.batches)),
    Spec("spool_written_octets_total", "counter", "Octets of these batches, compressed.", (),
         _spool(lambda one: one.octets)),
    Spec("spool_append_seconds_total", "counter", "Time spent in rendering and appending.", (),
         _spool(lambda one: one.append_ns / SECOND_NS)),
    Spec("spool_failures_total", "counter", "Appends that the disk refused; they are tried again.", (),
         _spool(lambda one: one.failures)),
    Spec("spool_octets", "gauge", "Octets of the spool's files.", (), _spool(lambda one: one.spool_octets)),
    Spec("spool_lost_windows_total", "counter",
         "Windows of 1 s that never came to the spool: it did not take them, and the backlog was full.", (),
         _spool(lambda one: one.lost_windows)),
    Spec("spool_lost_points_total", "counter",
         "Points of an output that were given up, by the length of their windows and why: `size` or `age` of the "
         "spool, `disk` full, `damage`.", ("output", "span", "why"),
         lambda seen: [((name, span_name(span_ns), why), count)
                       for (name, span_ns, why), count in sorted(seen.outputs.lost_points.items())]),
    Spec("spool_damaged_octets", "gauge",
         "What could not be read of the spool when it was opened: `torn` off by a crash, never acknowledged, or "
         "`damaged`.",
         ("kind",),
         lambda seen: [(("torn",), seen.outputs.torn_octets), (("damaged",), seen.outputs.damaged_octets)]),
    Spec("series", "gauge", "Keys of a measurement that have series, one for each span.", ("measurement",),
         lambda seen: [((name,), one.known) for name, one in sorted(seen.outputs.series.items())]),
    Spec("series_folded_rows_total", "counter", "Rows that went into `other`: there would be too many series.",
         ("measurement",),
         lambda seen: [((name,), one.folded_rows) for name, one in sorted(seen.outputs.series.items())]),
    Spec("output_state", "gauge", "Health of an output: 0 ok, 1 degraded, 2 failed.", ("output",),
         lambda seen: [((name,), float(state)) for name, state in sorted(seen.output_states.items())]),
    Spec("output_points_total", "counter", "Points that the server stored.", ("output",),
         _outputs(lambda one: one.points)),
    Spec("output_batches_total", "counter", "Batches that are done.", ("output",), _outputs(lambda one: one.batches)),
    Spec("output_requests_total", "counter", "Requests made.", ("output",), _outputs(lambda one: one.requests)),
    Spec("output_sent_octets_total", "counter", "Octets of their bodies, compressed.", ("output",),
         _outputs(lambda one: one.octets)),
    Spec("output_failures_total", "counter",
         "Attempts that failed and are repeated, by kind: `again` (no answer, busy), `fault` (the server's own "
         "mistake), `hold` (somebody has to correct something).", ("output", "kind"),
         lambda seen: [((name, kind), count) for name, one in seen.outputs.senders.items()
                       for kind, count in sorted(one.failures.items())]),
    Spec("output_rejected_lines_total", "counter", "Lines that the server refused: they are in a file.", ("output",),
         _outputs(lambda one: one.rejected)),
    Spec("output_expired_points_total", "counter", "Points that the server dropped, being older than it keeps.",
         ("output",), _outputs(lambda one: one.expired)),
    Spec("output_waiting_points", "gauge", "Points that wait in the spool for an output.", ("output",),
         _outputs(lambda one: one.pending.points)),
    Spec("output_waiting_octets", "gauge", "Octets that they take, compressed.", ("output",),
         _outputs(lambda one: one.pending.octets)),
    Spec("output_behind_seconds", "gauge", "How long ago the oldest windows that wait ended; 0 if none waits.",
         ("output",), _behind),
    # --- demand ---
    Spec("demand_periods_total", "counter", "Periods of which demand was estimated.", (),
         _demand(lambda one: one.periods)),
    Spec("demand_stale_periods_total", "counter",
         "Links and directions whose estimate stayed as it was, over all periods: their telemetry was not to be "
         "believed.", (), _demand(lambda one: one.stale_periods)),
    Spec("demand_late_windows_total", "counter", "Windows of 1 s that came when their period was over.", (),
         _demand(lambda one: one.late_windows)),
    Spec("demand_lost_windows_total", "counter", "Windows of 1 s that came faster than they were taken in.", (),
         _demand(lambda one: one.lost_windows)),
    Spec("demand_seconds_total", "counter", "Time spent in estimates.", (),
         _demand(lambda one: one.work_ns / SECOND_NS)),
    Spec("demand_bits_per_second", "gauge",
         "Of all classes of a ruled link in the last period: `usage`, the estimated `demand`, and what is divided by, "
         "`damped`.", ("link", "direction", "kind"), _demand_rates),
    Spec("demand_classes", "gauge", "Classes of a ruled link.", ("link", "direction"),
         _of_demand(lambda one: len(one.keys))),
    Spec("demand_censored_classes", "gauge", "Those of them whose demand may be higher than it is estimated.",
         ("link", "direction"), _of_demand(lambda one: float(one.censored.sum()))),
    Spec("demand_stale", "gauge", "1 while the estimate of a ruled link is of an earlier period, else 0.",
         ("link", "direction"), _of_demand(lambda one: float(bool(one.stale)))),
    # --- alerts ---
    Spec("alerts_spans_total", "counter", "Spans evaluated, over all rules.", (),
         lambda seen: [(_NO_LABEL, seen.alerts.spans)]),
    Spec("alerts_lost_windows_total", "counter", "Windows of 1 s that came faster than rules were evaluated.", (),
         lambda seen: [(_NO_LABEL, seen.alerts.windows_lost)]),
    Spec("alerts_active", "gauge", "Alerts of a rule now: `firing`, or `pending` while its hold lasts.",
         ("rule", "state"), lambda seen: [(key, count) for key, count in sorted(seen.alerts.active.items())]),
    Spec("alerts_told_total", "counter", "Alerts of a rule that began (`firing`) or ended (`resolved`).",
         ("rule", "state"), lambda seen: [(key, count) for key, count in sorted(seen.alerts.told.items())]),
    Spec("alerts_delivered_total", "counter", "Alerts that a receiver took.", ("receiver",),
         _receivers(lambda one: one.delivered)),
    Spec("alerts_refused_total", "counter", "Alerts that a receiver refused.", ("receiver",),
         _receivers(lambda one: one.refused)),
    Spec("alerts_lost_total", "counter", "Alerts that a receiver's full queue lost.", ("receiver",),
         _receivers(lambda one: one.lost)),
    Spec("alerts_failures_total", "counter", "Attempts that failed and are repeated.", ("receiver",),
         _receivers(lambda one: one.failures)),
    Spec("alerts_waiting", "gauge", "Alerts that wait for a receiver.", ("receiver",),
         _receivers(lambda one: one.waiting)),
    # --- enforce ---
    Spec("enforce_periods_total", "counter", "Periods of the control loop that were decided.", (),
         _enforcing(lambda one: one.periods)),
    Spec("enforce_decide_seconds_total", "counter", "Time that deciding took.", (),
         _enforcing(lambda one: one.decide_ns / SECOND_NS)),
    Spec("enforce_leaves_total", "counter", "Rates that the loop wrote to gateways.", (),
         _enforcing(lambda one: one.written)),
    Spec("enforce_transactions_total", "counter", "Transactions of the loop: structure, and switches by the calendar.",
         (), _enforcing(lambda one: one.restructured)),
    Spec("enforce_taken_back_total", "counter", "Changes that a guard had taken back.", (),
         _enforcing(lambda one: one.rolled_back)),
    Spec("enforce_verdicts_total", "counter", "Verdicts on gateways in shadow.", (),
         _enforcing(lambda one: one.verdicts)),
    Spec("enforce_gateway_state", "gauge", "1 for the state that a gateway is in.", ("gateway", "state"),
         lambda seen: [((name, str(phase)), 1) for name, (phase, _) in seen.enforcing.gateways.items()]),
)  # fmt: skip


def own_figures(seen: Observed) -> list[Figure]:
    """Return every metric as a row of the measurement ``self``, but those of single agents, targets and links."""
    return [
        Figure(spec.name, ",".join(labels) or "-", value)
        for spec in METRICS
        if not {"agent", "target", "link"}.intersection(spec.labels)
        for labels, value in spec.read(seen)
    ]


def update(text: str) -> str:
    """Return the document with its generated part replaced; InputError if it has no place for one."""
    return replace_generated(text, BEGIN, reference(METRICS))


def main(arguments: list[str]) -> None:
    """Bring the document that is named on the command line up to date."""
    path = Path(arguments[0])
    path.write_text(update(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
