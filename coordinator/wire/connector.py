"""Makes connection pools of the coordinator's own from a user's client, and clients from a URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from coordinator import errors

if TYPE_CHECKING:
    from coordinator.settings import Settings

C = TypeVar("C", redis.Redis, redis.asyncio.Redis)
CLOSED = "this coordinator was closed, or belongs to another process: nothing was sent"
KEPT_SECONDS = 1.0
"""How long a channel keeps a connection before it passes through its pool, which renews credentials that run out."""


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

    def _no_retry(self) -> Any:
        """Return how often redis-py repeats a command by itself: never."""
        return (redis.asyncio.retry.Retry if self._asynchronous else Retry)(NoBackoff(), 0)

    def pool(self, *, timeout: float) -> Any:
        """Return a new pool whose reads time out after `timeout` seconds."""
        arguments = dict(self._pool.connection_kwargs)
        arguments.update(
            protocol=2,
            decode_responses=False,
            encoding="utf-8",
            encoding_errors="strict",
            retry=self._no_retry(),
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
        addresses = [sentinel.connection_pool.connection_kwargs for sentinel in theirs.sentinels]
        seconds = self._settings.op_timeout_seconds
        bounded = {"socket_timeout": seconds, "socket_connect_timeout": seconds, "retry": self._no_retry()}
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


def from_url(url: str) -> redis.Redis:
    """Return a client of `url`, not connected; raise InvalidArgument when it could never connect."""
    return _client_of(url, redis.Redis)


def async_from_url(url: str) -> redis.asyncio.Redis:
    """Return an asyncio client of `url`, not connected; raise InvalidArgument when it could never connect."""
    return _client_of(url, redis.asyncio.Redis)


def _client_of(url: str, kind: type[C]) -> C:
    """Return a client of that kind.

    The error says what is wrong without the URL: the URL may hold a password, and a password that was not escaped may
    stand anywhere in it.
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
