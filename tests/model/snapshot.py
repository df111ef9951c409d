"""Everything a scope has in Redis at one moment: to compare, to copy and to put back. Only tests look into keys so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fakeredis

if TYPE_CHECKING:
    import redis

    from coordinator.protocol.keys import Keys

FIGURES = ("started", "r1", "r1_at", "r2", "r2_at", "length", "bound", "earliest")
"""What `grace` has of an active period, as the model has it too."""
COUNTERS = ("generation", "incarnation", "claims", "loss", "revision", "epoch")
"""The last two: what nodes remember of a scope that has no data."""


@dataclass(frozen=True)
class Snapshot:
    """A scope, parsed into plain sets and numbers."""

    raw: dict[bytes, Any]
    """Every key with its whole value: two are equal if and only if nothing was changed."""
    view: str
    clock: int
    counters: dict[str, int]
    figures: dict[str, int]
    members: dict[str, int]
    lost: set[str]
    orphans: set[str]
    open: set[str]
    reclaimed: set[bytes]
    forfeited: set[bytes]
    ended: set[bytes]
    holders: dict[str, dict[bytes, int]]
    registered: dict[str, set[bytes]]
    wanted: dict[str, dict[bytes, str]]
    clients: dict[bytes, tuple[Any, ...]]
    """Owner, generation, adapter, state, due, TTL, verifier, admitted."""
    releases: dict[bytes, str]
    due: dict[bytes, int]
    places: dict[str, set[bytes]]
    lives: dict[str, tuple[int, int, int, str]]
    """Of each owner: acked, writes, floor, fence."""
    rosters: dict[str, int]
    """Of each restored roster: the generation of its start."""


def _pattern(keys: Keys) -> str:
    return keys.key("*").decode().replace("[", "\\[")


def read(client: redis.Redis, keys: Keys) -> dict[bytes, Any]:
    """Return every key of the scope with its whole value; of the stream only its length.

    A fake server's memory is read as it is: this is done after every script.
    """
    if isinstance(client, fakeredis.FakeRedis):
        start, memory = keys.key(""), client.connection_pool.connection_kwargs["server"].dbs[0]
        return {name: _plain(memory[name].value) for name in list(memory) if name.startswith(start)}
    names: Any = client.keys(_pattern(keys))
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.type(name)
    readers: dict[bytes, Any] = {
        b"hash": pipe.hgetall,
        b"set": pipe.smembers,
        b"zset": lambda name: pipe.zrange(name, 0, -1, withscores=True),
        b"stream": pipe.xlen,
    }
    for name, kind in zip(names, pipe.execute(), strict=True):
        readers[kind](name)
    return dict(zip(names, pipe.execute(), strict=True))


def _plain(value: Any) -> Any:
    match type(value).__name__:
        case "Hash":
            return dict(value.getall())
        case "ZSet":
            return list(value.items())
        case "XStream":
            return len(value)
        case _:
            return set(value)


def take(client: redis.Redis, keys: Keys) -> Snapshot:
    """Read the whole scope."""
    raw = read(client, keys)
    meta: dict[bytes, bytes] = raw.get(keys.meta, {})
    grace: dict[bytes, bytes] = raw.get(keys.key("grace"), {})

    def one(kind: str, otherwise: Any) -> Any:
        return raw.get(keys.key(kind), otherwise)

    def each(kind: str) -> dict[str, Any]:
        start = keys.key(kind) + b":"
        return {name[len(start) :].decode(): value for name, value in raw.items() if name.startswith(start)}

    def words(kind: str) -> set[str]:
        return {value.decode() for value in one(kind, ())}

    nodes = each("node")
    return Snapshot(
        raw=raw,
        view=meta.get(b"view", b"").decode(),
        clock=int(meta.get(b"clock", 0)),
        counters={name: int(meta.get(name.encode(), 0)) for name in COUNTERS},
        figures={name: int(grace.get(name.encode(), 0)) for name in FIGURES},
        members={owner.decode(): int(lease) for owner, lease in one("members", ())},
        lost=words("lost"),
        orphans=words("orphans"),
        open=words("open"),
        reclaimed=set(one("reclaimed", ())),
        forfeited=set(one("forfeited", ())),
        ended=set(one("ended", ())),
        holders={owner: {c: int(g) for c, g in held.items()} for owner, held in each("holders").items()},
        registered={owner: set(those) for owner, those in each("clients").items()},
        wanted={owner: {c: word.decode() for c, word in those.items()} for owner, those in each("wanted").items()},
        clients={client.encode(): _record(record) for client, record in each("client").items()},
        releases={client: line.decode() for client, line in one("releases", {}).items()},
        due={client: int(at) for client, at in one("due", ())},
        places={adapter: set(places) for adapter, places in each("adapter").items()},
        lives={owner: _life(node) for owner, node in nodes.items() if ":restored:" not in owner},
        rosters={owner: int(node[b"generation"]) for owner, node in nodes.items() if ":restored:" in owner},
    )


def _record(record: dict[bytes, bytes]) -> tuple[Any, ...]:
    return (
        record[b"o"].decode(),
        int(record[b"g"]),
        record[b"a"].decode(),
        record.get(b"s", b"live").decode(),
        int(record.get(b"d", 0)),
        int(record[b"t"]),
        record.get(b"v", b""),
        int(record.get(b"e", 0)),
    )


def _life(node: dict[bytes, bytes]) -> tuple[int, int, int, str]:
    return (
        int(node[b"acked"]),
        int(node[b"writes"]),
        int(node.get(b"floor", 0)),
        node.get(b"fenced", b"").decode(),
    )


def copy(client: redis.Redis, keys: Keys) -> list[tuple[bytes, int, bytes]]:
    """Return all that the scope has, as a backup would have it: each key, its TTL in ms (0: none), its dump."""
    copied: list[tuple[bytes, int, bytes]] = []
    names: Any = client.keys(_pattern(keys))
    for name in names:
        ttl: Any = client.pttl(name)
        dumped: Any = client.dump(name)
        copied.append((name, max(0, ttl), dumped))
    return copied


def put_back(client: redis.Redis, keys: Keys, copied: list[tuple[bytes, int, bytes]]) -> None:
    """Empty the scope, and put a copy in its place; an empty one is FLUSHALL."""
    names: Any = client.keys(_pattern(keys))
    if names:
        client.delete(*names)
    for name, ttl, dumped in copied:
        client.restore(name, ttl, dumped)
