"""The daemon's settings: one YAML file, typed, every mistake at its line and column.

What the file leaves out has a default; systemd's directories (``STATE_DIRECTORY``, ``RUNTIME_DIRECTORY``)
stand in for some of them. Relative paths are relative to the file. Settings are frozen: a reload makes new ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from telemetryd.config.explain import explain, inner_model, show
from telemetryd.config.fields import (
    DAY_NS,
    MEBIBYTE,
    SECOND_NS,
    Address,
    BacklogSize,
    BufferSize,
    CredentialName,
    DrainTime,
    FilePath,
    LawfulRetention,
    Network,
    OptionalPath,
    OutputName,
    Port,
    RequestTime,
    Retention,
    Section,
    Span,
    SpoolSize,
    Text,
    Url,
    mistake,
)
from telemetryd.config.positions import PathInData, YamlDocument, parse_yaml, read_yaml
from telemetryd.config.retention import DEFAULT_KEEP_NS
from telemetryd.config.settings_alerts import AlertSettings
from telemetryd.config.settings_demand import DemandSettings
from telemetryd.config.settings_enforce import EnforceSettings
from telemetryd.config.settings_gnmi import GnmiSettings
from telemetryd.errors import Problem, ProblemsError

MAX_SOCKETS: Final = 64

__all__ = ["SECOND_NS", "GnmiSettings", "Settings", "changes", "load_settings", "parse_settings"]

#: The settings whose default is in one of systemd's directories: setting, its variable, what is appended to it.
_DIRECTORIES: Final[tuple[tuple[PathInData, str, str], ...]] = (
    (("store", "path"), "STATE_DIRECTORY", "store"),
    (("spool", "path"), "STATE_DIRECTORY", "spool"),
    (("enforce", "path"), "STATE_DIRECTORY", "enforce"),
    (("alerts", "state"), "STATE_DIRECTORY", "alerts.json"),
    (("control", "socket"), "RUNTIME_DIRECTORY", "control.sock"),
)


# --- the sections --------------------------------------------------------------------------------------------


class Listen(Section):
    """Where sFlow datagrams are received. Sockets handed over by systemd take the place of address and port."""

    address: Address = Field("127.0.0.1", description='Address to bind; `"::"` takes IPv4 and IPv6 on all interfaces.')
    port: Port = Field(6343, description="UDP port; 0 takes a free one and logs it.")
    sockets: int = Field(
        1, ge=1, le=MAX_SOCKETS, description="Receiving threads, one socket each; an agent stays on one of them."
    )
    receive_buffer: BufferSize = Field(
        64 * MEBIBYTE, description="Kernel buffer of each socket: it bridges a restart, and what a burst brings."
    )
    sources: Literal["registered", "any"] = Field(
        "registered", description="Whose datagrams are taken: those of the registry's agents, or anybody's."
    )
    also_from: tuple[Network, ...] = Field(
        (), strict=False, description="Senders that are taken besides the registered ones, such as a relay."
    )


class Limits(Section):
    """What the daemon does at most, so that nothing grows without bound."""

    agent_datagrams_per_s: int = Field(
        20_000,
        ge=0,
        le=10_000_000,
        description="Datagrams a second of one agent; what is above is dropped and counted. 0: any.",
    )
    backlog: BacklogSize = Field(
        256 * MEBIBYTE,
        description="Memory for closed windows that the store cannot take yet; beyond it the oldest are lost, counted.",
    )
    series: int = Field(
        500_000,
        ge=1000,
        le=10_000_000,
        description="Series of a measurement that outputs send; the tail beyond is folded into `other`.",
    )
    drain: DrainTime = Field(
        10 * SECOND_NS, description="How long a stop may take to process what was received and store it."
    )


class Keep(Section):
    """How long windows are kept, by their length, with what is known of their quality.

    Windows of 5 min and 1 h are the record that the law asks for: six calendar months, which have up to 184 days.
    """

    second: Retention = Field(DEFAULT_KEEP_NS[SECOND_NS], description="Windows of 1 s.")
    ten_seconds: Retention = Field(DEFAULT_KEEP_NS[10 * SECOND_NS], description="Windows of 10 s.")
    minute: Retention = Field(DEFAULT_KEEP_NS[60 * SECOND_NS], description="Windows of 1 min.")
    five_minutes: LawfulRetention = Field(
        DEFAULT_KEEP_NS[300 * SECOND_NS], description="Windows of 5 min; at least 184 days."
    )
    hour: LawfulRetention = Field(DEFAULT_KEEP_NS[3600 * SECOND_NS], description="Windows of 1 h; at least 184 days.")

    def by_span(self) -> dict[int, int]:
        """Return the length of windows in ns -> how long they are kept in ns."""
        return {
            SECOND_NS: self.second,
            10 * SECOND_NS: self.ten_seconds,
            60 * SECOND_NS: self.minute,
            300 * SECOND_NS: self.five_minutes,
            3600 * SECOND_NS: self.hour,
        }


class StoreSettings(Section):
    """Where windows are kept (docs/store.md)."""

    path: FilePath = Field(
        Path("/var/lib/telemetryd/store"), description="Directory of the store; `$STATE_DIRECTORY/store` under systemd."
    )
    retention: Keep = Field(Keep(), description="How long windows are kept, by their length.")


class SpoolSettings(Section):
    """Where points wait on the disk until every output has them (docs/outputs.md)."""

    path: FilePath = Field(
        Path("/var/lib/telemetryd/spool"), description="Directory of the spool; `$STATE_DIRECTORY/spool` under systemd."
    )
    size: SpoolSize = Field(8 << 30, description="Disk space at most; beyond it what is least worth is lost, counted.")
    age: Retention = Field(7 * DAY_NS, description="What waits longer is lost, counted.")
    rejected: SpoolSize = Field(
        64 * MEBIBYTE, description="Size of each output's file of refused lines, the older half of it included."
    )


class OutputSettings(Section):
    """A server that the series are sent to (docs/outputs.md); at most one of `token_file` and `credential`."""

    name: OutputName = Field(description="Its name in health, metrics and logs, and its place in the spool.")
    kind: Literal["influxdb"] = Field("influxdb", description="InfluxDB 2, 1.8, or what takes their v2 writes.")
    url: Url = Field(description="The server, such as `https://influxdb.example:8086`.")
    org: Text = Field("telemetryd", description="Organisation; InfluxDB 1.8 and VictoriaMetrics do not look at it.")
    bucket: Text = Field(description="Bucket; `database/retention-policy` for InfluxDB 1.8.")
    token_file: OptionalPath = Field(
        None, description="File with the token; `user:password` for InfluxDB 1.8. It is read again after an answer 401."
    )
    credential: CredentialName | None = Field(
        None, description="Instead of a file: a credential of systemd (`LoadCredential=`)."
    )
    ca_file: OptionalPath = Field(
        None, description="Certificates that verify the server's; left out, those of the system."
    )
    spans: tuple[Span, ...] = Field(
        (10 * SECOND_NS, 60 * SECOND_NS, 300 * SECOND_NS, 3600 * SECOND_NS),
        strict=False,
        min_length=1,
        description="Lengths of the windows that it gets; `device` and `self` come with those of 1 min.",
    )
    timeout: RequestTime = Field(30 * SECOND_NS, description="Longest time of a request.")
    connections: int = Field(4, ge=1, le=16, description="Requests at a time.")
    backlog_points_per_s: int = Field(
        50_000, ge=1000, le=10_000_000, description="How fast a backlog is sent; new points go first, at any rate."
    )


def _check_outputs(outputs: tuple[OutputSettings, ...]) -> tuple[OutputSettings, ...]:
    names = [output.name for output in outputs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        mistake(f'two outputs are called "{twice[0]}"', "give each a name of its own")
    for output in outputs:
        if output.token_file is not None and output.credential is not None:
            mistake(f'the output "{output.name}" has a token_file and a credential', "keep one of them")
    return outputs


class Http(Section):
    """Health and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`."""

    enabled: bool = Field(True, description="Whether to listen.")
    address: Address = Field("127.0.0.1", description="Address to bind.")
    port: Port = Field(9343, description="TCP port; 0 takes a free one and logs it.")


class Control(Section):
    """The control service of `telemetryd status`, `reload` and `top`: a Unix socket."""

    enabled: bool = Field(True, description="Whether to listen.")
    socket: FilePath = Field(
        Path("/run/telemetryd/control.sock"),
        description="Path of the socket; `$RUNTIME_DIRECTORY/control.sock` under systemd.",
    )


class Log(Section):
    """What is logged on stderr, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")
    format: Literal["text", "json"] = Field("text", description="`event key=value ...`, or one JSON object a line.")


class Settings(Section):
    """Everything that `telemetryd run` is told."""

    version: Literal[1] = Field(description="Version of this format.")
    registry: FilePath = Field(description="Directory of the registry (docs/registry.md).")
    listen: Listen = Field(Listen(), description="Where sFlow datagrams are received.")
    limits: Limits = Field(Limits(), description="Bounds.")
    gnmi: GnmiSettings = Field(GnmiSettings(), description="Devices that are subscribed to by gNMI.")
    store: StoreSettings = Field(StoreSettings(), description="Where windows are kept.")
    spool: SpoolSettings = Field(SpoolSettings(), description="Where points wait for the outputs.")
    outputs: Annotated[tuple[OutputSettings, ...], AfterValidator(_check_outputs)] = Field(
        (), strict=False, max_length=8, description="Servers that the series are sent to."
    )
    policies: Annotated[tuple[FilePath, ...], Field(strict=False, max_length=64)] = Field(
        (), description="Policies in force (docs/policy.md): files or directories. Their links are watched for demand."
    )
    demand: DemandSettings = Field(DemandSettings(), description="How demand is estimated.")
    alerts: AlertSettings = Field(AlertSettings(), description="What is watched, and who is told.")
    enforce: EnforceSettings = Field(EnforceSettings(), description="What allocations are written to.")
    http: Http = Field(Http(), description="Health and metrics over HTTP.")
    control: Control = Field(Control(), description="The control service.")
    log: Log = Field(Log(), description="What is logged.")


@dataclass(frozen=True, slots=True)
class Effective:
    """One value in force.

    Attributes
    ----------
    setting:
        Its path, such as ``listen.port``.
    value:
        As it is written in a file.
    origin:
        ``file:line:column``, ``$NAME`` of a variable of the environment, or ``default``.
    """

    setting: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each of them came from."""

    settings: Settings
    document: YamlDocument
    environment: Mapping[PathInData, str]

    def effective(self) -> list[Effective]:
        """Return every value in force, in the order of the reference."""
        values = self.settings.model_dump(mode="json")
        return [Effective(".".join(path), value, self._origin(path)) for path, value in _leaves(Settings, values, ())]

    def _origin(self, path: tuple[str, ...]) -> str:
        if path in self.environment:
            return f"${self.environment[path]}"
        data: Any = self.document.data
        for step in path:
            if not isinstance(data, dict) or step not in data:
                return "default"
            data = data[step]
        return ":".join(str(part) for part in self.document.where(path))


def load_settings(path: Path, environment: Mapping[str, str] = os.environ) -> Loaded:
    """Read the settings from a file.

    Raises
    ------
    ProblemsError
        With every mistake of the file.
    """
    problems: list[Problem] = []
    document = read_yaml(path, problems)
    return _validated(document, path.parent, problems, environment)


def parse_settings(text: str, file: str, environment: Mapping[str, str] = os.environ) -> Loaded:
    """Read the settings from a text that stands for `file`; as :func:`load_settings`."""
    problems: list[Problem] = []
    document = parse_yaml(text, file, problems)
    return _validated(document, Path(file).parent, problems, environment)


def changes(old: Settings, new: Settings) -> list[str]:
    """Return the paths of the settings in which two differ, such as ``listen.port``."""
    before, after = (dict(_leaves(Settings, s.model_dump(mode="json"), ())) for s in (old, new))
    return [".".join(path) for path in before if before[path] != after[path]]


def _validated(
    document: YamlDocument | None, directory: Path, problems: list[Problem], environment: Mapping[str, str]
) -> Loaded:
    if document is None:
        raise ProblemsError(problems)
    data = document.data
    if not isinstance(data, dict):
        message = f"the file is {show(data)}, not a mapping"
        raise ProblemsError([Problem(*document.where(()), message, 'start with "version: 1"')])
    data, used = _with_directories(data, environment)
    try:
        settings = Settings.model_validate(data, context={"directory": directory})
    except ValidationError as error:
        raise ProblemsError(explain(error, Settings, document.where, top="section")) from None
    return Loaded(settings, document, used)


def _with_directories(
    data: dict[str, Any], environment: Mapping[str, str]
) -> tuple[dict[str, Any], dict[PathInData, str]]:
    """Fill in systemd's directories where the file says nothing; return the data and what was used."""
    used: dict[PathInData, str] = {}
    for (section, field), variable, name in _DIRECTORIES:
        # systemd separates several directories by colons: the first one is the service's own.
        directory = environment.get(variable, "").partition(":")[0]
        values = data.get(str(section), {})
        if directory and isinstance(values, dict) and field not in values:
            data = {**data, str(section): {**values, str(field): f"{directory}/{name}"}}
            used[section, field] = variable
    return data, used


def _leaves(model: type[BaseModel], values: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, field in model.model_fields.items():
        inner = inner_model(field.annotation)
        if inner is None or isinstance(values[name], list):
            yield (*path, name), values[name]
        else:
            yield from _leaves(inner, values[name], (*path, name))
