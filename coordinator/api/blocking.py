"""Coordinator, the synchronous face: a line per operation, and the threads that run the keeper."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Self, TypeVar

from coordinator import errors
from coordinator.api.driving import drive
from coordinator.api.operations import Clients, Grace, Grants
from coordinator.api.shared import ASYNCHRONOUS, CLOSE_WAIT_SECONDS, Shared, only
from coordinator.node import Sleep
from coordinator.values import CLOSED, client_bytes
from coordinator.wire.blocking import Channel, Events
from coordinator.wire.connector import Connector, from_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from coordinator.metrics.families import LockMetrics
    from coordinator.node import Flow, Grant, Wait
    from coordinator.protocol.releases import Claim
    from coordinator.settings import Settings

T = TypeVar("T")
RELEASE_WORKERS = 4
_TURN_SECONDS = 0.001
"""What is left of each sleep once the node is stopped: whoever waits for another call looks again, without spinning."""

log = logging.getLogger("coordinator")


class Granting:
    """The context of one new lock: a class and not a generator, since it is entered for each lock."""

    __slots__ = ("_client", "_coordinator", "_grant")

    def __init__(self, coordinator: Coordinator, client: bytes) -> None:
        """Nothing is asked before it is entered."""
        self._coordinator = coordinator
        self._client = client

    def __enter__(self) -> Grant:
        """Hold and check."""
        node = self._coordinator._node  # noqa: SLF001  (a part of it)
        grant = node.grant_at_once(self._client)
        if grant is None:
            grant = self._coordinator._run(node.begin_grant(self._client))  # noqa: SLF001
        self._grant = grant
        return grant

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Confirm; take it back if the block raised."""
        if kind is None:
            self._grant.confirm()
        else:
            self._grant.undo()


class Coordinator(Shared):
    """One node's share in the lock recovery of a scope. Thread-safe; a context manager: join ... leave."""

    _awaits = False

    def __init__(  # noqa: PLR0913  (the pinned signature)
        self,
        redis: redis.Redis,
        *,
        node: str,
        scope: str = "default",
        settings: Settings | None = None,
        metrics: LockMetrics | None = None,
        predecessor_dead: bool = False,
    ) -> None:
        """Take a redis-py client, which is never changed nor closed; nothing is sent before `start`.

        `predecessor_dead`: the process that had this node name before is certainly dead. A scope without data begins
        with a full grace, unless `initialize` has marked it as a new installation.
        """
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._starting = threading.Lock()
        self._mutex = threading.Lock()
        """Held for a moment, never while anything is waited for: nothing begins once the node is stopped."""
        super().__init__(node, scope, settings, metrics, predecessor_dead=predecessor_dead)
        self._connector = Connector(redis, self._settings).checked(asynchronous=False)
        self._channel: Channel | None = None
        self._threads: list[threading.Thread] = []
        self._channels: list[Channel] = []
        self._workers = ThreadPoolExecutor(RELEASE_WORKERS, thread_name_prefix=f"release-{node}")
        self._running: dict[bytes, Future[None]] = {}
        self._own = threading.local()
        self._callbacks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self.grace = Grace(self)
        self.clients = Clients(self)
        self.grants = Grants(self)

    @classmethod
    def connect(  # noqa: PLR0913  (the pinned signature)
        cls,
        url: str,
        *,
        node: str,
        scope: str = "default",
        settings: Settings | None = None,
        metrics: LockMetrics | None = None,
        predecessor_dead: bool = False,
    ) -> Self:
        """Make a coordinator for the Redis at `url`; `start` or `with` joins the scope."""
        return cls(
            from_url(url),
            node=node,
            scope=scope,
            settings=settings,
            metrics=metrics,
            predecessor_dead=predecessor_dead,
        )

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Join the scope and return with a valid lease and a view.

        Raises Unavailable or OutcomeUnknown (try again), Fenced (a newer process has this node's name), ContractBroken.
        """
        self._refuse_if_stopped()  # before the lock: in a forked child a thread that is not there may have it
        with self._starting:
            self._refuse_if_stopped()
            if not self._threads:
                self._join()
            return self

    def _join(self) -> None:
        heartbeat = Channel(self._connector, self._settings)
        events = Events(self._connector, self._node.keys, self._settings)
        channel = Channel(self._connector, self._settings)
        threads = [
            threading.Thread(target=target, args=args, name=f"{name}-{self._node.name}", daemon=True)
            for name, target, args in (
                ("keeper", self._keep, (heartbeat,)),
                ("events", self._listen, (events,)),
                ("callbacks", self._call_back, ()),
            )
        ]
        try:
            self._open()
            drive(self._node.join(), heartbeat.run, self._rest)
            with self._mutex:
                self._refuse_if_stopped()
                self._channel, self._channels, self._threads = channel, [channel, heartbeat], threads
                for thread in threads:
                    thread.start()
        except BaseException as error:
            if self._threads:
                self.abandon()  # some of them run
            self._withdraw()
            heartbeat.close()
            channel.close()
            if isinstance(error, errors.CoordinatorError):
                self._refuse_if_stopped()
            raise

    def close(self) -> None:
        """Stop granting, wait up to 5 s for running callbacks, leave: holders become a planned failover at once.

        Idempotent. If Redis cannot be told, the lease runs out and the other nodes notice.
        """
        if self._stopped.is_set() or not self._threads or self._is_a_copy:
            self.abandon()
            return
        try:
            self._node.lease.stop_granting()
            self._node.claims_releases = False
            wait(self._callbacks_under_way(), timeout=CLOSE_WAIT_SECONDS)
            self._leave()
        except errors.CoordinatorError as error:
            log.warning("%s could not say that it leaves: %s", self.owner, error)
        finally:
            self.abandon()

    def _callbacks_under_way(self) -> list[Future[None]]:
        """Return what close() waits for; called inside a callback, it does not wait for itself."""
        own = getattr(self._own, "client", None)
        running = [run for client, run in list(self._running.items()) if client != own]
        if threading.current_thread() not in self._threads:
            with self._mutex:
                if not self._stopped.is_set():
                    running.append(Future())
                    self._callbacks.put(functools.partial(running[-1].set_result, None))
        return running

    def _leave(self) -> None:
        """Tell Redis, until it answers or CLOSE_WAIT_SECONDS have passed; after an end only that data were lost."""
        channel = self._channel
        if channel is not None and (self._node.must_tell_loss or not self._node.lease.is_over):
            drive(self._node.leave(self._node.now() + CLOSE_WAIT_SECONDS), channel.run, self._rest)

    def abandon(self) -> None:
        """Stop as a crash would: nothing is told to Redis, the lease runs out."""
        if self._is_a_copy:
            self._shut()  # the threads and connections are the other process's
            return
        with self._mutex:
            self._stopped.set()
        self._shut()
        self._woken.set()
        self._callbacks.put(None)
        self._workers.shutdown(wait=False, cancel_futures=True)
        try:
            for thread in self._threads:
                # The one that listens ends by itself when its blocking read does, and closes its own connection.
                if thread is not threading.current_thread() and not thread.name.startswith("events"):
                    thread.join(2 * self._settings.op_timeout_seconds)
        finally:
            for channel in self._channels:
                channel.close()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # -- grants -----------------------------------------------------------------------------------------------------

    def granting(self, client: str | bytes) -> Granting:
        """Grant one new lock: hold, check, your insert in the block, confirm on leaving it.

        Counts the lock for the client; takes it back if the block raises. Raises GraceActive, LeaseLapsed,
        RegistrationRefused before the block, StaleGrant after it: undo the insert. One round trip, for the first lock.
        """
        return Granting(self, client_bytes(client))

    @contextlib.contextmanager
    def reclaiming(self, client: str | bytes) -> Iterator[Grant]:
        """Reclaim a client's locks: admits, your inserts in the block, confirms, completes on success.

        Call `grant.confirm()` after each insert if there are several. Raises as admit_reclaim before the block,
        StaleGrant after it: undo the inserts. NoGrace after it: the period ended before the client was complete. What
        was confirmed stands, but its client has no right to reclaim it once more (RFC 8881, 8.4.3): count it
        (`increment_lock_count`), which gives it one, or take it out. Two round trips.
        """
        grant = self._run(self._node.admit(client_bytes(client), keep_open=True))
        try:
            yield grant
            grant.confirm()
        except BaseException:
            grant.undo()
            raise
        only(self._run(self._node.end_reclaim(grant)))

    # -- callbacks ----------------------------------------------------------------------------------------------------

    @property
    def _is_stopped(self) -> bool:
        return self._stopped.is_set()

    def _wake(self) -> None:
        self._woken.set()

    def _callback(self, function: Callable[[Any], object] | None, value: object) -> None:
        if function is not None:
            self._callbacks.put(lambda: self._is_stopped or self._call(functools.partial(function, value)))

    def _call_back(self) -> None:
        while (function := self._callbacks.get()) is not None:
            try:
                function()
            except BaseException:  # whatever ends it, it is not the last one
                log.exception("a grace callback of %s raised", self.owner)

    def _begin_releases(self, claims: list[Claim], asked: float) -> None:
        for claim in self._keeper.took(claims, asked):
            with contextlib.suppress(RuntimeError):  # closing: the claim runs out and comes due elsewhere
                future = self._workers.submit(self._work, claim)
                self._running[claim.client] = future
                future.add_done_callback(functools.partial(self._ran, claim.client))

    def _ran(self, client: bytes, _: Future[None]) -> None:
        self._running.pop(client, None)

    def _work(self, claim: Claim) -> None:
        if self._release is None or not self._keeper.may_begin(claim):
            return  # it comes due again
        self._own.client = claim.client
        try:
            self._call(functools.partial(self._release, claim.release))
        except BaseException:  # whatever ends it, it has not freed everything
            log.exception("release of %r failed and is tried again", claim.release.client_id)
            finish = self._keeper.failed
        else:
            finish = self._keeper.done
        finally:
            self._own.client = None
        try:
            self._run(finish(claim))
        except errors.CoordinatorError as error:
            log.warning("release of %r is not acknowledged and comes due again: %s", claim.release.client_id, error)

    @staticmethod
    def _call(function: Callable[[], T]) -> T:
        """Call what a user gave to be called; raise InvalidArgument if it has only begun something."""
        result = function()
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            msg = f"{function!r:.200}: {ASYNCHRONOUS}"
            raise errors.InvalidArgument(msg)
        return result

    # -- drivers ------------------------------------------------------------------------------------------------------

    def _run(self, flow: Flow[T]) -> T:
        channel = self._channel
        if channel is None or self._node.closed:
            raise errors.Closed(CLOSED)
        return drive(flow, channel.run, self._rest)

    def _rest(self, request: Sleep | Wait) -> None:
        """Let the time of a sleep pass, or wait until the keeper is woken. A node that was stopped sleeps no more."""
        if isinstance(request, Sleep):
            if self._stopped.wait(request.seconds):
                time.sleep(_TURN_SECONDS)
        else:
            self._woken.wait(max(0.0, request.until - self._node.now()))
            self._woken.clear()

    def _keep(self, channel: Channel) -> None:
        while True:
            try:
                return drive(self._keeper.run(), channel.run, self._rest)
            except Exception:
                log.exception("the keeper of %s failed and begins again", self.owner)
                self._stopped.wait(self._settings.op_timeout_seconds)

    def _listen(self, events: Events) -> None:
        after = self._node.last_event
        try:
            while not self._stopped.is_set():
                try:
                    heard = events.read(after)
                except errors.Unavailable as error:
                    self._stopped.wait(self._settings.op_timeout_seconds / 2)
                    self._node.deaf(error)
                    continue
                self._node.hear_all(heard)
                after = heard[-1][0] if heard else after
        finally:
            events.close()
