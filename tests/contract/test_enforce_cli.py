"""`telemetryd enforce plan` as a user calls it: from files to queues, costs and writes; mistakes with their places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from telemetryd.enforce.diff import Write, apply
from telemetryd.enforce.names import Value
from tests.commands import run_command
from tests.enforce_case import as_json
from tests.policy_case import write, write_small_registry
from tests.unit import registry_case

ROOT = Path(__file__).parents[2]
EXIT = ROOT / "policies" / "examples" / "exit"
AT = ("--at", "2026-11-28 09:00")


@pytest.fixture
def registry(tmp_path: Path) -> str:
    return write_small_registry(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    return run_command(capsys, "enforce", "plan", *arguments)


def leaves_of(device: dict[str, object]) -> dict[str, Value]:
    """Return what a device has once everything is written."""
    writes = [Write(row["path"], tuple(v) if isinstance(v := row["new"], list) else v) for row in device["writes"]]  # type: ignore[attr-defined]
    return apply({}, writes)


def test_a_plan_is_queues_costs_and_writes(tmp_path: Path, registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Both links of the group are on CR01; sums fit, nothing is proven, and against its own result nothing is written."""
    path = write(tmp_path)
    arguments = ("-p", path, "-r", registry, *AT, "--json")
    code, out, _ = run(capsys, *arguments)
    answer = json.loads(out)
    assert (code, answer["at"], answer["demand"]) == (0, "2026-11-28T09:00:00+08:00", None)
    (device,) = answer["devices"]
    assert (device["device"], device["driver"]) == ("CR01", "openconfig")
    assert "its capabilities were never read" in device["export_only"]
    ports = {(row["interface"], row["direction"]) for row in device["queues"]}
    assert ports == {("BAGG1", "out"), ("XGE1/0/3", "out")}
    for interface, capacity in (("BAGG1", 4_000_000_000), ("XGE1/0/3", 2_000_000_000)):
        rows = [row for row in device["queues"] if row["interface"] == interface]
        assert sum(row["rate_bps"] for row in rows) <= capacity
        assert all(row["rate_bps"] <= row["ceiling_bps"] <= capacity for row in rows)
        assert sum(row["has_rest"] for row in rows) == 1
    assert {row["step"] for row in device["writes"]} == {"make", "move"}
    # What the device reads back is the plan: nothing is left to write.
    readback = tmp_path / "readback.json"
    leaves = leaves_of(device)
    readback.write_text(json.dumps(as_json(leaves)), encoding="utf-8")
    code, out, _ = run(capsys, *arguments, "--against", readback)
    assert (code, json.loads(out)["devices"][0]["writes"]) == (0, [])
    # One rate is off: one leaf. An attachment point of somebody else's is left alone.
    cir = next(path for path in leaves if path.endswith("/config/cir"))
    slot = next(path for path in leaves if path.endswith("/output/scheduler-policy/config/name"))
    readback.write_text(json.dumps(as_json(leaves | {cir: 64_000, slot: "theirs"})), encoding="utf-8")
    code, out, _ = run(capsys, *arguments, "--against", readback)
    (device,) = json.loads(out)["devices"]
    assert [(row["step"], row["path"], row["old"]) for row in device["writes"]] == [("raise", cir, 64_000)]
    assert [(row["path"], row["found"]) for row in device["conflicts"]] == [(slot, "theirs")]


def test_what_is_proven_may_be_written_to(tmp_path: Path, registry: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Firmware in the registry, an answer to Capabilities, and a table that proves both; fewer queues are folded."""
    base = registry_case.BASE.replace("profile: h3c\n", 'profile: h3c\n    firmware: "7.1"\n')
    (Path(registry) / "a.yaml").write_text(base, encoding="utf-8")
    answers = tmp_path / "answers"
    answers.mkdir()
    models = [{"name": "openconfig-qos", "version": "0.11.2", "organization": "OC"}]
    document = {"version": "0.10.0", "encodings": ["JSON_IETF"], "models": models}
    (answers / "CR01.json").write_text(json.dumps(document), encoding="utf-8")
    own = tmp_path / "own.yaml"
    own.write_text(
        "version: 1\ndeviations:\n  - {source: lab, vendor: H3C, facts: {queues: 3}}\n"
        'proven:\n  - {vendor: H3C, model: h3c, firmware: "7.1", by: Li, evidence: lab}\n'
    )
    arguments = ("-p", write(tmp_path), "-r", registry, *AT, "--capabilities", answers, "--deviations", own)
    code, out, err = run(capsys, *arguments, "--explain")
    assert code == 0
    assert "CR01: may be written to" in out
    assert "What sharing a queue costs" in out
    assert "IPv4 and IPv6 packets of a class share its queue" in out
    assert "no demand was given" in err
    code, out, _ = run(capsys, *arguments, "--json")
    (device,) = json.loads(out)["devices"]
    assert device["export_only"] == []
    assert len({row["queue"] for row in device["queues"]}) == 3
    assert device["costs"]
    assert all(row["sure_bps"] <= row["promise_bps"] for row in device["costs"])
    assert device["capability"]["sources"]["queues"] == "own.yaml: lab"


def test_the_shipped_example_is_planned_the_same_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit of the example city: two routers, policed inbound at 95 % of the contract; the same octets twice."""
    arguments = ("-p", EXIT, "--demand", EXIT / "demand.csv", *AT, "--json")
    first, second = run(capsys, *arguments), run(capsys, *arguments)
    assert first == second
    devices = {one["device"]: one for one in json.loads(first[1])["devices"]}
    assert set(devices) == {"YH-DCA-XR01", "YH-DCB-XR01"}
    rows = devices["YH-DCA-XR01"]["queues"]
    assert {row["direction"] for row in rows} == {"in"}
    assert sum(row["rate_bps"] for row in rows) <= 3_800_000_000
    own = next(row for row in rows if "CORE/hrss/cseexam" in row["classes"])
    # Half of the exit, 2.6 Gbit/s demanded there in all.
    assert own["rate_bps"] >= 1_000_000_000


def test_a_gateway_gets_a_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link of a Linux gateway: nodes of what the policy names, prefix sets and terms; read back it needs no write."""
    policy = (EXIT / "policy.yaml").read_text(encoding="utf-8")
    path = tmp_path / "policy.yaml"
    path.write_text(policy.replace("links: [exit]", "links: [gateway-dca-gw01-inner]"), encoding="utf-8")
    (tmp_path / "calendars").mkdir()
    calendar = ROOT / "policies" / "examples" / "calendars" / "2026.yaml"
    (tmp_path / "calendars" / "2026.yaml").write_text(calendar.read_text(encoding="utf-8"), encoding="utf-8")
    code, out, _ = run(capsys, "-p", path, *AT, "--json")
    assert code == 0
    (device,) = json.loads(out)["devices"]
    assert device["driver"] == "linux"
    by_node = {tuple(row["node"]): row for row in device["classes"]}
    assert by_node[()]["rate_bps"] == 10_000_000_000
    assert by_node["CORE", "hrss", "cseexam"]["rate_bps"] >= 2_000_000_000
    assert by_node["CORE",]["rate_bps"] >= sum(
        row["rate_bps"] for node, row in by_node.items() if len(node) == 2 and node[0] == "CORE"
    )
    paths = [row["path"] for row in device["writes"]]
    assert any("ipv4-prefix-set[name=telemetryd-served.cseexam]" in path for path in paths)
    assert any("scheduler-policy[name=telemetryd-in-eth1.CORE.hrss]" in path for path in paths)
    assert {row["step"] for row in device["writes"]} == {"make", "move"}
    code, out, _ = run(capsys, "-p", path, *AT)
    assert "(port)" in out
    there = {row["path"]: row["new"] for row in device["writes"]}
    cir = next(path for path in there if path.endswith("/config/cir"))
    (tmp_path / "readback.json").write_text(json.dumps(there | {cir: there[cir] + 8}), encoding="utf-8")
    code, out, _ = run(capsys, "-p", path, *AT, "--against", tmp_path / "readback.json", "--json")
    (device,) = json.loads(out)["devices"]
    assert [(row["path"], row["new"]) for row in device["writes"]] == [(cir, there[cir])]


def test_mistakes_are_named_with_their_places(
    tmp_path: Path, registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and what to do; no traceback."""
    path = write(tmp_path)
    arguments = ("-p", path, "-r", registry, *AT)
    broken = tmp_path / "broken.json"
    broken.write_text('{"qos": }')
    for wrong, what in (
        (("--device", "CR09"), 'no device "CR09"'),
        (("--device", "AG01"), "no link of the policies is on AG01"),
        (("--against", broken), f"{broken}:1:9: is no JSON"),
        (("--against", tmp_path / "none.json"), "cannot be read"),
        (("--deviations", broken), f'{broken}:1:2: unknown section "qos"'),
    ):
        code, out, err = run(capsys, *arguments, *wrong)
        assert (code, out) == (2, "")
        assert what in err, err
    for text in ("[1]", '{"qos": 3}', '{"qos": {"queues": {"queue": [{"id": 1}]}}}'):
        broken.write_text(text)
        code, _, err = run(capsys, *arguments, "--against", broken)
        assert (code, str(broken) in err) == (2, True), err
