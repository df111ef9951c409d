"""Every error users meet. Nothing else belongs here.

::

    CoordinatorError
     +- SettingsError(ValueError)   +- InvalidArgument(ValueError)   +- Closed
     +- ContractBroken              a reply outside the contract (versions differ)
     +- Refused                     the answer is no, nothing changed; carries its data
     |   +- GraceActive             +- NoGrace                 +- BarrierPending
     |   +- ReclaimRefused          +- ConnectionLimitReached  +- RegistrationRefused
     |   +- ClientReleasing         +- StaleEpoch              +- StaleGrant
     |   +- LeaseLapsed             +- Fenced
     +- Unavailable                 certainly not executed; says what to do
     |   +- DataLost                the data in Redis is not what this node was told
     +- OutcomeUnknown              sent, no answer: executed or not
"""

from __future__ import annotations

UNKNOWN = "unknown"
"""Reason of a RegistrationRefused."""


class CoordinatorError(Exception):
    """Base of all errors of this package."""


class SettingsError(CoordinatorError, ValueError):
    """A setting breaks a rule; names the value and the rule."""


class InvalidArgument(CoordinatorError, ValueError):
    """An argument breaks a rule; names the value and the rule. Nothing was sent."""


class Closed(CoordinatorError):
    """The coordinator was closed or abandoned, or has not been started."""


class ContractBroken(CoordinatorError):
    """A reply outside the contract: scripts and library differ in version, or Redis stopped a script half-way."""


class Refused(CoordinatorError):
    """The answer is no and nothing changed."""


class GraceActive(Refused):
    """A new lock must wait for the end of the grace period (RFC 8881, 8.4.2.1: NFS4ERR_GRACE)."""

    def __init__(self, retry_after: float, epoch: int) -> None:
        """Keep the seconds that remain at the most, and the epoch."""
        super().__init__(f"grace period {epoch} is active: retry in {retry_after:.1f} s at the latest")
        self.retry_after = retry_after
        self.epoch = epoch


class NoGrace(Refused):
    """There is no grace period to reclaim in or to end (RFC 8881: NFS4ERR_NO_GRACE)."""

    def __init__(self, reason: str) -> None:
        """Keep why."""
        super().__init__(f"no grace period is active ({reason})")
        self.reason = reason


class BarrierPending(Refused):
    """Reclaims must wait until every node has stopped granting, or until a dead node was noticed; retry."""

    def __init__(self, waiting_for: tuple[str, ...] = (), retry_after: float = 0.1) -> None:
        """Keep the owners that are waited for, and the seconds after which a retry makes sense."""
        names = ", ".join(waiting_for) or "the present change of the period"
        super().__init__(f"reclaiming has to wait for {names}: retry in {retry_after} s")
        self.waiting_for = waiting_for
        self.retry_after = retry_after


class ReclaimRefused(Refused):
    """The client may not reclaim in this period."""

    def __init__(self, reason: str) -> None:
        """Keep why: not_expected or already."""
        super().__init__(f"the client may not reclaim ({reason}): it must lock anew after the grace period")
        self.reason = reason


class ConnectionLimitReached(Refused):
    """All places of the adapter are taken in this scope."""

    def __init__(self, adapter: str, limit: int) -> None:
        """Keep the adapter and its limit."""
        super().__init__(f"adapter {adapter!r} has all of its {limit} places taken in this scope")
        self.adapter = adapter
        self.limit = limit


class RegistrationRefused(Refused):
    """The client's registration does not allow this: moved, unknown, adapter or principal."""

    def __init__(self, reason: str) -> None:
        """Keep why."""
        super().__init__(
            {
                "moved": "the client is registered elsewhere or anew (moved): forget its local state",
                "unknown": "no registration that is in use (unknown): register the client first",
                "adapter": "the client is registered with another adapter (adapter): unregister it first",
                "principal": "the registration belongs to another principal (principal)",
            }.get(reason, reason)
        )
        self.reason = reason


class ClientReleasing(Refused):
    """The client's old locks are being freed at this moment; register again after that."""

    def __init__(self, retry_after: float) -> None:
        """Keep the seconds after which to retry at the latest."""
        super().__init__(f"the client's old locks are being freed: retry within {retry_after:.3f} s")
        self.retry_after = retry_after


class StaleEpoch(Refused):
    """The epoch meant is not the present one."""

    def __init__(self, epoch: int) -> None:
        """Keep the present epoch."""
        super().__init__(f"the present epoch is {epoch}: look at it and decide again")
        self.epoch = epoch


class StaleGrant(Refused):
    """The grant was overtaken before it was confirmed: undo the insert and answer the client "retry"."""


class LeaseLapsed(Refused):
    """The lease was not renewed in time: no new locks until it is."""


class Fenced(Refused):
    """The incarnation may act no more: superseded, evicted or left."""

    def __init__(self, reason: str) -> None:
        """Keep why."""
        super().__init__(f"this incarnation is fenced ({reason}): it changes nothing any more")
        self.reason = reason


class Unavailable(CoordinatorError):
    """Certainly not executed; the message says what to do."""


class DataLost(Unavailable):
    """Redis does not hold the data this node was told: it fails closed, new locks are refused."""


class OutcomeUnknown(CoordinatorError):
    """Sent, but no answer came: it was executed or not. Repeating the same call is safe."""
