"""What a node remembers of its own clients: registration, generation, lock count, whose turn it is. No I/O.

A client has one *turn*: register, unregister, yield, hold, drop, complete and revoke of one client wait for the one
before. An entry that is here is *open*: whatever ends or renews a registration closes it first (removes it), so that a
grant that is not confirmed yet fails. What is sent then waits until the client's open grants were settled, confirmed or
undone: after it is executed nobody inserts a lock under the old registration any more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Entry:
    """One registration; compared by identity, so that it stands for all checks made under it."""

    client: bytes
    generation: int
    adapter: str
    ttl_ms: int
    holder: bool = False
    """Redis has its client as a holder, for certain."""
    lock_count: int | None = 0
    """Its client's locks here; None: not known, after a reclaim or a move."""
    unsure: bool = False
    """Redis may have it as a holder: a hold or drop was sent, and what became of it is not known."""
    admitted: int = 0
    """The epoch in which it may be reclaiming here; 0: it is not."""

    @property
    def is_left_over(self) -> bool:
        """Whether Redis may have it as a holder although it has no lock."""
        return self.lock_count == 0 and (self.unsure or self.holder)


@dataclass(slots=True)
class Yielding:
    """A client that this node has closed for another one; its calls here wait until it is taken, or taken back."""

    entry: Entry | None
    """As it was; None: this node did not know that it had the client."""
    take_back_at: float
    """Node time; infinite while Redis has not been told yet."""


class Registry:
    """The clients that are registered through this node. Thread-safe."""

    def __init__(self) -> None:
        """Start empty."""
        self._mutex = threading.Lock()
        self._entries: dict[bytes, Entry] = {}
        self._counts: dict[str, int] = {}
        self._turns: set[bytes] = set()
        self._grants: dict[bytes, int] = {}
        """How many grants of a client are open: begun, and neither confirmed nor undone."""
        self._left_over: dict[bytes, None] = {}
        self.yielding: dict[bytes, Yielding] = {}
        self.newest = 0
        """The newest generation of all entries that were ever here."""
        self.wake: Callable[[], None] = lambda: None
        """Called when somebody may wait for what has just ended."""

    def forked(self) -> None:
        """Go on in a forked child, without the lock: a thread that is not there may have it."""
        self._mutex = threading.Lock()

    # -- entries ------------------------------------------------------------------------------------------------------

    def get(self, client: bytes) -> Entry | None:
        """Return the client's open entry, or None if this node does not serve it."""
        return self._entries.get(client)

    def put(self, entry: Entry) -> None:
        """Open an entry; one that was there is closed."""
        with self._mutex:
            self._remove(entry.client)
            self._add(entry)
            self._note(entry)

    def restore(self, entry: Entry) -> None:
        """Open an entry again that was closed for nothing, unless a newer one is there."""
        with self._mutex:
            if entry.client not in self._entries:
                self._add(entry)
                self._note(entry)

    def close(self, client: bytes, upto: int = 0) -> Entry | None:
        """Close the client's entry, unless its generation is above `upto` (0: whatever it is); return it."""
        with self._mutex:
            entry = self._entries.get(client)
            if entry is None or (upto and entry.generation > upto):
                return None
            self._remove(client)
            return entry

    def _add(self, entry: Entry) -> None:
        self.newest = max(self.newest, entry.generation)
        self._entries[entry.client] = entry
        self._counts[entry.adapter] = self._counts.get(entry.adapter, 0) + 1

    def _remove(self, client: bytes) -> None:
        old = self._entries.pop(client, None)
        if old is not None:
            self._counts[old.adapter] -= 1

    def clear(self) -> None:
        """Close everything: the incarnation is over."""
        with self._mutex:
            self._entries.clear()
            self._left_over.clear()
            self.yielding.clear()
            self._counts = dict.fromkeys(self._counts, 0)

    def counts(self) -> dict[str, int]:
        """Return clients by adapter; takes no lock: a scrape waits for nobody."""
        return self._counts.copy()

    # -- turns and grants ---------------------------------------------------------------------------------------------

    def begin_turn(self, client: bytes) -> bool:
        """Take the client's turn; False: somebody else has it."""
        with self._mutex:
            if client in self._turns:
                return False
            self._turns.add(client)
            return True

    def has_turn(self, client: bytes) -> bool:
        """Tell whether somebody has the client's turn."""
        return client in self._turns

    def end_turn(self, client: bytes, *, wake: bool = True) -> None:
        """Give the turn back; the keeper is woken, unless it is the caller, if it may have waited for it."""
        with self._mutex:
            self._turns.discard(client)
            entry = self._entries.get(client)
            waits = entry is None or self._note(entry)
        if waits and wake:
            self.wake()

    def begin_grant(self, entry: Entry, *, count: bool) -> bool:
        """Open a grant under an entry, counting a lock if that is asked; False: the entry is not open any more."""
        with self._mutex:
            if self._entries.get(entry.client) is not entry or (count and not entry.holder):
                return False
            self._grants[entry.client] = self._grants.get(entry.client, 0) + 1
            if count and entry.lock_count is not None:
                entry.lock_count += 1
            return True

    def end_grant(self, entry: Entry, *, uncount: bool) -> None:
        """Settle a grant; take its lock back from the count if that is asked."""
        with self._mutex:
            left = self._grants[entry.client] - 1
            if left:
                self._grants[entry.client] = left
            else:
                del self._grants[entry.client]
            if uncount:
                self._uncount(entry)
            is_open = self._entries.get(entry.client) is entry
            if is_open and not entry.is_left_over:
                return
            self._note(entry)
        self.wake()  # a yield may wait for it, or a right be left over

    def is_settled(self, client: bytes) -> bool:
        """Tell whether no grant of the client is open."""
        return client not in self._grants

    # -- lock counts --------------------------------------------------------------------------------------------------

    def count(self, entry: Entry, *, reclaiming: bool = False) -> bool:
        """Count one lock more; False: the entry is not open any more, or its client no holder.

        `reclaiming`: it need be none, as its right is on a roster.
        """
        with self._mutex:
            if self._entries.get(entry.client) is not entry or not (entry.holder or reclaiming):
                return False
            if entry.lock_count is not None:
                entry.lock_count += 1
            return True

    def uncount(self, entry: Entry) -> bool:
        """Count one lock less, never below none; an unknown count stays unknown. False: it is not open any more."""
        with self._mutex:
            if self._entries.get(entry.client) is not entry:
                return False
            self._uncount(entry)
            return True

    def _uncount(self, entry: Entry) -> None:
        if entry.lock_count:
            entry.lock_count -= 1

    def _note(self, entry: Entry) -> bool:
        if self._entries.get(entry.client) is entry and entry.is_left_over:
            self._left_over[entry.client] = None
            return True
        return False

    def begin_drop(self, entry: Entry, *, whatever: bool = False) -> bool:
        """Take it that the client holds nothing: a grant that begins from now on must hold anew.

        False: it has a lock or a grant is open, unless `whatever` was counted; or it is no holder at all.
        """
        with self._mutex:
            return self._begin_drop(entry, whatever=whatever)

    def _begin_drop(self, entry: Entry, *, whatever: bool = False) -> bool:
        if entry.client in self._grants or not (whatever or entry.is_left_over):
            return False
        if whatever:
            entry.lock_count = 0
        entry.holder, entry.unsure = False, True
        return True

    def begin_drops(self, size: int) -> list[Entry]:
        """Take the turn of up to `size` clients whose right is left over; end_turn gives each back.

        One whose turn somebody has is passed over: the end of that notes it again, if it is left over still.
        """
        with self._mutex:
            entries: list[Entry] = []
            while self._left_over and len(entries) < size:
                client, _ = self._left_over.popitem()
                entry = self._entries.get(client)
                if entry is not None and client not in self._turns and self._begin_drop(entry):
                    self._turns.add(client)
                    entries.append(entry)
            return entries
