"""Invariant 11: what a scope leaves in Redis."""

from __future__ import annotations

import fakeredis
import pytest

from coordinator import GraceState
from coordinator.protocol.keys import PERMANENT
from tests.keyspace import leaks
from tests.world import World

LAPSE = 9.5


def test_a_scope_whose_clients_and_nodes_have_gone_returns_to_its_permanent_keys(world: World) -> None:
    """Whatever happened to a client, in the end it leaves nothing; a node leaves a record that expires."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    for client in ("reclaims", "misses", "waits", "reboots", "idle", "moves", "revoked"):
        n1.register(client, ttl=5, verifier="boot-1")
        n1.lock(client)
    n1.unlock("idle")
    n2.register("moves")
    n2.lock("moves")
    n1.register("moves")
    n1.unregister("waits")
    n1.crash()
    world.pass_time(LAPSE)
    n2.start("leftover", "comes back")
    n3.start("leftover", "revoked later")
    world.settle()
    assert n3.view().in_force
    n2.reclaim("reclaims")
    n2.reclaim("moves")
    n2.register("comes back", ttl=30)
    n3.register("reboots", verifier="boot-2")
    n3.run(n3.node.revoke(b"revoked"))
    n3.run(n3.node.revoke(b"revoked later"))
    n3.run(n3.node.end_grace("enough"))
    world.settle()
    assert n3.view().state is GraceState.NORMAL

    n2.unregister("comes back")
    n3.register("comes back")
    n3.lock("comes back")
    n2.crash()
    world.pass_time(LAPSE)
    n3.reclaim("reclaims")
    n3.reclaim("moves")
    world.settle()
    assert n3.view().state is GraceState.NORMAL
    for client in ("reclaims", "moves", "reboots", "comes back"):
        n3.unregister(client)
    n3.start("comes", "never comes")
    world.settle()
    n3.reclaim("comes")
    n3.unregister("comes")
    n3.run(n3.node.end_grace("enough"))
    world.pass_time(35)
    n3.leave()

    assert leaks(world.redis, world.settings.namespace) == []
    left = {key.decode() for key in world.redis.scan_iter(world.key("*"))}
    expire = {key for key in left if world.redis.pttl(key) > 0}
    assert left - expire == {world.key(name) for name in PERMANENT}
    assert expire == {world.key("node", node.owner) for node in (n1, n2, n3)}


def test_a_client_whose_record_expired_gives_its_place_back(world: World) -> None:
    """Nobody claimed its release until its record had gone: the acknowledgement frees whatever place it had."""
    n1 = world.node("n1")
    n1.register("a", ttl=1)
    n1.unregister("a")
    world.redis.delete(world.key("client", "a"))
    world.pass_time(2)
    assert n1.released() == [("a", "disconnect")]
    assert leaks(world.redis, world.settings.namespace) == []
    assert not world.redis.exists(world.key("adapter", "nfs"), world.key("clients", n1.owner))


PLANTED = {
    "no key of a scope": ("SET", "odd", 1),
    "is a zset, not a set": ("RENAME", "members", "{lost}"),
    "must not expire": ("PEXPIRE", "meta", 10_000),
    "node:": ("PERSIST", "node:{gone}"),
    "holders:": ("HSET", "holders:{gone}", "c", 1),
    "wanted:": ("HSET", "wanted:{gone}", "c", "gone"),
    "has 2 rights": ("COPY", "holders:{owner}", "{holders}"),
    "clients:": ("SADD", "clients:{gone}", "c"),
    "has b'stranger'": ("SADD", "adapter:nfs", "stranger"),
    "is not due": ("HSET", "releases", "d", "1 revoked - - -"),
    "but nothing else": ("ZADD", "due", 1, "d"),
    "release of b'd' is b'": ("HSET", "releases", "d", "revoked"),
    "no roster is open": ("SADD", "ended", "c"),
    "outside of a period": ("SADD", "lost", "{owner}"),
    "neither a client": ("SREM", "clients:{owner}", "c"),
    "has no place": ("SREM", "adapter:nfs", "c"),
    "but not due": ("HSET", "client:c", "s", "leaving"),
    "is live and has a TTL": ("PEXPIRE", "client:c", 10_000),
}


@pytest.mark.parametrize("rule", PLANTED)
def test_what_is_left_over_is_found(rule: str) -> None:
    """The check that runs after each test sees each kind of leftover."""
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(7,)))
    world = World(client, "planted")
    n1, n2 = world.node("n1"), world.node("n2")
    n3 = world.node("n3")
    n1.register("c")
    n1.lock("c")
    n2.leave()
    assert leaks(client, "planted") == []
    command, name, *more = (
        part.format(owner=n1.owner, gone=n2.owner, lost=world.key("lost"), holders=world.key("holders", n3.owner))
        if isinstance(part, str)
        else part
        for part in PLANTED[rule]
    )
    client.execute_command(command, world.key(str(name)), *more)  # type: ignore[no-untyped-call]
    assert any(rule in line for line in leaks(client, "planted"))
