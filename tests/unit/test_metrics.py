"""The families of interfaces.md, section 2, as a scrape shows them."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from coordinator import InvalidArgument, LockMetrics, Reason, Settings, __version__
from coordinator.metrics.families import SHARES_MAX
from coordinator.metrics.node import OTHER, NodeMetrics
from coordinator.node.lease import Lease
from coordinator.protocol import script
from coordinator.protocol.call import NOTHING, View
from tests.unit.lease_cases import reply, view

BLOCKING = (0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60)
HOLD = (0.1, 1, 5, 10, 30, 60, 300, 600, 1800, 3600)
CALL = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
BARRIER = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30)
FAILOVER = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120, 300, 600, 3600)
HERE = {"node", "scope"}
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
    "dittofs_coordinator_build_info": ("gauge", {"version"}, ()),
    "dittofs_coordinator_up": ("gauge", HERE, ()),
    "dittofs_coordinator_epoch": ("gauge", HERE, ()),
    "dittofs_coordinator_lease_remaining_seconds": ("gauge", HERE, ()),
    "dittofs_coordinator_in_force": ("gauge", HERE, ()),
    "dittofs_coordinator_members": ("gauge", HERE, ()),
    "dittofs_coordinator_waiting_for": ("gauge", HERE, ()),
    "dittofs_coordinator_due": ("gauge", HERE, ()),
    "dittofs_coordinator_redis_call_seconds": ("histogram", {*HERE, "script"}, CALL),
    "dittofs_coordinator_redis_errors_total": ("counter", {*HERE, "kind"}, ()),
    "dittofs_coordinator_barrier_seconds": ("histogram", HERE, BARRIER),
    "dittofs_coordinator_failover_seconds": ("histogram", {*HERE, "phase"}, FAILOVER),
    "dittofs_coordinator_releases_total": ("counter", {*HERE, "reason", "outcome"}, ()),
    "dittofs_coordinator_refused_total": ("counter", {*HERE, "reason"}, ()),
    "dittofs_coordinator_stale_grants_total": ("counter", HERE, ()),
    "dittofs_coordinator_yields_total": ("counter", HERE, ()),
    "dittofs_coordinator_data_loss_total": ("counter", HERE, ()),
}
ADAPTERS = Settings().adapters
CLOSED = {
    "type": {"shared", "exclusive"},
    "status": {"granted", "denied", "deadlock"},
    "limit_type": {"file", "client", "total", "adapter"},
    "adapter": {*ADAPTERS},
    "event": {"connect", "disconnect", "cancel", "release", "refused"},
    "script": {*script.names()},
    "kind": {"unavailable", "outcome_unknown", "contract_broken", "data_lost"},
    "phase": {"detect", "enforce", "reclaim", "lift"},
    "outcome": {"done", "stale", "failed"},
    "version": {__version__},
}
"""Labels with one set of values; `reason` differs from family to family."""
REASONS = {
    "dittofs_locks_release": {"explicit", "timeout", "disconnect", "grace_expired"},
    "dittofs_coordinator_releases": {"disconnect", "revoked", "rebooted", "forfeited", "orphaned"},
    "dittofs_coordinator_refused": {reason.value for reason in Reason},
}
CLOCK = 1000
IN_FORCE = view(1, 1, "active", in_force=True, until=91_000)
VALID: dict[str, Any] = {
    "share": "/export",
    "type": "shared",
    "status": "granted",
    "count": 2,
    "seconds": 0.5,
    "limit_type": "file",
    "members": 1,
    "waiting_for": 0,
    "due": 0,
    "adapter": "nfs",
    "event": "connect",
    "outcome": "done",
    "granted": True,
    "script": "node_renew",
    "error": "unavailable",
}


def methods(owner: type) -> list[str]:
    """Return the names of what is fed by calls."""
    names = {name for name, member in vars(owner).items() if inspect.isfunction(member) and not name.startswith("_")}
    return sorted(names - {"bind", "heard", "clients"})


LOCK_METHODS, NODE_METHODS = methods(LockMetrics), methods(NodeMetrics)


class Node:
    """What a coordinator has that a scrape reads; its time stands still until a test moves it."""

    def __init__(self, metrics: LockMetrics, scope: str = "default", state: View = NOTHING) -> None:
        """Join at 50 s of node time."""
        self.time, self.counts = 50.0, {"nfs": 1}
        self.lease = Lease(Settings())
        self.metrics = metrics.bind(
            "n1", scope, ADAPTERS, lease=self.lease, clients=lambda: self.counts, now=lambda: self.time
        )
        self.lease.joined("n1:1", reply(state, clock=CLOCK), self.time, self.time, fresh=True)


def feed(target: object, name: str) -> None:
    """Call a method with an argument for each of its parameters."""
    parameters = list(inspect.signature(getattr(target, name)).parameters.values())
    given = {p.name: VALID.get(p.name, "disconnect") for p in parameters}
    if name == "refused":
        given["reason"] = Reason.CLOSED.value
    positional = [given[p.name] for p in parameters if p.kind is not p.KEYWORD_ONLY]
    named = {p.name: given[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}
    getattr(target, name)(*positional, **named)


def recovery(metrics: NodeMetrics) -> None:
    """Let it hear a whole failover."""
    for kind, clock, more in (
        ("start", 10_000, {"owner": b"n2:7"}),
        ("evicted", 10_000, {"owner": b"n2:7", "silent": b"8600"}),
        ("in_force", 10_020, {}),
        ("closing", 13_020, {}),
        ("lift", 13_025, {}),
    ):
        metrics.heard(kind, {"epoch": b"1", "clock": str(clock).encode(), **more})


def fed() -> CollectorRegistry:
    """Return the registry of metrics whose every method was called, for two scopes."""
    registry = CollectorRegistry()
    metrics = LockMetrics(registry)
    for name in LOCK_METHODS:
        feed(metrics, name)
    for scope in ("default", "archive"):
        node = Node(metrics, scope, IN_FORCE)
        for name in NODE_METHODS:
            feed(node.metrics, name)
        recovery(node.metrics)
    return registry


def scrape(registry: CollectorRegistry) -> str:
    """Return what a scrape shows."""
    return generate_latest(registry).decode()


def test_these_families_and_no_other() -> None:
    """Names, types, label names and buckets are exactly the design's."""
    shown: dict[str, tuple[str, set[str], tuple[float, ...]]] = {}
    for family in text_string_to_metric_families(scrape(fed())):
        assert family.samples, f"{family.name} was fed and shows nothing"
        label_sets = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        assert len(label_sets) == 1
        buckets = dict.fromkeys(float(s.labels["le"]) for s in family.samples if s.name.endswith("_bucket"))
        name = family.name + ("_total" if family.type == "counter" else "")
        shown[name] = (family.type, set(label_sets.pop()), tuple(buckets))
    expected = {
        name: (kind, labels, (*buckets, float("inf")) if buckets else ())
        for name, (kind, labels, buckets) in FAMILIES.items()
    }
    assert shown == expected


def test_every_label_is_from_its_closed_set() -> None:
    """After every call and a whole failover each label has values of its set and no other; nothing is `_other`."""
    for family in text_string_to_metric_families(scrape(fed())):
        allowed = CLOSED | {"reason": REASONS.get(family.name, set())}
        for sample in family.samples:
            for label, value in sample.labels.items():
                assert label in {"share", "node", "scope", "le"} or value in allowed[label], sample


def test_a_node_begins_with_every_label() -> None:
    """All that a coordinator counts is there from its start at 0, so that rates begin at once."""
    registry = CollectorRegistry()
    Node(LockMetrics(registry))
    shown: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(scrape(registry)):
        if family.type in {"counter", "histogram"}:
            assert {sample.value for sample in family.samples} <= {0}
            for sample in family.samples:
                for label, value in sample.labels.items():
                    shown.setdefault(family.name, {}).setdefault(label, set()).add(value)
    own = "dittofs_coordinator_"
    assert shown["dittofs_locks_reclaim"]["status"] == {"granted", "denied"}
    assert shown["dittofs_locks_limit_hits"]["limit_type"] == CLOSED["limit_type"]
    assert shown["dittofs_connections"] == {"adapter": CLOSED["adapter"], "event": CLOSED["event"]}
    assert shown[f"{own}redis_call_seconds"]["script"] == CLOSED["script"]
    assert shown[f"{own}redis_errors"]["kind"] == CLOSED["kind"]
    assert shown[f"{own}failover_seconds"]["phase"] == CLOSED["phase"]
    assert shown[f"{own}releases"]["reason"] == REASONS[f"{own}releases"]
    assert shown[f"{own}releases"]["outcome"] == CLOSED["outcome"]
    assert shown[f"{own}refused"]["reason"] == REASONS[f"{own}refused"]


def test_the_output_passes_promtool() -> None:
    """`promtool check metrics` reads what a fully fed registry shows and has nothing to say."""
    promtool = shutil.which("promtool")
    if promtool is None:
        message = "promtool is missing: apt-get install prometheus"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    done = subprocess.run(
        [promtool, "check", "metrics"], input=scrape(fed()), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("call", "sample", "labels", "value"),
    [
        (lambda m: m.observe_lock_acquire("/s", "exclusive", "deadlock"), "acquire_total",
         {"share": "/s", "type": "exclusive", "status": "deadlock"}, 1),
        (lambda m: m.observe_lock_release("/s", "grace_expired"), "release_total",
         {"share": "/s", "reason": "grace_expired"}, 1),
        (lambda m: m.set_active_locks("/s", "shared", 4), "active", {"share": "/s", "type": "shared"}, 4),
        (lambda m: m.set_blocked_locks("/s", 3), "blocked", {"share": "/s"}, 3),
        (lambda m: m.observe_blocking_duration("/s", 0.25), "blocking_duration_seconds_sum", {"share": "/s"}, 0.25),
        (lambda m: m.observe_lock_hold_duration("/s", "shared", 2.5), "hold_duration_seconds_sum",
         {"share": "/s", "type": "shared"}, 2.5),
        (lambda m: m.observe_lock_limit_hit("total"), "limit_hits_total", {"limit_type": "total"}, 1),
        (lambda m: m.observe_deadlock(), "deadlock_detected_total", {}, 1),
    ],
)  # fmt: skip
def test_each_call_of_the_lock_manager_moves_its_family(
    call: Callable[[LockMetrics], None], sample: str, labels: dict[str, str], value: float
) -> None:
    """One call shows as one value with its labels."""
    registry = CollectorRegistry()
    call(LockMetrics(registry))
    assert registry.get_sample_value(f"dittofs_locks_{sample}", labels) == value


@pytest.mark.parametrize("name", [*LOCK_METHODS, *NODE_METHODS])
def test_unregistered_metrics_take_every_call(name: str) -> None:
    """Without a registry all calls work and the process's default registry shows nothing of them."""
    metrics = LockMetrics()
    feed(metrics if name in LOCK_METHODS else Node(metrics).metrics, name)
    assert "dittofs_" not in scrape(prometheus_client.REGISTRY)


@pytest.mark.parametrize("name", [*LOCK_METHODS, *NODE_METHODS])
def test_disabled_metrics_take_every_call(name: str) -> None:
    """The null object is a LockMetrics, also for a node, that answers every method, whatever the arguments."""
    disabled = LockMetrics.disabled()
    node = Node(disabled).metrics
    assert isinstance(disabled, LockMetrics)
    assert isinstance(node, NodeMetrics)
    recovery(node)
    target = disabled if name in LOCK_METHODS else node
    feed(target, name)
    assert getattr(target, name)("nonsense", type="nonsense") is None


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda m, bad: m.observe_lock_acquire("/s", bad, "granted"), "type"),
        (lambda m, bad: m.observe_lock_acquire("/s", "shared", bad), "status"),
        (lambda m, bad: m.observe_lock_release("/s", bad), "reason"),
        (lambda m, bad: m.set_active_locks("/s", bad, 1), "type"),
        (lambda m, bad: m.observe_lock_hold_duration("/s", bad, 1.0), "type"),
        (lambda m, bad: m.observe_lock_limit_hit(bad), "limit_type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("bad", ["bogus", "", "Granted"])
def test_a_label_of_the_lock_managers_that_is_unknown_is_refused(
    call: Callable[[LockMetrics, str], None], named: str, bad: str
) -> None:
    """A value outside its set is refused by label and value, counts nowhere and takes no share's place."""
    registry = CollectorRegistry()
    metrics = LockMetrics(registry)
    before = scrape(registry)
    with pytest.raises(InvalidArgument, match=f"{named}='{bad}' must be one of "):
        call(metrics, bad)
    assert scrape(registry) == before
    assert not metrics._shares


def test_a_label_of_redis_that_is_unknown_is_other() -> None:
    """What another version or another node's settings brought never makes a label of its own, and never raises."""
    registry = CollectorRegistry()
    metrics = Node(LockMetrics(registry)).metrics
    for value in ("bogus-1", "bogus-2"):
        metrics.connection(value, "connect")
        metrics.release("nfs", value, "done")
        metrics.refused(value)
        metrics.round_trip(value, 0.1, value)
    assert "bogus" not in scrape(registry)
    own = {"node": "n1", "scope": "default"}
    for sample, labels in (
        ("connections_total", {"adapter": OTHER, "event": "connect"}),
        ("coordinator_releases_total", {**own, "reason": OTHER, "outcome": "done"}),
        ("coordinator_refused_total", {**own, "reason": OTHER}),
        ("coordinator_redis_errors_total", {**own, "kind": OTHER}),
        ("coordinator_redis_call_seconds_count", {**own, "script": OTHER}),
    ):
        assert registry.get_sample_value(f"dittofs_{sample}", labels) == 2, sample


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


def test_the_gauges_of_further_shares_add_up() -> None:
    """`_other` is the sum of what they were last set to, by type; it goes down with them, and nothing is kept at 0."""
    registry = CollectorRegistry()
    metrics = LockMetrics(registry)
    for number in range(100):
        metrics.set_blocked_locks(f"/s{number}", 1)

    def other(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"dittofs_locks_{name}", {"share": OTHER, **labels})

    for share, kind, count in (("/x", "shared", 5), ("/y", "shared", 1), ("/x", "exclusive", 7), ("/x", "shared", 2)):
        metrics.set_active_locks(share, kind, count)
    metrics.set_blocked_locks("/x", 3)
    metrics.set_blocked_locks(OTHER, 4)
    assert (other("active", type="shared"), other("active", type="exclusive"), other("blocked")) == (3, 7, 7)
    metrics.set_blocked_locks("/s0", 9)
    for share in ("/x", "/y"):
        metrics.set_active_locks(share, "shared", 0)
    metrics.set_blocked_locks("/x", 0)
    assert (other("active", type="shared"), other("active", type="exclusive"), other("blocked")) == (0, 7, 4)
    assert len(metrics._others) == 2
    assert registry.get_sample_value("dittofs_locks_blocked", {"share": "/s0"}) == 9


def test_a_share_of_the_name_of_the_rest_is_the_rest() -> None:
    """It has no label of its own, so that it does not overwrite what the others add up to."""
    assert LockMetrics().share(OTHER) == OTHER
    metrics = LockMetrics()
    metrics.share(OTHER)
    assert not metrics._shares


def test_a_share_that_is_no_unicode_does_not_break_a_scrape() -> None:
    """A path of other bytes is shown with escapes; every later scrape works."""
    registry = CollectorRegistry()
    metrics = LockMetrics(registry)
    name = b"/export/caf\xe9".decode("utf-8", "surrogateescape")
    metrics.observe_lock_acquire(name, "shared", "granted")
    metrics.set_blocked_locks(name, 2)
    assert 'share="/export/caf\\\\udce9"' in scrape(registry)
    assert registry.get_sample_value("dittofs_locks_blocked", {"share": "/export/caf\\udce9"}) == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1, "5", None, True], ids=repr)
@pytest.mark.parametrize(
    "call",
    [
        lambda m, bad: m.set_active_locks("/s", "shared", bad),
        lambda m, bad: m.set_blocked_locks("/s", bad),
        lambda m, bad: m.observe_blocking_duration("/s", bad),
        lambda m, bad: m.observe_lock_hold_duration("/s", "shared", bad),
    ],
    ids=["active", "blocked", "blocking", "hold"],
)
def test_what_is_no_count_or_duration_is_refused(call: Callable[[LockMetrics, Any], None], bad: Any) -> None:
    """One NaN or infinity would stay in a sum for ever; the refusal names it, and takes no share's place."""
    metrics = LockMetrics()
    with pytest.raises(InvalidArgument, match=rf"(count|seconds)={bad!r} must be a number"):
        call(metrics, bad)
    assert not metrics._shares


@pytest.mark.parametrize("bad", [None, 5, b"/s", []], ids=repr)
def test_a_share_is_a_string(bad: Any) -> None:
    """What is none is refused by name."""
    with pytest.raises(InvalidArgument, match="share="):
        LockMetrics().observe_lock_release(bad, "explicit")


def test_no_created_series() -> None:
    """Even where the process had them switched on, no `_created` series is shown."""
    prometheus_client.enable_created_metrics()  # type: ignore[no-untyped-call]
    assert "_created" not in scrape(fed())


def test_seconds_count_down_without_a_call() -> None:
    """Between two scrapes only node time passes: grace and lease go down to 0, and `up` with the lease."""
    registry = CollectorRegistry()
    node = Node(LockMetrics(registry), state=IN_FORCE)
    shown = []
    for node.time in (50.0, 54.0, 55.0, 139.0, 141.0):
        shown.append([
            registry.get_sample_value("dittofs_locks_grace_period_remaining_seconds"),
            *(
                registry.get_sample_value(f"dittofs_coordinator_{name}", {"node": "n1", "scope": "default"})
                for name in ("lease_remaining_seconds", "up")
            ),
        ])  # fmt: skip
    assert shown == [[90.0, 4.5, 1], [86.0, 0.5, 1], [85.0, 0, 0], [1.0, 0, 0], [0, 0, 0]]


def test_two_scopes_of_one_process_share_the_metrics() -> None:
    """Grace is active if any scope's is, what remains is the longest, clients add up; a closed one counts no more."""
    registry = CollectorRegistry()
    metrics = LockMetrics(registry)

    def shown() -> list[float | None]:
        return [
            registry.get_sample_value("dittofs_locks_grace_period_active"),
            registry.get_sample_value("dittofs_locks_grace_period_remaining_seconds"),
            registry.get_sample_value("dittofs_connections_active", {"adapter": "nfs"}),
        ]

    assert shown() == [0, 0, None]
    Node(metrics, "quiet")
    assert shown() == [0, 0, 1]
    short = Node(metrics, "short", view(1, 1, "active", in_force=True, until=31_000))
    assert shown() == [1, 30, 2]
    long = Node(metrics, "long", IN_FORCE)
    long.counts = {"nfs": 5, "smb": 1}
    assert shown() == [1, 90, 7]
    own = {"node": "n1"}
    for scope, epoch in (("quiet", 0), ("short", 1), ("long", 1)):
        assert registry.get_sample_value("dittofs_coordinator_epoch", own | {"scope": scope}) == epoch
        assert registry.get_sample_value("dittofs_coordinator_in_force", own | {"scope": scope}) == epoch
    long.lease.end(Reason.CLOSED)
    assert shown() == [1, 30, 2]
    assert registry.get_sample_value("dittofs_coordinator_in_force", own | {"scope": "long"}) == 0
    short.lease.end(Reason.CLOSED)
    assert shown() == [0, 0, 1]
    assert registry.get_sample_value("dittofs_coordinator_up", own | {"scope": "short"}) == 0
    assert registry.get_sample_value("dittofs_coordinator_up", own | {"scope": "quiet"}) == 1


def test_a_new_coordinator_takes_the_place_of_a_closed_one() -> None:
    """A node that is made anew under its name shows its own state; what was counted before is kept."""
    registry = CollectorRegistry()
    metrics = LockMetrics(registry)
    own = {"node": "n1", "scope": "default"}
    old = Node(metrics)
    old.metrics.data_lost()
    old.lease.end(Reason.CLOSED)
    assert registry.get_sample_value("dittofs_coordinator_up", own) == 0
    Node(metrics).metrics.data_lost()
    assert registry.get_sample_value("dittofs_coordinator_up", own) == 1
    assert registry.get_sample_value("dittofs_connections_active", {"adapter": "nfs"}) == 1
    assert registry.get_sample_value("dittofs_coordinator_data_loss_total", own) == 2
