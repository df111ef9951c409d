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
    entries = [entry for name in names if (entry := node.node.registry.get(name.encode())) is not None]
    assert len(entries) == len(names)
    for first in range(0, len(entries), 100):
        batch = [(entry.client, entry.generation) for entry in entries[first : first + 100]]
        node.run(node.node.ask(lambda head, batch=batch: clients.hold(node.node.meta, head, batch)))  # type: ignore[misc]
    for entry in entries:
        entry.holder, entry.lock_count = True, 1


def test_26_a_node_dies_with_1000_clients(world: World) -> None:
    """Holders and others, some deferred, some moved before, some reclaimed or reconnected elsewhere, some too late."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    register_all(n1, CLIENTS, ttl=30)
    hold_all(n1, HOLDERS)
    register_all(n2, MOVED_HOLDERS + MOVED_IDLE)
    world.settle()
    assert {move.client_id for move in n1.moves} == set(MOVED_HOLDERS + MOVED_IDLE)
    assert n1.metric("coordinator_yields_total") == len(MOVED_HOLDERS), "asked for those that have locks there"
    leaving = AWAY_HOLDERS + AWAY_IDLE
    n1.run(n1.node.unregister([(name.encode(), 0) for name in leaving]))
    upto = {name: n1.view_of(name).generation for name in CLIENTS}
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
    assert all(release.generation == upto[release.client_id] for node in (n2, n3) for release in node.releases)

    there = {name.encode() for name in STAYED_ELSEWHERE | set(LATE)}
    assert world.redis.smembers(world.key("adapter", "nfs")) == there, "the late ones' new registrations stay"
    assert {name: owner for name, (owner, _) in world.rights().items()} == dict.fromkeys(
        MOVED_HOLDERS + RECLAIMED, n2.owner
    )
    for kind in ("due", "releases", "orphans", "wanted"):
        assert world.dump(kind) == {}, kind
    world.pass_time(40)
    assert Counter(all_released(world)) == done
