"""One node's state, how it asks, and its life: join, renew, evict, leave, what it hears. No I/O."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from coordinator import clock, errors
from coordinator import protocol as calls
from coordinator.metrics.families import LockMetrics
from coordinator.node.lease import Head, Lease
from coordinator.node.registry import Entry, Memory
from coordinator.protocol import call as base
from coordinator.protocol import nodes, releases
from coordinator.protocol.keys import Keys
from coordinator.settings import Settings
from coordinator.values import (
    GracePeriod,
    Move,
    Reason,
    client_str,
    node_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

log = logging.getLogger("coordinator")
S = TypeVar("S")
T = TypeVar("T")
Flow = Generator["calls.Call[Any] | Sleep", Any, T]
Event = tuple[str, str, dict[str, bytes]]
"""One entry of the events stream: its id, its kind, its fields."""
ATTEMPTS = 3
EVENTS_KEPT = 1000
"""lua/include/event.lua keeps at least so many."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Go on after so many seconds."""

    seconds: float


class Core:
    """One node of a scope: its state, its round trips and its life. Thread-safe where the drivers need it."""

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
        self.now = now
        self.lease = Lease(settings)
        self.memory = Memory()
        self.metrics = metrics.bind(
            node, scope, settings.adapters, lease=self.lease, clients=self.memory.counts, now=now
        )
        self.version = version
        self.bootstrap = bootstrap
        self.predecessor_dead = predecessor_dead
        self.fenced: str | None = None
        self.lost: str | None = None
        """Set once Redis was seen without the data this incarnation was told: it grants nothing any more."""
        self.closed = True
        """Not started yet, or closed."""
        self._hears = True
        self.last_event = "0-0"
        self.last_renewal: nodes.Renewed | None = None
        self.next_due_ms = 0
        self.announced = 0
        """The newest epoch whose end was announced here."""
        self.claims_releases = False
        self.wake: Callable[[], None] = lambda: None
        self.on_claims: Callable[[list[releases.Claim], float], None] = lambda *_: None
        """Takes claims and the node time before they were asked for."""
        self.on_period: Callable[[GracePeriod], None] = lambda _: None
        self.on_move: Callable[[Move], None] = lambda _: None
        self.must_renew = False
        self.must_audit = False
        """Events may have been missed: clients may have moved away unheard, or lost the owner that they came from."""
        self.to_audit: list[Entry] = []
        """Clients that may have lost that owner."""
        self.to_drop: dict[bytes, int] = {}
        """Clients that went from here, their entries closed, and up to which generation: Redis is to be told."""
        self._reclaiming: dict[bytes, Entry] = {}
        self._starting = threading.Lock()
        """Held while a restored roster is being brought."""
        self._ended: dict[int, GracePeriod] = {}
        self._due_marks = 0
        self._mutex = threading.Lock()

    # -- one round trip -------------------------------------------------------------------------------------------

    def ask(self, build: Callable[[Head], calls.Call[T]], *, attempts: int = ATTEMPTS) -> Flow[T]:
        """Send a call until it is answered, at most `attempts` times; every script is safe to repeat.

        After an unknown outcome the request's `not_after` is waited for, so that it can do nothing any more when the
        next one is sent or the error is raised; and every later request says that this one was given up.
        """
        unknown: errors.OutcomeUnknown | None = None
        for attempt in range(1, attempts + 1):
            last = attempt == attempts
            try:
                self._refuse_unless_valid()
                call = build(self.lease.head(self.now()))
                head = call.head
                reply = yield from self._send(call)
            except errors.OutcomeUnknown as error:
                unknown = error
                self.lease.give_up(head)
                yield Sleep(max(0.0, head.over_at - self.now()))
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

    def _send(self, call: calls.Call[Any]) -> Flow[base.Reply]:
        """Make one round trip: the one place that times each of them and counts those that failed."""
        sent = self.now()
        try:
            reply: base.Reply = yield call
        except errors.CoordinatorError as error:
            self.metrics.round_trip(call.script.name, self.now() - sent, _kind(error))
            raise
        self.metrics.round_trip(call.script.name, self.now() - sent, _FAILURES.get(reply.status))
        return reply

    def in_batches(
        self, items: Sequence[S], send: Callable[[Sequence[S]], Flow[list[T]]], most: int = base.CHANGE_MAX
    ) -> Flow[list[T]]:
        """Send any number of items, `most` a round trip; an answer each, in their order.

        When a round trip fails, its error is raised and names how many items were answered before it: those are done.
        """
        answers: list[T] = []
        for first in range(0, len(items), most):
            try:
                answers += yield from send(items[first : first + most])
            except errors.CoordinatorError as error:
                error.add_note(f"{first} of {len(items)} were answered before this")
                raise
        return answers

    def ask_tight(self, build: Callable[[Head], calls.Call[T]]) -> Flow[T]:
        """Send a call that may start or close a period: the view is held tightened until its very reply."""
        hold = self.lease.tighten()
        try:
            result = yield from self.ask(build)
        except (errors.Refused, errors.Closed, errors.Unavailable):
            self.lease.release(hold)
            raise
        except BaseException:
            self.lease.release(hold, unknown=True)  # whatever it was, the request may have been sent, and may still run
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
        if self.lost is not None:
            raise errors.DataLost(self.lost)
        if not self.lease.is_valid(self.now()):
            msg = "the lease was not renewed in time: nothing is asked until Redis answers a renewal"
            raise errors.LeaseLapsed(msg)

    def _heard(self, reply: base.Reply, head: Head) -> None:
        if head.owner != self.lease.owner:
            return  # of an incarnation that is over
        if reply.status == "DATA_LOST" and self._was_forgotten(reply):
            self.fenced = "evicted"
            self.lease.invalidate()
        elif reply.status == "DATA_LOST":
            if self.lost is None:
                self.lost = str(base.refusal(reply.status, reply.state))
                self.metrics.data_lost()
                log.error("%s fails closed: %s", head.owner, self.lost)
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

    def _was_forgotten(self, reply: base.Reply) -> bool:
        """Tell whether the data are all there, but for this node's own record: kept for so long after its eviction."""
        state, told = reply.state, self.lease.state
        whole = state.dataset == told.dataset and state.revision >= told.revision and state.epoch >= told.epoch
        return whole and self.lease.silent(self.now()) > self.settings.retention_seconds

    def _changed(self, acked_before: int) -> None:
        self._announce()
        if self.lease.acked > acked_before:
            self.must_renew = True
            self.wake()

    # -- the node's life ------------------------------------------------------------------------------------------

    def join(self) -> Flow[None]:
        """Enter the scope with a new incarnation; the lease is valid when this returns."""
        boot, dataset = secrets.token_hex(16), secrets.token_hex(16)
        remembered, after = self.lease.state, int(self.lease.owner.rpartition(":")[2] or 0)
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
                predecessor_dead=self.predecessor_dead and not after,
                after=after,
            )
            try:
                reply = yield from self._send(call)
            except (errors.OutcomeUnknown, errors.Unavailable):
                if attempt == 2 * ATTEMPTS:
                    raise
                yield Sleep(self.settings.op_timeout_seconds / 2)
                continue
            if self.closed:
                msg = "this coordinator was closed while it joined"
                raise errors.Closed(msg)
            if reply.status == "FENCED":
                self.fenced = base.text(reply.data[0])
            joined = call.parse(reply)
            break
        self.memory.clear()
        self._reclaiming.clear()
        self.fenced = self.lost = None
        self.last_event = joined.last_event
        if not after:
            self.announced = reply.state.ended_epoch
        owner = f"{self.name}:{joined.incarnation}"
        self.lease.joined(owner, reply.state, sent, self.now(), fresh=joined.fresh)
        yield from self._first_renewal()
        if self.last_renewal is not None and self.predecessor_dead and not after:
            yield from self.evict(self.last_renewal.lapsed)
        if self.closed:
            msg = "this coordinator was closed while it joined"
            raise errors.Closed(msg)
        if not self.lease.is_valid(self.now()):
            msg = "joined, but the lease could not be renewed in time: is Redis slower than validity_seconds?"
            raise errors.Unavailable(msg)

    def _first_renewal(self) -> Flow[None]:
        """Renew once more after the join: tells what is to be done, and gives validity after a repeated join."""
        for _ in range(ATTEMPTS):
            try:
                yield from self.renew()
            except (errors.OutcomeUnknown, errors.Unavailable):
                continue
            return

    def renew(self) -> Flow[nodes.Renewed]:
        """Renew the lease, acknowledging what the view has switched to.

        Repeated only when Redis answered that it came too late, by a clock that the node did not know.
        """
        before = self.lease.acked
        for _ in range(2):
            acked, mark = self.lease.acked, self.due_mark()
            call = nodes.renew(self.keys, self.lease.head(self.now()), acked)
            reply = yield from self._send(call)
            if reply.status == "RENEWED":
                renewed = call.parse(reply)
                self.lease.renewed(call.head, reply.state, self.now(), extended=renewed.extended)
                self.last_renewal = renewed
                self.take_due(renewed.next_due_ms, mark)
                self.metrics.renewed(renewed.members, len(renewed.waiting_for), renewed.due)
                for client, generation in renewed.closing:
                    self.forget(client, "", generation)
                self._changed(before)
                return renewed
            self._heard(reply, call.head)
            if reply.status != "LATE":
                break
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
        reply = yield from self._send(call)
        if reply.status != "FENCED":
            call.parse(reply)

    def hear_all(self, events: Sequence[Event]) -> None:
        """Take what a read of the stream answered, in order."""
        if not self._hears or len(events) >= EVENTS_KEPT:
            self.must_audit = True  # older ones may have been trimmed unread
        self._hears = True
        for identifier, kind, event in events:
            try:
                self.hear(kind, event)
            except (KeyError, ValueError):
                # Of a version that says it otherwise: the next renewal tells what it meant.
                log.exception("the event %s %s is not understood", identifier, kind)
                self.must_renew = True
                self.wake()

    def deaf(self, why: errors.Unavailable) -> None:
        """Learn by renewals what events would have told; the log says it, once until they can be read again."""
        if self._hears and not self.closed:
            log.warning("%s hears no events and learns by heartbeats only: %s", self.lease.owner, why)
        self._hears = False
        self.must_renew = True
        self.wake()

    def hear(self, kind: str, event: dict[str, bytes]) -> None:  # noqa: C901  (a table, one case per kind)
        """Take an event: it tightens and wakes, it never loosens."""
        owner, here = base.text(event.get("owner", b"")), self.lease.owner
        match kind:
            case "start" | "closing":
                if self.lease.told(int(event["revision"])):
                    self.must_renew = True
            case "moved" if owner == here:
                self.forget(event["client"], base.text(event["to"]), int(event["generation"]))
            case "revoked":
                if owner == here:
                    self._close(event["client"], int(event["generation"]))
                self.must_renew = True
            case "due":
                self.must_renew = True
            case "evicted" | "left_node":
                self.to_audit += self.memory.came_from(owner)
                self.must_renew = True
            case "lift":
                self.ended(_period(event))
                self.must_renew = True
            case "in_force" | "joined" | "end":
                if int(event["revision"]) > self.lease.state.revision:
                    self.must_renew = True
            case _:
                return
        self.wake()
        self.metrics.heard(kind, event)

    def forget(self, client: bytes, to: str, generation: int) -> None:
        """Close the entry of a registration that is over here, tell the server, drop the copy of its right.

        One that is newer than `generation` stays: the client has come back since.
        """
        if self._close(client, generation) is not None:
            self.on_move(Move(client_str(client), to, "registered"))

    def _close(self, client: bytes, generation: int) -> Entry | None:
        """Close an entry, if there is one, and have Redis told that nothing is confirmed under it any more."""
        entry = self.memory.close(client, generation)
        self.to_drop[client] = max(generation, self.to_drop.get(client, 0))
        self.wake()
        return entry

    def ended(self, period: GracePeriod) -> None:
        """Announce the end of a period, once per epoch, as soon as this node's view is past it."""
        with self._mutex:
            self._ended[period.epoch] = period
        self._announce()

    def _announce(self) -> None:
        over = self.lease.state.ended_epoch
        with self._mutex:
            epochs = sorted(epoch for epoch in self._ended if epoch <= over)
            periods = [self._ended.pop(epoch) for epoch in epochs]
            fresh = [period for period in periods if period.epoch > self.announced]
            self.announced = max([self.announced, *epochs])
        for period in fresh:
            self.on_period(period)

    # -- the node's clients, its timers ---------------------------------------------------------------------------

    def entry(self, client: bytes) -> Entry:
        """Return the client's entry; refuse one that is not served here."""
        entry = self.memory.get(client)
        if entry is None:
            raise errors.RegistrationRefused(errors.UNKNOWN)
        return entry

    def _lost_touch(self, entry: Entry, error: errors.CoordinatorError) -> None:
        """Close the client's entry after MOVED and UNKNOWN, before anything else."""
        if isinstance(error, errors.RegistrationRefused) and error.reason in {"moved", "unknown"}:
            self.forget(entry.client, "", entry.generation)

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


_FAILURES = {"LATE": "unavailable", "DATA_LOST": "data_lost", "SCHEMA": "contract_broken"}
"""The statuses by which a round trip failed, as a kind of failure."""


def _kind(error: errors.CoordinatorError) -> str:
    """Return the kind of failure that an error of the driver is."""
    if isinstance(error, errors.OutcomeUnknown):
        return "outcome_unknown"
    return "unavailable" if isinstance(error, errors.Unavailable) else "contract_broken"


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
