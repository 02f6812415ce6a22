"""Answers of `telemetryd query` with `--calibrated`: usage whose classes sum to the counter of each link."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from telemetryd.cli.output import Format
    from telemetryd.cli.query import Question
    from telemetryd.store.calibrated import CalibratedAnswer

FIGURES: Final = ("rate_bps", "low_bps", "high_bps", "octets", "raw_rate_bps", "raw_octets", "samples", "share")


def top(question: Question, by: Sequence[str], n: int, form: Format) -> None:
    """Show the keys of most volume."""
    from telemetryd.cli import output
    from telemetryd.store import calibrated

    answer = calibrated.top(question.store, by, question.selection, n)
    if form is not output.Format.TABLE:
        _write(question, "top", answer, answer.rows, form)
        return
    fields = [*map(output.text, answer.by), *_figures(), output.share()]
    output.show_table(fields, answer.rows, _title(question, answer))
    _remark(answer)


def series(question: Question, by: Sequence[str], bucket_ns: int | None, n: int, form: Format) -> None:
    """Show the traffic through time."""
    from telemetryd.cli import output
    from telemetryd.store import calibrated
    from telemetryd.store.when import format_time

    answer = calibrated.series(question.store, by, question.selection, bucket_ns, n)
    rows = [
        {"time": format_time(row["time_ns"], question.zone)}
        | {name: value for name, value in row.items() if name != "time_ns"}
        for row in answer.rows
    ]
    if form is not output.Format.TABLE:
        _write(question, "series", answer, rows, form)
        return
    if answer.by:
        output.show_pivot(rows, ("time",), answer.by, _title(question, answer))
    else:
        output.show_table([output.text("time"), *_figures()], rows, _title(question, answer))
    _remark(answer)


def matrix(question: Question, down: str, across: str, most: tuple[int, int], form: Format) -> None:
    """Show one key against another."""
    from telemetryd.cli import output
    from telemetryd.store import calibrated

    answer = calibrated.matrix(question.store, down, across, question.selection, *most)
    if form is not output.Format.TABLE:
        _write(question, "matrix", answer, answer.rows, form)
        return
    margins = [{**row, across: "total"} for row in answer.margins[down]]
    output.show_pivot([*answer.rows, *margins], (down,), (across,), _title(question, answer))
    _remark(answer)


def _write(
    question: Question, name: str, answer: CalibratedAnswer, rows: Sequence[dict[str, Any]], form: Format
) -> None:
    from telemetryd.cli import output
    from telemetryd.store.when import format_time

    if form is output.Format.CSV:
        times = [] if answer.bucket_ns is None else ["time"]
        output.write_csv(rows, [*times, *answer.by, *FIGURES, "folded"])
        return
    document: dict[str, Any] = {
        "query": name,
        "calibrated": True,
        "table": question.selection.table,
        "from": format_time(answer.from_ns, question.zone),
        "to": format_time(answer.to_ns, question.zone),
        "seconds": (answer.to_ns - answer.from_ns) / 1e9,
        "bucket_s": None if answer.bucket_ns is None else answer.bucket_ns / 1e9,
        "confidence": question.selection.confidence,
        "by": list(answer.by),
        "rows": list(rows),
        "places": answer.places,
    }
    output.write_json(document | ({"margins": answer.margins} if answer.margins else {}))


def _figures() -> list[Any]:
    from telemetryd.cli import output

    return [
        output.rate("rate"),
        output.interval(),
        output.rate("by samples alone", "raw_rate_bps"),
        output.count("samples"),
    ]


def _title(question: Question, answer: CalibratedAnswer) -> str:
    from telemetryd.store.when import format_time

    begin, end = (format_time(moment, question.zone) for moment in (answer.from_ns, answer.to_ns))
    return f"{question.selection.table}, calibrated: {begin} to {end}"


def _remark(answer: CalibratedAnswer) -> None:
    from telemetryd.cli.output import note

    without = sum(place["estimator"] == "none" for place in answer.places)
    if without:
        note(f"{without} of {len(answer.places)} links and directions have no counter in this range")
    ratios = sum(place["estimator"] == "ratio" for place in answer.places)
    if ratios:
        note(f"{ratios} by the ratio alone, as the coverage alarm fired (`telemetryd coverage`)")
