"""Scenarios 8 to 11, 17 to 19: crash, restart, failover, hand-off."""

from __future__ import annotations

import pytest

from coordinator import ClientHeld, Closed, Fenced, GraceState, NoGrace, Reason, ReclaimRefused
from tests.world import GRACE, World, all_released

LAPSE = 6 + 2.5 + 1
"""Seconds after which a crashed member is noticed: lease, margin, a heartbeat."""


def test_08_a_node_crashes_with_holders(world: World) -> None:
    """The others notice by its lease, all go into grace, its clients reclaim elsewhere, then it is normal."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    for client in ("a", "b"):
        n1.register(client)
        n1.lock(client)
    n1.register("idle")
    n1.crash()
    with pytest.raises(ClientHeld) as caught:
        n2.register("a")  # n1 is dead, but nobody noticed yet
    assert caught.value.home == n1.owner
    assert caught.value.retry_after > 0
    assert n2.register("idle").owner == n2.owner, "it has no lock that another node could still confirm"
    world.pass_time(LAPSE)
    assert not n2.check().allowed
    assert not n3.check().allowed
    assert n2.view().in_force
    assert n2.register("a").must_reclaim
    n2.reclaim("a")
    assert n2.view().state is GraceState.ACTIVE
    n3.reclaim("b")
    world.settle()
    assert n2.view().state is GraceState.NORMAL
    assert n2.check().allowed
    assert list(all_released(world)) == []


def test_08_non_holders_cause_no_grace_and_their_places_come_back(world: World) -> None:
    """A dead node whose clients held nothing freezes nobody; its clients are released as orphaned."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.register("b")
    n1.lock("b")
    n1.unlock("b")
    n1.crash()
    world.pass_time(LAPSE)
    assert n2.view().epoch == 0
    assert sorted(n2.released()) == [("a", "orphaned"), ("b", "orphaned")]
    assert world.redis.scard(world.key("adapter", "nfs")) == 0
    assert world.redis.keys(world.key("client", "*")) == []


@pytest.mark.parametrize("active", [False, True], ids=["normal", "in a period"])
def test_08_a_dead_nodes_deferred_disconnect_is_released_at_its_time(
    world: World,
    active: bool,  # noqa: FBT001  (a parameter of the test)
) -> None:
    """The client held nothing, and may come back until its TTL is over, although a grace ended before that."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a", ttl=120)
    n1.unregister("a")
    if active:
        n1.register("holder")
        n1.lock("holder")
    due = int(world.redis.zscore(world.key("due"), "a") or 0)
    n1.crash()
    world.pass_time(LAPSE + GRACE + 1)
    assert n2.view().epoch == int(active)
    assert world.dump("orphans", "clients", "holders") == {}, "drained"
    world.reach(due - 1)
    world.settle()
    assert ("a", "disconnect") not in all_released(world)
    world.pass_time(0.4)
    assert n2.released()[-1] == ("a", "disconnect")


def test_08_a_deferred_disconnect_whose_right_was_forfeited_waits_no_longer(world: World) -> None:
    """It held locks at the dead node and missed the grace: they are freed after the lift, not before, once."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a", ttl=20)
    n1.register("b", ttl=120)
    for client in ("a", "b"):
        n1.lock(client)
        n1.unregister(client)
    n1.crash()
    world.pass_time(LAPSE + GRACE - 1)
    assert n2.view().in_force
    assert n2.released() == [], "a's TTL is over, but it may reclaim"
    world.pass_time(2)
    assert n2.view().state is GraceState.NORMAL
    assert sorted(n2.released()) == [("a", "forfeited"), ("b", "forfeited")]
    assert world.redis.scard(world.key("adapter", "nfs")) == 0
    world.pass_time(120)
    assert len(n2.released()) == 2


def test_09_a_node_restarts_inside_its_lease(world: World) -> None:
    """The old incarnation is fenced at once; its clients are waited for only when its lease has run out."""
    old, n2 = world.node("n1"), world.node("n2")
    old.register("a")
    old.lock("a")
    old.crash()
    new = world.node("n1")
    with pytest.raises(Fenced, match="superseded"):
        old.register("b")
    world.pass_time(3)
    assert n2.view().state is GraceState.NORMAL
    world.pass_time(LAPSE - 3)
    assert n2.view().in_force
    new.reclaim("a")
    world.settle()
    assert n2.view().state is GraceState.NORMAL


def test_09_at_once_when_the_predecessor_is_stated_dead(world: World) -> None:
    """With `predecessor_dead` the join itself starts the period; nobody waits for the old lease."""
    old, n2 = world.node("n1"), world.node("n2")
    old.register("a")
    old.lock("a")
    old.crash()
    new = world.node("n1", dead=True)
    world.settle()
    assert n2.view().in_force
    new.reclaim("a")
    world.settle()
    assert n2.view().state is GraceState.NORMAL


def test_10_edge_condition_1(world: World) -> None:
    """A's right was released, B locked and unlocked, then n1 crashes: A may not reclaim; a lock anew brings it back."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a", ttl=1)
    n1.lock("a")
    n1.unregister("a")
    world.pass_time(2)
    assert n1.released() == [("a", "disconnect")]
    n1.register("b")
    n1.lock("b")
    n1.unlock("b")
    n1.register("c")
    n1.lock("c")
    n1.crash()
    world.pass_time(LAPSE)
    n2.register("a")
    with pytest.raises(ReclaimRefused, match="not_expected"):
        n2.admit("a")
    n2.reclaim("c")
    world.settle()
    n2.lock("a")
    n2.crash()
    n3 = world.node("n3")
    world.pass_time(LAPSE)
    n3.reclaim("a")


def test_11_edge_condition_2(world: World) -> None:
    """A misses the whole grace, B locks and unlocks, a node crashes again: A may not reclaim."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    n1.register("a")
    n1.lock("a")
    n1.crash()
    world.pass_time(LAPSE + GRACE + 2)
    assert n2.view().state is GraceState.NORMAL
    n2.register("b")
    n2.lock("b")
    n2.unlock("b")
    n2.register("c")
    n2.lock("c")
    n2.crash()
    world.pass_time(LAPSE)
    assert n3.view().in_force
    n3.register("a")
    with pytest.raises(ReclaimRefused, match="not_expected"):
        n3.admit("a")


def test_11_a_forfeited_client_is_no_leftover_while_its_release_is_under_way(world: World) -> None:
    """Between forfeit and release a restored roster must not bring the right back (FORFEITED)."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    n2.callback = False
    n1.crash()
    world.pass_time(LAPSE + GRACE + 2)
    assert n2.view().state is GraceState.NORMAL
    assert [claim.release.client_id for claim in n2.held_back] == ["a"]
    started = n2.start("a")
    assert (started.epoch, started.forfeited) == (None, 1)
    assert n2.view().state is GraceState.NORMAL, "nobody was left to wait for"


def test_17_two_processes_one_name(world: World) -> None:
    """The newer wins; the older is fenced, changes nothing more, tells its server once and does not come back."""
    old = world.node("n1")
    new = world.node("n1")
    fields = ("clock", "revision", "epoch", "incarnation", "generation")
    before = world.redis.hmget(world.key("meta"), *fields)
    with pytest.raises(Fenced, match="superseded"):
        old.register("a")
    assert world.redis.hmget(world.key("meta"), *fields) == before
    world.pass_time(2)
    assert old.ended == ["superseded"]
    assert old.check().reason is Reason.SUPERSEDED
    new.register("a")


def test_18_planned_hand_off(world: World) -> None:
    """A leave with holders begins grace at once, without a lease to wait for; one without holders causes none."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    n1.register("a")
    n1.lock("a")
    n1.leave()
    world.settle()
    assert n2.view().in_force
    n2.reclaim("a")
    world.settle()
    epoch = n2.view().epoch
    n3.leave()
    world.settle()
    assert n2.view().epoch == epoch
    assert n2.view().state is GraceState.NORMAL
    with pytest.raises(Closed):
        n3.run(n3.node.renew())


def test_19_a_joining_node_freezes_nobody_and_scopes_are_independent(world: World) -> None:
    """A node added to a healthy scope causes no transition; scope X in grace leaves scope Y alone."""
    n1 = world.node("n1")
    revision = n1.view().revision
    n2 = world.node("n2")
    world.settle()
    assert n1.view().revision == n2.view().revision == revision
    other = world.node("n1", scope="other")
    n1.start("a")
    world.settle()
    assert not n2.check().allowed
    assert other.check().allowed
    other.register("a")
    with pytest.raises(NoGrace):
        other.admit("a")
