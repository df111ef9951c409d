"""Scenarios 37, 38, 44 and others: orders of events that take bad luck, and end with each right where it belongs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coordinator import (
    BarrierPending,
    ClientHeld,
    GraceActive,
    GraceState,
    OutcomeUnknown,
    ReclaimRefused,
    RegistrationRefused,
)
from coordinator.node.registry import Entry
from tests.orders import (
    LAPSE,
    confirms,
    first_answer,
    given_up,
    in_time,
    lose,
    lost_reply,
    make_deaf,
    registering,
)
from tests.world import GRACE, Player, World, all_released

# -- 37, 38: several owners, one roster -------------------------------------------------------------------------------


@pytest.mark.parametrize("admitted", [False, True], ids=["seen by B", "admitted by B"])
@pytest.mark.parametrize("others", [True, False], ids=["B has holders", "B has none"])
def test_37_two_owners_that_a_client_came_through_are_lost_into_one_epoch(
    world: World, *, admitted: bool, others: bool
) -> None:
    """X holds f at A, which dies; its next home B dies before x is complete; x completes at C: it keeps f."""
    a, b, c = (world.node(name) for name in ("A", "B", "C"))
    for client in ("x", "slow"):
        a.register(client)
        a.lock(client)
    if others:
        b.register("y")
        b.lock("y")
    lose(world, a)
    assert b.view().in_force
    b.register("x")
    if admitted:
        b.admit("x").confirm()
    b.crash()
    if admitted:
        with pytest.raises(ClientHeld):
            c.register("x")
        world.pass_time(LAPSE)
    assert c.register("x").must_reclaim
    assert not c.reclaim("x").lifted, "slow is waited for"
    here = world.rights()["x"]
    assert here == (c.owner, c.view_of("x").generation)
    world.pass_time(LAPSE)
    assert world.rights()["x"] == here
    assert c.view().epoch == 1
    assert set(c.view().waiting_for) == ({"slow", "y"} if others else {"slow"})
    if others:
        c.reclaim("y")
    assert c.reclaim("slow").lifted
    world.pass_time(GRACE)
    assert list(all_released(world)) == []
    assert world.rights()["x"] == here
    c.lock("x").confirm()


def test_38_a_disconnect_while_the_locks_at_a_dead_node_wait_to_be_noticed(world: World) -> None:
    """Held, then told that it must reclaim, refused a lock; it disconnects, comes back in time, and is told again."""
    a, b, c = (world.node(name) for name in ("A", "B", "C"))
    old = a.register("x")
    a.lock("x")
    a.crash()
    with pytest.raises(ClientHeld):
        b.register("x", ttl=30)
    world.pass_time(LAPSE)
    assert b.register("x", ttl=30).must_reclaim
    with pytest.raises(GraceActive):
        b.begin_lock("x")
    with pytest.raises(GraceActive):
        b.run(b.node.count_lock(b"x"))
    b.unregister("x")
    world.pass_time(29)
    assert c.register("x", ttl=30).must_reclaim
    assert world.rights() == {"x": (a.owner, old.generation)}
    assert list(all_released(world)) == []
    assert c.reclaim("x").closing
    world.settle()
    assert b.view().state is GraceState.NORMAL
    world.pass_time(GRACE)
    assert list(all_released(world)) == []
    assert world.rights() == {"x": (c.owner, c.view_of("x").generation)}


@pytest.mark.parametrize("ttl", [0.0, 5.0], ids=["at once", "5 s"])
@pytest.mark.parametrize("back", [True, False], ids=["comes back", "stays away"])
def test_38_a_disconnect_of_a_client_on_a_roster_waits_for_the_periods_end(
    world: World, ttl: float, *, back: bool
) -> None:
    """Whatever its TTL is: it has not given its right up. Who stays away is forfeited with the others, once."""
    a, b, c = (world.node(name) for name in ("A", "B", "C"))
    a.register("x")
    a.lock("x")
    lose(world, a)
    newest = b.register("x", ttl=ttl).generation
    assert b.unregister("x").due_in_seconds > GRACE
    world.pass_time(GRACE - 5)
    assert list(all_released(world)) == []
    if back:
        assert c.register("x").must_reclaim
        assert c.reclaim("x").closing
        world.settle()
        assert b.view().state is GraceState.NORMAL
        world.pass_time(2 * GRACE + LAPSE)
        assert list(all_released(world)) == []
        return
    world.pass_time(10)
    assert c.view().state is GraceState.NORMAL
    assert ("x", "forfeited") in list(all_released(world))
    world.pass_time(2 * GRACE + LAPSE)
    upto = [release.generation for node in world.nodes for release in node.releases]
    assert max(upto) == newest
    assert len(upto) == len(set(upto)), "each once"
    assert world.dump("client", "adapter", "due") == {}


def test_38_a_disconnect_that_comes_due_before_its_home_was_missed(world: World) -> None:
    """It is deferred at A, which dies: once its right is on the roster it is not released before the period's end."""
    a, b = world.node("A"), world.node("B")
    a.register("x", ttl=LAPSE + 3)
    a.lock("x")
    a.unregister("x")
    lose(world, a)
    assert b.view().in_force
    world.pass_time(20)
    assert list(all_released(world)) == []
    assert b.register("x").must_reclaim
    assert b.reclaim("x").lifted


def test_a_deferred_client_of_a_dead_home_brings_its_right_along(world: World) -> None:
    """Nobody had noticed that A died: x has its right at B; a reclaim is told that it has its locks (already)."""
    a, b = world.node("A"), world.node("B")
    for client in ("x", "y"):
        a.register(client, ttl=60)
        a.lock(client)
    a.unregister("x")
    a.crash()
    new = b.register("x", ttl=60)
    assert (new.holder, new.must_reclaim) == (True, False)
    world.pass_time(LAPSE)
    assert b.view().in_force
    assert b.view().waiting_for == ("y",)
    with pytest.raises(ReclaimRefused, match="has its locks") as caught:
        b.admit("x")
    assert caught.value.reason == "already"
    outcome = b.complete("x")
    assert (outcome.repeated, outcome.lifted) == (True, False)
    assert b.reclaim("y").lifted
    assert b.complete("x").repeated, "after the lift too"
    assert world.rights()["x"] == (b.owner, new.generation)
    assert list(all_released(world)) == []


# -- 44: what a lock store has ----------------------------------------------------------------------------------------


def test_44_who_was_released_after_the_store_was_read_is_not_on_the_roster(world: World) -> None:
    """Read, then released and acknowledged, then brought: forfeited, and nothing starts."""
    n1, n2 = world.node("n1"), world.node("n2")
    for client in ("a", "b"):
        n1.register(client)
        n1.lock(client)
    n1.unregister("b")

    def meanwhile() -> None:
        n1.unregister("a")
        assert ("a", "disconnect") in n1.released()

    started = n2.start("a", "b", meanwhile=meanwhile)
    assert (started.epoch, started.forfeited) == (1, 1), "b was released before the store was read: it had locks then"
    assert world.rights().keys() == {"b"}
    n2.run(n2.node.withdraw())
    world.settle()


def test_44_a_start_that_adds_nobody_changes_nothing_for_anybody(world: World) -> None:
    """Those of the store are served or being released: nobody is refused, and a hung third node is not waited for."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    n1.register("a")
    n1.lock("a")
    n1.callback = False
    n1.register("leaves")
    n1.lock("leaves")
    n1.unregister("leaves")
    n3.crash()
    before = world.redis.hget(world.key("meta"), "view")
    started = n2.start("a", "leaves")
    assert (started.epoch, started.expected, started.live, started.forfeited) == (None, 0, 1, 1)
    assert world.redis.hget(world.key("meta"), "view") == before
    for node in (n1, n2):
        assert node.check().allowed
    assert world.dump("open", "ended", "lost") == {}
    n1.run(n1.keeper.done(n1.held_back.pop()))


def test_44_a_crashed_node_that_is_back_within_its_lease_needs_one_period(world: World) -> None:
    """It tells its store at once: its clients are waited for by that same period, not by a second one."""
    n1, n2 = world.node("n1"), world.node("n2")
    for client in ("a", "b"):
        n1.register(client)
        n1.lock(client)
    n1.crash()
    world.pass_time(1)
    again = world.node("n1")
    started = again.start("a", "b")
    assert (started.epoch, started.expected) == (1, 2)
    world.settle()
    assert not again.check().allowed
    assert not n2.check().allowed
    world.pass_time(LAPSE)
    assert again.view().in_force
    assert set(world.rights()) == {"a", "b"}
    for client in ("a", "b"):
        again.reclaim(client)
    world.settle()
    assert again.check().allowed
    world.pass_time(2 * GRACE)
    assert again.view().epoch == 1
    assert [period.epoch for period in n2.periods] == [1]
    assert list(all_released(world)) == []


# -- what came to light in reviews ------------------------------------------------------------------------------------


def set_back(world: World) -> None:
    """Set the machine's clock back by some seconds: the last raw lies ahead, as include/now sees it."""
    seconds, _ = world.redis.time()
    world.redis.hset(world.key("meta"), "raw", seconds * 1000 + 3000)
    world.frozen = False


def with_settings(world: World, name: str, **changes: Any) -> Player:
    """Let a node join whose settings differ."""
    return world.node(name, settings=replace(world.settings, **changes))


def test_35_a_registration_that_its_home_does_not_remember_is_yielded(world: World) -> None:
    """N2 gave its registration up, which had been executed: it closes and yields the client all the same."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    n1.register("c")
    n1.lock("c")
    first_answer(n2, registering(n2, "c"))
    n1.listen()
    n1.tick()
    with pytest.raises(OutcomeUnknown):
        lost_reply(n2, registering(n2, "c"), times=1000)
    assert n2.node.registry.get(b"c") is None
    new = n3.register("c")
    assert new.holder
    assert world.rights() == {"c": (n3.owner, new.generation)}
    assert n2.moves == [], "its server knew of no such client"
    world.pass_time(GRACE)
    assert list(all_released(world)) == []


def test_35_a_repeated_registration_does_not_take_the_client_back(world: World) -> None:
    """The reply was lost, and the client connected elsewhere before the repeat: that is told that it has moved."""
    n2, n3 = world.node("n2"), world.node("n3")
    (answer,) = lost_reply(n2, registering(n2, "c"), lambda: n3.register("c"))
    assert isinstance(answer, RegistrationRefused)
    assert answer.reason == "moved"
    assert n3.view_of("c").owner == n3.owner
    assert n2.node.registry.get(b"c") is None


def test_38_an_eviction_while_a_register_waits_for_the_home(world: World) -> None:
    """The answer itself says that the client must reclaim: no news of it is needed."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    n1.register("c")
    n1.lock("c")
    n1.crash()
    while world.clock <= world.gone_at(n1):
        world.jump(0.4)
        for node in (n2, n3):
            node.run(node.node.renew())
    make_deaf(n2)
    (new,) = in_time(n2, registering(n2, "c"), lambda: n3.run(n3.node.evict([n1.owner])))
    assert new.must_reclaim


def test_23_a_claim_closes_the_entry_first(world: World) -> None:
    """Whatever this node still has open of a client whose release it takes: nothing is confirmed any more."""
    n1 = world.node("n1", callback=False)
    n1.register("c", ttl=1)
    n1.lock("c")
    n1.unregister("c")
    entry = Entry(b"c", 1, "nfs", 0, holder=True)
    n1.node.registry.put(entry)  # as nothing should have left it
    grant = n1.begin_lock("c")
    world.pass_time(2)
    assert [claim.client for claim in n1.held_back] == [b"c"]
    assert not confirms(grant)


def test_31_a_late_eviction_puts_nothing_in_force_beside_its_caller(world: World) -> None:
    """Given up, and executed when its caller grants: its epoch is not in force before the caller has stopped."""
    n1, n2 = world.node("n1"), world.node("n2")
    for node, client in ((n1, "c"), (n2, "d")):
        node.register(client)
        node.lock(client)
    n1.crash()
    while world.clock <= world.gone_at(n1):
        world.jump(0.4)
        n2.run(n2.node.renew())
    late = given_up(world, n2.node.evict([n1.owner]))
    set_back(world)
    n2.run(n2.node.touch([b"d"]))
    grant = n2.begin_lock("d")
    reply = world.run(late)
    assert not reply.view.in_force
    assert confirms(grant), "nobody reclaims yet"
    world.settle()
    assert n2.view().in_force
    assert not n2.check().allowed


def test_31_a_heartbeat_cancels_what_was_given_up(world: World) -> None:
    """A late registration does not take its client from the node that it has gone to since."""
    n2, n3 = world.node("n2"), world.node("n3")
    late = given_up(world, registering(n2, "c"))
    n3.register("c")
    n2.run(n2.node.renew())
    assert world.run(late).status == "LATE"
    assert n3.view_of("c").owner == n3.owner


def test_31_a_clock_set_back_lets_no_late_drop_take_a_later_hold(world: World) -> None:
    """A given-up drop must not run after the hold that came next."""
    n1 = world.node("n1")
    n1.register("c")
    n1.lock("c")
    late = given_up(world, n1.node.uncount_lock(b"c"))
    set_back(world)
    n1.lock("c")
    assert world.run(late).status == "LATE"
    assert world.rights().keys() == {"c"}, "its lock has a right"


def test_07_a_completion_is_repeated_when_the_next_period_has_begun(world: World) -> None:
    """Its reply was lost, the period lifted, another one started: the repeat is a success still."""
    n1, n2, n3, n4 = (world.node(f"n{i}") for i in (1, 2, 3, 4))
    for node, client in ((n1, "c"), (n4, "d")):
        node.register(client)
        node.lock(client)
    lose(world, n1)
    n2.register("c")
    n2.admit("c").confirm()

    def between() -> None:
        for node in (n3, n4):
            node.listen()
            node.tick()
        n2.run(n2.node.renew())  # its keeper
        n2.run(n2.node.renew())
        assert n3.view().state is GraceState.NORMAL
        n4.leave()  # a planned hand-off: the next epoch
        assert n3.view().epoch == 2

    (outcome,) = lost_reply(n2, n2.node.complete([b"c"]), between)
    assert not isinstance(outcome, Exception), repr(outcome)
    assert outcome.repeated


def test_12_a_lock_that_was_reclaimed_but_not_completed_is_freed(world: World) -> None:
    """Its client missed the end of the period and moved on; its new node dies: that release covers the lock too."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    n1.register("c")
    n1.lock("c")
    lose(world, n1)
    n2.register("c")
    grant = n2.admit("c")
    grant.confirm()
    n2.run(n2.node.end_grace("test"))
    world.settle()
    assert not n3.register("c").holder
    n3.crash()
    world.pass_time(2 * LAPSE)
    freed = [release.generation for release in n2.releases if release.client_id == "c"]
    assert max(freed) >= grant.generation


def test_14_a_hung_member_with_a_longer_lease_does_not_use_up_the_grace(world: World) -> None:
    """The cap leaves room for the longest lease of the members, not only of the lost owner."""
    n1 = with_settings(world, "n1", grace_seconds=5.0)
    n3 = with_settings(world, "n3", grace_seconds=5.0)
    n2 = with_settings(world, "n2", grace_seconds=5.0, lease_seconds=60.0)
    n1.register("c")
    n1.lock("c")
    n1.crash()
    world.pass_time(LAPSE - 2)
    n2.crash()
    world.pass_time(2)
    assert n3.view().state is GraceState.ACTIVE
    n3.register("c")
    for _ in range(400):
        world.pass_time(0.4)
        try:
            n3.admit("c").confirm()
        except BarrierPending:
            continue
        break
    else:
        pytest.fail("never admitted")


def test_14_a_crash_loop_does_not_grow_the_rosters_without_bound(world: World) -> None:
    """Owners with clients but without holders count for the limit of rosters too."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c")
    n1.lock("c")
    lose(world, n1)
    assert n2.view().in_force
    for i in range(205):
        node = Player(world, "looping")
        node.register(f"x{i}")
        node.leave()
    assert world.redis.scard(world.key("lost")) <= 200


def test_16_an_eviction_long_ago_is_no_lost_data(world: World) -> None:
    """Its record has expired: a node that was stopped for longer than the retention was evicted, nothing else."""
    n1 = with_settings(world, "n1", retention_seconds=1.0)
    n2 = world.node("n2")
    lose(world, n1)
    world.redis.delete(world.key("node", n1.owner))  # its TTL ran out
    n1.alive = True
    world.pass_time(5)
    assert n1.ended == ["evicted"]
    assert n2.view().state is GraceState.NORMAL


def test_09_a_predecessor_stated_dead_lapses_by_its_own_margin(world: World) -> None:
    """It is evicted at once, whatever its settings were."""
    n1 = with_settings(world, "n1", barrier_margin_seconds=5.0)
    world.node("n2")
    n1.register("c")
    n1.lock("c")
    n1.crash()
    world.jump(1)
    again = world.node("n1", dead=True)
    assert again.view().state is GraceState.ACTIVE


def test_03_a_client_of_an_orphan_that_held_nothing_is_no_leftover_to_reclaim(world: World) -> None:
    """The drain frees whatever has its label: it is not asked to reclaim what is freed beside that."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c")  # it holds nothing there
    n1.leave()
    started = n2.start("c")  # what n2 found in its lock store, before the orphan was drained
    assert (started.epoch, started.forfeited) == (None, 1)
    world.pass_time(1)
    assert n2.released() == [("c", "orphaned")]
