"""The formats of a report: the same figures in each, both languages whole, and nothing in a name gets through."""

from __future__ import annotations

import csv
import io
import re
import string
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from pypdf import PdfReader

from telemetryd.errors import InputError
from telemetryd.store.embedded import Store
from telemetryd.store.report.build import build
from telemetryd.store.report.make import FORMATS, file_name, render, select
from telemetryd.store.report.messages import LANGUAGES, MESSAGES, Language, Words
from telemetryd.store.report.month import Month
from telemetryd.store.report.page import Table
from telemetryd.store.report.pages import lay_out
from tests.month_case import SHANGHAI, bins_of, fill, small_registry, traffic

pytestmark = pytest.mark.no_twins

Json = dict[str, Any]
EVIL = '=cmd|"/c calc"!A1 <script>alert(1)</script> & \x07'


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """A record of ten days of October, with a gap."""
    path = tmp_path_factory.mktemp("city")
    starts = bins_of("2026-10-03", 10)
    fill(path / "store", starts, traffic(starts))
    registry = small_registry(path / "registry")
    now = int(bins_of("2026-11-02", 1)[0])
    store = Store.open(path / "store", "read")
    return build(store, registry, Month.parse("2026-10", SHANGHAI), now, lambda month: None)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("department", [None, "tax"])
def test_the_same_record_gives_the_same_octets(
    record: Json, form: str, language: Language, department: str | None
) -> None:
    """Rendering again gives every octet again, with nothing of the present in it."""
    assert render(record, form, language, department) == render(record, form, language, department)


def test_every_message_is_in_both_languages() -> None:
    """Each message has a text in English and one in Chinese, with the same names to fill in."""
    for key, (en, zh) in MESSAGES.items():
        fields = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (en, zh)]
        assert en.strip() and zh.strip(), key
        assert fields[0] == fields[1], key
        assert not re.search("[一-鿿]", en), key
        if re.search("[A-Za-z]{2}", zh) is None and fields[1] != {"hour", "next"}:
            assert re.search("[一-鿿]", zh), key


def test_every_message_is_used() -> None:
    """No message is left over: each key stands in the code, whole or as the begin of one that is put together."""
    package = Path(__file__).parents[2] / "telemetryd" / "store" / "report"
    code = "".join(path.read_text(encoding="utf-8") for path in package.glob("*.py") if path.name != "messages.py")
    dynamic = ("chart_", "state_", "kind_", "reason_", "how_", "loss.", "strengthened", "transitional", "centralised")
    for key in MESSAGES:
        assert (
            re.search(f"[\"']{re.escape(key)}[\"']", code)
            or key.startswith(dynamic)
            or key in ("in", "out", "inbound", "outbound")
        ), key


def shown(record: Json, language: Language) -> set[str]:
    """Return every text of the tables of a report."""
    document = lay_out(record, Words(language))
    return {
        cell
        for section in document.sections
        for block in section.blocks
        if isinstance(block, Table)
        for row in block.rows
        for cell in row
        if isinstance(cell, str) and cell
    }


def test_html_is_whole_and_alone(record: Json) -> None:
    """The page refers to nothing outside, has a chart for each department seen, and its figures as text."""
    page = render(record, "html", "zh").decode()
    assert not re.search(r"(src|href)\s*=|url\(|@import", page)
    assert page.count("<svg") == page.count("</svg>") == 4  # the exit, two departments and what is unknown
    for text in (
        "带宽使用月报",
        "云海市",
        "市税务局",
        "95峰值",
        "网上办税",
        "制表",
        "审核",
        "环比",
        "盲点",
        "184天",
        "骨干（1条）：spare",
    ):
        assert text in page, text
    tax = next(entry for entry in record["departments"] if entry["name"] == "tax")
    mbps = tax["directions"]["in"]["p95_bps"]["value"] / 1e6
    assert f"{mbps:.1f} Mbit/s" in page
    assert "闲置办" in page and "未见流量" in page


def test_pdf_reads_back(record: Json) -> None:
    """The text of the PDF can be read, Chinese too; a page begins with each section."""
    reader = PdfReader(io.BytesIO(render(record, "pdf", "zh")))
    text = "\n".join(page.extract_text() for page in reader.pages)
    for wanted in ("带宽使用月报", "云海市", "市税务局", "95峰值", "网上办税", "制表", "审核", "日志留存"):
        assert wanted in text, wanted
    assert reader.metadata is not None
    assert reader.metadata.author == "telemetryd"
    english = PdfReader(io.BytesIO(render(record, "pdf", "en")))
    text = "\n".join(page.extract_text() for page in english.pages)
    for wanted in ("Monthly bandwidth report", "Tax Bureau", "95th percentile", "Prepared by", "Retention of logs"):
        assert wanted in text, wanted
    document = lay_out(record, Words("en"))
    assert len(english.pages) >= len(document.sections)


def test_workbook_reads_back(record: Json) -> None:
    """Figures are numbers in the unit of their heading, with their limits in columns of their own."""
    book = openpyxl.load_workbook(io.BytesIO(render(record, "xlsx", "zh")))
    assert book.sheetnames[:3] == ["汇总", "市税务局", "市教育局"]
    sheet = book["市税务局"]
    rows = [[cell.value for cell in row] for row in sheet.iter_rows()]
    head = next(row for row in rows if row[0] == "方向")
    inbound = next(row for row in rows if row[0] == "入方向")
    tax = next(entry for entry in record["departments"] if entry["name"] == "tax")
    p95 = tax["directions"]["in"]["p95_bps"]
    for title, key in (("95峰值 (Mbit/s)", "value"), ("95峰值下限", "low"), ("95峰值上限", "high")):
        assert inbound[head.index(title)] == pytest.approx(p95[key] / 1e6)
    assert inbound[head.index("签约带宽 (Mbit/s)")] == 100
    with zipfile.ZipFile(io.BytesIO(render(record, "xlsx", "zh"))) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_csv_has_every_figure(record: Json) -> None:
    """The table has a row a figure with its limits, and links without telemetry have none."""
    rows = list(csv.DictReader(io.StringIO(render(record, "csv", "en").decode())))
    found = {(row["scope"], row["name"], row["direction"], row["figure"]): row for row in rows}
    tax = next(entry for entry in record["departments"] if entry["name"] == "tax")
    row = found["department", "tax", "in", "p95_bps"]
    figure = tax["directions"]["in"]["p95_bps"]
    assert [float(row[name]) for name in ("value", "low", "high")] == [figure[n] for n in ("value", "low", "high")]
    assert row["remark"] == "billed"
    assert (row["month"], row["revision"], row["title"]) == ("2026-10", "1", "Tax Bureau")
    dark = found["link", "dark", "", "p95_bps"]
    assert (dark["value"], dark["remark"]) == ("", "blind no sampling licence")
    assert found["department", "idle", "", "octets"]["value"] == ""


def test_a_department_gets_its_own_only(record: Json) -> None:
    """A department's report tells nothing of the others, in no format."""
    for form in ("html", "csv", "json"):
        text = render(record, form, "en", "tax").decode()
        assert "tax" in text.lower()
        assert "Education Bureau" not in text and "exam" not in text
    with pytest.raises(InputError, match=r'no department "taxx".*"tax"'):
        select(record, "taxx")


def with_evil_names(record: Json) -> Json:
    tax = next(entry for entry in record["departments"] if entry["name"] == "tax")
    evil = {
        **tax,
        "name": EVIL,
        "title": {"en": EVIL, "zh": EVIL},
        "applications": [{**row, "name": EVIL, "title": None} for row in tax["applications"]],
    }
    links = [{**link, "name": EVIL, "title": None, "reason": EVIL} for link in record["links"]]
    city = {"name": EVIL, "title": {"en": EVIL, "zh": EVIL}}
    return {**record, "city": city, "departments": [evil, *record["departments"]], "links": links}


def test_names_cannot_do_anything(record: Json) -> None:
    """Markup and formulas in names are shown, not obeyed, in every format."""
    evil = with_evil_names(record)
    page = render(evil, "html", "en").decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    book = openpyxl.load_workbook(io.BytesIO(render(evil, "xlsx", "en")))
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row]
    assert not [cell for cell in cells if cell.data_type == "f"]
    assert [cell for cell in cells if isinstance(cell.value, str) and cell.value.startswith("=cmd")]
    for row in csv.reader(io.StringIO(render(evil, "csv", "en").decode())):
        assert not [cell for cell in row if cell.startswith(("=", "+", "@"))]
        assert not [cell for cell in row if cell.startswith("-") and not re.fullmatch(r"-[\d.e-]+", cell)]
    text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(render(evil, "pdf", "en"))).pages)
    assert "<script>" in re.sub(r"\s", "", text)


def test_reasons_are_said_in_words(record: Json) -> None:
    """What cannot be told says why: no earlier month, too little history."""
    english, chinese = shown(record, "en"), shown(record, "zh")
    assert "cannot tell: no data of 2026-09" in english
    assert "无法判断：无2026-09的数据" in chinese
    assert any("cannot tell: 10 days of data, 28 needed" in text for text in english)
    assert any("cannot tell: nothing seen of spare" in text for text in english)


def test_a_preliminary_report_says_so_first(record: Json) -> None:
    """Every format of a month that is not over is marked."""
    draft = record | {"preliminary": True}
    assert "PRELIMINARY" in render(draft, "html", "en").decode()
    assert "PRELIMINARY" in render(draft, "csv", "en").decode()
    text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(render(draft, "pdf", "en"))).pages)
    assert "PRELIMINARY" in text
    book = openpyxl.load_workbook(io.BytesIO(render(draft, "xlsx", "en")))
    assert any("PRELIMINARY" in str(cell.value) for row in book.worksheets[0].iter_rows() for cell in row)


def test_names_of_files(record: Json) -> None:
    """A file's name tells month, revision, department and language."""
    assert file_name(record, "pdf", "zh", None) == "2026-10-r1-all.zh.pdf"
    assert file_name(record, "csv", "en", "tax") == "2026-10-r1-tax.en.csv"
