"""Who may send: the registry's agents and those allowed besides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from telemetryd.classify.compile import compile_registry
from telemetryd.classify.tables import Tables
from telemetryd.errors import InputError
from telemetryd.ingest.sflow.receive import address_words
from telemetryd.live import LiveSettings
from telemetryd.live.settings import allowed_sources
from tests.small_city import small_city


@pytest.fixture(scope="module")
def tables() -> Tables:
    return compile_registry(small_city())


def test_the_registrys_agents_may_send(tables: Tables) -> None:
    """Every agent of a device is allowed, and nobody else."""
    addresses, prefixes = allowed_sources(LiveSettings(), tables)
    assert address_words("100.64.255.1") in addresses
    assert len(addresses) == np.count_nonzero(tables.agent_devices)
    assert prefixes == []


def test_others_are_allowed_besides(tables: Tables) -> None:
    """Single addresses join the agents; networks become masks, of both families."""
    settings = LiveSettings(also_from=("192.0.2.9", "127.0.0.0/8", "2001:db8:1::/48", "2001:db8::9"))
    addresses, prefixes = allowed_sources(settings, tables)
    assert {address_words("192.0.2.9"), address_words("2001:db8::9")} <= set(addresses)
    assert prefixes == [
        (4, 0, 0xFF000000, 0, 0x7F000000),
        (6, 0xFFFFFFFF_FFFF0000, 0, 0x20010DB8_00010000, 0),
    ]


def test_anybody_may_send_where_that_is_asked(tables: Tables) -> None:
    """Without the registry's list there is no list."""
    assert allowed_sources(LiveSettings(registered_only=False, also_from=("192.0.2.1",)), tables) == ([], [])


def test_a_registry_without_agents_allows_nobody(tables: Tables) -> None:
    """No agent is not the same as no list."""
    empty = replace(tables, agent_devices=np.zeros_like(tables.agent_devices))
    addresses, prefixes = allowed_sources(LiveSettings(), empty)
    assert (addresses, prefixes) == ([(0, 0, 0)], [])


def test_what_is_no_address_is_a_mistake(tables: Tables) -> None:
    """A host bit in a network or a name is refused with the text that was given."""
    for text in ("relay", "127.0.0.1/8"):
        with pytest.raises(InputError, match=text):
            allowed_sources(LiveSettings(also_from=(text,)), tables)
