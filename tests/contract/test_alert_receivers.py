"""Alerts arrive at real receivers, and survive those that are away, slow, or say no."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from telemetryd.alerts import Alerts
from telemetryd.alerts.receiver import Receiver
from telemetryd.alerts.syslog import Syslog, SyslogTarget
from telemetryd.alerts.web import Alertmanager, Endpoint, Webhook
from telemetryd.assure.alerts import Alert, Evidence, Reading
from telemetryd.observe.health import State
from telemetryd.store.influx.credentials import TokenSource
from telemetryd.store.influx.respond import Pace
from tests.alert_receivers import (
    DEADLINE_S,
    AlertmanagerServer,
    HttpReceiver,
    SyslogReceiver,
    free_port,
    wait_for,
)
from tests.alerts_case import START, S, plan, telemetry, total, window

QUICK = Pace(first_s=0.01, longest_s=0.05, longest_asked_s=0.3, hold_s=0.05)
READING = Reading((("link", "isp1"), ("direction", "in")), 0.95, 0.94, 0.96, Evidence.BAD, 0.9)
ALERT = Alert("full", "utilisation", "critical", READING.subject, "ratio", "firing", START, 0, START + 60 * S, READING)


def alerts(count: int) -> list[Alert]:
    """Return alerts of different rules."""
    return [replace(ALERT, rule=f"r{number}") for number in range(count)]


def endpoint(url: str, token: Path | None = None) -> Endpoint:
    return Endpoint(url, TokenSource(token), None, 10.0)


def webhook(url: str, queue: int = 100, token: Path | None = None) -> Webhook:
    return Webhook("ops", endpoint(url, token), sender="host", queue=queue, pace=QUICK)


def syslog(protocol: Any, port: int = 0, path: Path | None = None, queue: int = 100) -> Syslog:
    target = SyslogTarget(protocol, "127.0.0.1", port, path, None, 16, 32473, 10.0)
    return Syslog("log", target, sender="host", queue=queue, pace=QUICK)


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds that is looked at in a thread."""
    async with asyncio.timeout(DEADLINE_S):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.01)


def with_receiver(receiver: Receiver, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario while a receiver is at work, then stop it."""

    async def whole() -> None:
        task = asyncio.create_task(receiver.run())
        await scenario()
        receiver.stop()
        async with asyncio.timeout(DEADLINE_S):
            await task

    asyncio.run(whole())


def test_a_webhook_gets_every_alert_once_and_in_order(tmp_path: Path) -> None:
    """Through two answers 503, which are tried again."""
    (tmp_path / "token").write_text("secret\n")
    with HttpReceiver(tmp_path, [503, 503]) as server:
        receiver = webhook(f"{server.url}/hook", token=tmp_path / "token")

        async def scenario() -> None:
            receiver.put(alerts(3))
            await until(lambda: receiver.counters.delivered == 3)
            receiver.put([replace(ALERT, state="resolved", until_ns=START + 90 * S)])
            await until(lambda: receiver.counters.delivered == 4)

        with_receiver(receiver, scenario)
        requests = server.requests()
    assert [request["status"] for request in requests] == [503, 503, 200, 200]
    assert {request["path"] for request in requests} == {"/hook"}
    assert {request["headers"]["Authorization"] for request in requests} == {"Bearer secret"}
    taken = [alert for request in requests if request["status"] == 200 for alert in request["body"]["alerts"]]
    assert [(one["rule"], one["state"]) for one in taken] == [
        ("r0", "firing"), ("r1", "firing"), ("r2", "firing"), ("full", "resolved"),
    ]  # fmt: skip
    assert (taken[0]["low"], taken[0]["value"], taken[0]["high"]) == (0.94, 0.95, 0.96)
    assert receiver.counters.failures == 2
    assert receiver.health().state is State.OK


def test_what_is_refused_is_dropped_counted_and_said(tmp_path: Path) -> None:
    with HttpReceiver(tmp_path, [400]) as server:
        receiver = webhook(server.url)

        async def scenario() -> None:
            receiver.put(alerts(2))
            await until(lambda: receiver.counters.refused == 2)
            assert receiver.health().state is State.DEGRADED
            assert "400" in receiver.health().reasons[0]
            receiver.put(alerts(1))
            await until(lambda: receiver.counters.delivered == 1)

        with_receiver(receiver, scenario)
    assert receiver.health().state is State.OK


def test_a_full_queue_loses_the_oldest(tmp_path: Path) -> None:
    """Nobody listens: three of five are kept, told once somebody does, and the loss is said."""
    port = free_port()
    receiver = webhook(f"http://127.0.0.1:{port}", queue=3)

    async def scenario() -> None:
        receiver.put(alerts(5))
        await until(lambda: receiver.counters.failures >= 2)
        assert "3 alerts wait" in receiver.health().reasons[0]

    with_receiver(receiver, scenario)
    assert receiver.counters.lost == 2
    assert receiver.counters.waiting == 3
    assert any("2 alerts were lost" in reason for reason in receiver.health().reasons)


def test_a_token_that_is_corrected_is_read_again(tmp_path: Path) -> None:
    token = tmp_path / "token"
    with HttpReceiver(tmp_path, [401, 401]) as server:
        receiver = webhook(server.url, token=token)

        async def scenario() -> None:
            receiver.put(alerts(1))
            await until(lambda: receiver.counters.failures >= 1)
            assert "cannot be read" in receiver.health().reasons[0]
            await asyncio.to_thread(token.write_text, "old")
            await until(lambda: len(server.requests()) >= 2)
            await asyncio.to_thread(token.write_text, "new")
            await until(lambda: receiver.counters.delivered == 1)

        with_receiver(receiver, scenario)
        requests = server.requests()
    assert requests[0]["headers"]["Authorization"] == "Bearer old"
    assert requests[-1]["headers"]["Authorization"] == "Bearer new"


MESSAGE = re.compile(
    rb"<130>1 2026-\S+Z host telemetryd \d+ alert \[telemetryd@32473 rule=\"(r\d)\" [^]]*\] \xef\xbb\xbfr\d firing: [^<]*",
)


def syslog_addresses(directory: Path) -> dict[str, tuple[str, int, Path | None]]:
    udp, tcp, path = free_port(socket.SOCK_DGRAM), free_port(), directory / "log"
    return {
        "udp": (f"UDP4-RECV:{udp},bind=127.0.0.1", udp, None),
        "tcp": (f"TCP4-LISTEN:{tcp},bind=127.0.0.1,fork", tcp, None),
        "unix": (f"UNIX-RECV:{path}", 0, path),
    }


@pytest.mark.parametrize("protocol", ["udp", "tcp", "unix"])
def test_a_syslog_server_gets_messages_of_rfc_5424(tmp_path: Path, protocol: str) -> None:
    address, port, path = syslog_addresses(tmp_path)[protocol]
    with SyslogReceiver(tmp_path, address) as server:
        receiver = syslog(protocol, port, path)

        async def scenario() -> None:
            # Until the server listens a datagram may be lost, which is why the first one is only sent to see that.
            while not await asyncio.to_thread(server.received):
                receiver.put([replace(ALERT, rule="r9")])
                await asyncio.sleep(0.05)
            receiver.put(alerts(3))
            await until(lambda: server.received().count(b'state="firing"') >= 3 and b'rule="r2"' in server.received())

        with_receiver(receiver, scenario)
        octets = server.received()
    if protocol == "tcp":
        messages = []
        while octets:
            length, octets = octets.split(b" ", 1)
            messages.append(octets[: int(length)])
            octets = octets[int(length) :]
        found = [MESSAGE.fullmatch(message) for message in messages]
    else:
        found = list(MESSAGE.finditer(octets))
    names = [match[1] for match in found if match is not None]
    assert None not in found
    assert [name for name in names if name != b"r9"] == [b"r0", b"r1", b"r2"]


def test_a_syslog_server_that_is_away_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "log"
    receiver = syslog("unix", path=path)

    async def scenario() -> None:
        receiver.put(alerts(2))
        await until(lambda: receiver.counters.failures >= 2)
        assert receiver.health().state is State.DEGRADED
        server = await asyncio.to_thread(SyslogReceiver, tmp_path, f"UNIX-RECV:{path}")
        try:
            await until(lambda: server.received().count(b"<130>1 ") == 2 and receiver.counters.delivered == 2)
        finally:
            await asyncio.to_thread(server.__exit__, None, None, None)

    with_receiver(receiver, scenario)
    assert receiver.health().state is State.OK


def test_a_real_alertmanager_shows_what_fires_until_it_ends(tmp_path: Path) -> None:
    with AlertmanagerServer(tmp_path) as server:
        now = [0]

        def clock() -> int:
            import time

            return time.time_ns() + now[0]

        receiver = Alertmanager(
            "am", endpoint(f"{server.url}/api/v2/alerts"), sender="host", queue=100, resend_ns=60 * S, pace=QUICK,
            clock=clock,
        )  # fmt: skip
        since = clock() - 30 * S
        fires = [replace(one, since_ns=since) for one in alerts(2)]

        async def scenario() -> None:
            receiver.put(fires)
            await until(lambda: len(server.alerts()) == 2)
            receiver.put([replace(fires[0], state="resolved", until_ns=clock())])
            await until(lambda: [one["labels"]["alertname"] for one in server.alerts()] == ["r1"])
            await until(lambda: receiver.counters.delivered == 3)

        with_receiver(receiver, scenario)
        (one,) = server.alerts()
    assert one["labels"] == {
        "alertname": "r1", "kind": "utilisation", "severity": "critical", "link": "isp1", "direction": "in",
        "sender": "host",
    }  # fmt: skip
    assert one["annotations"]["summary"] == "r1 firing: utilisation of isp1 in 95 % (94 % to 96 %), limit 90 %"


def test_an_alertmanager_is_told_again_what_fires(tmp_path: Path) -> None:
    """So that it does not end by itself; what has ended is told for a quarter of an hour."""
    with HttpReceiver(tmp_path) as server:
        receiver = Alertmanager(
            "am", endpoint(server.url), sender="host", queue=100, resend_ns=S // 20, pace=QUICK
        )  # fmt: skip

        async def scenario() -> None:
            receiver.put(alerts(1))
            await until(lambda: len(server.requests()) >= 4)

        with_receiver(receiver, scenario)
        requests = server.requests()
    assert len({request["body"][0]["endsAt"] for request in requests}) == len(requests)
    assert receiver.counters.delivered == 1


def rules(*receivers: str) -> str:
    return (
        "  rules: [{name: busy, kind: usage, above: 50 Mbit/s, departments: [tax], over: 2 s, hold: 4 s, "
        "recover_hold: 2 s, receivers: [ops]}, {name: quiet, kind: usage, below: 90 Mbit/s, over: 2 s, hold: 4 s}]\n"
        f"  receivers: [{', '.join(receivers)}]"
    )


def test_the_component_tells_the_receivers_that_a_rule_names(tmp_path: Path) -> None:
    """From windows to two HTTP servers; one is taken away by a reload, and the rules go on."""
    (tmp_path / "ops").mkdir()
    (tmp_path / "all").mkdir()
    with HttpReceiver(tmp_path / "ops") as ops, HttpReceiver(tmp_path / "all") as everybody:
        first = f"{{name: ops, kind: webhook, url: '{ops.url}'}}"
        second = f"{{name: all, kind: webhook, url: '{everybody.url}'}}"
        component = Alerts(plan(rules(first, second)), telemetry, pace=QUICK, clock=lambda: START)

        def told(server: HttpReceiver) -> list[tuple[str, str]]:
            return [(one["rule"], one["state"]) for request in server.requests() for one in request["body"]["alerts"]]

        def put(numbers: Sequence[int], mbps: float) -> None:
            for number in numbers:
                component.put(window(number, total("tax", "films", mbps)))

        async def scenario() -> None:
            task = asyncio.create_task(component.run())
            put(range(9), 60)
            await until(lambda: len(told(ops)) == 2 and len(told(everybody)) == 1)
            assert sorted(alert.rule for alert in component.active()) == ["busy", "quiet"]
            assert component.counters().active["busy", "firing"] == 1
            component.replace(plan(rules(first)))
            put(range(9, 13), 20)
            await until(lambda: ("busy", "resolved") in told(ops))
            component.stop()
            async with asyncio.timeout(DEADLINE_S):
                await task

        asyncio.run(scenario())
        assert sorted(told(ops)) == [("busy", "firing"), ("busy", "resolved"), ("quiet", "firing")]
        assert told(everybody) == [("quiet", "firing")]
    assert component.counters().told == {("busy", "firing"): 1, ("busy", "resolved"): 1, ("quiet", "firing"): 1}


def test_a_restart_tells_an_alertmanager_what_fires_and_a_webhook_nothing(tmp_path: Path) -> None:
    """What fires is in a file; the next run tells it to the Alertmanager at once. A damaged file is named, and no end."""
    state = tmp_path / "state" / "alerts.json"
    (tmp_path / "ops").mkdir()
    (tmp_path / "am").mkdir()
    with HttpReceiver(tmp_path / "ops") as ops, HttpReceiver(tmp_path / "am") as manager:
        settings = rules(
            f"{{name: ops, kind: webhook, url: '{ops.url}'}}", f"{{name: am, kind: alertmanager, url: '{manager.url}'}}"
        ).replace("receivers: [ops]", "severity: critical")

        async def until_told(component: Alerts, condition: Callable[[], bool]) -> None:
            task = asyncio.create_task(component.run())
            await until(condition)
            component.stop()
            async with asyncio.timeout(DEADLINE_S):
                await task

        def component() -> Alerts:
            return Alerts(plan(settings), telemetry, pace=QUICK, clock=lambda: START, state=state)

        first = component()
        for number in range(9):
            first.put(window(number, total("tax", "films", 60)))
        asyncio.run(until_told(first, lambda: bool(ops.requests() and manager.requests() and state.exists())))
        kept = json.loads(state.read_text(encoding="utf-8"))
        assert set(kept["rules"]) == {"busy", "quiet"}
        before = len(ops.requests()), len(manager.requests())
        second = component()
        asyncio.run(until_told(second, lambda: len(manager.requests()) > before[1]))
        assert len(ops.requests()) == before[0]
        told = manager.requests()[-1]["body"]
        assert sorted(one["labels"]["alertname"] for one in told) == ["busy", "quiet"]
        assert [alert.state for alert in second.active()] == ["firing", "firing"]
        assert json.loads(state.read_text(encoding="utf-8")) == kept
        state.write_text('{"rules": 7}', encoding="utf-8")
        third = component()
        asyncio.run(until_told(third, third.started.is_set))
        assert third.active() == []


def test_the_http_server_of_these_tests_writes_what_it_got(tmp_path: Path) -> None:
    """The peer itself: a request that it refuses is in its file too."""
    import urllib.error
    import urllib.request

    with HttpReceiver(tmp_path, [400]) as server:
        request = urllib.request.Request(server.url, json.dumps([1]).encode())
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=DEADLINE_S)
        wait_for(server.requests)
        assert server.requests()[0]["body"] == [1]
