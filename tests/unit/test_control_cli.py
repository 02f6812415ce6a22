"""`telemetryd status`, `reload` and `top --once` as processes, against a control service on a real socket."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from telemetryd.cli.control import duration_text, time_text
from telemetryd.serve.messages import ReloadResult
from tests.control_backend import DEADLINE_S, STATUS, Backend, serving, update, usage

pytestmark = pytest.mark.no_twins


def telemetryd(backend: Backend, *arguments: str) -> tuple[int, str, str]:
    """Run a verb against a backend; return its exit code, stdout and stderr."""

    async def scene() -> tuple[int, str, str]:
        async with asyncio.timeout(3 * DEADLINE_S), serving(backend) as path:
            verb = (sys.executable, "-m", "telemetryd", arguments[0], "--socket", str(path), *arguments[1:])
            pipe = asyncio.subprocess.PIPE
            child = await asyncio.create_subprocess_exec(*verb, stdout=pipe, stderr=pipe)
            out, err = await child.communicate()
            assert child.returncode is not None
            return child.returncode, out.decode(), err.decode()

    return asyncio.run(scene())


def test_status_for_people() -> None:
    """Rule: the state comes first with every reason, then what was received, what was lost and why."""
    code, out, err = telemetryd(Backend(), "status")
    assert (code, err) == (0, "")
    assert out.startswith("telemetryd 0.1.0: degraded\n  store: degraded: disk full: 12 windows wait\n")
    assert "  alert (critical, since 2023-11-14T22:14:20Z): full firing: utilisation of isp1 in 95 %" in out
    assert "isp2" not in out
    assert "up 2 min 3 s" in out
    assert "Socket 0: kernel drops 3, processed 999,999,999,993, received 1,000,000,000,000, shed 4\n" in out
    assert "Loss: 1.23 % (" in out
    assert "gNMI: 1 of 1 targets stream\n" in out
    words = " ".join(out.split())
    assert "CR01 192.0.2.1:9339 streaming PROTO -6 s - of 10 s 12,345 silent for 40 s" in words
    rates = "4.40 Gbit/s 4.90 Gbit/s 4.80 Gbit/s 7.60 Gbit/s"
    assert words.endswith(f"exit in internet-exit {rates} 250 3 no datagram of XR01")


def test_status_for_programs() -> None:
    """Rule: --json is the whole status."""
    code, out, _ = telemetryd(Backend(), "status", "--json")
    assert code == 0
    assert json.loads(out) == STATUS


def test_alerts_are_those_that_fire_and_on_request_those_that_are_about_to() -> None:
    code, out, err = telemetryd(Backend(), "alerts")
    assert (code, err) == (0, "")
    assert "isp1 in 95 % (94 % to 96 %)" in out
    assert "1 min 3 s" in out
    assert "isp2" not in out
    assert "isp2 in 95 %" in telemetryd(Backend(), "alerts", "--pending")[1]
    document = json.loads(telemetryd(Backend(), "alerts", "--json")[1])
    assert [alert["state"] for alert in document["alerts"]] == ["firing"]


def test_without_an_alert_nothing_fires() -> None:
    backend = Backend()
    backend.answer = {**STATUS, "alerts": []}
    code, out, err = telemetryd(backend, "alerts")
    assert (code, out, err) == (0, "", "nothing fires\n")


def test_failed_daemon_is_an_exit_code() -> None:
    """Rule: a daemon that has failed makes status exit 1, its status printed all the same."""
    backend = Backend()
    backend.answer = {**STATUS, "state": "failed"}
    code, out, _ = telemetryd(backend, "status")
    assert code == 1
    assert "failed" in out


@pytest.mark.parametrize(
    ("result", "code", "words"),
    [
        (ReloadResult(True, ("registry: 1 link more",), ("listen.port",)), 0, ["Reloaded.", "1 link more", "restart"]),
        (ReloadResult(True), 0, ["nothing has changed"]),
        (ReloadResult(False, problems=("a.yaml:3:1: no such link - name one",)), 2, ["a.yaml:3:1", "goes on"]),
    ],
)
def test_reload(result: ReloadResult, code: int, words: list[str]) -> None:
    """Rule: what a reload changed or why it was refused is printed; refused is exit 2, as any invalid input."""
    backend = Backend()
    backend.result = result
    got, out, err = telemetryd(backend, "reload")
    assert got == code
    assert all(word in out + err for word in words)


def test_top_once() -> None:
    """Rule: --once prints links, departments and applications with interval, share, loss and the unclassified."""
    backend = Backend()
    backend.updates.publish(update(reasons=["store: slow"], links=[usage("up[link]", 1e9, direction="out")]))
    code, out, err = telemetryd(backend, "top", "--once", "--top", "1")
    assert (code, err) == (0, "")
    for word in ("5.00 Gbit/s ± 10 %", "unclassified 4.0 %", "Loss: 25.00 % (shed 25)", "store: slow", "up[link]"):
        assert word in out
    assert "Taxation" in out
    assert "finance" not in out


def test_top_for_programs() -> None:
    """Rule: --json prints one update whole."""
    backend = Backend()
    backend.updates.publish(update())
    code, out, _ = telemetryd(backend, "top", "--json")
    assert code == 0
    assert json.loads(out) == update()


def test_top_without_a_terminal() -> None:
    """Rule: the screen is not drawn into a pipe; the message names what works there."""
    code, out, err = telemetryd(Backend(), "top")
    assert (code, out) == (2, "")
    assert "--once" in err


def test_coverage_for_people() -> None:
    """Rule: links whose alarm fires come first and make the exit code 1; what is not known is a dash."""
    code, out, _ = telemetryd(Backend(), "coverage")
    assert code == 1
    first, second = (next(line for line in out.splitlines() if name in line) for name in ("exit-1", "uplink"))
    assert out.index(first) < out.index(second)
    for text in (
        "CR01",
        "XGE1/0/1",
        "95.3 %",
        "94.9 % to 95.7 %",
        "below",
        "gnmi, every 10 s for 300 s",
        "-6 s",
        "5.0 %",
    ):
        assert text in first
    assert "sflow, every 20 s for 290 s" in second and "-" in second
    assert "uplink" not in telemetryd(Backend(), "coverage", "--alarms")[1]


def test_coverage_for_programs() -> None:
    """Rule: --json has the rows of the status; without an alarm the exit code is 0."""
    code, out, _ = telemetryd(Backend(), "coverage", "--json")
    assert code == 1 and json.loads(out) == {"alarms": 1, "rows": STATUS["coverage"]}
    backend = Backend()
    backend.answer = {**STATUS, "coverage": STATUS["coverage"][1:]}
    assert telemetryd(backend, "coverage", "--json")[0] == 0
    backend.answer = {**STATUS, "coverage": []}
    code, _, err = telemetryd(backend, "coverage")
    assert code == 0 and "no link has counters" in err


@pytest.mark.parametrize("verb", ["status", "reload", "top", "alerts", "coverage"])
def test_no_daemon_is_one_line(verb: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Rule: without a daemon each verb ends with one line that says where to look, exit 1."""
    from telemetryd.cli.main import main

    more = ["--once"] if verb == "top" else []
    with pytest.raises(SystemExit) as raised:
        main([verb, "--socket", str(tmp_path / "none"), *more])
    assert raised.value.code == 1
    assert capfd.readouterr().err.count("\n") == 1


def test_times_and_durations() -> None:
    """Rule: durations show two units at most, times are UTC to the second."""
    second = 10**9
    spans = (0, 59, 60, 3_725, 100_000, 900_000)
    assert [duration_text(span * second) for span in spans] == [
        "0 s",
        "59 s",
        "1 min",
        "1 h 2 min",
        "1 d 3 h",
        "10 d 10 h",
    ]
    assert time_text(1_700_000_000 * second) == "2023-11-14T22:13:20Z"
