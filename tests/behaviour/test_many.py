"""Scenario 34 and what goes with it: many clients at once cost neither a long script nor a heartbeat."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from coordinator.calls.base import BATCH_MAX, CHANGE_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.world import Player, World

BATCHES = 15
ROUND_TRIP = 0.35
"""Seconds; so that all batches take longer than a lease is valid, and less than a claim."""


def register(player: Player, count: int) -> list[bytes]:
    """Register clients in batches."""
    ids = [b"client-%d" % i for i in range(count)]
    items = [player.node.registering(one, "nfs", "", 0.0, None, None) for one in ids]
    player.run(player.node.in_batches(items, player.node.register))
    return ids


def an_audit(player: Player) -> Callable[[], object]:
    """Have events missed."""
    player.node.must_audit = True
    return lambda: player.keeper._unaudited


def moves(player: Player) -> Callable[[], object]:
    """Have every client moved away."""
    player.node.to_drop += [(entry.client, entry.generation) for entry in player.node.memory._entries.values()]
    return lambda: player.node.to_drop


def due_releases(player: Player) -> Callable[[], object]:
    """Have every client released, by workers that are done at once."""
    done: list[Any] = []
    player.node.on_claims = lambda claims, _: done.extend(claims)
    player.node.claims_releases = False
    pairs = [(client, 0) for client in player.node.memory._entries]
    player.run(player.node.in_batches(pairs, player.node.unregister))
    player.node.claims_releases = True
    player.node.due_at(player.node.lease.state.clock_ms)
    return lambda: len(done) < len(pairs)


@pytest.mark.parametrize(("much", "batch"), [(an_audit, BATCH_MAX), (moves, BATCH_MAX), (due_releases, CHANGE_MAX)])
def test_34_the_heartbeat_goes_before_any_amount_of_duties(
    world: World, monkeypatch: pytest.MonkeyPatch, much: Callable[[Player], Callable[[], object]], batch: int
) -> None:
    """Thousands of clients to look after, slowly: the lease never lapses, and all of it gets done."""
    n1 = world.node("n1")
    register(n1, BATCHES * batch)
    n1.tick()
    unfinished = much(n1)
    run, left = world.channel.run, []

    def slowly(call: Any) -> Any:
        left.append(n1.node.lease.remaining(world.time))
        assert len(left) < 10 * BATCHES, "it never ends"
        reply = run(call)
        world.jump(ROUND_TRIP)
        return reply

    monkeypatch.setattr(world.channel, "run", slowly)
    n1.node.must_renew = True
    n1.tick()
    assert len(left) > BATCHES
    assert not unfinished()
    assert min(left) > n1.node.settings.heartbeat_seconds


def test_34_the_clients_of_a_dead_node_do_not_flood_the_events(world: World) -> None:
    """Nobody listens to their moves any more: only the first, from a live node, is an event."""
    n1, n2 = world.node("n1"), world.node("n2")
    for client in ("early", "late"):
        n1.register(client)
        n1.lock(client)
    n2.register("early")
    n1.crash()
    world.pass_time(9.5)
    n2.reclaim("late")
    entries: Any = world.redis.xrange(world.key("events"))
    kinds = Counter(fields[b"kind"] for _, fields in entries)
    assert kinds[b"moved"] == 1
    assert kinds[b"evicted"] == 1
