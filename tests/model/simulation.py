"""Several nodes over the real scripts, one request at a time: any pause, loss, repeat or delay can be put in between.

A `Process` is one life of a node; what it does are `Op`s: generators of `coordinator.node` and its keeper, each at
rest at its next request. The request is executed and its reply delivered in two steps, each whenever the test says
so; requests that were lost may still be executed later, or twice. Time is driven: true time, the clock of Redis'
machine (which may step), and a clock of each process (which may drift).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from coordinator import GracePeriod, LockMetrics, Move, Settings, errors
from coordinator.node import Event, Grant, Node, Sleep
from coordinator.node.keeper import Keeper
from coordinator.protocol import Call
from coordinator.protocol.call import OPERATOR, Head, nothing
from coordinator.protocol.keys import Keys
from coordinator.protocol.nodes import initialize
from coordinator.settings import CLOCK_STEP_MAX_SECONDS
from coordinator.wire.blocking import Channel
from coordinator.wire.commands import events_of
from coordinator.wire.connector import Connector
from tests.model.snapshot import copy, put_back

if TYPE_CHECKING:
    import redis

    from coordinator.protocol import Reply
    from coordinator.protocol.releases import Claim

FAR_AHEAD = 10**15
"""A last `raw` from which the machine's clock seems to go backwards: the scope clock moves only when it is told to."""
READ = "return redis.call('XRANGE', KEYS[1], ARGV[1], '+')"
EPOCH_MS = 2 * 10**12
"""The scope clock at the beginning: later than any real one, which a scope without data begins with."""
TICK = 0.5
START = 1000.0
"""Node time at the beginning."""
POLL = 0.004
"""By so much time goes on at the least while somebody sleeps."""
PATIENCE = 0.17
"""How long settle lets those wait who sleep for a few ms, to ask again then."""
STEPS_MAX = 600
"""Requests after which a simulation that does not come to rest is at fault."""


class Observer(Protocol):
    """Sees every script that was executed, before its reply is delivered."""

    def executed(self, call: Call[Any], reply: Reply, process: Process) -> None:
        """Take note."""


@dataclass(eq=False)
class Op:
    """A flow at rest at its next request."""

    process: Process
    flow: Generator[Any, Any, Any]
    done: Callable[[Any], None] = lambda _: None
    request: Any = None
    ready_at: float = 0.0
    """Node time at which a Sleep or Wait is over."""
    slept_until: float = 0.0
    """Node time at which the last Sleep was over: who polls does so on time, however long a tick is."""
    reply: Reply | errors.CoordinatorError | None = None
    """Executed, not delivered yet."""
    over: bool = False
    failed: Callable[[errors.CoordinatorError], None] = lambda _: None

    def advance(self, value: Any = None, error: BaseException | None = None) -> None:
        """Let the flow go on to its next request; sleeps that follow each other and are over are one step."""
        self.reply = None
        while True:
            try:
                self.request = self.flow.send(value) if error is None else self.flow.throw(error)
            except StopIteration as stop:
                self.over, self.request = True, None
                self.done(stop.value)
                return
            except errors.CoordinatorError as caught:
                self.over, self.request = True, None
                self.failed(caught)
                return
            value = error = None
            if not isinstance(self.request, Sleep):
                self.slept_until = 0.0
                self.ready_at = getattr(self.request, "until", 0.0)
                return
            self.ready_at = (self.slept_until or self.process.now()) + self.request.seconds
            self.slept_until = self.ready_at
            if self.process.now() < self.ready_at:
                return

    @property
    def is_call(self) -> bool:
        """Tell whether a round trip is next."""
        return isinstance(self.request, Call)


@dataclass(eq=False)
class Process:
    """One life of a node. `rate`: how fast its clock runs against true time."""

    sim: Simulation
    name: str
    rate: float = 1.0
    dead_predecessor: bool = False
    settings: Settings | None = None
    """Settings of its own; else the simulation's."""
    alive: bool = True
    paused: bool = False
    deaf: bool = False
    """It reads no events, and learns what it must by its renewals."""
    ops: list[Op] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    periods: list[GracePeriod] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    woken: bool = False
    started: bool = False

    def __post_init__(self) -> None:
        """Begin to join."""
        self.node = Node(
            self.name,
            "default",
            self.settings or self.sim.settings,
            LockMetrics.disabled(),
            predecessor_dead=self.dead_predecessor,
            version="model",
            now=self.now,
        )
        self.node.closed = False
        self.node.claims_releases = True
        self.node.wake = self._wake
        self.node.on_claims = self._took
        self.node.on_period = self.periods.append
        self.node.on_move = self.moves.append
        self.node.on_ended = self.ends.append
        self.keeper = Keeper(self.node)
        self.heard = 0
        """How many of the scope's events it has read."""
        self.begin(self.node.join(), self._joined, self._not_joined)

    def _not_joined(self, _: errors.CoordinatorError) -> None:
        self.alive = False

    def _joined(self, _: None) -> None:
        self.started = True
        last, log = self.node.last_event, self.sim.log
        # The last one of that id: an event of data that were lost may have had it as well, in the same real ms.
        self.heard = next((i + 1 for i in reversed(range(len(log))) if log[i][0] == last), len(log))
        self.begin(self.keeper.run())

    def _wake(self) -> None:
        self.woken = True

    def _took(self, claims: list[Claim], asked: float) -> None:
        self.claims += self.keeper.took(claims, asked)

    def now(self) -> float:
        """Return this node's time."""
        return START + self.sim.time * self.rate

    @property
    def owner(self) -> str:
        """The incarnation."""
        return self.node.lease.owner

    @property
    def acts(self) -> bool:
        """Tell whether it is neither dead nor stopped."""
        return self.alive and not self.paused

    @property
    def is_over(self) -> bool:
        """Tell whether this incarnation has ended: its server is about to start anew."""
        return self.node.lease.is_over

    def begin(
        self,
        flow: Generator[Any, Any, Any],
        done: Callable[[Any], None] = lambda _: None,
        failed: Callable[[errors.CoordinatorError], None] = lambda _: None,
    ) -> Op:
        """Begin an operation: its first request is ready."""
        op = Op(self, flow, done, failed=failed)
        self.ops.append(op)
        op.advance()
        return op

    def hear(self, limit: int = 1000) -> None:
        """Take events from the stream."""
        batch = self.sim.log[self.heard : self.heard + limit]
        if batch:
            self.heard += len(batch)
            self.node.hear_all(batch)


class Simulation:
    """Redis, its machine's clock, and all processes."""

    def __init__(self, client: redis.Redis, product: redis.Redis, settings: Settings, observer: Observer) -> None:
        """Begin with a scope without clients, at a fixed time; `client` is the test's own."""
        self.redis = client
        self.settings = settings
        self.keys = Keys(settings.namespace, "default")
        self.observer = observer
        self.channel = Channel(Connector(product, settings), settings)
        self.time = 0.0
        self.step_ms = 0
        """How far Redis' machine has stepped since the last script."""
        self._last_ms = self._stepped_ms = 0
        self.processes: list[Process] = []
        self.log: list[Event] = []
        """All events so far, also those of data that are lost."""
        self._newest = "0-0"
        self.late: list[tuple[Call[Any], Op]] = []
        """Requests that were given up and may still arrive."""
        self.trouble: list[str] = []
        """What becomes of the next requests, one after the other; "" is nothing unusual."""
        call = initialize(self.keys.meta, Head(OPERATOR, 0.0), "d")
        nothing(self.channel.run(call))
        client.hset(self.key("meta"), mapping={"clock": EPOCH_MS, "raw": FAR_AHEAD})

    def key(self, name: str) -> str:
        """Spell a key."""
        return self.keys.key(name).decode()

    def read_events(self) -> list[Event]:
        """Read what is new in the stream, with fields that stand there several times, which redis-py loses."""
        entries: Any = self.redis.eval(READ, 1, self.key("events"), f"({self._newest}")
        news = events_of([[b"", entries]])
        if news:
            self._newest = news[-1][0]
            self.log += news
        return news

    def newest_event(self) -> str:
        """Return the id of the newest event."""
        entry: Any = self.redis.xrevrange(self.key("events"), count=1)
        return entry[0][0].decode() if entry else "0-0"

    # -- data that are lost ---------------------------------------------------------------------------------------

    def save(self) -> tuple[Any, int]:
        """Copy all data, as a backup or a replica that lags behind has them."""
        return copy(self.redis, self.keys), self._last_ms

    def put_back(self, saved: tuple[Any, int] | None) -> None:
        """Have older data again; None: no data at all."""
        copied, last = saved or ((), 0)
        put_back(self.redis, self.keys, list(copied))
        if saved is None:  # the machine's clock is what a scope without data begins with
            clock = EPOCH_MS + round(self.time * 1000) + self._stepped_ms
            self.redis.hset(self.key("meta"), mapping={"clock": clock, "raw": FAR_AHEAD})
            last = round(self.time * 1000)
        self._last_ms = last
        self._newest = self.newest_event()

    # -- time -----------------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Let time pass without anybody acting."""
        self.time += seconds

    def step_clock(self, ms: int) -> None:
        """Step the clock of Redis' machine."""
        self.step_ms += ms
        self._stepped_ms = max(0, self._stepped_ms + ms)

    def _move_clock(self) -> None:
        """Do what include/now does, for the simulated machine (test_30 holds the include itself to it)."""
        now_ms = round(self.time * 1000)
        elapsed = now_ms - self._last_ms + self.step_ms
        self._last_ms, self.step_ms = now_ms, 0
        moved = max(0, min(elapsed, int(CLOCK_STEP_MAX_SECONDS * 1000)))
        self.redis.hincrby(self.key("meta"), "clock", moved)
        self.redis.hset(self.key("meta"), "raw", FAR_AHEAD)

    # -- requests -------------------------------------------------------------------------------------------------

    def call(self, call: Call[Any], process: Process) -> Reply:
        """Execute one request now."""
        self._move_clock()
        reply = self.channel.run(call)
        self.observer.executed(call, reply, process)
        return reply

    def execute(self, op: Op) -> None:
        """Execute an operation's request; the reply waits."""
        op.reply = self.call(op.request, op.process)

    def deliver(self, op: Op) -> None:
        """Give an operation its reply."""
        op.advance(op.reply)

    def lose(self, op: Op) -> None:
        """Tell an operation that no reply came; a request that was not executed may still be."""
        if op.reply is None:
            self.late.append((op.request, op))
        op.advance(error=errors.OutcomeUnknown("lost"))

    def arrive(self, number: int) -> None:
        """Execute a request that was given up long ago; the model knows whether it must do nothing."""
        call, op = self.late.pop(number)
        self.call(call, op.process)

    # -- letting things happen ------------------------------------------------------------------------------------

    def ready(self) -> list[Op]:
        """Return the operations that can go on now."""
        found = []
        for process in self.processes:
            process.ops = [op for op in process.ops if not op.over]
            if not process.acts:
                continue
            found += [op for op in process.ops if op.is_call or self._is_over(op)]
        return found

    @staticmethod
    def _is_over(op: Op) -> bool:
        """Tell whether a sleep or a wait has ended."""
        woken = op.process.woken and not isinstance(op.request, Sleep)
        return woken or op.process.now() >= op.ready_at

    def go_on(self, op: Op) -> None:
        """Take an operation's next step, with nothing going wrong."""
        if not op.is_call:
            if not isinstance(op.request, Sleep):
                op.process.woken = False
            op.advance()
        elif op.reply is None and self.trouble:
            self._in_trouble(op, self.trouble.pop(0))
        elif op.reply is None:
            self.execute(op)
        else:
            self.deliver(op)

    def _in_trouble(self, op: Op, what: str) -> None:
        """Refuse a request, lose it or its reply, execute it twice, or after one that was given up."""
        if what == "late" and self.late:
            self.arrive(0)
        if what == "refuse":
            op.advance(error=errors.Unavailable("nothing was reached"))
            return
        if what == "lose":
            self.lose(op)
            return
        if what == "repeat":  # the second answer counts: a request that is older than its reply does nothing (floor)
            self.call(op.request, op.process)
        self.execute(op)
        if what == "silence":
            self.lose(op)

    def settle(self, patience: float = PATIENCE) -> None:
        """Let all living processes hear and do what there is to do now; wait a little for those who sleep briefly."""
        until = self.time + patience
        for _ in range(STEPS_MAX):
            for process in self.processes:
                if process.acts and process.started and not process.deaf:
                    process.hear()
            ops = self.ready()
            for op in ops:
                if not op.over:
                    self.go_on(op)
            if not ops:
                wakes = min((self._wakes_at(op) for op in self.sleepers()), default=until + 1)
                if wakes > until:
                    return
                self.time = max(self.time + POLL, wakes)
        msg = f"does not come to rest: {[op.request for op in self.ready()]}"
        raise AssertionError(msg)

    def sleepers(self) -> list[Op]:
        """Return the operations of living processes that sleep."""
        return [op for p in self.processes if p.acts for op in p.ops if isinstance(op.request, Sleep) and not op.over]

    @staticmethod
    def _wakes_at(op: Op) -> float:
        return (op.ready_at - START) / op.process.rate + 1e-6

    def run_on(self, seconds: float) -> None:
        """Let time pass with all living processes at work."""
        end = self.time + seconds
        while self.time < end - 1e-9:
            self.pass_time(min(TICK, end - self.time))
            self.settle(0.0)

    def close(self) -> None:
        """Give connections back."""
        self.channel.close()
