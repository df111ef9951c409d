"""Scenarios 1 to 6: grace and early exit."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from coordinator import (
    BarrierPending,
    ClientHeld,
    GraceState,
    NoGrace,
    Operation,
    ReclaimRefused,
    StaleEpoch,
    StaleGrant,
)
from coordinator.protocol import nodes
from coordinator.protocol.call import OPERATOR, Head
from tests.orders import run_flow
from tests.world import GRACE, World

if TYPE_CHECKING:
    from coordinator.protocol import Call

LOCKS = 10
LEASE_AND_MARGIN = 8.5


def test_01_one_node_ends_early_in_the_reply_to_the_last_completion(world: World) -> None:
    """New locks are refused with the time left, the last client's completion itself lifts, one callback."""
    n1 = world.node("n1")
    n1.start("c1", "c2")
    verdict = n1.check(Operation.NEW)
    assert not verdict.allowed
    assert 0 < verdict.retry_after <= GRACE
    assert n1.check(Operation.RECLAIM).allowed
    assert n1.check(Operation.TEST).provisional
    first = n1.reclaim("c1")
    assert (first.remaining, first.lifted) == (1, False)
    assert n1.view().state is GraceState.ACTIVE
    last = n1.reclaim("c2")
    assert (last.remaining, last.lifted) == (0, True)
    assert n1.check(Operation.NEW).allowed
    world.settle()
    assert [(p.epoch, p.expected, p.reclaimed, p.forfeited) for p in n1.periods] == [(1, 2, 2, 0)]


def test_01_the_keeper_lifts_before_the_reply_to_the_last_completion_is_read(world: World) -> None:
    """The event of the close was faster than the reply: the outcome says that the period is lifted all the same."""
    n1 = world.node("n1")
    n1.start("c1")
    n1.register("c1")

    def send(call: Call[Any]) -> Any:
        reply = n1.send(call)
        n1.listen()
        n1.run(n1.node.renew())
        return reply

    (outcome,) = run_flow(n1.node.complete([b"c1"]), send)
    assert (outcome.lifted, outcome.closing) == (True, False)


def test_01_three_nodes_lift_within_a_push_and_an_ack(world: World) -> None:
    """The last completion closes; after one event and one ack of the others it is lifted, with a callback on each."""
    nodes = [world.node(f"n{i}") for i in (1, 2, 3)]
    nodes[0].start("c1")
    for other in nodes[1:]:
        other.listen()
        assert not other.check(Operation.NEW).allowed
        other.tick()
    nodes[0].listen()
    nodes[0].tick()
    outcome = nodes[0].reclaim("c1")
    assert outcome.closing
    assert not outcome.lifted
    for other in nodes[1:]:
        other.listen()
        other.tick()
    assert nodes[0].view().state is GraceState.NORMAL
    world.settle()
    assert [len(node.periods) for node in nodes] == [1, 1, 1]
    assert all(node.check(Operation.NEW).allowed for node in nodes)


def test_02_a_deadline_ends_it_without_a_call(world: World) -> None:
    """The keepers' timers end the period at its deadline; what was not used is forfeited."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.start("c1")
    world.settle()
    world.pass_time(GRACE - 2)
    assert n2.view().state is GraceState.ACTIVE
    world.pass_time(3)
    assert n2.view().state is GraceState.NORMAL
    assert [p.forfeited for p in n1.periods + n2.periods] == [1, 1]


def test_02_the_callback_comes_when_this_node_grants_again(world: World) -> None:
    """The event of the lift is heard before the view has switched: on_grace_end waits for the view."""
    n1, n2 = world.node("n1"), world.node("n2")
    granted = []
    n2.node.on_period = lambda _: granted.append(n2.check().allowed)
    n1.start("c1")
    world.settle()
    n1.reclaim("c1")
    n2.listen()
    n2.tick()
    n2.listen()
    assert granted in ([], [True])
    world.settle()
    assert granted == [True]


def test_02_a_late_timer_of_an_old_period_changes_nothing(world: World) -> None:
    """A timer of period 1 that fires in period 2 does not end it; an end that names epoch 1 is refused."""
    n1 = world.node("n1")
    n1.start("c1")
    n1.reclaim("c1")
    n1.start("c2")
    n1.run(n1.node.advance())
    assert n1.view().state is GraceState.ACTIVE
    with pytest.raises(StaleEpoch) as caught:
        n1.run(n1.node.end_grace("late", 1))
    assert caught.value.epoch == 2
    assert n1.view().state is GraceState.ACTIVE


def test_03_empty_roster_wait_and_skip(world: World) -> None:
    """`wait` lasts the full period whatever strangers do, `skip` ends at once."""
    n1 = world.node("n1")
    n1.start()
    n1.register("stranger")
    with pytest.raises(ReclaimRefused):
        n1.admit("stranger")
    with pytest.raises(ReclaimRefused):
        n1.complete("stranger")
    world.pass_time(GRACE / 2)
    assert n1.view().state is GraceState.ACTIVE
    world.pass_time(GRACE / 2 + 1)
    assert n1.view().state is GraceState.NORMAL
    assert n1.start(if_empty="skip").epoch is None
    assert n1.view().state is GraceState.NORMAL
    assert n1.view().epoch == 1


def test_03_skip_does_not_end_it_while_another_roster_is_open(world: World) -> None:
    """One complete roster never ends the period while another node still adds to its own."""
    n1, n2 = world.node("n1"), world.node("n2")

    def meanwhile() -> None:
        world.settle()
        n1.start("c1")
        world.settle()
        n1.reclaim("c1")
        n1.start(if_empty="skip")
        world.settle()
        assert n1.view().state is GraceState.ACTIVE

    n2.start("c9", meanwhile=meanwhile)
    world.settle()
    n2.reclaim("c9")
    world.settle()
    assert n1.view().state is GraceState.NORMAL


def test_03_cold_start_of_what_was_not_initialized_is_a_full_grace(world: World) -> None:
    """A scope without data waits L + M, since its data may have been lost, and then the whole period."""
    n1 = world.node("n1", new=False)
    assert not n1.check(Operation.NEW).allowed
    n1.register("a")
    with pytest.raises(BarrierPending):
        n1.admit("a")
    world.pass_time(LEASE_AND_MARGIN - 0.5)
    assert not n1.view().in_force
    world.pass_time(1)
    assert n1.view().in_force
    with pytest.raises(ReclaimRefused):
        n1.admit("a")
    world.pass_time(GRACE - 1)
    assert n1.view().state is GraceState.ACTIVE
    world.pass_time(2)
    assert n1.check(Operation.NEW).allowed
    assert [(p.epoch, p.expected) for p in n1.periods] == [(1, 0)]


def test_04_only_complete_clients_of_the_roster_count(world: World) -> None:
    """Ten locks of one client confirm under one admission; strangers and repeats are never counted."""
    n1 = world.node("n1")
    n1.start("c1", "c2")
    n1.register("c1")
    grant = n1.admit("c1")
    for _ in range(LOCKS):
        grant.confirm()
        assert n1.view().reclaimed_clients == 0
    assert n1.complete("c1").remaining == 1
    assert n1.complete("c1").remaining == 1
    n1.register("new")
    with pytest.raises(ReclaimRefused, match="not_expected"):
        n1.complete("new")
    view = n1.view()
    assert (view.expected_clients, view.reclaimed_clients, view.state) == (2, 1, GraceState.ACTIVE)
    assert view.waiting_for == ("c2",)


def test_05_same_node_again_adds_and_another_node_joins(world: World) -> None:
    """New ids are added; another node's roster joins the same epoch and extends it."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.start("c1")
    world.settle()
    n1.start("c2")
    world.pass_time(10)
    before = n1.view()
    assert before.expected_clients == 2
    n2.start("c3")
    after = n1.view()
    assert after.epoch == before.epoch == 1
    assert after.expected_clients == 3
    assert after.remaining_seconds > before.remaining_seconds + 5


def test_05_a_client_that_completed_and_gave_its_locks_back_is_no_leftover(world: World) -> None:
    """What another node's store still has of it is old: it is not put on that node's roster, nor may it reclaim."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.start("a", "b")
    world.settle()
    n2.reclaim("a")
    n2.run(n2.node.drop(b"a"))
    started = n1.start("a", "c")
    assert (started.expected, started.live) == (1, 1)
    assert sorted(n1.view().waiting_for) == ["b", "c"]
    n2.register("a")
    with pytest.raises(ReclaimRefused, match="not_expected"):
        n2.admit("a")


def test_05_the_cap_holds_under_a_crash_loop_and_a_late_owner_gets_its_own_period(world: World) -> None:
    """Owners lost one after the other never extend an epoch past its cap; the last gets a full period of its own."""
    n1 = world.node("n1")
    victims = [world.node(f"v{i}") for i in range(6)]
    for i, victim in enumerate(victims):
        victim.register(f"c{i}")
        victim.lock(f"c{i}")
    epochs = set()
    cap = 2 * 6 + 2.5 + 2 * GRACE
    for victim in victims:
        victim.crash()
        world.pass_time(GRACE / 2)
        epochs.add(n1.view().epoch)
    world.pass_time(GRACE * 3)
    assert n1.view().state is GraceState.NORMAL
    assert len(epochs) > 1
    assert all(p.duration_seconds <= cap + 1 for p in n1.periods)
    assert n1.periods[-1].duration_seconds >= GRACE
    assert sum(p.forfeited for p in n1.periods) == len(victims)


def test_06_revoked_while_reclaiming(world: World) -> None:
    """n2 admitted A; A is revoked on n3, which closes the period: n2's confirm refuses before n3 grants anew."""
    n2, n3 = world.node("n2"), world.node("n3")
    n2.start("a")
    world.settle()
    n2.register("a")
    grant = n2.admit("a")
    n3.run(n3.node.revoke(b"a"))
    assert n3.view().closing
    assert not n3.check(Operation.NEW).allowed
    n2.listen()
    with pytest.raises(StaleGrant):
        grant.confirm()
    world.settle()
    assert n3.check(Operation.NEW).allowed


def test_06_an_old_reply_does_not_loosen(world: World) -> None:
    """A reply that was under way when the node heard of the start is ignored, whenever its request was sent."""
    n1, n2 = world.node("n1"), world.node("n2")
    old = world.run(nodes.view(n1.node.meta, n1.node.lease.head(n1.node.now()), ("nfs",)))
    n2.start("a")
    n1.listen()
    assert not n1.check(Operation.NEW).allowed
    n1.node.lease.observe(n1.node.lease.head(n1.node.now() + 1), old, n1.node.now() + 1)
    assert not n1.check(Operation.NEW).allowed
    n1.run(n1.node.renew())
    n1.node.lease.observe(n1.node.lease.head(n1.node.now() + 1), old, n1.node.now() + 1)
    assert not n1.check(Operation.NEW).allowed


def test_06_a_node_that_has_not_switched_has_not_acked(world: World) -> None:
    """The caller of a script that starts a period grants until its reply is there: only then it acks."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    n1.crash()
    world.pass_time(9, beat=False)
    n2.run(n2.node.renew())
    flow = n2.node.evict([n1.owner])
    request: Any = flow.send(None)
    reply = n2.send(request)
    assert n2.check().allowed, "it does not know yet"
    assert b" active " in reply.raw_view
    assert n2.node.lease.view.epoch == 0
    waits = world.redis.hget(world.key("node", n2.owner), "acked")
    assert int(waits or 0) < reply.view.revision
    with pytest.raises(StopIteration):
        flow.send(reply)
    assert not n2.check().allowed


def test_06_an_ack_of_a_revision_to_come_counts_for_none(world: World) -> None:
    """A node that acks too much once, by an error of its own, holds up the next barrier all the same."""
    n1, n2 = world.node("n1"), world.node("n2")
    world.run(nodes.renew(n2.node.meta, n2.node.lease.head(n2.node.now()), 10**9))
    n1.start("a")
    assert n1.view().waiting_for == (n2.owner,)
    assert not n1.view().in_force
    world.settle()
    assert n1.view().in_force


def test_06_concurrent_last_completions_deadline_and_forced_end_lift_once(world: World) -> None:
    """Three completions, the deadline and an operator's end together: one lift, one callback per node."""
    nodes = [world.node(f"n{i}") for i in (1, 2, 3)]
    nodes[0].start("a", "b", "c")
    world.pass_time(GRACE - 1)
    for node, client in zip(nodes, "abc", strict=True):
        node.register(client)
        node.admit(client).confirm()
    world.jump(1)
    for node, client in zip(nodes, "abc", strict=True):
        node.run(node.node.renew())
        node.complete(client)
    with contextlib.suppress(NoGrace):
        nodes[1].run(nodes[1].node.end_grace("operator", 1))
    world.settle()
    assert [len(node.periods) for node in nodes] == [1, 1, 1]
    assert world.events().count("lift") == 1


def test_06_forced_end_while_restoring(world: World) -> None:
    """A forced end: the confirm of a lock that is being restored refuses, on any node."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.start("a", "b")
    world.settle()
    n2.register("a")
    grant = n2.admit("a")
    n1.run(n1.node.end_grace("operator"))
    assert not n1.check(Operation.NEW).allowed, "n2 has not closed yet"
    n2.listen()
    with pytest.raises(StaleGrant):
        grant.confirm()
    world.settle()
    assert n1.check(Operation.NEW).allowed


def test_07_a_completion_in_a_normal_scope_refuses_nobody_else(world: World) -> None:
    """Each client of NFS 4.1 sends RECLAIM_COMPLETE: others lock on, before and while it is answered."""
    n1 = world.node("n1")
    n1.register("new")
    n1.register("other")
    grant = n1.begin_lock("other")
    flow = n1.node.complete([b"new"])
    request: Any = flow.send(None)
    grant.confirm()
    assert n1.check().allowed
    with pytest.raises(StopIteration):
        flow.send(n1.send(request))


def test_06_a_repeated_join_changes_nothing(world: World) -> None:
    """A join whose reply was lost is repeated inside a period: lease and ack stay, and its barrier waits for it."""
    n1 = world.node("n1")

    def join() -> nodes.Joined:
        call = nodes.join(
            n1.node.meta, Head(OPERATOR, 0.0), "n2", "boot", "d", world.settings, "v", predecessor_dead=False
        )
        return call.parse(world.run(call))

    first = join()
    n1.start("a")
    world.jump(1)
    before = world.dump()
    again = join()
    assert world.dump() == before
    assert (first.fresh, again.fresh) == (True, False)
    assert again.incarnation == first.incarnation
    assert n1.view().waiting_for == (f"n2:{first.incarnation}",)


def test_06_a_client_that_is_reclaiming_is_not_taken_before_its_node_has_closed_it(world: World) -> None:
    """n2 may be inserting its locks under the admission: n3 is told `held` until n2's insert was undone."""
    n2, n3 = world.node("n2"), world.node("n3")
    n2.start("a", "b")
    world.settle()
    n2.register("a")
    grant = n2.admit("a")
    with pytest.raises(ClientHeld) as caught:
        n3.register("a")
    assert caught.value.home == n2.owner
    with pytest.raises(StaleGrant):
        grant.confirm()
    world.settle()
    assert n3.register("a").must_reclaim
    assert not n3.reclaim("a").repeated
    assert n3.view().waiting_for == ("b",)


def test_04_a_client_that_disconnects_has_not_given_up_its_right(world: World) -> None:
    """Admitted, gone with a TTL of 0, and back: it is waited for until the period ends, and reclaims."""
    n1 = world.node("n1")
    n1.start("a", "b")
    n1.register("a")
    n1.register("b")
    n1.admit("a")
    assert n1.unregister("a").due_in_seconds > GRACE
    outcome = n1.complete("b")
    assert (outcome.remaining, outcome.closing) == (1, False)
    world.pass_time(GRACE / 2)
    assert n1.released() == []
    assert n1.register("a").must_reclaim
    assert n1.reclaim("a").lifted


def test_04_an_admission_that_is_open_does_not_hold_up_the_lift(world: World) -> None:
    """Its client was revoked: the last completion lifts in its own call, and the insert that was open must go."""
    n1 = world.node("n1")
    n1.start("a", "b")
    n1.register("a")
    grant = n1.admit("a")
    n1.run(n1.node.revoke(b"a"))
    outcome = n1.reclaim("b")
    assert (outcome.remaining, outcome.lifted) == (0, True)
    with pytest.raises(StaleGrant):
        grant.confirm()
    world.settle()
    assert n1.released() == [("a", "revoked")]
