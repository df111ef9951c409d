"""Round trips with redis.asyncio: all calls that wait go out in one pipeline on one connection, then the next ones.

A call that is given up by its caller stays in its place of the pipeline: its reply is read and thrown away, never
left for another.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import redis
from redis import exceptions

from coordinator import errors
from coordinator.protocol.call import Reply
from coordinator.values import CLOSED
from coordinator.wire.connector import sentinels
from coordinator.wire.meaning import answered, must_be_cut, unanswered, unconnected, unread
from coordinator.wire.packing import block_seconds, events_of, packed, reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.node import Event
    from coordinator.protocol import Call
    from coordinator.protocol.keys import Keys
    from coordinator.settings import Settings
    from coordinator.wire.connector import Connector

PIPELINE_MAX = 64
"""Calls of one pipeline: bounds how long the last one waits for the first, and the bytes in flight."""


_IDLE_SECONDS = 0.05
"""A connection that was used so lately is not looked at before it is used again."""


class Answer(asyncio.Future[Any]):
    """What a round trip will bring. Who waits for it and is cancelled goes on when it is there, and not before.

    Task.cancel asks what its task waits for to cancel. Told no, it throws CancelledError when that is done.
    """

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002  (the signature is asyncio's)
        """Do not cancel: a request that was sent is waited for; its time-out bounds that."""
        return False


class AsyncChannel:
    """Runs calls on one connection, any number at once. Belongs to one event loop."""

    def __init__(self, connector: Connector, settings: Settings) -> None:
        """Own a pool of one connection; an exchange takes at most `op_timeout_seconds`."""
        self._timeout = settings.op_timeout_seconds
        self._pool = connector.pool(timeout=self._timeout)
        self._connection: Any = None
        self._used = 0.0
        self._waiting: list[tuple[Call[Any], Answer]] = []
        self._sender: asyncio.Task[None] | None = None
        self._closed = False

    def run(self, call: Call[Any]) -> Answer:
        """Send the call once: a Reply, or Unavailable, OutcomeUnknown, ContractBroken, Closed."""
        answer = Answer()
        if self._closed:
            answer.set_exception(errors.Closed(CLOSED))
            return answer
        self._waiting.append((call, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
            self._sender.add_done_callback(self._sent)
        return answer

    async def _send(self) -> None:
        while self._waiting:
            batch = self._waiting[:PIPELINE_MAX]
            replies = await self._exchange([call for call, _ in batch])
            for (call, answer), reply in zip(batch, replies, strict=True):
                _settle(answer, call, reply)
            del self._waiting[: len(batch)]  # what could not be settled is, in _sent
        self._sender = None

    def _sent(self, sender: asyncio.Task[None]) -> None:
        """Leave nobody waiting when the sender did not end by itself."""
        error = None if sender.cancelled() else sender.exception()
        if error is None and not sender.cancelled():
            return
        self._sender = None
        waiting, self._waiting = self._waiting, []
        for call, answer in waiting:
            _settle(answer, call, errors.OutcomeUnknown(f"given up while it was sent: {error or 'cancelled'}"))

    async def _exchange(self, calls: Sequence[Call[Any]]) -> list[Any]:
        """Return a raw reply or an exception for each call."""
        try:
            connection = await self._connected()
        except Exception as error:  # noqa: BLE001  (it is answered)
            return [unconnected(error)] * len(calls)
        replies = await self._pipeline(connection, [packed(call) for call in calls])
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, exceptions.NoScriptError)]
        if unknown:
            again = await self._pipeline(connection, [packed(calls[i], whole=True) for i in unknown])
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
        if any(isinstance(reply, redis.ResponseError) and must_be_cut(reply) for reply in replies):
            await self._drop()
        return replies

    async def _connected(self) -> Any:
        """Return the connection that is kept; after a pause the pool looks whether it is still good."""
        now = asyncio.get_running_loop().time()
        if self._connection is not None and now - self._used >= _IDLE_SECONDS:
            await _give_back(self._pool, self._connection)
            self._connection = None
        if self._connection is None:
            self._connection = await self._pool.get_connection()
        self._used = now
        return self._connection

    async def _drop(self) -> None:
        """Cut the connection; the next calls take another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await _cut(connection)
            await _give_back(self._pool, connection)

    async def _pipeline(self, connection: Any, commands: Sequence[bytes]) -> list[Any]:
        replies: list[Any] = []
        try:
            async with asyncio.timeout(self._timeout):
                await connection.send_packed_command(b"".join(commands))
                read = connection.read_response
                while len(replies) < len(commands):
                    try:
                        replies.append(await read())
                    except redis.ResponseError as error:
                        replies.append(error)
        except Exception as error:  # noqa: BLE001  (it is answered)
            await self._drop()
            # What the error says is of one call (LOADING, say); those behind it may have run.
            first = len(replies) + 1
            behind = unanswered(redis.ConnectionError(str(error)))
            replies += [unanswered(error), *[behind] * (len(commands) - first)]
        except BaseException:
            await self._drop()
            raise
        return replies

    async def close(self) -> None:
        """Close the pool for good; what still waits is given up."""
        self._closed = True
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])
        await self._drop()
        await _disconnect(self._pool)


def _settle(answer: Answer, call: Call[Any], reply: Any) -> None:
    if answer.done():
        return  # settled before, when the sender was given up
    if isinstance(reply, redis.ResponseError):
        reply = answered(reply)
    if isinstance(reply, errors.CoordinatorError):
        answer.set_exception(reply)
        return
    try:
        answer.set_result(Reply(call.script, reply))
    except errors.ContractBroken as error:
        answer.set_exception(error)


class AsyncEvents:
    """Blocking reads of the scope's events on a connection of its own."""

    def __init__(self, connector: Connector, keys: Keys, settings: Settings) -> None:
        """Own a pool whose time-out is the block plus `op_timeout_seconds`."""
        self._block = block_seconds(settings)
        self._pool = connector.pool(timeout=self._block + settings.op_timeout_seconds)
        self._keys = keys
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
            await connection.send_command(*reading(self._keys, after, self._block))
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
