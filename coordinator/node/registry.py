"""What a node remembers of its own clients: registration, generation, lock count. No I/O.

A grant keeps the entry it was checked with. Whatever ends or renews a registration (unregister, move, revoke, a
refusal, another register) removes or replaces that entry, so a grant that is not confirmed yet fails. What is known of
the client's right outlives that: entries of one right share their holding.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True, eq=False)
class Holding:
    """What is known here of a client's right, and of the locks it is for.

    Who has reserved the client (begin_switch) changes it; the count may become unknown at any moment.
    """

    since: int
    """Generation of the registration it began with; later ones that kept the right share it."""
    holder: bool
    """Redis has it as a holder, for certain."""
    lock_count: int | None
    """None: not known, after a reclaim or a move."""
    unsure: bool = False
    """Redis may have it as a holder: a hold or drop was sent, and what became of it is not known."""

    @property
    def left_over(self) -> bool:
        """Whether Redis may have it as a holder although it has no lock."""
        return self.lock_count == 0 and (self.unsure or self.holder)


@dataclass(slots=True, eq=False)
class Entry:
    """One registration of this incarnation; compared by identity, so that it stands for all checks made under it."""

    client: bytes
    generation: int
    adapter: str
    ttl_ms: int
    previous: str
    """Owner that had it before, empty if none."""
    holding: Holding
    copied: bool = False
    """Its right is a copy of what it has at `previous`, until its first lock here."""
    left: tuple[str, ...] = ()
    """Owners under which it had rights still when it came here."""
    told: int = 0
    """The newest epoch of which the server was told that one of those owners is lost."""
    life: int = 0
    """Which incarnation asked for it: Memory.life when it was asked for."""
    admitted: int = 0
    """Epoch in which it was last admitted to reclaim."""

    @property
    def holder(self) -> bool:
        """Whether Redis has its client as a holder, for certain."""
        return self.holding.holder

    @property
    def lock_count(self) -> int | None:
        """Its client's locks here; None: not known."""
        return self.holding.lock_count


class Memory:
    """The clients registered through this incarnation. Thread-safe."""

    def __init__(self) -> None:
        """Start empty."""
        self.life = 0
        """Counts the incarnations: what was asked for by an earlier one is not taken."""
        self._mutex = threading.Lock()
        self._entries: dict[bytes, Entry] = {}
        self._counts: dict[str, int] = {}
        self._switching: dict[bytes, bool] = {}
        """Clients that are reserved for a hold or drop; True: for a drop, no completion may begin."""
        self._completing: dict[bytes, int] = {}
        """How many completions of a client are under way: no drop may begin."""
        self._left_over: dict[bytes, None] = {}

    def get(self, client: bytes) -> Entry | None:
        """Return the client's entry, or None if this incarnation does not serve it."""
        return self._entries.get(client)

    def put(self, entry: Entry, *, kept: bool = False) -> Entry | None:
        """Take a registration; older grants of the client fail. Return the newest one; None: of an earlier incarnation.

        `kept`: Redis says that its client still has its right here: what is known of that goes on.
        """
        with self._mutex:
            if entry.life != self.life:
                return None
            old = self._entries.get(entry.client)
            if old is not None and old.generation > entry.generation:
                return old
            if kept and old is not None and old.previous == entry.previous and (old.holder or old.holding.unsure):
                entry.holding = old.holding
            self._remove(entry.client)
            self._add(entry)
            return entry

    def restore(self, entry: Entry) -> None:
        """Take back what was closed for nothing, unless another incarnation or registration has begun."""
        with self._mutex:
            if entry.life == self.life and entry.client not in self._entries:
                self._add(entry)
                self._note(entry.client)

    def _add(self, entry: Entry) -> None:
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

    # -- locks and rights -----------------------------------------------------------------------------------------

    def count(self, entry: Entry) -> bool:
        """Count one lock more; False: the right that it was to count for is over."""
        with self._mutex:
            present, holding = self._entries.get(entry.client), entry.holding
            if present is None or present.holding is not holding:
                return False
            if holding.lock_count is not None:
                holding.lock_count += 1
            return True

    def uncount(self, holding: Holding) -> None:
        """Count one lock less, never below none; an unknown count stays unknown."""
        with self._mutex:
            if holding.lock_count:
                holding.lock_count -= 1

    def lose_count(self, client: bytes, entry: Entry | None) -> None:
        """Take it that the client has locks which were not counted, under this entry and whichever it has by now."""
        with self._mutex:
            for one in (entry, self._entries.get(client)):
                if one is not None:
                    one.holding.lock_count = None

    def begin_switch(self, client: bytes) -> bool:
        """Reserve the client for a hold or drop, so that Redis sees them in order; False: another is under way."""
        with self._mutex:
            if client in self._switching:
                return False
            self._switching[client] = False
            return True

    def begin_drop(self, client: bytes) -> bool:
        """Make a reserved client's switch a drop; False: it is completing, and may have locks that are not counted."""
        with self._mutex:
            if client in self._completing:
                return False
            self._switching[client] = True
            return True

    def end_switch(self, client: bytes) -> bool:
        """End what begin_switch reserved; tell whether a right is left over."""
        with self._mutex:
            self._switching.pop(client, None)
            return self._note(client)

    def begin_completing(self, client: bytes) -> bool:
        """Keep drops of the client away; False: one is under way, which might come after the completion."""
        with self._mutex:
            if self._switching.get(client):
                return False
            self._completing[client] = self._completing.get(client, 0) + 1
            return True

    def end_completing(self, client: bytes) -> bool:
        """End what begin_completing began; tell whether a right is left over."""
        with self._mutex:
            self._completing[client] -= 1
            if not self._completing[client]:
                del self._completing[client]
            return self._note(client)

    def _note(self, client: bytes) -> bool:
        entry = self._entries.get(client)
        if entry is not None and entry.holding.left_over:
            self._left_over[client] = None
            return True
        return False

    def begin_drops(self, size: int) -> list[Entry]:
        """Reserve up to `size` clients whose right is left over for a drop; end_switch ends it.

        Who has reserved one already is passed over: the end of that notes it again, if it is left over still.
        """
        with self._mutex:
            entries: list[Entry] = []
            while self._left_over and len(entries) < size:
                client, _ = self._left_over.popitem()
                entry = self._entries.get(client)
                if entry is None or not entry.holding.left_over:
                    continue
                if client not in self._switching and client not in self._completing:
                    self._switching[client] = True
                    entries.append(entry)
            return entries

    # -- all of them ----------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forget everything: another incarnation begins."""
        with self._mutex:
            self.life += 1
            self._entries.clear()
            self._left_over.clear()
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
