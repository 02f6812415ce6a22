"""The settings of demand: how it is estimated while windows come, and kept calm (docs/demand.md)."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from telemetryd.config.fields import SECOND_NS, Section, duration, mistake, part, rate
from telemetryd.config.units import spell_duration

MINUTE_S: Final = 60
#: Least product of headroom and near; telemetryd.allocate.demand says why.
MARGIN: Final = 1.02


def _check_period(period_ns: int) -> int:
    if (MINUTE_S * SECOND_NS) % period_ns or period_ns % SECOND_NS:
        mistake(f'"{spell_duration(period_ns)}" is no whole part of a minute', 'use such as "2 s", "5 s" or "10 s"')
    return period_ns


Period = Annotated[int, *duration(SECOND_NS, MINUTE_S * SECOND_NS), AfterValidator(_check_period)]


class DemandSettings(Section):
    """Demand of the links that `policies` rule, estimated period by period apart from usage (docs/demand.md)."""

    period: Period = Field(
        10 * SECOND_NS, description="The control period: so often demand is estimated; a whole part of a minute."
    )
    window: int = Field(15, ge=1, le=1000, description="Periods of which the highest usage counts.")
    headroom: float = Field(1.1, ge=1, le=4, description="Factor above that usage.")
    near: Annotated[float, *part(0.5, 1)] = Field(
        0.95, description="Part of its share from which on a class counts as using all of it."
    )
    growth: float = Field(1.25, ge=1.01, le=4, description="Factor by which a throttled demand grows in a period.")
    least: Annotated[int, *rate(0, 10**12)] = Field(
        100_000, description="Least demand of a class that has any traffic."
    )
    few_samples: int = Field(
        30, ge=0, le=1_000_000, description="A class with fewer samples in the window is estimated with the rest."
    )
    dead_band: Annotated[float, *part(0, 0.2)] = Field(
        0.05, description="A smaller change of what a class has changes nothing."
    )
    release: Annotated[float, *part(0, 1)] = Field(
        0.25, description="Part of the dead band within which a change ends."
    )
    hold: Annotated[int, *duration(0, 3600 * SECOND_NS)] = Field(
        30 * SECOND_NS, description="Least time between two changes of a class."
    )
    cool_down: Annotated[int, *duration(0, 7200 * SECOND_NS)] = Field(
        300 * SECOND_NS, description="Least time from a rise of a class to its next fall."
    )
    most_rise: Annotated[float, *part(0.05, 4)] = Field(1.0, description="Largest rise at once, of what a class has.")
    most_fall: Annotated[float, *part(0.05, 1)] = Field(0.25, description="Largest fall at once, of what a class has.")

    @model_validator(mode="after")
    def _has_a_fixed_point(self) -> Self:
        if self.headroom * self.near < MARGIN:
            mistake(
                f"headroom {self.headroom:g} x near {100 * self.near:g} % is below {MARGIN:g}: a class with all that "
                "it wants would seem short",
                "raise one of them",
            )
        return self
