"""Find who sent which datagram and where its samples lie, for many datagrams at once.

Positions and lengths only, as in the sFlow v5 specification, section "Datagram": what damaged datagrams
claim is believed as far as they reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import numpy as np
from numpy.typing import NDArray

from telemetryd.ingest.generate.wire import Agents, Datagrams

SFLOW_VERSION: Final = 5
FLOW_FORMATS: Final = (1, 3)  # flow_sample, flow_sample_expanded
COUNTERS_FORMATS: Final = (2, 4)
_ADDRESS_OCTETS: Final = {1: 4, 2: 16}  # by address type
_VERSIONS: Final = {1: 4, 2: 6}
_SAMPLE_HEADER: Final = 8  # data_format, length
_MOST_SAMPLES: Final = 512


@dataclass(frozen=True, slots=True, order=True)
class Exporter:
    """An (agent, sub-agent)."""

    agent: str
    sub_agent: int


@dataclass(frozen=True, slots=True)
class Walk:
    """What lies in d datagrams with s samples of exporters.

    Attributes
    ----------
    exporters:
        Who sent them, sorted.
    exporter:
        intp, shape (d,): row of ``exporters``, -1 where it is no sFlow v5 datagram.
    header:
        int64, shape (d,): octet of ``buffer`` at which the datagram's sub_agent_id lies, then its
        sequence_number and uptime.
    datagram, position, format:
        intp, int64 and uint32, shape (s,): each sample's datagram, the octet of ``buffer`` where its
        data begins (behind data_format and length), and its data_format.
    flow_samples, counters_samples:
        int64, shape (d,): how many of them each datagram has.
    """

    exporters: tuple[Exporter, ...]
    exporter: NDArray[np.intp]
    header: NDArray[np.int64]
    datagram: NDArray[np.intp]
    position: NDArray[np.int64]
    format: NDArray[np.uint32]
    flow_samples: NDArray[np.int64]
    counters_samples: NDArray[np.int64]


def walk(datagrams: Datagrams) -> Walk:
    """Walk through datagrams, all of them in step: a pass for each sample of the longest one."""
    buffer = datagrams.buffer
    start = datagrams.offsets.astype(np.int64)
    end = start + datagrams.lengths.astype(np.int64)
    exporter = np.full(len(start), -1, np.intp)
    header = np.zeros(len(start), np.int64)
    found: list[tuple[Exporter, NDArray[np.intp]]] = []

    long = np.flatnonzero(end - start >= 8)
    is_sflow = read_word(buffer, start[long]) == SFLOW_VERSION
    long = long[is_sflow]
    kind = read_word(buffer, start[long] + 4)
    for address_type, octets in _ADDRESS_OCTETS.items():
        rows = long[kind == address_type]
        header[rows] = start[rows] + 8 + octets
        rows = rows[end[rows] - header[rows] >= 16]  # sub_agent_id, sequence_number, uptime, samples
        places = start[rows, None] + 8 + 4 * np.arange(octets // 4 + 1)  # the address's words and the sub-agent
        identity, inverse = np.unique(read_word(buffer, places), axis=0, return_inverse=True)
        for row, words in enumerate(identity.tolist()):
            found.append((_exporter(_VERSIONS[address_type], words), rows[inverse.reshape(-1) == row]))
    found.sort(key=lambda one: one[0])
    for number, (_, rows) in enumerate(found):
        exporter[rows] = number

    live = np.flatnonzero(exporter >= 0)
    at = header[live] + 16
    left = read_word(buffer, at - 4).astype(np.int64)
    parts: list[tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.uint32]]] = []
    for _ in range(_MOST_SAMPLES):
        keeps = (left > 0) & (at + _SAMPLE_HEADER <= end[live])
        live, at, left = live[keeps], at[keeps], left[keeps]
        if not len(live):
            break
        data_format, length = read_word(buffer, at), read_word(buffer, at + 4).astype(np.int64)
        at = at + _SAMPLE_HEADER
        whole = at + length <= end[live]
        parts.append((live[whole], at[whole], data_format[whole]))
        live, at, left = live[whole], (at + length)[whole], left[whole] - 1
    datagram = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, np.intp)
    position = np.concatenate([part[1] for part in parts]) if parts else np.empty(0, np.int64)
    formats = np.concatenate([part[2] for part in parts]) if parts else np.empty(0, np.uint32)
    by_place = np.argsort(datagram, kind="stable")  # parts are in the order of samples
    exporters = tuple(one for one, _ in found)
    flow, counters = (
        np.bincount(datagram[np.isin(formats, kinds)], minlength=len(start)).astype(np.int64)
        for kinds in (FLOW_FORMATS, COUNTERS_FORMATS)
    )
    return Walk(exporters, exporter, header, datagram[by_place], position[by_place], formats[by_place], flow, counters)


def read_word(buffer: NDArray[np.uint8], position: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the big-endian 32-bit words at octets ``position``."""
    words = np.zeros(position.shape, np.uint32)
    for octet in range(4):
        words = words << np.uint32(8) | buffer[position + octet]
    return words


def exporters_of(agents: Agents) -> list[Exporter]:
    """Name the rows of a table of agents."""
    columns = (agents.version, agents.address_hi, agents.address_lo, agents.sub_agent_id)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [Exporter(_text(version, hi << 64 | lo), sub_agent) for version, hi, lo, sub_agent in rows]


def _exporter(version: int, words: list[int]) -> Exporter:
    *address_words, sub_agent = words
    address = 0
    for word in address_words:
        address = address << 32 | word
    return Exporter(_text(version, address), sub_agent)


def _text(version: int, address: int) -> str:
    return str(IPv4Address(address) if version == 4 else IPv6Address(address))
