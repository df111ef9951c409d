"""The Prometheus families of interfaces.md, section 2; a null object when off. A scrape reads memory only."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from coordinator._version import __version__
from coordinator.errors import InvalidArgument
from coordinator.metrics.node import OTHER, Lease, NodeMetrics
from coordinator.settings import SECONDS_MAX
from coordinator.values import at_least_0

SHARES_MAX = 100
COUNT_MAX = 2**53
TYPES = ("shared", "exclusive")
STATUSES = ("granted", "denied", "deadlock")
RELEASE_REASONS = ("explicit", "timeout", "disconnect", "grace_expired")
LIMIT_TYPES = ("file", "client", "total", "adapter")
BLOCKING_BUCKETS = (0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60)
HOLD_BUCKETS = (0.1, 1, 5, 10, 30, 60, 300, 600, 1800, 3600)
CALL_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
BARRIER_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30)
FAILOVER_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120, 300, 600, 3600)

__all__ = ["LockMetrics"]


def _closed(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        msg = f"{name}={value!r} must be one of {', '.join(allowed)}"
        raise InvalidArgument(msg)
    return value


class LockMetrics:
    """All families of one process. Without a registry they are kept and not exported."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Create the families in `registry`."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        r = registry
        self._mutex = threading.Lock()
        self._shares: set[str] = set()
        self._others: dict[tuple[Gauge, str, tuple[str, ...]], float] = {}
        """What each gauge was set to for each share that has no label of its own, and for each of its other labels."""
        self._nodes: dict[tuple[str, str], NodeMetrics] = {}
        """Replaced whole, so that a scrape reads it without a lock."""
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
        own, here = "dittofs_coordinator_", ["node", "scope"]
        self.build_info = Gauge(f"{own}build_info", "1, with the version of this library.", ["version"], registry=r)
        self.up = Gauge(f"{own}up", "1 while joined with a valid lease: safe to admit new locks.", here, registry=r)
        self.epoch = Gauge(f"{own}epoch", "Serial number of the last grace period.", here, registry=r)
        self.lease_remaining = Gauge(
            f"{own}lease_remaining_seconds", "Seconds of validity left of the lease.", here, registry=r
        )
        self.in_force = Gauge(f"{own}in_force", "1 while a grace period is in force.", here, registry=r)
        self.members = Gauge(f"{own}members", "Members of the scope, as of the last renewal.", here, registry=r)
        self.waiting_for = Gauge(
            f"{own}waiting_for", "Members that hold up a barrier, as of the last renewal.", here, registry=r
        )
        self.due = Gauge(f"{own}due", "Releases that wait in the scope, as of the last renewal.", here, registry=r)
        self.redis_calls = Histogram(
            f"{own}redis_call_seconds",
            "How long a round trip took, however it ended.",
            [*here, "script"],
            buckets=CALL_BUCKETS,
            registry=r,
        )
        self.yields = Counter(f"{own}yields_total", "Clients yielded to another node.", here, registry=r)
        self.stale_grants = Counter(
            f"{own}stale_grants_total", "Grants overtaken before they were confirmed.", here, registry=r
        )
        self.redis_errors = Counter(f"{own}redis_errors_total", "Round trips that failed.", [*here, "kind"], registry=r)
        self.barriers = Histogram(
            f"{own}barrier_seconds",
            "How long a start or a close waited for all members.",
            here,
            buckets=BARRIER_BUCKETS,
            registry=r,
        )
        self.failovers = Histogram(
            f"{own}failover_seconds",
            "How long each phase of a lost node's or a hand-off's recovery took.",
            [*here, "phase"],
            buckets=FAILOVER_BUCKETS,
            registry=r,
        )
        self.release_outcomes = Counter(
            f"{own}releases_total", "Release callbacks by outcome.", [*here, "reason", "outcome"], registry=r
        )
        self.refusals = Counter(f"{own}refused_total", "Local checks that were refused.", [*here, "reason"], registry=r)
        self.data_losses = Counter(f"{own}data_loss_total", "Times that lost data were noticed.", here, registry=r)
        self.build_info.labels(__version__).set(1)
        for kind in LIMIT_TYPES:
            self.limit_hits.labels(kind)
        self.grace_active.set_function(lambda: any(node.grace_active for node in self._nodes.values()))
        self.grace_remaining.set_function(
            lambda: max((node.grace_remaining for node in self._nodes.values()), default=0.0)
        )

    @classmethod
    def disabled(cls) -> LockMetrics:
        """Return an object that accepts every call and does nothing."""
        return _Disabled()

    # -- what the lock manager feeds -------------------------------------------------------------------------------

    def share(self, share: str) -> str:
        """Return the label of a share: the first 100 have their own, the rest is `_other`.

        A label is Unicode; other bytes of a path (surrogates, in Python) are shown as escapes.
        """
        if not isinstance(share, str):
            msg = f"share={share!r:.60} must be a str, not {type(share).__name__}"
            raise InvalidArgument(msg)
        label = share.encode("utf-8", "backslashreplace").decode()
        with self._mutex:
            if label in self._shares:
                return label
            if label != OTHER and len(self._shares) < SHARES_MAX:
                self._shares.add(label)
                return label
            return OTHER

    def _set(self, gauge: Gauge, share: str, labels: tuple[str, ...], count: float) -> None:
        """Set a gauge of a share; those of the shares without a label of their own add up."""
        at_least_0("count", count, COUNT_MAX)
        label = self.share(share)
        child = gauge.labels(label, *labels)
        if label != OTHER:
            child.set(count)
            return
        key = (gauge, share, labels)
        with self._mutex:
            child.inc(count - self._others.pop(key, 0))
            if count:  # one that is at 0 need not be remembered
                self._others[key] = count

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
        self._set(self.active, share, (type,), count)

    def set_blocked_locks(self, share: str, count: int) -> None:
        """Set the requests that wait now."""
        self._set(self.blocked, share, (), count)

    def observe_blocking_duration(self, share: str, seconds: float) -> None:
        """Observe how long a request waited."""
        at_least_0("seconds", seconds, SECONDS_MAX)
        self.blocking.labels(self.share(share)).observe(seconds)

    def observe_lock_hold_duration(self, share: str, type: str, seconds: float) -> None:  # noqa: A002  (pinned name)
        """Observe how long a lock was held."""
        _closed("type", type, TYPES)
        at_least_0("seconds", seconds, SECONDS_MAX)
        self.hold.labels(self.share(share), type).observe(seconds)

    def observe_lock_limit_hit(self, limit_type: str) -> None:
        """Count a limit that was hit: file, client, total or adapter."""
        self.limit_hits.labels(_closed("limit_type", limit_type, LIMIT_TYPES)).inc()

    def observe_deadlock(self) -> None:
        """Count a deadlock."""
        self.deadlock.inc()

    # -- what a coordinator feeds ----------------------------------------------------------------------------------

    def bind(  # noqa: PLR0913  (the labels, and what a scrape reads)
        self,
        node: str,
        scope: str,
        adapters: Iterable[str],
        *,
        lease: Lease,
        clients: Callable[[], Mapping[str, int]],
        now: Callable[[], float],
    ) -> NodeMetrics:
        """Return what the coordinator of `node` in `scope` feeds; it replaces an earlier one of the same name."""
        bound = NodeMetrics(self, node, scope, adapters, lease=lease, clients=clients, now=now)
        with self._mutex:
            self._nodes = {**self._nodes, (node, scope): bound}
        for adapter in adapters:
            self.connections.labels(adapter).set_function(functools.partial(self._clients, adapter))
        return bound

    def _clients(self, adapter: str) -> int:
        return sum(node.clients(adapter) for node in self._nodes.values())


class _Nothing:
    """Answers every method but those of the class itself by one that does nothing."""

    def __init__(self) -> None:
        """Create no family."""

    def __getattribute__(self, name: str) -> Any:
        """Answer."""
        if name.startswith("__") or name in type(self).__dict__:
            return object.__getattribute__(self, name)
        return _nothing


class _DisabledNode(_Nothing, NodeMetrics):
    """Accepts every call of NodeMetrics and does nothing."""


class _Disabled(_Nothing, LockMetrics):
    """Accepts every call of LockMetrics and does nothing."""

    def bind(self, *_: object, **__: object) -> NodeMetrics:
        """Return what does nothing either."""
        return _DisabledNode()


def _nothing(*_: object, **__: object) -> None:
    """Do nothing."""
