"""Orders of events that a review found: two things have to meet within a moment."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from coordinator import (
    BarrierPending,
    ClientHeld,
    CoordinatorError,
    GraceState,
    OutcomeUnknown,
    RegistrationRefused,
    StaleGrant,
    Unavailable,
)
from coordinator.node import Sleep
from tests.loss import backup
from tests.orders import LAPSE, back_for_its_right, first_answer, lose, make_deaf, registering, run_flow, state_of
from tests.world import GRACE, Player, World, all_released

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.node import Flow, Grant
    from coordinator.protocol import Call
    from coordinator.values import GraceStarted

# -- counts and grants ------------------------------------------------------------------------------------------------


def test_40_a_count_beside_the_drop_of_another_thread_holds_anew(world: World) -> None:
    """A lock is counted just when the last one is counted out: it has its right when this returns."""
    n1 = world.node("n1")
    n1.register("a")
    n1.run(n1.node.count_lock(b"a"))
    count = n1.node.registry.count

    def counted(entry: Any, **facts: bool) -> bool:
        n1.node.registry.count = count  # type: ignore[method-assign]
        n1.unlock("a")  # the other thread, between two lines of this one
        return count(entry, **facts)

    n1.node.registry.count = counted  # type: ignore[method-assign]
    assert n1.run(n1.node.count_lock(b"a")) == 1
    assert "a" in world.rights()


@pytest.mark.parametrize("named", [False, True], ids=["whichever", "by its generation"])
def test_40_a_disconnect_waits_for_the_open_grants_of_a_client_that_is_asked_for(world: World, *, named: bool) -> None:
    """Its entry is closed already, for another node; a lock may be inserted still."""
    n1, n2 = world.node("n1"), world.node("n2")
    old = n1.register("a")
    n1.lock("a")
    grant = n1.begin_lock("a")
    first_answer(n2, registering(n2, "a"))
    n1.listen()
    n1.tick()
    assert (n1.node.registry.get(b"a"), state_of(world, "a")) == (None, "live")
    with pytest.raises(Unavailable, match="open"):
        n1.unregister("a", old.generation if named else 0)
    assert n1.releases == []
    grant.undo()
    n1.unregister("a", old.generation if named else 0)
    assert n1.released() == [("a", "disconnect")]


@pytest.mark.parametrize("what", ["unregister", "register"])
def test_40_a_client_whose_entry_was_closed_by_a_refusal_has_its_open_grants_still(world: World, what: str) -> None:
    """N2 revokes it, and n1 learns that by a refusal: what ends or renews its registration waits all the same."""
    n1, n2 = world.node("n1"), world.node("n2")
    make_deaf(n1)
    n1.register("a")
    n1.lock("a")
    grant = n1.begin_lock("a")
    n2.run(n2.node.revoke(b"a"))
    with pytest.raises(RegistrationRefused):
        n1.admit("a")
    with pytest.raises(Unavailable, match="open"):
        getattr(n1, what)("a")
    assert n1.releases == []
    with pytest.raises(StaleGrant):
        grant.confirm()
    n1.register("a")
    n1.lock("a")
    n1.lock("a")
    n1.unlock("a")
    world.settle()
    assert "a" in world.rights(), "it has one of its two locks"


def test_39_an_admission_of_an_entry_that_was_closed_meanwhile_holds_nobody(world: World) -> None:
    """N1 is asked for a client while a second admission waits for its turn: it lets it go when the first has ended."""
    n1, n2, n3, n4 = (world.node(f"n{i}") for i in range(1, 5))
    for node, client in ((n3, "a"), (n4, "other")):
        node.register(client)
        node.lock(client)
        node.crash()
    world.pass_time(LAPSE + 3)
    n1.register("a")
    grant = n1.run(n1.node.admit(b"a", keep_open=True))
    assert n1.node.registry.begin_turn(b"a")
    second = n1.node.admit(b"a", keep_open=True)
    second.send(None)  # it waits for its turn
    first_answer(n2, registering(n2, "a"))
    n1.node.registry.end_turn(b"a")
    n1.listen()
    n1.tick()
    assert n1.node.registry.get(b"a") is None
    with pytest.raises(StaleGrant):
        grant.confirm()
    with pytest.raises(StaleGrant):
        n1.run(_rest(second))
    world.settle()
    assert n2.register("a").must_reclaim


def _rest(flow: Flow[Any]) -> Flow[Any]:
    """Go on with a flow that slept."""
    answer = None
    while True:
        try:
            request = flow.send(answer)
        except StopIteration as end:
            return end.value
        answer = yield request


def test_40_a_lock_request_waits_while_its_client_registers_again(world: World) -> None:
    """The entry is closed for a moment: that is not "unknown"; and a lock that is given back then is counted."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    waiting: list[Flow[Any]] = []

    def send(call: Call[Any]) -> Any:
        if not waiting:
            waiting.extend((n1.node.begin_grant(b"a"), n1.node.uncount_lock(b"a")))
            for flow in waiting:
                flow.send(None)  # it sleeps
        return n1.send(call)

    run_flow(registering(n1, "a"), send)
    lock, unlock = waiting
    n1.run(_rest(lock)).confirm()
    n1.run(_rest(unlock))
    assert n1.view_of("a").lock_count == 1
    n1.unlock("a")
    world.settle()
    assert world.rights() == {}


def test_40_a_lock_that_is_given_back_while_its_client_is_yielded_is_counted(world: World) -> None:
    """Nobody takes the client: it goes on at its home without a lock, and without a right."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    first_answer(n2, registering(n2, "a"))
    n1.listen()
    n1.tick()
    assert state_of(world, "a") == "yielded"
    unlock = n1.node.uncount_lock(b"a")
    unlock.send(None)
    world.pass_time(5)
    assert state_of(world, "a") == "live"
    n1.run(_rest(unlock))
    assert world.rights() == {}


# -- moves ------------------------------------------------------------------------------------------------------------


def test_35_an_old_event_moved_does_not_end_a_later_yield(world: World) -> None:
    """N1 hears late that n2 had the client, which is back and yielded anew: that yield is taken back in time."""
    n1, n2, n3 = world.node("n1"), world.node("n2"), world.node("n3")
    n1.register("a")
    n1.lock("a")
    make_deaf(n1)
    first_answer(n2, registering(n2, "a"))
    n1.node.must_renew = True
    n1.tick()
    n2.register("a")
    n1.register("a")
    first_answer(n3, registering(n3, "a"))  # asks, and goes away
    n1.node.must_renew = True
    n1.tick()
    assert state_of(world, "a") == "yielded"
    Player.listen(n1)
    assert n1.moves == []
    world.pass_time(5)
    assert state_of(world, "a") == "live"
    n1.lock("a")
    assert n1.moves == []


def test_36_yields_are_taken_back_beside_two_hundred_whose_turn_is_taken(world: World) -> None:
    """The keeper neither spins nor leaves the others."""
    n1, n2 = world.node("n1"), world.node("n2")
    ids = [f"c{i:03}" for i in range(201)]
    for client in ids:
        n1.register(client)
        n1.lock(client)
        first_answer(n2, registering(n2, client))
    for _ in range(4):
        n1.node.must_renew = True
        n1.listen()
        n1.tick()
    *taken, last = n1.node.registry.yielding
    assert len(taken) == 200
    for one in taken:
        assert n1.node.registry.begin_turn(one)
    world.jump(3)
    n1.tick()
    assert state_of(world, last.decode()) == "live"
    for one in taken:
        n1.node.registry.end_turn(one)


def test_36_a_yield_that_was_taken_back_leaves_the_generation_as_it_was(world: World) -> None:
    """The server knows its client by that: it disconnects it by the generation that register answered."""
    n1, n2 = world.node("n1"), world.node("n2")
    old = n1.register("a", ttl=5.0)
    n1.lock("a")
    first_answer(n2, registering(n2, "a"))
    world.pass_time(5)
    assert n1.view_of("a").generation == old.generation
    n1.unregister("a", old.generation)
    assert n1.run(n1.node.cancel(b"a"))
    assert n1.view_of("a").generation == old.generation
    n1.unregister("a", old.generation)
    world.pass_time(6)
    assert n1.released() == [("a", "disconnect")]


def test_39_a_client_whose_reclaiming_was_settled_may_go_on_elsewhere(world: World) -> None:
    """It is not complete: its right is on the roster still, and it reclaims anew."""
    n1, n3 = back_for_its_right(world)
    grant = n1.run(n1.node.admit(b"a", keep_open=True))
    grant.confirm()
    with pytest.raises(ClientHeld):
        n3.register("a")
    grant.settle()
    assert n3.register("a").must_reclaim
    with pytest.raises(StaleGrant):
        grant.confirm()


# -- releases ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False], ids=["the keeper knows", "it does not"])
def test_24_a_worker_acknowledges_only_what_its_callback_has_freed(world: World, *, told: bool) -> None:
    """Its claim ran out, n2 was done with it, and the client has come and gone again here: that is another release."""
    settings = dataclasses.replace(world.settings, lease_seconds=20.0)  # longer than a claim: n1 is not evicted
    n1, n2 = world.node("n1", settings=settings), world.node("n2", settings=settings)
    n1.callback = False
    n1.register("a")
    n1.lock("a")
    n1.unregister("a")
    (first,) = n1.held_back
    assert n1.keeper.may_begin(first)  # its worker is in the callback
    n1.alive = False  # the process stands still
    world.pass_time(11)
    assert n2.released() == [("a", "disconnect")]
    n1.alive = True
    if told:
        n1.node.must_renew = True
        n1.tick()
    else:
        n1.run(n1.node.renew())
    new = n1.register("a")
    n1.lock("a")
    n1.unregister("a")
    n1.run(n1.keeper.done(first))
    world.pass_time(20)
    freed = [claim.release.generation for claim in n1.held_back[1:] if n1.keeper.may_begin(claim)]
    assert new.generation in freed + [release.generation for release in n2.releases]


def test_12_whose_record_expired_comes_back_for_its_right(world: World) -> None:
    """Its disconnect, which nobody has claimed, is cancelled as ever: nothing is freed after it has completed."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c", ttl=30.0)
    for client in ("c", "other"):
        if client == "other":
            n1.register(client)
        n1.lock(client)
    n1.unregister("c")
    n1.crash()
    world.pass_time(LAPSE + 2)
    assert n2.view().state is GraceState.ACTIVE
    world.redis.delete(world.key("client", "c"))  # TTL and retention are over, by the machine's clock
    new = n2.register("c")
    assert new.must_reclaim
    n2.reclaim("c")
    world.pass_time(4 * GRACE)
    assert [client for client, _ in all_released(world)] == ["other"]
    assert world.rights()["c"] == (n2.owner, new.generation)


def test_26_an_old_disconnect_whose_record_expired_does_not_shorten_the_next(world: World) -> None:
    """The client has come back, and has disconnected again with a longer TTL."""
    n1 = world.node("n1")
    n1.register("c", ttl=100.0)
    n1.lock("c")
    n1.unregister("c")
    world.redis.delete(world.key("client", "c"))
    n1.register("c", ttl=1000.0)
    n1.lock("c")
    n1.unregister("c")
    world.pass_time(110)
    assert list(all_released(world)) == []


def test_43_a_revoked_client_waits_for_its_home_no_longer_than_that_can_confirm(world: World) -> None:
    """Its home has lapsed, and is not lost before the next period: its locks are freed in this one."""
    n0, n1 = world.node("n0"), world.node("n1")
    n2 = world.node("n2", settings=dataclasses.replace(world.settings, grace_seconds=130.0))
    for node, client in ((n0, "other"), (n2, "x"), (n2, "y")):
        node.register(client)
        node.lock(client)
    lose(world, n0)
    world.pass_time(5)
    assert n1.view().in_force
    n2.crash()
    n1.run(n1.node.revoke(b"x"))
    world.reach(world.gone_at(n2) + 2000)
    world.settle()
    assert n1.view().state is GraceState.ACTIVE
    assert ("x", "revoked") in list(all_released(world))


def test_20_a_clock_that_was_answered_and_not_stored_does_not_keep_the_keeper_busy(world: World) -> None:
    """The machine's clock goes 1.5 s ahead, a script that only reads answers that, and it goes back again."""
    n1 = world.node("n1")
    n1.register("a", ttl=1.0)
    n1.unregister("a")
    n1.tick()
    world.step(1.5)
    n1.view()
    world.step(0)
    n1.tick()  # fails if it never rests
    world.pass_time(1.2)
    assert n1.released() == [("a", "disconnect")]


# -- grace and lost data ----------------------------------------------------------------------------------------------


def test_29_a_transition_that_was_heard_and_then_lost(world: World) -> None:
    """The primary told it by its stream, its replica never had it: that is lost data, no reason to refuse for ever."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    revision = str(n1.node.lease.view.revision + 1).encode()
    n1.node.hear("start", {"revision": revision, "epoch": b"1", "by": b"n9:1", "owner": b"n8:1", "clock": b"0"})
    world.pass_time(3)
    assert n1.over == "data_lost"


def test_29_what_is_forfeited_after_lost_data_is_freed(world: World) -> None:
    """The hold of a's first lock was lost, its registration was not: its lock has the label of that registration."""
    n1, n2 = world.node("n1"), world.node("n2")
    old = n1.register("a")
    n1.lock("a")
    world.redis.hdel(world.key("holders", n1.owner), "a")
    world.redis.hincrby(world.key("node", n1.owner), "writes", -1)
    world.pass_time(3)
    assert (n1.over, n2.over) == ("data_lost", "data_lost")
    n1.alive = n2.alive = False
    n1, n2 = world.node("n1"), world.node("n2")
    assert n1.start("a").expected == 1
    n2.start(if_empty="skip")
    assert n2.register("a").must_reclaim
    world.pass_time(4 * GRACE)
    assert n2.view().state is GraceState.NORMAL
    assert max(_freed(world, "a")) >= old.generation


def test_29_generations_after_lost_data_are_above_those_of_a_node_that_died(world: World) -> None:
    """N2 registers a 0.9 s after n1 was last told the clock; n2 and the newest second of Redis are lost together."""
    n1, n2 = world.node("n1"), world.node("n2")
    world.settle()
    old_data = backup(world)
    n1.register("x")
    world.jump(0.9)
    old = n2.register("a")
    n2.lock("a")
    n2.crash()
    old_data.put_back()
    n1.node.must_renew = True
    n1.tick()
    assert n1.over == "data_lost"
    n1.alive = False
    again = world.node("n1")
    assert again.start("a").expected == 1
    world.pass_time(4 * GRACE)
    assert again.view().state is GraceState.NORMAL
    assert max(_freed(world, "a")) >= old.generation


def _freed(world: World, client: str) -> list[int]:
    """Return up to which generations the locks of a client were freed."""
    return [release.generation for node in world.nodes for release in node.releases if release.client_id == client]


def _reclaimed_and_not_completed(world: World) -> tuple[Player, Player, Grant]:
    """Return n1, where A reclaimed a lock until the period was over, another node, and the grant of that lock."""
    n1, n3 = back_for_its_right(world)
    grant = n1.admit("a")
    grant.confirm()
    world.pass_time(GRACE + 5)
    assert n3.view().state is GraceState.NORMAL
    return n1, n3, grant


def test_44_the_lock_of_a_client_whose_registration_is_to_be_drained_is_no_right(world: World) -> None:
    """It was reclaimed and not completed in time: what its node's end frees is not expected to be reclaimed."""
    n1, n2, _ = _reclaimed_and_not_completed(world)
    n1.crash()
    n2.tick()
    world.jump(9.0)
    n2.run(n2.node.renew())
    n2.run(n2.node.evict([n1.owner]))
    assert world.redis.smembers(world.key("orphans")) == {n1.owner.encode()}
    again = world.node("n1")
    started: GraceStarted = again.start("a")
    assert (started.epoch, started.expected, started.forfeited) == (None, 0, 1)


def test_44_the_end_of_a_superseded_incarnation_does_not_close_its_successors_roster(world: World) -> None:
    """The store is read once, however long that takes."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.crash()
    again, reads = world.node("n1"), []

    def meanwhile() -> None:
        reads.append(1)
        world.pass_time(LAPSE + 2)

    again.start("x", meanwhile=meanwhile)
    assert len(reads) == 1
    world.settle()
    assert n2.view().waiting_for == ("x",)


def test_44_a_start_that_was_refused_does_not_open_a_roster_later(world: World) -> None:
    """Its first attempt arrives when the repeat has been refused: it does nothing."""
    n1, n2, n3 = world.node("n1"), world.node("n2"), world.node("n3")
    n2.register("c")
    n2.lock("c")
    lose(world, n2)
    n3.alive = False  # it hangs: the close waits for it
    n1.reclaim("c")
    assert n1.view().closing
    late: list[Call[Any]] = []

    def send(call: Call[Any]) -> Any:
        if not late:
            late.append(call)
            message = "it is on its way"
            raise OutcomeUnknown(message)
        return n1.send(call)

    with pytest.raises(BarrierPending):
        run_flow(n1.node.open_roster("wait", "r"), send)
    n3.alive = True
    n3.listen()
    n3.tick()
    assert n3.view().state is GraceState.NORMAL
    assert world.run(late[0]).status == "LATE"
    assert world.dump("open", "ended") == {}


def test_44_a_store_that_cannot_be_read_leaves_no_roster_open(world: World) -> None:
    """Else Redis would keep in mind whose right ends for as long as the node lives, and no period could end early."""
    n1 = world.node("n1")
    with pytest.raises(ZeroDivisionError):
        n1.grace.start(lambda: 1 / 0)
    assert world.dump("open", "ended") == {}


def test_03_a_roster_that_said_nothing_keeps_nobody_waiting_once_it_is_withdrawn(world: World) -> None:
    """With `wait` the period lasts, until its node says that there was nothing to wait for."""
    n1 = world.node("n1")
    n1.start(if_empty="wait")
    assert n1.view().state is GraceState.ACTIVE
    n1.run(n1.node.withdraw())
    world.settle()
    assert n1.view().state is GraceState.NORMAL


def test_08_a_member_whose_record_is_gone_is_lost_with_its_rights(world: World) -> None:
    """Partial damage: its holders are on the roster all the same."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    n1.crash()
    world.redis.delete(world.key("node", n1.owner))
    world.pass_time(LAPSE + 3)
    assert n2.view().waiting_for == ("a",) or list(all_released(world))


def test_27_odd_ids_in_full_batches_and_twice_in_one(world: World) -> None:
    """From register to release, over a death and a move; nothing is left."""
    odd = [b"-", b"0", b"1e3", b"  ", b"\n", b"\x00", b":", b"{x}", b"client", b"upto", b"%s", b"\xff\xfe", b"x" * 1024]
    n1, n2, n3 = world.node("n1"), world.node("n2"), world.node("n3")
    ids = odd + [b"c%d" % i for i in range(190 - len(odd))]
    items = [n1.node.registering(one, "nfs", "a b", 5.0, b"v w", b"p q") for one in ids + ids[:10]]
    assert all(not isinstance(answer, Exception) for answer in n1.run(n1.node.register(items)))
    for client in ids:
        n1.run(n1.node.begin_grant(client)).confirm()
    n1.crash()
    world.pass_time(LAPSE + 3)
    assert all(answer.must_reclaim for answer in n2.run(n2.node.register(items)))  # type: ignore[union-attr]
    n2.run(n2.node.complete(ids + ids[:10]))
    world.settle()
    assert n2.check().allowed
    for item in items[: len(ids)]:
        n3.run(n3.node.register([item]))
    assert len(world.rights()) == len(ids)
    n3.run(n3.node.unregister([(client, 0) for client in ids + ids[:10]]))
    world.pass_time(10)
    assert world.dump("client", "due", "releases", "adapter", "holders", "clients", "wanted") == {}


# -- two calls that wait for each other -------------------------------------------------------------------------------


def _together(player: Player, **flows: Flow[Any]) -> dict[str, Any]:
    """Run flows in turns, a step each, within as many rounds as need no grant to time out; return how each ended."""
    ends: dict[str, Any] = {}
    for _ in range(100):
        for name, flow in flows.items():
            if name in ends:
                continue
            try:
                request: Any = flow.send(None)
                while not isinstance(request, Sleep):
                    request = flow.send(player.send(request))
            except StopIteration as end:
                ends[name] = end.value
            except CoordinatorError as error:
                ends[name] = error
    assert ends.keys() == flows.keys(), "they wait for each other"
    return ends


def test_40_the_end_of_a_reclaim_waits_for_nobody_who_waits_for_its_grant(world: World) -> None:
    """A batch of disconnects has its client's turn, and waits for another one's; both are done."""
    n0, n1 = world.node("n0"), world.node("n1")
    for client in ("a", "b"):
        n0.register(client)
        n0.lock(client)
    lose(world, n0)
    world.pass_time(2)
    for client in ("a", "z"):
        n1.register(client)
    grant = n1.run(n1.node.admit(b"a", keep_open=True))
    assert n1.node.registry.begin_turn(b"z")
    leaving = n1.node.unregister([(b"a", 0), (b"z", 0)])
    leaving.send(None)
    grant.confirm()
    completing = n1.node.end_reclaim(grant)
    completing.send(None)
    n1.node.registry.end_turn(b"z")
    assert not isinstance(_together(n1, leave=leaving, complete=completing)["leave"], Exception)


@pytest.mark.parametrize("what", ["unregister", "revoke", "register"])
def test_40_a_count_in_a_block_waits_for_nobody_who_waits_for_the_block(world: World, what: str) -> None:
    """Its client disconnects, is revoked or registers anew: the count is refused, or 0, at once; the block can end."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    grant = n1.begin_lock("a")
    flows: dict[str, Callable[[], Flow[Any]]] = {
        "unregister": lambda: n1.node.unregister([(b"a", 0)]),
        "revoke": lambda: n1.node.revoke(b"a"),
        "register": lambda: registering(n1, "a"),
    }
    ending = flows[what]()
    ending.send(None)
    ends = _together(n1, count=n1.node.count_lock(b"a"), uncount=n1.node.uncount_lock(b"a"))
    assert isinstance(ends["count"], RegistrationRefused)
    assert ends["uncount"] == 0
    grant.undo()
    assert not isinstance(_together(n1, end=ending)["end"], Exception)


def test_40_an_unlock_beside_a_register_of_another_thread_is_counted(world: World) -> None:
    """Between two lines of the unlock its client is registered anew, with the count as it was."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    uncount = n1.node.registry.uncount

    def slow(entry: Any) -> bool:
        n1.node.registry.uncount = uncount  # type: ignore[method-assign]
        n1.register("a")
        return uncount(entry)

    n1.node.registry.uncount = slow  # type: ignore[method-assign]
    n1.unlock("a")
    world.settle()
    assert world.rights() == {}


# -- what a release must cover ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["settled", "its node dies"])
def test_11_what_was_reclaimed_and_not_completed_falls_with_the_right(world: World, how: str) -> None:
    """Its client goes on elsewhere and does not reclaim there: the forfeit frees what it had reclaimed, too."""
    n1, n3 = back_for_its_right(world)
    grant = n1.run(n1.node.admit(b"a", keep_open=True))
    grant.confirm()
    grant.settle()
    if how != "settled":
        lose(world, n1)
    assert n3.register("a").must_reclaim
    world.pass_time(3 * GRACE)
    assert n3.view().state is GraceState.NORMAL
    assert max(_freed(world, "a")) >= grant.generation


def test_44_a_superseded_incarnation_serves_nobody(world: World) -> None:
    """A lock that was reclaimed there is a leftover, when its next incarnation brings it."""
    n1, n2, grant = _reclaimed_and_not_completed(world)
    n1.crash()
    world.node("n1").start("a")
    world.pass_time(LAPSE + 3)
    n2.register("a")
    world.pass_time(4 * GRACE)
    assert n2.view().state is GraceState.NORMAL
    assert max(_freed(world, "a")) >= grant.generation


def _lose_data(world: World, *players: Player) -> None:
    """Let the data lack a change of the first one; all lives end."""
    world.redis.hincrby(world.key("node", players[0].owner), "writes", -1)
    world.pass_time(3)
    for player in players:
        assert player.over == "data_lost"
        player.alive = False


@pytest.mark.parametrize("freed", [True, False])
def test_29_who_is_revoked_after_lost_data_is_not_brought_back(world: World, *, freed: bool) -> None:
    """While a store is being read; its release covers whatever it has, as the data may remember too little."""
    nodes = world.node("n1"), world.node("n2")
    nodes[0].register("a")
    nodes[0].lock("a")
    _lose_data(world, *nodes)
    n1, n2 = world.node("n1"), world.node("n2")
    n1.callback = n2.callback = freed

    def revoke() -> None:
        n2.run(n2.node.revoke(b"a"))
        world.settle()

    assert n1.start("a", meanwhile=revoke).forfeited == 1
    for node in (n1, n2):
        node.callback = True
        for claim in node.held_back:
            node.run(node.keeper.done(claim))
    world.pass_time(12)
    assert not n2.register("a").must_reclaim


def test_29_a_release_of_an_older_life_leaves_the_right_of_a_newer_one(world: World) -> None:
    """A record has expired, its release waits: what the store has told since is more than that frees."""
    nodes = world.node("n1"), world.node("n2")
    for node in nodes:
        node.node.claims_releases = False
    nodes[0].start("c")
    world.pass_time(3 * GRACE)
    assert world.redis.exists(world.key("releases"))
    _lose_data(world, *nodes)
    n1, n2 = world.node("n1"), world.node("n2")
    for node in (n1, n2):
        node.node.claims_releases = False
    assert n1.start("c").expected == 1
    assert n2.register("c").must_reclaim
