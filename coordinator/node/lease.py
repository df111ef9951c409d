"""The node's lease and cached view: a pure machine. No I/O, no clock: `now` (node time, seconds) is passed in.

Rules (docs/protocol.md, time and grace): validity counts from before the renewal was sent; a reply or an event tightens
at once; only a reply of a revision that is not older loosens; an incarnation that is over stays over.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.errors import GRACE_RETRY_SECONDS, InvalidArgument
from coordinator.protocol.call import NOTHING, Head
from coordinator.values import GraceState, Operation, Reason, Verdict

if TYPE_CHECKING:
    from coordinator.protocol.call import Reply
    from coordinator.settings import Settings

NEVER = float("-inf")
_NEW = Operation.NEW
_LOCKING = (Operation.NEW, Operation.RECLAIM)
PROVISIONAL = Verdict(allowed=True, reason=None, retry_after=0.0, epoch=0, provisional=True)
"""The answer to a test while the view is not valid: its epoch is not known."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What `check` and `confirm` read: immutable, replaced whole."""

    owner: str
    epoch: int
    reclaims: bool
    """In force, not closing, and no newer revision heard of: a reclaim may be admitted."""
    ends_at: float
    """Node time by which the period ends at the latest, as far as is known; 0: normal."""
    valid_until: float
    new_until: float
    """Until when new locks are granted: valid_until in a normal scope, else NEVER."""
    new: Verdict
    reclaim: Verdict
    test: Verdict


class Lease:
    """One incarnation's lease. Thread-safe; `check` and `confirm` take no lock."""

    def __init__(self, settings: Settings) -> None:
        """Start without an incarnation: everything but `test` is refused."""
        self._validity = settings.validity_seconds
        self._heartbeat = settings.heartbeat_seconds
        self._mutex = threading.Lock()
        self._why_not = Reason.JOINING
        """Why nothing is granted while the lease is not valid."""
        self._is_stopping = False
        self._serial = self._given_up = self._writes = 0
        self.owner = ""
        self.view = NOTHING
        self._floor = NOTHING.revision
        """The newest revision heard of; above the view's: nothing is granted until a reply as new."""
        self._view_sent = self.renewed_at = 0.0
        self._anchor = (0, 0.0, NEVER)
        """The scope clock that the newest request was told, when its reply was received, and when it was sent."""
        self._valid_until = NEVER
        self._rebuild()

    def forked(self) -> None:
        """Go on in a forked child, without the lock: a thread that is not there may have it."""
        self._mutex = threading.Lock()

    # -- the node's time and the scope's ------------------------------------------------------------------------

    @property
    def clock_ms(self) -> int:
        """The scope clock as it was last told."""
        return self._anchor[0]

    def node_time(self, deadline_ms: int) -> float:
        """Return the node time at which the scope clock reaches `deadline_ms`, if nothing delays it."""
        clock_ms, received, _ = self._anchor
        return received + (deadline_ms - clock_ms) / 1000

    def head(self, now: float) -> Head:
        """Return the head of a request that is sent at `now`."""
        with self._mutex:
            self._serial += 1
            told = self.view.raw
            if self._floor > self.view.revision:  # heard, and not seen yet: if Redis has lost it, that is lost data
                told = b"%b %d %d" % (self.view.dataset.encode(), self._floor, self.view.epoch)
            return Head(self.owner, now, self._serial, self._given_up, self._writes, told)

    def give_up(self, head: Head) -> None:
        """Have every later request tell Redis that what was sent up to this one must do nothing any more."""
        with self._mutex:
            self._given_up = max(self._given_up, head.serial + 1)

    # -- transitions ----------------------------------------------------------------------------------------------

    def joined(self, owner: str, reply: Reply, sent: float, received: float, *, fresh: bool) -> None:
        """Begin the incarnation. A repeated join (not `fresh`) gives no validity: the first one's was lost."""
        with self._mutex:
            if self.is_over:
                return
            self.owner, self.view, self._writes = owner, reply.view, reply.writes
            self._floor = self.view.revision
            self._view_sent = self.renewed_at = sent
            self._anchor = (reply.clock_ms, received, sent)
            self._valid_until = sent + self._validity if fresh else NEVER
            self._why_not = Reason.LEASE_LAPSED
            self._rebuild()

    def renewed(self, head: Head, reply: Reply, received: float, *, extended: bool) -> None:
        """Take a renewal: the only reply that extends the validity, from before it was sent."""
        with self._mutex:
            if extended and not self.is_over and head.owner == self.owner:
                self._valid_until = max(self._valid_until, head.sent + self._validity)
                self.renewed_at = max(self.renewed_at, head.sent)
                self._rebuild()
            self._observe(head, reply, received)

    def observe(self, head: Head, reply: Reply, received: float) -> None:
        """Take the head of any other reply to the request with `head`."""
        with self._mutex:
            self._observe(head, reply, received)

    def _observe(self, head: Head, reply: Reply, received: float) -> None:
        if head.owner != self.owner:
            return
        self._writes = max(self._writes, reply.writes)
        if reply.clock_ms and head.sent >= self._anchor[2]:
            self._anchor = (reply.clock_ms, received, head.sent)
        if reply.raw_view == self.view.raw:  # nothing has changed: nothing is made anew
            self._view_sent = max(self._view_sent, head.sent)
            return
        view = reply.view
        if view.dataset != self.view.dataset:
            return
        if view.revision >= self._floor and (view.revision, head.sent) >= (self.view.revision, self._view_sent):
            self.view, self._view_sent, self._floor = view, head.sent, view.revision
            self._rebuild()

    def told(self, revision: int) -> bool:
        """Take an event that starts or closes a period; return whether it was news. Strict until a reply as new."""
        with self._mutex:
            if revision <= self._floor:
                return False
            self._floor = revision
            self._rebuild()
            return True

    def stop_granting(self) -> None:
        """Grant nothing more: the node is about to leave. What runs may still be finished."""
        with self._mutex:
            self._is_stopping = True
            self._rebuild()

    def end(self, reason: Reason) -> bool:
        """End this incarnation for good; return whether that was news. The first reason stays."""
        with self._mutex:
            if self.is_over:
                return False
            self._why_not, self._valid_until = reason, NEVER
            self._rebuild()
            return True

    def _rebuild(self) -> None:
        view, strict = self.view, self._floor > self.view.revision
        normal = view.state is GraceState.NORMAL and not strict and not self._is_stopping
        reclaims = view.state is GraceState.ACTIVE and view.in_force and not view.closing and not strict
        reclaims = reclaims and not self._is_stopping
        if normal:
            new = Verdict(True, None, 0.0, view.epoch)
            # Only admit_reclaim can say no: a node may be dead and not noticed yet, and NO_GRACE is final for a client.
            reclaim = Verdict(True, None, 0.0, view.epoch, provisional=True)
        else:
            why = Reason.CLOSED if self._is_stopping else Reason.GRACE_ACTIVE
            new = Verdict(False, why, GRACE_RETRY_SECONDS, view.epoch)
            reclaim = (
                Verdict(True, None, 0.0, view.epoch)
                if reclaims
                else Verdict(False, Reason.CLOSED if self._is_stopping else Reason.BARRIER_PENDING, 0.1, view.epoch)
            )
        self.snapshot = Snapshot(
            owner=self.owner,
            epoch=view.epoch,
            reclaims=reclaims,
            ends_at=self.node_time(view.deadline_ms) if view.deadline_ms else 0.0,
            valid_until=self._valid_until,
            new_until=self._valid_until if normal else NEVER,
            new=new,
            reclaim=reclaim,
            test=Verdict(True, None, 0.0, view.epoch, provisional=not normal),
        )

    # -- reading --------------------------------------------------------------------------------------------------

    @property
    def acked(self) -> int:
        """The revision to which this node has switched its view: never before the snapshot says so."""
        with self._mutex:
            return self._floor

    @property
    def is_over(self) -> bool:
        """Whether this incarnation has ended: it never grants again."""
        return self._why_not not in {Reason.JOINING, Reason.LEASE_LAPSED}

    @property
    def why_not(self) -> Reason:
        """Why nothing is granted while the lease is not valid: for good, or until it is renewed."""
        return self._why_not

    def is_valid(self, now: float) -> bool:
        """Tell whether the lease was renewed in time."""
        return now < self.snapshot.valid_until

    def remaining(self, now: float) -> float:
        """Return seconds of validity left, 0 when lapsed."""
        return max(0.0, self.snapshot.valid_until - now)

    def check(self, operation: Operation, now: float) -> Verdict:
        """Decide locally; an allowed answer is an object that exists already."""
        view = self.snapshot
        if operation is _NEW and now < view.new_until:
            return view.new  # the hot path, for each lock: nothing is looked up, made or compared by value
        if operation == Operation.TEST:
            return view.test if now < view.valid_until else PROVISIONAL
        if operation not in _LOCKING:
            msg = f"operation={operation!r} must be one of {', '.join(o.value for o in Operation)}"
            raise InvalidArgument(msg)
        if now >= view.valid_until:
            return Verdict(False, self._why_not, self._heartbeat, view.epoch)
        if operation == Operation.RECLAIM:
            return view.reclaim
        if view.new.allowed or view.new.reason is not Reason.GRACE_ACTIVE:
            return view.new
        left = max(0.0, view.ends_at - now) if view.ends_at else 0.0
        wait = min(max(left, 0.05), GRACE_RETRY_SECONDS)
        return Verdict(False, Reason.GRACE_ACTIVE, wait, view.epoch, remaining_seconds=left)

    def still_allows(self, operation: Operation, owner: str, epoch: int, now: float) -> bool:
        """Tell whether a check of this owner and epoch still holds: the confirm of a grant."""
        view = self.snapshot
        if view.owner != owner or view.epoch != epoch or now >= view.valid_until:
            return False
        return now < view.new_until if operation is _NEW else view.reclaims

    def grace_remaining(self, now: float) -> float:
        """Return the seconds to the period's deadline (its cap before it is in force) as of `now`; 0 when normal."""
        deadline = self.view.deadline_ms
        return max(0.0, self.node_time(deadline) - now) if deadline else 0.0
