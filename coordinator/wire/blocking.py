"""Round trips with redis-py: one call on a connection, events, and what each of its errors means.

Only this module and its asyncio twin, redis_aio.py, import redis.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from coordinator import errors
from coordinator.protocol.call import Reply, text
from coordinator.settings import CLOCK_STEP_MAX_SECONDS, milliseconds

if TYPE_CHECKING:
    from coordinator.node import Event
    from coordinator.protocol import Call
    from coordinator.protocol.keys import Keys
    from coordinator.settings import Settings

C = TypeVar("C", redis.Redis, redis.asyncio.Redis)
CLOSED = "this coordinator was closed: nothing was sent"
ADVICE = {
    "OOM": "Redis is out of memory: raise maxmemory or free some",
    "READONLY": "this Redis is a replica: connect to the primary",
    "LOADING": "Redis is still loading its data: wait",
    "MASTERDOWN": "the replica lost its primary: wait for the failover or repair it",
    "MISCONF": "Redis cannot persist: look at its log and disk",
    "NOREPLICAS": "too few replicas are connected: repair them",
    "BUSY": "Redis is busy with a script that is not ours: find who runs it",
    "NOPERM": "the ACL user lacks a right: give it those of deploy/redis/users.acl, for the keys of the namespace",
    "NOAUTH": "Redis asks for a password: put it into the URL",
    "WRONGPASS": "user name or password is wrong: correct the URL",
    "CLUSTERDOWN": "the cluster is down: repair it",
    "TRYAGAIN": "the cluster moves slots: wait",
}


# A command inside a script that the user may not run is no NOPERM; the first text is Redis 7.0's.
_REFUSED_IN_SCRIPT = ("The user executing the script can't", "ACL failure in script")

# redis-py takes the code out of the message of some errors and answers a class of its own instead.
_CODES: tuple[tuple[type[redis.RedisError], str], ...] = (
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.AuthenticationWrongNumberOfArgsError, "WRONGPASS"),
    (exceptions.AuthenticationError, "WRONGPASS"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
    (exceptions.TryAgainError, "TRYAGAIN"),
)


def _code(error: BaseException) -> str:
    first = str(error).split(" ", 1)[0].rstrip(":")
    if first in ADVICE:
        return first
    if str(error).startswith("Authentication required"):
        return "NOAUTH"
    return next((code for kind, code in _CODES if isinstance(error, kind)), first)


def answered(error: redis.ResponseError) -> errors.CoordinatorError:
    """Map an error that Redis answered: nothing was executed, or script and library differ."""
    code = _code(error)
    if code in ADVICE:
        return errors.Unavailable(f"{ADVICE[code]} ({error})")
    if str(error).startswith(_REFUSED_IN_SCRIPT):
        # What stood before the refused command was done. A repeat would be taken for one of a request that was
        # answered, so it is neither Unavailable nor OutcomeUnknown, which are sent again.
        return errors.ContractBroken(f"a script stopped half-way: {ADVICE['NOPERM']} ({error})")
    return errors.ContractBroken(f"Redis answered an error that no script of this version gives: {error}")


def unconnected(error: Exception) -> errors.CoordinatorError:
    """Map what went wrong before anything was sent."""
    if isinstance(error, redis.ResponseError):
        return answered(error)
    advice = ADVICE.get(_code(error), "Redis cannot be reached: check that it runs and the URL")
    return errors.Unavailable(f"{advice} ({error})")


def unanswered(error: Exception) -> errors.CoordinatorError:
    """Map what went wrong after the send: the call was executed or not, unless Redis refused the whole session."""
    if isinstance(error, exceptions.BusyLoadingError | exceptions.AuthenticationError):
        return errors.Unavailable(f"{ADVICE.get(_code(error), ADVICE['LOADING'])} ({error})")
    return errors.OutcomeUnknown(f"sent to Redis, but no answer came ({error}): repeating the same call is safe")


def unread(error: Exception) -> errors.Unavailable:
    """Map what went wrong with a read of events, which changes nothing."""
    return errors.Unavailable(f"{ADVICE.get(_code(error), 'events cannot be read')} ({error})")


def command(call: Call[Any], *, whole: bool = False) -> tuple[Any, ...]:
    """Return the call as a command: by the script's address, or `whole` when Redis has not got it."""
    by = ("EVAL", call.script.source) if whole else ("EVALSHA", call.script.sha)
    return (*by, 1, call.key, call.head.packed, *call.args)


class Connector:
    """Makes pools of their own from a user's client, which is never changed nor closed."""

    def __init__(self, client: redis.Redis | redis.asyncio.Redis, settings: Settings) -> None:
        """Take the class and arguments of the client's pool, without its retry."""
        self._pool: Any = getattr(client, "connection_pool", None)
        self._settings = settings
        self._asynchronous = isinstance(self._pool, redis.asyncio.ConnectionPool)
        if not self._asynchronous and not isinstance(self._pool, redis.ConnectionPool):
            wanted = "a redis.Redis or redis.asyncio.Redis (one server, or by Sentinel)"
            msg = f"redis must be {wanted}, not {type(client).__name__}"  # no more of it: it may be a URL
            raise errors.InvalidArgument(msg)

    def checked(self, *, asynchronous: bool) -> Self:
        """Return itself; raise InvalidArgument when the client is of the other kind."""
        if asynchronous != self._asynchronous:
            wanted = (
                "AsyncCoordinator takes a redis.asyncio.Redis" if asynchronous else "Coordinator takes a redis.Redis"
            )
            msg = f"{wanted}: give this client to the other of the two"
            raise errors.InvalidArgument(msg)
        return self

    def pool(self, *, timeout: float) -> Any:
        """Return a new pool whose reads time out after `timeout` seconds."""
        retry = redis.asyncio.retry.Retry if self._asynchronous else Retry
        arguments = dict(self._pool.connection_kwargs)
        arguments.update(
            protocol=2,
            decode_responses=False,
            encoding="utf-8",
            encoding_errors="strict",
            retry=retry(NoBackoff(), 0),
            retry_on_timeout=False,
            retry_on_error=[],
            socket_timeout=timeout,
            socket_connect_timeout=self._settings.op_timeout_seconds,
            driver_info=None,  # no CLIENT SETINFO: Redis 7.0 has none, so an ACL file for it cannot grant it
        )
        for name in ("maint_notifications_config", "maint_notifications_pool_handler", "himself"):
            arguments.pop(name, None)
        pool = self._pool
        if isinstance(pool, redis.BlockingConnectionPool | redis.asyncio.BlockingConnectionPool):
            arguments["timeout"] = self._settings.op_timeout_seconds
        if isinstance(pool, SentinelConnectionPool | redis.asyncio.sentinel.SentinelConnectionPool):
            arguments.pop("connection_pool", None)
            return type(pool)(
                pool.service_name,
                self._sentinel(pool.sentinel_manager),
                is_master=pool.is_master,
                check_connection=pool.check_connection,
                connection_class=pool.connection_class,
                **arguments,
            )
        return type(pool)(connection_class=pool.connection_class, max_connections=pool.max_connections, **arguments)

    def _sentinel(self, theirs: Any) -> Any:
        """Return a manager that asks the same sentinels, each for no longer than a round trip may take."""
        retry = redis.asyncio.retry.Retry if self._asynchronous else Retry
        addresses = [sentinel.connection_pool.connection_kwargs for sentinel in theirs.sentinels]
        seconds = self._settings.op_timeout_seconds
        bounded = {"socket_timeout": seconds, "socket_connect_timeout": seconds, "retry": retry(NoBackoff(), 0)}
        given = {name: value for name, value in theirs.sentinel_kwargs.items() if not name.startswith("retry_on")}
        return type(theirs)(
            [(address["host"], address["port"]) for address in addresses],
            theirs.min_other_sentinels,
            given | bounded,
            getattr(theirs, "_force_master_ip", None),
            **theirs.connection_kwargs,
        )


def sentinels(pool: Any) -> list[Any]:
    """Return the clients by which a pool that Connector made asks its sentinels: they are closed with it."""
    return list(getattr(getattr(pool, "sentinel_manager", None), "sentinels", ()))


class Channel:
    """Runs calls one by one per connection; any number of threads."""

    def __init__(self, connector: Connector, settings: Settings) -> None:
        """Own a pool whose time-out is `op_timeout_seconds`."""
        self._pool = connector.pool(timeout=settings.op_timeout_seconds)
        self._closed = False

    def run(self, call: Call[Any]) -> Reply:
        """Send the call once. Raises Unavailable, OutcomeUnknown, ContractBroken or Closed."""
        try:
            try:
                raw = self._command(command(call))
            except exceptions.NoScriptError:
                raw = self._command(command(call, whole=True))
        except redis.ResponseError as error:
            raise answered(error) from error
        return Reply(call.script, raw)

    def _command(self, words: tuple[Any, ...]) -> Any:
        if self._closed:
            raise errors.Closed(CLOSED)
        try:
            connection = self._pool.get_connection()
        except Exception as error:
            raise unconnected(error) from error
        try:
            connection.send_command(*words)
            return connection.read_response()
        except redis.ResponseError:
            raise
        except Exception as error:  # whatever it is: of what was sent nothing is known
            _cut(connection)
            raise unanswered(error) from error
        except BaseException:
            _cut(connection)
            raise
        finally:
            if self._closed:
                _cut(connection)
            _give_back(self._pool, connection)

    def close(self) -> None:
        """Close the pool for good; calls that other threads are at fail."""
        self._closed = True
        _disconnect(self._pool)


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


def block_seconds(settings: Settings) -> float:
    """Return how long a blocking read of events waits: no longer than a node may be without a renewal."""
    return min(settings.heartbeat_seconds, CLOCK_STEP_MAX_SECONDS)


def reading(key: bytes, after: str, block: float) -> tuple[Any, ...]:
    """Return the command that waits for events after the id `after`."""
    return ("XREAD", "BLOCK", milliseconds(block), "STREAMS", key, after)


_SEVERAL = (b"client", b"upto")
"""Fields that an event may have several times: one event tells of up to 200 clients."""


def events_of(raw: Any) -> list[Event]:
    """Parse what XREAD answered: id, kind and fields of each event, and the clients that it names."""
    events = []
    for identifier, fields in raw[0][1] if raw else ():
        event: dict[str, bytes] = {}
        clients: list[bytes] = []
        pairs = iter(fields)
        for name, value in zip(pairs, pairs, strict=True):
            if name in _SEVERAL:
                clients.append(value)
            else:
                event[text(name)] = value
        events.append((text(identifier), text(event.get("kind", b"")), event, clients))
    return events


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


def from_url(url: str) -> redis.Redis:
    """Return a client of `url`; raise InvalidArgument when it is none."""
    return client_of(url, redis.Redis)


def client_of(url: str, kind: type[C]) -> C:
    """Return a client of `url`, not connected; raise InvalidArgument when it could never connect.

    What is wrong is told without the URL: it may have a password, and who forgets to escape one has it anywhere.
    """
    if not isinstance(url, str):
        msg = f"url must be a str, not {type(url).__name__}"
        raise errors.InvalidArgument(msg)
    rule = (
        "it must be redis://[user:password@]host[:port][/database], rediss:// or unix://path, with special characters "
        "of the password escaped (%2F for /)"
    )
    try:
        client = kind.from_url(url)
        pool, parts = client.connection_pool, urlsplit(url)
        str(pool.connection_kwargs.get("host", "")).encode("idna")
        if parts.scheme == "unix" or "@" not in parts.path:
            rule = f"one of its options is unknown or has a wrong value: {', '.join(sorted(parse_qs(parts.query)))}"
            pool.connection_class(**pool.connection_kwargs)  # connects nowhere, but refuses what it does not know
            return client
    except Exception:  # noqa: BLE001, S110  (redis-py's words may quote the password)
        pass
    msg = f"url is no Redis URL: {rule}"
    raise errors.InvalidArgument(msg)


def ping(url: str) -> None:
    """Raise Unavailable unless the Redis at `url` answers."""
    client = from_url(url)
    at = client.connection_pool.connection_kwargs
    try:
        client.ping()
    except Exception as error:
        where = at.get("path") or f"{at.get('host', 'localhost')}:{at.get('port', 6379)}"
        msg = f"no Redis answers at {where}: check that it runs ({error})"
        raise errors.Unavailable(msg) from error
    finally:
        client.close()


def ttl_of(client: redis.Redis, key: bytes) -> float:
    """Return the TTL of a key in seconds, negative if it has none."""
    return int(client.pttl(key)) / 1000


def delete_namespace(client: redis.Redis, namespace: str) -> None:
    """Remove every key of a namespace that was made for a demonstration."""
    for key in client.scan_iter(f"{namespace}:*"):
        client.unlink(key)
