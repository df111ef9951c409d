"""The flow that keeps a node alive: heartbeat, acks, the period's deadline, evictions, orphans, due releases.

It sleeps until the next deadline it knows or until it is woken (by an event, or by what a reply told); there is no
polling interval. The drivers run it on a connection of its own, and releases on workers.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordinator import errors
from coordinator.protocol import releases
from coordinator.protocol.call import BATCH_MAX
from coordinator.settings import CLAIM_STOP_FRACTION, HOME_PREFERENCE_SECONDS, milliseconds

if TYPE_CHECKING:
    from coordinator import protocol as calls
    from coordinator.node import Flow, Node, Sleep
    from coordinator.node.registry import Entry

BACKOFF_MIN_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 30.0
_REARM_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Wait:
    """Go on at this node time, or earlier when the node is woken."""

    until: float


Keeping = Generator["calls.Call[Any] | Sleep | Wait", Any, None]


class Keeper:
    """What a node's keeper remembers between its steps."""

    def __init__(self, node: Node) -> None:
        """Keep `node` alive."""
        self.node = node
        node.room_for_claims = self._room
        self.claims: dict[bytes, releases.Claim] = {}
        """Releases that workers of this node are at."""
        self._failures: dict[bytes, int] = {}
        self._unaudited: list[list[Entry]] = []
        """Clients that an audit has not asked for yet, in batches."""
        self._beat_at = 0.0
        self._told = -1
        self._rearm_at = 0.0
        self._again_at = 0.0
        """A duty failed: what is due is not tried again before."""
        self._good_until: dict[bytes, float] = {}
        self._begun: set[bytes] = set()

    # -- the loop -------------------------------------------------------------------------------------------------

    def run(self) -> Keeping:
        """Go on until the node is closed, superseded or has lost its data."""
        node = self.node
        while not node.closed:
            if node.fenced is not None:
                if node.fenced != "evicted":
                    return
                yield from self._tolerate(node.join())
                continue
            until = self._next_deadline()
            if not node.must_renew and node.now() < until:
                yield Wait(until)
                continue
            yield from self._step()

    def _next_deadline(self) -> float:
        times = [self._beat_at]
        node = self.node
        if self._may_claim() and node.lease.is_valid(node.now()):
            times.append(max(node.lease.node_time(node.next_due_ms), self._again_at))
        if node.lease.is_valid(node.now()):
            times.append(self._period_ends_at())
        return min(times)

    def _period_ends_at(self) -> float:
        """Return the node time at which this node's timer must move the period; never, while there is nothing to."""
        state = self.node.lease.state
        if state.closing or not state.deadline_ms:
            return float("inf")
        return max(self.node.lease.node_time(state.deadline_ms), self._rearm_at, self._again_at)

    def _step(self) -> Keeping:
        node = self.node
        now = node.now()
        if node.lease.is_valid(now) and now >= self._period_ends_at():
            self._rearm_at = now + _REARM_SECONDS
            yield from self._tolerate(node.advance())
        if node.must_renew or now >= self._beat_at or node.lease.acked > self._told:
            yield from self._beat()
        if node.lease.is_valid(node.now()):
            yield from self._tolerate(self._duties())

    def _beat(self) -> Keeping:
        """Renew; then whatever the renewal says is to be done."""
        node = self.node
        node.must_renew = False
        acked = node.lease.acked
        try:
            renewed = yield from node.renew()
        except errors.CoordinatorError:
            # Soon again, with jitter: a heartbeat that failed must be repeated within the validity.
            self._beat_at = node.now() + node.settings.op_timeout_seconds * random.uniform(0.3, 0.7)  # noqa: S311
            return
        self._told = acked
        self._beat_at = node.now() + node.settings.heartbeat_seconds
        if renewed.lapsed:
            yield from self._tolerate(node.evict(renewed.lapsed))
        if node.lease.state.ended_epoch > node.announced:
            yield from self._tolerate(node.announce_last())
        if renewed.orphans:
            yield from self._tolerate(self._drain())

    def _duties(self) -> Flow[None]:
        """Do what there is to do: first what callbacks that run wait for, then the rest, a batch at a time.

        However much that is, the heartbeat goes before what is left.
        """
        yield from self._renew_claims()
        for batch in (self._audit, self.node.drop_moved, self.node.drop_left_over, self._claim):
            while (yield from batch()) and self.node.now() < self._beat_at:
                pass

    def _audit(self) -> Flow[bool]:
        """Look after the next clients, when events may have been missed; tell whether there are more."""
        node = self.node
        if node.must_audit and not self._unaudited:
            node.must_audit = False  # before it: what is missed meanwhile asks for another
            self._unaudited = list(node.memory.batches(BATCH_MAX))
        while node.to_audit:
            few = [node.to_audit.pop() for _ in range(min(BATCH_MAX, len(node.to_audit)))]
            self._unaudited.append(few)
        if self._unaudited:
            yield from self.node.audit(self._unaudited[-1])
            self._unaudited.pop()  # after it: what failed is asked again
        return bool(self._unaudited)

    def _tolerate(self, flow: Flow[Any]) -> Keeping:
        """Run a duty; what it could not do is tried again at the next heartbeat, whose renewal tells what is wrong."""
        try:
            yield from flow
        except errors.CoordinatorError:
            soon = self.node.now() + self.node.settings.op_timeout_seconds * random.uniform(0.5, 1.0)  # noqa: S311
            self._beat_at = min(max(self._beat_at, self.node.now()), soon)
            self._again_at = soon
            if self.node.fenced is not None:
                yield Wait(soon)

    # -- releases -------------------------------------------------------------------------------------------------

    def _drain(self) -> Flow[None]:
        more = True
        while more and self.node.now() < self._beat_at:
            mark = self.node.due_mark()
            _, more, next_due = yield from self.node.ask(lambda head: releases.drain(self.node.keys, head, BATCH_MAX))
            self.node.take_due(next_due, mark)

    def _claim(self) -> Flow[bool]:
        """Take what is due, and give it to the workers; tell whether there may be more."""
        node = self.node
        settings = node.settings
        if not self._may_claim() or node.now() < node.lease.node_time(node.next_due_ms):
            return False
        mark, asked = node.due_mark(), node.now()
        with node.claiming(BATCH_MAX) as room:
            if not room:
                return False
            next_due, claims = yield from node.ask(
                lambda head: releases.claim(
                    node.keys,
                    head,
                    room,
                    milliseconds(settings.claim_seconds),
                    milliseconds(HOME_PREFERENCE_SECONDS),
                )
            )
            node.take_due(next_due, mark)
            if claims:
                node.on_claims(claims, asked)
        return True  # what is due is asked for until nothing is

    def _may_claim(self) -> bool:
        """Tell whether something is due some time, and workers have room for it."""
        return self.node.next_due_ms > 0 and self.node.claims_free > 0

    def _room(self) -> int:
        """Return how many more claims workers may have: so many are renewed by one call."""
        return BATCH_MAX - len(self.claims) if self.node.claims_releases else 0

    def took(self, claims: list[releases.Claim], asked: float) -> list[releases.Claim]:
        """Note claims asked for at a node time; return those to begin. One that is here already gets a new token.

        What their clients still have here is closed first: nothing is confirmed that the callback would not see.
        """
        begin = []
        for claim in claims:
            if claim.release.generation is not None:
                self.node.memory.close(claim.client, claim.release.generation)
            if claim.name not in self.claims:
                begin.append(claim)
            self.claims[claim.name] = claim
            self._good_until[claim.name] = asked + CLAIM_STOP_FRACTION * self.node.settings.claim_seconds
        return begin

    def may_begin(self, claim: releases.Claim) -> bool:
        """Tell whether a worker may start on a claim: not when it may have run out while it was queued."""
        if claim.name in self._begun:
            return False  # asked for twice: one worker is enough
        if claim.name in self.claims and self.node.now() < self._good_until[claim.name]:
            self._begun.add(claim.name)
            return True
        self.forget(claim)
        return False

    def forget(self, claim: releases.Claim) -> releases.Claim:
        """End the work on a claim, which runs out unless it is acknowledged; return it with its present token."""
        self._good_until.pop(claim.name, None)
        self._begun.discard(claim.name)
        self.node.wake()
        return self.claims.pop(claim.name, claim)

    def _renew_claims(self) -> Flow[None]:
        """Extend the claims of callbacks that still run, before half of their time is left."""
        seconds, asked = self.node.settings.claim_seconds, self.node.now()
        ending = [claim for claim in list(self.claims.values()) if self._is_ending(claim, asked + seconds / 2)]
        ending.sort(key=lambda claim: self._good_until.get(claim.name, 0.0))
        for first in range(0, len(ending), BATCH_MAX):
            yield from self._renew_batch(ending[first : first + BATCH_MAX])

    def _renew_batch(self, ending: list[releases.Claim]) -> Flow[None]:
        seconds, asked = self.node.settings.claim_seconds, self.node.now()
        for claim, renewed in zip(ending, (yield from self._extend(ending, seconds)), strict=True):
            if self.claims.get(claim.name) is not claim:
                continue  # its worker was done meanwhile
            if renewed:
                self._good_until[claim.name] = asked + CLAIM_STOP_FRACTION * seconds
            else:
                self.forget(claim)

    def _is_ending(self, claim: releases.Claim, by: float) -> bool:
        return self._good_until.get(claim.name, by + 1) <= by

    def _extend(self, claims: list[releases.Claim], seconds: float) -> Flow[list[bool]]:
        node = self.node
        return node.ask(lambda head: releases.renew(node.keys, head, claims, milliseconds(seconds)))

    def done(self, claim: releases.Claim) -> Flow[None]:
        """Acknowledge: the callback has freed everything. What stays unacknowledged comes due again."""
        node = self.node
        claim = self.forget(claim)
        acked = yield from node.ask(lambda head: releases.ack(node.keys, head, claim, node.settings.adapters))
        self._failures.pop(claim.name, None)
        node.metrics.release(claim.release.adapter, claim.release.reason, "done" if acked else "stale")

    def failed(self, claim: releases.Claim) -> Flow[None]:
        """Give a release back whose callback raised: it comes due again after a backoff, here or elsewhere."""
        node = self.node
        claim = self.forget(claim)
        failures = self._failures[claim.name] = self._failures.get(claim.name, 0) + 1
        wait = min(BACKOFF_MIN_SECONDS * 2 ** min(failures - 1, 10), BACKOFF_MAX_SECONDS)
        node.metrics.release(claim.release.adapter, claim.release.reason, "failed")
        yield from self._extend([claim], wait)
        node.due_at(node.lease.state.clock_ms + milliseconds(wait))
