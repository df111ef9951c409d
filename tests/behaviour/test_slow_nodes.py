"""Scenario 14: a member that never acks holds up a barrier for 2L + M at the most, and is named meanwhile.

The node that waits looks every STEP; a node at work, at each heartbeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coordinator import GraceState
from coordinator.protocol import Head, nodes
from coordinator.protocol.call import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.world import Player, World

LEASE, MARGIN = 6000, 2500
STEP, STEP_MS = 0.1, 100
BOUND = 60_000
"""Ms of the scope clock after which a wait has failed."""


class Hung:
    """A node that renews and never acks again: its heartbeat runs, what should switch its view does not."""

    def __init__(self, player: Player) -> None:
        """Stop at the revision that it has acked so far."""
        self.player, self.acked = player, player.node.lease.acked
        player.alive = False

    def renew(self) -> bool:
        """Renew; tell whether the lease was extended."""
        node, world = self.player.node, self.player.world
        call = nodes.renew(node.meta, node.lease.head(node.now()), self.acked)
        reply = world.run(call)
        node.lease.observe(call.head, reply, node.now())
        return call.parse(reply).extended


def barrier_passes(n1: Player, missing: str, passed: Callable[[], bool], meanwhile: Callable[[], object]) -> int:
    """Return how many ms of the scope clock n1 waits; at each moment the view names who is missing."""
    world = n1.world
    started = world.clock
    while world.clock < started + BOUND:
        world.jump(STEP)
        meanwhile()
        n1.run(n1.node.renew())
        if passed():
            return world.clock - started
        assert n1.view().waiting_for == (missing,)
    pytest.fail("it is held up")


@pytest.mark.parametrize("hung", [False, True], ids=["silent", "hung"])
def test_14_n3_never_acks_the_start(world: World, hung: bool) -> None:  # noqa: FBT001  (a parameter of the test)
    """In force within L + M if it is silent, within 2L + M if it goes on renewing."""
    n1, n3 = world.node("n1"), world.node("n3")
    stuck = Hung(n3)
    n1.start("a")
    n1.register("a")
    extended = []
    waited = barrier_passes(
        n1,
        n3.owner,
        lambda: n1.node.lease.view.in_force,
        (lambda: extended.append(stuck.renew())) if hung else lambda: None,
    )
    n1.admit("a").confirm()
    if not hung:
        assert waited <= LEASE + MARGIN + STEP_MS
        return
    assert 2 * LEASE + MARGIN - STEP_MS <= waited <= 2 * LEASE + MARGIN + STEP_MS
    assert extended.index(False) == LEASE * STEP // 10, "not extended any more, once its ack is overdue by a lease"
    assert not any(extended[60:])


@pytest.mark.parametrize("hung", [False, True], ids=["silent", "hung"])
def test_14_n3_never_acks_the_close(world: World, hung: bool) -> None:  # noqa: FBT001  (a parameter of the test)
    """The same bounds hold for the lift; nobody is granted a new lock before it."""
    n1, n3 = world.node("n1"), world.node("n3")
    n1.start("a")
    world.settle()
    stuck = Hung(n3)
    assert n1.reclaim("a").closing
    refused = []

    def meanwhile() -> None:
        refused.append(n1.check().allowed)
        if hung:
            stuck.renew()

    waited = barrier_passes(n1, n3.owner, lambda: n1.node.lease.view.state is GraceState.NORMAL, meanwhile)
    assert not any(refused)
    assert waited <= (2 if hung else 1) * LEASE + MARGIN + STEP_MS
    assert n1.check().allowed


def test_14_an_ack_at_last_is_extended_again(world: World) -> None:
    """A node that was only slow acks: the barrier passes at once, and its lease is extended as before."""
    n1, n3 = world.node("n1"), world.node("n3")
    stuck = Hung(n3)
    n1.start("a")
    for _ in range(round(LEASE / 1000 / STEP) + 1):
        world.jump(STEP)
        extended = stuck.renew()
        n1.run(n1.node.renew())
    assert not extended
    stuck.acked = n1.node.lease.view.revision
    assert stuck.renew()
    n1.run(n1.node.renew())
    assert n1.node.lease.view.in_force


@pytest.mark.parametrize("barrier", ["start", "close"])
def test_14_a_crash_loop_does_not_hold_it_up(world: World, barrier: str) -> None:
    """Every 3 s n3 joins as a new incarnation and dies before its first renewal: it counts as acked from its birth."""
    n1 = world.node("n1")
    lives: list[str] = []
    if barrier == "close":
        n1.start("a")
    began = world.clock

    def crash_and_restart() -> None:
        if world.clock - began < 3000 * len(lives):
            return
        head = Head(OPERATOR, n1.node.now())
        boot, settings = f"boot {len(lives)}", world.settings
        call = nodes.join(n1.node.meta, head, "n3", boot, "d", settings, "v", predecessor_dead=False)
        lives.append(f"n3:{call.parse(world.run(call)).incarnation}")

    crash_and_restart()
    if barrier == "close":
        assert n1.reclaim("a").closing
    else:
        n1.start("a")

    def passed() -> bool:
        state = n1.node.lease.view
        return state.state is GraceState.NORMAL if barrier == "close" else state.in_force

    waited = barrier_passes(n1, lives[0], passed, crash_and_restart)
    assert waited <= LEASE + MARGIN + STEP_MS
    assert len(lives) == 3
