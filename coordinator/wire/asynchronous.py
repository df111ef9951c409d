"""The asyncio twin of redis_io: all calls that wait go out in one pipeline on one connection, then the next ones.

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
from coordinator.wire.blocking import (
    CLOSED,
    answered,
    block_seconds,
    client_of,
    command,
    events_of,
    reading,
    sentinels,
    unanswered,
    unconnected,
    unread,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.node import Event
    from coordinator.protocol import Call
    from coordinator.protocol.keys import Keys
    from coordinator.settings import Settings
    from coordinator.wire.blocking import Connector

PIPELINE_MAX = 64
"""Calls of one pipeline: bounds how long the last one waits for the first, and the bytes in flight."""


class AsyncChannel:
    """Runs calls on one connection, any number at once. Belongs to one event loop."""

    def __init__(self, connector: Connector, settings: Settings) -> None:
        """Own a pool of one connection; an exchange takes at most `op_timeout_seconds`."""
        self._timeout = settings.op_timeout_seconds
        self._pool = connector.pool(timeout=self._timeout)
        self._waiting: list[tuple[Call[Any], asyncio.Future[Reply]]] = []
        self._sender: asyncio.Task[None] | None = None
        self._closed = False

    def run(self, call: Call[Any]) -> asyncio.Future[Reply]:
        """Send the call once. The future raises Unavailable, OutcomeUnknown, ContractBroken or Closed."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_exception(errors.Closed(CLOSED))
            return future
        self._waiting.append((call, future))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
            self._sender.add_done_callback(self._sent)
        return future

    async def _send(self) -> None:
        while self._waiting:
            batch = self._waiting[:PIPELINE_MAX]
            answers = await self._exchange([call for call, _ in batch])
            for (call, future), answer in zip(batch, answers, strict=True):
                _settle(future, call, answer)
            del self._waiting[: len(batch)]  # what could not be settled is, in _sent
        self._sender = None

    def _sent(self, sender: asyncio.Task[None]) -> None:
        """Leave nobody waiting when the sender did not end by itself."""
        error = None if sender.cancelled() else sender.exception()
        if error is None and not sender.cancelled():
            return
        self._sender = None
        waiting, self._waiting = self._waiting, []
        for call, future in waiting:
            _settle(future, call, errors.OutcomeUnknown(f"given up while it was sent: {error or 'cancelled'}"))

    async def _exchange(self, calls: Sequence[Call[Any]]) -> list[Any]:
        """Return a raw reply or an exception for each call."""
        try:
            connection = await self._pool.get_connection()
        except Exception as error:  # noqa: BLE001  (it is answered)
            return [unconnected(error)] * len(calls)
        try:
            answers = await self._pipeline(connection, [command(call) for call in calls])
            unknown = [i for i, answer in enumerate(answers) if isinstance(answer, exceptions.NoScriptError)]
            if unknown:
                again = await self._pipeline(connection, [command(calls[i], whole=True) for i in unknown])
                for i, answer in zip(unknown, again, strict=True):
                    answers[i] = answer
            return answers
        finally:
            await _give_back(self._pool, connection)

    async def _pipeline(self, connection: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        answers: list[Any] = []
        try:
            async with asyncio.timeout(self._timeout):
                await connection.send_packed_command(connection.pack_commands(commands))
                while len(answers) < len(commands):
                    try:
                        answers.append(await connection.read_response())
                    except redis.ResponseError as error:
                        answers.append(error)
        except Exception as error:  # noqa: BLE001  (it is answered)
            await _cut(connection)
            # What the error says is of one call (LOADING, say); those behind it may have run.
            first = len(answers) + 1
            behind = unanswered(redis.ConnectionError(str(error)))
            answers += [unanswered(error), *[behind] * (len(commands) - first)]
        except BaseException:
            await _cut(connection)
            raise
        return answers

    async def close(self) -> None:
        """Close the pool for good; what still waits is given up."""
        self._closed = True
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.wait([self._sender])
        await _disconnect(self._pool)


def _settle(future: asyncio.Future[Reply], call: Call[Any], answer: Any) -> None:
    if future.done():
        return  # given up by its caller
    if isinstance(answer, redis.ResponseError):
        answer = answered(answer)
    if isinstance(answer, errors.CoordinatorError):
        future.set_exception(answer)
        return
    try:
        future.set_result(Reply(call.script, answer))
    except errors.ContractBroken as error:
        future.set_exception(error)


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


def from_url(url: str) -> redis.asyncio.Redis:
    """Return a client of `url`; raise InvalidArgument when it is none."""
    return client_of(url, redis.asyncio.Redis)
