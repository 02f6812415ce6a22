"""What was lost, by cause, out of the live engine's counts: since the start, or between two looks."""

from __future__ import annotations

from dataclasses import dataclass, fields

from telemetryd.live import LiveCounters
from telemetryd.serve.messages import Loss


@dataclass(frozen=True, slots=True)
class LossCounts:
    """Counts of datagrams and samples since the start.

    ``received`` are datagrams of allowed senders; ``kernel_drops`` were dropped by the socket, ``network`` are
    gaps of the datagram sequences that none of the causes here explains, ``shed`` and ``capped`` were received
    and not decoded; ``refused`` (of unknown senders) and ``short`` belong to no agent. Of samples:
    ``samples_dropped`` by the agents as they say, ``samples_late`` for their window, ``samples_duplicate``.
    """

    received: int = 0
    kernel_drops: int = 0
    network: int = 0
    shed: int = 0
    capped: int = 0
    refused: int = 0
    short: int = 0
    samples_dropped: int = 0
    samples_late: int = 0
    samples_duplicate: int = 0

    @classmethod
    def of(cls, counters: LiveCounters) -> LossCounts:
        """Add the counts up over sockets and agents."""
        sockets, agents = counters.sockets, counters.agents.values()
        kernel_drops = sum(one.kernel_drops for one in sockets)
        refused = sum(one.refused for one in sockets)
        short = sum(one.short for one in sockets)
        return cls(
            received=sum(one.received for one in sockets) - refused - short,
            kernel_drops=kernel_drops,
            # What the kernel drops shows as a gap of the sequence too, as soon as a later datagram comes.
            network=max(sum(agent.lost_outside for agent in agents) - kernel_drops, 0),
            shed=sum(one.shed for one in sockets),
            capped=sum(one.capped for one in sockets),
            refused=refused,
            short=short,
            samples_dropped=sum(agent.samples_dropped for agent in agents),
            samples_late=counters.late_samples,
            samples_duplicate=counters.duplicate_samples,
        )

    def since(self, before: LossCounts) -> LossCounts:
        """Return what came after an earlier look."""
        names = (field.name for field in fields(self))
        return LossCounts(**{name: max(getattr(self, name) - getattr(before, name), 0) for name in names})

    def message(self) -> Loss:
        """Return it as the control service says it."""
        outside = self.kernel_drops + self.network
        sent = self.received + outside
        datagrams = {
            name: getattr(self, name) for name in ("kernel_drops", "network", "shed", "capped", "refused", "short")
        }
        samples = {
            "dropped_by_agents": self.samples_dropped,
            "late": self.samples_late,
            "duplicate": self.samples_duplicate,
        }
        share = (outside + self.shed + self.capped) / sent if sent else 0.0
        return {"share": share, "datagrams": datagrams, "samples": samples}
