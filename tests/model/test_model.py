"""Hypothesis drives several nodes over the real scripts through crash, pause, drift, loss, repeat, delay and lost data.

After every script the scope must equal the reference model, and the invariants of protocol.md, section 9, hold (their
numbers stand in the messages); at the end everything that was owed must have been released, and nothing be left.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import fakeredis
import pytest
import redis
from fakeredis.model import ExpiringMembersSet
from hypothesis import HealthCheck, Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.stateful import invariant, run_state_machine_as_test

from tests.keyspace import leaks
from tests.model.facts import need
from tests.model.lock_table import Lock
from tests.model.servers import CLIENTS, GRACE
from tests.model.simulation import Process
from tests.model.worst_orders import WorstOrders
from tests.rounds import chosen, rounds

FAILED = Path(__file__).parents[2] / ".hypothesis" / "model"
"""Where a random example that failed is kept: the next run begins with it."""


class Scope(WorstOrders):
    """All nodes of a scope, its clients, what may go wrong, and what must hold all the time and at the end."""

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
        self.sim.trouble.clear()
        survivor = self.s.join("last", 1.0, {}, dead=False)
        was_lost = self.s.lost_at > float("-inf")
        covered = self._run_out(survivor, reads_store=was_lost)
        newest = max((lock.generation for lock in self._left()), default=0)
        if was_lost and newest > covered:
            # An old copy was put back, and nobody lived who remembered more (docs/protocol.md, 8): a server brings what
            # its store has again, when the scope clock has passed that.
            early = [lock for lock in self._left() if lock.generation <= covered]
            need(not early, f"5a, 6: locks that nobody frees: {early}, although generations had reached {covered}")
            while self.model.clock <= newest:
                self.sim.run_on(10.0)
            self._run_out(survivor, reads_store=True)
        self._all_is_over(survivor)

    def _run_out(self, survivor: Process, *, reads_store: bool) -> int:
        """Let all that is owed be done; return how far generations had come when the last node read the store."""
        covered = sys.maxsize
        bound = 2 * (self.sim.settings.lease_seconds * 2 + self.sim.settings.barrier_margin_seconds + 2 * GRACE) + 60
        begun = self.sim.time
        while self.sim.time < begun + bound and (reads_store or not self._wound_up(survivor)):
            self.sim.run_on(2.0)
            need(survivor.alive and not survivor.is_over, f"the last node has ended: {survivor.ends}")
            self._work_all(survivor)
            if reads_store and survivor.started and not self.model.active:
                self.s.restore(survivor, "skip")  # what the data have forgotten is in the store
                reads_store, covered = False, self.model.counters["generation"]
                self.sim.run_on(1.0)
            for client in CLIENTS:
                reg = self.model.clients.get(client)
                if reg is not None and reg.owner == survivor.owner and reg.state == "live":
                    self.s.unregister(survivor, [client])
        self.sim.settle()
        self._work_all(survivor)
        return covered

    def _left(self) -> list[Lock]:
        """Return the locks that somebody should have freed by now."""
        return [lock for lock in self.table.locks if not lock.zombie]

    def _all_is_over(self, survivor: Process) -> None:
        need(not self.model.active, "9: grace does not end by itself")
        need(set(self.model.members) == {survivor.owner}, "dead members stay")
        need(not self.model.clients, f"6: registrations stay: {self.model.clients}")
        need(not self.table.owed, f"6: forfeited and never released: {self.table.owed}")
        left = self._left()
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


def _in_one_order(self: ExpiringMembersSet) -> Iterator[bytes]:
    """Iterate over a fake server's set in any order, the same in each process; its own goes by PYTHONHASHSEED."""
    return iter(sorted(self._member_list(), key=zlib.crc32))


def run(own: Callable[[], redis.Redis], product: Callable[[], redis.Redis], examples: int) -> None:
    """Run the machine over servers to which these connect: so many examples, the same each time, or random ones."""
    random = chosen.simulate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExpiringMembersSet, "__iter__", _in_one_order)
        run_state_machine_as_test(
            type("Machine", (Scope,), {"connect": (own, product)}),
            settings=settings(
                max_examples=random or examples,
                stateful_step_count=80 if random else 60,
                deadline=None,
                database=DirectoryBasedExampleDatabase(FAILED) if random else None,
                derandomize=not random,
                print_blob=bool(random),
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate, *[Phase.reuse, Phase.shrink] * bool(random)],
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
