"""Coordinator, the synchronous face: a line per operation, and the threads that run the keeper."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Self, TypeVar

from coordinator import errors, redis_io
from coordinator._version import __version__
from coordinator.flows import Grant, Node, Sleep
from coordinator.keeper import Keeper, Wait
from coordinator.metrics import LockMetrics
from coordinator.settings import Settings
from coordinator.values import (
    ClientRegistration,
    GracePeriod,
    GraceView,
    Move,
    Operation,
    Reason,
    ReclaimOutcome,
    Release,
    Unregistered,
    Verdict,
    client_bytes,
    client_str,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    import redis

    from coordinator.calls.releases import Claim
    from coordinator.flows import Flow

T = TypeVar("T")
RELEASE_WORKERS = 4
CLOSE_WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.005

log = logging.getLogger("coordinator")


def drive(flow: Generator[Any, Any, T], run: Callable[[Any], Any], pause: Callable[[float], object]) -> T:
    """Run a flow to its end: calls by `run`, sleeps by `pause`; errors go back into the flow."""
    value: Any = None
    error: errors.CoordinatorError | None = None
    while True:
        try:
            request = flow.send(value) if error is None else flow.throw(error)
        except StopIteration as stop:
            result: T = stop.value
            return result
        value, error = None, None
        if isinstance(request, Sleep):
            pause(request.seconds)
            continue
        try:
            value = run(request)
        except errors.CoordinatorError as caught:
            error = caught


def only(results: list[Any]) -> Any:
    """Return the one result of a batch of one, or raise it."""
    (result,) = results
    if isinstance(result, errors.CoordinatorError):
        raise result
    return result


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
        self._run(self._node.start_grace([client_bytes(c) for c in expected], if_empty, reason))

    def end(self, reason: str, *, if_epoch: int | None = None) -> None:
        """End the period now; rights that were not used are forfeited.

        Raises NoGrace, or StaleEpoch if `if_epoch` is not the present epoch. One round trip; a repeat is safe.
        """
        self._run(self._node.end_grace(reason, if_epoch))

    def check(self, operation: Operation) -> Verdict:
        """Decide locally whether an operation may go on; no I/O, no lock, nothing allocated when allowed."""
        return self._node.lease.check(operation, self._node.now())

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
            yield from map(client_str, page)
            if at == ("", "0"):
                return

    def wait_in_force(self, timeout: float) -> bool:
        """Wait until reclaims are admitted; False if that did not happen within `timeout` seconds. No round trip."""
        return self._wait(lambda: self._node.lease.snapshot.reclaims, timeout)

    def wait_normal(self, timeout: float) -> bool:
        """Wait until new locks are granted; False if that did not happen within `timeout` seconds. No round trip."""
        return self._wait(lambda: self.check(Operation.NEW).allowed, timeout)

    def _wait(self, reached: Callable[[], bool], timeout: float) -> bool:
        deadline = self._node.now() + timeout
        while not reached():
            if self._node.now() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True


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

        Without a generation: whichever registration this node has. Raises RegistrationRefused. One round trip.
        """
        pair = (client_bytes(client), _generation(generation))
        gone: Unregistered = only(self._run(self._node.unregister([pair])))
        return gone

    def cancel_disconnect(self, client: str | bytes) -> bool:
        """End a deferral as a reconnect here would; False if there was none. Two round trips."""
        return self._run(self._node.cancel(client_bytes(client)))

    def touch(self, client: str | bytes) -> None:
        """Note that the client was seen now. One round trip."""
        only(self._run(self._node.touch([client_bytes(client)])))

    def get(self, client: str | bytes) -> ClientRegistration | None:
        """Return the client's registration, wherever it is, or None. One round trip."""
        return self._run(self._node.view_clients([client_bytes(client)]))[0]

    def list(self, adapter: str | None = None) -> Iterator[ClientRegistration]:
        """Iterate over registrations; two round trips per 200, may repeat, never misses."""
        for name in self._node.settings.adapters if adapter is None else (adapter,):
            cursor = "0"
            while True:
                cursor, page = self._run(self._node.client_page(name, cursor))
                if page:
                    yield from filter(None, self._run(self._node.view_clients(page)))
                if cursor == "0":
                    break

    def count(self, adapter: str | None = None) -> int:
        """Return how many places are taken in the scope. One round trip."""
        _, view = self._run(self._node.scope_view())
        if adapter is None:
            return sum(view.places.values())
        self._node.settings.limit_of(adapter)
        return view.places[adapter]

    def pending_disconnects(self) -> int:
        """Return how many releases wait in the scope. One round trip."""
        _, view = self._run(self._node.scope_view())
        return view.due

    def increment_lock_count(self, client: str | bytes) -> int | None:
        """Count one lock more; the first costs one round trip (durable). None: the count is not known."""
        return self._run(self._node.count_lock(client_bytes(client)))

    def decrement_lock_count(self, client: str | bytes) -> int | None:
        """Count one lock less, never below 0; the last costs one round trip. None: the count is not known."""
        return self._run(self._node.uncount_lock(client_bytes(client)))

    def drop(self, client: str | bytes) -> None:
        """Drop the client's right: it holds nothing any more, whatever was counted. One round trip."""
        self._run(self._node.drop(client_bytes(client)))

    def revoke(self, client: str | bytes) -> None:
        """End the client's right to its locks now, whoever serves it; they are released. One round trip."""
        self._run(self._node.revoke(client_bytes(client)))

    def stale(self, older_than: float) -> Iterator[ClientRegistration]:
        """Iterate over live registrations not seen for `older_than` seconds; two round trips per 200."""
        for registration in self.list():
            age = self._node.lease.state.clock_ms / 1000 - registration.last_seen
            if registration.state == "live" and age > older_than:
                yield registration


def _generation(generation: int | None) -> int:
    if generation is None:
        return 0
    if not isinstance(generation, int) or isinstance(generation, bool) or generation < 1:
        msg = f"generation={generation!r} must be a whole number of at least 1"
        raise errors.InvalidArgument(msg)
    return generation


class Coordinator:
    """One node's share in the lock recovery of a scope. Thread-safe; a context manager: join ... leave."""

    def __init__(  # noqa: PLR0913  (the pinned signature)
        self,
        redis: redis.Redis,
        *,
        node: str,
        scope: str = "default",
        settings: Settings | None = None,
        metrics: LockMetrics | None = None,
        bootstrap: bool = False,
        predecessor_dead: bool = False,
    ) -> None:
        """Take a redis-py client, which is never changed nor closed; nothing is sent before `start`.

        `bootstrap`: a scope without data is a new installation and starts as normal; without it such a scope begins
        with a full grace. `predecessor_dead`: the process that had this node name before is certainly dead.
        """
        self._settings = settings or Settings()
        self._node = Node(
            node,
            scope,
            self._settings,
            metrics or LockMetrics.disabled(),
            bootstrap=bootstrap,
            predecessor_dead=predecessor_dead,
            version=__version__,
        )
        self._keeper = Keeper(self._node)
        self._connector = redis_io.Connector(redis, self._settings)
        self._channel: redis_io.Channel | None = None
        self._threads: list[threading.Thread] = []
        self._channels: list[redis_io.Channel] = []
        self._workers = ThreadPoolExecutor(RELEASE_WORKERS, thread_name_prefix=f"release-{node}")
        self._running: set[Any] = set()
        self._callbacks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._release: Callable[[Release], object] | None = None
        self._grace_end: Callable[[GracePeriod], object] | None = None
        self._move: Callable[[Move], object] | None = None
        self._node.wake = self._woken.set
        self._node.on_claims = self._begin_releases
        self._node.on_period = lambda period: self._callback(self._grace_end, period)
        self._node.on_move = lambda move: self._callback(self._move, move)
        self.grace = Grace(self)
        self.clients = Clients(self)

    @classmethod
    def connect(  # noqa: PLR0913  (the pinned signature)
        cls,
        url: str,
        *,
        node: str,
        scope: str = "default",
        settings: Settings | None = None,
        metrics: LockMetrics | None = None,
        bootstrap: bool = False,
        predecessor_dead: bool = False,
    ) -> Self:
        """Make a coordinator for the Redis at `url`; `start` or `with` joins the scope."""
        return cls(
            redis_io.from_url(url),
            node=node,
            scope=scope,
            settings=settings,
            metrics=metrics,
            bootstrap=bootstrap,
            predecessor_dead=predecessor_dead,
        )

    # -- life -------------------------------------------------------------------------------------------------------

    @property
    def owner(self) -> str:
        """The owner token of this incarnation, `node:incarnation`."""
        return self._node.lease.owner

    @property
    def fenced(self) -> str | None:
        """Why this incarnation is fenced, or None."""
        return self._node.fenced

    def start(self) -> Self:
        """Join the scope and return with a valid lease and a view, or raise Unavailable, DataLost, ContractBroken."""
        if self._stopped.is_set():
            msg = "this coordinator was closed: make a new one"
            raise errors.Closed(msg)
        if self._threads:
            return self
        heartbeat = redis_io.Channel(self._connector, self._settings)
        events = redis_io.Events(self._connector, self._node.keys, self._settings)
        self._channel = redis_io.Channel(self._connector, self._settings)
        self._channels = [self._channel, heartbeat]
        try:
            self._node.closed = False
            drive(self._node.join(), heartbeat.run, time.sleep)
        except BaseException:
            self._node.closed = True
            for channel in self._channels:
                channel.close()
            raise
        self._threads = [
            threading.Thread(target=target, args=args, name=f"{name}-{self._node.name}", daemon=True)
            for name, target, args in (
                ("keeper", self._keep, (heartbeat,)),
                ("events", self._listen, (events,)),
                ("callbacks", self._call_back, ()),
            )
        ]
        for thread in self._threads:
            thread.start()
        return self

    def close(self) -> None:
        """Stop granting, wait up to 5 s for running callbacks, leave: holders become a planned failover at once.

        Idempotent. If Redis cannot be told, the lease runs out and the other nodes notice.
        """
        if self._stopped.is_set() or not self._threads:
            self.abandon()
            return
        self._node.lease.tighten()
        self._node.claims_releases = False
        wait(set(self._running), timeout=CLOSE_WAIT_SECONDS)
        channel = redis_io.Channel(self._connector, self._settings)
        try:
            drive(self._node.leave(), channel.run, time.sleep)
        except errors.CoordinatorError as error:
            log.warning("%s could not say that it leaves: %s", self.owner, error)
        finally:
            channel.close()
        self.abandon()

    def abandon(self) -> None:
        """Stop as a crash would: nothing is told to Redis, the lease runs out."""
        self._node.lease.invalidate(Reason.CLOSED)
        self._node.closed = True
        self._stopped.set()
        self._woken.set()
        self._callbacks.put(None)
        self._workers.shutdown(wait=False, cancel_futures=True)
        for thread in self._threads:
            # The one that listens ends by itself when its blocking read does, and closes its own connection.
            if thread is not threading.current_thread() and not thread.name.startswith("events"):
                thread.join(2 * self._settings.op_timeout_seconds)
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # -- grants -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def granting(self, client: str | bytes) -> Iterator[Grant]:
        """Grant one new lock: hold, check, your insert in the block, confirm on leaving it.

        Counts the lock for the client; takes it back if the block raises. Raises GraceActive, LeaseLapsed,
        RegistrationRefused before the block, StaleGrant after it: undo the insert. One round trip, for the first lock.
        """
        raw = client_bytes(client)
        grant = self._run(self._node.begin_grant(raw))
        try:
            yield grant
            grant.confirm()
        except BaseException:
            with contextlib.suppress(errors.CoordinatorError):
                self._run(self._node.uncount_lock(raw))
            raise

    @contextlib.contextmanager
    def reclaiming(self, client: str | bytes) -> Iterator[Grant]:
        """Reclaim a client's locks: admits, your inserts in the block, confirms, completes on success.

        Call `grant.confirm()` after each insert if there are several. Raises as admit_reclaim before the block,
        StaleGrant after it: undo the inserts. Two round trips.
        """
        raw = client_bytes(client)
        grant = self._run(self._node.admit(raw))
        try:
            yield grant
            grant.confirm()
        except BaseException:
            self._node.stop_reclaiming(raw)
            raise
        only(self._run(self._node.complete([raw])))

    # -- callbacks ----------------------------------------------------------------------------------------------------

    def on_release(self, callback: Callable[[Release], object]) -> None:
        """Set what frees a client's locks: at least once, by one node at a time; raising means again later."""
        self._release = callback
        self._node.claims_releases = True
        self._node.must_renew = True
        self._woken.set()

    def on_grace_end(self, callback: Callable[[GracePeriod], object]) -> None:
        """Set what is called once per epoch when its period has ended."""
        self._grace_end = callback

    def on_move(self, callback: Callable[[Move], object]) -> None:
        """Set what is called when a client moved away (`registered`) or its old node died (`lost`)."""
        self._move = callback

    def _callback(self, function: Callable[[Any], object] | None, value: object) -> None:
        if function is not None:
            self._callbacks.put(lambda: function(value))

    def _call_back(self) -> None:
        while (function := self._callbacks.get()) is not None:
            try:
                function()
            except Exception:
                log.exception("a grace callback of %s raised", self.owner)

    def _begin_releases(self, claims: list[Claim]) -> None:
        self._keeper.took(claims)
        for claim in claims:
            with contextlib.suppress(RuntimeError):  # closing: the claim runs out and comes due elsewhere
                future = self._workers.submit(self._work, claim)
                self._running.add(future)
                future.add_done_callback(self._running.discard)

    def _work(self, claim: Claim) -> None:
        try:
            if self._release is not None:
                self._release(claim.release)
            self._run(self._keeper.done(claim))
        except errors.CoordinatorError as error:
            log.warning("release of %r is not acknowledged and comes due again: %s", claim.release.client_id, error)
        except Exception:
            log.exception("release of %r failed and is tried again", claim.release.client_id)
            with contextlib.suppress(errors.CoordinatorError):
                self._run(self._keeper.failed(claim))

    # -- drivers ------------------------------------------------------------------------------------------------------

    def _run(self, flow: Flow[T]) -> T:
        if self._channel is None or self._node.closed:
            msg = "this coordinator is not started or was closed: start() it, or make a new one"
            raise errors.Closed(msg)
        return drive(flow, self._channel.run, time.sleep)

    def _keep(self, channel: redis_io.Channel) -> None:
        def run(request: Any) -> Any:
            if isinstance(request, Wait):
                self._woken.wait(max(0.0, request.until - self._node.now()))
                self._woken.clear()
                return None
            return channel.run(request)

        try:
            drive(self._keeper.run(), run, self._stopped.wait)
        except Exception:
            log.exception("the keeper of %s ended: its lease runs out", self.owner)

    def _listen(self, events: redis_io.Events) -> None:
        after = self._node.last_event
        while not self._stopped.is_set():
            try:
                batch = events.read(after)
            except errors.Unavailable:
                self._stopped.wait(self._settings.op_timeout_seconds / 2)
                self._node.must_renew = True
                self._woken.set()
                continue
            for identifier, kind, event in batch:
                after = identifier
                self._node.hear(kind, event)
        events.close()
