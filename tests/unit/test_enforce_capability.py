"""What a device can do: deviations field by field, its answer to Capabilities, and when it is export-only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from telemetryd.enforce.capability import Answer, Capability, answer_from_document, answer_of, resolve
from telemetryd.enforce.capability_table import Table, load_table
from telemetryd.errors import InputError, Problem, ProblemsError
from telemetryd.ingest.gnmi.show import capabilities_document
from telemetryd.proto import gnmi_pb2
from telemetryd.registry.models import Registry
from tests import policy_case

MARK = "«"
OWN = """\
version: 1
deviations:
  - {source: lab, vendor: h3c, model: "H3*", facts: {queues: 4, weights: 1-15, interface_ref: required}}
  - {source: lab two, vendor: H3C, firmware: "7.1*", facts: {queues: 6, commit_confirmed: true}}
proven:
  - {vendor: H3C, model: h3c, firmware: "7.1.070", by: Li, evidence: lab/2026-11}
"""


def table(tmp_path: Path, text: str = OWN) -> Table:
    path = tmp_path / "own.yaml"
    path.write_text(text.replace(MARK, ""), encoding="utf-8")
    return load_table([path])


def message(version: str = "0.11.2", *encodings: int) -> gnmi_pb2.CapabilityResponse:
    models = [gnmi_pb2.ModelData(name=name, version=version) for name in ("openconfig-qos", "openconfig-interfaces")]
    listed = encodings or (gnmi_pb2.JSON_IETF, gnmi_pb2.PROTO)
    return gnmi_pb2.CapabilityResponse(supported_models=models, supported_encodings=listed, gNMI_version="0.10.0")


def with_firmware(firmware: str | None) -> Registry:
    known = policy_case.registry()
    devices = tuple(one.model_copy(update={"firmware": firmware}) for one in known.devices)
    return replace(known, devices=devices)


def ask(known: Registry, answer: Answer | None, tables: Table, device: str = "CR01") -> Capability:
    return resolve(known.device[device], known, answer, tables)


def test_deviations_apply_field_by_field_and_later_ones_win(tmp_path: Path) -> None:
    """Vendor and model match without case and by pattern, firmware by its own; a fact says where it is from."""
    tables, answer = table(tmp_path), answer_of(message())
    plain = ask(with_firmware(None), answer, tables)
    assert (plain.queues, plain.weights, plain.commit_confirmed) == (4, (1, 15), False)
    newer = ask(with_firmware("7.1.070"), answer, tables)
    assert (newer.queues, newer.weights, newer.commit_confirmed) == (6, (1, 15), True)
    assert newer.sources["queues"] == "own.yaml: lab two"
    assert newer.sources["terms"] == "defaults"
    other = ask(with_firmware(None), answer, tables, "AG01")
    assert (other.vendor, other.queues, other.interface_ref) == ("", 8, "optional")


def test_only_what_is_proven_and_has_answered_may_be_written(tmp_path: Path) -> None:
    """Model and firmware exactly, a gNMI server, an answer, and openconfig-qos in it; else every reason is named."""
    tables, answer = table(tmp_path), answer_of(message())
    assert ask(with_firmware("7.1.070"), answer, tables).export_only == ()
    assert ask(with_firmware("7.1.071"), answer, tables).export_only == (
        'nobody has proven "H3C" "h3c" with firmware "7.1.071"',
    )
    assert ask(with_firmware(None), None, tables).export_only == (
        "its capabilities were never read",
        "the registry names no firmware",
    )
    silent = Answer({"openconfig-interfaces": "3.0.0"}, frozenset({"ASCII"}))
    assert ask(with_firmware("7.1.070"), silent, tables).export_only == (
        "it does not list openconfig-qos",
        "it offers none of the encodings JSON_IETF",
    )
    assert "the registry names no gNMI server for it" in ask(with_firmware("1"), answer, tables, "AG01").export_only
    assert ask(with_firmware("7.1.070"), answer, load_table()).export_only, "the shipped table proves nothing"


def test_the_answer_decides_what_depends_on_the_module(tmp_path: Path) -> None:
    """queue-id is there from openconfig-qos 0.8.0 on; encodings are those of the table that are offered."""
    tables = load_table()
    known = with_firmware(None)
    assert ask(known, answer_of(message("0.7.0")), tables).queue_ids == "unsupported"
    assert ask(known, answer_of(message("0.11.2")), tables).queue_ids == "optional"
    assert ask(known, None, tables).queue_ids == "optional"
    proto = ask(known, answer_of(message("0.11.2", gnmi_pb2.PROTO)), tables, "AG01")
    assert proto.encodings == ("PROTO",)


def test_what_the_command_prints_is_read_as_the_message_is() -> None:
    """`telemetryd gnmi capabilities --json` gives the same answer."""
    one = message()
    assert answer_from_document(capabilities_document(one)) == answer_of(one)
    for wrong in ([], {}, {"version": "1", "models": [{}], "encodings": []}, {"version": "", "models": 3}):
        with pytest.raises(InputError, match="is no answer to Capabilities"):
            answer_from_document(wrong)


MISTAKES = [
    ("version: 1\ndeviations:\n  - {source: x, facts: {«queue: 8}}\n", 'unknown field "queue"', "did you mean"),
    ("version: 1\ndefaults: {weights: «100-1}\n", "no range of weights", "the smaller one first"),
    ("version: 1\ndefaults: {weights: «5}\n", "no range of weights", '"1-100"'),
    ("version: 1\ndefaults: {rate_step: «8}\n", "8 is no rate", "write number and unit"),
    ("version: 1\ndefaults: {schedulers: [«wrr]}\n", 'is "wrr"', "use one of"),
    ("version: 1\ndefaults: {most_burst: «0 B}\n", "no size of a bucket", "more than 0"),
    ("version: 1\ndefaults: {queues: «0}\n", "out of range", "at least 1"),
    ("version: 1\ndefaults: {schedulers: «[strict, strict]}\n", '"strict" is there twice', "keep one"),
    ("version: 1\ndefaults: {rate_step: 3 kbit/s, least_rate: «64 kbit/s}\n", "no multiple", "write a multiple"),
    ("version: 1\ndeviations:\n  - {source: x, qos_below: «new, facts: {queues: 4}}\n", "no version", "0.8.0"),
    ("version: 1\ndeviations:\n  - {source: x, vendor: y, facts: «{}}\n", "holds no fact", "remove the entry"),
    (
        "version: 1\ndeviations:\n  - {source: x, vendor: y, facts: {queues: 4}}\n  - «{source: z, vendor: y, facts: {queues: 5}}\n",
        "means the same devices",
        "line 3",
    ),
    (
        'version: 1\nproven:\n  - {vendor: y, model: z, firmware: «"7.*", by: Li, evidence: e}\n',
        "stands for several",
        "one entry each",
    ),
    ("«[]\n", "the file is a list", "version: 1"),
]


@pytest.mark.parametrize(("text", "what", "remedy"), MISTAKES)
def test_a_malformed_table_is_refused_at_its_place(tmp_path: Path, text: str, what: str, remedy: str) -> None:
    """File, line and column, what is wrong, and what to do."""
    with pytest.raises(ProblemsError) as caught:
        table(tmp_path, text)
    line = next(number for number, line in enumerate(text.splitlines(), 1) if MARK in line)
    column = text.splitlines()[line - 1].index(MARK) + 1
    problem: Problem = caught.value.problems[0]
    assert (problem.line, problem.column) == (line, column), problem
    assert what in problem.message
    assert remedy in problem.remedy
