"""The outputs: servers that the series are sent to, through the spool (docs/outputs.md)."""

from telemetryd.outputs.component import Outputs, OutputsCounters
from telemetryd.outputs.figures import Figure, Figures

__all__ = ["Figure", "Figures", "Outputs", "OutputsCounters"]
