"""Who has set what: every Set, carried out or refused, and every commit that was rolled back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from telemetryd.agent.refusal import RefusedError
from telemetryd.agent.set_request import SetRequest
from telemetryd.agent.tree import Value
from telemetryd.errors import TelemetrydError
from telemetryd.ingest.gnmi.path import text_of
from telemetryd.observe.chain import Chain
from telemetryd.observe.log import Log

#: Leaves of a record; those of a Set with more are in several.
MOST_ROWS: Final = 2_000

#: A path, what it was, and what it is; None for nothing.
Row = tuple[str, Value | None, Value | None]


class Caller(NamedTuple):
    """Who calls.

    Attributes
    ----------
    name:
        That of the client's certificate; without one its address.
    peer:
        The address.
    role:
        What it may do.
    """

    name: str
    peer: str = ""
    role: str = ""


class Audit:
    """Writes records; without a file only to the log.

    Parameters
    ----------
    chain:
        The file.

    Attributes
    ----------
    failure:
        Why the last record could not be written; "" where it could.
    """

    def __init__(self, chain: Chain | None) -> None:
        self._chain = chain
        self._log = Log("audit")
        self.failure = ""

    @property
    def is_kept(self) -> bool:
        """Whether there is a file."""
        return self._chain is not None

    async def note(
        self,
        caller: Caller,
        failure: TelemetrydError | None,
        request: SetRequest | None = None,
        rows: Sequence[Row] = (),
        what: str = "Set",
    ) -> None:
        """Add what came of a Set; it is on the disk when this returns."""
        outcome = "OK"
        if failure is not None:
            outcome = failure.status.name if isinstance(failure, RefusedError) else "UNAVAILABLE"
        self._log.info(what, by=caller.name, outcome=outcome)
        if self._chain is None:
            return
        record: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "what": what,
            **caller._asdict(),
            "outcome": outcome,
            **({"reason": str(failure)} if failure is not None else {}),
            **_asked(request),
        }
        try:
            for part in _parts(record, rows):
                await asyncio.to_thread(self._chain.append, part)
        except TelemetrydError as error:
            self.failure = str(error)
            self._log.error("a record of the audit cannot be written", reason=error)
        else:
            self.failure = ""


def _asked(request: SetRequest | None) -> dict[str, Any]:
    """Return what a record says of a request besides what it has changed."""
    if request is None:
        return {}
    found: dict[str, Any] = {}
    writings = {"replace": request.replaces, "union_replace": request.unions, "update": request.updates}
    paths = {name: [str(writing.place) for writing in some[:MOST_ROWS]] for name, some in writings.items()}
    paths["delete"] = [text_of(elems) for elems in request.deletes[:MOST_ROWS]]
    found["asked"] = {name: some for name, some in paths.items() if some}
    if request.commit is not None:
        found["commit"] = [request.commit.WhichOneof("action"), request.commit.id]
    if request.arbitration is not None:
        election = request.arbitration.election_id
        found["election"] = [request.arbitration.role.id, election.high << 64 | election.low]
    return found


def _parts(record: dict[str, Any], rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    if len(rows) <= MOST_ROWS:
        yield {**record, "changed": rows}
        return
    parts = range(0, len(rows), MOST_ROWS)
    for number, at in enumerate(parts, 1):
        yield {**record, "part": f"{number} of {len(parts)}", "changed": rows[at : at + MOST_ROWS]}
        record.pop("asked", None)
