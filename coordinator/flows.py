"""What a node does, as generators that yield Call or Sleep and never touch I/O.

Two drivers run them (sync, async). Everything an incarnation knows is here: its lease, its memory of clients, what
its keeper has to do next. The keeper's own procedure is in keeper.py.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from coordinator import calls, clock, errors
from coordinator.calls import base, clients, grace, nodes, releases
from coordinator.keys import Keys
from coordinator.lease import Head, Lease, State
from coordinator.memory import Entry, Memory
from coordinator.metrics import LockMetrics
from coordinator.settings import Settings, milliseconds, ttl_ms
from coordinator.values import (
    ClientRegistration,
    GracePeriod,
    GraceState,
    GraceView,
    Move,
    Operation,
    Reason,
    ReclaimOutcome,
    Unregistered,
    client_bytes,
    client_str,
    node_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")
Flow = Generator["calls.Call[Any] | Sleep", Any, T]
ATTEMPTS = 3
_HELD_POLL_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Sleep:
    """Go on after so many seconds."""

    seconds: float


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


class Node:
    """One node of a scope: its state and its procedures. Thread-safe where the drivers need it."""

    def __init__(  # noqa: PLR0913  (the facts that make a node)
        self,
        node: str,
        scope: str,
        settings: Settings,
        metrics: LockMetrics,
        *,
        bootstrap: bool,
        predecessor_dead: bool,
        version: str,
        now: Callable[[], float] = clock.now,
    ) -> None:
        """Check the names; nothing is sent before `join`."""
        self.name = node_name(node)
        self.settings = settings
        self.keys = Keys(settings.namespace, scope)
        self.metrics = metrics
        self.now = now
        self.lease = Lease(settings)
        self.memory = Memory()
        self.version = version
        self.bootstrap = bootstrap
        self.predecessor_dead = predecessor_dead
        self.fenced: str | None = None
        self.closed = True
        """Not started yet, or closed."""
        self.last_event = "0-0"
        self.last_renewal: nodes.Renewed | None = None
        self.next_due_ms = 0
        self.announced = 0
        """The newest epoch whose end was announced here."""
        self.claims_releases = False
        self.wake: Callable[[], None] = lambda: None
        self.on_claims: Callable[[list[releases.Claim]], None] = lambda _: None
        self.on_period: Callable[[GracePeriod], None] = lambda _: None
        self.on_move: Callable[[Move], None] = lambda _: None
        self.must_renew = False
        self.to_drop: list[tuple[bytes, int]] = []
        self._reclaiming: dict[bytes, Entry] = {}
        self._ended: dict[int, GracePeriod] = {}
        self._due_marks = 0
        self._mutex = threading.Lock()

    # -- one round trip -------------------------------------------------------------------------------------------

    def ask(self, build: Callable[[Head], calls.Call[T]], *, attempts: int = ATTEMPTS) -> Flow[T]:
        """Send a call until it is answered, at most `attempts` times; every script is safe to repeat.

        After an unknown outcome the request's `not_after` is waited for, so that it can do nothing any more when the
        next one is sent or the error is raised.
        """
        unknown: errors.OutcomeUnknown | None = None
        for attempt in range(1, attempts + 1):
            last = attempt == attempts
            try:
                self._refuse_unless_valid()
                call = build(self.lease.head(self.now()))
                head = call.head
                reply: base.Reply = yield call
            except errors.OutcomeUnknown as error:
                unknown = error
                yield Sleep(max(0.0, head.sent + self.settings.op_timeout_seconds + 0.002 - self.now()))
                if last:
                    raise
            except (errors.Unavailable, errors.Refused, errors.Closed) as error:
                # What is certain of this attempt says nothing of an earlier one whose outcome is unknown.
                if unknown is not None and (last or not isinstance(error, errors.Unavailable)):
                    raise unknown from error
                if last or not isinstance(error, errors.Unavailable):
                    raise
                yield Sleep(self.settings.op_timeout_seconds / 8 * secrets.SystemRandom().uniform(0.5, 1.5))
            else:
                self._heard(reply, head)
                if reply.status != "LATE" or last:
                    if reply.status in {"LATE", "FENCED", "DATA_LOST"} and unknown is not None:
                        raise unknown
                    return call.parse(reply)
        raise AssertionError  # the last attempt returns or raises

    def ask_tight(self, build: Callable[[Head], calls.Call[T]]) -> Flow[T]:
        """Send a call that may start or close a period: the view is held tightened until its very reply."""
        hold = self.lease.tighten()
        try:
            result = yield from self.ask(build)
        except errors.OutcomeUnknown:
            self.lease.release(hold, unknown_until=self.now())
            raise
        except BaseException:
            self.lease.release(hold)
            raise
        self.lease.release(hold)
        return result

    def _refuse_unless_valid(self) -> None:
        """Refuse to send anything but join and renew (which do not ask here) without a valid view."""
        if self.closed:
            msg = "this coordinator is closed: start a new one"
            raise errors.Closed(msg)
        if self.fenced is not None:
            raise errors.Fenced(self.fenced)
        if not self.lease.is_valid(self.now()):
            msg = "the lease was not renewed in time: nothing is asked until Redis answers a renewal"
            raise errors.LeaseLapsed(msg)

    def _heard(self, reply: base.Reply, head: Head) -> None:
        if head.owner != self.lease.owner:
            return  # of an incarnation that is over
        if reply.status == "DATA_LOST":
            self.metrics.data_lost()
            self.lease.invalidate()
        elif reply.status == "FENCED":
            self.fenced = base.text(reply.data[0])
            self.lease.invalidate()
        else:
            before = self.lease.acked
            self.lease.observe(head, reply.state, self.now())
            self._changed(before)
            return
        self.wake()

    def _changed(self, acked_before: int) -> None:
        self._announce()
        if self.lease.acked > acked_before:
            self.metrics.set_grace(self.lease.state, self.lease.grace_remaining)
            self.must_renew = True
            self.wake()

    # -- the node's life ------------------------------------------------------------------------------------------

    def join(self) -> Flow[None]:
        """Enter the scope with a new incarnation; the lease is valid when this returns."""
        boot, dataset = secrets.token_hex(16), secrets.token_hex(16)
        remembered = self.lease.state
        for attempt in range(1, 2 * ATTEMPTS + 1):
            sent = self.now()
            head = Head("", 0, remembered.dataset, 0, max(remembered.revision, 0), max(remembered.epoch, 0), sent)
            call = nodes.join(
                self.keys,
                head,
                self.name,
                boot,
                dataset,
                self.settings,
                self.version,
                bootstrap=self.bootstrap,
                predecessor_dead=self.predecessor_dead,
            )
            try:
                reply: base.Reply = yield call
            except (errors.OutcomeUnknown, errors.Unavailable):
                if attempt == 2 * ATTEMPTS:
                    raise
                yield Sleep(self.settings.op_timeout_seconds / 2)
                continue
            joined = call.parse(reply)
            break
        self.memory.clear()
        self._reclaiming.clear()
        self.fenced = None
        self.last_event = joined.last_event
        self.announced = reply.state.epoch - (reply.state.state is GraceState.ACTIVE)
        owner = f"{self.name}:{joined.incarnation}"
        self.lease.joined(owner, reply.state, sent, self.now(), fresh=joined.fresh)
        yield from self.renew()
        if self.last_renewal is not None and self.predecessor_dead:
            yield from self.evict(self.last_renewal.lapsed)
        if not self.lease.is_valid(self.now()):
            msg = "joined, but the lease could not be renewed in time: is Redis slower than validity_seconds?"
            raise errors.Unavailable(msg)

    def renew(self) -> Flow[nodes.Renewed]:
        """Renew the lease once, acknowledging what the view has switched to; never repeated here."""
        acked = before = self.lease.acked
        mark = self.due_mark()
        call = nodes.renew(self.keys, self.lease.head(self.now()), acked)
        reply: base.Reply = yield call
        received = self.now()
        if reply.status == "RENEWED":
            renewed = call.parse(reply)
            self.lease.renewed(call.head, reply.state, received, extended=renewed.extended)
            self.last_renewal = renewed
            self.take_due(renewed.next_due_ms, mark)
            self.metrics.set_scope(renewed.members, len(renewed.waiting_for), renewed.due, self.memory.counts())
            self.metrics.set_grace(self.lease.state, self.lease.grace_remaining)
            self._changed(before)
            return renewed
        self._heard(reply, call.head)
        return call.parse(reply)

    def evict(self, lapsed: Iterable[str]) -> Flow[None]:
        """Turn members whose lease lapsed into lost owners."""
        for owner in lapsed:
            if owner != self.lease.owner:
                yield from self._evict(owner)

    def _evict(self, owner: str) -> Flow[str]:
        return self.ask_tight(lambda head: nodes.evict(self.keys, head, owner, tight=True))

    def leave(self) -> Flow[None]:
        """Stop granting, then leave: holders become a planned failover at once."""
        head = self.lease.head(self.now())
        self.lease.invalidate(Reason.CLOSED)
        call = nodes.leave(self.keys, head)
        reply: base.Reply = yield call
        if reply.status != "FENCED":
            call.parse(reply)

    def hear(self, kind: str, event: dict[str, bytes]) -> None:  # noqa: C901  (a table, one case per kind)
        """Take an event: it tightens and wakes, it never loosens."""
        owner, here = base.text(event.get("owner", b"")), self.lease.owner
        match kind:
            case "start" | "closing":
                self.must_renew |= self.lease.told(int(event["revision"]))
            case "moved" if owner == here:
                self.forget(event["client"], base.text(event["to"]), int(event["generation"]))
            case "revoked":
                if owner == here:
                    self.memory.close(event["client"], int(event["generation"]))
                self.must_renew = True
            case "due":
                self.must_renew = True
            case "evicted" | "left_node":
                for entry in self.memory.came_from(owner):
                    if entry.holder or entry.copied:
                        self.on_move(Move(client_str(entry.client), here, "lost"))
                self.must_renew = True
            case "lift":
                self.ended(_period(event))
                self.must_renew = True
            case "in_force" | "joined" | "end":
                self.must_renew |= int(event["revision"]) > self.lease.state.revision
            case _:
                return
        self.wake()

    def forget(self, client: bytes, to: str, generation: int) -> None:
        """Close the entry of a registration that is over here, tell the server, drop the copy of its right.

        One that is newer than `generation` stays: the client has come back since.
        """
        entry = self.memory.close(client, generation)
        if entry is not None:
            self.to_drop.append((client, entry.generation))
            self.on_move(Move(client_str(client), to, "registered"))
            self.wake()

    def ended(self, period: GracePeriod) -> None:
        """Announce the end of a period, once per epoch, as soon as this node's view is past it."""
        with self._mutex:
            self._ended[period.epoch] = period
        self._announce()

    def _announce(self) -> None:
        state = self.lease.state
        over = state.epoch - (state.state is GraceState.ACTIVE)
        with self._mutex:
            epochs = sorted(epoch for epoch in self._ended if epoch <= over)
            periods = [self._ended.pop(epoch) for epoch in epochs]
            fresh = [period for period in periods if period.epoch > self.announced]
            self.announced = max([self.announced, *epochs])
        for period in fresh:
            self.on_period(period)

    # -- grants ---------------------------------------------------------------------------------------------------

    def check(self, operation: Operation) -> Any:
        """Decide locally."""
        return self.lease.check(operation, self.now())

    def _still_good(self, grant: Grant) -> bool:
        return self.memory.get(grant.entry.client) is grant.entry and self.lease.still_allows(
            grant.operation, grant.owner, grant.epoch, self.now()
        )

    def entry(self, client: bytes) -> Entry:
        """Return the client's entry; refuse one that is not served here."""
        entry = self.memory.get(client)
        if entry is None:
            raise errors.RegistrationRefused(errors.UNKNOWN)
        return entry

    def begin_grant(self, client: bytes) -> Flow[Grant]:
        """Hold and check for a new lock."""
        self._verdict(Operation.NEW)
        entry = self.entry(client)
        yield from self.count_lock(client)
        # The view is read before it is checked, the entry before it was held: whatever changes after that, the
        # confirm sees that it is another.
        view = self.lease.snapshot
        try:
            self._verdict(Operation.NEW)
        except BaseException:
            yield from self.uncount_lock(client)
            raise
        return Grant(view.owner, entry.generation, view.epoch, Operation.NEW, entry, self._still_good)

    def _verdict(self, operation: Operation) -> None:
        verdict = self.check(operation)
        if not verdict.allowed:
            self.metrics.refused(verdict.reason.value)
            verdict.raise_for_refusal()

    def admit(self, client: bytes) -> Flow[Grant]:
        """Ask whether a client may reclaim here now."""
        entry = self.entry(client)
        waited = 0.0
        while self.lease.snapshot.strict and waited < self.settings.op_timeout_seconds:
            yield Sleep(_HELD_POLL_SECONDS)  # a call of this node itself is under way
            waited += _HELD_POLL_SECONDS
        self._verdict(Operation.RECLAIM)
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
        results = yield from send(lambda head: grace.complete(self.keys, head, ids, idle=idle))
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

    def _lost_touch(self, entry: Entry, error: errors.CoordinatorError) -> None:
        """Close the client's entry after MOVED and UNKNOWN, before anything else."""
        if isinstance(error, errors.RegistrationRefused) and error.reason in {"moved", "unknown"}:
            self.forget(entry.client, "", entry.generation)

    # -- grace ----------------------------------------------------------------------------------------------------

    def start_grace(self, ids: Sequence[bytes], if_empty: str, reason: str) -> Flow[None]:
        """Bring this node's restored roster, in batches."""
        if if_empty not in {"wait", "skip"}:
            msg = f"if_empty={if_empty!r} must be 'wait' or 'skip'"
            raise errors.InvalidArgument(msg)
        first = 0
        while True:
            batch, first = ids[first : first + base.BATCH_MAX], first + base.BATCH_MAX
            yield from self._start_grace(batch, if_empty, reason, more=first < len(ids))
            if first >= len(ids):
                return

    def _start_grace(self, batch: Sequence[bytes], if_empty: str, reason: str, *, more: bool) -> Flow[tuple[str, ...]]:
        request = secrets.token_hex(8)
        return self.ask_tight(
            lambda head: grace.start(
                self.keys, head, self.name, batch, request, more=more, if_empty=if_empty, reason=reason
            )
        )

    def end_grace(self, reason: str, epoch: int | None) -> Flow[None]:
        """End the period; without an epoch the one this node knows of."""
        if not reason:
            msg = "reason='' must say why the period is ended: clients lose locks by it"
            raise errors.InvalidArgument(msg)
        request = secrets.token_hex(8)
        yield from self.ask_tight(lambda head: grace.end(self.keys, head, epoch or 0, reason, request))

    def advance(self) -> Flow[None]:
        """Move the period at its deadline."""
        yield from self.ask_tight(lambda head: grace.advance(self.keys, head, tight=True))

    def scope_view(self) -> Flow[tuple[State, nodes.ScopeView]]:
        """Read the whole picture, with the head it came with."""
        states: list[State] = []

        def build(head: Head) -> calls.Call[nodes.ScopeView]:
            call = nodes.view(self.keys, head, self.settings.adapters)

            def parse(reply: base.Reply) -> nodes.ScopeView:
                states.append(reply.state)
                return call.parse(reply)

            return calls.Call(call.script, call.keys, call.args, call.head, parse)

        view = yield from self.ask(build)
        return states[-1], view

    def grace_view(self) -> Flow[GraceView]:
        """Read the period as Redis has it now."""
        state, view = yield from self.scope_view()
        active = state.state is GraceState.ACTIVE
        deadline = (state.reclaim_until_ms or state.cap_ms) if active else 0
        return GraceView(
            state=state.state,
            epoch=state.epoch,
            revision=state.revision,
            in_force=state.in_force,
            closing=state.closing,
            remaining_seconds=max(0.0, (deadline - state.clock_ms) / 1000) if active else 0.0,
            expected_clients=view.remaining + view.reclaimed,
            reclaimed_clients=view.reclaimed,
            waiting_for=view.waiting_for or view.sample,
            started_at=view.started_ms / 1000,
            reason=view.reason,
        )

    def announce_last(self) -> Flow[None]:
        """Announce the last period from its summary, when its event was lost."""
        _, view = yield from self.scope_view()
        if not view.last[0]:
            return
        epoch, reason, started, duration, reclaimed, forfeited = view.last
        done, lost = int(reclaimed), int(forfeited)
        self.ended(GracePeriod(int(epoch), reason, int(started) / 1000, int(duration) / 1000, done + lost, done, lost))

    def roster_page(self, which: str, at: tuple[str, str]) -> Flow[tuple[tuple[str, str], list[bytes]]]:
        """Read a page of expected or reclaimed clients."""
        return self.ask(lambda head: grace.roster(self.keys, head, which, at, base.BATCH_MAX))

    # -- clients --------------------------------------------------------------------------------------------------

    def registering(  # noqa: PLR0913, PLR0917  (the pinned signature)
        self,
        client: str | bytes,
        adapter: str,
        remote_addr: str,
        ttl: float,
        verifier: bytes | str | None,
        principal: bytes | str | None,
    ) -> clients.Registering:
        """Check the arguments of a registration."""
        if not isinstance(remote_addr, str) or len(remote_addr) > 256:
            msg = f"remote_addr={remote_addr!r:.60} must be a string of at most 256 characters"
            raise errors.InvalidArgument(msg)
        return clients.Registering(
            client_bytes(client),
            adapter,
            self.settings.limit_of(adapter),
            remote_addr,
            ttl_ms(ttl),
            client_bytes(verifier) if verifier else b"",
            client_bytes(principal) if principal else b"",
            secrets.token_hex(8),
        )

    def register(
        self, items: Sequence[clients.Registering]
    ) -> Flow[list[ClientRegistration | errors.CoordinatorError]]:
        """Register clients here."""
        answers = yield from self.ask(lambda head: clients.register(self.keys, head, items))
        results: list[ClientRegistration | errors.CoordinatorError] = []
        for item, answer in zip(items, answers, strict=True):
            if isinstance(answer, clients.Registered):
                results.append(self._registered(item, answer))
            else:
                self.metrics.connection(item.adapter, "refused")
                if isinstance(answer, errors.ConnectionLimitReached):
                    self.metrics.observe_lock_limit_hit("adapter")
                results.append(answer)
        return results

    def _registered(self, item: clients.Registering, answer: clients.Registered) -> ClientRegistration:
        old = self.memory.get(item.client)
        count: int | None = None if answer.holder else 0
        holds = answer.holder and not answer.copied
        if answer.holder and old is not None:
            count = old.lock_count
        self.memory.put(
            Entry(
                item.client, answer.generation, item.adapter, item.ttl_ms, answer.previous, holds, count, answer.copied
            )
        )
        self.metrics.connection(item.adapter, "connect")
        return ClientRegistration(
            client_id=client_str(item.client),
            adapter=item.adapter,
            ttl=item.ttl_ms / 1000,
            registered_at=answer.registered_ms / 1000,
            last_seen=self.lease.state.clock_ms / 1000,
            remote_addr=item.remote_addr,
            lock_count=count,
            holder=answer.holder,
            owner=self.lease.owner,
            generation=answer.generation,
            state="live",
        )

    def unregister(self, pairs: Sequence[tuple[bytes, int]]) -> Flow[list[Unregistered | errors.CoordinatorError]]:
        """Disconnect clients: their entries close first."""
        closed = [self.memory.close(client, generation) for client, generation in pairs]
        claim_ms = milliseconds(self.settings.claim_seconds) if self.claims_releases else 0
        try:
            answers = yield from self.ask(lambda head: clients.unregister(self.keys, head, pairs, claim_ms))
        except (errors.Refused, errors.Unavailable, errors.Closed):
            for entry in filter(None, closed):
                self.memory.put(entry)  # certainly not executed
            raise
        results: list[Unregistered | errors.CoordinatorError] = []
        claims: list[releases.Claim] = []
        for (client, _), answer in zip(pairs, answers, strict=True):
            if not isinstance(answer, clients.Leaving):
                results.append(answer)
                continue
            self.metrics.connection(answer.adapter, "disconnect")
            if answer.token:
                claims.append(releases.own(self.lease.owner, client, answer.generation, answer.adapter, answer.token))
            else:
                self.due_at(answer.due_ms)
            wait = max(0.0, (answer.due_ms - self.lease.state.clock_ms) / 1000)
            results.append(Unregistered(client_str(client), answer.generation, wait))
        if claims:
            self.on_claims(claims)
        return results

    def due_at(self, due_ms: int) -> None:
        """Have the keeper look at the release queue at this time of the scope clock."""
        with self._mutex:
            self._due_marks += 1
            if not self.next_due_ms or due_ms < self.next_due_ms:
                self.next_due_ms = due_ms
        self.wake()

    def due_mark(self) -> int:
        """Return a mark of what `due_at` was told so far, for `take_due`."""
        return self._due_marks

    def take_due(self, due_ms: int, mark: int) -> None:
        """Take the next due time of a reply, which does not know what `due_at` was told since the mark."""
        with self._mutex:
            known = [ms for ms in (due_ms, self.next_due_ms if self._due_marks != mark else 0) if ms]
            self.next_due_ms = min(known, default=0)

    def cancel(self, client: bytes) -> Flow[bool]:
        """End a deferral as a reconnect here would."""
        request = secrets.token_hex(8)
        answer = yield from self.ask(lambda head: clients.cancel(self.keys, head, client, request))
        if answer is None:
            return False
        views = yield from self.ask(lambda head: clients.view(self.keys, head, [client]))
        view = views[0]
        if view is not None and view.generation == answer.generation:
            ttl = milliseconds(view.ttl)
            count = None if answer.holder else 0
            holds = answer.holder and not answer.copied
            self.memory.put(
                Entry(client, answer.generation, view.adapter, ttl, answer.previous, holds, count, answer.copied)
            )
            self.metrics.connection(view.adapter, "cancel")
        return True

    def touch(self, ids: Sequence[bytes]) -> Flow[list[errors.CoordinatorError | None]]:
        """Note that clients were seen."""
        known = {client: entry.generation for client in ids if (entry := self.memory.get(client)) is not None}
        answers = yield from self.ask(lambda head: clients.statuses("client_touch", self.keys, head, tuple(ids)))
        for client, error in zip(ids, answers, strict=True):
            entry = self.memory.get(client)
            if error is not None and entry is not None and entry.generation <= known.get(client, 0):
                self._lost_touch(entry, error)
        return answers

    def revoke(self, client: bytes) -> Flow[None]:
        """End a client's right now."""
        self.memory.close(client)
        yield from self.ask(lambda head: clients.revoke(self.keys, head, client))
        self.due_at(self.lease.state.clock_ms)

    def view_clients(self, ids: Sequence[bytes]) -> Flow[list[ClientRegistration | None]]:
        """Read records, with this node's lock counts."""
        views = yield from self.ask(lambda head: clients.view(self.keys, head, ids))
        return [self._with_count(client, view) for client, view in zip(ids, views, strict=True)]

    def _with_count(self, client: bytes, view: ClientRegistration | None) -> ClientRegistration | None:
        entry = self.memory.get(client)
        if view is None or entry is None or entry.generation != view.generation:
            return view
        fields = {name: getattr(view, name) for name in ClientRegistration.__slots__}
        return ClientRegistration(**{**fields, "lock_count": entry.lock_count})

    def client_page(self, adapter: str, cursor: str) -> Flow[tuple[str, list[bytes]]]:
        """Read a page of an adapter's clients."""
        self.settings.limit_of(adapter)
        return self.ask(lambda head: clients.page(self.keys, head, adapter, cursor, base.BATCH_MAX))

    # -- lock counts: only the first lock and the last one gone reach Redis --------------------------------------------

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

    def uncount_lock(self, client: bytes) -> Flow[int | None]:
        """One lock less, never below none; the last one drops the right. An unknown count stays unknown."""
        yield from self._begin_switch(client)
        try:
            entry = self.memory.get(client)
            if entry is None or not entry.lock_count:
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

    # -- releases -------------------------------------------------------------------------------------------------

    def drop_moved(self) -> Flow[None]:
        """Take out the copies of rights that moves left behind."""
        while self.to_drop:
            batch = self.to_drop[: base.BATCH_MAX]
            args = tuple(value for pair in batch for value in pair)
            yield from self._drop_batch(args)
            del self.to_drop[: len(batch)]

    def _drop_batch(self, args: tuple[bytes | int, ...]) -> Flow[list[errors.CoordinatorError | None]]:
        return self.ask(lambda head: clients.statuses("client_drop", self.keys, head, args))


def _period(event: dict[str, bytes]) -> GracePeriod:
    """Return the summary that a lift's event carries."""
    reclaimed, forfeited = int(event["reclaimed"]), int(event["forfeited"])
    return GracePeriod(
        epoch=int(event["epoch"]),
        reason=base.text(event["reason"]),
        started_at=int(event["started"]) / 1000,
        duration_seconds=int(event["duration"]) / 1000,
        expected=reclaimed + forfeited,
        reclaimed=reclaimed,
        forfeited=forfeited,
    )
