"""Everything a scope has in Redis at one moment, for comparison. Only tests look into keys like this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis

    from coordinator.protocol.keys import Keys


@dataclass(frozen=True)
class Snapshot:
    """A scope, parsed."""

    raw: dict[bytes, Any]
    """Every key with its whole value: two are equal if and only if nothing was changed."""
    members: dict[str, float]
    lost: set[str]
    orphans: set[str]
    open: set[str]
    reclaimed: set[bytes]
    holders: dict[str, set[bytes]]
    clients: dict[bytes, tuple[str, int, str]]
    """Owner, generation, state."""
    places: dict[str, set[bytes]]
    due: dict[bytes, float]


def take(client: redis.Redis, keys: Keys) -> Snapshot:
    """Read the whole scope."""
    names: Any = client.keys(keys.key("*").decode().replace("[", "\\["))
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.type(name)
    reads: dict[bytes, Any] = {
        b"hash": pipe.hgetall,
        b"set": pipe.smembers,
        b"zset": lambda name: pipe.zrange(name, 0, -1, withscores=True),
        b"stream": pipe.xlen,
    }
    for name, kind in zip(names, pipe.execute(), strict=True):
        reads[kind](name)
    raw: dict[bytes, Any] = dict(zip(names, pipe.execute(), strict=True))

    def one(kind: str, otherwise: Any) -> Any:
        return raw.get(keys.key(kind), otherwise)

    def each(kind: str) -> dict[bytes, Any]:
        start = keys.key(kind) + b":"
        return {name[len(start) :]: value for name, value in raw.items() if name.startswith(start)}

    def words(values: Any) -> set[str]:
        return {value.decode() for value in values}

    return Snapshot(
        raw,
        {owner.decode(): lease for owner, lease in one("members", [])},
        words(one("lost", set())),
        words(one("orphans", set())),
        words(one("open", set())),
        set(one("reclaimed", set())),
        {owner.decode(): set(held) for owner, held in each("holders").items()},
        {
            name: (record[b"owner"].decode(), int(record[b"generation"]), record[b"state"].decode())
            for name, record in each("client").items()
        },
        {adapter.decode(): set(places) for adapter, places in each("adapter").items()},
        dict(one("due", [])),
    )
