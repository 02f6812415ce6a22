"""Single leaves on a gateway: in order, read back, audited; refused where somebody else, a freeze or age says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from telemetryd.enforce.device import LostError, RefusedError, Traits
from telemetryd.enforce.journal import Journal
from telemetryd.enforce.limits import LimitError, Limits
from telemetryd.enforce.records import BusyError, FrozenError, Reason, Records
from telemetryd.enforce.single import StaleError, Written, write_leaves
from telemetryd.errors import InputError, TelemetrydError
from tests.faulty_device import FaultyDevice, run_quickly

OWN = "/qos/scheduler-policies/scheduler-policy[name=telemetryd-out-eth1]/schedulers/scheduler[sequence=1]"
CIR, PIR = f"{OWN}/two-rate-three-color/config/cir", f"{OWN}/two-rate-three-color/config/pir"
HAVE = {CIR: 1000, PIR: 2000, "/qos/queues/queue[name=NC1]/config/name": "NC1"}
GATEWAY = Traits(is_atomic=True, state="required", is_switch=False)
REASON = Reason("control loop", policy="v1", demand="2026-11-26T21:00:10Z", who="telemetryd")


def write(device: FaultyDevice, leaves: dict[str, int], records: Records, age_s: float = 1.0, **more: bool) -> Written:
    return run_quickly(
        write_leaves(device, leaves, records=records, reason=REASON, telemetry_age_s=age_s, limits=None, **more)
    )


def test_rates_are_written_in_one_set_and_audited(tmp_path: Path) -> None:
    """Rising: the ceiling first; falling: the rate first; what is there already is not written."""
    records, device = Records(tmp_path), FaultyDevice("GW1", HAVE, GATEWAY)
    done = write(device, {CIR: 3000, PIR: 4000}, records)
    assert [(one.path, one.old, one.value) for one in done.writes] == [(PIR, 2000, 4000), (CIR, 1000, 3000)]
    done = write(device, {CIR: 500, PIR: 600}, records)
    assert [one.path for one in done.writes] == [CIR, PIR]
    assert write(device, {CIR: 500}, records).writes == ()
    assert [len(one) for one in device.sets] == [2, 2]
    first, second = records.audit.records()
    assert first["writes"] == [[PIR, 2000, 4000], [CIR, 1000, 3000]]
    assert (second["who"], second["policy"], second["device"], second["outcome"]) == (
        "telemetryd",
        "v1",
        "GW1",
        "written",
    )


def test_what_the_device_does_otherwise_is_told_and_audited(tmp_path: Path) -> None:
    """A refusal, a lost answer, a leaf that is dropped, and one that state does not show."""
    records, device = Records(tmp_path), FaultyDevice("GW1", HAVE, GATEWAY)
    device.faults = {("write", 0): "refuse", ("write", 1): "lost after applying", ("write", 2): "drop a leaf"}
    device.faults[("write", 3)] = "drop a leaf in state"
    with pytest.raises(RefusedError, match="GW1"):
        write(device, {CIR: 1}, records)
    with pytest.raises(LostError):
        write(device, {CIR: 1}, records)
    assert device.config[CIR] == 1
    assert [str(one) for one in write(device, {CIR: 7}, records).mismatches] == [f"config of {CIR} is 1, not 7"]
    assert [one.where for one in write(device, {CIR: 8}, records).mismatches] == ["state"]
    assert [one["outcome"].split(":")[0] for one in records.audit.records()] == [
        "refused",
        "lost",
        "not as written",
        "not as written",
    ]


def test_it_is_refused_while_it_must_not_be(tmp_path: Path) -> None:
    """Old demands, a freeze, another writer, a transaction that has not ended, a switch, and leaves that are no rates."""
    records, device = Records(tmp_path), FaultyDevice("GW1", HAVE, GATEWAY)
    with pytest.raises(StaleError, match="90 s old"):
        write(device, {CIR: 1}, records, age_s=90.0)
    records.freeze("incident 7", who="Li")
    with pytest.raises(FrozenError, match=r"frozen by Li .*: incident 7"):
        write(device, {CIR: 1}, records)
    records.unfreeze()
    with records.locked(["GW1"]), pytest.raises(BusyError, match="another process"):
        write(device, {CIR: 1}, records)
    journal = Journal.begin(records.transactions, REASON, ["GW1"])
    with pytest.raises(BusyError, match=journal.id):
        write(device, {CIR: 1}, records)
    journal.end("rolled back")
    with pytest.raises(InputError, match="not all or nothing"):
        write(FaultyDevice("SW1", HAVE), {CIR: 1}, records)
    for path in (CIR.replace("telemetryd-", "lab-"), f"{OWN}/config/type", CIR.replace("eth1", "eth2")):
        with pytest.raises((InputError, TelemetrydError)):
            write(device, {path: 1}, records)
    assert device.sets == []
    assert write(device, {CIR: 1}, records, age_s=90.0, is_scheduled=True).writes


@pytest.mark.parametrize("is_scheduled", [False, True])
def test_limits_refuse_before_anything_is_written(tmp_path: Path, is_scheduled: bool) -> None:
    """No rate crosses the least one, no protected class loses its own; a schedule alone goes beyond a part a period."""
    records = Records(tmp_path)
    device = FaultyDevice("GW1", {CIR: 8_000_000, PIR: 9_000_000}, GATEWAY)

    def change(bps: int, protected: dict[str, int] | None = None) -> Written:
        return run_quickly(
            write_leaves(
                device,
                {CIR: bps},
                records=records,
                reason=REASON,
                telemetry_age_s=1.0,
                limits=Limits(change_percent=50),
                protected=protected,
                is_scheduled=is_scheduled,
            )
        )

    with pytest.raises(LimitError, match=r"GW1: .*cir would fall to 56 kbit/s, below 64 kbit/s"):
        change(56_000)
    with pytest.raises(LimitError, match="is of a protected class, and would fall from 8 Mbit/s to 5 Mbit/s"):
        change(5_000_000, {OWN: 6_000_000})
    assert device.sets == []
    assert change(6_000_000, {OWN: 6_000_000}).writes
    if is_scheduled:
        assert change(1_000_000).writes
    else:
        with pytest.raises(LimitError, match="would change by 83 %"):
            change(1_000_000)
        assert change(3_000_000).writes
    device.config[CIR] = 8_000
    assert change(12_000).writes  # it was below before
