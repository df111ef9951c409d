"""The node's lease and cached view: a pure machine. No I/O, no clock: `now` (node time, seconds) is passed in.

Rules (protocol, sections 3, 5, 6): validity counts from before the renewal was sent; a reply or event tightens at
once; only a reply of a revision that is not older loosens; a tightening of this node's own is held until the reply
to that very call, after an unknown outcome until a reply to a request that says that it was given up.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.errors import InvalidArgument
from coordinator.settings import CLOCK_DRIFT_MAX, CLOCK_STEP_MAX_SECONDS
from coordinator.values import GraceState, Operation, Reason, Verdict

if TYPE_CHECKING:
    from coordinator.settings import Settings

NEVER = float("-inf")
_SINCE_MAX = CLOCK_STEP_MAX_SECONDS - 0.01
_NEW = Operation.NEW
_LOCKING = (Operation.NEW, Operation.RECLAIM)
PROVISIONAL = Verdict(allowed=True, reason=None, retry_after=0.0, epoch=0, provisional=True)
"""The answer to a test while the view is not valid: its epoch is not known."""


@dataclass(frozen=True, slots=True)
class Head:
    """What every request carries: ARGV[1] to ARGV[8] of lua/include/begin.lua."""

    owner: str
    not_after_ms: int
    dataset: str
    writes: int
    revision: int
    epoch: int
    sent: float
    over_at: float = 0.0
    """Node time by which `not_after_ms` has passed, unless the clock of Redis' machine was set back meanwhile."""
    serial: int = 0
    floor: int = 0
    """What was sent below this serial is given up: once this request was executed, it can do nothing for certain."""


@dataclass(frozen=True, slots=True)
class State:
    """What every reply tells of the scope: the head of lua/include/reply.lua."""

    clock_ms: int
    dataset: str
    revision: int
    epoch: int
    state: GraceState
    writes: int
    in_force: bool
    closing: bool
    reclaim_until_ms: int
    cap_ms: int

    @property
    def deadline_ms(self) -> int:
        """When the period ends at the latest, as far as is known (its cap before it is in force); 0 when normal."""
        return (self.reclaim_until_ms or self.cap_ms) if self.state is GraceState.ACTIVE else 0

    @property
    def ended_epoch(self) -> int:
        """The newest epoch whose period is over."""
        return self.epoch - (self.state is GraceState.ACTIVE)


NOTHING = State(0, "", -1, 0, GraceState.NORMAL, 0, in_force=False, closing=False, reclaim_until_ms=0, cap_ms=0)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What `check` and `confirm` read: immutable, replaced whole."""

    owner: str
    epoch: int
    state: GraceState
    reclaims: bool
    """In force, not closing, nothing held: a reclaim may be admitted."""
    strict: bool
    """Tightened by this node itself or by an event: nothing is granted, nothing reclaimed."""
    ends_at: float
    """Node time by which the period ends at the latest, as far as is known."""
    valid_until: float
    new: Verdict
    reclaim: Verdict
    test: Verdict


def _snapshot(owner: str, state: State, *, strict: bool, ends_at: float, valid_until: float) -> Snapshot:
    normal = state.state is GraceState.NORMAL and not strict
    reclaims = state.state is GraceState.ACTIVE and state.in_force and not state.closing and not strict
    if normal:
        new = Verdict(True, None, 0.0, state.epoch)
        # Only admit_reclaim can say no: a node may be dead and not noticed yet, and NO_GRACE is final for a client.
        reclaim = Verdict(True, None, 0.0, state.epoch, provisional=True)
    else:
        new = Verdict(False, Reason.GRACE_ACTIVE, 0.0, state.epoch)
        reclaim = (
            Verdict(True, None, 0.0, state.epoch)
            if reclaims
            else Verdict(False, Reason.BARRIER_PENDING, 0.1, state.epoch)
        )
    test = Verdict(True, None, 0.0, state.epoch, provisional=not normal)
    return Snapshot(
        owner,
        state.epoch,
        GraceState.NORMAL if normal else GraceState.ACTIVE,
        reclaims,
        strict,
        ends_at,
        valid_until,
        new,
        reclaim,
        test,
    )


class Lease:
    """One incarnation's lease. Thread-safe; `check` and `confirm` take no lock."""

    def __init__(self, settings: Settings) -> None:
        """Start without an incarnation: everything but `test` is refused."""
        self._validity = settings.validity_seconds
        self._op_timeout = settings.op_timeout_seconds
        self._heartbeat = settings.heartbeat_seconds
        self._mutex = threading.Lock()
        self._tokens = itertools.count(1)
        self._dead: Reason | None = Reason.LEASE_LAPSED
        self._holds: dict[int, int | None] = {}
        """Tightenings of this node's own; of one whose call was given up, the floor that a later request must have."""
        self._serial = self._given_up = 0
        self._begin("", NOTHING, 0.0, 0.0, NEVER)

    def _begin(self, owner: str, state: State, sent: float, received: float, valid_until: float) -> None:
        self.owner = owner
        self._renewed = sent
        self.state = state
        self._view_sent = sent
        self._anchor = (state.clock_ms, received)
        self._valid_until = valid_until
        self._floor = state.revision
        self._writes = state.writes
        self._rebuild()

    # -- the node's time and the scope's ------------------------------------------------------------------------

    def node_time(self, deadline_ms: int) -> float:
        """Return the node time at which the scope clock reaches `deadline_ms`, if nothing delays it."""
        clock_ms, received = self._anchor
        return received + (deadline_ms - clock_ms) / 1000

    def head(self, now: float) -> Head:
        """Return the head of a request sent at `now`: past its `not_after` the request does nothing."""
        with self._mutex:
            clock_ms, received = self._anchor
            not_after = 0
            if self.owner:
                # The scope clock may have stood still since the last reply, and the next script moves it by one step
                # at the most: a later not_after might not have passed when the node goes on at `over_at`.
                since = max(0.0, min((now - received) * (1 - CLOCK_DRIFT_MAX), _SINCE_MAX - self._op_timeout))
                not_after = clock_ms + int((since + self._op_timeout) * 1000)
            state = self.state
            self._serial += 1
            return Head(
                self.owner,
                not_after,
                state.dataset,
                self._writes,
                max(state.revision, 0),
                max(state.epoch, 0),
                now,
                now + self._op_timeout / (1 - CLOCK_DRIFT_MAX) + 0.002,
                self._serial,
                self._given_up,
            )

    def give_up(self, head: Head) -> None:
        """Have every request from now on say that what was sent up to this one must do nothing any more."""
        with self._mutex:
            self._given_up = max(self._given_up, head.serial + 1)

    # -- transitions ----------------------------------------------------------------------------------------------

    def joined(self, owner: str, state: State, sent: float, received: float, *, fresh: bool) -> None:
        """Begin an incarnation. A repeated join (not `fresh`) gives no validity: the first one's was lost."""
        with self._mutex:
            if self._dead is Reason.CLOSED:
                return
            self._dead = None
            self._begin(owner, state, sent, received, sent + self._validity if fresh else NEVER)

    def renewed(self, head: Head, state: State, received: float, *, extended: bool) -> None:
        """Take a renewal: the only reply that extends the validity, from before it was sent."""
        sent = head.sent
        with self._mutex:
            if extended and self._dead is None and head.owner == self.owner:
                self._valid_until = max(self._valid_until, sent + self._validity)
                self._renewed = sent
            self._observe(head, state, received)

    def observe(self, head: Head, state: State, received: float) -> None:
        """Take the head of any other reply to the request with `head`; one of another incarnation is ignored."""
        with self._mutex:
            self._observe(head, state, received)

    def _observe(self, head: Head, state: State, received: float) -> None:
        if head.owner != self.owner or state.dataset != self.state.dataset:
            return
        sent = head.sent
        if state.clock_ms >= self._anchor[0]:
            self._anchor = (state.clock_ms, received)
        self._writes = max(self._writes, state.writes)
        for token, floor in list(self._holds.items()):
            if floor is not None and head.floor >= floor:
                del self._holds[token]
        if state.revision >= self._floor and (state.revision, sent) >= (self.state.revision, self._view_sent):
            self.state, self._view_sent, self._floor = state, sent, state.revision
        self._rebuild()

    def tighten(self) -> int:
        """Hold the strictest view until `release` with the returned token."""
        with self._mutex:
            token = next(self._tokens)
            self._holds[token] = None
            self._rebuild()
            return token

    def release(self, token: int, *, unknown: bool = False) -> None:
        """End a hold: its call was answered, or (`unknown`) given up: once a reply to a request that says so came."""
        with self._mutex:
            if unknown:
                self._given_up = self._holds[token] = self._serial + 1
            else:
                self._holds.pop(token, None)
            self._rebuild()

    def told(self, revision: int) -> bool:
        """Take an event that starts or closes a period; return whether it was news. Strict until a reply as new."""
        with self._mutex:
            if revision <= self._floor:
                return False
            self._floor = revision
            self._rebuild()
            return True

    def invalidate(self, reason: Reason = Reason.LEASE_LAPSED) -> None:
        """End this incarnation's validity for good: fenced, data lost, leaving or closed."""
        with self._mutex:
            if self._dead is not Reason.CLOSED:
                self._dead = reason
            self._valid_until = NEVER
            self._rebuild()

    def _rebuild(self) -> None:
        strict = bool(self._holds) or self._floor > self.state.revision
        deadline = self.state.deadline_ms
        self.snapshot = _snapshot(
            self.owner,
            self.state,
            strict=strict,
            ends_at=self.node_time(deadline) if deadline else 0.0,
            valid_until=self._valid_until,
        )

    # -- reading --------------------------------------------------------------------------------------------------

    @property
    def acked(self) -> int:
        """The revision to which this node has switched its view: never before the snapshot says so."""
        with self._mutex:
            return self._floor

    @property
    def closed(self) -> bool:
        """Whether its node left or was abandoned: what it knows is of the past."""
        return self._dead is Reason.CLOSED

    def is_valid(self, now: float) -> bool:
        """Tell whether the lease was renewed in time."""
        return now < self.snapshot.valid_until

    def remaining(self, now: float) -> float:
        """Return seconds of validity left, 0 when lapsed."""
        return max(0.0, self.snapshot.valid_until - now)

    def silent(self, now: float) -> float:
        """Return seconds since a renewal was sent that was answered."""
        return now - self._renewed

    def check(self, operation: Operation, now: float) -> Verdict:
        """Decide locally; an allowed answer is an object that exists already."""
        view = self.snapshot
        if operation is _NEW and now < view.valid_until and view.new.allowed:
            return view.new  # the hot path, for each lock: nothing is looked up, made or compared by value
        if operation == Operation.TEST:
            return view.test if now < view.valid_until else PROVISIONAL
        if operation not in _LOCKING:
            msg = f"operation={operation!r} must be one of {', '.join(o.value for o in Operation)}"
            raise InvalidArgument(msg)
        if now >= view.valid_until:
            return Verdict(False, self._dead or Reason.LEASE_LAPSED, self._heartbeat, view.epoch)
        if operation == Operation.RECLAIM:
            return view.reclaim
        if view.new.allowed:
            return view.new  # asked for by value
        wait = max(view.ends_at - now, 0.05) if view.ends_at else 0.1
        return Verdict(False, Reason.GRACE_ACTIVE, wait, view.epoch)

    def still_allows(self, operation: Operation, owner: str, epoch: int, now: float) -> bool:
        """Tell whether a check of this owner and epoch still holds: the confirm of a grant."""
        view = self.snapshot
        if view.owner != owner or view.epoch != epoch or now >= view.valid_until:
            return False
        return view.new.allowed if operation is Operation.NEW else view.reclaims

    def grace_remaining(self, now: float) -> float:
        """Return the seconds to the period's deadline (its cap before it is in force) as of `now`; 0 when normal."""
        deadline = self.state.deadline_ms
        return max(0.0, self.node_time(deadline) - now) if deadline else 0.0
