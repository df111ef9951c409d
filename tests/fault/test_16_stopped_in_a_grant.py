"""Scenario 16: a process is stopped between check and insert, for longer than its lease."""

from __future__ import annotations

import functools
import queue
import threading
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from coordinator import Coordinator, Fenced, LeaseLapsed, Operation, RegistrationRefused, StaleGrant
from coordinator.protocol.keys import Keys
from tests.fault.child import BOUND, hear, short

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    import redis

    from tests.fault.child import Child

KEYS = Keys("dittofs", "default")


class HeldBack:
    """Holds a node's threads back after its lease has lapsed, so that it is the grant's own confirm that refuses.

    Which thread of a process that goes on runs first is chance; this is the order in which no other helps it.
    """

    def __init__(self, node: Coordinator) -> None:
        """Take hold of what the keeper and the thread that listens do next."""
        self.may_learn = threading.Event()
        self._core = node._node
        for method in ("renew", "hear"):
            held_back = self._while_lapsed(getattr(self._core, method))
            mock.patch.object(self._core, method, held_back).start()

    def _while_lapsed(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def held_back(*arguments: Any) -> Any:
            if not self._core.lease.is_valid(self._core.now()):
                assert self.may_learn.wait(BOUND)
            return original(*arguments)

        return held_back


def refusal(act: Callable[[], object]) -> str:
    """Return what a call is refused with."""
    with pytest.raises((Fenced, LeaseLapsed, StaleGrant, RegistrationRefused)) as caught:
        act()
    return f"{type(caught.value).__name__} {getattr(caught.value, 'reason', '')}".strip()


def stopped(pipe: Connection, url: str) -> None:
    """Be the node that is stopped while it grants a lock to `second`; `first` has one, `idle` none."""
    node = Coordinator.connect(url, node="stopped", settings=short()).start()
    ended: queue.Queue[str] = queue.Queue()
    node.on_ended(ended.put)
    for client in ("first", "second", "idle"):
        node.clients.register(client, adapter="nfs")
    with node.granting("first"):
        pass
    keeper = [thread for thread in threading.enumerate() if thread.name == "keeper-stopped"]
    threads = HeldBack(node)
    try:
        with node.granting("second") as grant:
            pipe.send(grant.owner)
            assert hear(pipe) == "insert"
        pipe.send("confirmed")
    except StaleGrant:
        pipe.send("StaleGrant")
    pipe.send(refusal(lambda: node.clients.touch("first")))
    threads.may_learn.set()
    pipe.send(ended.get(timeout=BOUND))
    for client in ("first", "second", "idle"):
        pipe.send(refusal(functools.partial(node.clients.increment_lock_count, client)))
    pipe.send(refusal(lambda: node.grace.check(Operation.NEW).raise_for_refusal()))
    for thread in keeper:
        thread.join(BOUND)
    pipe.send([thread.is_alive() for thread in keeper])
    assert hear(pipe) == "start a new one"
    node.close()
    pipe.send(ended.qsize())
    again = Coordinator.connect(url, node="stopped", settings=short()).start()
    pipe.send(again.owner)
    hear(pipe)


def test_16_a_grant_that_was_stopped_for_longer_than_the_lease_is_not_confirmed(
    spawn: Callable[..., Child], join: Callable[..., Coordinator], admin: redis.Redis
) -> None:
    """Evicted while it was stopped, it confirms nothing over what others were granted, is told once, and stays out.

    The lock table here tests no conflicts: what keeps two confirmed locks off one range is the confirm alone.
    """
    other = join("other", short())
    child = spawn(stopped)
    before = child.hear()
    table: dict[str, list[tuple[str, str]]] = {"range 1": [("first", before)], "range 2": []}
    child.stop()

    assert other.grace.wait_in_force(BOUND)
    assert not other.grace.check(Operation.NEW).allowed
    for client in ("first", "second"):
        assert other.clients.register(client, adapter="nfs").must_reclaim
    with other.reclaiming("first") as grant:
        table["range 1"] = [("first", grant.owner)]
    other.grace.complete_reclaim("second")  # it never got its lock: nothing to reclaim
    assert other.grace.wait_normal(BOUND)
    other.clients.register("third", adapter="nfs")
    with other.granting("third") as grant:
        table["range 2"].append(("third", grant.owner))

    child.resume()
    child.pipe.send("insert")
    outcome = child.hear()
    if outcome == "confirmed":
        table["range 2"].append(("second", before))
    assert table == {"range 1": [("first", other.owner)], "range 2": [("third", other.owner)]}
    assert outcome == "StaleGrant"
    assert child.hear() == "LeaseLapsed", "it was told nothing yet: its own clock says so"
    assert child.hear() == "evicted", "what on_ended was told"
    assert {child.hear() for _ in ("first", "second", "idle", "check")} == {"Fenced evicted"}

    assert child.hear() == [False], "its keeper has ended: nothing joins anew by itself"
    assert admin.zrange(KEYS.key("members"), 0, -1) == [other.owner.encode()]
    child.pipe.send("start a new one")
    assert child.hear() == 0, "told once"
    after = child.hear()
    (name, old), (same, new) = before.split(":"), after.split(":")
    assert (name, int(new) > int(old)) == (same, True)
    assert not admin.exists(KEYS.key("clients", after.encode()), KEYS.key("holders", after.encode()))
    assert admin.zscore(KEYS.key("members"), after)
    for client in ("first", "second", "third"):
        registration = other.clients.get(client)
        assert registration is not None
        assert registration.owner == other.owner
    child.pipe.send("end")
