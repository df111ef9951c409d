"""Grants, reclaims and lock counts: what stands between a lock request and its confirm. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator import errors
from coordinator.calls import clients, grace
from coordinator.memory import Entry
from coordinator.values import (
    Operation,
    ReclaimOutcome,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

from coordinator.flows.core import Core, Flow, Sleep

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
        entry = self.entry(client)
        yield from self.count_lock(client)
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
        self._reclaiming[client] = entry
        return Grant(owner, entry.generation, epoch, Operation.RECLAIM, entry, self._still_good)

    def stop_reclaiming(self, client: bytes) -> None:
        """Give a reclaim up, without completing."""
        self._reclaiming.pop(client, None)

    def complete(self, ids: Sequence[bytes]) -> Flow[list[ReclaimOutcome | errors.CoordinatorError]]:
        """Clients have all their locks back: close their reclaiming here, then tell."""
        entries = []
        for client in ids:
            self._reclaiming.pop(client, None)
            entries.append(self.memory.reopen(client))
        idle = not self._reclaiming
        send = self.ask_tight if idle else self.ask
        try:
            results = yield from send(lambda head: grace.complete(self.keys, head, ids, idle=idle))
        except (errors.Refused, errors.Unavailable, errors.Closed):
            raise
        except BaseException:
            for unsure in filter(None, entries):
                unsure.lock_count = None  # perhaps a holder by now, of locks that were not counted here
            raise
        for entry, result in zip(entries, results, strict=True):
            self.metrics.reclaimed(granted=isinstance(result, ReclaimOutcome))
            if entry is None:
                continue
            if isinstance(result, ReclaimOutcome):
                # After a repeat it may have dropped its right meanwhile: its next lock holds anew.
                entry.holder, entry.lock_count = not result.repeated, None
            else:
                self._lost_touch(entry, result)
        return results

    # -- lock counts: only the first lock and the last one gone reach Redis -----------------------------------------

    def count_lock(self, client: bytes) -> Flow[int | None]:
        """One lock more; the first is durable (`client_hold`) before this returns."""
        yield from self._begin_switch(client)
        try:
            entry = self.entry(client)
            if not entry.holder:
                yield from self._statuses("client_hold", entry)
                entry.holder = True
            if entry.lock_count is not None:
                entry.lock_count += 1
            return entry.lock_count
        finally:
            self.memory.end_switch(client)

    def uncount_lock(self, client: bytes, generation: int = 0) -> Flow[int | None]:
        """One lock less, never below none; the last one drops the right. An unknown count stays unknown.

        With a generation: nothing, if the client is registered under another one by now.
        """
        yield from self._begin_switch(client)
        try:
            entry = self.memory.get(client)
            if entry is None or not entry.lock_count or (generation and entry.generation != generation):
                return entry.lock_count if entry else 0
            entry.lock_count -= 1
            if entry.lock_count == 0:
                yield from self._drop(entry)
            return entry.lock_count
        finally:
            self.memory.end_switch(client)

    def drop(self, client: bytes) -> Flow[None]:
        """Drop the client's right: it holds nothing any more, whatever was counted."""
        yield from self._begin_switch(client)
        try:
            entry = self.entry(client)
            entry.lock_count = 0
            yield from self._drop(entry)
        finally:
            self.memory.end_switch(client)

    def _drop(self, entry: Entry) -> Flow[None]:
        entry.holder = False  # before it is sent: a lost reply costs a hold too many, never one too few
        yield from self._statuses("client_drop", entry)

    def _begin_switch(self, client: bytes) -> Flow[None]:
        while not self.memory.begin_switch(client):
            yield Sleep(_HELD_POLL_SECONDS)

    def _statuses(self, script: str, entry: Entry) -> Flow[None]:
        args = (entry.client, entry.generation)
        (error,) = yield from self.ask(lambda head: clients.statuses(script, self.keys, head, args))
        if error is not None:
            self._lost_touch(entry, error)
            raise error
