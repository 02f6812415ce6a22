"""`telemetryd decode` prints what docs/decode.md and docs/decode.schema.json say, and fails as it should."""

import errno
import json
import os
import pty
import random
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from telemetryd.cli.main import main
from telemetryd.ingest.capture_writer import CaptureWriter
from telemetryd.ingest.sflow.decode import decode_datagram
from telemetryd.ingest.sflow.reasons import Reason
from telemetryd.ingest.sflow.reference_docs import structures_markdown
from telemetryd.ingest.sflow.structures import TABLE
from tests.sflow_octets import datagram, sample_of, words, xdr

DOCS = Path(__file__).parents[2] / "docs"
SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "sflow"
START_NS = 1_795_000_000_123_456_789

TCP_HEADER = (
    bytes.fromhex("02000000000b 02000000000a 81006064 0800")
    + bytes.fromhex("45b80028 00010000 40060000 c0000201 c6336402")
    + struct.pack(">HHIIBBHHH", 443, 50000, 1, 2, 0x50, 0x18, 3, 4, 5)
)
VXLAN_HEADER = (
    bytes.fromhex("02000000000b 02000000000a 0800")
    + bytes.fromhex("45000000 00010000 40110000 c0000201 c6336402")
    + struct.pack(">HHHH", 50000, 4789, 0, 0)
    + bytes.fromhex("08000000 00138900")
    + TCP_HEADER
)


def datagrams() -> list[bytes]:
    """Build datagrams with every type of sample, every error, and packets of several layers."""
    header = words(1, 118, 4) + xdr(TCP_HEADER)
    tunnel = words(1, 168, 4) + xdr(VXLAN_HEADER)
    flow = sample_of("flow", [(1, header), (1001, words(100, 3, 100, 3)), (9 << 12 | 7, b"\1\2\3\4")])
    counters = sample_of("counter", [(1, words(*range(22))), (1005, xdr(b"XGE0/0/1")), (1001, words(1, 2, 3))])
    expanded = (3, words(1, 0, 1 << 24, 512, 9, 0, 0, 7, 1, 256, 2) + words(1, len(tunnel)) + tunnel + words(1, 4, 0))
    discarded = (5, words(1, 0, 3, 0, 3, 0, 289, 1) + words(1038, 8) + xdr(b"ip_r"))
    metrics = (4300 << 12 | 1002, xdr(b"host") + words(1) + xdr(b"load") + words(5) + struct.pack(">f", 0.5))
    flows = (4300 << 12 | 1003, xdr(b"host") + words(400, 800, 1) + xdr(b"mac") + words(1) + bytes(8))
    whole = datagram([flow, counters, expanded, discarded, metrics, flows, (5 << 12 | 5, b"\0\0\0\1")])
    return [
        whole,
        datagram([flow, (1, words(1, 2)), counters]),
        datagram([(1, flow[1] + b"\0")]),
        datagram([(1, words(1, 2, 3, 4, 5, 6, 7, 5)), flow]),
        whole[:-20],
        words(4, 1, 0, 0),
        words(5, 9),
        words(5, 1),
        words(5, 2, 0x20010DB8, 0, 0, 1, 7, 8, 9, 0),
    ]


def write_capture(path: Path, payloads: list[bytes], **ports: int) -> Path:
    lengths = np.array([len(payload) for payload in payloads], dtype=np.uint32)
    offsets = (np.cumsum(lengths) - lengths).astype(np.uint64)
    times = START_NS + np.arange(len(payloads), dtype=np.int64)
    with CaptureWriter(path) as writer:
        writer.write(np.frombuffer(b"".join(payloads), dtype=np.uint8), offsets, lengths, times, **ports)
    return path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Any:
    """Run the verb in this process: (exit code, printed objects, standard error)."""

    def call(*arguments: str | Path) -> tuple[int, list[dict[str, Any]], str]:
        with pytest.raises(SystemExit) as ended:
            main(["decode", *map(str, arguments)])
        printed = capfd.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return code, [json.loads(line) for line in printed.out.splitlines()], printed.err

    return call


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json.loads((DOCS / "decode.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def fields_of(record: dict[str, Any], space: str) -> set[str]:
    layouts = TABLE[space, record["enterprise"], record["format"]]
    names = {field.name for layout in layouts for field in layout.fields}
    return names | {f"{name}_name" for name in names}


def check(validator: Draft202012Validator, line: dict[str, Any]) -> None:
    """Hold a line against the schema, and its records against the structure table."""
    validator.validate(line)
    for sample in line["samples"]:
        space = "counter" if sample["type"] == "counters_sample" else "flow"
        for record in sample.get("records", []):
            if record["name"] is not None:
                extra = record.keys() - {"enterprise", "format", "name", "raw", "incomplete"}
                assert extra <= fields_of(record, space)


def test_every_kind_of_line_has_the_documented_shape(run: Any, tmp_path: Path, validator: Draft202012Validator) -> None:
    """Sound, damaged and foreign datagrams, with every type of sample, are lines of the schema."""
    payloads = datagrams()
    code, lines, errors = run(write_capture(tmp_path / "all.pcap", payloads))
    assert (code, errors) == (0, "")
    assert len(lines) == len(payloads)
    for line in lines:
        check(validator, line)
    assert {sample["type"] for line in lines for sample in line["samples"]} == {
        *("flow_sample", "counters_sample", "discarded_packet", "rtmetric", "rtflow", "unknown")
    }
    seen = {error["reason"] for line in lines for error in line["errors"]}
    assert seen == {reason.label for reason in Reason if reason.is_damage} - {"record_length"}


def test_a_line_is_the_datagram_with_its_time_and_sender(run: Any, tmp_path: Path) -> None:
    """Each line is what the decoder makes of the datagram, and says when and from whom it came."""
    payloads = datagrams()
    _, lines, _ = run(write_capture(tmp_path / "all.pcap", payloads))
    for number, (line, payload) in enumerate(zip(lines, payloads, strict=True)):
        assert line == {"ts_ns": START_NS + number, "source_address": "192.0.2.1", **decode_datagram(payload)}


def test_a_packet_is_shown_as_in_the_documentation(run: Any, tmp_path: Path) -> None:
    """Addresses are texts, the VLAN is named, and the packet in the tunnel is inside `inner`."""
    _, lines, _ = run(write_capture(tmp_path / "all.pcap", datagrams()[:1]))
    flow, _, expanded, discarded = lines[0]["samples"][:4]
    inner = {
        "src_mac": "02:00:00:00:00:0a",
        "dst_mac": "02:00:00:00:00:0b",
        "vlans": [{"vid": 100, "pcp": 3}],
        "ether_type": 2048,
        "ip_version": 4,
        "src_address": "192.0.2.1",
        "dst_address": "198.51.100.2",
        "protocol": 6,
        "src_port": 443,
        "dst_port": 50000,
        "tcp_flags": 24,
        "dscp": 46,
        "ecn": 0,
        "ttl": 64,
        "ip_length": 40,
        "ip_id": 1,
    }
    assert flow["packet"] == inner
    assert flow["records"][0]["header"] == TCP_HEADER.hex()
    assert (expanded["packet"]["tunnel"], expanded["packet"]["tunnel_id"]) == ("vxlan", 5001)
    assert expanded["packet"]["inner"] == inner
    assert expanded["output"] == {"format": 1, "value": 256, "reason_name": "unknown"}
    assert (discarded["reason"], discarded["reason_name"], discarded["packet"]) == (289, "unknown_l4", None)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared captures are not at {SHARED}")
def test_every_shared_capture_has_the_documented_shape(run: Any, validator: Draft202012Validator) -> None:
    """Lines of real exporters' datagrams are lines of the schema."""
    captures = sorted(SHARED.glob("*.pcap"))
    code, lines, errors = run(*captures)
    assert (code, errors) == (0, "")
    assert len(lines) >= len(captures)
    for line in lines[:: max(1, len(lines) // 150)]:
        check(validator, line)


def test_mutated_datagrams_have_the_documented_shape(validator: Draft202012Validator) -> None:
    """Whatever the octets are, the line is one of the schema."""
    chance = random.Random(20260101)
    for _ in range(200):
        octets = bytearray(chance.choice(datagrams()))
        for _ in range(chance.randint(1, 5)):
            at = chance.randrange(len(octets))
            octets[at] = chance.randrange(256)
        check(validator, {"ts_ns": 0, "source_address": None, **decode_datagram(octets)})


def test_the_documentation_names_every_reason_and_field() -> None:
    """docs/decode.md speaks of each reason and of each field that the schema allows."""
    text = (DOCS / "decode.md").read_text()
    schema = json.loads((DOCS / "decode.schema.json").read_text())
    documented = set(re.findall(r"[a-z0-9_]+", " ".join(re.findall(r"`([^`]+)`", text))))
    named = {reason.label for reason in Reason if reason.is_damage} | schema["properties"].keys()
    named |= schema["$defs"]["packet"]["properties"].keys() | schema["$defs"]["record"]["properties"].keys()
    for sample in schema["$defs"]["sample"]["oneOf"]:
        named |= sample["properties"].keys()
    assert named <= documented
    listed = schema["properties"]["errors"]["items"]["properties"]["reason"]["enum"]
    assert set(listed) == {reason.label for reason in Reason if reason.is_damage}


def test_the_list_of_structures_is_not_stale() -> None:
    """docs/sflow-structures.md is what its generator writes now."""
    assert (DOCS / "sflow-structures.md").read_text() == structures_markdown()


# --- options and mistakes ------------------------------------------------------------------------------------


def test_the_port_is_chosen(run: Any, tmp_path: Path) -> None:
    """Only datagrams to the port count; a capture without any is a warning that says what to do."""
    path = write_capture(tmp_path / "other.pcap", datagrams()[:1], destination_port=9000)
    code, lines, errors = run(path)
    assert (code, lines) == (0, [])
    assert "no datagram to UDP port 6343" in errors
    assert "--all-udp" in errors
    code, lines, errors = run(path, "--port", "9000")
    assert (code, len(lines), errors) == (0, 1, "")


def test_all_udp_takes_what_parses_as_sflow(run: Any, tmp_path: Path) -> None:
    """With --all-udp the port does not matter, and payloads that are no sFlow are left out."""
    payloads = [b"\0\0\0\4NOTSFLOW", *datagrams()[:1], b"x"]
    path = write_capture(tmp_path / "mixed.pcap", payloads, destination_port=9000)
    code, lines, errors = run("--all-udp", path)
    assert (code, errors) == (0, "")
    assert [line["version"] for line in lines] == [5]


def test_a_capture_that_is_cut_off(run: Any, tmp_path: Path) -> None:
    """All before the cut is printed; exit 1 with the offset and the remedy, or with --lenient 0 and a warning."""
    path = write_capture(tmp_path / "cut.pcap", datagrams())
    path.write_bytes(path.read_bytes()[:-7])
    code, lines, errors = run(path)
    assert (code, len(lines)) == (1, len(datagrams()) - 1)
    assert str(path) in errors
    assert "offset" in errors
    assert "--lenient" in errors
    code, lines, errors = run("--lenient", path)
    assert (code, len(lines)) == (0, len(datagrams()) - 1)
    assert "warning" in errors
    assert str(path) in errors


@pytest.mark.parametrize("what", ["missing", "directory", "text", "empty"])
def test_what_is_no_capture(run: Any, tmp_path: Path, what: str) -> None:
    """A path that is wrong or no capture is named with the reason: no traceback, no output."""
    path = tmp_path / what
    if what == "directory":
        path.mkdir()
    elif what != "missing":
        path.write_text("hello, world, hello" if what == "text" else "")
    code, lines, errors = run(path)
    assert code == (2 if what in ("missing", "directory") else 1)
    assert lines == []
    assert str(path) in errors
    assert "Traceback" not in errors


def read_terminal(terminal: int) -> bytes:
    """Read all that is written to a terminal until the last writer is gone, and close it."""
    shown = b""
    try:
        while octets := os.read(terminal, 4096):
            shown += octets
    except OSError as error:  # Linux says EIO, not end of file
        assert error.errno == errno.EIO
    os.close(terminal)
    return shown


def test_progress_is_for_terminals_only(tmp_path: Path) -> None:
    """A bar on standard error where that is a terminal and standard output is not; the lines stay clean."""
    path = write_capture(tmp_path / "all.pcap", datagrams())
    terminal, end = pty.openpty()
    command = [sys.executable, "-c", "from telemetryd.cli.main import main; main()", "decode", str(path)]
    with (tmp_path / "lines").open("wb") as lines:
        process = subprocess.Popen(command, cwd=DOCS.parent, stdout=lines, stderr=end)
    os.close(end)
    shown = read_terminal(terminal)
    assert process.wait(timeout=30) == 0
    assert b"all.pcap" in shown
    assert [json.loads(line)["ts_ns"] for line in (tmp_path / "lines").read_text().splitlines()] == [
        START_NS + number for number in range(len(datagrams()))
    ]


@pytest.mark.parametrize("arguments", [[], ["--port", "0", "x.pcap"], ["--no-such-option"]])
def test_mistakes_in_the_arguments(run: Any, arguments: list[str]) -> None:
    """Wrong usage ends with 2 and a message."""
    code, lines, errors = run(*arguments)
    assert (code, lines) == (2, [])
    assert "Usage" in errors
