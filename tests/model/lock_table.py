"""The file server's part: one shared store of exclusive locks, and the truth about who was granted what.

A row stops blocking others only as in real stores: it is undone, unlocked, or freed by a release callback: everything
of a client up to a generation, whatever the owner.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.model.facts import need


@dataclass(eq=False)
class Lock:
    """One exclusive lock of a file, labelled as it was granted."""

    file: str
    client: bytes
    owner: str
    generation: int
    needs: int
    """Up to which generation a right must go to be one to this lock: of a reclaimed one, as it was granted at first."""
    zombie: bool = False
    """Its process was evicted, superseded or without its data before it inserted this."""
    confirmed: bool = False
    abandoned: bool = False
    """Its process was killed before it confirmed or undid this."""
    rightful: bool = False
    """The client was told that it has it, and nothing has ended its right since."""

    def __repr__(self) -> str:
        """Say what matters."""
        words = [word for word in ("zombie", "abandoned", "confirmed", "rightful") if getattr(self, word)]
        return f"<{self.file} of {self.client!r} by {self.owner}, {self.generation} {' '.join(words)}>"


class LockTable:
    """All locks of all nodes."""

    def __init__(self) -> None:
        """Begin empty."""
        self.locks: list[Lock] = []
        self.freed: dict[bytes, int] = {}
        """Up to which generation a client's locks were freed, or are being freed."""
        self.owed: dict[bytes, int] = {}
        """Rights that were forfeited and not released yet: up to which generation."""

    def of(self, client: bytes) -> list[Lock]:
        """Return the locks that a client rightly believes it has."""
        return [lock for lock in self.locks if lock.client == client and lock.rightful]

    def insert(self, lock: Lock) -> bool:
        """Insert with the ordinary conflict test; False: another client's row is in the way."""
        for other in self.locks:
            if other.file == lock.file and other.client != lock.client:
                mine = [old for old in self.of(lock.client) if old.file == lock.file]
                need(not (mine and other.confirmed), f"1: {other} was granted over {mine}")
                return False
        self.locks.append(lock)
        return True

    def confirm(self, lock: Lock, *, rightful: bool = True) -> None:
        """Take a grant that was confirmed: nobody else may rightly believe in it."""
        need(lock in self.locks, f"5a: {lock} was freed before it was confirmed")
        lock.confirmed, lock.rightful = True, rightful
        self.locks = [o for o in self.locks if o is lock or not self._replaces(lock, o)]
        self.alone(lock)

    @staticmethod
    def _replaces(lock: Lock, other: Lock) -> bool:
        return (lock.file, lock.client) == (other.file, other.client) and (other.confirmed or other.abandoned)

    def alone(self, lock: Lock) -> None:
        """Check that no other client has the file of a confirmed lock."""
        for other in self.locks:
            if other.file == lock.file and other.client != lock.client:
                need(not other.confirmed, f"1: {lock} and {other} are granted at once")

    def remove(self, lock: Lock) -> None:
        """Undo an insert, or unlock."""
        self.locks = [other for other in self.locks if other is not lock]

    # -- what the reference model tells -------------------------------------------------------------------------------

    def end(self, client: bytes, upto: int | None) -> None:
        """Note that a client's right is over, up to a generation or altogether."""
        for lock in self.locks:
            if lock.client == client and (upto is None or lock.needs <= upto):
                lock.rightful = False

    def complete(self, client: bytes, upto: int, above: int) -> None:
        """Note that a client has its locks back, up to a generation: those that the store has and nobody is freeing."""
        for lock in self.locks:
            if lock.client == client and lock.confirmed and lock.generation > above and lock.needs <= upto:
                lock.rightful = True
                self.alone(lock)

    def forfeit(self, client: bytes, upto: int) -> None:
        """Note a right that must be released."""
        self.owed[client] = max(upto, self.owed.get(client, 0))

    # -- releases -----------------------------------------------------------------------------------------------------

    def free(self, client: bytes, upto: int, *, note: bool = True) -> None:
        """Do what the callback's contract says; none of it may be a lock that its client rightly has."""
        gone = [lock for lock in self.locks if lock.client == client and lock.generation <= upto]
        for lock in gone:
            need(not lock.rightful, f"6: a release up to {upto} frees {lock}, which its client rightly has")
        self.locks = [lock for lock in self.locks if lock not in gone]
        if note:
            self.freed[client] = max(upto, self.freed.get(client, 0))

    def acknowledged(self, client: bytes, upto: int) -> None:
        """Note that a release was done: what it covers is owed no more."""
        if self.owed.get(client, upto + 1) <= upto:
            del self.owed[client]
