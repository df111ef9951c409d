"""How long each phase of a recovery took, as the metrics of the nodes that heard of it show it: by the scope clock."""

from __future__ import annotations

from typing import Any

import pytest

from tests.world import Player, World

PHASES = ("detect", "enforce", "reclaim", "lift")


def holder(player: Player, client: str) -> None:
    """Let a client hold a lock."""
    player.register(client)
    player.lock(client)


def phases(player: Player) -> dict[str, float | None]:
    """Return how long each phase took that was observed; each at most once."""
    counts = {phase: player.metric("coordinator_failover_seconds_count", phase=phase) for phase in PHASES}
    assert set(counts.values()) <= {0, 1}
    return {
        phase: player.metric("coordinator_failover_seconds_sum", phase=phase) for phase in PHASES if counts[phase] == 1
    }


def barriers(player: Player) -> tuple[float | None, float | None]:
    """Return how many barriers there were and how long they took together."""
    return player.metric("coordinator_barrier_seconds_count"), player.metric("coordinator_barrier_seconds_sum")


def hear(*players: Player) -> None:
    """Let nodes hear what happened and do what follows."""
    for player in players:
        player.listen()
        player.tick()


def recover(world: World, client: str, by: Player, others: list[Player]) -> None:
    """From the start, which `by` knows of: 0.3 s to force, 2 s to the reclaim, 0.2 s to the lift."""
    world.jump(0.3)
    hear(*others, by)
    world.pass_time(2)
    by.reclaim(client)
    world.jump(0.2)
    hear(*others, by)
    world.settle()


def silence(world: World, *lost: Player) -> None:
    """Let nodes crash and just so much time pass that they can be evicted; the others renew, and evict nobody yet."""
    for player in lost:
        player.run(player.node.renew())
        player.crash()
    for step in (2, 2, 2, 2, 0.6):  # 8.6 s in all: more than lease and margin
        world.jump(step)
        for player in world.nodes:
            if player.alive:
                player.run(player.node.renew())


def test_each_phase_of_a_failover_is_measured_exactly(world: World) -> None:
    """From the last renewal of the lost node to the lift, by the scope clock, once at each node that heard it."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    holder(n1, "a")
    silence(world, n1)
    n2.run(n2.node.evict([n1.owner]))
    recover(world, "a", n2, [n3])
    for node in (n2, n3):
        assert phases(node) == pytest.approx({"detect": 8.6, "enforce": 0.3, "reclaim": 2.0, "lift": 0.2})
        assert barriers(node) == pytest.approx((2, 0.5))
    assert phases(n1) == {}


def test_a_second_lost_node_joins_the_epoch_and_is_not_counted_again(world: World) -> None:
    """One epoch is observed once, from the loss that started it."""
    n1, n2, n3, n4 = (world.node(f"n{i}") for i in (1, 2, 3, 4))
    holder(n1, "a")
    holder(n2, "b")
    silence(world, n1, n2)
    n3.run(n3.node.evict([n2.owner, n1.owner]))
    world.jump(0.1)
    hear(n4, n3)
    n3.reclaim("a")
    n3.reclaim("b")
    world.settle()
    assert phases(n4) == pytest.approx({"detect": 8.6, "enforce": 0.1, "reclaim": 0, "lift": 0})


def test_each_epoch_is_measured_anew(world: World) -> None:
    """A second failover is observed as the first was; events that are read again add nothing."""
    n1, n2 = world.node("n1"), world.node("n2")
    for lost in (n1, world.node("n3")):
        holder(lost, "a")
        silence(world, lost)
        world.settle()
        for _ in range(2):
            n2.cursor = "0-0"
            n2.listen()
        n2.reclaim("a")
        n2.unlock("a")
        n2.run(n2.node.drop(b"a"))
        world.settle()
    for phase in PHASES:
        assert n2.metric("coordinator_failover_seconds_count", phase=phase) == 2
    assert n2.metric("coordinator_failover_seconds_sum", phase="detect") == pytest.approx(17.2)
    assert n2.metric("coordinator_failover_seconds_sum", phase="reclaim") == 0
    assert barriers(n2) == (4, 0)


def test_a_hand_off_needs_no_detection(world: World) -> None:
    """A planned failover is measured from the leave on."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    holder(n1, "a")
    n1.leave()
    recover(world, "a", n2, [n3])
    assert phases(n3) == pytest.approx({"enforce": 0.3, "reclaim": 2.0, "lift": 0.2})


def test_a_predecessor_that_is_stated_dead_is_detected_by_its_last_renewal(world: World) -> None:
    """The join ends its lease early; what is observed is still how long it was silent."""
    old, n2 = world.node("n1"), world.node("n2")
    holder(old, "a")
    old.run(old.node.renew())
    old.crash()
    world.jump(1.5)
    new = world.node("n1", dead=True)
    world.settle()
    assert phases(new) == {"detect": 1.5, "enforce": 0}
    assert phases(n2)["detect"] == 1.5


def test_a_leave_that_had_to_wait_is_detected_by_its_last_renewal(world: World) -> None:
    """Left while a period closed: a member with a lapsed lease until the lift, evicted into an epoch of its own."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    holder(n1, "a")
    n2.start("z")
    world.settle()
    n1.run(n1.node.renew())
    n2.run(n2.node.end_grace("test"))
    assert n3.view().closing
    world.jump(0.7)
    n1.leave()
    world.jump(0.5)
    world.settle()
    assert n3.view().epoch == 2
    assert phases(n3) == {"detect": 1.2, "enforce": 0}


def test_a_period_of_another_cause_has_barriers_and_no_failover(world: World) -> None:
    """A restored roster's period is none, whatever its reason says, and although a lost node joins it."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    holder(n1, "a")
    silence(world, n1)
    epoch = n2.run(n2.node.open_roster("wait", "node lost"))
    n2.run(n2.node.bring_roster(epoch, [b"z"], [], "wait", "node lost"))
    n2.run(n2.node.evict([n1.owner]))
    world.jump(0.3)
    hear(n3, n2)
    n2.reclaim("a")
    n2.reclaim("z")
    world.jump(0.2)
    hear(n3, n2)
    world.settle()
    assert n2.view().epoch == 1
    for node in (n2, n3):
        assert phases(node) == {}
        assert barriers(node) == pytest.approx((2, 0.5))


def test_what_was_not_heard_is_not_observed(world: World) -> None:
    """A node that missed the event between two phases, or joined within one, leaves both out and guesses nothing."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    holder(n1, "a")
    silence(world, n1)
    n2.run(n2.node.evict([n1.owner]))
    hear(n3, n2)  # it is in force, which n3 has not heard
    assert n2.view().in_force
    entries: Any = world.redis.xrevrange(world.key("events"), count=1)
    n3.cursor = entries[0][0].decode()
    n4 = world.node("n4")
    n2.reclaim("a")
    world.settle()
    assert set(phases(n2)) == {*PHASES}
    assert set(phases(n3)) == {"detect", "lift"}
    assert phases(n4) == {}
    assert barriers(n3)[0] == barriers(n4)[0] == 1
