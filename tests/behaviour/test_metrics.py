"""What happens in a scope moves the metrics of its nodes, by the scope clock, and reading them disturbs nobody."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import generate_latest

from coordinator import (
    BarrierPending,
    ContractBroken,
    Fenced,
    GraceActive,
    OutcomeUnknown,
    Reason,
    StaleGrant,
    Unavailable,
    errors,
)
from coordinator.api.driving import drive
from coordinator.protocol import nodes
from coordinator.wire.blocking import Channel
from tests.world import GRACE, Player, World

if TYPE_CHECKING:
    from coordinator.node import Flow
    from coordinator.protocol import Call, Reply

BOUND = 20.0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unavailable, "unavailable"),
        (OutcomeUnknown, "outcome_unknown"),
        (ContractBroken, "contract_broken"),
    ],
)
def test_a_round_trip_is_timed_and_its_failure_counted_once(
    world: World, error: type[errors.CoordinatorError], kind: str
) -> None:
    """Join, renew, leave and every other call: however it ended, what it took by node time, and why it failed."""
    n1 = world.node("n1")

    def fails(_: Call[Any]) -> Reply:
        world.time += 0.03
        raise error

    for script, flow, attempts in (
        ("node_renew", n1.node.renew, 1),
        ("scope_view", n1.node.grace_view, 1 if error is ContractBroken else 3),
        ("node_join", n1.node.join, 1 if error is ContractBroken else 6),
        ("node_leave", lambda: n1.node.leave(world.time), 1),
        ("scope_lost", lambda: _telling(n1), 1),
    ):
        calls, seconds, failures = _round_trips(n1, script, kind)
        with pytest.raises(error):
            drive(flow(), fails, lambda _: None)
        assert _round_trips(n1, script, kind) == pytest.approx(
            (calls + attempts, seconds + attempts * 0.03, failures + attempts)
        )


def _telling(player: Player) -> Flow[None]:
    player.node.must_tell_loss = True
    return player.node.tell_loss(player.world.time)


def _round_trips(player: Player, script: str, kind: str) -> tuple[float, float, float]:
    """Return the calls of a script, their seconds, and all failures of a kind."""
    calls = player.metric("coordinator_redis_call_seconds_count", script=script)
    seconds = player.metric("coordinator_redis_call_seconds_sum", script=script)
    failures = player.metric("coordinator_redis_errors_total", kind=kind)
    assert calls is not None
    assert seconds is not None
    assert failures is not None
    return calls, seconds, failures


def test_an_answer_is_a_round_trip_without_a_failure(world: World) -> None:
    """Calls that Redis answered count under their script, refusals too; no kind of failure moves."""
    n1 = world.node("n1")
    before = _round_trips(n1, "node_renew", "unavailable")[0]
    n1.run(n1.node.renew())
    n1.register("a")
    n1.start("a", "z")
    with pytest.raises(errors.StaleEpoch):
        n1.run(n1.node.end_grace("test", 9))
    assert _round_trips(n1, "node_renew", "unavailable")[0] == before + 1
    n1.run(n1.node.leave(world.time))
    for script, count in (
        ("node_join", 1),
        ("client_register", 1),
        ("grace_start", 2),  # opens the roster, brings it
        ("grace_end", 1),
        ("node_leave", 1),
    ):
        assert _round_trips(n1, script, "unavailable")[0] == count
    for kind in ("unavailable", "outcome_unknown", "contract_broken", "data_lost"):
        assert n1.metric("coordinator_redis_errors_total", kind=kind) == 0


def test_an_answer_that_says_why_nothing_was_done_is_a_failure(world: World) -> None:
    """Too late, and lost data: each answer counts; that the loss was noticed counts once."""
    n1 = world.node("n1")
    world.redis.hset(world.key("node", n1.owner), "floor", 10**9)
    with pytest.raises(Unavailable):
        n1.run(n1.node.renew())  # given up by a later request
    assert n1.metric("coordinator_redis_errors_total", kind="unavailable") == 1
    assert n1.metric("coordinator_data_loss_total") == 0
    world.redis.hset(world.key("meta"), "view", "another 0 0 normal 0 0 0 0")
    for _ in range(2):
        with pytest.raises(Fenced, match="data_lost"):
            n1.run(n1.node.renew())
    assert n1.metric("coordinator_redis_errors_total", kind="data_lost") == 2
    assert n1.metric("coordinator_data_loss_total") == 1
    assert n1.metric("coordinator_up") == 0


@pytest.mark.parametrize("stop", [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt])
def test_a_round_trip_that_was_given_up_goes_through_and_is_no_failure(world: World, stop: type[BaseException]) -> None:
    """What a driver throws at the yield beside the errors of this package leaves every flow as it came."""
    n1 = world.node("n1")
    before = generate_latest(n1.registry)
    for flow in (n1.node.grace_view(), n1.node.renew(), n1.node.join(), n1.node.leave(0.0)):
        flow.send(None)
        with pytest.raises(stop):
            flow.throw(stop())
    after = generate_latest(n1.registry)
    assert _without_lease(after) == _without_lease(before)


def _without_lease(scrape: bytes) -> list[bytes]:
    return [line for line in scrape.splitlines() if b"lease_remaining" not in line and b"_up{" not in line]


def test_a_check_that_is_refused_counts_by_its_reason(world: World) -> None:
    """Once per check, asked for or within a grant; what is allowed counts nowhere."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")

    def refused(reason: str) -> float | None:
        return n1.metric("coordinator_refused_total", reason=reason)

    n1.lock("a")
    assert n1.check().allowed
    n2.start("z")
    n1.run(n1.node.renew())
    with pytest.raises(GraceActive):
        n1.begin_lock("a")
    n1.check()
    assert refused("grace_active") == 2
    n1.node.lease.told(10**9)
    with pytest.raises(BarrierPending):
        n1.admit("a")
    assert refused("barrier_pending") == 1
    world.jump(5)
    n1.check()
    assert refused("lease_lapsed") == 1
    n1.node.end(Reason.EVICTED)
    n1.check()
    assert refused("evicted") == 1


@pytest.mark.parametrize("outcome", ["done", "failed", "stale"])
def test_a_release_counts_by_reason_and_outcome(world: World, outcome: str) -> None:
    """One whose callback raised is failed, one that ran out meanwhile stale; only a done one ends a connection."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.callback = n2.callback = False
    n1.register("a", adapter="smb")
    n1.unregister("a")
    (claim,) = n1.held_back
    if outcome == "stale":
        for _ in range(3):
            world.jump(4)
            n1.run(n1.node.renew())
            n2.tick()
        assert len(n2.held_back) == 1
    n1.run((n1.keeper.failed if outcome == "failed" else n1.keeper.done)(claim))
    outcomes = ("done", "failed", "stale")
    shown = [n1.metric("coordinator_releases_total", reason="disconnect", outcome=each) for each in outcomes]
    assert shown == [each == outcome for each in outcomes]
    events = [n1.metric("connections_total", adapter="smb", event=e) for e in ("connect", "disconnect", "release")]
    assert events == [1, 1, outcome == "done"]
    n1.callback = True
    for later in n2.held_back:
        n2.run(n2.keeper.done(later))
    world.pass_time(2)


def test_the_gauges_follow_lease_period_and_clients(world: World) -> None:
    """Lease and period as the view has them, counts of the scope as the last renewal told, clients as of now."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.register("b", ttl=20)
    assert n1.metric("connections_active", adapter="nfs") == 2
    n1.unregister("b")
    assert n1.metric("connections_active", adapter="nfs") == 1

    def shown() -> list[float | None]:
        names = ("up", "epoch", "in_force", "members", "waiting_for", "due", "lease_remaining_seconds")
        return [n1.metric(f"coordinator_{name}") for name in names]

    n1.run(n1.node.renew())
    assert shown() == [1, 0, 0, 2, 0, 1, 4.5]
    n1.start("z")
    n1.run(n1.node.renew())
    assert shown() == [1, 1, 0, 2, 1, 1, 4.5]
    assert n1.metric("locks_grace_period_active") == 1
    n2.listen()
    n2.tick()
    n1.run(n1.node.renew())
    assert shown() == [1, 1, 1, 2, 0, 1, 4.5]
    assert n1.metric("locks_grace_period_remaining_seconds") == pytest.approx(GRACE, abs=0.01)
    world.jump(3)
    assert shown() == [1, 1, 1, 2, 0, 1, 1.5]
    assert n1.metric("locks_grace_period_remaining_seconds") == pytest.approx(GRACE - 3, abs=0.01)
    world.jump(2)
    assert shown() == [0, 1, 1, 2, 0, 1, 0]
    n1.node.end(Reason.CLOSED)
    assert shown()[:3] == [0, 1, 0]
    assert n1.metric("locks_grace_period_active") == 0
    assert n1.metric("connections_active", adapter="nfs") == 0


def test_a_scrape_makes_no_round_trip_and_waits_for_no_lock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a call is under way and every lock of the node is held, a scrape is answered, from memory alone."""
    n1 = world.node("n1")
    n1.register("a")
    n1.start("a")
    under_way = n1.node.ask(lambda head: nodes.view(n1.node.meta, head, n1.node.settings.adapters))
    under_way.send(None)
    sent: list[object] = []
    monkeypatch.setattr(Channel, "run", lambda *command: sent.append(command))
    mutex = type(threading.Lock())
    parts = (n1.node, n1.node.lease, n1.node.registry, n1.metrics)
    locks = [lock for part in parts for lock in vars(part).values() if isinstance(lock, mutex)]
    assert len(locks) == len(parts)
    answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    with contextlib.ExitStack() as held:
        for lock in locks:
            held.enter_context(lock)
        threading.Thread(target=lambda: answers.put(generate_latest(n1.registry)), daemon=True).start()
        text = answers.get(timeout=BOUND).decode()
    under_way.close()
    assert sent == []
    for line in (
        "dittofs_locks_grace_period_active 1.0",
        'dittofs_connections_active{adapter="nfs"} 1.0',
        'dittofs_coordinator_up{node="n1",scope="default"} 1.0',
        'dittofs_coordinator_lease_remaining_seconds{node="n1",scope="default"} 4.5',
    ):
        assert line in text.splitlines()


def test_repeats_are_not_counted_again(world: World) -> None:
    """A completion, a disconnect: once each, however often they are told; also when nobody heard the answer."""
    n1 = world.node("n1")
    n1.register("a", ttl=30)
    n1.unregister("a")
    n1.unregister("a")
    assert n1.metric("connections_total", adapter="nfs", event="disconnect") == 1
    n1.register("a", ttl=30)

    def lost(call: Call[Any]) -> Reply:
        n1.send(call)
        raise OutcomeUnknown

    with pytest.raises(OutcomeUnknown):
        drive(n1.node.unregister([(b"a", 0)]), lost, lambda _: None)
    n1.unregister("a")
    assert n1.metric("connections_total", adapter="nfs", event="disconnect") == 2
    n1.start("b")
    n1.reclaim("b")
    n1.complete("b")
    assert n1.metric("locks_reclaim_total", status="granted") == 1
    assert n1.metric("locks_reclaim_total", status="denied") == 0


def test_grants_that_were_overtaken_and_clients_that_were_yielded_are_counted(world: World) -> None:
    """Each confirm that was refused, and each client that another node asked for and got."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    overtaken = n1.begin_lock("a")
    n2.start("z")
    n1.run(n1.node.renew())
    for _ in range(2):
        with pytest.raises(StaleGrant):
            overtaken.confirm()
    assert n1.metric("coordinator_stale_grants_total") == 2
    n2.run(n2.node.end_grace("enough"))
    world.settle()
    n2.register("a")
    world.settle()
    assert [(move.client_id, move.to) for move in n1.moves] == [("a", n2.owner)]
    assert [player.metric("coordinator_yields_total") for player in (n1, n2)] == [1, 0]
    assert n2.metric("coordinator_stale_grants_total") == 0
