"""Scenarios 12 and 13: a second node dies while the first one's clients are in grace."""

from __future__ import annotations

import pytest

from coordinator import BarrierPending, ClientHeld, GraceActive, GraceState
from coordinator.protocol import grace
from tests.world import GRACE, Player, World, all_released

LAPSE = 9.5
LOST_MAX = 200
"""As in lua/include/start_later.lua."""
LEASE_AND_MARGIN = 8500


def half_done(world: World) -> tuple[Player, Player]:
    """Return n2 and n3 in n1's grace: A has reclaimed on n2, B is pending."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    for client in ("a", "b"):
        n1.register(client)
        n1.lock(client)
    n1.crash()
    world.pass_time(LAPSE)
    n2.reclaim("a")
    return n2, n3


@pytest.mark.parametrize(("first", "last"), ["ab", "ba"])
def test_12_double_crash_in_one_grace(world: World, first: str, last: str) -> None:
    """The same epoch, A is waited for again and completes anew on n3; early exit only after both, in either order."""
    n2, n3 = half_done(world)
    n2.crash()
    with pytest.raises(ClientHeld) as caught:
        n3.register("a")  # n2 is not noticed yet
    assert caught.value.home == n2.owner
    world.pass_time(LAPSE)
    view = n3.view()
    assert (view.epoch, view.in_force, view.expected_clients, view.reclaimed_clients) == (1, True, 2, 0)
    assert set(view.waiting_for) == {"a", "b"}
    outcome = n3.reclaim(first)
    assert (outcome.repeated, outcome.remaining, outcome.closing) == (False, 1, False)
    world.pass_time(2)
    assert n3.view().waiting_for == (last,)
    assert n3.reclaim(last).lifted
    world.settle()
    assert [(p.epoch, p.reclaimed, p.forfeited) for p in n3.periods] == [(1, 2, 0)]
    assert set(world.redis.hkeys(world.key("holders", n3.owner))) == {b"a", b"b"}
    assert list(all_released(world)) == []


def test_12_n2_dies_and_b_completes_while_that_closes(world: World) -> None:
    """The close waits for n2's lease; A's right, lost after it, gets an epoch of its own and is never forfeited."""
    n2, n3 = half_done(world)
    n2.crash()
    outcome = n3.reclaim("b")
    assert (outcome.closing, outcome.lifted) == (True, False)
    end = world.gone_at(n2)
    world.reach(end)
    n3.run(n3.node.evict([n2.owner]))
    n3.run(n3.node.renew())
    assert n3.view().waiting_for == (n2.owner,)
    assert not n3.check().allowed
    with pytest.raises(ClientHeld):
        n3.register("a")
    world.jump(0.001)
    n3.run(n3.node.evict([n2.owner]))  # LATER: it does not reopen what is closing
    assert n3.view().epoch == 1
    world.settle()
    world.pass_time(1)
    view = n3.view()
    assert (view.epoch, view.in_force, view.waiting_for) == (2, True, ("a",))
    assert view.remaining_seconds > GRACE - 2, "a full one"
    n3.reclaim("a")
    world.settle()
    assert [(p.epoch, p.reclaimed, p.forfeited) for p in n3.periods] == [(1, 2, 0), (2, 1, 0)]
    assert list(all_released(world)) == []


def test_13_n2_dies_in_n1s_grace_before_its_ack(world: World) -> None:
    """No operator: reclaims are admitted L + M after n2's last renewal at the latest, and n2's holders join."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    for node, client in ((n1, "a"), (n2, "b")):
        node.register(client)
        node.lock(client)
    n1.crash()
    world.reach(world.gone_at(n1) + 1)
    n2.run(n2.node.renew())
    n3.run(n3.node.evict([n1.owner]))
    n3.run(n3.node.renew())
    n2.crash()
    died, end = world.clock, world.gone_at(n2)
    assert n3.view().waiting_for == (n2.owner,)
    n3.register("a")
    world.reach(end)
    n3.run(n3.node.renew())
    with pytest.raises(BarrierPending):
        n3.admit("a")
    world.jump(0.001)
    n3.run(n3.node.renew())
    n3.admit("a").confirm()
    assert world.clock - died <= LEASE_AND_MARGIN + 1
    world.settle()
    view = n3.view()
    assert (view.epoch, view.expected_clients, set(view.waiting_for)) == (1, 2, {"a", "b"})
    assert not n3.complete("a").closing
    assert n3.reclaim("b").lifted
    world.settle()
    assert [(p.epoch, p.reclaimed, p.forfeited) for p in n3.periods] == [(1, 2, 0)]


def test_13_n2_dies_in_n1s_grace_after_its_ack(world: World) -> None:
    """Reclaims go on all the time; n2's holders join the same epoch, which is extended to a full grace for them."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    for node, client in ((n1, "a"), (n1, "late"), (n2, "b")):
        node.register(client)
        node.lock(client)
    n1.crash()
    world.pass_time(LAPSE)
    assert n3.view().in_force
    n2.crash()
    assert not n3.reclaim("a").closing
    world.pass_time(GRACE / 2)
    view = n3.view()
    assert (view.epoch, view.expected_clients, view.reclaimed_clients) == (1, 3, 1)
    assert set(view.waiting_for) == {"late", "b"}
    assert view.remaining_seconds > GRACE / 2 + 5, "counted from n2's loss"
    n3.reclaim("late")
    assert n3.view().state is GraceState.ACTIVE
    assert n3.reclaim("b").lifted
    world.settle()
    assert n3.check().allowed
    assert list(all_released(world)) == []


def test_13_nobody_comes_back(world: World) -> None:
    """Both nodes' clients stay away: the period ends by its deadline all the same, and each is forfeited once."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    for node, client in ((n1, "a"), (n2, "b")):
        node.register(client)
        node.lock(client)
    n1.crash()
    world.pass_time(LAPSE - 0.8)
    n2.crash()
    world.pass_time(LAPSE + GRACE + LAPSE)
    assert n3.view().state is GraceState.NORMAL
    assert sum(period.forfeited for period in n3.periods) == 2
    assert sorted(n3.released()) == [("a", "forfeited"), ("b", "forfeited")]
    assert n3.check().allowed


@pytest.mark.parametrize("how", ["leave", "crash"])
def test_12_a_node_lost_inside_a_period_is_not_drained_before_the_lift(world: World, how: str) -> None:
    """Its clients may be on another node's roster: none is released, none loses its right by the node's end."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    n1.register("a")
    n1.lock("a")
    n1.crash()
    world.pass_time(LAPSE + 1)
    assert n3.view().in_force
    n2.register("a", ttl=30)
    getattr(n2, how)()
    world.pass_time(LAPSE + 1)
    assert n3.released() == []
    n3.reclaim("a")
    world.settle()
    assert n3.view().state is GraceState.NORMAL
    assert n3.released() == []


def test_11_a_forfeit_covers_what_a_client_brought_from_earlier_nodes(world: World) -> None:
    """It locked at n1, then at n2 with those locks: when n2's period ends without it, one release covers both."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    first = n1.register("c")
    n1.lock("c")
    there = n2.register("c")
    assert there.generation > first.generation
    assert there.holder
    n2.lock("c")
    n2.crash()
    world.pass_time(LAPSE + 2 * GRACE)
    assert n1.view().state is GraceState.NORMAL
    freed = [release for node in (n1, n3) for release in node.releases if release.client_id == "c"]
    assert [(r.generation, r.reason) for r in freed] == [(there.generation, "forfeited")]


def test_13_no_more_owners_are_lost_into_one_epoch_than_a_script_can_go_through(world: World) -> None:
    """With 200 rosters a further owner waits for room, with holders or without, evicted, leaving or restoring."""
    nodes_ = holding, idle, leaving, last = [world.node(name) for name in ("holding", "idle", "leaving", "last")]
    for player, client in zip(nodes_, "abcd", strict=True):
        player.register(client)
    holding.lock("a")
    leaving.lock("c")
    last.start("z")
    world.settle()
    crowd = [f"gone{i}:1" for i in range(LOST_MAX - 1)]
    world.redis.sadd(world.key("lost"), *crowd)
    holding.crash()
    idle.crash()
    for _ in range(10):  # nobody evicts meanwhile
        world.jump(1)
        for player in (leaving, last):
            player.run(player.node.renew())

    def evict() -> list[str]:
        return [last.run(last.node._evict(player.owner)) for player in (holding, idle)]

    leaving.leave()
    later = grace.start(
        last.node.meta, last.node.lease.head(world.time), "new", 0, [], more=True, if_empty="wait", reason=b""
    )
    assert world.run(later).status == "LATER"
    assert evict() == ["LATER", "LATER"]
    assert world.redis.scard(world.key("lost")) == LOST_MAX
    assert world.redis.zcard(world.key("members")) == 4, "all of them stay members"
    world.redis.srem(world.key("lost"), *crowd[:2])
    assert evict() == ["EVICTED", "EVICTED"]
    assert world.redis.scard(world.key("lost")) == LOST_MAX
    assert last.run(last.node._evict(leaving.owner)) == "LATER"


def test_11_what_was_locked_since_does_not_fall_with_an_older_forfeit(world: World) -> None:
    """The right at the dead node is forfeited; what its client locked anew before the drain came is another right."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    old = n1.register("a")
    n1.lock("a")
    n1.crash()
    world.pass_time(LAPSE)
    n2.register("a")
    n2.run(n2.node.end_grace("test"))
    for node in (n2, n3):
        node.listen()
        node.run(node.node.renew())
    n2.run(n2.node.advance())
    assert n2.view().state is GraceState.NORMAL
    n2.lock("a")  # before the drain of n1 has come
    assert n3.register("a").holder
    world.settle()
    world.pass_time(2)
    assert n3.view_of("a").holder
    freed = [release for node in (n2, n3) for release in node.releases]
    assert [(r.client_id, r.generation, r.reason) for r in freed] == [("a", old.generation, "forfeited")]


def test_11_a_client_back_at_a_node_has_no_newer_right_than_before(world: World) -> None:
    """From n1 to n2, which dies, and back: what it locked at n1 and n2 goes with n2's forfeit, once."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    n1.register("c")
    n1.lock("c")
    there = n2.register("c")
    n2.lock("c")
    n2.crash()
    world.pass_time(LAPSE)
    back = n1.register("c")
    assert (back.must_reclaim, back.lock_count) == (True, 0)
    with pytest.raises(GraceActive):
        n1.lock("c")
    world.pass_time(GRACE + LAPSE)
    assert n3.view().state is GraceState.NORMAL
    assert [r for r in all_released(world) if r[0] == "c"] == [("c", "forfeited")]
    (release,) = n1.releases + n3.releases
    assert there.generation <= release.generation < back.generation
    assert not n1.view_of("c").holder
    n1.lock("c")
    assert n1.view_of("c").holder
