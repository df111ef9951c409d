"""What the scope must look like, in plain sets: read from protocol.md, compared with Redis after every script.

It follows the requests that were executed and what they answered. Refusals of reclaims are predicted; moves of the
period (start, in force, close, lift) are checked to be legal when they come and to come when they must.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from coordinator.protocol import Call, Reply
    from coordinator.settings import Settings
    from tests.model.snapshot import Snapshot

TIGHT = {"node_evict": 1, "grace_start": 4, "grace_end": 2, "grace_advance": 0, "reclaim_complete": 0}
"""Which own argument says that the caller's view is held closed."""


def need(holds: object, rule: str) -> None:
    """Fail with the rule that does not hold."""
    if not holds:
        raise AssertionError(rule)


@dataclass
class Member:
    """A member's lease (until when, scope clock), the revision it has switched to, and its own figures, in ms."""

    lease: float
    acked: int
    lease_ms: int
    margin_ms: int
    grace_ms: int


@dataclass
class Registration:
    """A client's registration."""

    owner: str
    generation: int
    adapter: str
    ttl: int
    request: str
    state: str = "live"
    verifier: bytes = b""
    completed: int = 0
    """The generation under which it completed a reclaim."""


PRESENT = 0
"""The generation of a right that is its client's present registration's."""


@dataclass
class Reference:
    """The scope as the protocol has it."""

    settings: Settings
    members: dict[str, Member] = field(default_factory=dict)
    rosters: dict[str, Member] = field(default_factory=dict)
    """Whose figures count for each lost owner and restored roster."""
    fenced: set[str] = field(default_factory=set)
    holders: dict[str, dict[bytes, int]] = field(default_factory=dict)
    """Of members, of lost owners, of orphans: each client with the generation up to which its right there goes."""
    lost: set[str] = field(default_factory=set)
    orphans: set[str] = field(default_factory=set)
    reclaimed: set[bytes] = field(default_factory=set)
    clients: dict[bytes, Registration] = field(default_factory=dict)
    claims: dict[bytes, str] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    writes: dict[str, int] = field(default_factory=dict)
    epoch: int = 0
    active: bool = False
    in_force: bool = False
    closing: bool = False
    r1: int = 0
    r2: int = 0
    revision: int = 0
    clock: int = 0
    generation: int = 0
    incarnation: int = 0
    length: int = 0
    """How long the present period will be in force at the least, in ms."""
    reclaim_until: int = 0
    cap: int = 0
    on_end: Callable[[bytes, int | None], None] = lambda *_: None
    """Told that a client's right is over: up to a generation, or (None) altogether."""
    on_move: Callable[[bytes, str, str], None] = lambda *_: None
    on_forfeit: Callable[[bytes, str, int], None] = lambda *_: None

    # -- sets ---------------------------------------------------------------------------------------------------------

    def held(self, owner: str) -> dict[bytes, int]:
        """Return the holders under an owner."""
        return self.holders.setdefault(owner, {})

    def right(self, client: bytes, owner: str) -> int:
        """Return up to which generation a client's right under an owner goes."""
        reg, generation = self.clients.get(client), self.held(owner)[client]
        if ":restored:" in owner and reg is not None:
            return min(generation, reg.generation - 1)
        return generation if generation != PRESENT or reg is None else reg.generation

    def expected(self) -> set[bytes]:
        """Return who may reclaim."""
        return set().union(*(self.held(owner) for owner in self.lost))

    def has_right(self, client: bytes) -> bool:
        """Tell whether the client is a holder of a member or on a roster."""
        return any(client in self.held(owner) for owner in (*self.members, *self.lost))

    def places(self, adapter: str) -> set[bytes]:
        """Return the clients that occupy a place of an adapter's limit."""
        return {client for client, reg in self.clients.items() if reg.adapter == adapter}

    def lapsed(self, owner: str) -> bool:
        """Tell whether a member's lease ran out more than M ago."""
        member = self.members[owner]
        return self.clock > member.lease + member.margin_ms

    def missing(self, revision: int, tight: str) -> list[str]:
        """Return whom the barrier of a revision waits for."""
        return [
            owner
            for owner, member in self.members.items()
            if member.acked < revision and not self.lapsed(owner) and owner != tight
        ]

    # -- one executed request -----------------------------------------------------------------------------------------

    def executed(
        self, call: Call[Any], reply: Reply, events: Iterable[dict[str, bytes]], found: Snapshot, *, strict: bool
    ) -> None:
        """Follow a request that was executed; `strict`: the caller's view really is closed at this moment."""
        state = reply.state
        need(state.clock_ms >= self.clock, "3: the scope clock went back")
        self.clock = state.clock_ms
        script, owner = call.script.name, call.head.owner
        if reply.status in {"DATA_LOST", "FENCED", "LATE"}:
            need(reply.status != "DATA_LOST", "data was taken for lost")
            need(reply.status != "FENCED" or owner in self.fenced or not owner, "a live incarnation was called fenced")
            need(not list(events), "10: a refused request left an event")
            return
        need(owner not in self.fenced, f"10: {script} of the fenced {owner} was executed")
        args = call.args[8:]
        tight = ""
        if script in TIGHT and str(args[TIGHT[script]]) == "1" and reply.status not in {"ALIVE", "UNKNOWN", "LATER"}:
            need(strict or not self.active, "a caller said that its view is closed, and it is not")
            tight = owner
        effect = getattr(self, f"_{script}", None)
        if effect is not None:
            effect(owner, args, reply)
        if script == "orphan_drain":
            self._follow_drain(found)
        for event in events:
            self._transition(script, event, tight)
        committed = state.writes > self.writes.get(owner, 0)  # a repeat that finds all done changes nothing
        self.writes[owner] = state.writes
        if tight and committed and self.active and tight in self.members:
            self.members[tight].acked = max(self.members[tight].acked, self.r1, self.r2)
        if "advance" in call.script.includes and committed:
            self._nothing_is_left_undone(tight)
        need((state.epoch, state.revision) == (self.epoch, self.revision), "epoch or revision without a transition")
        need(state.in_force == self.in_force and state.closing == self.closing, "in force or closing without its event")
        deadlines = (state.reclaim_until_ms, state.cap_ms)
        need(deadlines == (self.reclaim_until, self.cap), f"9: {deadlines}, not {(self.reclaim_until, self.cap)}")

    def _transition(self, script: str, event: dict[str, bytes], tight: str) -> None:
        kind = event["kind"].decode()
        if kind == "end":
            self.reclaim_until = self.clock
        if kind not in {"start", "joined", "in_force", "closing", "lift"}:
            return
        self.revision += 1
        need(int(event["revision"]) == self.revision, "3: revisions count transitions one by one")
        if kind == "start":
            need(not self.active, "a period started inside another")
            self.epoch += 1
            self.active, self.in_force, self.closing, self.r1, self.r2 = True, False, False, self.revision, 0
            self.reclaimed.clear()
            figures = self.rosters[event["owner"].decode()]
            self.length = figures.grace_ms
            bound = max(2 * each.lease_ms + each.margin_ms for each in (figures, *self.members.values()))
            self.cap = self.clock + bound + 2 * self.length
        elif kind == "joined":
            need(self.active and not self.closing, "a roster joined a period that is closing")
            grace_ms = self.rosters[event["owner"].decode()].grace_ms
            self.length = max(self.length, grace_ms)
            if self.in_force:
                self.reclaim_until = max(self.reclaim_until, self.clock + grace_ms)
            need(self.clock + grace_ms <= self.cap, "9: a roster joined for less than its grace")
        elif kind == "in_force":
            need(
                self.active and not self.in_force and not self.missing(self.r1, tight), "2: in force before its barrier"
            )
            self.in_force = True
            self.reclaim_until = min(self.clock + self.length, self.cap)
        elif kind == "closing":
            early = self.in_force and not self.open and not self.expected()
            late = (self.in_force and self.clock >= self.reclaim_until > 0) or self.clock >= self.cap > 0
            cause = f"in_force={self.in_force} open={self.open} expected={self.expected()} clock={self.clock}"
            cause += f" until={self.reclaim_until} cap={self.cap}"
            need(early or late or script == "grace_end", f"4: {script} closed without a cause: {cause}")
            self.closing, self.r2 = True, self.revision
        else:
            self._lift(tight)
        need(int(event["epoch"]) == self.epoch, "3: an event of another epoch")

    def _lift(self, tight: str) -> None:
        need(self.active and self.closing, "4: lifted without closing, or twice")
        need(not self.missing(self.r2, tight), "1: lifted before the closing barrier")
        for owner in self.lost:
            for client in self.held(owner):
                upto = self.right(client, owner)
                self.on_end(client, upto)
                self.on_forfeit(client, owner, upto)
        gone = self.expected()
        self.orphans |= self.lost
        self.lost, self.open, self.asked = set(), set(), set()
        self.active = self.in_force = self.closing = False
        self.r1 = self.r2 = self.reclaim_until = self.cap = 0
        self._end_if_nothing_left(gone)

    def _nothing_is_left_undone(self, tight: str) -> None:
        if not self.active:
            return
        if not self.closing:
            need(self.in_force or self.missing(self.r1, tight), "4: the barrier has passed, and it is not in force")
            need(not self.in_force or self.open or self.expected(), "4: nobody is left, and no early exit")
            end = min(self.reclaim_until, self.cap) if self.in_force else self.cap
            need(self.clock < end, f"9: not closed at {self.clock}, although the time was over at {end}")
        else:
            need(
                self.missing(self.r2, tight),
                f"4: no lift although the closing barrier {self.r2} has passed: {self.members}",
            )

    # -- rights -------------------------------------------------------------------------------------------------------

    def _forget(self, client: bytes) -> None:
        for owner in (*self.lost, *self.members):
            self.held(owner).pop(client, None)
        self._end_if_nothing_left([client])

    def _end_if_nothing_left(self, clients: Iterable[bytes]) -> None:
        for client in clients:
            if not self.has_right(client):
                self.on_end(client, None)

    def _lose(self, owner: str) -> None:
        self.rosters[owner] = self.members.pop(owner)
        self.fenced.add(owner)
        if self.held(owner):
            self.lost.add(owner)
        elif any(reg.owner == owner for reg in self.clients.values()):
            (self.lost if self.active else self.orphans).add(owner)

    def _attach(self, client: bytes, old: Registration, owner: str) -> None:
        """Let a registration live on here."""
        if old.owner == owner:
            return
        there = self.held(old.owner)
        if client in there and there[client] == PRESENT and (old.state == "live" or old.owner not in self.members):
            there[client] = old.generation
        if old.owner not in self.members:
            return
        self.on_move(client, old.owner, owner)
        if client in there:
            self.held(owner)[client] = there[client]
            if old.state != "live":
                del there[client]

    def may_reclaim(self, client: bytes, owner: str, *, admission: bool) -> str:  # noqa: PLR0911  (one per status)
        """Return the status that the protocol asks for (section 5, reclaim_admit)."""
        reg = self.clients.get(client)
        if reg is None:
            return "UNKNOWN"
        if reg.owner != owner:
            return "MOVED"
        if client in self.expected():
            undrained = any(client in self.held(orphan) for orphan in self.orphans)
            return "" if self.in_force and not undrained and not (admission and self.closing) else "BARRIER"
        if not admission and reg.completed == reg.generation and client in self.held(owner):
            return "ALREADY"
        if any(client in self.held(member) for member in self.members if member != owner):
            return "BARRIER"
        if client in self.reclaimed:
            return "ALREADY"
        return "NOT_EXPECTED" if self.active else "NO_GRACE"

    # -- what each script does ----------------------------------------------------------------------------------------

    def _node_join(self, _: str, args: tuple[Any, ...], reply: Reply) -> None:
        if reply.status != "JOINED" or not int(reply.data[1]):
            return
        name, dead = str(args[0]), str(args[9]) == "1"
        for owner, member in self.members.items():
            if owner.rpartition(":")[0] == name:
                self.fenced.add(owner)
                if dead:
                    member.lease = self.clock - member.margin_ms - 1
        need(int(reply.data[0]) > self.incarnation, "3: an incarnation came back")
        self.incarnation = int(reply.data[0])
        owner = f"{name}:{int(reply.data[0])}"
        need(owner not in self.fenced and owner not in self.members, "3: an incarnation was given twice")
        lease, margin, grace = (int(figure) for figure in args[4:7])
        self.members[owner] = Member(self.clock + lease, self.revision, lease, margin, grace)

    def _node_renew(self, owner: str, args: tuple[Any, ...], reply: Reply) -> None:
        member = self.members[owner]
        member.acked = max(member.acked, min(int(args[0]), self.revision))
        if int(reply.data[0]):
            member.lease = self.clock + member.lease_ms

    def _node_leave(self, owner: str, _: tuple[Any, ...], reply: Reply) -> None:
        if int(reply.data[0]):
            self._lose(owner)
        else:
            self.fenced.add(owner)
            self.members[owner].lease = self.clock - self.members[owner].margin_ms - 1

    def _node_evict(self, _: str, args: tuple[Any, ...], reply: Reply) -> None:
        victim = str(args[0])
        if reply.status == "EVICTED":
            need(self.lapsed(victim), "a member with a lease was evicted")
            self._lose(victim)

    def _grace_start(self, owner: str, args: tuple[Any, ...], reply: Reply) -> None:
        if reply.status != "STARTED" or not reply.data[0]:
            return
        roster, clients = reply.data[0].decode(), args[6:]
        self.open.add(roster)
        self.lost.add(roster)
        self.rosters[roster] = self.members[owner]
        for client, word in zip(clients, reply.data[1:], strict=True):
            if word == b"LIVE":
                live = client in self.reclaimed or any(client in self.held(member) for member in self.members)
                need(live, "a leftover was called live")
            elif word == b"EXPECTED":
                need(not any(client in self.held(member) for member in self.members), "a live holder became a leftover")
                need(client not in self.reclaimed, "a client that completed became a leftover")
                if client not in self.expected():
                    self.held(roster)[client] = self.generation
        if clients:
            self.asked.add(roster)
        if str(args[1]) != "1":
            self.open.discard(roster)
            if roster not in self.asked and args[2] == "wait":
                self.open.add("wait")

    def _reclaim_admit(self, owner: str, args: tuple[Any, ...], reply: Reply) -> None:
        wanted = self.may_reclaim(args[0], owner, admission=True) or "ADMITTED"
        need(reply.status == wanted, f"2, 5: admit answered {reply.status}, the protocol says {wanted}")

    def _reclaim_complete(self, owner: str, args: tuple[Any, ...], reply: Reply) -> None:
        for client, word in zip(args[1:], reply.data[2:], strict=True):
            wanted = self.may_reclaim(client, owner, admission=False) or "COMPLETED"
            need(word.decode() == wanted, f"2, 5: complete answered {word!r}, the protocol says {wanted}")
            if wanted == "COMPLETED":
                for roster in self.lost:
                    self.held(roster).pop(client, None)
                self.reclaimed.add(client)
                self.clients[client].completed = self.clients[client].generation
                self.held(owner)[client] = PRESENT

    def _groups(self, args: tuple[Any, ...], size: int, answers: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
        for i, answer in enumerate(answers):
            yield args[i * size : (i + 1) * size], answer

    def _new(self, generation: int) -> int:
        need(generation > self.generation, "3: a generation came back")
        self.generation = generation
        return generation

    def _client_register(self, owner: str, args: tuple[Any, ...], reply: Reply) -> None:
        for group, answer in self._groups(args, 8, reply.data):
            client, adapter, _, _, ttl, verifier, _, request = group
            old, status = self.clients.get(client), answer[0].decode()
            full = len(self.places(adapter)) >= self.settings.limit_of(adapter)
            need(status != "LIMIT" or (old is None and full), "7: refused at a limit that is not reached")
            need(status != "REGISTERED" or old is not None or not full, "7: a place was given beyond the limit")
            need((status == "ADAPTER") == (old is not None and old.adapter != adapter), "7: an adapter was changed")
            if status != "REGISTERED" or (old and old.request == request and old.owner == owner):
                continue
            if old is not None:
                need(not self._being_released(client, old), "6: registered while its release is under way")
                if old.verifier and verifier and old.verifier != verifier:
                    self._forget(client)
                self._attach(client, old, owner)
            self.clients[client] = Registration(
                owner, self._new(int(answer[1])), adapter, int(ttl), request,
                verifier=verifier or (old.verifier if old else b""),
            )  # fmt: skip

    def _being_released(self, client: bytes, reg: Registration) -> bool:
        return b"%s|%d|%s" % (reg.owner.encode(), reg.generation, client) in self.claims

    def _client_cancel(self, owner: str, args: tuple[Any, ...], reply: Reply) -> None:
        for (client, request), answer in self._groups(args, 2, reply.data):
            old = self.clients.get(client)
            if answer[0] == b"CANCELLED" and old is not None and old.request != request:
                need(old.state == "deferred", "a cancel of what is not deferred")
                self._attach(client, old, owner)
                old.owner, old.generation, old.state = owner, self._new(int(answer[1])), "live"
                old.request = request

    def _client_unregister(self, owner: str, args: tuple[Any, ...], reply: Reply) -> None:
        for (client, generation), answer in self._groups(args[1:], 2, reply.data):
            reg, status = self.clients.get(client), answer[0].decode()
            if reg is None:
                need(status == "UNKNOWN", "a disconnect of nobody")
            elif reg.owner != owner:
                need(status == "MOVED", "a disconnect of another node's registration")
                self.held(owner).pop(client, None)
                self._end_if_nothing_left([client])
            elif int(generation) not in {0, reg.generation}:
                need(status == "MOVED", "a disconnect of an older generation")
            else:
                if reg.state == "live":
                    reg.state = "deferred" if reg.ttl else "leaving"
                if answer[4]:
                    self._claimed(b"%s|%d|%s" % (owner.encode(), reg.generation, client), answer[4].decode())

    def _claimed(self, name: bytes, token: str, *, ends: bool = True) -> None:
        owner, generation, client = name.split(b"|", 2)
        self.claims[name] = token
        reg = self.clients.get(client)
        current = reg is None or (reg.owner.encode() == owner and generation in {b"*", b"%d" % reg.generation})
        if current and generation != b"*":
            if ends:
                self._forget(client)
            if reg is not None:
                reg.state = "leaving"

    def _client_hold(self, owner: str, args: tuple[Any, ...], reply: Reply) -> None:
        for (client, generation), word in self._groups(args, 2, reply.data):
            reg = self.clients.get(client)
            live = reg is not None and reg.state == "live"
            mine = reg is not None and (reg.owner, reg.generation) == (owner, int(generation))
            need((word == b"HELD") == (live and mine), "a hold without its registration, or refused with it")
            if word == b"HELD" and reg is not None:
                self.held(owner)[client] = PRESENT

    def _client_touch(self, owner: str, args: tuple[Any, ...], reply: Reply) -> None:
        for client, word in zip(args, reply.data, strict=True):
            reg = self.clients.get(client)
            wanted = "UNKNOWN" if reg is None else "TOUCHED" if reg.owner == owner else "MOVED"
            need(word.decode() == wanted, f"a touch was answered {word!r}, not {wanted}")

    def _client_drop(self, owner: str, args: tuple[Any, ...], reply: Reply) -> None:
        for (client, _), word in self._groups(args[1:], 2, reply.data):
            reg = self.clients.get(client)
            if word == b"DROPPED" or reg is None or reg.owner != owner:
                self.held(owner).pop(client, None)
                self._end_if_nothing_left([client])

    def _client_revoke(self, _: str, args: tuple[Any, ...], reply: Reply) -> None:
        client = args[0]
        if reply.status != "REVOKED":
            need(client not in self.clients and client not in self.expected(), "a right was not revoked")
            return
        self._forget(client)
        if client in self.clients:
            self.clients[client].state = "leaving"
        else:
            self.generation = max(self.generation, int(reply.data[1]))

    def _release_claim(self, _: str, __: tuple[Any, ...], reply: Reply) -> None:
        for name, _, _, _, reason, _, token in reply.data[1:]:
            self._claimed(name, token.decode(), ends=reason != b"orphaned")

    def _release_renew(self, _: str, args: tuple[Any, ...], reply: Reply) -> None:
        for (name, token), word in self._groups(args[1:], 2, reply.data):
            need(
                (word == b"RENEWED") == (self.claims.get(name) == str(token)),
                "6: a claim was renewed with another token",
            )

    def _release_ack(self, _: str, args: tuple[Any, ...], reply: Reply) -> None:
        name, token = args[0], str(args[1])
        if name not in self.claims:
            return
        need((reply.status == "ACKED") == (self.claims[name] == token), "6: an acknowledgement with another token")
        if reply.status == "ACKED":
            del self.claims[name]
            owner, generation, client = name.split(b"|", 2)
            reg = self.clients.get(client)
            if reg and reg.owner.encode() == owner and generation in {b"*", b"%d" % reg.generation}:
                del self.clients[client]

    # -- what Redis has -----------------------------------------------------------------------------------------------

    def compare(self, found: Snapshot) -> None:
        """Fail unless Redis has the same."""
        need(set(found.members) == set(self.members), "members differ")
        need(found.lost == self.lost, "8: lost owners differ")
        need(found.orphans == self.orphans, "orphans differ")
        need(found.open == self.open, "open rosters differ")
        if self.active:
            need(found.reclaimed == self.reclaimed, "reclaimed clients differ")
        for owner in {*self.members, *self.lost, *found.holders}:
            here, there = set(self.held(owner)), found.holders.get(owner, set())
            need(here == there, f"8: holders of {owner} differ: {here ^ there}")
        mine = {client: (reg.owner, reg.generation, reg.state) for client, reg in self.clients.items()}
        need(mine == found.clients, f"registrations differ: {mine} {found.clients}")
        need(found.places.keys() <= set(self.settings.adapters), "7: places of an adapter that there is not")
        for adapter in self.settings.adapters:
            places = found.places.get(adapter, set())
            need(places == self.places(adapter), f"7: places of {adapter} differ")
            need(len(places) <= self.settings.limit_of(adapter), f"7: more places of {adapter} than the limit")

    def _follow_drain(self, found: Snapshot) -> None:
        """Take over which clients a drain took from an orphan: which ones come first is Redis' choice."""
        for owner in list(self.orphans):
            left = found.holders.get(owner, set())
            need(left <= set(self.held(owner)), "an orphan won a holder")
            drained = set(self.held(owner)) - left
            for client in drained:
                upto = self.right(client, owner)
                del self.held(owner)[client]
                for other in (*self.members, *self.lost):
                    if client in self.held(other) and 0 < self.right(client, other) <= upto:
                        del self.held(other)[client]
            self._end_if_nothing_left(drained)
            if owner not in found.orphans:
                need(not left, "an orphan was given up before it was drained")
                self.orphans.discard(owner)
