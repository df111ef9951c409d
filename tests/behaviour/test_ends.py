"""The end of an incarnation as a server meets it, on both faces: told once, every call says why, closing is quick."""

from __future__ import annotations

import asyncio
import inspect
import logging
import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis

from coordinator import AsyncCoordinator, Coordinator, Fenced, Operation, Reason, StaleGrant
from coordinator.api.operations import Clients, Grace, Grants
from coordinator.wire.asynchronous import AsyncChannel
from coordinator.wire.blocking import Channel
from tests.backup import erase
from tests.nodes import BOUND

if TYPE_CHECKING:
    from collections.abc import Callable

ITEM = {"client": "c", "adapter": "nfs"}
CALLS: dict[str, Callable[[Coordinator], object]] = {
    "grace.start": lambda node: node.grace.start(["c"]),
    "grace.withdraw": lambda node: node.grace.withdraw(),
    "grace.end": lambda node: node.grace.end("enough"),
    "grace.admit_reclaim": lambda node: node.grace.admit_reclaim("c"),
    "grace.complete_reclaim": lambda node: node.grace.complete_reclaim("c"),
    "grace.complete_reclaim_many": lambda node: node.grace.complete_reclaim_many(["c"]),
    "grace.view": lambda node: node.grace.view(),
    "grace.expected_clients": lambda node: list(node.grace.expected_clients()),
    "grace.reclaimed_clients": lambda node: list(node.grace.reclaimed_clients()),
    "grace.forfeited_clients": lambda node: list(node.grace.forfeited_clients()),
    "grace.wait_in_force": lambda node: node.grace.wait_in_force(BOUND),
    "grace.wait_normal": lambda node: node.grace.wait_normal(BOUND),
    "clients.register": lambda node: node.clients.register("c", adapter="nfs"),
    "clients.register_many": lambda node: node.clients.register_many([ITEM]),
    "clients.unregister": lambda node: node.clients.unregister("c"),
    "clients.unregister_many": lambda node: node.clients.unregister_many(["c"]),
    "clients.touch": lambda node: node.clients.touch("c"),
    "clients.touch_many": lambda node: node.clients.touch_many(["c"]),
    "clients.cancel_disconnect": lambda node: node.clients.cancel_disconnect("c"),
    "clients.get": lambda node: node.clients.get("c"),
    "clients.list": lambda node: list(node.clients.list()),
    "clients.count": lambda node: node.clients.count(),
    "clients.pending_disconnects": lambda node: node.clients.pending_disconnects(),
    "clients.increment_lock_count": lambda node: node.clients.increment_lock_count("c"),
    "clients.decrement_lock_count": lambda node: node.clients.decrement_lock_count("c"),
    "clients.drop": lambda node: node.clients.drop("c"),
    "clients.revoke": lambda node: node.clients.revoke("c"),
    "clients.stale": lambda node: list(node.clients.stale(0)),
    "grants.begin": lambda node: node.grants.begin("c"),
    "granting": lambda node: node.granting("c").__enter__(),
    "reclaiming": lambda node: node.reclaiming("c").__enter__(),
}
"""Every call of a node, by its name."""
LOCAL = {"grace.check"}
"""What answers with a verdict instead."""


def test_no_call_is_missing_here() -> None:
    """Each public method of a node and of its three parts is in the list, unless it is about its life."""
    life = {"connect", "start", "close", "abandon"}
    own = {name for name, _ in inspect.getmembers(Coordinator, inspect.isfunction) if not name.startswith(("_", "on_"))}
    parts = {
        f"{part}.{name}"
        for part, kind in (("grace", Grace), ("clients", Clients), ("grants", Grants))
        for name, _ in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }
    assert (own - life) | parts == CALLS.keys() | LOCAL


def told(calls: queue.Queue[tuple[str, str]]) -> Callable[[str], None]:
    """Return a callback that puts down what it was told, and the name of the thread or task that called it."""

    def callback(reason: str) -> None:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        calls.put((reason, threading.current_thread().name if task is None else task.get_name()))

    return callback


def end(node: Coordinator, reason: str, make: Callable[..., Coordinator], admin: redis.Redis) -> None:
    """End a node's incarnation, and wait until it knows."""
    if reason == "superseded":
        make("n1")
    elif reason == "evicted":
        admin.hset(node._node.keys.key("node", node.owner.encode()).decode(), "fenced", "evicted")
    else:
        erase(admin, node._node.settings.namespace)
    with pytest.raises(Fenced):
        node.grace.wait_in_force(BOUND)


@pytest.fixture
def admin(admin_url: str) -> Any:
    """Give an administrator's client."""
    client = redis.Redis.from_url(admin_url, protocol=2)
    yield client
    client.close()


ENDS = pytest.mark.parametrize("reason", ["superseded", "evicted", "data_lost"])


@ENDS
@pytest.mark.parametrize("listens", ["before", "after", "before, and another after"])
def test_17_the_server_is_told_once_by_the_thread_or_task_of_callbacks(
    make: Callable[..., Coordinator], admin: redis.Redis, reason: str, listens: str
) -> None:
    """Whether it listens before its incarnation ends or sets the callback later: once, with the reason."""
    calls: queue.Queue[tuple[str, str]] = queue.Queue()
    node = make("n1")
    if listens != "after":
        node.on_ended(told(calls))
    end(node, reason, make, admin)
    if listens == "before":
        assert calls.get(timeout=BOUND) == (reason, "callbacks-n1")
    elif listens == "after":
        node.on_ended(told(calls))
        assert calls.get(timeout=BOUND) == (reason, "callbacks-n1")
    else:
        assert calls.get(timeout=BOUND) == (reason, "callbacks-n1")
        node.on_ended(told(calls))
    node.close()
    assert calls.empty()


@ENDS
def test_16_after_its_end_every_call_says_why(
    make: Callable[..., Coordinator], admin: redis.Redis, reason: str
) -> None:
    """`check` refuses for good with the reason, everything else raises Fenced with it, and an open grant is stale."""
    node = make("n1")
    node.clients.register("c", adapter="nfs")
    with node.granting("c"):
        pass
    grant = node.grants.begin("c")
    end(node, reason, make, admin)
    for operation in (Operation.NEW, Operation.RECLAIM):
        assert node.grace.check(operation).reason is Reason(reason)
    with pytest.raises(StaleGrant):
        grant.confirm()
    grant.undo()
    for name, call in CALLS.items():
        with pytest.raises(Fenced) as caught:
            call(node)
        assert (name, caught.value.reason) == (name, reason)
        assert ("end this process" if reason == "superseded" else "start a new one") in str(caught.value)


@ENDS
def test_16_closing_after_the_end_asks_nothing_and_says_nothing(
    make: Callable[..., Coordinator],
    admin: redis.Redis,
    reason: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its end was said once, at ERROR. Closing waits for nothing: nobody asks Redis, which could be away."""
    node = make("n1")
    end(node, reason, make, admin)
    while node._node.must_tell_loss:  # its keeper tells of the loss: bounded by op_timeout
        admin.ping()
    said = [record for record in caplog.records if record.levelno >= logging.ERROR and "is over" in record.getMessage()]
    assert len(said) == 1
    assert reason in said[0].getMessage()
    sent: list[str] = []
    for kind in (Channel, AsyncChannel):
        original = kind.run
        monkeypatch.setattr(kind, "run", counted(original, node, sent))
    caplog.clear()
    node.close()
    node.close()
    assert sent == []
    assert [record for record in caplog.records if node.owner in record.getMessage()] == []


def counted(original: Any, node: Coordinator, sent: list[str]) -> Any:
    """Return `run` of a channel, which puts down the scripts that are run for a node."""

    def run(channel: Any, call: Any) -> Any:
        if call.head.owner == node.owner:
            sent.append(call.script.name)
        return original(channel, call)

    return run


def test_both_faces_end_alike() -> None:
    """The asyncio face has every call that the other one has."""
    assert {name for name in vars(Coordinator) if not name.startswith("_")} == {
        name for name in vars(AsyncCoordinator) if not name.startswith("_")
    }
