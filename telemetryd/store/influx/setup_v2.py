"""Set up InfluxDB 2 through influxdb-client: organisation, buckets, tasks."""

from __future__ import annotations

from typing import Any, Final

import urllib3.exceptions
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules
from influxdb_client.domain.task_create_request import TaskCreateRequest
from influxdb_client.domain.task_update_request import TaskUpdateRequest
from influxdb_client.rest import ApiException

from telemetryd.config.units import spell_duration
from telemetryd.errors import StoreError
from telemetryd.store.influx.credentials import Token
from telemetryd.store.influx.downsample import PREFIX, Job, flux_jobs
from telemetryd.store.influx.setup import REQUEST_S, State, Step, Wanted, refusal
from telemetryd.store.influx.transport import Target, message_of

SECOND_NS: Final = 1_000_000_000
_PAGE: Final = 100


def set_up_v2(target: Target, token: Token, wanted: Wanted) -> list[Step]:
    """Make organisation, buckets and tasks; raises as :func:`telemetryd.store.influx.setup.set_up`."""
    ca_file = str(target.ca_file) if target.ca_file is not None else None
    with InfluxDBClient(target.url, token=token.reveal(), timeout=int(REQUEST_S * 1000), ssl_ca_cert=ca_file) as client:
        try:
            return _Setup(client, target, wanted).run()
        except ApiException as error:
            message = message_of(str(error.body or error.reason or ""))
            raise refusal(target.url, int(error.status or 0), message, token) from None
        except ValueError as error:  # the client checks what it is answered
            raise StoreError(f"{target.url} does not answer as InfluxDB 2: {error}") from None
        except urllib3.exceptions.HTTPError as error:
            raise StoreError(f"{target.url} does not answer: {token.hide(str(error))}") from None


class _Setup:
    def __init__(self, client: InfluxDBClient, target: Target, wanted: Wanted) -> None:
        self._client = client
        self._target = target
        self._wanted = wanted
        self._steps: list[Step] = []

    def run(self) -> list[Step]:
        wanted, target = self._wanted, self._target
        org = self._organisation()
        self._bucket(org, target.bucket, wanted.keep_ns)
        if wanted.rollups is not None:
            self._bucket(org, wanted.rollups, wanted.keep_rollups_ns)
            self._jobs(org, flux_jobs(target.org, target.bucket, wanted.rollups, wanted.late_ns))
        return self._steps

    def _organisation(self) -> str | None:
        """Return the organisation's ID; None where it is not there, in a dry run."""
        organisations = self._client.organizations_api()
        found = [one for one in organisations.find_organizations() if one.name == self._target.org]
        if found:
            self._steps.append(Step("organisation", self._target.org, State.THERE))
            return str(found[0].id)
        self._steps.append(Step("organisation", self._target.org, State.MADE))
        if self._wanted.dry_run:
            return None
        return str(organisations.create_organization(name=self._target.org).id)

    def _bucket(self, org: str | None, name: str, keep_ns: int) -> None:
        buckets = self._client.buckets_api()
        keep = spell_duration(keep_ns)
        found = buckets.find_buckets(name=name, org_id=org).buckets if org is not None else []
        if not found:
            if not self._wanted.dry_run:
                buckets.create_bucket(bucket_name=name, org_id=org, retention_rules=[_rule(keep_ns)])
            self._steps.append(Step("bucket", name, State.MADE, keep))
            return
        seconds = next((rule.every_seconds for rule in found[0].retention_rules), 0)
        if seconds * SECOND_NS == keep_ns:
            self._steps.append(Step("bucket", name, State.THERE, keep))
            return
        before = spell_duration(seconds * SECOND_NS) if seconds else "without end"
        if not self._wanted.may_change:
            self._steps.append(Step("bucket", name, State.DIFFERS, f"{before}, not {keep}: --change sets it"))
            return
        if not self._wanted.dry_run:
            found[0].retention_rules = [_rule(keep_ns)]
            buckets.update_bucket(found[0])
        self._steps.append(Step("bucket", name, State.CHANGED, f"{before} before, now {keep}"))

    def _jobs(self, org: str | None, jobs: list[Job]) -> None:
        tasks = self._client.tasks_api()
        found = {task.name: task for task in self._tasks(org)} if org is not None else {}
        for job in jobs:
            task = found.pop(job.name, None)
            if task is None:
                if not self._wanted.dry_run:
                    request = TaskCreateRequest(org_id=org, flux=job.text, status="active")
                    tasks.create_task(task_create_request=request)
                self._steps.append(Step("task", job.name, State.MADE))
            elif task.flux == job.text:
                self._steps.append(Step("task", job.name, State.THERE))
            else:
                if not self._wanted.dry_run:
                    tasks.update_task_request(task.id, TaskUpdateRequest(flux=job.text))
                self._steps.append(Step("task", job.name, State.CHANGED))
        prefix = f"{PREFIX} {self._target.bucket} "
        for name in sorted(name for name in found if name.startswith(prefix)):
            if not self._wanted.dry_run:
                tasks.delete_task(found[name].id)
            self._steps.append(Step("task", name, State.REMOVED, "of another setting"))

    def _tasks(self, org: str) -> list[Any]:
        tasks: list[Any] = []
        after: dict[str, Any] = {}
        while page := self._client.tasks_api().find_tasks(org_id=org, limit=_PAGE, **after):
            tasks += page
            after = {"after": page[-1].id}
        return tasks


def _rule(keep_ns: int) -> BucketRetentionRules:
    return BucketRetentionRules(type="expire", every_seconds=keep_ns // SECOND_NS)
