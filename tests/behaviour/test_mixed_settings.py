"""Nodes whose grace, margin or lease differ, as they do while a setting is rolled out: each one's own figure counts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.world import Player, World


def node(world: World, name: str, **figures: float) -> Player:
    """Let a node with figures of its own join."""
    given: dict[str, Any] = {f"{figure}_seconds": value for figure, value in figures.items()}
    return world.node(name, settings=replace(world.settings, **given))


def holder(player: Player, client: str) -> None:
    """Let a client lock there."""
    player.register(client)
    player.lock(client)


def time_to_reclaim(world: World) -> int:
    """Return for how many ms the present period is in force."""
    fields = str(world.redis.hget(world.key("meta"), "view"), "ascii").split(" ")  # type: ignore[arg-type]
    start, end = int(fields[4]), int(fields[6])
    assert start > 0
    return end - start


def test_05_a_longer_grace_that_joins_before_the_barrier_makes_the_period_longer(world: World) -> None:
    """Two nodes leave, the one of the longer grace before the period is in force: its clients get all of it."""
    first, second, third = node(world, "n1", grace=20), node(world, "n2", grace=35), node(world, "n3", grace=20)
    holder(first, "a")
    holder(second, "b")
    first.leave()
    second.leave()
    assert third.view().epoch == 1
    assert not third.view().in_force
    third.tick()
    assert time_to_reclaim(world) == 35_000


def test_05_the_grace_of_a_lost_owner_is_its_own(world: World) -> None:
    """A node with a short grace evicts one with a long one: the dead node's clients get what it had promised them."""
    n1, n2 = node(world, "n1", grace=50), node(world, "n2", grace=20)
    holder(n1, "a")
    n1.crash()
    world.pass_time(9.5)
    assert n2.view().in_force
    assert time_to_reclaim(world) == 50_000


def test_13_a_member_holds_up_the_barrier_for_the_margin_that_is_its_own(world: World) -> None:
    """A silent node may grant for as long as its own margin allows, however short that of the node that waits is."""
    n1, n2 = node(world, "n1", barrier_margin=5), node(world, "n2", barrier_margin=2.5)
    n1.alive = False
    n2.start("a")
    lease_end: Any = world.redis.zscore(world.key("members"), n1.owner)
    world.reach(int(lease_end) + 5000)
    n2.run(n2.node.renew())
    assert n2.view().waiting_for == (n1.owner,)
    assert not n2.view().in_force
    world.jump(0.001)
    n2.run(n2.node.renew())
    assert n2.view().in_force


def test_14_a_member_is_given_the_lease_that_is_its_own(world: World) -> None:
    """Whoever asks: the node with the longer lease is not evicted when the shorter one would be over."""
    n1, n2 = node(world, "n1", lease=12, validity=10), node(world, "n2")
    holder(n1, "a")
    n1.crash()
    world.pass_time(12 + 2.5 - 1)
    assert n2.view().epoch == 0
    world.pass_time(2)
    assert n2.view().in_force


def test_14_a_member_of_a_long_lease_bounds_the_start_of_everybodys_period(world: World) -> None:
    """The cap leaves room for 2L + M of the slowest member, and then for twice the grace of who died."""
    n1, n2, n3 = node(world, "n1", grace=20), node(world, "n2"), node(world, "n3", lease=30, validity=28)
    holder(n1, "a")
    n3.alive = False
    n1.leave()
    view = n2.node.lease.view if n2.view().epoch == 1 else None
    assert view is not None
    started = int(world.redis.hget(world.key("grace"), "started") or 0)
    assert view.cap_ms - started == 2 * 30_000 + 2500 + 2 * 20_000
