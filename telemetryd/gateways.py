"""What the control loop goes by, out of a configuration: who decides, which gateways, and how they are reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from telemetryd.configuration import Configuration
from telemetryd.enforce.control import Planner
from telemetryd.enforce.device import Device
from telemetryd.enforce.guard import Guard
from telemetryd.enforce.probes import ProbeGuard, Target
from telemetryd.enforce.records import Records
from telemetryd.enforcing import Setup
from telemetryd.errors import TelemetrydError
from telemetryd.reaching import AskingDevice, Reaching

#: Tries of a probe in the loop, which asks twice a change.
TRIES: Final = 5


class Gateways(Reaching):
    """See :class:`telemetryd.enforcing.Access`."""

    async def admit(self, device: Device) -> None:
        """See :class:`telemetryd.enforcing.Access`."""
        assert isinstance(device, AskingDevice), "it is one of ours"
        await device.asked()
        if device.capability.export_only:
            raise TelemetrydError(f"export only, {'; '.join(device.capability.export_only)}")

    def guards(self, device: Device) -> Sequence[Guard]:
        """See :class:`telemetryd.enforcing.Access`."""
        return [
            ProbeGuard(Target(one.name, one.kind, one.address, one.port), TRIES)
            for one in self.settings.probes
            if not one.gateways or device.name in one.gateways
        ]


def loop_setup(configuration: Configuration, records: Records) -> Setup:
    """Return what the control loop goes by; reads files.

    Raises
    ------
    ProblemsError
        If a table of deviations, or a target, is wrong.
    """
    settings = configuration.settings
    period_ns, stale_after_ns = settings.demand.period, settings.enforce.stale_after
    if configuration.policies is not None:
        access = Gateways(settings, configuration.registry, configuration.loaded.document.where, records)
        planner = Planner(configuration.policies, configuration.registry, access.table)
        gateways, switches = frozenset(settings.enforce.gateways), frozenset(settings.enforce.switches)
        return Setup(planner, gateways, access, period_ns, stale_after_ns, switches, access.limits)
    return Setup(None, frozenset(), None, period_ns, stale_after_ns)
