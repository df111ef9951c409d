"""Rejoin, interrupts, undo, missed events: what happens between two lives of a node, or of a registration."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from coordinator import Fenced, GraceState, errors
from coordinator.api.driving import drive
from coordinator.node import Sleep
from coordinator.node.registry import Entry, Holding, Memory
from coordinator.protocol import nodes
from tests.world import Player, World

if TYPE_CHECKING:
    from coordinator.node import Flow
    from coordinator.protocol import Call

LAPSE = 9.5


def test_16_an_evicted_node_rejoins_as_a_new_incarnation_without_registrations(world: World) -> None:
    """It hung for longer than its lease: fenced, then back, with nothing remembered but the end of the period."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    grant = n1.begin_lock("a")
    first = n1.owner
    n1.alive = False
    world.pass_time(LAPSE)
    with pytest.raises(errors.StaleGrant):
        grant.confirm()
    n2.reclaim("a")
    world.settle()
    assert n2.view().state is GraceState.NORMAL
    n1.alive = True
    world.settle()
    assert n1.owner != first
    assert n1.node.registry.get(b"a") is None
    assert [period.epoch for period in n1.periods] == [1], "the period that ended meanwhile is announced, once"
    assert n1.check().allowed


def test_17_a_process_that_was_evicted_never_displaces_its_replacement(world: World) -> None:
    """It said `predecessor_dead` when it started; when it wakes, its replacement lives: it stays fenced."""
    old = world.node("n1", dead=True)
    old.alive = False
    world.node("n2")
    world.pass_time(LAPSE)
    new = world.node("n1")
    with pytest.raises(Fenced):
        old.run(old.node.renew())
    assert old.node.fenced == "evicted"
    with pytest.raises(Fenced, match="superseded"):
        old.run(old.node.join())
    assert old.node.fenced == "superseded"
    new.run(new.node.renew())
    assert new.check().allowed


def test_23_undoing_an_old_grant_leaves_the_newer_registrations_right(world: World) -> None:
    """The block of an old registration ends stale: the lock that the new registration took is still counted."""
    n1 = world.node("n1")
    n1.register("a")
    grant = n1.begin_lock("a")
    n1.unregister("a")
    n1.register("a")
    n1.lock("a")
    with pytest.raises(errors.StaleGrant):
        grant.confirm()
    n1.run(n1.node.uncount_lock(b"a", grant.generation))
    assert world.redis.sismember(world.key("holders", n1.owner), "a")


def go_on(player: Player, flow: Flow[Any], reply: Any = None) -> Any:
    """Let a flow go on with a reply to its end; return what it returns."""
    while True:
        try:
            request = flow.send(reply)
        except StopIteration as stop:
            return stop.value
        reply = None if isinstance(request, Sleep) else player.send(request)


def is_holder(player: Player, client: str) -> bool:
    """Tell whether Redis has a client as a holder under this node."""
    return bool(player.world.redis.sismember(player.world.key("holders", player.owner), client))


def test_23_a_lock_is_undone_although_its_client_has_registered_again(world: World) -> None:
    """The right is the same: the lock that was not confirmed is counted back, and the last one gone drops the right."""
    n1 = world.node("n1")
    n1.register("a")
    grant = n1.begin_lock("a")
    n1.register("a")
    with pytest.raises(errors.StaleGrant):
        grant.confirm()
    n1.run(n1.node.uncount_lock(b"a", grant.generation))
    assert n1.view_of("a").lock_count == 0
    assert not is_holder(n1, "a")


def test_23_a_grant_is_of_the_registration_that_its_lock_counts_for(world: World) -> None:
    """It waited for another hold while its client registered again: granted under the new one, and undone there."""
    n1 = world.node("n1")
    n1.register("a")
    n1.node.registry.begin_switch(b"a")
    flow = n1.node.begin_grant(b"a")
    assert isinstance(flow.send(None), Sleep)
    generation = n1.register("a").generation
    n1.node.registry.end_switch(b"a")
    grant = go_on(n1, flow)
    grant.confirm()
    assert grant.generation == generation
    n1.run(n1.node.uncount_lock(b"a", grant.generation))
    assert n1.view_of("a").lock_count == 0
    assert not is_holder(n1, "a")


@pytest.mark.parametrize("meanwhile", ["registered", "completed"])
def test_23_a_hold_under_way_counts_for_the_entry_that_comes_meanwhile(world: World, meanwhile: str) -> None:
    """Another entry takes over before the hold is answered: of two locks one goes, and the right stays."""
    n1 = world.node("n1")
    n1.register("a")
    flow = n1.node.count_lock(b"a")
    reply = n1.send(flow.send(None))  # type: ignore[arg-type]
    if meanwhile == "registered":
        n1.register("a")
    else:
        with pytest.raises(errors.NoGrace):
            n1.complete("a")
    assert go_on(n1, flow, reply) == 1
    n1.run(n1.node.count_lock(b"a"))
    n1.unlock("a")
    assert n1.view_of("a").lock_count == 1
    assert is_holder(n1, "a")


@pytest.mark.parametrize("meanwhile", ["moved", "rebooted"])
def test_23_a_hold_whose_right_ended_meanwhile_counts_for_nothing(world: World, meanwhile: str) -> None:
    """Moved away: refused. Rebooted: held once more, for the new registration."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a", verifier="one")
    flow = n1.node.count_lock(b"a")
    reply = n1.send(flow.send(None))  # type: ignore[arg-type]
    if meanwhile == "moved":
        n2.register("a", verifier="one")
        n1.listen()
        with pytest.raises(errors.RegistrationRefused):
            go_on(n1, flow, reply)
    else:
        n1.register("a", verifier="two")
        assert not is_holder(n1, "a")
        assert go_on(n1, flow, reply) == 1
        assert is_holder(n1, "a")


def test_21_a_right_that_was_away_is_not_counted_on(world: World) -> None:
    """A went n1, n2, n1 before n1 heard of it: what it has locked at n2 is not known, so no unlock drops its right."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    n2.register("a")
    n2.lock("a")
    assert n1.register("a").lock_count is None
    n1.lock("a")
    n1.unlock("a")
    n1.unlock("a")
    assert is_holder(n1, "a")


@pytest.mark.parametrize("first", ["drop", "completion"])
def test_31_a_drop_never_comes_after_a_completion(world: World, first: str) -> None:
    """The last counted lock goes while all locks of another life are reported back: the right to those stays."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    n1.start("b")
    n1.register("b")
    n1.node.registry.get(b"b").holding.lock_count = 1  # type: ignore[union-attr]
    n1.node.registry.get(b"b").holding.holder = True  # type: ignore[union-attr]
    drop, completion = n1.node.uncount_lock(b"b"), n1.node.complete([b"b"])
    early, late = (drop, completion) if first == "drop" else (completion, drop)
    request = early.send(None)
    assert isinstance(late.send(None), Sleep), "the other one waits"
    go_on(n1, early, n1.send(request))  # type: ignore[arg-type]
    go_on(n1, late)
    assert is_holder(n1, "b")
    assert n1.view_of("b").lock_count is None


def test_31_a_completion_that_is_refused_leaves_the_drop_to_the_keeper(world: World) -> None:
    """Cancelled while it waited for the completion, the drop is made up for when that is over."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    drop, completion = n1.node.uncount_lock(b"a"), n1.node.complete([b"a"])
    request = completion.send(None)
    assert isinstance(drop.send(None), Sleep)
    drop.close()
    assert n1.run(n1.node.drop_left_over()) is False
    assert is_holder(n1, "a"), "passed over while it is completing"
    (refused,) = go_on(n1, completion, n1.send(request))  # type: ignore[arg-type]
    assert isinstance(refused, errors.NoGrace)
    n1.tick()
    assert not is_holder(n1, "a")


def test_16_what_an_earlier_life_asked_for_is_not_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the reply to a registration is taken the node is evicted and joins anew: it serves nobody it lost."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c")
    n1.lock("c")
    first, put = n1.owner, n1.node.registry.put

    def slow(entry: Entry, *, kept: bool) -> Entry | None:
        monkeypatch.undo()
        for _ in range(30):
            world.jump(0.4)
            n2.listen()
            n2.tick()
        n1.tick()  # the keeper's own thread
        return put(entry, kept=kept)

    monkeypatch.setattr(n1.node.registry, "put", slow)
    with pytest.raises(Fenced):
        n1.register("c")
    assert n1.owner != first
    assert n1.node.registry.get(b"c") is None


def test_16_what_an_earlier_life_closed_is_not_put_back(world: World) -> None:
    """A disconnect that was fenced closed an entry of the old incarnation: the new one does not serve that client."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c")
    flow = n1.node.unregister([(b"c", 0)])
    request = flow.send(None)
    for _ in range(30):
        world.jump(0.4)
        n2.listen()
        n2.tick()
    reply = n1.send(request)  # type: ignore[arg-type]
    n1.tick()
    with pytest.raises(errors.CoordinatorError):
        go_on(n1, flow, reply)
    assert n1.node.registry.get(b"c") is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, errors.ContractBroken])
def test_31_an_interrupted_call_leaves_its_tightening_held(world: World, error: type[BaseException]) -> None:
    """The request was sent and counted this node as acked; the caller never saw the reply."""
    n1 = world.node("n1")

    def interrupted(call: Call[Any]) -> Any:
        world.run(call)
        raise error

    with pytest.raises(error):
        drive(n1.node.start_grace([b"a"], "wait", ""), interrupted, lambda _: None)
    assert not n1.check().allowed
    world.settle()
    assert n1.node.lease.view.state is GraceState.ACTIVE


def test_21_moves_whose_events_were_trimmed_are_found_out(world: World) -> None:
    """The node heard nothing of the moves: an audit forgets those clients, tells the server and drops the copies."""
    n1, n2 = world.node("n1"), world.node("n2")
    for i in range(5):
        n1.register(f"c{i}")
        n1.lock(f"c{i}")
        n2.register(f"c{i}")
    n1.register("stays")
    world.redis.delete(world.key("events"))
    n1.cursor = "0-0"
    n1.node.must_audit = True
    n1.tick()
    n1.tick()
    assert len(n1.moves) == 5
    assert not world.redis.exists(world.key("holders", n1.owner))
    assert n1.node.registry.get(b"stays") is not None


def test_21_an_audit_that_failed_is_done_again(world: World) -> None:
    """Redis went away in the middle of it: the next round asks again."""
    n1 = world.node("n1")
    n1.register("a")
    n1.node.must_audit = True

    def away(_: Call[Any]) -> Any:
        message = "nothing was reached"
        raise errors.Unavailable(message)

    with pytest.raises(errors.Unavailable):
        drive(n1.keeper._duties(), away, lambda _: None)
    assert n1.keeper._unaudited
    n1.tick()
    assert not n1.keeper._unaudited


def test_an_older_registration_never_replaces_a_newer_one() -> None:
    """Replies that arrive out of order leave the newest registration in memory."""
    memory = Memory()
    for generation in (2, 1):
        memory.put(Entry(b"a", generation, "nfs", 0, "", Holding(generation, holder=False, lock_count=0)))
    entry = memory.get(b"a")
    assert entry is not None
    assert entry.generation == 2


def test_24_a_claim_that_ran_out_in_the_queue_is_not_begun(world: World) -> None:
    """Its worker was not free in time: somebody else may be at it by now."""
    n1 = world.node("n1")
    n1.callback = False
    n1.register("a")
    n1.unregister("a")
    (claim,) = n1.held_back
    world.time += 7
    assert not n1.keeper.may_begin(claim)
    assert n1.keeper.claims == {}


def test_21_an_audit_finds_clients_that_are_leaving(world: World) -> None:
    """C was revoked unheard and is not freed yet: the audit closes its entry, it locks nothing more here."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.node.claims_releases = n2.node.claims_releases = False
    n1.register("c")
    n2.run(n2.node.revoke(b"c"))
    world.redis.delete(world.key("events"))
    n1.node.must_audit = True
    n1.tick()
    assert n1.node.registry.get(b"c") is None


@pytest.mark.parametrize("late", [False, True], ids=["a read", "a late request"])
def test_31_every_clock_that_was_told_is_kept(world: World, *, late: bool) -> None:
    """Redis' machine steps, a read or a late request tells the new clock: the scope goes on from there."""
    n1 = world.node("n1")
    before = world.clock
    world.step(1.5)
    head = n1.node.lease.head(n1.node.now())
    call = nodes.view(n1.node.keys, replace(head, not_after_ms=before if late else 0), ("nfs",))
    reply = world.run(call)
    assert reply.status == ("LATE" if late else "VIEW")
    assert before + 1500 <= reply.state.clock_ms == world.clock
