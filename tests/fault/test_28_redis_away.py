"""Scenario 28: Redis is away for five minutes, and comes back from its append-only file."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

import pytest

from coordinator import Coordinator, GraceState, LeaseLapsed, Operation, Reason, Settings, StaleGrant
from coordinator.protocol.keys import Keys
from tests.bridge import Bridge
from tests.fault.child import BOUND, short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis

    from coordinator.embedded import Server

KEYS = Keys(Settings().namespace, "default")
AWAY = 300.0


@pytest.fixture
def other(url: str) -> Iterator[Coordinator]:
    """Give a second node, of the other face."""
    bridge = Bridge()
    node = bridge.connect(url, node="n2", settings=short()).start()
    yield node
    node.abandon()
    bridge.close()


def pass_time(node: Any, seconds: float) -> None:
    """Let time pass for a node, by its own clock."""
    now = node._node.now
    node._node.now = lambda: now() + seconds


def test_28_nobodys_time_runs_while_redis_is_away(
    server: Server, users: Path, join: Callable[..., Coordinator], other: Coordinator, admin: redis.Redis
) -> None:
    """Nodes refuse new locks, and serve on; when Redis is back they go on as the same, and nothing has run out."""
    freed: queue.Queue[Any] = queue.Queue()
    ended: queue.Queue[str] = queue.Queue()
    node = join("n1", short())
    nodes = (node, other)
    for one in nodes:
        one.on_release(freed.put)
        one.on_ended(ended.put)
    node.clients.register("holder", adapter="nfs")
    node.clients.register("waits", adapter="nfs", ttl=60.0)
    for _ in range(2):
        with node.granting("holder"):
            pass
    node.clients.unregister("waits")
    owners = [one.owner for one in nodes]
    due = admin.zrange(KEYS.key("due"), 0, -1, withscores=True)
    grant = node.grants.begin("holder")

    server.kill()
    clock = node._node.lease.clock_ms
    for one in nodes:
        pass_time(one, AWAY)
    for one in nodes:
        for operation in (Operation.NEW, Operation.RECLAIM):
            verdict = one.grace.check(operation)
            assert (verdict.reason, verdict.retry_after > 0) == (Reason.LEASE_LAPSED, True)
        assert one.grace.check(Operation.TEST).provisional
        with pytest.raises(LeaseLapsed):
            one.clients.register("new", adapter="nfs")
    with pytest.raises(StaleGrant):
        grant.confirm()
    assert node.clients.decrement_lock_count("holder") == 1, "what is held is served: nobody is asked for an unlock"

    rules = users.read_text()
    users.write_text(rules.replace(" on ", " off "))  # nobody is let in before the time was set
    server.start()
    assert admin.zrange(KEYS.key("due"), 0, -1, withscores=True) == due
    admin.hincrby(KEYS.meta.decode(), "raw", -round(AWAY * 1000))  # as if so much time had passed for its machine
    users.write_text(rules)
    assert admin.execute_command("ACL", "LOAD")  # type: ignore[no-untyped-call]

    for one in nodes:
        assert one.grace.wait_normal(BOUND)
    assert [one.owner for one in nodes] == owners
    view = node.grace.view()
    assert (view.state, view.epoch) == (GraceState.NORMAL, 0)
    assert node._node.lease.clock_ms - clock < BOUND * 1000, "the outage used up no time"
    holder = other.clients.get("holder")
    assert holder is not None
    assert (holder.owner, holder.state) == (node.owner, "live")
    assert admin.zrange(KEYS.key("due"), 0, -1, withscores=True) == due
    assert node.clients.cancel_disconnect("waits")
    with node.granting("holder"):
        pass
    assert (freed.empty(), ended.empty()) == (True, True)
    node.clients.unregister("waits")
