"""The Prometheus families of interfaces.md, section 2; a null object when off. A scrape reads memory only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from coordinator import clock
from coordinator.errors import InvalidArgument
from coordinator.values import GraceState

if TYPE_CHECKING:
    from coordinator.lease import State

SHARES_MAX = 100
OTHER = "_other"
TYPES = ("shared", "exclusive")
STATUSES = ("granted", "denied", "deadlock")
RELEASE_REASONS = ("explicit", "timeout", "disconnect", "grace_expired")
LIMIT_TYPES = ("file", "client", "total", "adapter")
CONNECTION_EVENTS = ("connect", "disconnect", "cancel", "release", "refused")
BLOCKING_BUCKETS = (0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60)
HOLD_BUCKETS = (0.1, 1, 5, 10, 30, 60, 300, 600, 1800, 3600)

__all__ = ["LockMetrics"]


def _closed(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        msg = f"{name}={value!r} must be one of {', '.join(allowed)}"
        raise InvalidArgument(msg)
    return value


class LockMetrics:
    """All families of one node. Without a registry they are kept and not exported."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Create the families in `registry`."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        r = registry
        self._mutex = threading.Lock()
        self._shares: set[str] = set()
        self._remaining: Callable[[float], float] = lambda _: 0.0
        locks = "dittofs_locks_"
        self.acquire = Counter(
            f"{locks}acquire_total", "Lock requests by outcome.", ["share", "type", "status"], registry=r
        )
        self.releases = Counter(f"{locks}release_total", "Locks released by reason.", ["share", "reason"], registry=r)
        self.active = Gauge(f"{locks}active", "Locks held now.", ["share", "type"], registry=r)
        self.blocked = Gauge(f"{locks}blocked", "Lock requests that wait now.", ["share"], registry=r)
        self.blocking = Histogram(
            f"{locks}blocking_duration_seconds",
            "How long a lock request waited.",
            ["share"],
            buckets=BLOCKING_BUCKETS,
            registry=r,
        )
        self.hold = Histogram(
            f"{locks}hold_duration_seconds",
            "How long a lock was held.",
            ["share", "type"],
            buckets=HOLD_BUCKETS,
            registry=r,
        )
        self.grace_active = Gauge(f"{locks}grace_period_active", "1 while a grace period is active.", registry=r)
        self.grace_remaining = Gauge(
            f"{locks}grace_period_remaining_seconds",
            "Seconds to the end of the grace period at the latest.",
            registry=r,
        )
        self.reclaim = Counter(f"{locks}reclaim_total", "Reclaims by outcome.", ["status"], registry=r)
        self.limit_hits = Counter(f"{locks}limit_hits_total", "Limits that were hit.", ["limit_type"], registry=r)
        self.deadlock = Counter(f"{locks}deadlock_detected_total", "Deadlocks found.", registry=r)
        self.connections = Gauge("dittofs_connections_active", "Clients of this node.", ["adapter"], registry=r)
        self.connection_events = Counter(
            "dittofs_connections_total", "Client connection events.", ["adapter", "event"], registry=r
        )
        own = "dittofs_coordinator_"
        self.members = Gauge(f"{own}members", "Members of the scope.", registry=r)
        self.waiting = Gauge(f"{own}waiting_for", "Members that hold up the barrier.", registry=r)
        self.due = Gauge(f"{own}due", "Releases that wait.", registry=r)
        self.errors_total = Counter(
            f"{own}redis_errors_total", "Calls that failed in the keeper, tried again.", ["kind"], registry=r
        )
        self.releases_total = Counter(
            f"{own}releases_total", "Release callbacks by reason and outcome.", ["reason", "outcome"], registry=r
        )
        self.refused_total = Counter(f"{own}refused_total", "Local checks that were refused.", ["reason"], registry=r)
        self.data_loss = Counter(f"{own}data_loss_total", "Times that lost data were noticed.", registry=r)
        for status in ("granted", "denied"):
            self.reclaim.labels(status)
        for kind in LIMIT_TYPES:
            self.limit_hits.labels(kind)
        self.grace_remaining.set_function(lambda: self._remaining(clock.now()))

    @classmethod
    def disabled(cls) -> LockMetrics:
        """Return an object that accepts every call and does nothing."""
        return _Disabled()

    # -- what the lock manager feeds -------------------------------------------------------------------------------

    def share(self, share: str) -> str:
        """Return the label of a share: the first 100 have their own, the rest is `_other`."""
        with self._mutex:
            if share in self._shares:
                return share
            if len(self._shares) < SHARES_MAX:
                self._shares.add(share)
                return share
            return OTHER

    def observe_lock_acquire(self, share: str, type: str, status: str) -> None:  # noqa: A002  (pinned name)
        """Count a lock request: type shared or exclusive, status granted, denied or deadlock."""
        _closed("type", type, TYPES), _closed("status", status, STATUSES)
        self.acquire.labels(self.share(share), type, status).inc()

    def observe_lock_release(self, share: str, reason: str) -> None:
        """Count a lock released: explicit, timeout, disconnect or grace_expired."""
        _closed("reason", reason, RELEASE_REASONS)
        self.releases.labels(self.share(share), reason).inc()

    def set_active_locks(self, share: str, type: str, count: int) -> None:  # noqa: A002  (pinned name)
        """Set the locks held now."""
        _closed("type", type, TYPES)
        self.active.labels(self.share(share), type).set(count)

    def set_blocked_locks(self, share: str, count: int) -> None:
        """Set the requests that wait now."""
        self.blocked.labels(self.share(share)).set(count)

    def observe_blocking_duration(self, share: str, seconds: float) -> None:
        """Observe how long a request waited."""
        self.blocking.labels(self.share(share)).observe(seconds)

    def observe_lock_hold_duration(self, share: str, type: str, seconds: float) -> None:  # noqa: A002  (pinned name)
        """Observe how long a lock was held."""
        _closed("type", type, TYPES)
        self.hold.labels(self.share(share), type).observe(seconds)

    def observe_lock_limit_hit(self, limit_type: str) -> None:
        """Count a limit that was hit: file, client, total or adapter."""
        self.limit_hits.labels(_closed("limit_type", limit_type, LIMIT_TYPES)).inc()

    def observe_deadlock(self) -> None:
        """Count a deadlock."""
        self.deadlock.inc()

    # -- what the coordinator feeds --------------------------------------------------------------------------------

    def set_grace(self, state: State, remaining: Callable[[float], float]) -> None:
        """Take the present state; `remaining` answers seconds for a node time."""
        self._remaining = remaining
        self.grace_active.set(state.state is GraceState.ACTIVE)

    def set_scope(self, members: int, waiting: int, due: int, clients: Mapping[str, int]) -> None:
        """Take what a renewal told."""
        self.members.set(members)
        self.waiting.set(waiting)
        self.due.set(due)
        for adapter, count in clients.items():
            self.connections.labels(adapter).set(count)

    def connection(self, adapter: str, event: str) -> None:
        """Count a connection event: connect, disconnect, cancel, release or refused."""
        self.connection_events.labels(adapter, _closed("event", event, CONNECTION_EVENTS)).inc()

    def release(self, adapter: str, reason: str, outcome: str) -> None:
        """Count a release callback: done, stale or failed."""
        self.releases_total.labels(reason, outcome).inc()
        if outcome == "done" and adapter:
            self.connection(adapter, "release")

    def reclaimed(self, *, granted: bool) -> None:
        """Count an admission that was refused or a completion."""
        self.reclaim.labels("granted" if granted else "denied").inc()

    def refused(self, reason: str) -> None:
        """Count a local check that was refused."""
        self.refused_total.labels(reason).inc()

    def error(self, kind: str) -> None:
        """Count a duty that failed and is tried again."""
        self.errors_total.labels(kind).inc()

    def data_lost(self) -> None:
        """Count lost data that was noticed."""
        self.data_loss.inc()


class _Disabled(LockMetrics):
    """Accepts every call of LockMetrics and does nothing."""

    def __init__(self) -> None:
        """Create no family."""

    def __getattribute__(self, name: str) -> Any:
        """Answer every method of LockMetrics by one that does nothing."""
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        return _nothing


def _nothing(*_: object, **__: object) -> None:
    """Do nothing."""
