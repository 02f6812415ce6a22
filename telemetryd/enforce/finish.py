"""What is kept of a device at the end of a transaction: what is intended on it now, and the audit."""

from __future__ import annotations

from telemetryd.enforce.journal import Planned
from telemetryd.enforce.names import PREFIX, Leaves, Value, is_ours, ours, slot_of
from telemetryd.enforce.records import Intended, Reason, Records


def keep_confirmed(records: Records, planned: Planned, config: Leaves, reason: Reason, transaction: str) -> None:
    """Keep what a device has now as what is intended on it."""
    before = records.intended(planned.device) or Intended()
    made = dict.fromkeys(before.created)
    adopted: dict[str, Value] = dict(before.adopted)
    for path, old, new in planned.leaves:
        if new is not None and old is None and not is_ours(path, {path: new}) and not slot_of(path):
            made[path] = None
        if slot_of(path) and path.endswith("/config/name"):
            if old is not None and not str(old).startswith(PREFIX):
                adopted[path] = old
            elif new is not None and not str(new).startswith(PREFIX):
                adopted.pop(path, None)
    mine = ours(config)
    left = tuple(path for path in made if path in config)
    if not mine:
        adopted = {}
    records.intend(planned.device, Intended(mine, left, adopted, reason.policy, transaction))


def note_planned(records: Records, planned: Planned, reason: Reason, transaction: str) -> None:
    """Audit what will be written to a device, before it is."""
    rows = [[path, old, new] for path, old, new in planned.leaves]
    records.note("writing", reason, transaction=transaction, device=planned.device, writes=rows, outcome="planned")


def note_outcome(
    records: Records, reason: Reason, transaction: str, devices: list[str], outcome: str, why: str
) -> None:
    """Audit what came of a transaction."""
    records.note("ended", reason, transaction=transaction, devices=devices, outcome=outcome, cause=why)
