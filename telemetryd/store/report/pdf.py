"""Render a report as PDF: A4 across, a page for each section, invariant so that it repeats byte for byte.

Chinese is set in STSong-Light, one of the fonts that PDF readers bring along (Adobe's Asian font packs); all
else in Helvetica. No font file is shipped or embedded.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import Any, Final

from reportlab.graphics.shapes import Drawing, Line, PolyLine, String
from reportlab.lib.colors import Color, HexColor
from reportlab.lib.pagesizes import A4, landscape
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
)
from reportlab.platypus import Table as Grid

from telemetryd.store.report import chart as charts
from telemetryd.store.report import page
from telemetryd.store.report.page import Chart, Column, Document, Section, Table

CHINESE: Final = "STSong-Light"
LATIN: Final = "Helvetica"
_WIDE_FROM: Final = 0x2E80
#: What Helvetica's encoding (Windows-1252) holds beyond ASCII.
_LATIN_EXTRA: Final = frozenset("±·–—…×°§µ²³éèüöäßñ")
_MARGIN: Final = 30.0
_ROOM: Final = 70.0
"""What is left of a page below which a heading goes to the next one."""

_BLUE: Final = HexColor("#1f4e79")
_SOFT: Final = HexColor("#5f6b76")
_PALE: Final = HexColor("#f4f7fa")
_LINE: Final = HexColor("#dfe4e8")
_RED: Final = HexColor("#b3261e")
_WHITE: Final = HexColor("#ffffff")
_SIZE: Final = 7.2
_SMALL: Final = 6.0
_PADDING: Final = 3.0


def _style(name: str, size: float, colour: Color | None = None, **more: Any) -> ParagraphStyle:
    return ParagraphStyle(
        name, fontName=LATIN, fontSize=size, leading=size * 1.22, textColor=colour or HexColor("#1c2833"), **more
    )


_TITLE: Final = _style("title", 20, _BLUE)
_SUBTITLE: Final = _style("subtitle", 13, spaceAfter=4)
_SECTION: Final = _style(
    "section", 13, _WHITE, backColor=_BLUE, borderPadding=(3, 6, 4, 6), spaceBefore=6, spaceAfter=9
)
_HEADING: Final = _style("heading", 10, _BLUE, spaceBefore=6, spaceAfter=2)
_NOTE: Final = _style("note", 8, _SOFT, spaceAfter=3, wordWrap="CJK")
_WARNING: Final = _style("warning", 10, _RED, spaceBefore=4, spaceAfter=4)
_TEXT: Final = _style("text", 9, spaceAfter=4, wordWrap="CJK")
_LABEL: Final = _style("label", 8.5, _SOFT)
_VALUE: Final = _style("value", 8.5, wordWrap="CJK")
_CELL: Final = _style("cell", _SIZE)
_RIGHT: Final = _style("right", _SIZE, alignment=2)
_HEAD: Final = _style("head", _SIZE, _SOFT)
_HEAD_RIGHT: Final = _style("head_right", _SIZE, _SOFT, alignment=2)


def render(document: Document) -> bytes:
    """Return the PDF."""
    pdfmetrics.registerFont(UnicodeCIDFont(CHINESE))
    written = io.BytesIO()
    width, height = landscape(A4)
    template = BaseDocTemplate(
        written,
        pagesize=(width, height),
        invariant=1,
        title=f"{document.title} {document.subtitle}",
        author="telemetryd",
        subject=document.digest,
        creator="telemetryd",
        lang={"zh": "zh-CN"}.get(document.words.language, document.words.language),
    )
    frame = Frame(_MARGIN, _MARGIN, width - 2 * _MARGIN, height - 2 * _MARGIN, 0, 0, 0, 0)
    template.addPageTemplates(PageTemplate("page", frame, onPage=lambda canvas, _: _footer(canvas, document)))
    template.build(_story(document, width - 2 * _MARGIN))
    return written.getvalue()


def marked_up(text: str) -> str:
    """Return text as paragraph markup: escaped, and Chinese set in the Chinese font."""
    return "".join(
        f'<font name="{CHINESE}">{escape(run)}</font>' if is_wide else escape(run) for is_wide, run in runs(text)
    )


def runs(text: str) -> list[tuple[bool, str]]:
    """Cut text where its font changes: (is Chinese, run)."""
    found: list[tuple[bool, str]] = []
    for character in text:
        is_wide = ord(character) >= _WIDE_FROM or (ord(character) > 0x7E and character not in _LATIN_EXTRA)
        if found and found[-1][0] == is_wide:
            found[-1] = is_wide, found[-1][1] + character
        else:
            found.append((is_wide, character))
    return found


def _paragraph(text: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(marked_up(text), style)


def _footer(canvas: Canvas, document: Document) -> None:
    canvas.saveState()
    canvas.setFillColor(_SOFT)
    line = f"{document.title} · {document.subtitle} · SHA-256 {document.digest[:16]}"
    number = _placed(document.words("page", page=canvas.getPageNumber()), 7)
    right = landscape(A4)[0] - _MARGIN - sum(width for _, _, width in number)
    for place, text in ((_MARGIN, _placed(line, 7)), (right, number)):
        for run, font, width in text:
            canvas.setFont(font, 7)
            canvas.drawString(place, 18, run)
            place += width
    canvas.restoreState()


def _story(document: Document, width: float) -> list[Flowable]:
    story: list[Flowable] = [_paragraph(document.title, _TITLE), _paragraph(document.subtitle, _SUBTITLE)]
    if document.warning:
        story.append(_paragraph(document.warning, _WARNING))
    story.append(_facts(document.facts, width))
    for number, section in enumerate(document.sections):
        if number:
            story.append(PageBreak())
        story += _section(section, document, width)
    return story


def _section(section: Section, document: Document, width: float) -> list[Flowable]:
    story: list[Flowable] = [Spacer(0, 8), _paragraph(section.title, _SECTION)]
    if section.facts:
        story.append(_facts(section.facts, width))
    for block in section.blocks:
        if isinstance(block, page.Paragraph):
            story.append(_paragraph(block.text, _TEXT))
            continue
        story += [CondPageBreak(_ROOM), _paragraph(block.title, _HEADING)]
        if isinstance(block, Chart):
            story.append(_chart(block, width))
        else:
            story += _table(block, document, width)
    if section.key == "statements":
        for line in document.signatures:
            story += [Spacer(0, 22), _signature(line, width)]
    return story


def _facts(facts: Sequence[tuple[str, str]], width: float) -> Flowable:
    rows = [[_paragraph(label, _LABEL), _paragraph(value, _VALUE)] for label, value in facts]
    return Grid(
        rows,
        colWidths=[150, width - 150],
        hAlign="LEFT",
        style=[
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("TOPPADDING", (0, 0), (-1, -1), 0),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ],
    )


def _signature(labels: Sequence[str], width: float) -> Flowable:
    return Grid(
        [[_paragraph(f"{label}:", _TEXT) for label in labels]],
        colWidths=[width * share for share in (0.45, 0.25, 0.3)],
        rowHeights=[26],
        style=[("LINEBELOW", (0, 0), (-1, -1), 0.6, _SOFT), ("VALIGN", (0, 0), (-1, -1), "TOP")],
    )


def _table(table: Table, document: Document, width: float) -> list[Flowable]:
    story: list[Flowable] = [_paragraph(table.note, _NOTE)] if table.note else []
    if not table.rows:
        return story
    shown = [
        [page.write(document.words, column.kind, cell) for column, cell in zip(table.columns, row, strict=True)]
        for row in table.rows
    ]
    head = [_paragraph(column.title, _HEAD if column.kind == page.TEXT else _HEAD_RIGHT) for column in table.columns]
    widths = _widths(table.columns, shown, width)
    body = [[_cell(*cell) for cell in zip(table.columns, row, widths, strict=True)] for row in shown]
    grid = Grid(
        [head, *body],
        colWidths=widths,
        repeatRows=1,
        style=[
            ("VALIGN", (0, 0), (-1, 0), "BOTTOM"),
            ("VALIGN", (0, 1), (-1, -1), "TOP"),
            ("LINEBELOW", (0, 0), (-1, 0), 1.2, _LINE),
            ("LINEBELOW", (0, 1), (-1, -1), 0.5, _LINE),
            ("ROWBACKGROUNDS", (0, 1), (-1, -1), [_WHITE, _PALE]),
            ("TOPPADDING", (0, 0), (-1, -1), 1),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
            ("LEFTPADDING", (0, 0), (-1, -1), _PADDING),
            ("RIGHTPADDING", (0, 0), (-1, -1), _PADDING),
        ],
    )
    return [*story, grid]


class _Lines(Flowable):  # type: ignore[misc]
    """Lines that fit where they stand, drawn as they are: setting each figure as a paragraph takes most of the time."""

    def __init__(self, lines: Sequence[tuple[str, float, Color]], *, is_right: bool) -> None:
        super().__init__()
        self._lines = [(_placed(text, size), size, colour) for text, size, colour in lines]
        self._is_right = is_right

    def needed(self) -> float:
        """Return the width of the longest line."""
        return max(sum(width for _, _, width in runs) for runs, _, _ in self._lines)

    def wrap(self, width: float, height: float) -> tuple[float, float]:
        """Take the width of the cell."""
        self.width, self.height = width, _CELL.leading * len(self._lines)
        return self.width, self.height

    def draw(self) -> None:
        """Draw line after line, run after run."""
        y = self.height
        for line, size, colour in self._lines:
            x = self.width - sum(width for _, _, width in line) if self._is_right else 0.0
            self.canv.setFillColor(colour)
            for run, font, width in line:
                self.canv.setFont(font, size)
                self.canv.drawString(x, y - size, run)
                x += width
            y -= _CELL.leading


def _placed(text: str, size: float) -> list[tuple[str, str, float]]:
    """Cut text where its font changes: (run, font, width)."""
    fonts = ((run, CHINESE if is_wide else LATIN) for is_wide, run in runs(text))
    return [(run, font, pdfmetrics.stringWidth(run, font, size)) for run, font in fonts]


def _cell(column: Column, texts: tuple[str, str], width: float) -> Flowable | str:
    shown, small = texts
    if not shown:
        return ""
    is_right = column.kind != page.TEXT
    second = [(small, _SMALL, _SOFT)] if small else []
    lines = _Lines([(shown, _SIZE, _CELL.textColor), *second], is_right=is_right)
    if lines.needed() <= width - 2 * _PADDING:
        return lines
    markup = marked_up(shown)
    if small:
        markup += f'<br/><font size="{_SMALL:g}" color="#5f6b76">{marked_up(small)}</font>'
    return Paragraph(markup, _RIGHT if is_right else _CELL)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[tuple[str, str]]], width: float) -> list[float]:
    """Share the width out by what the cells need, within reason."""
    wanted = []
    for place, column in enumerate(columns):
        cells = [row[place] for row in rows]
        longest = max(max(charts.text_width(shown, _SIZE), charts.text_width(small, _SMALL)) for shown, small in cells)
        heading = charts.text_width(column.title, _SIZE)
        wanted.append(min(max(longest, heading / 2, 24.0) + 8, 190.0))
    # Figures keep what they need; text takes up the slack, or gives way.
    slack = width - sum(wanted)
    flexible = [place for place, column in enumerate(columns) if column.kind == page.TEXT] or [0]
    whole = sum(wanted[place] for place in flexible)
    if slack < 0 and whole + slack < 0.4 * whole:
        return [one * width / sum(wanted) for one in wanted]
    if slack > 0:
        return [one * width / sum(wanted) for one in wanted]
    return [one + slack * one / whole if place in flexible else one for place, one in enumerate(wanted)]


def _chart(chart: Chart, width: float) -> Drawing:
    height = 104.0
    placed = charts.draw(chart, width, height)
    drawing = Drawing(width, height)

    def line(x1: float, y1: float, x2: float, y2: float, colour: str, thick: float, dash: Any = None) -> None:
        drawing.add(
            Line(
                x1, height - y1, x2, height - y2, strokeColor=HexColor(colour), strokeWidth=thick, strokeDashArray=dash
            )
        )

    right = width - charts.RIGHT
    for label, y in placed.rows:
        line(charts.LEFT, y, right, y, charts.GRID, 0.5)
        _string(drawing, charts.LEFT - 4, height - y - 2.5, label, 7, is_right=True)
    for label, x in placed.days:
        _string(drawing, x, 5, label, 7)
    for colour, stretches in zip(charts.COLOURS, placed.lines, strict=False):
        for stretch in stretches:
            points = [value for x, y in stretch for value in (x, height - y)]
            # A stretch of one point is drawn as a dot.
            points = points if len(stretch) > 1 else [*points, points[0] + 0.8, points[1]]
            drawing.add(PolyLine(points, strokeColor=HexColor(colour), strokeWidth=0.9))
    for colour, (_, y) in zip(charts.LEVEL_COLOURS, placed.levels, strict=False):
        line(charts.LEFT, y, right, y, colour, 0.8, [4, 2])
    place = charts.LEFT
    for colour, name in charts.legend(chart):
        line(place, 7, place + 14, 7, colour, 1.6)
        place = _string(drawing, place + 18, height - 9.5, name, 7) + 16
    return drawing


def _string(drawing: Drawing, x: float, y: float, text: str, size: float, *, is_right: bool = False) -> float:
    """Write text into a drawing; return where it ends."""
    parts = _placed(text, size)
    if is_right:
        x -= sum(width for _, _, width in parts)
    for run, font, width in parts:
        drawing.add(String(x, y, run, fontName=font, fontSize=size, fillColor=_SOFT))
        x += width
    return x
