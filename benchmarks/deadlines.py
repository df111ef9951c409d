"""How late are deadlines? From a disconnect's deadline to its callback, and from a period's end to each node's.

Runs on the embedded server (or REDIS_URL), prints a table and one line of JSON. The bound of the project is 40 ms.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import statistics
import sys

import redis

from coordinator import Coordinator, GracePeriod, Operation, Settings, clock
from coordinator.embedded import Server

DISCONNECTS = 200
PERIODS = 10
OTHER_KEYS = 10_000
GRACE_SECONDS = 0.5
TTL_SECONDS = 1.0
BOUND_MS = 40.0
NODES = ("node-1", "node-2", "node-3")


def releases(nodes: list[Coordinator]) -> list[float]:
    """Disconnect clients with a TTL through all nodes in turn; return the lateness of each callback in ms."""
    called: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
    for node in nodes:
        node.on_release(lambda release: called.put((release.client_id, clock.now())))
    due = {}
    for i in range(DISCONNECTS):
        node, client = nodes[i % len(nodes)], f"client-{i}"
        node.clients.register(client, adapter="nfs", ttl=TTL_SECONDS + (i % 50) / 50)
        due_in = node.clients.unregister(client).due_in_seconds
        due[client] = clock.now() + due_in
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
        deadline = clock.now() + nodes[0].grace.view().remaining_seconds
        late += [(ended.get(timeout=20)[1] - deadline) * 1000 for _ in nodes]
        for node in nodes:
            node.grace.check(Operation.NEW).raise_for_refusal()
    return late


def main() -> int:
    """Measure, print, and return 1 if the bound was missed."""
    with contextlib.ExitStack() as stack:
        url = os.environ.get("REDIS_URL") or stack.enter_context(Server()).url
        namespace = f"bench-{secrets.token_hex(4)}"
        client = stack.enter_context(contextlib.closing(redis.Redis.from_url(url)))
        stack.callback(lambda: client.unlink(*client.scan_iter(f"{namespace}:*", count=1000)))
        with client.pipeline() as pipe:
            for i in range(OTHER_KEYS):
                pipe.set(f"{namespace}:other:{i}", 1, px=3_600_000)
            pipe.execute()
        settings = Settings(namespace=namespace, grace_seconds=GRACE_SECONDS)
        nodes = [
            stack.enter_context(Coordinator(client, node=name, settings=settings, bootstrap=True)) for name in NODES
        ]
        results = {}
        for name, late in (("deadline to release callback", releases(nodes)), ("end of grace", periods(nodes))):
            late.sort()
            results[name] = {
                "count": len(late),
                "p50_ms": round(statistics.median(late), 2),
                "p99_ms": round(late[int(len(late) * 0.99) - 1], 2),
                "max_ms": round(late[-1], 2),
                "min_ms": round(late[0], 2),
            }
    for name, figures in results.items():
        sys.stdout.write(f"{name:32}" + "  ".join(f"{k} {v}" for k, v in figures.items()) + "\n")
    sys.stdout.write(json.dumps(results) + "\n")
    return int(any(figures["p99_ms"] > BOUND_MS for figures in results.values()))


if __name__ == "__main__":
    sys.exit(main())
