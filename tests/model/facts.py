"""What a scope is, in plain sets and numbers, as protocol.md has it: the state of the reference model."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.model.snapshot import COUNTERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from coordinator.settings import Settings


NOBODY = "-"
"""Token and claimant of a release that nobody works on."""


def need(holds: object, rule: str) -> None:
    """Fail with the rule that does not hold."""
    if not holds:
        raise AssertionError(rule)


@dataclass
class Life:
    """One incarnation of a node: its own figures in ms, its ack, canary, floor, and why it is fenced."""

    boot: str
    lease_ms: int
    margin_ms: int
    grace_ms: int
    acked: int
    writes: int = 1
    floor: int = 0
    fenced: str = ""
    revoked: int = 0
    """Serial of the first attempt of its last revoke that was executed."""

    @property
    def bound(self) -> int:
        """How long it may hold up a barrier: 2L + M."""
        return 2 * self.lease_ms + self.margin_ms


@dataclass
class Registration:
    """A client's registration."""

    owner: str
    generation: int
    adapter: str
    ttl: int
    state: str = "live"
    due: int = 0
    verifier: bytes = b""
    principal: bytes = b""
    admitted: int = 0


@dataclass
class Pending:
    """What is to be freed of a client, and when it may be claimed next."""

    upto: int
    reason: str
    due: int
    token: str = NOBODY
    claimant: str = NOBODY
    more: tuple[int, str] | None = None

    @property
    def claimed(self) -> bool:
        """Tell whether a node works on it, or did."""
        return self.token != NOBODY

    @property
    def line(self) -> str:
        """As Redis has it."""
        more = "-" if self.more is None else f"{self.more[0]}:{self.more[1]}"
        return f"{self.upto} {self.reason} {self.token} {self.claimant} {more}"


@dataclass
class Roster:
    """A restored roster: the generation of its start, who opened it last, whether it names any client."""

    generation: int
    owner: str = ""
    asked: bool = False


@dataclass
class Facts:
    """The state of a scope, and questions about it."""

    settings: Settings
    dataset: str = ""
    revision: int = 0
    epoch: int = 0
    active: bool = False
    in_force: int = 0
    closing: bool = False
    reclaim_until: int = 0
    cap: int = 0
    figures: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    before: str = ""
    clock: int = 0
    lives: dict[str, Life] = field(default_factory=dict)
    members: dict[str, int] = field(default_factory=dict)
    rosters: dict[str, Roster] = field(default_factory=dict)
    holders: defaultdict[str, dict[bytes, int]] = field(default_factory=lambda: defaultdict(dict))
    """Of members and rosters: rights. Of orphans: what is to be freed."""
    registered: defaultdict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    wanted: defaultdict[str, dict[bytes, str]] = field(default_factory=lambda: defaultdict(dict))
    lost: set[str] = field(default_factory=set)
    orphans: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    reclaimed: set[bytes] = field(default_factory=set)
    forfeited: set[bytes] = field(default_factory=set)
    ended: set[bytes] = field(default_factory=set)
    clients: dict[bytes, Registration] = field(default_factory=dict)
    releases: dict[bytes, Pending] = field(default_factory=dict)

    # -- questions ----------------------------------------------------------------------------------------------------

    @property
    def view(self) -> str:
        """What every reply tells of the scope."""
        state = "active" if self.active else "normal"
        figures = (self.in_force, int(self.closing), self.reclaim_until, self.cap)
        return " ".join(map(str, (self.dataset, self.revision, self.epoch, state, *figures))) if self.dataset else ""

    def roster_of(self, client: bytes) -> str:
        """Return the roster of this epoch on which the client has its right; empty: none."""
        return next((owner for owner in self.lost if client in self.holders[owner]), "")

    def home_of_right(self, client: bytes) -> str:
        """Return the member under which the client has its right; empty: none."""
        return next((owner for owner in self.members if client in self.holders[owner]), "")

    def right(self, client: bytes) -> int:
        """Return up to which generation the client has a right, under a member or on a roster; 0: it has none."""
        owner = self.home_of_right(client) or self.roster_of(client)
        return self.holders[owner][client] if owner else 0

    def expected(self) -> set[bytes]:
        """Return who may reclaim."""
        return set().union(*(self.holders[owner] for owner in self.lost))

    def lapsed(self, owner: str) -> bool:
        """Tell whether a member's lease ran out more than its margin ago."""
        return self.clock > self.members[owner] + self.lives[owner].margin_ms

    def waiting_for(self, revision: int) -> list[str]:
        """Return whom the barrier of a revision waits for."""
        return [o for o in self.members if not self.lapsed(o) and self.lives[o].acked < revision]

    def is_valid(self, owner: str) -> bool:
        """Tell whether a member's lease has not run out, and it is not fenced."""
        return self.members.get(owner, 0) > self.clock and not self.lives[owner].fenced

    def waiting_home(self, reg: Registration | None) -> int:
        """Return until when a revoked client's locks wait for its home; 0: not, or not any more."""
        if reg is None or reg.state != "revoked" or reg.owner not in self.members:
            return 0
        gone = self.members[reg.owner] + self.lives[reg.owner].margin_ms + 1
        return gone if gone > self.clock else 0

    # -- the release queue --------------------------------------------------------------------------------------------

    def enqueue(self, client: bytes, upto: int, reason: str, at: int) -> None:
        """Note that a client's locks are to be freed. At most one entry; work is never taken from a claimant."""
        old = self.releases.get(client)
        if old is not None and old.claimed:
            if reason != "disconnect" and upto > max(old.upto, old.more[0] if old.more else 0):
                old.more = upto, reason
            return
        if old is not None and reason == "disconnect" and old.reason != "disconnect":
            return  # the acknowledgement arms what the registration says
        if old is not None and (old.reason == "disconnect") == (reason == "disconnect"):
            if upto <= old.upto:
                upto, reason = old.upto, old.reason
            if reason != "disconnect":
                at = min(at, old.due)
        self.releases[client] = Pending(upto, reason, at)

    def claim(self, owner: str, client: bytes, claim_ms: int) -> str:
        """Give a release to a claimant: what is not newer than it frees ends now. Return the token."""
        self.counters["claims"] += 1
        entry, reg = self.releases[client], self.clients.get(client)
        entry.token, entry.claimant, entry.due = str(self.counters["claims"]), owner, self.clock + claim_ms
        if reg is not None and reg.generation <= entry.upto:
            reg.state = "leaving"
        return entry.token

    def note_ended(self, clients: Iterable[bytes]) -> None:
        """Keep who must not come back by a list of a lock store that was read before."""
        if self.ended:
            self.ended.update(clients)

    def orphaned(self, owner: str) -> Iterator[tuple[bytes, int, str, int]]:
        """Iterate over what an orphan left: client, generation, reason, when."""
        for client, upto in self.holders[owner].items():
            yield client, upto, "forfeited", self.clock
        for client in self.registered[owner]:
            reg = self.clients.get(client)
            if reg is None or reg.owner != owner or reg.state == "leaving":
                continue
            if reg.state == "deferred":
                yield client, reg.generation, "disconnect", max(reg.due, self.clock)
            else:
                yield client, reg.generation, "revoked" if reg.state == "revoked" else "orphaned", self.clock
