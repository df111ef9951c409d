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
from coordinator.node import Grant, Node, Sleep
from coordinator.node.keeper import Keeper
from coordinator.protocol import Call
from coordinator.protocol.keys import Keys
from coordinator.settings import CLOCK_STEP_MAX_SECONDS
from coordinator.wire.blocking import Channel
from coordinator.wire.connector import Connector
from tests.model.reference import need

if TYPE_CHECKING:
    import redis

    from coordinator.protocol import Reply
    from coordinator.protocol.releases import Claim

FAR_AHEAD = 10**15
"""A last `raw` from which the machine's clock seems to go backwards: the scope clock moves only when it is told to."""
EPOCH_MS = 10**12
TICK = 0.5
START = 1000.0
"""Node time at the beginning."""
STEPS_MAX = 400
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
    reply: Reply | errors.CoordinatorError | None = None
    """Executed, not delivered yet."""
    over: bool = False
    client: bytes = b""
    """Whose lock it is about, if it is about one."""

    def advance(self, value: Any = None, error: BaseException | None = None) -> None:
        """Let the flow go on to its next request."""
        self.reply = None
        try:
            self.request = self.flow.send(value) if error is None else self.flow.throw(error)
        except StopIteration as stop:
            self.over, self.request = True, None
            self.done(stop.value)
        except errors.CoordinatorError:
            self.over, self.request = True, None
        else:
            if isinstance(self.request, Sleep):
                self.ready_at = self.process.now() + self.request.seconds
            elif not isinstance(self.request, Call):
                self.ready_at = self.request.until

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
    ops: list[Op] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    periods: list[GracePeriod] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    woken: bool = False
    started: bool = False

    def __post_init__(self) -> None:
        """Begin to join."""
        self.node = Node(
            self.name,
            "default",
            self.settings or self.sim.settings,
            LockMetrics.disabled(),
            ,
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
        self.keeper = Keeper(self.node)
        self.cursor = "0-0"
        self.begin(self.node.join(), self._joined)

    def _joined(self, _: None) -> None:
        self.started = True
        self.cursor = self.node.last_event
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

    def begin(
        self, flow: Generator[Any, Any, Any], done: Callable[[Any], None] = lambda _: None, client: bytes = b""
    ) -> Op:
        """Begin an operation: its first request is ready."""
        op = Op(self, flow, done, client=client)
        self.ops.append(op)
        op.advance()
        return op

    def hear(self, limit: int = 1000) -> None:
        """Take events from the stream."""
        entries: Any = self.sim.redis.xrange(self.sim.key("events"), f"({self.cursor}", "+", count=limit)
        batch = [
            (at.decode(), fields[b"kind"].decode(), {name.decode(): value for name, value in fields.items()})
            for at, fields in entries
        ]
        if batch:
            self.cursor = batch[-1][0]
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
        self.set_back_at = float("-inf")
        """When Redis' machine has last stepped back: the scope clock stood still then."""
        self._last_ms = 0
        self.processes: list[Process] = []
        self.late: list[tuple[Call[Any], Op]] = []
        """Requests that were given up and may still arrive."""
        meta: Any = {
            "dataset": "d",
            "schema": "1",
            "revision": 0,
            "epoch": 0,
            "clock": EPOCH_MS,
            "raw": FAR_AHEAD,
        }
        client.hset(self.key("meta"), mapping=meta)

    def key(self, name: str) -> str:
        """Spell a key."""
        return self.keys.key(name).decode()

    # -- time ---------------------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Let time pass without anybody acting."""
        self.time += seconds

    def _move_clock(self) -> None:
        """Do what include/now does, for the simulated machine (test_30 holds the include itself to it)."""
        now_ms = round(self.time * 1000)
        elapsed = now_ms - self._last_ms + self.step_ms
        self._last_ms, self.step_ms = now_ms, 0
        moved = max(0, min(elapsed, int(CLOCK_STEP_MAX_SECONDS * 1000)))
        self.redis.hincrby(self.key("meta"), "clock", moved)
        self.redis.hset(self.key("meta"), "raw", FAR_AHEAD)

    # -- requests -----------------------------------------------------------------------------------------------------

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
        """Execute a request that was given up long ago; once its caller was told, it must do nothing any more.

        Unless the machine's clock was set back since: then that holds from the caller's next request on, at least.
        """
        call, op = self.late.pop(number)
        reply = self.call(call, op.process)
        told = op.over and op.process.alive
        done = reply.status in {"LATE", "FENCED"} or not call.head.not_after_ms
        told = told and self.set_back_at < (call.head.sent - START) / op.process.rate
        need(done or not told, f"8: {call.script.name} was executed after its caller went on: {reply.status}")

    # -- letting things happen ----------------------------------------------------------------------------------------

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
        elif op.reply is None:
            self.execute(op)
        else:
            self.deliver(op)

    def settle(self) -> None:
        """Let all living processes hear and do what there is to do at this moment."""
        for _ in range(STEPS_MAX):
            for process in self.processes:
                if process.acts and process.started:
                    process.hear()
            ops = self.ready()
            if not ops:
                return
            for op in ops:
                if not op.over:
                    self.go_on(op)
        msg = f"does not come to rest: {[op.request for op in self.ready()]}"
        raise AssertionError(msg)

    def run_on(self, seconds: float) -> None:
        """Let time pass with all living processes at work."""
        end = self.time + seconds
        while self.time < end - 1e-9:
            self.pass_time(min(TICK, end - self.time))
            self.settle()

    def close(self) -> None:
        """Give connections back."""
        self.channel.close()
