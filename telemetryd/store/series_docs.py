"""Write the reference part of docs/series.md from the table of measurements.

``python -m telemetryd.store.series_docs docs/series.md`` brings the file up to date; a test fails while it is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from telemetryd.config.generated import replace_generated
from telemetryd.store.series import MEASUREMENTS, Measurement, Merge

BEGIN: Final = "<!-- generated from telemetryd/store/series.py: do not edit below -->\n"
_FOLDED: Final = {
    Merge.SUM: "added",
    Merge.LARGEST: "the largest",
    Merge.DERIVED: "computed anew",
}


def render_reference() -> str:
    """Return the reference of every measurement, as Markdown."""
    return "\n".join(_section(one) for one in MEASUREMENTS.values())


def update(text: str) -> str:
    """Return the document with its generated part replaced; InputError if it has no place for one."""
    return replace_generated(text, BEGIN, render_reference())


def _section(measurement: Measurement) -> str:
    tags = "".join(f"| `{tag.name}` | {tag.meaning} |\n" for tag in measurement.tags)
    fields = "".join(
        f"| `{field.name}` | {field.kind} | {field.unit} | {_FOLDED[field.merge]} | {field.meaning} |\n"
        for field in measurement.fields
    )
    return (
        f"## `{measurement.name}`\n\n{measurement.meaning}\n\n"
        f"| tag | meaning |\n| --- | --- |\n{tags}\n"
        f"| field | type | unit | of merged rows | meaning |\n| --- | --- | --- | --- | --- |\n{fields}"
    )


def main(arguments: list[str]) -> None:
    """Bring the document that is named on the command line up to date."""
    document = Path(arguments[0])
    document.write_text(update(document.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
