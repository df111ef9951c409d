"""Scenario 7: who may not reclaim is told why and changes nothing; lost replies to the last completion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coordinator import (
    BarrierPending,
    CoordinatorError,
    GraceState,
    NoGrace,
    OutcomeUnknown,
    ReclaimOutcome,
    ReclaimRefused,
    RegistrationRefused,
)
from tests.faults import LOST, faulty

if TYPE_CHECKING:
    from tests.world import Player, World

LAPSE = 9.5
ROSTERS = ("open", "lost", "reclaimed", "holders")


def refused(node: Player, client: str, error: type[CoordinatorError], reason: str) -> None:
    """Admit and complete a client: both refused with this reason, nothing in Redis but the caller's canary moved."""
    world = node.world
    before = world.dump()
    with pytest.raises(error, match=reason):
        node.admit(client)
    assert world.dump() == before
    rosters = world.dump(*ROSTERS)
    with pytest.raises(error, match=reason):
        node.complete(client)
    assert world.dump(*ROSTERS) == rosters


def test_07_in_normal_state(world: World) -> None:
    """There is nothing to reclaim in: NO_GRACE, before any period and after one."""
    n1 = world.node("n1")
    n1.register("b")
    refused(n1, "b", NoGrace, "no_grace")
    n1.start("x")
    n1.run(n1.node.end_grace("operator"))
    refused(n1, "b", NoGrace, "no_grace")


def test_07_a_client_that_has_its_locks_here(world: World) -> None:
    """In a normal scope and in a period: `already`, that is, there is nothing to reclaim; and nothing changes."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    for active in (False, True):
        if active:
            n1.start("x")
        before = world.dump()
        with pytest.raises(ReclaimRefused, match="already"):
            n1.admit("a")
        assert world.dump() == before
        rosters = world.dump(*ROSTERS)
        assert n1.complete("a").repeated
        assert world.dump(*ROSTERS) == rosters
        assert n1.view_of("a").lock_count == 1


def test_07_after_ones_own_completion(world: World) -> None:
    """A second admission is refused as `already`; a second completion is a success that changes no roster."""
    n1 = world.node("n1")
    n1.start("a", "b")
    n1.reclaim("a")
    before = world.dump()
    with pytest.raises(ReclaimRefused, match="already"):
        n1.admit("a")
    assert world.dump() == before
    rosters = world.dump(*ROSTERS)
    again = n1.complete("a")
    assert (again.repeated, again.remaining, again.closing) == (True, 1, False)
    assert world.dump(*ROSTERS) == rosters


def test_07_a_stranger(world: World) -> None:
    """Registered here, on no roster: NOT_EXPECTED, and it must lock anew after the period."""
    n1 = world.node("n1")
    n1.start("a")
    n1.register("stranger")
    refused(n1, "stranger", ReclaimRefused, "not_expected")


@pytest.mark.parametrize("ask", ["admit", "complete"])
def test_07_registered_elsewhere_or_nowhere(world: World, ask: str) -> None:
    """A node that has not heard of it: its client moved (MOVED), or moved and was released (UNKNOWN)."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.start("a", "b", "c")
    world.settle()
    for client, reason in (("a", "moved"), ("b", "unknown")):
        n1.register(client)
        stale = n1.node.registry.get(client.encode())
        assert stale is not None
        n2.register(client)
        if reason == "unknown":
            n2.unregister(client)
            n2.run(n2.node.end_grace("test"))  # what is on a roster is not freed before the period's end
            world.settle()
            world.pass_time(1)
            assert (client, "forfeited") in [*n1.released(), *n2.released()]
            n1.node.registry.put(stale)
        before = world.dump(*ROSTERS)
        with pytest.raises(RegistrationRefused, match=reason):
            getattr(n1, ask)(client)
        assert world.dump(*ROSTERS) == before
        assert n1.node.registry.get(client.encode()) is None, "what it served for that client is over"


@pytest.mark.parametrize("principal", ["mallory", None])
def test_07_with_another_principal(world: World, principal: str | None) -> None:
    """While the old registration or right exists nobody else, and nobody unnamed, can take them over."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a", principal="alice")
    n1.lock("a")
    for in_grace in (False, True):
        if in_grace:
            n1.crash()
            world.pass_time(LAPSE)
            assert n2.view().in_force
        before = world.dump(*ROSTERS, "client", "clients")
        with pytest.raises(RegistrationRefused, match="principal"):
            n2.register("a", principal=principal)
        assert world.dump(*ROSTERS, "client", "clients") == before
    n2.register("a", principal="alice")
    n2.admit("a").confirm()
    n2.complete("a")


def test_07_a_changed_verifier_while_last_pending_closes_the_period_in_that_call(world: World) -> None:
    """Not before the last one: each rebooted client gives up its own right, and the last of them closes."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    for client in ("a", "b"):
        n1.register(client, verifier="boot-1")
        n1.lock(client)
    n1.crash()
    world.pass_time(LAPSE)
    assert n2.view().in_force
    n2.register("a", verifier="boot-2")
    refused(n2, "a", ReclaimRefused, "not_expected")
    assert n2.view().waiting_for == ("b",)
    n2.register("b", verifier="boot-2")
    assert n2.node.lease.view.closing, "in that very reply"
    world.settle()
    assert n3.view().state is GraceState.NORMAL
    assert sorted(n2.released()) == [("a", "rebooted"), ("b", "rebooted")]


@pytest.mark.parametrize("verifier", ["boot-1", None])
def test_07_the_same_verifier_or_none_keeps_the_right(world: World, verifier: str | None) -> None:
    """Only a verifier that is known to differ says that the client has rebooted."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a", verifier="boot-1")
    n1.lock("a")
    n1.crash()
    world.pass_time(LAPSE)
    n2.register("a", verifier=verifier)
    n2.admit("a").confirm()
    assert not n2.complete("a").repeated


@pytest.mark.parametrize("lost", [1, 2])
def test_07_the_last_completions_reply_is_lost_and_the_retry_succeeds(world: World, lost: int) -> None:
    """With two nodes the first attempt closes: the retry is a success that says so, and closes no second time."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.start("a")
    world.settle()
    n1.register("a")
    n1.admit("a").confirm()
    (outcome,) = faulty(n1, n1.node.complete([b"a"]), *[LOST] * lost)
    assert isinstance(outcome, ReclaimOutcome)
    assert (outcome.repeated, outcome.remaining, outcome.closing, outcome.lifted) == (True, 0, True, False)
    world.settle()
    assert n2.view().state is GraceState.NORMAL
    kinds = world.events()
    assert (kinds.count("closing"), kinds.count("lift")) == (1, 1)
    assert n1.check().allowed


def test_07_the_retry_succeeds_after_the_lift_too(world: World) -> None:
    """No reply came at all, and the period was lifted since: completing again is a success and changes no roster."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.start("a")
    world.settle()
    n1.register("a")
    n1.admit("a").confirm()
    with pytest.raises(OutcomeUnknown):
        faulty(n1, n1.node.complete([b"a"]), LOST, LOST, LOST)
    world.settle()
    assert n2.view().state is GraceState.NORMAL
    rosters = world.dump(*ROSTERS)
    again = n1.complete("a")
    assert (again.repeated, again.remaining, again.closing, again.lifted) == (True, 0, False, False)
    assert world.dump(*ROSTERS) == rosters
    assert world.redis.hkeys(world.key("holders", n1.owner)) == [b"a"]


def test_07_the_only_node_loses_the_reply_that_lifted(world: World) -> None:
    """Its completion closed: the retry is a success, whose second round trip lifts all the same."""
    n1 = world.node("n1")
    n1.start("a")
    n1.register("a")
    n1.admit("a").confirm()
    (outcome,) = faulty(n1, n1.node.complete([b"a"]), LOST)
    assert isinstance(outcome, ReclaimOutcome)
    assert (outcome.repeated, outcome.lifted) == (True, False), "the lift is told once"
    assert n1.check().allowed
    assert n1.view().state is GraceState.NORMAL
    world.settle()
    assert [(period.epoch, period.reclaimed) for period in n1.periods] == [(1, 1)]


def test_07_refused_before_the_barrier_is_not_final(world: World) -> None:
    """A client of the roster that asks before the period is in force is told to wait, and its right stays."""
    n1, _ = world.node("n1"), world.node("n2")
    n1.start("a")
    n1.register("a")
    refused(n1, "a", BarrierPending, "has to wait")
    world.settle()
    n1.admit("a").confirm()
