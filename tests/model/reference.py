"""The reference model: what each script must answer and leave, in plain Python, compared with Redis after every one."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from tests.model.facts import Facts, need
from tests.model.registrations import Registrations

if TYPE_CHECKING:
    from coordinator.protocol import Call, Reply
    from tests.model.snapshot import Snapshot

HEAD = re.compile(rb"(\S+) (\d+) (\d+) (\d+) (.*)")
OPERATOR = "-"
COUNTED = frozenset({
    "client_cancel", "client_drop", "client_hold", "client_register", "client_revoke", "client_unregister",
    "client_yield", "grace_end", "grace_start", "grace_withdraw", "node_evict", "node_leave", "orphan_drain",
    "reclaim_admit", "reclaim_complete", "release_ack", "release_claim", "release_renew",
})  # fmt: skip
"""The scripts whose effect the canary counts; those that answer one of REFUSED did nothing, and are not counted."""
REFUSED = frozenset({
    "STALE_EPOCH", "NOT_ACTIVE", "LATER", "UNKNOWN", "ALIVE", "BARRIER", "ALREADY", "NOT_EXPECTED", "NO_GRACE", "MOVED",
})  # fmt: skip
RULES = {
    "lost": "8: lost owners", "holders": "8: rights", "places": "7: places", "view": "3, 4: the view",
    "members": "members and leases", "releases": "6: what is to be freed", "due": "6: when releases are due",
}  # fmt: skip
"""Which rule a difference breaks."""


@dataclass
class Reference(Registrations):
    """The scope as the protocol has it."""

    def executed(self, call: Call[Any], reply: Reply, kinds: Sequence[str], found: Snapshot) -> None:
        """Follow a request that was executed, and fail unless it answered and left what the protocol asks for."""
        script = call.script.name
        owner, serial, floor, writes, told = HEAD.fullmatch(call.head.packed).groups()  # type: ignore[union-attr]
        need(found.clock >= self.clock, "3: the scope clock went back")
        self.clock, self.kinds, self.was_done = found.clock, [], False
        args = [word if isinstance(word, bytes) else str(word).encode() for word in call.args]
        before = self.counters["generation"]
        status, data = self._predict(
            script, owner.decode(), (int(serial), int(floor), int(writes), told.decode()), args, reply, found
        )
        name = f"{script}{args} of {owner.decode()}"
        need(reply.status == status, f"2, 5, 10: {name} answered {reply.status}, the protocol says {status}")
        need(list(kinds) == self.kinds, f"{name} left the events {kinds}, not {self.kinds}")
        self._same(name, data, reply.data)
        if status in {"DATA_LOST", "FENCED", "LATE"} or script == "scope_lost":
            return
        need(reply.raw_view.decode() == self.view, f"3, 4: {name} told {reply.raw_view!r}, not {self.view}")
        need(self.counters["generation"] >= before, "3: a generation came back")

    def _predict(  # noqa: PLR0913, PLR0917  (what decides)
        self, script: str, owner: str, head: tuple[int, int, int, str], args: list[bytes], reply: Reply, found: Snapshot
    ) -> tuple[str, list[object]]:
        if script == "scope_lost":
            return self.lost_data(owner, head[3], args)
        if script == "node_join":
            return self._node_join(owner, args, reply)
        refused = self._begin(owner, *head)
        if refused is not None:
            return refused
        self.serial = head[0]
        if script == "orphan_drain":
            return self._orphan_drain(owner, found)
        effect = getattr(self, f"_{script}", None)
        if effect is None:
            return reply.status, []
        status, data = effect(owner, args, reply)
        if script in COUNTED and status not in REFUSED and not self.was_done:
            self.lives[owner].writes += 1
        return status, data

    def _begin(self, owner: str, serial: int, floor: int, writes: int, told: str) -> tuple[str, list[object]] | None:
        """Return what is refused before all else: by dataset and canary, fence, floor."""
        if told and self._is_older(told):
            return "DATA_LOST", []
        if owner == OPERATOR:
            return None if self.dataset else ("DATA_LOST", [])
        life = self.lives.get(owner)
        if life is None or life.writes < writes:
            return "DATA_LOST", []
        if life.fenced:
            return "FENCED", [life.fenced.encode()]
        if serial < life.floor:
            return "LATE", []
        life.floor = max(life.floor, floor)
        return None

    def _is_older(self, told: str) -> bool:
        dataset, revision, epoch, *_ = told.split(" ")
        return dataset != self.dataset or self.revision < int(revision) or self.epoch < int(epoch)

    def _orphan_drain(self, owner: str, found: Snapshot) -> tuple[str, list[object]]:
        if not self.orphans:
            return "DRAINED", [0, 0, None]
        self.lives[owner].writes += 1
        gone = self.orphans - found.orphans
        need(len(gone) == 1, f"6: a drain took {gone} of the orphans {self.orphans}")
        (orphan,) = gone
        count = len(self.holders[orphan]) + len(self.registered[orphan])
        self.drained(orphan)
        return "DRAINED", [count, int(bool(self.orphans)), None]

    @staticmethod
    def _same(name: str, wanted: list[object], answered: list[Any]) -> None:
        """Compare data as far as the model has them; None: it has not."""
        for mine, theirs in zip(wanted, answered, strict=False):
            if isinstance(mine, list) and isinstance(theirs, list):
                need(len(mine) == len(theirs), f"{name} answered {theirs}, not {mine}")
                Reference._same(name, mine, theirs)
            elif mine is not None:
                need(mine == theirs, f"{name} answered {theirs!r}, not {mine!r} ({answered}, {wanted})")

    # -- copies -------------------------------------------------------------------------------------------------------

    def saved(self) -> dict[str, Any]:
        """Return a copy of all that is in Redis."""
        return {f.name: copy.deepcopy(getattr(self, f.name)) for f in fields(Facts) if f.name != "settings"}

    def put_back(self, saved: dict[str, Any]) -> None:
        """Have the state of a copy again."""
        for name, value in copy.deepcopy(saved).items():
            setattr(self, name, value)

    # -- what Redis has -----------------------------------------------------------------------------------------------

    def compare(self, found: Snapshot) -> None:
        """Fail unless Redis has the same."""
        mine = self._parsed()
        for field, value in mine.items():
            theirs = getattr(found, field)
            rule = RULES.get(field, field)
            need(theirs == value, f"{rule} differ: Redis has {theirs}, the model {value}")
        need(not self.active or found.figures == self.figures, f"9: {found.figures}, not {self.figures}")
        self._facts_of(found)

    @staticmethod
    def _facts_of(found: Snapshot) -> None:
        """Check what must hold whatever was predicted."""
        seen: dict[bytes, str] = {}
        for owner in (*found.members, *found.lost):
            for client in found.holders.get(owner, {}):
                need(client not in seen, f"5a: {client!r} has a right under {owner} and under {seen.get(client)}")
                seen[client] = owner
        for adapter in {adapter for _, _, adapter, *_ in found.clients.values()} | set(found.places):
            mine = {client for client, record in found.clients.items() if record[2] == adapter}
            need(found.places.get(adapter, set()) == mine, f"7: places of {adapter}: {found.places}, not {mine}")

    def _parsed(self) -> dict[str, Any]:
        adapters = {reg.adapter for reg in self.clients.values()}
        for adapter in adapters:
            places = sum(reg.adapter == adapter for reg in self.clients.values())
            need(places <= self.settings.limit_of(adapter), f"7: more places of {adapter} than the limit")
        return {
            "view": self.view,
            "counters": self.counters,
            "members": self.members,
            "lost": self.lost,
            "orphans": self.orphans,
            "open": self.open,
            "reclaimed": self.reclaimed,
            "forfeited": self.forfeited,
            "ended": self.ended,
            "holders": {owner: held for owner, held in self.holders.items() if held},
            "registered": {owner: those for owner, those in self.registered.items() if those},
            "wanted": {owner: words for owner, words in self.wanted.items() if words},
            "clients": {
                client: (r.owner, r.generation, r.adapter, r.state, r.due, r.ttl, r.verifier, r.admitted)
                for client, r in self.clients.items()
            },
            "releases": {client: entry.line for client, entry in self.releases.items()},
            "due": {client: entry.due for client, entry in self.releases.items()},
            "lives": {owner: (life.acked, life.writes, life.floor, life.fenced) for owner, life in self.lives.items()},
            "rosters": {name: roster.generation for name, roster in self.rosters.items()},
        }
