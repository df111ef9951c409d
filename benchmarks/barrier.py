"""How long is the barrier? From grace.start to in force, as the node that starts sees it."""

from __future__ import annotations

import contextlib
import statistics
import time
from typing import TYPE_CHECKING

from benchmarks.figure import Figure
from coordinator import Coordinator, clock, initialize
from coordinator.embedded import Server
from coordinator.wire.connector import from_url

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = (2, 5, 10, 20)
ROUNDS = 15
BOUND_SECONDS = 20.0
POLL_SECONDS = 0.0002


def measure() -> Iterator[Figure]:
    """Measure with nodes that are threads of this one process: they share an interpreter, machines would not."""
    medians: dict[int, float] = {}
    for size in SIZES:
        with contextlib.ExitStack() as stack:
            client = from_url(stack.enter_context(Server()).url)
            stack.callback(client.close)
            initialize(client)
            nodes = [stack.enter_context(Coordinator(client, node=f"node-{i}")) for i in range(size)]
            medians[size] = statistics.median(_barrier(nodes) for _ in range(ROUNDS))
        relative = {f"relative to {SIZES[0]} nodes": medians[size] / medians[SIZES[0]]}
        yield Figure(f"barrier, {size} nodes, median", medians[size], "ms", detail=relative)


def _barrier(nodes: list[Coordinator]) -> float:
    starter = nodes[0]
    began = clock.now()
    starter.grace.start()
    while not starter._node.lease.snapshot.reclaims:
        if clock.now() > began + BOUND_SECONDS:
            msg = f"not in force within {BOUND_SECONDS} s"
            raise TimeoutError(msg)
        time.sleep(POLL_SECONDS)
    took = clock.now() - began
    starter.grace.end("the next round")
    for node in nodes:
        if not node.grace.wait_normal(BOUND_SECONDS):
            msg = f"not normal within {BOUND_SECONDS} s"
            raise TimeoutError(msg)
    return took * 1000
