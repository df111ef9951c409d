"""Nodes with threads or tasks of their own on a real server: short settings, bounded waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from coordinator import Coordinator, Settings
from tests.keyspace import leaks

Face = Callable[..., Coordinator]
BOUND = 20.0
"""Seconds after which a wait has failed; nothing is judged by how long it took."""


def short(namespace: str, **more: Any) -> Settings:
    """Return settings that are short, and keep a lease over a stall of the machine."""
    figures: dict[str, Any] = {
        "grace_seconds": 1.0,
        "heartbeat_seconds": 0.3,
        "lease_seconds": 3.5,
        "validity_seconds": 3.0,
        "barrier_margin_seconds": 2.1,
        "op_timeout_seconds": 0.4,
    }
    return Settings(namespace=namespace, **(figures | more))


def clear(admin_url: str, namespace: str) -> None:
    """Remove a namespace, in which nothing may be left over."""
    admin = redis.Redis.from_url(admin_url, protocol=2)
    left_over = leaks(admin, namespace)
    for key in admin.scan_iter(f"{namespace}:*"):
        admin.delete(key)
    admin.close()
    assert not left_over, left_over
