"""What may happen at any moment, one step each: lives and deaths, what servers begin and end, network and time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.model.facts import need
from tests.model.servers import ADAPTERS, CLIENTS, FILES, NAMES, Inserted, Servers
from tests.model.simulation import Op, Process

if TYPE_CHECKING:
    import redis

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


class Happenings(RuleBasedStateMachine):
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

    @rule(
        troubles=st.lists(
            st.sampled_from(["", "", "lose", "refuse", "silence", "repeat", "late", "late"]), max_size=12
        ),
        deaf=st.sampled_from([*NAMES, ""]),
    )
    def spoil(self, troubles: list[str], deaf: str) -> None:
        """Let the next requests meet a bad network, whoever sends them; a node may hear no events meanwhile."""
        self.sim.trouble = list(troubles)
        for process in self.sim.processes:
            process.deaf = process.name == deaf

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
