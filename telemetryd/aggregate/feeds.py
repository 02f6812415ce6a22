"""Feeds: an interface, or a queue of one, as one source tells of it; and which feeds are of the same interface.

gNMI names interfaces, sFlow numbers them (ifIndex). Both are joined by the registry, which knows name and index, and by
what devices say of themselves (`state/ifindex`). Where two feeds tell of one interface, it is counted once (windows
choose); a feed that is joined later than it began takes its open windows along.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.registry.models import Registry
from telemetryd.schema import CounterSource

#: Feeds at most, and of one device by one source; what would be more is left out, counted.
MOST_FEEDS: Final = 250_000
MOST_OF_DEVICE: Final = 20_000
UNKNOWN_STATE: Final = 2
NO_FEED: Final = -1

Port = str | int


@dataclass(frozen=True, slots=True)
class Ports:
    """What the registry knows of ports.

    Attributes
    ----------
    agents:
        Address of an sFlow agent as text -> device.
    by_index:
        (device, ifIndex) -> name.
    speeds_bps:
        (device, name) -> speed, where it is given.
    corrections:
        Device -> octets that each packet has more at layer 2 with FCS than the device's counters count.
    bundles:
        (device, name) -> the bundle that it is a member of.
    """

    agents: dict[str, str] = field(default_factory=dict)
    by_index: dict[tuple[str, int], str] = field(default_factory=dict)
    speeds_bps: dict[tuple[str, str], float] = field(default_factory=dict)
    corrections: dict[str, int] = field(default_factory=dict)
    bundles: dict[tuple[str, str], str] = field(default_factory=dict)
    names: frozenset[tuple[str, str]] = frozenset()


def ports_of(registry: Registry) -> Ports:
    """Return what a registry knows of ports."""
    profiles = {profile.name: profile for profile in registry.profiles}
    ports = [(device.name, port) for device in registry.devices for port in device.interfaces]
    return Ports(
        agents={str(address): device.name for device in registry.devices for address in device.agents},
        by_index={(device, port.index): port.name for device, port in ports if port.index is not None},
        speeds_bps={(device, port.name): float(port.speed) for device, port in ports if port.speed is not None},
        corrections={
            device.name: octets
            for device in registry.devices
            if device.profile in profiles and (octets := profiles[device.profile].counters_octets_correction)
        },
        bundles={(device, port.name): port.bundle for device, port in ports if port.bundle is not None},
        names=frozenset((device, port.name) for device, port in ports),
    )


@dataclass(frozen=True, slots=True)
class Feed:
    """One feed.

    Attributes
    ----------
    port:
        The interface's name by gNMI, its ifIndex by sFlow and where a make's model has that as its key.
    queue, direction:
        Of a queue, its name and whether it is passed coming ``in`` or going ``out``.
    """

    source: CounterSource
    device: str
    port: Port
    queue: str = ""
    direction: str = ""


class Feeds:
    """All feeds; a number is never used again.

    Attributes
    ----------
    refused:
        How often a feed would have been too many.
    """

    def __init__(self, ports: Ports) -> None:
        self.refused = 0
        self._ports = ports
        self._feeds: list[Feed] = []
        self._numbers: dict[Feed, int] = {}
        self._of_device: Counter[tuple[CounterSource, str]] = Counter()
        self._index_of: dict[tuple[str, str], int] = {}  # as devices say: (device, name by gNMI) -> ifIndex
        self._name_of: dict[tuple[str, int], str] = {}
        self._bundle_of: dict[tuple[str, str], str] = {}  # as devices say, by the registry's name of the interface
        self._said_bps = np.zeros(64)
        self._up = np.full(64, UNKNOWN_STATE, np.uint8)
        self._sources: NDArray[np.uint8] | None = None  # until there is a new feed
        self._corrections: NDArray[np.int64] | None = None
        self._codes: NDArray[np.int64] | None = None
        self._names: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self._feeds)

    def __getitem__(self, number: int) -> Feed:
        return self._feeds[number]

    def number(self, feed: Feed) -> int:
        """Return the number of a feed, a new one if need be; NO_FEED if there are too many."""
        number = self._numbers.get(feed)
        if number is not None:
            return number
        of_device = feed.source, feed.device
        if len(self._feeds) >= MOST_FEEDS or self._of_device[of_device] >= MOST_OF_DEVICE:
            self.refused += 1
            return NO_FEED
        number = self._numbers[feed] = len(self._feeds)
        self._feeds.append(feed)
        self._of_device[of_device] += 1
        if number == len(self._up):
            self._said_bps = np.concatenate((self._said_bps, np.zeros(number)))
            self._up = np.concatenate((self._up, np.full(number, UNKNOWN_STATE, np.uint8)))
        self._codes = self._sources = self._corrections = None
        return number

    def find(self, feed: Feed) -> int:
        """Return the number of a feed, NO_FEED where there is none."""
        return self._numbers.get(feed, NO_FEED)

    def of_device(self, source: CounterSource, device: str) -> NDArray[np.int64]:
        """Return the numbers of a device's feeds."""
        return np.array(
            [number for number, feed in enumerate(self._feeds) if feed.device == device and feed.source is source],
            np.int64,
        )

    def replace(self, ports: Ports) -> None:
        """Go by another registry."""
        self._ports, self._codes, self._corrections = ports, None, None

    def say_index(self, device: str, name: str, index: int) -> None:
        """Note which ifIndex a device gives an interface."""
        if self._index_of.get((device, name)) != index:
            self._index_of[device, name], self._name_of[device, index] = index, name
            self._codes = None

    def say_bundle(self, number: int, bundle: str) -> None:
        """Note which bundle a device says that an interface is a member of; empty for none."""
        self._bundle_of[self.interface(self._feeds[number])] = bundle

    def strays(self) -> list[str]:
        """Return the members of bundles that devices tell otherwise than the registry, in words."""
        return [
            f"{device}/{name} is in {bundle or 'no bundle'} by the device, in {known or 'none'} by the registry"
            for (device, name), bundle in sorted(self._bundle_of.items())
            if (device, name) in self._ports.names and (known := self._ports.bundles.get((device, name), "")) != bundle
        ]

    def say_speed(self, number: int, speed_bps: float) -> None:
        """Note the speed that a device says; 0 for unknown."""
        self._said_bps[number] = speed_bps

    def say_state(self, number: int, is_up: bool) -> None:
        """Note whether an interface is up."""
        self._up[number] = is_up

    def is_queue(self) -> NDArray[np.bool_]:
        """Tell which feeds are queues, shape (feeds,)."""
        return np.array([bool(feed.queue) for feed in self._feeds], np.bool_)

    def sources(self) -> NDArray[np.uint8]:
        """Return the CounterSource of every feed, shape (feeds,)."""
        if self._sources is None:
            self._sources = np.array([feed.source for feed in self._feeds], np.uint8)
        return self._sources

    def up(self) -> NDArray[np.uint8]:
        """Return whether each feed's interface is up: 1, 0, or 2 for unknown, shape (feeds,)."""
        return self._up[: len(self._feeds)]

    def speeds_bps(self) -> NDArray[np.float64]:
        """Return the speed of each feed's interface: by the device, else the registry; 0 unknown; shape (feeds,)."""
        said = self._said_bps[: len(self._feeds)]
        known = np.array([self._ports.speeds_bps.get(self.interface(feed), 0.0) for feed in self._feeds])
        return np.where(said > 0, said, known) if len(known) else said

    def corrections(self) -> NDArray[np.int64]:
        """Return the octets that each packet of a feed has more than its counters count, shape (feeds,)."""
        if self._corrections is None:
            self._corrections = np.array(
                [self._ports.corrections.get(feed.device, 0) for feed in self._feeds], np.int64
            )
        return self._corrections

    def interfaces(self) -> tuple[NDArray[np.int64], tuple[tuple[str, str], ...]]:
        """Return for each feed which interface it is of, shape (feeds,), and (device, interface) by that number."""
        if self._codes is None:
            numbers: dict[tuple[str, str], int] = {}
            codes = [numbers.setdefault(self.interface(feed), len(numbers)) for feed in self._feeds]
            self._codes, self._names = np.array(codes, np.int64), tuple(numbers)
        return self._codes, self._names

    def interface(self, feed: Feed) -> tuple[str, str]:
        """Return (device, interface) of a feed, by the registry's name where it has one."""
        device, port = feed.device, feed.port
        if isinstance(port, int):
            name = self._ports.by_index.get((device, port)) or self._name_of.get((device, port))
            return device, name or f"ifIndex {port}"
        if (device, port) in self._ports.names:
            return device, port
        index = self._index_of.get((device, port))
        return device, port if index is None else self._ports.by_index.get((device, index), port)
