"""Grants, reclaims and lock counts: what stands between a lock request and its confirm. No I/O."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator import errors
from coordinator.node.registry import Entry
from coordinator.protocol import call as base
from coordinator.protocol import clients, grace
from coordinator.values import (
    GraceState,
    Operation,
    ReclaimOutcome,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

from coordinator.node.life import Core, Flow, Sleep

_HELD_POLL_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Grant:
    """A permission that is not confirmed yet."""

    owner: str
    generation: int
    epoch: int
    operation: Operation
    entry: Entry
    still_good: Callable[[Grant], bool]

    def confirm(self) -> None:
        """Make the insert count; local, any number of times. Raises StaleGrant: undo the insert."""
        if not self.still_good(self):
            msg = f"the grant of epoch {self.epoch} was overtaken: undo the insert and let the client retry"
            raise errors.StaleGrant(msg)


class LockFlows(Core):
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

    def _still_good(self, grant: Grant) -> bool:
        return self.memory.get(grant.entry.client) is grant.entry and self.lease.still_allows(
            grant.operation, grant.owner, grant.epoch, self.now()
        )

    def begin_grant(self, client: bytes) -> Flow[Grant]:
        """Hold and check for a new lock."""
        self.check(Operation.NEW).raise_for_refusal()
        entry = yield from self._count(client)
        # The view is read before it is checked, the entry before it was held: whatever changes after that, the
        # confirm sees that it is another.
        view = self.lease.snapshot
        try:
            self.check(Operation.NEW).raise_for_refusal()
        except BaseException:
            yield from self.uncount_lock(client, entry.generation)
            raise
        return Grant(view.owner, entry.generation, view.epoch, Operation.NEW, entry, self._still_good)

    def admit(self, client: bytes) -> Flow[Grant]:
        """Ask whether a client may reclaim here now."""
        entry = self.entry(client)
        waited = 0.0
        while self.lease.snapshot.strict and waited < self.settings.op_timeout_seconds:
            yield Sleep(_HELD_POLL_SECONDS)  # a call of this node itself is under way
            waited += _HELD_POLL_SECONDS
        self.check(Operation.RECLAIM).raise_for_refusal()
        try:
            owner, epoch = yield from self.ask(lambda head: grace.admit(self.keys, head, client))
        except errors.Refused as error:
            self._lost_touch(entry, error)
            self.metrics.reclaimed(granted=False)
            raise
        entry.admitted = epoch
        self._reclaiming[client] = entry
        return Grant(owner, entry.generation, epoch, Operation.RECLAIM, entry, self._still_good)

    def stop_reclaiming(self, client: bytes) -> None:
        """Give a reclaim up, without completing."""
        self._reclaiming.pop(client, None)

    def _is_reclaiming(self) -> bool:
        """Tell whether a reclaim is open here; forget those that nothing can confirm any more."""
        with self._mutex, contextlib.suppress(KeyError):  # all of them go when this node joins anew
            while True:
                client, entry = self._reclaiming.popitem()
                if self.memory.get(client) is entry and entry.admitted >= self.lease.state.epoch:
                    self._reclaiming[client] = entry
                    return True
        return False

    def complete(self, ids: Sequence[bytes]) -> Flow[list[ReclaimOutcome | errors.CoordinatorError]]:
        """Clients have all their locks back: close their reclaiming here, then tell."""
        completing: list[bytes] = []
        try:
            for client in ids:
                while not self.memory.begin_completing(client):
                    yield Sleep(_HELD_POLL_SECONDS)
                completing.append(client)
            return (yield from self._complete(ids))
        finally:
            for client in completing:
                self._look_after(left_over=self.memory.end_completing(client))

    def _complete(self, ids: Sequence[bytes]) -> Flow[list[ReclaimOutcome | errors.CoordinatorError]]:
        entries = []
        for client in ids:
            self._reclaiming.pop(client, None)
            entries.append(self.memory.reopen(client))
        # In a normal scope there is nothing to close, and others' new locks would be refused meanwhile.
        idle = self.lease.state.state is GraceState.ACTIVE and not self._is_reclaiming()
        send = self.ask_tight if idle else self.ask
        try:
            results = yield from send(lambda head: grace.complete(self.keys, head, ids, idle=idle))
        except (errors.Refused, errors.Unavailable, errors.Closed):
            raise
        except BaseException:
            for client, entry in zip(ids, entries, strict=True):
                self.memory.lose_count(client, entry)  # perhaps a holder by now, of locks that were not counted here
            raise
        for client, entry, result in zip(ids, entries, results, strict=True):
            if isinstance(result, ReclaimOutcome):
                self.memory.lose_count(client, entry)
                if entry is not None:
                    # After a repeat it may have dropped its right meanwhile: its next lock holds anew.
                    entry.holding.holder = not result.repeated
                if not result.repeated:
                    self.metrics.reclaimed(granted=True)
                continue
            self.metrics.reclaimed(granted=False)
            if entry is not None:
                self._lost_touch(entry, result)
        return results

    # -- lock counts: only the first lock and the last one gone reach Redis -----------------------------------------

    def count_lock(self, client: bytes) -> Flow[int | None]:
        """One lock more; the first is durable (`client_hold`) before this returns."""
        entry = yield from self._count(client)
        return entry.lock_count

    def _count(self, client: bytes) -> Flow[Entry]:
        """Count one lock more; return the entry that was held for it, as it was before that."""
        yield from self._begin_switch(client)
        try:
            while True:
                entry = self.entry(client)
                if not entry.holder:
                    yield from self._hold(entry)
                if self.memory.count(entry):
                    return entry
        finally:
            self._end_switch(client)

    def uncount_lock(self, client: bytes, generation: int = 0) -> Flow[int | None]:
        """One lock less, never below none; the last one drops the right. An unknown count stays unknown.

        With a generation, that of the grant which is undone: nothing, if the right it counted for is over.
        """
        yield from self._begin_switch(client)
        try:
            entry = self.memory.get(client)
            if entry is None:
                return 0
            if not generation or generation >= entry.holding.since:
                self.memory.uncount(entry.holding)
                if entry.holding.left_over:
                    yield from self._drop(client)
            return entry.lock_count
        finally:
            self._end_switch(client)

    def drop(self, client: bytes) -> Flow[None]:
        """Drop the client's right: it holds nothing any more, whatever was counted."""
        yield from self._begin_switch(client)
        try:
            yield from self._begin_drop(client)
            entry = self.entry(client)
            entry.holding.lock_count, entry.holding.unsure = 0, True
            yield from self._drop(client)
        finally:
            self._end_switch(client)

    def drop_left_over(self) -> Flow[bool]:
        """Take out up to 200 rights that clients without a lock may have; tell whether there may be more."""
        entries = self.memory.begin_drops(base.BATCH_MAX)
        try:
            if entries:
                yield from self._drop_all(entries)
        finally:
            for entry in entries:
                self.memory.end_switch(entry.client)  # what is left over still is tried again, when the keeper is at it
        return len(entries) == base.BATCH_MAX

    def _hold(self, entry: Entry) -> Flow[None]:
        holding = entry.holding
        before, holding.unsure = holding.unsure, True
        try:
            (error,) = yield from self._statuses("client_hold", [entry])
        except (errors.Refused, errors.Unavailable, errors.Closed):
            holding.unsure = before  # certainly not executed
            raise
        if error is not None:
            holding.unsure = before
            raise error
        holding.holder, holding.unsure = True, False

    def _drop(self, client: bytes) -> Flow[None]:
        """Drop what is left over, once no completion can make it a right to locks that were not counted."""
        yield from self._begin_drop(client)
        entry = self.memory.get(client)
        if entry is not None and entry.holding.left_over:
            (error,) = yield from self._drop_all([entry])
            if error is not None:
                raise error

    def _drop_all(self, entries: Sequence[Entry]) -> Flow[list[errors.CoordinatorError | None]]:
        for entry in entries:  # before it is sent: a lost reply costs a hold too many, never one too few
            entry.holding.holder, entry.holding.unsure = False, True
        answers = yield from self._statuses("client_drop", entries)
        for entry, error in zip(entries, answers, strict=True):
            entry.holding.unsure = error is not None
        return answers

    def _statuses(self, script: str, entries: Sequence[Entry]) -> Flow[list[errors.CoordinatorError | None]]:
        args = tuple(value for entry in entries for value in (entry.client, entry.generation))
        answers = yield from self.ask(lambda head: clients.statuses(script, self.keys, head, args))
        for entry, error in zip(entries, answers, strict=True):
            if error is not None:
                self._lost_touch(entry, error)
        return answers

    def _begin_switch(self, client: bytes) -> Flow[None]:
        while not self.memory.begin_switch(client):
            yield Sleep(_HELD_POLL_SECONDS)

    def _begin_drop(self, client: bytes) -> Flow[None]:
        while not self.memory.begin_drop(client):
            yield Sleep(_HELD_POLL_SECONDS)

    def _end_switch(self, client: bytes) -> None:
        self._look_after(left_over=self.memory.end_switch(client))

    def _look_after(self, *, left_over: bool) -> None:
        """Have the keeper take out what is left over."""
        if left_over:
            self.must_renew = True
            self.wake()
