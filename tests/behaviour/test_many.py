"""Scenario 34 and what goes with it: many clients at once cost neither a long script nor a heartbeat."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import redis

from coordinator.api.shared import only
from coordinator.embedded import Server
from coordinator.protocol import clients, grace, nodes, releases, script
from coordinator.protocol.call import BATCH_MAX, CHANGE_MAX
from tests import acl
from tests.held import Held
from tests.keyspace import leaks
from tests.orders import LAPSE, in_time
from tests.population import register, register_holders
from tests.world import World, all_released

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coordinator.protocol import Call, Head
    from tests.world import Player

FEW, MANY, MOVING = 100, 20_000, 50
BATCHES = 15
ROUND_TRIP = 0.35
"""Seconds; so that all batches take longer than a lease is valid, and less than a claim."""


@pytest.fixture
def server(server_binary: str) -> Iterator[tuple[redis.Redis, redis.Redis]]:
    """Give clients of a server whose statistics are only of this test's doing: an administrator's, the product's."""
    with Server(server_binary) as made:
        admin = redis.Redis.from_url(made.url, protocol=2)
        for name in script.names():
            admin.script_load(script.load(name).source)
        with acl.as_shipped(admin, made.url) as url:
            product = redis.Redis.from_url(url, protocol=2)
            yield admin, product
            product.close()
        admin.close()


def failover(client: redis.Redis, product: redis.Redis, size: int) -> dict[str, Counter[str]]:
    """Let a node die with so many holders; return the commands that each step of the failover executes."""
    world = World(client, f"{acl.RUN}.with{size}", product)
    world.settings = replace(world.settings, max_connections=2 * MANY)
    home, player = world.node("home"), world.node("other")
    ids = [b"client-%d" % i for i in range(size)]
    register_holders(home.node, home.run, ids)
    home.crash()
    for _ in range(int(LAPSE)):
        world.jump(1)
        player.run(player.node.renew())
    node, key, executed = player.node, player.node.meta, {}

    def step(name: str, build: Callable[[Head], Call[Any]]) -> Any:
        client.config_resetstat()
        reply = world.run(call := build(node.lease.head(node.now())))
        stats: Any = client.info("commandstats")
        executed[name] = Counter({command[8:]: figures["calls"] for command, figures in stats.items()})
        return call.result(reply)

    moving = [node.registering(client, "nfs", "", 0.0, None, None) for client in ids[:MOVING]]
    adapters = node.settings.adapters
    step("evict", lambda head: nodes.evict(key, head, home.owner))
    step("renew", lambda head: nodes.renew(key, head, 10**9))
    step("register", lambda head: clients.register(key, head, moving))
    step("admit", lambda head: grace.admit(key, head, ids[0]))
    outcomes = step("complete", lambda head: grace.complete(key, head, ids[:MOVING]))
    assert outcomes[0].remaining == size - MOVING
    step("view", lambda head: nodes.view(key, head, adapters))
    step("end", lambda head: grace.end(key, head, 0, b"test"))
    step("ack and lift", lambda head: grace.advance(key, head, 10**9))
    assert step("view, normal", lambda head: nodes.view(key, head, adapters)).last[4:] == (
        str(MOVING),
        str(size - MOVING),
    )
    step("drain", lambda head: releases.drain(key, head, 40))
    _, claims = step("claim", lambda head: releases.claim(key, head, 40, 10_000, 0))
    step("ack", lambda head: releases.ack(key, head, claims[:1], adapters))
    world.close()
    assert not leaks(client, world.settings.namespace)
    return executed


def test_34_the_work_of_each_script_does_not_grow_with_the_holders(
    server: tuple[redis.Redis, redis.Redis],
) -> None:
    """A failover with 20,000 holders executes the very commands of one with 100; none reads a set of clients whole.

    That SMEMBERS is of owners only is a contract test's to show (test_no_set_of_clients_is_read_whole).
    """
    few, many = failover(*server, FEW), failover(*server, MANY)
    assert all(commands["evalsha"] == 1 for commands in many.values())
    assert many == few
    assert not {"sunion", "sdiff", "hgetall", "keys", "scan", "sscan"} & set().union(*many.values())


@pytest.mark.parametrize(("count", "trips", "touches"), [(50, 1, 1), (51, 2, 1), (200, 4, 1), (201, 5, 2)])
def test_34_many_go_by_the_batch(
    world: World, monkeypatch: pytest.MonkeyPatch, count: int, trips: int, touches: int
) -> None:
    """Of the calls on many clients those that change much of each send 50 of them in one call, a touch 200."""
    player = world.node("n1")
    player.callback = False
    face, run, sent = Held(player), world.channel.run, []

    def counted(call: Call[Any]) -> Any:
        sent.append(call.script.name)
        return run(call)

    monkeypatch.setattr(world.channel, "run", counted)
    ids = [f"client-{i}" for i in range(count)]
    given = [{"client": client, "adapter": "nfs"} for client in ids]

    async def main() -> None:
        node = face.face
        for many in (
            node.clients.register_many(given),
            node.clients.touch_many(ids),
            node.grace.complete_reclaim_many(ids),
            node.clients.unregister_many(ids),
        ):
            assert len(await face.all_answered(many)) == count

    asyncio.run(main())
    scripts = (("client_register", trips), ("client_touch", touches), ("reclaim_complete", trips))
    assert sent == [name for name, times in (*scripts, ("client_unregister", trips)) for _ in range(times)]


def yields(player: Player) -> Callable[[], object]:
    """Have every client asked for by another node."""
    player.node.wanted |= dict.fromkeys(player.node.registry._entries, "yield")
    return lambda: player.node.wanted


def drops(player: Player) -> Callable[[], object]:
    """Have every client's right left over."""
    for entry in list(player.node.registry._entries.values()):
        entry.unsure = True
        player.node.registry.end_turn(entry.client)
    return lambda: player.node.registry._left_over


def due_releases(player: Player) -> Callable[[], object]:
    """Have every client released, by workers that are done at once."""
    done: list[Any] = []
    player.node.on_claims = lambda claims, _: done.extend(claims)
    player.node.claims_releases = False
    pairs = [(client, 0) for client in player.node.registry._entries]
    player.run(player.node.in_batches(pairs, player.node.unregister))
    player.node.claims_releases = True
    player.node.due_at(player.node.lease.clock_ms)
    return lambda: len(done) < len(pairs)


@pytest.mark.parametrize("much", [yields, drops, due_releases])
def test_34_the_heartbeat_goes_before_any_amount_of_duties(
    world: World, monkeypatch: pytest.MonkeyPatch, much: Callable[[Player], Callable[[], object]]
) -> None:
    """Thousands of clients to look after, slowly: the lease never lapses, and all of it gets done."""
    n1 = world.node("n1")
    register(n1.node, n1.run, [b"client-%d" % i for i in range(BATCHES * BATCH_MAX)])
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
    world.pass_time(LAPSE)
    n2.reclaim("late")
    kinds = Counter(world.events())
    assert kinds["moved"] == 1
    assert kinds["evicted"] == 1


def test_45_many_move_from_a_live_node_in_batches_while_heartbeats_go_on(world: World) -> None:
    """Each round trip takes time; no lease lapses, each client is taken once, and places are exact at every moment."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    ids = [b"client-%d" % i for i in range(1_000)]
    register_holders(n1.node, n1.run, ids)
    for client in ids:
        entry = n1.node.registry.get(client)
        assert entry is not None
        entry.holder, entry.lock_count = True, 1
    left: list[float] = []

    def slowly(player: Player) -> Callable[[Call[Any]], Any]:
        send = player.send

        def sent(call: Call[Any]) -> Any:
            reply = send(call)
            world.jump(0.01)
            left.append(min(node.node.lease.remaining(world.time) for node in world.nodes))
            return reply

        return sent

    for node in world.nodes:
        node.send = slowly(node)  # type: ignore[assignment,method-assign]
    for first in range(0, len(ids), CHANGE_MAX):
        to = (n2, n3)[first // CHANGE_MAX % 2]
        items = [to.node.registering(client, "nfs", "", 0.0, None, None) for client in ids[first : first + CHANGE_MAX]]
        answers: list[Any] = in_time(to, to.node.register(items))
        for answer in answers:
            assert only([answer]).holder
        assert world.redis.scard(world.key("adapter", "nfs")) == len(ids)
        assert len(world.rights()) == len(ids)
        world.settle(1)
    world.settle()
    assert min(left) > world.settings.heartbeat_seconds
    assert Counter(owner for owner, _ in world.rights().values()) == {n2.owner: 500, n3.owner: 500}
    assert Counter(move.client_id for move in n1.moves) == Counter(client.decode() for client in ids)
    assert n1.node.registry.counts() == {"nfs": 0}
    assert not world.redis.exists(world.key("clients", n1.owner), world.key("wanted", n1.owner), world.key("due"))
    assert list(all_released(world)) == []
