"""The answer of `telemetryd query top --pooled`: usage of links by the samples of both ends of their cables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from telemetryd.cli.output import Format
    from telemetryd.cli.query import Question

FIGURES: Final = ("rate_bps", "low_bps", "high_bps", "octets", "raw_rate_bps", "raw_octets", "samples", "share")


def top(question: Question, by: Sequence[str], registry: Path | None, n: int, form: Format, calibrated: bool) -> None:
    """Show the keys of most volume.

    Raises
    ------
    InputError
        If no registry is given, or calibrated figures are wanted, too.
    """
    from telemetryd.cli import output
    from telemetryd.errors import InputError
    from telemetryd.registry.cables import cables
    from telemetryd.registry.load import load_registry
    from telemetryd.store import pooled
    from telemetryd.store.when import format_time

    if registry is None:
        raise InputError("--pooled has to know the cables: --registry DIR, or set TELEMETRYD_REGISTRY")
    if calibrated:
        raise InputError("--pooled and --calibrated are two estimates: ask for one of them")
    answer = pooled.top(question.store, by, question.selection, cables(load_registry(registry)), n)
    begin, end = (format_time(moment, question.zone) for moment in (answer.from_ns, answer.to_ns))
    match form:
        case output.Format.JSON:
            head = {"query": "top", "pooled": True, "table": question.selection.table, "from": begin, "to": end}
            head |= {"seconds": (answer.to_ns - answer.from_ns) / 1e9, "confidence": question.selection.confidence}
            output.write_json({**head, "by": list(answer.by), "rows": answer.rows, "places": answer.places})
        case output.Format.CSV:
            output.write_csv(answer.rows, [*answer.by, *FIGURES, "folded"])
        case _:
            fields = [
                *map(output.text, answer.by),
                output.rate("rate"),
                output.interval(),
                output.rate("by its own samples", "raw_rate_bps"),
                output.count("samples"),
                output.share(),
            ]
            output.show_table(fields, answer.rows, f"{question.selection.table}, both ends: {begin} to {end}")
            states = [place["state"] for place in answer.places]
            if alone := states.count("alone"):
                output.note(f"{alone} of {len(states)} links and directions have no other end that tells of them")
            if apart := states.count("disagree"):
                output.note(f"the ends of {apart} links and directions disagree: only their own samples are taken")
