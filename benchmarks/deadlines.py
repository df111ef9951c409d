"""How late are deadlines? From a disconnect's deadline to its callback, and from a period's end to each node's."""

from __future__ import annotations

import contextlib
import queue
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, spread
from coordinator import Coordinator, GracePeriod, Operation, Settings, clock, initialize
from coordinator.embedded import Server
from coordinator.wire.connector import from_url

if TYPE_CHECKING:
    from collections.abc import Iterator

DISCONNECTS = 200
PERIODS = 10
OTHER_KEYS = 10_000
GRACE_SECONDS = 0.5
TTL_SECONDS = 1.0
MEDIAN_MS_MAX, P99_MS_MAX = 10.0, 40.0
NODES = ("node-1", "node-2", "node-3")


def measure() -> Iterator[Figure]:
    """Measure with three nodes, beside 10,000 keys that have a TTL."""
    with contextlib.ExitStack() as stack:
        client = from_url(stack.enter_context(Server()).url)
        stack.callback(client.close)
        with client.pipeline() as pipe:
            for i in range(OTHER_KEYS):
                pipe.set(f"other:{i}", 1, px=3_600_000)
            pipe.execute()
        initialize(client)
        settings = Settings(grace_seconds=GRACE_SECONDS)
        nodes = [stack.enter_context(Coordinator(client, node=name, settings=settings)) for name in NODES]
        late = spread(releases(nodes))
        yield Figure("release callback after its deadline, median", late["p50"], "ms", MEDIAN_MS_MAX, late)
        yield Figure("release callback after its deadline, p99", late["p99"], "ms", P99_MS_MAX)
        late = spread(periods(nodes))
        yield Figure("end of grace after its deadline, p99", late["p99"], "ms", P99_MS_MAX, late)


def releases(nodes: list[Coordinator]) -> list[float]:
    """Disconnect clients with a TTL through all nodes in turn; return the lateness of each callback in ms, at the most.

    A TTL begins when Redis executes the disconnect, which is after it was sent.
    """
    called: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
    for node in nodes:
        node.on_release(lambda release: called.put((release.client_id, clock.now())))
    due = {}
    for i in range(DISCONNECTS):
        node, client = nodes[i % len(nodes)], f"client-{i}"
        ttl = TTL_SECONDS + (i % 50) / 50
        node.clients.register(client, adapter="nfs", ttl=ttl)
        due[client] = clock.now() + ttl
        node.clients.unregister(client)
    return [(at - due[client]) * 1000 for client, at in (called.get(timeout=20) for _ in due)]


def periods(nodes: list[Coordinator]) -> list[float]:
    """Let periods end by time; return by how many ms each node granted again later than the deadline."""
    ended: queue.SimpleQueue[tuple[GracePeriod, float]] = queue.SimpleQueue()
    for node in nodes:
        node.on_grace_end(lambda period: ended.put((period, clock.now())))
    late = []
    for _ in range(PERIODS):
        nodes[0].grace.start()
        for node in nodes:
            node.grace.wait_in_force(20)
        asked = clock.now()  # before Redis read its clock: the lateness is what it was at the most
        deadline = asked + nodes[0].grace.view().remaining_seconds
        late += [(ended.get(timeout=20)[1] - deadline) * 1000 for _ in nodes]
        for node in nodes:
            node.grace.check(Operation.NEW).raise_for_refusal()
    return late
