"""The example city's benchmark traffic at a set rate, and what of it was sent."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain, islice

from telemetryd.ingest.generate.loads import city_repeated
from telemetryd.ingest.generate.pace import Pace
from telemetryd.ingest.generate.send import Sending, Stretch, parse_target
from telemetryd.registry.locate import default_registry

STRETCH_SAMPLES = 200_000


class CityLoad:
    """Stretches of the same traffic, whose numbers go on from one to the next."""

    def __init__(self, port: int, stretch_samples: int = STRETCH_SAMPLES) -> None:
        stretches = city_repeated(default_registry(), stretch_samples, 1, 1_000_000.0)
        self._stretches = chain([next(stretches)], stretches)  # generating it takes long: now, not when it is due
        self._target = parse_target(f"127.0.0.1:{port}")
        self.by_agent: dict[str, int] = defaultdict(int)
        self.datagrams = 0
        self.samples = 0
        self.stretches = 0
        self._is_over = threading.Event()

    def stop(self) -> None:
        """End what is being sent with the stretch under way."""
        self._is_over.set()

    def send(self, stretches: int, pace: Pace) -> Sending:
        """Send so many stretches, fewer where it is stopped."""
        run = Sending(self._target, pace)
        run.run(self._next(stretches))
        assert not run.cut
        assert not run.refused
        for exporter, counts in run.agents.items():
            assert exporter is not None
            self.by_agent[exporter.agent] += counts.datagrams
        total = run.total()
        self.datagrams += total.datagrams
        self.samples += total.flow_samples
        return run

    def _next(self, count: int) -> Iterator[Stretch]:
        for _ in range(count):  # not islice alone: it would close the endless ones
            if self._is_over.is_set():
                return
            self.stretches += 1
            yield from islice(self._stretches, 1)


class Background(threading.Thread):
    """Stretches sent at a rate while something else happens."""

    def __init__(self, load: CityLoad, samples_per_s: float, stretches: int) -> None:
        super().__init__(daemon=True)
        self._load, self._pace, self._stretches = load, Pace(samples_per_s=samples_per_s), stretches
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._load.send(self._stretches, self._pace)
        except BaseException as failure:  # noqa: BLE001 - raised where it is waited for
            self.failure = failure

    def stop(self) -> None:
        """Send no more, and wait for the end."""
        self._load.stop()
        self.finish()

    def finish(self) -> None:
        """Wait for the end."""
        self.join()
        if self.failure is not None:
            raise self.failure
