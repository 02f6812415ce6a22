"""From settings and registry to what each gNMI target is asked for: every mistake at its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from telemetryd.config.explain import suggest
from telemetryd.config.positions import PathInData
from telemetryd.config.settings_gnmi import GnmiLogin, GnmiSettings, GnmiSubscription, GnmiTarget
from telemetryd.errors import InputError, Problem, ProblemsError
from telemetryd.registry.models import Device, Registry

if TYPE_CHECKING:
    from telemetryd.ingest.gnmi.login import Login
    from telemetryd.ingest.gnmi.subscription import Subscription, Wanted

T = TypeVar("T")
Where = Callable[[PathInData], tuple[str, int, int]]

SECOND_NS: Final = 1_000_000_000
COMPONENTS_NS: Final = 60 * SECOND_NS

COUNTERS_PATH: Final = "/interfaces/interface[name=*]/state/counters"
STATE_PATHS: Final = (
    "/interfaces/interface[name=*]/state/oper-status",
    "/interfaces/interface[name=*]/state/ifindex",
    "/interfaces/interface[name=*]/ethernet/state/port-speed",
)
QUEUES_PATH: Final = "/qos/interfaces/interface[interface-id=*]/output/queues/queue[name=*]/state"
INPUT_QUEUES_PATH: Final = "/qos/interfaces/interface[interface-id=*]/input/queues/queue[name=*]/state"
BUNDLE_PATHS: Final = (
    "/interfaces/interface[name=*]/ethernet/state/aggregate-id",
    "/lacp/interfaces/interface[name=*]/members/member[interface=*]/state/interface",
)
COMPONENT_PATHS: Final = (
    "/components/component[name=*]/state/temperature",
    "/components/component[name=*]/cpu/utilization/state",
)
_MODES: Final = {"target-defined": 0, "on-change": 1, "sample": 2}


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """What is wanted of a target; plans that are equal need no other stream.

    Attributes
    ----------
    wanted:
        As :class:`telemetryd.ingest.gnmi.target.Target` takes it; its name is the device's in the registry.
    login:
        Where its login is.
    is_received_time:
        Whether counters are measured by our time of reception.
    counter_bits:
        Where its counters wrap.
    sample_ns:
        How often its counters are sampled.
    """

    wanted: Wanted
    login: Login
    is_received_time: bool
    counter_bits: int
    sample_ns: int

    @property
    def name(self) -> str:
        """The device."""
        return self.wanted.name


def plan_targets(settings: GnmiSettings, registry: Registry, where: Where) -> list[TargetPlan]:
    """Return the plans of all targets, those of the settings first.

    Parameters
    ----------
    where:
        Gives file, line and column of a path in the configuration.

    Raises
    ------
    ProblemsError
        With every target that is no device of the registry, has no address, or asks for what is no path.
    """
    if not settings.targets and not settings.all_registered:
        return []
    devices = {device.name: device for device in registry.devices}
    problems: list[Problem] = []
    plans: list[TargetPlan] = []
    listed = [*settings.targets, *_registered(settings, registry)]
    for number, target in enumerate(listed):
        place: PathInData = (
            ("gnmi", "targets", number) if number < len(settings.targets) else ("gnmi", "all_registered")
        )
        device = devices.get(target.name)
        try:
            if device is None:
                remedy = suggest(target.name, devices, "name a device of the registry")
                raise _MistakeError((*place, "name"), f'there is no device "{target.name}" in the registry', remedy)
            plans.append(_plan(settings, target, device, place))
        except _MistakeError as mistake:
            problems.append(Problem(*where(mistake.place), mistake.message, mistake.remedy))
    if problems:
        raise ProblemsError(problems)
    return plans


class _MistakeError(Exception):
    def __init__(self, place: PathInData, message: str, remedy: str) -> None:
        super().__init__(message)
        self.place, self.message, self.remedy = place, message, remedy


def _registered(settings: GnmiSettings, registry: Registry) -> Iterator[GnmiTarget]:
    if settings.all_registered:
        named = {target.name for target in settings.targets}
        yield from (GnmiTarget(name=one.name) for one in registry.devices if one.gnmi and one.name not in named)


def _plan(settings: GnmiSettings, target: GnmiTarget, device: Device, place: PathInData) -> TargetPlan:
    # Generated protobuf code: a configuration without targets does not pay for it.
    from telemetryd.ingest.gnmi.subscription import Wanted
    from telemetryd.ingest.gnmi.transport import Endpoint, Tls
    from telemetryd.ingest.gnmi.vendors import PROFILES
    from telemetryd.proto import gnmi_pb2

    host, port = _address(settings, target, device, place)
    is_insecure = target.insecure or (settings.insecure and target.tls is None)
    tls = _chosen(target.tls, settings.tls)
    encoding = _chosen(target.encoding, settings.encoding)
    sample_ns = _chosen(target.sample_interval, settings.sample_interval)
    asked = _chosen(target.subscriptions, settings.subscriptions)
    asked_place = (*place, "subscriptions") if target.subscriptions is not None else ("gnmi", "subscriptions")
    profile = PROFILES[_chosen(target.vendor, settings.vendor)]
    queues = (QUEUES_PATH, *([INPUT_QUEUES_PATH] if profile.has_input_queues else []))
    queues = queues if _chosen(target.queues, settings.queues) else ()
    subscriptions = (
        tuple(_subscription(one, sample_ns, (*asked_place, i)) for i, one in enumerate(asked))
        if asked
        else _default(
            sample_ns,
            queues,
            _chosen(target.components, settings.components),
            _chosen(target.bundles, settings.bundles),
        )
    )
    endpoint = Endpoint(
        host,
        port,
        tls=None
        if is_insecure
        else Tls(tls.ca_file, tls.certificate_file, tls.key_file, tls.server_name, tls.skip_verify),
        transport=_chosen(target.transport, settings.transport),
        max_message_octets=settings.message,
        connect_timeout_s=settings.timeout / SECOND_NS,
        keepalive_s=settings.keepalive / SECOND_NS,
    )
    wanted = Wanted(
        target.name,
        endpoint,
        subscriptions,
        encoding=None if encoding == "auto" else gnmi_pb2.Encoding.Value(encoding.upper()),
        profile=profile,
        target=target.prefix_target or "",
        most_paths=settings.paths,
        cpu_share=settings.cpu_percent / 100,
        fallback=() if asked else subscriptions[:1],
    )
    return TargetPlan(
        wanted,
        _login(_chosen(target.login, settings.login), device),
        _chosen(target.times, settings.times) == "reception",
        _chosen(target.counter_bits, settings.counter_bits),
        sample_ns,
    )


def _chosen(own: T | None, common: T) -> T:
    return common if own is None else own


def _address(settings: GnmiSettings, target: GnmiTarget, device: Device, place: PathInData) -> tuple[str, int]:
    if target.address is not None:
        host = target.address.removeprefix("[").removesuffix("]")
        if not host or any(character.isspace() or character in "/[]" for character in host) or host.count(":") == 1:
            raise _MistakeError(
                (*place, "address"),
                f'"address": "{target.address}" is no host',
                "write a name or an IP address; the port is `port`",
            )
        return host, target.port or settings.port
    if device.gnmi is None:
        raise _MistakeError(
            (*place, "name"),
            f'the target "{target.name}" has no address',
            "add `address`, or `gnmi.endpoint` to the device in the registry",
        )
    host, _, port = device.gnmi.endpoint.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), target.port or int(port)


def _login(login: GnmiLogin, device: Device) -> Login:
    from telemetryd.ingest.gnmi.login import Login, Secret

    if login.token_file is not None or login.token_credential is not None:
        return Login(token=Secret(login.token_file, login.token_credential))
    if login.password_file is not None or login.password_credential is not None:
        return Login(login.username, Secret(login.password_file, login.password_credential))
    if device.gnmi is not None and device.gnmi.credential is not None:
        return Login(password=Secret(credential=device.gnmi.credential))
    return Login()


def _subscription(one: GnmiSubscription, sample_ns: int, place: PathInData) -> Subscription:
    from telemetryd.ingest.gnmi.path import parse
    from telemetryd.ingest.gnmi.subscription import Mode, Subscription

    try:
        path = parse(one.path)
    except InputError as error:
        raise _MistakeError((*place, "path"), str(error), "see docs/gnmi.md for how paths are written") from None
    return Subscription(
        path, Mode(_MODES[one.mode]), one.interval or sample_ns, one.heartbeat or 0, one.suppress_redundant
    )


def _default(
    sample_ns: int, queues: tuple[str, ...], has_components: bool, has_bundles: bool
) -> tuple[Subscription, ...]:
    """Return what is subscribed to where nobody says otherwise, the counters first."""
    from telemetryd.ingest.gnmi.path import parse
    from telemetryd.ingest.gnmi.subscription import Mode, Subscription

    sampled = [(COUNTERS_PATH, sample_ns)]
    sampled += [(path, sample_ns) for path in queues]
    sampled += [(path, max(sample_ns, COMPONENTS_NS)) for path in COMPONENT_PATHS] if has_components else []
    return (
        *(Subscription(parse(path), Mode.SAMPLE, every_ns) for path, every_ns in sampled),
        *(
            Subscription(parse(path), Mode.ON_CHANGE, 0)
            for path in (*STATE_PATHS, *(BUNDLE_PATHS if has_bundles else ()))
        ),
    )
