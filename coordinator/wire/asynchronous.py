"""Round trips of asyncio: all calls that wait go out in one pipeline on one connection, then the next ones.

A call cannot be taken back: its reply is awaited and read in its turn, so no reply is ever left for another call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

import redis
from redis import exceptions

from coordinator import errors
from coordinator.protocol.call import Reply
from coordinator.wire.commands import block_seconds, events_of, packed, packed_whole, reading
from coordinator.wire.connector import CLOSED, KEPT_SECONDS, sentinels
from coordinator.wire.meaning import answered, is_cut_after, unanswered, unconnected, unread

if TYPE_CHECKING:
    from coordinator.node import Event
    from coordinator.protocol import Call
    from coordinator.protocol.keys import Keys
    from coordinator.settings import Settings
    from coordinator.wire.connector import Connector

PIPELINE_MAX = 64
"""Calls of one pipeline: bounds how long the last one waits for the first, and the bytes in flight."""


class Pending(asyncio.Future[Reply]):
    """The reply to come of a call.

    It cannot be cancelled. A task that awaits it and is cancelled meets the cancellation when the reply is there, not
    before: so no request of a task that has ended is under way.
    """

    def __init__(self, call: Call[Any], loop: asyncio.AbstractEventLoop) -> None:
        """Pack the call."""
        super().__init__(loop=loop)
        self.call = call
        self.command = packed(call)
        self.is_whole = False
        """The command carries the source of the script."""

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002  (the signature of asyncio)
        """Refuse."""
        return False

    def pack_whole(self) -> None:
        """Take the command that carries the source of the script."""
        self.command = packed_whole(self.call)
        self.is_whole = True

    def answer(self, raw: Any) -> None:
        """End with what Redis answered."""
        try:
            reply = Reply(self.call.script, raw)
        except errors.ContractBroken as error:
            self.set_exception(error)
        else:
            self.set_result(reply)


class AsyncChannel:
    """Runs calls on one connection, any number at once. Belongs to one event loop."""

    def __init__(self, connector: Connector, settings: Settings) -> None:
        """Own a pool of one connection; a pipeline takes at most `op_timeout_seconds`."""
        self._timeout = settings.op_timeout_seconds
        self._pool = connector.pool(timeout=self._timeout)
        self._pid = os.getpid()
        self._closed = False
        self._connection: Any = None
        """Taken from the pool, and kept between pipelines."""
        self._kept_until = 0.0
        """When the connection passes through the pool again."""
        self._waiting: list[Pending] = []
        """Calls that were not sent yet."""
        self._sent: deque[Pending] = deque()
        """Calls of the pipeline under way that have no reply yet, in order."""
        self._sender: asyncio.Task[None] | None = None

    def run(self, call: Call[Any]) -> Pending:
        """Send the call once. The future raises Unavailable, OutcomeUnknown, ContractBroken or Closed."""
        pending = Pending(call, asyncio.get_running_loop())
        if self._closed or os.getpid() != self._pid:
            pending.set_exception(errors.Closed(CLOSED))
            return pending
        self._waiting.append(pending)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
            self._sender.add_done_callback(self._ended)
        return pending

    async def _send(self) -> None:
        """Send what waits, pipeline after pipeline, until nothing does."""
        while self._waiting:
            try:
                connection = await self._connected()
            except Exception as error:  # noqa: BLE001  (all that wait are told)
                _refuse(self._waiting, unconnected(error))
                continue
            self._sent.extend(self._waiting[:PIPELINE_MAX])
            del self._waiting[:PIPELINE_MAX]
            try:
                async with asyncio.timeout(self._timeout):
                    is_cut = await self._exchange(connection)
            except Exception as error:  # noqa: BLE001  (all whose reply did not come are told)
                is_cut = True
                self._lost(error)
            except BaseException:
                await self._cut()
                raise
            if is_cut:
                await self._cut()
        self._sender = None  # here, not in _ended: a call that comes before that runs needs a new one

    async def _exchange(self, connection: Any) -> bool:
        """Send a pipeline and read its replies; return whether the connection is to be cut."""
        sent, is_cut = self._sent, False
        await connection.send_packed_command([b"".join([pending.command for pending in sent])])
        while sent:
            pending = sent[0]  # it stays there until it has ended
            try:
                raw = await connection.read_response()
            except redis.ResponseError as error:
                if isinstance(error, exceptions.NoScriptError) and not pending.is_whole:
                    pending.pack_whole()
                    self._waiting.append(pending)
                else:
                    pending.set_exception(answered(error))
                    is_cut = is_cut or is_cut_after(error)
            else:
                pending.answer(raw)
            sent.popleft()
        return is_cut

    def _lost(self, error: Exception) -> None:
        """Tell the calls that have no reply, because of an error, what that means."""
        if self._sent:
            self._sent.popleft().set_exception(unanswered(error))
        # What the error says is of one call (LOADING, say); those behind it may have run.
        _refuse(self._sent, unanswered(redis.ConnectionError(str(error))))
        if isinstance(error, TimeoutError):
            # Each pipeline of those that wait would last as long, one after the other.
            _refuse(self._waiting, errors.Unavailable("Redis does not answer other requests: this one was not sent"))

    def _ended(self, sender: asyncio.Task[None]) -> None:
        """Leave nobody waiting when the sender did not end by itself."""
        error = "cancelled" if sender.cancelled() else sender.exception()
        if error is not None:
            self._sender = None
            _refuse(self._sent, errors.OutcomeUnknown(f"given up while it was under way: {error}"))
            why = errors.Closed(CLOSED) if self._closed else errors.Unavailable(f"given up before it was sent: {error}")
            _refuse(self._waiting, why)

    async def _connected(self) -> Any:
        """Return the connection: the one that is kept, unless it was closed, or one from the pool."""
        if self._connection is not None:
            if monotonic() < self._kept_until and await _is_quiet(self._connection):
                return self._connection
            await self._give_back()
        connection = await self._pool.get_connection()
        # One timer bounds a whole pipeline. redis-py would make a task for each send and a timer for each reply.
        connection.socket_timeout = None
        self._connection, self._kept_until = connection, monotonic() + KEPT_SECONDS
        return connection

    async def _give_back(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.socket_timeout = self._timeout  # it bounds the handshake, should the pool connect again
            await _give_back(self._pool, connection)

    async def _cut(self) -> None:
        if self._connection is not None:
            await _cut(self._connection)
            await self._give_back()

    async def close(self) -> None:
        """Close the pool for good; what was sent is given up, what still waits is not sent."""
        self._closed = True
        if os.getpid() != self._pid:
            return
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])
        await self._give_back()
        await _disconnect(self._pool)


def _refuse(pending: list[Pending] | deque[Pending], error: errors.CoordinatorError) -> None:
    """End calls without a reply, each with an error of its own: a task that raises one changes it."""
    for one in pending:
        one.set_exception(type(error)(*error.args))
    pending.clear()


class AsyncEvents:
    """Blocking reads of the scope's events on a connection of its own."""

    def __init__(self, connector: Connector, keys: Keys, settings: Settings) -> None:
        """Own a pool whose time-out is the block plus `op_timeout_seconds`."""
        self._block = block_seconds(settings)
        self._pool = connector.pool(timeout=self._block + settings.op_timeout_seconds)
        self._key = keys.key("events")
        self._closed = False

    async def read(self, after: str) -> list[Event]:
        """Return events after the id `after`, none when the block ran out. Raises Unavailable or Closed."""
        if self._closed:
            raise errors.Closed(CLOSED)
        try:
            connection = await self._pool.get_connection()
        except Exception as error:
            raise unread(error) from error
        try:
            await connection.send_command(*reading(self._key, after, self._block))
            return events_of(await connection.read_response())
        except Exception as error:
            await _cut(connection)
            raise unread(error) from error
        except BaseException:
            await _cut(connection)
            raise
        finally:
            await _give_back(self._pool, connection)

    async def close(self) -> None:
        """Close the pool for good; a blocked read fails."""
        self._closed = True
        await _disconnect(self._pool)


async def _is_quiet(connection: Any) -> bool:
    """Whether nothing came on an idle connection. What comes is its end, after which a pipeline would be lost."""
    try:
        return not await connection.can_read()
    except Exception:  # noqa: BLE001  (its end)
        return False


async def _cut(connection: Any) -> None:
    with contextlib.suppress(Exception):  # of a connection that is gone
        await connection.disconnect(nowait=True)


async def _give_back(pool: Any, connection: Any) -> None:
    with contextlib.suppress(Exception):  # what became of the calls is known already
        await pool.release(connection)


async def _disconnect(pool: Any) -> None:
    for closing in (pool.disconnect, *(sentinel.aclose for sentinel in sentinels(pool))):
        with contextlib.suppress(Exception):  # of a connection that is gone, or that does not end in time
            await closing()
