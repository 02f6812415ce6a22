"""The traffic that `telemetryd policy simulate` and `policy demand` work on: its options, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from zoneinfo import ZoneInfo

import typer

from telemetryd.cli.policy_options import moment
from telemetryd.errors import InputError

if TYPE_CHECKING:
    from telemetryd.assure.offered import Offered
    from telemetryd.registry.models import Registry

_NS: Final = 1_000_000_000
_LONG_NS: Final = 2 * 86_400 * _NS

Stored = Annotated[
    Path | None, typer.Option("--store", envvar="TELEMETRYD_STORE", help="Stored traffic.", show_default=False)
]
Captured = Annotated[
    list[Path] | None, typer.Option("--capture", help="Captured sFlow (repeatable).", show_default=False)
]


@dataclass(frozen=True)
class Source:
    """Where the traffic comes from, as it was asked for."""

    store: Path | None
    capture: list[Path] | None
    traffic: Path | None
    from_time: str | None
    to_time: str | None
    step: str | None

    def read(self, known: Registry, places: list[tuple[str, str, str]], zone: ZoneInfo) -> Offered:
        """Return the traffic of the links.

        Raises
        ------
        InputError
            If none of the three sources is given, or more than one, or its range means nothing.
        """
        # A store may come from the environment; the other two are said only if they are meant.
        if self.capture and self.traffic is not None:
            raise InputError("--capture and --traffic are two sources: give one of them")
        if self.traffic is not None:
            return self._modelled(known, places, zone)
        if self.capture:
            return self._captured(known, places, zone)
        if self.store is None:
            raise InputError("say which traffic: --store DIR or --capture FILE (`simulate` also takes --traffic DIR)")
        return self._stored(self.store, known, places, zone)

    def _modelled(self, known: Registry, places: list[tuple[str, str, str]], zone: ZoneInfo) -> Offered:
        from telemetryd.assure.modelled import Modelled
        from telemetryd.store.offered import MOST_STEPS

        if self.from_time is None or self.to_time is None:
            raise InputError("--traffic knows any time: say which, with --from and --to")
        begin, end = (
            round(moment(text, zone, option).timestamp()) * _NS
            for text, option in ((self.from_time, "--from"), (self.to_time, "--to"))
        )
        step_ns = self._step_ns(end - begin)
        steps = (end - begin) // step_ns
        if not 1 <= steps <= MOST_STEPS:
            raise InputError(f"--from and --to hold {steps} steps: 1 to {MOST_STEPS:,} can be simulated")
        assert self.traffic is not None
        return Modelled(known, self.traffic).offered(places, begin, steps, step_ns / _NS)

    def _captured(self, known: Registry, places: list[tuple[str, str, str]], zone: ZoneInfo) -> Offered:
        from tempfile import TemporaryDirectory

        from telemetryd.classify.compile import compile_registry
        from telemetryd.pipeline import Pipeline
        from telemetryd.replay import Replay
        from telemetryd.store.embedded import Store

        files = self.capture or []
        with TemporaryDirectory(prefix="telemetryd-simulate-") as directory:
            options: dict[str, Any] = {} if len(files) == 1 else {"tolerance_ns": None}
            replay = Replay(files, Pipeline(compile_registry(known), **options))
            with Store.open(Path(directory), mode="write") as opened:
                replay.store = opened
                replay.run()
            return self._stored(Path(directory), known, places, zone)

    def _stored(self, where: Path, known: Registry, places: list[tuple[str, str, str]], zone: tzinfo) -> Offered:
        from telemetryd.store.cover import data_range
        from telemetryd.store.embedded import Store
        from telemetryd.store.offered import stored
        from telemetryd.store.when import parse_time

        opened = Store.open(where, mode="read")
        held = opened.read(lambda snapshot: data_range(snapshot.manifest))
        if held is None:
            raise InputError(f"the store {where} is empty: fill it with `telemetryd replay`")
        begin, end = (
            None if text is None else parse_time(text, held[1], zone) for text in (self.from_time, self.to_time)
        )
        length = (held[1] if end is None else end) - (held[0] if begin is None else begin)
        return stored(opened, known, places, begin, end, self._step_ns(length))

    def _step_ns(self, length_ns: int) -> int:
        from telemetryd.store.when import parse_duration

        if self.step is None:
            return (5 if length_ns > _LONG_NS else 1) * 60 * _NS
        step_ns = parse_duration(self.step)
        if not _NS <= step_ns <= 3600 * _NS:
            raise InputError(f"--step {self.step}: write 1s to 1h")
        return step_ns
