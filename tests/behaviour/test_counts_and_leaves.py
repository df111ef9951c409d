"""Lock counts and the rights that go with them, places, and a node that leaves (part of scenario 47)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coordinator import GraceActive, GraceState, RegistrationRefused, Unavailable
from coordinator.node import Sleep
from coordinator.node.turns import TAKE_BACK_SECONDS
from tests.orders import (
    DOWN,
    GOOD,
    LAPSE,
    LOST,
    counting,
    failing,
    first_answer,
    in_time,
    lose,
    registering,
    rest,
    state_of,
)

if TYPE_CHECKING:
    from tests.world import Player, World


# -- lock counts ------------------------------------------------------------------------------------------------------


def test_40_a_drop_and_a_grant_at_the_same_moment(world: World) -> None:
    """The last unlock has begun to drop the right: a lock that comes now holds anew, after it."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    unlock = n1.node.uncount_lock(b"a")
    drop: Any = unlock.send(None)
    assert drop.script.name == "client_drop"
    assert n1.node.grant_at_once(b"a") is None
    lock = n1.node.begin_grant(b"a")
    assert isinstance(lock.send(None), Sleep)
    rest(n1, unlock, drop)
    asked = counting(n1)
    rest(n1, lock, Sleep(0)).confirm()
    assert "client_hold" in asked
    assert world.rights().keys() == {"a"}
    assert n1.view_of("a").lock_count == 1


def test_40_the_last_unlock_while_a_grant_is_open_drops_nothing(world: World) -> None:
    """Its lock may be in the store already; when it was undone, the keeper takes the right out."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    grant = n1.begin_lock("a")
    n1.unlock("a")
    n1.unlock("a")
    assert world.rights().keys() == {"a"}
    with pytest.raises(Unavailable, match="is open"):
        n1.run(n1.node.drop(b"a"))
    grant.undo()
    n1.tick()
    assert world.rights() == {}


@pytest.mark.parametrize("locks", [None, 2])
def test_40_the_count_goes_on_from_what_a_completion_says(world: World, locks: int | None) -> None:
    """With `locks` the last unlock drops the right; without, the count is unknown and only `drop` does."""
    n0, n1 = world.node("n0"), world.node("n1")
    n0.register("a")
    n0.lock("a")
    lose(world, n0)
    n1.register("a")
    n1.admit("a").confirm()
    n1.run(n1.node.complete([b"a"], locks))
    assert n1.view_of("a").lock_count == locks
    n1.run(n1.node.complete([b"a"]))  # a repeat loses no count
    assert n1.view_of("a").lock_count == locks
    assert n1.run(n1.node.uncount_lock(b"a")) == (None if locks is None else 1)
    n1.unlock("a")
    assert world.rights().keys() == ({"a"} if locks is None else set())
    if locks is None:
        assert n1.run(n1.node.count_lock(b"a")) is None
        n1.run(n1.node.drop(b"a"))
        assert world.rights() == {}
    assert n1.run(n1.node.count_lock(b"a")) == 1


def test_40_a_client_that_reclaims_counts_its_locks(world: World) -> None:
    """Its right is on the roster still: only the count goes up, once it was admitted; before that grace refuses it."""
    n0, n1 = world.node("n0"), world.node("n1")
    n0.register("a")
    n0.lock("a")
    lose(world, n0)
    n1.register("a")
    on_roster = world.rights()
    with pytest.raises(GraceActive):
        n1.run(n1.node.count_lock(b"a"))
    n1.admit("a").confirm()
    assert [n1.run(n1.node.count_lock(b"a")) for _ in range(2)] == [1, 2]
    assert world.rights() == on_roster
    n1.complete("a")
    assert world.rights() == {"a": (n1.owner, n1.view_of("a").generation)}


# -- places -----------------------------------------------------------------------------------------------------------


def test_25_places_are_exact_whatever_becomes_of_a_client(world: World) -> None:
    """Through moves, yields, reboots, revokes and the expiry of a record: taken once, given back at the release."""
    n1, n2 = world.node("n1"), world.node("n2")

    def places() -> Any:
        return world.redis.scard(world.key("adapter", "nfs"))

    for client in ("moves", "yields", "reboots", "revoked", "expires", "idle"):
        n1.register(client, ttl=5, verifier="one")
        if client != "idle":
            n1.lock(client)
    assert places() == 6
    n2.register("moves", ttl=5)
    n2.register("idle", ttl=5)
    first_answer(n2, registering(n2, "yields"))
    world.settle()
    assert state_of(world, "yields") == "yielded"
    assert places() == 6
    world.pass_time(TAKE_BACK_SECONDS + 1)
    n1.register("reboots", ttl=5, verifier="two")
    world.pass_time(1)
    assert ("reboots", "rebooted") in n1.released()
    assert places() == 6, "the new registration has the place of the old one"
    n2.run(n2.node.revoke(b"revoked"))
    assert places() == 6
    world.pass_time(1)
    assert places() == 5
    n1.unregister("expires")
    world.redis.delete(world.key("client", "expires"))
    assert places() == 5
    world.pass_time(6)
    assert places() == 4
    for node, client in ((n2, "moves"), (n2, "idle"), (n1, "yields"), (n1, "reboots")):
        node.unregister(client)
    world.pass_time(6)
    assert places() == 0
    assert not world.redis.exists(world.key("clients", n1.owner), world.key("clients", n2.owner))


# -- leave ------------------------------------------------------------------------------------------------------------


def leave(player: Player, *plan: str) -> None:
    """Leave within 5 s, with round trips that fail as planned, each after half a second."""
    world, faults = player.world, iter(plan)

    def send(call: Any) -> Any:
        fault = next(faults, GOOD)
        world.jump(0.4 if fault else 0.0)
        return failing(world.run, call, fault)

    player.send = send  # type: ignore[method-assign]
    player.alive = False
    in_time(player, player.node.leave(world.time + 5))


@pytest.mark.parametrize("plan", [[], [LOST], [DOWN, LOST, DOWN, LOST], [DOWN] * 6], ids="-".join)
@pytest.mark.parametrize("flushed", [False, True], ids=["", "after SCRIPT FLUSH"])
def test_47_a_node_that_leaves_hands_over_although_replies_are_lost(
    world: World, plan: list[str], *, flushed: bool
) -> None:
    """It asks until it is answered: the others' grace begins at once, long before its lease would have run out."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    if flushed:
        world.redis.script_flush()
    leave(n1, *plan)
    n2.listen()
    n2.tick()
    assert n2.view().state is GraceState.ACTIVE
    assert n2.view().reason == "hand-off"
    world.settle()
    assert n2.reclaim("a").lifted
    assert n1.ended == [], "it knows"
    with pytest.raises(RegistrationRefused, match="unknown"):
        n2.run(n2.node.begin_grant(b"b"))


def test_47_a_node_that_reaches_nobody_gives_up_in_time(world: World) -> None:
    """After what `close` may take it raises; its lease runs out, and it grants nothing from the first moment on."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    before = world.time
    with pytest.raises(Unavailable):
        leave(n1, *[DOWN] * 100)
    assert 5 <= world.time - before < 6
    assert not n1.check().allowed
    world.pass_time(LAPSE)
    assert n2.view().waiting_for == ("a",)
