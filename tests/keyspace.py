"""What should not be in Redis: keys and entries that no script would ever take away again."""

from __future__ import annotations

import functools
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coordinator.protocol.keys import DELETED_BY, PERMANENT, Keys
from tools.keyspace import keys as described

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

READERS = {
    "open": "SMEMBERS", "lost": "SMEMBERS", "members": ("ZRANGE", 0, -1), "due": ("ZRANGE", 0, -1),
    "releases": "HGETALL", "orphans": "SMEMBERS", "clients": "SMEMBERS", "holders": "HGETALL", "wanted": "HGETALL",
    "client": ("HMGET", "o", "g", "s", "a"), "adapter": "SMEMBERS",
    "meta": ("HMGET", "view", "generation"),
}  # fmt: skip
"""How a key is read, by its name; of the others only the TTL counts."""
TYPES = {name: kind for name, kind, *_ in described()}
"""What the headers of lua/ say that a key is."""
MAY_EXPIRE = {"client", "node"}
GONE, NO_TTL = -2, -1
"""What PTTL answers of a key that expired since it was listed, and of one that does not expire."""
RESTORED = b":restored:"
_REASONS = b"revoked|orphaned|forfeited|rebooted"
_RELEASE = re.compile(rb"(\d+) (disconnect|%b) (?:- - -|\d+ \S+ (?:-|(\d+):(?:%b)))" % (_REASONS, _REASONS))
"""What release.lua writes: upto, reason, token, claimant, more. There is more only while somebody works on it."""


def leaks(client: redis.Redis, namespace: str) -> list[str]:
    """Return what is left over in a namespace, a line each. Two round trips per 10,000 keys, in one moment."""
    keys = sorted(client.scan_iter(f"{namespace}:{{*", count=10_000))
    with client.pipeline() as pipe:
        for key in keys:
            pipe.pttl(key)
            pipe.type(key)
            reader = READERS.get(_parts(namespace, key)[1], "EXISTS")
            command, *arguments = (reader,) if isinstance(reader, str) else reader
            pipe.execute_command(command, key, *arguments)  # type: ignore[no-untyped-call]
        replies = pipe.execute(raise_on_error=False)  # a read of another type than it should be
    scopes: dict[str, Scope] = {}
    odd = []
    for key, ttl, found, value in zip(keys, replies[::3], replies[1::3], replies[2::3], strict=True):
        if ttl == GONE:
            continue
        scope, kind, suffix = _parts(namespace, key)
        if kind in TYPES and found.decode() != TYPES[kind]:
            odd.append(f"{scope}: {kind}:{suffix!r} is a {found.decode()}, not a {TYPES[kind]}")
            continue
        scopes.setdefault(scope, Scope()).add(kind, suffix, ttl, value)
    return odd + [f"{name}: {line}" for name, scope in scopes.items() for line in scope.leaks()]


def _parts(namespace: str, key: bytes) -> tuple[str, str, bytes]:
    scope = key.split(b"{", 1)[1].split(b"}", 1)[0].decode()
    keys = Keys(namespace, scope)
    kind = keys.name_of(key)
    return scope, kind, key[len(keys.key(kind)) + 1 :]


@dataclass
class Scope:
    """The data of one scope."""

    ttl: dict[tuple[str, bytes], int] = field(default_factory=dict)
    """Of each key, by kind and suffix, as PTTL answers."""
    data: dict[tuple[str, bytes], Any] = field(default_factory=dict)

    def add(self, kind: str, suffix: bytes, ttl: int, value: Any) -> None:
        """Take a key."""
        self.ttl[kind, suffix] = ttl
        self.data[kind, suffix] = value

    def fixed(self, kind: str) -> Any:
        """Return a fixed key's value, empty if there is none."""
        return self.data.get((kind, b""), {})

    def derived(self, kind: str) -> Iterator[tuple[bytes, Any]]:
        """Iterate over the derived keys of a kind."""
        yield from ((suffix, value) for (found, suffix), value in self.data.items() if found == kind)

    def leaks(self) -> Iterator[str]:
        """Iterate over all rules."""
        yield from self._lives()
        yield from self._owners()
        yield from self._wanted()
        yield from self._rosters()
        yield from self._rights()
        yield from self._releases()
        for client, record in self.derived("client"):
            yield from self._registration(client, *record)
        yield from self._sets()

    # -- what the rules are about ---------------------------------------------------------------------------------

    @functools.cached_property
    def _view(self) -> tuple[int, bool]:
        """The epoch, and whether its period is active; 0 before there is a view."""
        words = ((self.fixed("meta") or [None])[0] or b"- 0 0 normal").split(b" ")
        return int(words[2]), words[3] == b"active"

    @functools.cached_property
    def _members(self) -> set[bytes]:
        return set(self.fixed("members"))

    @functools.cached_property
    def _gone(self) -> set[bytes]:
        """Lost owners, orphans and restored rosters: what they have is waited for, or will be drained."""
        return set(self.fixed("lost")) | set(self.fixed("orphans"))

    @functools.cached_property
    def _open_rosters(self) -> set[bytes]:
        return {name for name in self.fixed("open") if RESTORED in name}

    @functools.cached_property
    def _upto(self) -> dict[bytes, int]:
        """Up to which generation each client is being freed, what is to come after a claim included."""
        upto = {}
        for client, entry in dict(self.fixed("releases")).items():
            if found := _RELEASE.fullmatch(entry):
                upto[client] = max(int(found[1]), int(found[3] or 0))
        return upto

    # -- the rules ------------------------------------------------------------------------------------------------

    def _lives(self) -> Iterator[str]:
        for (kind, suffix), ttl in self.ttl.items():
            if kind not in PERMANENT and kind not in DELETED_BY:
                yield f"{kind}:{suffix!r} is no key of a scope"
            elif kind not in MAY_EXPIRE and ttl >= 0:
                yield f"{kind}:{suffix!r} must not expire"

    def _owners(self) -> Iterator[str]:
        """Whose keys are there: of members, of those that are gone and not drained, of rosters that are being read."""
        restored = {owner for owner in self._gone if RESTORED in owner} | self._open_rosters
        for owner, _ in self.derived("node"):
            needed = owner in self._members or owner in restored
            if (self.ttl["node", owner] == NO_TTL) is not needed:
                yield f"node:{owner!r} has a TTL of {self.ttl['node', owner]}, needed: {needed}"
        for owner in self._members | restored:
            if ("node", owner) not in self.data:
                yield f"{owner!r} has no record"
        for kind in ("clients", "holders"):
            for owner, _ in self.derived(kind):
                if owner not in self._members and owner not in self._gone:
                    yield f"{kind}:{owner!r} is of nobody"
        yield from (f"{owner!r} is a member, and gone" for owner in self._members & self._gone)

    def _wanted(self) -> Iterator[str]:
        for owner, wanted in self.derived("wanted"):
            if owner not in self._members:
                yield f"wanted:{owner!r} is of no member"
            if odd := set(wanted.values()) - {b"yield", b"revoke", b"gone"}:
                yield f"wanted:{owner!r} has the words {odd}"

    def _rosters(self) -> Iterator[str]:
        epoch, is_active = self._view
        if self.fixed("lost") and not is_active:
            yield "lost has entries outside of a period"
        nodes = {owner.rpartition(b":")[0] for owner in self._members}
        allowed = {b"unknown"} | self._members if is_active else set()
        for name in set(self.fixed("open")) - allowed:
            node, found, of = name.partition(RESTORED)
            if not found or int(of) != epoch + (not is_active):
                yield f"open has {name!r} outside of a period"
            elif node not in nodes and not is_active:
                yield f"open has {name!r}, whose node is no member"
        if (("ended", b"") in self.data) is not bool(self._open_rosters):
            yield "a roster is open without `ended`" if self._open_rosters else "ended is there, but no roster is open"

    def _rights(self) -> Iterator[str]:
        """At most one each, at the client's home or on a roster, and no right or registration from the future."""
        newest = int((self.fixed("meta") or [None, None])[1] or 0)
        records, counted = dict(self.derived("client")), Counter[bytes]()
        for owner, held in self.derived("holders"):
            if owner in self._members or owner in self.fixed("lost"):
                counted.update(held.keys())
            for client, generation in held.items():
                home, registered, state, _ = records.get(client, (None, None, None, None))
                if int(generation) > newest:
                    yield f"{client!r} has a right of generation {generation!r}, the newest is {newest}"
                if owner not in self._members:
                    continue
                if home is None and client not in self._upto:
                    yield f"{client!r} has a right at {owner!r}, but no record and no release"
                elif home is not None and (home != owner or int(generation) > int(registered)):
                    yield f"{client!r} has a right at {owner!r}, but is registered at {home!r}"
                elif state == b"revoked":
                    yield f"{client!r} has a right at {owner!r}, but was revoked"
        yield from (f"{client!r} has {count} rights" for client, count in counted.items() if count > 1)

    def _releases(self) -> Iterator[str]:
        due, releases = set(self.fixed("due")), dict(self.fixed("releases"))
        for client in due ^ releases.keys():
            yield f"release of {client!r} is {'due, but nothing else' if client in due else 'not due'}"
        for client, entry in releases.items():
            found = _RELEASE.fullmatch(entry)
            if not found or (found[3] and int(found[3]) <= int(found[1])):
                yield f"release of {client!r} is {entry!r}"

    def _registration(
        self, client: bytes, owner: bytes, generation: bytes, state: bytes | None, adapter: bytes
    ) -> Iterator[str]:
        """Ask that it has its place, is of its owner until that is drained, and is due if it is over."""
        word, expires = (state or b"live").decode(), self.ttl["client", client] >= 0
        is_served, is_due = word in {"live", "yielded"}, client in self._upto
        covered = self._upto.get(client, 0) >= int(generation)
        in_set = client in self.data.get(("clients", owner), ())
        what = f"client:{client!r} of {owner!r}"
        if state == b"live" or word not in {"live", "yielded", "deferred", "revoked", "leaving"}:
            yield f"{what} has the state {state!r}"
        if client not in self.data.get(("adapter", adapter), ()):
            yield f"{what} has no place of {adapter!r}"
        if not in_set and (owner in self._members or not (covered or (is_due and not is_served))):
            yield f"{what} is {word}, but neither a client of its owner nor drained"
        if not is_served and not is_due:  # an older release will do, whose acknowledgement arms it
            yield f"{what} is {word}, but not due"
        if word == "revoked" and not covered:
            yield f"{what} is revoked, but no release frees it"
        if is_served and covered and in_set and owner not in self.fixed("orphans"):
            yield f"{what} is {word}, but is being freed up to {self._upto[client]}"
        if (word == "deferred") is not expires and word != "leaving":
            yield f"{what} is {word} and has a TTL of {self.ttl['client', client]}"

    def _sets(self) -> Iterator[str]:
        """Nobody has a place, or is in an owner's set, who is not registered so; what is being released may be."""
        records = dict(self.derived("client"))
        for kind, at in (("clients", 0), ("adapter", 3)):
            for suffix, clients in self.derived(kind):
                for client in clients - self._upto.keys():
                    if client in records:
                        if records[client][at] != suffix:
                            yield f"{kind}:{suffix!r} has {client!r}, whose record says {records[client][at]!r}"
                    elif kind == "adapter" or suffix in self._members:
                        yield f"{kind}:{suffix!r} has {client!r}, which has no record and is not due"
