"""Generate windows of traffic over a model: true counts first, then what the exporters sample of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.ingest.generate.model import NO_KEY, Model
from telemetryd.ingest.generate.sampling import draw_places, draw_samples
from telemetryd.ingest.generate.truth import KeyTable, TrafficTruth, TruthTable
from telemetryd.ingest.generate.wire import Columns, Datagrams, Streams, encode

NS: Final = 1_000_000_000
_ETHERNET_CSMACD: Final = 6  # IANA ifType
_EPHEMERAL: Final = (32768, 61000)  # Linux's range
_ACK_PSH: Final = np.array([0x10, 0x10, 0x10, 0x18], np.uint8)

# start of a step in ns -> bit/s of each flow, shape (f,)
Profile = Callable[[int], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Restart:
    """An exporter restarts: sequence numbers, sample pools, counters and uptime begin anew."""

    at_s: float
    agent: int


@dataclass(frozen=True, slots=True)
class RateChange:
    """The sampling sources ``sources`` (None: all) go over to 1 in ``rate``."""

    at_s: float
    rate: int
    sources: tuple[int, ...] | None = None


Event = Restart | RateChange


@dataclass(frozen=True, slots=True)
class GeneratedBlock:
    """One window of datagrams and what was really sent in it.

    Attributes
    ----------
    datagrams:
        In order of time stamp, all within the window.
    truth:
        Exact packets and octets of the window.
    samples:
        The columns that were encoded (as ``schema.SAMPLE_COLUMNS``, with ``agent`` and ``ts_ns``), in
        order of source and packet; kept for tests.
    """

    datagrams: Datagrams
    truth: TrafficTruth
    samples: dict[str, NDArray[Any]]

    @property
    def buffer(self) -> NDArray[np.uint8]:
        """uint8, the datagrams one after another."""
        return self.datagrams.buffer

    @property
    def offsets(self) -> NDArray[np.uint64]:
        """uint64, shape (d,)."""
        return self.datagrams.offsets

    @property
    def lengths(self) -> NDArray[np.uint32]:
        """uint32, shape (d,)."""
        return self.datagrams.lengths

    @property
    def ts_ns(self) -> NDArray[np.int64]:
        """int64, shape (d,)."""
        return self.datagrams.ts_ns


class Traffic:
    """Traffic over a model, window by window; the same seed gives the same octets.

    Parameters
    ----------
    model:
        Exporters, flows and paths.
    profile:
        Bit/s of each flow at a time.
    seed:
        Of the random numbers.
    start_ns:
        Where event time begins.
    events:
        Restarts and changes of the sampling rate, at any time inside a window.
    drop_share:
        Share of the samples that the agents drop themselves (counted in ``drops``).
    counters_s:
        Interval of the counters samples of one interface, 0 for none. An interface's counters are
        those of the end of a window, true to the packet.
    first_pool, first_sequence:
        Where sample pools and all sequence numbers begin, to reach the 32-bit wrap.
    reuse_buffer:
        Write every window to the same memory: a block's datagrams are valid until the next block.
    """

    def __init__(
        self,
        model: Model,
        profile: Profile,
        seed: int,
        start_ns: int,
        *,
        events: Sequence[Event] = (),
        drop_share: float = 0.0,
        counters_s: int = 20,
        first_pool: int = 0,
        first_sequence: int = 0,
        reuse_buffer: bool = False,
    ) -> None:
        self.model = model
        self.start_ns = start_ns
        self._profile = profile
        self._rng = np.random.Generator(np.random.SFC64(seed))
        self._events = sorted(events, key=lambda event: event.at_s)
        self._drop_share = drop_share
        self._counters_s = counters_s
        agents, sources = len(model.agents), len(model.source_agent)
        self._streams = Streams(
            np.full(agents, first_sequence, np.uint32), np.full(agents, start_ns - 3_600 * NS, np.int64)
        )
        self._rate = model.source_rate.copy()
        self._pool = np.full(sources, first_pool, np.int64)
        self._sequence = np.full(sources, first_sequence, np.int64)
        self._drops = np.zeros(sources, np.int64)
        interfaces = len(model.interface_agent)
        self._counters = np.zeros((4, interfaces), np.int64)  # in octets, in packets, out octets, out packets
        self._counters_sequence = np.zeros(interfaces, np.int64)
        self._mean_octets = model.mean_octets()
        self._windows = 0
        self._out = np.empty(0, np.uint8) if reuse_buffer else None

    @property
    def pools(self) -> NDArray[np.int64]:
        """Sample pool of each sampling source of the model by now, without the 32-bit wrap, shape (s,)."""
        return self._pool.copy()

    def generate(self, seconds: float, window_s: float = 1) -> Iterator[GeneratedBlock]:
        """Yield the blocks of ``seconds`` of event time; a later call goes on where this one ended."""
        span_ns = round(window_s * NS)
        for _ in range(round(seconds / window_s)):
            start_ns = self.start_ns + self._windows * span_ns
            yield self._window(start_ns, span_ns)
            self._windows += 1

    def _window(self, start_ns: int, span_ns: int) -> GeneratedBlock:
        parts: list[Columns] = []
        truth: TrafficTruth | None = None
        blocks: list[Datagrams] = []
        at = start_ns
        stops = self._stops(start_ns, span_ns)
        out = self._out if len(stops) == 1 else None
        for stop, event in stops:
            samples, part = self._step(at, stop - at)
            truth = truth.plus(part) if truth else part
            counters = self._counters_samples(stop) if event is None else None
            blocks.append(encode(self.model.agents, self._streams, samples, counters, out=out))
            parts.append(samples)
            if event is not None:
                self._apply(event, stop)
            at = stop
        if truth is None:
            raise ValueError("a window must be longer than nothing")
        if self._out is not None and len(self._out) < len(blocks[0].buffer):
            self._out = np.empty(len(blocks[0].buffer) * 5 // 4, np.uint8)
        names = parts[0]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
        return GeneratedBlock(join(blocks), truth, columns)

    def _stops(self, start_ns: int, span_ns: int) -> list[tuple[int, Event | None]]:
        """Return the ends of the steps of a window: at each event, and at the window's end."""
        end_ns = start_ns + span_ns
        stops: list[tuple[int, Event | None]] = []
        while self._events:
            at_ns = self.start_ns + round(self._events[0].at_s * NS)
            if at_ns >= end_ns:
                break
            stops.append((max(at_ns, start_ns), self._events.pop(0)))
        return [*stops, (end_ns, None)]

    def _apply(self, event: Event, at_ns: int) -> None:
        model = self.model
        if isinstance(event, RateChange):
            rows = np.arange(len(self._rate)) if event.sources is None else np.array(event.sources, np.intp)
            self._rate[rows] = event.rate
            return
        mine = model.source_agent == event.agent
        for state in (self._pool, self._sequence, self._drops):
            state[mine] = 0
        self._counters[:, model.interface_agent == event.agent] = 0
        self._counters_sequence[model.interface_agent == event.agent] = 0
        self._streams.sequence_number[event.agent] = 0
        self._streams.boot_ns[event.agent] = at_ns

    def _step(self, start_ns: int, span_ns: int) -> tuple[dict[str, NDArray[Any]], TrafficTruth]:
        model, rng = self.model, self._rng
        mean = self._profile(start_ns) * (span_ns / NS / 8) / self._mean_octets
        packets = rng.poisson(mean[:, None] * model.share)  # (f, z)
        at_hop = packets[model.hop_flow]  # (h, z)
        truth = self._truth(start_ns, span_ns, packets)

        sampled = draw_samples(rng, at_hop, self._rate[model.hop_source])
        cell = np.repeat(np.arange(sampled.size), sampled.ravel())
        hop, size = np.divmod(cell, sampled.shape[1])
        source = model.hop_source[hop]
        passed = np.bincount(model.hop_source, weights=at_hop.sum(axis=1), minlength=len(self._rate)).astype(np.int64)
        place, order = draw_places(rng, source, passed)
        hop, size, source, place = hop[order], size[order], source[order], place[order]

        is_kept = self._dropped(source)
        drops = self._drops[source] + _running(source, ~is_kept)
        self._drops += np.bincount(source[~is_kept], minlength=len(self._drops))
        hop, size, source, place, drops = (a[is_kept] for a in (hop, size, source, place, drops))

        samples = self._packets(hop, size)
        samples["agent"] = model.source_agent[source]
        # the middle of the packet's slot, so that it never touches the next window
        samples["ts_ns"] = start_ns + ((place + 0.5) / passed[source] * span_ns).astype(np.int64)
        rank = _running(source, np.ones(len(source), bool))
        samples["sequence_number"] = _low32(self._sequence[source] + rank)
        samples["source_class"] = np.zeros(len(source), np.uint32)
        samples["source_index"] = model.source_index[source]
        samples["sampling_rate"] = self._rate[source]
        samples["sample_pool"] = _low32(self._pool[source] + place + 1)
        samples["drops"] = _low32(drops)
        self._pool += passed
        self._sequence += np.bincount(source, minlength=len(self._sequence))
        return samples, truth

    def _dropped(self, source: NDArray[np.intp]) -> NDArray[np.bool_]:
        if not self._drop_share:
            return np.ones(len(source), bool)
        return np.asarray(self._rng.random(len(source)) >= self._drop_share)

    def _packets(self, hop: NDArray[np.intp], size: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """Return the packet columns of samples of (hop, size): fixed parts by flow, the rest drawn."""
        model, rng, n = self.model, self._rng, len(hop)
        header = model.hop_header[hop]
        ends = model.ends[header]
        hosts = rng.integers(0, 2**64, (2, n), np.uint64)
        ports = model.ports[header]
        ephemeral = rng.integers(*_EPHEMERAL, n, np.uint16)
        protocol = model.protocol[header]
        flags = _ACK_PSH[rng.integers(0, len(_ACK_PSH), n, np.uint8)]
        return {
            "input_format": np.zeros(n, np.uint8),
            "input": model.hop_input[hop],
            "output_format": np.zeros(n, np.uint8),
            "output": model.hop_output[hop],
            "frame_length": model.frame_length[model.hop_flow[hop], size],
            "vlan_id": model.hop_vlan[hop],
            "source_hi": ends[:, 0],
            "source_lo": ends[:, 1] | hosts[0] & ends[:, 2],
            "destination_hi": ends[:, 3],
            "destination_lo": ends[:, 4] | hosts[1] & ends[:, 5],
            "ip_version": model.ip_version[header],
            "protocol": protocol,
            "dscp": model.dscp[header],
            "tcp_flags": np.where(protocol == 6, flags, 0).astype(np.uint8),
            "source_port": np.where(ports[:, 0], ports[:, 0], ephemeral),
            "destination_port": np.where(ports[:, 1], ports[:, 1], ephemeral),
        }

    def _truth(self, start_ns: int, span_ns: int, packets: NDArray[np.int64]) -> TrafficTruth:
        model = self.model
        flow_packets = packets.sum(axis=1)
        flow_octets = (packets * model.frame_length).sum(axis=1)
        hop_packets, hop_octets = flow_packets[model.hop_flow], flow_octets[model.hop_flow]
        for side, interface in enumerate((model.hop_interface_in, model.hop_interface_out)):
            np.add.at(self._counters[2 * side], interface, hop_octets)
            np.add.at(self._counters[2 * side + 1], interface, hop_packets)

        def table(keys: KeyTable, *codes: NDArray[np.intp]) -> TruthTable:
            sums = np.zeros((2, len(keys)), np.int64)
            for code in codes:
                has = code != NO_KEY
                np.add.at(sums[0], code[has], hop_packets[has])
                np.add.at(sums[1], code[has], hop_octets[has])
            return TruthTable(keys, sums[0], sums[1])

        return TrafficTruth(
            start_ns,
            span_ns,
            table(model.totals_keys, model.hop_totals),
            table(model.link_keys, model.hop_link_in, model.hop_link_out),
        )

    def _counters_samples(self, at_ns: int) -> Columns | None:
        """Return the counters samples due at the end of a window, staggered over the interfaces."""
        model = self.model
        if not self._counters_s:
            return None
        turn = np.arange(len(model.interface_agent)) % self._counters_s
        is_due = turn == (at_ns // NS) % self._counters_s
        rows = np.flatnonzero(is_due & (model.interface_index != 0))  # 0 is an unknown interface
        self._counters_sequence[rows] += 1
        zeros = np.zeros(len(rows), np.uint32)
        in_octets, in_packets, out_octets, out_packets = self._counters[:, rows]
        columns: dict[str, NDArray[Any]] = {
            "agent": model.interface_agent[rows],
            "ts_ns": np.full(len(rows), at_ns - 1, np.int64),
            "sequence_number": _low32(self._counters_sequence[rows]),
            "source_class": zeros,
            "source_index": model.interface_index[rows],
            "if_index": model.interface_index[rows],
            "if_type": zeros + np.uint32(_ETHERNET_CSMACD),
            "if_speed_bps": model.interface_speed_bps[rows],
            "if_direction": zeros + np.uint32(1),
            "if_status": zeros + np.uint32(3),
        }
        for side, octets, count in (("in", in_octets, in_packets), ("out", out_octets, out_packets)):
            columns[f"{side}_octets"] = octets.astype(np.uint64)
            columns[f"{side}_ucast_packets"] = _low32(count)
            for name in ("multicast_packets", "broadcast_packets", "discards", "errors"):
                columns[f"{side}_{name}"] = zeros
        columns["in_unknown_protos"] = zeros
        return columns


def join(blocks: Sequence[Datagrams]) -> Datagrams:
    """Return the datagrams of several blocks one after another in one buffer."""
    if len(blocks) == 1:
        return blocks[0]
    sizes = np.array([len(block.buffer) for block in blocks], np.uint64)
    bases = np.cumsum(sizes) - sizes
    return Datagrams(
        np.concatenate([block.buffer for block in blocks]),
        np.concatenate([block.offsets + base for block, base in zip(blocks, bases, strict=True)]),
        np.concatenate([block.lengths for block in blocks]),
        np.concatenate([block.ts_ns for block in blocks]),
        np.concatenate([block.agent for block in blocks]),
    )


def _low32(values: NDArray[np.int64]) -> NDArray[np.uint32]:
    return (values & 0xFFFF_FFFF).astype(np.uint32)


def _running(group: NDArray[np.intp], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the running count of ``counted`` within each run of equal ``group``, itself included."""
    total = np.cumsum(counted, dtype=np.int64)
    if not len(group):
        return total
    starts = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
    before: NDArray[np.int64] = total[starts] - counted[starts]
    return total - np.repeat(before, np.diff(np.append(starts, len(group))))
