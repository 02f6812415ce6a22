"""What one device can do, out of the registry, its answer to gNMI Capabilities and the table of deviations.

Nothing is asked here: :func:`resolve` is a pure function of the three. A model with a firmware that nobody has proven
is export-only: its plan can be looked at, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from telemetryd.config.explain import show
from telemetryd.enforce.capability_table import Table, given, matches
from telemetryd.errors import InputError
from telemetryd.proto import gnmi_pb2
from telemetryd.registry.models import Device, Registry

QOS: Final = "openconfig-qos"


@dataclass(frozen=True, slots=True)
class Answer:
    """A device's answer to Capabilities.

    Attributes
    ----------
    models:
        Module -> version; the newest where one is listed twice.
    encodings:
        Their names.
    version:
        Of gNMI.
    """

    models: Mapping[str, str]
    encodings: frozenset[str]
    version: str = ""


def answer_of(message: gnmi_pb2.CapabilityResponse) -> Answer:
    """Read the message; encodings that have no name are left out."""
    names = {number: name for name, number in gnmi_pb2.Encoding.items()}
    models: dict[str, str] = {}
    for one in message.supported_models:
        if one.name not in models or _numbers(models[one.name]) < _numbers(one.version):
            models[one.name] = one.version
    offered = frozenset(names[number] for number in message.supported_encodings if number in names)
    return Answer(models, offered, message.gNMI_version)


def answer_from_document(document: object) -> Answer:
    """Read what ``telemetryd gnmi capabilities --json`` prints.

    Raises
    ------
    InputError
        If it is something else.
    """
    message = gnmi_pb2.CapabilityResponse()
    try:
        known = document if isinstance(document, dict) else {}
        message.gNMI_version = known["version"] or ""
        for one in known["models"]:
            message.supported_models.add(name=one["name"], version=one["version"] or "")
        message.supported_encodings.extend(gnmi_pb2.Encoding.Value(name) for name in known["encodings"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            'is no answer to Capabilities - give what "telemetryd gnmi capabilities TARGET --json" prints'
        ) from None
    return answer_of(message)


@dataclass(frozen=True, slots=True)
class Capability:
    """What a device can do.

    Attributes
    ----------
    device, vendor, model, firmware:
        Which; "" where it is not known.
    driver:
        "openconfig" or "linux".
    queues, queue_names, queue_ids:
        Queues of a port, their fixed names if it has any, and whether queue-id is written.
    schedulers, conditions:
        Kinds, see :class:`telemetryd.enforce.capability_table.Facts`.
    terms, policers:
        Of a classifier, of a port's input.
    weights:
        The least and the greatest.
    least_rate_bps, rate_step_bps, most_burst_octets:
        Granularity of rates, and the largest bucket.
    interface_ref, commit_confirmed, remark, encodings:
        What is written, and how.
    reads, origin, state, arbitration:
        How it is read, what its paths need, what state tells, and whether it arbitrates between writers.
    export_only:
        Why nothing may be written; empty where it may.
    sources:
        Fact -> where it is from.
    """

    device: str
    vendor: str
    model: str
    firmware: str
    driver: str
    queues: int
    queue_names: tuple[str, ...]
    queue_ids: str
    schedulers: frozenset[str]
    conditions: frozenset[str]
    terms: int
    policers: int
    weights: tuple[int, int]
    least_rate_bps: int
    rate_step_bps: int
    most_burst_octets: int
    interface_ref: str
    commit_confirmed: bool
    remark: bool
    encodings: tuple[str, ...]
    reads: str = "get"
    origin: bool = False
    state: str = "optional"
    arbitration: bool = False
    export_only: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)


def resolve(device: Device, registry: Registry, answer: Answer | None, table: Table) -> Capability:
    """Return what a device can do.

    Parameters
    ----------
    answer:
        Its answer to Capabilities; None where it was never asked.

    Raises
    ------
    InputError
        If the tables leave a fact out.
    """
    profile = next((one for one in registry.profiles if one.name == device.profile), None)
    vendor = (profile.vendor or "") if profile is not None else ""
    model = (profile.model or profile.name) if profile is not None else ""
    firmware = device.firmware or ""
    qos = answer.models.get(QOS) if answer is not None else None
    facts: dict[str, Any] = given(table.defaults)
    sources = dict.fromkeys(facts, "defaults")
    for file, one in table.deviations:
        is_older = one.qos_below is None or (qos is not None and _numbers(qos) < one.qos_below)
        if not (is_older and matches(one.vendor, vendor) and matches(one.model, model)):
            continue
        if matches(one.firmware, firmware):
            new = given(one.facts)
            facts |= new
            sources |= dict.fromkeys(new, f"{file}: {one.source}")
    if answer is not None and answer.encodings:
        offered = tuple(name for name in facts["encodings"] if name in answer.encodings)
        if offered and offered != facts["encodings"]:
            facts["encodings"], sources["encodings"] = offered, "its answer to Capabilities"
    names = facts.get("queue_names", ())
    if names and len(names) < facts["queues"]:
        facts["queues"], sources["queues"] = len(names), sources["queue_names"]
    try:
        return Capability(
            device=device.name,
            vendor=vendor,
            model=model,
            firmware=firmware,
            driver=facts["driver"],
            queues=facts["queues"],
            queue_names=names,
            queue_ids=facts["queue_ids"],
            schedulers=frozenset(facts["schedulers"]),
            conditions=frozenset(facts["conditions"]),
            terms=facts["terms"],
            policers=facts["policers"],
            weights=facts["weights"],
            least_rate_bps=facts["least_rate"],
            rate_step_bps=facts["rate_step"],
            most_burst_octets=facts["most_burst"],
            interface_ref=facts["interface_ref"],
            commit_confirmed=facts["commit_confirmed"],
            remark=facts["remark"],
            encodings=facts["encodings"],
            reads=facts["reads"],
            origin=facts["origin"],
            state=facts["state"],
            arbitration=facts["arbitration"],
            export_only=tuple(_reasons(device, vendor, model, firmware, answer, facts, table)),
            sources=sources,
        )
    except KeyError as error:
        raise InputError(f'the defaults say nothing of "{error.args[0]}" - write it there') from None


def _reasons(
    device: Device, vendor: str, model: str, firmware: str, answer: Answer | None, facts: dict[str, Any], table: Table
) -> list[str]:
    """Return why a device is export-only."""
    found = []
    if device.gnmi is None:
        found.append("the registry names no gNMI server for it")
    if answer is None:
        found.append("its capabilities were never read")
    else:
        if QOS not in answer.models:
            found.append(f"it does not list {QOS}")
        if answer.encodings and not set(facts["encodings"]) & answer.encodings:
            found.append(f"it offers none of the encodings {', '.join(facts['encodings'])}")
    if not firmware:
        found.append("the registry names no firmware")
    elif not any(
        (one.vendor.lower(), one.model.lower(), one.firmware) == (vendor.lower(), model.lower(), firmware)
        for one in table.proven
    ):
        found.append(f"nobody has proven {show(vendor)} {show(model)} with firmware {show(firmware)}")
    return found


def _numbers(version: str) -> tuple[int, ...]:
    """Read a version as far as it is one; what is no number counts as 0."""
    return tuple(int(part) if part.isascii() and part.isdecimal() else 0 for part in version.split("."))
