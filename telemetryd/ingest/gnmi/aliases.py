"""Counters of interfaces under the names that makes give them in models of their own, as data.

Every make here has OpenConfig's paths, too; who subscribes to the native ones, or is sent them, gets the same counters.
They were taken from what users of these devices publish, not tried on devices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from telemetryd.ingest.gnmi.path import ANY, Elem

#: Names of leaves that are no counters.
OPER_STATUS: Final = "OPER_STATUS"
IFINDEX: Final = "IFINDEX"


@dataclass(frozen=True, slots=True)
class Alias:
    """Where a make has the counters of an interface.

    Attributes
    ----------
    make:
        Whose it is.
    branch:
        Names of the elements above the leaves. The interface is the only key of one of them, or its name where ``*``
        stands for it.
    keyed:
        Which of them.
    leaves:
        Name of a leaf, or of a container and a leaf -> name of the Counter.
    is_index:
        Whether the key is an ifIndex.
    pattern:
        What the interface has to look like; None for anything.
    """

    make: str
    branch: tuple[str, ...]
    keyed: int
    leaves: dict[tuple[str, ...], str]
    is_index: bool = False
    pattern: re.Pattern[str] | None = None

    def interface(self, elems: tuple[Elem, ...]) -> str | None:
        """Return the interface of a path below the branch, None where it is another path."""
        names = tuple(elem.name for elem in elems[: len(self.branch)])
        if len(names) < len(self.branch) or any(
            wanted not in (ANY, name) for wanted, name in zip(self.branch, names, strict=True)
        ):
            return None
        elem = elems[self.keyed]
        found = elem.name if self.branch[self.keyed] == ANY else elem.keys[0][1] if len(elem.keys) == 1 else ""
        if found in ("", ANY) or (self.pattern is not None and not self.pattern.fullmatch(found)):
            return None
        return found


def _both_ways(names: dict[str, str], ways: dict[str, str], form: str) -> dict[tuple[str, ...], str]:
    return {
        (form.format(way=way, what=what),): f"{ours}_{counter}"
        for way, ours in ways.items()
        for what, counter in names.items()
    }


_WAYS: Final = {"in": "IN", "out": "OUT"}

ALIASES: Final = (
    Alias(
        "cisco-xr",  # Cisco-IOS-XR-infra-statsd-oper
        ("infra-statistics", "interfaces", "interface", "latest", "generic-counters"),
        2,
        {
            **_both_ways(
                {
                    "bytes": "OCTETS",
                    "packets": "PACKETS",
                    "multicast-packets": "MULTICAST_PACKETS",
                    "broadcast-packets": "BROADCAST_PACKETS",
                },
                {"received": "IN", "sent": "OUT"},
                "{what}-{way}",
            ),
            **_both_ways({"drops": "DISCARDS", "errors": "ERRORS"}, {"input": "IN", "output": "OUT"}, "{way}-{what}"),
        },
    ),
    Alias(
        "h3c",  # Comware's Ifmgr
        ("Ifmgr", "Statistics", "Interface"),
        2,
        _both_ways(
            {
                "Octets": "OCTETS",
                "Pkts": "PACKETS",
                "UcastPkts": "UNICAST_PACKETS",
                "Discards": "DISCARDS",
                "Errors": "ERRORS",
            },
            {"In": "IN", "Out": "OUT"},
            "{way}{what}",
        ),
        is_index=True,
    ),
    Alias(
        "nokia",  # srl_nokia-interfaces
        ("interface",),
        0,
        {
            ("statistics", *names): counter
            for names, counter in _both_ways(
                {
                    "octets": "OCTETS",
                    "packets": "PACKETS",
                    "unicast-packets": "UNICAST_PACKETS",
                    "multicast-packets": "MULTICAST_PACKETS",
                    "broadcast-packets": "BROADCAST_PACKETS",
                    "discarded-packets": "DISCARDS",
                    "error-packets": "ERRORS",
                },
                _WAYS,
                "{way}-{what}",
            ).items()
        }
        | {("oper-state",): OPER_STATUS, ("ifindex",): IFINDEX},
    ),
    Alias(
        "sonic",  # COUNTERS_DB, the table of SAI
        ("COUNTERS", ANY),
        1,
        _both_ways(
            {
                "OCTETS": "OCTETS",
                "UCAST_PKTS": "UNICAST_PACKETS",
                "MULTICAST_PKTS": "MULTICAST_PACKETS",
                "BROADCAST_PKTS": "BROADCAST_PACKETS",
                "DISCARDS": "DISCARDS",
                "ERRORS": "ERRORS",
            },
            {"IN": "IN", "OUT": "OUT"},
            "SAI_PORT_STAT_IF_{way}_{what}",
        ),
        pattern=re.compile(r"(Ethernet|PortChannel)\d+"),
    ),
)
