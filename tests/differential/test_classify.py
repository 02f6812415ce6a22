"""The compiled classifier and its Python twin agree on any rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd._ext import is_disabled
from telemetryd.classify import reference
from telemetryd.classify.compile import compile_registry
from telemetryd.schema import CLASS_COLUMNS
from tests.small_city import AGENTS, Rows, small_city

if is_disabled():
    pytest.skip("TELEMETRYD_NO_EXT=1: there is nothing to compare", allow_module_level=True)

from telemetryd._ext import match

TABLES = compile_registry(small_city())
ADDRESSES = [
    "198.18.0.1", "198.18.4.9", "192.168.1.1", "172.16.0.10", "172.16.0.20", "172.16.0.77", "172.16.9.9",
    "192.0.2.1", "100.80.0.1", "203.0.113.7", "203.0.113.200", "10.9.8.7",
]  # fmt: skip
ADDRESSES6 = ["2001:db8:10::7", "2001:db8:a::10", "2001:db8:a::11", "3fff::1", "::"]
PORTS = [0, 53, 443, 16384, 20000, 32767, 32768, 50000, 65535]
INTERFACES = [0, 1, 2, 3, 4, 5, 10, 11, 77, 0x3FFFFFFF, 0xFFFFFFFF, 1285816721]

ROW = st.fixed_dictionaries(
    {
        "agent": st.sampled_from([*AGENTS, "192.0.2.98", "2001:db8::2"]),
        "ends": st.sampled_from([ADDRESSES, ADDRESSES6]).flatmap(
            lambda pool: st.tuples(st.sampled_from(pool), st.sampled_from(pool))
        )
        | st.just(("", "")),
        "input": st.sampled_from(INTERFACES),
        "output": st.sampled_from(INTERFACES),
        "input_format": st.sampled_from([0, 0, 0, 1, 2, 3, 255]),
        "output_format": st.sampled_from([0, 0, 0, 1, 2, 3, 255]),
        "source_class": st.sampled_from([0, 0, 0, 2, 0xFFFFFFFF]),
        "source_index": st.sampled_from([1, 2, 3, 5, 0xFFFFFFFF]),
        "vlan_id": st.sampled_from([0, 100, 210, 247, 4095, 65535]),
        "protocol": st.sampled_from([1, 6, 17, 132, 255]),
        "dscp": st.sampled_from([0, 8, 26, 63]),
        "source_port": st.sampled_from(PORTS),
        "destination_port": st.sampled_from(PORTS),
    }
)


@given(batches=st.lists(st.lists(ROW, max_size=12), min_size=1, max_size=3))
def test_compiled_equals_twin(batches: list[list[dict[str, object]]]) -> None:
    """Every class column and every unregistered port is equal, over several batches of one classifier."""
    rows = [Rows(), Rows()]
    classifiers = [
        kind(r.datagrams, r.samples, r.classes, TABLES)
        for kind, r in zip((match.Classifier, reference.Classifier), rows, strict=True)
    ]
    for batch in batches:
        for r, classifier in zip(rows, classifiers, strict=True):
            r.datagrams.n = r.samples.n = 0
            for row in batch:
                fields = {name: value for name, value in row.items() if name not in ("agent", "ends")}
                r.add(str(row["agent"]), *row["ends"], **fields)  # type: ignore[misc,arg-type]
            classifier.classify()
        for column in CLASS_COLUMNS:
            compiled, twin = (r.classes.rows()[column.name] for r in rows)
            np.testing.assert_array_equal(compiled, twin, err_msg=column.name)
    compiled_ports, twin_ports = (classifier.unregistered() for classifier in classifiers)
    for name, column_values in compiled_ports.items():
        np.testing.assert_array_equal(column_values, twin_ports[name], err_msg=name)
