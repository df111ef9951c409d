"""The families of interfaces.md, section 2, as a scrape shows them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from coordinator import GraceState, InvalidArgument, LockMetrics, Settings
from coordinator.lease import NOTHING, Lease
from coordinator.metrics import OTHER, SHARES_MAX

BLOCKING = (0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60)
HOLD = (0.1, 1, 5, 10, 30, 60, 300, 600, 1800, 3600)
FAMILIES: dict[str, tuple[str, set[str], tuple[float, ...]]] = {
    "dittofs_locks_acquire_total": ("counter", {"share", "type", "status"}, ()),
    "dittofs_locks_release_total": ("counter", {"share", "reason"}, ()),
    "dittofs_locks_active": ("gauge", {"share", "type"}, ()),
    "dittofs_locks_blocked": ("gauge", {"share"}, ()),
    "dittofs_locks_blocking_duration_seconds": ("histogram", {"share"}, BLOCKING),
    "dittofs_locks_hold_duration_seconds": ("histogram", {"share", "type"}, HOLD),
    "dittofs_locks_grace_period_active": ("gauge", set(), ()),
    "dittofs_locks_grace_period_remaining_seconds": ("gauge", set(), ()),
    "dittofs_locks_reclaim_total": ("counter", {"status"}, ()),
    "dittofs_locks_limit_hits_total": ("counter", {"limit_type"}, ()),
    "dittofs_locks_deadlock_detected_total": ("counter", set(), ()),
    "dittofs_connections_active": ("gauge", {"adapter"}, ()),
    "dittofs_connections_total": ("counter", {"adapter", "event"}, ()),
}
ACTIVE = replace(NOTHING, state=GraceState.ACTIVE, epoch=1)
VALID: dict[str, Any] = {
    "share": "/export",
    "type": "shared",
    "status": "granted",
    "count": 2,
    "seconds": 0.5,
    "limit_type": "file",
    "state": ACTIVE,
    "remaining": lambda _: 1.0,
    "members": 1,
    "waiting": 0,
    "due": 0,
    "clients": {"nfs": 1},
    "adapter": "nfs",
    "event": "connect",
    "outcome": "done",
    "granted": True,
    "kind": "Unavailable",
}
METHODS = sorted(
    name for name, member in vars(LockMetrics).items() if inspect.isfunction(member) and not name.startswith("_")
)
DISABLED = LockMetrics.disabled()


def feed(metrics: LockMetrics, name: str) -> None:
    """Call a method with an argument for each of its parameters."""
    parameters = list(inspect.signature(getattr(LockMetrics, name)).parameters.values())[1:]
    given = {p.name: VALID.get(p.name, "explicit") for p in parameters}
    positional = [given[p.name] for p in parameters if p.kind is not p.KEYWORD_ONLY]
    named = {p.name: given[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}
    getattr(metrics, name)(*positional, **named)


def fed() -> CollectorRegistry:
    """Return the registry of metrics whose every method was called once."""
    registry = CollectorRegistry()
    metrics = LockMetrics(registry)
    for name in METHODS:
        feed(metrics, name)
    return registry


def scrape(registry: CollectorRegistry) -> str:
    """Return what a scrape shows."""
    return generate_latest(registry).decode()


def test_the_thirteen_families_and_no_other() -> None:
    """Names, types, label names and buckets are exactly the design's."""
    shown: dict[str, tuple[str, set[str], tuple[float, ...]]] = {}
    for family in text_string_to_metric_families(scrape(fed())):
        if not family.name.startswith(("dittofs_locks_", "dittofs_connections")):
            continue
        assert family.samples, f"{family.name} was fed and shows nothing"
        label_sets = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        assert len(label_sets) == 1
        buckets = tuple(float(s.labels["le"]) for s in family.samples if s.name.endswith("_bucket"))
        name = family.name + ("_total" if family.type == "counter" else "")
        shown[name] = (family.type, set(label_sets.pop()), buckets)
    expected = {
        name: (kind, labels, (*buckets, float("inf")) if buckets else ())
        for name, (kind, labels, buckets) in FAMILIES.items()
    }
    assert shown == expected


def test_every_family_has_a_help_line() -> None:
    """A scrape explains each family, as promtool asks."""
    lines = scrape(fed()).splitlines()
    for name in FAMILIES:
        assert any(line.startswith(f"# HELP {name} ") and line != f"# HELP {name} " for line in lines)


@pytest.mark.parametrize(
    ("call", "sample", "labels", "value"),
    [
        (lambda m: m.observe_lock_acquire("/s", "exclusive", "deadlock"), "locks_acquire_total",
         {"share": "/s", "type": "exclusive", "status": "deadlock"}, 1),
        (lambda m: m.observe_lock_release("/s", "grace_expired"), "locks_release_total",
         {"share": "/s", "reason": "grace_expired"}, 1),
        (lambda m: m.set_active_locks("/s", "shared", 4), "locks_active", {"share": "/s", "type": "shared"}, 4),
        (lambda m: m.set_blocked_locks("/s", 3), "locks_blocked", {"share": "/s"}, 3),
        (lambda m: m.observe_blocking_duration("/s", 0.25), "locks_blocking_duration_seconds_sum", {"share": "/s"},
         0.25),
        (lambda m: m.observe_lock_hold_duration("/s", "shared", 2.5), "locks_hold_duration_seconds_sum",
         {"share": "/s", "type": "shared"}, 2.5),
        (lambda m: m.set_grace(ACTIVE, lambda _: 7.0), "locks_grace_period_active", {}, 1),
        (lambda m: m.set_grace(NOTHING, lambda _: 0.0), "locks_grace_period_active", {}, 0),
        (lambda m: m.reclaimed(granted=True), "locks_reclaim_total", {"status": "granted"}, 1),
        (lambda m: m.reclaimed(granted=False), "locks_reclaim_total", {"status": "denied"}, 1),
        (lambda m: m.observe_lock_limit_hit("total"), "locks_limit_hits_total", {"limit_type": "total"}, 1),
        (lambda m: m.observe_deadlock(), "locks_deadlock_detected_total", {}, 1),
        (lambda m: m.set_scope(1, 0, 0, {"smb": 5}), "connections_active", {"adapter": "smb"}, 5),
        (lambda m: m.connection("smb", "cancel"), "connections_total", {"adapter": "smb", "event": "cancel"}, 1),
        (lambda m: m.release("smb", "disconnect", "done"), "connections_total",
         {"adapter": "smb", "event": "release"}, 1),
    ],
)  # fmt: skip
def test_each_call_moves_its_family(
    call: Callable[[LockMetrics], None], sample: str, labels: dict[str, str], value: float
) -> None:
    """One call shows as one value with its labels."""
    registry = CollectorRegistry()
    call(LockMetrics(registry))
    assert registry.get_sample_value(f"dittofs_{sample}", labels) == value


@pytest.mark.parametrize("outcome", ["failed", "stale"])
def test_a_release_that_was_not_done_is_no_connection_event(outcome: str) -> None:
    """Only a release that was acknowledged counts as one of a connection."""
    registry = CollectorRegistry()
    LockMetrics(registry).release("nfs", "disconnect", outcome)
    assert registry.get_sample_value("dittofs_connections_total", {"adapter": "nfs", "event": "release"}) is None


@pytest.mark.parametrize("name", METHODS)
def test_unregistered_metrics_take_every_call(name: str) -> None:
    """Without a registry all calls work and the process's default registry shows nothing of them."""
    feed(LockMetrics(), name)
    assert "dittofs_" not in scrape(prometheus_client.REGISTRY)


@pytest.mark.parametrize("name", METHODS)
def test_disabled_metrics_take_every_call(name: str) -> None:
    """The null object is a LockMetrics that answers every public method, whatever the arguments."""
    assert isinstance(DISABLED, LockMetrics)
    feed(DISABLED, name)
    assert getattr(DISABLED, name)("nonsense", type="nonsense") is None


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda m, bad: m.observe_lock_acquire("/s", bad, "granted"), "type"),
        (lambda m, bad: m.observe_lock_acquire("/s", "shared", bad), "status"),
        (lambda m, bad: m.observe_lock_release("/s", bad), "reason"),
        (lambda m, bad: m.set_active_locks("/s", bad, 1), "type"),
        (lambda m, bad: m.observe_lock_hold_duration("/s", bad, 1.0), "type"),
        (lambda m, bad: m.observe_lock_limit_hit(bad), "limit_type"),
        (lambda m, bad: m.connection("nfs", bad), "event"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("bad", ["bogus", "", "Granted"])
def test_labels_come_from_closed_sets(call: Callable[[LockMetrics, str], None], named: str, bad: str) -> None:
    """A value outside its set is refused by label and value, and counts nowhere."""
    registry = CollectorRegistry()
    metrics = LockMetrics(registry)
    before = scrape(registry)
    with pytest.raises(InvalidArgument, match=f"{named}='{bad}' must be one of "):
        call(metrics, bad)
    assert scrape(registry) == before


@pytest.mark.parametrize(
    "call",
    [lambda m: m.observe_lock_release("/x", "bogus"), lambda m: m.set_active_locks("/x", "bogus", 1)],
    ids=["release", "active"],
)
def test_a_refused_call_takes_no_share_label(call: Callable[[LockMetrics], None]) -> None:
    """A call that is refused does not use up one of the hundred labels."""
    metrics = LockMetrics()
    with pytest.raises(InvalidArgument):
        call(metrics)
    assert not metrics._shares


def test_share_labels_are_capped() -> None:
    """A hundred shares have labels of their own, all further ones share one; the first keep theirs."""
    registry = CollectorRegistry()
    metrics = LockMetrics(registry)
    assert (SHARES_MAX, OTHER) == (100, "_other")
    for number in range(103):
        metrics.set_blocked_locks(f"/s{number}", number)
        metrics.observe_lock_release(f"/s{number}", "explicit")
    metrics.observe_lock_release("/s0", "explicit")
    shown = {f.name: f.samples for f in text_string_to_metric_families(scrape(registry))}
    expected = {f"/s{number}" for number in range(100)} | {"_other"}
    assert {s.labels["share"] for s in shown["dittofs_locks_blocked"]} == expected
    totals = {s.labels["share"]: s.value for s in shown["dittofs_locks_release"]}
    assert set(totals) == expected
    assert (totals["/s0"], totals["/s99"], totals["_other"]) == (2, 1, 3)


def test_no_created_series() -> None:
    """Even where the process had them switched on, no `_created` series is shown."""
    prometheus_client.enable_created_metrics()  # type: ignore[no-untyped-call]
    assert "_created" not in scrape(fed())


def test_remaining_seconds_count_down_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two scrapes only node time passes, and the gauge follows it down to 0."""
    registry = CollectorRegistry()
    metrics, lease = LockMetrics(registry), Lease(Settings())
    state = replace(ACTIVE, dataset="d", revision=1, clock_ms=1000, in_force=True, reclaim_until_ms=91_000)
    lease.joined("n1:1", state, 50.0, 50.0, fresh=True)
    metrics.set_grace(lease.state, lease.grace_remaining)
    shown = []
    for now in (50.0, 60.0, 139.0, 141.0):
        monkeypatch.setattr("coordinator.metrics.clock.now", lambda now=now: now)
        shown.append(registry.get_sample_value("dittofs_locks_grace_period_remaining_seconds"))
    assert shown == pytest.approx([90.0, 80.0, 1.0, 0.0])


def test_before_any_period_nothing_remains() -> None:
    """Fresh metrics show no grace, and 0 for the closed labels, so that rates begin at once."""
    registry = CollectorRegistry()
    LockMetrics(registry)
    assert registry.get_sample_value("dittofs_locks_grace_period_remaining_seconds") == 0
    assert registry.get_sample_value("dittofs_locks_grace_period_active") == 0
    for status in ("granted", "denied"):
        assert registry.get_sample_value("dittofs_locks_reclaim_total", {"status": status}) == 0
    for kind in ("file", "client", "total", "adapter"):
        assert registry.get_sample_value("dittofs_locks_limit_hits_total", {"limit_type": kind}) == 0
