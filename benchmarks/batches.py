"""How long the largest call of each kind that the product sends holds Redis: everybody else waits that long."""

from __future__ import annotations

import contextlib
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.direct import Scope, batches
from benchmarks.figure import Figure
from benchmarks.scripts import CLAIM_MS, RETENTION_MS, Population
from coordinator.protocol import clients, grace, nodes, releases
from coordinator.protocol.call import BATCH_MAX, CHANGE_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = 20
CLIENTS = CALLS * BATCH_MAX
SCRIPT_MS_MAX = 5.0


def measure() -> Iterator[Figure]:
    """Measure medians of INFO commandstats; the longest run, which the machine may have interrupted, beside it."""
    with contextlib.ExitStack() as stack:
        for name, samples in steps(Population(Scope(stack), 4 * CLIENTS)):
            spent = [sample / 1000 for sample in samples]
            yield Figure(name, statistics.median(spent), "ms", SCRIPT_MS_MAX, {"longest": max(spent)})


def steps(population: Population) -> Iterator[tuple[str, Iterator[float]]]:
    """Live the life of a scope by calls of full batches; with samples of each kind."""
    cost, home, node = population.cost, population.home, population.node
    new, coming = [b"new-%d" % i for i in range(CLIENTS)], population.ids[:CLIENTS]
    moving = population.ids[CLIENTS : 2 * CLIENTS]
    pairs: list[tuple[bytes, int]] = []

    def of(ids: list[Any], size: int = BATCH_MAX) -> list[Any]:
        return list(batches(ids, size))

    def leave(batch: list[bytes]) -> Any:
        return node.ask(clients.unregister, [(one, 0) for one in batch], CLAIM_MS, RETENTION_MS)

    def asked(batch: list[bytes]) -> None:
        items = [clients.Registering(one, "nfs", 10**6, b"", 0, b"", b"") for one in batch]
        node.answer(clients.register, items)

    yield f"client_register, {CHANGE_MAX} new", cost(lambda b: pairs.extend(node.register(b)), of(new, CHANGE_MAX))
    yield f"client_touch, {BATCH_MAX}", cost(lambda b: node.ask(clients.touch, b), of(new))
    yield f"client_view, {BATCH_MAX}", cost(lambda b: node.ask(clients.view, b), of(coming))
    yield f"client_hold, {BATCH_MAX}", cost(lambda b: node.ask(clients.hold, b), of(pairs))
    yield f"client_drop, {BATCH_MAX}", cost(lambda b: node.ask(clients.drop, b), of(pairs))
    yield f"client_unregister, {CHANGE_MAX}", cost(leave, of(new, CHANGE_MAX))
    yield f"client_register, {CHANGE_MAX} that are held", cost(asked, of(moving, CHANGE_MAX))
    yield f"client_yield, {BATCH_MAX}", cost(lambda b: home.ask(clients.yield_, b), of(moving))
    yield f"client_register, {CHANGE_MAX} that were yielded", cost(node.register, of(moving, CHANGE_MAX))

    home.die()
    node.ask(nodes.evict, home.owner)
    node.ask(grace.advance, node.revision)
    yield f"client_register, {CHANGE_MAX} of a lost owner", cost(node.register, of(coming, CHANGE_MAX))
    yield f"reclaim_complete, {CHANGE_MAX}", cost(lambda b: node.ask(grace.complete, b), of(coming, CHANGE_MAX))
    facts: dict[str, Any] = {"more": True, "if_empty": "wait", "reason": b"bench"}
    epoch = node.ask(grace.start, "other", 0, [], **facts)[0]
    left = [b"left-%d" % i for i in range(CLIENTS)]
    yield (
        f"grace_start, {BATCH_MAX} more",
        cost(lambda b: node.ask(grace.start, "other", epoch, b, **facts), of(left)),
    )
    node.ask(grace.end, 0, b"the rest does not come back")
    node.ask(grace.advance, node.revision)
    yield f"orphan_drain, {BATCH_MAX}", cost(lambda _: node.ask(releases.drain, BATCH_MAX), of(left))
    claims: list[releases.Claim] = []
    yield (
        f"release_claim, {BATCH_MAX}",
        cost(lambda _: claims.extend(node.ask(releases.claim, BATCH_MAX, CLAIM_MS, 0)[1]), of(left)),
    )
    adapters = population.scope.settings.adapters
    yield f"release_renew, {BATCH_MAX}", cost(lambda b: node.ask(releases.renew, b, CLAIM_MS), of(claims))
    yield f"release_ack, {BATCH_MAX}", cost(lambda b: node.ask(releases.ack, b, adapters), of(claims))
