"""The flow that keeps a node alive: heartbeat, acks, the period's deadline, evictions, yields, orphans, due releases.

It sleeps until the next deadline it knows or until it is woken (by an event, or by what a reply told); there is no
polling interval. The drivers run it on a connection of its own, and releases on workers.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from coordinator import errors
from coordinator.node.requests import Flow, Wait
from coordinator.protocol import releases
from coordinator.protocol.call import BATCH_MAX
from coordinator.settings import CLAIM_RENEW_FRACTION, CLAIM_STOP_FRACTION, HOME_PREFERENCE_SECONDS, milliseconds

if TYPE_CHECKING:
    from coordinator.node import Node

BACKOFF_MIN_SECONDS = 0.1
BACKOFF_MAX_SECONDS = 30.0
_REARM_SECONDS = 0.002
_NEVER = float("inf")


class Keeper:
    """What a node's keeper remembers between its steps."""

    def __init__(self, node: Node) -> None:
        """Keep `node` alive."""
        self.node = node
        node.room_for_claims = self._room
        self.claims: dict[bytes, releases.Claim] = {}
        """Releases that workers of this node are at, by client."""
        self._failures: dict[bytes, int] = {}
        self._beat_at = 0.0
        self._rearm_at = 0.0
        self._again_at = 0.0
        """A duty failed: what is due is not tried again before."""
        self._good_until: dict[bytes, float] = {}
        self._begun: set[bytes] = set()

    # -- the loop -------------------------------------------------------------------------------------------------

    def run(self) -> Flow[None]:
        """Go on until the node is closed or its incarnation is over."""
        node = self.node
        while not node.closed:
            if node.lease.is_over:
                yield from node.tell_loss()
                return
            yield from self._step()
            if not node.must_renew and not node.lease.is_over:
                yield Wait(self._next_deadline())

    def _next_deadline(self) -> float:
        node = self.node
        if not node.lease.is_valid(node.now()):
            return self._beat_at
        soonest = min(self._beat_at, self._period_ends_at(), node.next_take_back(), self._renewals_due_at())
        if self._may_claim():
            soonest = min(soonest, max(node.lease.node_time(node.next_due_ms), self._again_at))
        return soonest

    def _period_ends_at(self) -> float:
        """Return the node time at which this node's timer must move the period; never, while there is nothing to."""
        view = self.node.lease.view
        if view.closing or not view.deadline_ms:
            return _NEVER
        return max(self.node.lease.node_time(view.deadline_ms), self._rearm_at, self._again_at)

    def _step(self) -> Flow[None]:
        node = self.node
        now = node.now()
        if node.lease.is_valid(now) and now >= self._period_ends_at():
            self._rearm_at = now + _REARM_SECONDS
            yield from self._tolerate(node.advance())
        if node.must_renew or now >= self._beat_at or node.lease.acked > node.told:
            yield from self._beat()
        if node.lease.is_valid(node.now()):
            yield from self._tolerate(self._duties())

    def _beat(self) -> Flow[None]:
        """Renew; then whatever the renewal says is to be done."""
        node = self.node
        node.must_renew = False
        try:
            renewed = yield from node.renew()
        except errors.CoordinatorError:
            # Soon again, with jitter: a heartbeat that failed must be repeated within the validity.
            self._beat_at = node.now() + node.settings.op_timeout_seconds * random.uniform(0.3, 0.7)  # noqa: S311
            return
        self._beat_at = node.now() + node.settings.heartbeat_seconds
        if renewed.lapsed:
            yield from self._tolerate(node.evict(renewed.lapsed))
        if node.lease.view.ended_epoch > node.announced:
            yield from self._tolerate(node.announce_last())
        if renewed.orphans:
            yield from self._tolerate(self._drain())

    def _duties(self) -> Flow[None]:
        """Do what there is to do: first what callbacks that run wait for, then the rest, a batch at a time.

        However much that is, the heartbeat goes before what is left.
        """
        yield from self._renew_claims()
        node = self.node
        for batch in (node.yield_wanted, node.take_back, node.drop_left_over, self._claim):
            while (yield from batch()):
                if node.now() >= self._beat_at:
                    node.must_renew = True
                    return

    def _tolerate(self, flow: Flow[Any]) -> Flow[None]:
        """Run a duty; what it could not do is tried again at the next heartbeat, whose renewal tells what is wrong."""
        try:
            yield from flow
        except errors.CoordinatorError:
            soon = self.node.now() + self.node.settings.op_timeout_seconds * random.uniform(0.5, 1.0)  # noqa: S311
            self._beat_at = min(max(self._beat_at, self.node.now()), soon)
            self._again_at = soon

    # -- releases -------------------------------------------------------------------------------------------------

    def _drain(self) -> Flow[None]:
        more = True
        while more and self.node.now() < self._beat_at:
            mark = self.node.due_mark()
            _, more, next_due = yield from self.node.ask(lambda head: releases.drain(self.node.meta, head, BATCH_MAX))
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
                    node.meta,
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
            self.node.registry.close(claim.client, claim.release.generation)
            if claim.client not in self.claims:
                begin.append(claim)
            self.claims[claim.client] = claim
            self._good_until[claim.client] = asked + CLAIM_STOP_FRACTION * self.node.settings.claim_seconds
        return begin

    def may_begin(self, claim: releases.Claim) -> bool:
        """Tell whether a worker may start on a claim: not when it may have run out while it was queued."""
        if claim.client in self._begun:
            return False  # asked for twice: one worker is enough
        if claim.client in self.claims and self.node.now() < self._good_until[claim.client]:
            self._begun.add(claim.client)
            return True
        self.forget(claim)
        return False

    def forget(self, claim: releases.Claim) -> releases.Claim:
        """End the work on a claim, which runs out unless it is acknowledged; return it with its present token."""
        self._good_until.pop(claim.client, None)
        self._begun.discard(claim.client)
        self.node.wake()
        return self.claims.pop(claim.client, claim)

    def _renew_claims(self) -> Flow[None]:
        """Extend the claims of callbacks that still run, long before they run out."""
        asked = self.node.now()
        ending = [claim for claim in list(self.claims.values()) if self._renewal_due_at(claim) <= asked]
        ending.sort(key=lambda claim: self._good_until.get(claim.client, 0.0))
        for first in range(0, len(ending), BATCH_MAX):
            yield from self._renew_batch(ending[first : first + BATCH_MAX])

    def _renew_batch(self, ending: list[releases.Claim]) -> Flow[None]:
        seconds, asked = self.node.settings.claim_seconds, self.node.now()
        for claim, renewed in zip(ending, (yield from self._extend(ending, seconds)), strict=True):
            if self.claims.get(claim.client) is not claim:
                continue  # its worker was done meanwhile
            if renewed:
                self._good_until[claim.client] = asked + CLAIM_STOP_FRACTION * seconds
            else:
                self.forget(claim)

    def _renewal_due_at(self, claim: releases.Claim) -> float:
        renew_after = CLAIM_STOP_FRACTION - CLAIM_RENEW_FRACTION
        return self._good_until.get(claim.client, _NEVER) - renew_after * self.node.settings.claim_seconds

    def _renewals_due_at(self) -> float:
        """Return the node time at which a claim must be renewed; not a heartbeat later: see `claim_seconds`."""
        soonest = min(map(self._renewal_due_at, list(self.claims.values())), default=_NEVER)
        return max(soonest, self._again_at)

    def _extend(self, claims: list[releases.Claim], seconds: float) -> Flow[list[bool]]:
        node = self.node
        return node.ask(lambda head: releases.renew(node.meta, head, claims, milliseconds(seconds)))

    def done(self, claim: releases.Claim) -> Flow[None]:
        """Acknowledge: the callback has freed everything. What stays unacknowledged comes due again."""
        node = self.node
        freed, claim, mark = claim.release.generation, self.forget(claim), node.due_mark()
        if claim.release.generation > freed:
            return  # a later one, claimed meanwhile: that callback was not called, and it comes due again
        next_due, (acked,) = yield from node.ask(
            lambda head: releases.ack(node.meta, head, [claim], node.settings.adapters)
        )
        node.take_due(next_due, mark)
        node.wake()
        self._failures.pop(claim.client, None)
        node.metrics.release(claim.release.adapter, claim.release.reason, "done" if acked else "stale")

    def failed(self, claim: releases.Claim) -> Flow[None]:
        """Give a release back whose callback raised: it comes due again after a backoff, here or elsewhere."""
        node = self.node
        claim = self.forget(claim)
        failures = self._failures[claim.client] = self._failures.get(claim.client, 0) + 1
        wait = min(BACKOFF_MIN_SECONDS * 2 ** min(failures - 1, 10), BACKOFF_MAX_SECONDS)
        node.metrics.release(claim.release.adapter, claim.release.reason, "failed")
        yield from self._extend([claim], wait)
        node.due_at(node.lease.clock_ms + milliseconds(wait))
