"""Grants, reclaims and lock counts: what stands between a lock request and its confirm. No I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator import errors
from coordinator.node.clients import Clients
from coordinator.node.life import NOT_DONE
from coordinator.node.requests import Flow
from coordinator.protocol import clients, grace
from coordinator.protocol.call import BATCH_MAX
from coordinator.values import GraceState, Operation, ReclaimOutcome, Verdict, client_str

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.node.registry import Entry

_NEW = Operation.NEW


class Grant:
    """A permission that is not confirmed yet. `owner` and `generation` label the lock.

    It is open until it is confirmed or undone; until then its client cannot leave this node.
    """

    __slots__ = ("_entry", "_is_open", "_is_undone", "_node", "epoch", "generation", "operation", "owner")

    def __init__(  # noqa: PLR0913  (what a check was made under)
        self, node: Locks, entry: Entry, owner: str, epoch: int, operation: Operation, *, is_open: bool = True
    ) -> None:
        """Stand for a check that was made under an entry. `is_open`: the caller has opened it in the registry."""
        self._node = node
        self._entry = entry
        self._is_open = is_open
        self._is_undone = False
        self.owner = owner
        self.generation = entry.generation
        self.epoch = epoch
        self.operation = operation

    def confirm(self) -> None:
        """Make the insert count. Local. A grant to reclaim may be confirmed again, after each further insert.

        Raises StaleGrant: undo the insert, and let the client ask again. The lock is counted no more.
        """
        node, entry = self._node, self._entry
        if (
            not self._is_undone
            and node.registry.get(entry.client) is entry
            and node.lease.still_allows(self.operation, self.owner, self.epoch, node.now())
            and (self.operation is _NEW or entry.admitted == self.epoch)
        ):
            if self.operation is _NEW:
                self.settle()
            return
        node.metrics.stale_grant()
        self.undo()
        msg = f"the grant of epoch {self.epoch} was overtaken: undo the insert and let the client retry"
        raise errors.StaleGrant(msg)

    def undo(self) -> None:
        """Give it up: nothing was inserted, or it was taken out again. Idempotent, after a confirm too."""
        self._is_undone = self._is_undone or self._is_open or self.operation is not _NEW
        self._settle(uncount=self.operation is _NEW)
        if self.operation is not _NEW:
            self._entry.admitted = 0

    def settle(self) -> None:
        """Say that what was inserted under it stands, and that nothing more will be inserted. Idempotent.

        A client that was reclaiming may go on at another node then, where it reclaims anew.
        """
        self._settle(uncount=False)
        if self.operation is not _NEW:
            self._entry.admitted = 0

    def end_inserts(self) -> bytes:
        """Be open no more, but keep an admission until `settle`; return the client."""
        self._settle(uncount=False)
        return self._entry.client

    def _settle(self, *, uncount: bool) -> None:
        if self._is_open:
            self._is_open = False
            self._node.registry.end_grant(self._entry, uncount=uncount)


class Locks(Clients):
    """Procedures about a client's locks here."""

    def check(self, operation: Operation) -> Verdict:
        """Decide locally; what is refused is counted."""
        verdict = self.lease.check(operation, self.now())
        return verdict if verdict.allowed else self.refused(verdict)

    def refused(self, verdict: Verdict) -> Verdict:
        """Count a refusal; return it."""
        if verdict.reason is not None:
            self.metrics.refused(verdict.reason.value)
        return verdict

    # -- new locks ------------------------------------------------------------------------------------------------

    def grant_at_once(self, client: bytes) -> Grant | None:
        """Return a grant for a new lock of a client that holds already, without a round trip; None: ask begin_grant."""
        entry = self.registry.get(client)
        if entry is None or not entry.holder:
            return None
        # The view is read before it is checked, and the entry before the grant is opened: whatever changes after that,
        # the confirm sees that it is another.
        view = self.lease.snapshot
        if self.now() >= view.new_until:
            self.check(_NEW).raise_for_refusal()
            return None
        if not self.registry.begin_grant(entry, count=True):
            return None
        return Grant(self, entry, view.owner, view.epoch, _NEW)

    def begin_grant(self, client: bytes) -> Flow[Grant]:
        """Hold and check for a new lock; the first one of a client is durable (`client_hold`) before this returns."""
        while True:
            self.check(_NEW).raise_for_refusal()
            yield from self.entry(client)
            grant = self.grant_at_once(client)
            if grant is not None:
                return grant
            yield from self.take_turns([client])
            try:
                yield from self._hold(client)
                grant = self.grant_at_once(client)  # within the turn: nobody drops what has no lock yet
                if grant is not None:
                    return grant
            finally:
                self.end_turns([client])

    def _hold(self, client: bytes) -> Flow[None]:
        """Make a client whose turn the caller has a holder. Raises GraceActive while its right is on a roster."""
        entry = self.registry.get(client)
        if entry is None or entry.holder:
            return
        before, entry.unsure = entry.unsure, True
        try:
            (error,) = yield from self.ask(lambda head: clients.hold(self.meta, head, [(client, entry.generation)]))
        except NOT_DONE:
            entry.unsure = before
            raise
        if error is not None:
            entry.unsure = before
            self.forget(entry, error)
            raise error
        entry.holder, entry.unsure = True, False

    # -- reclaims -------------------------------------------------------------------------------------------------

    def admit(self, client: bytes, *, keep_open: bool = False) -> Flow[Grant]:
        """Ask whether a client may reclaim here now. `keep_open`: the caller ends the grant when its inserts are over.

        Without it the admission itself keeps the client here, until it completes, is undone or its epoch is over: the
        caller sees that nothing is inserted under it after that, or while its client disconnects or is revoked.
        """
        entry = yield from self.entry(client)
        self.check(Operation.RECLAIM).raise_for_refusal()
        owner = self.lease.owner
        yield from self.take_turns([client])
        entry = self.registry.get(client) or entry  # it may have registered anew since
        try:
            epoch = yield from self.ask(lambda head: grace.admit(self.meta, head, client))
            if self.registry.get(client) is entry:  # else it was closed meanwhile: nothing more is reclaimed here
                entry.admitted = epoch
        except errors.Refused as error:
            self.forget(entry, error)
            self.metrics.reclaimed(granted=False)
            raise
        finally:
            self.end_turns([client])
        if keep_open and not self.registry.begin_grant(entry, count=False):
            msg = "the client has left or registered anew meanwhile: nothing was inserted"
            raise errors.StaleGrant(msg)
        return Grant(self, entry, owner, epoch, Operation.RECLAIM, is_open=keep_open)

    def end_reclaim(self, grant: Grant) -> Flow[list[ReclaimOutcome | errors.CoordinatorError]]:
        """Complete the client of a grant to reclaim, whose inserts are over and confirmed.

        The grant is open no more, else a call that has the client's turn would wait for it, and this one for the turn.
        The admission keeps the client here until it is complete.
        """
        client = grant.end_inserts()
        try:
            return (yield from self.complete([client]))
        finally:
            grant.settle()

    def complete(
        self, ids: Sequence[bytes], locks: int | None = None
    ) -> Flow[list[ReclaimOutcome | errors.CoordinatorError]]:
        """Clients have all their locks back: their reclaiming here ends, then Redis is told."""
        self.refuse_unless_valid()
        yield from self.take_turns(ids)
        try:
            # One that another node asks for was closed, but is yielded only when its reclaiming here has ended: now.
            entries = [self.registry.get(client) or self._yielding(client) for client in ids]
            for known in filter(None, entries):
                known.admitted = 0
            try:
                results = yield from self.ask(lambda head: grace.complete(self.meta, head, ids))
            except NOT_DONE:
                raise
            except BaseException:
                for known in filter(None, entries):
                    known.unsure, known.lock_count = True, None  # perhaps a holder by now
                raise
            for entry, result in zip(entries, results, strict=True):
                self._completed(entry, result, locks)
        finally:
            self.end_turns(ids)
        # By the answers and not by the view: a renewal of the keeper may have lifted the period meanwhile.
        if any(isinstance(r, ReclaimOutcome) and r.closing for r in results):
            yield from self.acknowledge()  # with one node, or all others idle, that lifts the period
            view = self.lease.view
            over = view.state is GraceState.NORMAL
            results = [
                replace(r, closing=view.closing, lifted=over and not r.repeated) if isinstance(r, ReclaimOutcome) else r
                for r in results
            ]
        return results

    def _yielding(self, client: bytes) -> Entry | None:
        one = self.registry.yielding.get(client)
        return None if one is None else one.entry

    def _completed(
        self, entry: Entry | None, result: ReclaimOutcome | errors.CoordinatorError, locks: int | None
    ) -> None:
        if not isinstance(result, ReclaimOutcome):
            self.metrics.reclaimed(granted=False)
            if entry is not None:
                self.forget(entry, result)
            return
        if not result.repeated:
            self.metrics.reclaimed(granted=True)
        if entry is not None:
            if not (result.repeated and entry.holder):  # else locks may have been granted since `locks` were counted
                entry.lock_count = locks
            entry.holder, entry.unsure = True, False

    # -- lock counts: only the first lock and the last one gone reach Redis -----------------------------------------

    def count_lock(self, client: bytes) -> Flow[int | None]:
        """One lock more; the first is durable (`client_hold`) before this returns.

        A client that reclaims has its right on a roster until it completes: the count alone goes up.
        """
        while True:
            entry = yield from self.entry(client)
            if entry.holder and self.registry.count(entry):
                return entry.lock_count
            yield from self.take_turns([client])
            try:
                yield from self._hold(client)
            except errors.GraceActive:
                if not entry.admitted or not self.registry.count(entry, reclaiming=True):
                    raise
                return entry.lock_count
            else:
                held = self.registry.get(client)
                if held is not None and self.registry.count(held):
                    return held.lock_count
            finally:
                self.end_turns([client])

    def uncount_lock(self, client: bytes) -> Flow[int | None]:
        """One lock less, never below none; the last one drops the right. An unknown count stays unknown."""
        while True:
            try:
                entry = yield from self.entry(client)
            except errors.RegistrationRefused:
                return 0
            if self.registry.uncount(entry):
                break
        if entry.is_left_over:
            yield from self._drop(client)
        return entry.lock_count

    def drop(self, client: bytes) -> Flow[None]:
        """Drop the client's right: it holds nothing any more, whatever was counted."""
        yield from self.entry(client)
        yield from self._drop(client, whatever=True)

    def _drop(self, client: bytes, *, whatever: bool = False) -> Flow[None]:
        yield from self.take_turns([client])
        try:
            entry = self.registry.get(client)
            if entry is not None and self.registry.begin_drop(entry, whatever=whatever):
                (error,) = yield from self._drop_all([entry])
                if error is not None:
                    raise error
            elif whatever and not self.registry.is_settled(client):
                msg = (
                    f"a grant of {client_str(client)!r} is open: confirm or undo it before you drop its client's right"
                )
                raise errors.Unavailable(msg)
        finally:
            self.end_turns([client])

    def drop_left_over(self) -> Flow[bool]:
        """Take out up to 200 rights that clients without a lock may have; tell whether there may be more."""
        entries = self.registry.begin_drops(BATCH_MAX)
        try:
            if entries:
                yield from self._drop_all(entries)
        finally:
            # What is left over still is tried again later.
            self.end_turns((entry.client for entry in entries), wake=False)
        return len(entries) == BATCH_MAX

    def _drop_all(self, entries: Sequence[Entry]) -> Flow[list[errors.CoordinatorError | None]]:
        """Drop rights that begin_drop has noted as gone: a lost reply costs a hold too many, never one too few."""
        pairs = [(entry.client, entry.generation) for entry in entries]
        answers = yield from self.ask(lambda head: clients.drop(self.meta, head, pairs))
        for entry, error in zip(entries, answers, strict=True):
            entry.unsure = error is not None
            if error is not None:
                self.forget(entry, error)
        return answers
