"""`node.grace` and `node.clients` of the synchronous face.

Written by tools/sync_twin.py from async_operations.py: change that and run `./run docs`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from coordinator import errors
from coordinator.api.shared import CLOSED, each, each_client, number_or_0, only, registering
from coordinator.node import Grant
from coordinator.protocol.call import BATCH_MAX
from coordinator.values import (
    ClientRegistration,
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


class Grace:
    """The grace period of the scope (`node.grace`)."""

    def __init__(self, coordinator: Coordinator) -> None:
        """Belong to a coordinator."""
        self._node = coordinator._node  # noqa: SLF001  (a part of it)
        self._run = coordinator._run  # noqa: SLF001

    def start(self, expected: Iterable[str | bytes] = (), *, if_empty: str = "wait", reason: str = "") -> None:
        """Start grace for the clients found in this node's lock store, or join the period that is active.

        A client that is a holder of a member, or whose right has ended, is not added. With no clients at all
        `if_empty` decides: "wait" lasts the whole period, "skip" ends at once unless another roster is open.
        Started here already: the new ids are added. One round trip per 200 ids; a repeat adds nothing.
        Raises BarrierPending(retry_after) while the present period is closing (RFC 8881, 8.4.2).
        """
        ids = each_client("expected", expected)
        if not isinstance(if_empty, str):
            msg = f"if_empty={if_empty!r:.60} must be 'wait' or 'skip'"
            raise errors.InvalidArgument(msg)
        self._run(self._node.start_grace(ids, if_empty, reason))

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

        Raises BarrierPending (retry), ReclaimRefused, NoGrace, RegistrationRefused. One round trip.
        """
        return self._run(self._node.admit(client_bytes(client)))

    def complete_reclaim(self, client: str | bytes) -> ReclaimOutcome:
        """Tell that the client has all its locks back (RFC 8881, RECLAIM_COMPLETE); a repeat is a success.

        The last one closes the period: with one node it is lifted in this reply. One round trip.
        """
        outcome: ReclaimOutcome = only(self._run(self._node.complete([client_bytes(client)])))
        return outcome

    def complete_reclaim_many(self, clients: Iterable[str | bytes]) -> list[ReclaimOutcome | errors.CoordinatorError]:
        """As complete_reclaim, for many: an outcome or a refusal each, in order. One round trip per 50."""
        ids = each_client("clients", clients)
        return self._run(self._node.in_batches(ids, self._node.complete))

    def view(self) -> GraceView:
        """Read the period as Redis has it now. One round trip."""
        return self._run(self._node.grace_view())

    def expected_clients(self) -> Iterator[str]:
        """Iterate over the clients that may still reclaim; one round trip per 200, may repeat, never misses."""
        return self._pages("expected")

    def reclaimed_clients(self) -> Iterator[str]:
        """Iterate over the clients that completed in this epoch; one round trip per 200."""
        return self._pages("reclaimed")

    def _pages(self, which: str) -> Iterator[str]:
        at = ("", "0")
        while True:
            at, page = self._run(self._node.roster_page(which, at))
            for client in page:
                yield client_str(client)
            if at == ("", "0"):
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
        """End a deferral as a reconnect here would; False if there was none.

        Raises RegistrationRefused if nobody knows the client. Two round trips; a repeat is safe.
        """
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
        _, view = self._run(self._node.scope_view())
        return sum(view.places.values()) if adapter is None else view.places[adapter]

    def pending_disconnects(self) -> int:
        """Return how many releases wait in the scope. One round trip."""
        _, view = self._run(self._node.scope_view())
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
            age = self._node.lease.state.clock_ms / 1000 - registration.last_seen
            if registration.state == "live" and age > older_than:
                yield registration
