"""`node.grace`, `node.clients` and `node.grants` of Coordinator.

Written by tools/sync_twin.py from async_operations.py: change that and run `./run docs`.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from coordinator import errors
from coordinator.api.shared import each, each_client, good_clients, number_or_0, only, registering, wait_or_skip
from coordinator.node import Grant
from coordinator.protocol.call import BATCH_MAX
from coordinator.protocol.grace import FIRST_PAGE
from coordinator.values import (
    CLOSED,
    ClientRegistration,
    GraceStarted,
    GraceView,
    Operation,
    ReclaimOutcome,
    Unregistered,
    Verdict,
    at_least_0,
    client_bytes,
    client_str,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from coordinator.api.blocking import Coordinator

_POLL_SECONDS = 0.005
_STARTS = 5
"""How often a start is begun anew when the period changes meanwhile."""


class Grace:
    """The grace period of the scope (`node.grace`)."""

    def __init__(self, coordinator: Coordinator) -> None:
        """Belong to a coordinator."""
        self._node = coordinator._node  # noqa: SLF001  (a part of it)
        self._run = coordinator._run  # noqa: SLF001
        self._call = coordinator._call  # noqa: SLF001

    def start(
        self,
        expected: Iterable[str | bytes] | Callable[[], Any] = (),
        *,
        if_empty: str = "wait",
        reason: str = "",
    ) -> GraceStarted:
        """Start grace for the clients found in this node's lock store, or join the period that is active.

        `expected` is their ids, or better a callable that reads them from the store. It is called after the roster was
        opened, and again when the start has to be repeated: so nobody whose locks were freed meanwhile is on it.
        Nobody to wait for: nothing starts and nobody is refused anything (epoch None). A client that a member serves,
        or whose right has ended, is not added; ids that break a rule are reported and left out. When no client at all
        was asked for, `if_empty` decides: "wait" lasts the whole period (the store could not tell), "skip" starts
        nothing.
        Started here already: the new ids are added. Two round trips, and one per 200 ids.
        Raises BarrierPending(retry_after) while the present period is closing (RFC 8881, 8.4.2).
        """
        wait_or_skip(if_empty)
        if not callable(expected):
            expected = each("expected", expected)
        for _ in range(_STARTS):
            epoch = self._run(self._node.open_roster(if_empty, reason))
            try:
                given = self._call(expected) if callable(expected) else expected
                ids, bad = good_clients("expected", given)
            except BaseException:
                # While a roster is open, Redis keeps in mind whose right has ended.
                with contextlib.suppress(errors.CoordinatorError):
                    self._run(self._node.bring_roster(epoch, (), (), "skip", reason))
                raise
            try:
                return self._run(self._node.bring_roster(epoch, ids, bad, if_empty, reason))
            except errors.StaleEpoch:
                continue  # a period ended, or an answer was lost: the store may have changed since it was read
        raise errors.BarrierPending(("the period, which changed again and again",))

    def withdraw(self) -> int:
        """Take back the roster that this node brought (`start`); return how many rights were on it.

        They are gone and nothing is freed by it: what the lock store has is this node's own affair again.
        One round trip; a repeat is safe.
        """
        return self._run(self._node.withdraw())

    def end(self, reason: str, *, if_epoch: int | None = None) -> None:
        """End the period now; rights that were not used are forfeited.

        Raises NoGrace, or StaleEpoch if `if_epoch` is not the present epoch. One round trip; a repeat is safe.
        """
        self._run(self._node.end_grace(reason, number_or_0("if_epoch", if_epoch)))

    def check(self, operation: Operation) -> Verdict:
        """Decide locally whether an operation may go on; no I/O, no lock, nothing allocated when allowed."""
        node = self._node  # what node.check does, without its call: this is the hot path
        verdict = node.lease.check(operation, node.now())
        return verdict if verdict.allowed else node.refused(verdict)

    def admit_reclaim(self, client: str | bytes) -> Grant:
        """Ask, once per client, whether it may reclaim here; the grant confirms any number of locks.

        Confirm each insert, and have none under way when the client is unregistered or revoked: nothing waits for it.
        `reclaiming` does all that, and its block is waited for. Raises BarrierPending (retry), ReclaimRefused, NoGrace,
        RegistrationRefused. One round trip.
        """
        return self._run(self._node.admit(client_bytes(client)))

    def complete_reclaim(self, client: str | bytes, locks: int | None = None) -> ReclaimOutcome:
        """Tell that the client has all its locks back (RFC 8881, RECLAIM_COMPLETE); a repeat is a success.

        `locks`: how many it has, from which its lock count goes on; without it the count is unknown, and the client
        stays a holder until `drop` or unregister. The last one closes the period: with one node it is lifted when this
        returns. One round trip, two for the last one.
        """
        count = None if locks is None else int(at_least_0("locks", locks))
        outcome: ReclaimOutcome = only(self._run(self._node.complete([client_bytes(client)], count)))
        return outcome

    def complete_reclaim_many(self, clients: Iterable[str | bytes]) -> list[ReclaimOutcome | errors.CoordinatorError]:
        """As complete_reclaim, for many: an outcome or a refusal each, in order. One round trip per 50."""
        ids = each_client("clients", clients)
        return self._run(self._node.in_batches(ids, self._node.complete))

    def view(self) -> GraceView:
        """Read the period as Redis has it now. One round trip."""
        return self._run(self._node.grace_view())

    def expected_clients(self, epoch: int | None = None) -> Iterator[str]:
        """Iterate over the clients that may still reclaim; one round trip per 200, may repeat, never misses.

        Raises StaleEpoch when another period than `epoch` (None: that of the first page) has begun.
        """
        return self._pages("expected", epoch)

    def reclaimed_clients(self, epoch: int | None = None) -> Iterator[str]:
        """Iterate over the clients that completed in this epoch; as expected_clients."""
        return self._pages("reclaimed", epoch)

    def forfeited_clients(self, epoch: int | None = None) -> Iterator[str]:
        """Iterate over the clients whose right the end of this epoch's period took; as expected_clients."""
        return self._pages("forfeited", epoch)

    def _pages(self, which: str, epoch: int | None) -> Iterator[str]:
        at = (number_or_0("epoch", epoch), *FIRST_PAGE[1:])
        while True:
            at, page = self._run(self._node.roster_page(which, at))
            for client in page:
                yield client_str(client)
            if at[1:] == FIRST_PAGE[1:]:
                return

    def wait_in_force(self, timeout: float) -> bool:
        """Wait until reclaims are admitted; False if that did not happen within `timeout` seconds. No round trip."""
        lease = self._node.lease
        return self._wait(lambda: lease.snapshot.reclaims and lease.is_valid(self._node.now()), timeout)

    def wait_normal(self, timeout: float) -> bool:
        """Wait until new locks are granted; False if that did not happen within `timeout` seconds. No round trip."""
        return self._wait(lambda: self._node.lease.check(Operation.NEW, self._node.now()).allowed, timeout)

    def _wait(self, reached: Callable[[], bool], timeout: float) -> bool:
        deadline = self._node.now() + at_least_0("timeout", timeout)
        while True:
            if self._node.closed:  # first: what was last seen is of the past
                raise errors.Closed(CLOSED)
            self._node.refuse_if_over()
            if reached():
                return True
            if self._node.now() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)


class Clients:
    """The clients of the scope (`node.clients`)."""

    def __init__(self, coordinator: Coordinator) -> None:
        """Belong to a coordinator."""
        self._node = coordinator._node  # noqa: SLF001  (a part of it)
        self._run = coordinator._run  # noqa: SLF001

    def register(  # noqa: PLR0913  (the pinned signature)
        self,
        client: str | bytes,
        *,
        adapter: str,
        remote_addr: str = "",
        ttl: float = 0.0,
        verifier: str | bytes | None = None,
        principal: str | bytes | None = None,
    ) -> ClientRegistration:
        """Connect a client here; a deferred disconnect of it is cancelled, its locks and place stay.

        `ttl` is how many seconds a later disconnect waits. Another `verifier` says that the client rebooted
        (RFC 8881, 18.35): its old locks are released. Raises ConnectionLimitReached, ClientReleasing(retry_after),
        RegistrationRefused. One round trip; a repeat after an unknown outcome is safe.
        """
        item = self._node.registering(client, adapter, remote_addr, ttl, verifier, principal)
        registration: ClientRegistration = only(self._run(self._node.register([item])))
        return registration

    def unregister(self, client: str | bytes, generation: int | None = None) -> Unregistered:
        """Disconnect a client from here: released after its TTL, at once if that is 0.

        The release callback is called on a worker; with a TTL of 0 that may begin before this returns. Without a
        generation: whichever registration this node has. Raises RegistrationRefused. One round trip.
        """
        pair = (client_bytes(client), number_or_0("generation", generation))
        gone: Unregistered = only(self._run(self._node.unregister([pair])))
        return gone

    def register_many(self, clients: Iterable[Mapping[str, Any]]) -> list[ClientRegistration | errors.CoordinatorError]:
        """As register, for many: each a mapping of register's arguments, `client` among them.

        Every argument is checked before anything is sent. A registration or a refusal each. One round trip per 50.
        """
        items = [self._node.registering(**registering(given)) for given in each("clients", clients)]
        return self._run(self._node.in_batches(items, self._node.register))

    def unregister_many(self, clients: Iterable[str | bytes]) -> list[Unregistered | errors.CoordinatorError]:
        """As unregister, for many, whichever registrations this node has: a result or a refusal each.

        One round trip per 50; a repeat after an unknown outcome is safe.
        """
        pairs = [(client, 0) for client in each_client("clients", clients)]
        return self._run(self._node.in_batches(pairs, self._node.unregister))

    def touch_many(self, clients: Iterable[str | bytes]) -> list[errors.CoordinatorError | None]:
        """As touch, for many: None or a refusal each. One round trip per 200."""
        ids = each_client("clients", clients)
        return self._run(self._node.in_batches(ids, self._node.touch, BATCH_MAX))

    def cancel_disconnect(self, client: str | bytes) -> bool:
        """End a deferral as a reconnect here would; False if there was none. One round trip; a repeat is safe."""
        return self._run(self._node.cancel(client_bytes(client)))

    def touch(self, client: str | bytes) -> None:
        """Note that the client was seen now. Raises RegistrationRefused if it is not served here. One round trip."""
        only(self._run(self._node.touch([client_bytes(client)])))

    def get(self, client: str | bytes) -> ClientRegistration | None:
        """Return the client's registration, wherever it is, or None. One round trip."""
        (registration,) = self._run(self._node.view_clients([client_bytes(client)]))
        return registration

    def list(self, adapter: str | None = None) -> Iterator[ClientRegistration]:
        """Iterate over registrations; two round trips per 200, may repeat, never misses."""
        for name in self._node.settings.adapters if adapter is None else (adapter,):
            cursor = "0"
            while True:
                cursor, page = self._run(self._node.client_page(name, cursor))
                if page:
                    for registration in self._run(self._node.view_clients(page)):
                        if registration is not None:
                            yield registration
                if cursor == "0":
                    break

    def count(self, adapter: str | None = None) -> int:
        """Return how many places are taken in the scope. One round trip."""
        if adapter is not None:
            self._node.settings.limit_of(adapter)  # refuses one that there is not
        view = self._run(self._node.scope_view())
        return sum(view.places.values()) if adapter is None else view.places[adapter]

    def pending_disconnects(self) -> int:
        """Return how many releases wait in the scope. One round trip."""
        view = self._run(self._node.scope_view())
        return view.due

    def increment_lock_count(self, client: str | bytes) -> int | None:
        """Count one lock more; return the count, None: it is not known.

        The first costs one round trip, and is durable when this returns. Raises RegistrationRefused.
        """
        return self._run(self._node.count_lock(client_bytes(client)))

    def decrement_lock_count(self, client: str | bytes) -> int | None:
        """Count one lock less, never below 0; return the count, None: it is not known.

        The last costs one round trip. One whose outcome is not known is made up for by the keeper.
        """
        return self._run(self._node.uncount_lock(client_bytes(client)))

    def drop(self, client: str | bytes) -> None:
        """Drop the client's right: it holds nothing any more, whatever was counted.

        Raises RegistrationRefused if it is not served here. One round trip; a repeat is safe.
        """
        self._run(self._node.drop(client_bytes(client)))

    def revoke(self, client: str | bytes) -> None:
        """End the client's right to its locks now, whoever serves it; they are released.

        A node that hangs with them is waited for until its lease is over. Raises RegistrationRefused if nobody knows
        the client and it may reclaim nothing. One round trip; a repeat is safe.
        """
        self._run(self._node.revoke(client_bytes(client)))

    def stale(self, older_than: float) -> Iterator[ClientRegistration]:
        """Iterate over live registrations not seen for `older_than` seconds; two round trips per 200."""
        at_least_0("older_than", older_than)
        for registration in self.list():
            age = self._node.lease.clock_ms / 1000 - registration.last_seen
            if registration.state == "live" and age > older_than:
                yield registration


class Grants:
    """Grants for those who cannot hold a context open (`node.grants`); `granting` is made of them."""

    def __init__(self, coordinator: Coordinator) -> None:
        """Belong to a coordinator."""
        self._node = coordinator._node  # noqa: SLF001  (a part of it)
        self._run = coordinator._run  # noqa: SLF001

    def begin(self, client: str | bytes) -> Grant:
        """Hold and check for one new lock; insert it, then call `grant.confirm()`, or `grant.undo()`.

        Until either is called the client stays at this node: end every grant. Raises GraceActive, LeaseLapsed,
        RegistrationRefused. One round trip, for the client's first lock.
        """
        raw = client_bytes(client)
        grant = self._node.grant_at_once(raw)
        if grant is None:
            grant = self._run(self._node.begin_grant(raw))
        return grant
