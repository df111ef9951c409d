"""What each script costs the server, with 100 to 100,000 clients: it must not grow with them."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.figure import Figure
from coordinator import redis_io, script
from coordinator.calls import base, clients, grace, nodes, releases
from coordinator.embedded import Server
from coordinator.keys import SCOPE_KEYS
from tests.population import register_holders
from tests.world import TICK, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SIZES = (100, 1_000, 10_000, 100_000)
SAMPLES = 30
SLOPE_MAX = 1.5
PROMISED = ("grace_start", "node_evict", "reclaim_", "client_")
"""A grace start, each reclaim, each registration."""
LAPSE = 10.0
"""Seconds after which a crashed member may be evicted."""
SMALL = tuple(name for name in SCOPE_KEYS if name not in {"reclaimed", "due", "releases", "ending"})
"""Keys that do not grow with the clients: what a transition changes is undone by putting them back."""


def measure() -> Iterator[Figure]:
    """Measure medians of INFO commandstats, all sizes in turns; nodes' and scope's time stands still meanwhile."""
    with contextlib.ExitStack() as stack:
        populations = [Population(stack, size) for size in SIZES]
        for steps in zip(*(population.steps() for population in populations), strict=True):
            turns = zip(*(samples for _, samples in steps), strict=True)
            costs = [statistics.median(of_size) for of_size in zip(*turns, strict=True)]
            detail = {f"us at {size:,}:": cost for size, cost in zip(SIZES, costs, strict=True)}
            name = steps[0][0]
            most = SLOPE_MAX if name.startswith(PROMISED) else None
            yield Figure(f"{name}: {SIZES[-1]:,} / {SIZES[0]}", costs[-1] / costs[0], "x", most, detail)


class Population:
    """A scope with two nodes; the first has all the clients, each with a lock."""

    def __init__(self, stack: contextlib.ExitStack, size: int) -> None:
        """Register the clients and let them hold, by the product's own batches, on a server of its own."""
        self.redis = redis_io.from_url(stack.enter_context(Server()).url)
        stack.callback(self.redis.close)
        for name in script.names():
            self.redis.script_load(script.load(name).source)
        self.world = World(self.redis, "bench")
        stack.callback(self.world.close)
        self.world.settings = dataclasses.replace(self.world.settings, max_connections=2 * SIZES[-1])
        self.home, self.node = self.world.node("home"), self.world.node("other")
        self.ids = [b"client-%d" % i for i in range(size)]
        register_holders(self.home.node, self.home.run, self.ids)

    def steps(self) -> Iterator[tuple[str, Iterator[float]]]:
        """Live the life of a scope: normal, a node lost, reclaims, the lift, the releases; with samples of each step.

        The samples of a step must be taken before the next step.
        """
        node = self.node.node
        keys, head = node.keys, node.lease.head(node.now())
        new, moving = [b"new-%d" % i for i in range(SAMPLES)], self.ids[:SAMPLES]

        def register(ids: Iterable[bytes], ttl: float = 0.0) -> Iterator[Any]:
            for one in ids:
                yield clients.register(keys, head, [node.registering(one, "nfs", "10.0.0.7:712", ttl, None, None)])

        yield "node_renew", self.cost(nodes.renew(keys, head, node.lease.acked) for _ in range(SAMPLES))
        yield "client_register, new", self.cost(register(new, ttl=30))
        yield "client_unregister", self.cost(clients.unregister(keys, head, [(one, 0)], 10_000) for one in new)
        start = grace.start(keys, head, "other", new, "request", more=False, if_empty="wait", reason=b"bench")
        yield "grace_start, a roster of 30", self.cost_undone(start)

        self.home.crash()
        for _ in range(int(LAPSE / TICK)):
            self.world.jump(TICK)
            self.node.run(node.renew())
        head = node.lease.head(node.now())
        evict = nodes.evict(keys, head, self.home.owner, tight=True)
        yield "node_evict", self.cost_undone(evict)
        self.world.run(evict)
        yield "node_renew, in grace", self.cost(nodes.renew(keys, head, 0) for _ in range(SAMPLES))
        yield "client_register, of a lost owner", self.cost(register(moving))
        yield "reclaim_admit", self.cost(grace.admit(keys, head, one) for one in moving)
        yield "reclaim_complete", self.cost(grace.complete(keys, head, [one], idle=False) for one in moving)
        end = grace.end(keys, head, 0, b"bench", "request")
        yield "grace_end, with the lift", self.cost_undone(end)
        self.world.run(end)
        yield "orphan_drain, 2 clients", self.cost(releases.drain(keys, head, 2) for _ in range(SAMPLES))
        claims: list[releases.Claim] = []
        claim = releases.claim(keys, head, 1, 60_000, 0)
        yield "release_claim", self.cost((claim for _ in range(SAMPLES)), lambda reply: claims.extend(reply[1]))
        adapters = node.settings.adapters
        yield "release_ack", self.cost(releases.ack(keys, head, claimed, adapters) for claimed in claims)

    def cost(self, calls: Iterable[base.Call[Any]], then: Callable[[Any], object] = lambda _: None) -> Iterator[float]:
        """Iterate over the server's microseconds of each call; refusals are errors."""
        for call in calls:
            self.redis.config_resetstat()
            reply = self.world.run(call)
            stats: Any = self.redis.info("commandstats")
            result = call.parse(reply)
            then(result)
            if isinstance(result, list) and isinstance(result[0], Exception):
                raise result[0]
            yield float(stats["cmdstat_evalsha"]["usec"])

    def cost_undone(self, call: base.Call[Any]) -> Iterator[float]:
        """Iterate over the costs of a call that is undone each time."""
        names = [self.world.key(name) for name in SMALL]
        names += [self.world.key("node", player.owner) for player in self.world.nodes]
        kept = {name: self.redis.dump(name) for name in names}

        def undo(_: object) -> None:
            for name, value in kept.items():
                self.redis.delete(name)
                if value is not None:
                    self.redis.restore(name, 0, value)

        yield from self.cost([call] * SAMPLES, undo)
