"""The shipped dashboards: up to date, and of names that the series have."""

from __future__ import annotations

import re

import pytest

from telemetryd.store.series import MEASUREMENTS
from tests.dashboards import DIRECTORY, Query, builder, documents, queries

QUERIES = queries()


def test_they_are_up_to_date() -> None:
    """Each file is what dashboards/build.py writes, and there is no other."""
    written = {path.relative_to(DIRECTORY).as_posix(): path.read_text(encoding="utf-8") for path, _ in documents()}
    assert written == builder().files()
    assert {path.rpartition("/")[2] for path in written} == {
        f"{n}.json" for n in ("exit", "links", "department", "self")
    }


def names_of(query: Query) -> tuple[str, set[str], set[str]]:
    """Return the measurement of a query, the tags that it names, and the fields."""
    text = query.text
    if query.language == "flux":
        (measurement,) = set(re.findall(r'r\._measurement == "(\w+)"', text))
        fields = set(re.findall(r'r\._field == "(\w+)"', text))
        made = {"_measurement", "_field", "_time", "_value", "low", "rate", "high", "half"}
        tags = set(re.findall(r"\br\.(\w+)", text)) | set(re.findall(r'tag: "(\w+)"', text))
        for listed in re.findall(r"columns?: \[([^]]*)\]", text):
            tags |= set(re.findall(r'"(\w+)"', listed))
        return measurement, tags - made - fields, fields
    (measurement,) = set(re.findall(r'(?:\$\{policy\}"\.|FROM )"(\w+)"', text))
    named = re.sub(r'AS "\w+"|"\$\{policy\}"\."\w+"|SHOW TAG VALUES FROM "\w+"', "", text)
    fields = set(re.findall(r'(?:sum|mean|max)\("(\w+)"\)', named))
    return measurement, set(re.findall(r'"(\w+)"', named)) - fields, fields


@pytest.mark.parametrize("query", QUERIES, ids=[query.where for query in QUERIES])
def test_queries_name_what_there_is(query: Query) -> None:
    """Measurement, tags and fields are in the table of the series; a panel asks for one span and one result table."""
    measurement, tags, fields = names_of(query)
    known = MEASUREMENTS[measurement]
    assert tags
    assert tags <= {tag.name for tag in known.tags}
    assert fields <= {field.name for field in known.fields}
    if not query.is_values:
        assert fields
        assert "span" in tags
        assert measurement != "usage" or "result_table" in tags


def test_both_languages_show_the_same() -> None:
    """Each panel is there in Flux and in InfluxQL, on the same measurement and fields."""
    shown: dict[str, dict[str, tuple[str, frozenset[str]]]] = {"flux": {}, "influxql": {}}
    for query in QUERIES:
        measurement, _, fields = names_of(query)
        shown[query.language][query.where.partition("/")[2]] = measurement, frozenset(fields)
    assert shown["flux"] == shown["influxql"]
    assert len(shown["flux"]) > 30


def test_variables_are_declared() -> None:
    """Every variable in a query or a title is one of the dashboard's own; panels do not overlap."""
    for _, document in documents():
        declared = {one["name"] for one in document["templating"]["list"]}
        for panel in document["panels"]:
            text = panel["title"] + panel["targets"][0]["query"]
            used = set(re.findall(r"\$\{?(\w+)", re.sub(r"\$(timeFilter|tag_\w+|/)", "", text)))
            assert used <= declared
            assert panel.get("repeat", "datasource") in declared
        places = [panel["gridPos"] for panel in document["panels"]]
        cells = [(x, p["y"]) for p in places for x in range(p["x"], p["x"] + p["w"])]
        assert len(cells) == len(set(cells))
        assert len({panel["id"] for panel in document["panels"]}) == len(places)
