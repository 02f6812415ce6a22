"""Devices that may be written to: from settings and registry to connections, capabilities and transactions.

A device is written to only if the settings name it (`enforce.gateways`, `enforce.switches`), somebody has proven its
model and firmware, and it lists openconfig-qos; all others are in shadow, or export-only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from telemetryd.config.explain import suggest
from telemetryd.config.settings import Settings
from telemetryd.enforce.capability import Answer, Capability, resolve
from telemetryd.enforce.capability_table import Table, load_table
from telemetryd.enforce.device import CommitTimer, Device, Reading, RefusedError, Traits
from telemetryd.enforce.diff import Write
from telemetryd.enforce.follow import TakenBackError
from telemetryd.enforce.gnmi_device import GnmiDevice, Reach, ask_capabilities, traits_of
from telemetryd.enforce.guard import Guard, Verdict
from telemetryd.enforce.limits import LimitError, Limits, exceeded, without_percent
from telemetryd.enforce.measure import Measurement
from telemetryd.enforce.names import Value
from telemetryd.enforce.prepare import Goal, prepare
from telemetryd.enforce.records import Reason, Records
from telemetryd.enforce.transaction import Options, Transaction
from telemetryd.errors import InputError, TelemetrydError
from telemetryd.proto import gnmi_pb2
from telemetryd.registry.models import Registry
from telemetryd.targets import Where, plan_targets

SECOND_NS = 1_000_000_000
#: Guards judge a transaction of the control loop for no longer.
MEASURE_S: Final = 5.0


class AskingDevice:
    """A device that is asked what it can when it is first used: see :class:`telemetryd.enforce.device.Device`.

    Parameters
    ----------
    capability:
        What is known of it before.
    """

    def __init__(self, reach: Reach, registry: Registry, table: Table) -> None:
        self._reach, self._registry, self._table = reach, registry, table
        self._name = reach.wanted.name
        self.answer: Answer | None = None
        self.capability: Capability = resolve(registry.device[self._name], registry, None, table)
        self._device: GnmiDevice | None = None
        self._one = asyncio.Lock()

    @property
    def name(self) -> str:
        """See :class:`telemetryd.enforce.device.Device`."""
        return self._name

    @property
    def traits(self) -> Traits:
        """See :class:`telemetryd.enforce.device.Device`."""
        return traits_of(self.capability)

    @property
    def reach(self) -> Reach:
        """How it is reached."""
        return self._reach

    async def asked(self) -> GnmiDevice:
        """Return the device once it has said what it can.

        Raises
        ------
        DeviceError
            If it does not say.
        """
        async with self._one:
            if self._device is None:
                self.answer = await ask_capabilities(self._reach)
                entry = self._registry.device[self._name]
                self.capability = resolve(entry, self._registry, self.answer, self._table)
                # Later writers have greater ids, also those of other hosts whose clocks agree.
                self._device = GnmiDevice(self._reach, self.capability, election_id=time.time_ns())
            return self._device

    async def read(self) -> Reading:
        """See :class:`telemetryd.enforce.device.Device`."""
        return await (await self.asked()).read()

    async def read_leaves(self, paths: Iterable[str]) -> Reading:
        """See :class:`telemetryd.enforce.device.Device`."""
        return await (await self.asked()).read_leaves(paths)

    async def read_notifications(self, paths: Sequence[str], kind: str = "ALL") -> list[gnmi_pb2.Notification]:
        """See :meth:`telemetryd.enforce.gnmi_device.GnmiDevice.read_notifications`."""
        return await (await self.asked()).read_notifications(paths, kind)

    async def write(self, writes: Sequence[Write], timer: CommitTimer | None = None) -> None:
        """See :class:`telemetryd.enforce.device.Device`."""
        device = await self.asked()
        if self.capability.export_only:
            raise RefusedError(f"{self._name} is export-only: {'; '.join(self.capability.export_only)}")
        await device.write(writes, timer)

    async def confirm(self, commit: str) -> bool:
        """See :class:`telemetryd.enforce.device.Device`."""
        return await (await self.asked()).confirm(commit)

    async def cancel(self, commit: str) -> bool:
        """See :class:`telemetryd.enforce.device.Device`."""
        return await (await self.asked()).cancel(commit)

    async def extend(self, commit: str, seconds: float) -> None:
        """See :class:`telemetryd.enforce.device.Device`."""
        await (await self.asked()).extend(commit, seconds)

    async def close(self) -> None:
        """Close the connection; what it can is asked anew."""
        if self._device is not None:
            device, self._device = self._device, None
            await device.close()


class Reaching:
    """The devices of a configuration; also :class:`telemetryd.enforcing.Access`.

    Parameters
    ----------
    where:
        Gives file, line and column of a path in the configuration.

    Raises
    ------
    ProblemsError
        If a table of deviations or a target is wrong.
    """

    def __init__(self, settings: Settings, registry: Registry, where: Where, records: Records | None = None) -> None:
        self.settings, self.registry = settings.enforce, registry
        self.table = load_table([Path(path) for path in settings.enforce.deviations])
        self.records = records or Records(settings.enforce.path)
        every = settings.gnmi.model_copy(update={"all_registered": True})
        self._plans = {plan.name: plan for plan in plan_targets(every, registry, where)}
        self._period_s = settings.demand.period / SECOND_NS
        self._devices: dict[str, AskingDevice] = {}

    @property
    def limits(self) -> Limits:
        """What the settings allow a transaction at most."""
        return Limits(
            devices_per_step=self.settings.devices_per_step,
            change_percent=self.settings.change_percent,
            switch_sets_per_day=self.settings.switch_writes_per_day,
        )

    @property
    def measure_s(self) -> float:
        """How long guards judge a transaction of the control loop: a period of it, and at most some seconds."""
        return min(self._period_s, MEASURE_S)

    @property
    def enabled(self) -> frozenset[str]:
        """Devices that the settings name for writing."""
        return frozenset((*self.settings.gateways, *self.settings.switches))

    def device(self, name: str) -> AskingDevice:
        """Return a device for reading.

        Raises
        ------
        InputError
            If nobody knows where it is.
        """
        if name not in self._devices:
            if name not in self.registry.device:
                remedy = suggest(name, self.registry.device, "name a device of the registry")
                raise InputError(f'the registry has no device "{name}" - {remedy}')
            plan = self._plans.get(name)
            if plan is None:
                raise InputError(f"{name}: nobody says where its gNMI server is - add gnmi.endpoint to the registry")
            reach = Reach(plan.wanted, plan.login, self.settings.timeout / SECOND_NS)
            self._devices[name] = AskingDevice(reach, self.registry, self.table)
        return self._devices[name]

    def find(self, name: str) -> AskingDevice | None:
        """Return a device, None where nobody knows where it is: for :func:`telemetryd.enforce.recover.recover`."""
        try:
            return self.device(name)
        except InputError:
            return None

    def why_not(self, name: str) -> str:
        """Return why the settings do not let a device be written to; "" where they do."""
        is_gateway = self.device(name).capability.driver == "linux"
        setting = "gateways" if is_gateway else "switches"
        names = self.settings.gateways if is_gateway else self.settings.switches
        return "" if name in names else f"in shadow: enforce.{setting} does not name it"

    def open(self, device: str) -> Device:
        """See :class:`telemetryd.enforcing.Access`."""
        if reason := self.why_not(device):
            raise InputError(f"{device} is {reason}")
        return self.device(device)

    async def restructure(
        self,
        device: Device,
        leaves: Mapping[str, Value],
        reason: Reason,
        *,
        protected: Collection[str] | Mapping[str, int] = (),
        guards: Sequence[Guard] = (),
    ) -> None:
        """See :class:`telemetryd.enforcing.Access`."""
        prepared = await prepare([Goal(device, leaves)], 1)
        conflicts = prepared[0].change.conflicts
        if conflicts:
            raise TelemetrydError(
                f"{device.name}: {conflicts[0].path} is {conflicts[0].found}, which is not ours - "
                "telemetryd enforce apply --adopt"
            )
        # A policy, a schedule or a baseline is what changes: by any part, but no class that must not loses.
        if wrong := list(exceeded(prepared[0].change.writes, protected, without_percent(self.limits))):
            raise LimitError(f"{device.name}: {wrong[0]}" + (f" and {len(wrong) - 1} more" if wrong[1:] else ""))
        options = Options(limits=self.limits, is_forced=True)
        measurement = Measurement(guards, self.measure_s) if guards else None
        change = Transaction(prepared, records=self.records, reason=reason, options=options, measurement=measurement)
        done = await change.run()
        if done.outcome == "rolled back" and done.judgement is not None and done.judgement.verdict is not Verdict.OK:
            raise TakenBackError(done.why)
        if done.outcome not in ("confirmed", "unchanged"):
            raise TelemetrydError(f"{device.name}: {done.outcome}: {done.why}")

    def guards(self, device: Device) -> Sequence[Guard]:
        """See :class:`telemetryd.enforcing.Access`."""
        return ()

    async def close(self) -> None:
        """Close all connections."""
        for one in self._devices.values():
            await one.close()
