"""The extensions of Set: commits that are to be confirmed, and which of several clients may write.

gnmi-commit-confirmed 0.1.0 and gnmi-master-arbitration 0.1.0 (github.com/openconfig/reference). Pure.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Final

import grpc

from telemetryd.agent.place import INVALID
from telemetryd.agent.refusal import RefusedError
from telemetryd.agent.state_directory import Pending
from telemetryd.proto import gnmi_ext_pb2

#: How long a commit waits that does not say so (3.2.1).
DEFAULT_S: Final = 600.0
#: The longest that it may wait.
LONGEST_S: Final = 30 * 86_400.0
UNMET: Final = grpc.StatusCode.FAILED_PRECONDITION


def check_commit(commit: gnmi_ext_pb2.Commit | None, pending: Pending | None, *, is_empty: bool) -> str:
    """Hold a Set's commit against the one that waits; return its action, "" for a Set without one.

    Parameters
    ----------
    is_empty:
        Whether the Set has no operations.

    Raises
    ------
    RefusedError
        If it is not its time, it names another commit, or has what does not belong to it.
    """
    if commit is None:
        if pending is not None:
            raise RefusedError(UNMET, f'the commit "{pending.id}" of {pending.who} waits for its confirmation')
        return ""
    action = commit.WhichOneof("action")
    if not commit.id:
        raise RefusedError(INVALID, "the extension Commit has no id")
    if action is None:
        raise RefusedError(INVALID, f'commit "{commit.id}": the extension says nothing that is to be done')
    if action == "commit":
        if pending is not None:
            raise RefusedError(UNMET, f'the commit "{pending.id}" of {pending.who} waits for its confirmation')
        return str(action)
    if pending is None:
        raise RefusedError(UNMET, f'commit "{commit.id}": none waits for its confirmation')
    if pending.id != commit.id:
        raise RefusedError(INVALID, f'commit "{commit.id}": it is "{pending.id}" that waits for its confirmation')
    if not is_empty:
        raise RefusedError(INVALID, f'commit "{commit.id}": nothing can be added to it; {action} has no operations')
    return str(action)


def duration_of(commit: gnmi_ext_pb2.Commit) -> float:
    """Return how long a commit is to wait, in seconds.

    Raises
    ------
    RefusedError
        If that is no time that it can wait.
    """
    is_new = commit.WhichOneof("action") == "commit"
    asked = commit.commit if is_new else commit.set_rollback_duration
    if is_new and not asked.HasField("rollback_duration"):
        return DEFAULT_S
    seconds: float = asked.rollback_duration.seconds + asked.rollback_duration.nanos / 1e9
    if is_new and seconds == 0:
        return DEFAULT_S
    if not 0 < seconds <= LONGEST_S:
        raise RefusedError(
            INVALID, f'commit "{commit.id}": rollback_duration {seconds:g} s is not above 0 and up to {LONGEST_S:g} s'
        )
    return seconds


def arbitrate(asked: gnmi_ext_pb2.MasterArbitration | None, elections: MutableMapping[str, int]) -> bool:
    """Let only the client with the greatest election id of a role write; return whether one is new.

    Raises
    ------
    RefusedError
        If there was a greater one, or none is given.
    """
    if asked is None:
        return False
    if not asked.HasField("election_id"):
        raise RefusedError(INVALID, "the extension MasterArbitration has no election_id")
    number = asked.election_id.high << 64 | asked.election_id.low
    known = elections.get(asked.role.id, -1)
    if number < known:
        raise RefusedError(
            grpc.StatusCode.PERMISSION_DENIED,
            f'election id {number} of role "{asked.role.id}" is below {known}: another client is the master',
        )
    elections[asked.role.id] = number
    return number > known
