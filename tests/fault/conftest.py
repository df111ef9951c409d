"""A private server that is killed and comes back, its users, and processes that a test may stop and kill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis

from coordinator import Coordinator, Settings, initialize
from coordinator.embedded import Server
from tests import acl
from tests.fault.child import Child
from tests.keyspace import leaks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """Give the ACL file of the server: the shipped one with a password."""
    return acl.complete(tmp_path)


@pytest.fixture
def server(server_binary: str, users: Path) -> Iterator[Server]:
    """Give a server, of a new installation, that has on disk what it answered; afterwards nothing may be left over."""
    with Server(server_binary, arguments=("--appendfsync", "always", "--aclfile", str(users))) as started:
        initialize(acl.login(started.url, acl.USER, acl.PASSWORD))
        yield started
        client = redis.Redis.from_url(started.url, protocol=2)
        left_over = leaks(client, Settings().namespace)
        client.close()
    assert not left_over


@pytest.fixture
def admin(server: Server) -> Iterator[redis.Redis]:
    """Give an administrator's client."""
    client = redis.Redis.from_url(server.url, protocol=2)
    yield client
    client.close()


@pytest.fixture
def url(server: Server) -> str:
    """Give the nodes' URL."""
    return acl.login(server.url, acl.USER, acl.PASSWORD)


@pytest.fixture
def join(url: str) -> Iterator[Callable[..., Coordinator]]:
    """Let nodes of this process join; abandon them afterwards."""
    made: list[Coordinator] = []

    def start(node: str, settings: Settings) -> Coordinator:
        made.append(Coordinator.connect(url, node=node, settings=settings))
        return made[-1].start()

    yield start
    for coordinator in made:
        coordinator.abandon()


@pytest.fixture
def spawn(url: str) -> Iterator[Callable[..., Child]]:
    """Run a function in a process of its own, with a pipe to the test and the nodes' URL; kill it afterwards."""
    made: list[Child] = []

    def start(target: Callable[..., None], *arguments: Any) -> Child:
        made.append(Child(target, url, *arguments))
        return made[-1]

    yield start
    for child in made:
        child.kill()
