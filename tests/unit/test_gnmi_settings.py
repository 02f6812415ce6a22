"""The settings of gNMI: mistakes at their place, what each target is asked for, and where secrets are."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, get_args

import pytest

from telemetryd.config import settings_gnmi
from telemetryd.config.settings import changes, parse_settings
from telemetryd.config.settings_docs import render_schema
from telemetryd.daemon import is_reloadable
from telemetryd.errors import InputError, ProblemsError
from telemetryd.ingest.gnmi.login import Login, Secret
from telemetryd.ingest.gnmi.subscription import Mode
from telemetryd.ingest.gnmi.transport import Credentials
from telemetryd.ingest.gnmi.vendors import PROFILES
from telemetryd.proto import gnmi_pb2
from telemetryd.registry.models import SECTIONS, Registry, RegistryFile
from telemetryd.targets import TargetPlan, plan_targets
from tests.small_city import SMALL_CITY

SECOND_NS = 1_000_000_000
BASE = """\
version: 1
registry: city
gnmi:
  sample_interval: 5 s
  tls: {ca_file: ca.pem}
  login: {username: tm, password_file: pw}
  targets:
  - {name: CR01, address: cr01.example, vendor: huawei, queues: true}
  - {name: AG01, insecure: true, login: {token_file: token}, subscriptions: [{path: /a/b, mode: on-change}]}
"""

# id -> (text of BASE, what stands there instead with « before the mistake, what the problem says)
MISTAKES = {
    "vendor": ("vendor: huawei", "vendor: «huawey", 'did you mean "huawei"?'),
    "unknown": ("queues: true", "«queue: true", 'unknown field "queue" - did you mean "queues"?'),
    "interval": ("sample_interval: 5 s", "sample_interval: «5", "no duration - write number and unit"),
    "interval-short": ("sample_interval: 5 s", "sample_interval: «1 ms", 'out of range - use "100 ms" to "1 h"'),
    "no-name": ("{name: AG01, insecure", "«{insecure", '"name" is missing'),
    "twice": ("  - {name: CR01", "  «- {name: AG01", 'two targets are called "AG01"'),
    "two-secrets": ("{token_file: token}", "«{token_file: token, password_file: pw}", "given together - keep one of them"),
    "user-alone": ("{token_file: token}", "«{username: x}", "there is a username and no password"),
    "both": ("insecure: true", "insecure: true, tls: {}", "has insecure and tls - keep one of them"),
    "mode": ("mode: on-change", "mode: «onchange", 'did you mean "on-change"?'),
    "no-device": ("{name: AG01", "{name: «AG1", 'there is no device "AG1" in the registry - did you mean "AG01"?'),
    "no-address": ("{name: AG01", "{name: «HOST", 'the target "HOST" has no address'),
    "address": ("address: cr01.example", "address: «'cr01:9339'", "is no host - write a name or an IP address"),
    "path": ("path: /a/b", "path: «'/a[b'", "does not begin with a key such as [name=eth0]"),
    "path-of-section": ("  targets:", "  subscriptions: [{path: «'/a//b'}]\n  targets:", 'a name is missing before "/b"'),
}  # fmt: skip


def registry() -> Registry:
    city: dict[str, Any] = json.loads(json.dumps(SMALL_CITY))
    city["devices"][0]["gnmi"] = {"endpoint": "192.0.2.1:57400"}
    city["devices"][1]["gnmi"] = {"endpoint": "[2001:db8::1]:57400", "credential": "ag"}
    file = RegistryFile.model_validate(city)
    return Registry(Path("small-city"), **{section: getattr(file, section) for section in SECTIONS})


def plans(text: str) -> list[TargetPlan]:
    loaded = parse_settings(text, "/etc/t.yaml", {})
    return plan_targets(loaded.settings.gnmi, registry(), loaded.document.where)


@pytest.mark.parametrize("case", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_reported_at_its_place(case: tuple[str, str, str]) -> None:
    """One mistake gives one problem, with line, column and what to do."""
    there, instead, says = case
    assert BASE.count(there) == 1
    before, mark, after = BASE.replace(there, instead).partition("«")
    with pytest.raises(ProblemsError) as caught:
        plans(before + after)
    (problem,) = caught.value.problems
    assert says in f"{problem.message} - {problem.remedy}"
    if mark and "targets are" not in says:
        assert problem.line == before.count("\n") + 1


def test_targets_are_asked_for_what_settings_and_registry_say() -> None:
    """A target's own settings come first, then the section's, then the registry's endpoint."""
    first, second = plans(BASE)
    endpoint = first.wanted.endpoint
    assert (first.name, endpoint.address, endpoint.transport) == ("CR01", "cr01.example:9339", "fast")
    assert endpoint.tls is not None and endpoint.tls.ca == Path("/etc/ca.pem")
    assert first.login == Login("tm", Secret(Path("/etc/pw")))
    assert (first.wanted.profile, first.wanted.encoding) == (PROFILES["huawei"], None)
    asked = [(str(one.path), one.mode, one.asked_ns) for one in first.wanted.subscriptions]
    assert asked[:3] == [
        ("/interfaces/interface[name=*]/state/counters", Mode.SAMPLE, 5 * SECOND_NS),
        ("/qos/interfaces/interface[interface-id=*]/output/queues/queue[name=*]/state", Mode.SAMPLE, 5 * SECOND_NS),
        ("/interfaces/interface[name=*]/state/oper-status", Mode.ON_CHANGE, 0),
    ]
    assert first.wanted.fallback == first.wanted.subscriptions[:1]
    assert (second.wanted.endpoint.address, second.wanted.endpoint.tls) == ("[2001:db8::1]:57400", None)
    assert second.login == Login(token=Secret(Path("/etc/token")))
    assert [str(one.path) for one in second.wanted.subscriptions] == ["/a/b"]
    assert pickle.loads(pickle.dumps([first, second])) == [first, second]


def test_all_devices_of_the_registry_can_be_targets() -> None:
    """Those that are listed keep their own settings; a credential that the registry names is the login."""
    text = BASE.replace("  targets:", "  all_registered: true\n  encoding: json_ietf\n  targets:").partition(
        "  - {name: AG01"
    )[0]
    first, second = plans(text.replace("  login: {username: tm, password_file: pw}\n", ""))
    assert (first.name, first.login) == ("CR01", Login())
    assert (second.name, second.login) == ("AG01", Login(password=Secret(credential="ag")))
    assert (second.wanted.encoding, second.wanted.endpoint.host) == (gnmi_pb2.JSON_IETF, "2001:db8::1")
    assert second.wanted.endpoint.tls is not None


def test_no_target_asks_nothing() -> None:
    """Without the section nothing is planned."""
    assert plans("version: 1\nregistry: r\n") == []


def test_a_change_is_reloadable_and_what_is_shown_can_be_read_again() -> None:
    """Every setting of the section takes effect by a reload; the written values pass the published schema."""
    jsonschema = pytest.importorskip("jsonschema")
    settings = parse_settings(BASE, "/etc/t.yaml", {}).settings
    other = parse_settings(
        BASE.replace("5 s", "6 s").replace("queues: true", "queues: false"), "/etc/t.yaml", {}
    ).settings
    changed = changes(settings, other)
    assert changed == ["gnmi.sample_interval", "gnmi.targets"]
    assert all(is_reloadable(path) for path in changed)
    document = settings.model_dump(mode="json")
    assert parse_settings(json.dumps(document), "/etc/t.yaml", {}).settings == settings
    validator = jsonschema.Draft202012Validator(json.loads(render_schema()))
    assert not list(validator.iter_errors(document))


def test_the_profiles_are_those_of_the_client() -> None:
    """The names that the settings take are those that there are."""
    assert set(get_args(settings_gnmi.Vendor)) == set(PROFILES)


def test_a_login_is_read_when_it_is_needed(tmp_path: Path) -> None:
    """Secrets come from a file or a credential, and no message or representation holds one."""
    (tmp_path / "pw").write_text("s3cret word\n")
    (tmp_path / "both").write_text("me:s3:cret")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert Login("me", Secret(tmp_path / "pw")).read() == Credentials("me", "s3cret word")
    assert Login(password=Secret(credential="both")).read(environment) == Credentials("me", "s3:cret")
    assert Login(token=Secret(credential="pw")).read(environment).metadata() == [
        ("authorization", "Bearer s3cret word")
    ]
    assert Login().read() == Credentials()
    assert "s3cret" not in repr(Login("me", Secret(tmp_path / "pw")).read())
    (tmp_path / "bad").write_bytes(b"s3cret\n\xff")
    for login, words in [
        (Login("me", Secret(tmp_path / "nothing")), "No such file"),
        (Login("me", Secret(tmp_path / "bad")), "does not hold a secret"),
        (Login(password=Secret(tmp_path / "pw")), "no username"),
    ]:
        with pytest.raises(InputError, match=words) as caught:
            login.read()
        assert "s3cret" not in str(caught.value)
    with pytest.raises(InputError, match="LoadCredential=both"):
        Login(password=Secret(credential="both")).read({})
