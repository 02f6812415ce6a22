"""Classification of samples, row by row: the Python twin, and the specification, of ``ext/match.pyx``.

A row is classified in four steps:

1. **Interfaces.** ``input`` and ``output`` name a port when their format is 0 and their value is neither
   0 (unknown) nor the internal interface. What they do not name is kept apart: a discarded or multicast
   output books nothing, and an exporter that reports neither side is found by its data source (the
   registry's source map). A device that samples in both directions is counted at the port where the
   sample was taken, so that a packet counts once a direction.
2. **Ends.** Both addresses are looked up in the routing instance that the ingress port (or else the
   VLAN) belongs to, then in the common table.
3. **Application.** Each end's rule group is asked with its (protocol, port). Where both ends answer, the
   more specific rule wins; at equal rank the lower port, then the lower address, then the destination.
4. **Direction and departments**, as :class:`telemetryd.schema.Direction` and docs/architecture.md say.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.classify.tables import (
    APPLICATION_LABELLED,
    APPLICATION_UNCLASSIFIED,
    DEPARTMENT_UNKNOWN,
    EMPTY,
    INTERNAL_INTERFACE,
    INTERNAL_INTERFACE_EXPANDED,
    Counts,
    Faces,
    Place,
    Sampling,
    Tables,
    address_hash,
    mix,
    source_key,
)
from telemetryd.classify.trie import lookup
from telemetryd.schema import Batch, Direction

MAX_AGENTS: Final = 4096
MAX_LINKS: Final = 65536

ALL_COUNTS: Final = Counts.EXIT | Counts.UPLINK | Counts.INTERNAL


class Classifier:
    """Fill the class columns of a batch from its sample columns.

    Parameters
    ----------
    datagrams, samples, classes:
        Batches of ``DATAGRAM_COLUMNS``, ``SAMPLE_COLUMNS`` and ``CLASS_COLUMNS``; the last two
        have one capacity.
    tables:
        What the registry was compiled to.

    Ports that the registry does not know get a link code of their own, numbered from
    ``len(tables.names.links)`` on in the order of their appearance; see :meth:`unregistered`.
    """

    def __init__(self, datagrams: Batch, samples: Batch, classes: Batch, tables: Tables) -> None:
        if samples.capacity != classes.capacity:
            raise ValueError("samples and classes differ in capacity")
        self._datagrams = datagrams
        self._samples = samples
        self._classes = classes
        self._tables = tables
        self._first_link = len(tables.names.links)
        self._unknown_agents: dict[tuple[int, int, int], int] = {}
        self._links: dict[tuple[int, int], int] = {}

    def classify(self) -> None:
        """Classify the valid rows of the sample batch; sets ``classes.n``."""
        agents = [self._device(row) for row in range(self._datagrams.n)]
        for row in range(self._samples.n):
            self._classify_row(row, agents[int(self._samples["datagram"][row])])
        self._classes.n = self._samples.n

    @property
    def unregistered_count(self) -> int:
        """Number of ports that got a link code of their own."""
        return len(self._links)

    def unregistered(self) -> dict[str, NDArray[np.uint64]]:
        """Describe the ports that got a link code of their own, in the order of their codes.

        Returns columns of shape (l,): ``device`` (row of the registry's devices, 0 = unknown agent),
        ``agent_version``, ``agent_hi``, ``agent_lo`` (of unknown agents) and ``if_index``.
        """
        by_slot = {slot: agent for agent, slot in self._unknown_agents.items()}
        by_slot[MAX_AGENTS] = (0, 0, 0)
        rows = []
        for device, if_index in self._links:
            if device < len(self._tables.device_names):
                rows.append((device, 0, 0, 0, if_index))
            else:
                rows.append((0, *by_slot[device - len(self._tables.device_names)], if_index))
        array = np.array(rows, dtype=np.uint64).reshape(-1, 5)
        keys = ("device", "agent_version", "agent_hi", "agent_lo", "if_index")
        return {key: np.ascontiguousarray(array[:, column]) for column, key in enumerate(keys)}

    # --- interfaces ---------------------------------------------------------------------------------

    def _device(self, row: int) -> int:
        """Return the device row of a datagram's agent; unknown agents are numbered behind the devices."""
        columns = self._datagrams
        agent = (
            int(columns["agent_version"][row]),
            int(columns["agent_hi"][row]),
            int(columns["agent_lo"][row]),
        )
        device = _find_address(self._tables.agent_keys, self._tables.agent_devices, agent)
        if device:
            return device
        known = self._unknown_agents.get(agent)
        if known is None:
            if len(self._unknown_agents) == MAX_AGENTS:
                known = MAX_AGENTS
            else:
                known = len(self._unknown_agents)
                self._unknown_agents[agent] = known
        return len(self._tables.device_names) + known

    def _interface(self, device: int, if_index: int) -> int:
        return _find(self._tables.interface_keys, self._tables.interface_rows, device << 32 | if_index)

    def _link(self, interface: int, device: int, if_index: int) -> int:
        """Return the link code of a port, giving unregistered ports one of their own."""
        if interface:
            return int(self._tables.interface_link[interface])
        key = (device, if_index)
        code = self._links.get(key)
        if code is None:
            if len(self._links) == MAX_LINKS:
                return 0
            code = self._first_link + len(self._links)
            self._links[key] = code
        return code

    # --- one row ------------------------------------------------------------------------------------

    def _classify_row(self, row: int, device: int) -> None:
        tables = self._tables
        sample = {name: int(column[row]) for name, column in self._samples.columns.items()}
        registered = device < len(tables.device_names)
        input_known = _is_port(sample["input_format"], sample["input"])
        output_known = _is_port(sample["output_format"], sample["output"])
        input_row = self._interface(device, sample["input"]) if input_known and registered else 0
        output_row = self._interface(device, sample["output"]) if output_known and registered else 0
        count_in, count_out = input_known, output_known
        sampling = int(tables.device_sampling[device]) if registered else Sampling.INGRESS
        if sampling == Sampling.BOTH and input_known and output_known:
            taken_out = (
                sample["source_class"] == 0
                and sample["source_index"] == sample["output"]
                and sample["source_index"] != sample["input"]
            )
            count_in, count_out = not taken_out, taken_out
        mapped = 0
        if not input_known and not output_known and registered:
            key = source_key(device, sample["source_class"], sample["source_index"])
            mapped = _find(tables.source_keys, tables.source_interfaces, key)

        ingress = input_row or mapped
        instance = int(tables.interface_instance[ingress])
        if not instance:
            vlan = sample["vlan_id"]
            instance = int(tables.vlan_instance[vlan if vlan < 4096 else 0])

        department = peer = DEPARTMENT_UNKNOWN
        application = APPLICATION_UNCLASSIFIED
        source_zone = destination_zone = 0
        direction = Direction.UNKNOWN
        category = int(ALL_COUNTS)
        if tables.interface_labelled[ingress]:
            application = APPLICATION_LABELLED
        elif sample["ip_version"]:
            source = self._leaf(instance, sample["ip_version"], sample["source_hi"], sample["source_lo"])
            destination = self._leaf(instance, sample["ip_version"], sample["destination_hi"], sample["destination_lo"])
            source_zone = int(tables.leaf_zone[source])
            destination_zone = int(tables.leaf_zone[destination])
            application, server = self._application(sample, source, destination)
            source_inside = tables.leaf_place[source] == Place.INSIDE
            destination_inside = tables.leaf_place[destination] == Place.INSIDE
            places = {int(tables.leaf_place[source]), int(tables.leaf_place[destination])}
            if places == {Place.INSIDE}:
                category = Counts.INTERNAL
            elif Place.UNREGISTERED in places or Place.INTERNET in places:
                category = Counts.EXIT
            else:
                category = Counts.UPLINK
            if source_inside and destination_inside:
                direction = Direction.INTERNAL
            elif destination_inside:
                direction = Direction.INBOUND
            elif source_inside:
                direction = Direction.OUTBOUND
            else:
                direction = Direction.TRANSIT
            source_department = int(tables.leaf_department[source])
            destination_department = int(tables.leaf_department[destination])
            owner = int(tables.application_owner[application])
            if owner and server == SOURCE:
                source_department = owner
            elif owner and server == DESTINATION:
                destination_department = owner
            if server == NEITHER:
                # Nobody is known to serve: the client is taken to be the end with the higher port.
                server = SOURCE if sample["source_port"] < sample["destination_port"] else DESTINATION
            if direction == Direction.INBOUND or (direction == Direction.INTERNAL and server == SOURCE):
                department, peer = destination_department, source_department
            else:
                department, peer = source_department, destination_department

        link_in = self._link(input_row, device, sample["input"]) if count_in else 0
        link_out = self._link(output_row, device, sample["output"]) if count_out else 0
        meter = 0
        if count_in and int(tables.interface_counts[input_row]) & category:
            meter = int(tables.interface_metering[input_row])
        elif count_out and int(tables.interface_counts[output_row]) & category:
            meter = int(tables.interface_metering[output_row])
        if mapped:
            faces = int(tables.interface_faces[mapped])
            # Which way the packet crossed the port follows from which of its ends lies beyond it.
            inward = (direction == Direction.INBOUND) if faces != Faces.INSIDE else (direction == Direction.OUTBOUND)
            outward = (direction == Direction.OUTBOUND) if faces != Faces.INSIDE else (direction == Direction.INBOUND)
            link_in = int(tables.interface_link[mapped]) if inward else 0
            link_out = int(tables.interface_link[mapped]) if outward else 0
            if int(tables.interface_counts[mapped]) & category:
                meter = int(tables.interface_metering[mapped])

        out = self._classes
        out["link_in"][row] = link_in
        out["link_out"][row] = link_out
        out["metering_point"][row] = meter
        out["direction"][row] = direction
        out["department"][row] = department
        out["peer_department"][row] = peer
        out["application"][row] = application
        out["source_zone"][row] = source_zone
        out["destination_zone"][row] = destination_zone
        out["service_class"][row] = tables.dscp_class[sample["dscp"] & 63] if sample["ip_version"] else 0

    # --- ends ---------------------------------------------------------------------------------------

    def _leaf(self, instance: int, version: int, hi: int, lo: int) -> int:
        roots, nodes = self._tables.trie_roots, self._tables.trie_nodes
        host_keys, host_leaves = self._tables.host_keys, self._tables.host_leaves
        address = lo.to_bytes(4, "big") if version == 4 else (hi << 64 | lo).to_bytes(16, "big")
        family = 0 if version == 4 else 1
        for table in (instance, 0) if instance else (0,):
            host = _find_address(host_keys, host_leaves, (table << 8 | version, hi, lo)) if version == 6 else 0
            if host:
                return host
            leaf = lookup(nodes, int(roots[table, family]), address)
            if leaf:
                return leaf
        return 0

    def _application(self, sample: dict[str, int], source: int, destination: int) -> tuple[int, int]:
        """Return (application code, which end serves it)."""
        protocol = sample["protocol"]
        forward = self._rule(destination, protocol << 16 | sample["destination_port"])
        backward = self._rule(source, protocol << 16 | sample["source_port"])
        if not forward[1] and not backward[1]:
            return APPLICATION_UNCLASSIFIED, NEITHER
        if forward[1] != backward[1]:
            backward_wins = backward[1] > forward[1]
        elif sample["source_port"] != sample["destination_port"]:
            backward_wins = sample["source_port"] < sample["destination_port"]
        else:
            source_address = (sample["source_hi"], sample["source_lo"])
            backward_wins = source_address < (sample["destination_hi"], sample["destination_lo"])
        return (backward[0], SOURCE) if backward_wins else (forward[0], DESTINATION)

    def _rule(self, leaf: int, key: int) -> tuple[int, int]:
        """Return (application, rank) of the rule interval that holds ``protocol << 16 | port``."""
        tables = self._tables
        group = int(tables.leaf_group[leaf])
        first, last = int(tables.rule_starts[group]), int(tables.rule_starts[group + 1])
        index = bisect_right(tables.rule_keys, key, first, last) - 1
        if index < first:
            return 0, 0
        return int(tables.rule_applications[index]), int(tables.rule_ranks[index])


NEITHER: Final = 0
SOURCE: Final = 1
DESTINATION: Final = 2


def _is_port(interface_format: int, value: int) -> bool:
    return interface_format == 0 and value not in (0, INTERNAL_INTERFACE, INTERNAL_INTERFACE_EXPANDED)


def _find(keys: NDArray[np.uint64], rows: NDArray[np.uint32], key: int) -> int:
    """Look ``key`` up in an open-addressing table; 0 where it is not."""
    mask = len(keys) - 1
    slot = mix(key) & mask
    while int(keys[slot]) != EMPTY:
        if int(keys[slot]) == key:
            return int(rows[slot])
        slot = (slot + 1) & mask
    return 0


def _find_address(keys: NDArray[np.uint64], rows: NDArray[np.uint32], key: tuple[int, int, int]) -> int:
    """Look (scope, hi, lo) up in an open-addressing table; 0 where it is not."""
    mask = len(keys) - 1
    slot = address_hash(*key) & mask
    while int(keys[slot, 0]) != EMPTY:
        if (int(keys[slot, 0]), int(keys[slot, 1]), int(keys[slot, 2])) == key:
            return int(rows[slot])
        slot = (slot + 1) & mask
    return 0
