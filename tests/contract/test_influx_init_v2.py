"""`telemetryd influx init` for InfluxDB 2, against a fake of its API (tests/influx_v2_fake.py)."""

from __future__ import annotations

from pathlib import Path

from telemetryd.store.influx.downsample import flux_jobs
from telemetryd.store.series import MEASUREMENTS
from tests.contract.test_influx_init import DAY_NS, TOKEN, init, states
from tests.influx_v2_fake import FakeInflux2

TASKS = 2 * len(MEASUREMENTS)


def test_influxdb_2_is_set_up_once(tmp_path: Path) -> None:
    """A dry run makes nothing; then all is made, then all is there; what differs is only changed when asked."""
    everything = {"organisation": ["made"], "bucket": ["made", "made"], "task": ["made"] * TASKS}
    with FakeInflux2(TOKEN) as server:
        code, document, _ = init(tmp_path, server.url, "--dry-run", bucket="live")
        assert (code, states(document), server.changes) == (0, everything, [])
        code, document, _ = init(tmp_path, server.url, bucket="live")
        assert (code, states(document)) == (0, everything)
        assert (document["server"], document["version"]) == ("InfluxDB 2", "2.7.12")
        (org,) = server.kept["orgs"].values()
        assert org["name"] == "telemetryd"
        buckets = {b["name"]: b["retentionRules"][0]["everySeconds"] for b in server.kept["buckets"].values()}
        assert buckets == {"live": 60 * 86_400, "live-rollups": 400 * 86_400}
        assert {bucket["orgID"] for bucket in server.kept["buckets"].values()} == {org["id"]}
        wanted = {job.name: job.text for job in flux_jobs("telemetryd", "live", "live-rollups", 7 * DAY_NS)}
        assert {task["name"]: task["flux"] for task in server.kept["tasks"].values()} == wanted
        assert {task["status"] for task in server.kept["tasks"].values()} == {"active"}

        before = len(server.changes)
        code, document, _ = init(tmp_path, server.url, bucket="live")
        assert code == 0
        assert {state for found in states(document).values() for state in found} == {"there"}
        assert len(server.changes) == before

        code, document, _ = init(tmp_path, server.url, "--keep", "30 d", bucket="live")
        assert (code, states(document)["bucket"]) == (1, ["differs", "there"])
        assert len(server.changes) == before
        code, document, _ = init(tmp_path, server.url, "--keep", "30 d", "--change", "--rollups", "year", bucket="live")
        assert (code, states(document)["bucket"]) == (0, ["changed", "made"])
        assert states(document)["task"] == ["changed"] * TASKS
        assert len(server.kept["tasks"]) == TASKS
        assert not [task for task in server.kept["tasks"].values() if "live-rollups" in task["flux"]]


def test_tasks_that_are_not_wanted_any_more_are_removed(tmp_path: Path) -> None:
    """A task of ours by its name goes; those of others stay."""
    with FakeInflux2(TOKEN) as server:
        assert init(tmp_path, server.url, bucket="live")[0] == 0
        (org,) = server.kept["orgs"].values()
        for name in ("telemetryd live weather hourly", "somebody's", "telemetryd another usage hourly"):
            body = {"orgID": org["id"], "flux": f'option task = {{name: "{name}", every: 1h}}'}
            server.answer("POST", "/api/v2/tasks", f"Token {TOKEN}", body)
        code, document, _ = init(tmp_path, server.url, bucket="live")
    assert code == 0
    assert sorted(states(document)["task"]) == ["removed"] + ["there"] * TASKS
    names = {task["name"] for task in server.kept["tasks"].values()}
    assert {"somebody's", "telemetryd another usage hourly"} <= names
    assert "telemetryd live weather hourly" not in names


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    """A wrong token, and a server without its first user, are invalid input with a remedy."""
    with FakeInflux2("another") as server:
        code, _, message = init(tmp_path, server.url, bucket="live")
        assert code == 2
        assert "refuses the token" in message
        server.is_set_up = False
        code, _, message = init(tmp_path, server.url, bucket="live")
        assert code == 2
        assert "influx setup" in message
