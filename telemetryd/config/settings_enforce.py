"""The settings of enforcement: what is written to, and within which limits (docs/enforcement.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from telemetryd.config.fields import SECOND_NS, FilePath, Section, Text, duration, mistake

MINUTE_NS: Final = 60 * SECOND_NS

Names = Annotated[tuple[Text, ...], Field(strict=False, max_length=5000)]


class ProbeSettings(Section):
    """Something that must stay reachable while gateways are written to: a guard of the control loop."""

    name: Text = Field(description="Its name in verdicts.")
    kind: Literal["tcp", "udp", "icmp"] = Field(
        description="`tcp` connects, `udp` expects an echo, `icmp` needs `net.ipv4.ping_group_range`."
    )
    address: Text = Field(description="Host name or address.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(0, description="Of `tcp` and `udp`.")
    gateways: Names = Field((), description="Of which gateways it is a guard; left out, of all.")

    @model_validator(mode="after")
    def _has_a_port(self) -> Self:
        if (self.kind == "icmp") != (self.port == 0):
            mistake(
                f'the probe "{self.name}" of kind {self.kind} has port {self.port}', "tcp and udp have one, icmp none"
            )
        return self


class EnforceSettings(Section):
    """What allocations are written to. A device that is named nowhere here is in shadow: nothing is written to it."""

    path: FilePath = Field(
        Path("/var/lib/telemetryd/enforce"),
        description="Journal, audit and what is intended on devices; `$STATE_DIRECTORY/enforce` under systemd.",
    )
    gateways: Names = Field((), description="Linux gateways that are written to, by their names in the registry.")
    switches: Names = Field((), description="Switches and routers that are written to, by their names.")
    deviations: Annotated[tuple[FilePath, ...], Field(strict=False, max_length=16)] = Field(
        (), description="Tables of what devices can do, on top of the shipped one."
    )
    devices_per_step: int = Field(
        8, ge=1, le=256, description="Devices that are written to at a time, after the first."
    )
    change_percent: int = Field(
        95, ge=1, le=100, description="Most that a rate may change in one step; 95 is a twentieth or twenty times."
    )
    switch_writes_per_day: int = Field(24, ge=0, le=10_000, description="Sets that a switch takes in a day (UTC).")
    timeout: Annotated[int, *duration(SECOND_NS, 300 * SECOND_NS)] = Field(
        10 * SECOND_NS, description="Longest time of a call to a device."
    )
    stale_after: Annotated[int, *duration(SECOND_NS, 3600 * SECOND_NS)] = Field(
        60 * SECOND_NS, description="Demands older than this change nothing."
    )
    probes: Annotated[tuple[ProbeSettings, ...], Field(strict=False, max_length=64)] = Field(
        (), description="What must stay reachable: a change after which it is not is taken back."
    )
    drift: Literal["show", "repair", "freeze"] = Field(
        "show", description="What happens where a device no longer has what was written."
    )
    drift_interval: Annotated[int, *duration(10 * SECOND_NS, 86_400 * SECOND_NS)] = Field(
        5 * MINUTE_NS, description="How often devices are read for it, besides what they announce."
    )
