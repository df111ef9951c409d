"""Round trips that block their thread: one call at a time per connection, and reads of events.

A channel keeps its idle connections itself, since taking one out of redis-py's pool and giving it back costs a fifth
of a call's CPU. They pass through the pool when they were closed, and every so often for its own upkeep.
"""

from __future__ import annotations

import contextlib
import os
import threading
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

_Kept = tuple[Any, float]
"""A connection, and the monotonic time until which it does without its pool."""


class Channel:
    """Runs calls one by one per connection; any number of threads of the process that made it."""

    def __init__(self, connector: Connector, settings: Settings) -> None:
        """Own a pool whose time-out is `op_timeout_seconds`."""
        self._pool = connector.pool(timeout=settings.op_timeout_seconds)
        self._pid = os.getpid()
        self._closed = False
        self._kept: list[_Kept] = []
        """Idle connections. `pop` and `append` are atomic, so a connection has one user without a lock."""
        self._seeking = 0
        """Threads that want a connection from the pool, which may be waiting for one to be given back."""
        self._mutex = threading.Lock()
        """Guards `_seeking`; held for a moment, never while anything is waited for."""

    def run(self, call: Call[Any]) -> Reply:
        """Send the call once. Raises Unavailable, OutcomeUnknown, ContractBroken or Closed."""
        try:
            try:
                raw = self._exchange(packed(call))
            except exceptions.NoScriptError:
                raw = self._exchange(packed_whole(call))
        except redis.ResponseError as error:
            raise answered(error) from error
        return Reply(call.script, raw)

    def _exchange(self, command: bytes) -> Any:
        """Send a command and return what Redis answered; raise redis.ResponseError when that is an error."""
        if self._closed or os.getpid() != self._pid:
            # A forked child would read from the sockets of its parent, and speak as the same owner.
            raise errors.Closed(CLOSED)
        try:
            kept = self._kept.pop()
        except IndexError:
            kept = self._seek()
        else:
            if kept[1] < monotonic() or not _is_quiet(kept[0]):
                _give_back(self._pool, kept[0])
                kept = self._seek()
        connection = kept[0]
        try:
            connection.send_packed_command([command])
            answer = connection.read_response()
        except redis.ResponseError as error:
            if is_cut_after(error):
                self._lost(connection, others=True)
            else:
                self._keep(kept)
            raise
        except Exception as error:  # whatever it is: of what was sent nothing is known
            self._lost(connection)
            raise unanswered(error) from error
        except BaseException:
            self._lost(connection)
            raise
        self._keep(kept)
        return answer

    def _seek(self) -> _Kept:
        """Take a connection out of the pool; raise Unavailable when none can be had."""
        with self._mutex:
            self._seeking += 1
        try:
            self._return_kept()
            return self._pool.get_connection(), monotonic() + KEPT_SECONDS
        except Exception as error:
            raise unconnected(error) from error
        finally:
            with self._mutex:
                self._seeking -= 1

    def _keep(self, kept: _Kept) -> None:
        """Keep a connection for the next call; give it back if a thread waits for one."""
        self._kept.append(kept)
        # Looked at after the append: a thread that began to seek before it sees the connection, or is seen here.
        if self._seeking or self._closed:
            self._return_kept(cut=self._closed)

    def _return_kept(self, *, cut: bool = False) -> None:
        """Give all idle connections back to the pool."""
        while True:
            try:
                connection, _ = self._kept.pop()
            except IndexError:
                return
            if cut:
                _cut(connection)
            _give_back(self._pool, connection)

    def _lost(self, connection: Any, *, others: bool = False) -> None:
        """Cut a connection that failed. The pool looks at the others before they are used again, or they are cut too.

        After a failover all of them lead to the old primary.
        """
        _cut(connection)
        _give_back(self._pool, connection)
        self._return_kept(cut=others)

    def close(self) -> None:
        """Close the pool for good; calls that other threads are at fail."""
        self._closed = True
        if os.getpid() == self._pid:
            self._return_kept(cut=True)
            _disconnect(self._pool)


class Events:
    """Blocking reads of the scope's events on a connection of its own."""

    def __init__(self, connector: Connector, keys: Keys, settings: Settings) -> None:
        """Own a pool whose time-out is the block plus `op_timeout_seconds`."""
        self._block = block_seconds(settings)
        self._pool = connector.pool(timeout=self._block + settings.op_timeout_seconds)
        self._key = keys.key("events")

    def read(self, after: str) -> list[Event]:
        """Return events after the id `after`, none when the block ran out. Raises Unavailable."""
        try:
            connection = self._pool.get_connection()
        except Exception as error:
            raise unread(error) from error
        try:
            connection.send_command(*reading(self._key, after, self._block))
            return events_of(connection.read_response())
        except Exception as error:
            _cut(connection)
            raise unread(error) from error
        except BaseException:
            _cut(connection)
            raise
        finally:
            _give_back(self._pool, connection)

    def close(self) -> None:
        """Close the pool; a blocked read fails."""
        _disconnect(self._pool)


def _is_quiet(connection: Any) -> bool:
    """Whether nothing came on an idle connection. What comes is its end, after which a request would be lost."""
    try:
        return not connection.can_read()
    except Exception:  # noqa: BLE001  (its end)
        return False


def _cut(connection: Any) -> None:
    with contextlib.suppress(Exception):  # another thread may be closing it
        connection.disconnect()


def _give_back(pool: Any, connection: Any) -> None:
    with contextlib.suppress(Exception):  # what became of the call is known already
        pool.release(connection)


def _disconnect(pool: Any) -> None:
    for closing in (pool.disconnect, *(sentinel.close for sentinel in sentinels(pool))):
        with contextlib.suppress(Exception):  # of a connection that is gone, or that another thread is using
            closing()
