"""The only place in Python where a key is spelled, and the list of keys that may live without a TTL."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.errors import InvalidArgument
from coordinator.values import NODE_NAME

PERMANENT = ("meta", "grace", "reclaimed", "forfeited", "events")
"""Keys that a scope keeps for good when all its clients and nodes have gone."""

DELETED_BY: dict[str, tuple[str, ...]] = {
    "open": ("lose_owner", "restored"),
    "lost": ("advance", "grace_withdraw"),
    "ended": ("restored",),
    "members": ("lose_owner", "scope_lost"),
    "due": ("unqueue",),
    "releases": ("unqueue",),
    "orphans": ("orphan_drain",),
    "node": ("lose_owner", "orphan_drain", "restored", "scope_lost"),  # by a TTL; a restored roster's by the drain
    "clients": ("live_on", "orphan_drain", "release_ack"),
    "holders": (
        "claim_all", "client_drop", "client_register", "client_revoke", "grace_withdraw", "live_on", "orphan_drain",
        "reclaim_complete",
    ),
    "wanted": ("client_register", "client_yield", "lose_owner", "scope_lost"),
    "client": ("client_cancel", "client_register", "client_unregister", "release_ack"),  # a TTL while it is deferred
    "adapter": ("release_ack",),
}  # fmt: skip
"""What takes away each key that is not permanent, or entries of it: files of lua/ whose code does. A contract test
derives the same from them; tests/keyspace.py says when something is left over."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one scope; all in one hash slot."""

    namespace: str
    scope: str

    def __post_init__(self) -> None:
        """Refuse a scope name that would break the hash tag."""
        if not isinstance(self.scope, str) or not NODE_NAME.fullmatch(self.scope):
            msg = f"scope {self.scope!r} must match {NODE_NAME.pattern}"
            raise InvalidArgument(msg)

    def key(self, name: str, suffix: bytes = b"") -> bytes:
        """Return `<namespace>:{<scope>}:<name>[:<suffix>]`."""
        base = f"{self.namespace}:{{{self.scope}}}:{name}".encode()
        return base + b":" + suffix if suffix else base

    @property
    def meta(self) -> bytes:
        """The one key that every script is given; the scripts build all others from it."""
        return self.key("meta")

    def name_of(self, key: bytes) -> str:
        """Return the name of a key of this scope: meta, client, holders, ..."""
        return key[len(self.key("")) :].decode("utf-8", "surrogateescape").split(":", 1)[0]
