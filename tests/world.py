"""A scope with several nodes whose time is driven: no threads, no sleeping, the real scripts on any server."""

from __future__ import annotations

import contextlib
import functools
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from prometheus_client import CollectorRegistry

from coordinator import (
    Freed,
    GracePeriod,
    GraceStarted,
    LockMetrics,
    Move,
    Operation,
    Release,
    Settings,
    StaleEpoch,
    Unavailable,
    Verdict,
)
from coordinator.api.driving import drive
from coordinator.api.operations import Grace
from coordinator.api.shared import good_clients, only
from coordinator.node import Event, Flow, Grant, Node, Sleep, Wait
from coordinator.node.keeper import Keeper
from coordinator.protocol import script
from coordinator.protocol.call import OPERATOR, Head, nothing
from coordinator.protocol.keys import Keys
from coordinator.protocol.nodes import initialize
from coordinator.wire.blocking import Channel
from coordinator.wire.commands import events_of
from coordinator.wire.connector import Connector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from coordinator.protocol import Call, Reply
    from coordinator.protocol.releases import Claim
    from coordinator.values import ClientRegistration, GraceView, ReclaimOutcome, Unregistered

T = TypeVar("T")
GRACE = 60.0
TICK = 0.4
REQUESTS_MAX = 5_000
"""Round trips and sleeps after which a flow, or a keeper, does not end any more."""
FAR_AHEAD = 10**15
"""A last `raw` from which the machine's clock seems to go backwards: the scope clock stands still."""


class World:
    """The server, the clock of all, and the nodes."""

    def __init__(
        self, client: redis.Redis, namespace: str, product: redis.Redis | None = None, settings: Settings | None = None
    ) -> None:
        """Use a namespace of its own. `client` is the test's, to look and to drive time; the nodes use `product`."""
        self.redis = client
        self.settings = settings or Settings(namespace=namespace, grace_seconds=GRACE)
        self.frozen = True
        """The machine's clock does not move the scope's: only jump does."""
        self.channel = Channel(Connector(product or client, self.settings), self.settings)
        self.time = 1000.0
        self._step_ms = 0
        self.nodes: list[Player] = []

    def initialize(self, scope: str = "default") -> None:
        """Mark a scope without data as a new installation."""
        keys = Keys(self.settings.namespace, scope)
        if not self.redis.exists(keys.meta):
            nothing(self.run(initialize(keys.meta, Head(OPERATOR, 0.0), "first")))

    def node(self, name: str, *, new: bool = True, **facts: Any) -> Player:
        """Let a node join; `facts` are those of a Player. `new`: a scope without data is a new installation."""
        if new:
            self.initialize(facts.get("scope", "default"))
        player = Player(self, name, **facts)
        self.nodes.append(player)
        return player

    def run(self, call: Call[Any]) -> Reply:
        """Run one call at this very moment of the scope clock."""
        if not self.frozen:
            return self.channel.run(call)
        meta, raw = call.key.decode(), FAR_AHEAD
        if self._step_ms:
            seconds, micros = self.redis.time()
            raw = seconds * 1000 + micros // 1000 - self._step_ms
        self.redis.hset(meta, "raw", raw)
        reply = self.channel.run(call)
        if self._step_ms and int(self.redis.hget(meta, "raw") or 0) != raw:
            self._step_ms = 0  # a script has stored it
        return reply

    def step(self, seconds: float) -> None:
        """Set the clock of Redis' machine forward: no time passes, and the next script that writes finds the step."""
        self._step_ms = round(seconds * 1000)

    @property
    def clock(self) -> int:
        """The scope clock, in ms."""
        return int(self.redis.hget(self.key("meta"), "clock") or 0)

    def gone_at(self, player: Player) -> int:
        """Return the last ms of the scope clock at which a member still holds up a barrier: its lease's end plus M."""
        deadline: Any = self.redis.zscore(self.key("members"), player.owner)
        return int(deadline) + round(self.settings.barrier_margin_seconds * 1000)

    def events(self) -> list[str]:
        """Return the kinds of all transitions so far."""
        return [kind for _, kind, _, _ in self.read_events("-")]

    def read_events(self, after: str, scope: str = "default") -> list[Event]:
        """Return the events from an id on, with fields that stand there several times, which redis-py loses."""
        read = "return redis.call('XRANGE', KEYS[1], ARGV[1], '+')"
        entries: Any = self.redis.eval(read, 1, self.key("events", scope=scope), after)
        return events_of([[b"", entries]])

    def dump(self, *kinds: str) -> dict[bytes, Any]:
        """Return all keys (or those of these kinds) with what they hold, but for the scope clock itself."""
        keys, dumped = Keys(self.settings.namespace, "default"), {}
        read: dict[Any, Callable[[bytes], Any]] = {
            b"hash": self.redis.hgetall,
            b"set": self.redis.smembers,
            b"zset": lambda key: self.redis.zrange(key, 0, -1, withscores=True),
            b"stream": self.redis.xrange,
        }
        for key in self.redis.scan_iter(f"{self.settings.namespace}:*"):
            if not kinds or keys.name_of(key) in kinds:
                dumped[key] = read[self.redis.type(key)](key)
        for field_ in (b"clock", b"raw"):
            dumped.get(keys.key("meta"), {}).pop(field_, None)
        return dumped

    def key(self, name: str, suffix: str = "", scope: str = "default") -> str:
        """Spell a key."""
        return f"{self.settings.namespace}:{{{scope}}}:{name}" + (f":{suffix}" if suffix else "")

    def rights(self) -> dict[str, tuple[str, int]]:
        """Return where each client has its right, under a member or on a roster, and up to which generation."""
        members: Any = self.redis.zrange(self.key("members"), 0, -1)
        lost: Any = self.redis.smembers(self.key("lost"))
        found: dict[str, tuple[str, int]] = {}
        for owner in sorted(name.decode() for name in {*members, *lost}):
            held: Any = self.redis.hgetall(self.key("holders", owner))
            for client, generation in held.items():
                name = client.decode("utf-8", "surrogateescape")
                assert name not in found, f"{name} has two rights: {found[name]} and one under {owner}"
                found[name] = (owner, int(generation))
        return found

    def pass_time(self, seconds: float, *, beat: bool = True) -> None:
        """Let time pass for Redis and all nodes; living nodes beat meanwhile."""
        while seconds > 1e-9:
            step = min(seconds, TICK) if beat else seconds
            self.jump(step)
            seconds -= step
            if beat:
                self.settle()

    def jump(self, seconds: float) -> None:
        """Move the scope clock and node time together, without anybody acting."""
        self.time += seconds
        for scope in {node.scope for node in self.nodes}:
            self.redis.hincrby(self.key("meta", scope=scope), "clock", round(seconds * 1000))

    def reach(self, clock_ms: int) -> None:
        """Let time pass until the scope clock stands at this very ms; nobody has acted in that last moment."""
        self.pass_time(max(0.0, (clock_ms - self.clock) / 1000 - TICK))
        self.jump((clock_ms - self.clock) / 1000)

    def settle(self, rounds: int = 4) -> None:
        """Deliver events and let the keepers run until nothing is left to do."""
        for _ in range(rounds):
            for node in self.nodes:
                if node.alive:
                    node.listen()
                    node.tick()

    def close(self) -> None:
        """Give connections back."""
        self.channel.close()


@dataclass(eq=False)
class Player:
    """One node, driven by hand: its keeper runs when the test says so."""

    world: World
    name: str
    dead: bool = False
    scope: str = "default"
    rate: float = 1.0
    """How fast its clock runs."""
    scripts: Path | None = None
    """A folder of scripts of its own: another version."""
    settings: Settings | None = None
    """Settings of its own; else the world's."""
    alive: bool = True
    cut_off: bool = False
    """Alive, but nothing it sends reaches Redis."""
    hangs: bool = False
    """Its keeper and its ears stand still, while others wait for something."""
    releases: list[Release] = field(default_factory=list)
    periods: list[GracePeriod] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    freed: list[Freed] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    held_back: list[Claim] = field(default_factory=list)
    callback: bool = True
    """False: claims are kept in held_back, as a worker that is slow or dies would."""

    def __post_init__(self) -> None:
        """Join."""
        self.registry = CollectorRegistry()
        self.metrics = LockMetrics(self.registry)
        self.node = Node(
            self.name,
            self.scope,
            self.settings or self.world.settings,
            self.metrics,
            predecessor_dead=self.dead,
            version="test",
            now=lambda: self.world.time * self.rate,
        )
        self.node.closed = False
        self.node.claims_releases = True
        self.node.on_claims = self._work
        self.node.on_period = self.periods.append
        self.node.on_move = self.moves.append
        self.node.on_freed = self.freed.append
        self.node.on_ended = self.ended.append
        self.keeper = Keeper(self.node)
        self._busy = False
        self.run(self.node.join())
        self._keeping = self.keeper.run()
        self.cursor = self.node.last_event

    def run(self, flow: Flow[T]) -> T:
        """Run a flow; while it sleeps, the other nodes do what there is to do."""
        return drive(flow, self.send, self._pause)

    def _pause(self, _: object) -> None:
        for node in self.world.nodes:
            if node.alive and not node.hangs:
                node.listen()
                node.tick()

    def send(self, call: Call[Any]) -> Reply:
        """Send one call, as this node's version of its script."""
        if self.cut_off:
            message = "nothing was reached"
            raise Unavailable(message)
        if self.scripts is not None:
            call.script = _parse(call.script.name, self.scripts)
        return self.world.run(call)

    def tick(self) -> None:
        """Run the keeper until it has nothing more to do now."""
        if self._busy:
            return  # it is in the middle of a step, in which others have their turn
        if self.node.now() >= self.keeper._beat_at - 0.7:
            self.node.must_renew = True

        sent = itertools.count()

        def send(call: Call[Any]) -> Reply:
            if next(sent) == REQUESTS_MAX:
                pytest.fail("the keeper never rests")
            return self.send(call)

        def rest(request: Sleep | Wait) -> None:
            if isinstance(request, Wait):
                raise _Idle

        self._busy = True
        try:
            with contextlib.suppress(_Idle):
                drive(self._keeping, send, rest)
        finally:
            self._busy = False
        self._keeping = self.keeper.run()

    def listen(self) -> None:
        """Hear what has happened."""
        if self.cut_off:
            return
        for identifier, kind, event, clients in self.world.read_events(f"({self.cursor}", self.scope):
            self.cursor = identifier
            self.node.hear(kind, event, clients)

    def _work(self, claims: list[Claim], asked: float) -> None:
        for claim in self.keeper.took(claims, asked):
            if self.callback:
                self.releases.append(claim.release)
                self.run(self.keeper.done(claim))
            else:
                self.held_back.append(claim)

    def crash(self) -> None:
        """Stop without a word."""
        self.alive = False

    def metric(self, name: str, **labels: str) -> float | None:
        """Read a sample of this node as a scrape shows it."""
        if name.startswith("coordinator_"):
            labels.update(node=self.name, scope=self.scope)
        return self.registry.get_sample_value(f"dittofs_{name}", labels)

    @property
    def over(self) -> str:
        """Why its incarnation is over; empty while it is not."""
        return self.node.lease.why_not.value if self.node.lease.is_over else ""

    # -- what a file server does ----------------------------------------------------------------------------------

    @property
    def owner(self) -> str:
        """The incarnation."""
        return self.node.lease.owner

    def register(  # noqa: PLR0913  (as the method it stands for)
        self,
        client: str | bytes,
        *,
        adapter: str = "nfs",
        remote_addr: str = "10.0.0.7:712",
        ttl: float = 0.0,
        verifier: str | None = None,
        principal: str | None = None,
    ) -> ClientRegistration:
        """Connect a client."""
        item = self.node.registering(client, adapter, remote_addr, ttl, verifier, principal)
        result: ClientRegistration = only(self.run(self.node.register([item])))
        return result

    def unregister(self, client: str, generation: int = 0) -> Unregistered:
        """Disconnect a client."""
        result: Unregistered = only(self.run(self.node.unregister([(_raw(client), generation)])))
        return result

    def lock(self, client: str) -> Grant:
        """Grant a lock and confirm it."""
        grant = self.begin_lock(client)
        grant.confirm()
        return grant

    def begin_lock(self, client: str) -> Grant:
        """Hold and check; not confirmed."""
        return self.run(self.node.begin_grant(_raw(client)))

    def unlock(self, client: str) -> None:
        """One lock less."""
        self.run(self.node.uncount_lock(_raw(client)))

    def start(
        self, *clients: str, if_empty: str = "wait", meanwhile: Callable[[], object] = lambda: None
    ) -> GraceStarted:
        """Start grace for the clients of a lock store, which is read after the roster was opened, as node.grace does.

        `meanwhile` happens between the read and the start.
        """
        while True:
            epoch = self.run(self.node.open_roster(if_empty, "restored"))
            ids, bad = good_clients("clients", clients)
            meanwhile()
            with contextlib.suppress(StaleEpoch):
                return self.run(self.node.bring_roster(epoch, ids, bad, if_empty, "restored"))

    @property
    def grace(self) -> Grace:
        """The period of the scope, as users of this node's coordinator have it."""
        face: Any = SimpleNamespace(_node=self.node, _run=self.run, _call=lambda read: read())
        return Grace(face)

    def expected(self) -> list[str]:
        """Read who may still reclaim, in order."""
        return sorted(self.grace.expected_clients())

    def admit(self, client: str) -> Grant:
        """Ask to reclaim."""
        return self.run(self.node.admit(_raw(client)))

    def complete(self, client: str) -> ReclaimOutcome:
        """Have all locks back."""
        result: ReclaimOutcome = only(self.run(self.node.complete([_raw(client)])))
        return result

    def reclaim(self, client: str) -> ReclaimOutcome:
        """Register if need be, reclaim and complete."""
        if self.node.registry.get(_raw(client)) is None:
            self.register(client)
        self.admit(client).confirm()
        return self.complete(client)

    def check(self, operation: Operation = Operation.NEW) -> Verdict:
        """Ask locally."""
        verdict: Verdict = self.node.check(operation)
        return verdict

    def view(self) -> GraceView:
        """Read the period."""
        return self.run(self.node.grace_view())

    def view_of(self, client: str) -> ClientRegistration:
        """Read a client's registration."""
        (view,) = self.run(self.node.view_clients([_raw(client)]))
        assert view is not None
        return view

    def leave(self) -> None:
        """Leave the scope."""
        self.run(self.node.leave(self.world.time))
        self.alive = False

    def released(self) -> list[tuple[str, str]]:
        """Return what was freed here: client and reason."""
        return [(release.client_id, release.reason) for release in self.releases]


_parse = functools.cache(script.parse)


class _Idle(Exception):
    """The keeper waits."""


def _raw(client: str) -> bytes:
    return client.encode("utf-8", "surrogateescape")


def all_released(world: World) -> Iterator[tuple[str, str]]:
    """Iterate over what any node freed."""
    for node in world.nodes:
        yield from node.released()
