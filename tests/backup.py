"""A copy of a namespace, put back later: a snapshot, a promoted stale replica, an AOF without its last second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis


class Backup:
    """What all keys of a namespace hold now."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        """Take it."""
        self._client, self._pattern = client, f"{namespace}:*"
        self._keys: dict[bytes, tuple[Any, Any, int]] = {}
        read: dict[Any, Callable[[bytes], Any]] = {
            b"hash": client.hgetall,
            b"set": client.smembers,
            b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
            b"stream": client.xrange,
        }
        for key in client.scan_iter(self._pattern):
            kind = client.type(key)
            self._keys[key] = (kind, read[kind](key), int(client.pttl(key)))

    def put_back(self) -> None:
        """Have Redis hold this again, and nothing else."""
        erase(self._client, self._pattern.removesuffix(":*"))
        for key, (kind, value, ttl) in self._keys.items():
            if kind == b"hash":
                self._client.hset(key, mapping=value)
            elif kind == b"set":
                self._client.sadd(key, *value)
            elif kind == b"zset":
                self._client.zadd(key, dict(value))
            else:
                for identifier, fields in value:
                    self._client.xadd(key, fields, id=identifier)
            if ttl > 0:
                self._client.pexpire(key, ttl)


def erase(client: redis.Redis, namespace: str) -> None:
    """Take all data away at once, as FLUSHALL does: a node that renews its lease meanwhile finds all or nothing."""
    keys = list(client.scan_iter(f"{namespace}:*"))
    if keys:
        client.delete(*keys)
