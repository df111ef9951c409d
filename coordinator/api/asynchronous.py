"""AsyncCoordinator, the asyncio face: the same flows as Coordinator under a second driver; tasks run the keeper."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self, TypeVar

from coordinator import errors
from coordinator.api.async_operations import AsyncClients, AsyncGrace, AsyncGrants
from coordinator.api.driving import drive_async
from coordinator.api.shared import CLOSE_WAIT_SECONDS, Shared, only
from coordinator.node import Sleep
from coordinator.values import CLOSED, client_bytes
from coordinator.wire.asynchronous import AsyncChannel, AsyncEvents
from coordinator.wire.connector import Connector, async_from_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    import redis

    from coordinator.metrics.families import LockMetrics
    from coordinator.node import Flow, Grant, Wait
    from coordinator.protocol.releases import Claim
    from coordinator.settings import Settings

T = TypeVar("T")

log = logging.getLogger("coordinator")
_own: ContextVar[asyncio.Task[None] | None] = ContextVar("own", default=None)
"""The callback's task, in what a callback calls: closing there does not wait for it."""


async def _ended(begun: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until it is done, cancelled or not; return the cancellation that came meanwhile."""
    cancelled = None
    while not begun.done():
        try:
            await asyncio.wait([begun])
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


async def _whole(work: Coroutine[Any, Any, T]) -> T:
    """Do all of `work`, cancelled or not; a cancellation is raised when that is done."""
    begun = asyncio.ensure_future(work)
    cancelled = await _ended(begun)
    if cancelled is not None:
        with contextlib.suppress(BaseException):
            begun.result()  # what became of it goes behind the cancellation
        raise cancelled
    return begun.result()


class AsyncGranting:
    """The context of one new lock: a class and not a generator, since it is entered for each lock."""

    __slots__ = ("_client", "_coordinator", "_grant")

    def __init__(self, coordinator: AsyncCoordinator, client: bytes) -> None:
        """Nothing is asked before it is entered."""
        self._coordinator = coordinator
        self._client = client

    async def __aenter__(self) -> Grant:
        """Hold and check."""
        node = self._coordinator._node  # noqa: SLF001  (a part of it)
        grant = node.grant_at_once(self._client)
        if grant is None:
            grant = await self._coordinator._run(node.begin_grant(self._client))  # noqa: SLF001
        self._grant = grant
        return grant

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Confirm; take it back if the block raised."""
        if kind is None:
            self._grant.confirm()
        else:
            self._grant.undo()


class AsyncCoordinator(Shared):
    """One node's share in the lock recovery of a scope. Belongs to one event loop; a context manager: join ... leave.

    The same names as Coordinator, with `await`. Callbacks are plain functions or `async def`.
    """

    _awaits = True

    def __init__(  # noqa: PLR0913  (the pinned signature)
        self,
        redis: redis.asyncio.Redis,
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
        self._woken = asyncio.Event()
        super().__init__(node, scope, settings, metrics, predecessor_dead=predecessor_dead)
        self._connector = Connector(redis, self._settings).checked(asynchronous=True)
        self._channel: AsyncChannel | None = None
        self._channels: list[AsyncChannel | AsyncEvents] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._callbacks: asyncio.Queue[Callable[[], Awaitable[None]] | None] = asyncio.Queue()
        self._stopped = False
        self._starting = asyncio.Lock()
        self._idle: set[asyncio.Future[None]] = set()
        """What waits until the grace callbacks that were due have been called."""
        self.grace = AsyncGrace(self)
        self.clients = AsyncClients(self)
        self.grants = AsyncGrants(self)

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
            async_from_url(url),
            node=node,
            scope=scope,
            settings=settings,
            metrics=metrics,
            predecessor_dead=predecessor_dead,
        )

    # -- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> Self:
        """Join the scope and return with a valid lease and a view.

        Raises Unavailable or OutcomeUnknown (try again), Fenced (a newer process has this node's name), ContractBroken.
        """
        async with self._starting:
            self._refuse_if_stopped()
            if not self._tasks:
                await self._join()
            return self

    async def _join(self) -> None:
        heartbeat = AsyncChannel(self._connector, self._settings)
        events = AsyncEvents(self._connector, self._node.keys, self._settings)
        self._channel = AsyncChannel(self._connector, self._settings)
        self._channels = [self._channel, heartbeat]
        try:
            self._open()
            await drive_async(self._node.join(), heartbeat.run, self._rest)
            self._refuse_if_stopped()  # from here to the tasks nothing else runs
        except BaseException as error:
            self._withdraw()
            await _whole(self._disconnect())
            if isinstance(error, errors.CoordinatorError):
                self._refuse_if_stopped()
            raise
        self._channels.append(events)
        self._tasks = [
            asyncio.create_task(work, name=f"{name}-{self._node.name}")
            for name, work in (
                ("keeper", self._keep(heartbeat)),
                ("events", self._listen(events)),
                ("callbacks", self._call_back()),
                ("connections", self._connected()),
            )
        ]

    async def close(self) -> None:
        """Stop granting, wait up to 5 s for running callbacks, leave: holders become a planned failover at once.

        Idempotent. If Redis cannot be told, the lease runs out and the other nodes notice.
        """
        if self._stopped or not self._tasks or self._is_a_copy:
            await self.abandon()
            return
        try:
            self._node.lease.stop_granting()
            self._node.claims_releases = False
            if running := self._callbacks_under_way():
                await asyncio.wait(running, timeout=CLOSE_WAIT_SECONDS)
            await self._leave()
        except errors.CoordinatorError as error:
            log.warning("%s could not say that it leaves: %s", self.owner, error)
        finally:
            await self.abandon()

    def _callbacks_under_way(self) -> set[asyncio.Future[None]]:
        """Return what close() waits for; called inside a callback, it does not wait for itself."""
        own = _own.get()
        running: set[asyncio.Future[None]] = {task for task in self._running if task is not own}
        if own not in self._tasks:
            idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.add(idle)
            self._callbacks.put_nowait(functools.partial(self._is_idle, idle))
            running.add(idle)
        return running

    async def _is_idle(self, idle: asyncio.Future[None]) -> None:
        self._idle.discard(idle)
        idle.cancel()

    async def _leave(self) -> None:
        """Tell Redis, until it answers or CLOSE_WAIT_SECONDS have passed; after an end only that data were lost."""
        channel = self._channel
        if channel is not None and (self._node.must_tell_loss or not self._node.lease.is_over):
            await drive_async(self._node.leave(self._node.now() + CLOSE_WAIT_SECONDS), channel.run, self._rest)

    async def abandon(self) -> None:
        """Stop as a crash would: nothing is told to Redis, the lease runs out."""
        self._shut()
        if self._is_a_copy:
            return  # the tasks and connections are the other process's
        self._stopped = True
        self._wake()
        for idle in self._idle:
            idle.cancel()  # another close() waits no longer either
        self._callbacks.put_nowait(None)
        ending = {*self._tasks, *self._running} - {_own.get()}
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending, timeout=2 * self._settings.op_timeout_seconds)
        await self._disconnect()

    async def __aenter__(self) -> Self:
        """Start."""
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    # -- grants -----------------------------------------------------------------------------------------------------

    def granting(self, client: str | bytes) -> AsyncGranting:
        """Grant one new lock: hold, check, your insert in the block, confirm on leaving it.

        Counts the lock for the client; takes it back if the block raises. Raises GraceActive, LeaseLapsed,
        RegistrationRefused before the block, StaleGrant after it: undo the insert. One round trip, for the first lock.
        """
        return AsyncGranting(self, client_bytes(client))

    @contextlib.asynccontextmanager
    async def reclaiming(self, client: str | bytes) -> AsyncIterator[Grant]:
        """Reclaim a client's locks: admits, your inserts in the block, confirms, completes on success.

        Call `grant.confirm()` after each insert if there are several. Raises as admit_reclaim before the block,
        StaleGrant after it: undo the inserts. NoGrace after it: the period ended before the client was complete. What
        was confirmed stands, but its client has no right to reclaim it once more (RFC 8881, 8.4.3): count it
        (`increment_lock_count`), which gives it one, or take it out. Two round trips.
        """
        grant = await self._run(self._node.admit(client_bytes(client), keep_open=True))
        try:
            yield grant
            grant.confirm()
        except BaseException:
            grant.undo()
            raise
        only(await self._run(self._node.end_reclaim(grant)))

    # -- callbacks ----------------------------------------------------------------------------------------------------

    @property
    def _is_stopped(self) -> bool:
        return self._stopped

    def _wake(self) -> None:
        self._woken.set()

    def _callback(self, function: Callable[[Any], object] | None, value: object) -> None:
        if function is not None:
            self._callbacks.put_nowait(functools.partial(_called, function, value))

    async def _call_back(self) -> None:
        _own.set(asyncio.current_task())
        while (function := await self._callbacks.get()) is not None and not self._stopped:
            try:
                await function()
            except Exception:
                log.exception("a grace callback of %s raised", self.owner)

    def _begin_releases(self, claims: list[Claim], asked: float) -> None:
        for claim in self._keeper.took(claims, asked):
            if self._node.closed:
                return  # the claim runs out and comes due elsewhere
            task = asyncio.create_task(self._work(claim), name=f"release-{self._node.name}")
            self._running.add(task)
            task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("%s was ended by %r: its client comes due again when the claim runs out", task.get_name(), error)

    async def _work(self, claim: Claim) -> None:
        _own.set(asyncio.current_task())
        if self._release is None or not self._keeper.may_begin(claim):
            return  # it comes due again
        try:
            await _called(self._release, claim.release)
        except Exception:
            log.exception("release of %r failed and is tried again", claim.release.client_id)
            finish = self._keeper.failed
        except BaseException:  # cancelled, or the loop is to end: it is not renewed, and comes due again
            self._keeper.forget(claim)
            raise
        else:
            finish = self._keeper.done
        try:
            await self._run(finish(claim))
        except errors.CoordinatorError as error:
            log.warning("release of %r is not acknowledged and comes due again: %s", claim.release.client_id, error)

    @staticmethod
    async def _call(function: Callable[[], Any]) -> Any:
        """Call what a user gave to be called, plain or `async def`."""
        answer = function()
        return await answer if inspect.isawaitable(answer) else answer

    # -- drivers ------------------------------------------------------------------------------------------------------

    async def _run(self, flow: Flow[T]) -> T:
        channel = self._channel
        if channel is None or self._node.closed:
            raise errors.Closed(CLOSED)
        return await drive_async(flow, channel.run, self._rest)

    def _rest(self, request: Sleep | Wait) -> Awaitable[None]:
        """Let the time of a sleep pass, or wait until the keeper is woken."""
        return asyncio.sleep(request.seconds) if isinstance(request, Sleep) else self._wait(request.until)

    async def _wait(self, until: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - self._node.now())):
                await self._woken.wait()
        self._woken.clear()

    async def _keep(self, channel: AsyncChannel) -> None:
        while True:
            try:
                return await drive_async(self._keeper.run(), channel.run, self._rest)
            except Exception:
                log.exception("the keeper of %s failed and begins again", self.owner)
                await asyncio.sleep(self._settings.op_timeout_seconds)

    async def _listen(self, events: AsyncEvents) -> None:
        after = self._node.last_event
        try:
            while True:
                try:
                    heard = await events.read(after)
                except errors.Unavailable as error:
                    await asyncio.sleep(self._settings.op_timeout_seconds / 2)
                    self._node.deaf(error)
                    continue
                except errors.Closed:
                    return  # in Python 3.11 asyncio.wait_for, which redis-py sends by, may swallow a cancellation
                self._node.hear_all(heard)
                after = heard[-1][0] if heard else after
        finally:
            await events.close()

    async def _connected(self) -> None:
        """Give the connections back at the end, also when the loop ends without a close()."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self._disconnect()

    async def _disconnect(self) -> None:
        for channel in self._channels:
            await channel.close()


async def _called(function: Callable[[Any], object], value: object) -> None:
    """Call a callback, plain or `async def`. That it awaited what was cancelled is an error as any other."""
    try:
        answer = function(value)
        if inspect.isawaitable(answer):
            await answer
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        msg = "the callback waited for what was cancelled"
        raise RuntimeError(msg) from error
