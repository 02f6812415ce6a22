"""Rows of the OpenConfig community's traffic tables, scaled to 200 Mbit/s a port, in a gateway between namespaces."""

from __future__ import annotations

import pytest

from tests import dp_tables
from tests.namespaces import missing_tools
from tests.street import Street

pytestmark = [
    pytest.mark.no_twins,
    pytest.mark.skipif(bool(missing_tools(["ip", "nft"])), reason="ip and nft are needed"),
]
#: Half-served and starved classes below strict ones, shares by weight, and all served at 98 % of the line.
SOME = ("DP-1.14 98 %", "DP-1.8 half", "DP-1.8 starved")


def check(rows: list[dp_tables.Row], seconds: float) -> None:
    with Street() as street:
        results = dp_tables.run(street, rows, seconds)
    print(dp_tables.table(results))
    assert [one for one in results if not one.is_good] == []


def test_some_rows() -> None:
    """Each class gets what strict priority and weights give it of what was sent, within 2 percentage points."""
    rows = [[row for row in dp_tables.ROWS if row.test == name][-1] for name in SOME]
    rows.append(next(row for row in dp_tables.ROWS if dict(row.received) == {"AF3": 80, "AF2": 20}))
    check(rows, 1.0)


@pytest.mark.long
def test_every_row() -> None:
    """All tables."""
    check(list(dp_tables.ROWS), 5.0)
