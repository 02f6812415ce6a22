"""The settings of alerts: every mistake at its line and column, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from telemetryd.config.settings import parse_settings
from telemetryd.errors import ProblemsError
from tests.alerts_case import plan
from tests.proof_case import POLICY

GOOD = """\
  policies: [POLICIES]
  receivers:
    - {name: ops, kind: webhook, url: "https://ops.example/hook", token_file: token}
    - {name: am, kind: alertmanager, url: "http://127.0.0.1:9093"}
    - {name: log, kind: syslog, host: log.example, protocol: tls}
    - {name: local, kind: syslog, protocol: unix, path: /dev/log}
  rules:
    - {name: full, kind: utilisation, above: 90 %, recover: 85 %, links: [isp1], direction: in}
    - {name: tax, kind: usage, above: 600 Mbit/s, departments: [tax], receivers: [ops, log]}
    - {name: link, kind: usage, below: 1 Mbit/s, links: [isp1], direction: out, severity: critical}
    - {name: heard, kind: coverage, below: 95 %, over: 10 s, hold: 1 min}
    - {name: loss, kind: loss, above: 1 %}
    - {name: unknown, kind: unclassified, above: 10 %}
    - {name: promised, kind: proof, departments: [tax], tolerance: 5 %}
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    return GOOD.replace("POLICIES", str(tmp_path / "policy.yaml"))


def test_rules_of_every_kind_are_planned(text: str) -> None:
    made = plan(text)
    assert [rule.kind for rule in made.settings.rules] == [
        "utilisation", "usage", "usage", "coverage", "loss", "unclassified", "proof",
    ]  # fmt: skip
    assert [type(made.measure(rule)).__name__ for rule in made.settings.rules][-1] == "ProofMeasure"


@pytest.mark.parametrize(
    ("old", "new", "at", "mistake"),
    [
        ("above: 90 %, recover", "recover", "", 'the rule "full" has none of above and below - add one of them'),
        ("above: 1 %}", "above: 1 %, below: 2 %}", "", 'the rule "loss" has both of above and below - keep one'),
        ("recover: 85 %", "recover: 95 %", "95", '"recover" is 95 %, beyond the limit - write at most 90 %'),
        ("above: 90 %", "above: 9 Gbit/s", "9", '"above" of utilisation is 9 Gbit/s, no part - write such as "90 %"'),
        ("600 Mbit/s", "60 %", "6", '"above" of usage is 60 %, no rate - write such as "600 Mbit/s"'),
        ("600 Mbit/s", "600", "6", '"above": 600 is no rate - write number and unit'),
        ("[isp1], direction: in", "[isp3], direction: in", "isp3", 'unknown link "isp3" - did you mean'),
        ("direction: in}", "direction: inbound}", "inb", '"inbound" is no direction of links - write in or out'),
        ("[tax], receivers", "[taxes], receivers", "taxes", 'unknown department "taxes" - did you mean "tax"?'),
        ("[ops, log]", "[ops, lag]", "lag", 'unknown receiver "lag" - did you mean "log"?'),
        ("above: 1 %}", "above: 1 %, links: [isp1]}", "links", '"links" means nothing for loss - remove it'),
        ("tolerance: 5 %", "above: 5 %", "above", '"above" means nothing for proof - remove it'),
        ("tolerance: 5 %", "tolerance: 1 Mbit/s", "1", '"1 Mbit/s" is no tolerance - write a part, such as "5 %"'),
        ("name: loss", "name: heard", "heard", 'the name "heard" is there twice - rename one'),
        ("kind: loss", "kind: los", "los", '"kind" is "los" - did you mean "loss"? use one of'),
        ("over: 10 s", "over: 1 ms", "1 ms", '"over": "1 ms" is out of range - use "1 s" to "'),
        (', url: "https://ops.example/hook"', "", "", '"url" of the webhook "ops" is missing - add it'),
        ("token_file: token", "token_file: t, credential: c", "credential", "there are a token_file and a credential"),
        ("host: log.example, ", "", "", '"host" of the syslog "log" is missing - add it'),
        ("path: /dev/log", "host: a", "", '"path" of the syslog "local" is missing - add it, such as /dev/log'),
        ('"http://127.0.0.1:9093"', '"http://a", host: b', "host", '"host" means nothing for an Alertmanager'),
    ],
)
def test_a_mistake_has_its_place_and_a_remedy(text: str, old: str, new: str, at: str, mistake: str) -> None:
    """``at`` is what the mistake is said of; "" for the rule or receiver itself."""
    before, found, after = text.partition(old)
    assert found
    broken = "version: 1\nregistry: r\nalerts:\n" + before + new + after
    place = broken.index(new, len(broken) - len(new) - len(after)) + new.index(at)
    line = broken.count("\n", 0, place) + 1
    column = place - broken.rfind("\n", 0, place) if at else 7
    with pytest.raises(ProblemsError) as raised:
        plan(before + new + after)
    expected = f"t.yaml:{line}:{column}: {mistake}"
    assert any(str(problem).startswith(expected) for problem in raised.value.problems), (expected, str(raised.value))


def test_a_mistake_of_a_policy_is_told_with_those_of_the_rules(text: str, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY.replace("links: [isp1]", "links: [isp9]"), encoding="utf-8")
    with pytest.raises(ProblemsError) as raised:
        plan(text.replace("[ops, log]", "[nobody]"))
    files = {Path(problem.file).name for problem in raised.value.problems}
    assert files == {"policy.yaml", "t.yaml"}


def test_proof_needs_policies() -> None:
    with pytest.raises(ProblemsError, match='the rule "p" needs policies - name them in "policies"'):
        plan("  rules: [{name: p, kind: proof}]")


def test_what_is_in_force_is_shown_as_it_is_written() -> None:
    loaded = parse_settings(
        "version: 1\nregistry: r\nalerts:\n  rules: [{name: a, kind: loss, above: 2.5%}]", "t.yaml", {}
    )
    (rule,) = next(one.value for one in loaded.effective() if one.setting == "alerts.rules")
    assert (rule["above"], rule["over"]) == ("2.5 %", "1 min")
