"""Blocking round trips with redis-py: one call on a connection of the calling thread, and blocking reads of events."""

from __future__ import annotations

import contextlib
import os
import threading
import time
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
    from coordinator.node import Event
    from coordinator.protocol import Call
    from coordinator.protocol.keys import Keys
    from coordinator.settings import Settings
    from coordinator.wire.connector import Connector

_IDLE_SECONDS = 0.05
"""A connection that was used so lately is not looked at before it is used again."""


class Channel:
    """Runs calls, each on the connection of its thread; any number of threads."""

    def __init__(self, connector: Connector, settings: Settings) -> None:
        """Own a pool whose time-out is `op_timeout_seconds`."""
        self._pool = connector.pool(timeout=settings.op_timeout_seconds)
        self._closed = False
        self._own = threading.local()

    def run(self, call: Call[Any]) -> Reply:
        """Send the call once. Raises Unavailable, OutcomeUnknown, ContractBroken or Closed."""
        connection = self._connection()
        try:
            try:
                raw = self._exchange(connection, packed(call))
            except exceptions.NoScriptError:
                raw = self._exchange(connection, packed(call, whole=True))
        except redis.ResponseError as error:
            if must_be_cut(error):
                self._drop()
            raise answered(error) from error
        return Reply(call.script, raw)

    def _connection(self) -> Any:
        """Return the connection that this thread keeps; take one from the pool if it has none that is good."""
        if self._closed:
            raise errors.Closed(CLOSED)
        kept: _Kept | None = getattr(self._own, "kept", None)
        now = time.monotonic()
        if kept is not None and kept.pid == os.getpid() and (now - kept.used < _IDLE_SECONDS or kept.is_good()):
            kept.used = now
            return kept.connection
        self._drop()
        try:
            connection = self._pool.get_connection()
        except Exception as error:
            raise unconnected(error) from error
        self._own.kept = _Kept(self._pool, connection)
        return connection

    def _exchange(self, connection: Any, command: bytes) -> Any:
        try:
            connection.send_packed_command([command])
            return connection.read_response()
        except redis.ResponseError:
            raise
        except Exception as error:  # whatever it is: of what was sent nothing is known
            self._drop()
            raise unanswered(error) from error
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        """Cut this thread's connection; its next call takes another."""
        kept: _Kept | None = getattr(self._own, "kept", None)
        self._own.kept = None
        if kept is not None and kept.pid == os.getpid():
            _cut(kept.connection)

    def close(self) -> None:
        """Close the pool for good; calls that other threads are at fail."""
        self._closed = True
        _disconnect(self._pool)


class _Kept:
    """A connection that a thread keeps. It goes back to its pool when the thread ends, or lets go of it."""

    __slots__ = ("connection", "pid", "pool", "used")

    def __init__(self, pool: Any, connection: Any) -> None:
        self.pool, self.connection = pool, connection
        self.pid, self.used = os.getpid(), time.monotonic()

    def is_good(self) -> bool:
        """Tell whether the server has kept it open: what is sent on one that it closed has an unknown outcome."""
        try:
            return self.connection.is_connected and not self.connection.can_read()
        except Exception:  # noqa: BLE001  (whatever is wrong with it, it is not good)
            return False

    def __del__(self) -> None:
        if self.pid == os.getpid():  # a forked child must not touch its parent's
            with contextlib.suppress(Exception):
                self.pool.release(self.connection)


def _cut(connection: Any) -> None:
    with contextlib.suppress(Exception):  # another thread may be closing it
        connection.disconnect()


def _disconnect(pool: Any) -> None:
    for closing in (pool.disconnect, *(sentinel.close for sentinel in sentinels(pool))):
        with contextlib.suppress(Exception):  # of a connection that is gone, or that another thread is using
            closing()


class Events:
    """Blocking reads of the scope's events on a connection of its own."""

    def __init__(self, connector: Connector, keys: Keys, settings: Settings) -> None:
        """Own a pool whose time-out is the block plus `op_timeout_seconds`."""
        self._block = block_seconds(settings)
        self._pool = connector.pool(timeout=self._block + settings.op_timeout_seconds)
        self._keys = keys

    def read(self, after: str) -> list[Event]:
        """Return events after the id `after`, none when the block ran out. Raises Unavailable."""
        try:
            connection = self._pool.get_connection()
        except Exception as error:
            raise unread(error) from error
        try:
            connection.send_command(*reading(self._keys, after, self._block))
            return events_of(connection.read_response())
        except Exception as error:
            _cut(connection)
            raise unread(error) from error
        except BaseException:
            _cut(connection)
            raise
        finally:
            with contextlib.suppress(Exception):  # what became of the read is known already
                self._pool.release(connection)

    def close(self) -> None:
        """Close the pool; a blocked read fails."""
        _disconnect(self._pool)
