"""Scenario 29: a replica that lacks the newest writes becomes the primary."""

from __future__ import annotations

import queue
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import redis

from coordinator import Coordinator, GraceState, Operation, Reason, StaleGrant, initialize
from coordinator.embedded import Server
from tests import acl
from tests.fault.child import BOUND, short
from tests.link import Link

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def free_port() -> int:
    """Return a port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Pair:
    """A primary and its replica, and the link that leads nodes to whichever is primary."""

    def __init__(self, binary: str, users: Path, ending: ExitStack) -> None:
        """Start both; return when the replica follows."""
        port, rules = free_port(), ("--aclfile", str(users))
        listens = ("--port", str(port), "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0")
        follows = ("--replicaof", f"127.0.0.1 {port}")
        self.primary = ending.enter_context(Server(binary, arguments=(*listens, *rules)))
        self.replica = ending.enter_context(Server(binary, arguments=(*follows, *rules)))
        self.link = ending.enter_context(Link(path=self.primary.socket))
        self.url = f"redis://{acl.USER}:{acl.PASSWORD}@127.0.0.1:{self.link.port}/0"
        self.admin = redis.Redis.from_url(self.replica.url, protocol=2)
        ending.callback(self.admin.close)
        self.follow()

    def follow(self) -> None:
        """Wait until the replica has all that the primary has."""
        client = redis.Redis.from_url(self.primary.url, protocol=2)
        for _ in range(round(BOUND)):
            client.incr("written")
            if client.wait(1, 1000) == 1:
                client.close()
                return
        pytest.fail("the replica does not follow")

    def fail_over(self) -> None:
        """Kill the primary; the replica, which was promoted before, takes its place."""
        self.primary.kill()
        self.link.lead_to(self.replica.socket)
        self.link.cut()


@pytest.fixture
def pair(server_binary: str, users: Path) -> Iterator[Pair]:
    """Give a pair, of a new installation."""
    with ExitStack() as ending:
        made = Pair(server_binary, users, ending)
        initialize(made.url)
        yield made


def test_29_a_stale_replica_is_promoted(pair: Pair) -> None:
    """Everybody's life ends; the store tells what the replica never had; nobody grants beside the full grace."""
    made: list[Coordinator] = []

    def join(node: str) -> Coordinator:
        made.append(Coordinator.connect(pair.url, node=node, settings=short()))
        return made[-1].start()

    ended: queue.Queue[Any] = queue.Queue()
    nodes = [join("n1"), join("n2")]
    for node in nodes:
        node.on_ended(ended.put)
    nodes[0].clients.register("known", adapter="nfs")
    with nodes[0].granting("known"):
        pass
    pair.follow()
    pair.admin.replicaof("NO", "ONE")  # from now on it lacks what is written
    nodes[1].clients.register("newer", adapter="nfs")
    with nodes[1].granting("newer"):
        pass
    grant = nodes[0].grants.begin("known")
    pair.fail_over()

    assert [ended.get(timeout=BOUND) for _ in nodes] == ["data_lost", "data_lost"]
    with pytest.raises(StaleGrant):
        grant.confirm()
    for node in nodes:
        assert node.grace.check(Operation.NEW).reason is Reason.DATA_LOST

    first, second = join("n1"), join("n2")
    assert first.grace.start(lambda: ["known", "newer"]).expected == 2
    second.grace.start(list, if_empty="skip")
    assert {first.grace.view().state, second.grace.view().state} == {GraceState.ACTIVE}
    for node in (first, second):
        assert not node.grace.check(Operation.NEW).allowed
    assert first.grace.wait_in_force(BOUND)
    for node, client in ((first, "newer"), (second, "known")):
        assert node.clients.register(client, adapter="nfs").must_reclaim
        with node.reclaiming(client):
            pass
        assert not node.grace.check(Operation.NEW).allowed, "no early exit: nobody knows who else had locks"
    for coordinator in made:
        coordinator.abandon()
