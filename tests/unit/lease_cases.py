"""A lease of the unit tests: its views, and how replies reach it."""

from __future__ import annotations

from coordinator import Operation, Reason, Settings
from coordinator.node.lease import Lease
from coordinator.protocol import script
from coordinator.protocol.call import Head, Reply, View, view_of

SETTINGS = Settings()
V = SETTINGS.validity_seconds
SENT, RECEIVED = 10.0, 10.2
END = SENT + V
"""Node time at which the lease of `joined` lapses."""
JUST = 0.001
CLOCK = 100_000
OWNER = "n1:7"
ENDS = [Reason.SUPERSEDED, Reason.EVICTED, Reason.DATA_LOST, Reason.CLOSED]


def view(  # noqa: PLR0913  (the facts of a view)
    revision: int,
    epoch: int,
    state: str = "normal",
    *,
    in_force: bool = False,
    closing: bool = False,
    until: int = 0,
    cap: int = 0,
    dataset: str = "d1",
) -> View:
    """Return a view as Redis would keep it."""
    return view_of(f"{dataset} {revision} {epoch} {state} {in_force:d} {closing:d} {until} {cap}".encode())


UNTIL, CAP = CLOCK + 90_000, CLOCK + 200_000
NORMAL = view(5, 2)
STARTED = view(6, 3, "active", cap=CAP)
IN_FORCE = view(7, 3, "active", in_force=True, until=UNTIL, cap=CAP)
CLOSING = view(8, 3, "active", in_force=True, closing=True, until=UNTIL, cap=CAP)
LIFTED = view(9, 3)


def reply(state: View, *, clock: int = CLOCK, writes: int = 0) -> Reply:
    """Return a reply that tells this view."""
    return Reply(script.load("grace_advance"), [b"ADVANCED", state.raw, clock, writes])


def joined(state: View = NORMAL, *, fresh: bool = True) -> Lease:
    """Return a lease that began with `state`."""
    lease = Lease(SETTINGS)
    lease.joined(OWNER, reply(state), SENT, RECEIVED, fresh=fresh)
    return lease


def head(sent: float, owner: str = OWNER) -> Head:
    """Return the head of a request that was sent then."""
    return Head(owner, sent)


def observe(lease: Lease, state: View, sent: float, received: float) -> None:
    """Let the reply of a script arrive."""
    lease.observe(head(sent), reply(state), received)


def renew(lease: Lease, state: View, sent: float, received: float, *, extended: bool) -> None:
    """Let the reply of a renewal arrive."""
    lease.renewed(head(sent), reply(state), received, extended=extended)


def allows(lease: Lease, operation: Operation, now: float = RECEIVED) -> bool:
    """Tell whether the check is allowed."""
    return lease.check(operation, now).allowed
