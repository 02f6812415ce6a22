"""The emergency freeze: whoever applies anything asks here first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from telemetryd.policy.loaded import Policies


@dataclass(frozen=True, slots=True)
class Frozen:
    """A freeze that holds.

    Attributes
    ----------
    policy:
        Whose: nothing of it is applied, and what it ruled before stays.
    until:
        Its end, with a time zone.
    owner, reason:
        As the policy says them.
    """

    policy: str
    until: datetime
    owner: str
    reason: str

    def __str__(self) -> str:
        until = self.until.isoformat(timespec="minutes")
        return f"the policy {self.policy} is frozen until {until}: {self.reason} ({self.owner})"


def freezes(policies: Policies, at: datetime) -> list[Frozen]:
    """Return the freezes that hold at a time, in the order of the policies.

    Parameters
    ----------
    at:
        With a time zone.
    """
    return [
        Frozen(policy.name, freeze.until.replace(tzinfo=policy.zone), freeze.owner, freeze.reason)
        for policy in policies.policies
        if (freeze := policy.freeze_at(at)) is not None
    ]


def is_frozen(policies: Policies, at: datetime, places: Iterable[tuple[str, str]] | None = None) -> Frozen | None:
    """Tell whether something must not be applied at a time; the answer says why, None lets it pass.

    Everything that changes a device by a policy asks this right before it writes, whatever the change is: a new plan,
    a schedule that begins, a rate of the control loop. Rolling back to what was in force before is no application.

    Parameters
    ----------
    at:
        With a time zone.
    places:
        (link or group, direction) of what is to be applied; None for all that the policies rule.
    """
    wanted = None if places is None else set(places)
    names = {policy.name for policy, *place in policies.ruled() if wanted is None or tuple(place) in wanted}
    return next((one for one in freezes(policies, at) if one.policy in names), None)
