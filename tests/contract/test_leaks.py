"""The check that runs after each test finds what no state of a registration, a roster or a release may look like.

What is plainly left over is planted in tests/behaviour/test_keys.py; here are the states that contradict each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import fakeredis
import pytest

from tests.keyspace import leaks
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

NAMESPACE = "planted"
HOUR = 3_600_000


def fake() -> redis.Redis:
    """Return a client of a server of its own."""
    made: redis.Redis = fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(7,)))
    return made


def normal(client: redis.Redis) -> dict[str, str]:
    """Make a scope with a live holder c, an idle client i, a deferred client d and one that is revoked, r."""
    world = World(client, NAMESPACE)
    n1, n2 = world.node("n1"), world.node("n2")
    for name in ("c", "i", "r"):
        n1.register(name)
    n1.lock("c")
    n1.register("d", ttl=60)
    n1.unregister("d")
    n1.hangs = n1.alive = False
    n2.run(n2.node.revoke(b"r"))
    epoch = n2.view().epoch
    return {
        "n1": n1.owner,
        "n2": n2.owner,
        "epoch": str(epoch),
        "next": str(epoch + 1),
        "generation": str(n2.view_of("c").generation),
        "prefix": world.key(""),
    }


def active(client: redis.Redis) -> dict[str, str]:
    """Make a scope in grace: n1 is lost with its holder c, n2 reads its lock store."""
    world = World(client, NAMESPACE)
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c")
    n1.lock("c")
    n1.crash()
    world.pass_time(9.5)
    n2.run(n2.node.open_roster("wait", ""))
    return {"n1": n1.owner, "n2": n2.owner, "epoch": str(n2.view().epoch), "prefix": world.key("")}


NORMAL = {
    "without an epoch to come: outside of a period": "SADD open n2:restored:{epoch}",
    "whose node is no member": "SADD open n9:restored:{next}",
    "a roster is open without `ended`": "SADD open n2:restored:{next}",
    "b'n2:restored:{next}' has no record": "SADD open n2:restored:{next}",
    "a word: outside of a period": "SADD open wait",
    "is a member, and gone": "SADD orphans {n1}",
    "has the words": "HSET wanted:{n1} c close",
    "right of generation": "HSET holders:{n1} c 9999999999999999",
    "b'i' has a right at": "HSET holders:{n2} i 1",
    "but no record and no release": "HSET holders:{n1} x 1",
    "but was revoked": "HSET holders:{n1} r 1",
    "a registration that nobody serves: but not due": "HDEL releases d",
    "is revoked, but no release frees it": "HSET releases r 1 forfeited 1 {n2} -",
    "is live, but is being freed up to": "HSET releases c {generation} forfeited - - -",
    "what is to come: is live, but is being freed up to": "HSET releases c 1 forfeited 1 {n2} {generation}:forfeited",
    "more than nothing: release of b'r' is": "HSET releases r 5 revoked 1 {n2} 4:forfeited",
    "more, and nobody works on it: release of b'r' is": "HSET releases r 5 revoked - - 9:forfeited",
    "a claimant without a token: release of b'r' is": "HSET releases r 5 revoked - {n2} -",
    "another reason: release of b'r' is": "HSET releases r 5 bored - - -",
    "a disconnect is no more to come: release of b'r' is": "HSET releases r 5 revoked 1 {n2} 9:disconnect",
    "has the state b'live'": "HSET client:c s live",
    "has the state b'asleep'": "HSET client:c s asleep",
    "is deferred and has a TTL of -1": "PERSIST client:d",
    "is revoked and has a TTL": f"PEXPIRE client:r {HOUR}",
    "adapter:b'smb' has b'c', whose record says b'nfs'": "SADD adapter:smb c",
    "has b'i', whose record says": "SADD clients:{n2} i",
}
"""What is planted, by what is said of it (after a colon); none of it may be in a normal scope."""
ACTIVE = {
    "open has b'n2:restored:9'": "SADD open n2:restored:9",
    "open has b'{n1}'": "SADD open {n1}",
    "b'c' has 2 rights": "HSET holders:{n2} c 1",
    "ended is there, but no roster is open": "SREM open n2:restored:{epoch}",
    "holders:b'n3:1' is of nobody": "HSET holders:n3:1 z 1",
}


@pytest.mark.parametrize("rule", NORMAL)
def test_a_contradiction_in_a_normal_scope_is_found(rule: str) -> None:
    """Each rule bites by itself."""
    found(fake(), normal, rule, NORMAL[rule])


@pytest.mark.parametrize("rule", ACTIVE)
def test_a_contradiction_in_grace_is_found(rule: str) -> None:
    """Each rule bites by itself."""
    found(fake(), active, rule, ACTIVE[rule])


def found(client: redis.Redis, make: Callable[[redis.Redis], dict[str, str]], rule: str, planted: str) -> None:
    """Plant something in a scope in which nothing is left over, and see that it is named."""
    names = make(client)
    assert leaks(client, NAMESPACE) == []
    command, key, *rest = planted.format(**names).split(" ")
    field, value = rest[:1], rest[1:]
    arguments = [*field, " ".join(value)] if value else field
    client.execute_command(command, names["prefix"] + key, *arguments)  # type: ignore[no-untyped-call]
    said = rule.format(**names).rpartition(": ")[2]
    lines = leaks(client, NAMESPACE)
    assert any(said in line for line in lines), lines
