"""Coordinator, the synchronous face: a line per operation, and the threads that run the keeper."""

from __future__ import annotations

import contextlib
import functools
import logging
import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Self, TypeVar

from coordinator import errors, redis_io
from coordinator.face import CLOSE_WAIT_SECONDS, CLOSED, Face, only
from coordinator.flows import Grant, Sleep
from coordinator.keeper import Wait
from coordinator.sync_groups import Clients, Grace
from coordinator.values import Reason, client_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import redis

    from coordinator.calls.releases import Claim
    from coordinator.flows import Flow
    from coordinator.metrics import LockMetrics
    from coordinator.settings import Settings

T = TypeVar("T")
RELEASE_WORKERS = 4

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


class Coordinator(Face):
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
        self._woken = threading.Event()
        self._stopped = threading.Event()
        super().__init__(node, scope, settings, metrics, bootstrap=bootstrap, predecessor_dead=predecessor_dead)
        self._connector = redis_io.Connector(redis, self._settings).checked(asynchronous=False)
        self._channel: redis_io.Channel | None = None
        self._threads: list[threading.Thread] = []
        self._channels: list[redis_io.Channel] = []
        self._workers = ThreadPoolExecutor(RELEASE_WORKERS, thread_name_prefix=f"release-{node}")
        self._running: dict[bytes, Future[None]] = {}
        self._own = threading.local()
        self._callbacks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
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
        own = getattr(self._own, "name", None)  # close() inside a release callback does not wait for itself
        wait([run for name, run in list(self._running.items()) if name != own], timeout=CLOSE_WAIT_SECONDS)
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
                self._run(self._node.uncount_lock(raw, grant.generation))
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
            outcomes = self._run(self._node.complete([raw]))
        except BaseException:
            self._node.stop_reclaiming(raw)
            raise
        only(outcomes)

    # -- callbacks ----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._woken.set()

    def _callback(self, function: Callable[[Any], object] | None, value: object) -> None:
        if function is not None:
            self._callbacks.put(lambda: function(value))

    def _call_back(self) -> None:
        while (function := self._callbacks.get()) is not None:
            try:
                function()
            except Exception:
                log.exception("a grace callback of %s raised", self.owner)

    def _begin_releases(self, claims: list[Claim], asked: float) -> None:
        for claim in self._keeper.took(claims, asked):
            with contextlib.suppress(RuntimeError):  # closing: the claim runs out and comes due elsewhere
                future = self._workers.submit(self._work, claim)
                self._running[claim.name] = future
                future.add_done_callback(functools.partial(self._ran, claim.name))

    def _ran(self, name: bytes, _: Future[None]) -> None:
        self._running.pop(name, None)

    def _work(self, claim: Claim) -> None:
        if self._release is None or not self._keeper.may_begin(claim):
            return  # it comes due again
        self._own.name = claim.name
        try:
            self._release(claim.release)
        except BaseException:  # whatever ends it, it has not freed everything
            log.exception("release of %r failed and is tried again", claim.release.client_id)
            finish = self._keeper.failed
        else:
            finish = self._keeper.done
        finally:
            self._own.name = None
        try:
            self._run(finish(claim))
        except errors.CoordinatorError as error:
            log.warning("release of %r is not acknowledged and comes due again: %s", claim.release.client_id, error)

    # -- drivers ------------------------------------------------------------------------------------------------------

    def _run(self, flow: Flow[T]) -> T:
        if self._channel is None or self._node.closed:
            raise errors.Closed(CLOSED)
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
                heard = events.read(after)
            except errors.Unavailable as error:
                self._stopped.wait(self._settings.op_timeout_seconds / 2)
                self._node.deaf(error)
                continue
            self._node.hear_all(heard)
            after = heard[-1][0] if heard else after
        events.close()
