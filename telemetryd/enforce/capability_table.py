"""The table of what devices can do: defaults, deviations by vendor, model and firmware, and what was proven.

It is data (``deviations.yaml``); an operator's own table is read on top of it. The descriptions of the fields are the
reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, PlainValidator, ValidationError, WithJsonSchema

from telemetryd.config.explain import explain, show
from telemetryd.config.positions import PathInData, YamlDocument, read_yaml
from telemetryd.config.units import UnitError, parse_size
from telemetryd.errors import Problem, ProblemsError
from telemetryd.registry.fields import Flag, Name, Rate, Text, mistake
from telemetryd.registry.models import Entity

SHIPPED: Final = Path(__file__).with_name("deviations.yaml")

Scheduler = Literal["two-rate-shape", "two-rate-police", "one-rate-shape", "one-rate-police", "weighted", "strict"]
Condition = Literal["dscp", "ipv4-prefix", "ipv6-prefix", "protocol", "ports"]
Encoding = Literal["JSON_IETF", "PROTO", "JSON"]
_MAX_WEIGHT: Final = 2**32 - 1


def _parse_weights(value: object) -> tuple[int, int]:
    least, _, most = value.partition("-") if isinstance(value, str) else ("", "", "")
    if not (least.isascii() and least.isdecimal() and most.isascii() and most.isdecimal() and len(least + most) < 20):
        mistake(f"{show(value)} is no range of weights", 'write "least-most", such as "1-100"')
    if not 1 <= int(least) <= int(most) <= _MAX_WEIGHT:
        mistake(f"{show(value)} is no range of weights", f"write the smaller one first, of 1 to {_MAX_WEIGHT}")
    return int(least), int(most)


def _parse_octets(value: object) -> int:
    try:
        octets = parse_size(value)
    except UnitError as error:
        mistake(error.message, error.remedy)
    if not 0 < octets < 2**32:
        mistake(f"{show(value)} is no size of a bucket", "write more than 0 and less than 4 GiB")
    return octets


def parse_version(value: object) -> tuple[int, ...]:
    """Return a version of a module, ``0.11.2``, as numbers that compare."""
    parts = value.split(".") if isinstance(value, str) else [""]
    if len(parts) > 4 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        mistake(f"{show(value)} is no version of a module", 'write numbers with dots, in quotes: "0.8.0"')
    return tuple(map(int, parts))


Weights = Annotated[tuple[int, int], PlainValidator(_parse_weights), WithJsonSchema({"type": "string"})]
Octets = Annotated[int, PlainValidator(_parse_octets), WithJsonSchema({"type": "string"})]
Version = Annotated[tuple[int, ...], PlainValidator(parse_version), WithJsonSchema({"type": "string"})]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]


class Facts(Entity):
    """What a device can do; a fact that is left out is not changed."""

    driver: Literal["openconfig", "linux"] | None = Field(None, description="what a plan is made of")
    queues: Count | None = Field(None, description="queues of a port")
    queue_names: tuple[Name, ...] | None = Field(
        None, description="names of its queues, the most important first, where it has fixed ones"
    )
    queue_ids: Literal["unsupported", "optional", "required"] | None = Field(None, description="leaf queue-id")
    schedulers: tuple[Scheduler, ...] | None = Field(None, min_length=1, description="kinds of schedulers")
    conditions: tuple[Condition, ...] | None = Field(None, min_length=1, description="what a classifier looks at")
    terms: Count | None = Field(None, description="terms of a classifier")
    policers: Count | None = Field(None, description="policers of a port's input")
    weights: Weights | None = Field(None, description='range of weights: "1-100"')
    least_rate: Rate | None = Field(None, description="the smallest rate that it takes")
    rate_step: Rate | None = Field(None, description="rates are multiples of it")
    most_burst: Octets | None = Field(None, description="the largest bucket")
    interface_ref: Literal["unsupported", "optional", "required"] | None = Field(
        None, description="container interface-ref"
    )
    commit_confirmed: Flag | None = Field(None, description="gNMI extension Commit: it rolls back by itself")
    remark: Flag | None = Field(None, description="a term can set the DSCP")
    encodings: tuple[Encoding, ...] | None = Field(None, min_length=1, description="of a Set, the best first")
    reads: Literal["get", "once"] | None = Field(None, description="how it is read: Get, or Subscribe ONCE")
    origin: Flag | None = Field(None, description="paths need the origin openconfig")
    state: Literal["required", "optional", "unsupported"] | None = Field(
        None, description="whether state has what config has: always, where the container is served, never"
    )
    arbitration: Flag | None = Field(None, description="gNMI extension MasterArbitration: one writer")


class Deviation(Entity):
    """Facts of the devices that match everything given: case does not matter, ``*`` and ``?`` stand for any."""

    source: Text = Field(description="where the facts are from")
    vendor: Text | None = Field(None, description="vendor of the device's profile; left out = any")
    model: Text | None = Field(None, description="model of the device's profile; left out = any")
    firmware: Text | None = Field(None, description="the device's firmware; left out = any")
    qos_below: Version | None = Field(None, description="only where its openconfig-qos is older than this version")
    facts: Facts = Field(description="what is so there")


class Proof(Entity):
    """A model with a firmware that plans were tried on."""

    vendor: Text = Field(description="vendor")
    model: Text = Field(description="model, exactly")
    firmware: Text = Field(description="firmware, exactly")
    by: Text = Field(description="who tried it")
    evidence: Text = Field(description="where the result is")


class TableFile(Entity):
    """One table."""

    version: Literal[1] = Field(description="version of this format")
    defaults: Facts = Field(Facts(), description="what holds unless a deviation says otherwise")
    deviations: tuple[Deviation, ...] = Field((), description="what is otherwise somewhere")
    proven: tuple[Proof, ...] = Field((), description="what may be written to")


class Table(Entity):
    """Tables joined; ``deviations`` carry the name of their file."""

    defaults: Facts
    deviations: tuple[tuple[str, Deviation], ...]
    proven: tuple[Proof, ...]


def load_table(paths: Sequence[Path] = ()) -> Table:
    """Load the shipped table, and an operator's on top of it.

    Raises
    ------
    ProblemsError
        With every mistake of every file, at its line and column.
    """
    problems: list[Problem] = []
    defaults: dict[str, Any] = {}
    deviations: list[tuple[str, Deviation]] = []
    proven: list[Proof] = []
    for path in (SHIPPED, *paths):
        document = read_yaml(path, problems)
        file = _validate(document, problems) if document is not None else None
        if file is None or document is None:
            continue
        _check(file, document, problems)
        defaults |= given(file.defaults)
        deviations += [(path.name, one) for one in file.deviations]
        proven += file.proven
    if problems:
        raise ProblemsError(problems)
    return Table(defaults=Facts.model_construct(**defaults), deviations=tuple(deviations), proven=tuple(proven))


def given(facts: Facts) -> dict[str, Any]:
    """Return the facts that are not left out."""
    values = ((name, getattr(facts, name)) for name in Facts.model_fields)
    return {name: value for name, value in values if value is not None}


def matches(pattern: str | None, value: str) -> bool:
    """Tell whether a name matches a pattern; None matches any, even where nothing is known."""
    return pattern is None or (value != "" and fnmatchcase(value.lower(), pattern.lower()))


def _validate(document: YamlDocument, problems: list[Problem]) -> TableFile | None:
    if not isinstance(document.data, dict):
        message = f"the file is {show(document.data)}, not a mapping"
        problems.append(Problem(*document.where(()), message, 'start with "version: 1"'))
        return None
    try:
        return TableFile.model_validate(document.data)
    except ValidationError as error:
        problems.extend(explain(error, TableFile, document.where, top="section"))
        return None


def _check(file: TableFile, document: YamlDocument, problems: list[Problem]) -> None:
    """Note what is well-formed and cannot be meant."""

    def note(path: PathInData, message: str, remedy: str) -> None:
        problems.append(Problem(*document.where(path), message, remedy))

    places: list[tuple[PathInData, Facts]] = [(("defaults",), file.defaults)]
    first: dict[object, int] = {}
    for index, deviation in enumerate(file.deviations):
        places.append((("deviations", index, "facts"), deviation.facts))
        who = (deviation.vendor, deviation.model, deviation.firmware, deviation.qos_below)
        before = first.setdefault(who, index)
        if before != index:
            line = document.where(("deviations", before))[1]
            note(("deviations", index), "means the same devices as another entry", f"join it with that of line {line}")
        if not given(deviation.facts):
            note(("deviations", index, "facts"), "holds no fact", "write one, or remove the entry")
    for path, facts in places:
        for name in ("queue_names", "schedulers", "conditions", "encodings"):
            for repeated in _repeated(getattr(facts, name) or ()):
                note((*path, name), f'"{repeated}" is there twice', "keep one")
        if facts.least_rate is not None and facts.rate_step is not None and facts.least_rate % facts.rate_step:
            note((*path, "least_rate"), "is no multiple of rate_step", "write a multiple")
    for index, proof in enumerate(file.proven):
        for name in ("vendor", "model", "firmware"):
            if any(sign in getattr(proof, name) for sign in "*?["):
                note(
                    ("proven", index, name),
                    f"{show(getattr(proof, name))} stands for several",
                    "name what was tried, one entry each",
                )


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
