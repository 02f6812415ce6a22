"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest

from tests.blocking import watched

# No test fails because the machine was busy: time is what benchmarks measure.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def no_blocking_call_in_an_event_loop() -> Iterator[None]:
    """Let a call of the package that blocks an event loop fail."""
    blockbuster = watched()
    blockbuster.activate()
    yield
    blockbuster.deactivate()
