"""Scenarios 35, 36 and 39: a client with locks moves only after its home has closed it, and never loses by an ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coordinator import ClientHeld, GraceState, Move, OutcomeUnknown, RegistrationRefused, StaleGrant
from coordinator.node.turns import TAKE_BACK_SECONDS
from tests.orders import (
    LAPSE,
    asked_for,
    back_for_its_right,
    counting,
    first_answer,
    in_time,
    lose,
    make_deaf,
    registering,
    run_flow,
    state_of,
)
from tests.world import GRACE, World, all_released

if TYPE_CHECKING:
    from coordinator.node import Sleep
    from coordinator.protocol import Call


# -- 35: a move from a live home --------------------------------------------------------------------------------------


def test_35_a_live_client_with_locks_moves_by_three_round_trips(world: World) -> None:
    """N1 is asked, closes it and says so; n2 has it, with its right and place; the server of n1 is told after that."""
    n1, n2 = world.node("n1"), world.node("n2")
    old = n1.register("a")
    n1.lock("a")
    asked, yielded, pauses = counting(n2), counting(n1), []

    def sleep(request: Sleep) -> None:
        pauses.append(request.seconds)
        n1.listen()
        n1.tick()
        assert n1.moves == [], "nobody has taken it yet"
        assert state_of(world, "a") == "yielded"
        assert world.rights() == {"a": (n1.owner, old.generation)}
        assert not world.redis.exists(world.key("due"))

    (new,) = run_flow(registering(n2, "a"), n2.send, sleep)
    assert asked == ["client_register", "client_register"]
    assert yielded.count("client_yield") == 1
    assert sum(pauses) < 0.01
    assert new.holder
    assert world.rights() == {"a": (n2.owner, new.generation)}
    assert world.redis.smembers(world.key("adapter", "nfs")) == {b"a"}
    world.settle()
    assert n1.moves == [Move("a", n2.owner)]
    with pytest.raises(RegistrationRefused, match="unknown"):
        n1.begin_lock("a")
    n2.lock("a").confirm()
    world.pass_time(2 * TAKE_BACK_SECONDS + GRACE)
    assert list(all_released(world)) == []


def test_35_an_open_grant_of_the_old_home_fails_at_its_confirm(world: World) -> None:
    """N2 waits until it was undone, and has the client at once then."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    grant, pauses = n1.begin_lock("a"), []

    def sleep(request: Sleep) -> None:
        pauses.append(request.seconds)
        n1.listen()
        n1.tick()
        if len(pauses) == 3:
            assert state_of(world, "a") == "live", "its insert may still come"
            with pytest.raises(StaleGrant):
                grant.confirm()
            n1.tick()

    (new,) = run_flow(registering(n2, "a"), n2.send, sleep)
    assert len(pauses) == 3
    assert new.holder
    assert world.rights() == {"a": (n2.owner, new.generation)}


def test_35_a_client_without_locks_moves_at_once(world: World) -> None:
    """One round trip; the old home's later hold is refused, and its server is told."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    asked = counting(n2)
    assert not n2.register("a").holder
    assert asked == ["client_register"]
    with pytest.raises(RegistrationRefused, match="moved"):
        n1.lock("a")
    assert [move.client_id for move in n1.moves] == ["a"]
    assert n1.node.registry.get(b"a") is None
    world.settle()
    assert len(n1.moves) == 1, "once"
    assert world.rights() == {}


def test_35_a_client_without_locks_that_moved_is_closed_at_the_next_event(world: World) -> None:
    """The old home need not be asked anything for it: `gone` is what it learns."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n2.register("a")
    n1.listen()
    n1.tick()
    assert n1.moves == [Move("a", n2.owner)]
    assert n1.node.registry.counts() == {"nfs": 0}
    assert world.dump("wanted") == {}


def test_35_the_event_wanted_is_lost(world: World) -> None:
    """Its heartbeat tells the home what it is to close: n2 has the client one heartbeat later."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    make_deaf(n1)
    n1.tick()
    before = world.time
    (new,) = in_time(n2, registering(n2, "a"))
    assert isinstance(new.generation, int)
    assert new.holder
    assert 0.1 < world.time - before <= world.settings.heartbeat_seconds + 0.1


def test_35_the_event_moved_is_lost(world: World) -> None:
    """N1 asks for the client back after 2 s, and learns that it was taken: its server is told, n2 keeps it."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")

    def sleep(_: float) -> None:
        n1.listen()
        n1.tick()

    (new,) = run_flow(registering(n2, "a"), n2.send, sleep)
    make_deaf(n1)
    world.pass_time(TAKE_BACK_SECONDS - 0.1)
    assert n1.moves == []
    world.pass_time(0.5)
    assert n1.moves == [Move("a", n2.owner)]
    assert n2.view_of("a").generation == new.generation
    assert world.rights() == {"a": (n2.owner, new.generation)}
    assert list(all_released(world)) == []


def test_35_a_take_back_does_not_cancel_a_disconnect_elsewhere(world: World) -> None:
    """The event `moved` is lost, and the client has left n2 since: n1 is told that it has moved, n2's TTL goes on."""
    n1, n2 = asked_for(world)
    n1.listen()
    n1.tick()
    make_deaf(n1)
    n2.register("a", ttl=60)
    n2.unregister("a")
    world.pass_time(TAKE_BACK_SECONDS + 1)
    assert state_of(world, "a") == "deferred"
    assert n1.moves == [Move("a", n2.owner)]
    assert n2.register("a").holder


def test_35_a_hung_home_keeps_the_client_until_it_is_evicted(world: World) -> None:
    """`ClientHeld` names it all the while; then the client must reclaim, and does."""
    n1, n2 = world.node("n1"), world.node("n2")
    old = n1.register("a")
    n1.lock("a")
    n1.crash()
    gone = world.gone_at(n1)
    while True:
        world.pass_time(0.4)
        if world.clock > gone:
            break
        with pytest.raises(ClientHeld) as caught:
            n2.register("a")
        assert caught.value.home == n1.owner
        assert world.rights() == {"a": (n1.owner, old.generation)}
    world.pass_time(1)
    assert n2.view().in_force
    assert n2.register("a").must_reclaim
    assert n2.reclaim("a").lifted
    world.pass_time(GRACE)
    assert list(all_released(world)) == []


def test_35_who_is_not_held_is_registered_by_the_same_batch(world: World) -> None:
    """Only the client of the hung home is asked for again, and refused; the others are registered meanwhile."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    for home, client in ((n1, "hung"), (n2, "yields")):
        home.register(client)
        home.lock(client)
    n1.crash()
    items = [n3.node.registering(client, "nfs", "", 0.0, None, None) for client in ("new", "hung", "yields")]
    new, hung, yields = n3.run(n3.node.register(items))
    assert not isinstance(new, Exception)
    assert isinstance(hung, ClientHeld)
    assert not isinstance(yields, Exception)
    assert yields.holder
    assert set(world.rights()) == {"hung", "yields"}


# -- 36: nobody takes what was yielded --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["dies", "gives up"])
def test_36_a_yield_that_nobody_takes_is_taken_back(world: World, how: str) -> None:
    """N2 asked and died, or gave up before a slow n1 had yielded: after 2 s n1 serves the client as before."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    if how == "dies":
        first_answer(n2, registering(n2, "a"))
        n2.crash()
    else:
        n1.hangs = True
        with pytest.raises(ClientHeld):
            n2.register("a")
        n1.hangs = False
    n1.listen()
    n1.tick()
    assert state_of(world, "a") == "yielded"
    before = world.time
    in_time(n1, n1.node.begin_grant(b"a")).confirm()
    assert TAKE_BACK_SECONDS - 0.1 < world.time - before < TAKE_BACK_SECONDS + 0.2, "its next lock has waited for that"
    assert state_of(world, "a") == "live"
    assert world.rights() == {"a": (n1.owner, n1.view_of("a").generation)}
    assert n1.view_of("a").lock_count == 2, "what is known of its locks stays"
    assert n1.moves == []
    world.pass_time(GRACE)
    assert list(all_released(world)) == []
    assert world.dump("due", "wanted") == {}


def test_36_a_client_that_nobody_asks_for_any_more_stays(world: World) -> None:
    """It has registered at its home anew since it was asked for, and the keeper learns of that by its yield."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    n1.node.wanted[b"a"] = "yield"  # read before the register, acted upon after it
    n1.tick()
    assert state_of(world, "a") == "live"
    assert n1.node.wanted == {}
    n1.lock("a").confirm()
    assert n1.view_of("a").lock_count == 2


def test_36_a_yield_of_an_unknown_outcome_is_taken_back(world: World) -> None:
    """It was executed and no reply came: n1 serves the client again after 2 s."""
    n1, n2 = asked_for(world)
    n2.crash()
    n1.listen()
    n1.run(n1.node.renew())
    send = n1.send

    def unheard(call: Call[Any]) -> Any:
        reply = send(call)
        if call.script.name == "client_yield":
            message = "the reply was lost"
            raise OutcomeUnknown(message)
        return reply

    n1.send = unheard  # type: ignore[method-assign]
    n1.tick()
    n1.send = send  # type: ignore[method-assign]
    assert state_of(world, "a") == "yielded"
    world.pass_time(TAKE_BACK_SECONDS + 1)
    assert state_of(world, "a") == "live"
    n1.lock("a").confirm()


def test_36_the_home_dies_after_the_yield_and_before_it_was_taken(world: World) -> None:
    """The right is on the roster: the client reclaims."""
    n1, n2 = world.node("n1"), world.node("n2")
    old = n1.register("a")
    n1.lock("a")
    first_answer(n2, registering(n2, "a"))
    n1.listen()
    n1.tick()
    assert state_of(world, "a") == "yielded"
    lose(world, n1)
    assert n2.view().in_force
    assert world.rights() == {"a": (n1.owner, old.generation)}
    assert n2.register("a").must_reclaim
    assert n2.reclaim("a").lifted


def test_36_a_home_that_died_after_the_yield_has_closed_the_client_all_the_same(world: World) -> None:
    """N2 takes it before anybody noticed: with its right, and the death of n1 costs no grace."""
    n1, n2 = asked_for(world)
    n1.listen()
    n1.tick()
    n1.crash()
    new = n2.register("a")
    assert (new.holder, new.must_reclaim) == (True, False)
    world.pass_time(LAPSE)
    assert n2.view().state is GraceState.NORMAL
    assert world.rights() == {"a": (n2.owner, new.generation)}
    assert list(all_released(world)) == []


# -- 39: who may be reclaiming is held ---------------------------------------------------------------------------------


def test_39_a_client_that_reclaims_is_held_while_its_epoch_lasts(world: World) -> None:
    """Its server may be inserting. After the lift it moves at once, and a late confirm at the old home fails."""
    n1, n3 = back_for_its_right(world)
    grant = n1.admit("a")
    grant.confirm()
    for _ in range(3):
        world.pass_time(GRACE / 4)
        with pytest.raises(ClientHeld) as caught:
            n3.register("a")
        assert caught.value.home == n1.owner
    world.pass_time(GRACE / 4 + 1)
    assert n3.view().state is GraceState.NORMAL
    asked = counting(n3)
    assert not n3.register("a").holder
    assert asked.count("client_register") == 1, "its home, which was asked before, has closed it at the lift"
    with pytest.raises(StaleGrant):
        grant.confirm()
    world.settle()
    assert ("a", "forfeited") in list(all_released(world))
    assert n1.node.registry.get(b"a") is None


def test_39_a_reclaim_that_is_open_at_the_lift_holds_its_client(world: World) -> None:
    """Its server may insert still: else it does so after the client was released elsewhere, and is killed then."""
    n1, n3 = back_for_its_right(world)
    grant = n1.run(n1.node.admit(b"a", keep_open=True))
    n1.run(n1.node.end_grace("test"))
    world.settle()
    assert n3.view().state is GraceState.NORMAL
    with pytest.raises(ClientHeld):
        n3.register("a")
    with pytest.raises(StaleGrant):
        grant.confirm()
    assert not n3.register("a").holder
    world.settle()
    assert n1.moves == [Move("a", n3.owner)]


@pytest.mark.parametrize("end", ["undone", "completed"])
def test_39_a_client_moves_in_its_epoch_once_its_reclaiming_has_ended(world: World, end: str) -> None:
    """Undone: it must reclaim at the next node. Completed: its right comes along."""
    n0, n1, n3 = (world.node(f"n{i}") for i in (0, 1, 3))
    for client in ("a", "slow"):
        n0.register(client)
        n0.lock(client)
    lose(world, n0)
    n1.register("a")
    grant = n1.admit("a")
    grant.confirm()
    with pytest.raises(ClientHeld):
        n3.register("a")
    if end == "undone":
        grant.undo()
    else:
        n1.complete("a")
    new = n3.register("a")
    assert new.must_reclaim == (end == "undone")
    assert new.holder
    if end == "undone":
        assert not n3.reclaim("a").lifted
    assert world.rights()["a"] == (n3.owner, new.generation)
    world.settle()
    assert n1.moves == [Move("a", n3.owner)]


def test_39_a_client_that_completes_while_others_ask_for_it_is_served_on(world: World) -> None:
    """N3 asked, and nobody takes it: 2 s after its completion it locks at its home again, in that very epoch."""
    n0, n1, n3 = (world.node(f"n{i}") for i in (0, 1, 3))
    for client in ("a", "slow"):
        n0.register(client)
        n0.lock(client)
    lose(world, n0)
    n1.register("a")
    n1.admit("a").confirm()
    with pytest.raises(ClientHeld):
        n3.register("a")
    n1.run(n1.node.complete([b"a"], 3))
    world.pass_time(TAKE_BACK_SECONDS + 1)
    assert n1.view().state is GraceState.ACTIVE
    assert (n1.view_of("a").state, n1.view_of("a").lock_count) == ("live", 3)
    assert world.rights()["a"] == (n1.owner, n1.view_of("a").generation)
    assert n1.run(n1.node.count_lock(b"a")) == 4


def test_39_a_reclaim_whose_block_is_open_holds_its_client_after_the_undo_of_another(world: World) -> None:
    """Two admissions of one client here, as `reclaiming` keeps them: yielded when the last of them was ended."""
    n1, n3 = back_for_its_right(world)
    first, second = (n1.run(n1.node.admit(b"a", keep_open=True)) for _ in range(2))
    first.undo()
    with pytest.raises(ClientHeld):
        n3.register("a")
    second.undo()
    assert n3.register("a").must_reclaim
