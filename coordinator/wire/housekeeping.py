"""What the demonstration does to keys beside the protocol: read a TTL, remove a namespace. A node needs none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import redis


def ttl_of(client: redis.Redis, key: bytes) -> float:
    """Return the TTL of a key in seconds, negative if it has none."""
    return int(client.pttl(key)) / 1000


def delete_namespace(client: redis.Redis, namespace: str) -> None:
    """Remove every key of a namespace that was made for a demonstration."""
    for key in client.scan_iter(f"{namespace}:*"):
        client.unlink(key)
