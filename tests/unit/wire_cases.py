"""What the tests of channels use: a call, its bytes and reply, all that redis-py may raise, and a fake pool."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, cast

import redis
from redis._parsers.base import BaseParser

from coordinator.errors import CoordinatorError
from coordinator.protocol import Call, Head, Reply, grace
from coordinator.protocol.keys import Keys
from coordinator.settings import Settings
from coordinator.wire.blocking import Channel

if TYPE_CHECKING:
    from coordinator.wire.connector import Connector

SETTINGS = Settings()
KEYS = Keys("ns", "s")
CALL: Call[None] = grace.advance(KEYS.meta, Head("n1:1", 5.0, 7, 3, 2, b"d 3 2 active 1 0 90000 200000"), 12)
ADVANCED = [b"ADVANCED", b"d 3 2 active 1 0 90000 200000", 4000, 2]
NOSCRIPT = "NOSCRIPT No matching script."
LOST: list[BaseException] = [
    redis.ConnectionError("reset"), redis.TimeoutError("timed out"), ConnectionResetError("reset"), OSError("gone"),
    redis.InvalidResponse("Protocol Error: b'HTTP/1.1 502'"), ValueError("odd"), AttributeError("closed meanwhile"),
]  # fmt: skip
"""What no reply comes after: of the connection, of what is at its other end, of another thread that closes it."""
MESSAGES = {
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY": "READONLY You can't write against a read only replica.",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots, but it is unable to persist to disk.",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "NOPERM": "NOPERM User app has no permissions to run the 'evalsha' command",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
}
CUT = {"READONLY", "MASTERDOWN", "NOREPLICAS", "LOADING"}
"""After these the next connection may lead to another server."""
AT_CONNECT = {
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "NOAUTH": "NOAUTH Authentication required.",
    "WRONGPASS": "WRONGPASS invalid username-password pair or user is disabled.",
}


def parsed(message: str) -> Exception:
    """Return the exception that redis-py makes of an error of the server."""
    error: Exception = BaseParser.parse_error(message)  # type: ignore[no-untyped-call]
    return error


def hidden_readonly() -> Exception:
    """Return what redis-py's Sentinel client makes of READONLY."""
    try:
        try:
            raise parsed(MESSAGES["READONLY"])
        except redis.exceptions.ReadOnlyError:
            message = "The previous master is now a slave"
            raise redis.ConnectionError(message)  # noqa: B904  (as redis-py does)
    except redis.ConnectionError as error:
        return error


@functools.cache
def _packer() -> Any:
    return redis.Connection()  # type: ignore[no-untyped-call]


def bytes_of(*words: Any) -> bytes:
    """Return a command as redis-py packs it."""
    return b"".join(_packer().pack_command(*words))


def evalsha(call: Call[Any] = CALL) -> bytes:
    """Return the command that runs a call's script by its address."""
    return bytes_of("EVALSHA", call.script.sha, 1, call.key, call.head.packed, *call.args)


def whole(call: Call[Any] = CALL) -> bytes:
    """Return the command that runs a call's script by its source."""
    return bytes_of("EVAL", call.script.source, 1, call.key, call.head.packed, *call.args)


class Connection:
    """Answers from a list; an exception in it is raised, by the send if `on_send`."""

    def __init__(self, *answers: object, on_send: bool = False) -> None:
        """Prepare the answers."""
        self.answers = list(answers)
        self.on_send = on_send
        self.sent: list[bytes] = []
        self.disconnected = 0
        self.ended = False
        """Redis has closed it."""

    def send_packed_command(self, command: list[bytes]) -> None:
        """Note the bytes."""
        self.sent.append(b"".join(command))
        if self.on_send:
            self.read_response()

    def send_command(self, *words: Any) -> None:
        """Note the bytes."""
        self.send_packed_command([bytes_of(*words)])

    def read_response(self) -> object:
        """Give the next answer."""
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def can_read(self) -> bool:
        """Look whether anything came."""
        if self.ended:
            message = "Connection closed by server."
            raise redis.ConnectionError(message)
        return False

    def disconnect(self) -> None:
        """Count it."""
        self.disconnected += 1


class Pool:
    """Gives out connections in order, the last one for ever, or fails to connect; stands for its connector too."""

    def __init__(self, *connections: Connection, failure: BaseException | None = None) -> None:
        """Keep them."""
        self.free = list(reversed(connections))
        self.failure = failure
        self.taken = 0
        self.out: list[Connection] = []
        self.timeout = 0.0
        self.disconnected = False

    def pool(self, *, timeout: float) -> Pool:
        """Be the connector's pool."""
        self.timeout = timeout
        return self

    def get_connection(self) -> Connection:
        """Give one out, connected."""
        if self.failure is not None:
            raise self.failure
        self.taken += 1
        self.out.append(self.free.pop())
        self.out[-1].ended = False
        return self.out[-1]

    def release(self, connection: Connection) -> None:
        """Take it back."""
        self.out.remove(connection)
        self.free.append(connection)

    def disconnect(self) -> None:
        """Note it."""
        self.disconnected = True


def channel_on(pool: Pool) -> Channel:
    """Return a channel on a fake pool."""
    return Channel(cast("Connector", pool), SETTINGS)


def run(connection: Connection, failure: BaseException | None = None) -> Reply:
    """Run the call; once the channel is closed, whatever happened, the connection is back in its pool."""
    pool = Pool(connection, failure=failure)
    channel = channel_on(pool)
    try:
        return channel.run(CALL)
    finally:
        counted = connection.disconnected
        channel.close()
        connection.disconnected = counted
        assert pool.out == []


def idle_and(answer: object) -> tuple[Pool, Connection, Connection]:
    """Return a pool, a connection that was idle, and one that then met an answer in a call that failed."""
    idle, failing = Connection(ADVANCED), Connection(answer)
    pool = Pool(failing, idle)
    channel = channel_on(pool)
    read = failing.read_response

    def meanwhile() -> object:
        channel.run(CALL)
        return read()

    failing.read_response = meanwhile  # type: ignore[method-assign]
    with contextlib.suppress(CoordinatorError):
        channel.run(CALL)
    return pool, idle, failing
