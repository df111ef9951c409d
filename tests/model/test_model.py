"""Hypothesis drives several nodes over the real scripts through crash, pause, drift, loss, repeat, delay and lost data.

After every script the scope must equal the reference model, and the invariants of protocol.md, section 9, hold (their
numbers stand in the messages); at the end everything that was owed must have been released, and nothing be left.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

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

from tests.keyspace import leaks
from tests.model.facts import need
from tests.model.servers import ADAPTERS, CLIENTS, FILES, GRACE, NAMES, Inserted, Servers
from tests.model.simulation import Op, Process
from tests.rounds import chosen, rounds

RATES = (1.0, 1.0, 0.99, 1.01)
FIGURES: tuple[dict[str, Any], ...] = (
    {}, {}, {"grace_seconds": 12.0}, {"grace_seconds": 20.0, "barrier_margin_seconds": 4.0},
)  # fmt: skip
"""What nodes have of their own."""

pick = st.integers(0, 10**6)
clients = st.sampled_from(CLIENTS)
files = st.sampled_from(FILES)
rates = st.sampled_from(RATES)
figures = st.sampled_from(FIGURES)
seldom = st.sampled_from([False, False, False, True])


class Scope(RuleBasedStateMachine):
    """All nodes of a scope, its clients, and what may go wrong."""

    connect: tuple[Callable[[], redis.Redis], Callable[[], redis.Redis]]
    """Make a client for the test, and one for the product."""

    def __init__(self) -> None:
        """Begin with an empty scope."""
        super().__init__()
        own, product = type(self).connect
        client = own()
        self.s = Servers(client, product() if product is not own else client)
        self.sim, self.model, self.table = self.s.sim, self.s.model, self.s.table
        self.stepped_at = -100.0
        self.loses = False
        self.steps = 0

    # -- choosing -----------------------------------------------------------------------------------------------------

    def acting(self) -> list[Process]:
        """Return who is up and serves."""
        return self.s.acting()

    def node(self, number: int) -> Process:
        """Choose a node that serves."""
        chosen: Process = self.s.one(self.acting(), number)
        return chosen

    def requests(self) -> list[Op]:
        """Return operations of living processes that have a round trip next."""
        return [op for p in self.sim.processes if p.acts for op in p.ops if op.is_call and not op.over]

    def confirmable(self) -> list[Inserted]:
        """Return what waits for its confirm on a process that goes on."""
        return [item for item in self.s.inserted if item.process.acts]

    # -- life and death -----------------------------------------------------------------------------------------------

    @initialize(
        held=st.sampled_from([3, 3, 2, 1, 0]),
        nodes=st.lists(st.tuples(rates, figures), min_size=2, max_size=3),
        loses=seldom,
    )
    def begin(self, held: int, nodes: list[tuple[float, dict[str, Any]]], *, loses: bool) -> None:
        """Begin with nodes that serve clients which hold locks; in some runs data may be lost."""
        self.loses = loses
        for name, (rate, own) in zip(NAMES, nodes, strict=False):
            self.s.join(name, rate, own, dead=False)
        self.sim.settle()
        for client, file in list(zip(CLIENTS, (*FILES, "h"), strict=False))[:held]:
            self.lock_through(self.sim.processes[0], client, file)
            need(len(self.table.of(client)) == 1, "a first lock was not granted")

    def staff(self, number: int) -> None:
        """See to it that most nodes are up, one of them paused at the most, and that somebody has a lock."""
        for name in NAMES:
            alive = [process for process in self.sim.processes if process.alive and not process.is_over]
            if name not in {process.name for process in alive} and len(alive) < 3:
                self.s.join(name, RATES[number % 4], FIGURES[number % 3], dead=False)
        self.sim.settle()
        if self.acting() and not self.model.active and not any(self.model.holders[o] for o in self.model.members):
            self.lock_through(self.node(number), CLIENTS[number % 4], FILES[number % 2])

    def lock_through(self, node: Process, client: bytes, file: str) -> None:
        """Let a client connect and lock, with nothing in between."""
        if node in self.acting():
            self.s.register(node, [client])
            self.sim.settle()
        if node in self.acting():
            self.s.lock(node, client)
            self.sim.settle()
        self.insert_all(node, file)

    def insert_all(self, node: Process, file: str, *, confirm: bool = True) -> None:
        """Insert all that was granted at a node, and confirm it."""
        while node in self.acting() and node.grants:
            self.s.insert(node, file)
        while confirm and node.acts:
            mine = [item for item in self.s.inserted if item.process is node]
            if not mine:
                return
            self.s.confirm(mine[0])

    @rule(name=st.sampled_from(NAMES), rate=rates, own=figures, dead=st.booleans(), store=seldom)
    def start(self, name: str, rate: float, own: dict[str, Any], *, dead: bool, store: bool) -> None:
        """Start a node, perhaps while another process has its name; `dead`: it says that none has; or with a store."""
        alive = [process for process in self.sim.processes if process.alive and not process.is_over]
        same = [process for process in alive if process.name == name]
        if len(same) < 2 and len(alive) < 4:
            process = self.s.join(name, rate, own, dead=dead and not same)
            if store:
                self.sim.settle()
                if process in self.acting():
                    self.s.restore(process, "wait")

    @rule(what=st.sampled_from(["crash", "pause", "resume", "resume", "leave"]), number=pick)
    def live_or_die(self, what: str, number: int) -> None:
        """Let a process crash, stop, go on or leave."""
        paused = [process for process in self.sim.processes if process.paused]
        if what == "resume":
            if paused:
                self.s.one(paused, number).paused = False
        elif len(self.acting()) > 1:
            self.harm(self.node(number), what)

    def harm(self, process: Process, what: str) -> None:
        """Kill a process, stop it, or let it leave."""
        if what == "pause":
            process.paused = True
        elif what == "leave":
            self.s.leave(process)
        elif what == "crash":
            self.s.crash(process)

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
        node = self.node(number)
        if what == "register":
            self.s.register(node, some, ttl, boot, adapter)
        elif what == "unregister":
            self.s.unregister(node, some)
        else:
            node.begin(node.node.touch(some))

    @precondition(lambda self: self.acting())
    @rule(
        what=st.sampled_from(["lock", "lock", "admit", "admit", "drop", "unlock", "unlock", "complete"]),
        number=pick,
        client=clients,
        flag=st.booleans(),
    )
    def ask_for_locks(self, what: str, number: int, client: bytes, *, flag: bool) -> None:
        """Begin what a server does about a client's locks."""
        node = self.node(number)
        home = self.s.home(client)
        if number % 3 and home in self.acting():
            node = home
        match what:
            case "admit":
                self.s.admit(node, client, keep_open=flag)
            case "complete":
                self.s.complete(node, client, counted=flag)
            case _:
                getattr(self.s, what)(node, client)

    @precondition(lambda self: self.acting())
    @rule(
        what=st.sampled_from(["restore", "restore", "withdraw", "end", "cancel", "cancel", "revoke", "revoke"]),
        number=pick,
        client=clients,
        empty=st.sampled_from(["wait", "skip"]),
    )
    def operate(self, what: str, number: int, client: bytes, empty: str) -> None:
        """Let an operator, or a server that starts, act."""
        node = self.node(number)
        match what:
            case "restore":
                self.s.restore(node, empty)
            case "withdraw":
                node.begin(node.node.withdraw())
            case "end":
                epoch = (0, self.model.epoch, max(0, self.model.epoch - 1))[number % 3]
                node.begin(node.node.end_grace("model", epoch))
            case _:
                node.begin(getattr(node.node, what)(client))

    @precondition(lambda self: any(process.grants for process in self.acting()))
    @rule(number=pick, file=files)
    def insert(self, number: int, file: str) -> None:
        """Insert what a check or an admission allowed."""
        self.s.insert(self.s.one([process for process in self.acting() if process.grants], number), file)

    @precondition(lambda self: self.confirmable())
    @rule(number=pick, wait=seldom, counted=st.booleans())
    def confirm(self, number: int, *, wait: bool, counted: bool) -> None:
        """Confirm an insert, or undo it; complete then, or wait for another client to complete with."""
        self.s.confirm(self.s.one(self.confirmable(), number), wait=wait, counted=counted)

    @precondition(lambda self: any(process.claims for process in self.acting()))
    @rule(number=pick)
    def begin_release(self, number: int) -> None:
        """Let a worker begin a callback."""
        self.s.begin_release(self.s.one([process for process in self.acting() if process.claims], number))

    @precondition(lambda self: any(item[0].acts for item in self.s.working))
    @rule(number=pick, fails=seldom, frees=st.booleans())
    def end_release(self, number: int, *, fails: bool, frees: bool) -> None:
        """Let a callback end, in time or given up."""
        items = [item for item in self.s.working if item[0].acts]
        self.s.end_release(self.s.one(items, number), fails=fails, frees=frees)

    # -- clients in their worst order ---------------------------------------------------------------------------------

    @precondition(lambda self: self.acting())
    @rule(number=pick, client=clients, file=files)
    def take_lock(self, number: int, client: bytes, file: str) -> None:
        """Let a client reconnect and lock, with nothing in between."""
        self.lock_through(self.node(number), client, file)

    @precondition(lambda self: self.acting())
    @rule(
        number=pick,
        seconds=st.sampled_from([10.0, 12.0, 9.0, 3.0, 0.0]),
        back=st.sampled_from([2, 0, 1, 2]),
        what=st.sampled_from(["crash", "crash", "pause", "leave"]),
    )
    def lose_holders(self, number: int, seconds: float, back: int, what: str) -> None:
        """Harm a node that serves a lock, and let some time pass; perhaps some of its clients come back then."""
        self.staff(number)
        serving = [p for p in self.acting() if self.model.holders[p.owner]]
        if serving and len(self.acting()) > 1:
            self.harm(self.s.one(serving, number), what)
            self.sim.run_on(seconds)
        if back and self.model.expected() and self.acting():
            self.reclaim_steps(4 * number + 1, CLIENTS[0], back, 0, counted=bool(number % 2))

    @precondition(lambda self: self.acting())
    @rule(
        number=pick, client=clients, count=st.sampled_from([2, 1]), stop=st.sampled_from([0, 0, 0, 3, 4, 5]),
        counted=st.booleans(),
    )  # fmt: skip
    def come_back(self, number: int, client: bytes, count: int, stop: int, *, counted: bool) -> None:
        """Let a client or two reconnect and reclaim as clients do; `stop`: where they are left alone in the middle."""
        self.reclaim_steps(number, client, count, stop, counted=counted)

    def reclaim_steps(self, number: int, client: bytes, count: int, stop: int, *, counted: bool) -> None:
        """Register, be admitted, insert, confirm and complete: so many steps of it."""
        node, expected = self.node(number), sorted(self.model.expected())
        some: Sequence[bytes] = [client]
        if expected and number % 4:
            some = sorted({self.s.one(expected, number + i) for i in range(count)})

        def confirm_all() -> None:
            for item in [item for item in self.s.inserted if item.process is node]:
                if item in self.s.inserted:
                    self.s.confirm(item, wait=len(some) > 1, counted=counted)

        steps: list[Callable[[], object]] = [
            lambda: self.s.register(node, some),
            self.sim.settle,
            lambda: [self.s.admit(node, one, keep_open=counted) for one in some],
            self.sim.settle,
            lambda: self.insert_all(node, "f", confirm=False),
            confirm_all,
        ]
        for step in steps[: stop or None]:
            if node in self.acting():
                step()

    @precondition(lambda self: self.acting())
    @rule(number=pick, client=clients, flag=st.booleans(), wait=st.sampled_from([0.0, 0.5, 9.5]))
    def complete_at_once(self, number: int, client: bytes, *, flag: bool, wait: float) -> None:
        """Let a client whose locks its new server has all complete without an admission, perhaps before its time."""
        expected, node = sorted(self.model.expected()), self.node(number)
        chosen = self.s.one(expected, number) if expected else client
        self.s.register(node, [chosen])
        self.sim.settle()
        self.sim.run_on(wait)
        if node in self.acting():
            self.s.complete(node, chosen, counted=flag)

    @precondition(lambda self: self.acting())
    @rule(number=pick, client=clients, file=files, steps=st.sampled_from([0, 2, 4]))
    def be_overtaken(self, number: int, client: bytes, file: str, steps: int) -> None:
        """Let a grant wait for its confirm while a period comes and goes, or its client is asked for, or leaves."""
        self.staff(number)
        if not self.acting():
            return
        node = self.node(number)
        self.s.register(node, [client])
        self.sim.settle()
        if node in self.acting():
            self.s.lock(node, client)
            self.sim.settle()
        self.insert_all(node, file, confirm=False)
        if node not in self.acting():
            return
        for what in (("restore", "end"), ("revoke",), ("register",), ("unregister",), ("reboot",))[number % 5]:
            other = self.node(number + 1)
            if what == "register":
                self.s.register(other, [client], 5)
            elif what == "unregister":
                self.s.unregister(node, [client])
            elif what == "reboot":
                self.s.register((node, other)[number % 2], [client], 0, 1 + number % 2)
            else:
                self.operate(what, 3 * number + 3, client, "skip")
            if steps:
                self.some_steps(steps)
            else:
                self.sim.settle()
            if not self.acting():
                return

    def some_steps(self, count: int) -> None:
        """Let the newest operations go on a little, and all hear."""
        for _ in range(count):
            for process in self.acting():
                process.hear()
            for op in self.requests()[-2:]:
                if not op.over:
                    self.sim.go_on(op)

    @precondition(lambda self: len(self.acting()) > 1)
    @rule(
        number=pick, client=clients, steps=st.integers(0, 6), ttl=st.sampled_from([0, 5]),
        home=st.sampled_from(["", "", "pause", "crash", "leave"]),
        asker=st.sampled_from(["", "", "", "pause", "crash"]), later=st.sampled_from([0.0, 0.5, 2.5, 10.0]),
    )  # fmt: skip
    def move(  # noqa: PLR0913, PLR0917  (what is drawn)
        self, number: int, client: bytes, steps: int, ttl: int, home: str, asker: str, later: float
    ) -> None:
        """Let a client with locks move from its live home to another node; either is harmed in the middle."""
        self.staff(number)
        held = sorted(c for p in self.acting() for c in self.model.holders[p.owner])
        chosen = self.s.one(held, number) if held and number % 4 else client
        old = self.s.home(chosen)
        others = [process for process in self.acting() if process is not old]
        if not others:
            return
        new = self.s.one(others, number)
        self.s.register(new, [chosen], ttl)
        self.some_steps(steps)
        for process, what in ((old, home), (new, asker)):
            if what and process in self.acting() and len(self.acting()) > 1:
                self.harm(process, what)
        self.sim.run_on(later)

    @precondition(lambda self: len(self.acting()) > 1)
    @rule(
        number=pick, client=clients, ttl=st.sampled_from([0, 5, 20]), leaves=st.booleans(),
        gap=st.sampled_from([0.0, 3.0, 9.0, 40.0]), later=st.sampled_from([0.0, 4.0, 9.0, 30.0]),
    )  # fmt: skip
    def vanish(  # noqa: PLR0913  (what is drawn)
        self, number: int, client: bytes, ttl: int, gap: float, later: float, *, leaves: bool
    ) -> None:
        """Let a client's node die, the client connect elsewhere and disconnect again; it comes back in time or late."""
        self.staff(number)
        home = self.s.home(client)
        if home in self.acting():
            self.harm(home, "pause" if number % 2 else "crash")
        for wait, what in ((gap, "register"), (0.5, "unregister" if leaves else ""), (later, "register")):
            self.sim.run_on(wait)
            if not self.acting():
                return
            node = self.node(number)
            if what == "register":
                self.s.register(node, [client], ttl)
            elif what:
                self.s.unregister(node, [client])
            self.sim.settle()

    @precondition(lambda self: len(self.acting()) > 1)
    @rule(number=pick, client=clients, file=files, complete=st.sampled_from(["", "all", "all", "half"]))
    def lose_two(self, number: int, client: bytes, file: str, complete: str) -> None:
        """Lose two owners that a client came through into one period; it completes between the two losses, or not."""
        self.staff(number)
        if len(self.acting()) < 3:
            return
        first, second, third = (self.node(number + i) for i in range(3))
        self.lock_through(first, client, file)
        if first not in self.acting():
            return
        self.harm(first, "crash")
        self.sim.run_on(9.5)
        if second in self.acting():
            self.s.register(second, [client])
            self.sim.settle()
        if complete and second in self.acting():
            self.s.complete(second, client, counted=True)
            self.sim.settle() if complete == "all" else self.some_steps(1)
        if second in self.acting() and len(self.acting()) > 1:
            self.harm(second, "crash")
        self.sim.run_on(9.5)
        if third in self.acting():
            self.s.register(third, [client])
            self.sim.settle()

    @precondition(lambda self: self.loses)
    @rule(what=st.sampled_from(["copy", "copy", "back", "back", "all"]), wait=st.sampled_from([0.0, 0.5, 3.0, 9.0]))
    def lose_data(self, what: str, wait: float) -> None:
        """Copy all data; put an old copy back; lose everything."""
        if what == "copy":
            self.s.back_up()
        elif self.sim.time - self.s.lost_at > 5:
            self.s.lose_data(everything=what == "all")
            self.sim.run_on(wait)

    # -- the network, time --------------------------------------------------------------------------------------------

    @precondition(lambda self: self.acting())
    @rule(
        what=st.sampled_from(["step", "step", "step", "lose", "repeat", "late", "hear"]), number=pick,
        times=st.sampled_from([1, 1, 3]),
    )  # fmt: skip
    def network(self, what: str, number: int, times: int) -> None:
        """Execute a request or deliver its reply; lose either; execute it twice, or long after; deliver some events."""
        for i in range(times):
            requests = self.requests()
            if what == "hear" and self.acting():
                self.node(number).hear(1 + number % 3)
            elif what == "late" and self.sim.late:
                self.sim.arrive(number % len(self.sim.late))
            elif what == "lose" and requests:
                self.sim.lose(self.s.one(requests, number + i))
            elif what == "repeat" and requests:
                op = self.s.one(requests, number + i)
                self.sim.call(op.request, op.process)
            elif requests:
                self.sim.go_on(self.s.one(requests, number + i))

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
            self.sim.step_clock(ms)

    @invariant()
    def nothing_is_left_over(self) -> None:
        """Check that every key has a TTL, or is permanent, or something will take it away."""
        self.steps += 1
        if self.steps % 4:
            return  # it reads everything twice, key by key
        left_over = leaks(self.s.redis, self.sim.settings.namespace)
        need(not left_over, f"11: {left_over}")

    @invariant()
    def nobody_is_told_twice(self) -> None:
        """Check that each process is told of each epoch, and of its own end, once."""
        for process in self.sim.processes:
            epochs = [period.epoch for period in process.periods]
            need(len(epochs) == len(set(epochs)), "on_grace_end came twice for an epoch")
            need(len(process.ends) <= 1, "on_ended came twice")

    # -- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Let everything come to its end: grace ends by its cap, what is owed is released, nothing stays."""
        try:
            if self.sim.processes and sys.exc_info()[0] is None:  # else a rule has failed, which is to be told
                self._wind_up()
        finally:
            self.s.close()

    def _wind_up(self) -> None:
        for process in self.sim.processes:
            process.paused = False
            if process.alive:
                self.s.crash(process)
        survivor = self.s.join("last", 1.0, {}, dead=False)
        bound = 2 * (self.sim.settings.lease_seconds * 2 + self.sim.settings.barrier_margin_seconds + 2 * GRACE) + 60
        begun, reads_store = self.sim.time, self.s.lost_at > float("-inf")
        while self.sim.time < begun + bound and not self._wound_up(survivor):
            self.sim.run_on(2.0)
            need(survivor.alive and not survivor.is_over, f"the last node has ended: {survivor.ends}")
            self._work_all(survivor)
            if reads_store and survivor.started and not self.model.active:
                self.s.restore(survivor, "skip")  # what the data have forgotten is in the store
                reads_store = False
                self.sim.run_on(1.0)
            for client in CLIENTS:
                reg = self.model.clients.get(client)
                if reg is not None and reg.owner == survivor.owner and reg.state == "live":
                    self.s.unregister(survivor, [client])
        self.sim.settle()
        self._work_all(survivor)
        self._all_is_over(survivor)

    def _all_is_over(self, survivor: Process) -> None:
        need(not self.model.active, "9: grace does not end by itself")
        need(set(self.model.members) == {survivor.owner}, "dead members stay")
        need(not self.model.clients, f"6: registrations stay: {self.model.clients}")
        need(not self.table.owed, f"6: forfeited and never released: {self.table.owed}")
        left = [lock for lock in self.table.locks if not lock.zombie]
        need(not left, f"5a, 6: locks that nobody frees: {left}; {self.model.counters} {self.s.remembered}")
        survivor.node.claims_releases = False
        survivor.ops.clear()
        survivor.begin(survivor.node.leave(survivor.now() + 5))
        self.sim.settle()
        names = {self.sim.keys.name_of(name) for name in self.s.snapshot.raw}
        need(names <= {"meta", "grace", "reclaimed", "forfeited", "events", "node"}, f"11: keys stay: {names}")

    def _wound_up(self, survivor: Process) -> bool:
        model = self.model
        rest = model.active or model.clients or model.orphans or model.releases
        return survivor.started and not rest and set(model.members) == {survivor.owner}

    def _work_all(self, node: Process) -> None:
        while node.claims or self.s.working:
            while node.claims:
                self.s.begin_release(node)
            while self.s.working:
                self.s.end_release(self.s.working[0], fails=False)
            self.sim.settle()


def _fake() -> redis.Redis:
    made: redis.Redis = fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(7,)))
    return made


def run(own: Callable[[], redis.Redis], product: Callable[[], redis.Redis], examples: int) -> None:
    """Run the machine over servers to which these connect: so many examples, the same each time, or random ones."""
    random = chosen.simulate
    run_state_machine_as_test(
        type("Machine", (Scope,), {"connect": (own, product)}),
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
        rounds(4, full=20),
    )
