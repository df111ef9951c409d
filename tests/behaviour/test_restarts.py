"""Scenarios 9 and 17: a second process of one node name, while the first one's lease still runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coordinator import ClientHeld, CoordinatorError, Fenced, GraceState, Reason, StaleGrant
from tests.every_call import members_calls

if TYPE_CHECKING:
    from coordinator.protocol import Call
    from tests.world import Player, World

LAPSE = 9.5


def refused_in_everything(world: World, old: Player, client: str, victim: str) -> None:
    """Whatever the old process asks is answered `superseded`, and no key changes."""
    before = world.dump()
    for call in members_calls(old, client, victim):
        reply = world.run(call)
        assert (call.script.name, reply.status, reply.data) == (call.script.name, "FENCED", [b"superseded"])
        assert world.dump() == before, call.script.name


def two_lives(world: World, *, dead: bool = False) -> tuple[Player, Player, Player]:
    """Return the old process of n1 with a holder and a deferred client, n2, and the new process of n1."""
    old, n2 = world.node("n1"), world.node("n2")
    old.register("a")
    old.lock("a")
    old.register("away", ttl=60)
    old.unregister("away")
    world.pass_time(2)
    old.alive = False
    return old, n2, world.node("n1", dead=dead)


def test_09_the_barrier_waits_for_the_old_lease_to_the_millisecond(world: World) -> None:
    """Superseded at once; its clients wait until its lease ran out more than M ago, and not a moment longer."""
    old, n2, new = two_lives(world)
    fenced = world.redis.hget(world.key("node", old.owner), "fenced")
    assert fenced == b"superseded"
    end = world.gone_at(old)
    assert end - world.clock <= 8500, "L + M at the most"
    world.reach(end)
    n2.run(n2.node.renew())
    n2.run(n2.node.evict([old.owner]))
    assert n2.view().state is GraceState.NORMAL
    with pytest.raises(ClientHeld) as caught:
        new.register("a")
    assert caught.value.home == old.owner
    world.jump(0.001)
    n2.run(n2.node.evict([old.owner]))
    world.settle()
    assert n2.view().in_force
    assert new.register("a").must_reclaim
    new.admit("a").confirm()
    new.complete("a")
    world.settle()
    assert n2.view().state is GraceState.NORMAL


def test_09_a_period_of_somebody_else_waits_for_the_old_lease_too(world: World) -> None:
    """The old process may still grant until V: no barrier passes before its lease ran out more than M ago."""
    old, n2, new = two_lives(world)
    n2.start("x")
    n2.register("x")
    world.settle()
    assert old.check().allowed, "it has heard nothing, and its lease runs"
    grant = old.begin_lock("a")
    grant.confirm()
    end = world.gone_at(old)
    world.reach(end)
    assert n2.view().waiting_for == (old.owner,)
    n2.run(n2.node.renew())
    assert not n2.node.lease.view.in_force
    world.jump(0.001)
    n2.run(n2.node.renew())
    assert n2.node.lease.view.in_force
    n2.admit("x").confirm()
    assert not old.check().allowed
    with pytest.raises(StaleGrant):
        grant.confirm()
    assert not new.over


def test_09_stated_dead_it_takes_no_time_at_all(world: World) -> None:
    """The scope clock does not move between the new process's start and the period in force."""
    old, n2, new = two_lives(world, dead=True)
    started = world.clock
    world.settle()
    assert n2.view().in_force
    new.register("a")
    new.admit("a").confirm()
    assert world.clock == started
    refused_in_everything(world, old, "a", n2.owner)


@pytest.mark.parametrize("period", ["normal", "active", "in force"])
def test_09_the_old_process_wakes_up_and_is_refused_in_everything(world: World, period: str) -> None:
    """Each script, in each state of the scope: `superseded`, and not a key changes but the scope clock."""
    old, n2, new = two_lives(world)
    new.register("b")
    new.lock("b")
    if period == "active":
        n2.start("x")
    elif period == "in force":
        world.pass_time(LAPSE)
        assert n2.view().in_force
    refused_in_everything(world, old, "a", n2.owner)


def test_17_the_newer_process_wins(world: World) -> None:
    """Whatever the older one calls is refused, first by Redis and from then on by itself; the newer does its work."""
    old, n2, new = two_lives(world)
    new.register("b")
    before = world.dump()
    assert not old.over
    with pytest.raises(Fenced, match="superseded"):
        old.register("c")
    assert not old.check().allowed
    for ask in (
        lambda: old.register("c"),
        lambda: old.unregister("a"),
        lambda: old.lock("a"),
        lambda: old.start("x"),
        lambda: old.admit("a"),
        lambda: old.complete("a"),
        old.view,
        lambda: old.run(old.node.end_grace("x")),
        lambda: old.run(old.node.revoke(b"a")),
        lambda: old.run(old.node.evict([new.owner])),
    ):
        with pytest.raises(CoordinatorError):
            ask()
    assert world.dump() == before
    new.lock("b")
    assert n2.view_of("b").owner == new.owner


@pytest.mark.parametrize("told_by", ["its keeper", "a call"])
def test_17_the_older_process_does_not_come_back(world: World, monkeypatch: pytest.MonkeyPatch, told_by: str) -> None:
    """Its keeper ends: nothing is sent any more, however long it lives on; the newer one stays what it is."""
    old, n2, new = two_lives(world)
    lives = world.redis.hget(world.key("meta"), "incarnation")
    first, owner = old.owner, new.owner
    old.alive = True
    if told_by == "a call":
        with pytest.raises(Fenced):
            old.view()
    else:
        world.pass_time(1)
    sent: list[Call[Any]] = []
    monkeypatch.setattr(old, "send", sent.append)
    world.pass_time(2 * LAPSE)
    assert sent == []
    assert (old.ended, old.check().reason, old.owner) == (["superseded"], Reason.SUPERSEDED, first)
    assert world.redis.hget(world.key("meta"), "incarnation") == lives
    _, view = n2.run(n2.node.scope_view())
    assert {member.owner for member in view.members} == {owner, n2.owner}
    assert not new.node.lease.is_over
    assert old.releases == []
    refused_in_everything(world, old, "a", n2.owner)
