"""How long the largest call of each kind that the product sends holds Redis: everybody else waits that long."""

from __future__ import annotations

import contextlib
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.figure import Figure
from benchmarks.scripts import LAPSE, Population
from coordinator.protocol import clients, grace, releases
from coordinator.protocol.call import BATCH_MAX, CHANGE_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = 20
SCRIPT_MS_MAX = 5.0


def measure() -> Iterator[Figure]:
    """Measure medians of INFO commandstats; the longest run, which the machine may have interrupted, beside it."""
    with contextlib.ExitStack() as stack:
        for name, samples in steps(Population(stack, 4 * CALLS * BATCH_MAX)):
            spent = [sample / 1000 for sample in samples]
            yield Figure(name, statistics.median(spent), "ms", SCRIPT_MS_MAX, {"longest": max(spent)})


def steps(population: Population) -> Iterator[tuple[str, Iterator[float]]]:
    """Live the life of a scope by calls of full batches; with samples of each kind."""
    cost, world, home, node = population.cost, population.world, population.home, population.node.node
    keys, ids = node.keys, population.ids
    head = node.lease.head(node.now())

    def batches(ids: list[bytes], size: int = BATCH_MAX) -> Iterator[list[bytes]]:
        for first in range(0, CALLS * BATCH_MAX, size):
            yield ids[first : first + size]

    def register(batch: list[bytes]) -> Any:
        return clients.register(
            keys, head, [node.registering(one, "nfs", "10.0.0.7:712", 0, None, None) for one in batch]
        )

    new = [b"new-%d" % i for i in range(CALLS * BATCH_MAX)]
    known: list[clients.Registered] = []
    yield f"client_register, {CHANGE_MAX} new", cost(map(register, batches(new, CHANGE_MAX)), known.extend)
    generations = {one: registered.generation for one, registered in zip(new, known, strict=True)}
    yield (
        f"client_touch, {BATCH_MAX}",
        cost(clients.statuses("client_touch", keys, head, tuple(batch)) for batch in batches(new)),
    )
    yield f"client_view, {BATCH_MAX}", cost(clients.view(keys, head, batch) for batch in batches(ids))
    yield (
        f"client_drop, {BATCH_MAX}",
        cost(
            clients.statuses(
                "client_drop", keys, head, tuple(value for one in batch for value in (one, generations[one]))
            )
            for batch in batches(new)
        ),
    )
    yield (
        f"client_unregister, {CHANGE_MAX} with their claims",
        cost(clients.unregister(keys, head, [(one, 0) for one in batch], 60_000) for batch in batches(new, CHANGE_MAX)),
    )

    home.crash()
    for _ in range(int(LAPSE)):
        world.jump(1)
        population.node.run(node.renew())
    head = node.lease.head(node.now())
    population.node.run(node.evict([home.owner]))
    coming = ids[: CALLS * BATCH_MAX]
    yield f"client_register, {CHANGE_MAX} of a lost owner", cost(map(register, batches(coming, CHANGE_MAX)))
    yield (
        f"reclaim_complete, {CHANGE_MAX}",
        cost(grace.complete(keys, head, batch, idle=False) for batch in batches(coming, CHANGE_MAX)),
    )
    yield (
        f"grace_start, {BATCH_MAX} more",
        cost(
            grace.start(keys, head, "o", batch, f"r{batch[0]!r}", more=True, if_empty="wait", reason=b"")
            for batch in batches([b"left-%d" % i for i in range(CALLS * BATCH_MAX)])
        ),
    )
    population.node.run(node.end_grace("the rest does not come back"))
    yield f"orphan_drain, {BATCH_MAX}", cost(releases.drain(keys, head, BATCH_MAX) for _ in range(CALLS))
    claims: list[releases.Claim] = []
    claim = releases.claim(keys, head, BATCH_MAX, 60_000, 0)
    yield f"release_claim, {BATCH_MAX}", cost((claim for _ in range(CALLS)), lambda reply: claims.extend(reply[1]))
    yield (
        f"release_renew, {BATCH_MAX}",
        cost(releases.renew(keys, head, claims[:BATCH_MAX], 60_000) for _ in range(CALLS)),
    )
