"""A client's turn, the closing of its entry, and what a home does when another node asks for the client. No I/O."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator import errors
from coordinator.node.life import Life
from coordinator.node.registry import Entry, Yielding
from coordinator.node.requests import Flow, Sleep
from coordinator.protocol import clients
from coordinator.protocol.call import BATCH_MAX
from coordinator.values import GraceState, Move, client_str

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

POLL_SECONDS = 0.002
SETTLE_SECONDS = 2.0
"""How long a call waits for open grants of its client before it is refused."""
TAKE_BACK_SECONDS = 2.0
"""After so long a yield that nobody took is taken back; register asks no longer than that."""


class Turns(Life):
    """Whose turn it is, client by client."""

    def take_turns(self, ids: Iterable[bytes]) -> Flow[None]:
        """Wait until it is this call's turn for all of these clients; end_turns gives them back.

        In one order, so that two calls never wait for each other.
        """
        taken: list[bytes] = []
        try:
            for client in sorted(set(ids)):
                while not self.registry.begin_turn(client):
                    yield Sleep(POLL_SECONDS)
                taken.append(client)
        except BaseException:
            self.end_turns(taken)
            raise

    def end_turns(self, ids: Iterable[bytes], *, wake: bool = True) -> None:
        """Let the next call have its turn; the keeper does not wake itself."""
        for client in set(ids):
            self.registry.end_turn(client, wake=wake)

    def close_settled(self, pairs: Sequence[tuple[bytes, int]]) -> Flow[dict[bytes, Entry]]:
        """Close the entries of clients (up to a generation; 0: whatever it is), and wait until nothing is open there.

        The caller has their turns. A client that is being yielded is closed already, and stays so until `was_kept`.
        Raises Unavailable when a grant stays open: nothing was sent, and the entries are open again.
        """
        closed: dict[bytes, Entry] = {}
        meant = []
        for client, upto in pairs:
            entry = self.registry.close(client, upto)
            if entry is not None:
                closed[client] = entry
            if self.registry.get(client) is None:  # closed now, or before: a grant may be open still
                meant.append(client)
        try:
            for _ in range(round(SETTLE_SECONDS / POLL_SECONDS)):
                open_ = [client for client in meant if not self.registry.is_settled(client)]
                if not open_:
                    return closed
                yield Sleep(POLL_SECONDS)
        except BaseException:
            self.restore(closed.values())
            raise
        self.restore(closed.values())
        msg = (
            f"a grant of {client_str(open_[0])!r} has been open for {SETTLE_SECONDS:.0f} s: confirm or undo it (leave "
            "its block) before you disconnect, revoke or register its client"
        )
        raise errors.Unavailable(msg)

    def was_kept(self, client: bytes) -> Entry | None:
        """Take it that this node itself went on with a client that it was yielding; return the entry, if it was.

        The client may have been taken and have come back: then its locks are not known.
        """
        one = self.registry.yielding.pop(client, None)
        if one is None or one.entry is None:
            return None
        if one.take_back_at < float("inf"):
            one.entry.lock_count = None
        return one.entry

    def restore(self, entries: Iterable[Entry]) -> None:
        """Open entries again that were closed for nothing."""
        if not self.lease.is_over:
            for entry in entries:
                self.registry.restore(entry)

    def entry(self, client: bytes) -> Flow[Entry]:
        """Return the client's entry; refuse one that is not served here.

        Wait while it is being yielded, or while a call has its turn that may have closed it.
        """
        for _ in range(round(2 * TAKE_BACK_SECONDS / POLL_SECONDS)):
            entry = self.registry.get(client)
            if entry is not None:
                return entry
            has_turn = self.registry.has_turn(client) and self.registry.is_settled(client)
            if client not in self.registry.yielding and not has_turn:
                break
            yield Sleep(POLL_SECONDS)
        self.refuse_if_over()
        raise errors.RegistrationRefused(errors.UNKNOWN)

    def forget(self, entry: Entry, error: errors.CoordinatorError) -> None:
        """Close the client's entry after MOVED and UNKNOWN, before anything else."""
        if isinstance(error, errors.RegistrationRefused) and error.reason in {"moved", "unknown"}:
            closed = self.registry.close(entry.client, entry.generation)
            if closed is not None and error.reason == "moved":
                self.on_move(Move(client_str(entry.client), ""))

    # -- yields: the home's part of a move ------------------------------------------------------------------------

    def yield_wanted(self) -> Flow[bool]:
        """Close up to 200 clients that others ask for, and say so; tell whether there may be more at once.

        A client whose turn is taken, or that has a grant open, is left for later: the end of either wakes the keeper.
        """
        ready = self._close_wanted()
        if not ready:
            return False
        try:
            answers = yield from self.ask(lambda head: clients.yield_(self.meta, head, ready))
        except errors.OutcomeUnknown:
            for client in ready:  # perhaps yielded: what is not wanted any more is taken back
                self._may_be_taken(client)
            raise
        else:
            for client, answer in zip(ready, answers, strict=True):
                self._yielded(client, answer)
        finally:
            self.end_turns(ready, wake=False)
        if len(ready) < BATCH_MAX:
            return False
        self.must_renew = True  # a renewal tells no more than so many: there may be others
        return True

    def _close_wanted(self) -> list[bytes]:
        ready: list[bytes] = []
        for client, word in list(self.wanted.items()):
            if len(ready) == BATCH_MAX:
                break
            if not self.registry.begin_turn(client):
                continue
            entry = self.registry.close(client)
            if entry is not None or client not in self.registry.yielding:
                self.registry.yielding[client] = Yielding(entry, float("inf"))
            entry = self.registry.yielding[client].entry
            if self.registry.is_settled(client) and (word == "revoke" or not self._is_reclaiming(entry)):
                ready.append(client)
            else:
                self.registry.end_turn(client, wake=False)
        return ready

    def _is_reclaiming(self, entry: Entry | None) -> bool:
        """Tell whether the server may be inserting reclaimed locks of a client under an admission."""
        view = self.lease.view
        return entry is not None and entry.admitted == view.epoch > 0 and view.state is GraceState.ACTIVE

    def _may_be_taken(self, client: bytes) -> None:
        one = self.registry.yielding.get(client)  # none: it was taken, and the event was faster than the reply
        if one is not None:
            one.take_back_at = self.now() + TAKE_BACK_SECONDS

    def _yielded(self, client: bytes, answer: clients.Yielded) -> None:
        self.wanted.pop(client, None)
        if answer.status == "YIELDED":
            self.metrics.yielded()
            self._may_be_taken(client)
            return
        one = self.registry.yielding.pop(client, None)
        entry = None if one is None else one.entry
        if entry is None:
            return
        if answer.status == "LIVE":
            self.restore([entry])
        elif answer.owner != self.lease.owner:
            self.on_move(Move(client_str(client), answer.owner))

    def was_taken(self, client: bytes, to: str, generation: int) -> None:
        """Take it that a client which this node yielded is registered elsewhere now, under this generation."""
        one = self.registry.yielding.get(client)
        if one is None or (one.entry is not None and one.entry.generation > generation):
            return  # of an earlier move: it has come back since
        del self.registry.yielding[client]
        if one.entry is not None:
            self.on_move(Move(client_str(client), to))

    def next_take_back(self) -> float:
        """Return the node time at which a yield is to be taken back; infinite: there is none.

        One whose client's turn is taken is left for later: the end of that wakes the keeper.
        """
        waiting = list(self.registry.yielding.items())
        times = (one.take_back_at for client, one in waiting if not self.registry.has_turn(client))
        return min(times, default=float("inf"))

    def take_back(self) -> Flow[bool]:
        """Take back up to 200 yields that nobody took in time; tell whether there may be more at once."""
        now, waiting = self.now(), list(self.registry.yielding.items())
        ready = (client for client, one in waiting if one.take_back_at <= now and self.registry.begin_turn(client))
        late = list(itertools.islice(ready, BATCH_MAX))
        if not late:
            return False
        try:
            answers = yield from self.ask(lambda head: clients.cancel(self.meta, head, late, own=True))
            for client, answer in zip(late, answers, strict=True):
                one = self.registry.yielding.pop(client, None)
                if one is None or one.entry is None:
                    continue
                if answer.registered is None:
                    self.on_move(Move(client_str(client), answer.owner))
                elif not self.lease.is_over:
                    self.registry.put(renewed(one.entry, answer.registered))
        finally:
            self.end_turns(late, wake=False)
        return len(late) == BATCH_MAX


def renewed(old: Entry, registered: clients.Registered) -> Entry:
    """Return the entry of a registration that goes on here under a new generation: what is known of its locks stays."""
    known = registered.holder and (old.holder or old.unsure)
    return replace(
        old,
        generation=registered.generation,
        holder=registered.holder,
        unsure=False,
        lock_count=old.lock_count if known else None if registered.holder else 0,
        admitted=0,
    )
