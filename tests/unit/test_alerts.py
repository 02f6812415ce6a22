"""Alerts: evidence by intervals, hold and recovery, and what each kind of rule measures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from telemetryd.alerts.evaluate import Evaluator
from telemetryd.alerts.messages import alertmanager_body, document, summary, syslog_message
from telemetryd.assure.alert_measures import Telemetry
from telemetryd.assure.alerts import Alert, Evidence, Hold, Limit, Reading, RuleState
from tests.alerts_case import START, S, link, plan, telemetry, total, window
from tests.proof_case import POLICY

ABOVE = Limit(100.0, 80.0, is_above=True)
BELOW = Limit(100.0, 120.0, is_above=False)
BAD, GOOD, NONE = Evidence.BAD, Evidence.GOOD, Evidence.NONE


@pytest.mark.parametrize(
    ("limit", "low", "high", "expected"),
    [
        (ABOVE, 101, 140, BAD),
        (ABOVE, 99, 140, NONE),  # the interval holds the limit
        (ABOVE, 85, 95, NONE),  # below the limit, and not yet where it is good again
        (ABOVE, 60, 80, GOOD),
        (BELOW, 60, 99, BAD),
        (BELOW, 60, 101, NONE),
        (BELOW, 120, 130, GOOD),
        (BELOW, 105, 115, NONE),
    ],
)
def test_a_figure_is_evidence_only_if_its_whole_interval_is(limit, low, high, expected):
    assert limit.evidence(low, high) is expected


def step_all(evidence: list[Evidence], hold=3, recover=2) -> list[tuple[int, str]]:
    """Return (number of the span, state) of what is told."""
    state = RuleState("r", "usage", "warning", "bit/s", Hold(hold * S, recover * S))
    told = []
    for number, one in enumerate(evidence):
        reading = Reading((("link", "a"),), 1.0, 1.0, 1.0, one, 0.0)
        told += [(number, alert.state) for alert in state.step([reading], number * S, (number + 1) * S)]
    return told


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        ([BAD, BAD, BAD], [(2, "firing")]),
        ([BAD, BAD, NONE, BAD, BAD], []),  # no evidence breaks the hold
        ([BAD, BAD, GOOD, BAD, BAD, BAD], [(5, "firing")]),
        ([BAD] * 3 + [NONE] * 9, [(2, "firing")]),  # and ends nothing
        ([BAD] * 3 + [GOOD, GOOD], [(2, "firing"), (4, "resolved")]),
        ([BAD] * 3 + [GOOD, NONE, GOOD, GOOD], [(2, "firing"), (6, "resolved")]),
        ([BAD] * 3 + [GOOD, BAD, GOOD], [(2, "firing")]),  # flapping is one alert
    ],
)
def test_an_alert_holds_and_recovers(evidence, told):
    assert step_all(evidence) == told


def test_an_alert_begins_with_its_evidence_and_a_subject_that_is_gone_ends_it():
    state = RuleState("r", "usage", "warning", "bit/s", Hold(2 * S, 0))
    reading = Reading((("link", "a"),), 5.0, 4.0, 6.0, BAD, 3.0)
    assert state.step([reading], 7 * S, 8 * S) == []
    assert [alert.state for alert in state.active()] == ["pending"]
    (alert,) = state.step([reading], 8 * S, 9 * S)
    assert (alert.state, alert.since_ns) == ("firing", 7 * S)
    (ended,) = state.step([], 9 * S, 10 * S)
    assert (ended.state, ended.since_ns, ended.until_ns) == ("resolved", 7 * S, 10 * S)
    assert ended.fingerprint == alert.fingerprint
    assert state.active() == []


def run(rules: str, seconds, telemetries=None) -> tuple[list[tuple[int, str, dict[str, str]]], Evaluator]:
    """Evaluate windows one by one; return (second, state, subject) of what is told."""
    evaluator = Evaluator(plan(rules))
    told = []
    for number, rates in enumerate(seconds):
        seen = telemetries[number] if telemetries else telemetry()
        alerts = evaluator.add(rates if not isinstance(rates, dict) else window(number, rates), seen)
        alerts += evaluator.tick(START + number * S, seen)
        told += [(number, alert.state, dict(alert.subject)) for alert in alerts]
    return told, evaluator


USAGE = (
    "  rules: [{name: r, kind: usage, above: 50 Mbit/s, departments: [tax], over: 5 s, hold: 10 s, recover_hold: 5 s}]"
)


def test_usage_is_of_what_the_filter_lets_pass():
    quiet = {**total("tax", "filing", 40), **total("edu", "exam", 100), **link("isp1", "tax", "filing", 90)}
    busy = {**quiet, **total("tax", "films", 20)}
    assert run(USAGE, [quiet] * 30)[0] == []
    told, _ = run(USAGE, [quiet] * 10 + [busy] * 15 + [quiet] * 12)
    assert told == [(20, "firing", {"department": "tax"}), (30, "resolved", {"department": "tax"})]


def test_noise_at_the_limit_raises_no_alert():
    """Exactly the limit, sampled: one span in forty looks above it, and no five in a row of 1,000 do."""
    random = np.random.default_rng(3)
    rules = USAGE.replace("over: 5 s, hold: 10 s", "over: 1 s, hold: 5 s")
    evaluator = Evaluator(plan(rules))
    told, pending = [], 0
    for number in range(1000):
        told += evaluator.add(window(number, total("tax", "filing", 50), random), telemetry())
        pending += bool(evaluator.active())
    assert told == []
    assert 5 <= pending <= 1000 * 0.025 + 4 * np.sqrt(1000 * 0.025)


def test_utilisation_is_of_each_link_and_says_nothing_of_one_without_a_sample():
    rules = "  rules: [{name: full, kind: utilisation, above: 90 %, direction: in, over: 5 s, hold: 5 s}]"
    told, evaluator = run(rules, [{**link("isp1", "tax", "filing", 95), **link("isp2", "tax", "filing", 95)}] * 11)
    assert told == [(5, "firing", {"link": "isp1", "direction": "in"})]
    (alert,) = evaluator.active()
    assert alert.reading.value == pytest.approx(0.95)
    assert summary(alert) == "full firing: utilisation of isp1 in 95 %, limit 90 %"
    rules = rules.replace("above", "below")
    assert run(rules, [link("isp1", "tax", "filing", 95)] * 11)[0] == []  # isp2 and the others may be unseen


def test_unclassified_is_a_share_with_limits():
    rules = "  rules: [{name: who, kind: unclassified, above: 10 %, over: 5 s, hold: 5 s}]"
    some = {**total("tax", "filing", 90), **total("tax", "unclassified", 9)}
    much = {**total("tax", "filing", 80), **total("tax", "unclassified", 20)}
    assert run(rules, [some] * 11)[0] == []
    assert run(rules, [much] * 11)[0] == [(5, "firing", {})]


def test_loss_is_counted_between_the_ends_of_spans():
    rules = "  rules: [{name: loss, kind: loss, above: 1 %, over: 5 s, hold: 5 s, recover_hold: 5 s}]"
    counts = [telemetry(1000 * n, 5 * n) for n in range(10)]
    counts += [telemetry(9000 + 1000 * n, 45 + 50 * n) for n in range(1, 11)]
    counts += [telemetry(19000 + 1000 * n, 545) for n in range(1, 11)]
    told, _ = run(rules, [total("tax", "filing", 1)] * 30, counts)
    assert told == [(10, "firing", {}), (25, "resolved", {})]


def test_coverage_is_the_part_of_the_exporters_that_are_heard():
    rules = "  rules: [{name: heard, kind: coverage, below: 100 %, over: 5 s, hold: 5 s}]"
    counts = [telemetry(n, heard=["100.64.255.1"]) for n in range(10)]
    counts += [telemetry(9, heard=["100.64.255.1"])] * 11
    told, evaluator = run(rules, [total("tax", "filing", 1)] * 21, counts)
    assert [state for _, state, _ in told] == ["firing"]
    assert summary(evaluator.active()[0]).endswith("exporters heard 0 %, limit 100 %; silent: CR01")


def test_silence_breaks_a_hold_and_ends_nothing():
    busy, quiet = total("tax", "films", 60), total("tax", "films", 10)
    evaluator = Evaluator(plan(USAGE))
    told = []
    for number in (*range(6), *range(40, 46)):  # 5 s bad, half a minute of nothing, 5 s bad
        told += evaluator.add(window(number, busy), telemetry())
    assert told == []
    for number in range(46, 56):
        told += evaluator.add(window(number, busy), telemetry())
    assert [alert.state for alert in told] == ["firing"]
    assert evaluator.tick(START + 300 * S, telemetry()) == []
    for number in range(300, 306):
        told += evaluator.add(window(number, quiet), telemetry())
    assert [alert.state for alert in told] == ["firing", "resolved"]


def test_a_window_that_is_too_late_counts_nowhere():
    evaluator = Evaluator(plan(USAGE))
    for number in (0, 7, 3):
        evaluator.add(window(number, total("tax", "films", 60)), telemetry())
    assert evaluator.late == {"r": 1}


def proof_rules(path: Path, policy: str = POLICY, more: str = "") -> str:
    (path / "policy.yaml").write_text(policy, encoding="utf-8")
    return (
        f"  policies: [{path / 'policy.yaml'}]\n"
        f"  rules: [{{name: promised, kind: proof, over: 5 s, hold: 10 s, recover_hold: 5 s{more}}}]"
    )


def test_a_guarantee_that_is_not_delivered_while_it_is_demanded_fires(tmp_path):
    """tax had 70 of its 60 Mbit/s on the full link; then films take half of it."""
    kept = {**link("isp1", "tax", "filing", 70), **link("isp1", "edu", "films", 28)}
    cut = {**link("isp1", "tax", "filing", 35), **link("isp1", "edu", "films", 63)}
    idle = {**link("isp1", "tax", "filing", 25), **link("isp1", "edu", "films", 20)}
    told, evaluator = run(proof_rules(tmp_path), [kept] * 15 + [cut] * 15 + [kept] * 11)
    subject = {"policy": "exits", "link": "isp1", "direction": "in", "node": "tax", "department": "tax"}
    assert told == [(25, "firing", subject), (35, "resolved", subject)]
    assert evaluator.active() == []
    told, _ = run(proof_rules(tmp_path), [kept] * 15 + [idle] * 30)
    assert told == []


def test_departments_of_all_exits_are_those_inside_nat(tmp_path):
    """The links show how full they are, and only their metering points whose the traffic is."""
    full = {**link("isp1", "unknown", "unclassified", 98), **link("isp2", "unknown", "unclassified", 50)}
    kept = {**full, **total("tax", "filing", 70), **total("edu", "films", 28)}
    cut = {**full, **total("tax", "filing", 35), **total("edu", "films", 63)}
    policy = POLICY.replace("links: [isp1]", "links: [providers]")
    told, _ = run(proof_rules(tmp_path, policy), [kept] * 15 + [cut] * 15 + [kept] * 11)
    subject = {"policy": "exits", "link": "providers", "direction": "in", "node": "tax", "department": "tax"}
    assert told == [(25, "firing", subject), (35, "resolved", subject)]


def test_noise_breaks_no_guarantee_and_a_shortfall_does_through_noise(tmp_path):
    """75 Mbit/s are demanded; exactly the 60 promised, for four minutes of a full link: no alert. Two thirds: one."""
    random = np.random.default_rng(5)
    demanded = {**link("isp1", "tax", "filing", 75), **link("isp1", "edu", "films", 24)}
    exact = {**link("isp1", "tax", "filing", 60), **link("isp1", "edu", "films", 39)}
    cut = {**link("isp1", "tax", "filing", 40), **link("isp1", "edu", "films", 59)}
    rates = [demanded] * 20 + [exact] * 240 + [cut] * 40
    seconds = [window(number, rate, random) for number, rate in enumerate(rates)]
    rules = proof_rules(tmp_path, more=", departments: [tax]").replace("hold: 10 s", "hold: 20 s", 1)
    told, _ = run(rules, seconds)
    assert [state for _, state, _ in told] == ["firing"]
    assert 280 <= told[0][0] <= 295
    assert told[0][2]["node"] == "tax"


def test_a_low_usage_on_a_full_link_without_a_demand_seen_fires_nothing(tmp_path):
    cut = {**link("isp1", "tax", "filing", 30), **link("isp1", "edu", "films", 68)}
    assert run(proof_rules(tmp_path), [cut] * 60)[0] == []


def test_a_plan_that_changes_keeps_the_rules_that_stay():
    first = USAGE.replace("rules: [", "rules: [{name: other, kind: loss, above: 1 %}, ")
    evaluator = Evaluator(plan(first))
    busy = total("tax", "films", 60)
    told = [a for n in range(16) for a in evaluator.add(window(n, busy), telemetry())]
    assert [alert.state for alert in told] == ["firing"]
    assert evaluator.replace(plan(USAGE), START + 16 * S) == []
    assert [alert.rule for alert in evaluator.active()] == ["r"]
    (ended,) = evaluator.replace(plan(USAGE.replace("50 Mbit/s", "55 Mbit/s")), START + 17 * S)
    assert (ended.state, ended.until_ns) == ("resolved", START + 17 * S)
    assert evaluator.active() == []


def an_alert(**changes) -> Alert:
    reading = Reading((("link", 'isp "1"]'), ("direction", "in")), 0.951, 0.94, 0.962, BAD, 0.9, "市\\a")
    values = {
        "rule": "full", "kind": "utilisation", "severity": "critical", "subject": reading.subject, "unit": "ratio",
        "state": "firing", "since_ns": START, "until_ns": 0, "updated_ns": START + 60 * S, "reading": reading,
    }  # fmt: skip
    return Alert(**{**values, **changes})


def test_a_syslog_message_is_that_of_rfc_5424():
    message = syslog_message(an_alert(), sender="host 市", process=7, facility=16, enterprise=32473)
    head, text = message.split(b"\xef\xbb\xbf")
    assert head.decode() == (
        "<130>1 2026-09-21T14:15:00.000000Z host telemetryd 7 alert "
        '[telemetryd@32473 rule="full" kind="utilisation" severity="critical" state="firing" '
        'link="isp \\"1\\"\\]" direction="in" value="0.951" low="0.94" high="0.962" limit="0.9" unit="ratio" '
        f'since="2026-09-21T14:14:00.000000Z" fingerprint="{an_alert().fingerprint}"] '
    )
    assert text.decode() == 'full firing: utilisation of isp "1"] in 95.1 % (94 % to 96.2 %), limit 90 %; 市\\a'
    ended = an_alert(state="resolved", until_ns=START + 90 * S)
    assert syslog_message(ended, sender="h", process=7, facility=0, enterprise=1).startswith(
        b"<5>1 2026-09-21T14:15:30.000000Z"
    )


def test_a_long_datagram_is_cut_between_characters():
    whole = syslog_message(an_alert(), sender="h", process=7, facility=16, enterprise=1)
    for longest in range(len(whole) - 12, len(whole)):
        message = syslog_message(an_alert(), sender="h", process=7, facility=16, enterprise=1, longest=longest)
        assert longest - 2 <= len(message) <= longest
        assert whole.startswith(message)
        message.decode()


def test_an_alertmanager_is_told_when_an_alert_ends_by_itself():
    firing, ended = an_alert(), an_alert(state="resolved", until_ns=START + 90 * S)
    body = alertmanager_body("host", [firing, ended], START + 100 * S, 240 * S)
    assert body[0]["labels"] == {
        "alertname": "full", "kind": "utilisation", "severity": "critical", "link": 'isp "1"]', "direction": "in",
        "sender": "host",
    }  # fmt: skip
    assert [one["endsAt"] for one in body] == ["2026-09-21T14:19:40.000000Z", "2026-09-21T14:15:30.000000Z"]
    assert body[0]["startsAt"] == body[1]["startsAt"] == "2026-09-21T14:14:00.000000Z"


def test_the_json_of_an_alert_has_its_interval():
    one = document(an_alert())
    assert (one["low"], one["value"], one["high"], one["limit"]) == (0.94, 0.951, 0.962, 0.9)
    assert one["since"] == "2026-09-21T14:14:00.000000Z"
    assert one["until"] is None


def test_coverage_of_links_is_watched_with_its_interval():
    """One subject a link and direction; a counter that stood still says nothing, nor does another link."""
    text = "  rules: [{name: thin, kind: link-coverage, below: 95 %, links: [isp1, isp2], over: 1 min, hold: 1 min}]"
    evaluator = Evaluator(plan(text))
    nan = float("nan")

    def at(low: float, high: float) -> Telemetry:
        figures = {("isp1", "in"): (0.9, low, high), ("isp2", "in"): (nan, nan, nan), ("dark", "in"): (0.1, 0.1, 0.1)}
        return Telemetry(coverages=figures)

    told = [alert for minute in range(4) for alert in evaluator.tick(START + minute * 60 * S, at(0.88, 0.96))]
    assert told == []
    told = evaluator.tick(START + 4 * 60 * S, at(0.88, 0.92))
    assert [(one.rule, one.subject, one.state) for one in told] == [
        ("thin", (("link", "isp1"), ("direction", "in")), "firing")
    ]
    assert told[0].reading.value == 0.9 and told[0].unit == "ratio"


def test_what_fires_is_kept_over_a_restart():
    """It goes on with its begin, is not told again, and ends by evidence; another meaning of the rule begins anew."""
    text = "  rules: [{name: busy, kind: usage, above: 50 Mbit/s, departments: [tax], over: 1 s, hold: 2 s, recover_hold: 2 s}]"
    first = Evaluator(plan(text))
    told = [alert for number in range(5) for alert in first.add(window(number, total("tax", "films", 60)), telemetry())]
    assert [one.state for one in told] == ["firing"]
    dumped = json.loads(json.dumps(first.dump()))
    again = Evaluator(plan(text))
    (restored,) = again.restore(dumped, START + 5 * S)
    assert (restored.state, restored.since_ns) == ("firing", told[0].since_ns)
    assert restored.fingerprint == told[0].fingerprint and restored.reading.value == told[0].reading.value
    told = [
        alert for number in range(9, 14) for alert in again.add(window(number, total("tax", "films", 60)), telemetry())
    ]
    assert told == [] and again.active()[0].since_ns == restored.since_ns
    told = [
        alert for number in range(14, 18) for alert in again.add(window(number, total("tax", "films", 9)), telemetry())
    ]
    assert [(one.state, one.since_ns) for one in told] == [("resolved", restored.since_ns)]
    assert again.dump() == {}
    other = Evaluator(plan(text.replace("50 Mbit/s", "55 Mbit/s")))
    assert other.restore(dumped, START) == [] and other.active() == []
