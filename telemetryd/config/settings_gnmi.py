"""The settings of gNMI: which devices are subscribed to, how, and for what (docs/gnmi.md)."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from telemetryd.config.fields import (
    MEBIBYTE,
    SECOND_NS,
    CredentialName,
    OptionalPath,
    Section,
    Text,
    duration,
    mistake,
    size,
)

DEFAULT_PORT: Final = 9339  # IANA: gnmi-gnoi
MOST_SUBSCRIPTIONS: Final = 256

Interval = Annotated[int, *duration(SECOND_NS // 10, 3600 * SECOND_NS)]
Heartbeat = Annotated[int, *duration(SECOND_NS, 86_400 * SECOND_NS)]
Keepalive = Annotated[int, *duration(SECOND_NS, 7200 * SECOND_NS)]
MessageSize = Annotated[int, *size(64 << 10, 1 << 30)]
TcpPort = Annotated[int, Field(ge=1, le=65535)]
Vendor = Literal[
    "generic",
    "arista",
    "cisco-nxos",
    "cisco-xe",
    "cisco-xr",
    "h3c",
    "huawei",
    "juniper",
    "nokia",
    "sonic",
    "telemetryd",
]
Encoding = Literal["auto", "proto", "json_ietf", "json", "bytes", "ascii"]
Transport = Literal["fast", "grpc"]
Times = Literal["device", "reception"]
CounterBits = Literal[32, 64]


class GnmiTls(Section):
    """How a target proves to be the one that is meant, and we to be who we are. PEM files."""

    ca_file: OptionalPath = Field(None, description="Certificates to trust; left out, those of the system.")
    server_name: Text | None = Field(None, description="Name in the target's certificate, where it is another.")
    certificate_file: OptionalPath = Field(None, description="Our own certificate, where targets ask for one.")
    key_file: OptionalPath = Field(None, description="Its key; left out, it is in the same file.")
    skip_verify: bool = Field(False, description="Believe any certificate; it is logged.")


class GnmiLogin(Section):
    """Who we are for a target. Secrets are in files or systemd's credentials, read anew for every connection."""

    username: Text | None = Field(None, description="User; left out, the password is written `user:password`.")
    password_file: OptionalPath = Field(None, description="File with the password.")
    password_credential: CredentialName | None = Field(
        None, description="Instead of a file: a credential of systemd (`LoadCredential=`)."
    )
    token_file: OptionalPath = Field(None, description="Instead of a password: file with a token.")
    token_credential: CredentialName | None = Field(None, description="The same as a credential of systemd.")

    @model_validator(mode="after")
    def _has_one_secret(self) -> Self:
        given = [name for name, value in self if name != "username" and value is not None]
        if len(given) > 1:
            mistake(f"{' and '.join(given)} are given together", "keep one of them")
        if self.username is not None and not (given and given[0].startswith("password")):
            mistake("there is a username and no password", "add password_file or password_credential")
        return self


class GnmiSubscription(Section):
    """One path that is subscribed to, and when values come."""

    path: Annotated[str, Field(min_length=1, max_length=4096)] = Field(
        description="Path such as `/interfaces/interface[name=*]/state/counters`."
    )
    mode: Literal["sample", "on-change", "target-defined"] = Field("sample", description="When values are sent.")
    interval: Interval | None = Field(None, description="Of `sample`; left out, the target's `sample_interval`.")
    heartbeat: Heartbeat | None = Field(None, description="Values are sent after so long though they did not change.")
    suppress_redundant: bool = Field(False, description="Of `sample`: leave out values that did not change.")


Subscriptions = Annotated[tuple[GnmiSubscription, ...], Field(max_length=MOST_SUBSCRIPTIONS, strict=False)]


class GnmiTarget(Section):
    """A device that is subscribed to. What it leaves out is as the section `gnmi` says."""

    name: Text = Field(description="Name of the device in the registry.")
    address: Text | None = Field(None, description="Host name or address; left out, the registry's `gnmi.endpoint`.")
    port: TcpPort | None = Field(None, description="TCP port.")
    vendor: Vendor | None = Field(None, description="Profile of its make (docs/gnmi.md).")
    encoding: Encoding | None = Field(None, description="`auto` takes the best that the target offers.")
    transport: Transport | None = Field(None, description="`grpc` where `fast` does not get on with the target.")
    prefix_target: Text | None = Field(None, description="Name for the prefix, where several are behind an address.")
    sample_interval: Interval | None = Field(None, description="How often counters are sampled.")
    queues: bool | None = Field(None, description="Whether counters of QoS queues are subscribed to.")
    components: bool | None = Field(None, description="Whether temperature and processor are subscribed to.")
    bundles: bool | None = Field(None, description="Whether members of bundles (LAG) are subscribed to.")
    times: Times | None = Field(None, description="Whose time stamps counters are measured by.")
    counter_bits: CounterBits | None = Field(None, description="Where the target's counters wrap.")
    insecure: bool = Field(False, description="Talk without TLS, passwords included; it is logged.")
    tls: GnmiTls | None = Field(None, description="TLS; it replaces the section's as a whole.")
    login: GnmiLogin | None = Field(None, description="Login; it replaces the section's as a whole.")
    subscriptions: Subscriptions | None = Field(None, description="What is subscribed to, in place of the section's.")

    @model_validator(mode="after")
    def _is_secure_or_not(self) -> Self:
        if self.insecure and self.tls is not None:
            mistake(f'the target "{self.name}" has insecure and tls', "keep one of them")
        return self


def _check_targets(targets: tuple[GnmiTarget, ...]) -> tuple[GnmiTarget, ...]:
    seen: set[str] = set()
    for target in targets:
        if target.name in seen:
            mistake(f'two targets are called "{target.name}"', "give each device one entry")
        seen.add(target.name)
    return targets


class GnmiSettings(Section):
    """Devices that are subscribed to by gNMI, and what holds for each of them that does not say otherwise.

    Without `subscriptions` the counters of all interfaces are sampled; status, ifIndex and speed come as they change.
    """

    all_registered: bool = Field(
        False, description="Subscribe to every device of the registry that has a `gnmi.endpoint`, too."
    )
    port: TcpPort = Field(DEFAULT_PORT, description="TCP port of targets with an `address`.")
    vendor: Vendor = Field("generic", description="Profile of their make (docs/gnmi.md).")
    encoding: Encoding = Field("auto", description="`auto` takes the best that a target offers.")
    transport: Transport = Field("fast", description="`grpc` is the reference, for comparison.")
    sample_interval: Interval = Field(10 * SECOND_NS, description="How often counters are sampled.")
    queues: bool = Field(False, description="Whether counters of QoS queues are subscribed to.")
    components: bool = Field(False, description="Whether temperature and processor are subscribed to, once a minute.")
    bundles: bool = Field(
        False, description="Whether members of bundles (LAG) are subscribed to, to be held against the registry."
    )
    times: Times = Field("device", description="Whose time stamps counters are measured by: the target's, or ours.")
    counter_bits: CounterBits = Field(64, description="Where counters wrap; 32 for old devices.")
    insecure: bool = Field(False, description="Talk without TLS, passwords included; it is logged.")
    keepalive: Keepalive = Field(30 * SECOND_NS, description="A silent target is asked for a sign of life so often.")
    timeout: Annotated[int, *duration(SECOND_NS, 120 * SECOND_NS)] = Field(
        10 * SECOND_NS, description="Longest time that a connection may take to come about."
    )
    message: MessageSize = Field(16 * MEBIBYTE, description="Longest message that is taken of a target.")
    paths: int = Field(100_000, ge=100, le=1_000_000, description="Different paths that a target may send.")
    cpu_percent: int = Field(25, ge=1, le=100, description="Share of a core above which a target is slowed.")
    connecting: int = Field(64, ge=1, le=256, description="Targets that are connected to at a time.")
    tls: GnmiTls = Field(GnmiTls(), description="TLS.")
    login: GnmiLogin = Field(GnmiLogin(), description="Login.")
    subscriptions: Subscriptions = Field((), description="What is subscribed to, in place of the default.")
    targets: Annotated[tuple[GnmiTarget, ...], AfterValidator(_check_targets)] = Field(
        (), strict=False, max_length=5000, description="The devices."
    )

    @model_validator(mode="after")
    def _is_secure_or_not(self) -> Self:
        if self.insecure and self.tls != GnmiTls():
            mistake("the section has insecure and tls", "keep one of them; a target may differ from the section")
        return self
