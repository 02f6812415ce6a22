"""`telemetryd enforce apply` and its neighbours as an operator calls them, on real gNMI servers in another process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetryd.enforce.names import ours
from tests.enforce_case import FOREIGN
from tests.enforce_desk import AT, Desk
from tests.faulty_target import FaultyTargets

pytestmark = pytest.mark.no_twins

SLOT = "/qos/interfaces/interface[interface-id=XGE1/0/3]/output/scheduler-policy"


@pytest.fixture(scope="module")
def process() -> Iterator[FaultyTargets]:
    with FaultyTargets(1) as found:
        yield found


@pytest.fixture
def target(process: FaultyTargets) -> FaultyTargets:
    process.tell("reset", 0)
    return process


@pytest.fixture
def desk(tmp_path: Path, target: FaultyTargets, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, target.ports[0], capsys)


def test_from_apply_to_off(desk: Desk, target: FaultyTargets) -> None:
    """Applied and confirmed; again: nothing to do; drift is found and repaired; off leaves what was there before."""
    assert target.config(0) == FOREIGN
    code, answer, err = desk.apply()
    assert code == 0, err
    (done,) = answer["transactions"]
    assert (done["outcome"], done["verdict"]["verdict"]) == ("confirmed", "ok")
    assert "CR01: read back: as written" in err
    mine = ours(target.config(0))
    assert {row["path"] for row in answer["devices"][0]["writes"]} >= set(mine)
    code, answer, _ = desk.apply()
    assert (code, answer["transactions"][0]["outcome"]) == (0, "unchanged")

    code, out, _ = desk.run("status", "--json")
    (row,) = json.loads(out)["devices"]
    assert (code, row["mode"], row["leaves"]) == (0, "written to", len(mine))
    assert desk.run("drift")[:2] == (0, f"CR01: as confirmed ({len(mine)} leaves)\n")
    cir = next(path for path in mine if path.endswith("/cir"))
    live = ("-p", desk.policy, "-r", desk.directory / "registry", *AT, "--live", "--json")
    code, out, err = desk.run("plan", *live, "--deviations", desk.directory / "own.yaml")
    (planned,) = json.loads(out)["devices"]
    assert (code, planned["writes"], planned["export_only"]) == (0, [], []), err
    target.tell("change", 0, leaves={cir: 1, "/qos/queues/queue[name=NC2]/config/name": "NC2"})
    code, out, _ = desk.run("drift")
    assert code == 1
    assert f"{cir}: 1, should be {mine[cir]}" in out
    assert "NC2" not in out
    code, out, err = desk.run("drift", "--repair", "--yes", "--json")
    assert (code, json.loads(out)["repair"]) == (0, "confirmed"), err
    assert target.config(0)[cir] == mine[cir]

    code, out, err = desk.run("off", "--yes", "--json")
    assert (code, json.loads(out)["transactions"][0]["outcome"]) == (0, "confirmed"), err
    assert target.config(0) == {**FOREIGN, "/qos/queues/queue[name=NC2]/config/name": "NC2"}
    assert desk.records.intended("CR01") is None

    code, out, _ = desk.run("history", "--json")
    assert [one["outcome"] for one in json.loads(out)["transactions"]] == ["confirmed"] * 3
    code, out, err = desk.run("audit", "--json", "-n", 100)
    found = json.loads(out)
    assert (code, found["holds"]) == (0, True)
    paths = {row[0] for one in found["records"] for row in one.get("writes", ())}
    assert paths >= set(mine)
    path = desk.records.audit.path
    path.write_bytes(path.read_bytes().replace(b"CHG-1", b"CHG-2", 1))
    code, _, err = desk.run("audit")
    assert code == 1
    assert "does not follow from the line before" in err


def test_shadow_and_export_only_write_nothing(desk: Desk, target: FaultyTargets) -> None:
    """A device that is not named, one that nobody has proven, a freeze, and a policy's freeze."""
    desk.configure("gateways: []")
    code, _, err = desk.apply()
    assert code == 1
    assert "CR01: nothing is written, in shadow" in err
    desk.configure()
    (desk.directory / "own.yaml").write_text("version: 1\n")
    code, _, err = desk.apply()
    assert code == 1
    assert "export only: nobody has proven H3C" in err.replace('"', "")
    (desk.directory / "own.yaml").write_text(
        'version: 1\nproven:\n  - {vendor: H3C, model: h3c, firmware: "7.1", by: Li, evidence: lab}\n'
    )
    assert desk.run("freeze", "--reason", "exam weekend")[0] == 0
    code, _, err = desk.apply()
    assert code == 1
    assert "exam weekend - telemetryd enforce unfreeze" in err
    assert desk.run("off", "--yes")[0] == 0
    assert desk.run("unfreeze", "--why", "over")[0] == 0
    assert target.config(0) == FOREIGN
    desk.configure("switches: [CR01], switch_writes_per_day: 1")
    code, _, err = desk.apply()
    assert code == 1
    assert "enforce.switch_writes_per_day" in err
    assert target.config(0) == FOREIGN


def test_an_occupied_attachment_point_has_to_be_adopted(desk: Desk, target: FaultyTargets) -> None:
    """It is named in the refusal; adopted it is taken, and given back by off."""
    theirs = {f"{SLOT}/config/name": "lab", SLOT.split("/output")[0] + "/config/interface-id": "XGE1/0/3"}
    target.tell("change", 0, leaves=theirs)
    before = target.config(0)
    code, _, err = desk.apply()
    assert code == 1
    assert f'--adopt "{SLOT}"' in err
    assert target.config(0) == before
    code, _, err = desk.apply("--adopt", SLOT)
    assert code == 0, err
    assert str(target.config(0)[f"{SLOT}/config/name"]).startswith("telemetryd-")
    assert desk.run("off", "--yes")[0] == 0
    assert target.config(0) == before


def test_what_goes_wrong_goes_back(desk: Desk, target: FaultyTargets) -> None:
    """A dropped leaf, a refusal, drops of protected queues; and a confirmed change that an operator takes back."""
    for fault, words in (
        ("drop a leaf", "is nothing, not"),
        ("exhausted", "RESOURCE_EXHAUSTED"),
        ("pretend", "CR01"),
    ):
        target.tell("arm", 0, kind="write", number=0, fault=fault)
        code, answer, err = desk.apply()
        assert (code, answer["transactions"][0]["outcome"]) == (1, "rolled back"), err
        assert words in answer["transactions"][0]["why"], answer
        assert target.config(0) == FOREIGN
    code, answer, _ = desk.apply()
    assert code == 0
    name = answer["transactions"][0]["transaction"]
    code, out, err = desk.run("rollback", name, "--yes", "--json")
    assert (code, json.loads(out)["transactions"][0]["outcome"]) == (0, "confirmed"), err
    assert target.config(0) == FOREIGN


def test_mistakes_are_explained(desk: Desk) -> None:
    """Exit code 2 for what is no input; nothing open to confirm; nobody to ask."""
    assert desk.run("confirm")[0] == 2
    assert desk.run("rollback", "2026")[0] == 2
    code, _, err = desk.apply(within="soon")
    assert (code, "--confirm-within" in err) == (2, True)
    code, _, err = desk.apply("--device", "CR09")
    assert (code, "CR09" in err) == (2, True)
    code, _, err = desk.apply("--canary", "CR09")
    assert (code, "--canary" in err) == (2, True)
    code, _, err = desk.run("apply", "-p", desk.policy, *AT, "--why", "CHG-1")
    assert (code, "give --yes" in err) == (2, True)
    assert desk.run("recover")[0] == 0
