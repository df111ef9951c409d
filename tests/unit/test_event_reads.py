"""Blocking reads of events, of both kinds: what is sent, what comes out, and what a failure means."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from coordinator.errors import Unavailable
from coordinator.wire.asynchronous import AsyncEvents
from coordinator.wire.blocking import Events
from tests.unit.async_wire_cases import HOLD
from tests.unit.async_wire_cases import Connection as AsyncConnection
from tests.unit.async_wire_cases import Pool as AsyncPool
from tests.unit.wire_cases import AT_CONNECT, KEYS, LOST, MESSAGES, SETTINGS, Connection, Pool, bytes_of, parsed

if TYPE_CHECKING:
    from coordinator.wire.connector import Connector

REFUSED: list[BaseException] = [*LOST, parsed(MESSAGES["OOM"]), parsed(AT_CONNECT["LOADING"])]


def events(connection: Connection, failure: BaseException | None = None) -> tuple[Events, Pool]:
    """Return a reader on a fake connection."""
    pool = Pool(connection, failure=failure)
    return Events(cast("Connector", pool), KEYS, SETTINGS), pool


def test_events_are_read_by_a_blocking_read() -> None:
    """One XREAD that blocks for less than its time-out; fields are kept as bytes, ids and kinds as text."""
    entries = [
        (b"1-0", [b"kind", b"moved", b"client", b"\xff", b"client", b"two"]),
        (b"1-1", [b"kind", b"lift"]),
        (b"1-2", [b"\xff", b""]),
    ]
    connection = Connection([[b"key", [[name, fields] for name, fields in entries]]])
    reader, pool = events(connection)
    assert reader.read("0-5") == [
        ("1-0", "moved", {"kind": b"moved"}, [b"\xff", b"two"]),
        ("1-1", "lift", {"kind": b"lift"}, []),
        ("1-2", "", {"\udcff": b""}, []),
    ]
    assert connection.sent == [bytes_of("XREAD", "BLOCK", 1000, "STREAMS", KEYS.key("events"), "0-5")]
    assert pool.timeout == pytest.approx(1.0 + SETTINGS.op_timeout_seconds)
    assert pool.out == []


def test_a_block_that_ran_out_is_no_event() -> None:
    """Nil is an empty list, and the connection is kept."""
    connection = Connection(None)
    reader, _ = events(connection)
    assert reader.read("0-0") == []
    assert connection.disconnected == 0


@pytest.mark.parametrize("failure", [*LOST, parsed(MESSAGES["OOM"])], ids=lambda e: type(e).__name__)
def test_a_failed_read_of_events_is_unavailable(failure: BaseException) -> None:
    """A read changes nothing: every failure is Unavailable, and the connection is cut and given back."""
    connection = Connection(failure)
    reader, pool = events(connection)
    with pytest.raises(Unavailable):
        reader.read("0-0")
    assert (connection.disconnected, pool.out) == (1, [])
    reader, _ = events(Connection(), failure)
    with pytest.raises(Unavailable):
        reader.read("0-0")


# -- asyncio ---------------------------------------------------------------------------------------------------------


def async_events(connection: AsyncConnection, failure: BaseException | None = None) -> tuple[AsyncEvents, AsyncPool]:
    """Return a reader on a fake connection."""
    pool = AsyncPool(connection, failure)
    return AsyncEvents(cast("Connector", pool), KEYS, SETTINGS), pool


def test_events_of_asyncio_are_read_by_a_blocking_read() -> None:
    """One XREAD that blocks for less than its time-out; nil is no event, and the connection is kept."""
    entries = [(b"1-0", [b"kind", b"moved", b"client", b"\xff"]), (b"1-1", [b"kind", b"lift"])]
    connection = AsyncConnection([[b"key", [[name, fields] for name, fields in entries]]], None)
    reader, pool = async_events(connection)
    assert asyncio.run(reader.read("0-5")) == [
        ("1-0", "moved", {"kind": b"moved"}, [b"\xff"]),
        ("1-1", "lift", {"kind": b"lift"}, []),
    ]
    assert connection.sent == [bytes_of("XREAD", "BLOCK", 1000, "STREAMS", KEYS.key("events"), "0-5")]
    assert pool.timeout == pytest.approx(1.0 + SETTINGS.op_timeout_seconds)
    assert asyncio.run(reader.read("0-0")) == []
    assert (connection.disconnected, pool.out) == (0, 0)


@pytest.mark.parametrize("failure", REFUSED, ids=lambda e: type(e).__name__)
def test_a_failed_read_of_asyncio_is_unavailable(failure: BaseException) -> None:
    """A read changes nothing: every failure is Unavailable, and the connection is cut and given back."""
    connection = AsyncConnection(failure)
    reader, pool = async_events(connection)
    with pytest.raises(Unavailable):
        asyncio.run(reader.read("0-0"))
    assert (connection.disconnected, pool.out) == (1, 0)
    reader, _ = async_events(AsyncConnection(), failure)
    with pytest.raises(Unavailable):
        asyncio.run(reader.read("0-0"))


def test_a_read_of_events_that_is_cancelled_leaves_no_answer_behind() -> None:
    """The connection whose answer is still to come is cut and given back."""
    connection = AsyncConnection(HOLD)
    reader, pool = async_events(connection)

    async def cancel() -> None:
        reading = asyncio.create_task(reader.read("0-0"))
        await connection.held.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(cancel())
    assert (connection.disconnected, pool.out) == (1, 0)
