"""Compiled modules and their twins: which one is taken, and that both know the schema's columns."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetryd import _ext
from telemetryd.classify.compile import compile_registry
from telemetryd.errors import ExtensionMissingError
from telemetryd.ingest.gnmi.paths import PathTable, Resolver
from telemetryd.schema import (
    CLASS_COLUMNS,
    COUNTER_COLUMNS,
    DATAGRAM_COLUMNS,
    SAMPLE_COLUMNS,
    TRACK_COLUMNS,
    UPDATE_COLUMNS,
    Batch,
    Column,
    UpdateBatch,
)
from tests.small_city import small_city

TWINS = {
    "accumulate": "telemetryd.aggregate.accumulate_reference",
    "capture": "telemetryd.ingest.capture_reference",
    "expand": "telemetryd.aggregate.expand",
    "gnmi_wire": "telemetryd.ingest.gnmi.gnmi_wire_reference",
    "group": "telemetryd.aggregate.group_reference",
    "http2_data": "telemetryd.ingest.gnmi.http2_data_reference",
    "line_protocol": "telemetryd.store.line_protocol",
    "match": "telemetryd.classify.reference",
    "receive": "telemetryd.ingest.sflow.receive",
    "send": "telemetryd.ingest.generate.send_reference",
    "series_keys": "telemetryd.store.series_keys",
    "sflow": "telemetryd.ingest.sflow.columns",
    "track": "telemetryd.ingest.sflow.sequence",
    "waterfill": "telemetryd.allocate.waterfill_reference",
}
SOURCES = Path(__file__).parents[2] / "ext"


def test_every_extension_has_a_twin() -> None:
    """Each ext/NAME.pyx is listed with its twin, and each has a stub."""
    assert {source.stem for source in SOURCES.glob("*.pyx")} == set(TWINS)
    for name in TWINS:
        assert (SOURCES.parent / "telemetryd" / "_ext" / f"{name}.pyi").exists()


@pytest.mark.parametrize("name", TWINS)
def test_the_switch_takes_the_twin(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """TELEMETRYD_NO_EXT=1 loads the twin; without it the compiled module is loaded."""
    monkeypatch.setenv("TELEMETRYD_NO_EXT", "1")
    assert _ext.load(name, TWINS[name]).__name__ == TWINS[name]
    monkeypatch.delenv("TELEMETRYD_NO_EXT")
    assert _ext.load(name, TWINS[name]).__name__ == f"telemetryd._ext.{name}"


@pytest.mark.parametrize("name", TWINS)
def test_the_twin_has_the_same_public_names(name: str) -> None:
    """Whatever a compiled module offers, its twin offers under the same name."""
    compiled = importlib.import_module(f"telemetryd._ext.{name}")
    twin = importlib.import_module(TWINS[name])
    own = {
        public
        for public, value in vars(compiled).items()
        if not public.startswith("_") and getattr(value, "__module__", "") == compiled.__name__
    }
    assert own
    assert own <= set(vars(twin))
    for public in own:
        if isinstance(getattr(compiled, public), type):
            # Attributes of the twin may be set by its __init__; methods and properties are on the class.
            kind = getattr(compiled, public)
            members = {m for m, value in vars(kind).items() if not m.startswith("_") and callable(value)}
            assert members <= set(dir(getattr(twin, public)))


def test_a_missing_extension_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the switch a module that was not built is never replaced in silence: the remedy is named."""
    monkeypatch.delenv("TELEMETRYD_NO_EXT", raising=False)
    with pytest.raises(ExtensionMissingError, match=r"make build.*TELEMETRYD_NO_EXT=1"):
        _ext.load("no_such_extension", "telemetryd.classify.reference")


def test_a_missing_extension_stops_a_command_without_a_traceback() -> None:
    """The command line says which module is missing, and fails."""
    code = (
        "import sys; sys.modules['telemetryd._ext.sflow'] = None\n"
        "from telemetryd.cli.main import main\n"
        f"main(['replay', {__file__!r}])"
    )
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(SOURCES.parent)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 1
    assert "telemetryd._ext" in result.stderr
    assert "Traceback" not in result.stderr


COLUMNS = [
    (kind, column)
    for kind, table in (
        ("datagrams", DATAGRAM_COLUMNS),
        ("samples", SAMPLE_COLUMNS),
        ("counters", COUNTER_COLUMNS),
        ("track", TRACK_COLUMNS),
        ("classes", CLASS_COLUMNS),
        ("updates", UPDATE_COLUMNS),
    )
    for column in table
]


@pytest.mark.parametrize(("kind", "column"), COLUMNS, ids=[f"{kind}.{column.name}" for kind, column in COLUMNS])
def test_compiled_stages_hold_the_schema_dtypes(kind: str, column: Column) -> None:
    """A column of another dtype than the schema's is refused by a compiled stage, not misread."""
    tables: dict[str, Any] = {
        "datagrams": DATAGRAM_COLUMNS,
        "samples": SAMPLE_COLUMNS,
        "counters": COUNTER_COLUMNS,
        "track": TRACK_COLUMNS,
        "classes": CLASS_COLUMNS,
    }
    batches = {name: Batch(table, 4096) for name, table in tables.items()}
    batches["updates"] = updates = UpdateBatch(4096, 1 << 16)
    wrong = "float32" if np.dtype(column.dtype) != np.float32 else "int8"
    batches[kind].columns[column.name] = np.zeros(4096, dtype=wrong)
    stages = {
        name: importlib.import_module(f"telemetryd._ext.{name}")
        for name in ("sflow", "track", "match", "accumulate", "gnmi_wire")
    }
    refused = 0
    for build in (
        lambda: stages["sflow"].Decoder(batches["datagrams"], batches["samples"], batches["counters"]),
        lambda: stages["track"].Tracker(batches["datagrams"], batches["samples"], batches["track"]),
        lambda: stages["match"].Classifier(
            batches["datagrams"], batches["samples"], batches["classes"], compile_registry(small_city())
        ),
        lambda: stages["accumulate"].Accumulator(
            batches["datagrams"], batches["samples"], batches["track"], batches["classes"]
        ),
        lambda: stages["gnmi_wire"].Decoder(updates, 0, Resolver(PathTable()), np.zeros(0, np.int64)),
    ):
        try:
            build()
        except ValueError as error:
            refused += 1
            assert "dtype" in str(error) or "Buffer" in str(error)
    assert refused
