"""What one coordinator feeds into the families of LockMetrics, and what a scrape reads of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from prometheus_client.metrics import MetricWrapperBase

from coordinator.protocol import script
from coordinator.values import GraceState, Reason

if TYPE_CHECKING:
    from coordinator.metrics.families import LockMetrics
    from coordinator.protocol import View


class Lease(Protocol):
    """What a scrape reads of a node's lease."""

    view: View

    @property
    def is_over(self) -> bool:
        """Whether this incarnation has ended."""

    def is_valid(self, now: float) -> bool:
        """Tell whether the lease was renewed in time."""

    def remaining(self, now: float) -> float:
        """Return seconds of validity left."""

    def grace_remaining(self, now: float) -> float:
        """Return the seconds to the end of the period at the latest."""


M = TypeVar("M", bound=MetricWrapperBase)

OTHER = "_other"
RECLAIM_STATUSES = ("granted", "denied")
CONNECTION_EVENTS = ("connect", "disconnect", "cancel", "release", "refused")
ERROR_KINDS = ("unavailable", "outcome_unknown", "contract_broken", "data_lost")
PHASES = ("detect", "enforce", "reclaim", "lift")
RELEASE_REASONS = ("disconnect", "revoked", "rebooted", "forfeited", "orphaned")
OUTCOMES = ("done", "stale", "failed")


class _Bound(Generic[M]):
    """The children of a family for closed sets of label values, made at start; an unknown value counts as `_other`."""

    def __init__(self, family: M, fixed: tuple[str, ...], *sets: Iterable[str]) -> None:
        self._family, self._fixed = family, fixed
        self._sets = [tuple(values) for values in sets]
        self._children = {values: family.labels(*fixed, *values) for values in itertools.product(*self._sets)}

    def __call__(self, *values: str) -> M:
        child = self._children.get(values)
        if child is None:
            known = (value if value in allowed else OTHER for value, allowed in zip(values, self._sets, strict=True))
            child = self._family.labels(*self._fixed, *known)
        return child


class NodeMetrics:
    """What one coordinator feeds, and what a scrape reads of it: memory that is replaced whole, without any lock."""

    def __init__(  # noqa: PLR0913  (as LockMetrics.bind)
        self,
        families: LockMetrics,
        node: str,
        scope: str,
        adapters: Iterable[str],
        *,
        lease: Lease,
        clients: Callable[[], Mapping[str, int]],
        now: Callable[[], float],
    ) -> None:
        """Make every child there can be, so that all rates begin at 0."""
        self._lease, self._counts, self._now = lease, clients, now
        here = (node, scope)
        families.up.labels(*here).set_function(lambda: lease.is_valid(now()))
        families.lease_remaining.labels(*here).set_function(lambda: lease.remaining(now()))
        families.epoch.labels(*here).set_function(lambda: lease.view.epoch)
        families.in_force.labels(*here).set_function(lambda: self.grace_active and lease.view.in_force)
        self._members = families.members.labels(*here)
        self._waiting_for = families.waiting_for.labels(*here)
        self._due = families.due.labels(*here)
        self._calls = _Bound(families.redis_calls, here, script.names())
        self._errors = _Bound(families.redis_errors, here, ERROR_KINDS)
        self._barriers = families.barriers.labels(*here)
        self._failovers = _Bound(families.failovers, here, PHASES)
        self._releases = _Bound(families.release_outcomes, here, RELEASE_REASONS, OUTCOMES)
        self._refusals = _Bound(families.refusals, here, (reason.value for reason in Reason))
        self._yields = families.yields.labels(*here)
        self._stale_grants = families.stale_grants.labels(*here)
        self._data_losses = families.data_losses.labels(*here)
        self._connections = _Bound(families.connection_events, (), adapters, CONNECTION_EVENTS)
        self._reclaims = _Bound(families.reclaim, (), RECLAIM_STATUSES)
        self._limit_hit = families.limit_hits.labels("adapter")
        self._epoch = 0
        self._began: dict[str, int] = {}
        """Scope clock of each event of this epoch's period that was heard."""
        self._lost_owner = ""
        """The owner whose loss started it, if that is what did."""

    # -- what a scrape reads ---------------------------------------------------------------------------------------

    @property
    def grace_active(self) -> bool:
        """Whether a period is active, as far as this node knows; a closed one knows nothing."""
        return self._lease.view.state is GraceState.ACTIVE and not self._lease.is_over

    @property
    def grace_remaining(self) -> float:
        """Seconds to the end of that period at the latest."""
        return self._lease.grace_remaining(self._now()) if self.grace_active else 0.0

    def clients(self, adapter: str) -> int:
        """Return how many clients of an adapter this node serves."""
        return 0 if self._lease.is_over else self._counts().get(adapter, 0)

    # -- what is fed -----------------------------------------------------------------------------------------------

    def round_trip(self, script: str, seconds: float, error: str | None) -> None:
        """Observe a round trip, and why it failed if it did."""
        self._calls(script).observe(seconds)
        if error is not None:
            self._errors(error).inc()

    def renewed(self, members: int, waiting_for: int, due: int) -> None:
        """Take what a renewal told."""
        self._members.set(members)
        self._waiting_for.set(waiting_for)
        self._due.set(due)

    def connection(self, adapter: str, event: str) -> None:
        """Count a connection event: connect, disconnect, cancel, release or refused."""
        self._connections(adapter, event).inc()

    def limit_hit(self) -> None:
        """Count a registration for which its adapter had no place."""
        self._limit_hit.inc()

    def release(self, adapter: str, reason: str, outcome: str) -> None:
        """Count a release callback: done, stale or failed."""
        self._releases(reason, outcome).inc()
        if outcome == "done" and adapter:
            self.connection(adapter, "release")

    def reclaimed(self, *, granted: bool) -> None:
        """Count a completion, or an admission that was refused."""
        self._reclaims("granted" if granted else "denied").inc()

    def refused(self, reason: str) -> None:
        """Count a local check that was refused."""
        self._refusals(reason).inc()

    def yielded(self) -> None:
        """Count a client that was yielded to another node."""
        self._yields.inc()

    def stale_grant(self) -> None:
        """Count a grant that was overtaken before it was confirmed."""
        self._stale_grants.inc()

    def data_lost(self) -> None:
        """Count lost data that was noticed."""
        self._data_losses.inc()

    def heard(self, kind: str, event: Mapping[str, bytes]) -> None:
        """Observe, by the scope clock of the events, how long each step of a period took; each once per epoch.

        A step of which an event was lost, or came before this node joined, is not observed.
        """
        if kind not in {"start", "evicted", "in_force", "closing", "lift"}:
            return
        epoch, at = int(event["epoch"]), int(event["clock"])
        if epoch > self._epoch:
            self._epoch, self._began, self._lost_owner = epoch, {}, ""
        if epoch < self._epoch or kind in self._began:
            return  # heard before
        match kind:
            case "start":
                owner = event["owner"].decode()
                # A lost owner is <node>:<incarnation>; a restored roster has three parts, a cold start has none.
                self._lost_owner = owner if owner.count(":") == 1 else ""
            case "evicted":
                if self._lost_owner == event["owner"].decode() and "silent" in event:
                    self._phase("detect", int(event["silent"]))
            case "in_force":
                self._step("start", at, "enforce", barrier=True)
            case "closing":
                self._step("in_force", at, "reclaim", barrier=False)
            case "lift":
                self._step("closing", at, "lift", barrier=True)
        self._began[kind] = at

    def _step(self, since: str, at: int, phase: str, *, barrier: bool) -> None:
        if since not in self._began:
            return
        took = at - self._began[since]
        if barrier:
            self._barriers.observe(took / 1000)
        if self._lost_owner:
            self._phase(phase, took)

    def _phase(self, phase: str, milliseconds: int) -> None:
        self._failovers(phase).observe(milliseconds / 1000)
