"""One node's state, how it asks, and its one life: join, renew, evict, leave, what it hears, its end. No I/O."""

from __future__ import annotations

import logging
import random
import secrets
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from coordinator import clock, errors
from coordinator.metrics.families import LockMetrics
from coordinator.node.lease import Lease
from coordinator.node.registry import Registry
from coordinator.node.requests import Flow, Sleep
from coordinator.protocol import grace, nodes, releases
from coordinator.protocol.call import CHANGE_MAX, OPERATOR, Call, Head, text
from coordinator.protocol.keys import Keys
from coordinator.settings import Settings
from coordinator.values import Freed, GracePeriod, GraceState, Move, Reason, client_str, node_name, refusal_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coordinator.protocol.call import Reply

log = logging.getLogger("coordinator")
S = TypeVar("S")
T = TypeVar("T")
Event = tuple[str, str, dict[str, bytes], "list[bytes]"]
"""One entry of the events stream: its id, its kind, its fields, and the clients it names."""
ATTEMPTS = 3
EVENTS_KEPT = 1000
"""lua/include/event.lua keeps at least so many."""
ENDS = {"superseded": Reason.SUPERSEDED, "evicted": Reason.EVICTED, "data_lost": Reason.DATA_LOST}
"""How an incarnation ends, by the word of its fence."""


class Life:
    """One node of a scope: its state, its round trips and its life. Thread-safe where the drivers need it."""

    def __init__(  # noqa: PLR0913  (the facts that make a node)
        self,
        node: str,
        scope: str,
        settings: Settings,
        metrics: LockMetrics,
        *,
        predecessor_dead: bool,
        version: str,
        now: Callable[[], float] = clock.now,
    ) -> None:
        """Check the names; nothing is sent before `join`."""
        self.name = node_name(node)
        self.settings = settings
        self.keys = Keys(settings.namespace, scope)
        self.meta = self.keys.meta
        self.now = now
        self.lease = Lease(settings)
        self.registry = Registry()
        self.metrics = metrics.bind(
            node, scope, settings.adapters, lease=self.lease, clients=self.registry.counts, now=now
        )
        self.version = version
        self.predecessor_dead = predecessor_dead
        self.closed = True
        """Not started yet, or closed."""
        self.last_event = "0-0"
        self.last_renewal: nodes.Renewed | None = None
        self.next_due_ms = 0
        self.told = -1
        """The newest revision that this node has acked to Redis."""
        self.announced = 0
        """The newest epoch whose end was announced here."""
        self.claims_releases = False
        self.must_renew = False
        self.must_tell_loss = False
        """Lost data were noticed here, and the scope may not know it yet."""
        self.wanted: dict[bytes, str] = {}
        """Clients that this node is to close for others: yield, revoke or gone."""
        self.wake: Callable[[], None] = lambda: None
        self.on_claims: Callable[[list[releases.Claim], float], None] = lambda *_: None
        """Takes claims and the node time before they were asked for."""
        self.on_active: Callable[[], None] = lambda: None
        """Called whenever the view has changed to one of an active period."""
        self.on_period: Callable[[GracePeriod], None] = lambda _: None
        self.on_move: Callable[[Move], None] = lambda _: None
        self.on_freed: Callable[[Freed], None] = lambda _: None
        self.on_ended: Callable[[str], None] = lambda _: None
        self._hears = True
        self._ended: dict[int, GracePeriod] = {}
        self._due_marks = 0
        self._mutex = threading.Lock()
        self.registry.wake = self._wake_keeper

    # -- one round trip -------------------------------------------------------------------------------------------

    def ask(self, build: Callable[[Head], Call[T]]) -> Flow[T]:
        """Send a call until it is answered, at most ATTEMPTS times; every script is safe to repeat.

        After a lost reply the repeat tells Redis that the request before it is given up: should that arrive later, it
        does nothing.
        """
        unknown: errors.OutcomeUnknown | None = None
        first = 0
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            self.refuse_unless_valid(unknown)
            head = self.lease.head(self.now())
            head.first = first
            call = build(head)
            try:
                reply: Reply = yield call
            except errors.OutcomeUnknown as error:
                self._failed(call, error)
                unknown, first = error, first or head.serial
                self.lease.give_up(head)
                if last:
                    raise
            except errors.CoordinatorError as error:
                self._failed(call, error)
                # What is certain of this attempt says nothing of an earlier one whose outcome is unknown.
                if last or not isinstance(error, errors.Unavailable):
                    raise unknown or error from error
                yield Sleep(self.settings.op_timeout_seconds / 8 * random.uniform(0.5, 1.5))  # noqa: S311
            else:
                self._answered(reply, call)
                self._observe(reply, call)
                if reply.status in _OVER:
                    raise unknown or refusal_of(self.lease.why_not)
                if reply.status != "LATE" or last:
                    if unknown is not None and reply.status == "LATE":
                        raise unknown
                    return call.result(reply)
        raise AssertionError  # the last attempt returns or raises

    def refuse_unless_valid(self, unknown: errors.OutcomeUnknown | None = None) -> None:
        """Refuse to send anything but join and renew (which do not ask here) without a valid lease."""
        if not self.closed and self.lease.is_valid(self.now()):
            return
        reason = Reason.CLOSED if self.closed else self.lease.why_not
        raise unknown or refusal_of(reason)

    def _once(self, call: Call[Any]) -> Flow[Reply]:
        """Send a call of its life once, and count it; what the reply means is the caller's affair."""
        try:
            reply: Reply = yield call
        except errors.CoordinatorError as error:
            self._failed(call, error)
            raise
        self._answered(reply, call)
        return reply

    def _failed(self, call: Call[Any], error: errors.CoordinatorError) -> None:
        self.metrics.round_trip(call.script.name, self.now() - call.head.sent, _kind(error))

    def _answered(self, reply: Reply, call: Call[Any]) -> None:
        self.metrics.round_trip(call.script.name, self.now() - call.head.sent, _FAILURES.get(reply.status))

    def _observe(self, reply: Reply, call: Call[Any]) -> None:
        """Take what the head of a reply tells."""
        if reply.status in _OVER:
            self._told_of_its_end(reply)
            return
        before = self.lease.view
        self.lease.observe(call.head, reply, self.now())
        if self.lease.view is not before:
            self._changed()

    def _changed(self) -> None:
        self._announce()
        if self.lease.view.state is GraceState.ACTIVE:
            self.on_active()
        if self.lease.acked > self.told:
            self.must_renew = True
            self.wake()

    def in_batches(
        self, items: Sequence[S], send: Callable[[Sequence[S]], Flow[list[T]]], most: int = CHANGE_MAX
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

    # -- its one life ---------------------------------------------------------------------------------------------

    def join(self) -> Flow[None]:
        """Enter the scope; the lease is valid when this returns."""
        boot, dataset = secrets.token_hex(16), secrets.token_hex(16)
        for attempt in range(1, 2 * ATTEMPTS + 1):
            head = Head(OPERATOR, self.now())
            call = nodes.join(
                self.meta,
                head,
                self.name,
                boot,
                dataset,
                self.settings,
                self.version,
                predecessor_dead=self.predecessor_dead,
            )
            try:
                reply = yield from self._once(call)
            except (errors.OutcomeUnknown, errors.Unavailable):
                if attempt == 2 * ATTEMPTS:
                    raise
                yield Sleep(self.settings.op_timeout_seconds / 2)
                continue
            break
        self._refuse_if_closed()
        if reply.status == "FENCED":
            self._told_of_its_end(reply)
        joined = call.result(reply)
        self.last_event = joined.last_event
        self.announced = reply.view.ended_epoch
        self.lease.joined(f"{self.name}:{joined.incarnation}", reply, head.sent, self.now(), fresh=joined.fresh)
        self.told = self.lease.acked if joined.fresh else -1
        yield from self._first_renewal()
        if self.last_renewal is not None and self.predecessor_dead:
            yield from self.evict(self.last_renewal.lapsed)
        self._refuse_if_closed()
        if not self.lease.is_valid(self.now()):
            self.refuse_if_over()
            msg = "joined, but the lease could not be renewed in time: is Redis slower than validity_seconds?"
            raise errors.Unavailable(msg)

    def _refuse_if_closed(self) -> None:
        if self.closed:
            msg = "this coordinator was closed while it joined"
            raise errors.Closed(msg)

    def _first_renewal(self) -> Flow[None]:
        """Renew once more after the join: tells what is to be done, and gives validity after a repeated join."""
        for _ in range(ATTEMPTS):
            try:
                yield from self.renew()
            except (errors.OutcomeUnknown, errors.Unavailable):
                continue
            return

    def renew(self) -> Flow[nodes.Renewed]:
        """Renew the lease, acknowledging what the view has switched to. Sent once: the keeper repeats it."""
        acked, mark = self.lease.acked, self.due_mark()
        call = nodes.renew(self.meta, self.lease.head(self.now()), acked)
        reply = yield from self._once(call)
        if reply.status != "RENEWED":
            self._observe(reply, call)
            self.refuse_if_over()
            return call.result(reply)
        renewed = call.result(reply)
        self.lease.renewed(call.head, reply, self.now(), extended=renewed.extended)
        self.told = max(self.told, acked)  # last: whoever reads it finds what the answer said
        self.last_renewal = renewed
        self.take_due(renewed.next_due_ms, mark)
        self.wanted.update(renewed.wanted)
        self.metrics.renewed(renewed.members, len(renewed.waiting_for), renewed.due)
        self._changed()
        return renewed

    def acknowledge(self) -> Flow[None]:
        """Tell Redis at once what this node has switched to; else the keeper's next renewal does.

        A start that is acked may come in force, close and be lifted by acks of this node alone: three at the most.
        """
        for _ in range(ATTEMPTS):
            acked = self.lease.acked
            if acked <= self.told or self.lease.view.state is not GraceState.ACTIVE:
                return
            try:
                yield from self.ask(lambda head, acked=acked: grace.advance(self.meta, head, acked))  # type: ignore[misc]
            except (errors.Unavailable, errors.OutcomeUnknown):
                return
            self.told = max(self.told, acked)

    def evict(self, lapsed: Iterable[str]) -> Flow[None]:
        """Turn members whose lease lapsed into lost owners."""
        for owner in lapsed:
            if owner != self.lease.owner:
                yield from self._evict(owner)

    def _evict(self, owner: str) -> Flow[str]:
        return self.ask(lambda head: nodes.evict(self.meta, head, owner))

    def leave(self, until: float) -> Flow[None]:
        """Grant nothing more, then leave: rights become a planned failover at once. Asked until node time `until`.

        When data were lost, that is told instead: nobody else may know.
        """
        self.end(Reason.CLOSED)
        while not self.must_tell_loss:
            call = nodes.leave(self.meta, self.lease.head(self.now()))
            try:
                reply = yield from self._once(call)
            except (errors.OutcomeUnknown, errors.Unavailable):
                self.lease.give_up(call.head)
                if self.now() >= until:
                    raise
                yield Sleep(self.settings.op_timeout_seconds / 4)
                continue
            if reply.status == "DATA_LOST" and not self._was_forgotten(reply):
                self.must_tell_loss = True
                break
            if reply.status not in {"FENCED", "LATE"}:
                call.result(reply)
            return
        yield from self.tell_loss(until)

    def end(self, reason: Reason) -> None:
        """End this incarnation for good: nothing is granted, nothing is asked, its server is told once."""
        if not self.lease.end(reason):
            return
        self.registry.clear()
        self.wanted.clear()
        if reason is not Reason.CLOSED:
            log.error("%s is over: %s", self.lease.owner, refusal_of(reason))
            self.on_ended(reason.value)
        self.wake()

    def forked(self) -> None:
        """End this copy, in a forked child: the node, its threads and connections are the parent's.

        Threads that are not there may have any lock, those of metrics too.
        """
        self._mutex = threading.Lock()
        self.lease.forked()
        self.registry.forked()
        self.metrics = LockMetrics.disabled().bind(
            self.name, self.keys.scope, (), lease=self.lease, clients=self.registry.counts, now=self.now
        )
        self.wake = lambda: None
        self.end(Reason.CLOSED)
        self.closed = True

    def refuse_if_over(self) -> None:
        """Raise why this incarnation is over, if it is."""
        if self.lease.is_over:
            raise refusal_of(self.lease.why_not)

    def _told_of_its_end(self, reply: Reply) -> None:
        """Take a reply that says that this incarnation is fenced, or that the data are others."""
        word = "data_lost" if reply.status == "DATA_LOST" else text(reply.data[0])
        if reply.status == "DATA_LOST" and self._was_forgotten(reply):
            word = "evicted"
        if word == "data_lost" and not self.lease.is_over:
            self.must_tell_loss = reply.status == "DATA_LOST"
            self.metrics.data_lost()
        self.end(ENDS.get(word, Reason.CLOSED))

    def _was_forgotten(self, reply: Reply) -> bool:
        """Tell whether the data are all there, but for this node's own record: kept for so long after its eviction."""
        view, told = reply.view, self.lease.view
        whole = view.dataset == told.dataset and view.revision >= told.revision and view.epoch >= told.epoch
        return whole and self.now() - self.lease.renewed_at > self.settings.retention_seconds

    def tell_loss(self, until: float = float("inf")) -> Flow[None]:
        """Tell the scope that its data are not those that this node was told; asked until node time `until`."""
        dataset = secrets.token_hex(16)
        while self.must_tell_loss and not self.closed:
            head, clock_ms = self.lease.head(self.now()), self.lease.clock_ms
            call = nodes.lost(self.meta, head, dataset, clock_ms, self.registry.newest, self.settings)
            try:
                reply = yield from self._once(call)
            except (errors.OutcomeUnknown, errors.Unavailable):
                if self.now() >= until:
                    raise
                yield Sleep(self.settings.heartbeat_seconds)
                continue
            log.error("%s told the scope that its data were lost: %s", self.lease.owner, call.result(reply).lower())
            self.must_tell_loss = False

    # -- what it hears --------------------------------------------------------------------------------------------

    def hear_all(self, events: Sequence[Event]) -> None:
        """Take what a read of the stream answered, in order."""
        if not self._hears:
            log.info("%s hears events again", self.lease.owner)
        self._hears = True
        if len(events) >= EVENTS_KEPT:
            self.must_renew = True  # older ones may have been trimmed unread
        for identifier, kind, event, clients in events:
            try:
                self.hear(kind, event, clients)
            except (KeyError, ValueError):
                # Of a version that says it otherwise: the next renewal tells what it meant.
                log.exception("the event %s %s is not understood", identifier, kind)
                self.must_renew = True
                self.wake()

    def _wake_keeper(self) -> None:
        self.wake()

    def deaf(self, why: errors.Unavailable) -> None:
        """Learn by renewals what events would have told; the log says it, once until they can be read again."""
        if self._hears and not self.closed:
            log.warning("%s hears no events and learns by heartbeats only: %s", self.lease.owner, why)
        self._hears = False
        self.must_renew = True
        self.wake()

    def hear(  # noqa: C901, PLR0912  (a table, one case per kind)
        self, kind: str, event: dict[str, bytes], clients: Sequence[bytes] = ()
    ) -> None:
        """Take an event: it tightens and wakes, it never loosens."""
        mine = text(event.get("owner", b"")) == self.lease.owner
        match kind:
            case "start" | "closing":
                if self.lease.told(int(event["revision"])):
                    self.must_renew = True
            case "wanted" | "moved" if not mine:
                return
            case "moved":
                for client, upto in zip(clients[::2], clients[1::2], strict=True):
                    self.was_taken(client, text(event["to"]), int(upto))
            case "freed":
                if text(event["by"]) != self.lease.owner:
                    for client, upto in zip(clients[::2], clients[1::2], strict=True):
                        self.on_freed(Freed(client_str(client), int(upto)))
            case "wanted" | "due" | "evicted" | "left_node":
                self.must_renew = True
            case "lift":
                self.ended(_period(event))
                self.must_renew = True
            case "in_force" | "joined" | "end":
                if text(event["by"]) != self.lease.owner:
                    self.must_renew = True
            case _:
                return
        self.wake()
        self.metrics.heard(kind, event)

    def was_taken(self, client: bytes, to: str, generation: int) -> None:
        """Take it that a client which this node yielded is registered elsewhere now."""
        raise NotImplementedError

    def ended(self, period: GracePeriod) -> None:
        """Announce the end of a period, once per epoch, as soon as this node's view is past it."""
        with self._mutex:
            self._ended[period.epoch] = period
        self._announce()

    def _announce(self) -> None:
        if not self._ended:
            return
        over = self.lease.view.ended_epoch
        with self._mutex:
            epochs = sorted(epoch for epoch in self._ended if epoch <= over)
            periods = [self._ended.pop(epoch) for epoch in epochs]
            fresh = [period for period in periods if period.epoch > self.announced]
            self.announced = max([self.announced, *epochs])
        for period in fresh:
            self.on_period(period)

    # -- its timers -----------------------------------------------------------------------------------------------

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


NOT_DONE = (errors.Refused, errors.Unavailable, errors.Closed)
"""Errors that say for certain that nothing was done. Whatever else ends a call, its outcome is not known."""
_OVER = frozenset({"DATA_LOST", "FENCED"})
"""The statuses that end an incarnation."""
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
        reason=text(event["reason"]),
        started_at=int(event["started"]) / 1000,
        duration_seconds=int(event["duration"]) / 1000,
        expected=reclaimed + forfeited,
        reclaimed=reclaimed,
        forfeited=forfeited,
    )
