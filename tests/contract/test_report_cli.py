"""`telemetryd report monthly` and `telemetryd forecast`: what is frozen, reprinted, refused and said."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from telemetryd.cli.main import main
from telemetryd.store.embedded import Store
from telemetryd.store.levels import DAY_NS, Level
from telemetryd.store.report import record as records
from tests.month_case import BIN, bins_of, fill, traffic, windows, write_registry

pytestmark = pytest.mark.no_twins

DOCS = Path(__file__).parents[2] / "docs"
Run = Callable[..., tuple[int, bytes, str]]
MARCH = bins_of("2026-03-01", 31)
NOW = int(bins_of("2026-10-01", 1)[0])
"""The present of these tests, whatever the clock says."""


class City:
    """A store with March, and a registry."""

    def __init__(self, path: Path) -> None:
        self.store = path / "store"
        self.registry = write_registry(path / "registry")
        fill(self.store, MARCH, traffic(MARCH, growth=0.002))

    def options(self) -> list[str]:
        return ["--store", str(self.store), "--registry", str(self.registry)]


@pytest.fixture
def city(tmp_path: Path) -> City:
    return City(tmp_path)


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command: arguments -> exit code, stdout, stderr."""
    monkeypatch.setattr("time.time_ns", lambda: NOW)

    def call(*arguments: str) -> tuple[int, bytes, str]:
        with pytest.raises(SystemExit) as exit_info:
            main(arguments)
        printed = capfdbinary.readouterr()
        return int(exit_info.value.code or 0), printed.out, printed.err.decode()

    return call


def monthly(run: Run, city: City, form: str = "csv", *more: str, whom: str = "--all") -> tuple[int, bytes, str]:
    of = [whom] if whom == "--all" else ["--department", whom]
    return run("report", "monthly", *of, "--month", "2026-03", "--format", form, *city.options(), *more)


def test_a_frozen_month_prints_the_same_for_ever(city: City, run: Run, tmp_path: Path) -> None:
    """Every format repeats byte for byte after retention took the data and the registry changed or went."""
    code, first, said = monthly(run, city, "json")
    assert code == 0
    assert "frozen as" in said and "2026-03.r1.json" in said
    asked = [(form, *of) for form in ("json", "csv", "html", "xlsx", "pdf") for of in (("zh", "--all"), ("en", "tax"))]
    before = {key: monthly(run, city, key[0], "--language", key[1], whom=key[2]) for key in asked}
    assert all(code == 0 and said == "" for code, _, said in before.values())
    assert before["json", "zh", "--all"][1] == first
    write_registry(
        city.registry, lambda text: text.replace("Tax Bureau", "Revenue Office").replace("100 Mbit", "9 Mbit")
    )
    later = bins_of("2026-09-01", 1)
    short = {BIN: Level(keep_ns=DAY_NS, bucket_ns=DAY_NS)}
    with Store.open(city.store, levels=short, clock=lambda: NOW) as writer:
        writer.append(list(windows(later, traffic(later))), "live")
        writer.maintain()
        assert writer.snapshot().manifest.floors
    without = ["--store", str(city.store)]
    for (form, language, whom), (_, content, _) in before.items():
        of = [whom] if whom == "--all" else ["--department", whom]
        options = ["--month", "2026-03", "--format", form, "--language", language]
        assert run("report", "monthly", *of, *options, *without) == (0, content, ""), (form, language, whom)
    code, _, said = run("report", "monthly", "--all", "--month", "2026-04", *without)
    assert code == 2
    assert "2026-04 is not frozen yet: say which registry" in said


def test_refresh_makes_a_revision_beside_the_old_one(city: City, run: Run) -> None:
    """A new revision has the registry's new names; the old one stays readable."""
    monthly(run, city)
    write_registry(city.registry, lambda text: text.replace("Tax Bureau", "Revenue Office"))
    code, out, said = monthly(run, city, "html", "--refresh")
    assert code == 0
    assert "2026-03.r2.json" in said
    assert b"Revenue Office" in out and b"Tax Bureau" not in out
    assert b"2, frozen" in out
    assert records.revisions(city.store, "2026-03") == [1, 2]
    old = records.load(city.store, "2026-03", 1)
    assert old is not None
    assert old["departments"][0]["title"]["en"] == "Tax Bureau"


def test_late_data_is_noticed(city: City, run: Run) -> None:
    """A frozen record that no longer matches what the store holds is printed as it was, with a warning."""
    _, first, _ = monthly(run, city)
    late = MARCH[100:200]
    fill(city.store, late, traffic(late, seed=9), origin="another collector")
    code, again, said = monthly(run, city)
    assert (code, again) == (0, first)
    assert "no longer matches the store" in said and "--refresh makes revision 2" in said
    monthly(run, city, "csv", "--refresh")
    assert monthly(run, city)[2] == ""


def test_a_damaged_record_is_refused(city: City, run: Run) -> None:
    """The message names the file; a new revision is the way out."""
    monthly(run, city)
    path = records.path_of(city.store, "2026-03", 1)
    path.write_bytes(path.read_bytes().replace(b"tax", b"taz", 1))
    code, out, said = monthly(run, city)
    assert (code, out) == (1, b"")
    assert str(path) in said and "damaged" in said
    assert monthly(run, city, "csv", "--refresh")[0] == 0


def test_a_month_that_is_not_over_is_not_frozen(city: City, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is printed as preliminary, and nothing is kept of it."""
    monkeypatch.setattr("time.time_ns", lambda: int(MARCH[20 * 288]))
    code, out, said = monthly(run, city, "html")
    assert code == 0
    assert b"PRELIMINARY" in out
    assert "not over" in said
    assert not (city.store / "reports").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--department", "taxx", "--month", "2026-03"], 'no department "taxx" in 2026-03 - did you mean "tax"'),
        (["--month", "2026-03"], "--department NAME, or --all"),
        (["--all", "--department", "tax", "--month", "2026-03"], "not both"),
        (["--all", "--month", "2026-3"], "such as 2026-10"),
        (["--all", "--month", "2026-01"], "holds nothing of 2026-01"),
        (["--all", "--month", "2026-03", "--format", "doc"], "choose from html, xlsx, csv, pdf, json"),
        (["--all", "--month", "2026-03", "--language", "fr"], "choose from en, zh"),
        (["--all", "--month", "2026-03", "--tz", "Mars"], "time zone"),
    ],
)
def test_mistakes_are_said(city: City, run: Run, arguments: list[str], words: str) -> None:
    """A mistake ends with exit code 2, the reason and a remedy, and prints no report."""
    code, out, said = run("report", "monthly", *arguments, *city.options())
    assert (code, out) == (2, b"")
    assert words in said
    assert "Traceback" not in said


def test_another_time_zone_than_the_frozen_one_is_refused(city: City, run: Run) -> None:
    """A frozen month has its time zone; the same name elsewhere is another stretch of time."""
    monthly(run, city)
    code, _, said = monthly(run, city, "csv", "--tz", "UTC")
    assert code == 2
    assert "frozen in the time zone Asia/Shanghai" in said


def test_files_and_directories(city: City, run: Run, tmp_path: Path) -> None:
    """A file is written whole; a directory gets the whole report and one of each department."""
    _, out, _ = monthly(run, city)
    target = tmp_path / "new" / "march.csv"
    assert monthly(run, city, "csv", "--out", str(target))[:2] == (0, b"")
    assert target.read_bytes() == out
    directory = tmp_path / "all"
    directory.mkdir()
    assert monthly(run, city, "csv", "--out", str(directory))[0] == 0
    assert sorted(path.name for path in directory.iterdir()) == [
        f"2026-03-r1-{whom}.en.csv" for whom in ("all", "edu", "idle", "tax", "unknown")
    ]
    assert (directory / "2026-03-r1-all.en.csv").read_bytes() == out


def test_a_record_that_cannot_be_written(city: City, run: Run) -> None:
    """Where the record cannot be frozen, the reason and the remedy are said, and nothing is printed."""
    # A file in the place of the directory: refused to root as well.
    (city.store / "reports").write_text("")
    code, out, said = monthly(run, city)
    assert (code, out) == (1, b"")
    assert "Traceback" not in said
    assert "reports" in said
    assert stat.S_ISREG((city.store / "reports").stat().st_mode)


def test_json_follows_the_published_schema(city: City, run: Run) -> None:
    """--format json is valid by docs/report.schema.json, of all and of one department."""
    schema = json.loads((DOCS / "report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for whom in ("--all", "tax", "idle"):
        document: dict[str, Any] = json.loads(monthly(run, city, "json", whom=whom)[1])
        validator.validate(document)
        assert not validator.is_valid({**document, "surprise": 1})
    stored = json.loads(records.path_of(city.store, "2026-03", 1).read_text())
    validator.validate(stored)


def test_forecast_of_links(city: City, run: Run) -> None:
    """The table and the JSON tell growth and date of every link that was seen, and which were not."""
    code, out, said = run("forecast", *city.options(), "--json")
    assert code == 0
    answer = json.loads(out)
    assert {(row["link"], row["direction"]) for row in answer["rows"]} == {
        (link, way) for link in ("isp1", "isp2") for way in ("in", "out")
    }
    assert answer["unseen"] == ["dark", "spare"]
    first = answer["rows"][0]
    assert (first["link"], first["direction"], first["capacity_bps"]) == ("isp1", "in", 100_000_000)
    assert first["forecast"]["days"] == 30  # the last day may not have had its busy hour
    growth = first["forecast"]["growth_a_year"]
    assert growth["low"] < 1.07 < growth["high"]  # 0.2 % a day
    code, out, said = run("forecast", *city.options())
    assert code == 0
    assert "isp1" in out.decode() and "2 links have no data" in said
    code, _, said = run("forecast", *city.options(), "--link", "isp9")
    assert code == 2
    assert 'link "isp9" is unknown' in said


def test_forecast_with_a_short_history(tmp_path: Path, run: Run) -> None:
    """Twelve days of data are said to be too few."""
    starts = bins_of("2026-03-01", 12)
    fill(tmp_path / "store", starts, traffic(starts))
    registry = write_registry(tmp_path / "registry")
    code, out, _ = run("forecast", "--store", str(tmp_path / "store"), "--registry", str(registry), "--link", "isp1")
    assert code == 0
    assert "cannot tell: 11 days of data, 28 needed" in out.decode()
