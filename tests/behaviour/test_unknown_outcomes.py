"""Lost replies, late and repeated requests: effects exactly once, and nothing loosened by what is not known."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from coordinator import ClientReleasing, DataLost, GraceState, OutcomeUnknown, StaleGrant, Unavailable, errors
from coordinator.api.driving import drive
from coordinator.node import Sleep
from coordinator.node.lease import Head
from coordinator.protocol import clients, nodes, releases
from coordinator.protocol.call import BATCH_MAX, Call
from tests.world import GRACE, Player, World

if TYPE_CHECKING:
    from coordinator.node import Flow

LAPSE = 9.5
LOST, DOWN = "lost", "down"


def faulty(player: Player, flow: Flow[Any], *plan: str) -> Any:
    """Run a flow whose round trips fail as planned: the reply is lost after the effect, or nothing is reached."""
    faults = list(plan)

    def run(call: Call[Any]) -> Any:
        fault = faults.pop(0) if faults else ""
        if fault == DOWN:
            message = "nothing was reached"
            raise Unavailable(message)
        reply = player.world.run(call)
        if fault == LOST:
            message = "the reply was lost"
            raise OutcomeUnknown(message)
        return reply

    return drive(flow, run, lambda _: None)


def test_31_an_unknown_outcome_is_not_forgotten_for_a_later_certain_one(world: World) -> None:
    """Executed, reply lost, then Redis away: the caller is told OutcomeUnknown, and the entry stays closed."""
    n1 = world.node("n1")
    n1.register("c", ttl=60)
    with pytest.raises(OutcomeUnknown):
        faulty(n1, n1.node.unregister([(b"c", 0)]), LOST, DOWN, DOWN)
    assert n1.node.registry.get(b"c") is None
    n1.register("c", ttl=60)
    with pytest.raises(Unavailable):
        faulty(n1, n1.node.unregister([(b"c", 0)]), DOWN, DOWN, DOWN)
    assert n1.node.registry.get(b"c") is not None, "certainly not executed: nothing is lost"


def holders(player: Player) -> set[bytes]:
    """Return whose rights Redis knows under this node."""
    names: Any = player.world.redis.smembers(player.world.key("holders", player.owner))
    return set(names)


def test_31_a_hold_that_nobody_was_told_of_leaves_no_right(world: World) -> None:
    """The client has no lock: the keeper takes the right out, or the next unlock does; its death costs no grace."""
    n1, n2 = world.node("n1"), world.node("n2")
    for client in ("c", "d"):
        n1.register(client)
        with pytest.raises(OutcomeUnknown):
            faulty(n1, n1.node.begin_grant(client.encode()), LOST, LOST, LOST)
    n1.unlock("d")
    assert holders(n1) == {b"c"}
    n1.tick()
    assert holders(n1) == set()
    n1.crash()
    world.pass_time(LAPSE)
    assert n2.view().state is GraceState.NORMAL


def test_31_a_hold_that_was_not_executed_needs_no_drop(world: World) -> None:
    """Certainly not: what was known before holds, also that an earlier hold may have been."""
    n1 = world.node("n1")
    n1.register("c")
    with pytest.raises(Unavailable):
        faulty(n1, n1.node.begin_grant(b"c"), DOWN, DOWN, DOWN)
    n1.unlock("c")
    n1.tick()
    assert n1.metric("coordinator_redis_call_seconds_count", script="client_drop") == 0
    with pytest.raises(OutcomeUnknown):
        faulty(n1, n1.node.begin_grant(b"c"), LOST, LOST, LOST)
    with pytest.raises(Unavailable):
        faulty(n1, n1.node.begin_grant(b"c"), DOWN, DOWN, DOWN)
    n1.tick()
    assert holders(n1) == set()


@pytest.mark.parametrize("faults", [[DOWN] * 3, [LOST] * 3, [LOST, DOWN, DOWN]], ids="-".join)
@pytest.mark.parametrize("by", ["keeper", "unlock", "drop"])
def test_31_a_last_unlock_that_failed_is_made_up_for(world: World, faults: list[str], by: str) -> None:
    """By the keeper, or by the caller's repeat: the right goes with the last lock, although Redis was away then."""
    n1 = world.node("n1")
    n1.register("c")
    n1.lock("c")
    n1.lock("c")
    n1.unlock("c")
    with pytest.raises((Unavailable, OutcomeUnknown)):
        faulty(n1, n1.node.uncount_lock(b"c"), *faults)
    if by == "keeper":
        n1.tick()
    elif by == "unlock":
        n1.unlock("c")
    else:
        n1.run(n1.node.drop(b"c"))
    assert holders(n1) == set()
    drops = n1.metric("coordinator_redis_call_seconds_count", script="client_drop")
    n1.unlock("c")
    n1.tick()
    assert n1.metric("coordinator_redis_call_seconds_count", script="client_drop") == drops, "once is enough"


def test_31_a_lock_that_came_since_keeps_its_right(world: World) -> None:
    """The drop was lost, then the client locked again: held anew, and nobody drops it."""
    n1 = world.node("n1")
    n1.register("c")
    n1.lock("c")
    with pytest.raises(OutcomeUnknown):
        faulty(n1, n1.node.uncount_lock(b"c"), LOST, LOST, LOST)
    n1.lock("c")
    n1.tick()
    assert holders(n1) == {b"c"}


@pytest.mark.parametrize("by", ["keeper", "unlock"])
def test_31_a_late_drop_takes_no_later_hold(world: World, by: str) -> None:
    """A lock waits until the drop is over; what was sent for it, and arrives afterwards, does nothing."""
    n1 = world.node("n1")
    n1.register("c")
    n1.lock("c")
    if by == "keeper":
        with pytest.raises(Unavailable):
            faulty(n1, n1.node.uncount_lock(b"c"), DOWN, DOWN, DOWN)
    late: list[Call[Any]] = []
    drop = n1.node.drop_left_over() if by == "keeper" else n1.node.uncount_lock(b"c")
    lock = n1.node.begin_grant(b"c")
    request: Any = drop.send(None)
    for _ in range(3):
        late.append(request)
        request = drop.throw(OutcomeUnknown("lost before it arrived"))
        assert isinstance(lock.send(None), Sleep), "its turn comes after the drop"
        world.jump(request.seconds)
        with contextlib.suppress(OutcomeUnknown):
            request = drop.send(None)
    grant = drive(lock, n1.send, lambda _: None)
    for call in late:
        assert world.run(call).status == "LATE"
    grant.confirm()
    n1.tick()
    assert holders(n1) == {b"c"}


def test_31_the_keeper_leaves_a_client_alone_that_is_being_held(world: World) -> None:
    """A hold is under way: nothing is dropped before or after it; if that fails too, the keeper comes back to it."""
    n1 = world.node("n1")
    n1.register("c")
    with pytest.raises(OutcomeUnknown):
        faulty(n1, n1.node.begin_grant(b"c"), LOST, LOST, LOST)
    lock = n1.node.begin_grant(b"c")
    request: Any = lock.send(None)
    n1.tick()
    assert holders(n1) == {b"c"}
    assert request.script.name == "client_hold"
    lock.close()
    assert n1.node.must_renew, "the keeper is woken"
    n1.tick()
    assert holders(n1) == set()


def test_31_a_right_left_over_goes_whatever_registration_its_client_has(world: World) -> None:
    """The client registered again before or while the drop is made: it goes all the same, under the new generation."""
    n1 = world.node("n1")
    n1.register("c")
    with pytest.raises(OutcomeUnknown):
        faulty(n1, n1.node.begin_grant(b"c"), LOST, LOST, LOST)
    assert n1.register("c").holder
    drop = n1.node.drop_left_over()
    request: Any = drop.send(None)
    assert n1.register("c").holder
    with pytest.raises(StopIteration):
        drop.send(n1.send(request))
    assert holders(n1) == {b"c"}
    assert n1.node.registry.get(b"c") is not None
    n1.tick()
    assert holders(n1) == set()


def test_31_a_drop_that_keeps_failing_does_not_keep_the_keeper_busy(world: World, monkeypatch: Any) -> None:
    """The script is of another version: tried again once a round, not at once."""
    n1 = world.node("n1")
    n1.register("c")
    with pytest.raises(OutcomeUnknown):
        faulty(n1, n1.node.begin_grant(b"c"), LOST, LOST, LOST)
    send, drops = n1.send, []

    def other_version(call: Call[Any]) -> Any:
        if call.script.name == "client_drop":
            drops.append(call)
            assert len(drops) < 9, "spins"
            raise errors.ContractBroken
        return send(call)

    monkeypatch.setattr(n1, "send", other_version)
    n1.tick()
    assert len(drops) == 1
    monkeypatch.undo()
    world.pass_time(1)
    assert holders(n1) == set()


def test_31_many_rights_left_over_go_200_a_round_trip(world: World) -> None:
    """Redis was away while many clients locked: the keeper takes all of them out in few calls."""
    n1 = world.node("n1")
    names = [b"c%d" % i for i in range(BATCH_MAX + 1)]
    for name in names:
        n1.register(name)
        with pytest.raises(OutcomeUnknown):
            faulty(n1, n1.node.count_lock(name), LOST, DOWN, DOWN)
    n1.tick()
    assert holders(n1) == set()
    assert n1.metric("coordinator_redis_call_seconds_count", script="client_drop") == 2


def test_31_a_tightening_survives_an_unknown_outcome(world: World) -> None:
    """The evict ran and counted this node as acked; its reply was lost: nothing is granted before a later reply."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c")
    n1.lock("c")
    n1.crash()
    for _ in range(22):
        world.jump(0.4)
        n2.run(n2.node.renew())
    with pytest.raises(OutcomeUnknown):
        faulty(n2, n2.node.evict([n1.owner]), LOST, DOWN, DOWN)
    assert not n2.check().allowed
    world.settle()
    assert n2.view().in_force


@pytest.mark.parametrize("lost", [1, 2])
def test_31_register_and_start_repeat_to_the_same_answer(world: World, lost: int) -> None:
    """However often the reply is lost: one generation, one epoch."""
    n1 = world.node("n1")
    item = n1.node.registering("c", "nfs", "", 0, None, None)
    (registered,) = faulty(n1, n1.node.register([item]), *[LOST] * lost)
    stored = world.redis.hget(world.key("client", "c"), "generation")
    assert int(stored or 0) == registered.generation
    meta = world.redis.hget(world.key("meta"), "generation")
    assert int(meta or 0) == registered.generation, "one generation was used"
    faulty(n1, n1.node.start_grace([], "skip", ""), *[LOST] * lost)
    assert n1.view().epoch == 1
    faulty(n1, n1.node.start_grace([b"x"], "wait", ""), *[LOST] * lost)
    faulty(n1, n1.node.revoke(b"x"), *[LOST] * lost)
    world.settle()
    assert n1.view().epoch == 2
    assert n1.view().state is GraceState.NORMAL


def test_31_a_repeated_registration_is_the_same_registration(world: World) -> None:
    """The very same request twice: one generation, answered twice."""
    n1 = world.node("n1")
    item = n1.node.registering("c", "nfs", "", 0, None, None)
    call = clients.register(n1.node.keys, n1.node.lease.head(n1.node.now()), [item])
    first, second = (call.parse(world.run(call)) for _ in range(2))
    assert first == second


def test_06_a_forced_end_before_the_barrier_and_the_cap_close_in_any_case(world: World) -> None:
    """Neither the operator nor the cap waits for a period to be in force; an ack of the close implies the start."""
    n1, n2 = world.node("n1"), world.node("n2")
    n2.crash()
    world.redis.zadd(world.key("members"), {n2.owner: 1e15})  # a member that never lapses and never acks
    n1.start("a")
    assert not n1.view().in_force
    n1.run(n1.node.end_grace("operator"))
    assert n1.view().closing
    assert n1.view().waiting_for == (n2.owner,)
    world.redis.zrem(world.key("members"), n2.owner)
    world.settle()
    assert n1.view().state is GraceState.NORMAL
    world.redis.zadd(world.key("members"), {n2.owner: 1e15})
    n1.start("b")
    cap = n1.node.lease.view.cap_ms - n1.node.lease.clock_ms
    world.pass_time(cap / 1000 - 1)
    assert not n1.view().closing
    world.pass_time(1.5)
    assert n1.view().closing


def test_31_a_late_request_does_nothing(world: World) -> None:
    """A request that arrives after its `not_after` changes nothing; its sender has waited for that."""
    n1 = world.node("n1")
    item = n1.node.registering("c", "nfs", "", 0, None, None)
    late = clients.register(n1.node.keys, n1.node.lease.head(n1.node.now()), [item])
    world.jump(2)
    reply = world.run(late)
    assert reply.status == "LATE"
    assert world.redis.exists(world.key("client", "c")) == 0


def test_31_a_late_request_does_nothing_however_long_the_scope_clock_stood_still(world: World) -> None:
    """Nobody moved the clock for four seconds: once the caller goes on, what it gave up is late all the same."""
    n1 = world.node("n1")
    n1.register("c", ttl=5)
    world.time += 4  # a process that was stopped: no script runs, so the scope clock stands still
    head = n1.node.lease.head(n1.node.now())
    late = clients.unregister(n1.node.keys, head, [(b"c", 0)], 0)
    world.time = head.over_at
    world.redis.hincrby(world.key("meta"), "clock", 2000)  # what the next script makes of it (include/now)
    n1.run(n1.node.touch([b"c"]))
    assert world.run(late).status == "LATE"
    assert n1.view_of("c").state == "live"


def test_06_a_repeated_join_leaves_lease_ack_and_fence(world: World) -> None:
    """The join's reply was lost; the repeat answers the same incarnation and raises no ack."""
    n1 = world.node("n1")
    head = Head("", 0, n1.node.lease.view.dataset, 0, 0, 0, n1.node.now())

    def join(boot: str) -> Any:
        call = nodes.join(
            n1.node.keys, head, "n2", boot, "d", world.settings, "v", predecessor_dead=False
        )
        return call.parse(world.run(call))

    first = join("boot")
    owner = f"n2:{first.incarnation}"
    lease = world.redis.zscore(world.key("members"), owner)
    n1.start("a")
    world.jump(1)
    again = join("boot")
    assert again.incarnation == first.incarnation
    assert (first.fresh, again.fresh) == (True, False)
    assert world.redis.zscore(world.key("members"), owner) == lease
    assert world.redis.hget(world.key("node", owner), "acked") == b"0"
    assert not n1.view().in_force, "n2 has not acked"


def test_13_reclaims_wait_for_the_barrier(world: World) -> None:
    """In force only when every living member has acked; a silent one is waited for until its lease ran out."""
    n1, n2 = world.node("n1"), world.node("n2")
    n2.crash()
    n1.start("a")
    n1.register("a")
    with pytest.raises(errors.BarrierPending):
        n1.admit("a")
    world.pass_time(5)
    assert n1.view().waiting_for == (n2.owner,)
    assert not n1.view().in_force
    world.pass_time(LAPSE - 5)
    assert n1.view().in_force


def test_14_a_hung_node_that_renews_without_acking_is_not_waited_for_longer(world: World) -> None:
    """Its lease is not extended any more once its ack is overdue by a lease: in force within 2L + M."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.start("a")
    for _ in range(40):
        world.jump(0.4)
        call = nodes.renew(n2.node.keys, n2.node.lease.head(n2.node.now()), 0)
        n2.node.lease.observe(call.head, world.run(call).state, n2.node.now())
        n1.run(n1.node.renew())
    assert n1.node.lease.view.in_force


def test_05_too_near_the_cap_waits_for_an_epoch_of_its_own(world: World) -> None:
    """A roster for which no full grace fits under the cap is told LATER, and nothing was changed."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.start()
    world.settle()
    world.pass_time(GRACE - 1)
    n2.start("a")  # extends once, within the cap
    world.pass_time(GRACE - 2)
    n1.start("b")
    with pytest.raises(errors.BarrierPending) as caught:
        n2.run(n2.node.ask_tight(lambda head: _start(n2, head)))
    assert caught.value.retry_after > 0
    assert n2.view().epoch == 1


def _start(player: Player, head: Head) -> Call[Any]:
    from coordinator.protocol import grace  # noqa: PLC0415

    player.world.redis.hset(player.world.key("grace"), "cap", int(player.node.lease.clock_ms) + 1000)
    return grace.start(player.node.keys, head, "other", [b"z"], "r", more=False, if_empty="wait", reason=b"")


@pytest.mark.parametrize("damage", ["dataset", "writes", "revision", "epoch"])
def test_29_lost_data_is_noticed_before_a_fence_and_fails_closed(world: World, damage: str) -> None:
    """Another dataset, a smaller revision or epoch, fewer writes: DataLost, no new locks, and the node says so."""
    n1 = world.node("n1")
    n1.start("a")
    n1.run(n1.node.end_grace("test"))
    world.settle()
    assert n1.check().allowed
    key = world.key("node", n1.owner) if damage == "writes" else world.key("meta")
    world.redis.hset(key, damage, "other" if damage == "dataset" else 0)
    world.redis.hset(world.key("node", n1.owner), "fenced", "evicted")
    with pytest.raises(DataLost, match="restore the data"):
        n1.run(n1.node.renew())
    assert not n1.check().allowed
    assert n1.node.fenced is None, "a loss is not taken for an eviction"
    with pytest.raises(DataLost):
        n1.register("b")
    with pytest.raises(DataLost):
        n1.run(n1.node.renew())
    assert n1.metric("coordinator_data_loss_total") == 1


def test_30_a_jump_of_the_machines_clock_moves_the_scope_by_two_seconds_at_most(world: World) -> None:
    """Forward by an hour: 2 s; backward: nothing, never back."""
    n1 = world.node("n1")
    world.frozen = False
    hour = 3_600_000
    world.redis.hincrby(world.key("meta"), "raw", -hour)
    before = int(world.redis.hget(world.key("meta"), "clock") or 0)
    n1.run(n1.node.renew())  # late by that jump, then in time
    after = int(world.redis.hget(world.key("meta"), "clock") or 0)
    assert 0 <= after - before <= 2500
    world.redis.hincrby(world.key("meta"), "raw", hour)
    n1.run(n1.node.renew())
    assert after <= int(world.redis.hget(world.key("meta"), "clock") or 0) <= after + 500


def test_03_generations_never_restart(world: World) -> None:
    """Whatever happens in one millisecond, and although the record has gone, each generation is above the last."""
    n1 = world.node("n1")
    clock = n1.node.lease.clock_ms + 50
    seen = []
    for _ in range(20):
        world.redis.hset(world.key("meta"), "clock", clock)  # all in one millisecond
        seen.append(n1.register("a").generation)
        n1.unregister("a")
    assert seen == sorted(set(seen))


def test_21_old_news_does_not_touch_a_client_that_came_back(world: World) -> None:
    """A client went n1, n2, n1 before n1 heard of the first move: its new registration and right stay."""
    n1, n2 = world.node("n1"), world.node("n2")
    old = n1.register("c")
    n1.lock("c")
    n2.register("c")
    n1.register("c")
    world.settle()
    assert n1.node.registry.get(b"c") is not None
    assert world.redis.smembers(world.key("holders", n1.owner)) == {b"c"}
    with pytest.raises(errors.RegistrationRefused, match="moved"):
        n1.unregister("c", old.generation)
    n1.lock("c")
    n1.run(n1.node.ask(lambda head: clients.statuses("client_drop", n1.node.keys, head, (b"c", old.generation))))
    assert world.redis.smembers(world.key("holders", n1.owner)) == {b"c"}, "an old drop takes no new right"


def test_07_completing_again_does_not_make_a_holder(world: World) -> None:
    """After lift, release and a fresh registration `ALREADY` succeeds, and the next lock is held durably."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c")
    n1.lock("c")
    n1.crash()
    world.pass_time(LAPSE)
    n2.reclaim("c")
    world.settle()
    n2.unregister("c")
    n2.register("c")
    assert n2.complete("c").repeated
    n2.lock("c")
    assert world.redis.smembers(world.key("holders", n2.owner)) == {b"c"}


@pytest.mark.parametrize("end", ["released", "released when due", "rebooted", "missed"])
def test_11_a_copied_right_ends_with_the_original(world: World, end: str) -> None:
    """n1 died unnoticed and c moved on: once its right was released, rebooted away or forfeited, no copy revives it."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    n1.register("c", verifier="one")
    n1.lock("c")
    n1.register("other")
    n1.lock("other")
    n1.crash()
    n2.register("c", verifier="one", ttl=1 if end == "released when due" else 0)
    if end.startswith("released"):
        n2.unregister("c")
    elif end == "rebooted":
        n2.register("c", verifier="two")
    world.pass_time(LAPSE)
    assert n2.view().in_force
    if end.startswith("released"):
        assert n2.released() == [("c", "disconnect")]
    if end == "missed":
        world.pass_time(GRACE + 2)
        assert n2.view().state is GraceState.NORMAL
        n2.register("d")
        n2.lock("d")
        n2.crash()
        world.pass_time(LAPSE)
        assert n3.view().in_force
    n3.register("c", verifier="two" if end == "rebooted" else "one")
    with pytest.raises(errors.ReclaimRefused, match="not_expected"):
        n3.admit("c")


def test_21_a_client_that_was_leaving_takes_its_right_along(world: World) -> None:
    """Its disconnect was due and unclaimed when it came back elsewhere: no copy stays behind."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.node.claims_releases = n2.node.claims_releases = False
    n1.register("c")
    n1.lock("c")
    n1.unregister("c")
    assert n2.register("c").holder
    assert not world.redis.exists(world.key("holders", n1.owner))


def test_24_a_claimed_release_of_a_dead_node_is_done_without_waiting_for_the_cap(world: World) -> None:
    """n1 died in its callback; the period that follows lifts early: c is freed when the claim has run out."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.callback = False
    for client in ("c", "d"):
        n1.register(client)
        n1.lock(client)
    n1.unregister("c")
    n1.crash()
    world.pass_time(LAPSE + 3)
    n2.reclaim("d")
    world.pass_time(4)
    assert ("c", "disconnect") in n2.released()


def test_24_a_deferred_disconnect_of_a_dead_node_waits_for_the_end_of_grace(world: World) -> None:
    """Its client may still reclaim: nothing is freed before the period ends, then it is."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c", ttl=15)
    n1.lock("c")
    n1.unregister("c")
    n1.crash()
    world.pass_time(LAPSE + 10)
    assert n2.releases == []
    assert n2.reclaim("c").lifted
    world.pass_time(GRACE)
    assert n2.releases == []


def test_23_an_acknowledgement_with_an_old_token_is_refused(world: World) -> None:
    """The first worker's claim ran out and another has it: the first's ack changes nothing."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.callback = n2.callback = False
    n1.register("a")
    n1.unregister("a")
    (old,) = n1.held_back
    n1.keeper.claims.clear()
    world.pass_time(11)
    assert n1.held_back[1:] + n2.held_back
    assert not n1.run(n1.node.ask(lambda head: releases.ack(n1.node.keys, head, old, ("nfs",))))
    with pytest.raises(ClientReleasing):
        n2.register("a")


def test_26_more_is_due_than_workers_take(world: World) -> None:
    """With every worker's place taken the keeper waits; as places come back it goes on."""
    n1 = world.node("n1")
    n1.callback = False
    count = BATCH_MAX + 10
    for i in range(count):
        n1.register(f"c{i}", ttl=1)
        n1.unregister(f"c{i}")
    world.pass_time(1.5)
    assert len(n1.held_back) == BATCH_MAX
    while n1.held_back:
        n1.run(n1.keeper.done(n1.held_back.pop()))
        n1.tick()
    assert not world.redis.exists(world.key("due"))


def test_06_a_grant_belongs_to_the_epoch_it_was_admitted_in(world: World) -> None:
    """An admission of one epoch, confirmed in the next that is in force: stale."""
    n1 = world.node("n1")
    n1.start("a", "b")
    n1.register("a")
    old = n1.admit("a")
    n1.run(n1.node.end_grace("operator"))
    n1.start("c")
    assert n1.node.lease.snapshot.reclaims
    with pytest.raises(StaleGrant):
        old.confirm()
