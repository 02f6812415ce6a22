"""Sums over some columns of the key, and the greatest of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetryd.aggregate.expand import LARGEST, merge
from telemetryd.aggregate.keys import pack_rows
from telemetryd.schema import KEY_COLUMNS, SUM_COLUMNS, Table

Columns = dict[str, NDArray[Any]]

_KEY_NAMES = tuple(column.name for column in KEY_COLUMNS)


def sum_by(columns: Columns, by: Sequence[str], table: Table = Table.TOTALS) -> Columns:
    """Sum the rows of one result table over all but some columns of the key.

    Parameters
    ----------
    columns:
        USAGE_COLUMNS, shape (k,) each.
    by:
        Names of the key columns to keep.
    table:
        Which result table.

    Returns
    -------
    dict
        The columns ``by`` and SUM_COLUMNS, shape (g,) each, in order of first appearance.

    Raises
    ------
    ValueError
        If a name is not one of a key column.
    """
    unknown = set(by) - set(_KEY_NAMES)
    if unknown:
        raise ValueError(f"no such key column: {', '.join(sorted(unknown))}")
    chosen = columns["table"] == table
    n = int(np.count_nonzero(chosen))
    keys = {
        column.name: columns[column.name][chosen] if column.name in by else np.zeros(n, column.dtype)
        for column in KEY_COLUMNS
    }
    merged = merge(*pack_rows(keys), {column.name: columns[column.name][chosen] for column in SUM_COLUMNS})
    return {name: merged[name] for name in (*by, *(column.name for column in SUM_COLUMNS))}


@dataclass(frozen=True, slots=True)
class Top:
    """The greatest sums, greatest first, the rest of them as one, and all of them as one.

    Attributes
    ----------
    columns:
        The columns asked for and SUM_COLUMNS, shape (g,) each.
    rest, total:
        SUM_COLUMNS name -> value.
    n_rest:
        How many keys are in ``rest``.
    """

    columns: Columns
    rest: dict[str, Any]
    total: dict[str, Any]
    n_rest: int


def top(columns: Columns, by: Sequence[str], n: int = 10, table: Table = Table.TOTALS) -> Top:
    """Return the ``n`` greatest keys by estimated octets; see :func:`sum_by` for the parameters."""
    sums = sum_by(columns, by, table)
    order = np.lexsort([sums[name] for name in reversed(by)] + [-sums["octets"]])
    first, others = order[:n], order[n:]
    return Top(
        {name: values[first] for name, values in sums.items()},
        _fold(sums, others),
        _fold(sums, order),
        len(others),
    )


def _fold(sums: Columns, rows: NDArray[np.intp]) -> dict[str, Any]:
    return {
        column.name: sums[column.name][rows].max(initial=0.0)
        if column.name in LARGEST
        else sums[column.name][rows].sum()
        for column in SUM_COLUMNS
    }
