"""Lost replies, late and repeated requests: effects exactly once, and nothing loosened by what is not known."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from coordinator import ClientReleasing, Fenced, GraceState, OutcomeUnknown, StaleEpoch, StaleGrant, Unavailable, errors
from coordinator.api.driving import drive
from coordinator.node import Sleep
from coordinator.protocol import Head, clients, nodes, releases
from coordinator.protocol.call import BATCH_MAX, OPERATOR, Call
from tests.orders import DOWN, LOST, faulty
from tests.world import GRACE, Player, World

LAPSE = 9.5


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
    names: Any = player.world.redis.hkeys(player.world.key("holders", player.owner))
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
        assert isinstance(lock.send(None), Sleep), "its turn comes after the drop"
        with contextlib.suppress(OutcomeUnknown):
            request = drop.throw(OutcomeUnknown("lost before it arrived"))
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
    n1.tick()
    assert holders(n1) == set()


def test_31_a_right_left_over_goes_whatever_registration_its_client_has(world: World) -> None:
    """The client registered again before the drop: it goes all the same. While it is made: that waits its turn."""
    n1 = world.node("n1")
    n1.register("c")
    with pytest.raises(OutcomeUnknown):
        faulty(n1, n1.node.begin_grant(b"c"), LOST, LOST, LOST)
    assert n1.register("c").holder
    drop = n1.node.drop_left_over()
    request: Any = drop.send(None)
    item = n1.node.registering("c", "nfs", "", 0, None, None)
    registering = n1.node.register([item])
    assert isinstance(registering.send(None), Sleep), "its turn comes after the drop"
    with pytest.raises(StopIteration):
        drop.send(n1.send(request))
    (registered,) = drive(registering, n1.send, lambda _: None)
    assert not registered.holder  # type: ignore[union-attr]
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


def test_31_an_eviction_of_unknown_outcome_does_not_ack_for_its_caller(world: World) -> None:
    """The evict ran and its reply was lost: nothing is in force before this node has learnt of it, and switched."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c")
    n1.lock("c")
    n1.crash()
    for _ in range(22):
        world.jump(0.4)
        n2.run(n2.node.renew())
    with pytest.raises(OutcomeUnknown):
        faulty(n2, n2.node.evict([n1.owner]), LOST, DOWN, DOWN)
    assert n2.check().allowed
    in_force = str(world.redis.hget(world.key("meta"), "view"), "ascii").split(" ")[4]  # type: ignore[arg-type]
    assert in_force == "0"
    world.settle()
    assert not n2.check().allowed
    assert n2.view().in_force


@pytest.mark.parametrize("lost", [1, 2])
def test_31_register_and_start_repeat_to_the_same_answer(world: World, lost: int) -> None:
    """However often the reply is lost: one registration, one epoch."""
    n1 = world.node("n1")
    item = n1.node.registering("c", "nfs", "", 0, None, None)
    (registered,) = faulty(n1, n1.node.register([item]), *[LOST] * lost)
    stored = world.redis.hget(world.key("client", "c"), "g")
    assert int(stored or 0) == registered.generation
    epoch = faulty(n1, n1.node.open_roster("wait", ""), *[LOST] * lost)
    with pytest.raises(StaleEpoch):  # it is complete: the repeat begins anew
        faulty(n1, n1.node.bring_roster(epoch, [b"x"], [], "wait", ""), *[LOST] * lost)
    assert (n1.start("x").epoch, n1.start("x").expected) == (1, 1)
    faulty(n1, n1.node.revoke(b"x"), *[LOST] * lost)
    world.settle()
    assert n1.view().epoch == 1
    assert n1.view().state is GraceState.NORMAL


def test_31_a_request_that_was_given_up_does_nothing_once_a_later_one_ran(world: World) -> None:
    """A registration is lost on its way; its repeat is executed; when the first one arrives at last, it is late."""
    n1, n2 = world.node("n1"), world.node("n2")
    item = n1.node.registering("c", "nfs", "", 0, None, None)
    late: list[Call[Any]] = []

    def run(call: Call[Any]) -> Any:
        if not late:
            late.append(call)
            raise OutcomeUnknown(LOST)
        return n1.send(call)

    drive(n1.node.register([item]), run, lambda _: None)
    n2.register("c")
    assert world.run(late[0]).status == "LATE"
    assert n2.view_of("c").owner == n2.owner


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


def test_06_a_repeated_join_leaves_lease_ack_and_fence(world: World) -> None:
    """The join's reply was lost; the repeat answers the same incarnation and raises no ack."""
    n1 = world.node("n1")
    head = Head(OPERATOR, n1.node.now())

    def join(boot: str) -> Any:
        call = nodes.join(n1.node.meta, head, "n2", boot, "d", world.settings, "v", predecessor_dead=False)
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
        call = nodes.renew(n2.node.meta, n2.node.lease.head(n2.node.now()), 0)
        n2.node.lease.observe(call.head, world.run(call), n2.node.now())
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
        n2.run(n2.node.ask(lambda head: _start(n2, head)))
    assert caught.value.retry_after > 0
    assert n2.view().epoch == 1


def _start(player: Player, head: Head) -> Call[Any]:
    from coordinator.protocol import grace  # noqa: PLC0415

    world = player.world
    fields = str(world.redis.hget(world.key("meta"), "view"), "ascii").split(" ")  # type: ignore[arg-type]
    fields[7] = str(int(player.node.lease.clock_ms) + 1000)
    world.redis.hset(world.key("meta"), "view", " ".join(fields))
    return grace.start(player.node.meta, head, "other", 0, [], more=True, if_empty="wait", reason=b"")


@pytest.mark.parametrize("damage", ["dataset", "writes", "revision", "epoch"])
def test_29_lost_data_is_noticed_before_a_fence(world: World, damage: str) -> None:
    """Another dataset, a smaller revision or epoch, fewer writes: its life ends, and a loss is no eviction."""
    n1 = world.node("n1")
    n1.start("a")
    n1.run(n1.node.end_grace("test"))
    world.settle()
    assert n1.check().allowed
    if damage == "writes":
        world.redis.hset(world.key("node", n1.owner), "writes", 0)
    else:
        fields = str(world.redis.hget(world.key("meta"), "view"), "ascii").split(" ")  # type: ignore[arg-type]
        fields[("dataset", "revision", "epoch").index(damage)] = "0"
        world.redis.hset(world.key("meta"), "view", " ".join(fields))
    world.redis.hset(world.key("node", n1.owner), "fenced", "evicted")
    with pytest.raises(Fenced, match="data_lost"):
        n1.run(n1.node.renew())
    assert n1.ended == ["data_lost"]
    assert not n1.check().allowed
    with pytest.raises(Fenced, match="data_lost"):
        n1.register("b")
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
    assert holders(n1) == {b"c"}
    with pytest.raises(errors.RegistrationRefused, match="moved"):
        n1.unregister("c", old.generation)
    n1.lock("c")
    n1.run(n1.node.ask(lambda head: clients.drop(n1.node.meta, head, [(b"c", old.generation)])))
    assert holders(n1) == {b"c"}, "an old drop takes no new right"


def test_07_completing_again_does_not_make_a_holder(world: World) -> None:
    """After lift, release and a fresh registration there is nothing to complete; the next lock is held durably."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c")
    n1.lock("c")
    n1.crash()
    world.pass_time(LAPSE)
    n2.reclaim("c")
    world.settle()
    n2.unregister("c")
    n2.register("c")
    with pytest.raises(errors.NoGrace):
        n2.complete("c")
    n2.lock("c")
    assert holders(n2) == {b"c"}


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
    assert n1.run(n1.node.ask(lambda head: releases.ack(n1.node.meta, head, [old], ("nfs",))))[1] == [False]
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
    world.settle()
    assert n1.node.lease.snapshot.reclaims
    with pytest.raises(StaleGrant):
        old.confirm()
