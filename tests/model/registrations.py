"""The reference model of clients: registrations, rights, reclaims, releases. Read from protocol.md, 5 and 7."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.model.facts import Registration, need
from tests.model.period import Answer, Period, Words

if TYPE_CHECKING:
    from coordinator.protocol import Reply

ASK_AGAIN = 20
PUT_BACK_MS = 100


def groups(args: Words, size: int) -> Iterator[Words]:
    """Cut the arguments of a batch."""
    for first in range(0, len(args), size):
        yield args[first : first + size]


@dataclass
class Registrations(Period):
    """Clients."""

    on_complete: Callable[[bytes, int], None] = lambda *_: None
    """Told that a client has its locks back, up to this generation of its right on a roster."""

    def _end(self, client: bytes, upto: int | None) -> None:
        """End a right, wherever it is."""
        owner = self.home_of_right(client) or self.roster_of(client)
        if owner:
            del self.holders[owner][client]
        self.on_end(client, upto)

    # -- register, cancel, yield --------------------------------------------------------------------------------------

    def _is_free(self, client: bytes, reg: Registration, owner: str, asked: dict[str, dict[bytes, str]]) -> bool:
        """Tell whether a client may be taken at once; note in `asked` what its home is to close."""
        if reg.state != "live" or reg.owner == owner or reg.owner not in self.members:
            return True
        held = client in self.holders[reg.owner] or reg.admitted
        asked[reg.owner][client] = "yield" if held else "gone"
        return not held

    def _releasing(self, client: bytes, reg: Registration, owner: str) -> int:
        if reg.state in {"live", "yielded"}:
            return 0
        if reg.state == "revoked" and reg.owner != owner and reg.owner in self.members:
            return ASK_AGAIN
        entry = self.releases.get(client)
        if entry is None or not entry.claimed or reg.generation > entry.upto:
            return 0
        return max(1, entry.due - self.clock)

    def _live_on(self, client: bytes, reg: Registration, owner: str, generation: int, moves: set[str]) -> int:
        """Let a registration live on under `owner`; return 1 if it has its right there."""
        entry = self.releases.get(client)
        ending = reg.state in {"deferred", "leaving"}
        if ending and entry is not None and entry.reason == "disconnect" and not entry.claimed:
            del self.releases[client]
        holder = client in self.holders[owner]
        if reg.owner != owner:
            self.registered[reg.owner].discard(client)
            self.registered[owner].add(client)
            holder = reg.owner in self.members and self.holders[reg.owner].pop(client, None) is not None
            if reg.state == "yielded":
                moves.add(reg.owner)
        if holder:
            self.holders[owner][client] = generation
        return int(holder)

    def _client_register(self, owner: str, args: Words, _: Reply) -> Answer:
        items = list(groups(args[1:], 7))
        generation = self.next_generation(len(items))
        gone = dict(self.wanted[owner]) if args[0] == b"1" else {}
        asked: dict[str, dict[bytes, str]] = defaultdict(dict)
        moves: set[str] = set()
        rebooted: list[tuple[bytes, int, str]] = []
        answers: list[object] = []
        for client, adapter, limit, _addr, ttl, verifier, principal in items:
            reg = self.clients.get(client)
            refused = self._refuse(client, reg, owner, adapter.decode(), int(limit), principal, client in gone, asked)
            if refused:
                answers.append(refused)
                continue
            generation += 1
            holder, new = 0, Registration(owner, generation, adapter.decode(), int(ttl), "live", 0, verifier, principal)
            if reg is None:
                self.registered[owner].add(client)
            else:
                if reg.verifier and verifier and reg.verifier != verifier:
                    self._end(client, None)
                    rebooted.append((client, reg.generation, "rebooted"))
                elif reg.state == "revoked":
                    rebooted.append((client, reg.generation, "revoked"))
                self._keep_reclaimed(client, reg)
                holder = self._live_on(client, reg, owner, generation, moves)
                new.verifier = verifier or reg.verifier
            self.clients[client] = new
            answers.append([b"REGISTERED", generation, None, holder, int(bool(self.roster_of(client)))])
        for item in items:
            self.wanted[owner].pop(item[0], None)
        for home, words in asked.items():
            self.wanted[home].update(words)
        self.kinds += ["wanted"] * len(asked) + ["moved"] * len(moves)
        if rebooted:
            for client, upto, reason in rebooted:
                self.enqueue(client, upto, reason, self.clock)
            self.kinds.append("due")
            self.advance()
        return "OK", answers

    def _keep_reclaimed(self, client: bytes, reg: Registration) -> None:
        """Let what was perhaps reclaimed under a registration that goes on be covered by the right on the roster."""
        roster = self.roster_of(client)
        if reg.admitted and roster:
            self.holders[roster][client] = reg.generation

    def _refuse(  # noqa: PLR0913, PLR0917  (one per status, from all that decides)
        self, client: bytes, reg: Registration | None, owner: str, adapter: str, limit: int, principal: bytes,
        gone: bool, asked: dict[str, dict[bytes, str]],  # noqa: FBT001
    ) -> list[object] | None:  # fmt: skip
        if reg is None:
            places = [c for c, other in self.clients.items() if other.adapter == adapter]
            return [b"LIMIT", limit, adapter.encode()] if len(places) >= limit else None
        if gone and reg.owner != owner:
            return [b"MOVED"]
        if reg.adapter != adapter:
            return [b"ADAPTER"]
        if reg.principal not in {b"", principal}:
            return [b"PRINCIPAL"]
        wait = self._releasing(client, reg, owner)
        if wait:
            return [b"RELEASING", wait]
        return None if self._is_free(client, reg, owner, asked) else [b"HELD", 0, reg.owner.encode()]

    def _client_cancel(self, owner: str, args: Words, _: Reply) -> Answer:
        own, clients = args[0] == b"1", args[1:]
        generation, moves = self.next_generation(len(clients)), set[str]()
        answers: list[object] = []
        for client in clients:
            reg = self.clients.get(client)
            if reg is None:
                answers.append([b"UNKNOWN"])
                continue
            here = reg.owner == owner
            if not here and (own or reg.state == "live"):
                answers.append([b"MOVED", 0, reg.owner.encode()])
                continue
            status, holder = b"LIVE", int(client in self.holders[owner])
            if reg.state == "deferred" or (reg.state == "yielded" and here):
                if not here:
                    generation += 1
                    reg.generation = generation
                holder, status = self._live_on(client, reg, owner, reg.generation, moves), b"CANCELLED"
                reg.owner, reg.state, reg.due, reg.admitted = owner, "live", 0, 0
            elif reg.state != "live":
                answers.append([b"NOT_DEFERRED"])
                continue
            on_roster = int(bool(self.roster_of(client)))
            answers.append([status, reg.generation, None, holder, on_roster, reg.adapter.encode(), None])
        self.kinds += ["moved"] * len(moves)
        return "OK", answers

    def _client_yield(self, owner: str, args: Words, _: Reply) -> Answer:
        answers: list[object] = []
        revoked = False
        for client in args:
            word, reg = self.wanted[owner].pop(client, ""), self.clients.get(client)
            status = b"GONE"
            if reg is not None and reg.owner == owner:
                if reg.state == "live":
                    status = b"YIELDED" if word == "yield" else b"LIVE"
                    reg.state = "yielded" if word == "yield" else "live"
                elif reg.state == "yielded":
                    status = b"YIELDED"
                elif reg.state == "revoked":
                    reg.state, status, revoked = "leaving", b"REVOKED", True
                    self.enqueue(client, reg.generation, "revoked", self.clock)
            known = (reg.generation, reg.owner.encode()) if reg is not None else (0, b"")
            answers.append([status, *known])
        if revoked:
            self.kinds.append("due")
        return "OK", answers

    # -- hold, drop, unregister, revoke, touch ------------------------------------------------------------------------

    def _client_hold(self, owner: str, args: Words, _: Reply) -> Answer:
        answers: list[object] = []
        for client, generation in groups(args, 2):
            reg = self.clients.get(client)
            if reg is None or reg.state != "live":
                answers.append(b"UNKNOWN")
            elif (reg.owner, reg.generation) != (owner, int(generation)):
                answers.append(b"MOVED")
            elif self.roster_of(client):
                answers.append(b"GRACE")
            else:
                self.holders[owner][client] = int(generation)
                answers.append(b"HOLDS")
        return "OK", answers

    def _client_drop(self, owner: str, args: Words, _: Reply) -> Answer:
        answers: list[object] = []
        for client, generation in groups(args, 2):
            reg = self.clients.get(client)
            if reg is not None and (reg.owner, reg.generation) != (owner, int(generation)):
                answers.append(b"MOVED")
                continue
            answers.append(b"UNKNOWN" if reg is None else b"DROPPED")
            self.note_ended([client])
            self.holders[owner].pop(client, None)  # its server has unlocked all; else the lock table finds it
        return "OK", answers

    def _client_unregister(self, owner: str, args: Words, _: Reply) -> Answer:
        claim_ms = int(args[0])
        answers: list[list[object]] = []
        over: list[tuple[bytes, Registration, list[object]]] = []
        for client, generation in groups(args[2:], 2):
            reg = self.clients.get(client)
            if reg is None:
                answers.append([b"UNKNOWN"])
                continue
            if reg.owner != owner or int(generation) not in {0, reg.generation}:
                answers.append([b"MOVED", 0, reg.generation])
                continue
            due = self._disconnect(client, reg)
            answer = [b"DUE", due, reg.generation, reg.adapter.encode(), b"", b""]
            answers.append(answer)
            if reg.state == "leaving":
                over.append((client, reg, answer))
        for client, reg, answer in over if claim_ms else ():
            answer[4:] = self._claim_own(owner, client, reg, claim_ms)
        return "OK", list(answers)

    def _claim_own(self, owner: str, client: bytes, reg: Registration, claim_ms: int) -> list[object]:
        """Claim what is due at once for the node that disconnects it; token and reason, empty if it cannot."""
        entry = self.releases.get(client)
        if entry is None or reg.generation > entry.upto or (entry.claimed and entry.claimant != owner):
            return [b"", b""]
        if not entry.claimed:
            if client in self.holders[owner]:
                self._end(client, entry.upto)
            self.claim(owner, client, claim_ms)
        entry.due = self.clock + claim_ms
        return [entry.token.encode(), entry.reason.encode()]

    def _disconnect(self, client: bytes, reg: Registration) -> int:
        """Return when its release is due: the registration keeps its own time beside the period's."""
        if reg.state in {"live", "yielded"}:
            due = reg.due = self.clock + reg.ttl
            if self.roster_of(client):
                due = max(due, self.cap)
            reg.state = "deferred" if due > self.clock else "leaving"
            self.enqueue(client, reg.generation, "disconnect", due)
            return due
        if reg.state == "revoked":
            reg.state, reg.due = "leaving", self.clock
            self.enqueue(client, reg.generation, "revoked", self.clock)
        return reg.due

    def _client_revoke(self, owner: str, args: Words, _: Reply) -> Answer:
        first, client = int(args[0]), args[1]
        if first and self.lives[owner].revoked == first:
            self.was_done = True
            return "REVOKED", [b"", 0]
        reg, right = self.clients.get(client), self.right(client)
        self.was_done = not right and (reg is None or reg.state == "leaving")
        if reg is None and not right:
            return ("REVOKED", [b"", 0]) if client in self.releases else ("UNKNOWN", [])
        if reg is not None and reg.state == "leaving" and not right:
            return "REVOKED", [reg.owner.encode(), reg.generation]
        self.lives[owner].revoked = first or self.serial
        self._end(client, None)
        home, upto = "", right
        if reg is not None:
            home, upto = reg.owner, max(upto, reg.generation)
            served = reg.state in {"live", "revoked"} and home != owner and home in self.members
            reg.state = "revoked" if served else "leaving"
            if served:
                self.wanted[home][client] = "revoke"
                self.kinds.append("wanted")
        if self.active and "unknown" in self.open:
            upto = self.next_generation(1) + 1
            self.forfeited.add(client)
        self.enqueue(client, upto, "revoked", max(self.clock, self.waiting_home(reg)))
        self.kinds.append("revoked")
        self.advance()
        return "REVOKED", [home.encode(), upto]

    def _client_touch(self, owner: str, args: Words, _: Reply) -> Answer:
        answers: list[object] = []
        for client in args:
            reg = self.clients.get(client)
            answers.append(b"UNKNOWN" if reg is None else b"TOUCHED" if reg.owner == owner else b"MOVED")
        return "OK", answers

    # -- reclaims -----------------------------------------------------------------------------------------------------

    def may_reclaim(self, client: bytes, owner: str, *, admission: bool) -> str:
        """Return why a client may not reclaim here now; empty: it may."""
        reg = self.clients.get(client)
        if reg is None or (reg.owner == owner and reg.state != "live"):
            return "UNKNOWN"
        if reg.owner != owner:
            return "MOVED"
        if self.roster_of(client):
            return "" if self.in_force and not (admission and self.closing) else "BARRIER"
        if client in self.holders[owner]:
            return "ALREADY"
        return "NOT_EXPECTED" if self.active else "NO_GRACE"

    def _reclaim_admit(self, owner: str, args: Words, _: Reply) -> Answer:
        refused = self.may_reclaim(args[0], owner, admission=True)
        if not refused:
            self.clients[args[0]].admitted = 1
        return refused or "ADMITTED", []

    def _reclaim_complete(self, owner: str, args: Words, _: Reply) -> Answer:
        words: list[bytes] = []
        for i, client in enumerate(args):
            if client in args[:i]:
                words.append(words[args.index(client)])  # the batch is decided as one; the node tells which is a repeat
                continue
            refused = self.may_reclaim(client, owner, admission=False)
            words.append((refused or "COMPLETED").encode())
            if not refused:
                upto = self.holders[self.roster_of(client)].pop(client)
                self.holders[owner][client] = self.clients[client].generation
                self.reclaimed.add(client)
                self.on_complete(client, upto)
        if b"COMPLETED" in words:
            self.advance()
        return "OK", [len(self.expected()) if self.active else 0, *words]

    # -- releases -----------------------------------------------------------------------------------------------------

    def _release_claim(self, owner: str, args: Words, _: Reply) -> Answer:
        limit, claim_ms, prefer = (int(figure) for figure in args)
        claimed: list[object] = []
        due = sorted((entry.due, client) for client, entry in self.releases.items() if entry.due <= self.clock)
        for at, client in due:
            entry, reg = self.releases[client], self.clients.get(client)
            wait = self.waiting_home(reg)
            gone = bool(self.roster_of(client)) or (reg is not None and reg.owner in self.lost)
            if entry.reason == "disconnect" and not entry.claimed and gone:
                wait = self.cap
            is_home_first = reg is not None and reg.owner != owner and self.is_valid(reg.owner)
            if is_home_first and at + prefer > self.clock:
                continue
            if wait:
                entry.due = max(wait, self.clock + PUT_BACK_MS)
            elif len(claimed) < limit:
                home = self.home_of_right(client)
                if home and self.holders[home][client] <= entry.upto:
                    self._end(client, entry.upto)
                elif not home and not self.roster_of(client):
                    self.on_end(client, entry.upto)
                adapter = reg.adapter.encode() if reg else b""
                token = self.claim(owner, client, claim_ms).encode()
                claimed.append([client, entry.upto, entry.reason.encode(), adapter, token])
        return "CLAIMED", [None, *claimed]

    def _release_renew(self, _: str, args: Words, __: Reply) -> Answer:
        answers: list[object] = []
        for client, token in groups(args[1:], 2):
            entry = self.releases.get(client)
            good = entry is not None and entry.token == token.decode()
            answers.append(b"RENEWED" if good else b"STALE_TOKEN")
            if entry is not None and good:
                entry.due = self.clock + int(args[0])
        return "OK", answers

    def _release_ack(self, _: str, args: Words, __: Reply) -> Answer:
        answers: list[object] = []
        freed = False
        for client, token in groups(args[1:], 2):
            entry = self.releases.get(client)
            if entry is not None and entry.token != token.decode():
                answers.append(b"STALE_TOKEN")
                continue
            answers.append(b"ACKED")
            if entry is None:
                continue
            freed = True
            del self.releases[client]
            reg = self.clients.get(client)
            if reg is not None and reg.generation <= entry.upto:
                del self.clients[client]
                self.registered[reg.owner].discard(client)
            if entry.more is not None:
                self.enqueue(client, *entry.more, max(self.clock, self.waiting_home(reg)))
            elif reg is not None and reg.generation > entry.upto and reg.state in {"deferred", "leaving"}:
                self.enqueue(client, reg.generation, "disconnect", max(self.clock, reg.due))
            self.note_ended([client])
        if freed:
            self.kinds.append("freed")
        return "OK", [None, *answers]

    def drained(self, orphan: str) -> None:
        """Follow a drain that emptied an orphan (which one is Redis' choice; here one call is always enough)."""
        need(orphan in self.orphans, f"{orphan} was drained, and is no orphan")
        self.forfeited |= set(self.holders[orphan])
        for client, upto, reason, at in list(self.orphaned(orphan)):
            self.enqueue(client, upto, reason, at)
        self.holders.pop(orphan, None)
        self.registered.pop(orphan, None)
        self.orphans.discard(orphan)
        self.rosters.pop(orphan, None)
