"""The only module that imports redis: runs one call on a connection, reads events, maps errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from coordinator import errors
from coordinator.calls.base import Reply, read
from coordinator.settings import CLOCK_STEP_MAX_SECONDS

if TYPE_CHECKING:
    from coordinator.calls import Call
    from coordinator.keys import Keys
    from coordinator.settings import Settings

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


class Connector:
    """Makes pools of their own from a user's client, which is never changed nor closed."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        """Take the class and arguments of the client's pool, without its retry."""
        self._pool = client.connection_pool
        self._settings = settings

    def pool(self, *, timeout: float) -> redis.ConnectionPool:
        """Return a new pool whose reads time out after `timeout` seconds."""
        arguments = dict(self._pool.connection_kwargs)
        arguments.update(
            protocol=2,
            decode_responses=False,
            retry=Retry(NoBackoff(), 0),
            retry_on_timeout=False,
            retry_on_error=[],
            socket_timeout=timeout,
            socket_connect_timeout=self._settings.op_timeout_seconds,
            driver_info=None,  # no CLIENT SETINFO: Redis 7.0 has none, so an ACL file for it cannot grant it
        )
        for name in ("maint_notifications_config", "maint_notifications_pool_handler", "himself"):
            arguments.pop(name, None)
        pool = self._pool
        if isinstance(pool, SentinelConnectionPool):
            arguments.pop("connection_pool", None)
            made: redis.ConnectionPool = type(pool)(
                pool.service_name,
                pool.sentinel_manager,
                is_master=pool.is_master,
                check_connection=pool.check_connection,
                connection_class=pool.connection_class,
                **arguments,
            )
            return made
        return type(self._pool)(
            connection_class=self._pool.connection_class, max_connections=self._pool.max_connections, **arguments
        )


class Channel:
    """Runs calls one by one per connection; any number of threads."""

    def __init__(self, connector: Connector, settings: Settings) -> None:
        """Own a pool whose time-out is `op_timeout_seconds`."""
        self._pool = connector.pool(timeout=settings.op_timeout_seconds)

    def run(self, call: Call[Any]) -> Reply:
        """Send the call once. Raises Unavailable, OutcomeUnknown or ContractBroken."""
        arguments = (len(call.keys), *call.keys, *call.args)
        try:
            raw = self._command("EVALSHA", call.script.sha, *arguments)
        except exceptions.NoScriptError:
            try:
                raw = self._command("EVAL", call.script.source, *arguments)
            except redis.ResponseError as error:
                raise answered(error) from error
        except redis.ResponseError as error:
            raise answered(error) from error
        return read(call.script, raw)

    def _command(self, *command: Any) -> Any:
        try:
            connection = self._pool.get_connection()
        except redis.ResponseError as error:
            raise answered(error) from error
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            code = _code(error)
            advice = ADVICE.get(code, "Redis cannot be reached: check that it runs and the URL")
            msg = f"{advice} ({error})"
            raise errors.Unavailable(msg) from error
        try:
            connection.send_command(*command)  # type: ignore[no-untyped-call]
            return connection.read_response()
        except redis.ResponseError:
            raise
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            connection.disconnect()  # type: ignore[no-untyped-call]
            if isinstance(error, exceptions.BusyLoadingError | exceptions.AuthenticationError):
                msg = f"{ADVICE.get(_code(error), ADVICE['LOADING'])} ({error})"
                raise errors.Unavailable(msg) from error
            msg = f"sent to Redis, but no answer came ({error}): repeating the same call is safe"
            raise errors.OutcomeUnknown(msg) from error
        except BaseException:
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise
        finally:
            self._pool.release(connection)

    def close(self) -> None:
        """Close the pool."""
        self._pool.disconnect()


EVENTS_KEPT = 1000
"""lua/include/event.lua keeps at least so many."""


class Events:
    """Blocking reads of the scope's events on a connection of its own."""

    def __init__(self, connector: Connector, keys: Keys, settings: Settings) -> None:
        """Own a pool whose time-out is the block plus `op_timeout_seconds`."""
        self._block = min(settings.heartbeat_seconds, CLOCK_STEP_MAX_SECONDS)
        self._pool = connector.pool(timeout=self._block + settings.op_timeout_seconds)
        self._key = keys.key("events")

    def read(self, after: str) -> list[tuple[str, str, dict[str, bytes]]]:
        """Return events after the id `after` (id, kind, fields), none when the block ran out. Raises Unavailable."""
        try:
            connection = self._pool.get_connection()
        except (redis.RedisError, OSError) as error:
            raise errors.Unavailable(str(error)) from error
        try:
            connection.send_command("XREAD", "BLOCK", int(self._block * 1000), "STREAMS", self._key, after)  # type: ignore[no-untyped-call]
            raw = connection.read_response()
        except (redis.RedisError, OSError) as error:
            connection.disconnect()  # type: ignore[no-untyped-call]
            msg = f"{ADVICE.get(_code(error), 'events cannot be read')} ({error})"
            raise errors.Unavailable(msg) from error
        except BaseException:
            connection.disconnect()  # type: ignore[no-untyped-call]
            raise
        finally:
            self._pool.release(connection)
        if not raw:
            return []
        events = []
        for identifier, fields in raw[0][1]:
            pairs = iter(fields)
            event = {name.decode(): value for name, value in zip(pairs, pairs, strict=True)}
            events.append((identifier.decode(), event["kind"].decode(), event))
        return events

    def close(self) -> None:
        """Close the pool; a blocked read fails."""
        self._pool.disconnect()


def from_url(url: str) -> redis.Redis:
    """Return a client of `url`; raise InvalidArgument when it is none."""
    try:
        return redis.Redis.from_url(url)
    except ValueError as error:
        msg = f"url={url.rsplit('@', maxsplit=1)[-1]!r} is no Redis URL: {error}"
        raise errors.InvalidArgument(msg) from error


def ping(url: str) -> None:
    """Raise Unavailable unless the Redis at `url` answers."""
    client = from_url(url)
    try:
        client.ping()
    except (redis.RedisError, OSError) as error:
        msg = f"no Redis answers at {url.rsplit('@', maxsplit=1)[-1]}: check that it runs ({error})"
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
