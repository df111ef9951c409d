"""What each script costs the server, with 100 to 100,000 clients: it must not grow with them."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from benchmarks.direct import FAR, Node, Scope
from benchmarks.figure import Figure
from coordinator.protocol import clients, grace, nodes, releases, script
from coordinator.protocol.call import OPERATOR, Head
from coordinator.protocol.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIZES = (100, 1_000, 10_000, 100_000)
SAMPLES = 30
SLOPE_MAX = 1.5
CLAIM_MS, RETENTION_MS = 60_000, 86_400_000
PROMISED = (
    "grace_start", "node_evict", "reclaim_", "client_register", "client_touch", "client_hold", "client_drop",
    "client_view", "client_unregister", "client_cancel", "client_yield", "client_revoke",
)  # fmt: skip
"""A grace start, each reclaim, all about one registration."""
BIG = ("client", "clients", "holders", "adapter", "reclaimed", "forfeited", "due", "releases")
"""Keys that grow with the clients: what a transition changes in the others is undone by putting those back."""
Step = tuple[str, Iterator[float]]
"""What is measured: the name of its script, then perhaps what is special about it; and the samples."""


def measure() -> Iterator[Figure]:
    """Measure medians of INFO commandstats, all sizes in turns."""
    with contextlib.ExitStack() as stack:
        populations = [Population(Scope(stack), size) for size in SIZES]
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


class Population:
    """A scope with two nodes; the first has all the clients, each with a lock."""

    def __init__(self, scope: Scope, size: int) -> None:
        """Register the clients and let them hold."""
        self.scope, self.redis = scope, scope.redis
        self.home, self.node = Node(scope, "home"), Node(scope, "other")
        self.ids = [b"client-%d" % i for i in range(size)]
        self.home.register_holders(self.ids)

    def steps(self) -> Iterator[Step]:
        """Live the life of a scope: normal, moves, a node lost, reclaims, the lift, the releases; samples of each step.

        The samples of a step must be taken before the next step.
        """
        yield from self._clients([b"new-%d" % i for i in range(SAMPLES)])
        yield from self._moves(self.ids[:SAMPLES])
        yield from self._nodes()
        yield from self._rosters()
        yield from self._reclaims(self.ids[SAMPLES : 2 * SAMPLES])
        yield from self._releases()

    def _clients(self, new: Sequence[bytes]) -> Iterator[Step]:
        node, pairs = self.node, list[tuple[bytes, int]]()

        def each(build: Callable[..., Any]) -> Iterator[float]:
            return self.cost(lambda pair: node.ask(build, [pair]), pairs)

        yield "client_register, new", self.cost(lambda one: pairs.extend(node.register([one])), new)
        yield "client_touch", self.cost(lambda one: node.ask(clients.touch, [one]), new)
        yield "client_hold", each(clients.hold)
        yield "client_drop", each(clients.drop)
        yield "client_view", self.cost(lambda one: node.ask(clients.view, [one]), new)
        yield "client_page", self.cost(lambda _: node.ask(clients.page, "nfs", "0", SAMPLES), new)
        yield (
            "client_unregister",
            self.cost(lambda one: node.ask(clients.unregister, [(one, 0)], CLAIM_MS, RETENTION_MS), new),
        )
        yield "client_cancel", self.cost(lambda one: node.ask(clients.cancel, [one], own=False), new)
        yield "client_revoke", self.cost(lambda one: node.ask(clients.revoke, one), new)

    def _moves(self, moving: Sequence[bytes]) -> Iterator[Step]:
        def asked(one: bytes) -> None:
            item = clients.Registering(one, "nfs", FAR, b"", 0, b"", b"")
            self.node.answer(clients.register, [item])  # refused: held by its home

        yield "client_register, of a client that is held", self.cost(asked, moving)
        yield "client_yield", self.cost(lambda one: self.home.ask(clients.yield_, [one]), moving)
        yield "client_register, of a client that was yielded", self.cost(lambda one: self.node.register([one]), moving)

    def _nodes(self) -> Iterator[Step]:
        adapters, some = self.scope.settings.adapters, range(SAMPLES)
        yield "node_renew", self.cost(lambda _: self.node.ask(nodes.renew, self.node.revision), some)
        yield "scope_view", self.cost(lambda _: self.node.ask(nodes.view, adapters), some)
        joined: list[Node] = []
        yield "node_join", self.cost(lambda i: joined.append(Node(self.scope, f"new-{i}")), some)
        yield "node_leave, without holders", self.cost(lambda i: joined[i].ask(nodes.leave), some)
        yield "scope_init, of a scope of its own", self.cost(self._initialize, some)
        yield "scope_lost", self.cost_undone(self._lost)

    def _initialize(self, number: int) -> None:
        head = Head(OPERATOR, 0.0)
        call = nodes.initialize(Keys(self.scope.settings.namespace, f"new-{number}").meta, head, "new")
        call.result(self.scope.run(call))

    def _lost(self) -> None:
        node = self.node
        told = Head(node.owner, 0.0, node.serial, 0, 0, b"another 9 9 normal 0 0 0 0")
        call = nodes.lost(self.scope.keys.meta, told, "new", FAR, 1, self.scope.settings)
        call.result(self.scope.run(call))

    def _rosters(self) -> Iterator[Step]:
        node, ids = self.node, [b"restored-%d" % i for i in range(SAMPLES)]
        facts: dict[str, Any] = {"if_empty": "wait", "reason": b"bench"}

        def open_roster() -> int:
            epoch: int = node.ask(grace.start, "other", 0, [], more=True, **facts)[0]
            return epoch

        yield "grace_start, a roster is opened", self.cost_undone(open_roster)
        epoch = open_roster()
        yield (
            "grace_start, a roster of 30",
            self.cost_undone(lambda: node.ask(grace.start, "other", epoch, ids, more=False, **facts)),
        )
        yield "grace_withdraw", self.cost_undone(lambda: node.ask(grace.withdraw, "other"))
        node.ask(grace.withdraw, "other")

    def _reclaims(self, moving: Sequence[bytes]) -> Iterator[Step]:
        node, some, adapters = self.node, range(SAMPLES), self.scope.settings.adapters
        self.home.die()
        yield "node_evict", self.cost_undone(lambda: node.ask(nodes.evict, self.home.owner))
        node.ask(nodes.evict, self.home.owner)
        yield "node_renew, in grace", self.cost(lambda _: node.ask(nodes.renew, 0), some)
        node.ask(grace.advance, node.revision)
        yield "grace_advance", self.cost(lambda _: node.ask(grace.advance, node.revision), some)
        page = (0, "", "0")
        yield "roster_page", self.cost(lambda _: node.ask(grace.roster, "expected", page, SAMPLES), some)
        yield "scope_view, in grace", self.cost(lambda _: node.ask(nodes.view, adapters), some)
        yield "client_register, of a lost owner", self.cost(lambda one: node.register([one]), moving)
        yield "reclaim_admit", self.cost(lambda one: node.ask(grace.admit, one), moving)
        yield "reclaim_complete", self.cost(lambda one: node.ask(grace.complete, [one]), moving)

        def end() -> None:
            node.ask(grace.end, 0, b"bench")
            node.ask(grace.advance, node.revision)

        yield "grace_end, with the lift", self.cost_undone(end)
        end()

    def _releases(self) -> Iterator[Step]:
        node, claims = self.node, list[releases.Claim]()
        adapters, some = self.scope.settings.adapters, range(SAMPLES)
        yield "orphan_drain, 2 clients", self.cost(lambda _: node.ask(releases.drain, 2), some)
        yield (
            "release_claim",
            self.cost(lambda _: claims.extend(node.ask(releases.claim, 1, CLAIM_MS, 0)[1]), some),
        )
        yield (
            "release_renew",
            self.cost(lambda i: node.ask(releases.renew, [claims[i % len(claims)]], CLAIM_MS), some),
        )
        yield "release_ack", self.cost(lambda i: node.ask(releases.ack, [claims[i % len(claims)]], adapters), some)

    def cost(self, call: Callable[[Any], object], given: Sequence[Any]) -> Iterator[float]:
        """Iterate over the server's us of a call with each of what is given."""
        for one in given:
            yield self._spent(lambda one=one: call(one))  # type: ignore[misc]

    def cost_undone(self, call: Callable[[], object]) -> Iterator[float]:
        """Iterate over the costs of a call that is undone each time."""
        names = [key for key in self.redis.scan_iter("*", count=10_000) if self.scope.name_of(key) not in BIG]
        names += [self.scope.keys.key("lost"), self.scope.keys.key("open"), self.scope.keys.key("orphans")]
        kept = {name: self.redis.dump(name) for name in names}
        told = self.node.serial, self.node.writes, self.node.view
        for _ in range(SAMPLES):
            yield self._spent(call)
            for name, value in kept.items():
                self.redis.delete(name)
                if value is not None:
                    self.redis.restore(name, 0, value)
            self.node.serial, self.node.writes, self.node.view = told

    def _spent(self, call: Callable[[], object]) -> float:
        self.redis.config_resetstat()
        call()
        stats: Any = self.redis.info("commandstats")
        return float(stats["cmdstat_evalsha"]["usec"])
