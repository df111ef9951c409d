"""What should not be in Redis: keys and entries that no script would ever take away again."""

from __future__ import annotations

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
    "client": ("HMGET", "o", "g", "s", "a"), "adapter": "SMEMBERS", "meta": ("HMGET", "view"),
}  # fmt: skip
"""How a key is read, by its name; of the others only the TTL counts."""
TYPES = {name: kind for name, kind, *_ in described()}
"""What the headers of lua/ say that a key is."""
MAY_EXPIRE = {"client", "node"}
GONE, NO_TTL = -2, -1
"""What PTTL answers of a key that expired since it was listed, and of one that does not expire."""
RESTORED = b":restored:"


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
        yield from self._rosters()
        yield from self._rights()
        yield from self._releases()
        yield from self._clients()

    def _lives(self) -> Iterator[str]:
        for (kind, suffix), ttl in self.ttl.items():
            if kind not in PERMANENT and kind not in DELETED_BY:
                yield f"{kind}:{suffix!r} is no key of a scope"
            elif kind not in MAY_EXPIRE and ttl >= 0:
                yield f"{kind}:{suffix!r} must not expire"

    @property
    def _is_active(self) -> bool:
        return b" active " in ((self.fixed("meta") or [b""])[0] or b"")

    def _open_rosters(self) -> set[bytes]:
        return {name for name in self.fixed("open") if RESTORED in name}

    def _owners(self) -> Iterator[str]:
        members, rosters = set(self.fixed("members")), set(self.fixed("lost")) | set(self.fixed("orphans"))
        restored = {owner for owner in rosters if RESTORED in owner} | self._open_rosters()
        for owner, _ in self.derived("node"):
            needed = owner in members or owner in restored
            if (self.ttl["node", owner] == NO_TTL) is not needed:
                yield f"node:{owner!r} has a TTL of {self.ttl['node', owner]}, needed: {needed}"
        for kind in ("clients", "holders"):
            for owner, _ in self.derived(kind):
                if owner not in members and owner not in rosters:
                    yield f"{kind}:{owner!r} is of nobody"
        yield from (f"wanted:{owner!r} is of no member" for owner, _ in self.derived("wanted") if owner not in members)

    def _rosters(self) -> Iterator[str]:
        if not self._is_active:
            if self.fixed("lost"):
                yield "lost has entries outside of a period"
            nodes = {owner.rpartition(b":")[0] for owner in self.fixed("members")}
            for name in self.fixed("open"):
                if name.split(RESTORED)[0] not in nodes or RESTORED not in name:
                    yield f"open has {name!r} outside of a period"
        if ("ended", b"") in self.data and not self._open_rosters():
            yield "ended is there, but no roster is open"

    def _rights(self) -> Iterator[str]:
        held = dict(self.derived("holders"))
        counted = Counter(
            client for owner in {*self.fixed("members"), *self.fixed("lost")} for client in held.get(owner, ())
        )
        yield from (f"{client!r} has {count} rights" for client, count in counted.items() if count > 1)

    def _releases(self) -> Iterator[str]:
        due, releases = set(self.fixed("due")), dict(self.fixed("releases"))
        for client in due ^ releases.keys():
            yield f"release of {client!r} is {'due, but nothing else' if client in due else 'not due'}"
        for client, entry in releases.items():
            if len(entry.split(b" ")) != 5:
                yield f"release of {client!r} is {entry!r}"

    def _clients(self) -> Iterator[str]:
        releases = dict(self.fixed("releases"))
        records = dict(self.derived("client"))
        sets = dict(self.derived("clients"))
        places = dict(self.derived("adapter"))
        gone = set(self.fixed("lost")) | set(self.fixed("orphans"))
        for client, (owner, generation, state, adapter) in records.items():
            word = (state or b"live").decode()
            if client not in places.get(adapter, ()):
                yield f"client:{client!r} has no place of {adapter!r}"
            covered = client in releases and _upto(releases[client]) >= int(generation)
            if not covered and client not in sets.get(owner, ()):
                yield f"client:{client!r} ({word}) is neither a client of {owner!r} nor due"
            if client not in releases and word not in {"live", "yielded"} and owner not in gone:
                yield f"client:{client!r} is {word}, but not due"
            expires = self.ttl["client", client] >= 0
            if (word == "deferred" and not expires) or (word in {"live", "yielded"} and expires):
                yield f"client:{client!r} is {word} and has a TTL of {self.ttl['client', client]}"
        for kind in ("adapter", "clients"):
            for suffix, members in self.derived(kind):
                for client in members - records.keys() - releases.keys():
                    yield f"{kind}:{suffix!r} has {client!r}, which has no record and is not due"


def _upto(entry: bytes) -> int:
    """Return up to which generation a release frees, with what is to follow it while it is claimed."""
    upto, _, _, _, more = entry.split(b" ")
    return max(int(upto), int(more.partition(b":")[0]) if b":" in more else 0)
