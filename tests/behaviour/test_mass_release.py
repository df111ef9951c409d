"""Scenario 26: a node dies with 1,000 clients; nothing is released before grace ends, then each non-mover once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from coordinator import GraceState
from coordinator.protocol import clients
from coordinator.protocol.call import BATCH_MAX
from tests.world import all_released

if TYPE_CHECKING:
    from tests.world import Player, World

LAPSE = 9.5
CLIENTS = [f"c{i}" for i in range(1000)]
HOLDERS = CLIENTS[:400]
MOVED_HOLDERS, RECLAIMED, LATE, AWAY_HOLDERS = HOLDERS[:50], HOLDERS[50:150], HOLDERS[150:160], HOLDERS[380:]
MOVED_IDLE, RECONNECTED, AWAY_IDLE = CLIENTS[400:450], CLIENTS[450:500], CLIENTS[980:]
STAYED_ELSEWHERE = set(MOVED_HOLDERS + RECLAIMED + MOVED_IDLE + RECONNECTED)


def register_all(node: Player, names: list[str], ttl: float = 0.0) -> None:
    """Connect clients, 200 a round trip."""
    for first in range(0, len(names), BATCH_MAX):
        batch = names[first : first + BATCH_MAX]
        node.run(node.node.register([node.node.registering(name, "nfs", "", ttl, None, None) for name in batch]))


def hold_all(node: Player, names: list[str]) -> None:
    """Give clients their first lock, 100 a round trip."""
    entries = [node.node.registry.get(name.encode()) for name in names]
    for first in range(0, len(names), 100):
        batch = [entry for entry in entries[first : first + 100] if entry is not None]
        pairs = [(entry.client, entry.generation) for entry in batch]
        node.run(node.node.ask(lambda head, p=pairs: clients.hold(node.node.meta, head, p)))  # type: ignore[misc]
        for entry in batch:
            entry.holder = True


def test_26_a_node_dies_with_1000_clients(world: World) -> None:
    """Holders and others, some deferred, some moved before, some reclaimed or reconnected elsewhere, some too late."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    register_all(n1, CLIENTS, ttl=30)
    hold_all(n1, HOLDERS)
    register_all(n2, MOVED_HOLDERS + MOVED_IDLE)
    hold_all(n2, MOVED_HOLDERS)
    world.settle()
    leaving = AWAY_HOLDERS + AWAY_IDLE
    n1.run(n1.node.unregister([(name.encode(), 0) for name in leaving]))
    newest = max(n1.view_of(name).generation for name in (HOLDERS[-1], CLIENTS[-1]))
    n1.crash()
    world.pass_time(LAPSE)
    assert n2.view().in_force
    register_all(n2, RECLAIMED + LATE)
    register_all(n3, RECONNECTED)
    for client in RECLAIMED:
        n2.admit(client).confirm()
    n2.run(n2.node.complete([client.encode() for client in RECLAIMED]))
    assert n2.view().expected_clients == len(HOLDERS) - len(MOVED_HOLDERS)

    while n2.view().state is GraceState.ACTIVE:
        # Only who had left by itself, without a right: its time came, and there is nothing that it could reclaim.
        assert set(all_released(world)) <= {(name, "disconnect") for name in AWAY_IDLE}, "before the period ended"
        world.jump(2)
        world.settle()
    world.pass_time(5)

    done = Counter(all_released(world))
    assert set(done.values()) == {1}, "each once"
    forfeited = set(HOLDERS) - STAYED_ELSEWHERE
    expected = {(name, "forfeited") for name in forfeited}
    idle = set(CLIENTS) - set(HOLDERS) - STAYED_ELSEWHERE
    expected |= {(name, "disconnect" if name in AWAY_IDLE else "orphaned") for name in idle}
    assert set(done) == expected
    assert all(release.generation <= newest for node in (n2, n3) for release in node.releases)

    there = {name.encode() for name in STAYED_ELSEWHERE | set(LATE)}
    assert world.redis.smembers(world.key("adapter", "nfs")) == there, "the late ones' new registrations stay"
    assert set(world.redis.hkeys(world.key("holders", n2.owner))) == {
        name.encode() for name in MOVED_HOLDERS + RECLAIMED
    }
    for kind in ("due", "releases", "wanted", "orphans"):
        assert world.dump(kind) == {}, kind
    world.pass_time(40)
    assert Counter(all_released(world)) == done
