"""Pools made of a user's client, of both kinds: their address and our bounds. What is no client, and no URL."""

from __future__ import annotations

import asyncio
import copy
import functools
from typing import TYPE_CHECKING, Any, cast

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
from redis.sentinel import Sentinel

from coordinator.errors import InvalidArgument, Unavailable
from coordinator.wire.asynchronous import AsyncChannel, AsyncEvents
from coordinator.wire.blocking import Channel, Events
from coordinator.wire.connector import Connector, async_from_url, from_url, ping
from tests.unit.wire_cases import KEYS, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def user_clients(kind: Any, sentinel: Any) -> list[Any]:
    """Return clients as users configure them; none is connected."""
    blocking = kind.BlockingConnectionPool(max_connections=3, decode_responses=True)
    of_sentinel = sentinel([("127.0.0.1", 1)], min_other_sentinels=2).master_for("mymaster")
    name = kind.__name__
    return [
        pytest.param(kind.Redis(decode_responses=True, protocol=3, db=4, client_name="app"), id=f"{name} RESP3"),
        pytest.param(kind.Redis(encoding="utf-16", encoding_errors="ignore"), id=f"{name} UTF-16"),
        pytest.param(kind.Redis(retry_on_error=[redis.ConnectionError], socket_timeout=60), id=f"{name} retrying"),
        pytest.param(kind.Redis.from_url("rediss://user:secret@db.example:7000/2"), id=f"{name} TLS"),
        pytest.param(kind.Redis(unix_socket_path="/run/redis.sock"), id=f"{name} Unix socket"),
        pytest.param(kind.Redis(connection_pool=blocking), id=f"{name} blocking"),
        pytest.param(of_sentinel, id=f"{name} Sentinel"),
    ]


CLIENTS = [*user_clients(redis, Sentinel), *user_clients(redis.asyncio, redis.asyncio.sentinel.Sentinel)]


@pytest.mark.parametrize("client", CLIENTS)
def test_own_pools_are_made_of_the_clients_and_leave_it_alone(client: Any) -> None:
    """Same class and address; RESP2, bytes, our time-outs, no retry, no SETINFO; the client's pool is as it was."""
    theirs = client.connection_pool
    before = copy.copy(theirs.connection_kwargs)
    pool = Connector(client, SETTINGS).pool(timeout=1.25)
    assert pool is not theirs
    assert type(pool) is type(theirs)
    assert pool.connection_class is theirs.connection_class
    assert pool.max_connections == theirs.max_connections
    connection = pool.make_connection()
    assert int(connection.protocol) == 2
    assert connection.encoder.decode_responses is False
    assert (connection.encoder.encoding, connection.encoder.encoding_errors) == ("utf-8", "strict")
    assert connection.driver_info is None
    assert (connection.retry.get_retries(), connection.retry_on_error) == (0, [])
    is_asynchronous = isinstance(client, redis.asyncio.Redis)
    assert asyncio.iscoroutinefunction(connection.retry.call_with_retry) == is_asynchronous
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (1.25, SETTINGS.op_timeout_seconds)
    for name in ("host", "port", "path", "db", "username", "password", "client_name"):
        assert pool.connection_kwargs.get(name) == before.get(name)
    assert client.connection_pool is theirs
    assert theirs.connection_kwargs == before


@pytest.mark.parametrize("kind", [redis, redis.asyncio], ids=lambda kind: str(kind.__name__))
def test_nothing_waits_longer_for_a_connection_than_a_round_trip_may_take(kind: Any) -> None:
    """A pool that blocks until a connection is free: for op_timeout, not for its 20 s; the user's stays as it was."""
    theirs = kind.BlockingConnectionPool()
    pool = Connector(kind.Redis(connection_pool=theirs), SETTINGS).pool(timeout=1.25)
    assert (pool.timeout, theirs.timeout) == (SETTINGS.op_timeout_seconds, 20)


def test_sentinels_are_asked_for_no_longer_than_a_round_trip_may_take() -> None:
    """A manager of our own with the same sentinels and credentials, bounded, without retry; closed with its pool."""
    theirs = Sentinel(  # type: ignore[no-untyped-call]
        [("127.0.0.1", 1), ("127.0.0.1", 2)], 1, {"password": "p", "socket_timeout": 60}, socket_timeout=30
    )
    before = [copy.copy(sentinel.connection_pool.connection_kwargs) for sentinel in theirs.sentinels]
    client: redis.Redis = theirs.master_for("mymaster")  # type: ignore[no-untyped-call]
    channel = Channel(Connector(client, SETTINGS), SETTINGS)
    ours = channel._pool.sentinel_manager
    assert channel._pool.proxy.sentinel_manager is ours is not theirs
    assert ours.min_other_sentinels == 1
    closed: list[int] = []
    for sentinel, given in zip(ours.sentinels, before, strict=True):
        kwargs = sentinel.connection_pool.connection_kwargs
        assert [kwargs[name] for name in ("host", "port", "password")] == [
            given[name] for name in ("host", "port", "password")
        ]
        assert kwargs["socket_timeout"] == kwargs["socket_connect_timeout"] == SETTINGS.op_timeout_seconds
        assert kwargs["retry"].get_retries() == 0
        sentinel.close = functools.partial(closed.append, kwargs["port"])
    for sentinel, given in zip(theirs.sentinels, before, strict=True):
        assert sentinel.connection_pool.connection_kwargs == given
    channel.close()
    assert closed == [1, 2]


def test_sentinels_of_asyncio_are_asked_for_no_longer_either() -> None:
    """The same, with the pool of asyncio, which keeps its manager elsewhere."""
    theirs = redis.asyncio.sentinel.Sentinel([("127.0.0.1", 1)], 1, {"socket_timeout": 60})  # type: ignore[no-untyped-call]
    channel = AsyncChannel(Connector(theirs.master_for("mymaster"), SETTINGS), SETTINGS)
    ours = channel._pool.sentinel_manager
    assert channel._pool.proxy.sentinel_manager is ours if hasattr(channel._pool, "proxy") else ours is not theirs
    kwargs = ours.sentinels[0].connection_pool.connection_kwargs
    assert (kwargs["host"], kwargs["port"], ours.min_other_sentinels) == ("127.0.0.1", 1, 1)
    assert kwargs["socket_timeout"] == kwargs["socket_connect_timeout"] == SETTINGS.op_timeout_seconds
    assert kwargs["retry"].get_retries() == 0
    assert theirs.sentinels[0].connection_pool.connection_kwargs["socket_timeout"] == 60
    closed: list[None] = []

    async def close() -> None:
        closed.append(None)

    ours.sentinels[0].aclose = close
    asyncio.run(channel.close())
    assert closed == [None]


def test_a_client_that_was_passed_in_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a channel nor the reader of events disconnects the user's pool."""
    closed: list[object] = []
    client, async_client = redis.Redis(), redis.asyncio.Redis()
    for one in (client, async_client):
        monkeypatch.setattr(one.connection_pool, "disconnect", lambda *_: closed.append(None))
    Channel(Connector(client, SETTINGS), SETTINGS).close()
    Events(Connector(client, SETTINGS), KEYS, SETTINGS).close()

    async def close() -> None:
        await AsyncChannel(Connector(async_client, SETTINGS), SETTINGS).close()
        await AsyncEvents(Connector(async_client, SETTINGS), KEYS, SETTINGS).close()

    asyncio.run(close())
    assert closed == []


@pytest.mark.parametrize(
    "client", [redis.asyncio.Redis(), redis.Redis(), "redis://h", None], ids=["asyncio", "blocking", "url", "none"]
)
@pytest.mark.parametrize("asynchronous", [True, False], ids=["asyncio", "blocking"])
def test_the_other_kind_of_client_is_refused(client: Any, asynchronous: bool) -> None:  # noqa: FBT001
    """The other kind, or what is none at all: the error says so before anything is sent."""
    if isinstance(client, redis.asyncio.Redis if asynchronous else redis.Redis):
        connector = Connector(client, SETTINGS)
        assert connector.checked(asynchronous=asynchronous) is connector
        return
    takes = r"takes a redis\.asyncio\.Redis" if asynchronous else r"takes a redis\.Redis"
    with pytest.raises(InvalidArgument, match=rf"{takes}|must be a redis\.Redis"):
        Connector(client, SETTINGS).checked(asynchronous=asynchronous)


@pytest.mark.parametrize("make", [from_url, async_from_url])
@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@h:1", "user:secret@h", "redis://user:secret@h:port/0", "redis://user:sec/ret@h/0",
        "redis://:secret@h?no_such_option=1",
    ],
)  # fmt: skip
def test_what_is_no_url_is_refused_without_its_password(make: Callable[[str], object], url: str) -> None:
    """A URL of another kind, or one that could never connect, is InvalidArgument; its password is not shown."""
    with pytest.raises(InvalidArgument, match="is no Redis URL") as caught:
        make(url)
    assert "sec" not in str(caught.value)


@pytest.mark.parametrize("make", [from_url, async_from_url])
def test_a_url_must_be_a_text(make: Callable[[Any], object]) -> None:
    """What is none is named by its type: it may hold a password."""
    with pytest.raises(InvalidArgument, match="must be a str, not bytes"):
        make(b"redis://:secret@h")


def test_a_url_makes_a_client_of_its_kind() -> None:
    """Nothing is connected."""
    assert type(from_url("redis://h:1/2")) is redis.Redis
    assert type(async_from_url("unix:///run/redis.sock")) is redis.asyncio.Redis


def test_a_ping_that_nobody_answers_says_where(tmp_path: Path) -> None:
    """Unavailable, with the address and what to do."""
    where = tmp_path / "no.sock"
    with pytest.raises(Unavailable, match=f"no Redis answers at {where}: check that it runs"):
        ping(f"unix://{where}")


def test_the_class_of_a_pool_is_kept() -> None:
    """A pool class of the user's own stays in use."""

    class Own(redis.ConnectionPool):
        """The user's."""

    client = redis.Redis(connection_pool=cast("Any", Own()))
    assert type(Connector(client, SETTINGS).pool(timeout=1.0)) is Own
