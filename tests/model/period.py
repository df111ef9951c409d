"""The reference model of nodes and periods: joins, leases, losses, starts, advance. From protocol.md, 5, 6 and 8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.model.facts import Facts, Life, Roster, need

if TYPE_CHECKING:
    from coordinator.protocol import Reply

LATER = 100
LOST_MAX = 200
Words = list[bytes]
Answer = tuple[str, list[object]]
"""The status that the protocol asks for, and whatever of the reply's data is compared: None is not."""


def name_of(owner: str) -> str:
    """Return the node's name in an owner."""
    return owner.rpartition(":")[0]


@dataclass
class Period(Facts):
    """Nodes and periods."""

    kinds: list[str] = field(default_factory=list)
    """Events that the present script must leave."""
    serial: int = 0
    """Of the present request."""
    was_done: bool = False
    """The present script is a repeat that found everything done."""
    on_end: Callable[[bytes, int | None], None] = lambda *_: None
    """Told that a client's right is over: up to a generation, or (None) altogether."""
    on_forfeit: Callable[[bytes, int], None] = lambda *_: None

    # -- transitions --------------------------------------------------------------------------------------------------

    def transition(self, kind: str) -> None:
        """Count one up."""
        self.revision += 1
        self.kinds.append(kind)

    def start_later(self, length: int) -> int:
        """Return ms until a roster that needs so much grace may start or join a period; 0: now."""
        if not self.active:
            return 0
        if self.closing or len(self.lost) >= LOST_MAX:
            return LATER
        begin = self.clock
        if not self.in_force:
            begin = max(begin, self.figures["started"] + self.figures["bound"])
        return max(self.cap - self.clock, LATER) if begin + length > self.cap else 0

    def start_period(self, roster: str, length: int, bound: int) -> None:
        """Let a roster (empty: data were lost) start a period, or join the active one."""
        if roster in self.lost:
            return
        if roster:
            self.lost.add(roster)
        if self.active:
            self.figures["length"] = max(self.figures["length"], length)
            if self.in_force:
                self.reclaim_until = max(self.reclaim_until, self.clock + length)
            self.transition("joined")
            return
        bound = max([bound, *(self.lives[owner].bound for owner in self.members)])
        self.epoch += 1
        self.active, self.in_force, self.closing, self.reclaim_until = True, 0, False, 0
        self.cap = self.clock + bound + 2 * length
        self.reclaimed, self.forfeited = set(), set()
        self.transition("start")
        self.figures = {
            "started": self.clock, "r1": self.revision, "r1_at": self.clock, "r2": 0, "r2_at": 0, "length": length,
            "bound": bound, "earliest": 0,
        }  # fmt: skip

    def start_unknown(self, length: int, lease: int, margin: int) -> None:
        """Begin after a loss: no early exit, and nothing is in force before L + M."""
        self.start_period("", length, 2 * lease + margin)
        self.figures["earliest"] = self.clock + lease + margin
        self.open.add("unknown")
        self.counters["loss"] = self.clock

    def advance(self, *, forced: bool = False) -> None:
        """Move the period as far as it can go: in force, close, lift."""
        if not self.active:
            return
        figures = self.figures
        ready = self.clock >= figures["earliest"] and not self.waiting_for(figures["r1"])
        if not self.in_force and not self.closing and ready:
            self.in_force = self.clock
            self.reclaim_until = min(self.clock + figures["length"], self.cap)
            self.transition("in_force")
        early = self.in_force and not self.open and not self.expected()
        late = (self.in_force and self.clock >= self.reclaim_until) or self.clock >= self.cap
        if not self.closing and (early or late or forced):
            self.closing = True
            self.transition("closing")
            figures["r2"], figures["r2_at"] = self.revision, self.clock
        if self.closing and not self.waiting_for(figures["r2"]):
            self._lift()

    def _lift(self) -> None:
        for owner in self.lost:
            for client, upto in self.holders[owner].items():
                self.on_end(client, upto)
                self.on_forfeit(client, upto)
        self.orphans |= self.lost
        self.forget_open()
        self.lost = set()
        self.active, self.in_force, self.closing, self.reclaim_until, self.cap = False, 0, False, 0, 0
        self.transition("lift")

    def next_generation(self, count: int) -> int:
        """Take so many generations; return the one before the first."""
        before = max(self.counters["generation"], self.clock - 1)
        self.counters["generation"] = before + count
        return before

    # -- owners and rosters -------------------------------------------------------------------------------------------

    def lose_later(self, owner: str) -> int:
        """Return ms until a member may be lost; 0: now."""
        if self.holders[owner]:
            return self.start_later(self.lives[owner].grace_ms)
        return LATER if self.active and self.registered[owner] and len(self.lost) >= LOST_MAX else 0

    def lose_owner(self, owner: str, fence: str) -> None:
        """Let a member be one no more: a lost owner, an orphan, or forgotten."""
        life = self.lives[owner]
        del self.members[owner]
        life.fenced = life.fenced or fence
        self.wanted.pop(owner, None)
        self.open.discard(owner)
        if not self.active:
            name = f"{name_of(owner)}:restored:{self.epoch + 1}"
            roster = self.rosters.get(name)
            if roster is not None and roster.owner == owner:
                self.forget_roster(name)
        if self.holders[owner]:
            self.start_period(owner, life.grace_ms, life.bound)
        elif self.registered[owner]:
            (self.lost if self.active else self.orphans).add(owner)

    def close_roster(self, roster: str) -> None:
        """Note that a restored roster is complete, or its node gone."""
        if roster in self.open:
            self.open.discard(roster)
            if not any(":restored:" in name for name in self.open):
                self.ended = set()

    def forget_roster(self, roster: str) -> None:
        """Nobody was on it."""
        self.close_roster(roster)
        self.rosters.pop(roster, None)

    def forget_open(self) -> None:
        """Note that the period is over, whatever was still being read."""
        for roster in self.open - self.lost:
            self.rosters.pop(roster, None)
        self.open, self.ended = set(), set()

    def lapse(self, owner: str) -> None:
        """End a member's lease now."""
        self.members[owner] = self.clock - self.lives[owner].margin_ms - 1

    # -- scripts of nodes ---------------------------------------------------------------------------------------------

    def _node_join(self, _: str, args: Words, reply: Reply) -> Answer:
        name, boot, fresh = (word.decode() for word in args[:3])
        lease, margin, grace = (int(figure) for figure in args[4:7])
        earlier = [owner for owner in self.members if name_of(owner) == name]
        for owner in earlier:
            if self.lives[owner].boot == boot:
                if self.lives[owner].fenced:
                    return "FENCED", [self.lives[owner].fenced.encode()]
                return "JOINED", [owner.rpartition(":")[2].encode(), 0]
        empty = not self.dataset
        self.dataset = self.dataset or fresh
        incarnation = max(self.counters["incarnation"] + 1, self.clock)
        for owner in earlier:
            self.lives[owner].fenced = self.lives[owner].fenced or "superseded"
            if args[8] == b"1":
                self.lapse(owner)
        self.counters["incarnation"] = incarnation
        if empty:
            self.revision, self.epoch = self.counters["revision"], self.counters["epoch"]
            self.counters["revision"] = self.counters["epoch"] = 0
            self.start_unknown(grace, lease, margin)
        owner = f"{name}:{incarnation}"
        need(owner not in self.lives, f"3: incarnation {owner} was given twice")
        self.lives[owner] = Life(boot, lease, margin, grace, self.revision)
        self.members[owner] = self.clock + lease
        self.kinds.append("joined_node")
        need(reply.status != "JOINED" or reply.writes == 1, "a new life begins with other writes than one")
        return "JOINED", [str(incarnation).encode(), lease]

    def ack(self, owner: str, revision: int) -> None:
        """Note to which revision a node has switched."""
        life = self.lives[owner]
        life.acked = max(life.acked, min(revision, self.revision))

    def _node_renew(self, owner: str, args: Words, _: Reply) -> Answer:
        self.ack(owner, int(args[0]))
        life, barrier, since = self.lives[owner], 0, 0
        if self.active and self.closing:
            barrier, since = self.figures["r2"], self.figures["r2_at"]
        elif self.active and not self.in_force:
            barrier, since = self.figures["r1"], self.figures["r1_at"]
        extended = not (life.acked < barrier and self.clock - since > life.lease_ms)
        if extended:
            self.members[owner] = self.clock + life.lease_ms
        self.advance()
        lapsed = [o.encode() for _, o in sorted((lease, o) for o, lease in self.members.items()) if self.lapsed(o)]
        return "RENEWED", [int(extended), None, int(bool(self.orphans)), len(self.members), len(self.releases), lapsed]

    def _node_leave(self, owner: str, _: Words, __: Reply) -> Answer:
        later = self.lose_later(owner)
        if later:
            self.lives[owner].fenced = "left"
            self.lapse(owner)
        else:
            self.lose_owner(owner, "left")
        self.kinds.append("left_node")
        self.advance()
        return "LEFT", [0 if later else 1]

    def _node_evict(self, _: str, args: Words, __: Reply) -> Answer:
        victim = args[0].decode()
        if victim not in self.members:
            return "UNKNOWN", []
        if not self.lapsed(victim):
            return "ALIVE", []
        if self.lose_later(victim):
            return "LATER", []
        self.lose_owner(victim, "evicted")
        self.kinds.append("evicted")
        self.advance()
        return "EVICTED", []

    # -- scripts of the period ----------------------------------------------------------------------------------------

    def _grace_advance(self, owner: str, args: Words, _: Reply) -> Answer:
        self.ack(owner, int(args[0]))
        self.advance()
        return "ADVANCED", []

    def _grace_end(self, _: str, args: Words, __: Reply) -> Answer:
        epoch, repeated = int(args[0]), args[2] == b"1"
        if epoch and epoch != self.epoch:
            return "STALE_EPOCH", []
        if not self.active:
            self.was_done = True
            return "ENDED" if repeated and epoch else "NOT_ACTIVE", []
        if not self.closing:
            self.reclaim_until = self.clock
            self.kinds.append("end")
            self.advance(forced=True)
        return "ENDED", []

    def _grace_withdraw(self, _: str, args: Words, __: Reply) -> Answer:
        roster = f"{args[0].decode()}:restored:{self.epoch + (not self.active)}"
        gone = self.holders.pop(roster, {})
        self.lost.discard(roster)
        self.forget_roster(roster)
        self.advance()
        for client in gone:
            self.on_end(client, None)
        return "WITHDRAWN", [len(gone)]

    def _grace_start(self, owner: str, args: Words, _: Reply) -> Answer:
        name, epoch, more, empty, clients = args[0].decode(), int(args[1]), args[2] == b"1", args[3], args[5:]
        present = self.epoch + (not self.active)
        roster, life = f"{name}:restored:{present}", self.lives[owner]
        if epoch and not (epoch == present and roster in self.open):
            return "STALE_EPOCH", []
        if self.start_later(life.grace_ms) and (roster not in self.lost or self.closing):
            return "LATER", []
        if not epoch:
            self.rosters.setdefault(roster, Roster(self.next_generation(1))).owner = owner
            self.open.add(roster)
            self.ended.add(b"")
            return "STARTED", [present]
        old = [o for o in self.members if o != owner and name_of(o) == name]
        words: list[object] = [self._word_of(client, old, roster) for client in clients]
        added = [client for client, word in zip(clients, words, strict=True) if word == b"ADDED"]
        self.rosters[roster].asked |= bool(clients)
        if added:
            self.start_period(roster, life.grace_ms, life.bound)
        for client in added:
            self.holders[roster][client] = self._leftover_of(client, roster)
        if "unknown" in self.open:
            for client, word in zip(clients, words, strict=True):
                lost = self.roster_of(client)
                if word == b"EXPECTED" and lost:
                    self.holders[lost][client] = max(self.holders[lost][client], self._leftover_of(client, roster))
        if not more:
            self._brought(roster, life, old, silent=not self.rosters[roster].asked and empty == b"wait")
        self.advance()
        return "STARTED", [self.epoch if self.active else 0, *(b"EXPECTED" if w == b"ADDED" else w for w in words)]

    def _brought(self, roster: str, life: Life, old: list[str], *, silent: bool) -> None:
        """End a roster that was brought; one that says nothing stays open."""
        waits = any(self.holders[owner] for owner in old)
        if silent or waits:
            self.start_period(roster, life.grace_ms, life.bound)
        if waits:
            self.open |= set(old)
        if roster not in self.lost:
            self.forget_roster(roster)
        elif not silent:
            self.close_roster(roster)

    def _leftover_of(self, client: bytes, roster: str) -> int:
        """Return up to which generation a lock of the client that is in the store is a leftover."""
        reg, start = self.clients.get(client), self.rosters[roster].generation
        return min(start, reg.generation - 1) if reg is not None and reg.owner in self.members else start

    def _word_of(self, client: bytes, old: list[str], roster: str) -> bytes:
        if self.roster_of(client) or any(client in self.holders[owner] for owner in old):
            return b"EXPECTED"
        if self.home_of_right(client) or (self.active and client in self.reclaimed):
            return b"LIVE"
        undrained = any(client in self.holders[owner] or client in self.registered[owner] for owner in self.orphans)
        need(roster in self.rosters, "a roster without its start")
        if "unknown" in self.open:
            return b"FORFEITED" if client in self.forfeited else b"ADDED"
        return b"FORFEITED" if client in self.ended or client in self.releases or undrained else b"ADDED"

    # -- lost data ----------------------------------------------------------------------------------------------------

    def lost_data(self, owner: str, told: str, args: Words) -> Answer:
        """Everybody's life ends, once per loss; counters go above all that is remembered."""
        known, revision, epoch, *_ = told.split(" ")
        remembered, newest, lease, margin, grace = (int(figure) for figure in args[1:6])
        counters = self.counters
        if self.dataset and known != self.dataset and (self.before == known or counters["loss"] > remembered):
            counters["generation"] = max(counters["generation"], newest)
            return "KNOWN", []
        need(self.clock > remembered, "3: the clock of a new dataset is not above the one that is remembered")
        beyond = self.clock + lease + margin
        counters["incarnation"] = max(counters["incarnation"], int(owner.rpartition(":")[2]), beyond)
        counters["generation"] = max(counters["generation"], newest, beyond)
        if not self.dataset:
            counters["revision"] = max(counters["revision"], int(revision))
            counters["epoch"] = max(counters["epoch"], int(epoch))
            return "EMPTY", []
        self.revision, self.epoch = max(self.revision, int(revision)), max(self.epoch, int(epoch))
        self.before, self.dataset = known, args[0].decode()
        for member in self.members:
            life = self.lives[member]
            lease, margin = max(lease, life.lease_ms), max(margin, life.margin_ms)
            grace = max(grace, life.grace_ms)
            life.fenced = "data_lost"
            self.wanted.pop(member, None)
            if self.holders[member] or self.registered[member]:
                self.lost.add(member)
        self.members, self.active = {}, False
        self.forget_open()
        self.start_unknown(grace, lease, margin)
        return "LOST", []
