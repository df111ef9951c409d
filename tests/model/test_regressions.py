"""Orders of events that the model has found, or that were found by reading for it, small enough to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator import ReclaimOutcome
from coordinator.protocol.clients import register
from tests.model.servers import Servers

if TYPE_CHECKING:
    import redis

    from tests.world import World


def test_a_repeated_completion_does_not_count_what_it_cannot_know(world: World) -> None:
    """A completion that finds everything done leaves the lock count alone: a grant may have been opened meanwhile.

    Else the count is one too low: the last unlock but one drops the right, and the last lock cannot be reclaimed.
    """
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("A")
    n1.lock("A")
    grant = n1.begin_lock("A")
    n1.run(n1.node.complete([b"A"], 1))  # one lock, as the server counted before the insert
    grant.confirm()
    n1.unlock("A")
    n1.crash()
    world.pass_time(10.0)
    assert n2.register("A").must_reclaim


def test_an_admission_is_noted_where_its_client_is_served_now(world: World) -> None:
    """An admission that waits for a registration of its client counts under the new one: it may be confirmed.

    And the node knows that the client is reclaiming, and yields it to nobody before that has ended.
    """
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("A")
    n1.lock("A")
    n1.crash()
    world.pass_time(10.0)
    n2.register("A")
    n2.node.registry.begin_turn(b"A")
    flow = n2.node.admit(b"A")
    next(flow)  # it waits for the turn
    n2.node.registry.end_turn(b"A")
    n2.register("A")
    n2.run(flow).confirm()
    entry = n2.node.registry.get(b"A")
    assert entry is not None
    assert entry.admitted == n2.view().epoch


def test_a_yield_that_cannot_be_taken_back_yet_does_not_keep_the_keeper_busy(world: World) -> None:
    """A keeper whose yield is overdue, while a call has its client's turn, sleeps until that ends."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("A")
    n1.lock("A")
    item = n2.node.registering("A", "nfs", "", 0.0, None, None)
    n2.run(n2.node.ask(lambda head: register(n2.node.meta, head, [item])))  # HELD, and it gives up
    n1.listen()
    n1.tick()
    assert n1.node.registry.begin_turn(b"A")
    world.pass_time(2.4)
    assert b"A" in n1.node.registry.yielding
    assert n1.keeper._next_deadline() > n1.node.now()
    n1.node.registry.end_turn(b"A")
    world.settle()
    assert n1.node.registry.get(b"A") is not None


def test_a_client_that_is_named_twice_in_a_batch_completes_once(world: World) -> None:
    """A server that collects clients may name one twice: the second is a repeat, and the client is counted once."""
    n1, n2 = world.node("n1"), world.node("n2")
    for client in ("A", "B"):
        n1.register(client)
        n1.lock(client)
    n1.crash()
    world.pass_time(10.0)
    n2.register("A")
    first, second = n2.run(n2.node.complete([b"A", b"A"]))
    assert isinstance(first, ReclaimOutcome)
    assert isinstance(second, ReclaimOutcome)
    assert (first.repeated, second.repeated) == (False, True)
    assert first.remaining == second.remaining == 1
    assert n2.metric("locks_reclaim_total", status="granted") == 1


def test_a_loss_that_is_told_long_after_it(client: redis.Redis, product: redis.Redis) -> None:
    """Who slept through a loss tells of it when others reclaim already: those may do so until their validity ends.

    Nothing is in force before they have stopped, so their last reclaims are before the first of the new period.
    """
    s = Servers(client, product)
    n1, n2 = (s.join(name, 1.0, {}, dead=False) for name in ("n1", "n2"))
    s.sim.settle()
    s.register(n1, [b"c0"])
    s.sim.settle()
    s.lock(n1, b"c0")
    s.sim.settle()
    s.back_up()
    s.register(n2, [b"c1"])  # it remembers more than the copy
    s.sim.settle()
    n2.paused = True
    s.crash(n1)
    s.lose_data(everything=False)
    n3 = s.join("n3", 1.0, {}, dead=False)
    s.sim.run_on(20.0)
    assert n3.node.lease.snapshot.reclaims
    n2.paused = False
    s.sim.run_on(0.4)
    assert n2.ends == ["data_lost"]
    assert n3.is_over
    s.close()
