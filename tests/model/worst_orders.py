"""Clients and servers in their worst order: several steps in a row that lead deep, and stop or are harmed half-way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.model.happenings import FIGURES, RATES, Happenings, clients, files, pick, seldom
from tests.model.servers import CLIENTS, FILES, NAMES
from tests.model.simulation import Process


class WorstOrders(Happenings):
    """Rules of several steps."""

    def staff(self, number: int) -> None:
        """See to it that most nodes are up, one of them paused at the most, and that somebody has a lock."""
        for name in NAMES:
            alive = [process for process in self.sim.processes if process.alive and not process.is_over]
            if name not in {process.name for process in alive} and len(alive) < 3:
                self.s.join(name, RATES[number % 4], FIGURES[number % 3], dead=False)
        self.sim.settle()
        if self.acting() and not self.model.active and not any(self.model.holders[o] for o in self.model.members):
            self.lock_through(self.node(number), CLIENTS[number % 4], FILES[number % 2])

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
        counted=st.booleans(), ends=seldom,
    )  # fmt: skip
    def come_back(  # noqa: PLR0913  (what is drawn)
        self, number: int, client: bytes, count: int, stop: int, *, counted: bool, ends: bool
    ) -> None:
        """Let a client or two reconnect and reclaim as clients do; `stop`: where they are left alone in the middle.

        An operator may end the period just then.
        """
        self.reclaim_steps(number, client, count, stop, counted=counted)
        if ends:
            self.end_period(number)

    def end_period(self, number: int) -> None:
        """Let an operator end the period; not everybody hears at once."""
        if self.acting():
            self.operate("end", 3 * number, CLIENTS[0], "skip")
            self.some_steps(number % 3)

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

    @precondition(lambda self: len(self.acting()) > 1)
    @rule(
        number=pick, stop=st.sampled_from([4, 4, 5]), steps=st.sampled_from([0, 2, 5]), counted=st.booleans(),
        harmed=st.sampled_from(["", "", "", "crash", "pause"]),
    )  # fmt: skip
    def ask_for_the_reclaiming(self, number: int, stop: int, steps: int, harmed: str, *, counted: bool) -> None:
        """Let another node ask for a client in the middle of its reclaim; its home goes on, or is harmed."""
        if not self.model.expected():
            self.lose_holders(number=number, seconds=10.0, back=0, what="crash")
        if not self.model.expected() or len(self.acting()) < 2:
            return
        chosen = 4 * number + 1
        client, home = self.s.one(sorted(self.model.expected()), chosen), self.node(chosen)
        self.reclaim_steps(chosen, client, 1, stop, counted=counted)
        others = [process for process in self.acting() if process is not home]
        if not others:
            return
        self.s.register(self.s.one(others, number), [client])
        self.some_steps(steps) if steps else self.sim.settle()
        if home in self.acting() and harmed:
            self.harm(home, harmed)
        elif home in self.acting():
            self.insert_all(home, FILES[0])
        self.sim.settle()

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
        happens = (("lose", "end"), ("restore", "end"), ("revoke",), ("register",), ("unregister",), ("reboot",))
        for what in happens[number % 6]:
            if self.acting():
                self.overtake(what, node, number, client)
                self.some_steps(steps) if steps else self.sim.settle()
        if number % 4:  # else it waits on
            self.insert_all(node, file)

    def overtake(self, what: str, node: Process, number: int, client: bytes) -> None:
        """Let something happen that a grant of this client at this node must not survive."""
        other = self.node(number + 1)
        match what:
            case "lose":
                self.lock_through(other, CLIENTS[number % 3], "h")
                if other is not node and other in self.acting():
                    self.harm(other, "crash")
                self.sim.run_on(9.5)
            case "register":
                self.s.register(other, [client], 5)
            case "unregister":
                self.s.unregister(node, [client])
            case "reboot":
                self.s.register((node, other)[number % 2], [client], 0, 1 + number % 2)
            case _:
                self.operate(what, 3 * number + 3, client, "skip")

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
    @rule(
        number=pick, client=clients, file=files, complete=st.sampled_from(["", "all", "all", "half"]),
        ended=st.sampled_from([0, 0, 0, 1, 2]),
    )  # fmt: skip
    def lose_two(self, number: int, client: bytes, file: str, complete: str, ended: int) -> None:
        """Lose two owners that a client came through into one period; it completes between the two losses, or not.

        After one of them an operator may end the period.
        """
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
        if ended == 1:
            self.end_period(number)
        if second in self.acting() and len(self.acting()) > 1:
            self.harm(second, "crash")
        self.sim.run_on(9.5)
        if ended == 2:
            self.end_period(number)
        if third in self.acting():
            self.s.register(third, [client])
            self.sim.settle()

    @precondition(lambda self: len(self.acting()) > 1)
    @rule(
        number=pick, client=clients, file=files, steps=st.integers(1, 5), held=st.booleans(),
        what=st.sampled_from(["crash", "crash", "pause", "leave"]), later=st.sampled_from([0.0, 0.5, 2.5, 9.5]),
    )  # fmt: skip
    def die_undoing(  # noqa: PLR0913, PLR0917  (what is drawn)
        self, number: int, client: bytes, file: str, steps: int, what: str, later: float, *, held: bool
    ) -> None:
        """Let a home close a client that is asked for, and be harmed before it undoes what it has inserted for it."""
        self.staff(number)
        if len(self.acting()) < 2:
            return
        home, other = self.node(number), self.node(number + 1)
        if held:
            self.lock_through(home, client, file)
        self.s.register(home, [client])
        self.sim.settle()
        if home in self.acting():
            self.s.lock(home, client)
            self.sim.settle()
        self.insert_all(home, FILES[number % 2], confirm=False)
        if other in self.acting():
            self.s.register(other, [client])
            self.some_steps(steps)
        if home in self.acting() and len(self.acting()) > 1:
            self.harm(home, what)
        self.sim.run_on(later)

    @precondition(lambda self: len(self.acting()) > 1)
    @rule(
        number=pick, ttl=st.sampled_from([0, 0, 5]), steps=st.integers(0, 2),
        what=st.sampled_from(["crash", "crash", "pause", "leave"]), gap=st.sampled_from([0.0, 0.5, 3.0, 9.0, 20.0]),
    )  # fmt: skip
    def die_disconnecting(self, number: int, ttl: int, steps: int, what: str, gap: float) -> None:
        """Let a client disconnect while its node dies: what that had sent arrives late, or its reply finds nobody."""
        self.staff(number)
        homes = [p for p in self.acting() if self.model.registered[p.owner]]
        if not homes or len(self.acting()) < 2:
            return
        home = self.s.one(homes, number)
        client = self.s.one(sorted(self.model.registered[home.owner]), number)
        if ttl:
            self.s.register(home, [client], ttl)
            self.sim.settle()
        if home not in self.acting() or len(self.acting()) < 2:
            return
        self.s.unregister(home, [client])
        self.some_steps(steps)
        if home in self.acting() and len(self.acting()) > 1:
            self.harm(home, what)
        self.sim.run_on(gap)
        if self.sim.late:
            self.sim.arrive(len(self.sim.late) - 1)
        if number % 2 and self.acting():
            self.s.register(self.node(number), [client])
            self.sim.settle()

    @precondition(lambda self: self.acting())
    @rule(
        number=pick, client=clients, file=files, empty=st.sampled_from(["wait", "skip"]),
        meanwhile=st.sampled_from(["lock", "lock", "unlock", "unregister", "end", ""]),
        rest=st.sampled_from([0.5, 3.0, 9.5, 40.0]), halfway=st.booleans(),
    )  # fmt: skip
    def bring_late(  # noqa: PLR0913, PLR0917  (what is drawn)
        self, number: int, client: bytes, file: str, empty: str, meanwhile: str, rest: float, *, halfway: bool
    ) -> None:
        """Let a node read its store, stop for long, and then bring what it has read, while the others go on."""
        self.staff(number)
        if not self.acting():
            return
        reader = self.node(number)
        op = self.s.restore(reader, empty)
        for _ in range(4 if halfway else 2):  # the roster is opened and the store read, perhaps one client is brought
            if not op.over and op.is_call:
                self.sim.go_on(op)
        reader.paused = True
        other = self.node(number + 1) if self.acting() else None
        if other is not None:
            match meanwhile:
                case "lock":
                    self.lock_through(other, client, file)
                case "end":
                    self.operate("end", 3 * number, client, empty)
                case "unlock" | "unregister":
                    home = self.s.home(client)
                    if home in self.acting() and meanwhile == "unlock":
                        self.s.unlock(home, client)
                    elif home in self.acting():
                        self.s.unregister(home, [client])
        self.sim.run_on(rest)
        reader.paused = False
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

    @precondition(lambda self: self.loses and self.acting())
    @rule(number=pick, client=clients, file=files, wait=st.sampled_from([0.0, 0.5, 3.0, 9.0]))
    def lose_the_last(self, number: int, client: bytes, file: str, wait: float) -> None:
        """Lose what was done last, as an AOF without its last second or a replica that lags behind does."""
        if self.sim.time - self.s.lost_at > 5:
            self.s.back_up()
            self.lock_through(self.node(number), client, file)
            self.s.lose_data(everything=False)
            self.sim.run_on(wait)
