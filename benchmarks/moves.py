"""Clients with locks move from a node that lives: asked for, closed there, registered here."""

from __future__ import annotations

import contextlib
import itertools
import threading
from typing import TYPE_CHECKING, Any

from benchmarks.failover import Leases
from benchmarks.figure import Figure, spread
from coordinator import Coordinator, Settings, clock, initialize
from coordinator.embedded import Server
from coordinator.wire.connector import from_url
from tests.population import register_holders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SINGLES, MANY = 500, 100_000
MOVE_MS_MAX, MANY_SECONDS_MAX = 10.0, 30.0
BATCH = 1_000
"""Clients that a server registers at once."""


def measure() -> Iterator[Figure]:
    """Measure single moves there and back, then all clients of one node to two others; nobody's lease may lapse."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server())
        client = from_url(server.url)
        stack.callback(client.close)
        initialize(client)
        settings = Settings(max_connections=2 * MANY)
        home, *others = nodes = [
            stack.enter_context(Coordinator(client, node=f"node-{i}", settings=settings)) for i in range(3)
        ]
        with _handshakes(server.url) as handshake:
            yield from list(_singles(home, others[0], handshake))
        ids = [f"client-{i}" for i in range(MANY)]
        register_holders(home._node, home._run, [one.encode() for one in ids])
        leases = stack.enter_context(Leases(nodes))
        began = clock.now()
        _all_move(others, ids)
        took = clock.now() - began
        yield Figure(f"{MANY:,} moves to two nodes", took, "s", MANY_SECONDS_MAX, {"ms each": took / MANY * 1000})
        yield Figure("leases that lapsed meanwhile", leases.lapsed, "", 0, {"least seconds left": leases.least})


@contextlib.contextmanager
def _handshakes(url: str) -> Iterator[Callable[[], float]]:
    """Yield what measures the yardstick, in s: a push that wakes another thread, its answer, and a round trip more."""
    asking, answering = from_url(url), from_url(url)

    def answer() -> None:
        while answering.blpop(["asked"])[1] != b"end":  # type: ignore[index]
            answering.rpush("answered", "yes")

    def handshake() -> float:
        began = clock.now()
        asking.rpush("asked", "a client")
        asking.blpop(["answered"])
        asking.ping()
        return clock.now() - began

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    yield handshake
    asking.rpush("asked", "end")
    thread.join()
    asking.close()
    answering.close()


def _singles(one: Coordinator, other: Coordinator, handshake: Callable[[], float]) -> Iterator[Figure]:
    one.clients.register("mover", adapter="nfs", ttl=60)
    turns = itertools.cycle((one, other))
    bare, moves = [], []
    here = next(turns)
    for _ in range(SINGLES):
        with here.granting("mover"):
            pass
        here = next(turns)
        began = clock.now()
        here.clients.register("mover", adapter="nfs", ttl=60)
        moves.append((clock.now() - began) * 1000)
        bare.append(handshake() * 1000)
    found, yardstick = spread(moves), spread(bare)
    for part, name in (("p50", "median"), ("p99", "p99")):
        detail = {"yardstick ms": yardstick[part], "times the yardstick": found[part] / yardstick[part]}
        yield Figure(f"move of a client with locks, {name}", found[part], "ms", MOVE_MS_MAX, detail)


def _all_move(nodes: Sequence[Coordinator], ids: Sequence[str]) -> None:
    """Have each node register its share, a batch after the other, until nobody is refused."""
    refused: list[Any] = []

    def work(node: Coordinator, mine: Sequence[str]) -> None:
        for first in range(0, len(mine), BATCH):
            batch = mine[first : first + BATCH]
            while batch:
                answers = node.clients.register_many({"client": one, "adapter": "nfs"} for one in batch)
                batch = [one for one, answer in zip(batch, answers, strict=True) if isinstance(answer, Exception)]
                refused.extend(answer for answer in answers if isinstance(answer, Exception))

    workers = [
        threading.Thread(target=work, args=(node, ids[i :: len(nodes)]), daemon=True) for i, node in enumerate(nodes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
