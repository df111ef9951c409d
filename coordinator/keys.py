"""The only place in Python where a key is spelled, and the list of keys that may live without a TTL."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.errors import InvalidArgument
from coordinator.values import NODE_NAME

SCOPE_KEYS = (
    "meta", "grace", "open", "lost", "reclaimed", "members", "due", "releases", "ending", "orphans", "events",
)  # fmt: skip
"""Fixed keys of a scope in the order of their slots; lua/include/scope.lua binds them by name."""

PERMANENT = ("meta", "grace", "reclaimed", "events")
"""Keys that a scope keeps for good when all its clients and nodes have gone."""

DELETED_BY: dict[str, tuple[str, ...]] = {
    "open": ("advance", "grace_start"),
    "lost": ("advance",),
    "members": ("lose_owner",),
    "due": ("release",),
    "releases": ("release",),
    "ending": ("release",),
    "orphans": ("orphan_drain",),
    "node": ("lose_owner", "orphan_drain"),  # by a TTL; a restored roster's by the drain
    "clients": ("attach", "orphan_drain", "release_ack"),
    "holders": (
        "attach", "claim_releases", "client_drop", "client_unregister", "end_right", "forget_right", "orphan_drain",
        "roster_leave",
    ),
    "closing": ("attach", "client_drop", "lose_owner"),
    "client": ("client_unregister", "release_ack"),  # a TTL while its disconnect waits
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

    def slots(self) -> tuple[bytes, ...]:
        """Return the fixed keys in the order of their slots."""
        return tuple(self.key(name) for name in SCOPE_KEYS)

    def name_of(self, key: bytes) -> str:
        """Return the name of a key of this scope: meta, client, holders, ..."""
        return key[len(self.key("")) :].decode("utf-8", "surrogateescape").split(":", 1)[0]
