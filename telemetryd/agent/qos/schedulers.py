"""Scheduler policies as the configuration has them: nodes with rates, priorities and what is below them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from telemetryd.agent.qos.config import POLICIES, Configuration, Entry, invalid, text, unimplemented
from telemetryd.agent.tree import Value

_ONE, _TWO = "one-rate-two-color", "two-rate-three-color"
_ONE_LEAVES: Final = frozenset(
    {
        *("cir", "cir-pct", "cir-pct-remaining", "bc", "queuing-behavior"),
        *("max-queue-depth-bytes", "max-queue-depth-packets"),
    }
)
_TWO_LEAVES: Final = frozenset(
    {"cir", "cir-pct", "cir-pct-remaining", "pir", "pir-pct", "pir-pct-remaining", "bc", "be"}
)
#: Octets that stand for a packet where a queue's depth is given in packets.
_PACKET: Final = 1514


class Input(NamedTuple):
    """A queue of a scheduler."""

    id: str
    queue: str
    weight: int


class Share(NamedTuple):
    """A rate as it was given: bit/s, or percent of what is there or of what is left. None for not given."""

    bps: int | None = None
    pct: int | None = None
    pct_remaining: int | None = None

    @property
    def is_given(self) -> bool:
        """Tell whether it was."""
        return self != _NO_SHARE

    def of(self, whole_bps: int, left_bps: int) -> int | None:
        """Return it in bit/s."""
        if self.bps is not None:
            return self.bps
        if self.pct is not None:
            return whole_bps * self.pct // 100
        if self.pct_remaining is not None:
            return left_bps * self.pct_remaining // 100
        return None


_NO_SHARE: Final = Share()


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A scheduler.

    Attributes
    ----------
    path:
        Of its entry.
    policy:
        Name of the one that it belongs to.
    kind:
        "one", "two", or "" without rates of its own.
    cir, pir:
        Rate and ceiling.
    bc, be:
        Octets of their buckets; None for ours.
    is_capped:
        What is beyond the rate (of two rates: beyond the ceiling) is held or dropped, not passed.
    is_policed:
        It drops what does not conform rather than to delay it; it was asked for.
    is_shaped:
        Rather than to drop it; it was asked for.
    depth:
        Octets of its queues; None for ours.
    child:
        Name of the policy that holds what is below it; "" where that is queues.
    """

    path: str
    policy: str
    sequence: int
    kind: str
    is_strict: bool
    inputs: tuple[Input, ...]
    child: str = ""
    cir: Share = _NO_SHARE
    pir: Share = _NO_SHARE
    bc: int | None = None
    be: int | None = None
    is_capped: bool = True
    is_policed: bool = False
    is_shaped: bool = False
    depth: int | None = None


def schedulers_of(config: Configuration, policy: str, where: str) -> tuple[Scheduler, ...]:
    """Return the schedulers of a policy in the order of their sequences.

    Parameters
    ----------
    where:
        The leaf that names the policy.

    Raises
    ------
    RefusedError
        If one of them is not realised here, or there is no such policy.
    """
    path = config.of_list(POLICIES).get(policy)
    if path is None:
        raise invalid(where, f"there is no scheduler policy {policy}")
    found: tuple[Scheduler, ...] | None = config.parsed.get(path)
    if found is None:
        entries = config.of_list(f"{path}/schedulers/scheduler")
        found = tuple(_scheduler(config, entries[key], policy, int(key)) for key in sorted(entries, key=int))
        config.parsed[path] = found
    return found


def _scheduler(config: Configuration, path: str, policy: str, sequence: int) -> Scheduler:
    own = config.entry(path)
    kind = _kind(own)
    inputs = tuple(_input(config, entry) for entry in config.of_list(f"{path}/inputs/input").values())
    child = ""
    match own.get("output/config/output-type"):
        case "SCHEDULER":
            child = text(own.get("output/config/child-scheduler", ""))
            if not child:
                raise invalid(f"{path}/output/config/child-scheduler", "is missing, output-type SCHEDULER needs it")
            if inputs:
                raise unimplemented(
                    f"{path}/output/config/output-type", "SCHEDULER and queues as inputs exclude each other"
                )
        case "FWD_GROUP":
            raise unimplemented(f"{path}/output/config/output-type", "FWD_GROUP is not realised on Linux")
        case _:
            pass
    found = Scheduler(path, policy, sequence, kind, own.get("config/priority") == "STRICT", inputs, child)
    if kind:
        return _rated(found, own)
    return found


def _kind(own: Entry) -> str:
    given = own.get("config/type")
    has = {name for name in (_ONE, _TWO) if any(leaf.startswith(f"{name}/config/") for leaf in own)}
    if given == "ONE_RATE_TWO_COLOR" and _ONE in has:
        return "one"
    if given == "TWO_RATE_THREE_COLOR" and _TWO in has:
        return "two"
    if given is None and len(has) == 1:
        return "one" if _ONE in has else "two"
    return ""


def _rated(found: Scheduler, own: Entry) -> Scheduler:
    name, known = (_ONE, _ONE_LEAVES) if found.kind == "one" else (_TWO, _TWO_LEAVES)
    values: dict[str, Value] = {}
    drops: dict[str, bool] = {}
    for leaf, value in own.items():
        if not leaf.startswith(f"{name}/"):
            continue
        way = leaf.removeprefix(f"{name}/")
        container, _, last = way.partition("/config/")
        if not container or way.startswith("config/"):
            last = way.removeprefix("config/")
            if last not in known:
                raise unimplemented(f"{found.path}/{leaf}", "is not realised on Linux")
            values[last] = value
        elif last == "drop":
            drops[container] = bool(value)
        elif last.startswith("set-"):
            raise unimplemented(f"{found.path}/{leaf}", "queues of Linux do not mark packets; a classifier's term can")
        else:
            raise unimplemented(f"{found.path}/{leaf}", "is not realised on Linux")
    if drops.get("conform-action"):
        raise unimplemented(f"{found.path}/{name}/conform-action/config/drop", "what conforms is not dropped here")
    cir, pir = _share(values, "cir"), _share(values, "pir")
    if found.kind == "one":
        is_policed = values.get("queuing-behavior") == "POLICE"
        is_capped = drops.get("exceed-action", True)
    else:
        is_policed, is_capped = False, drops.get("violate-action", True)
        if drops.get("exceed-action"):
            # What exceeds the rate does not go: the rate is the ceiling.
            pir = cir
    return Scheduler(
        *(found.path, found.policy, found.sequence, found.kind, found.is_strict, found.inputs, found.child),
        cir=cir,
        pir=pir,
        bc=_number(values, "bc"),
        be=_number(values, "be"),
        is_capped=is_capped,
        is_policed=is_policed,
        is_shaped=values.get("queuing-behavior") == "SHAPE",
        depth=_depth(values),
    )


def _share(values: Mapping[str, Value], name: str) -> Share:
    return Share(_number(values, name), _number(values, f"{name}-pct"), _number(values, f"{name}-pct-remaining"))


def _number(values: Mapping[str, Value], name: str) -> int | None:
    value = values.get(name)
    return int(value) if isinstance(value, int | str) else None


def _depth(values: Mapping[str, Value]) -> int | None:
    octets, packets = _number(values, "max-queue-depth-bytes"), _number(values, "max-queue-depth-packets")
    return octets if octets is not None else packets * _PACKET if packets is not None else None


def _input(config: Configuration, path: str) -> Input:
    own = config.entry(path)
    kind = own.get("config/input-type", "QUEUE")
    if kind != "QUEUE":
        raise unimplemented(f"{path}/config/input-type", f"{kind} is not realised on Linux, QUEUE is")
    queue = own.get("config/queue")
    if queue is None:
        raise invalid(f"{path}/config/queue", "is missing: an input of type QUEUE names one")
    return Input(text(own.get("config/id", "")), text(queue), _number(own, "config/weight") or 0)
