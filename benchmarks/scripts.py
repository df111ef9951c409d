"""What each script costs the server, with 100 to 100,000 clients: it must not grow with them."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from benchmarks.figure import Figure
from coordinator.embedded import Server
from coordinator.protocol import call as base
from coordinator.protocol import clients, grace, nodes, releases, script
from coordinator.protocol.keys import SCOPE_KEYS
from coordinator.wire.connector import from_url
from tests.population import register_holders
from tests.world import TICK, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SIZES = (100, 1_000, 10_000, 100_000)
SAMPLES = 30
SLOPE_MAX = 1.5
PROMISED = (
    "grace_start", "node_evict", "reclaim_", "client_register", "client_touch", "client_hold", "client_drop",
    "client_view", "client_unregister", "client_cancel", "client_revoke",
)  # fmt: skip
"""A grace start, each reclaim, all about one registration."""
LAPSE = 10.0
"""Seconds after which a crashed member may be evicted."""
SMALL = tuple(name for name in SCOPE_KEYS if name not in {"reclaimed", "due", "releases", "ending"})
"""Keys that do not grow with the clients: what a transition changes is undone by putting them back."""


def measure() -> Iterator[Figure]:
    """Measure medians of INFO commandstats, all sizes in turns; nodes' and scope's time stands still meanwhile."""
    with contextlib.ExitStack() as stack:
        populations = [Population(stack, size) for size in SIZES]
        unmeasured = set(script.names())
        for steps in zip(*(population.steps() for population in populations), strict=True):
            turns = zip(*(samples for _, samples in steps), strict=True)
            costs = [statistics.median(of_size) for of_size in zip(*turns, strict=True)]
            detail = {f"us at {size:,}:": cost for size, cost in zip(SIZES, costs, strict=True)}
            name = steps[0][0]
            unmeasured.discard(name.split(",")[0])
            most = SLOPE_MAX if name.startswith(PROMISED) else None
            yield Figure(f"{name}: {SIZES[-1]:,} / {SIZES[0]}", costs[-1] / costs[0], "x", most, detail)
        if unmeasured:
            msg = f"no step measures {', '.join(sorted(unmeasured))}"
            raise AssertionError(msg)


Step = tuple[str, Iterator[float]]
"""What is measured: the name of its script, then perhaps what is special about it; and the samples."""


class Population:
    """A scope with two nodes; the first has all the clients, each with a lock."""

    def __init__(self, stack: contextlib.ExitStack, size: int) -> None:
        """Register the clients and let them hold, by the product's own batches, on a server of its own."""
        self.redis = from_url(stack.enter_context(Server()).url)
        stack.callback(self.redis.close)
        for name in script.names():
            self.redis.script_load(script.load(name).source)
        self.world = World(self.redis, "bench")
        stack.callback(self.world.close)
        self.world.settings = dataclasses.replace(self.world.settings, max_connections=2 * SIZES[-1])
        self.home, self.node = self.world.node("home"), self.world.node("other")
        self.ids = [b"client-%d" % i for i in range(size)]
        register_holders(self.home.node, self.home.run, self.ids)

    def steps(self) -> Iterator[Step]:
        """Live the life of a scope: normal, a node lost, reclaims, the lift, the releases; with samples of each step.

        The samples of a step must be taken before the next step.
        """
        new = [b"new-%d" % i for i in range(SAMPLES)]
        yield from self._clients(new)
        yield from self._nodes()
        start = self._call(grace.start, "other", new, "request", more=False, if_empty="wait", reason=b"bench")
        yield "grace_start, a roster of 30", self.cost_undone(start)
        self.home.crash()
        for _ in range(int(LAPSE / TICK)):
            self.world.jump(TICK)
            self.node.run(self.node.node.renew())
        yield from self._reclaims(self.ids[:SAMPLES])
        yield from self._releases()

    def _call(self, build: Callable[..., base.Call[Any]], *arguments: Any, **more: Any) -> base.Call[Any]:
        """Build a call of the node that is measured, as it would send it now."""
        node = self.node.node
        return build(node.keys, node.lease.head(node.now()), *arguments, **more)

    def _each(self, build: Callable[..., base.Call[Any]], *arguments: Any) -> Iterator[base.Call[Any]]:
        """Build the same call for each sample."""
        return (self._call(build, *arguments) for _ in range(SAMPLES))

    def _register(self, ids: Iterable[bytes], ttl: float = 0.0) -> Iterator[base.Call[Any]]:
        for one in ids:
            item = self.node.node.registering(one, "nfs", "10.0.0.7:712", ttl, None, None)
            yield self._call(clients.register, [item])

    def _statuses(self, name: str, arguments: Iterable[tuple[bytes | int, ...]]) -> Iterator[base.Call[Any]]:
        for of_one in arguments:
            node = self.node.node
            yield clients.statuses(name, node.keys, node.lease.head(node.now()), of_one)

    def _clients(self, new: list[bytes]) -> Iterator[Step]:
        known: list[clients.Registered] = []
        yield "client_register, new", self.cost(self._register(new, ttl=30), known.extend)
        pairs = [(one, registered.generation) for one, registered in zip(new, known, strict=True)]
        yield "client_touch", self.cost(self._statuses("client_touch", [(one,) for one in new]))
        yield "client_hold", self.cost(self._statuses("client_hold", pairs))
        yield "client_drop", self.cost(self._statuses("client_drop", pairs))
        yield "client_view", self.cost(self._call(clients.view, [one]) for one in new)
        yield "client_page", self.cost(self._each(clients.page, "nfs", "0", SAMPLES))
        yield "client_unregister", self.cost(self._call(clients.unregister, [(one, 0)], 10_000) for one in new)
        yield "client_cancel", self.cost(self._call(clients.cancel, one, f"{one!r}") for one in new)
        yield "client_revoke", self.cost(self._call(clients.revoke, one, "request") for one in new)

    def _nodes(self) -> Iterator[Step]:
        node = self.node.node
        yield "node_renew", self.cost(self._each(nodes.renew, node.lease.acked))
        yield "scope_view", self.cost(self._each(nodes.view, node.settings.adapters))
        head = dataclasses.replace(node.lease.head(node.now()), owner="", not_after_ms=0, writes=0)
        joined: list[nodes.Joined] = []
        joins = (
            nodes.join(
                node.keys, head, f"new-{i}", f"boot {i}", "", node.settings, "bench", bootstrap=True,
                predecessor_dead=False,
            )
            for i in range(SAMPLES)
        )  # fmt: skip
        yield "node_join", self.cost(joins, joined.append)
        owners = [f"new-{i}:{each.incarnation}" for i, each in enumerate(joined)]
        leaves = (nodes.leave(node.keys, dataclasses.replace(head, owner=owner)) for owner in owners)
        yield "node_leave, without holders", self.cost(leaves)

    def _reclaims(self, moving: list[bytes]) -> Iterator[Step]:
        evict = self._call(nodes.evict, self.home.owner, tight=True)
        yield "node_evict", self.cost_undone(evict)
        self.world.run(evict)
        yield "node_renew, in grace", self.cost(self._each(nodes.renew, 0))
        yield "grace_advance", self.cost(self._call(grace.advance, tight=True) for _ in range(SAMPLES))
        yield "roster_page", self.cost(self._each(grace.roster, "expected", ("", "0"), SAMPLES))
        yield "scope_view, in grace", self.cost(self._each(nodes.view, self.node.node.settings.adapters))
        yield "client_register, of a lost owner", self.cost(self._register(moving))
        yield "reclaim_admit", self.cost(self._call(grace.admit, one) for one in moving)
        yield "reclaim_complete", self.cost(self._call(grace.complete, [one], idle=False) for one in moving)
        end = self._call(grace.end, 0, b"bench", "request")
        yield "grace_end, with the lift", self.cost_undone(end)
        self.world.run(end)

    def _releases(self) -> Iterator[Step]:
        yield "orphan_drain, 2 clients", self.cost(self._each(releases.drain, 2))
        claims: list[releases.Claim] = []
        claim = self._each(releases.claim, 1, 60_000, 0)
        yield "release_claim", self.cost(claim, lambda reply: claims.extend(reply[1]))
        yield "release_renew", self.cost(self._call(releases.renew, [one], 60_000) for one in claims)
        adapters = self.node.node.settings.adapters
        yield "release_ack", self.cost(self._call(releases.ack, one, adapters) for one in claims)

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
