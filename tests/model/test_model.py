"""Hypothesis drives several nodes over the real scripts through crash, pause, drift, loss, repeat and delay.

After every script the scope must equal the reference model, and the invariants of protocol.md, section 9, hold (their
numbers stand in the messages); at the end everything that was owed must have been released, and nothing be left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import fakeredis
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from coordinator import Operation, Settings, StaleGrant
from coordinator.node import Grant
from coordinator.protocol import Call
from tests import acl
from tests.keyspace import leaks
from tests.model.lock_table import Lock, LockTable
from tests.model.reference import Reference, need
from tests.model.simulation import Op, Process, Simulation
from tests.model.snapshot import Snapshot, take
from tests.rounds import chosen, rounds

if TYPE_CHECKING:
    from coordinator.protocol import Reply
    from coordinator.protocol.releases import Claim

NAMES = ("n1", "n2", "n3")
CLIENTS = tuple(b"c%d" % i for i in range(5))
FILES = ("f", "g")
ADAPTERS = ("nfs", "smb")
LIMITS = {"nfs": 3, "smb": 1}
USES = dict.fromkeys(CLIENTS, "nfs") | {CLIENTS[-1]: "smb"}
"""Which adapter a client uses when nobody says another."""
RATES = (1.0, 1.0, 0.99, 1.01)
GRACE = 30.0
FIGURES: tuple[dict[str, Any], ...] = (
    {}, {}, {"grace_seconds": 12.0}, {"grace_seconds": 20.0, "barrier_margin_seconds": 4.0},
)  # fmt: skip
"""What nodes have of their own."""
_numbers = itertools.count(1)

pick = st.integers(0, 10**6)
clients = st.sampled_from(CLIENTS)
rates = st.sampled_from(RATES)
figures = st.sampled_from(FIGURES)


class Scope(RuleBasedStateMachine):
    """All nodes of a scope, its clients, and what may go wrong."""

    servers: tuple[Callable[[], redis.Redis], Callable[[], redis.Redis]]
    """Make a client for the test, and one for the product."""

    def __init__(self) -> None:
        """Begin with an empty scope."""
        super().__init__()
        own, product = type(self).servers
        self.redis = own()
        self.product = product() if product is not own else self.redis
        given = Settings(
            namespace=f"{acl.RUN}.model{next(_numbers)}",
            grace_seconds=GRACE,
            adapters=ADAPTERS,
            max_connections_per_adapter=LIMITS,
        )
        self.sim = Simulation(self.redis, self.product, given, self)
        self.model = Reference(given)
        self.table = LockTable(self._forgotten)
        self.model.on_end = self.table.end
        self.model.on_move = self.table.move
        self.model.on_forfeit = self.table.forfeit
        self.inserted: list[tuple[Process, Grant, Lock, Lock | None]] = []
        self.working: list[tuple[Process, Claim]] = []
        self.finishing: dict[bytes, Claim] = {}
        self.completing: dict[Process, list[bytes]] = {}
        """Clients whose locks are all back, and who wait for others to complete with."""
        self.rosters: set[str] = set()
        self.stepped_at = -100.0
        self.snapshot: Snapshot = take(self.redis, self.sim.keys)
        self.event = "0-0"

    # -- observing ----------------------------------------------------------------------------------------------------

    def executed(self, call: Call[Any], reply: Reply, process: Process) -> None:
        """Compare Redis with the model after every script."""
        entries: Any = self.redis.xrange(self.sim.key("events"), f"({self.event}", "+")
        events = [{name.decode(): value for name, value in fields.items()} for _, fields in entries]
        if entries:
            self.event = entries[-1][0].decode()
        strict = (
            not process.alive or process.node.lease.snapshot.strict or not process.node.lease.is_valid(process.now())
        )
        before, self.snapshot = self.snapshot, take(self.redis, self.sim.keys)
        self.model.executed(call, reply, events, self.snapshot, strict=strict)
        if reply.status in {"FENCED", "LATE"}:
            need(_facts(before) == _facts(self.snapshot), f"10: {call.script.name} answered {reply.status} and wrote")
        if call.script.name == "grace_start" and reply.status == "STARTED" and reply.data[0]:
            self.rosters.add(reply.data[0].decode())
        if call.script.name == "release_ack" and reply.status == "ACKED" and call.args[8] in self.finishing:
            claim = self.finishing.pop(call.args[8])
            self.table.acknowledged(claim.name.split(b"|", 2)[2], claim.release, self.rosters)
        self.model.compare(self.snapshot)
        for lock in self.table.locks:
            need(
                not lock.rightful or self.model.has_right(lock.client),
                f"8: {call.script.name} took the right to {lock}",
            )

    def _forgotten(self, owner: str) -> bool:
        """Tell whether an owner's locks block no more: it is lost, and its epoch is in force or over."""
        if owner in self.model.members:
            return False
        return owner not in self.model.lost or self.model.in_force

    # -- choosing -----------------------------------------------------------------------------------------------------

    def acting(self) -> list[Process]:
        """Return who is up."""
        return [process for process in self.sim.processes if process.acts and process.started]

    def one(self, choices: list[Any], number: int) -> Any:
        """Choose."""
        return choices[number % len(choices)]

    # -- life and death -----------------------------------------------------------------------------------------------

    @initialize(held=st.sampled_from([3, 2, 1, 0]), nodes=st.lists(st.tuples(rates, figures), min_size=2, max_size=3))
    def begin(self, held: int, nodes: list[tuple[float, dict[str, Any]]]) -> None:
        """Begin with nodes that serve clients which hold locks."""
        for name, (rate, own) in zip(NAMES, nodes, strict=False):
            self.join(name, rate, own, dead=False)
        self.sim.settle()
        first = self.sim.processes[0]
        for client, file in list(zip(CLIENTS, (*FILES, "h"), strict=False))[:held]:
            self.register(0, [client], 0, 0)
            self.sim.settle()
            self.lock(0, client)
            self.sim.settle()
            self.insert(0, file)
            self.confirm(0, wait=False)
        need(len(self.table.of(CLIENTS[0])) == min(held, 1), "the first lock was not granted")
        need(first.started, "did not start")

    def join(self, name: str, rate: float, own: dict[str, Any], *, dead: bool) -> None:
        """Begin a process with figures of its own."""
        self.sim.processes.append(Process(self.sim, name, rate, dead, replace(self.sim.settings, **own)))

    @rule(name=st.sampled_from(NAMES), rate=rates, own=figures, dead=st.booleans())
    def start(self, name: str, rate: float, own: dict[str, Any], *, dead: bool) -> None:
        """Start a node, perhaps while another process has its name; `dead`: it says that none has."""
        same = [process for process in self.sim.processes if process.name == name and process.alive]
        if len(same) < 2 and sum(process.alive for process in self.sim.processes) < 4:
            self.join(name, rate, own, dead=dead and not same)

    @rule(what=st.sampled_from(["crash", "pause", "resume", "resume", "leave"]), number=pick)
    def live_or_die(self, what: str, number: int) -> None:
        """Let a process crash, stop, go on or leave."""
        paused = [process for process in self.sim.processes if process.paused]
        if what == "resume" and paused:
            self.one(paused, number).paused = False
        elif what in {"crash", "pause", "leave"} and len(self.acting()) > 1:
            getattr(self, what)(self.one(self.acting(), number))

    def crash(self, process: Process) -> None:
        """Kill a process: what it was sending may still arrive."""
        for op in process.ops:
            if op.is_call and op.reply is None:
                self.sim.late.append((op.request, op))
        process.alive = False
        for owner, _, lock, _ in self.inserted:
            if owner is process:
                self.table.remove(lock)  # the store rolls back what was not confirmed
        self.inserted = [item for item in self.inserted if item[0] is not process]
        self.working = [item for item in self.working if item[0] is not process]

    def pause(self, process: Process) -> None:
        """Stop a process."""
        process.paused = True

    def leave(self, process: Process) -> None:
        """Let a node leave after it has finished or undone what it was granting."""
        for owner, _, lock, _ in self.inserted:
            if owner is process:
                self.table.remove(lock)
        self.inserted = [item for item in self.inserted if item[0] is not process]
        process.node.claims_releases = False
        process.ops.clear()
        process.begin(process.node.leave(), lambda _: setattr(process, "alive", False))

    # -- what servers do ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.acting())
    @rule(
        what=st.sampled_from(["register", "register", "unregister", "touch"]),
        number=pick,
        some=st.lists(clients, min_size=1, max_size=2, unique=True),
        ttl=st.sampled_from([0, 0, 5]),
        boot=st.sampled_from([0, 0, 0, 1, 2]),
        adapter=st.sampled_from(["", "", "", *ADAPTERS]),
    )
    def ask(  # noqa: PLR0913, PLR0917  (what is drawn)
        self, what: str, number: int, some: list[bytes], ttl: int, boot: int, adapter: str
    ) -> None:
        """Begin what a server does about one client or two."""
        if what == "register":
            self.register(number, some, ttl, boot, adapter)
        else:
            getattr(self, what)(number, some)

    def register(self, number: int, some: list[bytes], ttl: int, boot: int, adapter: str = "") -> None:
        """Connect clients; by the adapter that they are known to use, if none is named."""
        node = self.one(self.acting(), number)
        verifier = b"boot%d" % boot if boot else None
        known = {client: reg.adapter for client, reg in self.model.clients.items()}
        items = [
            node.node.registering(client, adapter or known.get(client, USES[client]), "", ttl, verifier, None)
            for client in some
        ]
        node.begin(node.node.register(items))

    def unregister(self, number: int, some: list[bytes]) -> None:
        """Disconnect clients."""
        node = self.one(self.acting(), number)
        node.begin(node.node.unregister([(client, 0) for client in some]))

    def touch(self, number: int, some: list[bytes]) -> None:
        """Say that clients were seen."""
        node = self.one(self.acting(), number)
        node.begin(node.node.touch(some))

    @precondition(lambda self: self.acting())
    @rule(what=st.sampled_from(["lock", "admit", "drop"]), number=pick, client=clients)
    def ask_for_locks(self, what: str, number: int, client: bytes) -> None:
        """Begin what a server does about a client's locks."""
        getattr(self, what)(number, client)

    @precondition(lambda self: self.acting())
    @rule(
        what=st.sampled_from(["restore", "end", "cancel", "cancel", "revoke"]),
        number=pick,
        client=clients,
        empty=st.sampled_from(["wait", "skip"]),
    )
    def operate(self, what: str, number: int, client: bytes, empty: str) -> None:
        """Let an operator, or a server that starts, act."""
        node = self.one(self.acting(), number)
        if what == "restore":
            found = sorted({lock.client for lock in self.table.locks if lock.confirmed})
            node.begin(node.node.start_grace(found, empty, "restored"))
        elif what == "end":
            epoch = (0, self.model.epoch, self.model.epoch - 1)[number % 3]
            node.begin(node.node.end_grace("model", epoch))
        else:
            node.begin(getattr(node.node, what)(client))

    def lock(self, number: int, client: bytes) -> None:
        """Ask for a new lock: hold and check."""
        node = self.one(self.acting(), number)
        node.begin(node.node.begin_grant(client), node.grants.append, client)

    def admit(self, number: int, client: bytes) -> None:
        """Ask to reclaim."""
        node = self.one(self.acting(), number)
        node.begin(node.node.admit(client), node.grants.append, client)

    def drop(self, number: int, client: bytes) -> None:
        """Let a client give back all that it has at a node, which is granting it nothing now; then it locks again."""
        node = self.one(self.acting(), number)
        granting = [op.client for op in node.ops if not op.over] + [grant.entry.client for grant in node.grants]
        granting += [grant.entry.client for process, grant, *_ in self.inserted if process is node]
        if client in granting or node.node.registry.get(client) is None:
            return
        for lock in self.table.of(client):
            if lock.home == node.owner:
                self.table.remove(lock)
        before = len(self.inserted)
        node.begin(
            node.node.drop(client),
            lambda _: node.begin(node.node.begin_grant(client), node.grants.append, client),
            client,
        )
        if number % 2:  # at once, or with whatever comes in between
            self.sim.settle()
            self.insert_all(1)
            self.confirm_since(before)

    @precondition(lambda self: len(self.acting()) > 1)
    @rule(number=pick, seconds=st.sampled_from([10.0, 12.0, 9.0, 3.0, 0.0]), back=st.sampled_from([2, 0, 1, 2]))
    def lose_holders(self, number: int, seconds: float, back: int) -> None:
        """Kill a node that serves a lock, and let some time pass; perhaps some of its clients come back then."""
        serving = [p for p in self.acting() if any(lock.home == p.owner for lock in self.table.locks)]
        if serving:
            self.crash(self.one(serving, number))
            self.sim.run_on(seconds)
        if back and self.model.expected() and self.acting():
            self.come_back(4 * number + 1, CLIENTS[0], back, 0)

    @precondition(lambda self: self.acting())
    @rule(number=pick, client=clients, count=st.sampled_from([2, 1]), stop=st.sampled_from([0, 0, 0, 3, 4, 5]))
    def come_back(self, number: int, client: bytes, count: int, stop: int) -> None:
        """Let a client or two reconnect and reclaim as clients do; `stop`: where they are left alone in the middle."""
        before, expected = len(self.inserted), sorted(self.model.expected())
        some = [client]
        if expected and number % 4:
            some = sorted({self.one(expected, number + i) for i in range(count)})
        steps: list[Callable[[], object]] = [
            lambda: self.register(number, some, 0, 0),
            self.sim.settle,
            lambda: self.admit_all(number, some),
            self.sim.settle,
            lambda: self.insert_all(len(some)),
            lambda: self.confirm_since(before, wait=len(some) > 1),
        ]
        for step in steps[: stop or None]:
            if self.acting():
                step()

    def admit_all(self, number: int, some: list[bytes]) -> None:
        """Ask to reclaim for each, as long as anybody is there to ask."""
        for client in some:
            if self.acting():
                self.admit(number, client)

    def insert_all(self, count: int) -> None:
        """Insert what so many checks or admissions allowed."""
        for _ in range(count):
            if any(process.grants for process in self.acting()):
                self.insert(0, "f")

    @precondition(lambda self: self.acting())
    @rule(number=pick, client=clients, file=st.sampled_from(FILES))
    def take_lock(self, number: int, client: bytes, file: str) -> None:
        """Let a client reconnect and lock, with nothing in between."""
        before = len(self.inserted)
        self.register(number, [client], 0, 0)
        self.sim.settle()
        if not self.acting():
            return  # the last one was just leaving
        self.lock(number, client)
        self.sim.settle()
        if any(process.grants for process in self.acting()):
            self.insert(0, file)
        self.confirm_since(before)

    @precondition(lambda self: self.acting())
    @rule(number=pick, client=clients, file=st.sampled_from(FILES))
    def be_overtaken(self, number: int, client: bytes, file: str) -> None:
        """Let a grant wait for its confirm while a period comes and goes."""
        before = len(self.inserted)
        self.register(number, [client], 0, 0)
        self.sim.settle()
        if self.acting():
            self.lock(number, client)
            self.sim.settle()
        if any(process.grants for process in self.acting()):
            self.insert(0, file)
        for what in ("restore", "end"):
            if self.acting():
                self.operate(what, 3 * number, client, "skip")
            self.sim.settle()
        self.confirm_since(before)

    def confirm_since(self, before: int, *, wait: bool = False) -> None:
        """Confirm what was inserted since."""
        for _ in self.inserted[before:]:
            if any(item[0].acts for item in self.inserted):
                self.confirm(-1, wait=wait)

    @precondition(lambda self: any(process.grants for process in self.acting()))
    @rule(number=pick, file=st.sampled_from(FILES))
    def insert(self, number: int, file: str) -> None:
        """Insert what a check or an admission allowed."""
        node = self.one([process for process in self.acting() if process.grants], number)
        grant = node.grants.pop(0)
        client = grant.entry.client
        if grant.operation is Operation.NEW:
            lock = self.table.insert(file, client, grant.owner, grant.generation)
            if lock is None:
                node.begin(node.node.uncount_lock(client, grant.generation))
            else:
                self.inserted.append((node, grant, lock, None))
            return
        for old in self.table.of(client):
            if self._forgotten(old.home):
                lock = self.table.reclaim(old, grant.owner, grant.generation)
                if lock is None:
                    node.node.stop_reclaiming(client)
                    return  # told to try again: not all locks are back, so it does not complete
                self.inserted.append((node, grant, lock, old))
        self.inserted.append((node, grant, Lock("", client, grant.owner, grant.generation, grant.owner), None))

    @precondition(lambda self: any(item[0].acts for item in self.inserted))
    @rule(number=pick, wait=st.sampled_from([False, False, False, True]))
    def confirm(self, number: int, *, wait: bool) -> None:
        """Confirm an insert, or undo it; a client whose locks are all back completes, or waits for another to do so."""
        item = self.one([item for item in self.inserted if item[0].acts], number)
        node, grant, lock, old = item
        self.inserted.remove(item)
        client = grant.entry.client
        try:
            grant.confirm()
        except StaleGrant:
            self.table.remove(lock)
            if grant.operation is Operation.NEW:
                node.begin(node.node.uncount_lock(client, grant.generation))
                return
            for other in [other for other in self.inserted if other[1] is grant]:
                self.inserted.remove(other)
                self.table.remove(other[2])
            node.node.stop_reclaiming(client)
            return
        if grant.operation is Operation.NEW:
            model = self.model
            beginning = model.active and not model.in_force and grant.epoch == model.epoch - 1
            good = beginning or (not model.active and grant.epoch == model.epoch)
            need(good, f"1: a new lock of epoch {grant.epoch} took effect in epoch {model.epoch}")
            reg = model.clients.get(client)
            current = reg and (reg.owner, reg.generation, reg.state) == (grant.owner, grant.generation, "live")
            need(not current or client in model.held(grant.owner), f"8: {client!r} has a lock and is no holder")
            self.table.confirm(lock)
            return
        lifted = not self.model.active or self.model.epoch != grant.epoch
        need(not lifted, f"1: a reclaim of epoch {grant.epoch} took effect after its lift")
        if lock.file:
            self.table.confirm(lock)
            if old is not None:
                self.table.remove(old)
        if not any(other[1] is grant for other in self.inserted):
            waiting = self.completing.setdefault(node, [])
            waiting.append(client)
            if len(waiting) == 2 or not wait:
                node.begin(node.node.complete(waiting))
                del self.completing[node]

    @precondition(lambda self: self.acting())
    @rule(number=pick, client=clients)
    def unlock(self, number: int, client: bytes) -> None:
        """Unlock one lock of a client here."""
        node = self.one(self.acting(), number)
        for lock in self.table.of(client):
            if lock.home == node.owner:
                self.table.remove(lock)
                node.begin(node.node.uncount_lock(client))
                return

    # -- releases -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: any(process.claims for process in self.acting()))
    @rule(number=pick)
    def begin_release(self, number: int) -> None:
        """Let a worker begin a callback."""
        node = self.one([process for process in self.acting() if process.claims], number)
        claim = node.claims.pop(0)
        if node.keeper.may_begin(claim):
            for other, begun in self.working:
                good = other.now() < other.keeper._good_until.get(begun.name, 0.0)
                need(not (good and _same_right(begun, claim)), f"6: {claim.release} is worked on by two nodes")
            self.working.append((node, claim))

    @precondition(lambda self: any(item[0].acts for item in self.working))
    @rule(number=pick, fails=st.sampled_from([False, False, False, True]))
    def end_release(self, number: int, *, fails: bool) -> None:
        """Let a callback end, in time or given up."""
        item = self.one([item for item in self.working if item[0].acts], number)
        self.working.remove(item)
        node, claim = item
        if node.now() >= node.keeper._good_until.get(claim.name, 0.0):
            return  # the worker stopped acting: its claim has run out
        if fails:
            node.begin(node.keeper.failed(claim))
            return
        self.table.free(claim.release, claim.name.split(b"|", 2)[2])
        self.finishing[claim.name] = claim
        node.begin(node.keeper.done(claim))

    # -- the network, time --------------------------------------------------------------------------------------------

    def requests(self) -> list[Op]:
        """Return operations of living processes that have a round trip next."""
        return [
            op for process in self.sim.processes if process.acts for op in process.ops if op.is_call and not op.over
        ]

    @precondition(lambda self: self.acting())
    @rule(what=st.sampled_from(["step", "step", "step", "lose", "repeat", "late", "hear"]), number=pick)
    def network(self, what: str, number: int) -> None:
        """Execute a request or deliver its reply; lose either; execute it twice, or long after; deliver some events."""
        requests = self.requests()
        if what == "hear":
            self.one(self.acting(), number).hear(1 + number % 3)
        elif what == "late" and self.sim.late:
            self.sim.arrive(number % len(self.sim.late))
        elif what == "lose" and requests:
            self.sim.lose(self.one(requests, number))
        elif what == "repeat" and requests:
            op = self.one(requests, number)
            self.sim.call(op.request, op.process)
        elif requests:
            self.sim.go_on(self.one(requests, number))

    @rule(ms=st.sampled_from([1, 50, 400, 500, 1500, 3000]))
    def pass_time(self, ms: int) -> None:
        """Let time pass, nobody acts."""
        self.sim.pass_time(ms / 1000)

    @rule()
    def settle(self) -> None:
        """Let everybody do what there is to do now."""
        self.sim.settle()

    @rule(seconds=st.sampled_from([1.0, 4.0, 10.0]))
    def run_on(self, seconds: float) -> None:
        """Let time pass with everybody at work."""
        self.sim.run_on(seconds)

    @rule(ms=st.sampled_from([-3_600_000, -500, 1000, 2000, 3_600_000]))
    def step_clock(self, ms: int) -> None:
        """Step the clock of Redis' machine, once within a lease at the most."""
        if self.sim.time - self.stepped_at > 12:
            self.stepped_at = self.sim.time
            self.sim.step_ms += ms
            if ms < 0:
                self.sim.set_back_at = self.sim.time

    @invariant()
    def nothing_is_left_over(self) -> None:
        """Check that every key has a TTL, or is permanent, or something will take it away."""
        left_over = leaks(self.redis, self.sim.settings.namespace)
        need(not left_over, f"11: {left_over}")

    @invariant()
    def no_end_is_announced_twice(self) -> None:
        """Check that each process is told of each epoch once."""
        for process in self.sim.processes:
            epochs = [period.epoch for period in process.periods]
            need(len(epochs) == len(set(epochs)), "on_grace_end came twice for an epoch")

    # -- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Let everything come to its end: grace ends by its cap, what is owed is released, nothing stays."""
        try:
            if self.sim.processes:
                self._wind_up()
        finally:
            self.sim.close()
            names = list(self.snapshot.raw)
            if names:
                self.redis.delete(*names)
            self.redis.close()
            self.product.close()

    def _wind_up(self) -> None:
        survivor = Process(self.sim, "last")
        self.sim.processes.append(survivor)
        for process in self.sim.processes:
            process.paused = False
            if process is not survivor:
                process.alive = False
        self.inserted.clear()
        self.working.clear()
        bound = 2 * (self.sim.settings.lease_seconds * 2 + self.sim.settings.barrier_margin_seconds + 2 * GRACE) + 30
        begun = self.sim.time
        while self.sim.time < begun + bound and not self._wound_up(survivor):
            self.sim.run_on(2.0)
            self._work_all(survivor)
            for client in CLIENTS:
                reg = self.model.clients.get(client)
                if reg is not None and reg.owner == survivor.owner and reg.state == "live":
                    survivor.begin(survivor.node.unregister([(client, 0)]))
        self.sim.settle()
        self._work_all(survivor)
        need(not self.model.active, "9: grace does not end by itself")
        need(set(self.model.members) == {survivor.owner}, "dead members stay")
        need(not self.model.clients, f"6: registrations stay: {self.model.clients}")
        need(not self.table.owed, f"6: forfeited and never released: {self.table.owed}")
        need(not self.table.locks, f"6: locks that nobody frees: {self.table.locks}")
        survivor.node.claims_releases = False
        survivor.ops.clear()
        survivor.begin(survivor.node.leave())
        self.sim.settle()
        left = {self.sim.keys.name_of(name) for name in self.snapshot.raw}
        need(left <= {"meta", "grace", "reclaimed", "events", "node"}, f"11: keys stay: {left}")

    def _wound_up(self, survivor: Process) -> bool:
        model = self.model
        rest = model.active or model.clients or model.orphans or self.table.locks or self.snapshot.due
        return survivor.started and not rest and set(model.members) == {survivor.owner}

    def _work_all(self, node: Process) -> None:
        while node.claims or self.working:
            while node.claims:
                self.begin_release(0)
            while self.working:
                self.end_release(0, fails=False)
            self.sim.settle()


def _same_right(one: Claim, other: Claim) -> bool:
    """Tell whether two releases, perhaps of different names, are of one registration.

    Two of different registrations of a client may be worked on at once although each covers what is older than itself:
    neither touches what the client rightly has, and what both free is nobody's. One of all generations is of the
    newest under its owner, as a disconnect is; one that was revoked or rebooted may have been followed by others.
    """
    mine, yours = one.name.split(b"|", 2), other.name.split(b"|", 2)
    same = (mine[0], mine[2]) == (yours[0], yours[2])
    newest = b"*" in {mine[1], yours[1]} and "disconnect" in {one.release.reason, other.release.reason}
    return same and (mine[1] == yours[1] or newest)


def _facts(snapshot: Snapshot) -> dict[bytes, Any]:
    """Return all of it but the clock, which the simulation moves, and what callers said that they have given up."""
    facts = dict(snapshot.raw)
    for name, value in facts.items():
        if isinstance(value, dict):
            facts[name] = {field: v for field, v in value.items() if field not in {b"clock", b"raw", b"floor"}}
    return facts


def _fake() -> redis.Redis:
    made: redis.Redis = fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(7,)))
    return made


def run(own: Callable[[], redis.Redis], product: Callable[[], redis.Redis], examples: int) -> None:
    """Run the machine over servers to which these connect: so many examples, the same each time, or random ones."""
    random = chosen.simulate
    run_state_machine_as_test(
        type("Machine", (Scope,), {"servers": (own, product)}),
        settings=settings(
            max_examples=random or examples,
            stateful_step_count=80 if random else 60,
            deadline=None,
            database=None,
            derandomize=not random,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate] + [Phase.shrink] * bool(random),
            report_multiple_bugs=False,
        ),
    )


def test_the_model_on_fakeredis() -> None:
    """No order of events breaks a promise."""
    run(_fake, _fake, rounds(15, full=100))


def test_the_model_on_a_real_server(admin_url: str, real_url: str) -> None:
    """No order of events breaks a promise, with the rights of the shipped ACL file."""
    run(
        lambda: redis.Redis.from_url(admin_url, protocol=2),
        lambda: redis.Redis.from_url(real_url, protocol=2),
        rounds(5, full=20),
    )
