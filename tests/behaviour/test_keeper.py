"""The threads or tasks of both faces on a real server: short settings, bounded waits, ordering instead of timing."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry

from coordinator import (
    AsyncCoordinator,
    Closed,
    ConnectionLimitReached,
    Coordinator,
    GraceActive,
    LockMetrics,
    Move,
    Operation,
    RegistrationRefused,
    Release,
    Unavailable,
    errors,
)
from coordinator.wire.asynchronous import AsyncEvents
from coordinator.wire.blocking import Events
from tests import acl
from tests.nodes import BOUND, Face, clear, short


def test_20_a_due_release_reaches_the_callback(make: Callable[..., Coordinator]) -> None:
    """TTL 0 and TTL > 0: each exactly one callback, which may call the coordinator itself."""
    freed: queue.Queue[tuple[str, Any]] = queue.Queue()
    node = make("n1")
    node.on_release(lambda release: freed.put((release.client_id, node.clients.get(release.client_id))))
    node.clients.register("now", adapter="nfs")
    node.clients.register("later", adapter="nfs", ttl=0.2)
    node.clients.unregister("later")
    node.clients.unregister("now")
    assert freed.get(timeout=BOUND)[0] == "now"
    client, seen = freed.get(timeout=BOUND)
    assert client == "later"
    assert seen.state == "leaving"


@pytest.mark.parametrize("face", ["sync"], indirect=True)
def test_24_a_callback_that_only_begins_something_has_freed_nothing(
    make: Callable[..., Coordinator], caplog: pytest.LogCaptureFixture
) -> None:
    """A plain function that returns a coroutine: the release stays, the log says why; a plain callback is given it."""
    freed: queue.Queue[str] = queue.Queue()
    began: queue.Queue[str] = queue.Queue()

    async def free(release: Release) -> None:
        freed.put(release.client_id)

    def begin(release: Release) -> Any:
        began.put(release.client_id)
        return free(release)

    node = make("n1")
    node.on_release(begin)
    node.clients.register("a", adapter="nfs")
    node.clients.unregister("a")
    assert [began.get(timeout=BOUND) for _ in range(2)] == ["a", "a"], "called again, as it has failed"
    assert "AsyncCoordinator" in caplog.text
    node.on_release(lambda release: freed.put(release.client_id))
    assert freed.get(timeout=BOUND) == "a"


def test_02_grace_ends_by_its_deadline_on_every_node(make: Callable[..., Coordinator]) -> None:
    """Nobody calls anything: both nodes' timers end it, both are told once, both grant again."""
    ended: queue.Queue[str] = queue.Queue()
    first, second = make("n1"), make("n2")
    first.on_grace_end(lambda _: ended.put("n1"))
    second.on_grace_end(lambda _: ended.put("n2"))
    first.grace.start(["gone"])
    with pytest.raises(GraceActive):
        first.grace.check(Operation.NEW).raise_for_refusal()
    assert {ended.get(timeout=BOUND), ended.get(timeout=BOUND)} == {"n1", "n2"}
    assert first.grace.wait_normal(BOUND)
    assert second.grace.wait_normal(BOUND)
    assert ended.empty()


def test_lost_events_cost_a_heartbeat_and_never_correctness(
    make: Callable[..., Coordinator], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no event ever delivered, reclaims are admitted only after every node has stopped granting."""
    stop = threading.Event()

    def deaf(_: object, after: str) -> list[Any]:
        assert after
        stop.wait(BOUND)
        return []

    async def deaf_too(reader: object, after: str) -> list[Any]:
        return await asyncio.to_thread(deaf, reader, after)

    monkeypatch.setattr(Events, "read", deaf)
    monkeypatch.setattr(AsyncEvents, "read", deaf_too)
    try:
        first, second = make("n1"), make("n2")
        first.grace.start(["a"])
        assert first.grace.wait_in_force(BOUND)
        assert not second.grace.check(Operation.NEW).allowed
        first.clients.register("a", adapter="nfs")
        with first.reclaiming("a"):
            assert not second.grace.check(Operation.NEW).allowed
        assert first.grace.wait_normal(BOUND)
        assert second.grace.wait_normal(BOUND)
    finally:
        stop.set()


def test_a_dead_event_connection_is_replaced(
    make: Callable[..., Coordinator], admin_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection that blocks on events is killed: the node reads on from where it was, by a new one."""
    reads: queue.Queue[str] = queue.Queue()
    original, original_too = Events.read, AsyncEvents.read

    def counted(batch: list[Any]) -> list[Any]:
        for _, kind, _, _ in batch:
            reads.put(kind)
        return batch

    async def read(self: AsyncEvents, after: str) -> list[Any]:
        return counted(await original_too(self, after))

    monkeypatch.setattr(Events, "read", lambda self, after: counted(original(self, after)))
    monkeypatch.setattr(AsyncEvents, "read", read)
    first, second = make("n1"), make("n2")
    killer = redis.Redis.from_url(admin_url, protocol=2)
    for client in killer.client_list():
        if client["cmd"] == "xread" and client["user"] == acl.RUN:  # REDIS_URL's server may serve other workers too
            killer.client_kill_filter(_id=client["id"])
    killer.close()
    first.grace.start(["a"])
    assert second.grace.wait_in_force(BOUND)
    kinds = []
    while "in_force" not in kinds:
        kinds.append(reads.get(timeout=BOUND))
    assert "start" in kinds


def test_25_200_concurrent_registrations_on_4_nodes(make: Callable[..., Coordinator]) -> None:
    """Limit 100: exactly 100 of 200 threads get a place."""
    nodes = [make(f"n{i}", max_connections=100) for i in range(4)]

    def register(i: int) -> bool:
        try:
            nodes[i % 4].clients.register(f"c{i}", adapter="smb")
        except ConnectionLimitReached:
            return False
        return True

    with ThreadPoolExecutor(32) as pool:
        assert sum(pool.map(register, range(200))) == 100
    assert nodes[0].clients.count("smb") == 100
    assert len({client.client_id for client in nodes[1].clients.list("smb")}) == 100


def test_18_close_hands_over_and_crash_is_noticed(make: Callable[..., Coordinator]) -> None:
    """A closed node's client reclaims at once elsewhere; an abandoned node's after its lease."""
    first, second, third = make("n1"), make("n2"), make("n3")
    first.clients.register("a", adapter="nfs")
    with first.granting("a"):
        pass
    first.close()
    assert not first.grace.check(Operation.NEW).allowed
    with pytest.raises(Closed):
        first.clients.get("a")
    assert second.grace.wait_in_force(BOUND)
    second.clients.register("a", adapter="nfs")
    with second.reclaiming("a"):
        pass
    assert third.grace.wait_normal(BOUND)
    second.abandon()
    assert third.grace.wait_in_force(BOUND)
    third.clients.register("a", adapter="nfs")
    with third.reclaiming("a"):
        pass
    assert third.grace.wait_normal(BOUND)


class Odd(BaseException):
    """What no handler of errors catches."""


@pytest.mark.parametrize("error", [OSError, Odd])
def test_23_a_raising_callback_is_called_again(make: Callable[..., Coordinator], error: type[BaseException]) -> None:
    """At least once means until it succeeds, whatever it raises; the client's place is kept meanwhile."""
    calls: queue.Queue[Release] = queue.Queue()

    def free(release: Release) -> None:
        calls.put(release)
        if calls.qsize() < 3:
            message = "the lock store is away"
            raise error(message)
        done.set()

    done = threading.Event()
    node = make("n1", claim_seconds=3.0)
    node.on_release(free)
    node.clients.register("a", adapter="nfs")
    node.clients.unregister("a")
    assert done.wait(BOUND)
    assert calls.qsize() == 3


def test_metrics_are_fed(make: Callable[..., Coordinator]) -> None:
    """Grace, reclaim, limit and connection families follow what happened."""
    registry = CollectorRegistry()
    node = make("n1", metrics=LockMetrics(registry), max_connections=1)
    node.clients.register("a", adapter="nfs")
    with pytest.raises(ConnectionLimitReached):
        node.clients.register("b", adapter="nfs")
    node.grace.start(["a", "z"])
    assert registry.get_sample_value("dittofs_locks_grace_period_active") == 1
    assert not node.grace.check(Operation.NEW).allowed
    assert 0 < (registry.get_sample_value("dittofs_locks_grace_period_remaining_seconds") or 0) <= 1
    with node.reclaiming("a"):
        pass
    for name, labels in (
        ("locks_reclaim_total", {"status": "granted"}),
        ("locks_limit_hits_total", {"limit_type": "adapter"}),
        ("connections_total", {"adapter": "nfs", "event": "connect"}),
        ("connections_total", {"adapter": "nfs", "event": "refused"}),
        ("coordinator_up", {"node": "n1", "scope": "default"}),
        ("coordinator_refused_total", {"node": "n1", "scope": "default", "reason": "grace_active"}),
    ):
        assert registry.get_sample_value(f"dittofs_{name}", labels) == 1, name
    assert node.grace.wait_normal(BOUND)


def test_no_redis_is_said_at_start_and_a_users_client_is_left_alone(face: Face, admin_url: str, real_url: str) -> None:
    """`start` raises Unavailable with what to do; nothing is granted before; the client passed in stays usable."""
    dead = redis.Redis(unix_socket_path="/nonexistent/redis.sock", username=acl.USER)
    coordinator = face(dead, node="n1")
    with pytest.raises(Closed):
        coordinator.clients.get("a")
    with pytest.raises(Unavailable, match="check that it runs"):
        coordinator.start()
    assert not coordinator.grace.check(Operation.NEW).allowed
    for kind in (Coordinator, AsyncCoordinator):
        with pytest.raises(errors.InvalidArgument, match="Redis URL"):
            kind.connect("http://nowhere", node="n1")
    client = redis.Redis.from_url(real_url, decode_responses=True)
    namespace = f"{acl.RUN}.own"
    with face(client, node="n1", settings=short(namespace)):
        pass
    assert client.connection_pool.connection_kwargs["decode_responses"] is True
    assert client.ping()
    client.close()
    clear(admin_url, namespace)


def test_an_event_of_another_version_is_no_harm(
    make: Callable[..., Coordinator], admin_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Events that lack a field or say something new: the thread that listens goes on, later ones are heard."""
    node = make("n1")
    client = redis.Redis.from_url(admin_url, protocol=2)
    key = node._node.keys.key("events")
    client.xadd(key, {"kind": "start", "revision": "not a number"})
    client.xadd(key, {"kind": "moved", "owner": node.owner})
    client.xadd(key, {"kind": "news"})
    client.xadd(key, {"no": "kind"})
    client.close()
    node.grace.start(["a"])
    node.clients.register("a", adapter="nfs")
    other = make("n2")
    other.clients.register("a", adapter="nfs")
    assert other.grace.wait_in_force(BOUND)
    with other.reclaiming("a"):
        pass
    assert node.grace.wait_normal(BOUND)
    assert all("is not understood" in record.message for record in caplog.records)


def test_batches_answer_each_in_order(make: Callable[..., Coordinator]) -> None:
    """450 clients in three round trips; a refusal stands where its client stood; bad input is refused before any."""
    node = make("n1", max_connections=440)
    names = [f"c{i}" for i in range(450)]
    with pytest.raises(errors.InvalidArgument, match="adapter"):
        node.clients.register_many([{"client": "x", "adapter": "nfs"}, {"client": "y"}])
    assert node.clients.count() == 0
    answers = node.clients.register_many({"client": name, "adapter": "nfs", "ttl": 60} for name in names)
    assert all(not isinstance(answer, errors.CoordinatorError) for answer in answers[:440])
    assert all(isinstance(answer, ConnectionLimitReached) for answer in answers[440:])
    assert [error is None for error in node.clients.touch_many(names)] == [True] * 440 + [False] * 10
    node.grace.start(names[:440])
    outcomes = node.grace.complete_reclaim_many(names[:440])
    assert all(not isinstance(outcome, errors.CoordinatorError) for outcome in outcomes)
    assert outcomes[-1].lifted  # type: ignore[union-attr]
    gone = node.clients.unregister_many(names)
    assert sum(not isinstance(answer, errors.CoordinatorError) for answer in gone) == 440
    assert node.clients.pending_disconnects() == 440


def test_24_a_callback_whose_own_call_fails_is_called_again(make: Callable[..., Coordinator]) -> None:
    """An error of the coordinator raised by the callback is a failed callback, not a failed acknowledgement."""
    calls: queue.Queue[str] = queue.Queue()

    def free(release: Release) -> None:
        calls.put(release.client_id)
        if calls.qsize() == 1:
            message = "raised by a call inside the callback"
            raise Unavailable(message)

    node = make("n1")
    node.on_release(free)
    node.clients.register("a", adapter="nfs")
    node.clients.unregister("a")
    assert [calls.get(timeout=BOUND)] == ["a"]
    assert [calls.get(timeout=BOUND)] == ["a"]


def test_close_inside_a_release_callback_does_not_wait_for_itself(make: Callable[..., Coordinator]) -> None:
    """The node leaves from within its own callback; the release comes due elsewhere."""
    freed: queue.Queue[str] = queue.Queue()
    first, second = make("n1", claim_seconds=3.0), make("n2", claim_seconds=3.0)
    second.on_release(lambda _: freed.put("n2"))

    def free(_: Release) -> None:
        freed.put("n1")
        first.close()
        freed.put("closed")

    first.on_release(free)
    first.clients.register("a", adapter="nfs")
    first.clients.unregister("a")
    assert [freed.get(timeout=BOUND) for _ in range(3)] == ["n1", "closed", "n2"]


def test_35_a_client_with_locks_moves_between_live_nodes(make: Callable[..., Coordinator]) -> None:
    """By events alone: its home yields it, the other node has it with its right, and its old server is told."""
    moved: queue.Queue[Move] = queue.Queue()
    first, second = make("n1"), make("n2")
    first.on_move(moved.put)
    first.clients.register("a", adapter="nfs")
    with first.granting("a"):
        pass
    assert second.clients.register("a", adapter="nfs").holder
    assert moved.get(timeout=BOUND) == Move("a", second.owner)
    with pytest.raises(RegistrationRefused), first.granting("a"):
        pass
    with second.granting("a"):
        pass
