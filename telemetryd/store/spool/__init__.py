"""The spool: a queue on the disk in front of the outputs (docs/outputs.md)."""

from telemetryd.store.spool.reader import SpoolReader
from telemetryd.store.spool.record import Entry
from telemetryd.store.spool.segment import Pending, Waiting
from telemetryd.store.spool.spool import Spool

__all__ = ["Entry", "Pending", "Spool", "SpoolReader", "Waiting"]
