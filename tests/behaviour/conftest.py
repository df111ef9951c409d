"""Started nodes of either face on a real server, in a namespace of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis

from coordinator import Coordinator, initialize
from tests import acl
from tests.bridge import Bridge
from tests.nodes import clear, short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.nodes import Face


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    """Give either face; the asyncio one is called as if it were the other."""
    if request.param == "sync":
        yield Coordinator
        return
    bridge = Bridge()
    yield bridge.coordinator
    bridge.close()


@pytest.fixture
def make(
    face: Face, admin_url: str, real_url: str, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Coordinator]]:
    """Make started coordinators in a namespace of the test's own; abandon what is left."""
    client = redis.Redis.from_url(real_url, protocol=2)
    namespace = f"{acl.RUN}.{request.node.name}"[:60].replace("[", "-").replace("]", "")
    initialize(client, namespace=namespace)
    made: list[Coordinator] = []

    def start(node: str, **more: Any) -> Coordinator:
        metrics = more.pop("metrics", None)
        coordinator = face(client, node=node, settings=short(namespace, **more), metrics=metrics)
        made.append(coordinator)
        return coordinator.start()

    yield start
    for coordinator in made:
        coordinator.abandon()
    client.close()
    clear(admin_url, namespace)
