"""Rejoin, interrupts, undo, missed events: what happens between two lives of a node, or of a registration."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from coordinator import Fenced, GraceState, errors
from coordinator.calls import nodes
from coordinator.memory import Entry, Memory
from coordinator.sync import drive
from tests.world import World

if TYPE_CHECKING:
    from coordinator.calls import Call

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
    assert n1.node.memory.get(b"a") is None
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
    assert n1.node.lease.state.state is GraceState.ACTIVE


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
    assert n1.node.memory.get(b"stays") is not None


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
        memory.put(Entry(b"a", generation, "nfs", 0, "", holder=False, lock_count=0))
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
    assert n1.node.memory.get(b"c") is None


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
