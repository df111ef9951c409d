"""What file servers do with a node, and what is checked whenever a script was executed or a lock confirmed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from coordinator import Operation, Settings, StaleGrant
from coordinator.node import Flow, Grant
from tests import acl
from tests.model.facts import Registration, need
from tests.model.lock_table import Lock, LockTable
from tests.model.reference import Reference
from tests.model.simulation import Op, Process, Simulation
from tests.model.snapshot import Snapshot, take

if TYPE_CHECKING:
    import redis

    from coordinator.protocol import Call, Reply
    from coordinator.protocol.releases import Claim

NAMES = ("n1", "n2", "n3")
CLIENTS = tuple(b"c%d" % i for i in range(5))
FILES = ("f", "g")
ADAPTERS = ("nfs", "smb")
LIMITS = {"nfs": 3, "smb": 1}
USES = dict.fromkeys(CLIENTS, "nfs") | {CLIENTS[-1]: "smb"}
"""Which adapter a client uses when nobody says another."""
GRACE = 30.0
LOSS_SECONDS = 7.0
"""For so long after a loss, and after it was told, somebody may act who has not noticed it: by a lease or a claim."""
DID_NOTHING = frozenset({"FENCED", "LATE", "DATA_LOST"})
_numbers = itertools.count(1)


@dataclass(eq=False)
class Inserted:
    """A row in the store that is neither confirmed nor undone; of a reclaim, with the row that it replaces."""

    process: Process
    grant: Grant
    lock: Lock | None
    old: Lock | None = None


def client_of(grant: Grant) -> bytes:
    """Return whose grant it is."""
    return grant._entry.client


class Servers:
    """A scope, its servers and their lock store."""

    def __init__(self, own: redis.Redis, product: redis.Redis) -> None:
        """Begin with an empty scope."""
        self.redis, self.product = own, product
        given = Settings(
            namespace=f"{acl.RUN}.model{next(_numbers)}",
            grace_seconds=GRACE,
            adapters=ADAPTERS,
            max_connections_per_adapter=LIMITS,
        )
        self.sim = Simulation(own, product, given, self)
        self.snapshot: Snapshot = take(own, self.sim.keys)
        self.model = Reference(given, dataset="d", clock=self.snapshot.clock)
        self.table = LockTable()
        self.model.on_end = self.table.end
        self.model.on_forfeit = self.table.forfeit
        self.model.on_complete = self._completed
        self.inserted: list[Inserted] = []
        self.working: list[tuple[Process, Claim]] = []
        self.waiting: dict[Process, list[bytes]] = {}
        """Clients whose locks are all back, and who wait for others to complete with."""
        self.backup: tuple[Any, dict[str, Any], dict[bytes, int]] | None = None
        self.lost_at = self.told_at = float("-inf")
        """When data were lost; when the scope was told so, from which on they are others for all."""
        self.remembered: list[str] = []

    def close(self) -> None:
        """Remove everything, and give connections back."""
        self.sim.close()
        names = list(take(self.redis, self.sim.keys).raw)
        if names:
            self.redis.delete(*names)
        self.redis.close()
        self.product.close()

    # -- observing ----------------------------------------------------------------------------------------------------

    def executed(self, call: Call[Any], reply: Reply, process: Process) -> None:
        """Compare Redis with the model after every script."""
        events = self.sim.read_events()
        before, self.snapshot = self.snapshot, take(self.redis, self.sim.keys)
        pending = {client: entry.upto for client, entry in self.model.releases.items()}
        mine = {c: reg.generation for c, reg in self.model.clients.items() if self._is_open(process, call, reg)}
        self.model.executed(call, reply, [kind for _, kind, *_ in events], self.snapshot)
        if reply.status in DID_NOTHING:
            need(_facts(before) == _facts(self.snapshot), f"10: {call.script.name} answered {reply.status} and wrote")
        if call.script.name == "release_ack" and reply.status == "OK":
            for client, word in zip(call.args[1::2], reply.data[1:], strict=True):
                if word == b"ACKED" and client in pending:
                    self.table.acknowledged(client, pending[client])
        if call.script.name == "scope_lost":
            self.remembered.append(f"{process.owner} {call.args} {reply.status}")
            if reply.status == "LOST":
                self.told_at = self.sim.time
        for client, generation in mine.items():
            reg = self.model.clients.get(client)
            if reg is None or (reg.generation, reg.state) != (generation, "live"):
                yielded = reg is not None and reg.state == "yielded"
                granting = [g for g in self._open_grants(process, yielded=yielded) if client_of(g) == client]
                need(not granting, f"5a: {call.script.name} of {process.owner} let {client!r} go with an open grant")
        self.model.compare(self.snapshot)
        self.check(call.script.name)

    @staticmethod
    def _is_open(process: Process, call: Call[Any], reg: Registration) -> bool:
        return reg.state == "live" and reg.owner == process.owner == call.head.owner and process.alive

    def _open_grants(self, process: Process, *, yielded: bool) -> list[Grant]:
        """Return the grants under which a process may still insert: a client stays as long as it has one.

        One to reclaim counts as long as its server keeps it open, or while its epoch lasts and another node asks.
        """
        grants = [*process.grants, *(item.grant for item in self.inserted if item.process is process)]
        epoch = self.model.epoch if self.model.active and yielded else -1
        return [g for g in grants if g.owner == process.owner and (g._is_open or g._entry.admitted == epoch == g.epoch)]

    @property
    def may_be_unnoticed(self) -> bool:
        """Tell whether somebody may still act on data that are lost: who slept through a loss may tell of it late."""
        return self.sim.time < max(self.lost_at, self.told_at) + LOSS_SECONDS

    def check(self, script: str) -> None:
        """Check what must hold at every moment, whatever was predicted."""
        for lock in self.table.locks:
            covered = not lock.rightful or self.model.right(lock.client) >= lock.needs
            need(covered, f"8: {script} took the right to {lock}")
        if self.may_be_unnoticed:
            return
        model = self.model
        for process in self.sim.processes:
            if not process.alive:
                continue
            view, now = process.node.lease.snapshot, process.now()
            if model.active and model.in_force:
                need(now >= view.new_until, f"1: {process.owner} grants while epoch {model.epoch} is in force")
            if now < view.valid_until and view.reclaims:
                same = model.active and view.epoch == model.epoch
                need(same, f"1: {process.owner} lets reclaim in epoch {view.epoch}, which is over")

    def _completed(self, client: bytes, upto: int) -> None:
        entry = self.model.releases.get(client)
        above = max(self.table.freed.get(client, 0), entry.upto if entry else 0)
        if entry and entry.more:
            above = max(above, entry.more[0])
        self.table.complete(client, upto, above)

    # -- data that are lost -------------------------------------------------------------------------------------------

    def back_up(self) -> None:
        """Copy all data."""
        self.backup = self.sim.save(), self.model.saved(), dict(self.table.owed)

    def lose_data(self, *, everything: bool) -> None:
        """Put the last copy back, or nothing."""
        if everything or self.backup is None:
            self.sim.put_back(None)
            self.model.put_back(Reference(self.sim.settings).saved())
            self.table.owed.clear()
        else:
            saved, facts, owed = self.backup
            self.sim.put_back(saved)
            self.model.put_back(facts)
            self.table.owed = dict(owed)
        self.lost_at = self.sim.time
        self.snapshot = take(self.redis, self.sim.keys)
        self.model.clock = self.snapshot.clock
        self.table.freed.clear()
        for lock in self.table.locks:
            entry = self.model.releases.get(lock.client)
            covered = entry is not None and lock.generation <= max(entry.upto, entry.more[0] if entry.more else 0)
            lock.rightful = lock.rightful and self.model.right(lock.client) >= lock.needs and not covered

    # -- choosing -----------------------------------------------------------------------------------------------------

    def acting(self) -> list[Process]:
        """Return who is up and serves."""
        return [process for process in self.sim.processes if process.acts and process.started and not process.is_over]

    @staticmethod
    def one(choices: Sequence[Any], number: int) -> Any:
        """Choose."""
        return choices[number % len(choices)]

    def home(self, client: bytes) -> Process | None:
        """Return the process through which a client is registered, if it is alive."""
        reg = self.model.clients.get(client)
        return next((p for p in self.sim.processes if p.alive and reg and p.owner == reg.owner), None)

    # -- life and death -----------------------------------------------------------------------------------------------

    def join(self, name: str, rate: float, own: dict[str, Any], *, dead: bool) -> Process:
        """Begin a process with figures of its own."""
        process = Process(self.sim, name, rate, dead, replace(self.sim.settings, **own))
        self.sim.processes.append(process)
        return process

    def crash(self, process: Process) -> None:
        """Kill a process: what it was sending may still arrive, and what it had inserted stays."""
        for op in process.ops:
            if op.is_call and op.reply is None:
                self.sim.late.append((op.request, op))
        process.alive = False
        for item in self.inserted:
            if item.process is process and item.lock is not None:
                item.lock.abandoned = True
        self._forget_work(process)

    def leave(self, process: Process) -> None:
        """Let a node leave after it has undone what it was granting."""
        for item in self.inserted:
            if item.process is process and item.lock is not None:
                self.table.remove(item.lock)
        self._forget_work(process)
        process.node.claims_releases = False
        process.ops.clear()
        process.begin(process.node.leave(process.now() + 5), lambda _: setattr(process, "alive", False))

    def _forget_work(self, process: Process) -> None:
        self.inserted = [item for item in self.inserted if item.process is not process]
        self.working = [item for item in self.working if item[0] is not process]
        self.waiting.pop(process, None)

    # -- registrations ------------------------------------------------------------------------------------------------

    def register(self, node: Process, some: Sequence[bytes], ttl: int = 0, boot: int = 0, adapter: str = "") -> Op:
        """Connect clients; by the adapter that they are known to use, if none is named."""
        verifier = b"boot%d" % boot if boot else None
        known = {client: reg.adapter for client, reg in self.model.clients.items()}
        items = [
            node.node.registering(client, adapter or known.get(client, USES[client]), "", ttl, verifier, None)
            for client in some
        ]
        return node.begin(node.node.register(items))

    def unregister(self, node: Process, some: Sequence[bytes]) -> Op:
        """Disconnect clients."""
        return node.begin(node.node.unregister([(client, 0) for client in some]))

    def restore(self, node: Process, empty: str, rest: Callable[[], object] = lambda: None) -> Op:
        """Bring what the store has: open a roster, read the store, bring the clients one by one."""

        def flow() -> Flow[None]:
            epoch = yield from node.node.open_roster(empty, "restored")
            found = sorted({lock.client for lock in self.table.locks})
            rest()
            for i, client in enumerate(found):
                more = i + 1 < len(found)
                yield from node.node._start(epoch, [client], more=more, if_empty=empty, reason=b"restored")
            if not found:
                yield from node.node._start(epoch, (), more=False, if_empty=empty, reason=b"restored")
            yield from node.node.acknowledge()

        return node.begin(flow())

    # -- grants -------------------------------------------------------------------------------------------------------

    def lock(self, node: Process, client: bytes) -> Op:
        """Ask for a new lock: hold and check."""
        return node.begin(node.node.begin_grant(client), node.grants.append)

    def admit(self, node: Process, client: bytes, *, keep_open: bool = False) -> Op:
        """Ask to reclaim."""
        return node.begin(node.node.admit(client, keep_open=keep_open), node.grants.append)

    def insert(self, node: Process, file: str) -> None:
        """Insert what a check or an admission allowed."""
        grant = node.grants.pop(0)
        client = client_of(grant)
        life = self.model.lives.get(grant.owner)
        zombie = life is None or bool(life.fenced)
        if grant.operation is Operation.NEW:
            lock = Lock(file, client, grant.owner, grant.generation, grant.generation, zombie)
            if self.table.insert(lock):
                self.inserted.append(Inserted(node, grant, lock))
            else:
                grant.undo()
            return
        rows = [lock for lock in self.table.locks if lock.client == client and lock.confirmed]
        mine: list[Inserted] = []
        for old in rows:
            if (old.owner, old.generation) == (grant.owner, grant.generation):
                continue
            lock = Lock(old.file, client, grant.owner, grant.generation, old.needs, zombie)
            if not self.table.insert(lock):
                for item in mine:
                    self.table.remove(item.lock or lock)
                grant.undo()
                return  # told to try again: not all locks are back, so it does not complete
            mine.append(Inserted(node, grant, lock, old))
        self.inserted += mine or [Inserted(node, grant, None)]

    def confirm(self, item: Inserted, *, wait: bool = False, counted: bool = False) -> None:
        """Confirm an insert, or undo it; a client whose locks are all back completes, or waits for others to do so."""
        self.inserted.remove(item)
        node, grant, lock = item.process, item.grant, item.lock
        try:
            grant.confirm()
        except StaleGrant:
            for other in [item, *(other for other in self.inserted if other.grant is grant)]:
                if other.lock is not None:
                    self.table.remove(other.lock)
            self.inserted = [other for other in self.inserted if other.grant is not grant]
            return
        if lock is not None:
            self._confirmed(grant, lock, item.old)
        if grant.operation is Operation.RECLAIM and not any(other.grant is grant for other in self.inserted):
            grant.settle()
            client = client_of(grant)
            waiting = self.waiting.setdefault(node, [])
            waiting.append(client)
            if len(waiting) == 2 or not wait:
                locks = sum(row.client == client and row.confirmed for row in self.table.locks)
                node.begin(node.node.complete(waiting, locks if counted and len(waiting) == 1 else None))
                del self.waiting[node]

    def _confirmed(self, grant: Grant, lock: Lock, old: Lock | None) -> None:
        model, client = self.model, lock.client
        if self.may_be_unnoticed:
            self.table.confirm(lock, rightful=False)
            return
        reg = model.clients.get(client)
        is_here = reg is not None and (reg.owner, reg.generation) == (grant.owner, grant.generation)
        good = is_here and reg is not None and reg.state in {"live", "revoked"}
        need(good, f"5a: {lock} was confirmed, and its client is elsewhere or ending: {reg}")
        entry = model.releases.get(client)
        told = entry is not None and entry.claimed and lock.generation <= entry.upto
        need(not told, f"5a: {lock} was confirmed after a node was told to free it: {entry}")
        need(lock.generation > self.table.freed.get(client, 0), f"5a: {lock} was confirmed after it was to be freed")
        if grant.operation is Operation.NEW:
            beginning = model.active and not model.in_force and grant.epoch == model.epoch - 1
            right_time = beginning or (not model.active and grant.epoch == model.epoch)
            need(right_time, f"1: a new lock of epoch {grant.epoch} took effect in epoch {model.epoch}")
            held = client in model.holders[grant.owner]
            need(held or (reg and reg.state == "revoked"), f"8: {lock} was confirmed, and its client is no holder")
            self.table.confirm(lock, rightful=held)
            return
        over = not model.active or model.epoch != grant.epoch
        need(not over, f"1: a reclaim of epoch {grant.epoch} took effect after its lift")
        need(model.in_force, f"1: a reclaim of epoch {grant.epoch} took effect before it was in force")
        covered = entry is not None and old is not None and old.generation <= entry.upto
        rightful = model.right(client) >= lock.needs and not covered
        self.table.confirm(lock, rightful=rightful)

    def unlock(self, node: Process, client: bytes) -> None:
        """Unlock one lock of a client that is served here."""
        if node.node.registry.get(client) is None:
            return
        for lock in self.table.locks:
            if lock.client == client and lock.confirmed:
                self.table.remove(lock)
                node.begin(node.node.uncount_lock(client))
                return

    def drop(self, node: Process, client: bytes) -> None:
        """Let a client give back all that it has; nothing is being granted to it."""
        granting = [client_of(grant) for grant in node.grants]
        granting += [client_of(item.grant) for item in self.inserted if item.process is node]
        registry = node.node.registry
        if client in granting or registry.get(client) is None or not registry.is_settled(client):
            return
        if client in registry._turns:
            return  # a server drops when nothing else of the client is under way: it would drop what comes before
        self.table.locks = [row for row in self.table.locks if row.client != client or not row.confirmed]
        node.begin(node.node.drop(client))

    def complete(self, node: Process, client: bytes, *, counted: bool) -> None:
        """Complete for a client without an admission: the server has all its locks already."""
        locks = sum(row.client == client and row.confirmed for row in self.table.locks)
        node.begin(node.node.complete([client], locks if counted else None))

    # -- releases -----------------------------------------------------------------------------------------------------

    def begin_release(self, node: Process) -> None:
        """Let a worker begin a callback."""
        claim = node.claims.pop(0)
        if not node.keeper.may_begin(claim):
            return
        for other, begun in self.working:
            good = other.now() < other.keeper._good_until.get(begun.client, 0.0)
            one = not good or begun.client != claim.client or self.may_be_unnoticed
            need(one, f"6: {claim.release} is worked on by two nodes")
        self.working.append((node, claim))

    def end_release(self, item: tuple[Process, Claim], *, fails: bool, frees: bool = True) -> None:
        """Let a callback end, in time or given up; one that fails may have freed everything or nothing."""
        self.working.remove(item)
        node, claim = item
        if node.now() >= node.keeper._good_until.get(claim.client, 0.0):
            return  # the worker stopped acting: its claim has run out
        upto = claim.release.generation
        entry = self.model.releases.get(claim.client)
        mine = entry is not None and entry.claimant == node.owner and entry.upto == upto
        need(mine or self.may_be_unnoticed, f"6: {claim.release} is run by {node.owner}, and its claim is {entry}")
        if frees or not fails:
            self.table.free(claim.client, upto, note=not self.may_be_unnoticed)
        node.begin(node.keeper.failed(claim) if fails else node.keeper.done(claim))


def _facts(snapshot: Snapshot) -> dict[bytes, Any]:
    """Return all of it but the clock, which the simulation moves."""
    facts = dict(snapshot.raw)
    for name, value in facts.items():
        if isinstance(value, dict):
            facts[name] = {field: v for field, v in value.items() if field not in {b"clock", b"raw"}}
    return facts
