"""Month on month and year on year: mean rates and percentiles, or why nothing can be said."""

from __future__ import annotations

from typing import Any, Final

from telemetryd.store.report.bins import Estimate, change
from telemetryd.store.report.links import WAYS
from telemetryd.store.report.usage import DIRECTIONS, Found, Json, basic, plain

ENOUGH_COVERAGE: Final = 0.9
FIGURES: Final = ("mean_bps", "p95_bps")

Brief = dict[str, Any]
"""``coverage``, ``source`` and ``scopes``: name of a department (None: the city) -> direction -> figures."""


def brief_of_record(record: Json) -> Brief:
    """Return what a record is compared by."""
    scopes = {scope["name"]: scope["directions"] for scope in (record["total"], *record["departments"])}
    source = f"r{record['revision']}"
    return {"coverage": record["quality"]["coverage"], "source": source, "scopes": scopes}


def brief_of_scan(found: Found) -> Brief:
    """Return what a month that was never frozen is compared by."""
    names = sorted(found.scan.department)
    lanes = found.scan.departments
    scopes: dict[str | None, Json] = {}
    for name in (None, *names):
        members = names if name is None else [name]
        scopes[name] = {
            way: basic(found.lane(lanes, [(member, stored) for member in members])) for way, stored in DIRECTIONS
        }
    whole = (found.month.to_ns - found.month.from_ns) / 1e9
    return {"coverage": float(found.scan.seen_s.sum()) / whole, "source": "store", "scopes": scopes}


def compare(now: Brief, then: Brief | None, name: str | None, *, is_over: bool) -> Json:
    """Compare a department (None: the city) of two months.

    Returns
    -------
    dict
        ``source`` (which record, or the store) with the changes as parts of the earlier figure; or ``cannot_tell``:
        why there is nothing to say.
    """
    reason = None
    if not is_over:
        reason = {"reason": "not_over"}
    elif then is None:
        reason = {"reason": "no_data"}
    else:
        for when, brief in (("then", then), ("now", now)):
            if brief["coverage"] < ENOUGH_COVERAGE:
                reason = {"reason": f"coverage_{when}", "coverage": round(brief["coverage"], 4)}
                break
        if reason is None and name not in then["scopes"]:
            reason = {"reason": "not_listed"}
    if reason is not None or then is None:
        return {"cannot_tell": reason, "source": None, "directions": None}
    return {
        "cannot_tell": None,
        "source": then["source"],
        "directions": {
            way: {
                figure: plain(_change(now["scopes"][name][way][figure], then["scopes"][name][way][figure]))
                for figure in FIGURES
            }
            for way in WAYS
        },
    }


def _change(new: Json | None, old: Json | None) -> Estimate | None:
    return None if new is None or old is None else change(Estimate(**new), Estimate(**old))
