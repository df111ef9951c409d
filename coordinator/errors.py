"""Every error users meet. Nothing else belongs here.

::

    CoordinatorError
     +- SettingsError(ValueError)   +- InvalidArgument(ValueError)   +- Closed
     +- ContractBroken              a reply outside the contract (versions differ)
     +- Refused                     the answer is no, nothing changed; carries its data
     |   +- GraceActive             +- NoGrace                 +- BarrierPending
     |   +- ReclaimRefused          +- ConnectionLimitReached  +- RegistrationRefused
     |   +- ClientReleasing         +- StaleEpoch              +- StaleGrant
     |   +- LeaseLapsed             +- Fenced                  +- ClientHeld
     |   +- ScopeExists
     +- Unavailable                 certainly not executed; says what to do
     +- OutcomeUnknown              sent, no answer: executed or not
"""

from __future__ import annotations

UNKNOWN = "unknown"
"""Reason of a RegistrationRefused."""
GRACE_RETRY_SECONDS = 1.0
"""How often asking again makes sense in a period, which may end early at any time."""
OVER = {
    "superseded": "a newer process with this node's name has joined, or did before (superseded)",
    "evicted": "this node's lease ran out and the others have evicted it (evicted)",
    "data_lost": "Redis has lost data that this node was told, or has other data (data_lost)",
    "left": "this node has left the scope (left)",
}
"""Why an incarnation is over, in words."""
_START_ANEW = "this coordinator never grants again; drop all locks in memory and start a new one"
_STOP = "this coordinator never grants again; end this process, and see that no two have one node name"


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

    def __init__(self, retry_after: float, epoch: int, remaining_seconds: float = 0.0) -> None:
        """Keep the seconds after which asking again makes sense, the epoch, and the seconds it lasts at the most."""
        super().__init__(f"grace period {epoch} is active: ask again in {retry_after:.1f} s")
        self.retry_after = retry_after
        self.epoch = epoch
        self.remaining_seconds = remaining_seconds
        """Seconds to the end of the period at the latest, as far as is known; 0: not known."""


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
    """There is nothing that the client may reclaim in this period."""

    def __init__(self, reason: str) -> None:
        """Keep why: not_expected or already."""
        super().__init__(
            {
                "not_expected": "the client had no locks when the period began (not_expected): it locks anew after it",
                "already": "the client has its locks here (already): there is nothing to reclaim",
            }.get(reason, reason)
        )
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


class ClientHeld(Refused):
    """The client is registered at another node, which has locks for it and has not closed it yet."""

    def __init__(self, home: str, retry_after: float = 1.0) -> None:
        """Keep the owner that has it, and the seconds after which to ask again."""
        super().__init__(
            f"{home} serves the client and has locks for it: ask again in {retry_after} s; if that node is dead or "
            "hangs, that will be noticed when its lease is over"
        )
        self.home = home
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
    """The incarnation is over: superseded, evicted, left or data_lost. It never grants again."""

    def __init__(self, reason: str) -> None:
        """Keep why."""
        what_to_do = _STOP if reason == "superseded" else _START_ANEW
        super().__init__(f"{OVER.get(reason, f'this incarnation is over ({reason})')}: {what_to_do}")
        self.reason = reason


class Unavailable(CoordinatorError):
    """Certainly not executed; the message says what to do."""


class OutcomeUnknown(CoordinatorError):
    """Sent, but no answer came: it was executed or not. Repeating the same call is safe."""


class ScopeExists(Refused):
    """The scope has data already: it is no new installation."""

    def __init__(self) -> None:
        """Say what that means."""
        super().__init__("the scope has data: it is no new installation, and nothing was changed")
