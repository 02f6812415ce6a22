"""Render a report as one HTML page without any outside reference: it can be mailed, filed and printed."""

from __future__ import annotations

from importlib import resources

import jinja2
from markupsafe import Markup

from telemetryd.store.report import chart
from telemetryd.store.report.page import Cell, Chart, Column, Document, Paragraph, write


def render(document: Document) -> bytes:
    """Return the page, UTF-8. Every text is escaped, wherever it came from."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    source = resources.files("telemetryd.store.report").joinpath("templates/report.html.j2").read_text("utf-8")

    def cell(column: Column, value: Cell) -> tuple[str, str]:
        return write(document.words, column.kind, value)

    page = environment.from_string(source).render(
        document=document,
        language={"zh": "zh-CN"}.get(document.words.language, document.words.language),
        cell=cell,
        svg=lambda block: Markup(chart.svg(block)),
        is_chart=lambda block: isinstance(block, Chart),
        is_paragraph=lambda block: isinstance(block, Paragraph),
    )
    return page.encode()
