"""The file server's part: one shared table of exclusive locks, which knows the truth about who was granted what.

An entry of a lost owner stops blocking new locks once its epoch is in force, as in servers that drop a dead node's
state: from then on only the coordinator stands between two holders of one lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.model.reference import need

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator import Release


@dataclass(eq=False)
class Lock:
    """One exclusive lock of a file, labelled as it was granted."""

    file: str
    client: bytes
    owner: str
    generation: int
    home: str
    """The owner that serves it now: the client's, wherever it moved."""
    confirmed: bool = False
    rightful: bool = False
    """The client was told that it has it, and nothing has ended its right since."""


class LockTable:
    """All locks of all nodes."""

    def __init__(self, forgotten: Callable[[str], bool]) -> None:
        """Ask `forgotten` whether the locks of an owner block no more."""
        self.locks: list[Lock] = []
        self.forgotten = forgotten
        self.owed: dict[tuple[bytes, str], tuple[int, list[Lock]]] = {}
        """Rights that were forfeited (client, owner) and not released yet: up to which generation, which locks."""

    def of(self, client: bytes) -> list[Lock]:
        """Return the locks that a client rightly believes it has."""
        return [lock for lock in self.locks if lock.client == client and lock.rightful]

    def insert(self, file: str, client: bytes, owner: str, generation: int) -> Lock | None:
        """Insert with the ordinary conflict test; None: conflict, or somebody's insert is not confirmed yet."""
        for lock in self.locks:
            if lock.file == file and not self.forgotten(lock.home):
                return None
        lock = Lock(file, client, owner, generation, owner)
        self.locks.append(lock)
        return lock

    def reclaim(self, old: Lock, owner: str, generation: int) -> Lock | None:
        """Insert a lock that a client had; None: an insert that is not confirmed is in the way, try again."""
        for lock in self.locks:
            if lock is not old and lock.file == old.file and not self.forgotten(lock.home):
                need(not lock.confirmed or not old.rightful, f"1: {lock} was granted over {old}")
                return None
        new = Lock(old.file, old.client, owner, generation, owner)
        self.locks.append(new)
        return new

    def confirm(self, lock: Lock) -> None:
        """Take a grant that was confirmed: nobody else may rightly believe in it."""
        for other in self.locks:
            if other.file == lock.file and other is not lock and other.rightful:
                need(other.client == lock.client, f"1: {lock} and {other} are granted at once")
        self.locks = [o for o in self.locks if o is lock or o.client != lock.client or o.file != lock.file]
        lock.confirmed = lock.rightful = True

    def remove(self, lock: Lock) -> None:
        """Undo an insert, or unlock."""
        self.locks = [other for other in self.locks if other is not lock]

    def end(self, client: bytes, upto: int | None) -> None:
        """Note that a client's right is over, up to a generation or altogether."""
        for lock in self.locks:
            if lock.client == client and (upto is None or lock.generation <= upto):
                lock.rightful = False

    def forfeit(self, client: bytes, owner: str, upto: int) -> None:
        """Note a right that must be released: what was not reclaimed under any dead owner, for a restored roster."""
        mine = [lock for lock in self.locks if lock.client == client]
        if ":restored:" in owner:
            for lock in mine:
                lock.rightful = lock.rightful and not self.forgotten(lock.home)
        self.owed[client, owner] = upto, [lock for lock in mine if lock.confirmed and not lock.rightful]

    def move(self, client: bytes, old: str, new: str) -> None:
        """Let a client's locks live on at its new node."""
        for lock in self.locks:
            if lock.client == client and lock.home == old:
                lock.home = new

    def free(self, release: Release, client: bytes) -> None:
        """Do what the callback's contract says; none of it may be a lock that its client rightly has."""
        kept = []
        for lock in self.locks:
            if not (lock.client == client and self._covers(release, lock)):
                kept.append(lock)
            else:
                need(not lock.rightful, f"6: {release} frees {lock}, which its client rightly has")
        self.locks = kept

    @staticmethod
    def _covers(release: Release, lock: Lock) -> bool:
        return lock.owner == release.owner if release.generation is None else lock.generation <= release.generation

    def acknowledged(self, client: bytes, release: Release, rosters: set[str]) -> None:
        """Note that a release was done: what it covers is owed no more."""
        for (who, owner), (upto, locks) in list(self.owed.items()):
            named = release.owner == owner or (release.owner is None and owner in rosters)
            if who == client and (named or upto <= (release.generation or 0)):
                del self.owed[who, owner]
                kept = [lock for lock in locks if lock in self.locks]
                need(not kept, f"6: {release} was done, and {kept} were forfeited with it")
