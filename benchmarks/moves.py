"""Clients with locks that move from a live home, one and then all; what a registered holder takes in Redis."""

from __future__ import annotations

import contextlib
import statistics
from typing import TYPE_CHECKING

from benchmarks.figure import Figure
from coordinator import Coordinator, Settings, clock, errors, initialize
from coordinator.embedded import Server
from coordinator.protocol.call import BATCH_MAX
from coordinator.wire.connector import from_url
from tests.population import register_holders

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coordinator import ClientRegistration

HOLDERS = 100_000
SINGLES = 300
MOVE_MS_MAX = 10.0
ALL_SECONDS_MAX = 30.0
BYTES_MAX = 450


def measure() -> Iterator[Figure]:
    """Measure with the product's threads and events; nobody's lease may lapse meanwhile."""
    with contextlib.ExitStack() as stack:
        client = from_url(stack.enter_context(Server()).url)
        stack.callback(client.close)
        initialize(client)
        settings = Settings(max_connections=2 * HOLDERS)
        first, second = (
            stack.enter_context(Coordinator(client, node=name, settings=settings)) for name in ("node-1", "node-2")
        )
        ids = [f"10.0.{i // 256}.{i % 256}" for i in range(HOLDERS)]
        empty = _memory(client)
        register_holders(first._node, first._run, [one.encode() for one in ids])
        yield Figure("memory of a registered holder", (_memory(client) - empty) / HOLDERS, "B", BYTES_MAX)

        singles = []
        for one in ids[:SINGLES]:
            began = clock.now()
            second.clients.register(one, adapter="nfs")
            singles.append(1000 * (clock.now() - began))
        began = clock.now()
        for _ in range(SINGLES):
            client.ping()
        round_trip = 1000 * (clock.now() - began) / SINGLES
        median = statistics.median(singles)
        detail = {"worst": max(singles), "bare round trip": round_trip, "in round trips": median / round_trip}
        yield Figure("live move with locks, median", median, "ms", MOVE_MS_MAX, detail)

        began = clock.now()
        again = _register(second, ids[SINGLES:])
        seconds = clock.now() - began
        if first.grace.view().epoch:
            msg = "a lease lapsed: the figure is none"
            raise AssertionError(msg)
        yield Figure(f"{HOLDERS:,} live moves in batches", seconds, "s", ALL_SECONDS_MAX, {"asked again": float(again)})


def _register(node: Coordinator, ids: Sequence[str]) -> int:
    """Register all, those whose home has not closed them yet once more; how often one was asked for again."""
    again, left = 0, list(ids)
    while left:
        batch, left = left[:BATCH_MAX], left[BATCH_MAX:]
        answers: list[ClientRegistration | errors.CoordinatorError] = node.clients.register_many(
            {"client": one, "adapter": "nfs", "ttl": 60, "remote_addr": "10.20.30.40:712"} for one in batch
        )
        held = [one for one, answer in zip(batch, answers, strict=True) if isinstance(answer, errors.ClientHeld)]
        for answer in answers:
            if isinstance(answer, errors.CoordinatorError) and not isinstance(answer, errors.ClientHeld):
                raise answer
        again += len(held)
        left = held + left
    return again


def _memory(client: object) -> int:
    return int(client.info("memory")["used_memory"])  # type: ignore[attr-defined]
