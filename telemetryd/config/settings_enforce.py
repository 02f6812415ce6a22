"""The settings of enforcement: what is written to, and within which limits (docs/enforcement.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from telemetryd.config.fields import SECOND_NS, FilePath, Section, Text, duration

MINUTE_NS: Final = 60 * SECOND_NS

Names = Annotated[tuple[Text, ...], Field(strict=False, max_length=5000)]


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
    drift: Literal["show", "repair", "freeze"] = Field(
        "show", description="What happens where a device no longer has what was written."
    )
    drift_interval: Annotated[int, *duration(10 * SECOND_NS, 86_400 * SECOND_NS)] = Field(
        5 * MINUTE_NS, description="How often devices are read for it, besides what they announce."
    )
