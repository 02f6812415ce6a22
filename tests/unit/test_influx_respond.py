"""What to do about an answer: one row a status, and how long to wait."""

from __future__ import annotations

import pytest

from telemetryd.store.influx.respond import Action, BackOff, Decision, Pace, decide, parse_retry_after
from telemetryd.store.influx.transport import Answer

NOW = 1_795_000_000.0  # Wed, 18 Nov 2026 11:06:40 GMT

ACTIONS = {
    204: Action.STORED,
    # Another success is somebody else's: a proxy, a portal.
    200: Action.HOLD,
    201: Action.HOLD,
    202: Action.HOLD,
    301: Action.HOLD,
    302: Action.HOLD,
    307: Action.HOLD,
    400: Action.REFUSED,
    401: Action.HOLD,
    402: Action.HOLD,
    403: Action.HOLD,
    404: Action.HOLD,
    405: Action.HOLD,
    408: Action.AGAIN,
    411: Action.HOLD,
    413: Action.SPLIT,
    415: Action.HOLD,
    422: Action.REFUSED,
    425: Action.AGAIN,
    429: Action.AGAIN,
    500: Action.FAULT,
    501: Action.FAULT,
    502: Action.AGAIN,
    503: Action.AGAIN,
    504: Action.AGAIN,
    507: Action.FAULT,
    0: Action.AGAIN,
}


@pytest.mark.parametrize(("status", "action"), ACTIONS.items())
def test_every_status_has_one_action(status: int, action: Action) -> None:
    """The table of statuses; a hold always says what to do about it."""
    decision = decide(Answer(status, "why"))
    assert decision.action is action
    assert bool(decision.remedy) == (action is Action.HOLD)
    assert decision.reason == ("" if status == 204 else "why")


def test_a_certificate_that_is_not_trusted_is_held() -> None:
    """Waiting does not cure a certificate: it is a failure with a remedy, not a server that is gone."""
    decision = decide(Answer(0, "self-signed certificate", is_unverified=True))
    assert decision.action is Action.HOLD
    assert "ca_file" in decision.remedy


@pytest.mark.parametrize("status", [400, 422])
def test_points_beyond_the_retention_are_no_refusal(status: int) -> None:
    """What the server would not have kept is counted; taking the body apart would change nothing."""
    reason = "partial write: points beyond retention policy dropped=17"
    decision = decide(Answer(status, reason))
    assert (decision.action, decision.expired) == (Action.STORED, 17)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("Wed, 18 Nov 2026 11:07:40 GMT", 60),
        ("Wed, 18 Nov 2026 10:00:00 GMT", 0),
        ("Wed, 18 Nov 2026 11:07:40", 60),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("9" * 400, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    """RFC 9110, section 10.2.3; what is neither says nothing."""
    assert parse_retry_after(text, lambda: NOW) == seconds


@pytest.mark.parametrize("status", [429, 503, 500])
def test_retry_after_is_in_the_decision(status: int) -> None:
    """The header of any answer that asks to come again."""
    assert decide(Answer(status, retry_after="9")).wait_s == 9


def test_back_off_doubles_to_a_cap_and_begins_anew() -> None:
    """Between half and all of 1, 2, 4, 5, 5 s by chance; after a success 1 s again."""
    pace = Pace(first_s=1, longest_s=5)
    again = Decision(Action.AGAIN)
    least, most = BackOff(pace, lambda: 0.0), BackOff(pace, lambda: 1.0)
    assert [least.after(again) for _ in range(5)] == [0.5, 1, 2, 2.5, 2.5]
    assert [most.after(again) for _ in range(5)] == [1, 2, 4, 5, 5]
    most.reset()
    assert most.after(again) == 1


def test_what_the_server_asks_for_is_honoured_within_bounds() -> None:
    """Retry-After prolongs the back-off, up to a cap, and never shortens it to a stream of requests."""
    pace = Pace(first_s=1, longest_s=1, longest_asked_s=60, hold_s=30)
    back_off = BackOff(pace, lambda: 1.0)
    waits = [back_off.after(Decision(Action.AGAIN, wait_s=asked)) for asked in (0, 20, 1e6)]
    assert waits == [1, 20, 60]
    assert back_off.after(Decision(Action.HOLD)) == 30
