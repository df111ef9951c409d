"""What a node remembers of its own clients: registration, generation, lock count. No I/O.

A grant keeps the entry it was checked with. Whatever ends or renews a registration (unregister, move, revoke, a
refusal, another register) removes or replaces that entry, so a grant that is not confirmed yet fails.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True, eq=False)
class Entry:
    """One registration of this incarnation; compared by identity, so that it stands for all checks made under it."""

    client: bytes
    generation: int
    adapter: str
    ttl_ms: int
    previous: str
    """Owner that had it before, empty if none."""
    holder: bool
    lock_count: int | None
    """None: not known, after a reclaim or a move."""
    copied: bool = False
    """Its right is a copy of what it has at `previous`, until its first lock here."""
    left: tuple[str, ...] = ()
    """Owners under which it had rights still when it came here."""
    told: int = 0
    """The newest epoch of which the server was told that one of those owners is lost."""


class Memory:
    """The clients registered through this incarnation. Thread-safe."""

    def __init__(self) -> None:
        """Start empty."""
        self._mutex = threading.Lock()
        self._entries: dict[bytes, Entry] = {}
        self._counts: dict[str, int] = {}
        self._switching: set[bytes] = set()

    def get(self, client: bytes) -> Entry | None:
        """Return the client's entry, or None if this incarnation does not serve it."""
        return self._entries.get(client)

    def put(self, entry: Entry) -> None:
        """Take a registration, unless a newer one is known; older grants of the client fail."""
        with self._mutex:
            old = self._entries.get(entry.client)
            if old is not None and old.generation > entry.generation:
                return
            self._remove(entry.client)
            self._entries[entry.client] = entry
            self._counts[entry.adapter] = self._counts.get(entry.adapter, 0) + 1

    def close(self, client: bytes, upto: int = 0) -> Entry | None:
        """Forget the client, unless its generation is above `upto` (0: whatever it is); return what was forgotten."""
        with self._mutex:
            entry = self._entries.get(client)
            if entry is None or (upto and entry.generation > upto):
                return None
            return self._remove(client)

    def _remove(self, client: bytes) -> Entry | None:
        old = self._entries.pop(client, None)
        if old is not None:
            self._counts[old.adapter] -= 1
        return old

    def reopen(self, client: bytes) -> Entry | None:
        """Let open grants of the client fail, and later ones succeed; return its new entry."""
        with self._mutex:
            old = self._entries.get(client)
            if old is None:
                return None
            new = self._entries[client] = replace(old)
            return new

    def begin_switch(self, client: bytes) -> bool:
        """Reserve the client for a hold or drop, so that Redis sees them in order; False: another is under way."""
        with self._mutex:
            if client in self._switching:
                return False
            self._switching.add(client)
            return True

    def end_switch(self, client: bytes) -> None:
        """End what begin_switch reserved."""
        with self._mutex:
            self._switching.discard(client)

    def clear(self) -> None:
        """Forget everything: another incarnation begins."""
        with self._mutex:
            self._entries.clear()
            self._counts = dict.fromkeys(self._counts, 0)

    def came_from(self, owner: str) -> list[Entry]:
        """Return the clients that had a right under `owner` when they came here."""
        with self._mutex:
            return [entry for entry in self._entries.values() if owner in entry.left]

    def batches(self, size: int) -> Iterator[list[Entry]]:
        """Iterate over all entries as of now, `size` at a time."""
        with self._mutex:
            entries = list(self._entries.values())
        for first in range(0, len(entries), size):
            yield entries[first : first + size]

    def counts(self) -> dict[str, int]:
        """Return clients by adapter; takes no lock: a scrape waits for nobody."""
        return self._counts.copy()
